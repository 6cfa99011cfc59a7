"""Waiting for a broker: how long until the next attempt, and being woken before."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator


def delays(first: float = 0.05, most: float = 2.0) -> Iterator[float]:
    """Seconds to wait before each further attempt: doubling up to *most*, each between half of it and all of it.

    The jitter keeps the workers that lost one broker together from coming back together.
    """
    delay = first
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(delay * 2, most)


class Signal:
    """Wakes everybody who waits at the moment; who comes later waits for the next time."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def wake(self) -> None:
        """Let every :meth:`wait` return."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, timeout: float | None = None) -> None:
        """Return when woken, or after *timeout* seconds."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        timer = None if timeout is None else loop.call_later(timeout, _finish, waiter)
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
