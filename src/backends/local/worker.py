"""The workers of one host, without a broker: ``local://`` and ``local:///path/to.sock``.

One process of the host holds the channels, behind a unix socket (:mod:`.hub`): the one that ``samovar run
--workers N`` supervises with, or ``samovar hub``. This is the worker's side. ``local://`` finds the socket in the
environment, where the supervising process put it.

It is the memory backend at the end of a wire, so its promises are the same as long as that process lives: in order,
exactly once. When it dies, all its channels begin a new epoch, which subscribers see as a Gap. A worker that the hub
cut, because it was stalled, comes back and takes what it missed from history.

Options, in the URL's query, all heeded by the process that holds the channels: ``buffer`` (bytes that wait for one
worker before it is cut, 32 MiB), ``channels`` and ``meta`` as of ``memory://``.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeVar, cast
from urllib.parse import SplitResult, quote, unquote, urlsplit

from ...broadcast.backend import Accepted, Backend, Feature, Health, Page, Receiver, Record, Retention, State
from ...broadcast.message import Member, Position
from ...broadcast.retry import Signal, delays
from ...errors import BackendUnavailable, ConfigError, InvalidPayload, PublishRejected, PublishUnknown
from ..options import read_query, whole
from .wire import (
    BATCH,
    MAGIC,
    MAX_ID,
    MAX_NAMES,
    MAX_RECORD,
    MAX_USER,
    VERSION,
    Incoming,
    Op,
    Outgoing,
    WireError,
    check,
    is_text,
    is_whole,
    member_fields,
    member_parts,
    pack,
    read_members,
    read_names,
    read_page,
    read_position,
    retention_fields,
)

T = TypeVar("T")
SOCKET_VARIABLE = "SAMOVAR_LOCAL_SOCKET"  # where a supervising process tells its workers the path
MIN_BUFFER = 1024 * 1024  # bytes: less might be less than a message
MAX_PATH = 107 if sys.platform == "linux" else 103  # bytes: sun_path less its closing zero
BEAT = 1.0  # seconds between two heartbeats
DEAD_AFTER = 4  # heartbeats without a byte from the other side
PATIENCE = 1.0  # seconds for which calls wait while a lost link may come back, before they raise
CONNECT_TIMEOUT = 4.0  # seconds
HIGH_WATER = 1024 * 1024  # bytes on their way to the hub at which publishers wait
EARLY = 64 * 1024  # bytes that are sent before the turn of the loop is over: the hub works on them meanwhile
MANY = 1000  # records in one call
MEMBERS = 500  # ids of members in one call
LOST: Any = object()  # the answer to a call whose link was lost


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer to a call with a value that the hub does not take.

    Args:
        why: in words.
    """

    why: str


logger: logging.Logger = logging.getLogger("samovar.local")


@dataclass(frozen=True, slots=True)
class Options:
    """What a ``local:`` URL says.

    Args:
        path: the socket's, empty where the URL has none.
        buffer: bytes that may wait for one worker.
        channels: see ``memory.Options``.
        meta: see ``memory.Options``, in seconds.
    """

    path: str = ""
    buffer: int = 32 * 1024 * 1024
    channels: int = 100_000
    meta: int = 86_400

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Read a URL.

        Raises:
            ConfigError: it does not read, an option is unknown or bad, or this system has no unix sockets.
        """
        if not hasattr(socket, "AF_UNIX") or sys.platform == "win32":
            raise ConfigError(
                f"{url!r}: local:// needs unix sockets, which this system does not offer to Python: "
                "use a broker such as redis://, or one worker with memory://"
            )
        parts = urlsplit(url)
        if parts.netloc or parts.fragment or (parts.path and not os.path.isabs(unquote(parts.path))):
            raise ConfigError(
                f"a local URL reads local:// or local:///path/to.sock, with options after a '?', not {url!r}"
            )
        path = unquote(parts.path)
        return cls(path=check_path(path) if path else "", **_numbers(url, parts))

    @property
    def url(self) -> str:
        """The URL that workers use."""
        return f"local://{quote(self.path)}"


def check_path(path: str) -> str:
    """Return *path*, absolute.

    Raises:
        ConfigError: the system takes no socket path of that length.
    """
    path = os.path.abspath(path)
    size = len(os.fsencode(path))
    if size > MAX_PATH:
        raise ConfigError(
            f"the path of a unix socket has at most {MAX_PATH} bytes on this system, and {path} has {size}: "
            "choose a shorter one"
        )
    return path


def _numbers(url: str, parts: SplitResult) -> dict[str, int]:
    """The query's options, checked."""
    known = "the options of local:// are buffer, channels and meta"
    readers = dict.fromkeys(("buffer", "channels", "meta"), whole)
    values = read_query(url, parts.query, readers, known=known)
    if values.get("buffer", MIN_BUFFER) < MIN_BUFFER:
        raise ConfigError(f"{url!r}: buffer is at least {MIN_BUFFER} bytes, not {values['buffer']}")
    return values


