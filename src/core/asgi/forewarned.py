"""Hearing of the end in time under a server that speaks of it last.

ASGI tells an app that it ends only when all connections have, and an event stream ends only when its app does: uvicorn
started on its own waits for ever. So while such a server runs the app's lifespan, SIGTERM and SIGINT are listened to
beside it: the app is told first, then the server's own handler runs as before.

Where a worker learns of its end by other means than a signal (``hypercorn`` with workers of its own), nothing is heard.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

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

    def close(self) -> None:
        """Give the signals back, unless somebody has taken them meanwhile; idempotent."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._hear:
                signal.signal(number, before)
        self._before.clear()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._warn)
        before = self._before.get(number)
        if before is not None:
            before(number, frame)
