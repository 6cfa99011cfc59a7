"""One number of seconds as the time limit of many calls, with one timer among them all.

:func:`asyncio.timeout` sets a timer for each call, and nearly all of them are cancelled unused: a third of what a
publish costs. Calls that have equally long end in the order in which they began, so one timer looks at the first.

What a call sees is what ``asyncio.timeout`` would do: its task is cancelled when the time is over, and the cancellation
becomes a TimeoutError where the limit began; a cancellation by anybody else stays one.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Limits:
    """``with limits.begin():`` bounds what is awaited inside it.

    Args:
        seconds: how long each may take.
    """

    __slots__ = ("_loop", "_running", "_timer", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds: float = seconds
        self._running: dict[Limit, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._running)

    def begin(self) -> Limit:
        """A limit that runs from now, for the task that calls this.

        Raises:
            RuntimeError: no task calls this.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit is a task's")
        if loop is not self._loop:  # a timer of the loop before would never come
            self._loop, self._timer = loop, None
            self._running.clear()
        limit = Limit(self._running, task, loop.time() + self.seconds)
        if self._timer is None:
            self._timer = loop.call_at(limit.end, self._look)
        return limit

    def _look(self) -> None:
        """Cancel what is over its time, and look again when the next one will be."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for limit in tuple(self._running):
            if limit.end > now:
                self._timer = loop.call_at(limit.end, self._look)
                return
            limit.expire()


class Limit:
    """One call's limit; made by :meth:`Limits.begin`, entered once."""

    __slots__ = ("_before", "_expired", "_running", "_task", "end")

    def __init__(self, running: dict[Limit, None], task: asyncio.Task[object], end: float) -> None:
        self.end: float = end
        self._running = running
        self._task = task
        self._before = task.cancelling()
        self._expired = False

    def __enter__(self) -> None:
        self._running[self] = None

    def expire(self) -> None:
        """The time is over."""
        del self._running[self]
        self._expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it.

        Raises:
            TimeoutError: the time is over, and that alone is why the call was cancelled.
        """
        if not self._expired:
            self._running.pop(self, None)
        elif self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error
