"""A Samovar app below a path of a Starlette (or FastAPI) app.

Starlette runs no lifespan but its own, so it is told to run ours inside. ``hosted=False``: the app listens for the
signal that ends the server, so that its event streams end and the server need not wait for them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from samovar import Response, Samovar, event_stream, hub, url_for
from samovar.core.asgi.hosting import Lifespan

live = Samovar(__name__)
live.add_channel("prices", public=True)


@live.get("/prices")
async def prices() -> Response:
    return await event_stream("prices")


@live.post("/prices/<int:price>")
async def new_price(price: int) -> dict[str, str]:
    await hub.publish("prices", price)
    return {"see": url_for("prices")}


async def index(request: Request) -> PlainTextResponse:
    return PlainTextResponse("starlette")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with Lifespan(live, hosted=False):
        yield


app = Starlette(routes=[Route("/", index), Mount("/live", live)], lifespan=lifespan)
