"""Joining history to live, and placing a cursor: tables."""

from __future__ import annotations

import random
from typing import TypeAlias

import pytest

from samovar.broadcast import Gap, Message, Page, Position, Record, Retention
from samovar.broadcast.message import Reason
from samovar.broadcast.recovery import doubtful, place, read_out, weave
from samovar.broadcast.timeline import Entry, Timeline


def pos(text: str) -> Position:
    return Position.parse(text)


def rec(text: str, prev: int | None = None) -> Record:
    position = pos(text)
    return Record("c", position, position.offset - 1 if prev is None else prev, text.encode())


def gap(reason: Reason, after: str, until: str) -> Gap:
    return Gap("c", reason, pos(after), pos(until))


@pytest.mark.parametrize(
    ("since", "last", "start", "reason"),
    [
        ("e:5", "e:9", "e:5", None),
        ("e:9", "e:9", "e:9", None),
        ("e:0", "e:0", "e:0", None),
        ("e:10", "e:9", "e:9", "reset"),
        ("f:5", "e:9", "e:0", "reset"),
        ("f:99", "e:9", "e:0", "reset"),
        (None, "e:9", "e:9", "unknown"),
    ],
)
def test_where_a_cursor_goes_on(since: str | None, last: str, start: str, reason: str | None) -> None:
    position = None if since is None else pos(since)
    assert place(position, pos(last)) == (pos(start), reason)
    if position is not None:
        assert doubtful(position, pos(last)) == (reason == "reset")


# Each case: where the channel stands; the page (head, complete, records, limit); what came live; then the steps, where
# that leads, and whether to read again.
Weave: TypeAlias = tuple[str, tuple[str, bool, list[str], int], list[str], list[str | Gap], str, bool]
WEAVES: dict[str, Weave] = {
    "nothing new": ("e:5", ("e:5", True, [], 9), [], [], "e:5", False),
    "only history": ("e:5", ("e:7", True, ["e:6", "e:7"], 9), [], ["e:6", "e:7"], "e:7", False),
    "only live": ("e:5", ("e:5", True, [], 9), ["e:6"], ["e:6"], "e:6", False),
    "both overlap": (
        "e:5", ("e:7", True, ["e:6", "e:7"], 9), ["e:6", "e:7", "e:8"], ["e:6", "e:7", "e:8"], "e:8", False,
    ),
    "live is old": ("e:5", ("e:5", True, [], 9), ["e:4", "e:5"], [], "e:5", False),
    "live doubled and swapped": (
        "e:5", ("e:5", True, [], 9), ["e:7", "e:6", "e:7", "e:6"], ["e:6", "e:7"], "e:7", False,
    ),
    "a full page": ("e:5", ("e:9", True, ["e:6", "e:7"], 2), ["e:9"], ["e:6", "e:7"], "e:7", True),
    "a full page that ends at the head": ("e:5", ("e:7", True, ["e:6", "e:7"], 2), [], ["e:6", "e:7"], "e:7", False),
    "a hole after history": ("e:5", ("e:6", True, ["e:6"], 9), ["e:8"], ["e:6"], "e:6", True),
    "expired": (
        "e:2", ("e:7", False, ["e:6", "e:7"], 9), [], [gap("lost", "e:2", "e:5"), "e:6", "e:7"], "e:7", False,
    ),
    "expired, all": ("e:2", ("e:7", False, [], 9), [], [gap("lost", "e:2", "e:7")], "e:7", False),
    "nothing kept, but live has it": ("e:5", ("e:7", False, [], 9), ["e:6", "e:7"], ["e:6", "e:7"], "e:7", False),
    "nothing kept, live has the end": (
        "e:5", ("e:8", False, [], 9), ["e:8"], [gap("lost", "e:5", "e:7"), "e:8"], "e:8", False,
    ),
    "nothing kept, live came after": (
        "e:5", ("e:8", False, [], 9), ["e:9"], [gap("lost", "e:5", "e:8"), "e:9"], "e:9", False,
    ),
    "nothing kept, live after a hole": (
        "e:5", ("e:8", False, [], 9), ["e:10"], [gap("lost", "e:5", "e:8")], "e:8", True,
    ),
    "another epoch": (
        "e:5", ("f:2", False, ["f:1", "f:2"], 9), [], [gap("reset", "e:5", "f:0"), "f:1", "f:2"], "f:2", False,
    ),
    "another epoch, its start expired": (
        "e:5", ("f:4", False, ["f:4"], 9), [], [gap("reset", "e:5", "f:3"), "f:4"], "f:4", False,
    ),
    "another epoch, empty": ("e:5", ("f:0", False, [], 9), ["e:6"], [gap("reset", "e:5", "f:0")], "f:0", True),
    "another epoch, live of both": (
        "e:5", ("f:1", False, ["f:1"], 9), ["e:6", "f:1", "f:2"],
        [gap("reset", "e:5", "f:0"), "f:1", "f:2"], "f:2", True,
    ),
    "live of an epoch to come": ("e:5", ("e:5", True, [], 9), ["f:1"], [], "e:5", True),
    "rewound": ("e:9", ("e:5", False, ["e:4", "e:5"], 9), ["e:6"], [gap("reset", "e:9", "e:5"), "e:6"], "e:6", False),
    "a page that lies": ("e:5", ("e:7", True, [], 9), [], [gap("lost", "e:5", "e:7")], "e:7", False),
}  # fmt: skip


