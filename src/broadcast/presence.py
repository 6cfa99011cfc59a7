"""Who is in a channel: joins, leaves, leases, grouping by key. Pure; the clock is passed in.

A *member* is one connection; members are grouped by their *key*, the user or, for the anonymous, the connection. A key
joins with its first member and leaves with its last, and each of both is told to exactly one caller. A member stays
while its *lease* runs; leaving with *grace* is nothing but a last, short lease: whoever comes back under the same key
within it has neither left nor joined.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from .message import Member

Key: TypeAlias = tuple[bool, str]
"""Whether it is a user's, and the text: a connection called like a user is not that user."""


def group_key(member: Member) -> Key:
    """What *member* is grouped by."""
    return member.user is not None, member.key


@dataclass(slots=True)
class _Seat:
    member: Member
    until: float
    by: int


class Roster:
    """The members of one channel."""

    __slots__ = ("_keys", "_seats")

    def __init__(self) -> None:
        self._seats: dict[str, _Seat] = {}
        self._keys: dict[Key, set[str]] = {}

    def __len__(self) -> int:
        return len(self._seats)

    def touch(self, members: Sequence[Member], *, until: float, by: int = 0) -> list[Member]:
        """Enter or renew *members* until that time; returns those by whom a key came to be present.

        *by* says who did it last, for :meth:`shorten`.

        A lease is set, not only prolonged. A member whose lease ended but who was not swept yet counts as present, so
        that each join follows its leave. One known under another key leaves that key without a word: connections do
        not change their user.
        """
        joined = []
        for member in members:
            seat = self._seats.get(member.id)
            if seat is not None and group_key(seat.member) == group_key(member):
                seat.member, seat.until, seat.by = member, until, by
                continue
            if seat is not None:
                self._remove(member.id)
            holders = self._keys.setdefault(group_key(member), set())
            if not holders:
                joined.append(member)
            holders.add(member.id)
            self._seats[member.id] = _Seat(member, until, by)
        return joined

    def shorten(self, by: int, until: float) -> None:
        """What *by* touched last stays until then, or as long as it would anyway, if that is shorter."""
        for seat in self._seats.values():
            if seat.by == by:
                seat.until = min(seat.until, until)

    def leave(self, ids: Iterable[str]) -> list[Member]:
        """Remove members; returns those by whose leave a key is no longer present."""
        return [member for id in ids if (member := self._remove(id)) is not None]

    def sweep(self, now: float) -> list[Member]:
        """Remove members whose lease ended; returns what :meth:`leave` does."""
        return self.leave([id for id, seat in self._seats.items() if seat.until <= now])

    def members(self, now: float) -> list[Member]:
        """Members with a running lease, by id."""
        return [seat.member for _, seat in sorted(self._seats.items()) if seat.until > now]

    def over(self, now: float) -> bool:
        """Whether every lease ended by then."""
        return all(seat.until <= now for seat in self._seats.values())

    def _remove(self, id: str) -> Member | None:
        seat = self._seats.pop(id, None)
        if seat is None:
            return None
        key = group_key(seat.member)
        holders = self._keys[key]
        holders.discard(id)
        if holders:
            return None
        del self._keys[key]
        return seat.member


class _Present(NamedTuple):
    member: Member
    size: int


class Attendance:
    """The members that entered through one hub, and when each has to be renewed or is over.

    Args:
        lease: seconds a member stays without being renewed.
        clock: seconds of a clock that does not go back.
    """

    def __init__(self, *, lease: float, clock: Callable[[], float]) -> None:
        self.lease = lease
        self.clock = clock
        self._members: dict[str, dict[str, _Present]] = {}
        self._graces: dict[str, float] = {}
        self._ends: dict[str, dict[str, float]] = {}

    def __bool__(self) -> bool:
        """Somebody is here, or a grace runs."""
        return bool(self._members or self._graces)

    def enter(self, channel: str, member: Member, *, size: int = 0) -> None:
        """*member*, of about *size* bytes, is to be renewed until it leaves."""
        self._members.setdefault(channel, {})[member.id] = _Present(member, size)

    def leave(self, channel: str, member_id: str, *, grace: float) -> Member | None:
        """*member_id* is not to be renewed any more; returns it, None when it had not entered here."""
        members = self._members.get(channel, {})
        present = members.pop(member_id, None)
        if not members:
            self._members.pop(channel, None)
        if present is None:
            return None
        end = self.clock() + grace
        self._graces[channel] = max(end, self._graces.get(channel, end))
        self._ends.setdefault(channel, {})[member_id] = end
        return present.member

    def here(self) -> list[str]:
        """Channels with members to renew."""
        return list(self._members)

    def ids(self, channel: str) -> list[str]:
        """The ids of the members of *channel*."""
        return list(self._members.get(channel, ()))

    def batch(self, channel: str, ids: Sequence[str], *, most: int, size: int) -> tuple[int, list[Member]]:
        """The first of *ids*, as many as one call takes: how many, and those of them who are here now.

        Args:
            channel: its name.
            ids: what :meth:`ids` gave, without those that were done; somebody may have left since.
            most: at most so many.
            size: of at most so many bytes together, or one alone.
        """
        members = self._members.get(channel, {})
        found: list[Member] = []
        total = 0
        for taken, id in enumerate(ids):
            present = members.get(id)
            if present is None:
                continue
            if len(found) >= most or (found and total + present.size > size):
                return taken, found
            total += present.size
            found.append(present.member)
        return len(ids), found

    def gone(self, channel: str, members: Iterable[Member]) -> list[tuple[Member, float]]:
        """Those of *members* who are not here any more, and the seconds of grace each has left."""
        here, ends, now = self._members.get(channel, {}), self._ends.get(channel, {}), self.clock()
        return [(one, max(0.0, ends.get(one.id, now) - now)) for one in members if one.id not in here]

    def channels(self, watched: Collection[str] = ()) -> list[str]:
        """Channels to sweep: with members here, with a grace that runs or just ended, and those *watched*."""
        now = self.clock()
        found = {*self._members, *self._graces, *watched}
        self._graces = {channel: end for channel, end in self._graces.items() if end > now}
        self._ends = {channel: ends for channel, ends in self._ends.items() if channel in self._graces}
        return sorted(found)

    def sweep_again(self, channel: str, seconds: float) -> None:
        """*channel* could not be swept: it is to be in :meth:`channels` after so many *seconds*."""
        self._graces.setdefault(channel, self.clock() + seconds)

    def next_grace(self) -> float | None:
        """Seconds until the first grace ends, None without one; never below 0."""
        return max(0.0, min(self._graces.values()) - self.clock()) if self._graces else None
