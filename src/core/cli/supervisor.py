"""``samovar run --workers N``: the process that holds the sockets and the channels, and keeps the workers running.

It never imports the app. Each worker is this program run again, with a socket to accept on and one to its supervisor,
on which it says when it serves, and whose end tells each side of the other's death.

::

            served                  told to go
    STARTING ────► SERVING ───────────────────► LEAVING
        │             │                            │
        └─────────────┴────────── ended ───────────┴────► ENDED

A *place* is one of the N workers people asked for. It has one worker that serves; during a rolling restart also the
next one, which takes over when it serves. A place whose worker ended by itself gets another: at once, or after a pause
when it did not live long; when none serves any more and the next ones do not come to it, that is the end. The first
worker of all starts alone, so that an app that cannot run is said once.

**The listening sockets** stay open here, so a connection that comes while a worker is replaced waits instead of being
refused. On Linux every place has a socket of its own (``SO_REUSEPORT``), among which the kernel divides connections
evenly; elsewhere, and for unix and inherited sockets, all accept on one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from enum import Enum
from functools import partial
from typing import Any

import click

from ...broadcast.backend import open_server
from ...errors import ConfigError
from ...tasks import Scope
from .browser import open_browser
from .listeners import bind, bind_shared, url_of
from .logs import configure_logging
from .options import ServeOptions
from .reloader import CHILD, inherited_listener, own_command
from .servers import loop_factory
from .stopping import exit_now
from .worker import WorkerSide

BEAT = 0.25  # seconds between two looks at the workers; their deaths are noticed before, as a rule
STEADY = 5.0  # seconds after which a worker that ended is replaced at once
PAUSES = (
    0.0,
    0.1,
    0.5,
    1.0,
    2.0,
    5.0,
)  # seconds before each further worker of a place when they do not live long
NO_ROOM_PAUSE = 0.5  # seconds at least before the next try when the system could not start a process
GIVE_UP = 5  # workers in a row that ended before they served, while no other serves
STOP_TIMEOUT = 10.0  # seconds a worker gets to stop that has not said how many its app needs
START_TIMEOUT = 65.0  # seconds a rolling restart waits for a worker; an app's start-up has 60
URL_VARIABLE = "SAMOVAR_BROADCAST_URL"
SOCKET_VARIABLE = "SAMOVAR_LOCAL_SOCKET"

Told = dict[str, Any]  # what a worker says when it serves: see WorkerSide.serve

logger: logging.Logger = logging.getLogger("samovar.workers")


class State(Enum):
    """See the module."""

    STARTING = "starting"
    SERVING = "serving"
    LEAVING = "leaving"
    ENDED = "ended"


_MOVES = {
    State.STARTING: {State.SERVING, State.LEAVING, State.ENDED},
    State.SERVING: {State.LEAVING, State.ENDED},
    State.LEAVING: {State.ENDED},
    State.ENDED: set[State](),
}


class Worker:
    """A worker process, from its start to its end.

    Args:
        number: of its place.
        command: its command line.
        listener: what it accepts on.
        changed: called when its state has changed.

    Raises:
        OSError: the system has no process to give, or no memory for one.
    """

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        listener: socket.socket,
        changed: Callable[[Worker], None],
    ) -> None:
        self.number = number
        self.state: State = State.STARTING
        self.served: bool = False
        self.told: Told = {}
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._kill: asyncio.TimerHandle | None = None
        self._buffer = b""
        self._status, theirs = socket.socketpair()
        self._status.setblocking(False)
        try:
            with theirs:
                side = WorkerSide(number, listener.fileno(), theirs.fileno())
                self.process: subprocess.Popen[bytes] = _spawn(command, side)
        except BaseException:
            self._status.close()
            raise
        self._loop.add_reader(self._status, self._read)

    def __repr__(self) -> str:
        return f"<Worker {self.number} pid={self.process.pid} {self.state.value}>"

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return self._loop.time() - self._started

    @property
    def stop_limit(self) -> float:
        """Seconds it may take to stop: what it has said, else :data:`STOP_TIMEOUT`."""
        return float(self.told.get("stop", STOP_TIMEOUT))

    @property
    def code(self) -> int:
        """Its exit code, negative for a signal."""
        return self.process.returncode or 0

    def fate(self) -> str:
        """How it ended, in words."""
        if self.code >= 0:
            return f"ended with code {self.code}"
        try:
            return f"was ended by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"was ended by signal {-self.code}"

    def _move(self, to: State) -> None:
        if to not in _MOVES[self.state]:
            raise RuntimeError(f"{self!r} cannot become {to.value}")
        self.state = to
        self._changed(self)

    def _read(self) -> None:
        try:
            data = self._status.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._status)
            self._loop.call_later(0.02, self.look)  # its descriptors close a moment before it can be reaped
            return
        self._buffer = (self._buffer + data)[:4096]
        if self.state is State.STARTING and b"\n" in self._buffer:
            self.told = json.loads(self._buffer.partition(b"\n")[0])
            self.served = True
            self._move(State.SERVING)

    def look(self) -> None:
        """Find out whether it has ended."""
        if self.state is State.ENDED or self.process.poll() is None:
            return
        if self._kill is not None:
            self._kill.cancel()
        self._loop.remove_reader(self._status)
        self._status.close()
        self._move(State.ENDED)

    def leave(self) -> None:
        """Let it finish, and kill it when it does not."""
        if self.state in (State.STARTING, State.SERVING):
            self._kill = self._loop.call_later(self.stop_limit, self.kill)
            self.process.terminate()
            self._move(State.LEAVING)

    def kill(self) -> None:
        """End it at once."""
        if self.process.poll() is None:
            logger.warning("worker %d did not stop within %g s and is killed", self.number, self.stop_limit)
            self.process.kill()


def _spawn(command: Sequence[str], side: WorkerSide) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env={name: value for name, value in os.environ.items() if name != CHILD} | side.environment(),
        stdin=subprocess.DEVNULL,
        pass_fds=(side.listener, side.status),
        process_group=0,  # a terminal's Ctrl-C comes to the supervisor alone, which passes it on
    )


class Place:
    """One of the workers people asked for; see the module.

    Args:
        number: from 1 on.
        bind: makes its listening socket, or another one in its stead.
    """

    def __init__(self, number: int, bind: Callable[[], socket.socket]) -> None:
        self.number = number
        self.bind = bind
        self.listener: socket.socket = bind()
        self.worker: Worker | None = None
        self.next: Worker | None = None
        self.brief = 0
        self.again: asyncio.TimerHandle | None = None

    def workers(self) -> list[Worker]:
        """Those that run."""
        return [worker for worker in (self.worker, self.next) if worker and worker.state is not State.ENDED]

    def renew_listener(self) -> None:
        """Leave the connections that wait for this place to no worker: others get all new ones meanwhile."""
        if self.listener.family != socket.AF_UNIX and _divides(self.listener):
            self.listener.close()
            self.listener = self.bind()


class Supervisor:
    """Keeps workers running until told to stop.

    Args:
        command: a worker's command line.
        places: the workers that are wanted.
        on_serving: called once, when the first worker serves, with what it told.
    """

    def __init__(
        self,
        command: Sequence[str],
        places: Sequence[Place],
        *,
        on_serving: Callable[[Told], None],
    ) -> None:
        self.command = command
        self.places = places
        self.failures: int = 0
        self.code: int = 0
        self._on_serving = on_serving
        self._served = False
        self._stopping = False
        self._impatient = False
        self._over = asyncio.Event()
        self._news = asyncio.Event()
        self._roll_again = False
        self._scope = Scope("supervisor")
        self._rolling: asyncio.Task[None] | None = None
        self._leaving: set[Worker] = set()
        self._on_terminal = _has_terminal()

    async def run(self) -> int:
        """Supervise; returns the exit code to leave with."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        try:
            async with self._scope:
                self._scope.start(self._look(), name="look")
                self._start(self.places[0])
                await self._over.wait()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)
            for worker in self._workers():
                worker.process.kill()
                worker.process.wait()
            for place in self.places:
                place.listener.close()
        return self.code

    def _workers(self) -> list[Worker]:
        return [worker for place in self.places for worker in place.workers()] + list(self._leaving)

    def _serving(self) -> bool:
        return any(worker.state is State.SERVING for worker in self._workers())

    async def _look(self) -> None:
        """Look at the workers now and then: a death is told by the status socket, but a child may hold that open."""
        while True:
            await asyncio.sleep(BEAT)
            for worker in self._workers():
                worker.look()

    # --- signals ----------------------------------------------------------------------------------------------------

    def _on_stop_signal(self, number: int) -> None:
        if self._impatient:
            exit_now(128 + number)
        if self._stopping:
            self._impatient = True
            self.code = 128 + number
            self._over.set()  # run() kills what is left
        self.stop()

    def _on_hangup(self) -> None:
        """SIGHUP: replace the workers one by one; but stop when it says that the terminal has gone."""
        if self._on_terminal and not _has_terminal():
            self.stop()
        else:
            self.roll()

    def stop(self, code: int = 0) -> None:
        """Let every worker finish, then return from :meth:`run`."""
        if self._stopping:
            return
        self._stopping = True
        self.code = code
        for place in self.places:
            if place.again is not None:
                place.again.cancel()
        for worker in self._workers():
            worker.leave()
        self._check_over()

    def _check_over(self) -> None:
        if self._stopping and not self._workers():
            self._over.set()

    # --- starting and replacing -------------------------------------------------------------------------------------

    def _start(self, place: Place) -> None:
        """Give the place a worker; where the system has no room for another process, again after a pause."""
        place.again = None
        try:
            place.worker = Worker(place.number, self.command, place.listener, self._changed)
        except OSError as error:
            if not self._served:
                logger.error("worker %d cannot be started: %s", place.number, error)
                return self.stop(1)
            place.brief += 1
            pause = max(NO_ROOM_PAUSE, PAUSES[min(place.brief, len(PAUSES) - 1)])
            logger.error("worker %d cannot be started: %s; tried again in %g s", place.number, error, pause)
            place.again = asyncio.get_running_loop().call_later(pause, self._start, place)
        return None

    def _changed(self, worker: Worker) -> None:
        """A worker's state has changed: the one place that decides what follows."""
        self._news.set()
        place = self.places[worker.number - 1]
        if worker.state is State.SERVING:
            self.failures = 0
            self._first_serves(worker)
        elif worker.state is State.ENDED:
            if worker in self._leaving:
                self._leaving.discard(worker)
            elif self._stopping:
                self.code = self.code or max(worker.code, 0)
            elif worker is place.worker:
                self._lost(place, worker)
            self._check_over()

    def _first_serves(self, worker: Worker) -> None:
        if self._served or self._stopping:
            return
        self._served = True
        self._on_serving(worker.told)
        for place in self.places[1:]:
            self._start(place)

    def _lost(self, place: Place, worker: Worker) -> None:
        """A worker ended by itself: start another, after a pause if it did not live long, or give up."""
        if not worker.served:
            self.failures += 1
            if not self._served:
                return self.stop(max(worker.code, 1))  # it has said why
            if self.failures >= GIVE_UP and not self._serving():
                logger.error(
                    "no worker serves, and %d in a row ended before they did, the last one %s: giving up; "
                    "what they said is above",
                    self.failures,
                    worker.fate(),
                )
                return self.stop(1)
            if self._serving():
                place.renew_listener()
        place.brief = 0 if worker.served and worker.age >= STEADY else place.brief + 1
        pause = PAUSES[min(place.brief, len(PAUSES) - 1)] if place.brief > 1 else 0.0
        logger.warning(
            "worker %d (pid %d) %s; another one starts%s",
            place.number,
            worker.process.pid,
            worker.fate(),
            f" in {pause:g} s" if pause else "",
        )
        place.again = asyncio.get_running_loop().call_later(pause, self._start, place)
        return None

    # --- the rolling restart ----------------------------------------------------------------------------------------

    def roll(self) -> None:
        """Replace the workers one by one, each when its successor serves; asked again meanwhile, once more after."""
        if self._stopping or not self._served:
            return
        if self._rolling is not None and not self._rolling.done():
            self._roll_again = True
            return
        self._rolling = self._scope.start(self._roll(), name="rolling restart")

    async def _roll(self) -> None:
        again = True
        while again and not self._stopping:
            self._roll_again = False
            click.echo(f"Replacing {len(self.places)} workers one by one", err=True)
            for place in self.places:
                if not await self._replace(place):
                    return
            click.echo(f"Replaced {len(self.places)} workers", err=True)
            again = self._roll_again

    async def _replace(self, place: Place) -> bool:
        """Put a new worker in the place of the old; False when it does not serve, and the old ones stay."""
        old = place.worker
        try:
            place.next = new = Worker(place.number, self.command, place.listener, self._changed)
        except OSError as error:
            logger.error("a new worker %d cannot be started: %s: the old ones stay", place.number, error)
            return False
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._until(lambda: new.state is not State.STARTING)
        except TimeoutError:
            new.leave()
        place.next = None
        if self._stopping:
            self._leaving.add(new)
            new.leave()
            return False
        if new.state is not State.SERVING:
            logger.error(
                "the new worker %d (pid %d) did not serve: the old ones stay", place.number, new.process.pid
            )
            if new.state is not State.ENDED:
                self._leaving.add(new)
            return False
        if place.again is not None:
            place.again.cancel()
            place.again = None
        current, place.worker = place.worker, new
        for worker in {old, current} - {None}:
            await self._let_go(worker)
        return True

    async def _let_go(self, worker: Worker | None) -> None:
        if worker is None or worker.state is State.ENDED:
            return
        self._leaving.add(worker)
        worker.leave()
        await self._until(lambda: worker.state is State.ENDED)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._news.clear()
            await self._news.wait()


