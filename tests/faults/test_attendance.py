"""Presence is judged rightly: small runs by hand, mutants of them, and code with one safeguard removed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from samovar.backends.memory import Broker, MemoryBackend
from samovar.broadcast import Accepted, ChannelRule, Hub, Member, members, presence
from samovar.errors import PublishRejected
from samovar.tasks import Scope

from ..broadcast.faulty import FaultyBackend
from ..support.until import until
from .attendance import Attendance
from .checker import Checker, Promise, Report
from .journal import Entered, Entry, Fault, Felt, Heard, Journal, Left, Listed, read, read_all
from .plan import Plan
from .worker import Desk, roll, watcher

Patch: TypeAlias = Callable[[object, str, object], None]
Mutant: TypeAlias = Callable[[Patch], None]
LEASE = 3.0
now = time.monotonic


class Run:
    """Writes the journal of a run by hand; time goes on by one with each entry."""

    def __init__(self) -> None:
        self.entries: list[Entry] = [Felt(0.0, "w0", "ready", 0), Felt(0.0, "w1", "ready", 0)]

    @property
    def now(self) -> float:
        return float(len(self.entries))

    def enter(self, member: str, user: str | None = None, *, worker: str = "w0") -> Run:
        self.entries.append(Entered(self.now, worker, "lounge/0", member, user))
        return self

    def leave(self, member: str, *, worker: str = "w0") -> Run:
        self.entries.append(Left(self.now, worker, "lounge/0", member))
        return self

    def lists(self, *there: str, who: str = "w1/roll", later: float = 0.0) -> Run:
        pairs = [(name.partition(" ")[0], name.partition(" ")[2] or None) for name in there]
        self.entries.append(Listed(self.now + later, who, "lounge/0", pairs))
        return self

    def hear(self, event: str, name: str = "", *, who: str = "w1/watcher") -> Run:
        member, _, user = name.partition(" ")
        self.entries.append(Heard(self.now, who, "lounge/0", event, member, user or None))
        return self

    def watch(self, *there: str, who: str = "w1/watcher") -> Run:
        return self.hear("opened", who=who).lists(*there, who=who)

    def kill(self, worker: str = "w0") -> Run:
        self.entries.append(Fault(self.now, self.now, "worker kill", worker))
        self.entries.append(Felt(self.now, worker, "ready", 0))
        return self

    def check(self, *, lease: float = LEASE) -> list[str]:
        found = Attendance(lease=lease)
        for entry in self.entries:
            found.read(entry)
        assert found.settled or found.judge()
        return [breach.kind for breach in found.judge()]


def clean() -> Run:
    """Two come as one user, one goes, one is killed with its worker, and everybody is told."""
    run = (
        Run()
        .watch()
        .enter("a", "ann")
        .hear("join", "a ann")
        .enter("b", "ann", worker="w1")
        .enter("c", worker="w1")
    )
    run.hear("join", "c").lists("a ann", "b ann", "c").leave("c", worker="w1").hear("leave", "c").lists(
        "a ann", "b ann"
    )
    run.enter("d").hear("join", "d").kill().lists("a ann", "b ann", "d").hear("leave", "d")
    return run.lists("b ann", later=10)


GOOD: dict[str, Callable[[], Run]] = {
    "nothing": Run,
    "coming and going": clean,
    "listed within the lease": lambda: Run().enter("a").kill().lists("a").lists(later=20),
    "listed while a fault held its last renewal up": lambda: _held_up(),
    "told twice": lambda: Run().watch().enter("a").hear("join", "a").hear("join", "a").lists("a"),
    "missed, and told so": lambda: Run().watch().enter("a").hear("gap").lists("a", who="w1/watcher").lists("a"),
    "a watcher of a worker that was killed": lambda: Run().watch(who="w0/watcher").kill().enter("a").lists("a"),
}  # fmt: skip


def _held_up() -> Run:
    run = Run().enter("a").kill()
    run.entries.append(Fault(1.0, 8.0, "freeze", ""))
    return run.lists("a", later=3).lists(later=20)


@pytest.mark.parametrize("name", GOOD)
def test_a_right_run_passes(name: str) -> None:
    assert GOOD[name]().check() == []


BAD: dict[str, tuple[str, Callable[[], Run]]] = {
    "the dead are listed": ("ghost", lambda: Run().enter("a").kill().lists("a", later=5).lists(later=30)),
    "who left is listed": ("ghost", lambda: Run().enter("a").leave("a").lists("a", later=7).lists(later=30)),
    "who left is listed in the end": ("ghost", lambda: Run().enter("a").leave("a").lists("a")),
    "somebody who never came": ("ghost", lambda: Run().lists("a").lists()),
    "the living are not listed": ("absent", lambda: Run().enter("a").lists()),
    "a join that was not told": ("untold", lambda: Run().watch().enter("a").lists("a")),
    "a leave that was not told": (
        "untold",
        lambda: Run().enter("a").watch("a").leave("a").lists(),
    ),
    "a leave that was overtaken": (
        "untold",
        lambda: Run().enter("a", "ann").watch("a ann").hear("join", "a ann").hear("leave", "a ann").lists("a ann"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_run_is_named(name: str) -> None:
    kind, make = BAD[name]
    assert kind in make().check()


def test_it_says_how_long_the_dead_were_listed() -> None:
    run = Run().enter("a").kill().lists("a").lists("a").lists(later=20)
    found = Attendance(lease=LEASE)
    for entry in run.entries:
        found.read(entry)
    assert found.judge() == [] and found.longest == 3.0


def test_no_lease_to_go_by_and_presence_is_not_judged() -> None:
    run = BAD["a join that was not told"][1]()
    assert Checker(Promise()).check(run.entries).violations == []
    report = Checker(Promise(lease=LEASE)).check(run.entries)
    assert report.kinds == {"untold": 1} and (report.entered, report.listed, report.heard) == (1, 1, 0)


def test_each_word_that_is_left_out_of_a_right_run_is_missed() -> None:
    heard = [
        n for n, entry in enumerate(clean().entries) if isinstance(entry, Heard) and entry.event != "opened"
    ]
    for n in heard:
        run = clean()
        del run.entries[n]
        last = [m for m in heard if clean().entries[m].member == clean().entries[n].member][-1] == n  # type: ignore[union-attr]
        assert ("untold" in run.check()) is last, f"without {clean().entries[n]}"


# --- code with one safeguard removed --------------------------------------------------------------------------------


RULES = [ChannelRule("lounge/<n>", history=0, presence=True)]


async def played(folder: Path, lease: float, *, limit: float, slack: float) -> Report:
    """One worker dies, another comes in while the broker takes no messages, and one who stays follows it all.

    Args:
        folder: for the journal.
        lease: seconds.
        limit: seconds for everything to settle.
        slack: seconds beyond the lease.
    """
    broker = Broker()
    dying, hushed = FaultyBackend(broker), Hushed(broker)
    desk = Desk("w1", Plan(run="played", lounges=1, lease=lease), Journal(folder / "w1.journal"))
    journal, path = desk.journal, desk.journal.path
    journal.write(Felt(now(), "w0", "ready", 0), Felt(now(), "w1", "ready", 0))
    async with AsyncExitStack() as stack:
        dead, quiet, here = [
            await stack.enter_async_context(Hub(backend, lease=lease, channels=RULES))
            for backend in (dying, hushed, MemoryBackend(broker))
        ]
        scope = await stack.enter_async_context(Scope("played"))
        scope.start(watcher(desk, here, "w1/watcher"))
        scope.start(roll(desk, here, "w1/roll"))
        await until(
            lambda: any(isinstance(entry, Listed) and entry.witness == "w1/watcher" for entry in read(path)),
            "a first look",
        )
        for worker, hub, member in (("w0", dead, "d"), ("w1", here, "a"), ("w1", quiet, "q")):
            journal.write(Entered(now(), worker, "lounge/0", member, None))
            await hub.enter("lounge/0", Member(member))
        journal.write(Fault(now(), now(), "worker kill", "w0"), Felt(now(), "w0", "ready", 0))
        dying.is_cut = True
        end = now() + limit
        while now() < end and not settled(path):
            await asyncio.sleep(0.02)
        entries = read_all([path])
        await scope.close()
    journal.close()
    return Checker(Promise(lease=lease, slack=slack)).check(entries)


def settled(path: Path) -> bool:
    """All who look on know who is there."""
    found = Attendance(lease=0.0)
    for entry in read(path):
        found.read(entry)
    return found.settled


class Hushed(FaultyBackend):
    """The broker takes no messages of this worker."""

    async def publish(self, channel: str, envelope: bytes, **options: Any) -> Accepted:
        raise PublishRejected("full", id=options["id"])


def no_sweep(patch: Patch) -> None:
    """Nobody tells of members whose lease is over."""

    async def sweep(self: members.Members, channel: str) -> None:
        """Leave them."""

    patch(members.Members, "_sweep", sweep)


def no_lease(patch: Patch) -> None:
    """A lease that is over counts like any other."""
    patch(presence.Roster, "members", lambda self, now: [seat.member for seat in self._seats.values()])
    patch(presence.Roster, "sweep", lambda self, now: [])


def no_renewal(patch: Patch) -> None:
    """Who has entered is not entered again."""

    async def renew(self: members.Members, channel: str) -> None:
        """Leave it."""

    patch(members.Members, "_renew", renew)


def no_second_word(patch: Patch) -> None:
    """What could not be told is not told later."""
    patch(members.Members, "_to_compare", lambda self: [])


@pytest.mark.parametrize(
    ("mutant", "kind"),
    [
        (None, ""),
        (no_sweep, "untold"),
        (no_lease, "ghost"),
        (no_renewal, "absent"),
        (no_second_word, "untold"),
    ],
    ids=["twin", "no sweep", "no lease", "no renewal", "no second word"],
)
async def test_a_safeguard_that_is_missing_shows(
    mutant: Mutant | None, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mutant is None:
        assert not (await played(tmp_path, 0.6, limit=30.0, slack=20.0)).violations
        return
    mutant(monkeypatch.setattr)
    if mutant is no_sweep:
        no_second_word(monkeypatch.setattr)  # which would put it right
    report = await played(tmp_path, 0.2, limit=0.8, slack=0.1)
    assert kind in report.kinds, report.violations
