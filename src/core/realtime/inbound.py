"""What a peer has sent and the handler has not read yet: bounded, so that a full one stops the reader."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

logger: logging.Logger = logging.getLogger("samovar.websocket")


class InboundEnd(Exception):
    """No more messages will come. Internal: ``receive`` and ``async for`` turn it into what they promise."""


class InboundStuck(Exception):
    """A handler that did read has left a full queue alone for too long."""


class Inbound:
    """A bounded queue between the connection's reader and its handler.

    A cancelled :meth:`get` takes nothing. While it is full the reader waits, so the server stops reading the socket
    and the peer's own sends block (TCP backpressure); nothing is dropped.

    A reader that waits cannot see the peer leave, so it waits for *patience* only. Then a handler that has read before
    is stuck, and one that never did only pushes: for it the oldest are dropped from then on, until it reads.

    Args:
        limit: how many messages may wait.
        patience: seconds that a full queue may stay untouched; None for ever.
    """

    def __init__(self, limit: int, patience: float | None = None) -> None:
        self.limit = limit
        self.patience = patience
        self.ended: bool = False
        self.discarded: int = 0
        self._read = False
        self._dropping = False
        self._discarding = False
        self._items: deque[str | bytes] = deque()
        self._getters: deque[asyncio.Future[None]] = deque()
        self._room: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: str | bytes) -> None:
        """Add *item* once there is room; the one reader calls this, nobody else.

        Raises:
            InboundStuck: nothing was read for *patience* seconds by a handler that did read before.
        """
        while len(self._items) >= self.limit and not self.ended and not self._discarding:
            await self._make_room()
        if self.ended:
            return
        if self._discarding:
            self.discarded += 1
            return
        self._items.append(item)
        self._wake_getter()

    async def _make_room(self) -> None:
        if not self._dropping:
            self._room = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(self.patience):
                    await self._room
                return
            except TimeoutError:
                if self._read:
                    raise InboundStuck(f"nothing was read for {self.patience} s") from None
            self._dropping = True
            logger.warning(
                "a websocket's handler does not read: its client's messages are dropped from now on"
            )
        self._items.popleft()
        self.discarded += 1

    async def get(self) -> str | bytes:
        """The oldest message; waits for one.

        Raises:
            InboundEnd: the peer left and everything it sent has been read.
        """
        self._read = True
        self._dropping = False
        while not self._items:
            if self.ended:
                raise InboundEnd("the peer left")
            getter = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter in self._getters:
                    self._getters.remove(getter)
                else:
                    self._wake_getter()  # the wake-up was meant for whoever takes the message
                raise
        item = self._items.popleft()
        self._wake_room()
        return item

    def discard(self) -> None:
        """Nobody will read: drop what waits and what is to come, so that the peer's leaving is always noticed."""
        self._discarding = True
        self.discarded += len(self._items)
        self._items.clear()
        self._wake_room()

    def end(self) -> None:
        """No more will come; idempotent."""
        self.ended = True
        self._wake_room()
        while self._getters:
            self._wake_getter()

    def _wake_getter(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def _wake_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


class Pacer:
    """A token bucket: how long a reader has to wait so that a peer stays under its rate.

    Args:
        rate: messages a second in the long run; None or 0 sets no limit.
        burst: seconds' worth of messages that may come at once.
    """

    def __init__(self, rate: float | None, burst: float = 2.0) -> None:
        self.rate: float = rate or 0.0
        self.capacity: float = max(1.0, self.rate * burst)
        self._tokens = self.capacity
        self._last = 0.0

    def delay(self, now: float) -> float:
        """Count one message at *now* (seconds of a monotonic clock); returns the seconds to wait before the next."""
        if not self.rate:
            return 0.0
        self._tokens = min(self.capacity, self._tokens + (now - self._last) * self.rate) - 1.0
        self._last = now
        return -self._tokens / self.rate if self._tokens < 0 else 0.0
