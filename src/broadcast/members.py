"""Presence as one hub does it: members enter, are renewed, leave with grace; what is over is swept and told.

Joins and leaves are told on the companion channel, by whichever hub caused them or found them, once. One task runs
while members are here or somebody follows their coming and going; it also sweeps what other workers left behind. It
asks for many channels at a time, and what goes wrong in one keeps no other from being renewed. What could not be told
is told later by whoever listens (``told.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from ..errors import BackendUnavailable, HubClosed, InvalidPayload, PublishError
from ..tasks import Scope
from .backend import Backend, State
from .channel import Channel
from .channels import Channels
from .codec import JSONCodec, check_member_id, payload
from .message import Member
from .names import presence_channel
from .presence import Attendance
from .retry import delays
from .told import Told, Word

LEASE = 30.0  # seconds; renewed at a third, so two renewals may fail
GRACE = 15.0  # seconds
AT_ONCE = 64  # channels renewed or swept at a time
YIELD_EVERY = 64  # channels after which a backend that never suspends lets others run
MOST_MEMBERS = 500  # in one call
MOST_BYTES = 256 * 1024  # of members in one call

T = TypeVar("T")
logger: logging.Logger = logging.getLogger("samovar.presence")


class Publish(Protocol):
    """Publishes on one of the hub's own channels; the same *id* twice is one message."""

    def __call__(self, channel: str, data: Any, *, id: str | None = None) -> Awaitable[object]: ...


