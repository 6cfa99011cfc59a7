"""Publishing: tried again with the same id until the broker has it, the time is over, or it says no."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from ..errors import BackendUnavailable, PublishRejected, PublishUnknown
from .backend import Backend
from .counters import Counters
from .limits import Limits
from .retry import delays

T = TypeVar("T")
MAX_IN_FLIGHT = 10_000
YIELD_EVERY = 64  # publishes that never suspend would keep everybody else waiting

logger: logging.Logger = logging.getLogger("samovar.publish")


class Publisher:
    """Makes a hub's calls of ``Backend.publish``.

    Args:
        backend: where to.
        timeout: seconds until a publish is given up.
        counters: where it is counted.
    """

    __slots__ = ("_backend", "_calls", "_counters", "_limits", "in_flight", "max_in_flight", "timeout")

    def __init__(self, backend: Backend, *, timeout: float, counters: Counters) -> None:
        self._backend = backend
        self._counters = counters
        self._calls = 0
        self._limits = Limits(timeout)
        self.timeout: float = timeout
        self.max_in_flight: int = MAX_IN_FLIGHT
        self.in_flight: int = 0

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
        tries: _Tries | None = None
        try:
            if not self._backend.waits:
                result = await attempt()
                self._calls += 1
                if self._calls % YIELD_EVERY == 0:
                    await asyncio.sleep(0)
                return result
            with self._limits.begin():
                try:
                    return await attempt()
                except (PublishUnknown, BackendUnavailable) as error:
                    tries = _Tries(error)
                return await self._again(id, attempt, tries)
        except TimeoutError as error:
            if not self._backend.waits:
                raise
            self._give_up(id, tries, error)
        except PublishRejected as error:
            if tries is None or not tries.sent:
                self._counters.rejected += 1
                raise
            self._give_up(id, tries, error)
        except PublishUnknown:
            self._counters.unknown += 1
            raise
        finally:
            self.in_flight -= 1

    async def _again(self, id: str, attempt: Callable[[], Awaitable[T]], tries: _Tries) -> T:
        """Further attempts, until one brings an answer or the time limit around this ends them."""
        for delay in delays(most=0.5):
            self._counters.retries += 1
            logger.debug("publish %s: %s; trying again in %.2f s", id, tries.why, delay)
            await asyncio.sleep(delay)
            try:
                tries.trying = True
                return await attempt()
            except (PublishUnknown, BackendUnavailable) as error:
                tries.failed(error)
        raise AssertionError("delays() does not end")

    def _give_up(self, id: str, tries: _Tries | None, error: Exception) -> NoReturn:
        """There will be no answer. What was sent once without one can never be rejected.

        Raises:
            PublishUnknown, PublishRejected: see :meth:`call`.
        """
        why = error if tries is None or isinstance(error, PublishRejected) else tries.why
        reason = str(why) or type(why).__name__
        if tries is None or tries.sent or tries.trying:
            self._counters.unknown += 1
            raise PublishUnknown(
                f"no answer within {self.timeout:g} s ({reason}): the message may be in; "
                f"publishing again with id={id!r} cannot double it",
                id=id,
            ) from why
        self._counters.rejected += 1
        raise PublishRejected(
            f"the broker was not reached within {self.timeout:g} s: {reason}", id=id
        ) from why


class _Tries:
    """How the attempts at one publish went, from the first that failed.

    Args:
        error: that one's.
    """

    __slots__ = ("sent", "trying", "why")

    def __init__(self, error: Exception) -> None:
        self.sent = False
        self.failed(error)

    def failed(self, error: Exception) -> None:
        """An attempt ended without an answer, or without reaching the broker."""
        self.trying = False
        self.sent = self.sent or isinstance(error, PublishUnknown)
        self.why = error
