"""A channel's stream, with a clock that is told what time it is."""

from __future__ import annotations

import pytest

from samovar.broadcast import Page, Position, Retention
from samovar.broadcast.history import MAX_IDS, Stream


def filled(count: int, *, retention: Retention | None = None, now: float = 0.0, every: float = 0.0) -> Stream:
    stream = Stream("c", "e", now=now)
    for n in range(1, count + 1):
        stream.append(b"%d" % n, id=f"id{n}", now=now + n * every, retention=retention)
    return stream


def bodies(page: Page) -> list[int]:
    return [int(record.envelope) for record in page.records]


def test_records_are_numbered_from_one_and_chained() -> None:
    page = filled(3).read(now=0, limit=10)
    assert [(r.position, r.prev) for r in page.records] == [
        (Position("e", 1), 0),
        (Position("e", 2), 1),
        (Position("e", 3), 2),
    ]
    assert (page.head, page.complete) == (Position("e", 3), True)


@pytest.mark.parametrize(
    ("since", "limit", "found", "complete"),
    [
        (None, 10, [4, 5, 6], True),
        (None, 2, [4, 5], True),
        (None, 0, [], True),
        (Position("e", 6), 10, [], True),
        (Position("e", 5), 10, [6], True),
        (Position("e", 3), 10, [4, 5, 6], True),
        (Position("e", 3), 1, [4], True),
        (Position("e", 2), 10, [4, 5, 6], False),
        (Position("e", 0), 2, [4, 5], False),
        (Position("e", 7), 10, [4, 5, 6], False),
        (Position("f", 5), 10, [4, 5, 6], False),
    ],
)
def test_reading_forward(since: Position | None, limit: int, found: list[int], complete: bool) -> None:
    page = filled(6, retention=Retention(messages=3)).read(now=0, since=since, limit=limit)
    assert (bodies(page), page.complete, page.head) == (found, complete, Position("e", 6))


@pytest.mark.parametrize(
    ("since", "limit", "found", "complete"),
    [
        (None, 10, [6, 5, 4], True),
        (None, 2, [6, 5], True),
        (Position("e", 7), 10, [6, 5, 4], True),
        (Position("e", 6), 10, [5, 4], True),
        (Position("e", 5), 1, [4], True),
        (Position("e", 4), 10, [], True),
        (Position("e", 3), 10, [], False),
        (Position("e", 9), 10, [6, 5, 4], False),
        (Position("f", 5), 10, [6, 5, 4], False),
    ],
)
def test_reading_back(since: Position | None, limit: int, found: list[int], complete: bool) -> None:
    page = filled(6, retention=Retention(messages=3)).read(now=0, since=since, limit=limit, reverse=True)
    assert (bodies(page), page.complete) == (found, complete)


def test_age_is_found_when_it_is_next_used() -> None:
    stream = filled(5, retention=Retention(seconds=10), every=1.0)
    assert bodies(stream.read(now=10.9, limit=10)) == [1, 2, 3, 4, 5]
    assert bodies(stream.read(now=11.0, limit=10)) == [2, 3, 4, 5]
    page = stream.read(now=99, since=Position("e", 4), limit=10)
    assert (bodies(page), page.complete, page.head) == ([], False, Position("e", 5))


def test_bytes_bound_what_is_kept() -> None:
    stream = Stream("c", "e")
    for n in range(5):
        stream.append(b"x" * 10, id=str(n), now=0, retention=Retention(bytes=25))
    assert len(stream) == 2
    stream.append(b"x" * 26, id="big", now=0)
    assert (len(stream), stream.head.offset) == (0, 6)


def test_nothing_is_kept_with_zero_messages_and_numbers_go_on() -> None:
    stream = filled(4, retention=Retention(messages=0))
    assert (len(stream), stream.head) == (0, Position("e", 4))
    assert stream.read(now=0, since=Position("e", 4), limit=9).complete
    assert not stream.read(now=0, since=Position("e", 3), limit=9).complete


def test_a_known_id_gives_its_first_position_until_its_window_ends() -> None:
    stream = Stream("c", "e")
    append = stream.append
    append(b"1", id="same", now=0, dedupe_seconds=300)
    append(b"2", id="other", now=1, dedupe_seconds=300)
    accepted, record = append(b"3", id="same", now=299.9)
    assert (accepted.position, accepted.duplicate, record) == (Position("e", 1), True, None)
    accepted, record = append(b"4", id="same", now=300)
    assert (accepted.position, accepted.duplicate) == (Position("e", 3), False)
    assert record is not None and record.prev == 2


def test_an_id_outlives_its_record() -> None:
    stream = filled(5, retention=Retention(messages=1))
    assert stream.append(b"x", id="id1", now=1)[0].duplicate


def test_no_window_remembers_no_id() -> None:
    stream = Stream("c", "e")
    for _ in range(2):
        assert not stream.append(b"x", id="same", now=0, dedupe_seconds=0)[0].duplicate
    assert not stream._ids


def test_remembered_ids_are_bounded() -> None:
    stream = Stream("c", "e")
    for n in range(MAX_IDS + 5):
        stream.append(b"", id=str(n), now=0)
    assert len(stream._ids) == MAX_IDS


@pytest.mark.parametrize(
    ("versions", "dropped"),
    [([1, 2, 3], [0, 0, 0]), ([3, 1, 3, 4], [0, 1, 1, 0]), ([0, -1, None, 0], [0, 1, 0, 1])],
)
def test_versions_only_grow(versions: list[int | None], dropped: list[int]) -> None:
    stream = Stream("c", "e")
    answers = [stream.append(b"x", id=str(n), now=0, version=v)[0] for n, v in enumerate(versions)]
    assert [one.duplicate for one in answers] == [bool(drop) for drop in dropped]
    assert all(one.position is not None for one in answers)


def test_a_dropped_version_does_not_use_its_id_up() -> None:
    stream = Stream("c", "e")
    stream.append(b"x", id="a", now=0, version=5)
    assert stream.append(b"x", id="b", now=0, version=4)[0].duplicate
    assert not stream.append(b"x", id="b", now=0, version=6)[0].duplicate


def test_retention_is_remembered_until_another_comes() -> None:
    stream = filled(1, retention=Retention(messages=2))
    for n in range(5):
        stream.append(b"9", id=f"more{n}", now=0)
    assert len(stream) == 2
    stream.append(b"9", id="last", now=0, retention=Retention(messages=3))
    stream.append(b"9", id="very last", now=0)
    assert len(stream) == 3


def test_clear_begins_anew() -> None:
    stream = filled(3, retention=Retention(messages=2))
    assert stream.clear("f") == stream.head == Position("f", 0)
    assert not stream.read(now=0, since=Position("e", 3), limit=9).complete
    accepted, record = stream.append(b"1", id="id1", now=0, version=1)
    assert (accepted.position, accepted.duplicate) == (Position("f", 1), False)
    assert record is not None and stream.retention.messages == 2
