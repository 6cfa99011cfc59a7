"""How long clients may stay: kicks, rules asked again, access that expires."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from samovar import Access, Samovar, event_stream, websocket
from samovar.core.ctx import required_context
from samovar.core.realtime import sink, stay
from samovar.tasks import Scope

from .test_cancellation import Peer, scope


@pytest.fixture
def app() -> Samovar:
    app = Samovar(__name__)
    app.config["TESTING"] = True

    @app.identify
    async def who() -> str | None:
        connection = required_context("who").connection
        assert connection is not None
        app.extensions["asked"] = app.extensions.get("asked", 0) + 1
        return connection.args.get("user")

    @app.websocket("/ws/<channel>")
    async def ws(channel: str) -> None:
        await websocket.subscribe(channel)
        async for message in websocket:
            await websocket.send(message)

    @app.get("/events/<channel>")
    async def events(channel: str) -> Any:
        return await event_stream(channel)

    return app


async def settled(condition: Callable[[], bool]) -> None:
    """Let the loop go round until *condition* holds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


async def test_a_kick_closes_the_users_websockets_and_streams_and_nobody_elses(app: Samovar) -> None:
    client = app.test_client()
    async with (
        client.websocket("/ws/tea?user=ann") as ann,
        client.websocket("/ws/tea?user=bob") as bob,
        client.sse("/events/tea?user=ann") as stream,
    ):
        for socket in (ann, bob):
            await socket.receive_json()
        await stream.receive()
        await app.hub.kick("ann")
        assert await ann.wait_closed() == 4401
        last = await stream.receive()
        assert (last.event, last.json()) == ("closed", {"code": 4401, "reason": "signed out", "retry": False})
        await bob.send("still here")
        assert await bob.receive() == "still here"
    await settled(lambda: len(app.hub.connections) == 0)


async def test_a_websocket_that_subscribes_to_nothing_is_kicked_too(app: Samovar) -> None:
    @app.websocket("/echo")
    async def echo() -> None:
        async for message in websocket:
            await websocket.send(message)

    async with app.test_client().websocket("/echo?user=ann") as ws:
        await ws.send("x")
        await ws.receive()
        await app.hub.kick("ann")
        assert await ws.wait_closed() == 4401


async def test_who_a_connection_is_is_asked_once(app: Samovar) -> None:
    app.add_channel("a", presence=True)
    app.add_channel("b", presence=True)

    @app.websocket("/two")
    async def two() -> None:
        await websocket.subscribe("a")
        await websocket.subscribe("b")
        await websocket.wait_closed()

    async with app.test_client().websocket("/two?user=ann") as ws:
        await ws.receive_json()
        await ws.receive_json()
        assert [member.user for member in await app.hub.presence("b")] == ["ann"]
        assert app.extensions["asked"] == 1


async def test_the_user_a_rule_names_is_kicked(app: Samovar) -> None:
    @app.channel("tea")
    async def may() -> Access:
        return Access(user="from the rule")

    async with app.test_client().websocket("/ws/tea") as ws:
        await ws.receive_json()
        await app.hub.kick("from the rule")
        assert await ws.wait_closed() == 4401


class Rule:
    """A rule's function with an answer that can change."""

    def __init__(self, answer: Any = True) -> None:
        self.answer = answer
        self.asked = 0

    async def __call__(self, **values: Any) -> Any:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer() if callable(self.answer) else self.answer


def guard(app: Samovar, answer: Any = True, **options: Any) -> Rule:
    rule = Rule(answer)

    @app.channel("tea", **options)
    async def may() -> Any:
        return await rule()

    return rule


async def test_a_rule_with_recheck_is_asked_again_and_may_end_it(app: Samovar) -> None:
    rule = guard(app, recheck=0.01)
    client = app.test_client()
    async with client.websocket("/ws/tea") as ws, client.sse("/events/tea") as stream:
        await ws.receive_json()
        await stream.receive()
        await settled(lambda: rule.asked >= 8)
        await app.hub.publish("tea", 1)
        assert (await ws.receive_json())["data"] == (await stream.receive()).json()["data"] == 1
        rule.answer = False
        assert await ws.wait_closed() == 4403
        assert (await stream.receive()).json() == {"code": 4403, "reason": "denied", "retry": False}
    asked = rule.asked
    await settled(lambda: app.hub.stats()["subscriptions"] == 0)
    assert rule.asked == asked