@pytest.mark.parametrize("name", WEAVES)
def test_weaving_history_and_live(name: str) -> None:
    last, (head, complete, records, limit), live, steps, leads, again = WEAVES[name]
    page = Page([rec(text) for text in records], pos(head), complete)
    woven = weave("c", pos(last), page, [rec(text) for text in live], limit=limit)
    assert woven.steps == [rec(step) if isinstance(step, str) else step for step in steps]
    assert (woven.last, woven.again) == (pos(leads), again)


@pytest.mark.parametrize(
    ("last", "head", "live", "steps", "leads"),
    [
        ("e:5", "e:5", ["e:8", "e:9"], [gap("lost", "e:5", "e:7"), "e:8", "e:9"], "e:9"),
        ("e:5", "e:5", ["f:1"], [], "e:5"),
        ("e:5", "e:5", ["e:6", "e:8"], ["e:6", gap("lost", "e:6", "e:7"), "e:8"], "e:8"),
    ],
)
def test_what_never_comes_is_announced_in_the_end(
    last: str, head: str, live: list[str], steps: list[str | Gap], leads: str
) -> None:
    page = Page([], pos(head), complete=True)
    woven = weave("c", pos(last), page, [rec(text) for text in live], limit=9, force=True)
    assert woven.steps == [rec(step) if isinstance(step, str) else step for step in steps]
    assert (woven.last, woven.again) == (pos(leads), False)


def test_sparse_offsets_follow_their_prev() -> None:
    page = Page([rec("e:20", prev=10), rec("e:35", prev=20)], pos("e:35"), complete=True)
    woven = weave("c", pos("e:10"), page, [rec("e:35", prev=20), rec("e:36", prev=35)], limit=9)
    assert [step.position.offset for step in woven.steps if isinstance(step, Record)] == [20, 35, 36]
    assert len(woven.steps) == 3 and not woven.again


@pytest.mark.parametrize("seed", range(40))
def test_any_split_of_a_stream_is_woven_whole(seed: int) -> None:
    """Some of it from history, some live, shuffled and doubled: what comes out is the stream, or a read is due."""
    dice = random.Random(seed)
    stream = [rec(f"e:{n}") for n in range(1, 40)]
    last, buffered, out = Position("e", 0), list[Record](), list[Record]()
    head, live = 0, list(stream)
    for _ in range(100):
        head = min(39, max(head + dice.randrange(12), last.offset))  # what was delivered is in history
        arrived = [record for record in live if record.position.offset <= head + 2]
        buffered += dice.sample(arrived, len(arrived)) + arrived[:2]
        limit = dice.choice((1, 3, 50))
        kept = [record for record in stream if last.offset < record.position.offset <= head]
        page = Page(kept[:limit], Position("e", head), complete=True)
        woven = weave("c", last, page, buffered, limit=limit)
        assert all(isinstance(step, Record) for step in woven.steps)
        out += [step for step in woven.steps if isinstance(step, Record)]
        last, buffered = woven.last, woven.rest
        if head == 39 and not woven.again:
            break
    assert out == stream


# --- reading out ----------------------------------------------------------------------------------------------------


def message(record: Record) -> Message | Gap:
    if record.envelope == b"e:3x":
        return Gap("c", "lost", Position("e", record.prev), record.position, 1)
    return Message("c", record.position, "id", 0, "bytes", record.envelope)


@pytest.mark.parametrize(
    ("since", "asked", "page", "offsets", "expected"),
    [
        (None, False, (["e:4", "e:5"], "e:5", True), [4, 5], None),
        ("e:4", True, (["e:5"], "e:5", True), [5], None),
        ("e:5", True, ([], "e:5", True), [], None),
        ("e:1", True, (["e:4", "e:5"], "e:5", False), [4, 5], gap("expired", "e:1", "e:3")),
        ("e:1", True, ([], "e:5", False), [], gap("expired", "e:1", "e:5")),
        ("f:1", True, (["e:4", "e:5"], "e:5", False), [4, 5], gap("reset", "f:1", "e:3")),
        ("e:9", True, (["e:4", "e:5"], "e:5", False), [], gap("reset", "e:9", "e:5")),
        (None, True, (["e:4", "e:5"], "e:5", True), [4, 5], Gap("c", "unknown", None, Position("e", 3))),
    ],
)
def test_history_as_its_reader_gets_it(
    since: str | None,
    asked: bool,
    page: tuple[list[str], str, bool],
    offsets: list[int],
    expected: Gap | None,
) -> None:
    records, head, complete = page
    read = read_out(
        "c",
        Page([rec(text) for text in records], pos(head), complete),
        since=None if since is None else pos(since),
        asked=asked,
        limit=5,
        reverse=False,
        read=message,
    )
    assert [m.position.offset for m in read.messages] == offsets
    assert (read.gap, read.recovered, read.more) == (expected, expected is None, False)
    assert read.position == (read.messages[-1].position if offsets else pos(head))


