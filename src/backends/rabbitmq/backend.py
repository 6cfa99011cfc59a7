"""RabbitMQ as the broker of many workers; see :class:`RabbitBackend`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Self

from ...broadcast.backend import Accepted, Backend, Feature, Page, Receiver, Retention
from ...broadcast.message import Member, Position
from ...errors import BackendUnavailable, PublishRejected, PublishUnknown
from .attendance import MAX_LEASE, write_leaving, write_members
from .entry import CLEAR, DEDUPE, LEAVE, MESSAGE, TOUCH, TooLong
from .keeper import Keeper, NotIn, Waiting
from .link import MAX_BODY, Lost
from .options import Options
from .session import Session

MANY = 500  # members in one entry
OVERHEAD = 1024  # bytes of an entry beside its envelope, at most


class RabbitBackend(Backend):
    """RabbitMQ (3.10 and later): a stream queue as the log.

    ``amqp://[user:password@]host[:port][/vhost]``, ``amqps://…`` with TLS. Special characters of a password or a
    virtual host are percent-encoded. Options, in the URL's query:

    - ``stream=samovar``: name of the stream; give each app in a virtual host its own
    - ``size=64M``: bytes the stream keeps; and what a worker remembers of it, at most
    - ``age=600``: seconds the stream keeps what it has. Both are used when the stream is created: one that is there
      already keeps its own.
    - ``replicas``: on how many nodes of a cluster the stream is created
    - ``connect_timeout=2``: seconds a connection may take
    - ``heartbeat=2``: seconds of silence before the server is asked for a sign of life; dead after as many again
    - ``probe=15``: seconds between two messages to ourselves, by the road of all others
    - ``name=samovar``: what our connections are called in the server's list
    - ``tls_ca``, ``tls_cert``, ``tls_key``: files for TLS; ``tls_verify=0`` accepts any certificate

    Every worker reads the whole stream and remembers each channel's newest records, as its retention says, from which
    history is read. A publish returns when it was read back, so that its position is known. The broker's restart, even
    by ``kill -9``, loses nothing it had confirmed; a power failure may, where the stream has no replicas.
    """

    features: ClassVar[Feature] = (
        Feature.SHARED
        | Feature.HISTORY
        | Feature.POSITION
        | Feature.DEDUPE
        | Feature.VERSION
        | Feature.PRESENCE
        | Feature.DURABLE
    )

    def __init__(self, options: Options) -> None:
        self.options = options
        self._keeper = Keeper(options)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """See the class.

        Raises:
            ConfigError: the URL cannot work; the message names what.
        """
        return cls(Options.from_url(url))

    def __repr__(self) -> str:
        state = "up" if self._keeper.up else f"down: {self._keeper.why}"
        return f"<{type(self).__name__} {self.options.where} {state}>"

    @property
    def foreign(self) -> int:
        """How many messages lay in the stream that none of us sent."""
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
        """See the contract. The position is None where this worker reads the log much later than the broker has it, or
        lost its link in between; then it is not known either whether it was a repeat. Never so with a *version*:
        whether that was in time has to be read.
        """
        session = await self._keeper.current(reading=True)
        waiting = self._send(session, channel, envelope, id, retention, version, dedupe_seconds)
        return await self._read(waiting, id)

    def _send(
        self,
        session: Session,
        channel: str,
        envelope: bytes,
        id: str,
        retention: Retention | None,
        version: int | None,
        dedupe_seconds: float,
    ) -> Waiting:
        if barred := self._keeper.barred:
            raise PublishRejected(self._keeper.words(barred), id=id)
        if len(envelope) > MAX_BODY - OVERHEAD:
            raise PublishRejected(
                f"a record has at most {MAX_BODY - OVERHEAD} bytes, not {len(envelope)}", id=id
            )
        if version is not None and not -(2**63) <= version < 2**63:
            raise PublishRejected(f"version= is a whole number of 64 bits, not {version}", id=id)
        try:
            return self._keeper.send(
                session,
                MESSAGE,
                channel=channel.encode(),
                id=id.encode(),
                rest=envelope,
                retention=retention,
                number=version,
                dedupe=_milliseconds(dedupe_seconds),
            )
        except TooLong as error:
            raise PublishRejected(str(error), id=id) from error

    async def _read(self, waiting: Waiting, id: str) -> Accepted:
        """What became of a publish, when it was read back."""
        try:
            accepted: Accepted = await waiting.read
        except Lost as error:
            raise PublishUnknown(self._keeper.words(error), id=id) from error
        except NotIn as error:
            raise BackendUnavailable(self._keeper.words(error)) from error
        return accepted

    async def publish_many(
        self, records: Sequence[tuple[str, bytes, str, Retention | None]], *, dedupe_seconds: float = 300.0
    ) -> list[Accepted]:
        """See the contract: one burst."""
        session = await self._keeper.current(reading=True)
        sent: list[Waiting] = []
        try:
            for channel, envelope, id, retention in records:
                sent.append(self._send(session, channel, envelope, id, retention, None, dedupe_seconds))
        except (PublishRejected, BackendUnavailable) as error:
            if sent:  # those before may be in
                raise PublishUnknown(str(error), id=id) from error
            raise
        accepted: list[Accepted] = []
        for waiting, (_, _, id, _) in zip(sent, records, strict=True):
            try:
                accepted.append(await self._read(waiting, id))
            except BackendUnavailable as error:
                raise PublishUnknown(str(error), id=id) from error
        return accepted

    # --- reading ----------------------------------------------------------------------------------------------------

    async def history(
        self, channel: str, *, since: Position | None = None, limit: int, reverse: bool = False
    ) -> Page:
        """See the contract: what this worker remembers, once it has read all that was confirmed before."""
        await self._keeper.settled()
        return self._keeper.log.page(channel, since=since, limit=limit, reverse=reverse)

    async def heads(self, channels: Collection[str], *, create: bool = False) -> Mapping[str, Position]:
        """See the contract; a channel needs no creation."""
        await self._keeper.settled()
        return {channel: self._keeper.log.head(channel) for channel in channels}

    async def clear(self, channel: str) -> Position:
        """See the contract; who is attached learns it by the log."""
        accepted: Accepted = await self._tell(CLEAR, channel)
        if accepted.position is None:
            raise BackendUnavailable(self._keeper.words("no answer"))
        return accepted.position

    async def _tell(
        self, kind: int, channel: str, *, rest: bytes = b"", number: int | None = None, presence: bool = False
    ) -> Any:
        """Write an entry that is no message; returns what it caused.

        Raises:
            BackendUnavailable: it could not be written, or nobody knows.
        """
        session = await self._keeper.current()
        if barred := self._keeper.barred:
            raise BackendUnavailable(self._keeper.words(barred))
        waiting = self._keeper.send(
            session, kind, channel=channel.encode(), rest=rest, number=number, presence=presence
        )
        try:
            return await waiting.read
        except (Lost, NotIn) as error:
            raise BackendUnavailable(self._keeper.words(error)) from error

    # --- presence ---------------------------------------------------------------------------------------------------

    async def touch(self, channel: str, members: Sequence[Member], *, lease: float) -> list[Member]:
        """See the contract; leases end by the clock of each worker, from when it read of them."""
        joined: list[Member] = []
        number = max(1, min(MAX_LEASE, int(lease * 1000)))
        for at in range(0, len(members), MANY):
            rest = write_members(members[at : at + MANY])
            joined += await self._tell(TOUCH, channel, rest=rest, number=number, presence=True)
        return joined

    async def leave(self, channel: str, ids: Collection[str]) -> list[Member]:
        """See the contract."""
        return await self._leave(channel, [(id, None) for id in ids])

    async def _leave(self, channel: str, leaving: Sequence[tuple[str, int | None]]) -> list[Member]:
        gone: list[Member] = []
        for at in range(0, len(leaving), MANY):
            rest = write_leaving(leaving[at : at + MANY])
            gone += await self._tell(LEAVE, channel, rest=rest, presence=True)
        return gone

    async def sweep(self, channel: str) -> list[Member]:
        """See the contract. Who was renewed meanwhile stays."""
        await self._keeper.current()
        return await self._leave(channel, self._keeper.attendance.over(channel))

    async def members(self, channel: str) -> list[Member]:
        """See the contract."""
        await self._keeper.settled(presence=True)
        return self._keeper.attendance.members(channel)


def _milliseconds(seconds: float) -> int:
    """How long an id is remembered, as entries have it."""
    return max(1, min(DEDUPE, int(seconds * 1000))) if seconds > 0 else 0
