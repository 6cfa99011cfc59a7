"""Whether presence was right: who is listed, and what is told of coming and going. Pure; reads the journals of a run.

The rules:

- who left, or whose worker was killed, is listed nowhere once the lease is over (*ghost*);
- when all is quiet every worker lists everybody who is there (*absent*);
- who follows joins and leaves, and lists anew at the beginning and after each Gap, then knows who is there without
  another look (*untold*).

Entries may come in any order, but those of one worker in theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .journal import Entered, Entry, Fault, Felt, Heard, Left, Listed

KILL = "worker kill"
WORKERS = frozenset({KILL, "worker freeze", "storm"})  # faults that hold up nothing on its way to the broker


class Breach(NamedTuple):
    """One thing that is wrong: which, when, who saw it, and where."""

    kind: str
    t: float
    witness: str
    channel: str
    words: str


@dataclass
class Seat:
    """One member from its entering on.

    Args:
        worker: through which it entered.
        channel: where.
        member: its id.
        key: what it is grouped by.
        entered: when.
        left: when it was told to leave.
        died: when its worker was killed, or was there again at the latest.
    """

    worker: str
    channel: str
    member: str
    key: str
    entered: float
    left: float | None = None
    died: float | None = None

    @property
    def taken(self) -> bool:
        """It is there to the end."""
        return self.left is None and self.died is None


def key_of(member: str, user: str | None) -> str:
    """What a member is grouped by: a connection called like a user is not that user."""
    return f"c {member}" if user is None else f"u {user}"


class Attendance:
    """Looks at one run.

    Args:
        lease: seconds a member outlives its worker.
        patience: seconds a call to the broker may take.
        slack: seconds beyond the lease for which it may still be listed.
    """

    def __init__(self, *, lease: float, patience: float = 2.0, slack: float = 1.0) -> None:
        self.lease = lease
        self.patience = patience
        self.slack = slack
        self.seats: dict[str, Seat] = {}
        self.rolls: list[Listed] = []
        self.newest: dict[tuple[str, str], Listed] = {}
        self.views: dict[tuple[str, str], set[str] | None] = {}
        self.heard = 0
        self.longest = 0.0
        """Seconds from the end of a worker until none of its members was listed any more; the longest."""
        self._faults: list[Fault] = []

    def read(self, entry: Entry) -> None:
        """Take note of one entry."""
        match entry:
            case Entered(t=t, worker=worker, channel=channel, member=member, user=user):
                self.seats[member] = Seat(worker, channel, member, key_of(member, user), t)
            case Left(t=t, member=member):
                self.seats[member].left = t
            case Felt(t=t, worker=worker, state="ready"):
                self._end(worker, t)
            case Fault():
                self._faults.append(entry)
            case Listed():
                self._listed(entry)
            case Heard():
                self._heard(entry)

    def _end(self, worker: str, t: float) -> None:
        """A worker begins: who entered through it before is gone, and so is what it saw."""
        for seat in self.seats.values():
            if seat.worker == worker and seat.taken:
                seat.died = t
        for witness, channel in [*self.newest, *self.views]:
            if witness.partition("/")[0].partition(".")[0] == worker:
                self.newest.pop((witness, channel), None)
                self.views.pop((witness, channel), None)

    def _listed(self, entry: Listed) -> None:
        where = entry.witness, entry.channel
        if where in self.views:
            self.views[where] = {key_of(member, user) for member, user in entry.members}
        else:
            self.rolls.append(entry)
            self.newest[where] = entry

    def _heard(self, entry: Heard) -> None:
        where = entry.witness, entry.channel
        view = self.views.setdefault(where, None)
        if entry.event not in ("join", "leave"):
            self.views[where] = None  # it lists anew
            return
        self.heard += 1
        if view is not None:
            change = view.add if entry.event == "join" else view.discard
            change(key_of(entry.member, entry.user))

    # --- judging ----------------------------------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """All that is listed and all that was told agrees with who is there."""
        return not any(self._ends())

    def judge(self) -> list[Breach]:
        """All that is wrong, when everything was read and everything is quiet."""
        self._bury()
        return [*self._ghosts(), *self._ends()]

    def _bury(self) -> None:
        """Put down when each killed worker was, which its own journal does not know."""
        for fault in self._faults:
            if fault.name != KILL:
                continue
            for seat in self.seats.values():
                hit = seat.worker in fault.target.split() and seat.entered < fault.t
                if hit and seat.died is not None:
                    seat.died = min(seat.died, fault.t)

    def _ghosts(self) -> Iterator[Breach]:
        limits = {seat.member: self._limit(seat) for seat in self.seats.values() if not seat.taken}
        known: set[str] = set()
        for roll in sorted(self.rolls, key=lambda roll: roll.t):
            for member, _ in roll.members:
                seat = self.seats.get(member)
                if seat is None:
                    yield Breach("ghost", roll.t, roll.witness, roll.channel, f"{member} never entered")
                    continue
                if seat.died is not None and seat.left is None:
                    self.longest = max(self.longest, roll.t - seat.died)
                limit = limits.get(member)
                if limit is not None and roll.t > limit and member not in known:
                    known.add(member)
                    words = f"{member} of {seat.worker} is listed {roll.t - limit:.2f} s too long"
                    yield Breach("ghost", roll.t, roll.witness, roll.channel, words)

    def _limit(self, seat: Seat) -> float:
        """When it is listed nowhere any more: the lease begins when its last renewal reaches the broker."""
        base = seat.left + self.patience if seat.left is not None else seat.died
        assert base is not None
        for fault in sorted(self._faults):
            if fault.name not in WORKERS and fault.t <= base:  # it held back what was under way
                base = max(base, fault.until)
        return base + self.lease + self.slack

    def _ends(self) -> Iterator[Breach]:
        """What does not agree with who is there in the end."""
        there: dict[str, set[str]] = {}
        keys: dict[str, set[str]] = {}
        for seat in self.seats.values():
            if seat.taken:
                there.setdefault(seat.channel, set()).add(seat.member)
                keys.setdefault(seat.channel, set()).add(seat.key)
        for (witness, channel), roll in self.newest.items():
            listed, real = {member for member, _ in roll.members}, there.get(channel, set())
            yield from self._differ(roll.t, witness, channel, listed, real)
        for (witness, channel), view in self.views.items():
            if view is not None and view != keys.get(channel, set()):
                words = _difference(view, keys.get(channel, set()), "knows", "was not told of")
                yield Breach("untold", float("inf"), witness, channel, words)

    @staticmethod
    def _differ(t: float, witness: str, channel: str, listed: set[str], real: set[str]) -> Iterator[Breach]:
        if listed - real:
            yield Breach("ghost", t, witness, channel, f"lists {_some(listed - real)}, who are gone")
        if real - listed:
            yield Breach("absent", t, witness, channel, f"lacks {_some(real - listed)}")


def _difference(view: set[str], real: set[str], more: str, less: str) -> str:
    parts = [
        f"{words} {_some(found)}"
        for words, found in ((f"still {more}", view - real), (less, real - view))
        if found
    ]
    return " and ".join(parts)


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:5])
