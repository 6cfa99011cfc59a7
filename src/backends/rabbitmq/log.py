"""The log as a worker has read it: every channel's newest records, who wrote what, and the epoch. Pure; no I/O.

All workers read the same entries in the same order and decide alike, so they agree on what is in:

- A record whose id was seen in its channel is a duplicate while three things hold, each of which every reader of the
  log computes alike: the first one's window is not over by the writers' clocks, it lies less than a quarter of the
  stream back, and less than 100,000 entries. (Workers' clocks should agree to some seconds: by the difference the
  window for a repeat through *another* worker is shorter. A repeat through the same worker does not know of it. And an
  id that is used again and again, in less time than its window, may be counted from another use by a worker that
  started later.)
- A record whose version is not above the channel's newest is dropped.
- The epoch begins with an entry that says so; of several with the same number the first counts. Marks repeat it, so
  that it is known when its beginning was dropped from the stream long ago.

Offsets are the stream's, so those of a channel have holes; ``prev`` tells what each record follows. Where the stream
has lost its beginning, a reader gives out as history only what lies so far behind the first entry that the ids of what
is missing cannot matter any more. Older positions are not vouched for: a Gap. Where the channels stand on which nothing
came for so long, a summary says (see :mod:`.summary`).

Entries may be missing: readers that are slower than what the stream keeps are moved forward by the broker, without a
word. A hole of one offset is where a segment of the stream begins, and is none of ours; a longer one makes us forget
all that lies before it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple, Protocol

from ...broadcast.backend import DEFAULT_RETENTION, Accepted, Page, Record
from ...broadcast.message import Position
from .entry import (
    BEGIN,
    CLEAR,
    DEDUPE,
    HEAD,
    MAGIC,
    MARK,
    MESSAGE,
    NAMES,
    SUMMARY,
    VERSION,
    LaterVersion,
    read_more,
)
from .ring import Ring
from .summary import Gathering, Known, Part, read_part, write_summary

MAX_IDS = 100_000  # entries for which an id is remembered
MAX_CHANNELS = 100_000
EVICTION_STEPS = 16
REMEMBERED = DEDUPE / 1000 + 30  # seconds after which no id of a generation matters
NO_EPOCH = "?"


class Follower(Protocol):
    """Who is told what the log says."""

    def record(self, record: Record) -> None:
        """A record of a channel that is wanted came to be."""

    def begun(self, channels: Collection[str] | None) -> None:
        """These (None: all) began anew, or may lack something: look."""

    def own(self, number: int, accepted: Accepted) -> None:
        """Our entry of that number was read."""

    def stranger(self, offset: int) -> None:
        """A message that is none of ours lies there."""


class _Seen(NamedTuple):
    """Where an id was seen first."""

    offset: int
    at: int  # bytes of the log before it
    until: int  # ms, by its writer's clock


class Log:
    """See the module.

    Args:
        me: the upper half of the origin of our entries.
        size: bytes of the stream, and of what is remembered at most.
        follower: is told.
        clock: seconds of a clock that does not go back.
        wall: milliseconds since 1970.
    """

    def __init__(
        self,
        me: int,
        size: int,
        follower: Follower,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.me = me
        self.wanted: set[str] = set()
        self.live: bool = False
        """What comes is new, rather than read up."""
        self.epoch: str = NO_EPOCH
        self.term: int = 0
        """The number of the epoch."""
        self.marked: bool = False
        """A mark has repeated the epoch."""
        self.contested: bool = False
        """Somebody proposed another epoch, who has not seen ours."""
        self.first: int = -1
        self.last: int = -1
        """The offsets read, -1: none yet."""
        self.last_body: bytes | None = None
        self.floor: int = 0
        """Where channels stand of which nothing is known: whatever came after it was read."""
        self.whole: bool = False
        """A channel of which nothing is known was never used in this epoch."""
        self.read: int = 0
        """Bytes read."""
        self.summed: tuple[int, float] = (0, clock())
        """Bytes read before the newest summary, and when it came."""
        self._gathering = Gathering()
        self._follower = follower
        self._clock = clock
        self._wall = wall
        self._size = size
        self._window = size // 4
        self._warm_from = 0  # ms by the writer's clock
        self._warming = False
        self._rings: dict[bytes, Ring] = {}
        self._ids: dict[int, _Seen] = {}
        self._old_ids: dict[int, _Seen] = {}
        self._ids_since = (0, 0, 0.0)
        self._kept = 0
        self._holding: Iterator[bytes] = iter(())

    # --- reading entries --------------------------------------------------------------------------------------------

    def take(self, offset: int, body: bytes | None) -> None:
        """Read the entry at *offset*; None: it is longer than any of ours.

        Raises:
            LaterVersion: it cannot be read, and not be skipped either.
        """
        if self.first < 0:
            self._start(offset, body)
        elif offset > self.last + 2:
            self._hole(offset)
        if body is None or len(body) < HEAD.size or body[:4] != MAGIC:
            self.last, self.last_body = offset, body
            return self._follower.stranger(offset)
        _, version, kind, origin, ts, flags, name_size, id_size = HEAD.unpack_from(body)
        if version != VERSION or kind > SUMMARY:
            raise LaterVersion(version, kind, offset)
        self.last, self.last_body = offset, body
        self.read += len(body)
        if self._warming:
            self._warm(offset, ts)
        named = HEAD.size + name_size
        key = body[HEAD.size : named]
        if kind == MESSAGE:
            self._message(offset, body, key, named + id_size, origin, ts, flags)
        else:
            self._control(kind, offset, body, key, id_size, origin, flags)

    def _start(self, offset: int, body: bytes | None) -> None:
        """The first entry that is left: what lay before it is not known."""
        self.first = offset
        self._warming = offset > 0
        self.whole = offset == 0
        self.floor = offset - 1 if offset else 0
        self._ids_since = (offset, 0, self._clock())
        if body is not None and body[:4] == MAGIC and len(body) >= HEAD.size:
            self._warm_from = HEAD.unpack_from(body)[4]

    def _warm(self, offset: int, ts: int) -> None:
        """Ids of what is missing may matter still: nothing up to here is given out as history."""
        far = offset - self.first >= MAX_IDS or self.read >= self._window
        if far or ts - self._warm_from >= DEDUPE:
            self._warming = False
            for ring in self._rings.values():
                self._kept -= ring.forget()

    def _hole(self, offset: int) -> None:
        """The broker moved us forward: what we have no longer follows."""
        self.floor = offset - 1
        self.whole = False
        for ring in self._rings.values():
            ring.head = self.floor
            self._kept -= ring.forget()
        if self.live:
            self._follower.begun(None)

    def caught_up(self) -> None:
        """The end is reached: what comes from now on is live."""
        self.live = True
        self._warming = False

    # --- messages ---------------------------------------------------------------------------------------------------

    def _message(
        self, offset: int, body: bytes, key: bytes, at: int, origin: int, ts: int, flags: int
    ) -> None:
        ring = self._rings.get(key)
        if ring is None:
            ring = self._make(key)
        if flags:
            retention, version, dedupe, envelope = read_more(body, at, flags)
            if retention is not None:
                ring.retention = retention
        else:
            version, dedupe, envelope = None, DEDUPE, body[at:]
        accepted: Accepted | None = None
        if dedupe:
            id = hash(body[NAMES:at])
            seen = self._ids.get(id) or self._old_ids.get(id)
            if seen is not None and self._known(seen, ring, offset, ts):
                accepted = Accepted(Position(self._epoch(ring), seen.offset), duplicate=True)
            elif version is None or ring.version is None or version > ring.version:
                self._ids[id] = _Seen(offset, self.read, ts + min(dedupe, DEDUPE))
        if accepted is None and version is not None:
            if ring.version is not None and version <= ring.version:
                accepted = Accepted(Position(self._epoch(ring), ring.head), duplicate=True)
            else:
                ring.version = version
        if accepted is None:
            self._append(ring, offset, envelope, origin, ts)
        elif origin >> 32 == self.me:
            self._follower.own(origin, accepted)
        self._tidy(offset)

    def _known(self, seen: _Seen, ring: Ring, offset: int, ts: int) -> bool:
        return (
            ts < seen.until
            and seen.offset > ring.begin
            and offset - seen.offset < MAX_IDS
            and self.read - seen.at < self._window
        )

    def _append(self, ring: Ring, offset: int, envelope: bytes, origin: int, ts: int) -> None:
        now = self._clock()
        stamp = now if self.live else now - self._age(ts)
        previous = ring.append(offset, envelope, stamp)
        self._kept += len(envelope) - ring.trim(now)
        own = origin >> 32 == self.me
        if self.live and ring.name in self.wanted:
            position = Position(self._epoch(ring), offset)
            self._follower.record(Record(ring.name, position, previous, envelope))
            if own:
                self._follower.own(origin, Accepted(position))
        elif own:
            self._follower.own(origin, Accepted(Position(self._epoch(ring), offset)))

    def _age(self, ts: int) -> float:
        """Seconds since it was written, by the wall clocks of its writer and of this worker."""
        return max(0.0, (self._wall() - ts) / 1000)

    # --- other entries ----------------------------------------------------------------------------------------------

    def _control(
        self, kind: int, offset: int, body: bytes, key: bytes, id_size: int, origin: int, flags: int
    ) -> None:
        named = HEAD.size + len(key)
        own = origin >> 32 == self.me
        if kind in (MARK, BEGIN):
            epoch = body[named : named + id_size].decode(errors="replace")
            number = read_more(body, named + id_size, flags).number
            self._name_epoch(kind, offset, epoch, number or 0)
        elif kind == CLEAR:
            ring = self._rings.get(key)
            if ring is None:
                ring = self._make(key)
            self._kept -= ring.clear(offset)
            if own:
                self._follower.own(origin, Accepted(Position(self._epoch(ring), 0)))
            if self.live and ring.name in self.wanted:
                self._follower.begun([ring.name])
            return
        elif kind == SUMMARY:
            self._summary(origin, read_part(body[named + id_size :]))
        if own:
            self._follower.own(origin, Accepted(Position(self.epoch, offset)))

    def _summary(self, origin: int, part: Part) -> None:
        """While the log is read up: learn where the channels stand of which nothing came."""
        self.summed = (self.read, self._clock())
        summary = self._gathering.add(origin >> 32, part)
        if summary is None or self.live or self.whole or summary.at < self.first - 1:
            return
        unread = {ring.name for ring in self._rings.values() if ring.head == self.floor and not ring.begin}
        for known in summary.channels:
            self._learn(known, summary.at, unread)
        if summary.whole and len(self._rings) < MAX_CHANNELS:
            for name in unread:
                ring = self._rings[name.encode()]
                ring.head = ring.floor = 0
            self.floor, self.whole = 0, True

    def _learn(self, known: Known, at: int, unread: set[str]) -> None:
        """A summary of what lay before the entry *at* knows this of a channel; *unread* are those of which nothing
        was read."""
        key = known.name.encode()
        ring = self._rings.get(key)
        if ring is None:
            ring = self._make(key)
            unread.add(known.name)
        if ring.retention is DEFAULT_RETENTION:
            ring.retention = known.retention
        if ring.begin > at:
            return
        if known.name in unread:
            unread.discard(known.name)
            ring.head = ring.floor = known.head
        ring.begin = ring.begin or known.begin
        if ring.version is None:
            ring.version = known.version

    def summary(self) -> list[bytes]:
        """What is known of all channels, those that are wanted first, as entries have it."""
        rings = sorted(self._rings.values(), key=lambda ring: ring.name not in self.wanted)
        return list(write_summary(rings, at=self.last, whole=self.whole))

    def _name_epoch(self, kind: int, offset: int, epoch: str, term: int) -> None:
        """A mark or a beginning says which epoch it is; see the module."""
        if not epoch:
            return
        if epoch == self.epoch:
            self.marked = self.marked or kind == MARK
        elif self._overrides(kind, epoch, term):
            self._adopt(kind, offset, epoch, term)
        elif term == self.term:
            self.contested = True

    def _overrides(self, kind: int, epoch: str, term: int) -> bool:
        """Whether another epoch than ours counts; all who read both come to the same answer, in whatever order."""
        if self.epoch == NO_EPOCH or term != self.term:
            return self.epoch == NO_EPOCH or term > self.term
        return kind == MARK and (not self.marked or epoch < self.epoch)

    def _adopt(self, kind: int, offset: int, epoch: str, term: int) -> None:
        """The epoch is another than was thought. What was read before is none of it where it begins here, and cannot
        be vouched for where a mark names another than we had."""
        known = self.epoch != NO_EPOCH
        self.epoch, self.term = epoch, term
        self.marked = kind == MARK
        if kind == MARK and not known:
            return
        self._rings.clear()
        self._ids.clear()
        self._old_ids.clear()
        self._kept = 0
        self._warming = False
        self.whole = kind == BEGIN
        self.floor = 0 if self.whole else offset
        if self.live:
            self._follower.begun(None)

    # --- bounds -----------------------------------------------------------------------------------------------------

    def _make(self, key: bytes) -> Ring:
        """The ring of a channel of which nothing was known."""
        if len(self._rings) >= MAX_CHANNELS:
            self._evict()
        ring = self._rings[key] = Ring(key.decode(errors="replace"), self.floor)
        return ring

    def _evict(self) -> None:
        """Forget one channel that is not wanted, an empty one if there is; and vouch for none that is not known from
        before what was forgotten."""
        for step in range(EVICTION_STEPS):
            key = next(iter(self._rings))
            ring = self._rings.pop(key)
            if ring.name in self.wanted or (len(ring) and step < EVICTION_STEPS // 2):
                self._rings[key] = ring  # to the end
                continue
            self._kept -= ring.size
            self.floor = max(self.floor, ring.head)
            self.whole = False
            return

    def _tidy(self, offset: int) -> None:
        """Look at one other channel for what is out of time, forget old ids, and keep the bound over all channels."""
        since, read, began = self._ids_since
        if (
            offset - since >= MAX_IDS
            or self.read - read >= self._window
            or (self.live and self._clock() - began >= REMEMBERED)
        ):
            self._ids, self._old_ids = {}, self._ids
            self._ids_since = (offset, self.read, self._clock())
        if (ring := self._next()) is not None:
            self._kept -= ring.trim(self._clock())
        while self._kept > self._size and (ring := self._next()) is not None:
            self._kept -= ring.shed()

    def _next(self) -> Ring | None:
        """The channels one after the other, for ever."""
        for _ in range(2):
            for key in self._holding:
                if (ring := self._rings.get(key)) is not None:
                    return ring
            self._holding = iter(list(self._rings))
        return None

    # --- questions --------------------------------------------------------------------------------------------------

    def _epoch(self, ring: Ring) -> str:
        return f"{self.epoch}.{ring.begin:x}" if ring.begin else self.epoch

    def head(self, channel: str) -> Position:
        """The newest position of *channel*."""
        ring = self._rings.get(channel.encode())
        return Position(self.epoch, self.floor) if ring is None else Position(self._epoch(ring), ring.head)

    def hold(self, channels: Collection[str]) -> None:
        """Know these from now on, also when others are forgotten."""
        self.wanted.update(channels)
        for channel in channels:
            key = channel.encode()
            if key not in self._rings:
                self._make(key)

    def page(self, channel: str, *, since: Position | None, limit: int, reverse: bool) -> Page:
        """Read kept records, as ``Backend.history``."""
        ring = self._rings.get(channel.encode())
        if ring is None:
            ring = Ring(channel, self.floor)
        else:
            self._kept -= ring.trim(self._clock())
        return ring.page(self._epoch(ring), since=since, limit=limit, reverse=reverse)
