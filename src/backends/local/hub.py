"""The process that holds the channels of one host: a memory broker behind a unix socket.

Everything a worker asks is done at once, in the order in which it arrived, so that answers and records stand in one
order on each connection: what was published before a subscription is in its history, what comes after is live.

**Bounds.** A worker that does not read its answers is not read either, so they cannot pile up. What others publish can:
above ``buffer`` bytes the connection is cut, and so is one from which nothing was heard for nearly four heartbeats; the
worker comes back and reads what it missed. Whatever is no call of the protocol ends its connection, and no other; a
call with a value that it does not take fails, and nothing else does.

**The socket** is for its user alone (mode 0600), and is never taken from a process that serves it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shutil
import socket
import stat
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, cast

from ...broadcast.backend import Accepted, Health, Record, Retention
from ...broadcast.message import Member, Position
from ...broadcast.retry import Signal
from ...errors import ConfigError
from ..memory import Broker
from ..memory import Options as BrokerOptions
from .wire import (
    MAGIC,
    MAX_ID,
    MAX_RECORD,
    VERSION,
    BadValue,
    Incoming,
    MemberRow,
    Op,
    Outgoing,
    WireError,
    check,
    is_name,
    is_whole,
    member_parts,
    members_fields,
    pack,
    page_fields,
    read_ids,
    read_members,
    read_names,
    read_position,
    read_retention,
    read_seconds,
)
from .worker import BEAT, DEAD_AFTER, Options, check_path

HIGH_WATER = 512 * 1024  # bytes on their way to a worker above which its calls wait
PIECE = 1024 * 1024  # bytes of history in one answer
MAX_PAGE = 100_000  # records in one answer
MAX_WORKERS = 1024
BACKLOG = 256
ROSTERS = 125  # looked at in one go
FORGET_ROSTER = 60.0  # seconds after its last lease; hubs that watch it have swept and told it long before
LOOKS = 4  # at each worker, in one heartbeat
SILENT = LOOKS * DEAD_AFTER - 1  # looks without a word: it is known before DEAD_AFTER heartbeats are over
STOP_TIMEOUT = 1.0  # seconds for connections to close

logger: logging.Logger = logging.getLogger("samovar.local")
_numbers = itertools.count(1)


class Connection(asyncio.Protocol):
    """One worker: a receiver of the broker, at the end of a wire."""

    def __init__(self, hub: LocalHub) -> None:
        self._hub = hub
        self._broker = hub.broker
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._incoming = Incoming()
        self._outgoing = Outgoing()
        self._calls: deque[list[Any]] = deque()
        self._channels: dict[str, None] = {}
        self._flushing = False
        self._full = False
        self._silent = 0
        self._unsent = 0
        self._over = False
        self._number = next(_numbers)
        self._lease = 0.0
        self.pid: int | None = None

    def __repr__(self) -> str:
        return f"<Connection worker={self.pid} channels={len(self._channels)} waiting={self._outgoing.size}>"

    # --- as a protocol ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A worker connected, or somebody else."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._hub.connections.add(self)
        if len(self._hub.connections) > MAX_WORKERS:
            self.cut(f"there are {MAX_WORKERS} workers already")

    def connection_lost(self, error: Exception | None) -> None:
        """It has gone: no more records for it, and its members go unless it comes back and renews them.

        It does that as soon as it is connected, and at a third of the lease in any case.
        """
        self._over = True
        self._hub.left(self)
        if self._lease:
            self._broker.shorten(self._number, self._lease / 2)
        self._broker.detach(self, self._channels)
        self._channels.clear()
        self._calls.clear()

    def data_received(self, data: bytes) -> None:
        """Do what the worker asks, as far as it takes the answers."""
        self._silent = 0
        try:
            self._calls.extend(self._incoming.feed(data))
            self._work()
        except WireError as error:
            self.cut(str(error))

    def pause_writing(self) -> None:
        """The worker does not keep up with the answers: its further calls wait."""
        self._full = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It does again."""
        self._full = False
        self._flush()
        try:
            self._work()
        except WireError as error:
            self.cut(str(error))
        if not self._full and not self._over and self._transport is not None:
            self._transport.resume_reading()

    def look(self) -> None:
        """Called :data:`LOOKS` times a heartbeat; a worker speaks once in one at least, or takes what is sent.

        Looks are counted, not seconds, so that a hub that was stopped itself does not blame its workers.
        """
        transport = self._transport
        if transport is None:
            return
        if self._over:
            transport.abort()
            return
        unsent = transport.get_write_buffer_size()
        if self._full and unsent != self._unsent:
            self._silent = 0
        self._unsent = unsent
        self._silent += 1
        if self._silent >= SILENT:
            self.cut(f"no sign of life for {SILENT * BEAT / LOOKS:g} s", at_once=True)

    def cut(self, why: str, *, at_once: bool = False) -> None:
        """End the connection; the worker is told why unless it does not read anyway."""
        if self._over or self._transport is None:
            return
        self._over = True
        logger.warning("worker %s is cut: %s", self.pid or "(unknown)", why)
        self._hub.cuts += 1
        self._broker.detach(self, self._channels)
        self._calls.clear()
        if at_once:
            self._transport.abort()
            return
        last = Outgoing()
        last.add(pack((Op.REFUSED, why)))
        self._transport.write(last.take())
        self._transport.close()

    def drop(self) -> None:
        """The hub stops."""
        self._over = True
        if self._transport is not None:
            self._transport.abort()

    # --- as a receiver of the broker --------------------------------------------------------------------------------

    def message(self, record: Record) -> None:
        """A record for this worker."""
        if self._over:
            return
        self._send(self._hub.packed(record))
        if self._outgoing.size > HIGH_WATER:
            self._flush()  # a burst is no stall
        if self._outgoing.size > self._hub.options.buffer:
            waiting, limit = self._outgoing.size, self._hub.options.buffer
            self.cut(f"{waiting} bytes wait for it, the limit is {limit}", at_once=True)

    def attached(self, channels: Any) -> None:
        """Live records of these flow from here on."""
        self._send(pack((Op.ATTACHED, list(channels))))

    def detached(self, channels: Any, why: str) -> None:
        """Never said by a memory broker."""

    def refused(self, channels: Any, why: str) -> None:
        """Never said by a memory broker."""

    def health(self, health: Health) -> None:
        """Never said by a memory broker."""

    # --- writing ----------------------------------------------------------------------------------------------------

    def _send(self, packed: bytes) -> None:
        self._outgoing.add(packed)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        while self._outgoing and not self._full and not self._over and self._transport is not None:
            self._transport.write(self._outgoing.take())

    # --- calls ------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        calls = self._calls
        while calls and not self._full and not self._over:
            self._do(calls.popleft())
            if self._outgoing.size > HIGH_WATER:
                self._flush()  # which finds out whether the worker takes them

    def _do(self, call: list[Any]) -> None:
        op, *fields = call
        if self.pid is None:
            self._hello(op, fields)
            return
        if type(op) is not int or op not in _CALLS:
            raise WireError(f"not a call: {op!r:.40}")
        count, do = _CALLS[op]
        if len(fields) != count or not is_whole(fields[0]):
            raise WireError(f"not a call: {Op(op).name} with {len(fields)} fields")
        try:
            do(self, *fields)
        except BadValue as error:
            self._send(pack((Op.FAILED, fields[0], str(error))))

    def _hello(self, op: Any, fields: list[Any]) -> None:
        if op != Op.HELLO or len(fields) != 3 or fields[0] != MAGIC or type(fields[2]) is not int:
            raise WireError("not a greeting")
        _, version, self.pid = fields
        if version != VERSION:
            self.cut(
                f"the hub speaks version {VERSION} and this worker {version!r:.20}: "
                "start `samovar run` or `samovar hub` anew after changing the installed version"
            )
            return
        self._send(pack((Op.WELCOME, VERSION)))

    def _answer(self, number: int, value: Any) -> None:
        self._send(pack((Op.ANSWER, number, value)))

    def _ping(self, number: int) -> None:
        self._answer(number, None)

    def _publish(
        self, number: int, channel: Any, envelope: Any, id: Any, retention: Any, version: Any, dedupe: Any
    ) -> None:
        check(version is None or is_whole(version), "a version")
        record = _read_record(channel, envelope, id, retention)
        self._answer(number, self._append(record, version, read_seconds(dedupe)))

    def _publish_many(self, number: int, records: Any, dedupe: Any) -> None:
        check(type(records) is list, "records")
        check(all(type(record) is list and len(record) == 4 for record in records), "a record")
        seconds = read_seconds(dedupe)
        checked = [_read_record(*record) for record in records]  # before the first is in
        self._answer(number, [self._append(record, None, seconds) for record in checked])

    def _append(self, record: _Sent, version: int | None, seconds: float) -> tuple[str, int, bool]:
        channel, envelope, id, retention = record
        self._hub.published += 1
        return _accepted_fields(
            self._broker.publish(
                channel, envelope, id=id, retention=retention, version=version, dedupe_seconds=seconds
            )
        )

    def _attach(self, number: int, channels: Any) -> None:
        limit = self._hub.options.channels
        taken, surplus = [], []
        for name in read_names(channels):
            if name in self._channels or len(self._channels) < limit:
                self._channels[name] = None
                taken.append(name)
            else:
                surplus.append(name)
        if taken:
            self._broker.attach(self, taken)
        self._answer(number, (surplus, limit))

    def _detach(self, number: int, channels: Any) -> None:
        names = [name for name in read_names(channels) if name in self._channels]
        for name in names:
            del self._channels[name]
        self._broker.detach(self, names)
        self._answer(number, None)

    def _history(self, number: int, channel: Any, since: Any, limit: Any, reverse: Any) -> None:
        check(is_name(channel), "a channel")
        check(type(limit) is int and limit >= 0, "a limit")
        place = None if since is None else read_position(since)
        page = self._broker.history(channel, since=place, limit=min(limit, MAX_PAGE), reverse=bool(reverse))
        cut = len(page.records) == MAX_PAGE < limit
        *fields, short = page_fields(page, most=PIECE)
        self._answer(number, (*fields, short or cut))

    def _heads(self, number: int, channels: Any) -> None:
        names = read_names(channels)
        heads = self._broker.heads(names)
        self._answer(number, [_position_fields(heads[name]) for name in names])

    def _clear(self, number: int, channel: Any) -> None:
        check(is_name(channel), "a channel")
        self._answer(number, _position_fields(self._broker.clear(channel)))

    def _touch(self, number: int, channel: Any, members: Any, lease: Any) -> None:
        check(is_name(channel), "a channel")
        seconds = read_seconds(lease)
        self._lease = max(self._lease, seconds)
        joined = self._broker.touch(
            channel, read_members(members, decode=False), lease=seconds, by=self._number
        )
        self._answer_members(number, joined)

    def _leave(self, number: int, channel: Any, ids: Any) -> None:
        check(is_name(channel), "a channel")
        self._answer_members(number, self._broker.leave(channel, read_ids(ids)))

    def _sweep(self, number: int, channel: Any) -> None:
        check(is_name(channel), "a channel")
        self._answer_members(number, self._broker.sweep(channel))

    def _members(self, number: int, channel: Any) -> None:
        check(is_name(channel), "a channel")
        self._answer_members(number, self._broker.members(channel))

    def _answer_members(self, number: int, members: list[Member]) -> None:
        last: list[MemberRow] = []
        for some in member_parts(members_fields(members)):
            if last:
                self._send(pack((Op.PART, number, last)))
            last = some
        self._answer(number, last)


