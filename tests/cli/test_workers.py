"""``samovar run --workers N`` and ``samovar hub``: one channel over all workers, deaths, restarts, refusals."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import h11
import pytest
import websockets
from websockets.exceptions import ConnectionClosed

from samovar.core.cli import supervisor
from samovar.core.cli.listeners import bind_shared
from tests.support.http import Stream, get, open_stream, post
from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.until import PATIENCE, until, until_async

from .helpers import ROOT, Served, samovar

APP = ("--app", "tests.cli.apps.shared:app")
Serve = Callable[..., Served]


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    """A folder in which a file named for it makes workers fail."""
    folder = tmp_path / "flags"
    folder.mkdir()
    return folder


@pytest.fixture
def serve(tmp_path: Path, flags: Path) -> Iterator[Serve]:
    running: list[Served] = []

    def start(*options: str, workers: int = 2, env: dict[str, str | None] | None = None) -> Served:
        arguments = [*APP, "run", "--port", "0", "--workers", str(workers), *options]
        log = tmp_path / f"samovar{len(running)}.log"
        running.append(
            Served(*arguments, folder=ROOT, log=log, env={"SHARED_FLAGS": str(flags)} | (env or {}))
        )
        running[-1].wait()
        return running[-1]

    yield start
    for one in running:
        one.process.stop()


def url_of(served: Served) -> str:
    return served.said()[-1]["url"]


async def worker_of(url: str) -> str | None:
    """The worker that answers now; None when it died over it."""
    try:
        return (await get(url)).headers["worker"]
    except (ConnectionResetError, h11.RemoteProtocolError):
        return None


async def all_workers(url: str, count: int) -> set[str]:
    """The process ids of *count* workers, found by asking until that many have answered."""
    found: set[str] = set()

    async def one_more() -> bool:
        found.update(filter(None, [await worker_of(url)]))
        return len(found) >= count

    await until_async(one_more, f"{count} workers, of which {found} answered")
    return found


@asynccontextmanager
async def streams_of_all(url: str, count: int) -> AsyncIterator[dict[str, Stream]]:
    """An event stream on each of *count* workers, by their process ids."""
    async with AsyncExitStack() as stack:
        found: dict[str, Stream] = {}

        async def one_more() -> bool:
            stream = await stack.enter_async_context(open_stream(f"{url}/events"))
            if found.setdefault(stream.headers["worker"], stream) is stream:
                await stream.event("subscribed")
            return len(found) == count

        await until_async(one_more, f"streams on {count} workers")
        yield found


def runs(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("server", ["hypercorn", "uvicorn"])
async def test_a_message_posted_anywhere_reaches_the_clients_of_all(serve: Serve, server: str) -> None:
    served = serve("--server", server, workers=3)
    url = url_of(served)
    async with streams_of_all(url, 3) as streams:
        posted_by = set()
        for n in range(12):
            posted_by.add((await post(f"{url}/say", b"%d" % n)).headers["worker"])
        assert len(posted_by) > 1
        for stream in streams.values():
            assert [(await stream.event()).json()["data"] for _ in range(12)] == [str(n) for n in range(12)]
    answer = (await get(url)).json()
    assert "LocalBackend" in answer["hub"]
    assert answer["worker"] == "", "what the supervisor hands to a worker is not handed on"
    assert ", 3 workers; Ctrl-C stops)" in served.process.output()


class Follower:
    """A client that reads a channel and comes back with its cursor whenever it is cut."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.data: list[str] = []
        self.gaps = 0
        self.workers: list[str] = []

    async def follow(self, until_data: str) -> None:
        cursor = ""
        while until_data not in self.data:
            headers = {"Last-Event-ID": cursor} if cursor else {}
            try:
                async with open_stream(f"{self.url}/events", headers=headers) as stream:
                    self.workers.append(stream.headers["worker"])
                    while until_data not in self.data:
                        event = await stream.event()
                        cursor = stream.last_event_id
                        if event.event == "gap":
                            self.gaps += 1
                        elif event.event == "message":
                            self.data.append(event.json()["data"])
            except (EOFError, ConnectionResetError, h11.RemoteProtocolError):
                await asyncio.sleep(0.01)


