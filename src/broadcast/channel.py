"""One channel on this worker: what flows in from the broker, and to whom it goes.

::

                    attached, head known            last follow left
        JOINING ───────────────────────────► LIVE ──────────────────► LEAVING ──► LEFT
           │          ┌───────────────────────┤ ▲ ◄──────────────────────┘ linger over
           │          │ hole, attached again  │ │  a follow came
           │          ▼                       │ │
           │       RESYNC ────────────────────│─┘ history joined
           │          │ ▲                     │
           │ detached │ │ attached            │ detached
           ▼          ▼ │                     ▼
         (JOINING)   LOST ◄────────────────────

A subscriber's place in the channel is a :class:`Follow`: *live* when it got everything up to the channel's last
position, so that the next event is handed to it as it comes, or else *behind* at a position of its own, from which its
subscription catches up through :meth:`Channel.stretch`. Catching up, becoming live and being live are decided in one
synchronous step each, so no event falls between them.

From :meth:`Channel.received` to the last sink nothing awaits, and there is no task per subscriber.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from enum import Enum
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from ..errors import BackendUnavailable
from .backend import Backend, Page, Record, Retention
from .counters import Counters
from .message import Event, Gap, Message, Position
from .recovery import Woven, doubtful, weave
from .retry import Signal, delays
from .timeline import GAP_SIZE, Entry, Stretch, Timeline

T = TypeVar("T")
Offer: TypeAlias = Callable[[Event, int], bool]
PAGE = 500  # records a read of history asks for
MAX_BUFFER = 5000  # live records held while history is read; of more the oldest go, since history has them
MAX_BUFFER_BYTES = 16 * 1024 * 1024  # the same in bytes

logger: logging.Logger = logging.getLogger("samovar.channel")


class State(Enum):
    """See the module."""

    JOINING = "joining"
    LIVE = "live"
    RESYNC = "resync"
    LOST = "lost"
    LEAVING = "leaving"
    LEFT = "left"


_MOVES: dict[State, frozenset[State]] = {
    State.JOINING: frozenset({State.LIVE, State.RESYNC, State.LEFT}),
    State.LIVE: frozenset({State.RESYNC, State.LOST, State.LEAVING, State.LEFT}),
    State.RESYNC: frozenset({State.LIVE, State.LOST, State.LEFT}),
    State.LOST: frozenset({State.RESYNC, State.LEFT}),
    State.LEAVING: frozenset({State.LIVE, State.LEFT}),
    State.LEFT: frozenset(),
}


class Sink(Protocol):
    """A subscriber, as a channel sees it. Plain functions that neither wait nor raise."""

    @property
    def offer(self) -> Offer:
        """Takes an event and its size; False, and nothing done, when there is no room. Read once, at going live."""

    def fell_behind(self, follow: Follow) -> None:
        """It was over its bound and is no longer live in this channel: its policy applies."""


class Port(Protocol):
    """What a channel needs of the hub."""

    backend: Backend
    counters: Counters
    gate: asyncio.Semaphore
    linger: float
    clock: Callable[[], float]

    def read(self, record: Record) -> Message | Gap:
        """Decode; a Gap stands for what cannot be read."""

    def age(self, event: Message | Gap) -> float:
        """About how many seconds ago it was published."""

    def look(self, channel: Channel) -> None:
        """Ask the broker for the head; :meth:`Channel.head` gets it."""

    def leave(self, channel: Channel) -> None:
        """It is LEFT: forget and detach it."""

    def start(self, coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run *coro* in the hub's scope."""

    def later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Call *call* unless the hub stops before."""


class Follow:
    """The place of one subscriber in one channel.

    ``position`` counts while it is behind (a live one stands where the channel does); ``reason`` is that of the Gap if
    history cannot take it from there; ``healing`` says that it was over its bound and lost nothing since.
    """

    __slots__ = ("channel", "healing", "position", "reason", "sink")

    def __init__(self, channel: Channel, sink: Sink) -> None:
        self.channel: Channel = channel
        self.sink: Sink = sink
        self.position: Position | None = None
        self.reason: str = "expired"
        self.healing: bool = False

    @property
    def live(self) -> bool:
        """It gets events as they come."""
        return self in self.channel.live


class Channel:
    """One channel on this worker; see the module.

    Args:
        name: checked already.
        port: the hub's side.
        keep: what the timeline remembers.
    """

    __slots__ = (
        "_again", "_buffer", "_buffered", "_changed", "_linger", "_port", "_reads", "_refusal", "_sync",
        "attachment", "follows", "live", "name", "quiet", "state", "timeline",
    )  # fmt: skip

    def __init__(self, name: str, port: Port, keep: Retention) -> None:
        self.name: str = name
        self.state: State = State.JOINING
        self.timeline: Timeline = Timeline(Position("", 0), keep)
        self.follows: set[Follow] = set()
        self.live: dict[Follow, Offer] = {}
        self.quiet: bool = True
        self.attachment: int = 0
        self._port = port
        self._buffer: deque[Record] = deque()
        self._buffered = 0  # bytes
        self._again = False
        self._refusal = ""
        self._linger: asyncio.TimerHandle | None = None
        self._sync: asyncio.Task[None] | None = None
        self._reads: dict[object, asyncio.Task[Any]] = {}
        self._changed = Signal()

    def __repr__(self) -> str:
        return f"<Channel {self.name} {self.state.value} at {self.last} follows={len(self.follows)}>"

    @property
    def last(self) -> Position:
        """Where it stands; an empty epoch before it was live once."""
        return self.timeline.last

    @property
    def flows(self) -> bool:
        """What the broker sends is passed on as it comes."""
        return self.state is State.LIVE or self.state is State.LEAVING

    def _move(self, to: State) -> None:
        """The one place that changes the state."""
        if to not in _MOVES[self.state]:
            raise RuntimeError(f"channel {self.name}: {self.state.name} cannot become {to.name}")
        logger.debug("channel %s: %s → %s", self.name, self.state.value, to.value)
        self.state = to

    # --- who follows ------------------------------------------------------------------------------------------------

    def enter(self, sink: Sink) -> Follow:
        """A place for *sink*; it gets nothing until :meth:`ready` and :meth:`go_live`."""
        follow = Follow(self, sink)
        self.follows.add(follow)
        if self.state is State.LEAVING:
            self._cancel_linger()
            self._move(State.LIVE)
        return follow

    def exit(self, follow: Follow) -> None:
        """Give the place up; idempotent. The last one to go lets the channel leave, after the linger if it is live."""
        self.live.pop(follow, None)
        if follow not in self.follows:
            return
        self.follows.discard(follow)
        if self.follows or self.state is State.LEFT:
            return
        if self.state is State.LIVE and self._port.linger > 0:
            self._move(State.LEAVING)
            self._linger = self._port.later(self._port.linger, self.leave)
        else:
            self.leave()

    def leave(self) -> None:
        """Nobody follows: stop what runs and go."""
        if self.state is State.LEFT:
            return
        self._move(State.LEFT)
        self._cancel_linger()
        self._stop_tasks()
        self._held()
        self._changed.wake()
        self._port.leave(self)

    def _cancel_linger(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _stop_tasks(self) -> None:
        for task in (self._sync, *self._reads.values()):
            if task is not None:
                task.cancel()
        self._sync = None

    def go_live(self, follow: Follow) -> None:
        """From now on *follow* gets events as they come; it must have got everything up to :attr:`last`."""
        follow.position = None
        self.live[follow] = follow.sink.offer

    async def ready(self) -> None:
        """Return once the channel flows, synchronously with that.

        Raises:
            BackendUnavailable: the channel left instead.
        """
        while not self.flows:
            if self.state is State.LEFT:
                why = self._refusal or "it was given up"
                raise BackendUnavailable(f"channel {self.name!r} is not attached: {why}")
            await self._changed.wait()

    # --- what the backend says --------------------------------------------------------------------------------------

    def refuse(self, why: str) -> None:
        """The broker does not take it: those who wait for it are told, and it leaves."""
        self._refusal = why
        self.leave()

    def attached(self) -> None:
        """Live records flow from now on; what came before may have been missed, so the head is compared."""
        match self.state:
            case State.LOST:
                self._move(State.RESYNC)
            case State.LIVE:
                self._move(State.RESYNC)
            case State.LEAVING:
                return self.leave()
            case State.RESYNC:
                self._again = True
            case State.LEFT:
                return None
        self._port.counters.resyncs += self.state is State.RESYNC
        self.attachment += 1
        self._changed.wake()
        self._port.look(self)

    def detached(self) -> None:
        """Live records stopped; where the channel stands is kept."""
        if self.state in (State.LIVE, State.RESYNC):
            self._move(State.LOST)
        elif self.state is State.LEAVING:
            self.leave()
        self.attachment += 1
        if self._sync is not None:
            self._sync.cancel()
            self._sync = None

    def received(self, record: Record) -> None:
        """A live record came: pass it on, or hold it while history is read."""
        if self.flows:
            position, last = record.position, self.timeline.last
            if position.epoch == last.epoch:
                if record.prev == last.offset:
                    self.quiet = False
                    self._port.counters.received += 1
                    self._deliver(record)
                    return
                if position.offset <= last.offset:
                    self._port.counters.ignored += 1
                    return
            if self.state is State.LEAVING:
                return self.leave()
            self._hold(record)
            self._resync()
        elif self.state is not State.LEFT:
            self._hold(record)

    def head(self, head: Position, attachment: int, before: Position | None = None) -> None:
        """The broker's head, asked for when :attr:`attachment` was that number; an older answer says nothing.

        When it was asked for, the channel stood at *before* (None: unknown): a head behind that is of another
        stream.

        The first one is where the channel begins, a later one tells whether it missed anything.
        """
        if attachment != self.attachment:
            return
        match self.state:
            case State.JOINING:
                self.timeline.reset(head)
                self._begin(Page((), head, complete=True))
            case State.RESYNC if self._sync is None:
                if head == self.last:
                    self._begin(Page((), head, complete=True))
                else:
                    self._catch_up_soon()
            case _:
                self._doubt(head, before)

    def _doubt(self, head: Position, before: Position | None = None) -> None:
        """A head came by the way: if it is not of the stream as it is known here, something was missed."""
        rewound = before is not None and before.epoch == head.epoch and before.offset > head.offset
        if self.state is State.LIVE and (rewound or doubtful(head, self.last)):
            self._resync()

    def _begin(self, page: Page) -> None:
        """Join what was held to a head that is where the channel stands."""
        woven = weave(self.name, self.last, page, self._held(), limit=PAGE)
        self._apply(woven)
        if self.state is State.LEFT:
            return
        if woven.again:
            if self.state is State.JOINING:
                self._move(State.RESYNC)
            self._catch_up_soon()
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Everything is joined: flow."""
        self._move(State.LIVE)
        self._changed.wake()
        if not self.follows:
            self.leave()

    def _hold(self, record: Record) -> None:
        buffer = self._buffer
        buffer.append(record)
        self._buffered += len(record.envelope)
        while len(buffer) > MAX_BUFFER or (self._buffered > MAX_BUFFER_BYTES and len(buffer) > 1):
            self._buffered -= len(buffer.popleft().envelope)

    def _held(self) -> list[Record]:
        """What was held, which is not any more."""
        held = list(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        return held

    def _resync(self) -> None:
        """Something may be missing: read history from where the channel stands."""
        self._move(State.RESYNC)
        self._port.counters.resyncs += 1
        self._catch_up_soon()

    def _catch_up_soon(self) -> None:
        self._sync = self._port.start(self._catch_up(), f"sync {self.name}")

    async def _catch_up(self) -> None:
        """Read history after the last position until nothing is missing."""
        force = False
        while True:
            self._again = False
            page = await self._history(since=self.last, limit=PAGE)
            woven = weave(self.name, self.last, page, self._held(), limit=PAGE, force=force)
            self._apply(woven)
            if self.state is State.LEFT:  # a sink that was let go was the last
                return
            if not woven.again and not self._again:
                break
            force = woven.again and not woven.steps
        self._sync = None
        self._go_on()

    def _apply(self, woven: Woven) -> None:
        """Deliver what history and live gave, and keep what does not follow yet."""
        for step in woven.steps:
            if isinstance(step, Record):
                self._deliver(step)
            else:
                self._announce(step)
        held = self._held()
        for record in (*woven.rest, *held):
            self._hold(record)

    # --- to the sinks -----------------------------------------------------------------------------------------------

    def _deliver(self, record: Record) -> None:
        """Decode once, remember, hand to every live follow."""
        event = self._port.read(record)
        size = event.size if isinstance(event, Message) else GAP_SIZE
        before = self.timeline.last
        self.timeline.append(Entry(event, record.position, record.prev, size), self._port.clock())
        self._fan_out(event, size, before)

    def _announce(self, gap: Gap) -> None:
        """Tell every live follow what may be missing, and go on after it."""
        self._port.counters.gaps[gap.reason] += 1
        before, until = self.timeline.last, gap.until or self.timeline.last
        if until.epoch == before.epoch and until.offset > before.offset:
            self.timeline.append(Entry(gap, until, before.offset, GAP_SIZE), self._port.clock())
            self.timeline.floor = until.offset
        else:
            self.timeline.reset(until, floor=until.offset if until.epoch != before.epoch else 0)
        self._fan_out(gap, GAP_SIZE, before)

    def _fan_out(self, event: Message | Gap, size: int, before: Position) -> None:
        """The one loop: no await, no task; over a snapshot, since a sink without room leaves the table."""
        live = tuple(self.live.items())
        self._port.counters.delivered += len(live)
        for follow, offer in live:
            if not offer(event, size):
                self._port.counters.delivered -= 1
                del self.live[follow]
                follow.position, follow.reason = before, "overflow"
                follow.sink.fell_behind(follow)

    # --- for those behind -------------------------------------------------------------------------------------------

    async def stretch(self, start: Position) -> Stretch:
        """At most a page of what follows *start*, from the timeline or from a read shared by all who need it.

        The answer is as of the moment it is returned. It begins later than *start* where history has no more, and is
        empty, beginning at *start*, when the channel's epoch is no longer that of *start*.
        """
        tries = 0
        while start.epoch == self.timeline.epoch:
            timeline = self.timeline
            timeline.trim(self._port.clock())
            low = max(start.offset, min(timeline.floor, timeline.base))
            begin = start if low == start.offset else Position(start.epoch, low)
            if timeline.covers(low):
                return Stretch(begin, timeline.after(low, PAGE))
            if timeline.base - low <= PAGE and tries < 3:
                await self._shared("extend", self._extend)
            elif (page := await self._shared(low, partial(self._page, begin))) is not None:
                return page
            tries += 1
        return Stretch(start, ())

    async def newest(self, count: int) -> Position:
        """The place after which the newest *count* kept messages follow, as of the moment it is returned."""
        for _ in range(3):
            self.timeline.trim(self._port.clock())
            found = self.timeline.newest(count)
            if found is not None:
                return found
            if count > len(self.timeline) + PAGE:
                break
            await self._shared("extend", self._extend)
        return await self._shared(("newest", count), partial(self._newest, count))

    async def confirm(self) -> None:
        """Ask the broker whether the channel stands where the head is, and return when it does."""
        await self._shared("confirm", self._confirm)
        await self.ready()

    async def _confirm(self) -> None:
        heads = await self._try(lambda: self._port.backend.heads([self.name]))
        self._doubt(heads[self.name])

    async def _extend(self) -> None:
        """Lengthen the timeline at its front by a page of older events."""
        timeline = self.timeline
        base = Position(timeline.epoch, timeline.base)
        page = await self._history(since=timeline.first, limit=PAGE, reverse=True)
        if page.head.epoch != base.epoch:
            return self._doubt(page.head)
        older = [r for r in page.records if r.position.offset <= base.offset]
        chained: list[Record] = []
        for record in older:
            if record.position.offset != (chained[-1].prev if chained else base.offset):
                break
            chained.append(record)
        entries = [self._entry(record) for record in reversed(chained)]
        now = self._port.clock()
        stamps = [now - min(self._port.age(e.event), timeline.keep.seconds) for e in entries]
        complete = len(page.records) < PAGE or len(chained) < len(older)
        timeline.prepend(entries, stamps, before=base, complete=complete)

    async def _page(self, start: Position) -> Stretch | None:
        """What follows *start*, which the timeline does not reach, from history."""
        page = await self._history(since=start, limit=PAGE)
        if page.head.epoch != start.epoch or self.timeline.epoch != start.epoch:
            self._doubt(page.head)
            return None
        begin = start.offset
        if not page.complete:
            begin = page.records[0].prev if page.records else page.head.offset
            self.timeline.floor = max(self.timeline.floor, begin)
        last = self.last.offset
        records = [r for r in page.records if begin < r.position.offset <= last]
        return Stretch(Position(start.epoch, min(begin, last)), [self._entry(r) for r in records])

    async def _newest(self, count: int) -> Position:
        page = await self._history(limit=count, reverse=True)
        if page.head.epoch != self.timeline.epoch:
            self._doubt(page.head)
            return self.last
        last = self.last.offset
        kept = [r.prev for r in page.records if r.prev < last]
        return Position(self.timeline.epoch, kept[-1]) if kept else self.last

    def _entry(self, record: Record) -> Entry:
        event = self._port.read(record)
        size = event.size if isinstance(event, Message) else GAP_SIZE
        return Entry(event, record.position, record.prev, size)

    async def _shared(self, key: object, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of one run of *make* for all who ask for *key* meanwhile; cancelling one does not cancel it."""
        task: asyncio.Task[T] | None = self._reads.get(key)
        if task is None:
            task = self._reads[key] = self._port.start(make(), f"read {self.name}")
            task.add_done_callback(lambda _: self._reads.pop(key, None))
        await asyncio.wait({task})
        if task.cancelled():
            raise BackendUnavailable(f"channel {self.name!r} was given up while its history was read")
        return task.result()

    async def _history(self, *, limit: int, since: Position | None = None, reverse: bool = False) -> Page:
        def read() -> Awaitable[Page]:
            self._port.counters.reads += 1
            return self._port.backend.history(self.name, since=since, limit=limit, reverse=reverse)

        return await self._try(read)

    async def _try(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call the broker until it answers; leaving or detaching the channel ends that."""
        for delay in delays():
            try:
                async with self._port.gate:
                    return await call()
            except BackendUnavailable as error:
                logger.debug("channel %s: %s; trying again in %.2f s", self.name, error, delay)
            except Exception:
                logger.exception("channel %s: the backend failed; trying again in %.2f s", self.name, delay)
            await self._changed.wait(delay)
        raise AssertionError("delays() does not end")