_CALLS: dict[int, tuple[int, Callable[..., None]]] = {
    Op.PING: (1, Connection._ping),
    Op.PUBLISH: (7, Connection._publish),
    Op.PUBLISH_MANY: (3, Connection._publish_many),
    Op.ATTACH: (2, Connection._attach),
    Op.DETACH: (2, Connection._detach),
    Op.HISTORY: (5, Connection._history),
    Op.HEADS: (2, Connection._heads),
    Op.CLEAR: (2, Connection._clear),
    Op.TOUCH: (4, Connection._touch),
    Op.LEAVE: (3, Connection._leave),
    Op.SWEEP: (2, Connection._sweep),
    Op.MEMBERS: (2, Connection._members),
}
"""Each call of a worker: how many fields it has, its number the first, and what does it."""


_Sent = tuple[str, bytes, str, Retention | None]


def _read_record(channel: Any, envelope: Any, id: Any, retention: Any) -> _Sent:
    """A record to publish."""
    check(is_name(channel), "a channel")
    check(type(envelope) is bytes and len(envelope) <= MAX_RECORD, "an envelope")
    check(type(id) is str and len(id) <= MAX_ID, "an id")
    return channel, envelope, id, read_retention(retention)


def _position_fields(position: Position) -> tuple[str, int]:
    return position.epoch, position.offset


