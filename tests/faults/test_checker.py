"""The checker passes what is right and names what is wrong: a table of small runs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from .checker import Checker, Promise, Report
from .journal import Answered, Closed, Entry, Fault, Got, Head, Opened, Refused, Told, Tried


class Run:
    """Writes the journal of a run by hand; time goes on by one with each entry."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    @property
    def now(self) -> float:
        return float(len(self.entries))

    def publish(self, *offsets: int, epoch: str = "e", channel: str = "c", result: str = "acked") -> Run:
        for offset in offsets:
            id = f"{channel}-{epoch}-{offset}"
            self.entries.append(Tried(self.now, "w", channel, id))
            position = f"{epoch}:{offset}" if result == "acked" else None
            self.entries.append(Answered(self.now, "w", channel, id, result, position))  # type: ignore[arg-type]
        return self

    def open(
        self,
        at: str,
        *,
        who: str = "s",
        cause: str = "none",
        since: str | None = None,
        recovered: bool | None = None,
    ) -> Run:
        self.entries.append(Opened(self.now, who, "c", cause, since, recovered, at))  # type: ignore[arg-type]
        return self

    def resume(self, at: str, *, who: str = "s", recovered: bool = True) -> Run:
        return self.open(at, who=who, cause="own", since=at, recovered=recovered)

    def got(self, *offsets: int, epoch: str = "e", who: str = "s", id: str = "") -> Run:
        for offset in offsets:
            self.entries.append(Got(self.now, who, "c", f"{epoch}:{offset}", id or f"c-{epoch}-{offset}"))
        return self

    def gap(self, after: str | None, until: str | None, reason: str = "lost", *, who: str = "s") -> Run:
        self.entries.append(Told(self.now, who, "c", reason, after, until))
        return self

    def close(self, who: str = "s") -> Run:
        self.entries.append(Closed(self.now, who))
        return self

    def fault(self, name: str) -> Run:
        self.entries.append(Fault(self.now, self.now, name, ""))
        return self

    def head(self, position: str) -> Run:
        self.entries.append(Head(self.now, "c", position))
        return self

    def check(self, promise: Promise | None = None) -> Report:
        return Checker(promise or Promise(gaps={"wipe": 1})).check(self.entries)


def clean() -> Run:
    """Two subscribers, one of which is cut and comes back."""
    run = Run().open("e:0").open("e:0", who="t").publish(1, 2, 3)
    run.got(1, 2, 3).got(1, who="t").close("t").publish(4, 5).got(4, 5)
    return run.resume("e:1", who="t").got(2, 3, 4, 5, who="t").head("e:5")


