"""The doors through real servers and real sockets: clients that vanish, do not read, or send what they may not."""

import asyncio
import json
import socket
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from samovar.tasks import Scope

from ..support.server import AppServer
from ..support.until import PATIENCE, until_async

QUICK = {
    "SAMOVAR_WEBSOCKET_WRITE_TIMEOUT": "1",
    "SAMOVAR_SSE_WRITE_TIMEOUT": "1",
    "SAMOVAR_SSE_HEARTBEAT": "0.2",
    "SAMOVAR_PRESENCE_GRACE": "0",
    "SAMOVAR_WEBSOCKET_MAX_MESSAGE_BYTES": "1000",
}


@pytest.fixture(scope="module", params=["hypercorn", "uvicorn"])
def server(request: pytest.FixtureRequest, module_serve: Callable[..., AppServer]) -> AppServer:
    """Shared by the tests, each of which waits until nobody is left."""
    return module_serve("tests.realtime.served:app", arguments=["--server", request.param], env=QUICK)


async def call(server: AppServer, path: str, method: str = "GET") -> Any:
    def ask() -> Any:
        asked = urllib.request.Request(server.url + path, method=method)
        with urllib.request.urlopen(asked, timeout=PATIENCE) as response:
            return json.loads(response.read() or b"null")

    return await asyncio.to_thread(ask)


async def nobody_is_left(server: AppServer) -> None:
    async def closed() -> bool:
        left = await call(server, "/open")
        return bool(left["subscriptions"] == 0 and left["present"] == 0)

    await until_async(closed, "every subscription and presence to end")


def deaf_socket(server: AppServer, request: bytes) -> socket.socket:
    """A client with a tiny window that says one thing and never reads."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    client.sendall(request)
    return client


def handshake(server: AppServer) -> bytes:
    return (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def url(server: AppServer, path: str) -> str:
    return server.url.replace("http", "ws", 1) + path


async def read(ws: ClientConnection, count: int) -> list[int]:
    async with asyncio.timeout(60):
        return [int((await ws.recv())[:6]) for _ in range(count)]


async def test_a_websocket_that_vanishes_without_a_close_leaves_nothing_behind(server: AppServer) -> None:
    async with connect(url(server, "/ws")) as ws:
        for empty in ("", b""):
            await ws.send(empty)
            assert await ws.recv() == "echo 0"
        assert (await call(server, "/open"))["present"] == 1
        ws.transport.abort()
        await nobody_is_left(server)


async def test_a_websocket_that_does_not_read_slows_nobody_and_is_cut(server: AppServer) -> None:
    with deaf_socket(server, handshake(server)) as deaf:
        async with connect(url(server, "/ws"), max_queue=None) as ws:
            await ws.send("hi")
            assert await ws.recv() == "echo 2"
            await call(server, "/publish/1000/8000", "POST")
            assert await read(ws, 1000) == list(range(1000))
            assert (await call(server, "/open"))["queued"] <= 60
        await nobody_is_left(server)
        assert deaf.fileno() > 0


async def test_an_event_stream_that_does_not_read_slows_nobody_and_is_cut(server: AppServer) -> None:
    asked = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()
    with deaf_socket(server, asked) as deaf:
        async with connect(url(server, "/ws"), max_queue=None) as ws:
            await ws.send("hi")
            assert await ws.recv() == "echo 2"
            await call(server, "/publish/1000/8000", "POST")
            assert await read(ws, 1000) == list(range(1000))
        await nobody_is_left(server)
        assert deaf.fileno() > 0


async def test_an_event_stream_that_vanishes_while_idle_is_noticed(server: AppServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
    async with asyncio.timeout(60):
        await reader.readuntil(b"id: ")
    assert (await call(server, "/open"))["subscriptions"] == 1
    writer.transport.abort()
    await nobody_is_left(server)


async def test_a_poll_whose_client_vanishes_ends_by_its_time_limit(server: AppServer) -> None:
    cursor = (await call(server, "/poll"))["cursor"]
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    asked = f"GET /poll?since={cursor}&wait=1 HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n"
    writer.write(asked.encode())
    await writer.drain()

    async def waiting() -> bool:
        return bool((await call(server, "/open"))["subscriptions"])

    await until_async(waiting)
    writer.transport.abort()
    await nobody_is_left(server)


@pytest.mark.parametrize(
    ("headers", "status"), [({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403)]
)
async def test_a_foreign_page_is_refused_on_the_wire(
    server: AppServer, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        async with connect(url(server, "/ws"), additional_headers=headers):
            raise AssertionError("it was let in")
    assert refused.value.response.status_code == status


async def test_a_malformed_cursor_is_400_on_the_wire(server: AppServer) -> None:
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        async with connect(url(server, "/ws?since=nonsense")):
            raise AssertionError("it was let in")
    assert refused.value.response.status_code == 400


async def test_a_message_over_the_limit_is_1009_on_the_wire(server: AppServer) -> None:
    async with connect(url(server, "/ws")) as ws:
        await ws.send("x" * 1000)
        assert await ws.recv() == "echo 1000"
        await ws.send("x" * 1001)
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            await asyncio.wait_for(ws.recv(), 60)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009
    await nobody_is_left(server)


async def test_a_healed_websocket_gets_everything_in_order(server: AppServer) -> None:
    async with connect(url(server, "/ws"), max_queue=1) as ws, Scope("test") as scope:
        await ws.send("hi")
        assert await ws.recv() == "echo 2"
        publishing = scope.start(call(server, "/publish/1500/4000", "POST"))
        received = []
        async with asyncio.timeout(60):
            for n in range(1500):
                received.append(int((await ws.recv())[:6]))
                if n % 300 == 0:
                    await asyncio.sleep(0.05)
        await publishing
    assert received == list(range(1500))
    await nobody_is_left(server)


async def test_a_kick_ends_an_own_stream_and_a_waiting_poll_on_the_wire(server: AppServer) -> None:
    cursor = (await call(server, "/poll"))["cursor"]
    stream, streaming = await asyncio.open_connection("127.0.0.1", server.port)
    poll, polling = await asyncio.open_connection("127.0.0.1", server.port)
    host = f"Host: 127.0.0.1:{server.port}\r\nConnection: close\r\n\r\n"
    streaming.write(f"GET /own?user=ann HTTP/1.1\r\n{host}".encode())
    polling.write(f"GET /poll?user=ann&wait=600&since={cursor} HTTP/1.1\r\n{host}".encode())
    async with asyncio.timeout(60):
        await stream.readuntil(b"data: tick\n\n")

        async def both() -> bool:
            return bool((await call(server, "/open"))["connections"] == 2)

        await until_async(both, "the stream and the poll to wait")
        await call(server, "/kick/ann", "POST")
        word = b'{"code":4401,"reason":"signed out","retry":false}'
        assert b"event: closed\ndata: " + word in await stream.read()
        answer = await poll.read()
    assert answer.startswith(b"HTTP/1.1 401 ") and answer.endswith(word)
    streaming.close()
    polling.close()
    await nobody_is_left(server)


@pytest.mark.parametrize("name", ["hypercorn", "uvicorn"])
async def test_a_peer_that_answers_no_ping_is_cut(
    serve: Callable[..., Awaitable[AppServer]], name: str
) -> None:
    quick = {**QUICK, "SAMOVAR_WEBSOCKET_PING_INTERVAL": "0.1"}
    server = await serve("tests.realtime.served:app", arguments=["--server", name], env=quick)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(handshake(server))  # and not a word more
    async with asyncio.timeout(60):
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            while await reader.read(1000):
                pass
    writer.close()
    await nobody_is_left(server)