def _accepted_fields(accepted: Accepted) -> tuple[str, int, bool]:
    assert accepted.position is not None  # a memory broker knows them all
    return accepted.position.epoch, accepted.position.offset, accepted.duplicate


class LocalHub:
    """Serves the channels of one host: ``async with LocalHub(options) as hub``.

    Args:
        options: where and within which bounds. Without a path the socket lies in a private folder made for it.

    Attributes:
        connections: the workers.
        cuts: how many connections were ended from this side.
        published: how many publishes were asked for.
    """

    def __init__(self, options: Options) -> None:
        self.options: Options = options
        self.broker: Broker = Broker(BrokerOptions(options.channels, options.meta))
        self.connections: set[Connection] = set()
        self.cuts = 0
        self.published = 0
        self._server: asyncio.AbstractServer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._left = Signal()
        self._packed: tuple[Record | None, bytes] = (None, b"")
        self._rosters: list[str] = []
        self._folder: str | None = None
        self._identity: tuple[int, int] | None = None

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Make one from a ``local:`` URL; opens nothing.

        Raises:
            ConfigError: it does not read.
        """
        return cls(Options.from_url(url))

    def __repr__(self) -> str:
        return f"<LocalHub {self.options.path} workers={len(self.connections)}>"

    @property
    def url(self) -> str:
        """What workers set ``BROADCAST_URL`` to."""
        return self.options.url

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: the socket cannot be had; the message says why.
        """
        if not self.options.path:
            self._folder = private_folder()
            self.options = replace(self.options, path=check_path(os.path.join(self._folder, "hub.sock")))
        listener = claim(self.options.path)
        status = os.stat(self.options.path)
        self._identity = status.st_dev, status.st_ino
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Connection(self), sock=listener, backlog=BACKLOG)
        self._timer = loop.call_later(BEAT / LOOKS, self._look)

    async def stop(self) -> None:
        """Disconnect everybody and remove the socket; idempotent. What was kept is forgotten."""
        if self._server is None:
            return
        server, self._server = self._server, None
        if self._timer is not None:
            self._timer.cancel()
        self._remove()
        server.close()
        for connection in tuple(self.connections):
            connection.drop()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                while self.connections:
                    await self._left.wait()
        except TimeoutError:
            logger.warning("%d connections did not close", len(self.connections))

    def _remove(self) -> None:
        """Remove the socket if it is still ours."""
        try:
            status = os.stat(self.options.path)
            if (status.st_dev, status.st_ino) == self._identity:
                os.unlink(self.options.path)
        except FileNotFoundError:
            pass  # somebody was faster
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- for connections --------------------------------------------------------------------------------------------

    def left(self, connection: Connection) -> None:
        """It has gone."""
        self.connections.discard(connection)
        self._left.wake()

    def packed(self, record: Record) -> bytes:
        """A record as it travels, packed once for all workers."""
        known, packed = self._packed
        if known is not record:
            position = record.position
            packed = pack(
                (Op.RECORD, record.channel, position.epoch, position.offset, record.prev, record.envelope)
            )
            self._packed = record, packed
        return packed

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(BEAT / LOOKS, self._look)
        for connection in tuple(self.connections):
            connection.look()
        self._forget_rosters()

    def _forget_rosters(self) -> None:
        """Forget some of the rosters whose members are all gone and whom no hub sweeps any more."""
        if not self._rosters:
            self._rosters = list(self.broker.rosters)
        before = self.broker.clock() - FORGET_ROSTER
        for channel in self._rosters[-ROSTERS:]:
            roster = self.broker.rosters.get(channel)
            if roster is not None and roster.over(before):
                del self.broker.rosters[channel]
        del self._rosters[-ROSTERS:]


