"""ASGI apps below paths of their own: FastAPI under /api, Starlette under /star. They start and stop with this one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from samovar import Samovar
from samovar.core.asgi import Mounts

api = FastAPI()


@api.get("/teas/{number}")
async def tea(number: int) -> dict[str, int]:
    return {"number": number}


@asynccontextmanager
async def lifespan(star: Starlette) -> AsyncIterator[dict[str, str]]:
    yield {"greeting": "hello"}  # request.state.greeting in each request


async def greet(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.state.greeting} from {request.url_for('greet').path}")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


star = Starlette(routes=[Route("/greet", greet), WebSocketRoute("/echo", echo)], lifespan=lifespan)

app = Samovar(__name__)


@app.get("/")
async def index() -> str:
    return "samovar"


app.asgi_app = Mounts(app.asgi_app, {"/api": api, "/star": star})  # type: ignore[method-assign]  # Flask's way
