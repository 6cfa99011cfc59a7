"""The chat: every word goes to everybody in the room; and the same words as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from quart import Blueprint, abort, copy_current_websocket_context, g, make_response, request, websocket
from quart.typing import ResponseReturnValue

blueprint = Blueprint("chat", __name__)


class Broker:
    """Queues of those who listen, room by room."""

    def __init__(self) -> None:
        self.rooms: dict[str, set[asyncio.Queue[Any]]] = {}

    async def say(self, room: str, words: Any) -> None:
        for queue in self.rooms.get(room, ()):
            await queue.put(words)

    async def listen(self, room: str) -> AsyncIterator[Any]:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self.rooms.setdefault(room, set()).add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self.rooms[room].discard(queue)


broker = Broker()


@blueprint.websocket("/<room>")
async def talk(room: str) -> None:
    if g.user is None:
        abort(401)
    await websocket.accept(headers={"X-Room": room})

    @copy_current_websocket_context
    async def listen() -> None:
        async for words in broker.listen(room):
            await websocket.send_json(words)

    listener = asyncio.ensure_future(listen())
    try:
        await websocket.send_json({"room": room, "you": g.user, "topic": websocket.args.get("topic")})
        while True:
            words = await websocket.receive()
            if words == "bye":
                await websocket.close(4000, "see you")
                return
            await broker.say(room, {"from": g.user, "words": words})
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


@blueprint.websocket("/echo/<path:way>")
async def echo(way: str) -> None:
    while True:
        await websocket.send(await websocket.receive())


@blueprint.post("/<room>")
async def say(room: str) -> ResponseReturnValue:
    body = await request.get_json()
    await broker.say(room, {"from": g.user or "somebody", "words": body["words"]})
    return {"listeners": len(broker.rooms.get(room, ()))}


@blueprint.get("/<room>/events")
async def events(room: str) -> ResponseReturnValue:
    if "text/event-stream" not in request.accept_mimetypes:
        abort(406)

    async def stream() -> AsyncIterator[bytes]:
        yield b": welcome\n\n"
        async for words in broker.listen(room):
            yield f"event: words\ndata: {words['words']}\n\n".encode()

    response = await make_response(
        stream(), {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
    )
    response.timeout = None
    return response
