"""Presence as one hub does it: members enter, are renewed, leave with grace; what is over is swept and told.

Joins and leaves are told on the companion channel, by whichever hub caused them or found them, once. One task runs
while members are here or somebody follows their coming and going; it also sweeps what other workers left behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from ..errors import BackendUnavailable, InvalidPayload, PublishError
from .backend import Backend
from .channels import Channels
from .codec import JSONCodec, payload
from .message import Member
from .names import presence_channel
from .presence import Attendance

LEASE = 30.0  # seconds; renewed at a third, so two renewals may fail
GRACE = 15.0  # seconds

logger = logging.getLogger("samovar.presence")


class Members:
    """See the module.

    Args:
        backend: keeps the leases.
        channels: runs the timer.
        publish: tells joins and leaves.
        json: encodes what members show.
        lease: seconds a member outlives the worker that renews it.
        clock: seconds of a clock that does not go back.
    """

    def __init__(
        self,
        backend: Backend,
        channels: Channels,
        publish: Callable[[str, Any], Awaitable[object]],
        *,
        json: JSONCodec,
        lease: float,
        clock: Callable[[], float],
    ) -> None:
        self._backend = backend
        self._channels = channels
        self._publish = publish
        self._json = json
        self._attendance = Attendance(lease=lease, clock=clock)
        self._timer: asyncio.TimerHandle | None = None
        self.lease = lease

    async def enter(self, channel: str, member: Member) -> None:
        """Enter *member* and keep it there until it leaves.

        Raises:
            InvalidPayload: what it shows is not JSON.
        """
        member = self._told_as(member)
        self._attendance.enter(channel, member)
        self._tick_later()
        try:
            joined = await self._backend.touch(channel, [member], lease=self.lease)
        except BackendUnavailable as error:
            logger.info("%s enters %s when the broker is back: %s", member.id, channel, error)
            return
        await self._tell("join", channel, joined)

    async def leave(self, channel: str, member_id: str, *, grace: float) -> None:
        """Let *member_id* go; it is gone after *grace* seconds unless its key comes back. Idempotent."""
        member = self._attendance.leave(channel, member_id, grace=grace)
        if member is None:
            return
        self._tick_later()
        try:
            if grace > 0:
                await self._tell("join", channel, await self._backend.touch(channel, [member], lease=grace))
            else:
                await self._tell("leave", channel, await self._backend.leave(channel, [member_id]))
        except BackendUnavailable as error:
            logger.info("%s leaves %s when its lease ends: %s", member_id, channel, error)

    async def tick(self) -> None:
        """Renew who is here, sweep whose lease or grace is over, tell who joined and left."""
        for channel, members in self._attendance.renewals():
            await self._tell("join", channel, await self._backend.touch(channel, members, lease=self.lease))
        for channel in self._attendance.channels(self._channels.presence_watched()):
            await self._tell("leave", channel, await self._backend.sweep(channel))

    async def retire(self) -> None:
        """The hub stops: members stay for the grace only, so that other workers tell their leave soon."""
        self._stop_timer()
        for channel, members in self._attendance.renewals():
            try:
                await self._backend.touch(channel, members, lease=min(GRACE, self.lease))
            except BackendUnavailable as error:
                logger.info("members of %s leave when their lease ends: %s", channel, error)
        self.forget()

    def forget(self) -> None:
        """Nobody is here any more, and nothing runs."""
        self._stop_timer()
        self._attendance = Attendance(lease=self.lease, clock=self._attendance.clock)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick_later(self) -> None:
        """Run :meth:`tick` after a third of the lease, or when the first grace ends."""
        grace = self._attendance.next_grace()
        wait = self.lease / 3 if grace is None else min(self.lease / 3, grace + 0.01)
        loop = asyncio.get_running_loop()
        if (
            self._timer is not None
            and self._timer.when() <= loop.time() + wait
            and not self._timer.cancelled()
        ):
            return
        self._stop_timer()
        self._timer = self._channels.later(wait, self._start_tick)

    def _start_tick(self) -> None:
        self._timer = None
        self._channels.start(self._tick_and_go_on(), "presence")

    async def _tick_and_go_on(self) -> None:
        try:
            await self.tick()
        except BackendUnavailable as error:
            logger.info("presence waits for the broker: %s", error)
        finally:  # whatever happened: without the next tick everybody's lease would end
            if self._attendance or self._channels.presence_watched():
                self._tick_later()

    def watch(self) -> None:
        """Somebody follows joins and leaves: sweep now and then even if nobody is here."""
        self._tick_later()

    def _told_as(self, member: Member) -> Member:
        """*member* as others will read it: what cannot be told would keep everybody from being renewed.

        Raises:
            InvalidPayload: what it shows is not JSON.
        """
        _, told = payload([member.id, member.user, member.info], self._json)
        return member if member.info is None else replace(member, info=self._json.loads(told)[2])

    async def _tell(self, event: Literal["join", "leave"], channel: str, members: Sequence[Member]) -> None:
        """Publish joins or leaves; the roster holds what is true, so one that cannot be told is only logged."""
        for member in members:
            said = {"event": event, "member": {"id": member.id, "user": member.user, "info": member.info}}
            try:
                await self._publish(presence_channel(channel), said)
            except (PublishError, InvalidPayload) as error:
                logger.warning(
                    "the %s of %s in %s may not have been told: %s", event, member.id, channel, error
                )
