"""What one worker remembers of a channel: its newest events without a hole, for those who fell behind. Pure.

A timeline covers ``(base, last]`` of one epoch: every event after the offset *base* is there, in order, up to *last*.
It grows at the end by live delivery and at the front by what was read from history. Loss that was announced stands in
it as a Gap, so whoever reads it gets continuity or the Gap, like those who were there.

*floor* is an offset at or below which history is known to hold nothing any more: no read will bring older events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from .backend import Retention
from .message import Gap, Message, Position

GAP_SIZE = 100  # bytes a Gap counts for, as the overhead of a Message does


class Entry(NamedTuple):
    """One event in its place: it follows *prev* and reaches up to *position*."""

    event: Message | Gap
    position: Position
    prev: int
    size: int


class Stretch(NamedTuple):
    """A part of a timeline: *entries* follow *begin* without a hole."""

    begin: Position
    entries: Sequence[Entry]

    @property
    def whole(self) -> bool:
        """No announced loss is in it."""
        return not any(isinstance(entry.event, Gap) for entry in self.entries)


class Timeline:
    """The ring of one channel.

    Args:
        last: where the channel stands; nothing is remembered yet.
        keep: bounds: number, age and bytes of what is remembered.
    """

    __slots__ = ("_entries", "_size", "_stamps", "base", "floor", "keep", "last")

    def __init__(self, last: Position, keep: Retention) -> None:
        self.keep: Retention = keep
        self.reset(last)

    def reset(self, last: Position, *, floor: int = 0) -> None:
        """Forget everything and stand at *last*."""
        self.last: Position = last
        self.base: int = last.offset
        self.floor: int = floor
        self._entries: deque[Entry] = deque()
        self._stamps: deque[float] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def epoch(self) -> str:
        """The epoch it is of."""
        return self.last.epoch

    @property
    def first(self) -> Position | None:
        """The position of the oldest event remembered."""
        return self._entries[0].position if self._entries else None

    def append(self, entry: Entry, now: float) -> None:
        """Add what follows *last*."""
        self._entries.append(entry)
        self._stamps.append(now)
        self._size += entry.size
        self.last = entry.position
        self.trim(now)

    def trim(self, now: float) -> None:
        """Forget what is over the bounds at the time *now*."""
        keep, entries, stamps = self.keep, self._entries, self._stamps
        oldest = now - keep.seconds
        while entries and (len(entries) > keep.messages or self._size > keep.bytes or stamps[0] <= oldest):
            entry = entries.popleft()
            stamps.popleft()
            self._size -= entry.size
            self.base = entry.position.offset

    def prepend(
        self, entries: Sequence[Entry], stamps: Sequence[float], *, before: Position, complete: bool
    ) -> bool:
        """Add, in front, what history has up to *before*; refused (False) unless that is the base, still.

        The bounds may be exceeded until the next :meth:`append`, so that all who waited for these events get them.

        Args:
            entries: oldest first, without a hole.
            stamps: when each came, as far as is known.
            before: the position of the last entry; where there is none, that up to which history was read.
            complete: history has nothing older.
        """
        if before != Position(self.epoch, self.base) or (entries and entries[-1].position != before):
            return False
        self._entries.extendleft(reversed(entries))
        self._stamps.extendleft(reversed(stamps))
        self._size += sum(entry.size for entry in entries)
        if entries:
            self.base = entries[0].prev
        if complete:
            self.floor = max(self.floor, self.base)
        return True

    def covers(self, offset: int) -> bool:
        """Everything after *offset* is here."""
        return offset >= self.base

    def after(self, offset: int, limit: int) -> list[Entry]:
        """The first *limit* events after *offset*, which is covered."""
        entries = self._entries
        newer = 0
        for entry in reversed(entries):
            if entry.position.offset <= offset:
                break
            newer += 1
        start = len(entries) - newer
        return list(islice(entries, start, start + limit))

    def newest(self, count: int) -> Position | None:
        """The place after which the newest *count* messages follow; None when fewer are here and history has more."""
        if count == 0:
            return self.last
        found = 0
        for entry in reversed(self._entries):
            if isinstance(entry.event, Message):
                found += 1
                if found >= count:
                    return Position(self.epoch, entry.prev)
        return Position(self.epoch, self.base) if self.floor >= self.base else None
