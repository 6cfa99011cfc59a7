"""The channels of this worker and their ties to the backend.

It is the backend's receiver, the house in which channels live, and the one place that attaches and detaches: what is
wanted is noted at once, and one task at a time makes it so at the broker, many names in a call. Another asks for heads
likewise. Neither runs when there is nothing to do.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

from ..errors import BackendUnavailable, InvalidEnvelope
from ..tasks import Scope
from .backend import Backend, Health, Record, Retention, State
from .channel import Channel
from .channel import State as ChannelState
from .codec import JSONCodec, decode, now_ms
from .counters import Counters
from .message import Gap, Message, Position
from .names import PresenceChannel
from .retry import Signal, delays

T = TypeVar("T")
SYNC_AT_ONCE = 64  # reads of history in flight
SLICE = 500  # channels looked at in one go: more would keep everybody else waiting
REFUSED_AGAIN = (
    10.0  # seconds, with jitter, until channels that the broker did not take back are asked for again
)
CHECK_EVERY = 10.0  # seconds, with jitter, between two comparisons of quiet channels with the broker's heads

logger: logging.Logger = logging.getLogger("samovar.channels")


class Channels:
    """See the module.

    Args:
        backend: not bound yet.
        retention: what a channel's rule says about keeping.
        json: decodes payloads.
        counters: what is counted.
        linger: seconds a channel stays attached after its last subscriber.
        clock: seconds of a clock that does not go back.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        retention: Callable[[str], Retention],
        json: JSONCodec,
        counters: Counters,
        linger: float,
        clock: Callable[[], float],
    ) -> None:
        self.backend = backend
        self.counters = counters
        self.linger = linger
        self.clock = clock
        self.last_health: Health = Health(State.DOWN, reason="not started")
        self.health_since: float = clock()
        self._told: State | None = None
        self.table: dict[str, Channel] = {}
        self.on_up: Callable[[], None] = lambda: None
        """Called when the backend is no longer down."""
        self._retention = retention
        self._json = json
        self._unreadable: set[str] = set()
        self._attached: set[str] = set()
        self.open()

    def open(self) -> None:
        """Begin anew, for the running loop or the next: nothing is attached, nobody follows."""
        self.gate: asyncio.Semaphore = asyncio.Semaphore(SYNC_AT_ONCE)
        self.table.clear()
        self._to_tie: set[str] = set(self._attached)  # what a life before this one left attached
        self._to_look: set[str] = set()
        self._looking = Signal()
        self._ties: asyncio.Task[None] | None = None
        self._looks: asyncio.Task[None] | None = None
        self._timers: set[asyncio.TimerHandle] = set()
        self._to_check: list[Channel] = []
        self._refused: set[str] = set()
        self._asking_again: asyncio.TimerHandle | None = None
        self._tidy_at = 64
        self._scope = Scope("samovar.hub")
        self._open = True

    async def close(self) -> None:
        """Give up all channels and wait for what runs; idempotent."""
        self._open = False
        for channel in tuple(self.table.values()):
            channel.leave()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._to_check.clear()
        await self._scope.close()
        if not self.backend.needs_start and self._attached:
            await self.backend.detach(self._attached)
            self._attached.clear()

    def get(self, name: str) -> Channel:
        """The channel of that name, joined if it is not there."""
        channel = self.table.get(name)
        if channel is None:
            channel = self.table[name] = Channel(name, self, self._retention(name))
            self._tie(name)
        return channel

    # --- for channels -----------------------------------------------------------------------------------------------

    def start(self, coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run *coro* in the hub's scope."""
        return self._scope.start(coro, name=name)

    def submit(
        self, loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]], name: str
    ) -> Future[T]:
        """Run what *make* returns in the hub's scope, from another thread."""
        return self._scope.submit(loop, make, name=name)

    def later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Call *call* in so many seconds unless the hub closes before."""

        def run() -> None:
            self._timers.discard(timer)
            call()

        timer = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(timer)
        if len(self._timers) >= self._tidy_at:  # cancelled ones are dropped when that is worth a look at all
            self._timers = {known for known in self._timers if not known.cancelled()}
            self._tidy_at = 64 + 2 * len(self._timers)
        return timer

    def read(self, record: Record) -> Message | Gap:
        """The message in a record, or a Gap where this worker cannot read it: counted, and logged once a reason."""
        try:
            id, ts, kind, body, user, _ = decode(record.envelope)
        except InvalidEnvelope as error:
            self.counters.unreadable += 1
            why = str(error)[:60]
            if why not in self._unreadable and len(self._unreadable) < 100:
                self._unreadable.add(why)
                logger.warning(
                    "channel %s: the record at %s is no message: %s", record.channel, record.position, error
                )
            return Gap(
                record.channel, "lost", Position(record.position.epoch, record.prev), record.position, 1
            )
        return Message(record.channel, record.position, id, ts, kind, body, user, self._json.loads)

    def age(self, event: Message | Gap) -> float:
        """About how many seconds ago it was published, by the wall clocks of publisher and worker."""
        return max(0.0, (now_ms() - event.ts) / 1000) if isinstance(event, Message) else 0.0

    def look(self, channel: Channel) -> None:
        """Ask the broker for the channel's head soon, with others in one call."""
        self._to_look.add(channel.name)
        if self._looks is None or self._looks.done():
            self._looks = self.start(self._ask_heads(), "heads")
        else:
            self._looking.wake()

    def leave(self, channel: Channel) -> None:
        """Forget the channel and detach it soon."""
        if self.table.get(channel.name) is channel:
            del self.table[channel.name]
            self._refused.discard(channel.name)
            self._tie(channel.name)

    # --- to the backend ---------------------------------------------------------------------------------------------

    def _tie(self, name: str) -> None:
        """Make the broker's side of *name* what it should be, soon."""
        self._to_tie.add(name)
        if self._open and (self._ties is None or self._ties.done()):
            self._ties = self.start(self._make_ties(), "attach")

    async def _make_ties(self) -> None:
        """Attach and detach, in this order of events for each name, until nothing is left to do."""
        while self._to_tie:
            names, self._to_tie = self._to_tie, set()
            drop = [name for name in names if name not in self.table and name in self._attached]
            add = [name for name in names if name in self.table]
            self._attached.difference_update(drop)
            self._attached.update(add)
            if drop:
                await self._say(self.backend.detach(drop))
                self._ask_again()  # there may be room now
            if add:
                await self._say(self.backend.attach(add))

    async def _say(self, call: Awaitable[None]) -> None:
        """What is to be attached or not is known to the backend; a broker that is away learns it when it is back."""
        try:
            await call
        except BackendUnavailable as error:
            logger.debug("attaching waits for the broker: %s", error)

    async def _ask_heads(self) -> None:
        """Get the heads of the channels that look, some at a time, until none does."""
        waits = delays()
        while self._to_look:
            names = [self._to_look.pop() for _ in range(min(SLICE, len(self._to_look)))]
            asked = {
                name: (channel.attachment, channel.last)
                for name in names
                if (channel := self.table.get(name)) is not None
            }
            if not asked:
                continue
            try:
                heads = await self.backend.heads(asked, create=True)
                for name, (attachment, before) in asked.items():
                    if (channel := self.table.get(name)) is not None:
                        channel.head(heads[name], attachment, before)
                waits = delays()
                if self._to_look:
                    await asyncio.sleep(0)
            except Exception as error:  # whatever it is, the channels still need their heads: ask again
                level = logging.DEBUG if isinstance(error, BackendUnavailable) else logging.ERROR
                logger.log(level, "heads of %d channels: %r; asking again", len(asked), error)
                self._to_look |= asked.keys()
                await self._looking.wait(next(waits))

    # --- the backend's receiver -------------------------------------------------------------------------------------

    def attached(self, channels: Iterable[str]) -> None:
        """See :class:`Receiver`."""
        names = tuple(channels)
        self._refused.difference_update(names)
        for name in names:
            if (channel := self.table.get(name)) is not None:
                channel.attached()

    def detached(self, channels: Iterable[str] | None, why: str) -> None:
        """See :class:`Receiver`."""
        logger.info("detached from %s: %s", "all channels" if channels is None else list(channels), why)
        for name in tuple(self.table if channels is None else channels):
            if (channel := self.table.get(name)) is not None:
                channel.detached()

    def refused(self, channels: Iterable[str], why: str) -> None:
        """See :class:`Receiver`. One that flowed before keeps its followers, and is asked for again."""
        names = list(channels)
        if news := [name for name in names if name not in self._refused]:
            logger.warning("not attached: %s%s: %s", ", ".join(news[:3]), ", …" if news[3:] else "", why)
        for name in names:
            if (channel := self.table.get(name)) is None:
                continue
            if channel.state is ChannelState.JOINING:
                channel.refuse(why)
            else:
                self._refused.add(name)
        if self._refused and self._asking_again is None and self._open:
            self._asking_again = self.later(REFUSED_AGAIN * random.uniform(0.8, 1.2), self._ask_again)

    def _ask_again(self) -> None:
        """Attach what was refused although it had flowed, as far as anybody follows it still."""
        if self._asking_again is not None:
            self._asking_again.cancel()
            self._asking_again = None
        for name in self._refused:
            self._tie(name)

    def message(self, record: Record) -> None:
        """See :class:`Receiver`."""
        channel = self.table.get(record.channel)
        if channel is not None:
            channel.received(record)

    def health(self, health: Health) -> None:
        """See :class:`Receiver`."""
        if health.state is not self._told:  # a broker that is away from the beginning is told too
            # That trouble is over is as loud as the trouble was; that there was none is not.
            level = logging.INFO if self._told is None and health.state is State.UP else logging.WARNING
            self._told = health.state
            reason = health.reason and f": {health.reason}"
            logger.log(level, "the backend is %s%s", health.state.value, reason)
        if health.state is not self.last_health.state:
            self.health_since = self.clock()
        was, self.last_health = self.last_health.state, health
        if was is State.DOWN and health.state is not State.DOWN:
            self.on_up()

    # --- quiet channels ---------------------------------------------------------------------------------------------

    def check_later(self) -> None:
        """Compare quiet channels with the broker now and then: a lost last message is noticed by nothing else."""
        slices = max(1, -(-len(self.table) // SLICE))
        self.later(CHECK_EVERY / slices * random.uniform(0.8, 1.2), self._check)

    def _check(self) -> None:
        """Check a slice of a round, so that the work of a round is spread over its time."""
        if not self._to_check:
            self._to_check = list(self.table.values())
        self._to_check, checked = self._to_check[:-SLICE], self._to_check[-SLICE:]
        self.check_quiet(checked)
        self.check_later()

    def check_quiet(self, channels: Iterable[Channel] | None = None) -> None:
        """Ask for the heads of those of *channels* (None: all) that are live and on which nothing came since."""
        for channel in self.table.values() if channels is None else channels:
            if channel.quiet and channel.state is ChannelState.LIVE:
                self.look(channel)
            channel.quiet = True

    def presence_watched(self) -> list[str]:
        """Channels whose joins and leaves somebody here follows."""
        return [name[1:] for name in self.table if isinstance(name, PresenceChannel)]