GOOD: dict[str, Callable[[], Run]] = {
    "nothing": Run,
    "a resume": clean,
    "starts in the middle": lambda: Run().publish(1, 2).open("e:2").publish(3).got(3).head("e:3"),
    "an unknown id was in": lambda: (
        Run().open("e:0").publish(1, result="unknown").got(1).publish(2).got(2).head("e:2")
    ),
    "an unknown id was not in": lambda: Run().open("e:0").publish(9, result="unknown").head("e:0"),
    "closed early": lambda: Run().open("e:0").publish(1).got(1).close().publish(2).head("e:2"),
    "killed between false and its Gap": lambda: (
        Run().open("e:0").fault("wipe").close().resume("e:0", recovered=False).close().head("f:0")
    ),
    "left between false and its Gap, and came back": lambda: (
        Run()
        .open("e:0")
        .fault("wipe")
        .close()
        .resume("e:0", recovered=False)
        .close()
        .resume("e:0", recovered=False)
        .gap("e:0", "f:0", "reset")
        .head("f:0")
    ),
    "a Gap that a fault explains": lambda: (
        Run().open("e:0").publish(1, 2, 3).got(1).fault("wipe").gap("e:1", "e:2").got(3).head("e:3")
    ),
    "a reset": lambda: (
        Run()
        .open("e:0")
        .publish(1, 2)
        .got(1)
        .fault("wipe")
        .gap("e:1", "f:0", "reset")
        .publish(1, epoch="f")
        .got(1, epoch="f")
        .head("f:1")
    ),
    "an epoch that came and went in one Gap": lambda: (
        Run()
        .open("e:0")
        .fault("wipe")
        .publish(1, epoch="f")
        .gap("e:0", "g:0", "reset")
        .publish(1, epoch="g")
        .got(1, epoch="g")
        .head("g:1")
    ),
    "a foreign cursor answered with a Gap": lambda: (
        Run()
        .publish(1)
        .open("x:7", cause="foreign", since="x:7", recovered=False)
        .gap("x:7", "e:0", "reset")
        .got(1)
        .head("e:1")
    ),
    "an own cursor answered with a Gap": lambda: (
        Run()
        .open("e:0")
        .publish(1, 2)
        .got(1)
        .close()
        .fault("wipe")
        .resume("e:1", recovered=False)
        .gap("e:1", "f:0", "reset")
        .head("f:0")
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_right_run_passes(name: str) -> None:
    assert GOOD[name]().check().violations == []


def test_it_says_how_much_it_looked_at() -> None:
    report = clean().check()
    assert (report.tried, report.acked, report.received, report.streams) == (5, 5, 10, 2)
    assert report.resumed == {"none None": 2, "own True": 1}


def twice(run: Run) -> Run:
    """The same id acknowledged again, elsewhere."""
    run.entries.append(Answered(run.now, "w", "c", "c-e-1", "acked", "e:9"))
    return run


BAD: dict[str, tuple[str, Callable[[], Run]]] = {
    "a hole": ("silent loss", lambda: Run().open("e:0").publish(1, 2, 3).got(1, 3).head("e:3")),
    "a hole of unknowns": ("silent loss", lambda: Run().open("e:0").publish(1, 3).got(1, 3).head("e:3")),
    "another epoch": (
        "silent loss",
        lambda: Run().open("e:0").publish(1, epoch="f").got(1, epoch="f").head("f:1"),
    ),
    "an acknowledged one beyond the head": (
        "silent loss",
        lambda: Run().open("e:0").publish(1, 2).got(1).head("e:1"),
    ),
    "nothing after an acknowledged one": (
        "stuck tail",
        lambda: Run().open("e:0").publish(1, 2).got(1).head("e:2"),
    ),
    "an epoch nobody was told of": (
        "silent loss",
        lambda: Run().open("e:0").publish(1, epoch="f").publish(1).got(1).head("e:1"),
    ),
    "twice": ("duplicate", lambda: Run().open("e:0").publish(1).got(1, 1).head("e:1")),
    "twice under two offsets": (
        "duplicate",
        lambda: Run().open("e:0").publish(1).got(1).got(2, id="c-e-1").head("e:2"),
    ),
    "acknowledged twice": ("duplicate", lambda: twice(Run().open("e:0").publish(1).got(1).head("e:1"))),
    "backwards": ("disorder", lambda: Run().open("e:0").publish(1, 2, 3).got(1, 3, 2, 3).head("e:3")),
    "two ids at one place": (
        "disagreement",
        lambda: (
            Run()
            .open("e:0")
            .open("e:0", who="t")
            .publish(1, 2)
            .got(1, 2)
            .got(1, who="t")
            .got(2, who="t", id="z")
        ),
    ),
    "an acknowledged place with another id": (
        "disagreement",
        lambda: Run().open("e:0").publish(1).publish(1, epoch="x").got(1, id="c-x-1").head("e:1"),
    ),
    "from nowhere": ("stranger", lambda: Run().open("e:0").got(1, id="who").head("e:1")),
    "a rejected id": (
        "rejected seen",
        lambda: Run().open("e:0").publish(1, result="rejected").got(1).head("e:1"),
    ),
    "a Gap without a fault": (
        "over budget",
        lambda: Run().open("e:0").publish(1, 2).gap("e:0", "e:1").got(2).head("e:2"),
    ),
    "more Gaps than faults": (
        "over budget",
        lambda: (
            Run()
            .open("e:0")
            .fault("wipe")
            .publish(1, 2, 3)
            .gap("e:0", "e:1")
            .got(2)
            .gap("e:2", "e:3")
            .head("e:3")
        ),
    ),
    "a fault before it began explains nothing": (
        "over budget",
        lambda: Run().fault("wipe").open("e:0").publish(1).gap("e:0", "e:1").head("e:1"),
    ),
    "a Gap that begins too late": (
        "misplaced",
        lambda: Run().open("e:0").fault("wipe").publish(1, 2, 3).gap("e:1", "e:2").got(3).head("e:3"),
    ),
    "a Gap of nothing": ("misplaced", lambda: Run().open("e:0").fault("wipe").gap("e:0", "e:0").head("e:0")),
    "resumed elsewhere": (
        "misplaced",
        lambda: Run().open("e:0").publish(1, 2).got(1).close().resume("e:2").head("e:2"),
    ),
    "recovered from a cursor that never was": (
        "false recovery",
        lambda: Run().publish(1).open("e:1", cause="foreign", since="x:7", recovered=True).head("e:1"),
    ),
    "false without a Gap": (
        "false recovery",
        lambda: Run().open("e:0").publish(1).close().resume("e:0", recovered=False).got(1).head("e:1"),
    ),
    "false, and recovered all the same the next time": (
        "false recovery",
        lambda: Run().open("e:0").close().resume("e:0", recovered=False).close().resume("e:0").head("e:0"),
    ),
    "false and then nothing": (
        "false recovery",
        lambda: Run().open("e:0").close().resume("e:0", recovered=False).head("e:0"),
    ),
    "a good cursor refused": (
        "refused",
        lambda: _with(Run(), Refused(0.0, "s", "c", "own", "InvalidCursor")),
    ),
}


def _with(run: Run, *entries: Entry) -> Run:
    run.entries += entries
    return run


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_run_is_named(name: str) -> None:
    kind, make = BAD[name]
    report = make().check()
    assert kind in report.kinds, [str(violation) for violation in report.violations]


def test_an_attempt_that_was_never_answered_may_be_in_though_the_one_before_was_rejected() -> None:
    run = Run().open("e:0").publish(1, result="rejected")
    _with(run, Tried(run.now, "w", "c", "c-e-1")).got(1).head("e:1")
    report = run.check()
    assert report.violations == [] and (report.tried, report.unknown, report.rejected) == (1, 1, 0)


def test_a_malformed_cursor_may_be_refused() -> None:
    assert _with(Run(), Refused(0.0, "s", "c", "malformed", "InvalidCursor")).check().violations == []


VOLATILE = Promise(gaps={"kill": 1}, must=frozenset({"kill"}))


def restarted(run: Run) -> Run:
    return run.open("e:0").publish(1).got(1).fault("kill")


def test_a_retry_may_come_again_when_the_store_forgot_and_said_so() -> None:
    run = restarted(Run()).gap("e:1", "f:0", "reset").got(1, epoch="f", id="c-e-1").head("f:1")
    report = run.check(VOLATILE)
    assert report.violations == [] and report.redelivered == 1
    assert "duplicate" in run.check(Promise()).kinds


def test_a_volatile_store_that_restarts_must_say_so() -> None:
    silent = restarted(Run()).publish(2).got(2).head("e:2")
    assert "hidden Gap" in silent.check(VOLATILE).kinds


def test_a_channel_that_keeps_little_may_tell_of_it() -> None:
    run = Run().open("e:0").publish(1, 2).gap("e:0", "e:1", "overflow").got(2).head("e:2")
    assert run.check(Promise(shallow=frozenset({"c"}))).violations == []
    assert "over budget" in run.check(Promise()).kinds


def test_who_chose_to_miss_messages_may_be_told_of_it() -> None:
    for reason, right in (("overflow", True), ("conflated", True), ("lost", False)):
        run = Run().open("e:0", who="w/lossy-1").publish(1, 2).gap("e:0", "e:1", reason, who="w/lossy-1")
        report = run.got(2, who="w/lossy-1").head("e:2").check()
        assert (not report.violations) is right


# --- mutants of a recorded log: each must be found, wherever it is planted ----------------------------------------


def recorded(seed: int) -> Run:
    """A random right run: three subscribers, resumes, and one announced loss."""
    rng, run, head = random.Random(seed), Run(), 0
    at = {"s": 0, "t": 0, "u": 0}
    for who in at:
        run.open("e:0", who=who)
    for step in range(60):
        head += 1
        run.publish(head)
        if step == 30:
            run.fault("wipe")
        for who in at:
            if step == 30 or rng.random() < 0.4:
                run.gap(f"e:{at[who]}", f"e:{head}", who=who) if step == 30 else run.got(
                    *range(at[who] + 1, head + 1), who=who
                )
                at[who] = head
        if rng.random() < 0.1:
            who = rng.choice(list(at))
            run.close(who).resume(f"e:{at[who]}", who=who)
    for who in at:
        run.got(*range(at[who] + 1, head + 1), who=who)
    return run.head(f"e:{head}")


def places(entries: Sequence[Entry], kind: type[Entry]) -> list[int]:
    return [index for index, entry in enumerate(entries) if isinstance(entry, kind)]


def dropped(entries: list[Entry], rng: random.Random) -> None:
    del entries[rng.choice(places(entries, Got))]


def doubled(entries: list[Entry], rng: random.Random) -> None:
    index = rng.choice(places(entries, Got))
    entries.insert(index, entries[index])


def swapped(entries: list[Entry], rng: random.Random) -> None:
    who = rng.choice("stu")
    own = [i for i in places(entries, Got) if entries[i].subscriber == who]  # type: ignore[union-attr]
    at = rng.randrange(len(own) - 1)
    first, second = own[at], own[at + 1]
    entries[first], entries[second] = entries[second], entries[first]


def gap_hidden(entries: list[Entry], rng: random.Random) -> None:
    del entries[rng.choice(places(entries, Told))]


def tail_hidden(entries: list[Entry], rng: random.Random) -> None:
    who = rng.choice("stu")
    del entries[[i for i in places(entries, Got) if entries[i].subscriber == who][-1]]  # type: ignore[union-attr]


def forged(entries: list[Entry], rng: random.Random) -> None:
    index = rng.choice(places(entries, Got))
    entry = entries[index]
    assert isinstance(entry, Got)
    other = rng.choice([e.id for e in entries if isinstance(e, Tried) and e.id != entry.id])
    entries[index] = entry._replace(id=other)


def shared(run: Run) -> Run:
    """The same run on a log that other channels share: every seventh place in it is this channel's."""
    for index, entry in enumerate(run.entries):
        changed: dict[str, Any] = {
            name: f"e:{7 * int(value.removeprefix('e:'))}"
            for name, value in entry._asdict().items()
            if isinstance(value, str) and value.startswith("e:")
        }
        run.entries[index] = entry._replace(**changed)
    return run


SPARSE = Promise(gaps={"wipe": 1}, sparse=True)
LOGS: dict[str, tuple[Callable[[Run], Run], Promise | None]] = {
    "own": (lambda run: run, None),
    "shared": (shared, SPARSE),
}


@pytest.mark.parametrize("log", LOGS)
def test_the_recorded_run_is_right(log: str) -> None:
    laid, promise = LOGS[log]
    for seed in range(30):
        assert laid(recorded(seed)).check(promise).violations == []


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("mutate", [dropped, doubled, swapped, gap_hidden, tail_hidden, forged])
def test_a_mutant_of_a_recorded_log_is_found(
    mutate: Callable[[list[Entry], random.Random], None], log: str
) -> None:
    laid, promise = LOGS[log]
    for seed in range(30):
        run = laid(recorded(seed))
        mutate(run.entries, random.Random(seed))
        assert run.check(promise).violations, f"{mutate.__name__} with seed {seed} was not found"


def test_on_a_shared_log_what_nobody_saw_and_nobody_was_promised_is_no_loss() -> None:
    run = shared(
        Run().open("e:0").publish(1).got(1).publish(2, result="unknown").publish(3).got(3).head("e:3")
    )
    assert run.check(SPARSE).violations == []
    assert "silent loss" in run.got(14, who="t", id="c-e-2").check(SPARSE).kinds, "somebody saw it"


def test_where_more_was_lost_while_history_was_read_the_gap_stands_where_it_is() -> None:
    run = Run().open("e:0").publish(1, 2, 3).got(1).close().fault("stream truncated")
    run = run.resume("e:1", recovered=False).got(2).gap("e:2", "e:3").head("e:3")
    truncated = Promise(gaps={"stream truncated": None}, repeats=frozenset({"stream truncated"}))
    assert run.check(truncated).violations == []
    assert "false recovery" in run.check(Promise(gaps={"stream truncated": None})).kinds
    del run.entries[-2]
    assert "false recovery" in run.check(truncated).kinds, "and it stands there"
