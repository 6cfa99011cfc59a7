"""What publishers, subscribers and the fault schedule write down, as JSON lines.

Each process appends to a file of its own, one ``write`` for each burst, so that what a process had written when it was
killed is there, but for a torn last line. Times are seconds of the machine's monotonic clock, which all processes
share.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

Result: TypeAlias = Literal["acked", "unknown", "rejected"]
Cause: TypeAlias = Literal["own", "foreign", "future", "malformed", "none"]


class Tried(NamedTuple):
    """A publisher began to publish *id*, or tries again; without an :class:`Answered` nobody knows what came of it."""

    t: float
    worker: str
    channel: str
    id: str


class Answered(NamedTuple):
    """What one attempt came to; ``position`` only when acked."""

    t: float
    worker: str
    channel: str
    id: str
    result: Result
    position: str | None


class Opened(NamedTuple):
    """A subscription's first word in one channel.

    ``cause`` tells which kind of cursor was given: the subscriber's own last one, one that never was of this channel,
    one beyond its head, or none.
    """

    t: float
    subscriber: str
    channel: str
    cause: Cause
    since: str | None
    recovered: bool | None
    position: str | None


class Refused(NamedTuple):
    """A subscription was refused because of its cursor."""

    t: float
    subscriber: str
    channel: str
    cause: Cause
    error: str


class Got(NamedTuple):
    """A message was handed to the subscriber."""

    t: float
    subscriber: str
    channel: str
    position: str
    id: str


class Told(NamedTuple):
    """A Gap was."""

    t: float
    subscriber: str
    channel: str
    reason: str
    after: str | None
    until: str | None


class Closed(NamedTuple):
    """The subscriber gave all its channels up and may come back with its cursor."""

    t: float
    subscriber: str


class Head(NamedTuple):
    """Where a channel stood at the end, asked of the broker itself when all was quiet."""

    t: float
    channel: str
    position: str


class Fault(NamedTuple):
    """A fault, from its begin to its end, with what it hit (a worker, or empty for all)."""

    t: float
    until: float
    name: str
    target: str


class Felt(NamedTuple):
    """A worker's backend changed its health."""

    t: float
    worker: str
    state: str
    generation: int


class Entered(NamedTuple):
    """A member is about to enter a channel, through that worker; it stays until it is told to leave."""

    t: float
    worker: str
    channel: str
    member: str
    user: str | None


class Left(NamedTuple):
    """A member is about to be told to leave."""

    t: float
    worker: str
    channel: str
    member: str


class Listed(NamedTuple):
    """Who was in a channel: what the broker answered to a question asked at ``t``, as pairs of id and user."""

    t: float
    witness: str
    channel: str
    members: list[tuple[str, str | None]]


class Heard(NamedTuple):
    """What somebody who follows joins and leaves was told: join, leave, gap, or opened, which is the first word."""

    t: float
    witness: str
    channel: str
    event: str
    member: str
    user: str | None


class Counted(NamedTuple):
    """A worker's counters at its end."""

    t: float
    worker: str
    counters: dict[str, Any]


Entry: TypeAlias = (
    Tried
    | Answered
    | Opened
    | Refused
    | Got
    | Told
    | Closed
    | Head
    | Fault
    | Felt
    | Entered
    | Left
    | Listed
    | Heard
    | Counted
)
KINDS: dict[str, type[Any]] = {kind.__name__.lower(): kind for kind in Entry.__args__}


class Journal:
    """Appends entries to *path*; a torn last line of a life before is cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        whole = path.read_bytes().rfind(b"\n") + 1
        os.truncate(path, whole)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def write(self, *entries: Entry) -> None:
        """Append, in one system call, so that no line of a burst is lost when the process is killed."""
        lines = (
            json.dumps([type(entry).__name__.lower(), *entry], separators=(",", ":")) for entry in entries
        )
        data = "".join(f"{line}\n" for line in lines).encode()
        while data:
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read(path: Path) -> Iterator[Entry]:
    """The entries of one journal, in order; a torn last line is left out."""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                kind, *fields = json.loads(line)
                yield KINDS[kind](*fields)


def read_all(paths: Iterable[Path]) -> list[Entry]:
    """The entries of several journals; those of each keep their order."""
    return [entry for path in sorted(paths) for entry in read(path)]
