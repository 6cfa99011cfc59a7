"""pydantic: a decorator turns the body into a model, and a model into the body of the answer."""

from collections.abc import Awaitable, Callable
from functools import wraps

from pydantic import BaseModel, Field, ValidationError

from samovar import Response, Samovar, request

app = Samovar(__name__)


class Tea(BaseModel):
    name: str = Field(min_length=1)
    grams: int = Field(default=4, ge=1)


def takes(
    kind: type[BaseModel],
) -> Callable[[Callable[..., Awaitable[BaseModel]]], Callable[..., Awaitable[Response]]]:
    """The view gets the body as a model of this *kind*, and answers with the model that it returns."""

    def decorate(view: Callable[..., Awaitable[BaseModel]]) -> Callable[..., Awaitable[Response]]:
        @wraps(view)
        async def answer(**values: object) -> Response:
            given = kind.model_validate_json(await request.get_data())
            result = await view(given, **values)
            return Response(result.model_dump_json(), content_type="application/json")

        return answer

    return decorate


@app.errorhandler(ValidationError)
async def refuse(error: ValidationError) -> Response:
    return Response(
        error.json(include_url=False, include_context=False), 400, content_type="application/json"
    )


@app.put("/teas/<int:number>")
@takes(Tea)
async def put_tea(tea: Tea, number: int) -> Tea:
    app.logger.info("tea %d is %s", number, tea.name)
    return tea
