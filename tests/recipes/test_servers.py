"""Every server carries a plain request, a websocket and an event stream, and ends on SIGTERM though one is open."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
from aioquic.asyncio.client import connect as connect_quic
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent
from websockets.asyncio.client import connect
from wsproto.frame_protocol import FrameProtocol

from ..services import ROOT
from ..support.certificates import make_certificates
from ..support.ports import free_port, release_port
from ..support.process import Process
from ..support.server import AppServer

Event = TypeVar("Event", bound=h2.events.Event)

APP = "examples.recipes.served:app"
COMMANDS = {
    "hypercorn": f"hypercorn {APP} --workers 0 --bind 127.0.0.1:PORT",
    "uvicorn": f"uvicorn {APP} --host 127.0.0.1 --port PORT",
    "granian": f"granian {APP} --interface asgi --host 127.0.0.1 --port PORT",
    "daphne": f"daphne {APP} -b 127.0.0.1 -p PORT",
}
QUIC = (
    f"hypercorn {APP} --workers 0 --certfile server.crt --keyfile server.key "
    "--bind 127.0.0.1:PORT --quic-bind 127.0.0.1:PORT"
)
INSIDE = "uvicorn examples.recipes.in_starlette:app --host 127.0.0.1 --port PORT"


@dataclass
class Served:
    """A running server."""

    name: str
    port: int
    process: Process
    certificates: Path


SERVERS = {**COMMANDS, "h2": COMMANDS["hypercorn"], "tls": QUIC, "inside": INSIDE}


class Servers:
    """All servers, which start beside each other: starting is most of what these tests take.

    One that a test has ended is started again for the next.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._started = {name: self._start(name) for name in SERVERS}

    def _start(self, name: str) -> Served:
        port = free_port()
        self._stack.callback(release_port, port)
        words = SERVERS[name].replace("PORT", str(port)).replace("server.", f"{self._folder}/server.").split()
        process = Process([sys.executable, "-m", *words], log=self._folder / f"{name}-{port}.log", cwd=ROOT)
        self._stack.callback(process.kill)  # how they end is seen below
        return Served(name, port, process, self._folder)

    def __getitem__(self, name: str) -> Served:
        if self._started[name].process.popen.poll() is not None:
            self._started[name] = self._start(name)
        server = self._started[name]
        server.process.wait_for_port(server.port)
        return server


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers of this module."""
    with ExitStack() as stack:
        yield Servers(make_certificates(tmp_path_factory.mktemp("servers")), stack)


@pytest.fixture(params=COMMANDS)
def server(request: pytest.FixtureRequest, servers: Servers) -> Served:
    return servers[request.param]


@asynccontextmanager
async def client_of(server: Served, **options: object) -> AsyncIterator[httpx.AsyncClient]:
    base = f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(base_url=base, timeout=60, **options) as client:  # type: ignore[arg-type]  # httpx checks
        yield client


async def test_a_request(server: Served) -> None:
    async with client_of(server) as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.json()) == (200, {"version": "1.1"})


async def test_a_websocket(server: Served) -> None:
    async with connect(f"ws://127.0.0.1:{server.port}/echo") as socket, asyncio.timeout(60):
        for message in ("tea", b"\0\1", "x" * 100_000):
            await socket.send(message)
            assert await socket.recv() == message


async def test_an_event_stream(server: Served) -> None:
    async with client_of(server) as client, client.stream("GET", "/prices") as stream:
        lines = stream.aiter_lines()
        await until(lines, "event: subscribed")
        assert (await client.post("/prices/3")).status_code == 204
        await until(lines, '"data":3')


async def until(lines: AsyncIterator[str], wanted: str) -> None:
    async with asyncio.timeout(60):
        async for line in lines:
            if wanted in line:
                return
    raise AssertionError(f"the stream ended before {wanted!r}")


# --- HTTP/2 and HTTP/3, which Hypercorn speaks -----------------------------------------------------------------------


async def test_a_request_by_http2(servers: Servers) -> None:
    async with client_of(servers["h2"], http1=False, http2=True) as client:
        answer = await client.get("/")
    assert (answer.http_version, answer.json()) == ("HTTP/2", {"version": "2"})


async def test_an_event_stream_by_http2(servers: Servers) -> None:
    # A second request beside it on the same connection meets a KeyError of Hypercorn now and then, when the client
    # has a word more for a stream that has ended; so the other comes by a connection of its own.
    by_2 = client_of(servers["h2"], http1=False, http2=True)
    async with by_2 as client, client_of(servers["h2"]) as other, client.stream("GET", "/prices") as stream:
        assert stream.http_version == "HTTP/2"
        lines = stream.aiter_lines()
        await until(lines, "event: subscribed")
        await other.post("/prices/4")
        await until(lines, '"data":4')


async def test_a_body_that_comes_behind_its_answer_ends_nothing_else(
    serve: Callable[..., Awaitable[AppServer]],
) -> None:
    server = await serve(APP)  # by samovar run: Hypercorn's own command drops the connection
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    client = h2.connection.H2Connection(h2.config.H2Configuration())
    client.initiate_connection()
    head = [(":scheme", "http"), (":authority", "localhost")]
    client.send_headers(1, [(":method", "POST"), (":path", "/prices/4"), *head, ("content-length", "3")])

    async def ended(stream: int) -> None:
        writer.write(client.data_to_send())
        async with asyncio.timeout(60):
            while data := await reader.read(65536):
                for event in client.receive_data(data):
                    if isinstance(event, h2.events.StreamEnded) and event.stream_id == stream:
                        return
        raise EOFError(server.output())

    await ended(1)
    client.send_data(1, b"tea", end_stream=True)
    writer.write(client.data_to_send())
    client.send_headers(3, [(":method", "GET"), (":path", "/"), *head], end_stream=True)
    await ended(3)
    writer.close()
    await writer.wait_closed()
    assert "KeyError" not in server.output()


class Http2Socket:
    """A websocket over HTTP/2, by an extended CONNECT (RFC 8441).

    Args:
        reader: of the connection.
        writer: of the connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration())
        self.frames = FrameProtocol(client=True, extensions=[])
        self.events: list[h2.events.Event] = []

    async def open(self, path: str) -> str:
        """Shake hands; returns the status."""
        self.h2.initiate_connection()
        await self._flush()
        await self.event(h2.events.RemoteSettingsChanged)
        headers = {":method": "CONNECT", ":protocol": "websocket", ":scheme": "http", ":path": path}
        headers |= {":authority": "127.0.0.1", "sec-websocket-version": "13"}
        self.h2.send_headers(1, list(headers.items()))
        await self._flush()
        answered = await self.event(h2.events.ResponseReceived)
        return next(value.decode() for name, value in answered.headers if name == b":status")

    async def say(self, text: str) -> None:
        self.h2.send_data(1, bytes(self.frames.send_data(text, fin=True)))
        await self._flush()

    async def hear(self) -> str:
        while True:
            self.frames.receive_bytes((await self.event(h2.events.DataReceived)).data)
            for frame in self.frames.received_frames():
                return str(frame.payload)

    async def event(self, kind: type[Event]) -> Event:
        """The next event of that kind; others before it are passed over."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if isinstance(event, kind):
                    return event
            data = await self.reader.read(65536)
            assert data, "the server closed the connection"
            self.events += self.h2.receive_data(data)
            await self._flush()

    async def _flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()


async def test_a_websocket_by_http2(servers: Servers) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", servers["h2"].port)
    socket = Http2Socket(reader, writer)
    async with asyncio.timeout(60):
        assert await socket.open("/echo") == "200"
        await socket.say("tea")
        assert await socket.hear() == "tea"
    writer.close()
    await writer.wait_closed()


class Http3Client(QuicConnectionProtocol):
    """One request by HTTP/3."""

    answer: asyncio.Future[tuple[str, bytes]]
    status = ""
    body = b""

    async def get(self, path: str) -> tuple[str, bytes]:
        """Status and body."""
        self.answer = asyncio.get_running_loop().create_future()
        self.http = H3Connection(self._quic)
        headers = {
            b":method": b"GET",
            b":scheme": b"https",
            b":authority": b"127.0.0.1",
            b":path": path.encode(),
        }
        self.http.send_headers(
            self._quic.get_next_available_stream_id(), list(headers.items()), end_stream=True
        )
        self.transmit()
        return await self.answer

    def quic_event_received(self, event: QuicEvent) -> None:
        for happened in self.http.handle_event(event) if hasattr(self, "http") else ():
            if isinstance(happened, HeadersReceived):
                self.status = dict(happened.headers)[b":status"].decode()
            elif isinstance(happened, DataReceived):
                self.body += happened.data
                if happened.stream_ended:
                    self.answer.set_result((self.status, self.body))


async def test_a_request_by_http3(servers: Servers) -> None:
    server = servers["tls"]
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, cafile=str(server.certificates / "ca.crt"))
    async with asyncio.timeout(60):
        async with connect_quic(
            "127.0.0.1", server.port, configuration=configuration, create_protocol=Http3Client
        ) as client:
            assert isinstance(client, Http3Client)
            status, body = await client.get("/")
    assert (status, json.loads(body)) == ("200", {"version": "3"})


async def test_tls_tells_of_http3_and_agrees_on_http2(servers: Servers) -> None:
    server = servers["tls"]
    trust = ssl.create_default_context(cafile=str(server.certificates / "ca.crt"))
    async with httpx.AsyncClient(http2=True, verify=trust, timeout=60) as client:
        answer = await client.get(f"https://127.0.0.1:{server.port}/")
    assert answer.http_version == "HTTP/2"
    assert f'h3=":{server.port}"' in answer.headers["alt-svc"]


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_sigterm_ends_it_though_a_stream_and_a_websocket_are_open(server: Served) -> None:
    async with client_of(server) as client, connect(f"ws://127.0.0.1:{server.port}/echo") as socket:
        await socket.send("tea")
        assert await socket.recv() == "tea"
        async with client.stream("GET", "/prices") as stream:
            lines = stream.aiter_lines()
            await until(lines, "event: subscribed")
            before = len(server.process.output())
            server.process.signal(signal.SIGTERM)
            code = await asyncio.to_thread(server.process.wait, 60)
    assert code in (0, -signal.SIGTERM), server.process.output()  # uvicorn raises the signal again in the end
    assert "Traceback" not in server.process.output()[before:]


async def test_sigterm_ends_a_stream_of_an_app_inside_another(servers: Servers) -> None:
    server = servers["inside"]
    async with client_of(server) as client, client.stream("GET", "/live/prices") as stream:
        await until(stream.aiter_lines(), "event: subscribed")
        server.process.signal(signal.SIGTERM)
        code = await asyncio.to_thread(server.process.wait, 60)
    assert code in (0, -signal.SIGTERM), server.process.output()
