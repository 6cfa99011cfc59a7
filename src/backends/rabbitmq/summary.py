"""What is known of each channel, for readers of a log that has lost its beginning. Pure.

Now and then some worker writes a summary into the log: where every channel stands, where it was cleared last, what it
keeps. Without it a worker that starts later would have to call it a Gap when somebody comes back to a channel that was
quiet for longer than the stream keeps entries. It has several parts, each of which is an entry, in JSON::

    {"at": 4711, "part": 0, "of": 2, "whole": true, "channels": [[name, begin, head, version, retention], …]}

*at* is the newest entry it knows of. *whole* says that a channel which is not in it was never used in this epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ...broadcast.backend import DEFAULT_RETENTION, Retention
from .ring import Ring

PART = 1000  # channels in an entry
MOST = 20_000  # channels in a summary


class Known(NamedTuple):
    """A channel in a summary."""

    name: str
    begin: int
    head: int
    version: int | None
    retention: Retention


class Part(NamedTuple):
    """One entry of a summary."""

    at: int
    part: int
    of: int
    whole: bool
    channels: Sequence[Known]


def write_summary(rings: Iterable[Ring], *, at: int, whole: bool) -> Iterator[bytes]:
    """The entries of a summary of *rings*, of which the first 20,000 count."""
    rows = [_row(ring) for ring in rings if ring.head or ring.begin or ring.retention != DEFAULT_RETENTION]
    whole = whole and len(rows) <= MOST
    rows = rows[:MOST]
    count = max(1, -(-len(rows) // PART))
    for part in range(count):
        found = {
            "at": at,
            "part": part,
            "of": count,
            "whole": whole,
            "channels": rows[part * PART : (part + 1) * PART],
        }
        yield json.dumps(found, separators=(",", ":")).encode()


def _row(ring: Ring) -> list[Any]:
    keep = ring.retention
    retention = None if keep == DEFAULT_RETENTION else [keep.messages, keep.seconds, keep.bytes]
    return [ring.name, ring.begin, ring.head, ring.version, retention]


def read_part(rest: bytes) -> Part:
    """What :func:`write_summary` wrote.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    found = json.loads(rest)
    channels = [
        Known(name, begin, head, version, DEFAULT_RETENTION if keep is None else Retention(*keep))
        for name, begin, head, version, keep in found["channels"]
    ]
    return Part(found["at"], found["part"], found["of"], found["whole"], channels)


class Gathering:
    """Puts the parts of one writer's summary together."""

    def __init__(self) -> None:
        self._writer = -1
        self._parts: list[Part] = []

    def add(self, writer: int, part: Part) -> Part | None:
        """Take a part in; returns the whole summary, as one part, when it was the last.

        Parts of one summary follow each other in the log but for what others write in between; one that is cut by
        another is given up.
        """
        follows = writer == self._writer and self._parts and part.part == len(self._parts)
        if part.part == 0:
            self._writer, self._parts = writer, [part]
        elif follows and part.at == self._parts[0].at:
            self._parts.append(part)
        else:
            return None
        if len(self._parts) < part.of:
            return None
        channels = [known for one in self._parts for known in one.channels]
        self._parts = []
        return Part(part.at, 0, 1, part.whole, channels)
