"""What a worker makes of RabbitMQ's stream: the log, who is present, and how a late reader comes to the same."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

import pytest

from samovar.backends.rabbitmq import log as log_module
from samovar.backends.rabbitmq.attendance import Attendance, write_leaving, write_members
from samovar.backends.rabbitmq.entry import (
    BEGIN,
    CLEAR,
    HEAD,
    LEAVE,
    MAGIC,
    MARK,
    MESSAGE,
    SUMMARY,
    TOUCH,
    LaterVersion,
    TooLong,
    write,
)
from samovar.backends.rabbitmq.log import Log
from samovar.broadcast import Member, Position, Record, Retention

ME = 7
SIZE = 64 << 20


class Told:
    """A follower that remembers."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.looks: list[Any] = []
        self.caused: dict[int, Any] = {}
        self.strangers: list[int] = []

    def record(self, record: Record) -> None:
        self.records.append(record)

    def begun(self, channels: Collection[str] | None) -> None:
        self.looks.append(channels)

    def own(self, number: int, caused: Any) -> None:
        self.caused[number & 0xFFFFFFFF] = caused

    def stranger(self, offset: int) -> None:
        self.strangers.append(offset)


class Stream:
    """Entries as the broker keeps them, and a clock for all."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.entries: list[tuple[int, bytes]] = []
        self.next = 0
        self._numbers = 0

    def add(self, kind: int, **fields: Any) -> int:
        """Write an entry of ours; returns its number."""
        self._numbers += 1
        fields = {k: v.encode() if isinstance(v, str) else v for k, v in fields.items()}
        self.entries.append(
            (self.next, write(kind, ME << 32 | self._numbers, ts=int(self.now * 1000), **fields))
        )
        self.next += 1
        return self._numbers

    def say(self, channel: str, text: str, id: str | None = None, **fields: Any) -> int:
        return self.add(MESSAGE, channel=channel, id=id or f"id{self.next}", rest=text, **fields)

    def reader(self, *, size: int = SIZE) -> Log:
        return Log(ME, size, Told(), clock=lambda: self.now, wall=lambda: self.now * 1000)

    def read(self, log: Log, since: int | None = None) -> Told:
        """Let *log* read what it has not."""
        for offset, body in self.entries:
            if offset > log.last and offset >= (since or 0):
                log.take(offset, body)
        told = log._follower
        assert isinstance(told, Told)
        return told

    def whole(self, *, size: int = SIZE, since: int | None = None) -> Log:
        """A reader at the end, live."""
        log = self.reader(size=size)
        self.read(log, since)
        log.caught_up()
        return log


@pytest.fixture
def stream() -> Stream:
    stream = Stream()
    stream.add(BEGIN, id="E1", number=1)
    stream.add(MARK, id="E1", number=1)
    return stream


def kept(log: Log, channel: str, since: Position | None = None) -> list[str]:
    page = log.page(channel, since=since, limit=1000, reverse=False)
    return [record.envelope.decode() for record in page.records]


def complete(log: Log, channel: str, since: Position) -> bool:
    return log.page(channel, since=since, limit=1000, reverse=False).complete


# --- a reader from the beginning ------------------------------------------------------------------------------------


def test_records_follow_each_other_in_their_channel(stream: Stream) -> None:
    log = stream.whole()
    log.hold(["a", "b"])
    for n in range(6):
        stream.say("ab"[n % 2], f"{n}")
    told = stream.read(log)
    assert [(r.channel, r.prev, r.position.offset) for r in told.records] == [
        ("a", 0, 2),
        ("b", 0, 3),
        ("a", 2, 4),
        ("b", 3, 5),
        ("a", 4, 6),
        ("b", 5, 7),
    ]
    assert log.head("a") == Position("E1", 6) and log.head("never") == Position("E1", 0)
    assert kept(log, "b", Position("E1", 3)) == ["3", "5"]


def test_the_writer_learns_what_became_of_each_entry(stream: Stream) -> None:
    first, again, other = stream.say("a", "x", "i"), stream.say("a", "y", "i"), stream.say("b", "z", "i")
    told = stream.read(stream.reader())
    assert [told.caused[n].duplicate for n in (first, again, other)] == [False, True, False]
    assert told.caused[again].position == told.caused[first].position == Position("E1", 2)


def test_names_and_ids_do_not_run_into_each_other(stream: Stream) -> None:
    numbers = [stream.say("ab", "x", "c"), stream.say("a", "y", "bc")]
    told = stream.read(stream.reader())
    assert not any(told.caused[n].duplicate for n in numbers)


@pytest.mark.parametrize(
    ("seconds", "dedupe", "known"),
    [
        (299, 300_000, True),
        (301, 300_000, False),
        (4, 5000, True),
        (6, 5000, False),
        (0, 0, False),
        (-3600, 300_000, True),
    ],
)
def test_an_id_is_known_for_its_window(stream: Stream, seconds: float, dedupe: int, known: bool) -> None:
    stream.say("a", "x", "i", dedupe=dedupe)
    stream.now += seconds
    number = stream.say("a", "y", "i", dedupe=dedupe)
    assert stream.read(stream.reader()).caused[number].duplicate is known


def test_an_id_is_forgotten_a_quarter_of_the_stream_later(stream: Stream) -> None:
    size = 8 << 20
    stream.say("a", "x", "i")
    for _ in range(3):
        stream.say("b", "x" * 600_000)
    near = stream.say("a", "y", "i")
    stream.say("b", "x" * 600_000)
    far = stream.say("a", "z", "i")
    told = stream.read(stream.reader(size=size))
    assert (told.caused[near].duplicate, told.caused[far].duplicate) == (True, False)


def test_an_id_is_known_as_long_as_it_must_while_old_ones_are_let_go(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "MAX_IDS", 10)
    stream.say("a", "x", "i")
    for _ in range(8):
        stream.say("b", "")
    near = stream.say("a", "y", "i")
    for _ in range(30):
        stream.say("b", "")
    far = stream.say("a", "z", "i")
    log = stream.reader()
    told = stream.read(log)
    assert (told.caused[near].duplicate, told.caused[far].duplicate) == (True, False)
    assert len(log._ids) + len(log._old_ids) <= 21


def test_an_old_version_is_dropped_and_its_id_not_remembered(stream: Stream) -> None:
    numbers = [
        stream.say("a", f"{n}", id, number=version)
        for n, (id, version) in enumerate([("p", 5), ("q", 4), ("r", 5), ("q", 6)])
    ]
    log = stream.whole()
    told = log._follower
    assert isinstance(told, Told)
    assert [told.caused[n].duplicate for n in numbers] == [False, True, True, False]
    assert kept(log, "a") == ["0", "3"]


def test_clearing_begins_an_epoch_of_the_channel_and_forgets_its_ids(stream: Stream) -> None:
    log = stream.whole()
    log.hold(["a"])
    stream.say("a", "x", "i")
    cleared = stream.add(CLEAR, channel="a")
    after = stream.say("a", "y", "i")
    told = stream.read(log)
    assert told.caused[cleared].position == Position("E1.3", 0)
    assert not told.caused[after].duplicate and told.looks[-1] == ["a"]
    assert log.head("a") == Position("E1.3", 4) and log.head("b") == Position("E1", 0)
    assert kept(log, "a") == ["y"] and not complete(log, "a", Position("E1", 2))


def test_retention_is_the_channels(stream: Stream) -> None:
    for n in range(4):
        stream.say("a", f"{n}", retention=Retention(messages=2) if n == 0 else None)
    stream.say("b", "brief", retention=Retention(seconds=5))
    log = stream.whole()
    assert kept(log, "a") == ["2", "3"] and not complete(log, "a", Position("E1", 2))
    assert complete(log, "a", Position("E1", 3))
    stream.now += 6
    assert kept(log, "b") == [] and log.head("b").offset == 6


def test_the_bound_over_all_channels_is_kept(stream: Stream) -> None:
    size = 8 << 20
    for n in range(40):
        stream.say(f"c{n % 20}", "x" * 500_000, retention=Retention(bytes=1 << 30))
    log = stream.whole(size=size)
    total = sum(ring.size for ring in log._rings.values())
    assert total == log._kept and 4 << 20 < total <= size
    for n in range(20):
        head = log.head(f"c{n}")
        assert complete(log, f"c{n}", head)


def test_channels_beyond_the_bound_are_forgotten_but_none_that_is_wanted(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "MAX_CHANNELS", 5)
    log = stream.whole()
    log.hold(["mine"])
    stream.say("mine", "x")
    for n in range(20):
        stream.say(f"c{n}", "x")
    stream.read(log)
    assert len(log._rings) <= 5 and kept(log, "mine") == ["x"]
    assert kept(log, "c0") == [] and not complete(log, "c0", Position("E1", 0))
    assert not log.whole


def test_what_is_none_of_ours_is_skipped_and_told(stream: Stream) -> None:
    bodies: list[bytes | None] = [b"", b"hello", MAGIC, None, b"x" * 100]
    log = stream.reader()
    stream.read(log)
    for body in bodies:
        log.take(log.last + 1, body)
    stream.next = log.last + 1
    stream.say("a", "x")
    assert stream.read(log).strangers == [2, 3, 4, 5, 6] and kept(log, "a") == ["x"]


def test_an_entry_of_a_later_version_is_not_skipped(stream: Stream) -> None:
    log = stream.whole()
    for version, kind in ((2, MESSAGE), (1, 200)):
        with pytest.raises(LaterVersion, match="upgrade"):
            log.take(2, HEAD.pack(MAGIC, version, kind, 0, 0, 0, 0, 0))
        assert log.last == 1  # nor when it comes again


def test_names_that_do_not_fit_are_refused() -> None:
    for fields in ({"channel": b"x" * 256}, {"id": b"x" * 256}):
        with pytest.raises(TooLong):
            write(MESSAGE, 0, **fields)  # type: ignore[arg-type]  # one of two


# --- holes and epochs -----------------------------------------------------------------------------------------------


def test_the_beginning_of_a_segment_is_no_hole_and_anything_else_is(stream: Stream) -> None:
    log = stream.whole()
    log.hold(["a"])
    before = log.head("a")
    stream.say("a", "1")
    stream.next += 1
    stream.say("a", "2")
    told = stream.read(log)
    assert told.looks == [] and kept(log, "a") == ["1", "2"]
    stream.next += 2
    stream.say("a", "3")
    stream.read(log)
    assert told.looks == [None] and kept(log, "a") == ["3"]
    assert not complete(log, "a", Position("E1", 4)) and not complete(log, "a", before)
    assert not complete(log, "never", Position("E1", 0)) and complete(log, "never", log.head("never"))


def test_of_two_beginnings_the_first_counts(stream: Stream) -> None:
    stream.say("a", "x")
    stream.add(BEGIN, id="E0", number=1)
    log = stream.whole()
    assert log.epoch == "E1" and log.contested and kept(log, "a") == ["x"]


def test_a_higher_beginning_is_a_new_epoch_and_lagging_marks_do_not_bring_the_old_one_back(
    stream: Stream,
) -> None:
    log = stream.whole()
    stream.say("a", "x", "i")
    stream.add(BEGIN, id="E2", number=2)
    stream.add(MARK, id="E1", number=1)
    again = stream.say("a", "y", "i")
    told = stream.read(log)
    assert log.epoch == "E2" and told.looks == [None]
    assert kept(log, "a") == ["y"] and not told.caused[again].duplicate
    assert complete(log, "b", Position("E2", 0)) and not complete(log, "a", Position("E1", 2))


def test_two_epochs_of_one_number_become_one_whoever_reads_first() -> None:
    """Two workers began one each, in a stream that had lost all marks; both marks follow, in either order."""
    for order in (("A", "B"), ("B", "A")):
        stream = Stream()
        stream.next = 500
        for id in order:
            stream.add(BEGIN, id=id, number=1)
        for id in order:
            stream.add(MARK, id=id, number=1)
        log = stream.whole()
        assert log.epoch == "A"


def test_records_before_a_mark_that_overrides_are_not_vouched_for() -> None:
    stream = Stream()
    stream.next = 500
    stream.add(MARK, id="E1", number=1)
    stream.say("a", "of E2 already")
    stream.add(MARK, id="E2", number=2)
    stream.say("a", "x")
    log = stream.whole()
    assert log.epoch == "E2" and kept(log, "a") == ["x"]
    assert not complete(log, "a", Position("E2", 500)) and not log.whole


# --- late readers ---------------------------------------------------------------------------------------------------


def test_what_a_truncated_log_may_lack_is_incomplete(stream: Stream) -> None:
    stream.say("a", "1")
    stream.say("b", "1")
    stream.add(MARK, id="E1", number=1)
    stream.say("a", "2")
    late = stream.whole(since=4)
    assert late.epoch == "E1" and kept(late, "a") == ["2"]
    assert not complete(late, "a", Position("E1", 2)) and not complete(late, "b", Position("E1", 2))
    assert late.head("b").offset >= stream.whole().head("b").offset


def test_ids_of_what_a_late_reader_lacks_cannot_be_taken_for_new_in_what_it_gives_out(stream: Stream) -> None:
    stream.say("a", "1", "i")
    stream.add(MARK, id="E1", number=1)
    stream.say("a", "2", "i")  # a duplicate, which a late reader cannot know
    stream.now += 301
    stream.say("a", "3")
    late = stream.whole(since=3)
    assert kept(late, "a") == ["3"] and kept(stream.whole(), "a") == ["3"]
    assert late.head("a") == stream.whole().head("a")


def test_a_summary_tells_a_late_reader_where_quiet_channels_stand(stream: Stream) -> None:
    stream.say("quiet", "1", retention=Retention(messages=5), number=3)
    stream.say("cleared", "1")
    stream.add(CLEAR, channel="cleared")
    early = stream.whole()
    since = stream.next
    stream.add(MARK, id="E1", number=1)
    stream.say("busy", "1")
    stream.read(early)
    for rest in early.summary():
        stream.add(SUMMARY, rest=rest)
    stream.say("quiet", "old", number=2)
    late = stream.whole(since=since)
    stream.read(early)
    for name in ("quiet", "cleared", "busy", "never"):
        assert late.head(name) == early.head(name), name
        assert complete(late, name, early.head(name)), name
    assert late.whole and late._rings[b"quiet"].retention == Retention(messages=5)
    assert not complete(late, "busy", Position("E1", since - 3))


def test_a_summary_of_what_was_before_does_not_undo_what_came_since(stream: Stream) -> None:
    stream.say("a", "1", number=9)
    early = stream.whole()
    since = stream.next
    stream.add(MARK, id="E1", number=1)
    parts = early.summary()
    stream.add(CLEAR, channel="a")
    stream.say("a", "2", number=1)
    for rest in parts:
        stream.add(SUMMARY, rest=rest)
    late = stream.whole(since=since)
    stream.read(early)
    assert late.head("a") == early.head("a") and kept(late, "a") == kept(early, "a") == ["2"]


def test_a_summary_that_does_not_reach_the_first_entry_is_of_no_use(stream: Stream) -> None:
    early = stream.whole()
    parts = early.summary()
    stream.say("a", "1")
    since = stream.next
    stream.add(MARK, id="E1", number=1)
    for rest in parts:
        stream.add(SUMMARY, rest=rest)
    late = stream.whole(since=since)
    assert not late.whole and not complete(late, "a", Position("E1", 0))


@pytest.mark.parametrize("seed", range(8))
def test_a_late_reader_tells_nobody_that_nothing_is_missing_where_something_is(seed: int) -> None:
    """Whatever a reader from anywhere calls complete is what one from the beginning knows to be in. Only where it has
    read less than a window may it have taken the repeat of an entry that is gone for a new one."""
    rng = random.Random(seed)
    stream = Stream()
    stream.add(BEGIN, id="E1", number=1)
    early = stream.reader()
    truth: dict[str, list[tuple[Position, str]]] = {}
    names = ["a", "b", "c", "rare"]
    for n in range(400):
        stream.now += rng.choice([0, 0.5, 3])
        name = rng.choices(names, [5, 5, 5, 0.2])[0]
        match rng.choices(["say", "again", "clear", "mark", "sum", "skip"], [40, 4, 1, 3, 2, 1])[0]:
            case "say":
                number = rng.choice([None, None, None, n])
                keep = Retention(messages=1000, seconds=3600) if rng.random() < 0.2 else None
                stream.say(name, f"{n}", number=number, retention=keep)
            case "again":
                stream.say(name, f"again {n}", f"id{rng.randrange(max(0, n - 60), n + 1)}")
            case "clear":
                stream.add(CLEAR, channel=name)
            case "mark":
                stream.add(MARK, id="E1", number=1)
            case "sum":
                stream.read(early)
                for rest in early.summary():
                    stream.add(SUMMARY, rest=rest)
            case "skip":
                stream.next += 1
    early.caught_up()
    stream.read(early)
    reader = stream.reader()
    reader.live = True
    reader.hold(names)
    stream.read(reader)
    told = reader._follower
    assert isinstance(told, Told)
    for record in told.records:
        truth.setdefault(record.channel, []).append((record.position, record.envelope.decode()))
    for since in rng.sample(range(1, stream.next), 15):
        late = stream.reader()
        stream.read(late, since)
        sure = not late._warming
        late.caught_up()
        if late.epoch == "?":
            continue
        for name in names:
            assert (
                late.head(name).offset >= early.head(name).offset
                or late.head(name).epoch != early.head(name).epoch
            )
            for position, _ in [*truth.get(name, []), (early.head(name), "")]:
                page = late.page(name, since=position, limit=1000, reverse=False)
                if page.complete:
                    behind = [
                        text
                        for at, text in truth.get(name, [])
                        if at.epoch == position.epoch and at.offset > position.offset
                    ]
                    found = [r.envelope.decode() for r in page.records]
                    assert [one for one in found if sure or one in behind] == behind
                    assert sure or all(one in behind or one.startswith("again") for one in found)


# --- who is present -------------------------------------------------------------------------------------------------


class Presence:
    """A stream of presence, and readers of it."""

    def __init__(self) -> None:
        self.stream = Stream()
        self.caused: dict[int, list[Member]] = {}

    def reader(self, me: int = ME) -> Attendance:
        def own(number: int, caused: list[Member]) -> None:
            self.caused[number & 0xFFFFFFFF] = caused

        return Attendance(me, own, clock=lambda: self.stream.now, wall=lambda: self.stream.now * 1000)

    def touch(self, *members: Member, lease: int = 30_000) -> int:
        return self.stream.add(TOUCH, channel="c", rest=write_members(members), number=lease)

    def leave(self, *leaving: tuple[str, int | None]) -> int:
        return self.stream.add(LEAVE, channel="c", rest=write_leaving(leaving))

    def read(self, attendance: Attendance) -> Attendance:
        for offset, body in self.stream.entries:
            if offset > attendance.last:
                attendance.take(offset, body)
        return attendance


ANN, TWIN, BOB = Member("1", "ann"), Member("2", "ann"), Member("3", None, {"x": [1]})


def test_joins_and_leaves_are_found_once() -> None:
    presence = Presence()
    numbers = [
        presence.touch(ANN, BOB),
        presence.touch(TWIN),
        presence.leave(("1", None), ("nobody", None)),
        presence.leave(("2", None)),
        presence.leave(("2", None)),
    ]
    attendance = presence.read(presence.reader())
    assert [presence.caused[n] for n in numbers] == [[ANN, BOB], [], [], [TWIN], []]
    assert attendance.members("c") == [BOB]
    presence.leave(("3", None))
    presence.read(attendance)
    assert not attendance._rosters and not attendance._held


def test_who_was_renewed_meanwhile_is_not_swept() -> None:
    presence = Presence()
    attendance = presence.reader()
    attendance.live = True
    presence.touch(ANN)
    presence.read(attendance)
    presence.stream.now += 31
    (over,) = attendance.over("c")
    presence.touch(ANN)
    late = presence.leave(over)
    presence.read(attendance)
    assert presence.caused[late] == [] and attendance.members("c") == [ANN] and attendance.over("c") == []


def test_who_starts_late_lists_the_living_and_sweeps_nobody_before_a_whole_lease() -> None:
    presence = Presence()
    presence.touch(ANN)
    presence.stream.now += 25
    presence.touch(BOB)
    presence.stream.now += 10
    attendance = presence.read(presence.reader())
    attendance.live = True
    assert attendance.members("c") == [BOB] and attendance.over("c") == []
    presence.stream.now += 29
    assert attendance.over("c") == []
    presence.stream.now += 2
    assert [id for id, _ in attendance.over("c")] == ["1", "3"]


def test_channels_that_nobody_swept_are_forgotten_in_the_end() -> None:
    presence = Presence()
    presence.touch(ANN)
    attendance = presence.read(presence.reader())
    presence.stream.now += 1000
    for _ in range(4):
        presence.stream.add(TOUCH, channel="other", rest=write_members([BOB]), number=30_000)
    presence.read(attendance)
    assert set(attendance._rosters) == set(attendance._held) == {"other"}
