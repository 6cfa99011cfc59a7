"""A private Redis or Valkey that a test may kill, stop, restart and fill: its own port, folder and process group."""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import hiredis

from ..services import Found
from .ports import free_port, release_port
from .process import NotReady, Process
from .until import PATIENCE

Keep: TypeAlias = Literal["nothing", "rdb", "aof"]
KEEP: Mapping[Keep, Sequence[str]] = {
    "nothing": ("--save", "", "--appendonly", "no"),
    "rdb": ("--save", "3600", "1", "--appendonly", "no"),  # saved by SAVE, or at SIGTERM
    # With everysec a kill may lose what was acknowledged while an fsync was under way.
    "aof": ("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
}


class RedisServer:
    """``server = RedisServer(found, folder); server.start()``; ``close()`` ends it for good.

    Args:
        found: the program.
        folder: for its data and logs; made if it is not there.
        keep: what survives a restart: nothing, what ``SAVE`` saved (``rdb``), or everything acknowledged (``aof``).
        options: more of the server's options, such as ``{"maxmemory": "20mb"}``.
        tcp: False listens on no port, True on :attr:`port`.
    """

    def __init__(
        self,
        found: Found,
        folder: Path,
        *,
        keep: Keep = "nothing",
        options: Mapping[str, str] | None = None,
        tcp: bool = True,
    ) -> None:
        self.found = found
        self.folder = folder
        self.keep: Keep = keep
        self.options = dict(options or {})
        self.tcp = tcp
        self.port = free_port()
        self.socket = (
            f"{tempfile.gettempdir()}/samovar-{self.port}.sock"  # in the test's folder it could be too long
        )
        self.process: Process | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        return f"<RedisServer port={self.port} {self.process}>"

    def url(self, query: str = "", *, user: str = "", port: int | None = None) -> str:
        """Where it is reached; *user* is ``name:password``, *port* that of a proxy in front of it."""
        login = f"{user}@" if user else ""
        return f"redis://{login}127.0.0.1:{port or self.port}/{'?' if query else ''}{query}"

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it on its data and wait until this very process answers, not another one on its port."""
        self.process = Process(self._command(), log=self.folder / "out", cwd=self.folder, env=self.found.env)
        process = self.process
        process.wait_until(lambda: self._answers(process.pid), what="answer to INFO")

    def _command(self) -> list[str]:
        port = str(self.port) if self.tcp else "0"
        fixed = {"port": port, "bind": "127.0.0.1", "dir": str(self.folder), "daemonize": "no"}
        fixed |= {"unixsocket": self.socket, "unixsocketperm": "700", "logfile": str(self.folder / "log")}
        command = [str(self.found.path), *KEEP[self.keep]]
        for name, value in {**fixed, **self.options}.items():
            command += [f"--{name}", *value.split(" ")]
        return command

    def _answers(self, pid: int) -> bool:
        try:
            info = self.call("INFO").decode()
        except (OSError, hiredis.HiredisError):
            return False
        if "loading:1" in info:
            return False
        if f"process_id:{pid}\r" not in info:
            raise NotReady(f"another server answers on port {self.port}: {info[:400]}")
        return True

    def kill(self) -> None:
        """``kill -9``: it saves nothing and says nothing."""
        assert self.process is not None
        self.process.kill()

    def stop(self) -> None:
        """SIGTERM, as an upgrade does: it saves what it has to and closes its connections."""
        assert self.process is not None
        self.process.stop()

    def restart(self) -> None:
        """Kill and start."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: its connections stay, and nobody answers, until :meth:`thaw`."""
        assert self.process is not None
        self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Remove its data; not while it runs."""
        for name in ("dump.rdb", "appendonlydir", "appendonly.aof"):
            path = self.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def copy_data(self, folder: Path) -> None:
        """Copy what it has on disk now, as a backup would."""
        self.call("BGREWRITEAOF")
        self.wait_for("aof_rewrite_in_progress", "0")
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("log", "out", "*.sock"))

    def restore_data(self, folder: Path) -> None:
        """Put a copy back in place of its data; not while it runs."""
        self.wipe()
        shutil.copytree(folder, self.folder, dirs_exist_ok=True)

    def close(self) -> None:
        """End it, and give its port back; idempotent."""
        if self.process is not None:
            self.process.signal(signal.SIGCONT)
            self.process.kill()
        Path(self.socket).unlink(missing_ok=True)
        release_port(self.port)

    def log(self) -> str:
        """What it wrote to its log."""
        return (self.folder / "log").read_text(errors="replace")

    # --- commands ---------------------------------------------------------------------------------------------------

    def call(self, *command: str | bytes | int, timeout: float = PATIENCE) -> Any:
        """The reply to one command, on a connection of its own: this is what a test uses behind the backend's back.

        Raises:
            hiredis.ReplyError: the server says no.
        """
        login: list[tuple[Any, ...]] = []
        if "requirepass" in self.options:
            login.append(("AUTH", self.options["requirepass"]))
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout)
            sock.connect(self.socket)
            reader = hiredis.Reader()
            for packed in [*login, command]:
                sock.sendall(hiredis.pack_command(packed))
                while (reply := reader.gets()) is False:
                    data = sock.recv(65536)
                    if not data:
                        raise ConnectionError("the server closed the connection")
                    reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def set(self, name: str, value: str | int) -> None:
        """CONFIG SET."""
        self.call("CONFIG", "SET", name, value)

    def info(self, name: str) -> str:
        """One value of INFO."""
        lines: list[str] = self.call("INFO", "everything").decode().splitlines()
        return next(line.partition(":")[2] for line in lines if line.startswith(f"{name}:"))

    def wait_for(self, name: str, value: str, *, timeout: float = PATIENCE) -> None:
        """Wait until INFO says so."""
        end = time.monotonic() + timeout
        while self.info(name) != value:
            if time.monotonic() > end:
                raise TimeoutError(f"INFO says {name}:{self.info(name)}, not {value}, after {timeout} s")
            time.sleep(0.01)
