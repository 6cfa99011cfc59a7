"""Whether what happened is what was promised: reads the journals of a run and finds every breach.

Pure. The rules, for each subscriber in each channel:

- it starts where its first word says, and from there positions are contiguous: one after the other in one epoch, or a
  Gap that begins exactly where it stands (what is one after the other where channels share a log: ``Promise.sparse``);
- every acknowledged id after its start was handed to it exactly once, or lies in a Gap it was told of;
- a first word with ``recovered: false`` is followed by a Gap, and a cursor that never was one is never recovered;
- when all is quiet it stands at the channel's head.

And for all together: one position has one id, whoever saw it; one id has one position (unless the store lost its memory
in between, which a Gap tells); a rejected id is never seen, an unknown one at most once; the
broker's head is not behind what it acknowledged; a stream has no more Gaps than the faults explain. Who was present is
looked at by ``attendance.py``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .attendance import Attendance
from .journal import Answered, Closed, Entry, Fault, Got, Head, Opened, Refused, Told, Tried
from .plan import LOSSY

Place = tuple[str, int]
BY_CHOICE = frozenset({"overflow", "conflated"})  # what a subscriber may be told that chose to miss messages
BY_RETENTION = frozenset(
    {"expired", "overflow", "lost"}
)  # what a channel that keeps little may say at any time


class Violation(NamedTuple):
    """One breach of a promise: which, when, and where to look."""

    kind: str
    t: float
    subscriber: str
    channel: str
    place: Place | None
    words: str

    def __str__(self) -> str:
        place = f" at {self.place[0]}:{self.place[1]}" if self.place else ""
        return f"{self.kind}: {self.subscriber or 'all'} in {self.channel}{place}: {self.words}"


@dataclass(frozen=True)
class Promise:
    """What the backend of a run promises.

    Args:
        gaps: fault → how many Gaps one of it may cause in each stream; None: any number. Not named: 0.
        must: faults after which every stream that lived through one has a Gap ``reset``.
        shallow: channels that keep so little that being slow, or away, costs a Gap.
        lossy: what the names of subscribers contain whose policy drops messages.
        lease: seconds a member outlives its worker; 0: who is present is not looked at.
        patience: seconds a call to the broker may take.
        slack: seconds beyond the lease for which a member may still be listed.
        repeats: faults that make a broker forget ids, so that a publish whose answer was lost may be in twice.
        sparse: a channel's offsets are those of a log that it shares, so that one after the other is the next that
            anybody saw or was acknowledged.
    """

    gaps: Mapping[str, int | None] = field(default_factory=dict)
    must: frozenset[str] = frozenset()
    shallow: frozenset[str] = frozenset()
    lossy: str = f"/{LOSSY}-"
    lease: float = 0.0
    patience: float = 2.0
    slack: float = 1.0
    repeats: frozenset[str] = frozenset()
    sparse: bool = False


class Hole(NamedTuple):
    """What a stream was told it may have missed: after *after*, up to *until*."""

    after: Place | None
    until: Place | None

    def __contains__(self, place: object) -> bool:
        assert isinstance(place, tuple)
        epoch, offset = place
        after, until = self.after, self.until
        if after is not None and after[0] == epoch:
            return offset > after[1] and (until is None or until[0] != epoch or offset <= until[1])
        return until is not None and until[0] == epoch and offset <= until[1]


@dataclass
class Fate:
    """What became of one id."""

    channel: str
    id: str
    begun: float
    tries: int = 0
    results: list[str] = field(default_factory=list)
    places: dict[Place, float] = field(default_factory=dict)

    @property
    def result(self) -> str:
        """acked if any attempt was; unknown if one may be in, as one that was never answered may; else rejected."""
        if "acked" in self.results:
            return "acked"
        answered = len(self.results) >= self.tries
        return "rejected" if answered and set(self.results) == {"rejected"} else "unknown"


@dataclass
class Stream:
    """One subscriber in one channel, over all its resumes."""

    subscriber: str
    channel: str
    at: Place | None = None
    opened: float | None = None
    closed: float | None = None
    owes: str = ""
    seen: dict[str, list[Place]] = field(default_factory=lambda: defaultdict(list))
    begins: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    holes: list[Hole] = field(default_factory=list)
    gaps: list[Told] = field(default_factory=list)
    resets: list[float] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """Subscribed to the end."""
        return self.opened is not None and self.closed is None

    def stand(self, place: Place | None) -> None:
        """Stand at *place*."""
        self.at = place
        if place is not None:
            epoch, offset = place
            self.begins.setdefault(epoch, offset)
            self.ends[epoch] = max(offset, self.ends.get(epoch, 0))

    def misses(self, place: Place) -> bool:
        """It passed *place*, which lies in an epoch it was in, and was not told that it may have missed it."""
        epoch, offset = place
        begin, end = self.begins.get(epoch), self.ends.get(epoch, 0)
        if begin is None or offset <= begin:
            return False
        if offset > end and not (self.live and self.at is not None and self.at[0] == epoch):
            return False
        return not any(place in hole for hole in self.holes)


@dataclass
class Report:
    """What was found, and how much there was to look at."""

    violations: list[Violation] = field(default_factory=list)
    tried: int = 0
    acked: int = 0
    unknown: int = 0
    rejected: int = 0
    received: int = 0
    redelivered: int = 0
    streams: int = 0
    resumed: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    gaps: Counter[str] = field(default_factory=Counter)
    entered: int = 0
    heard: int = 0
    listed: int = 0
    departed: float = 0.0

    @property
    def kinds(self) -> Counter[str]:
        """How many violations of each kind."""
        return Counter(violation.kind for violation in self.violations)


def place_of(text: str | None) -> Place | None:
    """``epoch:offset`` as a pair."""
    if not text:
        return None
    epoch, _, offset = text.rpartition(":")
    return epoch, int(offset)


def known_offsets(entries: Iterable[Entry]) -> dict[tuple[str, str], list[int]]:
    """Channel and epoch → the offsets at which anybody saw a message, or a publisher was told that it is there."""
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for entry in entries:
        if isinstance(entry, Got | Answered) and (place := place_of(entry.position)) is not None:
            found[entry.channel, place[0]].add(place[1])
    return {key: sorted(offsets) for key, offsets in found.items()}


class Checker:
    """Looks at one run.

    Args:
        promise: what was promised.
    """

    def __init__(self, promise: Promise) -> None:
        self.promise = promise
        self.report = Report()
        self.fates: dict[str, Fate] = {}
        self.streams: dict[tuple[str, str], Stream] = {}
        self.heads: dict[str, Place] = {}
        self.faults: list[Fault] = []
        self.truth: dict[tuple[str, Place], str] = {}
        self.known: dict[tuple[str, str], list[int]] = {}
        self.attendance = Attendance(lease=promise.lease, patience=promise.patience, slack=promise.slack)

    def check(self, entries: Iterable[Entry]) -> Report:
        """Everything that is wrong with *entries*, in which those of one subscriber are in order."""
        entries = list(entries)
        if self.promise.sparse:
            self.known = known_offsets(entries)
        for entry in entries:
            self._read(entry)
        for fate in self.fates.values():
            self._judge_fate(fate)
        for stream in self.streams.values():
            self._judge_stream(stream)
        self._judge_coverage()
        if self.promise.lease:
            self._judge_attendance()
        self.report.streams = len(self.streams)
        self.report.tried = len(self.fates)
        self.report.violations.sort(key=lambda violation: violation.t)
        return self.report

    def _breach(
        self, kind: str, t: float, stream: Stream | None, channel: str, place: Place | None, words: str
    ) -> None:
        subscriber = stream.subscriber if stream else ""
        self.report.violations.append(Violation(kind, t, subscriber, channel, place, words))

    # --- reading ----------------------------------------------------------------------------------------------------

    def _read(self, entry: Entry) -> None:
        match entry:
            case Got():
                self._got(self._stream(entry), entry)
            case Tried():
                self.fates.setdefault(entry.id, Fate(entry.channel, entry.id, entry.t)).tries += 1
            case Answered():
                self._answered(entry)
            case Told():
                self._told(self._stream(entry), entry)
            case Opened():
                self._opened(self._stream(entry), entry)
            case Refused():
                self.report.refused += 1
                if entry.cause != "malformed":
                    words = f"a cursor ({entry.cause}) was refused: {entry.error}"
                    self._breach(
                        "refused", entry.t, None, entry.channel, None, f"{entry.subscriber}: {words}"
                    )
            case Closed():
                for stream in self._streams_of(entry.subscriber):
                    stream.closed = entry.t
            case Head():
                place = place_of(entry.position)
                assert place is not None
                self.heads[entry.channel] = place
            case Fault():
                self.faults.append(entry)
        self.attendance.read(entry)

    def _stream(self, entry: Got | Told | Opened) -> Stream:
        key = (entry.subscriber, entry.channel)
        found = self.streams.get(key)
        if found is None:
            found = self.streams[key] = Stream(*key)
        return found

    def _streams_of(self, subscriber: str) -> list[Stream]:
        return [stream for (name, _), stream in self.streams.items() if name == subscriber]

    def _answered(self, entry: Answered) -> None:
        fate = self.fates.setdefault(entry.id, Fate(entry.channel, entry.id, entry.t))
        fate.results.append(entry.result)
        if entry.result == "acked" and (place := place_of(entry.position)) is not None:
            fate.places.setdefault(place, entry.t)
            self._agree(entry.t, None, entry.channel, place, entry.id)

    def _agree(self, t: float, stream: Stream | None, channel: str, place: Place, id: str) -> None:
        known = self.truth.setdefault((channel, place), id)
        if known != id:
            self._breach("disagreement", t, stream, channel, place, f"{id} here, {known} elsewhere")

    def _opened(self, stream: Stream, entry: Opened) -> None:
        since, start = place_of(entry.since) if entry.cause == "own" else None, place_of(entry.position)
        if stream.opened is None:
            stream.opened = entry.t
        again = stream.closed is not None and entry.cause == "own" and entry.recovered is False
        stream.closed = None
        self.report.resumed[f"{entry.cause} {entry.recovered}"] += 1
        if stream.owes and not again:  # who left between the two is told again
            self._breach(
                "false recovery", entry.t, stream, entry.channel, start, f"{stream.owes} came before it"
            )
        stream.owes = "" if entry.recovered is not False else entry.cause
        if entry.cause in ("foreign", "future", "malformed") and entry.recovered is not False:
            words = f"the cursor {entry.since} is none of this channel ({entry.cause}), yet recovered"
            self._breach("false recovery", entry.t, stream, entry.channel, start, words)
        if entry.cause == "own" and (since != stream.at or (entry.recovered and start != since)):
            words = f"stood at {stream.at}, resumed from {entry.since}, starts at {entry.position}"
            self._breach("misplaced", entry.t, stream, entry.channel, start, words)
        elif entry.cause == "none" and stream.at is not None:
            stream.holes.append(Hole(stream.at, start))  # it chose to start again from now
        stream.stand(stream.at if entry.recovered is False and entry.cause == "own" else start)

    # --- what was handed over ---------------------------------------------------------------------------------------

    def _got(self, stream: Stream, entry: Got) -> None:
        self.report.received += 1
        place = place_of(entry.position)
        assert place is not None
        if stream.opened is None or stream.closed is not None:
            self._breach(
                "disorder", entry.t, stream, entry.channel, place, "a message outside a subscription"
            )
        if stream.owes and not self._lost_more_meanwhile(stream, place):
            words = f"recovered: false ({stream.owes}), and a message instead of the Gap"
            self._breach("false recovery", entry.t, stream, entry.channel, place, words)
            stream.owes = ""
        self._follow(stream, entry, place)
        self._agree(entry.t, stream, entry.channel, place, entry.id)
        self._judge_repeat(stream, entry, place)
        stream.stand(place)

    def _follow(self, stream: Stream, entry: Got, place: Place) -> None:
        """A message follows where the stream stands."""
        at = stream.at
        if at is None or (place[0] == at[0] and place[1] > at[1] and not self._between(stream, at, place)):
            return
        if place[0] != at[0]:
            kind, words = "silent loss", f"another epoch without a Gap, after {at[0]}:{at[1]}"
        elif place[1] > at[1]:
            kind, words = (
                "silent loss",
                f"{self._between(stream, at, place)} missing without a Gap, after {at[0]}:{at[1]}",
            )
        else:
            kind, words = "disorder", f"after {at[0]}:{at[1]}"
        self._breach(kind, entry.t, stream, entry.channel, place, words)

    def _lost_more_meanwhile(self, stream: Stream, place: Place) -> bool:
        """What follows its own cursor was still there, and what comes then was lost while that was read: the Gap stands
        behind it, where something is missing. So it can be where a worker lost what it had not read yet."""
        at = stream.at
        if stream.owes != "own" or at is None or not self._repeats():
            return False
        return place[0] == at[0] and place[1] > at[1] and not self._between(stream, at, place)

    def _between(self, stream: Stream, at: Place, place: Place) -> int:
        """How many messages of the channel lie between two places of one epoch."""
        if not self.promise.sparse:
            return place[1] - at[1] - 1
        offsets = self.known.get((stream.channel, at[0]), [])
        return bisect_left(offsets, place[1]) - bisect_right(offsets, at[1])

    def _forgot(self) -> bool:
        """The store lost its memory at least once: a publish whose answer was lost with it may be in twice."""
        return any(fault.name in self.promise.gaps for fault in self.faults)

    def _repeats(self) -> bool:
        """It forgot ids at least once, and nothing else."""
        return any(fault.name in self.promise.repeats for fault in self.faults)

    def _judge_repeat(self, stream: Stream, entry: Got, place: Place) -> None:
        """An id comes once; after a loss of the store's memory, which was told, its retry may come again."""
        places = stream.seen[entry.id]
        if places:
            same_epoch = any(place[0] == before[0] for before in places)
            if not self._forgot() or (same_epoch and not self._repeats()):
                self._breach(
                    "duplicate", entry.t, stream, entry.channel, place, f"{entry.id}, also at {places[0]}"
                )
            else:
                self.report.redelivered += 1
        places.append(place)

    def _told(self, stream: Stream, entry: Told) -> None:
        self.report.gaps[entry.reason] += 1
        after, until = place_of(entry.after), place_of(entry.until)
        owed, stream.owes = stream.owes, ""
        if owed in ("", "own"):
            if entry.reason != "unknown" and after != stream.at:
                self._breach(
                    "misplaced", entry.t, stream, entry.channel, after, f"a Gap, but it stands at {stream.at}"
                )
            if until is not None and until == stream.at:
                self._breach("misplaced", entry.t, stream, entry.channel, after, "a Gap of nothing")
            stream.gaps.append(entry)
            stream.holes.append(Hole(stream.at, until))
        else:
            stream.begins.clear()
            stream.ends.clear()
        if until is None or after is None or until[0] != after[0] or entry.reason == "reset":
            stream.resets.append(entry.t)
        stream.stand(until)

    # --- judging at the end -----------------------------------------------------------------------------------------

    def _judge_fate(self, fate: Fate) -> None:
        result = fate.result
        setattr(self.report, result, getattr(self.report, result) + 1)
        epochs = Counter(epoch for epoch, _ in fate.places)
        twice = any(count > 1 for count in epochs.values()) and not self._repeats()
        if twice or (len(fate.places) > 1 and not self._forgot()):
            words = f"{fate.id} was acknowledged at {sorted(fate.places)}"
            self._breach("duplicate", fate.begun, None, fate.channel, None, words)
        head = self.heads.get(fate.channel)
        for place, t in fate.places.items():
            if head is not None and place[0] == head[0] and place[1] > head[1]:
                words = f"{fate.id} was acknowledged, and the head is {head[0]}:{head[1]}"
                self._breach("silent loss", t, None, fate.channel, place, words)

    def _judge_stream(self, stream: Stream) -> None:
        """Where it ended, what it saw, and how many Gaps it was told."""
        end = self.heads.get(stream.channel)
        if stream.live and end is not None and stream.at != end:
            words = f"stands at {stream.at}, the head is {end[0]}:{end[1]}"
            self._breach("stuck tail", float("inf"), stream, stream.channel, stream.at, words)
        if stream.live and stream.owes:
            words = f"recovered: false ({stream.owes}), and never a Gap"
            self._breach("false recovery", float("inf"), stream, stream.channel, stream.at, words)
        for id, places in stream.seen.items():
            fate = self.fates.get(id)
            if fate is None or fate.channel != stream.channel:
                self._breach(
                    "stranger", 0.0, stream, stream.channel, places[0], f"nobody published {id} here"
                )
            elif fate.result == "rejected":
                self._breach(
                    "rejected seen", fate.begun, stream, stream.channel, places[0], f"{id} was rejected"
                )
        self._judge_budget(stream)

    def _judge_budget(self, stream: Stream) -> None:
        allowed, bounded = 0, True
        for fault in self.faults:
            if stream.opened is None or fault.until < stream.opened:
                continue
            one = self.promise.gaps.get(fault.name, 0)
            bounded = bounded and one is not None
            allowed += one or 0
        may: frozenset[str] = BY_RETENTION if stream.channel in self.promise.shallow else frozenset()
        may |= BY_CHOICE if self.promise.lossy in stream.subscriber else frozenset()
        told = [gap for gap in stream.gaps if gap.reason not in may]
        if bounded and len(told) > allowed:
            words = f"{len(told)} Gaps ({', '.join(gap.reason for gap in told)}), and the faults explain {allowed}"
            self._breach("over budget", told[-1].t, stream, stream.channel, place_of(told[-1].after), words)
        self._judge_must(stream)

    def _judge_must(self, stream: Stream) -> None:
        """A loss of the store's memory that the stream lived through was told."""
        for fault in self.faults:
            if fault.name not in self.promise.must or not stream.live:
                continue
            if (
                stream.opened is not None
                and stream.opened < fault.t
                and not any(t > fault.t for t in stream.resets)
            ):
                words = f"lived through {fault.name} at {fault.t:.3f} and was not told"
                self._breach("hidden Gap", fault.t, stream, stream.channel, stream.at, words)

    def _judge_coverage(self) -> None:
        """Every acknowledged id reached every stream, or lies in a Gap of it."""
        by_channel: dict[str, list[Stream]] = defaultdict(list)
        for stream in self.streams.values():
            by_channel[stream.channel].append(stream)
        for fate in self.fates.values():
            for stream in by_channel.get(fate.channel, ()):
                if fate.id not in stream.seen:
                    self._judge_absence(fate, stream)

    def _judge_absence(self, fate: Fate, stream: Stream) -> None:
        for place, t in fate.places.items():
            if stream.misses(place):
                words = f"{fate.id} was acknowledged and never handed over, nor in a Gap"
                self._breach("silent loss", t, stream, fate.channel, place, words)
            elif place[0] not in stream.begins and self._should_know(fate, t, stream):
                words = f"{fate.id} was acknowledged in an epoch of which the stream was never told"
                self._breach("silent loss", t, stream, fate.channel, place, words)

    @staticmethod
    def _should_know(fate: Fate, t: float, stream: Stream) -> bool:
        """The stream was there when the id was published, and no later Gap can stand for it."""
        if stream.opened is None or fate.begun < stream.opened or not stream.live:
            return False
        return not any(reset > fate.begun for reset in stream.resets)

    # --- who was present --------------------------------------------------------------------------------------------

    def _judge_attendance(self) -> None:
        found = self.attendance
        for breach in found.judge():
            violation = Violation(breach.kind, breach.t, breach.witness, breach.channel, None, breach.words)
            self.report.violations.append(violation)
        self.report.entered = len(found.seats)
        self.report.heard = found.heard
        self.report.listed = len(found.rolls)
        self.report.departed = found.longest
