"""The test kit and a Samovar app together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from samovar import Samovar, abort, event_stream, g, hub, long_poll, request, session, websocket
from samovar.core.testing import LifespanError, WebsocketDisconnectError, WebsocketResponseError


@pytest.fixture
def app() -> Samovar:
    app = Samovar("shop")
    app.secret_key = "leaves"
    app.testing = True

    @app.get("/count")
    async def count() -> dict[str, Any]:
        g.seen = request.path
        session["count"] = session.get("count", 0) + 1
        return {"count": session["count"], "user": session.get("user")}

    @app.get("/events")
    async def events() -> Any:
        return await event_stream("prices")

    @app.get("/poll")
    async def poll() -> Any:
        return await long_poll("prices", timeout=5)

    @app.websocket("/ws/<channel>")
    async def ws(channel: str) -> None:
        await websocket.subscribe(channel, since=websocket.args.get("since"))
        async for message in websocket:
            await hub.publish(channel, message)

    @app.websocket("/secret")
    async def secret() -> None:
        abort(401)

    return app


async def test_the_session_lives_in_the_cookies_of_the_client(app: Samovar) -> None:
    client = app.test_client()
    assert [(await (await client.get("/count")).get_json())["count"] for _ in range(3)] == [1, 2, 3]
    assert (await (await app.test_client().get("/count")).get_json())["count"] == 1


async def test_a_session_transaction_writes_and_reads_the_session(app: Samovar) -> None:
    client = app.test_client()
    async with client.session_transaction() as opened:
        opened["user"] = "ada"
    assert await (await client.get("/count")).get_json() == {"count": 1, "user": "ada"}
    async with client.session_transaction() as opened:
        assert opened["count"] == 1


async def test_a_session_transaction_needs_cookies_and_a_key(app: Samovar) -> None:
    with pytest.raises(RuntimeError, match="use_cookies=True"):
        async with app.test_client(use_cookies=False).session_transaction():
            pass
    app.secret_key = None
    with pytest.raises(RuntimeError, match="secret_key"):
        async with app.test_client().session_transaction():
            pass


async def test_a_client_in_a_block_keeps_the_context_of_its_last_request(app: Samovar) -> None:
    async with app.test_client() as client:
        await client.get("/count?x=1")
        assert (request.args["x"], g.seen, session["count"]) == ("1", "/count", 1)
        await client.get("/count?x=2")
        assert (request.args["x"], session["count"]) == ("2", 2)
        with pytest.raises(RuntimeError, match="already"):
            await client.__aenter__()
    assert not request


async def test_clients_of_two_tasks_keep_their_own_contexts(app: Samovar) -> None:
    async def look(number: str) -> str:
        async with app.test_client() as client:
            await client.get(f"/count?x={number}")
            await asyncio.sleep(0)
            return str(request.args["x"])

    assert await asyncio.gather(*map(look, "abc")) == ["a", "b", "c"]


async def test_one_channel_by_websocket_event_stream_and_poll(app: Samovar) -> None:
    client = app.test_client()
    answer = await client.poll("/poll")
    assert (answer.status_code, answer.messages) == (200, [])
    async with client.websocket("/ws/prices") as ws, client.sse("/events") as stream:
        assert (await ws.receive_json())["subscribed"] is True
        assert (await stream.receive()).event == "subscribed"
        await ws.send("tea 3.20")
        envelope = await ws.receive_json()
        event = await stream.receive()
        assert (event.json(), event.id) == (envelope, envelope["cursor"])
        assert envelope["data"] == "tea 3.20"
        last_event_id = stream.last_event_id
    answer = await client.poll("/poll", since=answer.cursor)
    assert answer.messages == [envelope]
    assert answer.cursor == envelope["cursor"]
    async with client.sse("/events", last_event_id=last_event_id) as stream:
        assert (await stream.receive()).json()["recovered"] is True
        assert await stream.receive_nothing(0.05)


async def test_a_refusal_of_the_app_has_its_response(app: Samovar) -> None:
    async with app.test_client().websocket("/secret") as ws:
        with pytest.raises(WebsocketResponseError) as refused:
            await ws.receive()
    assert refused.value.response.status_code == 401


async def test_errors_of_views_reach_the_test(app: Samovar) -> None:
    @app.get("/broken")
    async def broken() -> str:
        raise LookupError("in the view")

    with pytest.raises(LookupError, match="in the view"):
        await app.test_client().get("/broken")
    app.testing = False
    app.config["PROPAGATE_EXCEPTIONS"] = False
    assert (await app.test_client().get("/broken")).status_code == 500


async def test_the_lifespan_runs_around_the_test(app: Samovar) -> None:
    done: list[str] = []

    @app.while_serving
    async def serving() -> AsyncGenerator[None, None]:
        done.append("started")
        yield
        done.append("stopped")

    async with app.test_app() as test_app:
        assert done == ["started"]
        assert (await test_app.test_client().get("/count")).status_code == 200
    assert done == ["started", "stopped"]


async def test_a_start_up_that_fails_is_a_lifespan_error_with_its_traceback(app: Samovar) -> None:
    @app.before_serving
    async def water() -> None:
        raise LookupError("no water")

    with pytest.raises(
        LifespanError, match=r"(?m)^start-up of the app failed: LookupError: no water$"
    ) as failed:
        async with app.test_app():
            pass
    assert "in water" in failed.value.__notes__[0], "the traceback goes with it"


async def test_draining_ends_long_connections(app: Samovar) -> None:
    async with app.test_app() as test_app:
        client = test_app.test_client()
        async with client.websocket("/ws/prices") as ws, client.sse("/events") as stream:
            await ws.receive()
            await stream.receive()
            await test_app.drain()
            with pytest.raises(WebsocketDisconnectError) as closed:
                await ws.receive()
            assert closed.value.code == 1012
            assert [event async for event in stream] == []
