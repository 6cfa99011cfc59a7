"""The outbox of a subscriber that would rather miss messages than be late: ``drop_oldest`` and ``latest(key)``.

It takes every live event. Over the bound, what goes is, first, values that a newer one of their key replaced (with a
key function), and else the oldest. Nothing is noted where something went: each event remembers what it followed when
it was queued, and when it is taken and the reader does not stand there, a Gap goes before it. So holes that touch are
one Gap, and holes cost nothing while they wait.

First words, Gaps of resuming, and items of the carrier's own are *pinned*: they neither go nor move, and are bounded by
who puts them, one or two a channel and :meth:`Outbox.put`'s bound.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from .counters import Counters
from .message import Event, Gap, Message, Position, Reason
from .outbox import Outbox, Own, event_size

GRAVITY: tuple[Reason, ...] = ("conflated", "overflow", "expired", "lost", "unknown", "reset")
"""Reasons of one hole, the gravest last: its Gap says that one."""


class Queued(NamedTuple):
    """An event that may go.

    Args:
        event: what it is.
        size: what it counts for.
        key: what replaces it, None for nothing.
        follows: the position of what was queued before it in its channel.
        number: how many messages of its channel were queued before it.
    """

    event: Message | Gap
    size: int
    key: Hashable
    follows: Position | None
    number: int


class Standing:
    """One channel: where its queue ends, and where its reader is.

    ``tail`` and ``queued`` are of what was queued last, ``at`` and ``taken`` of what was taken last: the position, and
    how many messages there were up to it. ``waiting`` counts what is between and may go. ``grave`` is why something at
    the front went, None while nothing did.
    """

    __slots__ = ("at", "grave", "queued", "tail", "taken", "waiting")

    def __init__(self) -> None:
        self.tail: Position | None = None
        self.queued: int = 0
        self.waiting: int = 0
        self.at: Position | None = None
        self.taken: int = 0
        self.grave: Reason | None = None

    def lose(self, event: Message | Gap) -> None:
        """*event*, the oldest that may go, went."""
        why: Reason = "overflow" if isinstance(event, Message) else event.reason
        if self.grave is None or GRAVITY.index(why) > GRAVITY.index(self.grave):
            self.grave = why

    def hole(self, channel: str, until: Position | None, number: int) -> Gap | None:
        """The Gap between the reader and *until*, if there is one; the reader stands behind it then."""
        if self.at == until:
            return None
        why = self.grave or "conflated"
        known = GRAVITY.index(why) <= GRAVITY.index("overflow")
        gap = Gap(channel, why, self.at, until, number - self.taken if known else None)
        self.at, self.taken, self.grave = until, number, None
        return gap


class LossyOutbox(Outbox):
    """See the module.

    Args:
        max_messages, max_bytes: as those of :class:`Outbox`.
        counters: where it is counted.
        policy: under which name.
        key: what a message is conflated by, None for nothing; without it only the oldest go.
    """

    __slots__ = (
        "_counters", "_key", "_newest", "_next", "_pinned", "_policy", "_replaced", "_standings", "_tails", "_waiting",
    )  # fmt: skip

    def __init__(
        self,
        max_messages: int,
        max_bytes: int,
        *,
        counters: Counters,
        policy: str,
        key: Callable[[Message], Hashable] | None = None,
    ) -> None:
        super().__init__(max_messages, max_bytes)
        self._counters = counters
        self._policy = policy
        self._key = key
        self._next = 0
        self._waiting: OrderedDict[int, Queued] = OrderedDict()
        self._pinned: deque[tuple[int, Any]] = deque()
        self._standings: dict[str, Standing] = {}
        self._newest: dict[tuple[str, Hashable], int] = {}
        self._replaced: dict[int, None] = {}
        self._tails: dict[str, int] = {}  # channels of which everything went, with the place of the last

    def __len__(self) -> int:
        return len(self._waiting) + len(self._pinned) + len(self._tails)

    # --- queueing ---------------------------------------------------------------------------------------------------

    def offer(self, event: Event, size: int) -> bool:
        """Queue *event*, making room for it; always True, for nobody falls behind."""
        key = self._replace(event)
        if self._waiting and self._over(size):
            self._counters.overflows[self._policy] += 1
            self._drop_replaced()
            while self._waiting and self._over(size):
                self._drop_oldest()
        self._append(event, size, key)
        return True

    def fit(self, event: Event, size: int) -> bool:
        """Queue *event*, unless it is over the bound: a backlog waits for its reader."""
        if len(self) and self._over(size):
            return False
        self._append(event, size, self._replace(event))
        return True

    def _over(self, size: int) -> bool:
        return (
            self._bytes + size > self.max_bytes or len(self._waiting) + len(self._pinned) >= self.max_messages
        )

    def _replace(self, event: Event) -> Hashable:
        """The key of *event*, None without one; what it replaces may go from now on."""
        if self._key is None or not isinstance(event, Message):
            return None
        key = self._key(event)
        if key is not None and (older := self._newest.pop((event.channel, key), None)) is not None:
            self._replaced[older] = None
        return key

    def _append(self, event: Event, size: int, key: Hashable) -> None:
        assert isinstance(event, Message | Gap), "first words are forced"
        place = self._next
        self._next += 1
        standing = self._standing(event.channel)
        if key is not None:
            self._newest[event.channel, key] = place
        self._waiting[place] = Queued(event, size, key, standing.tail, standing.queued)
        standing.waiting += 1
        if isinstance(event, Message):
            standing.tail = event.position
            standing.queued += 1
        else:
            standing.tail = event.until
        if self._tails:
            self._tails.pop(event.channel, None)
        self._bytes += size
        if self._waiter is not None:
            self.wake()

    def _standing(self, channel: str) -> Standing:
        standing = self._standings.get(channel)
        if standing is None:
            standing = self._standings[channel] = Standing()
        return standing

    def force(self, event: Event) -> None:
        """Queue *event*, which is pinned."""
        standing = self._standing(event.channel)
        standing.tail = event.until if isinstance(event, Gap) else event.position
        self._pin(event, event_size(event))

    def put(self, item: Any, size: int) -> None:
        """See :meth:`Outbox.put`; the item is pinned."""
        self._check_own(size)
        self._own += 1
        self._pin(Own(item, size), size)

    def _pin(self, item: Any, size: int) -> None:
        self._pinned.append((self._next, item))
        self._next += 1
        self._bytes += size
        self.wake()

    # --- making room ------------------------------------------------------------------------------------------------

    def _drop_replaced(self) -> None:
        """Let everything go that a newer value replaced; each was noted once, so this costs a push nothing more."""
        for place in self._replaced:
            queued = self._waiting.pop(place)
            self._bytes -= queued.size
            self._standings[queued.event.channel].waiting -= 1
        self._counters.conflated += len(self._replaced)
        self._replaced.clear()

    def _drop_oldest(self) -> None:
        place, queued = self._waiting.popitem(last=False)
        self._forget(place, queued)
        channel = queued.event.channel
        standing = self._standings[channel]
        standing.lose(queued.event)
        if not standing.waiting:
            self._tails[channel] = place
        self._counters.dropped += isinstance(queued.event, Message)

    def _forget(self, place: int, queued: Queued) -> None:
        """*queued* is not in the queue any more: nothing can replace it."""
        channel = queued.event.channel
        self._bytes -= queued.size
        self._standings[channel].waiting -= 1
        self._replaced.pop(place, None)
        if queued.key is not None and self._newest.get((channel, queued.key)) == place:
            del self._newest[channel, queued.key]

    # --- taking -----------------------------------------------------------------------------------------------------

    def take(self) -> list[Any]:
        """Everything that is queued, with the Gaps that belong between; the queue is empty afterwards."""
        taken: list[Any] = []
        while self._pinned or self._tails:
            taken.append(self.take_one())
        for queued in self._waiting.values():
            if (gap := self._hole_before(queued)) is not None:
                taken.append(gap)
            taken.append(self._taken(queued))
            self._standings[queued.event.channel].waiting = 0
        self._waiting.clear()
        self._newest.clear()
        self._replaced.clear()
        self._bytes = 0
        return taken

    def take_one(self) -> Any:
        """The first of the queue, which is not empty, or the Gap that belongs before it."""
        place = next(iter(self._waiting), self._next)
        pin = self._pinned[0][0] if self._pinned else self._next
        tail = next(iter(self._tails.values()), self._next)
        if tail < pin and tail < place:
            return self._take_tail()
        if pin < place:
            return self._take_pinned()
        queued = self._waiting[place]
        gap = self._hole_before(queued)
        if gap is not None:
            return gap
        del self._waiting[place]
        self._forget(place, queued)
        return self._taken(queued)

    def _take_tail(self) -> Gap:
        """The Gap for a channel of which everything went."""
        channel = next(iter(self._tails))
        del self._tails[channel]
        standing = self._standings[channel]
        gap = standing.hole(channel, standing.tail, standing.queued)
        assert gap is not None, "something went"
        self._counters.gaps[gap.reason] += 1
        return gap

    def _take_pinned(self) -> Any:
        item = self._pinned.popleft()[1]
        if type(item) is Own:
            self._own -= 1
            self._bytes -= item.size
            return item.item
        self._bytes -= event_size(item)
        self._standings[item.channel].at = item.until if isinstance(item, Gap) else item.position
        return item

    def _hole_before(self, queued: Queued) -> Gap | None:
        channel = queued.event.channel
        gap = self._standings[channel].hole(channel, queued.follows, queued.number)
        if gap is not None:
            self._counters.gaps[gap.reason] += 1
        return gap

    def _taken(self, queued: Queued) -> Message | Gap:
        """Note that the reader has it."""
        event = queued.event
        standing = self._standings[event.channel]
        if isinstance(event, Message):
            standing.at, standing.taken = event.position, queued.number + 1
        else:
            standing.at, standing.taken = event.until, queued.number
        return event

    def drop(self, channel: str | None = None) -> None:
        """Forget what is queued of *channel*, and where its reader is; everything without it."""
        if channel is None:
            self._waiting.clear()
            self._pinned.clear()
            self._standings.clear()
            self._newest.clear()
            self._replaced.clear()
            self._tails.clear()
            self._bytes = self._own = 0
            return
        for place, queued in tuple(self._waiting.items()):
            if queued.event.channel == channel:
                del self._waiting[place]
                self._forget(place, queued)
        gone = [item for _, item in self._pinned if type(item) is not Own and item.channel == channel]
        self._bytes -= sum(map(event_size, gone))
        self._pinned = deque(
            (place, item) for place, item in self._pinned if type(item) is Own or item.channel != channel
        )
        self._tails.pop(channel, None)
        self._standings.pop(channel, None)
