"""Cancelled at any step, a door leaves the house in order: no task, no subscription, no presence, nobody to be told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import pytest

from samovar import Samovar, event_stream, hub, long_poll, websocket
from samovar.broadcast import ChannelRule
from samovar.tasks import Scope

from ..support.until import until_async

Message = MutableMapping[str, Any]
STEPS = 40


class Peer:
    """A client that says what it has to say, then neither speaks nor leaves."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        if self.messages:
            return self.messages.pop(0)
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        await asyncio.sleep(0)


def scope(kind: str, path: str, query: bytes = b"") -> Message:
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "ws" if kind == "websocket" else "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }


@pytest.fixture
async def app() -> AsyncIterator[Samovar]:
    app = Samovar(__name__)
    app.config.update(TESTING=True, PRESENCE_GRACE=0, WEBSOCKET_CLOSE_TIMEOUT=0.2)
    app.channels.add(ChannelRule("tea", presence=True), lambda: True)

    @app.websocket("/ws")
    async def ws() -> None:
        await websocket.subscribe("tea", since=websocket.args.get("since"), presence=True)
        async for message in websocket:
            await hub.publish("tea", message)
            await websocket.send(message)

    @app.get("/events")
    async def events() -> Any:
        return await event_stream("tea", heartbeat=0.001)

    @app.get("/poll")
    async def poll() -> Any:
        return await long_poll("tea", since="gone:1")

    @app.get("/wait")
    async def wait() -> Any:
        return await long_poll("tea", since=await hub.cursor("tea"))

    yield app
    await app.hub.stop()  # presence is looked after by a task now and then


async def cancelled_after(app: Samovar, steps: int, asgi: Message, peer: Peer) -> None:
    """Run one connection for so many turns of the loop, then cancel it as a server does."""
    call: Callable[..., Awaitable[None]] = app

    async def serve() -> None:
        await call(asgi, peer.receive, peer.send)

    async with Scope("server", on_error=lambda task, error: None) as server:
        task = server.start(serve())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(60):
            await asyncio.wait({task})


async def in_order(app: Samovar, at_rest: int) -> None:
    async def nobody() -> bool:
        return not await app.hub.presence("tea")

    await until_async(nobody)
    assert app.hub.stats()["subscriptions"] == 0
    assert len(app.shutdown_event) == at_rest
    assert len(app.polls) == 0


CONNECT = {"type": "websocket.connect"}
HELLO = {"type": "websocket.receive", "text": "hello", "bytes": None}
REQUEST = {"type": "http.request", "body": b"", "more_body": False}


@pytest.mark.parametrize("steps", range(STEPS))
@pytest.mark.parametrize("door", ["ws", "events", "poll", "wait"])
async def test_a_door_cancelled_at_any_step_leaves_nothing(app: Samovar, door: str, steps: int) -> None:
    at_rest = len(app.shutdown_event)
    await app.hub.publish("tea", "before")
    peer = Peer(CONNECT, HELLO, HELLO) if door == "ws" else Peer(REQUEST)
    await cancelled_after(app, steps, scope("websocket" if door == "ws" else "http", f"/{door}"), peer)
    await in_order(app, at_rest)
    async with app.hub.subscribe("tea", last=1) as messages:
        await app.hub.publish("tea", "after")
        received = [event.data for event in (await messages.events(timeout=60))[1:]]
    assert received[-1] == "after"


@pytest.mark.parametrize("steps", range(STEPS))
async def test_a_server_that_goes_at_any_step_ends_a_websocket_and_leaves_nothing(
    app: Samovar, steps: int
) -> None:
    at_rest = len(app.shutdown_event) - 1  # the polls' own call is gone with the event
    peer = Peer(CONNECT, HELLO)
    call: Callable[..., Awaitable[None]] = app

    async def serve() -> None:
        await call(scope("websocket", "/ws"), peer.receive, peer.send)

    async with Scope("server", on_error=lambda task, error: None) as server:
        task = server.start(serve())
        for _ in range(steps):
            await asyncio.sleep(0)
        app.shutdown_event.set()
        async with asyncio.timeout(60):
            await task
    await in_order(app, at_rest)
    kinds = [message["type"] for message in peer.sent]
    assert kinds.count("websocket.close") <= 1
    if "websocket.accept" in kinds:
        [close] = [message for message in peer.sent if message["type"] == "websocket.close"]
        assert close["code"] == 1012
