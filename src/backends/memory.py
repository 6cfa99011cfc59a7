"""The broker inside the process: ``memory://`` for one hub, ``memory://NAME`` for all hubs of the process.

In order and exactly once while the process lives; a restart is a new epoch. It passes the contract's suite, so that
tests may trust it as the stand-in for the real brokers. Hubs that share a NAME must run in one event loop. It has no
tasks: what expires is dropped when its channel is next touched, or soon after by publishes to others.

Options, in the URL's query: ``channels`` (how many channels are remembered, 100,000) and ``meta`` (seconds after which
a channel that nobody used is forgotten, 86,400). A forgotten channel begins a new epoch.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self
from urllib.parse import SplitResult, urlsplit
from weakref import WeakValueDictionary

from ..broadcast.backend import Accepted, Backend, Feature, Health, Page, Receiver, Retention, State
from ..broadcast.history import Stream
from ..broadcast.message import Member, Position
from ..broadcast.presence import Roster
from ..errors import ConfigError
from .options import read_query, whole

TIDIED_AT_ONCE = 2  # channels that one publish looks at for what is out of time
MAX_IDS = 1_000_000  # remembered ids of all channels together, about 300 bytes each
MAX_EVICTION_STEPS = 16  # how many channels in use one new channel passes over in search of an idle one


@dataclass(frozen=True, slots=True)
class Options:
    """What the URL's query says.

    Args:
        channels: at most so many channels are remembered, those attached not counted against it.
        meta: seconds after its last use until a channel is forgotten.
    """

    channels: int = 100_000
    meta: float = 86_400.0


class Broker:
    """The channels that hubs share.

    Args:
        options: its bounds.
        clock: seconds of a clock that does not go back.
    """

    def __init__(
        self, options: Options | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.options: Options = options or Options()
        self.clock = clock
        self.receivers: dict[str, dict[Receiver, None]] = {}
        self.rosters: dict[str, Roster] = {}
        self._streams: OrderedDict[str, Stream] = OrderedDict()
        self._ids = 0
        self._with_ids: OrderedDict[str, None] = OrderedDict()  # channels that remember any
        self._holding: OrderedDict[str, float] = OrderedDict()  # when something in a channel is out of time

    def __len__(self) -> int:
        return len(self._streams)

    def stream(self, channel: str) -> Stream:
        """The stream of *channel*, which comes to be; the one used last stands at the end."""
        return self._stream(channel, self.clock())

    def _stream(self, channel: str, now: float) -> Stream:
        found = self._streams.get(channel)
        if found is not None and (now - found.used < self.options.meta or channel in self.receivers):
            self._streams.move_to_end(channel)
            return found
        if found is not None:
            self._forget(channel)
        self._evict(now)
        made = self._streams[channel] = Stream(channel, new_epoch(), now=now)
        self._streams.move_to_end(channel)
        return made

    def _evict(self, now: float) -> None:
        """Forget the longest unused channels that are out of time or over the bound, but none that is attached."""
        for _ in range(MAX_EVICTION_STEPS):
            if not self._streams:
                return
            channel, stream = next(iter(self._streams.items()))
            over = len(self._streams) >= self.options.channels + len(self.receivers)
            if not over and now - stream.used < self.options.meta:
                return
            if channel in self.receivers:
                self._streams.move_to_end(channel)
            else:
                self._forget(channel)

    def _forget(self, channel: str) -> None:
        """Forget the channel and what it holds."""
        self._count_ids(channel, -self._streams.pop(channel).ids, None)
        self._holding.pop(channel, None)

    # --- the operations of the contract, none of which waits --------------------------------------------------------

    def publish(
        self,
        channel: str,
        envelope: bytes,
        *,
        id: str,
        retention: Retention | None = None,
        version: int | None = None,
        dedupe_seconds: float = 300.0,
    ) -> Accepted:
        """Store the record and hand it to every receiver that has the channel attached, before returning."""
        now = self.clock()
        stream = self._stream(channel, now)
        ids = stream.ids
        accepted, record = stream.append(
            envelope,
            id=id,
            now=now,
            retention=retention,
            version=version,
            dedupe_seconds=dedupe_seconds,
        )
        if change := stream.ids - ids:
            self._count_ids(channel, change, stream)
            if self._ids > MAX_IDS:
                self._forget_an_id(stream)
        keep = stream.retention.seconds
        self._tidy(channel, now, now + (dedupe_seconds if 0 < dedupe_seconds < keep else keep))
        if record is not None and (receivers := self.receivers.get(channel)):
            for receiver in tuple(receivers):
                receiver.message(record)
        return accepted

    def _tidy(self, channel: str, now: float, due: float) -> None:
        """Note when something in *channel* will be out of time, and look at a few others for what is.

        Each publish makes room faster than it takes it, so channels that nobody touches again hold nothing for long.
        """
        holding = self._holding
        if holding.get(channel, math.inf) > due:
            holding[channel] = due
        if len(holding) == 1:
            return
        for _ in range(TIDIED_AT_ONCE):
            name, due = holding.popitem(last=False)
            if due <= now:
                stream = self._streams[name]
                ids = stream.ids
                end = stream.expire(now)
                self._count_ids(name, stream.ids - ids, stream)
                if end is None:
                    continue
                due = end
            holding[name] = due

    def _count_ids(self, channel: str, change: int, stream: Stream | None) -> None:
        """*channel* remembers so many ids more, or fewer; None: it is forgotten itself."""
        self._ids += change
        if stream is None or not stream.ids:
            self._with_ids.pop(channel, None)
        elif change == stream.ids:
            self._with_ids[channel] = None

    def _forget_an_id(self, stream: Stream) -> None:
        """The stream's own oldest goes before its time, or, where it has only a new one, that of others in turn."""
        channel = stream.channel
        if stream.ids == 1:
            self._with_ids.move_to_end(channel)
            channel = next(iter(self._with_ids))
            self._with_ids.move_to_end(channel)
            stream = self._streams[channel]
        stream.forget_oldest_id()
        self._count_ids(channel, -1, stream)

    def attach(self, receiver: Receiver, channels: Collection[str]) -> None:
        """From now on *receiver* gets the records of these channels, which it is told."""
        for channel in channels:
            self.receivers.setdefault(channel, {})[receiver] = None
        receiver.attached(channels)

    def detach(self, receiver: Receiver, channels: Collection[str]) -> None:
        """*receiver* gets no more of these."""
        for channel in channels:
            receivers = self.receivers.get(channel, {})
            receivers.pop(receiver, None)
            if not receivers and self.receivers.pop(channel, None) is not None:
                self.stream(channel).used = self.clock()

    def history(self, channel: str, *, since: Position | None, limit: int, reverse: bool) -> Page:
        """Read kept records; a channel never used comes to be."""
        return self.stream(channel).read(now=self.clock(), limit=limit, since=since, reverse=reverse)

    def heads(self, channels: Collection[str]) -> dict[str, Position]:
        """The newest position of each; missing channels come to be."""
        return {channel: self.stream(channel).head for channel in channels}

    def clear(self, channel: str) -> Position:
        """Begin a new epoch and let the receivers look."""
        stream = self.stream(channel)
        ids, head = stream.ids, stream.clear(new_epoch())
        self._count_ids(channel, -ids, stream)
        for receiver in tuple(self.receivers.get(channel, ())):
            receiver.attached([channel])
        return head

    def touch(self, channel: str, members: Sequence[Member], *, lease: float, by: int = 0) -> list[Member]:
        """Enter or renew; returns those by whom a key came to be present."""
        if not members:
            return []
        roster = self.rosters.setdefault(channel, Roster())
        return roster.touch(members, until=self.clock() + lease, by=by)

    def shorten(self, by: int, seconds: float) -> None:
        """Whom *by* touched last stays for at most so many seconds, unless somebody renews it."""
        until = self.clock() + seconds
        for roster in self.rosters.values():
            roster.shorten(by, until)

    def leave(self, channel: str, ids: Collection[str]) -> list[Member]:
        """Remove; returns those by whose leave a key is no longer present."""
        return self._without_empty(channel, lambda roster: roster.leave(ids))

    def sweep(self, channel: str) -> list[Member]:
        """Remove those whose lease ended; returns what :meth:`leave` does."""
        return self._without_empty(channel, lambda roster: roster.sweep(self.clock()))

    def members(self, channel: str) -> list[Member]:
        """Those with a running lease, by id."""
        roster = self.rosters.get(channel)
        return [] if roster is None else roster.members(self.clock())

    def _without_empty(self, channel: str, change: Callable[[Roster], list[Member]]) -> list[Member]:
        """Change a roster, and forget it when nobody is left."""
        roster = self.rosters.get(channel)
        if roster is None:
            return []
        gone = change(roster)
        if not roster:
            del self.rosters[channel]
        return gone


