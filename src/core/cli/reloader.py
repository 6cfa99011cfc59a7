"""Restarting a program when its files change: a supervising process and its child.

The supervisor binds the socket, hands it down, and so keeps the address over restarts: a browser that asks in between
waits instead of being refused. It never imports the app, so an app that does not import only waits for the next change.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import click

from ...errors import MissingDependency
from ...extras import Needed
from .listeners import bind

CHILD = "SAMOVAR_RELOADED"  # "fd:generation:status", set by the supervisor for its child
INTERVAL = 0.5  # seconds between two looks at the files, and at the child
STOP_TIMEOUT = 10.0  # seconds a child gets to stop that has not said how many it needs
FINAL = (0, 2)  # exit codes that no change of a file undoes: it ended well, or the command line is wrong
SUFFIXES = frozenset({".py", ".toml"})
IGNORED = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist"})


@dataclass(frozen=True, slots=True)
class Handed:
    """What a supervisor hands to its child.

    Args:
        fd: the bound socket.
        generation: how often it has been restarted.
        status: the end of a pipe to say something on.
    """

    fd: int
    generation: int
    status: int

    @property
    def host(self) -> str:
        """The socket as a host to bind."""
        return f"fd://{self.fd}"

    @property
    def first(self) -> bool:
        """Whether this child is the first one."""
        return self.generation == 0

    def tell_limit(self, seconds: float) -> None:
        """Tell the supervisor how long the app may take to stop before it is killed; once."""
        with open(self.status, "wb") as pipe:
            pipe.write(b"%g" % seconds)


def inherited_listener() -> Handed | None:
    """What the supervisor handed down, None in a process that has none."""
    value = os.environ.get(CHILD)
    if not value:
        return None
    return Handed(*map(int, value.split(":")))


def run_with_reloader(host: str, port: int, *, command: list[str] | None = None) -> int:
    """Run this program again as a child, and once more after each change of a file; returns the exit code.

    Args:
        host: where to listen, with *port*.
        command: what to run; by default this program as it was started.

    Raises:
        ConfigError: the address cannot be had.
    """
    with bind(host, port) as sock:
        sock.set_inheritable(True)
        return Supervisor(command or own_command(), sock.fileno()).run()


def own_command() -> list[str]:
    """This program as it was started."""
    return [sys.executable, *sys.orig_argv[1:]]


class Supervisor:
    """Keeps one child running, restarted when files change, until a signal or until it ends well.

    Args:
        command: the child's command line.
        fd: the socket it inherits.
        root: the folder whose files are watched.
    """

    def __init__(self, command: list[str], fd: int, root: Path | None = None) -> None:
        self.command = command
        self.fd = fd
        self.root: Path = root or Path.cwd()
        self.generation: int = 0
        self._signalled: int | None = None
        self._status: int | None = None  # where the child says how long it may take to stop

    def run(self) -> int:
        """Supervise; returns the exit code to leave with."""
        before = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            with_changes = watch(self.root)
            child = self._start()
            for changed in with_changes:
                if self._signalled is not None:
                    return self._stop(child)
                if changed:
                    click.echo(f"Restarting: {', '.join(sorted(changed)[:3])} changed", err=True)
                    self._stop(child)
                    child = self._start()
                elif child.poll() in FINAL:
                    return child.returncode
                elif child.returncode is not None and not with_changes.waiting:
                    click.echo("The app ended; it is started again after the next change", err=True)
                    with_changes.waiting = True
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._status is not None:
                os.close(self._status)
        return 0

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signalled is not None:
            os._exit(128 + number)
        self._signalled = number

    def _start(self) -> subprocess.Popen[bytes]:
        if self._status is not None:
            os.close(self._status)
        self._status, status = os.pipe()
        environment = os.environ | {CHILD: f"{self.fd}:{self.generation}:{status}"}
        self.generation += 1
        try:
            return subprocess.Popen(self.command, env=environment, pass_fds=(self.fd, status))
        finally:
            os.close(status)

    def _stop(self, child: subprocess.Popen[bytes]) -> int:
        """Stop the child and return its exit code: 0 when it stopped as it should, 137 when it had to be killed."""
        if child.poll() is None:
            if self._signalled != signal.SIGINT:  # a terminal sends Ctrl-C to the child as well
                child.terminate()
            limit = self._limit()
            try:
                child.wait(limit)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                click.echo(
                    f"The app did not stop within {limit:g} s and was killed: what it does at its end was not done",
                    err=True,
                )
                return 128 + signal.SIGKILL
        return max(child.returncode, 0)

    def _limit(self) -> float:
        """Seconds the child may take to stop: what it has said, else :data:`STOP_TIMEOUT`."""
        assert self._status is not None
        os.set_blocking(self._status, False)
        try:
            return float(os.read(self._status, 64) or STOP_TIMEOUT)
        except BlockingIOError:  # it has not said yet
            return STOP_TIMEOUT


class Changes:
    """Iterates over the files that changed since the last look, empty when none did, every :data:`INTERVAL`."""

    def __init__(self, look: Callable[[], set[str]]) -> None:
        self.waiting: bool = False
        self._look = look

    def __iter__(self) -> Iterator[set[str]]:
        while True:
            changed = self._look()
            if changed:
                self.waiting = False
            yield changed


def watch(root: Path) -> Changes:
    """Watch the files below *root*: with watchfiles where a good one is installed, else by their times."""
    try:
        return Changes(_watchfiles(root))
    except MissingDependency:
        return Changes(StatPoller(root))


def _watchfiles(root: Path) -> Callable[[], set[str]]:
    with Needed("watchfiles", by="watching for changes"):
        from watchfiles import watch as watch_files

    def wanted(change: object, path: str) -> bool:
        relative = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path(path)
        return is_watched(relative)

    changes = watch_files(
        root,
        watch_filter=wanted,
        rust_timeout=int(INTERVAL * 1000),
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    return lambda: {str(path) for _, path in next(changes, set())}


def is_watched(path: Path) -> bool:
    """Whether a change of the file *path*, relative to the watched folder, matters."""
    return _is_source(path.name) and not any(map(_is_ignored, path.parts[:-1]))


def _is_source(name: str) -> bool:
    return name in (".env", ".samovarenv") or Path(name).suffix in SUFFIXES


def _is_ignored(folder: str) -> bool:
    return folder.startswith(".") or folder in IGNORED


class StatPoller:
    """Finds changed files by their modification times; called, it waits :data:`INTERVAL` and looks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._times = self._scan()

    def __call__(self) -> set[str]:
        time.sleep(INTERVAL)
        now, before = self._scan(), self._times
        self._times = now
        return {path for path in now.keys() | before.keys() if now.get(path) != before.get(path)}

    def _scan(self) -> dict[str, int]:
        times = {}
        for folder, folders, files in os.walk(self.root):
            folders[:] = [
                name for name in folders if not _is_ignored(name) and not _is_environment(folder, name)
            ]
            for name in files:
                path = os.path.join(folder, name)
                if _is_source(name):
                    try:
                        times[path] = os.stat(path).st_mtime_ns
                    except FileNotFoundError:
                        continue  # gone between the listing and the look: as if it had not been listed
        return times


def _is_environment(folder: str, name: str) -> bool:
    return os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
