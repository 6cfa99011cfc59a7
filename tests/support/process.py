"""A server as a child process that never outlives the tests.

It runs in a process group of its own, so that stopping it stops its children; where the system can (Linux), it is
killed when the tests die, however they die; elsewhere at interpreter exit. Its output goes to a file, never to a pipe
that could fill up.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from .until import PATIENCE

PR_SET_PDEATHSIG = 1  # linux/prctl.h
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


class NotReady(RuntimeError):
    """The process ended, or was not ready in time; the message ends with what it printed."""


class Process:
    """Starts *command* at once; ``stop()`` or leaving a ``with`` block ends it.

    Args:
        command: the program and its arguments.
        log: the file that takes stdout and stderr.
        cwd: the folder it runs in.
        env: variables set on top of this process's own; None removes one.
        own_group: False keeps it in our process group, so that a Ctrl-C typed at a terminal reaches it too.

    Must be called from the main thread: the kernel's "kill me when my parent dies" watches the *thread* that started
    the child, and a worker thread may end long before the tests.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str | None] | None = None,
        own_group: bool = True,
    ) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "start processes in the main thread: they die with the thread that started them"
            )
        self.command = [str(part) for part in command]
        self.log = log
        self.own_group = own_group
        merged = {**os.environ, **(env or {})}
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                self.command,
                cwd=cwd,
                env={name: value for name, value in merged.items() if value is not None},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=own_group,
                preexec_fn=_die_with_parent(os.getpid()),
            )
        atexit.register(self.kill)

    def __repr__(self) -> str:
        state = "running" if self.popen.poll() is None else f"ended with {self.popen.returncode}"
        return f"<Process {Path(self.command[0]).name} pid={self.popen.pid} {state}>"

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def wait_until(self, ready: Callable[[], bool], *, what: str, timeout: float = PATIENCE) -> None:
        """Wait until *ready()* is true, at most *timeout* seconds.

        Raises:
            NotReady: the process ended, or the time is up.
        """
        end = time.monotonic() + timeout
        while not ready():
            if not self.running:
                raise NotReady(f"{self} before {what}; it printed:\n{self.output()[-4000:]}")
            if time.monotonic() > end:
                raise NotReady(f"{self}: no {what} within {timeout} s; it printed:\n{self.output()[-4000:]}")
            time.sleep(0.02)

    def wait_for_port(self, port: int, host: str = "127.0.0.1", *, timeout: float = PATIENCE) -> None:
        """Wait until it accepts connections on *port*."""
        self.wait_until(lambda: accepts(host, port), what=f"listener on {host}:{port}", timeout=timeout)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it (not to its children); nothing when it has ended already."""
        if self.running:
            self.popen.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Wait for its end and return the exit code (negative: the signal that killed it)."""
        return self.popen.wait(timeout)

    def stop(self, timeout: float = 10.0) -> int:
        """Ask it to end (SIGTERM), after *timeout* seconds make it (SIGKILL to the group); idempotent."""
        self.signal(signal.SIGTERM)
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            pass  # kill() below is the answer
        self.kill()
        return self.popen.returncode

    def kill(self) -> None:
        """End it and everything it started, at once; idempotent."""
        atexit.unregister(self.kill)
        if self.own_group:
            try:
                os.killpg(self.popen.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # nobody left in the group (macOS says EPERM when only zombies are)
        elif self.running:
            self.popen.kill()
        self.popen.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def accepts(host: str, port: int) -> bool:
    """True when something accepts TCP connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    if _prctl is None:
        return None

    def in_child() -> None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between the fork and the line above
            os._exit(1)

    return in_child
