"""The clients connected to this worker, by user, and the word that sends a user away from all workers.

``hub.kick(user)`` publishes on a channel of the hubs' own, which every hub follows from the first time that a client
with rights is let in. It is followed like any channel, so a cut link costs no kick: what was missed is read from
history, and where history has a Gap every connection is asked to prove its rights again. So are those that were let in
before it was followed at all, because the broker was away.

Whoever lets a client in takes a :meth:`Connections.mark` before asking for its rights and gives it to
:meth:`Connections.add`, so that neither a kick nor a doubt between the two is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol

from .channel import Follow, Offer
from .channels import Channels
from .message import Event, Message
from .names import InternalChannel

KICKS = InternalChannel("!!kick")
REMEMBERED = 1000  # kicks

logger: logging.Logger = logging.getLogger("samovar.connections")


class Connection(Protocol):
    """One client of this worker. Plain functions that neither wait nor raise."""

    def kicked(self) -> None:
        """Its user is sent away: end."""

    def doubted(self) -> None:
        """A kick may have been missed: ask soon whether it may stay."""


class Connections:
    """See the module.

    Args:
        channels: has the channel of kicks.
    """

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._users: dict[str, dict[Connection, None]] = {}
        self._recent: deque[tuple[int, str | None]] = deque(maxlen=REMEMBERED)
        self._heard_of = 0  # kicks and doubts
        self._doubt = 0  # which of them was the last doubt
        self._joining: asyncio.Task[None] | None = None
        self._joined = False

    def __len__(self) -> int:
        return sum(map(len, self._users.values()))

    def begin(self) -> None:
        """Follow kicks, soon."""
        if not self._joined and (self._joining is None or self._joining.done()):
            self._joining = self._channels.start(self._join(), "kicks")

    async def follow(self, timeout: float) -> None:
        """Follow kicks, and return when they reach this worker, at the latest after *timeout* seconds.

        That is waited for once: what an outage keeps back later is caught up.
        """
        self.begin()
        if not self._joined and self._joining is not None:
            await asyncio.wait({self._joining}, timeout=timeout)

    async def _join(self) -> None:
        follow = self._channels.get(KICKS).enter(self)
        await follow.channel.ready()
        self._joined = True
        follow.channel.go_live(follow)
        self._doubt_all()  # of kicks until now nothing is known

    def forget(self) -> None:
        """The hub begins anew: nobody is connected, nothing is followed."""
        self._users.clear()
        self._recent.clear()
        self._joining = None
        self._joined = False

    # --- who is here ------------------------------------------------------------------------------------------------

    def mark(self) -> int:
        """The moment before rights are asked, for :meth:`add`."""
        return self._heard_of

    def add(self, user: str, connection: Connection, *, since: int) -> None:
        """*connection* is *user*'s; if the user was kicked, or may have been, after the mark *since*, it is told so."""
        self._users.setdefault(user, {})[connection] = None
        missed = self._heard_of - since
        if missed and any(number > since and kicked == user for number, kicked in self._recent):
            self._send_away(connection)
        elif missed > len(self._recent) or since < self._doubt:
            connection.doubted()

    def discard(self, user: str, connection: Connection) -> None:
        """It is gone, or *user*'s no longer; idempotent."""
        connections = self._users.get(user)
        if connections is not None:
            connections.pop(connection, None)
            if not connections:
                del self._users[user]

    # --- the follower of the channel of kicks -----------------------------------------------------------------------

    @property
    def offer(self) -> Offer:
        """Where the channel hands kicks over."""
        return self._heard

    def fell_behind(self, follow: Follow) -> None:
        """Never: there is no queue."""

    def _heard(self, event: Event, size: int) -> bool:
        if isinstance(event, Message):
            self._kick(event)
        else:
            self._doubt_all()
        return True

    def _doubt_all(self) -> None:
        """Kicks may have been missed: whoever is here, or was let in until now, may be one of the kicked."""
        self._note(None)
        self._doubt = self._heard_of
        for connections in tuple(self._users.values()):
            for connection in tuple(connections):
                connection.doubted()

    def _note(self, user: str | None) -> None:
        self._heard_of += 1
        self._recent.append((self._heard_of, user))

    def _kick(self, message: Message) -> None:
        try:
            user = message.data["user"]
        except (ValueError, TypeError, KeyError):
            user = None
        if not isinstance(user, str):
            logger.warning("the kick %s names no user: %r", message.id, message.body[:100])
            return
        self._note(user)
        for connection in tuple(self._users.get(user, ())):
            self._send_away(connection)

    def _send_away(self, connection: Connection) -> None:
        self._channels.counters.kicked += 1
        connection.kicked()
