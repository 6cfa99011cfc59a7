"""Telling open doors that the server is going: one event, and a synchronous word to each door.

The event is set first thing on SIGTERM, before the server waits for connections, so that websockets close with 1012,
streams end and polls are answered while there is still a server to do it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..typing import ASGISend


class ShutdownEvent(asyncio.Event):
    """An :class:`asyncio.Event` that also calls back, at once and in the setter's turn of the loop.

    A door adds its callback when it opens and discards it when it closes; so no door needs a task that waits.
    """

    overhear: Callable[[ASGISend], None] | None = None
    """A connection that stays gives it its ``send``, where the server does not tell of its end by a signal alone."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: set[Callable[[], None]] = set()

    def __len__(self) -> int:
        return len(self._callbacks)

    def __bool__(self) -> bool:
        return True

    def add(self, callback: Callable[[], None]) -> None:
        """Call *callback* when the event is set; at once when it is set already."""
        if self.is_set():
            callback()
        else:
            self._callbacks.add(callback)

    def discard(self, callback: Callable[[], None]) -> None:
        """Do not call *callback* any more."""
        self._callbacks.discard(callback)

    def set(self) -> None:
        """Set the event and tell every door; a second call does nothing."""
        if self.is_set():
            return
        super().set()
        callbacks, self._callbacks = self._callbacks, set()
        for callback in callbacks:
            callback()
