"""How long a client may stay: rules asked again in time, access that ends, users that are sent away.

A rule's answer holds while the connection lasts, unless the rule has ``recheck=``, the answer ``Access.expires``, or
somebody calls ``hub.kick(user)``. Each is one timer or one entry in a table, and no task: what is due wakes the door,
which asks in its own context and ends the connection when the answer is no.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from ...broadcast import Hub
from ...errors import HubClosed
from ..globals import current_app
from . import codes
from .access import GRANTED, Access, asked_about

DOUBT_SPREAD = 5.0
"""Seconds over which a worker's connections ask again when a kick may have been missed: not all at once."""

logger: logging.Logger = logging.getLogger("samovar.stay")


def may_end(channel: str, *, authorize: bool) -> bool:
    """Something could end a stay in *channel*: a rule that is asked, or a user who has a name."""
    channels = current_app.channels
    return channels.identifies or (authorize and channels.guards(channel))


class Stay:
    """The stay of one connection; a :class:`samovar.broadcast.connections.Connection`.

    Nothing is registered and no timer runs before :meth:`open` or after :meth:`close`.

    Args:
        hub: tells who is sent away.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._wake: Callable[[], None] | None = None
        self._closed = False
        self._kicked = False
        self._users: dict[str, int] = {}
        self._granted: dict[str, Access] = {}
        self._due: dict[str, None] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def open(self, wake: Callable[[], None]) -> None:
        """The connection lives: *wake* is called when there is something for :meth:`settle`."""
        self._wake = wake
        for user, mark in self._users.items():
            self._hub.connections.add(user, self, since=mark)
        for channel in self._granted:
            self._set_timer(channel)

    def close(self) -> None:
        """It is over; idempotent."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._granted.clear()
        self._due.clear()
        for user in self._users:
            self._hub.connections.discard(user, self)
        self._users.clear()

    # --- asking -----------------------------------------------------------------------------------------------------

    async def ask(self, channel: str, *, authorize: bool = True) -> Access | None:
        """What the rule of *channel* grants the active connection, None for a refusal; from then on it is watched.

        Args:
            channel: checked already.
            authorize: ask the rule; False where the route has decided itself, and only a kick can end the stay.
        """
        if not may_end(channel, authorize=authorize):
            return GRANTED
        channels = current_app.channels
        guarded = authorize and channels.guards(channel)
        mark = await self._mark()
        access = await channels.ask(channel) if guarded else GRANTED
        if access is None or self._closed:
            return None
        user = await channels.user() if access.user is None else access.user
        if user is not None:
            self._belong_to(user, mark)
        if guarded:
            self._granted[channel] = access
            self._set_timer(channel)
        return None if self._kicked else access

    async def introduce(self) -> None:
        """Learn whose connection it is, for those that subscribe to nothing."""
        if current_app.channels.identifies:
            mark = await self._mark()
            user = await current_app.channels.user()
            if user is not None and not self._closed:
                self._belong_to(user, mark)

    async def _mark(self) -> int:
        """Follow the kicks of all workers; without a broker the subscription itself will say what is wrong."""
        try:
            await self._hub.follow_kicks()
        except HubClosed as error:
            logger.debug("kicks are not followed: %s", error)
        return self._hub.connections.mark()

    def _belong_to(self, user: str, mark: int) -> None:
        if user not in self._users:
            self._users[user] = mark
            if self._wake is not None:
                self._hub.connections.add(user, self, since=mark)

    def forget(self, channel: str) -> None:
        """*channel* is not subscribed any more."""
        self._granted.pop(channel, None)
        self._due.pop(channel, None)
        timer = self._timers.pop(channel, None)
        if timer is not None:
            timer.cancel()

    # --- what may end it --------------------------------------------------------------------------------------------

    def _set_timer(self, channel: str) -> None:
        rule = current_app.channels.rule(asked_about(channel))
        access = self._granted[channel]
        waits = [] if rule is None or rule.recheck is None else [rule.recheck]
        if access.expires is not None:
            waits.append(max(0.0, access.expires - time.time()))
        if waits and self._wake is not None:
            self._ask_in(min(waits), channel)

    def _ask_in(self, seconds: float, channel: str) -> None:
        timer = self._timers.pop(channel, None)
        if timer is not None:
            timer.cancel()
        self._timers[channel] = asyncio.get_running_loop().call_later(seconds, self._fall_due, channel)

    def _fall_due(self, channel: str) -> None:
        self._timers.pop(channel, None)
        self._due[channel] = None
        self._call()

    def kicked(self) -> None:
        """See :class:`samovar.broadcast.connections.Connection`."""
        self._kicked = True
        self._call()

    def doubted(self) -> None:
        """See :class:`samovar.broadcast.connections.Connection`."""
        for channel in self._granted:
            self._ask_in(random.uniform(0, DOUBT_SPREAD), channel)

    def _call(self) -> None:
        if self._wake is not None and not self._closed:
            self._wake()

    @property
    def watched(self) -> bool:
        """Something could end it."""
        return bool(self._users or self._granted)

    @property
    def unsettled(self) -> bool:
        """There is something for :meth:`settle`."""
        return self._kicked or bool(self._due)

    async def settle(self) -> codes.CloseCode | None:
        """Ask again what is due; the code to end the connection with, None when it may stay.

        A rule that fails ends it too, but so that the client comes back: it may be asked then.
        """
        while self._due and not self._kicked:
            channel = next(iter(self._due))
            del self._due[channel]
            try:
                access = await self.ask(channel)
            except Exception:  # the application's rule: nobody stays on the word of one that failed
                logger.exception("the rule of %s failed when it was asked again", channel)
                return codes.INTERNAL_ERROR
            if access is None and not self._kicked and not self._closed:
                return codes.DENIED
        return codes.SIGNED_OUT if self._kicked else None