async def say(url: str, text: str) -> None:
    """Post, again with the same id when the worker dies over it."""
    while True:
        try:
            answer = await post(f"{url}/say?id={text}", text.encode())
        except (ConnectionResetError, h11.RemoteProtocolError):
            continue
        assert answer.status == 200, answer.text
        return


@asynccontextmanager
async def under_load(url: str) -> AsyncIterator[list[Follower]]:
    """Three clients follow while messages are posted without end; in the end all have all of them, in order."""
    followers = [Follower(url) for _ in range(3)]
    over = asyncio.Event()
    count = 0

    async def load() -> None:
        nonlocal count
        while not over.is_set():
            await say(url, str(count))
            count += 1
            await asyncio.sleep(0.005)
        await say(url, "end")

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for follower in followers:
            group.create_task(follower.follow("end"))
        await until(lambda: all(follower.workers for follower in followers), "followers")
        group.create_task(load())
        await until(lambda: all(follower.data for follower in followers), "first messages")
        yield followers
        over.set()
    expected = [*map(str, range(count)), "end"]
    for follower in followers:
        assert follower.gaps == 0
        assert follower.data == expected[len(expected) - len(follower.data) :], (
            "nothing lost, doubled, out of order"
        )
        assert len(follower.data) > count / 2


async def test_a_killed_worker_is_replaced_and_its_clients_lose_nothing(serve: Serve) -> None:
    served = serve(workers=3)
    url = url_of(served)
    before = await all_workers(url, 3)
    async with under_load(url) as followers:
        victim = followers[0].workers[-1]
        os.kill(int(victim), signal.SIGKILL)
        await until(lambda: len(followers[0].workers) > 1, "the client elsewhere")
        after = await all_workers(url, 3)
    assert victim not in after
    assert len(after - before) == 1, "one new worker, the others as they were"
    assert f"(pid {victim}) was ended by SIGKILL; another one starts" in served.process.output()


async def test_a_hangup_replaces_all_workers_and_nothing_is_lost(serve: Serve) -> None:
    served = serve()
    url = url_of(served)
    before = await all_workers(url, 2)
    async with under_load(url) as followers:
        served.process.signal(signal.SIGHUP)
        await until(lambda: "Replaced 2 workers" in served.process.output(), "the last one")
    assert await all_workers(url, 2) & before == set()
    assert any(len(follower.workers) > 1 for follower in followers)
    assert not any(map(runs, before))
    assert served.process.output().count("after_serving ran") == 2
    assert "killed" not in served.process.output()


async def test_a_successor_that_fails_leaves_the_old_ones_in_place(serve: Serve, flags: Path) -> None:
    served = serve()
    url = url_of(served)
    before = await all_workers(url, 2)
    (flags / "fail start").touch()
    served.process.signal(signal.SIGHUP)
    await until(lambda: "the old ones stay" in served.process.output(), "the failure")
    assert await all_workers(url, 2) == before
    (flags / "fail start").unlink()
    served.process.signal(signal.SIGHUP)
    await until(lambda: "Replaced 2 workers" in served.process.output(), "the next try")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
async def test_a_signal_ends_all_workers_in_time(serve: Serve, number: signal.Signals) -> None:
    served = serve(env={"TEST_GRACE": "30"})  # nobody has to be cut
    url = url_of(served)
    pids = await all_workers(url, 2)
    async with streams_of_all(url, 2) as streams, websockets.connect(f"{url.replace('http', 'ws')}/ws") as ws:
        await ws.recv()
        served.process.signal(number)
        for stream in streams.values():
            await stream.rest()
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(ws.recv(), PATIENCE)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert await asyncio.to_thread(served.process.wait, PATIENCE) == 0
    assert not any(map(runs, pids))
    assert served.process.output().count("after_serving ran") == 2
    assert "Traceback" not in served.process.output()


async def test_a_second_ctrl_c_ends_all_at_once(serve: Serve, flags: Path) -> None:
    served = serve()
    pids = await all_workers(url_of(served), 2)
    (flags / "hang").touch()
    served.process.signal(signal.SIGINT)
    served.process.wait_until(lambda: "after_serving ran" in served.process.output(), what="hook that hangs")
    served.process.signal(signal.SIGINT)
    assert await asyncio.to_thread(served.process.wait, PATIENCE) == 130
    await until(lambda: not any(map(runs, pids)), "the workers' end")


