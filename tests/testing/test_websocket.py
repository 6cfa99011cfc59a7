"""Websockets of the test client against hand-written ASGI apps."""

import asyncio
from typing import Any

import pytest

from samovar.core.testing import TestClient, WebsocketDisconnectError, WebsocketResponseError

from .apps import Recorder, answer

ACCEPT = {"type": "websocket.accept"}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    chosen = scope["subprotocols"][0] if scope["subprotocols"] else None
    await send({**ACCEPT, "subprotocol": chosen, "headers": [(b"x-hello", b"1")]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", **{key: message[key] for key in message if key != "type"}})
    scope["left"].append((message["code"], message["reason"]))


def client_of(app: Any, **kwargs: Any) -> TestClient:
    return TestClient(app, **kwargs)


@pytest.mark.parametrize("message", ["text", "", b"binary", b""])
async def test_messages_keep_their_kind_and_empty_ones_are_messages(message: str | bytes) -> None:
    async with client_of(echo).websocket("/", scope_base={"left": []}) as ws:
        await ws.send(message)
        got = await ws.receive()
    assert got == message
    assert type(got) is type(message)


async def test_json_goes_both_ways() -> None:
    async with client_of(echo).websocket("/", scope_base={"left": []}) as ws:
        await ws.send_json({"a": [1, None]})
        assert await ws.receive_json() == {"a": [1, None]}


async def test_the_handshake_gives_headers_and_subprotocol() -> None:
    async with client_of(echo).websocket("/", subprotocols=["v2", "v1"], scope_base={"left": []}) as ws:
        await ws.handshake()
        assert ws.subprotocol == "v2"
        assert ws.headers is not None
        assert ws.headers["x-hello"] == "1"


async def test_the_scope_is_a_websocket_handshake() -> None:
    app = Recorder(echo)
    async with client_of(app).websocket(
        "/x?a=1", headers={"Origin": "http://o"}, scope_base={"left": []}
    ) as ws:
        await ws.handshake()
    scope = app.scopes[0]
    headers = dict(scope["headers"])
    assert (scope["type"], scope["scheme"], scope["path"]) == ("websocket", "ws", "/x")
    assert headers[b"origin"] == b"http://o"
    assert headers[b"upgrade"] == b"websocket"
    assert "websocket.http.response" in scope["extensions"]


async def test_leaving_closes_with_1000_and_a_close_has_its_code_and_reason() -> None:
    left: list[Any] = []
    client = client_of(echo)
    async with client.websocket("/", scope_base={"left": left}) as ws:
        await ws.handshake()
    async with client.websocket("/", scope_base={"left": left}) as ws:
        await ws.close(4001, "bye")
    async with client.websocket("/", scope_base={"left": left}) as ws:
        await ws.handshake()
        await ws.disconnect()
    assert left == [(1000, ""), (4001, "bye"), (1006, "")]


async def test_a_close_by_the_app_has_code_and_reason_and_stays() -> None:
    async def closing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.send", "text": "last"})
        await send({"type": "websocket.close", "code": 4403, "reason": "no"})
        assert await receive() == {"type": "websocket.disconnect", "code": 4403, "reason": "no"}

    async with client_of(closing).websocket("/") as ws:
        assert await ws.receive() == "last"
        for _ in range(2):
            with pytest.raises(WebsocketDisconnectError) as closed:
                await ws.receive()
            assert (closed.value.code, closed.value.reason) == (4403, "no")
        with pytest.raises(WebsocketDisconnectError):
            await ws.send("too late")
        assert await ws.wait_closed() == 4403


async def test_after_a_close_of_its_own_the_test_cannot_go_on() -> None:
    async with client_of(echo).websocket("/", scope_base={"left": []}) as ws:
        await ws.send("1")
        assert await ws.receive() == "1"
        await ws.close(4001, "bye")
        with pytest.raises(WebsocketDisconnectError) as closed:
            await ws.receive()
        assert closed.value.code == 4001
        with pytest.raises(WebsocketDisconnectError):
            await ws.send("2")


async def test_waiting_for_a_close_that_never_comes_ends_although_messages_do() -> None:
    async def chatty(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)
        while not stop.is_set():
            await send({"type": "websocket.send", "text": "x"})
            await asyncio.sleep(0.001)

    stop = asyncio.Event()
    async with client_of(chatty, timeout=0.1).websocket("/") as ws:
        with pytest.raises(TimeoutError):
            await ws.wait_closed()
        stop.set()


async def test_a_close_before_accept_is_a_403_as_a_browser_sees_it() -> None:
    async def rejecting(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close", "code": 4403})

    async with client_of(rejecting).websocket("/") as ws:
        with pytest.raises(WebsocketResponseError) as refused:
            await ws.receive()
    assert refused.value.response.status_code == 403


async def test_a_denial_response_is_read_whole() -> None:
    async def denying(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"who are you?", 401, [(b"x-why", b"auth")], prefix="websocket.http")

    async with client_of(denying).websocket("/") as ws:
        with pytest.raises(WebsocketResponseError) as refused:
            await ws.send("hello")
    response = refused.value.response
    assert (response.status_code, response.headers["x-why"]) == (401, "auth")
    assert await response.get_data() == b"who are you?"


async def test_a_refusal_nobody_looked_at_is_raised_on_leaving() -> None:
    async def rejecting(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})

    with pytest.raises(WebsocketResponseError):
        async with client_of(rejecting).websocket("/"):
            await asyncio.sleep(0.01)


async def test_an_app_that_says_nothing_is_a_500() -> None:
    async def mute(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async with client_of(mute).websocket("/") as ws:
        with pytest.raises(WebsocketResponseError) as refused:
            await ws.handshake()
    assert refused.value.response.status_code == 500


async def test_an_app_that_returns_without_a_close_is_1011() -> None:
    async def abrupt(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)

    async with client_of(abrupt).websocket("/") as ws:
        with pytest.raises(WebsocketDisconnectError) as closed:
            await ws.receive()
    assert closed.value.code == 1011


async def test_what_the_app_raises_is_raised_once() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)
        raise LookupError("its own")

    async with client_of(failing).websocket("/") as ws:
        with pytest.raises(LookupError):
            await ws.receive()
    with pytest.raises(LookupError):
        async with client_of(failing).websocket("/") as ws:
            await ws.handshake()


async def test_receive_nothing_passes_on_silence_and_fails_on_a_message_or_a_close() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)
        await go.wait()
        await send({"type": "websocket.send", "text": "x"})
        await send({"type": "websocket.close", "code": 4000})

    async with client_of(app).websocket("/") as ws:
        assert await ws.receive_nothing(0.01)
        go.set()
        with pytest.raises(AssertionError, match="'x'"):
            await ws.receive_nothing()
        with pytest.raises(AssertionError, match="4000"):
            await ws.receive_nothing()


async def test_a_wait_ends_and_tells_what_had_come() -> None:
    async def idle(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)
        await send({"type": "websocket.send", "text": "one"})
        await send({"type": "websocket.send", "text": "two"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with client_of(idle, timeout=0.05).websocket("/room") as ws:
        await ws.receive()
        await ws.receive()
        with pytest.raises(TimeoutError) as late:
            await ws.receive()
    told = str(late.value)
    assert told.startswith("websocket /room: waited 0.05 s for a message; ")
    assert "websocket.accept, websocket.send x2 and is still running" in told


async def test_a_client_that_does_not_read_holds_the_app_back_until_it_goes() -> None:
    sent: list[int] = []

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)
        for number in range(100):
            await send({"type": "websocket.send", "text": str(number)})
            sent.append(number)

    app = Recorder(flood)
    async with client_of(app).websocket("/", window=3) as ws:
        await ws.handshake()
        await asyncio.sleep(0)
        assert len(sent) <= 3
        await ws.disconnect()
    assert app.ended == ["returned"]
    assert len(sent) == 100


async def test_an_app_that_does_not_read_holds_the_test_back() -> None:
    done = asyncio.Event()

    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)
        await done.wait()

    async with client_of(deaf, timeout=0.05).websocket("/", window=2) as ws:
        await ws.send("1")
        with pytest.raises(TimeoutError, match="reads too little"):
            await ws.send("2")
        done.set()


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "websocket.send", "text": "x"}],
        [ACCEPT, ACCEPT],
        [ACCEPT, {"type": "websocket.close"}, {"type": "websocket.send", "text": "x"}],
        [ACCEPT, {"type": "websocket.http.response.start", "status": 403}],
        [ACCEPT, {"type": "websocket.send"}],
        [ACCEPT, {"type": "websocket.send", "text": b"x"}],
    ],
)
async def test_what_a_server_refuses_is_refused(messages: list[Any]) -> None:
    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    with pytest.raises((RuntimeError, TypeError), match=r"unexpected ASGI message|websocket\.send takes"):
        async with client_of(wrong).websocket("/") as ws:
            await ws.wait_closed()


async def test_without_the_extension_a_denial_response_is_refused() -> None:
    async def denying(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"", 401, prefix="websocket.http")

    with pytest.raises(RuntimeError, match="unexpected"):
        async with client_of(denying).websocket("/", scope_base={"extensions": {}}) as ws:
            await ws.handshake()


async def test_cookies_go_with_the_handshake_and_come_back_from_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**ACCEPT, "headers": [(b"set-cookie", b"b=2; Path=/")]})
        await send({"type": "websocket.send", "bytes": dict(scope["headers"])[b"cookie"]})

    client = client_of(app)
    client.set_cookie("localhost", "a", "1")
    async with client.websocket("/") as ws:
        assert await ws.receive() == b"a=1"
    cookie = client.get_cookie("b")
    assert cookie is not None
    assert cookie.value == "2"
