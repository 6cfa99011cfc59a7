"""From a signal to the exit: the app is told first, then the server.

ASGI tells an app that it ends (``lifespan.shutdown``) only after the server has waited for its connections, and those
never end while the app does not know. So the signal handler sets the app's ``shutdown_event`` itself: event streams,
long-polls and websockets end by themselves, and the server has nothing left to wait for.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..logging import flush_logs

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LAST_WORDS = 0.3  # seconds for the log of somebody in a hurry


class Stop:
    """The wish to stop: set once, by a signal or by a shutdown trigger.

    Args:
        app: what is served; its ``shutdown_event`` is set, where it has one.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self.event: asyncio.Event = asyncio.Event()

    def request(self) -> None:
        """Tell the app and then the server; a second call does nothing."""
        if not self.event.is_set():
            shutdown_event = getattr(self._app, "shutdown_event", None)
            if shutdown_event is not None:
                shutdown_event.set()
            self.event.set()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Stop at the first SIGINT or SIGTERM, exit at once at the second, with 128 + its number."""

        def handle(number: int) -> None:
            if self.event.is_set():
                exit_now(128 + number)
            self.request()

        loop = asyncio.get_running_loop()
        undo = [_add_handler(loop, number, handle) for number in SIGNALS]
        try:
            yield
        finally:
            for remove in undo:
                remove()


def exit_now(code: int) -> None:
    """Leave without any clean-up, for somebody who has asked twice."""
    flush_logs(LAST_WORDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _add_handler(
    loop: asyncio.AbstractEventLoop, number: signal.Signals, handle: Callable[[int], None]
) -> Callable[[], object]:
    before = signal.getsignal(number)
    try:
        loop.add_signal_handler(number, handle, number)
    except NotImplementedError:  # Windows' loops
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(handle, number))

    def remove() -> None:
        try:
            loop.remove_signal_handler(number)
        except NotImplementedError:
            pass  # it was never added there; the line below undoes the other way
        signal.signal(number, before)

    return remove
