"""Private brokers that can be killed, stopped, wiped and set back, each behind the same few methods."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import sys
import tempfile
from abc import ABC, abstractmethod
from asyncio import to_thread
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from samovar.backends.local.worker import BEAT, DEAD_AFTER

from ..services import RABBITMQ, REDIS, VALKEY, Service
from ..support.process import Process
from ..support.rabbitmq import RabbitServer
from ..support.redis import RedisServer

PASSWORD = "first"


class Broker(ABC):
    """A broker as the faults see it.

    Attributes:
        durable: a restart keeps everything.
        shared: several workers can use it.
        target: the port or socket path on which it serves; None when it lives in the worker itself.
        notice: seconds within which a worker notices a link that is half-open.
    """

    durable: ClassVar[bool] = False
    shared: ClassVar[bool] = True
    target: int | str | None = None
    notice: float = 4.0

    @abstractmethod
    def url(self, target: int | str | None = None) -> str:
        """The URL of the broker behind *target*, a relay's; its own without."""

    @abstractmethod
    def start(self) -> None:
        """Start, and return when it is ready."""

    async def up(self) -> None:
        """:meth:`start` it, while everything else goes on; nothing where it is up."""
        self.start()

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL."""

    @abstractmethod
    def stop(self) -> None:
        """SIGTERM, and its end is waited for."""

    async def down(self) -> None:
        """:meth:`stop` it, while everything else goes on."""
        self.stop()

    @abstractmethod
    def freeze(self) -> None:
        """SIGSTOP."""

    @abstractmethod
    def thaw(self) -> None:
        """SIGCONT."""

    @abstractmethod
    def close(self) -> None:
        """End it for good; idempotent."""


class Redis(Broker):
    """A Redis or Valkey with an append-only file, declared durable.

    Args:
        folder: its data go there.
        service: which of the two.
        heartbeat: of the backend, in seconds.
    """

    durable: ClassVar[bool] = True

    def __init__(self, folder: Path, service: Service = REDIS, *, heartbeat: float = 0.5) -> None:
        self.heartbeat = heartbeat
        self.notice = 2 * heartbeat
        self.folder = folder / "broker"
        keep = "aof" if self.durable else "nothing"
        options = {"requirepass": PASSWORD, "appendfilename": "appendonly.aof"}
        self.server = RedisServer(service.need(), self.folder, keep=keep, options=options)  # type: ignore[arg-type]
        self.target: int = self.server.port

    def url(self, target: int | str | None = None) -> str:
        query = f"durable={int(self.durable)}&heartbeat={self.heartbeat:g}"
        return self.server.url(query, user=f":{PASSWORD}", port=int(target or self.target))

    def start(self) -> None:
        self.server.options["requirepass"] = PASSWORD
        self.server.start()

    def kill(self) -> None:
        self.server.kill()

    def stop(self) -> None:
        self.server.stop()

    def freeze(self) -> None:
        self.server.freeze()

    def thaw(self) -> None:
        self.server.thaw()

    def close(self) -> None:
        self.server.close()

    def preload(self, env: Mapping[str, str]) -> None:
        """Variables for its process."""
        self.server.found = replace(self.server.found, env={**self.server.found.env, **env})

    def rotate(self, password: str) -> None:
        """Another password from now on, for new connections."""
        self.server.set("requirepass", password)
        self.server.options["requirepass"] = password


class VolatileRedis(Redis):
    """One that keeps nothing over a restart, but for a snapshot that somebody restores."""

    durable: ClassVar[bool] = False

    replicas = 0
    replica: RedisServer | None = None

    def snapshot(self) -> None:
        """Keep a snapshot of what is in it now."""
        self.server.call("SAVE")
        self._dump.rename(self._dump.with_name("old.rdb"))

    def restore(self) -> None:
        """Put the snapshot where the next start finds it, for that start alone."""
        shutil.copy(self._dump.with_name("old.rdb"), self._dump)

    def start(self) -> None:
        super().start()
        self._dump.unlink(missing_ok=True)

    @property
    def _dump(self) -> Path:
        return self.server.folder / "dump.rdb"

    def add_replica(self) -> None:
        """Start a replica."""
        self.server.set("repl-diskless-sync-delay", 0)
        self.replicas += 1
        options = {
            **self.server.options,
            "masterauth": PASSWORD,
            "replicaof": f"127.0.0.1 {self.server.port}",
        }
        self.replica = RedisServer(
            self.server.found, self.folder / f"replica{self.replicas}", options=options
        )
        self.replica.start()

    @property
    def replicated(self) -> bool:
        """The replica has what the primary had when it came."""
        return self.replica is not None and self.replica.info("master_link_status") == "up"

    def leave_behind(self) -> None:
        """What is published from now on does not reach the replica."""
        assert self.replica is not None
        self.replica.call("REPLICAOF", "127.0.0.1", 1)

    def fail_over(self) -> None:
        """SIGKILL to the primary; the replica is promoted, and takes over its address."""
        old, new = self.server, self.replica
        assert new is not None
        old.kill()
        new.call("REPLICAOF", "NO", "ONE")
        new.set("port", old.port)
        old.port, new.port = new.port, old.port
        del new.options["replicaof"]
        self.server, self.replica = new, None
        self._dump.unlink(missing_ok=True)
        old.close()

    def close(self) -> None:
        if self.replica is not None:
            self.replica.close()
        super().close()


class Valkey(Redis):
    """The same, as Valkey."""

    def __init__(self, folder: Path, *, heartbeat: float = 0.5) -> None:
        super().__init__(folder, VALKEY, heartbeat=heartbeat)


class VolatileValkey(VolatileRedis):
    """The same, as Valkey."""

    def __init__(self, folder: Path, *, heartbeat: float = 0.5) -> None:
        super().__init__(folder, VALKEY, heartbeat=heartbeat)


class RabbitMQ(Broker):
    """A RabbitMQ with a stream that keeps everything a run publishes.

    Args:
        folder: its log goes there.
        server: one that others use before and after us; one of our own otherwise.
        heartbeat: of the backend, in seconds.
        size: bytes that the stream keeps.
    """

    durable: ClassVar[bool] = True

    def __init__(
        self, folder: Path, server: RabbitServer | None = None, *, heartbeat: float = 0.5, size: str = "1G"
    ) -> None:
        self.server = server or RabbitServer(RABBITMQ.need(), folder / "broker")
        self.own = server is None
        self.spoilt = False
        self.notice = 2 * heartbeat
        self.target: int = self.server.port
        self.stream = f"faults.{secrets.token_hex(4)}"
        self.query = f"stream={self.stream}&heartbeat={heartbeat:g}&size={size}&age=86400"

    def url(self, target: int | str | None = None) -> str:
        return self.server.url(self.query, port=int(target or self.target))

    def start(self) -> None:
        if not self.server.running:
            self.server.start()

    async def up(self) -> None:
        await self.server.up()

    def kill(self) -> None:
        self.server.kill()

    def stop(self) -> None:
        self.server.stop()

    async def down(self) -> None:
        await to_thread(self.server.stop)

    def freeze(self) -> None:
        self.server.freeze()

    def thaw(self) -> None:
        self.server.thaw()

    @contextmanager
    def spoiling(self) -> Iterator[None]:
        """What is done inside must be undone at the end, or nobody else can use the server."""
        self.spoilt = True
        yield
        self.spoilt = False

    def close(self) -> None:
        if self.own:
            self.server.close()
        elif self.spoilt:
            self.server.kill()
            self.server.wipe()


class SmallRabbitMQ(RabbitMQ):
    """One whose stream drops the oldest after a few megabytes."""

    def __init__(self, folder: Path, server: RabbitServer | None = None, *, heartbeat: float = 0.5) -> None:
        super().__init__(folder, server, heartbeat=heartbeat, size="8M")


class Local(Broker):
    """The hub of one host, ``samovar hub``, behind a unix socket."""

    notice = BEAT * DEAD_AFTER

    def __init__(self, folder: Path) -> None:
        self.log = folder / "broker.log"
        self.home = Path(tempfile.mkdtemp(prefix="smv"))  # a socket's path is short
        self.target: str = str(self.home / "hub.sock")
        self.process: Process | None = None

    def url(self, target: int | str | None = None) -> str:
        return f"local://{target or self.target}"

    def start(self) -> None:
        self.process = Process([sys.executable, "-m", "samovar", "hub", "--path", self.target], log=self.log)
        self.process.wait_until(self._serves, what="hub that accepts workers")

    def _serves(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.target)
            except OSError:
                return False
        return True

    @property
    def running(self) -> Process:
        assert self.process is not None, "the hub is not started"
        return self.process

    def kill(self) -> None:
        self.running.kill()

    def stop(self) -> None:
        self.running.stop()

    def freeze(self) -> None:
        self.running.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.running.signal(signal.SIGCONT)

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
        shutil.rmtree(self.home, ignore_errors=True)


class Memory(Broker):
    """The broker inside the one worker: there is nothing of its own to kill."""

    shared: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        """It has no folder."""

    def url(self, target: int | str | None = None) -> str:
        return "memory://faults"

    def _nothing(self) -> None:
        """It has no process."""

    start = kill = stop = freeze = thaw = close = _nothing
