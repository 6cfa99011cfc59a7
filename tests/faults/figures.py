"""What a run measured: how long until messages flowed again after a fault, how long until a dead link was noticed."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .journal import Answered, Counted, Entry, Fault, Felt, Got, Told, Tried
from .plan import DEEP, LOSSY

HALF_OPEN = frozenset({"half open", "half open down", "half open up"})
OUTAGES = frozenset({"kill", "restart", "freeze", "cut all", "cut one", "rollback", "failover", "password"})


@dataclass
class Figures:
    """Seconds, by fault.

    Args:
        faults: how many of each.
        gaps: how many Gaps on channels that keep everything, of subscribers whose cursors are good, by reason and by
            the fault that began last before it.
        other_gaps: those of channels that keep little, of strangers, and of those whose policy drops messages.
        outages: end of the fault → first message that every worker it hit handed over; the longest, but for those into
            which another fault fell.
        noticed: begin of a half-open link → the worker's backend is no longer up; the longest.
        publish: seconds from a publish to its acknowledgement, sorted.
        counters: of all workers' last lives, added up.
    """

    faults: Counter[str] = field(default_factory=Counter)
    gaps: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    other_gaps: int = 0
    outages: dict[str, float] = field(default_factory=dict)
    noticed: dict[str, float] = field(default_factory=dict)
    publish: list[float] = field(default_factory=list)
    counters: Counter[str] = field(default_factory=Counter)

    def quantile(self, part: float) -> float:
        """Of the publishes, in seconds."""
        return (
            self.publish[min(len(self.publish) - 1, int(len(self.publish) * part))] if self.publish else 0.0
        )


def measure(entries: Sequence[Entry]) -> Figures:
    """The figures of a run."""
    figures = Figures()
    faults = sorted(entry for entry in entries if isinstance(entry, Fault))
    figures.faults.update(fault.name for fault in faults)
    _gaps(figures, entries, faults)
    received = _received(entries)
    for fault in faults:
        seconds = _first_after(received, fault) if fault.name in OUTAGES else None
        if seconds is not None and not _disturbed(fault, seconds, faults):
            _longest(figures.outages, fault.name, seconds)
    _noticed(figures, entries, faults)
    _publishes(figures, entries)
    for entry in entries:
        if isinstance(entry, Counted):
            figures.counters.update({n: v for n, v in entry.counters.items() if isinstance(v, int)})
    return figures


def _longest(table: dict[str, float], name: str, seconds: float | None) -> None:
    if seconds is not None:
        table[name] = max(seconds, table.get(name, 0.0))


def _disturbed(fault: Fault, seconds: float, faults: Iterable[Fault]) -> bool:
    """Another fault was on in the time after this one."""
    return any(other.t < fault.until + seconds and other.until > fault.until for other in faults)


def _gaps(figures: Figures, entries: Iterable[Entry], faults: Sequence[Fault]) -> None:
    begins = [fault.t for fault in faults]
    for entry in entries:
        if not isinstance(entry, Told):
            continue
        odd = "/stranger" in entry.subscriber or f"/{LOSSY}-" in entry.subscriber
        if odd or not entry.channel.startswith(f"{DEEP}/"):
            figures.other_gaps += 1
        else:
            index = bisect_left(begins, entry.t) - 1
            figures.gaps[entry.reason][faults[index].name if index >= 0 else "none"] += 1


def _received(entries: Iterable[Entry]) -> Mapping[str, list[float]]:
    """Worker → when messages were handed to its steady readers."""
    times: dict[str, list[float]] = defaultdict(list)
    for entry in entries:
        if isinstance(entry, Got) and "/steady" in entry.subscriber:
            times[entry.subscriber.partition("/")[0]].append(entry.t)
    return {worker: sorted(found) for worker, found in times.items()}


def _first_after(received: Mapping[str, list[float]], fault: Fault) -> float | None:
    """Seconds from its end until the last of the workers it hit had a message."""
    hit = [times for worker, times in received.items() if not fault.target or worker in fault.target.split()]
    firsts = [times[at] for times in hit if (at := bisect_left(times, fault.until)) < len(times)]
    return max(firsts) - fault.until if firsts else None


def _noticed(figures: Figures, entries: Iterable[Entry], faults: Sequence[Fault]) -> None:
    downs: dict[str, list[float]] = defaultdict(list)
    for entry in entries:
        if isinstance(entry, Felt) and entry.state == "down":
            downs[entry.worker].append(entry.t)
    for fault in faults:
        if fault.name in HALF_OPEN:
            found = [t - fault.t for t in downs[fault.target] if fault.t < t < fault.until + 0.1]
            _longest(figures.noticed, fault.name, min(found, default=None))


def _publishes(figures: Figures, entries: Iterable[Entry]) -> None:
    tried: dict[str, float] = {}
    for entry in entries:
        if isinstance(entry, Tried):
            tried.setdefault(entry.id, entry.t)
    acked = (entry for entry in entries if isinstance(entry, Answered) and entry.result == "acked")
    figures.publish = sorted(entry.t - tried[entry.id] for entry in acked if entry.id in tried)