async def test_nothing_queued_is_sent_after_the_refusal(app: Samovar) -> None:
    rule = guard(app, recheck=0.05)
    async with app.test_client().sse("/events/tea") as stream:
        await stream.receive()
        rule.answer = False
        await app.hub.publish("tea", "fine")
        event = await stream.receive()
        while event.event != "closed":
            assert event.json()["data"] == "fine"
            event = await stream.receive()


async def test_access_ends_when_it_expires_unless_the_rule_renews_it(app: Samovar) -> None:
    rule = guard(app, lambda: Access(expires=time.time() + 0.02))
    client = app.test_client()
    async with client.websocket("/ws/tea") as ws, client.sse("/events/tea") as stream:
        await ws.receive_json()
        await stream.receive()
        await settled(lambda: rule.asked >= 6)
        rule.answer = Access(expires=time.time() - 1)
        assert await ws.wait_closed() == 4403
        assert (await stream.receive()).json()["code"] == 4403


async def test_access_that_has_expired_is_none(app: Samovar) -> None:
    guard(app, Access(expires=time.time() - 1))
    assert (await app.test_client().get("/events/tea")).status_code == 403


async def test_a_rule_that_fails_ends_it_but_lets_it_come_back(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    rule = guard(app, recheck=0.01)
    client = app.test_client()
    with caplog.at_level(logging.ERROR, "samovar.stay"):
        async with client.websocket("/ws/tea") as ws, client.sse("/events/tea") as stream:
            await ws.receive_json()
            await stream.receive()
            rule.answer = RuntimeError("the database is away")
            assert await ws.wait_closed() == 1011
            assert (await stream.receive()).json()["retry"] is True
    assert "was asked again" in caplog.text


async def test_where_a_kick_may_be_missed_the_rules_are_asked(
    app: Samovar, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samovar.broadcast.connections import KICKS

    monkeypatch.setattr(stay, "DOUBT_SPREAD", 0.01)
    rule = guard(app)
    async with app.test_client().websocket("/ws/tea?user=ann") as ws:
        await ws.receive_json()
        rule.answer = False
        await app.hub.backend.clear(KICKS)
        assert await ws.wait_closed() == 4403


async def test_unsubscribing_ends_the_asking(app: Samovar) -> None:
    rule = guard(app, recheck=0.01)

    @app.websocket("/leave")
    async def leave() -> None:
        await websocket.subscribe("tea")
        await websocket.receive()
        await websocket.unsubscribe("tea")
        rule.answer = False
        await websocket.send("left")
        await websocket.receive()
        await websocket.send("open")

    async with app.test_client().websocket("/leave") as ws:
        await ws.receive_json()
        await ws.send("go")
        assert await ws.receive() == "left"
        asked = rule.asked
        await ws.receive_nothing(0.05)
        await ws.send("still?")
        assert await ws.receive() == "open"
        assert rule.asked == asked


async def test_a_stream_that_was_never_read_leaves_nothing(app: Samovar) -> None:
    guard(app, Access(user="ann"), recheck=10)
    response = await app.test_client().head("/events/tea")
    assert response.status_code == 200
    assert len(app.hub.connections) == 0


async def test_a_peer_that_does_not_read_cannot_stay(app: Samovar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "SEND_AWAY", 0.01)
    app.config["WEBSOCKET_CLOSE_TIMEOUT"] = 0.2
    peer = Peer({"type": "websocket.connect"})
    stuck = asyncio.Event()

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send" and '"data"' in message.get("text", ""):
            stuck.set()
            await asyncio.get_running_loop().create_future()
        await peer.send(message)

    async with asyncio.timeout(60), Scope("server") as server:
        call = server.start(app(scope("websocket", "/ws/tea", b"user=ann"), peer.receive, send))
        await settled(lambda: any('"subscribed"' in message.get("text", "") for message in peer.sent))
        await app.hub.publish("tea", 1)
        await stuck.wait()
        await app.hub.kick("ann")
        await asyncio.wait({call})
    assert len(app.hub.connections) == 0
    assert app.hub.stats()["subscriptions"] == 0
    assert not any('"data"' in message.get("text", "") for message in peer.sent)
