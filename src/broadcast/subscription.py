"""One consumer of one or several channels.

It owns no task and no thread of its own, only its places in channels and a bounded queue; it moves when it is read.
In each channel it is live (events are queued as they come), or behind: after a resume with a backlog, or after its
queue was full. Behind is one mechanism for both: whenever the queue is empty, reading catches up by a page, until it
stands where the channel stands and is live in the same step.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Protocol, Self, cast

from ..errors import AlreadySubscribed, BackendUnavailable, HubClosed, InvalidCursor, SlowSubscriber
from .backend import Backend
from .channel import Channel, Follow, Offer
from .counters import Counters
from .message import Cursor, Gap, Message, Position, Reason, Since, Subscribed, as_cursor
from .names import check_channel
from .outbox import Outbox
from .policy import Policy
from .recovery import doubtful, place
from .timeline import Stretch


class House(Protocol):
    """What a subscription needs of the hub."""

    backend: Backend
    counters: Counters
    join_timeout: float

    def channel(self, name: str) -> Channel:
        """The channel of that name on this worker, which comes to be."""

    def replay(self, name: str) -> int:
        """How many kept messages its rule gives to who asks for nothing."""

    def opened(self, subscription: Subscription) -> None:
        """It has a place in a channel."""

    def closed(self, subscription: Subscription) -> None:
        """It has none any more."""


class Subscription:
    """What :meth:`Hub.subscribe` returns; ``async with`` it, then iterate or call :meth:`events`.

    Iterating yields each :class:`Message` and :class:`Gap` in order. One task reads.
    """

    __slots__ = (
        "__weakref__",
        "_behind",
        "_error",
        "_follows",
        "_handed",
        "_house",
        "_last",
        "_names",
        "_outbox",
        "_since",
        "policy",
        "recovered",
    )  # fmt: skip

    def __init__(
        self,
        house: House,
        channels: tuple[str, ...],
        *,
        since: Since,
        last: int | None,
        policy: Policy,
        outbox: Outbox,
    ) -> None:
        for channel in channels:
            check_channel(channel)
        if len(set(channels)) < len(channels):
            raise AlreadySubscribed(f"the same channel twice in one subscription: {', '.join(channels)}")
        self.policy = policy
        self.recovered: dict[str, bool | None] = {}
        """Channel to whether its resume lost nothing; None without a cursor."""
        self._house = house
        self._names = channels
        self._since = _cursor_for(since, len(channels))
        self._last = check_last(last)
        self._outbox = outbox
        self._follows: dict[str, Follow] = {}
        self._behind: dict[Follow, None] = {}
        self._handed: dict[str, Position | None] = {}
        self._error: Exception | None = None

    def __repr__(self) -> str:
        state = type(self._error).__name__ if self._error is not None else f"queued={len(self._outbox)}"
        return f"<Subscription {','.join(self._follows) or '-'} {state}>"

    # --- channels ---------------------------------------------------------------------------------------------------

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels it follows, in the order in which they were added."""
        return tuple(self._follows)

    @property
    def queued(self) -> int:
        """How many events wait to be read."""
        return len(self._outbox)

    async def __aenter__(self) -> Self:
        """Follow the channels it was made for.

        Raises:
            BackendUnavailable: the broker did not answer within the hub's ``join_timeout``.
        """
        names, self._names = self._names, ()
        try:
            places = [self._enter(name) for name in names]  # all ask the broker before any waits for it
            for name, follow in zip(names, places, strict=True):
                await self._begin(name, follow, self._since, self._last)
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def add(self, channel: str, *, since: Since = None, last: int | None = None) -> Subscribed:
        """Follow one more channel; returns its first word, which :meth:`events` gives too, before its messages.

        Args:
            channel: its name, or :func:`presence_channel` of one.
            since: where to go on, see :meth:`Hub.subscribe`.
            last: how many kept messages come first.

        Raises:
            AlreadySubscribed: this subscription follows it already.
            BackendUnavailable: the broker did not answer within the hub's ``join_timeout``, or the channel was removed
                meanwhile.
            HubClosed: the hub stopped, or this subscription was closed.
        """
        check_channel(channel)
        cursor, last = _cursor_for(since, 1), check_last(last)
        follow = self._enter(channel)
        try:
            return await self._begin(channel, follow, cursor, last)
        except BaseException:
            if self._follows.get(channel) is follow:  # it may have been removed, and added again, meanwhile
                self._exit(channel)
            raise

    async def remove(self, channel: str) -> None:
        """Follow *channel* no longer; what is queued of it is dropped. Idempotent."""
        self._exit(channel)

    def _enter(self, name: str) -> Follow:
        """Take the place, marked before anything is awaited."""
        if self._error is not None:
            raise self._error
        if name in self._follows:
            raise AlreadySubscribed(f"this subscription follows {name!r} already")
        channel = self._house.channel(name)  # may open the hub, which forgets subscriptions of a loop before
        if not self._follows:
            self._house.opened(self)
        follow = self._follows[name] = channel.enter(self)
        return follow

    def _exit(self, name: str) -> None:
        follow = self._follows.pop(name, None)
        if follow is None:
            return
        self._behind.pop(follow, None)
        self._handed.pop(name, None)
        self.recovered.pop(name, None)
        self._outbox.drop(name)
        follow.channel.exit(follow)
        if not self._follows:
            self._house.closed(self)

    # --- where it begins --------------------------------------------------------------------------------------------

    async def _begin(self, name: str, follow: Follow, cursor: Cursor | None, last: int | None) -> Subscribed:
        """Wait for the channel, decide where to begin, queue the first word and what fits of the backlog."""
        count = self._house.replay(name) if last is None else last
        async with self._in_time(name):
            await follow.channel.ready()
            if cursor is not None and name in cursor:
                return await self._resume(follow, cursor.get(name), count)
            return await self._replay(follow, count)

    @asynccontextmanager
    async def _in_time(self, name: str) -> AsyncIterator[None]:
        limit = self._house.join_timeout
        try:
            async with asyncio.timeout(limit if self._house.backend.waits else None):
                yield
        except TimeoutError:
            raise BackendUnavailable(
                f"channel {name!r}: the broker did not answer within {limit:g} s"
            ) from None
        except BackendUnavailable:
            if self._error is not None:
                raise self._error from None
            raise

    async def _replay(self, follow: Follow, count: int) -> Subscribed:
        """Begin without a cursor: from now, or from the newest *count* kept messages."""
        channel = follow.channel
        begin = await channel.newest(count) if count else channel.last
        return await self._welcome(follow, None, begin, Stretch(begin, ()))

    async def _resume(self, follow: Follow, since: Position | None, count: int) -> Subscribed:
        """Begin with a cursor: after it, or, where that cannot be, with a Gap."""
        channel = follow.channel
        if since is not None and doubtful(since, channel.last):
            await channel.confirm()
        while True:
            start, reason = place(since, channel.last)
            stretch = Stretch(start, ()) if reason == "unknown" else await channel.stretch(start)
            if stretch.begin.epoch == channel.last.epoch:
                break
        if reason is None and stretch.begin != start:
            reason = "expired"
        if reason is None:
            return await self._welcome(follow, stretch.whole, start, stretch)
        if count:
            stretch = Stretch(await channel.newest(count), ())
        gap = Gap(channel.name, reason, since, stretch.begin)
        return await self._welcome(follow, False, since or stretch.begin, stretch, gap)

    async def _welcome(
        self,
        follow: Follow,
        recovered: bool | None,
        named: Position,
        stretch: Stretch,
        gap: Gap | None = None,
    ) -> Subscribed:
        """Queue the first word, the Gap if there is one, and as much of the backlog as is at hand.

        Raises:
            BackendUnavailable: the place was given up while this was being found out.
        """
        name, counters = follow.channel.name, self._house.counters
        if self._follows.get(name) is not follow:
            raise BackendUnavailable(f"channel {name!r} was left before it began")
        counters.recovered += recovered is True
        counters.unrecovered += recovered is False
        first = Subscribed(name, recovered, named)
        self.recovered[name] = recovered
        self._handed[name] = named
        self._outbox.force(first)
        if gap is not None:
            counters.gaps[gap.reason] += 1
            self._outbox.force(gap)
        follow.position, follow.reason = stretch.begin, "expired"
        self._behind[follow] = None
        self._queue(follow, stretch)
        if follow in self._behind and not stretch.entries:
            await self._advance(follow)
        return first

    # --- catching up ------------------------------------------------------------------------------------------------

    @property
    def offer(self) -> Offer:
        """Where channels hand events over: the outbox itself, so that a delivery is one call."""
        return self._outbox.offer

    def fell_behind(self, follow: Follow) -> None:
        """The queue was full: catch up later, or be let go, as the policy says; lossy outboxes are never full."""
        self._house.counters.overflows[str(self.policy)] += 1
        if self.policy == "disconnect":
            self._outbox.drop()
            self._end(
                SlowSubscriber(
                    f"{len(self._follows)} channels were not read fast enough: {self!r} was let go"
                )
            )
        else:
            follow.healing = True
            self._behind[follow] = None

    async def _advance(self, follow: Follow) -> None:
        """Queue what fits of the next page after *follow*'s position, behind a Gap if history lacks it."""
        channel, position = follow.channel, follow.position
        if position is None:
            return
        start, reason = place(position, channel.last)
        stretch = await channel.stretch(start) if start != channel.last else Stretch(start, ())
        if follow not in self._behind or stretch.begin.epoch != channel.last.epoch:
            return
        if reason is not None or stretch.begin != start:
            gap = Gap(channel.name, reason or cast(Reason, follow.reason), position, stretch.begin)
            self._house.counters.gaps[gap.reason] += 1
            follow.healing = False
            self._outbox.force(gap)
        elif (
            not stretch.entries and start != channel.last
        ):  # history says there is something, and has nothing
            stretch = Stretch(channel.last, ())
            follow.healing = False
            self._house.counters.gaps["lost"] += 1
            self._outbox.force(Gap(channel.name, "lost", position, channel.last))
        self._queue(follow, stretch)

    def _queue(self, follow: Follow, stretch: Stretch) -> None:
        """Queue what fits of *stretch*; live when that reaches the channel's last position."""
        follow.position = stretch.begin
        for entry in stretch.entries:
            if not self._outbox.fit(entry.event, entry.size):
                return
            follow.position = entry.position
        if follow.position == follow.channel.last:
            del self._behind[follow]
            self._house.counters.healed += follow.healing
            follow.healing = False
            follow.channel.go_live(follow)

    async def _refill(self, end: float | None) -> None:
        """Catch up in the first channel that has something.

        A backlog is there already, so reading it gets ``join_timeout`` even when nobody wants to wait for news.
        """
        loop = asyncio.get_running_loop()
        limit = None if end is None else max(end, loop.time() + self._house.join_timeout)
        try:
            async with asyncio.timeout_at(limit):
                for follow in tuple(self._behind):
                    await self._advance(follow)
                    if self._outbox:
                        return
        except TimeoutError:
            return
        except BackendUnavailable:
            if self._error is None:
                raise

    # --- reading ----------------------------------------------------------------------------------------------------

    async def events(self, *, timeout: float | None = None) -> list[Any]:
        """The next events in order: everything that is queued, at least one.

        Per channel :class:`Subscribed` comes first, then :class:`Message` and :class:`Gap`; items given to
        :meth:`put` come in their place. Cancelling loses nothing.

        Args:
            timeout: seconds to wait for the first one; 0: only what is there now, backlog included. None: no limit.

        Returns:
            The events; empty when the time is over.

        Raises:
            SlowSubscriber: it was let go by the policy ``disconnect``.
            HubClosed: the hub stopped, or this subscription was closed.
        """
        if not await self._filled(timeout):
            return []
        taken = self._outbox.take()
        for event in taken:
            self._hand(event)
        return taken

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message | Gap:
        while True:
            try:
                await self._filled(None)
            except _Closed:
                raise StopAsyncIteration from None
            event = self._outbox.take_one()
            self._hand(event)
            if isinstance(event, Message | Gap):
                return event

    async def _filled(self, timeout: float | None) -> bool:
        """Wait until something is queued; False when the time is over."""
        if self._outbox:
            return True
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        while not self._outbox:
            if self._error is not None:
                raise self._error
            if self._names:
                raise RuntimeError(
                    "a subscription begins when it is entered: `async with hub.subscribe(…) as messages`"
                )
            if self._behind:
                await self._refill(end)
                if self._outbox:
                    return True
            left = None if end is None else end - loop.time()
            if left is not None and left <= 0:
                return False
            if not self._behind:
                await self._outbox.wait(left)
        return True

    def _hand(self, event: Any) -> None:
        """Note what the reader has got."""
        match event:
            case Message() | Subscribed():
                self._handed[event.channel] = event.position
            case Gap():
                self._handed[event.channel] = event.until

    @property
    def cursor(self) -> str:
        """What ``since=`` takes to go on after what was handed out; of one channel its position alone."""
        if len(self._handed) == 1:
            return str(next(iter(self._handed.values())) or "")
        return str(Cursor(positions=self._handed))

    def put(self, item: Any, size: int) -> None:
        """Queue an item of the carrier's own, which :meth:`events` gives behind what is queued already.

        Args:
            item: anything that is no event.
            size: bytes it counts for.

        Raises:
            SlowSubscriber: items put before reach the bound already.
        """
        if self._error is not None:
            raise self._error
        self._outbox.put(item, size)

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give up all places and what is queued; a waiting :meth:`events` raises HubClosed. Idempotent."""
        self._outbox.drop()
        self._end(_Closed("this subscription was closed"))

    def stop(self) -> None:
        """The hub stops: what is queued can still be read, then HubClosed."""
        self._end(HubClosed("the hub was stopped"))

    def _end(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self._behind.clear()
        follows, self._follows = self._follows, {}
        for follow in follows.values():
            follow.channel.exit(follow)
        if follows:
            self._house.closed(self)
        self._outbox.wake()


class _Closed(HubClosed):
    """By its reader, so that iterating just ends."""


def check_last(last: int | None) -> int | None:
    """*last*, checked.

    Raises:
        ValueError: it is negative or no integer.
    """
    if last is not None and (not isinstance(last, int) or last < 0):
        raise ValueError(f"last= is a number of messages from 0 on, not {last!r}")
    return last


def _cursor_for(since: Since, channels: int) -> Cursor | None:
    """*since* as a cursor that fits so many channels.

    Raises:
        InvalidCursor: it does not read as one, or is a single position for several channels.
    """
    cursor = as_cursor(since)
    if cursor is not None and cursor.single is not None and channels > 1:
        raise InvalidCursor(f"the cursor {cursor} does not say of which of {channels} channels it is")
    return cursor
