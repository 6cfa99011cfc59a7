"""An app for tests through real servers: every door on one channel, and a look at what is left open."""

import asyncio
from typing import Any

from samovar import Samovar, current_app, event_stream, hub, long_poll, request, websocket

app = Samovar(__name__)
app.config.from_prefixed_env()
app.add_channel("tea", history=2000, max_bytes=64 * 1024 * 1024, public=True, presence=True)


@app.post("/publish/<int:count>/<int:size>")
async def publish(count: int, size: int) -> tuple[str, int]:
    for n in range(count):
        await hub.publish("tea", f"{n:06d}" + "x" * size)
    return "", 204


@app.get("/open")
async def still_open() -> dict[str, Any]:
    stats = current_app.hub.stats()
    present = [member.id for member in await hub.presence("tea")]
    return {
        "subscriptions": stats["subscriptions"],
        "queued": stats["queued"],
        "present": len(present),
        "connections": len(current_app.hub.connections),
    }


@app.get("/events")
async def events() -> Any:
    return await event_stream("tea", envelope=False)


@app.get("/poll")
async def poll() -> Any:
    return await long_poll("tea", timeout=float(request.args.get("wait", 5)))


@app.identify
async def who() -> str | None:
    return (request or websocket).args.get("user")


@app.post("/kick/<user>")
async def kick(user: str) -> tuple[str, int]:
    await hub.kick(user)
    return "", 204


@app.get("/own")
async def own() -> Any:
    async def ticks() -> Any:
        yield "tick"
        await asyncio.get_running_loop().create_future()

    return await event_stream(ticks())


@app.websocket("/ws")
async def ws() -> None:
    await websocket.subscribe("tea", since=websocket.args.get("since"), envelope=False, max_messages=50)
    async for message in websocket:
        await websocket.send(f"echo {len(message)}")
