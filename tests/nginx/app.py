"""The app behind Nginx in these tests: one channel by every door, and a word about whom it has seen leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from samovar import Response, Samovar, event_stream, hub, jsonify, long_poll, request, websocket

TICK = 0.1  # seconds
HEARTBEAT = (
    0.2  # seconds; the default of 15 would make these tests slow, and what they show does not depend on it
)

app = Samovar(__name__)
app.config.update(SSE_HEARTBEAT=HEARTBEAT)
ended: list[str] = []


@app.teardown_request
async def note_the_end(error: BaseException | None) -> None:
    ended.append(request.path)


@app.get("/ended")
async def list_ended() -> Response:
    return jsonify(ended)


@app.post("/publish/<channel>")
async def publish(channel: str) -> tuple[str, int]:
    await hub.publish(channel, await request.get_json())
    return "", 204


@app.get("/events/<channel>")
async def events(channel: str) -> Response:
    return await event_stream(channel)


@app.get("/poll/<channel>")
async def poll(channel: str) -> Response:
    return await long_poll(channel, timeout=60)


@app.get("/ticks/<name>")
async def ticks(name: str) -> Response:
    async def generate() -> AsyncIterator[bytes]:
        while True:
            yield b"data: tick\n\n"
            await asyncio.sleep(TICK)

    return Response(generate(), content_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@app.websocket("/ws/<channel>")
async def socket(channel: str) -> None:
    await websocket.subscribe(channel)
    async for message in websocket:
        await hub.publish(channel, message)
