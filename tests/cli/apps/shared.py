"""An app for several workers: each answer says which worker gave it; files in ``SHARED_FLAGS`` make workers die."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from samovar import Response, Samovar, event_stream, hub, request, websocket
from tests.cli.apps.patience import be_patient

FLAGS = Path(os.environ.get("SHARED_FLAGS", "/nonexistent"))


def told_to(flag: str) -> bool:
    return (FLAGS / flag).exists()


if told_to("fail import"):
    raise LookupError("no tea leaves")

be_patient()
app = Samovar("shared")
app.config.from_prefixed_env()
app.add_channel("news", public=True, history=5000)


@app.before_serving
async def start() -> None:
    if told_to("fail start"):
        raise LookupError("no tea")


@app.after_serving
async def finish() -> None:
    print("after_serving ran", flush=True)
    if told_to("hang"):
        await asyncio.Event().wait()


@app.after_request
async def sign(response: Response) -> Response:
    response.headers["Worker"] = str(os.getpid())
    return response


@app.get("/")
async def index() -> dict[str, str]:
    return {"hub": repr(app.hub), "worker": os.environ.get("SAMOVAR_WORKER", "")}


@app.get("/events")
async def events() -> object:
    return await event_stream("news")


@app.post("/say")
async def say() -> str:
    published = await hub.publish("news", (await request.get_data()).decode(), id=request.args.get("id"))
    return str(published.position)


@app.get("/die")
async def die() -> str:
    os._exit(7)


@app.websocket("/ws")
async def ws() -> None:
    await websocket.subscribe("news")
    async for _ in websocket:
        pass
