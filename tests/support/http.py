"""An HTTP client over a real socket, for tests that look at the wire: h11 parses, nothing is hidden.

``get`` and ``post`` read a whole answer. ``open_stream`` reads one as it comes, with the time each part took; what it
reads of server-sent events follows the WHATWG text, independently of the package's own parser. Every wait has a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import h11

WAIT = 60.0  # seconds that any single read may take


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer; header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Event:
    """One block of an event stream; ``comments`` are those that stood before it."""

    event: str = "message"
    data: str = ""
    id: str | None = None
    retry: int | None = None
    comments: list[str] = field(default_factory=list)

    def json(self) -> Any:
        return json.loads(self.data)


class Stream:
    """An answer that is read as it comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.machine = h11.Connection(h11.CLIENT)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.last_event_id = ""
        self._text = ""

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> None:
        """Send the request and read the answer's head."""
        given = {"Host": urlsplit(target).netloc, "Connection": "close", **headers}
        if body or method == "POST":
            given["Content-Length"] = str(len(body))
        url = urlsplit(target)
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        request = h11.Request(method=method, target=path, headers=list(given.items()))
        self.writer.write(self.machine.send(request) or b"")
        if body:
            self.writer.write(self.machine.send(h11.Data(data=body)) or b"")
        self.writer.write(self.machine.send(h11.EndOfMessage()) or b"")
        head = await self._next()
        while isinstance(head, h11.InformationalResponse):
            head = await self._next()
        assert isinstance(head, h11.Response), f"an answer was expected, {head!r} came"
        self.status = head.status_code
        self.headers = {name.decode(): value.decode() for name, value in head.headers}

    async def _next(self) -> h11.Event:
        while (event := self.machine.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout(WAIT):
                self.machine.receive_data(await self.reader.read(65536))
        assert isinstance(event, h11.Event), f"the connection is over: {event!r}"
        return event

    async def chunk(self) -> bytes:
        """The next piece of the body; empty at its end.

        Raises:
            TimeoutError: nothing came for :data:`WAIT` seconds.
            h11.RemoteProtocolError: the connection ended before the answer did.
        """
        event = await self._next()
        if isinstance(event, h11.EndOfMessage):
            return b""
        assert isinstance(event, h11.Data)
        return bytes(event.data)

    async def rest(self) -> bytes:
        """The body to its end."""
        parts = []
        while part := await self.chunk():
            parts.append(part)
        return b"".join(parts)

    async def block(self) -> list[str]:
        """The lines of the next block of an event stream, comments included; empty at the end."""
        while "\n\n" not in self._text:
            part = await self.chunk()
            if not part:
                return []
            self._text = (self._text + part.decode()).replace("\r\n", "\n").replace("\r", "\n")
        block, _, self._text = self._text.partition("\n\n")
        return block.split("\n")

    async def event(self, name: str | None = None) -> Event:
        """The next event that has data, with *name* when one is given; what stands before it is passed over.

        Raises:
            EOFError: the stream ended first.
        """
        comments: list[str] = []
        while lines := await self.block():
            found = self._parse(lines, comments)
            if found.data and name in (None, found.event):
                return found
        raise EOFError(f"the stream ended before an event {name or 'of any kind'} came")

    def _parse(self, lines: list[str], comments: list[str]) -> Event:
        found, data = Event(comments=comments), []
        for line in lines:
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match key:
                case "":
                    comments.append(value)
                case "data":
                    data.append(value)
                case "event":
                    found.event = value
                case "id":
                    found.id = self.last_event_id = value
                case "retry":
                    found.retry = int(value)
        found.data = "\n".join(data)
        return found

    def abort(self) -> None:
        """Vanish: reset the connection."""
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def open_stream(
    url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
) -> AsyncIterator[Stream]:
    """Send a request and give its answer to be read as it comes; the connection is closed in the end."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    stream = Stream(reader, writer)
    try:
        await stream.send(method, url, headers or {}, body)
        yield stream
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def get(url: str, headers: Mapping[str, str] | None = None) -> Response:
    """GET, with the whole body."""
    async with open_stream(url, headers=headers) as stream:
        return Response(stream.status, stream.headers, await stream.rest())


async def post(url: str, body: bytes | object = b"", headers: Mapping[str, str] | None = None) -> Response:
    """POST bytes, or anything else as JSON; with the whole answer."""
    if isinstance(body, bytes):
        data, extra = body, {}
    else:
        data, extra = json.dumps(body).encode(), {"Content-Type": "application/json"}
    async with open_stream(url, method="POST", headers={**extra, **(headers or {})}, body=data) as stream:
        return Response(stream.status, stream.headers, await stream.rest())
