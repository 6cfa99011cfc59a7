"""For threads without an event loop: a hub in a loop of its own, and waiting for what another thread's loop does."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Awaitable, Callable

from ..errors import HubClosed, PublishRejected, PublishUnknown
from .message import Published

START_TIMEOUT = 10.0  # seconds for the thread to say that the hub has started; it does not wait for a broker
STOP_TIMEOUT = 15.0  # seconds for the hub to stop, its own deadlines included
MARGIN = 1.0  # seconds beyond a publish's own limit for a busy loop to say how it went

logger: logging.Logger = logging.getLogger("samovar.hub")


def refuse_loop(message: str) -> None:
    """Raise when an event loop runs in this thread.

    Raises:
        RuntimeError: it does; with *message*.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(message)


def wait_for_publish(outcome: concurrent.futures.Future[Published], id: str, timeout: float) -> Published:
    """What became of a publish that another thread's loop does.

    Args:
        outcome: of the loop.
        id: of the message.
        timeout: seconds after which the loop itself gives up; it gets a little longer than that.

    Raises:
        PublishRejected: the loop did not even begin. PublishUnknown: it did, and did not say how it ended.
        HubClosed: the hub stopped before.
    """
    try:
        return outcome.result(timeout + MARGIN)
    except TimeoutError as error:
        if outcome.cancel():
            raise PublishRejected(
                f"the hub's event loop was blocked for {timeout + MARGIN:g} s and never came to it", id=id
            ) from error
        why = f"the hub's event loop did not say within {timeout + MARGIN:g} s"
    except HubClosed:
        raise
    except RuntimeError as error:
        raise HubClosed("the hub was stopped before it came to this publish") from error
    except concurrent.futures.CancelledError:
        why = "the hub was stopped meanwhile"
    raise PublishUnknown(
        f"{why}: the message may be in; publishing again with id={id!r} cannot double it", id=id
    )


class HubThread:
    """A thread with an event loop in which a hub lives.

    Args:
        start: starts the hub.
        stop: stops it.
    """

    def __init__(self, start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]) -> None:
        self._start = start
        self._stop = stop
        self._started: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._ending = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="samovar.hub", daemon=True)

    def begin(self) -> None:
        """Start the thread; returns when the hub has started.

        Raises:
            TimeoutError: it did not start in time. Exception: what starting the hub raised.
        """
        self._thread.start()
        try:
            self._started.result(START_TIMEOUT)
        except TimeoutError:
            raise
        except Exception:
            self._thread.join(STOP_TIMEOUT)
            raise

    def end(self) -> None:
        """Stop the hub and wait for the thread; idempotent.

        Raises:
            HubClosed: the thread did not end in time; it is left to the end of the process.
        """
        loop = self._started.result(0)
        if not loop.is_closed():
            try:
                loop.call_soon_threadsafe(self._ending.set)
            except RuntimeError:
                logger.debug("the hub's loop closed meanwhile")
        self._thread.join(STOP_TIMEOUT)
        if self._thread.is_alive():
            raise HubClosed(f"the hub's thread did not end within {STOP_TIMEOUT:g} s")

    def _run(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        try:
            await self._start()
        except Exception as error:  # it is begin()'s
            self._started.set_exception(error)
            return
        self._started.set_result(asyncio.get_running_loop())
        try:
            await self._ending.wait()
        finally:
            await self._stop()