class Members:
    """See the module.

    Args:
        backend: keeps the leases.
        channels: runs the timer.
        publish: tells joins and leaves.
        json: encodes what members show.
        lease: seconds a member outlives the worker that renews it.
        timeout: seconds the broker has for one answer.
        max_bytes: what a message that tells of a member may have.
        clock: seconds of a clock that does not go back.
    """

    def __init__(
        self,
        backend: Backend,
        channels: Channels,
        publish: Publish,
        *,
        json: JSONCodec,
        lease: float,
        timeout: float,
        max_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self._backend = backend
        self._channels = channels
        self._publish = publish
        self._json = json
        self._max_bytes = max_bytes
        self._attendance = Attendance(lease=lease, clock=clock)
        self._timeout = timeout if backend.waits else None
        self._timer: asyncio.TimerHandle | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._said_late = False
        self._told: dict[str, Told] = {}
        self.lease = lease
        channels.on_up = self._renew_soon

    async def enter(self, channel: str, member: Member) -> None:
        """Enter *member* and keep it there until it leaves.

        Raises:
            InvalidPayload: what it shows is not JSON, or a part of it is too long.
        """
        member, size = self._told_as(member)
        self._attendance.enter(channel, member, size=size)
        self._tick_later()
        try:
            joined = await self.ask(self._backend.touch(channel, [member], lease=self.lease))
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
            await self._let_go(channel, member, grace)
        except BackendUnavailable as error:
            logger.info("%s leaves %s when its lease ends: %s", member_id, channel, error)

    async def _let_go(self, channel: str, member: Member, grace: float) -> None:
        if grace > 0:
            joined = await self.ask(self._backend.touch(channel, [member], lease=grace))
            await self._tell("join", channel, joined)
        else:
            await self._tell("leave", channel, await self.ask(self._backend.leave(channel, [member.id])))

    async def ask(self, answer: Awaitable[T]) -> T:
        """What the broker answers in time.

        Raises:
            BackendUnavailable: it does not.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError:
            raise BackendUnavailable(f"no answer about presence within {self._timeout:g} s") from None

    async def tick(self) -> None:
        """Renew who is here, sweep whose lease or grace is over, tell who joined and left."""
        await self._each(self._attendance.here(), self._renew, "renewed")
        attendance = self._attendance
        channels = attendance.channels(self._channels.presence_watched())
        for channel in await self._each(channels, self._sweep, "swept"):
            attendance.sweep_again(channel, self.lease / 3)
        await self._each(self._to_compare(), self._compare, "compared with what was told")

    async def _renew(self, channel: str) -> None:
        """Renew who is in *channel* at the moment each call is made; who left during one has left after it, too."""
        await self._touch(channel, self.lease, tell=True)

    async def _retire(self, channel: str) -> None:
        await self._touch(channel, min(GRACE, self.lease), tell=False)

    async def _touch(self, channel: str, lease: float, *, tell: bool) -> None:
        attendance = self._attendance
        ids = attendance.ids(channel)
        while ids:
            taken, members = attendance.batch(channel, ids, most=MOST_MEMBERS, size=MOST_BYTES)
            ids = ids[taken:]
            if not members:
                continue
            joined = await self.ask(self._backend.touch(channel, members, lease=lease))
            gone = attendance.gone(channel, members)
            if tell:
                await self._tell("join", channel, joined)
            for member, grace in gone:
                await self._let_go(channel, member, grace)

    async def _sweep(self, channel: str) -> None:
        await self._tell("leave", channel, await self.ask(self._backend.sweep(channel)))

    async def _each(
        self, channels: Sequence[str], work: Callable[[str], Awaitable[None]], done: str
    ) -> list[str]:
        """Do *work* for each of *channels*, many at a time; returns those for which it failed, logged in one line.

        While the broker is away the first failure stands for what was not begun.
        """
        left = iter(channels)
        failed: dict[str, Exception] = {}

        async def take() -> None:
            for count, channel in enumerate(left, 1):
                try:
                    if not failed or not self._away:
                        await work(channel)
                    else:
                        failed[channel] = next(iter(failed.values()))
                except Exception as error:
                    failed[channel] = error
                if count % YIELD_EVERY == 0:
                    await asyncio.sleep(0)

        if len(channels) == 1 or not self._backend.waits:
            await take()
        else:
            async with Scope("samovar.hub.presence") as scope:
                for _ in range(min(AT_ONCE, len(channels))):
                    scope.start(take())
                await scope.join()
        self._log_failed(failed, done)
        return list(failed)

    @property
    def _away(self) -> bool:
        return self._channels.last_health.state is State.DOWN

    def _log_failed(self, failed: dict[str, Exception], done: str) -> None:
        """One line for the broker that is away, and one, with a traceback, for anything else."""
        away = [channel for channel, error in failed.items() if isinstance(error, BackendUnavailable)]
        if away:
            why = failed[away[0]]
            logger.info("%d channels could not be %s, %s among them: %s", len(away), done, away[0], why)
        wrong = [channel for channel in failed if not isinstance(failed[channel], BackendUnavailable)]
        if wrong:
            first = wrong[0]
            logger.error(
                "%d channels could not be %s, %s among them", len(wrong), done, first, exc_info=failed[first]
            )

    async def retire(self) -> None:
        """The hub stops: members stay for the grace only, so that other workers tell their leave soon."""
        self._stop_timer()
        try:
            await self._stop_tick()
            await self._each(self._attendance.here(), self._retire, "told that this worker stops")
        finally:
            self.forget()

    async def _stop_tick(self) -> None:
        """End a tick that runs: a renewal after the retirement would undo it."""
        ticking, self._ticking = self._ticking, None
        if ticking is not None and not ticking.done():
            ticking.cancel()
            await asyncio.wait({ticking})

    def forget(self) -> None:
        """Nobody is here any more, and nothing runs."""
        self._stop_timer()
        self._ticking = None
        self._said_late = False
        self._told.clear()
        self._attendance = Attendance(lease=self.lease, clock=self._attendance.clock)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick_later(self, took: float = 0.0) -> None:
        """Run :meth:`tick` a third of the lease after the last, which *took* seconds, or when the first grace ends."""
        grace = self._attendance.next_grace()
        wait = max(self.lease / 3 - took, self.lease / 30)
        if grace is not None:
            wait = min(wait, grace + 0.01)
        loop = asyncio.get_running_loop()
        if (
            self._timer is not None
            and self._timer.when() <= loop.time() + wait
            and not self._timer.cancelled()
        ):
            return
        self._stop_timer()
        self._timer = self._channels.later(wait, self._start_tick)

    def _renew_soon(self) -> None:
        """The broker is back, and may have forgotten who is here, or be about to."""
        if self._attendance:
            self._stop_timer()
            self._timer = self._channels.later(random.uniform(0.0, self.lease / 30), self._start_tick)

    def _start_tick(self) -> None:
        self._timer = None
        if self._ticking is None or self._ticking.done():  # one that runs yet sees to the next
            self._ticking = self._channels.start(self._tick_and_go_on(), "presence")

    async def _tick_and_go_on(self) -> None:
        """One tick, and the timer for the next; a hub that stops cancels it, and there is no next."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self.tick()
        except Exception:  # whatever happened: without the next tick everybody's lease would end
            logger.exception("presence failed; it goes on")
        took = loop.time() - began
        self._ticking = None
        if took > self.lease / 3 and not self._said_late and not self._away:
            self._said_late = True
            logger.warning(
                "renewing presence took %.1f s of a lease of %g s: with more than that, members leave while they are "
                "connected; a longer lease helps", took, self.lease
            )  # fmt: skip
        if self._attendance or self._channels.presence_watched():
            self._tick_later(took)

    def watch(self, channel: Channel) -> None:
        """Somebody follows joins and leaves: sweep now and then even if nobody is here, and see that all is told."""
        self._tick_later()
        told = self._told.get(name := channel.name[1:])
        if told is None or told.channel is not channel:
            told = self._told[name] = Told(channel)
            self._channels.start(self._listen(told), "listen")

    async def _listen(self, told: Told) -> None:
        """Hear what is told from now on, and look who is there, as those do who follow."""
        name = told.channel.name[1:]
        with contextlib.suppress(BackendUnavailable):  # the channel was given up
            await told.channel.ready()
            told.listen()
            for delay in delays(most=0.5):
                try:
                    return await self._look(told)
                except BackendUnavailable as error:
                    if self._told.get(name) is not told:
                        return
                    logger.debug("who is in %s: %s; asking again in %.2f s", name, error, delay)
                await asyncio.sleep(delay)

    def _to_compare(self) -> list[str]:
        """Channels whose turn it is; those that nobody follows any more are forgotten."""
        now, watched = self._attendance.clock(), set(self._channels.presence_watched())
        self._told = {name: told for name, told in self._told.items() if name in watched}
        return [name for name, told in self._told.items() if told.due(now, self.lease)]

    async def _compare(self, channel: str) -> None:
        if (told := self._told.get(channel)) is not None:
            await self._look(told)

    async def _look(self, told: Told) -> None:
        """Tell what somebody else could not, if that is sure by now."""
        channel = told.channel.name[1:]
        told.begin_look()
        members = await self.ask(self._backend.members(channel))
        for event, member, id in told.look(members, self._attendance.clock()):
            logger.info("the %s of %s in %s was not told; it is now", event, member.id, channel)
            await self._tell(event, channel, [member], id=id)

    def _told_as(self, member: Member) -> tuple[Member, int]:
        """*member* as others will read it, and its size: what cannot be told would keep all from being renewed.

        Raises:
            InvalidPayload: what it shows is not JSON, or a part of it is too long.
        """
        check_member_id(member.id)
        if member.user is not None and not isinstance(member.user, str):
            raise InvalidPayload(f"a member's user is a str or None, not {str(member.user)[:100]!r}")
        _, told = payload(_said("leave", member), self._json)
        if len(told) > self._max_bytes:
            raise InvalidPayload(
                f"the member {member.id!r} takes {len(told)} bytes to tell of; the limit is {self._max_bytes} "
                "(max_message_bytes, BROADCAST_MAX_MESSAGE_BYTES)"
            )
        if member.info is not None:
            member = replace(member, info=self._json.loads(told)["member"]["info"])
        return member, len(told)

    async def _tell(
        self, event: Word, channel: str, members: Sequence[Member], *, id: str | None = None
    ) -> None:
        """Publish joins or leaves; the roster holds what is true, so one that cannot be told is only logged."""
        for member in members:
            try:
                await self._publish(presence_channel(channel), _said(event, member), id=id)
            except HubClosed:  # it stopped meanwhile; the roster knows
                return
            except (PublishError, InvalidPayload) as error:
                logger.warning(
                    "the %s of %s in %s may not have been told: %s", event, member.id, channel, error
                )


def _said(event: Word, member: Member) -> dict[str, Any]:
    """What is published about a join or leave."""
    return {"event": event, "member": {"id": member.id, "user": member.user, "info": member.info}}
