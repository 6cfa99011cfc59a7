"""Websockets: in and out, endings, refusals, and channels carried to them."""

import asyncio
import json
from typing import Any

import pytest

from samovar import Samovar, abort, current_app, g, hub, session, websocket
from samovar.core.realtime.access import Access
from samovar.core.testing import WebsocketDisconnectError, WebsocketResponseError
from samovar.errors import AlreadySubscribed, BackendUnavailable, WebsocketClosed

from ..support.until import until


@pytest.fixture
def app() -> Samovar:
    app = Samovar(__name__)
    app.config["TESTING"] = True
    app.config["SECRET_KEY"] = "secret"
    return app


async def test_messages_go_both_ways_and_empty_frames_are_frames(app: Samovar) -> None:
    @app.websocket("/echo")
    async def echo() -> None:
        async for message in websocket:
            await websocket.send(message)

    async with app.test_client().websocket("/echo") as ws:
        for message in ("hello", "", b"\x00", b"", "ü"):
            await ws.send(message)
            received = await ws.receive()
            assert (received, type(received)) == (message, type(message))


async def test_json_both_ways_and_malformed_json_closes_with_4400(app: Samovar) -> None:
    @app.websocket("/json")
    async def talk() -> None:
        while True:
            await websocket.send_json(got=await websocket.receive_json())

    async with app.test_client().websocket("/json") as ws:
        await ws.send_json({"a": 1})
        assert await ws.receive_json() == {"got": {"a": 1}}
        await ws.send("{nonsense")
        with pytest.raises(WebsocketDisconnectError) as closed:
            await ws.receive()
        assert closed.value.code == 4400


async def test_path_values_query_and_session_reach_the_handler(app: Samovar) -> None:
    @app.websocket("/room/<int:number>")
    async def room(number: int) -> None:
        await websocket.send_json([number, websocket.args["q"], session.get("name"), current_app.name])

    @app.get("/login")
    async def login() -> str:
        session["name"] = "ann"
        return "in"

    client = app.test_client()
    await client.get("/login")
    async with client.websocket("/room/7?q=x") as ws:
        assert await ws.receive_json() == [7, "x", "ann", app.name]


async def test_a_handler_that_returns_closes_with_1000(app: Samovar) -> None:
    @app.websocket("/brief")
    async def brief() -> None:
        await websocket.send("bye")

    async with app.test_client().websocket("/brief") as ws:
        assert await ws.receive() == "bye"
        with pytest.raises(WebsocketDisconnectError) as closed:
            await ws.receive()
        assert closed.value.code == 1000


async def test_a_subprotocol_is_chosen_among_the_offered_ones(app: Samovar) -> None:
    @app.websocket("/sub")
    async def sub() -> None:
        with pytest.raises(ValueError, match="did not offer"):
            await websocket.accept(subprotocol="other")
        await websocket.accept(subprotocol=websocket.requested_subprotocols[1], headers={"X-Note": "tea"})
        await websocket.send("ok")

    async with app.test_client().websocket("/sub", subprotocols=["a", "b"]) as ws:
        assert await ws.receive() == "ok"
        assert ws.subprotocol == "b"
        assert ws.headers is not None and ws.headers["x-note"] == "tea"


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_abort_before_accept_is_an_http_response(app: Samovar, status: int) -> None:
    @app.websocket("/no")
    async def refuse() -> None:
        abort(status)

    with pytest.raises(WebsocketResponseError) as refused:
        async with app.test_client().websocket("/no") as ws:
            await ws.receive()
    assert refused.value.response.status_code == status


async def test_abort_after_accept_closes_with_the_status_in_the_code(app: Samovar) -> None:
    @app.websocket("/late")
    async def late() -> None:
        await websocket.accept()
        abort(403)

    async with app.test_client().websocket("/late") as ws:
        with pytest.raises(WebsocketDisconnectError) as closed:
            await ws.receive()
        assert closed.value.code == 4403


