"""Joining history to live: where a subscriber goes on, and what a channel does after it may have missed something.

Pure functions; the rules, once:

- Live is a hint, history is the truth. The attach is confirmed before history is read, so what a read does not have
  arrives live, and what arrives meanwhile is buffered.
- The last position moves only by contiguous delivery (``record.prev == last``) or by a Gap.
- A position of another epoch, or beyond the head, is a Gap and never "nothing new": the stream in which it was given
  is not this one (reason ``reset``).
- A hole that history cannot fill is a Gap up to the first record that is there: ``expired`` when a subscriber came
  back too late, ``overflow`` when it was too slow, ``lost`` when this worker's link to the broker was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from .backend import Page, Record
from .message import Gap, History, Message, Position, Reason


class Placement(NamedTuple):
    """Where to go on.

    Args:
        start: read on after this.
        reason: why the given position cannot be gone on from; None when it can, unless history lacks what follows.
    """

    start: Position
    reason: Reason | None


def place(since: Position | None, last: Position) -> Placement:
    """Where a subscriber with the position *since* (None: unknown) goes on in a channel that stands at *last*."""
    if since is None:
        return Placement(last, "unknown")
    if since.epoch != last.epoch:
        return Placement(Position(last.epoch, 0), "reset")
    if since.offset > last.offset:
        return Placement(last, "reset")
    return Placement(since, None)


def doubtful(since: Position, last: Position) -> bool:
    """Whether *since* is none of the stream as this worker knows it, so that the broker should be asked first."""
    return since.epoch != last.epoch or since.offset > last.offset


class Woven(NamedTuple):
    """What a channel does next.

    Args:
        steps: records to deliver and Gaps to announce, in order; positions are contiguous through them.
        last: where that leads.
        rest: buffered records that do not follow yet.
        more: history has more than the page.
    """

    steps: list[Record | Gap]
    last: Position
    rest: list[Record]
    more: bool

    @property
    def again(self) -> bool:
        """History must be read again, after *last*."""
        return self.more or bool(self.rest)


def weave(
    channel: str, last: Position, page: Page, buffered: Iterable[Record], *, limit: int, force: bool = False
) -> Woven:
    """Join a page of history, read after *last*, to what arrived live meanwhile.

    Args:
        channel: for the Gaps.
        last: where the channel stands.
        page: history after *last*; with another epoch or incomplete it starts with the oldest kept record.
        buffered: live records in the order of their arrival.
        limit: what the page was limited to.
        force: a read before this one brought nothing, so what does not follow never will: announce it as lost.
    """
    head = page.head
    rewound = head.epoch == last.epoch and head.offset < last.offset
    reset = head.epoch != last.epoch or rewound
    floor = last.offset if not reset else head.offset if rewound else 0
    records = [r for r in page.records if r.position.epoch == head.epoch and r.position.offset > floor]
    more = bool(records) and records[-1].position.offset < head.offset and len(page.records) >= limit
    same = [r for r in buffered if r.position.epoch == head.epoch]
    rest = [r for r in buffered if r.position.epoch != head.epoch and not force]
    if not more:
        _merge(records, same, floor)
        same = []
    steps: list[Record | Gap] = []
    at = last
    if reset:
        at = head if rewound else Position(head.epoch, records[0].prev if records else head.offset)
        steps.append(Gap(channel, "reset", last, at))
    elif not page.complete or not records:
        at = _open(channel, last, head, records, steps)
    late = _chain(channel, at, records, steps, force=force)
    if steps and (end := steps[-1]) is not None:
        at = end.position if isinstance(end, Record) else end.until or at
    return Woven(steps, at, rest + late + same, more)


def _merge(records: list[Record], live: Sequence[Record], floor: int) -> None:
    """Add what only arrived live, in order, without duplicates."""
    known = {r.position.offset for r in records}
    for record in live:
        if record.position.offset > floor and record.position.offset not in known:
            known.add(record.position.offset)
            records.append(record)
    records.sort(key=lambda r: r.position.offset)


def _open(
    channel: str, last: Position, head: Position, records: list[Record], steps: list[Record | Gap]
) -> Position:
    """Announce what is missing between *last* and the first record, if anything is."""
    until = min(records[0].prev, head.offset) if records else head.offset
    if until <= last.offset:
        return last
    at = Position(last.epoch, until)
    steps.append(Gap(channel, "lost", last, at))
    return at


def _chain(
    channel: str, at: Position, records: list[Record], steps: list[Record | Gap], *, force: bool
) -> list[Record]:
    """Add the records that follow each other; returns the rest, or jumps over the hole with *force*."""
    for index, record in enumerate(records):
        if record.prev > at.offset:
            if not force:
                return records[index:]
            hole = Position(at.epoch, record.prev)
            steps.append(Gap(channel, "lost", at, hole))
        steps.append(record)
        at = record.position
    return []


def read_out(
    channel: str,
    page: Page,
    *,
    since: Position | None,
    asked: bool,
    limit: int,
    reverse: bool,
    read: Callable[[Record], Message | Gap],
) -> History:
    """A page of history as its reader gets it.

    Args:
        channel: its name.
        page: read after *since* with a limit one higher than *limit*, which tells whether there is more.
        since: what was given, None when nothing or nothing readable was.
        asked: something was given.
        limit: at most so many messages.
        reverse: the page is newest first.
        read: decodes.
    """
    head = page.head
    records = list(page.records[:limit])
    gap: Gap | None = None
    if asked:
        start, reason = place(since, head)
        if reason == "reset" and start == head and since is not None and since.epoch == head.epoch:
            records = []  # beyond the head: what is kept lies before what the reader has seen
        begin = head if reverse or not records else Position(head.epoch, records[0].prev)
        if reason is not None or not page.complete:
            gap = Gap(channel, reason or "expired", since, begin)
    gap = gap or _hole(channel, records[::-1] if reverse else records)
    messages = []
    for record in records:
        event = read(record)
        if isinstance(event, Message):
            messages.append(event)
        else:
            gap = gap or event
    position = records[-1].position if records else head
    return History(
        channel, tuple(messages), position, head, gap, more=len(page.records) > limit and bool(records)
    )


def _hole(channel: str, records: Sequence[Record]) -> Gap | None:
    """The first place where *records*, oldest first, do not follow each other."""
    for one, following in pairwise(records):
        if following.prev != one.position.offset:
            return Gap(channel, "lost", one.position, Position(following.position.epoch, following.prev))
    return None


def newest_of(newest: History, count: int, gap: Gap | None) -> History:
    """The newest *count* messages oldest first, ending at the head.

    Args:
        newest: read newest first, at least so many where there are.
        count: how many.
        gap: of the cursor that did not recover, None without one. It ends where these messages begin.
    """
    messages = newest.messages[:count][::-1]
    if gap is not None and messages:
        first = messages[0].position
        gap = replace(gap, until=Position(first.epoch, max(0, first.offset - 1)))
    elif gap is not None:
        gap = replace(gap, until=newest.head)
    return History(newest.channel, messages, newest.head, newest.head, gap or newest.gap)
