"""What a failed run says: the seed, each breach, and the little that led to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from .checker import Report, Violation
from .journal import Answered, Closed, Counted, Entry, Fault, Felt, Got, Head, Opened, Told, Tried

SHOWN = 5  # breaches told in full
AROUND = 6  # events of the subscriber before and after it
BEFORE = 3  # faults before it
AFTER = 1  # and after it, where a message was lost: it was there before the fault that took it


def explain(report: Report, entries: Sequence[Entry], seed: int) -> str:
    """The breaches of *report* in words, with a timeline for the first few; empty when there are none."""
    if not report.violations:
        return ""
    start = min((entry.t for entry in entries), default=0.0)
    kinds = ", ".join(f"{count} × {kind}" for kind, count in report.kinds.most_common())
    lines = [f"seed {seed}: {len(report.violations)} breaches: {kinds}"]
    for violation in islice(_first_of_each(report.violations), SHOWN):
        lines += ["", str(violation), *_timeline(violation, entries, start)]
    return "\n".join(lines)


def _first_of_each(violations: Iterable[Violation]) -> Iterable[Violation]:
    """The first breach of each kind in each channel: the rest follows from it, as a rule."""
    seen: set[tuple[str, str]] = set()
    for violation in violations:
        if (violation.kind, violation.channel) not in seen:
            seen.add((violation.kind, violation.channel))
            yield violation


def _timeline(violation: Violation, entries: Sequence[Entry], start: float) -> Iterable[str]:
    faults = sorted(entry for entry in entries if isinstance(entry, Fault))
    led = [fault for fault in faults if fault.t <= violation.t][-BEFORE:]
    if violation.kind == "silent loss":
        led += [fault for fault in faults if fault.t > violation.t][:AFTER]
    own = [entry for entry in entries if _concerns(entry, violation)]
    at = next((i for i, entry in enumerate(own) if _is_at(entry, violation)), len(own))
    shown: list[Entry] = [*own[max(0, at - AROUND) : at + AROUND], *led, *_fate(violation, entries)]
    for entry in sorted(set(shown) if _hashable(shown) else shown, key=lambda entry: entry.t):
        yield f"  {entry.t - start:9.3f}  {_line(entry, start)}"


def _hashable(entries: Iterable[Entry]) -> bool:
    return not any(isinstance(entry, Counted) for entry in entries)


def _concerns(entry: Entry, violation: Violation) -> bool:
    if isinstance(entry, Closed):
        return entry.subscriber == violation.subscriber
    if isinstance(entry, Head):
        return entry.channel == violation.channel
    if isinstance(entry, Got | Told | Opened):
        return (entry.subscriber, entry.channel) == (violation.subscriber, violation.channel)
    return False


def _is_at(entry: Entry, violation: Violation) -> bool:
    """The entry with which the breach showed."""
    if violation.place is not None and isinstance(entry, Got):
        epoch, offset = violation.place
        return entry.position == f"{epoch}:{offset}" and entry.t >= violation.t
    return entry.t >= violation.t


def _fate(violation: Violation, entries: Iterable[Entry]) -> list[Entry]:
    """What the publishers know of the place."""
    if violation.place is None:
        return []
    position = f"{violation.place[0]}:{violation.place[1]}"
    return [
        entry
        for entry in entries
        if isinstance(entry, Answered | Tried)
        and entry.channel == violation.channel
        and (getattr(entry, "position", None) == position or entry.id in violation.words.split())
    ]


def _line(entry: Entry, start: float) -> str:
    match entry:
        case Fault(t=t, until=until, name=name, target=target):
            return f"FAULT {name} {target or 'all'}, {until - t:.3f} s"
        case Felt(worker=worker, state=state):
            return f"{worker} {state}"
    fields = " ".join(str(value) for value in entry[1:] if value not in (None, ""))
    return f"{type(entry).__name__.lower()} {fields}"
