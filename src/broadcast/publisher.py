"""Publishing: tried again with the same id until the broker has it, the time is over, or it says no."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..errors import BackendUnavailable, PublishRejected, PublishUnknown
from .backend import Backend
from .counters import Counters
from .retry import delays

T = TypeVar("T")
MAX_IN_FLIGHT = 10_000
YIELD_EVERY = 64  # publishes that never suspend would keep everybody else waiting

logger = logging.getLogger("samovar.publish")


class Publisher:
    """Makes a hub's calls of ``Backend.publish``.

    Args:
        backend: where to.
        timeout: seconds until a publish is given up.
        counters: where it is counted.
    """

    __slots__ = ("_backend", "_calls", "_counters", "in_flight", "max_in_flight", "timeout")

    def __init__(self, backend: Backend, *, timeout: float, counters: Counters) -> None:
        self._backend = backend
        self._counters = counters
        self._calls = 0
        self.timeout = timeout
        self.max_in_flight = MAX_IN_FLIGHT
        self.in_flight = 0

    async def call(self, id: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Call *attempt*, again while that may help.

        Raises:
            PublishRejected: certainly not in: the broker refused, or could not be reached in time.
            PublishUnknown: sent at least once, and no answer came in time.
        """
        if self.in_flight >= self.max_in_flight:
            self._counters.rejected += 1
            raise PublishRejected(f"busy: {self.in_flight} publishes are in flight already", id=id)
        self.in_flight += 1
        try:
            if self._backend.waits:
                return await self._persist(id, attempt)
            result = await attempt()
            self._calls += 1
            if self._calls % YIELD_EVERY == 0:
                await asyncio.sleep(0)
            return result
        except PublishUnknown:
            self._counters.unknown += 1
            raise
        except PublishRejected:
            self._counters.rejected += 1
            raise
        finally:
            self.in_flight -= 1

    async def _persist(self, id: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """The loop of attempts inside the time limit. What was sent once without an answer can never be rejected."""
        sent = trying = False
        why: Exception | None = None
        try:
            async with asyncio.timeout(self.timeout):
                for delay in delays(most=0.5):
                    try:
                        trying = True
                        return await attempt()
                    except PublishUnknown as error:
                        sent, why = True, error
                    except BackendUnavailable as error:
                        why = error
                    trying = False
                    self._counters.retries += 1
                    logger.debug("publish %s: %s; trying again in %.2f s", id, why, delay)
                    await asyncio.sleep(delay)
        except TimeoutError as error:
            sent, why = sent or trying, why or error
        except PublishRejected as error:
            if not sent:
                raise
            why = error
        reason = str(why) or type(why).__name__
        if sent:
            raise PublishUnknown(
                f"no answer within {self.timeout:g} s ({reason}): the message may be in; "
                f"publishing again with id={id!r} cannot double it",
                id=id,
            ) from why
        raise PublishRejected(
            f"the broker was not reached within {self.timeout:g} s: {reason}", id=id
        ) from why
