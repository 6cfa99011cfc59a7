"""A kick, and a rule asked again, reach what waits by itself: long-polls, and event streams of the app's own."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from samovar import Access, Response, Samovar, ServerSentEvent, event_stream, long_poll, request
from samovar.core.realtime import own
from samovar.core.testing import HTTPDisconnectError
from samovar.tasks import Scope

from ..core.wire import Wire
from .test_stay import guard, settled

SIGNED_OUT = {"code": 4401, "reason": "signed out", "retry": False}


@pytest.fixture
def app() -> Samovar:
    app = Samovar(__name__)
    app.config["TESTING"] = True
    app.extensions["ended"] = []

    @app.identify
    async def who() -> str | None:
        return request.args.get("user")

    @app.get("/poll/<channel>")
    async def poll(channel: str) -> Response:
        return await long_poll(channel, timeout=float(request.args.get("wait", 600)))

    @app.get("/own")
    async def stream() -> Response:
        return await event_stream(ticks())

    @app.get("/raw")
    async def raw() -> Any:
        return lines(), {"Content-Type": "text/event-stream"}

    async def ticks() -> Any:
        try:
            yield ServerSentEvent("one", id="1")
            await asyncio.get_running_loop().create_future()
        finally:
            app.extensions["ended"].append("own")

    async def lines() -> Any:
        try:
            for piece in ("data: one\nid: 1\n", "\n"):
                yield piece
            yield request.args.get("more", "")
            await asyncio.get_running_loop().create_future()
        finally:
            app.extensions["ended"].append("raw")

    return app


async def waiting(app: Samovar, count: int = 1) -> None:
    await settled(lambda: sum(shared.waiting for shared in app.polls.shared()) == count)
    await settled(lambda: len(app.hub.connections) > 0)


# --- event streams of the app's own -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["own", "raw"])
async def test_a_kick_ends_a_stream_of_the_apps_own_and_nobody_elses(app: Samovar, path: str) -> None:
    client = app.test_client()
    async with client.sse(f"/{path}?user=ann") as ann, client.sse(f"/{path}?user=bob") as bob:
        for stream in (ann, bob):
            assert (await stream.receive()).data == "one"
        await settled(lambda: len(app.hub.connections) == 2)
        await app.hub.kick("ann")
        last = await ann.receive()
        assert (last.event, last.json(), last.id) == ("closed", SIGNED_OUT, "1")
        with pytest.raises(HTTPDisconnectError):
            await ann.receive()
        assert app.extensions["ended"] == [path]
        assert len(app.hub.connections) == 1 and app.hub.stats()["kicked"] == 1
        await bob.receive_nothing(0.05)
    await settled(lambda: len(app.hub.connections) == 0)


async def test_in_the_middle_of_a_block_it_ends_without_the_word(app: Samovar) -> None:
    async with app.test_client().sse("/raw?user=ann&more=data%3A+tw") as ann:
        assert (await ann.receive()).data == "one"
        await settled(lambda: len(app.hub.connections) == 1)
        await app.hub.kick("ann")
        with pytest.raises(HTTPDisconnectError):
            await ann.receive()
    assert app.extensions["ended"] == ["raw"]


async def test_a_source_that_ends_itself_when_it_is_interrupted_has_the_word_too(app: Samovar) -> None:
    @app.get("/calm")
    async def calm() -> Any:
        async def blocks() -> Any:
            yield "data: one\n\n"
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                yield "data: never sent\n\n"

        return blocks(), {"Content-Type": "text/event-stream"}

    async with app.test_client().sse("/calm?user=ann") as stream:
        await stream.receive()
        await settled(lambda: len(app.hub.connections) == 1)
        await app.hub.kick("ann")
        assert [event.event async for event in stream] == ["closed"]


async def test_a_plain_generators_step_is_waited_for_and_then_the_stream_ends(app: Samovar) -> None:
    go_on = threading.Event()

    @app.get("/plain")
    def plain() -> Any:
        def blocks() -> Any:
            yield "data: one\n\n"
            go_on.wait(60)
            yield "data: two\n\n"

        return Response(blocks(), mimetype="text/event-stream")

    async with app.test_client().sse("/plain?user=ann") as stream:
        await stream.receive()
        await settled(lambda: len(app.hub.connections) == 1)
        await app.hub.kick("ann")
        await settled(lambda: app.hub.stats()["kicked"] == 1)
        go_on.set()
        assert [event.event async for event in stream] == ["closed"]


async def test_other_streams_and_nameless_ones_are_left_alone(app: Samovar) -> None:
    @app.get("/download")
    async def download() -> Any:
        async def pieces() -> Any:
            yield "one"
            await asyncio.get_running_loop().create_future()

        return pieces()

    client = app.test_client()
    async with client.request("/download?user=ann") as connection, client.sse("/own") as stream:
        await connection.send_complete()
        assert await connection.receive() == b"one"
        await stream.receive()
        assert len(app.hub.connections) == 0
        await connection.disconnect()


async def test_a_deaf_client_does_not_hold_up_its_end(app: Samovar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samovar.core.asgi.http.LAST_WORD", 0.01)
    wire = Wire(app, path="/own", query_string=b"user=ann")
    wire.feed()
    async with Scope("server") as server:
        task = server.start(wire.run())
        await settled(lambda: b"one" in wire.body)
        await settled(lambda: len(app.hub.connections) == 1)
        wire.open.clear()
        await app.hub.kick("ann")
        await task
    assert app.extensions["ended"] == ["own"] and b"closed" not in wire.body


async def test_an_error_of_identify_is_a_500_and_no_broken_stream(app: Samovar) -> None:
    @app.identify
    async def fails() -> str:
        raise RuntimeError("the directory is away")

    app.config["PROPAGATE_EXCEPTIONS"] = False
    response = await app.test_client().get("/raw")
    assert response.status_code == 500
    assert app.extensions["ended"] == []


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        ([], True),
        ([b"data: x\n\n"], True),
        ([b"data: x\r\n\r\n"], True),
        ([b"data: x\r\r"], True),
        ([b"data: x\n", b"\n"], True),
        ([b"data: x\n"], False),
        ([b"data: x\n\n", b": c"], False),
    ],
)
async def test_the_end_of_a_block_is_known_in_every_spelling(pieces: list[bytes], whole: bool) -> None:
    class Nobody:
        def open(self, wake: Any) -> None:
            pass

        def close(self) -> None:
            pass

    async def body() -> Any:
        for piece in pieces:
            yield piece

    stream = own.OwnStream(Nobody())  # type: ignore[arg-type]
    assert [piece async for piece in stream.watch(body(), lambda: None)] == pieces
    assert bool(stream.last_word) is whole


# --- long-polls -------------------------------------------------------------------------------------------------------


async def test_a_kick_answers_the_users_waiting_polls_at_once_and_nobody_elses(app: Samovar) -> None:
    client = app.test_client()
    cursor = await app.hub.cursor("tea")
    async with Scope("clients") as scope:
        ann = scope.start(client.get(f"/poll/tea?user=ann&since={cursor}"))
        bob = scope.start(client.poll(f"/poll/tea?user=bob&since={cursor}"))
        nobody = scope.start(client.poll("/poll/tea", since=cursor))
        await waiting(app, 3)
        assert len(app.polls) == 1, "they share one wait"
        await app.hub.kick("ann")
        response = await ann
        assert (response.status_code, await response.get_json()) == (401, SIGNED_OUT)
        assert response.headers["Cache-Control"] == "private, no-store"
        assert "Samovar-Cursor" not in response.headers
        await app.hub.publish("tea", 1)
        for other in (bob, nobody):
            assert [message["data"] for message in (await other).messages] == [1]
    assert len(app.hub.connections) == 0 and app.hub.stats()["kicked"] == 1


async def test_what_was_found_is_not_for_who_is_sent_away(app: Samovar) -> None:
    cursor = await app.hub.cursor("tea")
    async with Scope("clients") as scope:
        ann = scope.start(app.test_client().get(f"/poll/tea?user=ann&since={cursor}"))
        await waiting(app)
        app.hub.connections._kick(Kick())  # type: ignore[arg-type]
        await app.hub.publish("tea", "secret")
        assert (await ann).status_code == 401


class Kick:
    """The message of a kick, heard in the same turn of the loop as the answer comes."""

    id = "1"
    data = {"user": "ann"}
    body = b""


async def test_a_rule_asked_again_while_a_poll_waits_may_end_it(app: Samovar) -> None:
    rule = guard(app, recheck=0.01)
    cursor = await app.hub.cursor("tea")
    async with Scope("clients") as scope:
        poll = scope.start(app.test_client().get(f"/poll/tea?since={cursor}"))
        await settled(lambda: rule.asked >= 4)
        assert not poll.done()
        rule.answer = False
        response = await poll
    assert (response.status_code, (await response.get_json())["code"]) == (403, 4403)
    assert app.hub.stats()["subscriptions"] == 0


async def test_a_rule_that_is_content_lets_it_wait_to_its_limit(app: Samovar) -> None:
    rule = guard(app, recheck=0.01)
    answer = await app.test_client().poll(f"/poll/tea?wait=0.1&since={await app.hub.cursor('tea')}")
    assert answer.status_code == 204 and rule.asked > 1


async def test_a_rule_that_fails_answers_500_and_may_be_asked_again(app: Samovar) -> None:
    rule = guard(app, recheck=0.01)
    cursor = await app.hub.cursor("tea")
    async with Scope("clients") as scope:
        poll = scope.start(app.test_client().get(f"/poll/tea?since={cursor}"))
        await settled(lambda: rule.asked >= 2)
        rule.answer = RuntimeError("the database is away")
        response = await poll
    assert (response.status_code, (await response.get_json())["retry"]) == (500, True)


async def test_the_user_a_rule_names_is_kicked_from_its_poll(app: Samovar) -> None:
    guard(app, Access(user="from the rule"))
    cursor = await app.hub.cursor("tea")
    async with Scope("clients") as scope:
        poll = scope.start(app.test_client().get(f"/poll/tea?since={cursor}"))
        await waiting(app)
        await app.hub.kick("from the rule")
        assert (await poll).status_code == 401


async def test_a_read_of_history_watches_nobody(app: Samovar) -> None:
    assert (await app.test_client().poll("/poll/tea?user=ann&wait=0")).status_code == 200
    assert app.hub.stats()["channels"] == 0
