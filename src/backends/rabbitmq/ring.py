"""One channel as a worker remembers it from the log: its newest records within bounds. Pure; the clock is passed in."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from itertools import islice
from typing import TypeAlias

from ...broadcast.backend import DEFAULT_RETENTION, Page, Record, Retention
from ...broadcast.message import Position

Kept: TypeAlias = tuple[int, float, bytes]
"""Offset in the stream, when it came by the worker's clock, envelope."""


class Ring:
    """See the module.

    Attributes:
        begin: where the channel was cleared last, 0: never; it is the end of the epoch's name.
        head: the offset of the newest record ever, or what stands for it where the log does not reach back so far.
        floor: whatever came after this offset is kept. It is also what the first kept record follows.
        size: bytes that are kept.
        version: of the newest record that had one.
    """

    __slots__ = ("_kept", "begin", "floor", "head", "name", "retention", "size", "version")

    def __init__(self, name: str, head: int, *, begin: int = 0) -> None:
        self.name: str = name
        self.begin: int = begin
        self.head: int = head
        self.floor: int = head
        self.size: int = 0
        self.version: int | None = None
        self.retention: Retention = DEFAULT_RETENTION
        self._kept: deque[Kept] | None = None  # an empty deque takes 600 bytes, and most channels are quiet

    def __len__(self) -> int:
        return len(self._kept) if self._kept else 0

    def append(self, offset: int, envelope: bytes, now: float) -> int:
        """Add a record; returns what it follows."""
        previous, self.head = self.head, offset
        if self._kept is None:
            self._kept = deque()
        self._kept.append((offset, now, envelope))
        self.size += len(envelope)
        return previous

    def trim(self, now: float) -> int:
        """Drop what is beyond the bounds; returns the bytes that went."""
        kept, keep, before = self._kept, self.retention, self.size
        if not kept:
            return 0
        oldest = now - keep.seconds
        while kept and (len(kept) > keep.messages or self.size > keep.bytes or kept[0][1] <= oldest):
            self._drop(kept)
        if not kept:
            self._kept = None
        return before - self.size

    def shed(self) -> int:
        """Drop the older quarter, at least one; returns the bytes that went."""
        kept, before = self._kept, self.size
        if kept:
            for _ in range(-(-len(kept) // 4)):
                self._drop(kept)
            if not kept:
                self._kept = None
        return before - self.size

    def _drop(self, kept: deque[Kept]) -> None:
        self.floor, _, envelope = kept.popleft()
        self.size -= len(envelope)

    def forget(self) -> int:
        """Drop all that is kept, and vouch for nothing before the head; returns the bytes that went."""
        gone, self.size = self.size, 0
        self._kept = None
        self.floor = self.head
        return gone

    def clear(self, begin: int) -> int:
        """Forget records and version, and begin anew at *begin*; returns the bytes that went."""
        self.version = None
        self.begin = begin
        self.head = 0
        return self.forget()

    def page(self, epoch: str, *, since: Position | None, limit: int, reverse: bool) -> Page:
        """Read kept records, as ``Backend.history``; *epoch* is the channel's."""
        head = Position(epoch, self.head)
        kept = self._kept or deque()
        if reverse:
            return self._back(head, kept, since, limit)
        skip, complete = 0, True
        if since is not None:
            named = since.epoch == epoch and since.offset <= self.head
            complete = named and since.offset >= self.floor
            if named and since.offset > self.floor:
                skip = bisect_right(kept, since.offset, key=_offset)
        return Page(self._records(epoch, kept, skip, skip + limit), head, complete)

    def _back(self, head: Position, kept: deque[Kept], since: Position | None, limit: int) -> Page:
        """Newest first, from just before *since*."""
        end, complete = len(kept), True
        if since is not None:
            named = since.epoch == head.epoch and since.offset <= self.head + 1
            complete = named and since.offset > self.floor
            if named:
                end = bisect_right(kept, since.offset - 1, key=_offset)
        records = self._records(head.epoch, kept, max(0, end - limit), end)
        return Page(records[::-1], head, complete)

    def _records(self, epoch: str, kept: deque[Kept], start: int, end: int) -> tuple[Record, ...]:
        if start >= end:
            return ()
        previous = kept[start - 1][0] if start else self.floor
        records = []
        for offset, _, envelope in islice(kept, start, end):
            records.append(Record(self.name, Position(epoch, offset), previous, envelope))
            previous = offset
        return tuple(records)


def _offset(kept: Kept) -> int:
    return kept[0]
