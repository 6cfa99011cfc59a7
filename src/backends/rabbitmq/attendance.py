"""Who is in which channel, as the stream of presence tells it. Pure; the clock is passed in.

All workers read who came and left in the same order, so each join and each leave is found once: by him whose entry
caused it, when he reads it. A lease runs by the clock of each worker, from when its entry came. What was read up may
be old: by the wall clocks of writer and reader the rest of its lease is known, and goes by for :meth:`members`; but
since these clocks may differ, nobody is swept before a whole lease has passed here, in which the living are renewed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

from ...broadcast.message import Member
from ...broadcast.presence import Roster
from .entry import HEAD, LEAVE, MAGIC, MARK, TOUCH, VERSION, LaterVersion, read_more

FORGOTTEN = 600.0  # seconds after its last lease until a channel that nobody swept is forgotten
MAX_LEASE = 10 * 365 * 86_400_000  # milliseconds


class _Held(NamedTuple):
    offset: int  # of the entry that entered or renewed it
    sweepable: float  # when it may be swept


class Attendance:
    """See the module.

    Args:
        me: the upper half of the origin of our entries.
        own: is told the number of each entry of ours that was read, and what it caused.
        clock: seconds of a clock that does not go back.
        wall: milliseconds since 1970.
    """

    def __init__(
        self,
        me: int,
        own: Callable[[int, Any], None],
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.last: int = -1
        self.last_body: bytes | None = None
        self.live = False
        """What comes is new, rather than read up."""
        self._me = me
        self._own = own
        self._clock = clock
        self._wall = wall
        self._rosters: dict[str, Roster] = {}
        self._held: dict[str, dict[str, _Held]] = {}
        self._tidying: Iterator[str] = iter(())

    def take(self, offset: int, body: bytes | None) -> None:
        """Take an entry in.

        Raises:
            LaterVersion: it cannot be read, and not be skipped either.
        """
        if body is None or len(body) < HEAD.size or body[:4] != MAGIC:
            self.last, self.last_body = offset, body
            return
        _, version, kind, origin, ts, flags, name_size, id_size = HEAD.unpack_from(body)
        if version != VERSION or kind > LEAVE:
            raise LaterVersion(version, kind, offset)
        self.last, self.last_body = offset, body
        channel = body[HEAD.size : HEAD.size + name_size].decode(errors="replace")
        more = read_more(body, HEAD.size + name_size + id_size, flags)
        found: list[Member] = []
        if kind == TOUCH:
            found = self._touched(channel, offset, read_members(more.rest), more.number or 0, ts)
        elif kind == LEAVE:
            found = self._left(channel, json.loads(more.rest))
        elif kind != MARK:
            return
        self._tidy()
        if origin >> 32 == self._me:
            self._own(origin, found)

    def _touched(
        self, channel: str, offset: int, members: Sequence[Member], lease: int, ts: int
    ) -> list[Member]:
        now = self._clock()
        age = 0.0 if self.live else max(0.0, (self._wall() - ts) / 1000)
        roster = self._rosters.setdefault(channel, Roster())
        held = self._held.setdefault(channel, {})
        for member in members:
            held[member.id] = _Held(offset, now + lease / 1000)
        return roster.touch(members, until=now + lease / 1000 - age)

    def _left(self, channel: str, leaving: Sequence[Sequence[Any]]) -> list[Member]:
        """Those leave who were not renewed since their leave was decided."""
        held = self._held.get(channel, {})
        ids = [id for id, known in leaving if id in held and (known is None or held[id].offset <= known)]
        for id in ids:
            del held[id]
        gone = self._rosters[channel].leave(ids) if ids else []
        if not held:
            self._rosters.pop(channel, None)
            self._held.pop(channel, None)
        return gone

    def _tidy(self) -> None:
        """Look whether one other channel is long over, which nobody swept."""
        channel = next(self._tidying, None)
        if channel is None:
            self._tidying = iter(list(self._rosters))
        elif (roster := self._rosters.get(channel)) is not None and roster.over(self._clock() - FORGOTTEN):
            del self._rosters[channel], self._held[channel]

    def members(self, channel: str) -> list[Member]:
        """Those with a running lease, by id."""
        roster = self._rosters.get(channel)
        return [] if roster is None else roster.members(self._clock())

    def over(self, channel: str) -> list[tuple[str, int]]:
        """Those whose lease is over: the id, and the offset of the entry that gave the lease."""
        now = self._clock()
        held = self._held.get(channel, {})
        return [(id, one.offset) for id, one in held.items() if one.sweepable <= now]


# --- entries --------------------------------------------------------------------------------------------------------


def write_members(members: Sequence[Member]) -> bytes:
    """As entries have them."""
    shown = [[member.id, member.user, member.info] for member in members]
    return json.dumps(shown, separators=(",", ":")).encode()


def read_members(rest: bytes) -> list[Member]:
    """What :func:`write_members` wrote."""
    return [Member(id, user, info) for id, user, info in json.loads(rest)]


def write_leaving(leaving: Collection[tuple[str, int | None]]) -> bytes:
    """Who leaves, and what was known of each: the offset of the entry that renewed it, None: whatever it is."""
    return json.dumps(list(leaving), separators=(",", ":")).encode()
