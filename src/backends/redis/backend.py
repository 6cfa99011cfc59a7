"""Redis and Valkey as the broker of many workers; see :class:`RedisBackend`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeAlias

from ...broadcast.backend import Accepted, Backend, Feature, Page, Receiver, Retention
from ...broadcast.message import MAX_OFFSET, Member, Position
from ...errors import BackendUnavailable, PublishRejected, PublishUnknown
from ..memory import new_epoch
from .keeper import Keeper
from .link import Argument, Command, Lost, Reply, ReplyError
from .options import Options
from .reading import (
    META,
    Kept,
    Keys,
    before_head,
    milliseconds,
    named,
    page_backward,
    page_forward,
    range_at,
    range_backward,
    range_forward,
    read_accepted,
    read_kept,
    read_member,
    read_members,
    write_id,
    write_member,
)
from .refusal import Kind, refusal
from .scripts import CLEAR, CREATE, LEAVE, PUBLISH, TOUCH, VERSION_BIAS, Script, clearing, publishing
from .session import LOOK, Session, is_forgotten

Burst: TypeAlias = Sequence[tuple[str, bytes, str, Retention | None]]
"""Records of publish_many: channel, envelope, id, retention."""
MANY = 500  # records of publish_many that are one transaction, members of one touch, channels of one look
MANY_BYTES = 4 << 20
LOOKS = 10  # tries to read a channel that is cleared while it is read
SWEEP = 500  # leases that scripts/leave.lua ends at once


class RedisBackend(Backend):
    """Redis (6.2 and later) or Valkey.

    ``redis://[[user]:password@]host[:port][/db]``, ``rediss://…`` with TLS, ``unix:///path[?db=n]``; ``valkey://`` and
    ``valkeys://`` are the same. Special characters of a password are percent-encoded. Options, in the URL's query:

    - ``prefix=samovar``: what all keys and pub/sub channels begin with; give each app on a shared server its own
    - ``durable=0``: 1 declares that the server keeps what it acknowledged over a restart: a single server with
      ``appendonly yes`` and ``appendfsync always``. Then a restart loses nothing. Otherwise every restart or failover
      is a Gap("reset"), and history begins anew, since no one can tell what is missing. Never declare it for a server
      with failover: replication is asynchronous.
    - ``connect_timeout=2``: seconds a connection may take
    - ``heartbeat=2``: seconds of silence before the server is asked for a sign of life; dead after as many again
    - ``probe=15``: seconds between two messages to ourselves, by the road of all others
    - ``meta=86400``: seconds a channel is remembered after its last use, beyond what it keeps
    - ``name=samovar``: what this client is called in CLIENT LIST
    - ``db``: number of the database, where the URL's path is a socket
    - ``tls_ca``, ``tls_cert``, ``tls_key``: files for TLS; ``tls_verify=0`` accepts any certificate

    Each publish is one atomic script: numbered, stored, sent. Reads are pure reads, which work while the server takes
    no writes. Two connections, kept by :meth:`run`; the publishes of one turn of the loop share one packet. Cluster
    mode and discovery by Sentinel are not supported; what a failover behind one address does is a Gap.
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
        self._keys = Keys(options.prefix, options.db)
        self._outlive = milliseconds(options.meta)
        self._keeper = Keeper(options, self._keys)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """See the class.

        Raises:
            ConfigError: the URL cannot work; the message names what.
        """
        options = Options.from_url(url)
        made: type[Any] = DurableRedisBackend if options.durable and cls is RedisBackend else cls
        backend: Self = made(options)
        return backend

    def __repr__(self) -> str:
        state = "up" if self._keeper.session is not None else f"down: {self._keeper.why}"
        return f"<{type(self).__name__} {self.options.where} {state}>"

    @property
    def foreign(self) -> int:
        """How many messages came on our pub/sub channels that none of us sent."""
        return self._keeper.foreign

    async def run(self, receiver: Receiver) -> None:
        """See the contract."""
        await self._keeper.run(receiver)

    async def attach(self, channels: Collection[str]) -> None:
        """See the contract; without a connection it is done as soon as there is one."""
        self._keeper.attach(channels)

    async def detach(self, channels: Collection[str]) -> None:
        """See the contract."""
        self._keeper.detach(channels)

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
        """See the contract: one script, one round trip."""
        session = await self._keeper.current()
        remember = milliseconds(dedupe_seconds) if dedupe_seconds > 0 else 0
        command = self._publishing(session, channel, envelope, id, retention, version, remember)
        reply: Reply = session.commands.call(*command)
        try:
            reply = await reply
            if is_forgotten(reply):
                reply = await session.commands.call("EVAL", PUBLISH.source, *command[2:])
        except Lost as error:
            raise PublishUnknown(self._words(error), id=id) from error
        if isinstance(reply, ReplyError):
            raise self._rejected(reply, id)
        self._keeper.note(None)
        session.unborn.born(channel)
        duplicate, position = read_accepted(reply)
        if not duplicate and not session.suffix:
            self._keeper.witness.saw(channel, position.epoch, position.offset, envelope)
        return Accepted(position, duplicate)

    def _publishing(
        self,
        session: Session,
        channel: str,
        envelope: bytes,
        id: str,
        retention: Retention | None,
        version: int | None,
        remember: int,
    ) -> list[Argument]:
        if version is not None and not -VERSION_BIAS <= version < VERSION_BIAS:
            raise PublishRejected(f"version= is a whole number of 64 bits, not {version}", id=id)
        return publishing(
            self._keys,
            channel,
            envelope,
            id=id,
            term=session.term,
            suffix=session.suffix,
            outlive=self._outlive,
            retention=retention,
            version=version,
            remember=remember,
        )

    def _rejected(self, reply: ReplyError, id: str) -> Exception:
        """What a publish raises for an error of the server."""
        found = refusal(reply)
        self._keeper.note(found)
        words = self._words(found.words)
        return PublishRejected(words, id=id) if found.kind is Kind.REFUSED else BackendUnavailable(words)

    def _words(self, why: object) -> str:
        return self._keeper.words(why)

    async def publish_many(self, records: Burst, *, dedupe_seconds: float = 300.0) -> list[Accepted]:
        """See the contract: a transaction, so that the order holds; one for each 500 records or 4 MiB."""
        accepted: list[Accepted] = []
        remember = milliseconds(dedupe_seconds) if dedupe_seconds > 0 else 0
        for burst in _bursts(records):
            try:
                accepted += await self._publish_burst(burst, remember)
            except (PublishRejected, BackendUnavailable) as error:
                if accepted:  # those before are in
                    raise PublishUnknown(str(error), id=burst[0][2]) from error
                raise
        return accepted

    async def _publish_burst(self, burst: Burst, remember: int) -> list[Accepted]:
        id = burst[0][2]
        session = await self._keeper.current()
        commands: list[Command] = [
            self._publishing(session, channel, envelope, id, retention, None, remember)
            for channel, envelope, id, retention in burst
        ]
        try:
            replies = await session.transaction(commands)
            if any(is_forgotten(reply) for reply in replies):
                await session.load()
                replies = await session.transaction(commands)
        except Lost as error:
            raise PublishUnknown(self._words(error), id=id) from error
        errors = [reply for reply in replies if isinstance(reply, ReplyError)]
        if errors:
            rejected = self._rejected(errors[0], id)
            if len(errors) < len(replies):
                raise PublishUnknown(f"{len(errors)} of {len(replies)} records: {rejected}", id=id)
            raise rejected
        for channel, *_ in burst:
            session.unborn.born(channel)
        accepted = [Accepted(position, duplicate) for duplicate, position in map(read_accepted, replies)]
        if not session.suffix:
            for (channel, envelope, _, _), one in zip(burst, accepted, strict=True):
                if one.position is not None and not one.duplicate:
                    self._keeper.witness.saw(channel, one.position.epoch, one.position.offset, envelope)
        return accepted

    # --- calls that are no publish ----------------------------------------------------------------------------------

    async def _script(self, session: Session, script: Script, *calls: Command) -> list[Reply]:
        """The replies of *script*, one to each of *calls*.

        Raises:
            BackendUnavailable: no answer, or an error.
        """
        try:
            return self._good(await session.run(script, calls))
        except Lost as error:
            raise BackendUnavailable(self._words(error)) from error

    async def _read(self, session: Session, *commands: Command) -> list[Reply]:
        """The replies to *commands*: pure reads, which work where scripts, transactions and writes do not.

        Raises:
            BackendUnavailable: no answer, or an error.
        """
        try:
            return self._good(await session.commands.batch(commands) if commands else [])
        except Lost as error:
            raise BackendUnavailable(self._words(error)) from error

    def _good(self, replies: list[Reply]) -> list[Reply]:
        for reply in replies:
            if isinstance(reply, ReplyError):
                found = refusal(reply)
                self._keeper.note(found)
                raise BackendUnavailable(self._words(found.words))
        return replies

    # --- reading ----------------------------------------------------------------------------------------------------

    async def history(
        self, channel: str, *, since: Position | None = None, limit: int, reverse: bool = False
    ) -> Page:
        """See the contract: a pure read."""
        if reverse:
            return await self._history_back(channel, since, limit)
        kept = await self._kept(channel, 0 if since is None else since.offset, limit)
        if not kept.unborn and since is not None and not named(kept.head, since):
            kept = await self._kept(channel, 0, limit)  # nothing lies "after" it: all that is kept
        while kept.dropped and kept.rows >= limit:
            # The page was filled by records whose time is over: read on behind them.
            kept = await self._kept(channel, kept.dropped, limit)
        return page_forward(kept, since)

    async def _kept(self, channel: str, after: int, limit: int) -> Kept:
        """What is kept after an offset."""
        return (await self._look(channel, range_forward(self._keys.of(channel, "log"), after, limit)))[0]

    async def _history_back(self, channel: str, since: Position | None, limit: int) -> Page:
        """What is kept before a position, newest first; with the record there, which tells what was trimmed."""
        log = self._keys.of(channel, "log")
        before = None if since is None else since.offset
        at = [] if since is None else [range_at(log, min(since.offset, MAX_OFFSET))]
        kept, there = await self._look(channel, range_backward(log, before, limit), *at, reverse=True)
        if not kept.unborn and since is not None and not before_head(kept.head, since):
            return await self._history_from_top(channel, limit)
        return page_backward(kept, since, there)

    async def _history_from_top(self, channel: str, limit: int) -> Page:
        """What a position that is none of the channel gets: the newest, incomplete."""
        page = await self._history_back(channel, None, limit)
        return Page(page.records, page.head, complete=False)

    async def _look(self, channel: str, *ranges: Command, reverse: bool = False) -> tuple[Kept, Reply]:
        """Read a channel's meta and its log as of one moment, and the last of *ranges* besides.

        Without MULTI, which a server whose memory is full refuses even for reads: meta is read before the log and
        after it, and an epoch that is the same held in between, since none ever comes back. What was added meanwhile
        is left out. The term is asked for last: that it goes on vouches for what was read before.
        """
        meta = self._keys.of(channel, "meta")
        commands: list[Command] = [["TIME"], ["HMGET", meta, *META], *ranges, ["HMGET", meta, "e", "b"]]
        for _ in range(LOOKS):
            session = await self._keeper.current()
            *replies, term = await self._read(session, *commands, LOOK)
            if not session.same_term(term):
                raise BackendUnavailable(self._words("it began another term as primary"))
            if replies[1][:2] == replies[-1]:
                kept = read_kept(channel, replies, suffix=session.suffix, term=session.term, reverse=reverse)
                if kept is None:
                    return Kept(session.unborn.head(channel), [], own=False, unborn=True), replies[-2]
                session.unborn.born(channel)
                return kept, replies[-2]
        raise BackendUnavailable(self._words(f"{channel!r} begins anew all the time"))

    async def heads(self, channels: Collection[str], *, create: bool = False) -> Mapping[str, Position]:
        """See the contract: a round trip for each 500 channels, so that others come in between.

        Another one lets those come to be, or live on, that are not there or about to be forgotten.
        A channel that cannot come to be, since the server takes no writes, has a head of an epoch that lasts until
        it can, and no longer than the session: resuming from it is a Gap.
        """
        session = await self._keeper.current()
        names = list(channels)
        heads: dict[str, Position] = {}
        for at in range(0, len(names), MANY):
            heads |= await self._heads(session, names[at : at + MANY], create=create)
        return heads

    async def _heads(self, session: Session, names: Sequence[str], *, create: bool) -> dict[str, Position]:
        of = self._keys.of
        commands: list[Command] = []
        for name in names:
            meta = of(name, "meta")
            commands += [["HMGET", meta, "e", "s"], ["PTTL", meta]]
        replies = await self._read(session, *commands)
        heads: dict[str, Position] = {}
        weak: list[str] = []
        for name, (epoch, offset), left in zip(names, replies[::2], replies[1::2], strict=True):
            if epoch is not None:
                session.unborn.born(name)
                heads[name] = Position(epoch.decode() + session.suffix, int(offset or 0))
            if epoch is None or left < self._outlive // 2:
                weak.append(name)
        if create and weak:
            heads |= await self._create(session, weak)
        for name in weak:
            if name not in heads:
                heads[name] = session.unborn.head(name)
        return heads

    async def _create(self, session: Session, channels: Sequence[str]) -> dict[str, Position]:
        """Let channels come to be, or live on; those the server lets."""
        of = self._keys.of
        calls: list[Command] = [
            [2, of(name, "meta"), of(name, "log"), session.term, new_epoch(), self._outlive]
            for name in channels
        ]
        try:
            replies = await session.run(CREATE, calls)
        except Lost as error:
            raise BackendUnavailable(self._words(error)) from error
        heads = {}
        for name, reply in zip(channels, replies, strict=True):
            if isinstance(reply, ReplyError):
                self._keeper.note(refusal(reply))
            else:
                session.unborn.born(name)
                heads[name] = Position(reply[0].decode() + session.suffix, int(reply[1]))
        return heads

    async def clear(self, channel: str) -> Position:
        """See the contract; who is attached learns it by the way of messages."""
        session = await self._keeper.current()
        call = clearing(
            self._keys,
            channel,
            term=session.term,
            suffix=session.suffix,
            outlive=self._outlive,
        )
        (epoch,) = await self._script(session, CLEAR, call)
        return Position(epoch.decode(), 0)

    # --- presence ---------------------------------------------------------------------------------------------------

    def _present(self, channel: str) -> list[Argument]:
        """The keys of who is present, as scripts take them."""
        of = self._keys.of
        return [3, of(channel, "leases"), of(channel, "members"), of(channel, "groups")]

    async def touch(self, channel: str, members: Sequence[Member], *, lease: float) -> list[Member]:
        """See the contract; leases end by the server's clock."""
        parts = [members[at : at + MANY] for at in range(0, len(members), MANY)]
        calls: list[Command] = []
        for part in parts:
            written = [argument for member in part for argument in write_member(member)]
            calls.append([*self._present(channel), milliseconds(lease), self._outlive, *written])
        if not calls:
            return []
        replies = await self._script(await self._keeper.current(), TOUCH, *calls)
        return [part[n] for part, joined in zip(parts, replies, strict=True) for n in joined]

    async def leave(self, channel: str, ids: Collection[str]) -> list[Member]:
        """See the contract."""
        if not ids:
            return []
        written = [write_id(id) for id in ids]
        calls: list[Command] = [
            [*self._present(channel), *written[at : at + MANY]] for at in range(0, len(written), MANY)
        ]
        replies = await self._script(await self._keeper.current(), LEAVE, *calls)
        return [read_member(shown) for _, *gone in replies for shown in gone]

    async def sweep(self, channel: str) -> list[Member]:
        """See the contract."""
        session = await self._keeper.current()
        gone: list[Member] = []
        ended = SWEEP
        while ended >= SWEEP:
            (reply,) = await self._script(session, LEAVE, self._present(channel))
            ended, *shown = reply
            gone += map(read_member, shown)
        return gone

    async def members(self, channel: str) -> list[Member]:
        """See the contract: a pure read."""
        _, leases, members, _ = self._present(channel)
        replies = await self._read(
            await self._keeper.current(),
            ["TIME"],
            ["ZRANGE", leases, 0, -1, "WITHSCORES"],
            ["HGETALL", members],
        )
        return read_members(replies)


class DurableRedisBackend(RedisBackend):
    """:class:`RedisBackend` with ``durable=1``."""

    features: ClassVar[Feature] = RedisBackend.features | Feature.DURABLE


def _bursts(records: Burst) -> Iterator[Burst]:
    """*records* in parts that hold the server up for a moment only."""
    start = size = 0
    for at, (_, envelope, _, _) in enumerate(records):
        if at > start and (at - start >= MANY or size + len(envelope) > MANY_BYTES):
            yield records[start:at]
            start, size = at, 0
        size += len(envelope)
    if start < len(records):
        yield records[start:]
