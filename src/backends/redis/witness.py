"""What this worker saw last of each channel, held against a durable store that was started again.

A store declared durable keeps its epochs over a restart, and is believed; but it may have lost its end all the same.
``appendfsync everysec`` answers before it writes while an fsync is under way (seen: 10,000 acknowledged writes lost to
a ``kill -9`` under a busy disk), a power failure takes the last second, somebody restores an older copy. Then offsets
that were given once are given again, to other records, and cursors lie. Whoever saw the lost end can tell: of its last
record the store knows nothing, or has another in its place. So before a worker publishes to a server that was started
since, it looks, and where the store went back it *fences* the channel: a new epoch, hence a Gap for everybody.

What a record was that the channel has dropped since, no one can look up. So the first publish after a start notes in
the channel's meta which process ended before, and at which offset: the store went back for those who saw more than that
in the life of that process, or more than at any end since.

What nobody who lives saw, nobody can tell.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from .link import Command, Reply
from .reading import Keys

MAX_SEEN = 20_000  # channels; beyond that the one seen longest ago is forgotten
MARK = 80  # bytes of a record that tell it from others: its id is among them (broadcast.codec)


class Seen(NamedTuple):
    """The newest record this worker saw of a channel, and in the life of which process of the server."""

    epoch: str
    offset: int
    mark: bytes
    run_id: str


class Witness:
    """See the module.

    Attributes:
        run_id: of the process of the server to which the session leads.
    """

    def __init__(self) -> None:
        self.run_id = ""
        self._seen: OrderedDict[str, Seen] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def saw(self, channel: str, epoch: str, offset: int, envelope: bytes) -> None:
        """A record was received, or one of ours was acknowledged."""
        before = self._seen.get(channel)
        if before is not None and before.epoch == epoch and before.offset >= offset:
            return
        self._seen[channel] = Seen(epoch, offset, envelope[:MARK], self.run_id)
        self._seen.move_to_end(channel)
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)

    def forget(self, channel: str) -> None:
        """It is fenced, or was never."""
        self._seen.pop(channel, None)

    def all(self) -> list[tuple[str, Seen]]:
        """What was seen, by channel."""
        return list(self._seen.items())


def questions(keys: Keys, channel: str, seen: Seen) -> list[Command]:
    """What to ask the store about a channel."""
    meta, log = keys.of(channel, "meta"), keys.of(channel, "log")
    return [["HMGET", meta, "e", "s", "l", "b", "r"], ["XRANGE", log, seen.offset, seen.offset]]


def went_back(seen: Seen, meta: Sequence[Reply], rows: Sequence[Reply]) -> bool:
    """Whether the store, by its answers to :func:`questions`, lost what was seen, or cannot show that it did not."""
    epoch, newest, mark, published, ends = meta
    if epoch is None or epoch.decode() != seen.epoch:
        return False  # another epoch is a Gap without our doing
    if int(newest or 0) == seen.offset:
        return bool(mark != seen.mark)
    if int(newest or 0) < seen.offset:
        return True
    if published == seen.run_id.encode():
        return False  # nobody published since that process ended: what was loaded goes beyond what we saw
    if since := _ends_since(seen.run_id, ends or b""):
        return min(since) < seen.offset
    return not rows or bool(rows[0][1][1][:MARK] != seen.mark)


def _ends_since(run_id: str, ends: bytes) -> list[int]:
    """Where the channel stood when that process ended, and at each end after it; nothing when that is not known.

    Args:
        run_id: of a process.
        ends: ``<first of run_id>=<offset> …``, oldest first, as ``publish.lua`` writes it.
    """
    offsets: list[int] = []
    for end in ends.decode().split():
        run, _, offset = end.partition("=")
        if offsets or run_id.startswith(run):
            offsets.append(int(offset))
    return offsets