async def test_a_worker_that_does_not_stop_is_killed(serve: Serve, flags: Path) -> None:
    served = serve(env={"SAMOVAR_BACKGROUND_TASK_SHUTDOWN_TIMEOUT": "0.5", "TEST_HOOKS": "0.5"})
    pids = await all_workers(url_of(served), 2)
    (flags / "hang").touch()
    served.process.signal(signal.SIGTERM)
    assert await asyncio.to_thread(served.process.wait, PATIENCE) == 0
    assert not any(map(runs, pids))
    assert "did not stop within 3 s and is killed" in served.process.output()


async def test_workers_end_with_their_supervisor(serve: Serve) -> None:
    served = serve()
    pids = await all_workers(url_of(served), 2)
    served.process.signal(signal.SIGKILL)
    await until(lambda: not any(map(runs, pids)), "the workers' end")


class Terminal:
    """``samovar run --workers 2`` as the foreground of a terminal of its own."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "samovar", *APP, "run", "--port", "0", "--workers", "2"],
            cwd=ROOT,
            preexec_fn=lambda: os.login_tty(slave),
        )
        os.close(slave)
        self.output = ""

    def wait_until(self, text: str) -> None:
        end = time.monotonic() + PATIENCE
        while text not in self.output:
            assert time.monotonic() < end, self.output
            if select.select([self.master], [], [], 0.1)[0]:
                self.output += os.read(self.master, 4096).decode()

    def pids(self) -> list[str]:
        return Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text().split()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.popen.kill()
    terminal.popen.wait()
    if terminal.master >= 0:
        os.close(terminal.master)


def test_ctrl_c_at_a_terminal_is_one_signal(terminal: Terminal) -> None:
    terminal.wait_until("2 workers; Ctrl-C stops")
    os.write(terminal.master, b"\x03")
    terminal.wait_until("after_serving ran")
    assert terminal.popen.wait(PATIENCE) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_terminal_that_goes_ends_it_instead_of_replacing_workers(terminal: Terminal) -> None:
    terminal.wait_until("2 workers; Ctrl-C stops")
    await until(lambda: len(terminal.pids()) == 2, "two workers")
    pids = terminal.pids()
    os.close(terminal.master)
    terminal.master = -1
    await asyncio.to_thread(terminal.popen.wait, PATIENCE)
    assert not any(map(runs, pids))


async def test_the_reloader_restarts_supervisor_and_workers(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text((ROOT / "tests/cli/apps/shared.py").read_text())
    env: dict[str, str | None] = {"PYTHONPATH": str(ROOT)}
    served = Served("run", "--port", "0", "--workers", "2", "--reload", folder=tmp_path, env=env)
    try:
        url = served.wait()
        before = await all_workers(url, 2)
        app.write_text(app.read_text() + "\n# changed\n")
        served.process.wait_until(lambda: len(served.said()) == 2, what="second start")
        assert await all_workers(url, 2) & before == set()
    finally:
        assert served.process.stop() == 0


@pytest.mark.parametrize(("flag", "said"), [("fail import", "no tea leaves"), ("fail start", "no tea")])
def test_an_app_that_cannot_run_is_said_once(flags: Path, flag: str, said: str) -> None:
    (flags / flag).touch()
    failed = samovar(
        *APP, "run", "--port", "0", "--workers", "3", folder=ROOT, env={"SHARED_FLAGS": str(flags)}
    )
    assert failed.returncode == 1
    assert failed.stderr.count("Traceback") == 1
    assert f"LookupError: {said}" in failed.stderr
    assert "another one starts" not in failed.stderr


async def test_when_no_worker_comes_to_serve_it_ends_with_a_message(serve: Serve, flags: Path) -> None:
    served = serve()
    pids = await all_workers(url_of(served), 2)
    (flags / "fail import").touch()
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)
    assert await asyncio.to_thread(served.process.wait, PATIENCE) == 1
    output = served.process.output()
    assert "no worker serves, and 5 in a row ended before they did, the last one ended with code 1" in output
    assert output.count("no tea leaves") >= 5


async def test_a_worker_that_cannot_start_takes_nothing_from_the_others(serve: Serve, flags: Path) -> None:
    served = serve()
    url = url_of(served)
    await all_workers(url, 2)
    (flags / "fail start").touch()
    assert await worker_of(f"{url}/die") is None
    await until(lambda: served.process.output().count("another one starts") >= 3, "failures")
    assert "ended with code 7; another one starts" in served.process.output()
    async with asyncio.timeout(60):
        assert len({await worker_of(url) for _ in range(6)}) == 1
    (flags / "fail start").unlink()
    await all_workers(url, 2)


@pytest.mark.parametrize("url", ["memory://", "memory://tea"])
def test_an_explicit_memory_url_refuses(flags: Path, url: str) -> None:
    failed = samovar(
        *APP, "run", "--port", "0", "--workers", "2", folder=ROOT, env={"SAMOVAR_BROADCAST_URL": url}
    )
    assert failed.returncode == 1
    assert f"BROADCAST_URL is {url}, which reaches one process only" in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_a_port_of_another_supervisor_is_not_shared(serve: Serve) -> None:
    port = serve().port
    failed = samovar(*APP, "run", "--port", str(port), "--workers", "2", folder=ROOT)
    assert failed.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in failed.stderr


async def test_workers_share_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "shop.sock"
    served = serve("--host", f"unix:{path}")
    assert url_of(served) == f"unix:{path}"
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 60)).startswith(b"HTTP/1.1 200")
    writer.close()


# --- the supervisor with workers that only say that they serve --------------------------------------------------------

PRETENDER = """
import json, os, signal, socket, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep({last}), os._exit(0)))
status = socket.socket(fileno=int(os.environ["SAMOVAR_WORKER"].split(":")[2]))
status.sendall(json.dumps({told}).encode() + b"\\n")
status.recv(1)
"""


@asynccontextmanager
async def supervised(told: dict[str, object], *, last: float = 0.0) -> AsyncIterator[supervisor.Supervisor]:
    """A supervisor of two workers that serve nobody, and take *last* seconds to end."""
    command = [sys.executable, "-c", PRETENDER.format(told=told, last=last)]
    places = [supervisor.Place(n, partial(bind_shared, "127.0.0.1", 0)) for n in (1, 2)]
    one = supervisor.Supervisor(command, places, on_serving=lambda _: None)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        run = group.create_task(one.run())
        await until(lambda: all(map(serves, places)), "two workers")
        yield one
        one.stop()
        assert await run == 0


def serves(place: supervisor.Place) -> bool:
    return place.worker is not None and place.worker.state is supervisor.State.SERVING


def fail_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next process cannot be started."""
    spawn = supervisor._spawn

    def no_memory(*_: object) -> subprocess.Popen[bytes]:
        monkeypatch.setattr(supervisor, "_spawn", spawn)
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(supervisor, "_spawn", no_memory)


