"""The proxy of the fault tests does what it says, else those tests prove nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from .echo import EchoServer
from .proxy import Proxy, ThreadProxy
from .until import until


@pytest.fixture
async def echo() -> AsyncIterator[EchoServer]:
    async with EchoServer() as server:
        yield server


@pytest.fixture
async def proxy(echo: EchoServer) -> AsyncIterator[Proxy]:
    async with Proxy(echo.port) as proxy:
        yield proxy


@contextlib.asynccontextmanager
async def connect(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, words: bytes) -> bytes:
    writer.write(words)
    return await asyncio.wait_for(reader.readexactly(len(words)), 60)


async def test_bytes_pass_both_ways_and_connections_are_counted(proxy: Proxy) -> None:
    async with connect(proxy.port) as first, connect(proxy.port) as second:
        assert await say(*first, b"one") == b"one"
        assert await say(*second, b"three") == b"three"
        assert (proxy.accepted, proxy.open) == (2, 2)
        assert (proxy.received, proxy.sent) == (8, 8)


async def test_a_large_body_arrives_whole(proxy: Proxy) -> None:
    body = bytes(range(256)) * 8192
    async with connect(proxy.port) as (reader, writer):
        assert await say(reader, writer, body) == body


async def test_cut_resets_both_ends_at_once_and_lets_new_ones_through(proxy: Proxy, echo: EchoServer) -> None:
    async with connect(proxy.port) as (reader, writer):
        assert await say(reader, writer, b"hello") == b"hello"
        assert proxy.cut() == 1
        assert proxy.open == 0
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), 60)
    await until(lambda: echo.open == 0, "the server to notice")
    async with connect(proxy.port) as again:
        assert await say(*again, b"back") == b"back"
    assert proxy.accepted == 2


async def test_refuse_resets_new_connections_until_restored(proxy: Proxy) -> None:
    async with connect(proxy.port) as open_before:
        assert await say(*open_before, b"a") == b"a"
        proxy.refuse()
        async with connect(proxy.port) as (reader, _):
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(1), 60) == b""
        assert await say(*open_before, b"b") == b"b"
        proxy.restore()
        async with connect(proxy.port) as after:
            assert await say(*after, b"c") == b"c"
    assert proxy.accepted == 2


async def test_a_stalled_link_passes_nothing_and_closes_nothing(proxy: Proxy, echo: EchoServer) -> None:
    async with connect(proxy.port) as (reader, writer):
        assert await say(reader, writer, b"before") == b"before"
        proxy.stall()
        writer.write(b"held")
        await asyncio.wait([reading := asyncio.ensure_future(reader.read(10))], timeout=0.1)
        assert not reading.done()
        assert echo.received == b"before"
        proxy.restore()
        assert await asyncio.wait_for(reading, 60) == b"held"


async def test_the_server_behind_a_stalled_link_does_not_hear_of_the_end(
    proxy: Proxy, echo: EchoServer
) -> None:
    async with connect(proxy.port) as (reader, writer):
        await say(reader, writer, b"x")
        proxy.stall()
    await asyncio.sleep(0)
    assert (echo.open, proxy.open) == (1, 1)
    proxy.restore()
    await until(lambda: echo.open == 0, "the end to be passed on")


async def test_a_stalled_link_can_be_cut(proxy: Proxy, echo: EchoServer) -> None:
    async with connect(proxy.port) as (reader, writer):
        await say(reader, writer, b"x")
        proxy.stall()
        writer.write(b"lost")
        await until(lambda: proxy.open == 1, "the link")
        proxy.cut()
        await until(lambda: echo.open == 0, "the server to notice")
    proxy.restore()
    assert echo.received == b"x"


async def test_an_end_is_passed_on_and_the_answer_still_comes(proxy: Proxy) -> None:
    async with connect(proxy.port) as (reader, writer):
        writer.write(b"last words")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 60) == b"last words"


async def test_throttle_slows_down(proxy: Proxy) -> None:
    proxy.throttle(100_000)
    async with connect(proxy.port) as (reader, writer):
        start = time.monotonic()
        await say(reader, writer, b"x" * 20_000)
        assert time.monotonic() - start >= 0.2
        proxy.throttle(1000)
        proxy.throttle(None)
        await say(reader, writer, b"x" * 200_000)  # in less than the 200 s that it would take otherwise


async def test_no_server_behind_it_is_a_reset(proxy: Proxy, echo: EchoServer) -> None:
    await echo.stop()
    async with connect(proxy.port) as (reader, _):
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(1), 60) == b""
    assert proxy.accepted == 0


@pytest.fixture
def sync_proxy(echo: EchoServer) -> Iterator[ThreadProxy]:
    with ThreadProxy(echo.port) as proxy:
        yield proxy


async def test_the_proxy_in_a_thread_does_the_same(sync_proxy: ThreadProxy) -> None:
    def client() -> None:
        with socket.create_connection(("127.0.0.1", sync_proxy.port), timeout=60) as sock:
            sock.sendall(b"ping")
            assert sock.recv(4) == b"ping"
            assert (sync_proxy.accepted, sync_proxy.open) == (1, 1)
            assert (sync_proxy.received, sync_proxy.sent) == (4, 4)
            assert sync_proxy.cut() == 1
            with pytest.raises(ConnectionResetError):
                sock.recv(1)

    await asyncio.to_thread(client)
