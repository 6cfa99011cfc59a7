"""An app hears of its end before the server waits for its connections, under servers of others too."""

from __future__ import annotations

import asyncio
import functools
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.asyncio.client import unix_connect
from websockets.exceptions import ConnectionClosed

from samovar import Samovar
from samovar.core.asgi.forewarned import SIGNALS, Forewarned

from ..support.process import Process
from ..support.until import PATIENCE, until_async

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """Stands for a server: its handlers of both signals, and what they have heard."""
    heard: list[int] = []
    before = [signal.signal(number, lambda number, frame: heard.append(number)) for number in SIGNALS]
    yield heard
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
async def test_the_app_is_told_and_the_servers_handler_runs(heard: list[int], number: signal.Signals) -> None:
    told = asyncio.Event()
    forewarned = Forewarned(told.set)
    forewarned.listen()
    forewarned.listen()
    signal.raise_signal(number)
    assert heard == [number]
    await asyncio.wait_for(told.wait(), 60)
    await forewarned.close()
    await forewarned.close()
    told.clear()
    signal.raise_signal(number)
    await asyncio.sleep(0)
    assert heard == [number, number] and not told.is_set()


async def test_what_somebody_else_took_meanwhile_is_left_to_them(heard: list[int]) -> None:
    forewarned = Forewarned(lambda: None)
    forewarned.listen()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    await forewarned.close()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
async def test_a_signal_that_nobody_handles_is_left_alone(heard: list[int], handler: Any) -> None:
    signal.signal(signal.SIGTERM, handler)
    forewarned = Forewarned(lambda: None)
    forewarned.listen()
    assert signal.getsignal(signal.SIGTERM) is handler
    await forewarned.close()


async def test_in_another_thread_nothing_is_touched(heard: list[int]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    await asyncio.to_thread(Forewarned(lambda: None).listen)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("hosted", [False, True], ids=["a server of others", "our own"])
async def test_it_listens_from_start_up_to_shut_down(heard: list[int], hosted: bool) -> None:
    app = Samovar(__name__, static_folder=None)
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    states: list[bool] = []
    before = signal.getsignal(signal.SIGTERM)

    async def send(message: Any) -> None:
        states.append(signal.getsignal(signal.SIGTERM) != before)
        if message["type"] == "lifespan.startup.complete":
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)
            states.append(app.shutdown_event.is_set())
            inbox.put_nowait({"type": "lifespan.shutdown"})

    inbox.put_nowait({"type": "lifespan.startup"})
    scope: dict[str, Any] = {
        "type": "lifespan",
        "asgi": {"version": "3.0"},
        "extensions": {"samovar": {}} if hosted else None,
    }
    await app(scope, inbox.get, send)
    assert heard == [signal.SIGTERM]
    assert states == ([False, False, False] if hosted else [True, True, False])


class Stream:
    """As a connection's object of Hypercorn."""

    def __init__(self) -> None:
        self.context = SimpleNamespace(terminated=asyncio.Event())

    async def send(self, message: Any) -> None:
        """Takes what the app sends."""


@pytest.mark.parametrize("module", ["hypercorn.protocol.ws_stream", "elsewhere"])
async def test_it_listens_to_hypercorns_event_once_until_it_is_closed(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stream, "__module__", module)
    told: list[str] = []
    for closed in (False, True):
        stream, forewarned = Stream(), Forewarned(lambda: told.append("told"))
        before = len(asyncio.all_tasks())
        forewarned.overhear(functools.partial(stream.send))  # by a middleware
        assert len(asyncio.all_tasks()) == before
        for _ in range(2):
            forewarned.overhear(stream.send)
        assert len(asyncio.all_tasks()) == before + (module != "elsewhere")
        if closed:
            await forewarned.close()
        stream.context.terminated.set()
        for _ in range(3):
            await asyncio.sleep(0)
        await forewarned.close()
    assert told == ([] if module == "elsewhere" else ["told"])


SERVERS: dict[str, list[str]] = {
    "uvicorn": ["uvicorn", "--uds", "{path}"],
    "hypercorn with a worker": ["hypercorn", "--bind", "unix:{path}", "--workers", "1"],
}


@pytest.fixture(params=SERVERS.values(), ids=list(SERVERS))
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Path], Process]]:
    running: list[Process] = []

    def start(path: Path) -> Process:
        arguments = [argument.format(path=path) for argument in request.param]
        command = [sys.executable, "-m", *arguments, "tests.realtime.served:app"]
        running.append(Process(command, log=tmp_path / "server.log", cwd=ROOT))
        return running[-1]

    yield start
    for process in running:
        process.stop()


async def test_a_server_on_its_own_ends_with_a_stream_and_a_websocket_open(
    start: Callable[[Path], Process], tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    process = start(path)

    async def up() -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(path)
        except OSError:
            return False
        writer.close()
        return True

    await until_async(up, "the server's socket")
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"id: ")
        async with unix_connect(str(path), "ws://localhost/ws") as ws:
            await ws.send("")
            await ws.recv()
            process.signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                await ws.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "restarting: come back")
        assert (await reader.read()).endswith(b"0\r\n\r\n"), "the stream ends as a whole answer"
        writer.close()
    await asyncio.to_thread(process.wait, PATIENCE)
