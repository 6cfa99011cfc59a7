"""An app with every kind of connection that can be open when the server is told to stop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from samovar import Samovar, event_stream, hub, long_poll, request, websocket

from .patience import be_patient

app = Samovar("doors")
be_patient()


@app.get("/")
async def index() -> str:
    return "hello"


@app.get("/events")
async def events() -> object:
    return await event_stream("news")


@app.get("/poll")
async def poll() -> object:
    return await long_poll("news", timeout=60)


@app.get("/cursor")
async def cursor() -> str:
    return await hub.cursor("news")


@app.websocket("/ws")
async def subscribed() -> None:
    await websocket.subscribe("news")
    async for message in websocket:
        await websocket.send(message)


@app.websocket("/echo")
async def echo() -> None:
    while True:
        await websocket.send(await websocket.receive())


@app.get("/slow")
async def slow() -> str:
    await asyncio.Event().wait()
    return ""


@app.get("/endless")
async def endless() -> AsyncIterator[bytes]:
    async def ticks() -> AsyncIterator[bytes]:
        while True:
            yield b"." * int(request.args.get("size", 1))
            await asyncio.sleep(0.01)

    return ticks()


@app.after_serving
async def tell() -> None:
    print("after_serving ran", flush=True)
    if os.environ.get("DOORS_HANG"):
        await asyncio.Event().wait()