SERVING: dict[str, object] = {"app": "tea", "server": "none"}


async def test_a_worker_for_which_there_is_no_memory_is_started_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with supervised(SERVING) as one:
        descriptors = len(os.listdir("/dev/fd"))
        lost = one.places[1].worker
        assert lost is not None
        fail_once(monkeypatch)
        lost.process.kill()
        await until(lambda: "worker 2 cannot be started" in caplog.text, "the failure")
        assert "Cannot allocate memory; tried again in 0.5 s" in caplog.text
        await until(lambda: serves(one.places[1]) and one.places[1].worker is not lost, "another")
        assert len(os.listdir("/dev/fd")) == descriptors


async def test_a_restart_for_which_there_is_no_memory_leaves_the_old_ones(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with supervised(SERVING) as one:
        before = [place.worker for place in one.places]
        fail_once(monkeypatch)
        one.roll()
        await until(lambda: "Cannot allocate memory: the old ones stay" in caplog.text, "the failure")
        assert [place.worker for place in one.places] == before
        one.roll()
        await until(lambda: not {p.worker for p in one.places} & {*before}, "new ones")


async def test_a_worker_has_the_time_it_said_to_stop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "STOP_TIMEOUT", 0.1)
    async with supervised(SERVING | {"stop": 15.0}, last=0.5) as one:
        pass
    assert one.code == 0
    assert "killed" not in caplog.text


