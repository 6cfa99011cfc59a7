"""The bounded queue of one subscriber.

A subscriber over its bound is never waited for: an event that does not fit is refused, and its policy says what
becomes of it (``policy.py``). ``lossy.py`` has the queue of those who would rather miss something than be late.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..errors import ConfigError, SlowSubscriber
from .message import Event, Message
from .timeline import GAP_SIZE


def event_size(event: Event) -> int:
    """Bytes that *event* counts for."""
    return event.size if isinstance(event, Message) else GAP_SIZE


class Own:
    """An item of the carrier's own, with what it counts for."""

    __slots__ = ("item", "size")

    def __init__(self, item: Any, size: int) -> None:
        self.item: Any = item
        self.size: int = size


class Outbox:
    """First in, first out, bounded; one reader.

    Args:
        max_messages: at most so many events.
        max_bytes: at most so many bytes, though a single event is taken whatever its size.
    """

    __slots__ = ("_bytes", "_own", "_queue", "_waiter", "max_bytes", "max_messages")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        if max_messages < 1 or max_bytes < 1:
            raise ConfigError(
                f"an outbox holds at least 1 message and 1 byte, not {max_messages} and {max_bytes}"
            )
        self.max_messages: int = max_messages
        self.max_bytes: int = max_bytes
        self._queue: list[Any] = []
        self._bytes = 0
        self._own = 0
        self._waiter: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def bytes(self) -> int:
        """What the queued events count for."""
        return self._bytes

    def offer(self, event: Event, size: int) -> bool:
        """Queue *event* and wake the reader; False, and nothing done, when it is over the bound."""
        queue = self._queue
        total = self._bytes + size
        if queue and (total > self.max_bytes or len(queue) >= self.max_messages):
            return False
        queue.append(event)
        self._bytes = total
        if self._waiter is not None:
            self.wake()
        return True

    def fit(self, event: Event, size: int) -> bool:
        """Queue *event* of a backlog; False, and nothing done, when it is over the bound, whatever the policy."""
        return self.offer(event, size)

    def force(self, event: Event) -> None:
        """Queue *event* whatever the bound: a first word or a Gap, which must not be lost and come one a channel."""
        self._queue.append(event)
        self._bytes += event_size(event)
        self.wake()

    def put(self, item: Any, size: int) -> None:
        """Queue an item of the carrier's own.

        Raises:
            SlowSubscriber: the carrier's own items alone reach the bound; it should wait before it puts more.
        """
        self._check_own(size)
        self._queue.append(Own(item, size))
        self._own += 1
        self._bytes += size
        self.wake()

    def _check_own(self, size: int) -> None:
        if self._own >= self.max_messages or (self._own and self._bytes + size > 2 * self.max_bytes):
            raise SlowSubscriber(f"{self._own} items of {self._bytes} bytes wait to be taken already")

    def take(self) -> list[Any]:
        """Everything that is queued; the queue is empty afterwards."""
        taken, self._queue = self._queue, []
        self._bytes = 0
        if self._own:
            self._own = 0
            return [item.item if type(item) is Own else item for item in taken]
        return taken

    def take_one(self) -> Any:
        """The first of the queue, which is not empty."""
        item = self._queue.pop(0)
        if type(item) is Own:
            self._own -= 1
            self._bytes -= item.size
            return item.item
        self._bytes -= event_size(item)
        return item

    def drop(self, channel: str | None = None) -> None:
        """Forget what is queued of *channel*; everything without it."""
        kept = []
        if channel is not None:
            kept = [item for item in self._queue if type(item) is Own or item.channel != channel]
        self._queue = kept
        self._own = sum(type(item) is Own for item in kept)
        self._bytes = sum(item.size if type(item) is Own else event_size(item) for item in kept)

    # --- the reader's side ------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Let :meth:`wait` return."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def wait(self, timeout: float | None) -> None:
        """Return when woken or after *timeout* seconds; nothing is taken, so cancelling it loses nothing.

        Raises:
            RuntimeError: another task waits already.
        """
        if self._waiter is not None:
            raise RuntimeError("another task waits for the events of this subscription already")
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = None if timeout is None else loop.call_later(timeout, self.wake)
        try:
            await waiter
        finally:
            if self._waiter is waiter:
                self._waiter = None
            if timer is not None:
                timer.cancel()