# --- the socket -----------------------------------------------------------------------------------------------------


def private_folder() -> str:
    """Make a folder of this user alone, with a short path."""
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):
        if parent and len(os.fsencode(parent)) < 60 and os.access(parent, os.W_OK | os.X_OK):
            return tempfile.mkdtemp(prefix="samovar-", dir=parent)
    raise ConfigError(
        f"no folder for the socket of the local hub: {tempfile.gettempdir()} has too long a path or cannot be "
        "written; set TMPDIR, or BROADCAST_URL=local:///path.sock"
    )


def claim(path: str) -> socket.socket:
    """Listen on *path*; a socket that a dead process left there is removed.

    Raises:
        ConfigError: a living process serves it, something else lies there, or this user may not.
    """
    try:
        folder = os.path.dirname(path)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with _locked(folder):
            _remove_stale(path)
            return _listen(path)
    except OSError as error:
        raise ConfigError(f"the local hub cannot listen on {path}: {error.strerror or error}") from error


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Keep others who claim a socket in *folder* waiting, so that no two take the same one for stale."""
    import fcntl  # not on Windows, where this module is imported to say that it cannot work there

    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path} exists and is no socket: choose another path for the local hub")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except TimeoutError:
            pass  # it listens, and is only busy
    raise ConfigError(f"another process serves {path} already: stop it, or choose another path")


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