def _has_terminal() -> bool:
    """Whether there is a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _divides(listener: socket.socket) -> bool:
    """Whether the kernel divides connections between *listener* and others."""
    return sys.platform == "linux" and listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) != 0


# --- the command ----------------------------------------------------------------------------------------------------


def run_workers(count: int, options: ServeOptions, *, command: Sequence[str] | None = None) -> int:
    """Serve with several workers until told to stop; returns the exit code.

    Args:
        count: how many.
        options: how each serves; the app's own are added by the workers.
        command: a worker's command line; by default this program as it was started.

    Raises:
        ConfigError: the address or the local hub's socket cannot be had, or the system has no such processes.
    """
    if os.name != "posix":
        raise ConfigError(
            "--workers needs a POSIX system: run several processes with a broker such as redis://"
        )
    configure_logging(debug=options.debug)
    with asyncio.Runner(loop_factory=loop_factory(options)) as runner:
        return runner.run(_supervise(count, options, command or own_command()))


async def _supervise(count: int, options: ServeOptions, command: Sequence[str]) -> int:
    places, url = _places(count, options)

    handed = inherited_listener()

    def serving(told: Told) -> None:
        if handed is not None and "stop" in told:
            handed.tell_limit(told["stop"] + BEAT)  # the reloader waits for us, and we for the workers
        click.echo(
            f"Samovar is serving '{told['app']}' on {url} ({told['server']}, {count} workers; Ctrl-C stops)"
        )
        if options.open_browser and _is_first():
            open_browser(url)

    async with local_hub():
        return await Supervisor(command, places, on_serving=serving).run()


def _is_first() -> bool:
    """Whether no reloader has started us before."""
    handed = inherited_listener()
    return handed is None or handed.first


def _places(count: int, options: ServeOptions) -> tuple[list[Place], str]:
    """The places with their sockets, and the address to tell people."""
    handed = inherited_listener()
    host = options.host if handed is None else handed.host
    first = bind(host, options.port)
    url = url_of(first, options.host, secure=options.secure)
    if handed is not None or sys.platform != "linux" or first.family not in (socket.AF_INET, socket.AF_INET6):
        with closing(first):
            return [Place(number, first.dup) for number in range(1, count + 1)], url
    port = first.getsockname()[1]
    first.close()  # it has found out that nobody else has the port, which sockets that share one would not
    shared = partial(bind_shared, host, port)
    return [Place(number, shared) for number in range(1, count + 1)], url


@asynccontextmanager
async def local_hub() -> AsyncIterator[None]:
    """Hold the channels for the workers, unless the environment names a broker that somebody else holds."""
    url = os.environ.get(URL_VARIABLE) or "local://"
    if not url.startswith("local:") or url.startswith("local:///"):
        yield
        return
    async with open_server(url) as server:
        os.environ[SOCKET_VARIABLE] = server.url.removeprefix("local://")
        logger.info("the workers share %s", server.url)
        try:
            yield
        finally:
            del os.environ[SOCKET_VARIABLE]
