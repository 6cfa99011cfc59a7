"""Views that wait, on real servers: their clients may go, and their connections serve on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from ..support.server import AppServer
from ..support.until import until_async


@pytest.fixture(scope="module", params=["hypercorn", "uvicorn"])
def served(request: pytest.FixtureRequest, module_serve: Callable[..., AppServer]) -> AppServer:
    return module_serve("tests.core.served:app", arguments=["--server", request.param])


@pytest.fixture
async def server(served: AppServer) -> AppServer:
    """The shared server, with an empty log."""
    line = await Line.to(served)
    line.say("POST", "/forget")
    await line.hear()
    await line.close()
    return served


class Line:
    """One plain connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, server: AppServer) -> Line:
        return cls(*await asyncio.open_connection("127.0.0.1", server.port))

    def say(self, method: str, path: str, body: bytes = b"", *headers: str) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *headers, "", ""]
        self.writer.write("\r\n".join(lines).encode() + body)

    async def hear(self) -> bytes:
        async with asyncio.timeout(60):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            return await self.reader.readexactly(length)

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def logged(server: AppServer, entry: str) -> None:
    async def there() -> bool:
        line = await Line.to(server)
        line.say("GET", "/log")
        entries = json.loads(await line.hear())
        await line.close()
        return entry in entries

    await until_async(there, f"{entry!r} in the log")


@pytest.mark.parametrize("size", [0, 5_000_000], ids=["no body", "unread body"])
async def test_a_client_that_goes_ends_its_view(server: AppServer, size: int) -> None:
    line = await Line.to(server)
    line.say("POST" if size else "GET", "/forever", bytes(size))
    await logged(server, "begun")
    await line.close()
    await logged(server, "/forever CancelledError")


async def test_a_client_that_goes_ends_its_poll(server: AppServer) -> None:
    line = await Line.to(server)
    line.say("GET", "/echo")
    await line.hear()
    line.say("GET", "/poll")
    await logged(server, "polling")
    await line.close()
    await logged(server, "/poll CancelledError")


@pytest.mark.parametrize("pause", [0, 0.05], ids=["pipelined", "in turn"])
async def test_a_connection_serves_one_request_after_the_other(server: AppServer, pause: float) -> None:
    line = await Line.to(server)
    bodies = [b"", b"small", b"x" * 200_000, b"", b"last"]
    heard = []
    for number, body in enumerate(bodies):
        line.say("POST" if body else "GET", f"/echo?{number}", body)
        if pause:
            heard.append(await line.hear())
    if not pause:
        heard = [await line.hear() for _ in bodies]
    assert heard == [body + b"|%d" % number for number, body in enumerate(bodies)]
    await line.close()


async def test_a_body_that_is_announced_is_asked_for_and_comes(server: AppServer) -> None:
    line = await Line.to(server)
    line.writer.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    async with asyncio.timeout(60):
        assert b" 100 " in await line.reader.readuntil(b"\r\n\r\n")
    line.writer.write(b"hello")
    assert await line.hear() == b"hello|"
    await line.close()
