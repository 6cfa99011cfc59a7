"""Hearing of the end in time under a server that speaks of it last.

ASGI tells an app that it ends only when all connections have, and an event stream ends only when its app does: uvicorn
started on its own waits for ever. So while such a server runs the app's lifespan, SIGTERM and SIGINT are listened to
beside it: the app is told first, then the server's own handler runs as before.

The workers of the ``hypercorn`` command get no signal: their parent sets a flag, and what they do about it begins with
an event, three seconds before the lifespan hears of it. An ASGI app is not shown that event; but the ``send`` of a
connection is a method of the object that waits for it too, so the first door that opens gives us that ``send``. Behind
a middleware that wraps ``send`` nothing is heard, as before.
"""

from __future__ import annotations

import asyncio
import contextvars
import signal
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

from ...tasks import Scope
from ..typing import ASGISend

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Forewarned:
    """Calls back at the signal that will end the process, before whoever else handles it.

    Only in the main thread, where signals are handled, and only for signals that somebody handles already: what would
    end the process at once still does.

    Args:
        warn: called in the loop's own turn.
    """

    def __init__(self, warn: Callable[[], None]) -> None:
        self._warn = warn
        self._loop: asyncio.AbstractEventLoop | None = None
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._scope: Scope | None = None

    def listen(self) -> None:
        """Begin, in the running loop; a second call does nothing."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        self._loop = asyncio.get_running_loop()
        for number in SIGNALS:
            before = signal.getsignal(number)
            if callable(before):
                self._before[number] = before
                signal.signal(number, self._hear)

    def overhear(self, send: ASGISend) -> None:
        """Listen to the server that *send* belongs to as well, where it has an event for its end.

        The event of the first *send* is that of all: a worker has one.
        """
        if self._scope is None and (end := _hypercorns_end(send)) is not None:
            self._scope = Scope("forewarned")
            nothing = contextvars.Context()  # it outlives the connection in whose context it is started
            self._scope.start(self._wait(end), name="the server's end", context=nothing)

    async def _wait(self, end: Callable[[], Awaitable[None]]) -> None:
        await end()
        self._warn()

    async def close(self) -> None:
        """Give the signals back, unless somebody has taken them meanwhile; idempotent."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._hear:
                signal.signal(number, before)
        self._before.clear()
        if self._scope is not None:
            await self._scope.close()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._warn)
        before = self._before.get(number)
        if before is not None:
            before(number, frame)


def _hypercorns_end(send: ASGISend) -> Callable[[], Awaitable[None]] | None:
    """What waits for the end of Hypercorn's worker, if *send* is the method of a stream of its; looked at in 0.18."""
    stream = getattr(send, "__self__", None)
    if not type(stream).__module__.startswith("hypercorn."):
        return None
    terminated = getattr(getattr(stream, "context", None), "terminated", None)
    return getattr(terminated, "wait", None)
