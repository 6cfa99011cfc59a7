"""msgspec: bytes to a struct and back, without a dictionary between."""

from typing import Annotated

import msgspec

from samovar import Response, Samovar, request

app = Samovar(__name__)


class Tea(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1)]
    grams: Annotated[int, msgspec.Meta(ge=1)] = 4


decoder = msgspec.json.Decoder(Tea)


@app.errorhandler(msgspec.DecodeError)  # the parent of ValidationError
async def refuse(error: msgspec.DecodeError) -> tuple[dict[str, str], int]:
    return {"error": str(error)}, 400


@app.post("/teas")
async def add_tea() -> Response:
    tea = decoder.decode(await request.get_data())
    return Response(msgspec.json.encode(tea), 201, content_type="application/json")