async def test_a_broker_that_is_away_closes_with_1013(app: Samovar) -> None:
    @app.websocket("/away")
    async def away() -> None:
        await websocket.accept()
        raise BackendUnavailable("gone")

    async with app.test_client().websocket("/away") as ws:
        with pytest.raises(WebsocketDisconnectError) as closed:
            await ws.receive()
    assert (closed.value.code, closed.value.reason) == (1013, "not available at the moment: come back")


async def test_an_error_in_a_handler_closes_with_1011_and_is_logged(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    app.config["TESTING"] = False

    @app.websocket("/bad")
    async def bad() -> None:
        await websocket.accept()
        raise RuntimeError("boom")

    async with app.test_client().websocket("/bad") as ws:
        with pytest.raises(WebsocketDisconnectError) as closed:
            await ws.receive()
    assert closed.value.code == 1011
    assert "boom" in caplog.text


@pytest.mark.parametrize("path", ["/missing", "/http-only"])
async def test_no_such_websocket_is_refused(app: Samovar, path: str) -> None:
    @app.get("/http-only")
    async def page() -> str:
        return "page"

    with pytest.raises(WebsocketResponseError) as refused:
        async with app.test_client().websocket(path) as ws:
            await ws.receive()
    assert refused.value.response.status_code in {400, 404}


# --- endings ----------------------------------------------------------------------------------------------------------


async def test_async_for_ends_when_the_peer_leaves_and_the_handler_may_finish(app: Samovar) -> None:
    seen: list[Any] = []
    done = asyncio.Event()

    @app.websocket("/ws")
    async def handler() -> None:
        async for message in websocket:
            seen.append(message)
        await asyncio.sleep(0)
        seen.append(websocket.closed)
        done.set()

    async with app.test_client().websocket("/ws") as ws:
        await ws.send("one")
        await ws.close(4001, "enough")
    assert done.is_set()
    assert seen[0] == "one"
    assert (seen[1].code, seen[1].reason, seen[1].initiator) == (4001, "enough", "peer")


async def test_a_receive_in_progress_is_cancelled_when_the_peer_vanishes(app: Samovar) -> None:
    ended: list[str] = []

    @app.websocket("/ws")
    async def handler() -> None:
        try:
            while True:
                await websocket.receive()
        except asyncio.CancelledError:
            assert websocket.closed is not None
            ended.append(f"cancelled {websocket.closed.code}")
            raise

    async with app.test_client().websocket("/ws") as ws:
        await ws.send("x")
        await ws.disconnect()
    assert ended == ["cancelled 1006"]


async def test_wait_closed_serves_handlers_that_only_push_whatever_the_peer_sends(app: Samovar) -> None:
    ended: list[int] = []

    @app.websocket("/push")
    async def push() -> None:
        await websocket.send("hello")
        ended.append((await websocket.wait_closed()).code)

    async with app.test_client().websocket("/push") as ws:
        assert await ws.receive() == "hello"
        for _ in range(60):
            await ws.send("noise")
        await ws.close(1000)
    assert ended == [1000]


async def test_sending_after_the_end_says_who_closed_and_why(app: Samovar) -> None:
    errors: list[WebsocketClosed] = []

    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.accept()
        await websocket.close(4000, "done here")
        await websocket.close()
        for use in (websocket.send("x"), websocket.receive()):
            try:
                await use
            except WebsocketClosed as error:
                errors.append(error)

    async with app.test_client().websocket("/ws") as ws:
        assert await ws.wait_closed() == 4000
    assert [(e.code, e.reason, e.initiator) for e in errors] == [(4000, "done here", "app")] * 2


@pytest.mark.parametrize(
    ("code", "reason"), [(1005, ""), (1006, ""), (999, ""), (5000, ""), (1000, "é" * 62)]
)
async def test_a_close_that_no_endpoint_may_send_is_refused(app: Samovar, code: int, reason: str) -> None:
    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.accept()
        with pytest.raises(ValueError, match="close"):
            await websocket.close(code, reason)
        await websocket.send("still open")

    async with app.test_client().websocket("/ws") as ws:
        assert await ws.receive() == "still open"


async def test_a_handler_deaf_to_its_end_is_cancelled_after_the_close_timeout(app: Samovar) -> None:
    app.config["WEBSOCKET_CLOSE_TIMEOUT"] = 0.05
    cancelled = asyncio.Event()

    @app.websocket("/ws")
    async def handler() -> None:
        async for _ in websocket:
            pass
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with app.test_client().websocket("/ws") as ws:
        await ws.send("x")
    assert cancelled.is_set()


async def test_shutdown_closes_with_1012(app: Samovar) -> None:
    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.send("ready")
        async for _ in websocket:
            pass
        assert websocket.closed is not None and websocket.closed.initiator == "server"

    async with app.test_client().websocket("/ws") as ws:
        assert await ws.receive() == "ready"
        app.shutdown_event.set()
        assert await ws.wait_closed() == 1012


async def test_hooks_run_around_a_websocket_and_g_lives_as_long(app: Samovar) -> None:
    order: list[str] = []

    @app.before_websocket
    async def before() -> None:
        g.tea = "green"

    @app.teardown_websocket
    async def teardown(error: BaseException | None) -> None:
        order.append(f"{g.tea} {error}")

    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.send(g.tea)

    async with app.test_client().websocket("/ws") as ws:
        assert await ws.receive() == "green"
    assert order == ["green None"]


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example"])
async def test_a_foreign_origin_is_refused_before_any_code_of_the_app_runs(app: Samovar, origin: str) -> None:
    ran: list[bool] = []

    @app.before_websocket
    async def before() -> None:
        ran.append(True)

    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.accept()

    with pytest.raises(WebsocketResponseError) as refused:
        async with app.test_client().websocket("/ws", headers={"Origin": origin, "Host": "localhost"}) as ws:
            await ws.receive()
    assert refused.value.response.status_code == 403
    assert "WEBSOCKET_ALLOWED_ORIGINS" in await refused.value.response.get_data(as_text=True)
    assert not ran


async def test_the_own_origin_and_listed_ones_pass(app: Samovar) -> None:
    app.config["WEBSOCKET_ALLOWED_ORIGINS"] = ["https://app.example"]

    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.send("in")

    for origin in ("http://localhost", "https://app.example"):
        async with app.test_client().websocket("/ws", headers={"Origin": origin, "Host": "localhost"}) as ws:
            assert await ws.receive() == "in"


@pytest.mark.parametrize("message", ["x" * 101, b"x" * 101, "ü" * 51])
async def test_a_message_over_the_limit_closes_with_1009(app: Samovar, message: str | bytes) -> None:
    app.config["WEBSOCKET_MAX_MESSAGE_BYTES"] = 100

    @app.websocket("/ws")
    async def handler() -> None:
        async for received in websocket:
            await websocket.send(received)

    async with app.test_client().websocket("/ws") as ws:
        await ws.send("x" * 100)
        assert await ws.receive() == "x" * 100
        await ws.send(message)
        assert await ws.wait_closed() == 1009


async def test_a_flood_is_paced_not_dropped_and_does_not_grow_the_queue(app: Samovar) -> None:
    app.config["WEBSOCKET_QUEUE_SIZE"] = 4
    release = asyncio.Event()
    received: list[Any] = []

    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.accept()
        await release.wait()
        async for message in websocket:
            assert len(websocket.inbound) <= 4
            received.append(message)

    async with app.test_client().websocket("/ws") as ws:
        for n in range(12):
            await ws.send(str(n))
        release.set()
        await ws.close()
    assert received == [str(n) for n in range(len(received))]
    assert len(received) >= 5


async def test_a_peer_that_does_not_read_costs_its_own_connection_only(app: Samovar) -> None:
    app.config["WEBSOCKET_WRITE_TIMEOUT"] = 0.1
    ended: list[WebsocketClosed] = []

    @app.websocket("/ws")
    async def handler() -> None:
        try:
            while True:
                await websocket.send("x" * 1000)
        except WebsocketClosed as error:
            ended.append(error)

    async with app.test_client().websocket("/ws") as deaf:
        await deaf.handshake()
        await until(lambda: ended)
    assert "did not read" in ended[0].reason


# --- channels ---------------------------------------------------------------------------------------------------------


def carry(app: Samovar, channel: str = "tea", **options: Any) -> None:
    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.subscribe(channel, since=websocket.args.get("since"), **options)
        async for message in websocket:
            await websocket.send(f"own {message!r}")


async def test_the_first_word_comes_first_then_every_message_in_its_envelope(app: Samovar) -> None:
    carry(app)
    async with app.test_client().websocket("/ws") as ws:
        first = await ws.receive_json()
        assert first == {"channel": "tea", "subscribed": True, "recovered": None, "cursor": first["cursor"]}
        published = await app.hub.publish("tea", {"cups": 2})
        message = await ws.receive_json()
        assert message["data"] == {"cups": 2}
        assert (message["id"], message["cursor"]) == (published.id, str(published.position))


async def test_a_reconnect_from_the_cursor_misses_and_doubles_nothing(app: Samovar) -> None:
    carry(app)
    client = app.test_client()
    async with client.websocket("/ws") as ws:
        cursor = (await ws.receive_json())["cursor"]
        await app.hub.publish("tea", 1)
        cursor = (await ws.receive_json())["cursor"]
    for n in range(2, 200):
        await app.hub.publish("tea", n)
    async with client.websocket(f"/ws?since={cursor}") as ws:
        first = await ws.receive_json()
        assert first["recovered"] is False or first["recovered"] is True
        received = [await ws.receive_json() for _ in range(99 if first["recovered"] else 101)]
    data = [message.get("data", "gap") for message in received]
    assert data == ["gap", *range(100, 200)]  # the default keeps the newest 100


async def test_a_short_absence_is_recovered_whole(app: Samovar) -> None:
    carry(app)
    client = app.test_client()
    async with client.websocket("/ws") as ws:
        cursor = (await ws.receive_json())["cursor"]
    for n in range(50):
        await app.hub.publish("tea", n)
    async with client.websocket(f"/ws?since={cursor}") as ws:
        assert (await ws.receive_json())["recovered"] is True
        assert [(await ws.receive_json())["data"] for _ in range(50)] == list(range(50))
        assert await ws.receive_nothing()


async def test_a_foreign_epoch_is_a_gap_never_silence(app: Samovar) -> None:
    carry(app)
    await app.hub.publish("tea", 1)
    async with app.test_client().websocket("/ws?since=elsewhere:3") as ws:
        assert (await ws.receive_json())["recovered"] is False
        gap = await ws.receive_json()
        assert gap["gap"]["reason"] == "reset" and gap["gap"]["after"] == "elsewhere:3"


@pytest.mark.parametrize("since", ["nonsense", "a:b", "x:-1", "a=b", "tea=x:1,tea=x:2"])
async def test_a_malformed_cursor_is_refused_with_400(app: Samovar, since: str) -> None:
    carry(app)
    with pytest.raises(WebsocketResponseError) as refused:
        async with app.test_client().websocket(f"/ws?since={since}") as ws:
            await ws.receive()
    assert refused.value.response.status_code == 400


async def test_a_malformed_channel_name_after_accept_closes_with_4400(app: Samovar) -> None:
    @app.websocket("/ws")
    async def handler() -> None:
        async for channel in websocket:
            await websocket.subscribe(str(channel))

    async with app.test_client().websocket("/ws") as ws:
        await ws.send("bad name\n")
        assert await ws.wait_closed() == 4400


async def test_own_sends_keep_their_place_among_messages(app: Samovar) -> None:
    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.subscribe("tea", envelope=False)
        for n in range(20):
            await hub.publish("tea", f"m{n}")
            await websocket.send(f"o{n}")

    async with app.test_client().websocket("/ws") as ws:
        received = [await ws.receive() for _ in range(40)]
    assert received == [f"{kind}{n}" for n in range(20) for kind in "mo"]


async def test_what_is_queued_is_written_before_the_close(app: Samovar) -> None:
    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.subscribe("tea", envelope=False)
        for n in range(30):
            await hub.publish("tea", str(n))

    async with app.test_client().websocket("/ws") as ws:
        assert [await ws.receive() for _ in range(30)] == [str(n) for n in range(30)]
        assert await ws.wait_closed() == 1000


async def test_a_denied_channel_is_403_before_and_4403_after_accept(app: Samovar) -> None:
    @app.channel("secret/<name>")
    async def may_join(name: str) -> bool:
        return name == websocket.args.get("me")

    @app.websocket("/ws/<when>")
    async def handler(when: str) -> None:
        if when == "after":
            await websocket.accept()
        await websocket.subscribe("secret/ann")
        await websocket.wait_closed()

    client = app.test_client()
    with pytest.raises(WebsocketResponseError) as refused:
        async with client.websocket("/ws/before?me=bob") as ws:
            await ws.receive()
    assert refused.value.response.status_code == 403
    async with client.websocket("/ws/after?me=bob") as ws:
        assert await ws.wait_closed() == 4403
    async with client.websocket("/ws/before?me=ann") as ws:
        assert (await ws.receive_json())["subscribed"] is True


async def test_the_same_channel_twice_is_an_error_and_unsubscribing_frees_it(app: Samovar) -> None:
    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.subscribe("tea")
        with pytest.raises(AlreadySubscribed):
            await websocket.subscribe("tea")
        await websocket.send("{}")
        await websocket.unsubscribe("tea")
        await websocket.unsubscribe("tea")
        await hub.publish("tea", "unheard")
        await websocket.subscribe("tea")
        await hub.publish("tea", "heard")
        await websocket.wait_closed()

    async with app.test_client().websocket("/ws") as ws:
        received = [await ws.receive_json() for _ in range(4)]
    assert [row.get("data", "word" if row else "own") for row in received] == ["word", "own", "word", "heard"]


async def test_several_channels_on_one_connection_keep_a_cursor_each(app: Samovar) -> None:
    @app.websocket("/ws")
    async def handler() -> None:
        since = websocket.args.get("since")
        await websocket.subscribe("a", since=since)
        await websocket.subscribe("b", since=since)
        await websocket.wait_closed()

    client = app.test_client()
    cursors = {}
    async with client.websocket("/ws") as ws:
        for _ in range(2):
            word = await ws.receive_json()
            cursors[word["channel"]] = word["cursor"]
    await app.hub.publish("a", 1)
    await app.hub.publish("b", 2)
    since = ",".join(f"{channel}={cursor}" for channel, cursor in cursors.items())
    async with client.websocket(f"/ws?since={since}") as ws:
        received = [await ws.receive_json() for _ in range(4)]
    assert {(row["channel"], row["data"]) for row in received if "data" in row} == {("a", 1), ("b", 2)}
    assert all(row["recovered"] for row in received if "subscribed" in row)


async def test_presence_lists_members_then_tells_joins_and_leaves(app: Samovar) -> None:
    app.config["PRESENCE_GRACE"] = 0.0

    @app.channel("room", presence=True)
    async def may_join() -> Access:
        return Access(info={"name": websocket.args["me"].title()})

    @app.identify
    async def who() -> str:
        return websocket.args["me"]

    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.subscribe("room", presence=True)
        await websocket.wait_closed()

    async def presence(ws: Any) -> dict[str, Any]:
        while True:
            row = await ws.receive_json()
            if "presence" in row:
                assert row["channel"] == "room"
                return dict(row["presence"])

    client = app.test_client()
    async with client.websocket("/ws?me=ann") as ann:
        listed = await presence(ann)
        assert [(m["user"], m["info"]) for m in listed["members"]] == [("ann", {"name": "Ann"})]
        async with client.websocket("/ws?me=bob") as bob:
            assert {m["user"] for m in (await presence(bob))["members"]} == {"ann", "bob"}
            joined = await presence(ann)
            while joined["member"]["user"] == "ann":
                joined = await presence(ann)
            assert (joined["event"], joined["member"]["user"]) == ("join", "bob")
        left = await presence(ann)
        assert (left["event"], left["member"]["user"]) == ("leave", "bob")


async def test_a_gap_without_envelope_closes_with_4009_unless_told_otherwise(app: Samovar) -> None:
    @app.websocket("/<mode>")
    async def handler(mode: str) -> None:
        on_gap: Any = {"close": "close", "ignore": "ignore", "tell": lambda gap: f"gap {gap.reason}"}[mode]
        await websocket.subscribe("tea", since="gone:1", envelope=False, on_gap=on_gap)
        await hub.publish("tea", "next")
        await websocket.wait_closed()

    client = app.test_client()
    async with client.websocket("/close") as ws:
        assert await ws.wait_closed() == 4009
    async with client.websocket("/ignore") as ws:
        assert await ws.receive() == "next"
    async with client.websocket("/tell") as ws:
        assert [await ws.receive(), await ws.receive()] == ["gap reset", "next"]


async def test_a_slow_websocket_heals_from_history_and_its_neighbour_notices_nothing(app: Samovar) -> None:
    app.add_channel("tea", history=1000, public=True)
    carry(app, max_messages=10)
    client = app.test_client()
    async with client.websocket("/ws") as slow, client.websocket("/ws") as quick:
        await slow.receive_json()
        await quick.receive_json()
        for n in range(500):
            await app.hub.publish("tea", n)
            if n % 5 == 0:
                assert (await quick.receive_json())["data"] == n // 5
        assert [(await slow.receive_json())["data"] for _ in range(500)] == list(range(500))


async def test_a_slow_websocket_under_disconnect_is_closed_with_4008(app: Samovar) -> None:
    carry(app, policy="disconnect", max_messages=10)
    async with app.test_client().websocket("/ws") as ws:
        await ws.receive_json()
        for n in range(2000):
            await app.hub.publish("tea", n)
        assert await ws.wait_closed() == 4008


async def test_nothing_is_left_of_a_thousand_connections(app: Samovar) -> None:
    carry(app)
    at_rest = len(app.shutdown_event)
    client = app.test_client()
    for _ in range(10):
        sockets = [client.websocket("/ws") for _ in range(20)]
        opened = [await socket.__aenter__() for socket in sockets]
        for ws in opened:
            assert json.loads(await ws.receive())["subscribed"]
        for socket in sockets:
            await socket.__aexit__(None, None, None)
    assert len(app.shutdown_event) == at_rest
    assert app.hub.stats()["subscriptions"] == 0


@pytest.mark.parametrize("then", ["send", "return"])
async def test_under_disconnect_a_slow_client_is_told_4008_whatever_the_handler_does(
    app: Samovar, then: str
) -> None:
    go_on = asyncio.Event()

    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.subscribe("tea", policy="disconnect", max_messages=5)
        await go_on.wait()
        if then == "send":
            await websocket.send("own")

    async with app.test_client().websocket("/ws", window=1) as ws:
        await ws.handshake()
        await until(lambda: app.hub.stats()["subscriptions"])
        for n in range(200):
            await app.hub.publish("tea", n)
        go_on.set()
        assert await ws.wait_closed() == 4008


async def test_a_bug_in_on_gap_closes_with_1011_instead_of_going_mute(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    def on_gap(gap: Any) -> str:
        raise RuntimeError("no words for it")

    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.subscribe("tea", since="gone:1", envelope=False, on_gap=on_gap)
        await websocket.wait_closed()

    async with app.test_client().websocket("/ws") as ws:
        assert await ws.wait_closed() == 1011
    assert "no words for it" in caplog.text


async def test_a_handler_that_stops_reading_is_closed_with_1008(app: Samovar) -> None:
    app.config.update(WEBSOCKET_QUEUE_SIZE=2, WEBSOCKET_READ_TIMEOUT=0.05, WEBSOCKET_CLOSE_TIMEOUT=0.1)

    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.receive()
        await asyncio.Event().wait()

    async with app.test_client().websocket("/ws") as ws:
        for _ in range(4):
            await ws.send("x")
        assert await ws.wait_closed() == 1008


async def test_a_handler_that_never_reads_still_ends_when_its_chatty_client_vanishes(app: Samovar) -> None:
    app.config.update(WEBSOCKET_QUEUE_SIZE=2, WEBSOCKET_READ_TIMEOUT=0.05)
    ended = asyncio.Event()

    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.subscribe("tea")
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with app.test_client().websocket("/ws") as ws:
        for _ in range(20):
            await ws.send("noise")
        await ws.disconnect()
    assert ended.is_set()