class Link(asyncio.Protocol):
    """One connection to the hub, from connecting to its loss.

    Args:
        receiver: hears of records.
        welcomed: called when the hub speaks our version.
        beaten: called with the round trip in seconds at each heartbeat that comes back.
    """

    def __init__(
        self, receiver: Receiver, welcomed: Callable[[], None], beaten: Callable[[float], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._receiver = receiver
        self._welcomed = welcomed
        self._beaten = beaten
        self._transport: asyncio.Transport | None = None
        self._incoming = Incoming()
        self._outgoing = Outgoing()
        self._flushing = False
        self._numbers = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._parts: dict[int, list[Any]] = {}
        self._room = Signal()
        self._silent = 0
        self._why = ""
        self._made = self._loop.time()
        self.full: bool = False
        self.closed: asyncio.Future[str] = self._loop.create_future()

    @property
    def age(self) -> float:
        """Seconds since it was made."""
        return self._loop.time() - self._made

    # --- as a protocol ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce ourselves."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._send(pack((Op.HELLO, MAGIC, VERSION, os.getpid())))

    def data_received(self, data: bytes) -> None:
        """Read what the hub says."""
        self._silent = 0
        try:
            for call in self._incoming.feed(data):
                op = call[0]
                if op == Op.RECORD:
                    self._record(*call[1:])
                elif op == Op.ANSWER:
                    self._answer(*call[1:])
                else:
                    self._other(call)
        except (WireError, TypeError, ValueError) as error:  # TypeError: another number of fields
            self.abort(f"the hub says what this worker cannot read: {error}")

    def pause_writing(self) -> None:
        """The hub does not keep up: publishers wait."""
        self.full = True

    def resume_writing(self) -> None:
        """It does again."""
        self.full = False
        self._flush()
        self._room.wake()

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing comes any more: all who wait are told."""
        self._why = self._why or (str(error) if error else "the hub closed the connection")
        for future in self._pending.values():
            if not future.done():
                future.set_result(LOST)
        self._pending.clear()
        self._parts.clear()
        self._room.wake()
        if not self.closed.done():
            self.closed.set_result(self._why)

    # --- calls ------------------------------------------------------------------------------------------------------

    def ask(self, op: Op, *fields: Any) -> asyncio.Future[Any]:
        """Send a call; the future has its answer, a :class:`Failed` or :data:`LOST`. Cancelling it is safe."""
        number = next(self._numbers)
        future = self._loop.create_future()
        if self.closed.done():
            future.set_result(LOST)
            return future
        packed = pack((op, number, *fields))
        self._pending[number] = future
        self._send(packed)
        return future

    def attach(self, names: list[str]) -> asyncio.Future[Any]:
        """Ask for live records; the receiver is told of those that the hub does not take."""
        answer = self.ask(Op.ATTACH, names)
        answer.add_done_callback(lambda done: self._attach_answered(names, done))
        return answer

    def _attach_answered(self, names: list[str], answer: asyncio.Future[Any]) -> None:
        if answer.cancelled() or (value := answer.result()) is LOST:
            return
        if type(value) is Failed:
            self._receiver.refused(names, value.why)
            return
        surplus, limit = value
        if surplus:
            self._receiver.refused(
                surplus,
                f"the hub of this host takes {limit} channels from one worker; more by the option channels= of "
                "the URL with which it is started",
            )

    def detach(self, names: list[str]) -> asyncio.Future[Any]:
        """Ask for no more live records of these."""
        return self.ask(Op.DETACH, names)

    async def room(self) -> None:
        """Return when the hub has taken enough of what was sent, or the link is lost."""
        while self.full and not self.closed.done():
            await self._room.wait()

    def beat(self) -> None:
        """Called once in :data:`BEAT` seconds: ask for a sign of life, or find that there is none.

        Beats are counted, not seconds, so that a worker that was stopped itself does not blame the hub.
        """
        self._silent += 1
        if self._silent >= DEAD_AFTER:
            self.abort(f"no sign of life for {DEAD_AFTER * BEAT:g} s")
            return
        sent = self._loop.time()
        self.ask(Op.PING).add_done_callback(lambda answer: self._beat_back(answer, sent))

    def _beat_back(self, answer: asyncio.Future[Any], sent: float) -> None:
        if answer.result() is not LOST:
            self._beaten(self._loop.time() - sent)

    def abort(self, why: str) -> None:
        """Give the connection up."""
        self._why = self._why or why
        if self._transport is not None:
            self._transport.abort()

    def _send(self, packed: bytes) -> None:
        self._outgoing.add(packed)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        elif self._outgoing.size >= EARLY:
            self._write()

    def _flush(self) -> None:
        self._flushing = False
        self._write()

    def _write(self) -> None:
        while self._outgoing and not self.full and not self.closed.done() and self._transport is not None:
            self._transport.write(self._outgoing.take())

    # --- what the hub says ------------------------------------------------------------------------------------------

    def _record(self, channel: str, epoch: str, offset: int, prev: int, envelope: bytes) -> None:
        self._receiver.message(
            Record(sys.intern(channel), Position(sys.intern(epoch), offset), prev, envelope)
        )

    def _other(self, call: list[Any]) -> None:
        op, *fields = call
        match op, fields:
            case Op.PART, [int(number), list(values)]:
                self._parts.setdefault(number, []).extend(values)
            case Op.FAILED, [int(number), str(why)]:
                self._parts.pop(number, None)
                self._answer(number, Failed(why))
            case Op.ATTACHED, [channels]:
                self._receiver.attached(read_names(channels))
            case Op.WELCOME, [*_]:
                self._welcomed()
            case Op.REFUSED, [str(why)]:
                self.abort(f"the hub refuses this worker: {why}")
            case _:
                raise WireError(f"an unknown call {op!r:.40}")

    def _answer(self, number: int, value: Any) -> None:
        future = self._pending.pop(number, None)
        parts = self._parts.pop(number, None)
        if future is not None and not future.done():
            future.set_result(value if parts is None else parts + value)


class LocalBackend(Backend):
    """A worker's door to the hub of its host.

    Args:
        options: where that is.
    """

    features: ClassVar[Feature] = (
        Feature.SHARED
        | Feature.HISTORY
        | Feature.POSITION
        | Feature.DEDUPE
        | Feature.VERSION
        | Feature.PRESENCE
    )

    def __init__(self, options: Options) -> None:
        self.options = options
        self._wanted: dict[str, None] = {}
        self._link: Link | None = None
        self._linked = Signal()
        self._why = "not connected yet"
        self._patience: float | None = None

    @classmethod
    def from_url(cls, url: str) -> Self:
        """See the module.

        Raises:
            ConfigError: the URL does not read, or names no socket and no supervising process does.
        """
        options = Options.from_url(url)
        if not options.path:
            options = replace(options, path=os.environ.get(SOCKET_VARIABLE, ""))
        if not options.path:
            raise ConfigError(
                f"{url} is for the workers of `samovar run --workers N`, which tells them the socket by "
                f"{SOCKET_VARIABLE}; elsewhere run `samovar hub` and use the URL it prints, local:///path.sock"
            )
        return cls(options)

    # --- the link ---------------------------------------------------------------------------------------------------

    async def run(self, receiver: Receiver) -> None:
        """See the contract. The first attempts follow each other quickly: the hub may be starting as well."""
        generation = 0
        waits = delays(first=0.02, most=1.0)
        self._lost("not connected yet", patience=PATIENCE)
        while True:
            link = Link(
                receiver,
                welcomed=lambda: self._begin(link, receiver, generation),  # noqa: B023  # called inside this turn
                beaten=lambda lag: receiver.health(Health(State.UP, generation, lag=lag)),  # noqa: B023
            )
            try:
                generation += 1
                why = await self._hold(link)
            finally:
                was_up, self._link = self._link is link, None
            self._lost(why, patience=PATIENCE if was_up else None)
            if was_up:
                receiver.detached(None, why)
            if link.age >= BEAT:  # one that is cut at once again and again is no reason to hurry
                waits = delays(first=0.02, most=1.0)
            receiver.health(Health(State.DOWN, generation, f"{self.options.url}: {why}"))
            await asyncio.sleep(next(waits))

    async def _hold(self, link: Link) -> str:
        """Connect and stay connected; returns why that ended."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await asyncio.get_running_loop().create_unix_connection(lambda: link, self.options.path)
        except TimeoutError:
            return f"no answer within {CONNECT_TIMEOUT:g} s"
        except OSError as error:
            return _explain(error)
        try:
            while not link.closed.done():
                if not (await asyncio.wait({link.closed}, timeout=BEAT))[0]:
                    link.beat()
            return link.closed.result()
        finally:
            link.abort("this worker disconnects")
            await asyncio.wait({link.closed}, timeout=BEAT)

    def _begin(self, link: Link, receiver: Receiver, generation: int) -> None:
        """The hub has welcomed us: attach what was attached before, and let calls through."""
        self._link = link
        receiver.health(Health(State.UP, generation))
        for names in _chunks(list(self._wanted), MAX_NAMES):
            link.attach(names)
        self._linked.wake()

    def _lost(self, why: str, *, patience: float | None) -> None:
        """There is no link, and calls wait so many seconds for one; None: a further attempt failed, and no longer."""
        self._why = why
        if patience is not None:
            self._patience = asyncio.get_running_loop().time() + patience

    async def _up(self) -> Link:
        """The link; waited for a moment when it is not there, since most losses last no longer.

        Raises:
            BackendUnavailable: it does not come.
        """
        time = asyncio.get_running_loop().time
        if self._patience is None:
            self._patience = time() + PATIENCE
        while (link := self._link) is None:
            left = self._patience - time()
            if left <= 0:
                raise BackendUnavailable(f"{self.options.url}: {self._why}")
            await self._linked.wait(left)
        return link

    async def _ask(self, op: Op, *fields: Any) -> Any:
        """The answer to a call that may be repeated.

        Raises:
            BackendUnavailable: there is no link, or it was lost before the answer.
            InvalidPayload: the hub does not take a value in it.
        """
        link = self._link or await self._up()
        if link.full:
            await link.room()
        answer = await link.ask(op, *fields)
        if answer is LOST:
            raise BackendUnavailable(f"{self.options.url}: the connection was lost: {self._why}")
        if type(answer) is Failed:
            raise InvalidPayload(f"{self.options.url} does not take it: {answer.why}")
        return answer

    # --- publishing -------------------------------------------------------------------------------------------------

    async def publish(
        self,
        channel: str,
        envelope: bytes,
        *,
        id: str,
        retention: Retention | None = None,
        version: int | None = None,
        dedupe_seconds: float = 300.0,
    ) -> Accepted:
        """See the contract.

        Raises:
            InvalidPayload: *version* is no whole number of 64 bits.
        """
        _check_size(channel, envelope, id)
        if version is not None and not is_whole(version):
            raise InvalidPayload(f"a version is a whole number of at most 64 bits, not {version!r:.40}")
        link = self._link or await self._up()
        if link.full:
            await link.room()
        kept = retention_fields(retention)
        answer = await link.ask(Op.PUBLISH, channel, envelope, id, kept, version, dedupe_seconds)
        if answer is LOST:
            raise self._unknown(id)
        if type(answer) is Failed:
            raise PublishRejected(answer.why, id=id)
        return _accepted(answer)

    async def publish_many(
        self, records: Sequence[tuple[str, bytes, str, Retention | None]], *, dedupe_seconds: float = 300.0
    ) -> list[Accepted]:
        """See the contract: in order, some hundred in a call, and none waits for the answer to another."""
        for channel, envelope, id, _ in records:
            _check_size(channel, envelope, id)
        answers = []
        link = (
            self._link or await self._up()
        )  # one for all: over the next, a later burst would overtake a lost one
        for some in _bursts(records):
            if link.full:
                await link.room()
            answers.append(link.ask(Op.PUBLISH_MANY, some, dedupe_seconds))
        accepted: list[Accepted] = []
        for answer in answers:
            values = await answer
            if values is LOST:
                raise self._unknown(records[len(accepted)][2])
            if type(values) is Failed:
                raise PublishRejected(values.why, id=records[len(accepted)][2])
            accepted.extend(map(_accepted, values))
        return accepted

    def _unknown(self, id: str) -> PublishUnknown:
        return PublishUnknown(
            f"{self.options.url}: the connection was lost before the answer: {self._why}", id=id
        )

    # --- channels ---------------------------------------------------------------------------------------------------

    async def attach(self, channels: Collection[str]) -> None:
        """See the contract; without a link it is done when there is one."""
        self._wanted.update(dict.fromkeys(channels))
        await self._tie(Link.attach, channels)

    async def detach(self, channels: Collection[str]) -> None:
        """See the contract."""
        for channel in channels:
            self._wanted.pop(channel, None)
        await self._tie(Link.detach, channels)

    async def _tie(
        self, call: Callable[[Link, list[str]], asyncio.Future[Any]], channels: Collection[str]
    ) -> None:
        """Send at once, so that the order of calls is that of the hub; a link that is lost meanwhile comes back."""
        link = self._link
        if link is None:
            return
        for answer in [call(link, names) for names in _chunks(list(channels), MAX_NAMES)]:
            await answer

    async def history(
        self, channel: str, *, since: Position | None = None, limit: int, reverse: bool = False
    ) -> Page:
        """See the contract; read in pieces of about 1 MiB.

        What is trimmed between two pieces ends the page: it then tells how things stood at its last record.

        Raises:
            InvalidPayload: *limit* is no whole number from 0 on.
        """
        if not is_whole(limit) or limit < 0:
            raise InvalidPayload(f"the limit of a read is a whole number from 0 on, not {limit!r:.40}")
        page, cut = await self._piece(channel, since, limit, reverse)
        records = list(page.records)
        head, complete = page.head, page.complete
        while cut and len(records) < limit:
            page, cut = await self._piece(channel, records[-1].position, limit - len(records), reverse)
            if not page.complete or page.head.epoch != head.epoch:
                return Page(records, head if reverse else records[-1].position, complete)
            records += page.records
            head = head if reverse else page.head
        return Page(records, head, complete)

    async def _piece(
        self, channel: str, since: Position | None, limit: int, reverse: bool
    ) -> tuple[Page, bool]:
        place = None if since is None else (since.epoch, since.offset)
        return read_page(channel, await self._ask(Op.HISTORY, channel, place, limit, reverse))

    async def heads(self, channels: Collection[str], *, create: bool = False) -> Mapping[str, Position]:
        """See the contract; missing channels come to be in any case."""
        found: dict[str, Position] = {}
        for names in _chunks(list(channels), MAX_NAMES):
            heads = await self._ask(Op.HEADS, names)
            found.update(zip(names, map(read_position, heads), strict=True))
        return found

    async def clear(self, channel: str) -> Position:
        """See the contract."""
        return read_position(await self._ask(Op.CLEAR, channel))

    # --- presence ---------------------------------------------------------------------------------------------------

    async def touch(self, channel: str, members: Sequence[Member], *, lease: float) -> list[Member]:
        """See the contract.

        Raises:
            InvalidPayload: what a member shows is not JSON data or too large, or its id or user is no such text.
        """
        joined: list[Member] = []
        for some in member_parts(_member_rows(members)):
            answer = await self._ask(Op.TOUCH, channel, some, lease)
            joined += read_members(answer, decode=True)
        return joined

    async def leave(self, channel: str, ids: Collection[str]) -> list[Member]:
        """See the contract.

        Raises:
            InvalidPayload: an id is no text of at most 256 characters.
        """
        gone: list[Member] = []
        for id in ids:
            _check_id(id)
        for some in _chunks(list(ids), MEMBERS):
            gone += read_members(await self._ask(Op.LEAVE, channel, some), decode=True)
        return gone

    async def sweep(self, channel: str) -> list[Member]:
        """See the contract."""
        return read_members(await self._ask(Op.SWEEP, channel), decode=True)

    async def members(self, channel: str) -> list[Member]:
        """See the contract."""
        return read_members(await self._ask(Op.MEMBERS, channel), decode=True)


def _accepted(answer: Any) -> Accepted:
    check(type(answer) is list and len(answer) == 3, "an accepted publish")
    epoch, offset, duplicate = answer
    return Accepted(Position(sys.intern(epoch), offset), duplicate)


def _check_size(channel: str, envelope: bytes, id: str) -> None:
    if len(envelope) > MAX_RECORD:
        raise PublishRejected(
            f"a record for {channel!r} has {len(envelope)} bytes; local:// takes {MAX_RECORD}", id=id
        )


def _bursts(records: Sequence[tuple[str, bytes, str, Retention | None]]) -> Iterator[list[Any]]:
    """The records as they travel, as many at a time as make a good frame."""
    some: list[Any] = []
    size = 0
    for channel, envelope, id, retention in records:
        if some and (size + len(envelope) > BATCH or len(some) == MANY):
            yield some
            some, size = [], 0
        some.append((channel, envelope, id, retention_fields(retention)))
        size += len(envelope)
    if some:
        yield some


def _chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    return (list(items[start : start + size]) for start in range(0, len(items), size))


def _member_rows(members: Sequence[Member]) -> list[tuple[str, str | None, str]]:
    for member in members:
        _check_id(member.id)
        if not (member.user is None or is_text(member.user, MAX_USER)):
            raise InvalidPayload(f"the user of a member is text of at most {MAX_USER} characters, or None")
    try:
        rows = [member_fields(member) for member in members]
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPayload(f"what a member shows is JSON data: {error}") from error
    for id, _, info in rows:
        if len(info) > MAX_RECORD:
            raise InvalidPayload(f"the member {id!r} shows {len(info)} bytes; local:// takes {MAX_RECORD}")
    return rows


def _check_id(id: str) -> None:
    if not is_text(id, MAX_ID):
        raise InvalidPayload(f"the id of a member is text of at most {MAX_ID} characters, not {id!r:.40}")


def _explain(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "there is no such socket: is the process that serves it (samovar hub) running?"
        case ConnectionRefusedError():
            return "nobody serves the socket: is the process that serves it (samovar hub) running?"
        case PermissionError():
            return "this user may not use the socket: it belongs to the user who serves it"
    return error.strerror or str(error)