class MemoryBackend(Backend):
    """One hub's door to a :class:`Broker` of this process."""

    features: ClassVar[Feature] = (
        Feature.HISTORY | Feature.POSITION | Feature.DEDUPE | Feature.VERSION | Feature.PRESENCE
    )
    needs_start: ClassVar[bool] = False
    waits: ClassVar[bool] = False
    checks: ClassVar[bool] = False

    def __init__(self, broker: Broker | None = None) -> None:
        self.broker: Broker = Broker() if broker is None else broker
        self._receiver: Receiver | None = None

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``memory://`` makes a broker of its own, ``memory://NAME`` joins that of the process with that name.

        Raises:
            ConfigError: an option is unknown or bad, or differs from those NAME has already.
        """
        parts = urlsplit(url)
        if parts.path.strip("/") or parts.fragment or "@" in parts.netloc or ":" in parts.netloc:
            raise ConfigError(
                f"a memory URL reads memory:// or memory://NAME, with options after a '?', not {url!r}"
            )
        options = _options(url, parts)
        if not parts.netloc:
            return cls(Broker(options))
        broker = _named.get(parts.netloc)
        if broker is None:
            broker = _named[parts.netloc] = Broker(options)
        elif parts.query and broker.options != options:
            raise ConfigError(
                f"memory://{parts.netloc} is open in this process with {broker.options}: {url!r} differs"
            )
        return cls(broker)

    def bind(self, receiver: Receiver) -> None:
        """Keep *receiver*; it is told at once that all is well."""
        self._receiver = receiver
        receiver.health(Health(State.UP, generation=1, lag=0.0))

    async def run(self, receiver: Receiver) -> None:
        """Wait to be cancelled: there is nothing to connect."""
        await asyncio.get_running_loop().create_future()

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
        """Store the record and hand it to every hub that has the channel attached, before returning."""
        return self.broker.publish(
            channel,
            envelope,
            id=id,
            retention=retention,
            version=version,
            dedupe_seconds=dedupe_seconds,
        )

    async def attach(self, channels: Collection[str]) -> None:
        """Confirmed before it returns."""
        self.broker.attach(self._bound(), channels)

    async def detach(self, channels: Collection[str]) -> None:
        """Over when it returns."""
        self.broker.detach(self._bound(), channels)

    def _bound(self) -> Receiver:
        if self._receiver is None:
            raise RuntimeError("bind() gives a backend its receiver before anything else")
        return self._receiver

    async def history(
        self, channel: str, *, since: Position | None = None, limit: int, reverse: bool = False
    ) -> Page:
        """See the contract; a channel never used comes to be."""
        return self.broker.history(channel, since=since, limit=limit, reverse=reverse)

    async def heads(self, channels: Collection[str], *, create: bool = False) -> Mapping[str, Position]:
        """See the contract; missing channels come to be in any case."""
        return self.broker.heads(channels)

    async def clear(self, channel: str) -> Position:
        """See the contract."""
        return self.broker.clear(channel)

    async def touch(self, channel: str, members: Sequence[Member], *, lease: float) -> list[Member]:
        """See the contract."""
        return self.broker.touch(channel, members, lease=lease)

    async def leave(self, channel: str, ids: Collection[str]) -> list[Member]:
        """See the contract."""
        return self.broker.leave(channel, ids)

    async def sweep(self, channel: str) -> list[Member]:
        """See the contract."""
        return self.broker.sweep(channel)

    async def members(self, channel: str) -> list[Member]:
        """See the contract."""
        return self.broker.members(channel)


_named: WeakValueDictionary[str, Broker] = WeakValueDictionary()


def new_epoch() -> str:
    """A name no other epoch has: 48 random bits."""
    return secrets.token_urlsafe(6)


def _options(url: str, parts: SplitResult) -> Options:
    """The query's options, checked."""
    known = "the options of memory:// are channels and meta"
    return Options(**read_query(url, parts.query, {"channels": whole, "meta": whole}, known=known))