def test_more_than_the_limit_is_said() -> None:
    page = Page([rec(f"e:{n}") for n in range(1, 5)], pos("e:9"), complete=True)
    read = read_out("c", page, since=None, asked=False, limit=3, reverse=False, read=message)
    assert (len(read.messages), read.more, read.position, read.head) == (3, True, pos("e:3"), pos("e:9"))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("asked", [False, True])
def test_a_hole_inside_a_page_is_a_gap(reverse: bool, asked: bool) -> None:
    records = [rec("e:2"), rec("e:3"), rec("e:6"), rec("e:7")]
    page = Page(records[::-1] if reverse else records, pos("e:7"), complete=True)
    since = pos("e:1") if asked and not reverse else None
    read = read_out("c", page, since=since, asked=since is not None, limit=5, reverse=reverse, read=message)
    assert (len(read.messages), read.recovered) == (4, False)
    assert read.gap == gap("lost", "e:3", "e:5")
    whole = Page(page.records[:2], pos("e:7"), complete=True)
    assert read_out("c", whole, since=None, asked=False, limit=5, reverse=reverse, read=message).gap is None


def test_an_unreadable_record_is_a_gap_and_passed() -> None:
    page = Page([rec("e:2"), Record("c", pos("e:3"), 2, b"e:3x")], pos("e:3"), complete=True)
    read = read_out("c", page, since=pos("e:1"), asked=True, limit=3, reverse=False, read=message)
    assert [m.position.offset for m in read.messages] == [2]
    assert (read.position, read.recovered) == (pos("e:3"), False)


# --- the timeline ---------------------------------------------------------------------------------------------------


def entry(offset: int, prev: int | None = None, size: int = 10) -> Entry:
    record = rec(f"e:{offset}", prev)
    return Entry(message(record), record.position, record.prev, size)


def timeline(first: int, last: int, keep: Retention = Retention()) -> Timeline:  # noqa: B008
    made = Timeline(Position("e", first - 1), keep)
    for offset in range(first, last + 1):
        made.append(entry(offset), now=float(offset))
    return made


def test_a_timeline_gives_what_follows() -> None:
    line = timeline(4, 9)
    assert [e.position.offset for e in line.after(6, 10)] == [7, 8, 9]
    assert [e.position.offset for e in line.after(3, 2)] == [4, 5]
    assert line.after(9, 10) == []
    assert (line.covers(3), line.covers(2), line.last) == (True, False, pos("e:9"))


@pytest.mark.parametrize(
    ("keep", "base"),
    [
        (Retention(messages=2), 7),
        (Retention(bytes=35), 6),
        (Retention(seconds=2.5), 6),
        (Retention(messages=0), 9),
    ],
)
def test_a_timeline_is_bounded(keep: Retention, base: int) -> None:
    line = timeline(4, 9, keep)
    assert (line.base, line.last) == (base, pos("e:9"))
    assert len(line) == 9 - base


def test_history_goes_in_front_only_where_it_fits() -> None:
    line = timeline(6, 7, Retention(messages=2))
    assert not line.prepend([entry(3), entry(4)], [0, 0], before=pos("e:5"), complete=True)
    assert not line.prepend([entry(3), entry(4)], [0, 0], before=pos("e:4"), complete=True)
    assert not line.prepend([], [], before=pos("f:5"), complete=True)
    assert not line.prepend([], [], before=pos("e:4"), complete=True)
    assert (line.base, line.floor) == (5, 0)
    assert line.prepend([entry(4), entry(5)], [0, 0], before=pos("e:5"), complete=True)
    assert (line.base, line.floor, len(line)) == (3, 3, 4)
    assert [e.position.offset for e in line.after(3, 9)] == [4, 5, 6, 7]
    line.append(entry(8), now=0.0)
    assert (line.base, len(line)) == (6, 2)


def test_the_newest_messages_are_counted_without_gaps() -> None:
    line = timeline(4, 6)
    line.append(Entry(gap("lost", "e:6", "e:9"), pos("e:9"), 6, 100), now=0.0)
    line.append(entry(10, prev=9), now=0.0)
    assert [line.newest(n) for n in (0, 1, 2, 4)] == [pos("e:10"), pos("e:9"), pos("e:5"), pos("e:3")]
    assert line.newest(5) is None
    line.floor = 3
    assert line.newest(5) == pos("e:3")
