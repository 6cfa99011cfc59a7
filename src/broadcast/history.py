"""A channel's stream: its newest records within bounds, numbered inside an epoch. Pure; the clock is passed in.

What a broker keeps of one channel, for backends that keep it themselves (memory, and the supervisor of ``local``).
*now* is seconds of any clock that does not go back; expiry is found when the stream is next used, so nothing runs in
between.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import islice
from typing import NamedTuple

from .backend import DEFAULT_RETENTION, Accepted, Page, Record, Retention
from .message import Position

MAX_IDS = 100_000  # remembered ids of one stream: beyond that the oldest go before their time


class _Kept(NamedTuple):
    since: float  # when it came
    record: Record


class Stream:
    """One channel's records.

    Args:
        channel: its name.
        epoch: names this life of the stream.
        retention: what it keeps until a publish brings another.
    """

    __slots__ = ("_bytes", "_epoch", "_ids", "_kept", "_offset", "_version", "channel", "retention", "used")

    def __init__(
        self, channel: str, epoch: str, *, retention: Retention = DEFAULT_RETENTION, now: float = 0.0
    ) -> None:
        self.channel: str = channel
        self.retention: Retention = retention
        self.used: float = now
        self._begin(epoch)

    def _begin(self, epoch: str) -> None:
        self._epoch = epoch
        self._offset = 0
        self._kept: deque[_Kept] = deque()
        self._bytes = 0
        self._ids: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._version: int | None = None

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def ids(self) -> int:
        """How many ids are remembered."""
        return len(self._ids)

    def forget_oldest_id(self) -> None:
        """Forget one before its time; there is one."""
        self._ids.popitem(last=False)

    @property
    def head(self) -> Position:
        """The newest position ever given in this epoch; offset 0 before any."""
        return Position(self._epoch, self._offset)

    def clear(self, epoch: str) -> Position:
        """Forget records, ids and version and begin *epoch*; the retention stays. Returns the new head."""
        self._begin(epoch)
        return self.head

    def append(
        self,
        envelope: bytes,
        *,
        id: str,
        now: float,
        retention: Retention | None = None,
        version: int | None = None,
        dedupe_seconds: float = 300.0,
    ) -> tuple[Accepted, Record | None]:
        """Add one record; None instead of it for a duplicate. The arguments are those of ``Backend.publish``."""
        self.used = now
        if retention is not None:
            self.retention = retention
        self._forget_ids(now)
        if (known := self._ids.get(id)) is not None:
            return Accepted(Position(self._epoch, known[1]), duplicate=True), None
        if version is not None:
            if self._version is not None and version <= self._version:
                return Accepted(self.head, duplicate=True), None
            self._version = version
        previous = self._offset
        self._offset = previous + 1
        record = Record(self.channel, Position(self._epoch, self._offset), previous, envelope)
        if dedupe_seconds > 0:
            self._remember_id(id, now + dedupe_seconds)
        self._kept.append(_Kept(now, record))
        self._bytes += len(envelope)
        self._trim(now)
        return Accepted(record.position), record

    def expire(self, now: float) -> float | None:
        """Drop what is out of time; returns when the next will be, None when nothing is left."""
        self._trim(now)
        self._forget_ids(now)
        ends = [until for until, _ in islice(self._ids.values(), 1)]
        if self._kept:
            ends.append(self._kept[0].since + self.retention.seconds)
        return min(ends, default=None)

    def _remember_id(self, id: str, until: float) -> None:
        if len(self._ids) >= MAX_IDS:
            self._ids.popitem(last=False)
        self._ids[id] = (until, self._offset)

    def _forget_ids(self, now: float) -> None:
        """Drop the ids whose window is over. They lie in order of arrival, so a longer window may delay the next."""
        while self._ids:
            id, (until, _) = next(iter(self._ids.items()))
            if until > now:
                return
            del self._ids[id]

    def _trim(self, now: float) -> None:
        keep = self.retention
        oldest = now - keep.seconds
        kept = self._kept
        while kept and (len(kept) > keep.messages or self._bytes > keep.bytes or kept[0].since <= oldest):
            self._bytes -= len(kept.popleft().record.envelope)

    def read(self, *, now: float, limit: int, since: Position | None = None, reverse: bool = False) -> Page:
        """Read kept records. The arguments and the answer are those of ``Backend.history``."""
        self.used = now
        self._trim(now)
        if reverse:
            return self._read_back(since, limit)
        first = self._kept[0].record.prev if self._kept else self._offset  # everything after this is kept
        complete, skip = True, 0
        if since is not None:
            named = since.epoch == self._epoch and since.offset <= self._offset
            complete = named and since.offset >= first
            skip = max(0, since.offset - first) if named else 0
        records = tuple(kept.record for kept in islice(self._kept, skip, skip + limit))
        return Page(records, self.head, complete)

    def _read_back(self, since: Position | None, limit: int) -> Page:
        """Newest first, from just before *since*."""
        skip, complete = 0, True
        if since is not None:
            named = since.epoch == self._epoch and since.offset <= self._offset + 1
            first = self._kept[0].record.prev if self._kept else self._offset
            complete = named and since.offset > first
            skip = self._offset - since.offset + 1 if named else 0
        records = tuple(
            kept.record for kept in islice(reversed(self._kept), max(0, skip), max(0, skip) + limit)
        )
        return Page(records, self.head, complete)
