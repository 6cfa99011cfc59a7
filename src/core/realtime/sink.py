"""A websocket's way out: its own sends and its channels' messages, in one order and through one writer.

Until the handler subscribes, ``send`` writes directly. From the first ``subscribe`` on, own sends stand in the same
outbox as messages, so that frames leave in the order in which they reached the connection, and one task of the
connection's scope writes them. Nothing else queues: what the peer does not read stays in the bounded outbox, under its
overflow policy.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

from ...broadcast import Event, Gap, Hub, Member, Message, Since, Subscribed, Subscription, presence_channel
from ...errors import AlreadySubscribed, HubClosed, SlowSubscriber, WebsocketClosed
from ...tasks import Scope
from . import codes, frames
from .lanes import LaneState, PlainLane
from .stay import Stay

OnGap: TypeAlias = (
    "Literal['close', 'ignore'] | Callable[[Gap], str | bytes | Awaitable[str | bytes | None] | None]"
)


SEND_AWAY = 1.0
"""Seconds that a peer which does not read may hold up the close frame that sends it away."""

YIELD_EVERY = 16
"""Own frames after which others have a turn: a handler that sends in a loop may never wait for a fast client."""

logger: logging.Logger = logging.getLogger("samovar.websocket")


@dataclass(slots=True)
class Own:
    """A frame of the connection's own, waiting for its turn; without data only a mark in the queue.

    Args:
        data: the frame, None for a mark.
        written: resolved when it is out, None when nobody waits for it.
    """

    data: str | bytes | None
    written: asyncio.Future[None] | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """How one channel goes out on one connection.

    Args:
        envelope: messages in their envelope, or the payload alone.
        on_gap: with ``envelope=False``, what a Gap does: close 4009, nothing, or what a function says to send.
        member: who is present through this subscription; None when it does not count.
        of: for a companion channel of presence events, the channel it is about.
    """

    envelope: bool = True
    on_gap: OnGap = "close"
    member: Member | None = None
    of: str | None = None


class Outbound:
    """The writing half of one websocket.

    Args:
        lane: writes frames.
        scope: the connection's; owns the writer.
        interrupt: called when the writer ended the connection, so that the reader stops too.
    """

    def __init__(self, lane: PlainLane, scope: Scope, interrupt: Callable[[], None]) -> None:
        self.lane = lane
        self.subscription: Subscription | None = None
        self.options: dict[str, Options] = {}
        self._hub: Hub | None = None
        self._scope = scope
        self._interrupt = interrupt
        self._pending: set[asyncio.Future[None]] = set()
        self._closing = False
        self._written = 0
        self._writer: asyncio.Task[None] | None = None
        self.stay: Stay | None = None
        self._judge: asyncio.Task[None] | None = None

    async def send(self, data: str | bytes) -> None:
        """Send one frame behind everything that is queued; returns when it has been written.

        Raises:
            WebsocketClosed: the connection ended first.
        """
        if self.subscription is None:
            await self.lane.write(data)
            self._written += 1
            if self._written % YIELD_EVERY == 0:
                await asyncio.sleep(0)
            return
        if self.lane.state is not LaneState.OPEN:
            raise self.lane.error()
        try:
            await self._queue(data, len(data))
        except SlowSubscriber as error:
            raise WebsocketClosed(codes.SLOW.code, codes.SLOW.reason, "app") from error
        except HubClosed as error:
            raise self.lane.error() from error

    async def flush(self) -> None:
        """Return when everything queued so far has been written, or the writer has ended the connection."""
        if self.subscription is None or self.lane.state is not LaneState.OPEN:
            return
        try:
            await self._queue(None, 0)
        except (HubClosed, WebsocketClosed):
            return
        except SlowSubscriber:  # the writer says so to the client
            if self._writer is not None:
                await asyncio.wait({self._writer})

    async def _queue(self, data: str | bytes | None, size: int) -> None:
        assert self.subscription is not None
        written = asyncio.get_running_loop().create_future()
        self._pending.add(written)
        try:
            self.subscription.put(Own(data, written), size)
            await written
        finally:
            self._pending.discard(written)

    def open(self, hub: Hub, **bounds: Any) -> Subscription:
        """The connection's one subscription; the first call makes it and starts the writer."""
        if self.subscription is None:
            self._hub = hub
            self.subscription = hub.subscribe(**bounds)
            self._writer = self._scope.start(self._write_all(self.subscription), name="writer")
        return self.subscription

    def stay_of(self, hub: Hub) -> Stay:
        """The connection's stay; the first call, in the connection's context, begins to watch it."""
        if self.stay is None:
            self.stay = Stay(hub)
            self.stay.open(partial(self._settle_soon, contextvars.copy_context()))
        return self.stay

    def _settle_soon(self, context: contextvars.Context) -> None:
        if self._judge is None or self._judge.done():
            self._judge = self._scope.start(self._settle(), name="stay", context=context)

    async def _settle(self) -> None:
        """End the connection if it may not stay; what is queued is not written any more."""
        assert self.stay is not None
        while self.stay.unsettled:
            code = await self.stay.settle()
            if code is not None:
                self.close()
                await self._send_away(code)
                return

    async def _send_away(self, code: codes.CloseCode) -> None:
        """Close without waiting for a peer that does not read: nothing of it is to be read either any more."""
        try:
            async with asyncio.timeout(SEND_AWAY):
                await self.lane.close(code.code, code.reason)
        except (WebsocketClosed, TimeoutError) as error:
            logger.debug("a websocket that may not stay ended without its close frame: %r", error)
        finally:
            self._interrupt()

    async def add(
        self,
        channel: str,
        *,
        since: Since = None,
        last: int | None = None,
        envelope: bool = True,
        on_gap: OnGap = "close",
        member: Member | None = None,
    ) -> Subscribed:
        """Subscribe to *channel*; its first word and what follows go out through the writer.

        Raises:
            AlreadySubscribed: this connection has the channel.
        """
        assert self.subscription is not None and self._hub is not None, "open() comes first"
        if channel in self.options:
            raise AlreadySubscribed(f"this websocket is subscribed to {channel!r} already")
        self.options[channel] = Options(envelope, on_gap, member)
        try:
            word = await self.subscription.add(channel, since=since, last=last)
        except BaseException:
            self.options.pop(channel, None)
            raise
        if member is not None:
            await self._hub.enter(channel, member)
        return word

    async def add_presence(self, channel: str) -> None:
        """Tell who is present in *channel*: all members first, then each join and leave."""
        assert self.subscription is not None and self._hub is not None, "open() comes first"
        companion = presence_channel(channel)
        self.options[companion] = Options(of=channel)
        start = await self._hub.cursor(companion)  # before the list is read: no hole between list and events
        await self._tell_members(channel, start)
        await self.subscription.add(companion, since=start)

    async def _tell_members(self, channel: str, cursor: str) -> None:
        assert self.subscription is not None and self._hub is not None
        members = await self._hub.presence(channel)
        text = frames.presence(channel, "list", members, cursor)
        self.subscription.put(Own(text), len(text))

    async def remove(self, channel: str, *, grace: float) -> None:
        """Unsubscribe from *channel*, its presence events included."""
        if self.subscription is None or self._hub is None:
            return
        companion = presence_channel(channel)
        for name in (companion, channel):
            options = self.options.pop(name, None)
            if options is None:
                continue
            await self.subscription.remove(name)
            if options.member is not None:
                await self._hub.leave(name, options.member.id, grace=grace)

    def close(self) -> None:
        """No more messages: leave the channels and stop the writer; idempotent."""
        self._closing = True
        if self.stay is not None:
            self.stay.close()
        if self.subscription is not None:
            self.subscription.close()

    async def leave(self, *, grace: float) -> None:
        """End the presence of this connection everywhere it counted."""
        for channel, options in list(self.options.items()):
            if options.member is not None and self._hub is not None:
                await self._hub.leave(channel, options.member.id, grace=grace)
        self.options.clear()

    # --- the writer --------------------------------------------------------------------------------------------

    async def _write_all(self, subscription: Subscription) -> None:
        try:
            while True:
                for event in await subscription.events():
                    await self._write(event)
        except SlowSubscriber:
            await self._end(codes.SLOW)
        except HubClosed:
            if not self._closing:  # not we ended it, the hub stopped
                await self._end(codes.RESTART)
        except WebsocketClosed:
            self._interrupt()
        except (
            Exception
        ):  # a bug, in on_gap= say: the client must not wait for what never comes; the scope logs it
            await self._end(codes.INTERNAL_ERROR)
            raise
        finally:
            subscription.close()
            for written in self._pending:
                if not written.done():
                    written.set_exception(self.lane.error())

    async def _end(self, code: codes.CloseCode) -> None:
        try:
            await self.lane.close(code.code, code.reason)
        finally:
            self._interrupt()

    async def _write(self, event: Event | Own) -> None:
        match event:
            case Own():
                await self._write_own(event)
            case Message():
                await self._write_message(event)
            case Gap():
                await self._write_gap(event)
            case Subscribed():
                options = self.options.get(event.channel)
                if options is not None and options.of is None and options.envelope:
                    await self.lane.write(frames.subscribed(event))

    async def _write_own(self, own: Own) -> None:
        try:
            if own.data is not None:
                await self.lane.write(own.data)
        except WebsocketClosed as error:
            if own.written is not None and not own.written.done():
                own.written.set_exception(error)
            raise
        if own.written is not None and not own.written.done():
            own.written.set_result(None)

    async def _write_message(self, message: Message) -> None:
        options = self.options.get(message.channel)
        if options is None:  # unsubscribed while it was queued
            return
        if options.of is not None:
            event = message.data
            text = frames.presence(options.of, event["event"], event["member"], message.cursor)
            await self.lane.write(text)
        elif options.envelope:
            await self.lane.write(frames.envelope(message))
        else:
            await self.lane.write(frames.bare(message))

    async def _write_gap(self, gap: Gap) -> None:
        options = self.options.get(gap.channel)
        if options is None:
            return
        if options.of is not None:
            await self._tell_members(options.of, str(gap.until or ""))
        elif options.envelope:
            await self.lane.write(frames.gap(gap))
        elif options.on_gap == "close":
            await self._end(codes.GAP)
            raise self.lane.error()
        elif options.on_gap != "ignore":
            answer = options.on_gap(gap)
            if inspect.isawaitable(answer):
                answer = await answer
            if answer is not None:
                await self.lane.write(answer)