@pytest.mark.parametrize(("said", "limit"), [({"stop": 0.1}, "0.1"), ({}, "0.2")], ids=["said", "default"])
async def test_a_worker_that_takes_longer_is_killed(
    said: dict[str, object], limit: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "STOP_TIMEOUT", 0.2)
    async with supervised(SERVING | said, last=60):
        pass
    assert f"worker 1 did not stop within {limit} s and is killed" in caplog.text


async def test_a_first_worker_that_cannot_be_started_is_the_end(caplog: pytest.LogCaptureFixture) -> None:
    place = supervisor.Place(1, partial(bind_shared, "127.0.0.1", 0))
    one = supervisor.Supervisor(["/nonexistent/python"], [place], on_serving=lambda _: None)
    assert await asyncio.wait_for(one.run(), 60) == 1
    assert "worker 1 cannot be started: " in caplog.text


# --- samovar hub, other servers -------------------------------------------------------------------------------------


class Started:
    """Processes of one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []

    def __call__(self, *command: str, ready: str, env: dict[str, str | None] | None = None) -> Process:
        log = self.folder / f"process{len(self.processes)}.log"
        base: dict[str, str | None] = {"PYTHONUNBUFFERED": "1"}
        process = Process([sys.executable, "-m", *command], log=log, cwd=ROOT, env=base | (env or {}))
        self.processes.append(process)
        process.wait_until(lambda: ready in process.output(), what=repr(ready))
        return process


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Started]:
    started = Started(tmp_path)
    yield started
    for process in started.processes:
        process.stop()


def uvicorn(port: int, *options: str) -> list[str]:
    return ["uvicorn", "tests.cli.apps.shared:app", "--port", str(port), *options]


async def test_a_hub_joins_the_workers_of_another_server(start: Started, tmp_path: Path) -> None:
    path = tmp_path / "h.sock"
    hub = start("samovar", "hub", "--path", str(path), ready=f"BROADCAST_URL=local://{path}\n")
    port = free_port()
    env: dict[str, str | None] = {"SAMOVAR_BROADCAST_URL": f"local://{path}"}
    start(*uvicorn(port, "--workers", "2"), ready="Application startup complete", env=env)
    url = f"http://127.0.0.1:{port}"
    async with streams_of_all(url, 2) as streams:
        await post(f"{url}/say", b"tea")
        for stream in streams.values():
            assert (await stream.event()).json()["data"] == "tea"
    second = samovar("hub", "--path", str(path), folder=ROOT)
    assert second.returncode == 1
    assert f"another process serves {path} already" in second.stderr
    hub.signal(signal.SIGTERM)
    assert await asyncio.to_thread(hub.wait, PATIENCE) == 0
    assert not path.exists()


def test_a_hub_has_a_path_of_its_own(start: Started, tmp_path: Path) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    env: dict[str, str | None] = {"XDG_RUNTIME_DIR": str(runtime)}
    start("samovar", "hub", ready=f"BROADCAST_URL=local://{runtime}/samovar-hub.sock\n", env=env)


def test_a_second_worker_on_memory_does_not_start(start: Started) -> None:
    process = start(*uvicorn(free_port(), "--workers", "2"), ready="Application startup failed")
    output = process.output()
    assert "another worker of this server runs 'shared' on memory:// already" in output
    assert "BROADCAST_URL=local:///path.sock" in output
    assert "samovar hub" in output
    process.wait_until(lambda: "Application startup complete" in process.output(), what="first worker")


def test_one_worker_on_memory_starts_as_often_as_one_likes(start: Started) -> None:
    for _ in range(2):
        process = start(*uvicorn(free_port()), ready="Application startup complete")
        process.stop()
    named: dict[str, str | None] = {"SAMOVAR_BROADCAST_URL": "memory://alone"}
    two = start(*uvicorn(free_port(), "--workers", "2"), ready="Application startup complete", env=named)
    two.wait_until(lambda: two.output().count("startup complete") == 2, what="second worker")


def test_the_port_is_free_after_it_all(serve: Serve) -> None:
    served = serve()
    port = served.port
    served.process.stop()
    with socket.create_server(("127.0.0.1", port)):
        pass
