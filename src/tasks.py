"""The one place that starts tasks: a scope owns its tasks and outlives them.

Unlike :class:`asyncio.TaskGroup`, a failing task does not cancel its neighbours: one connection's failure is nobody
else's business. The scope reports it to ``on_error`` instead, at once, and cancels what is left when it closes.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
ErrorHandler = Callable[["asyncio.Task[Any]", BaseException], None]

logger: logging.Logger = logging.getLogger("samovar.tasks")


def log_error(task: asyncio.Task[Any], error: BaseException) -> None:
    """The default ``on_error``: an error line with the traceback and the task's name."""
    logger.error("task %s failed", task.get_name(), exc_info=error)


class Scope:
    """Owns tasks: ``async with Scope("name") as scope: scope.start(coro)``.

    Args:
        name: stands in front of the names of its tasks, for logs.
        on_error: called with (task, exception) when a task ends with an exception other than cancellation.
        deadline: how long, in seconds, :meth:`close` waits for cancelled tasks before it reports and leaves them.
    """

    def __init__(self, name: str, *, on_error: ErrorHandler = log_error, deadline: float = 5.0) -> None:
        self.name = name
        self.on_error = on_error
        self.deadline = deadline
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<Scope {self.name} tasks={len(self._tasks)}{' closed' if self._closed else ''}>"

    @property
    def names(self) -> list[str]:
        """The names of the tasks that run, as they were given, each once and in order."""
        return sorted({task.get_name().removeprefix(f"{self.name}:") for task in self._tasks})

    @property
    def tasks(self) -> frozenset[asyncio.Task[Any]]:
        """The tasks that run."""
        return frozenset(self._tasks)

    def start(
        self, coro: Coroutine[Any, Any, T], *, name: str = "", context: contextvars.Context | None = None
    ) -> asyncio.Task[T]:
        """Start *coro* as a task of this scope and return it.

        Raises:
            RuntimeError: the scope is closed; the coroutine is closed too, so nothing leaks.
        """
        if self._closed:
            coro.close()
            raise RuntimeError(f"scope {self.name!r} is closed: no task can start in it")
        label = f"{self.name}:{name or getattr(coro, '__name__', 'task')}"
        task = asyncio.get_running_loop().create_task(coro, name=label, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def submit(
        self, loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]], *, name: str = ""
    ) -> concurrent.futures.Future[T]:
        """Start, from another thread, what *make* returns as a task in *loop*; its outcome is the future's.

        A failure is the future's alone and not reported to ``on_error``. Cancelling the future keeps a task that has
        not begun from beginning, and does nothing to one that has.

        Raises:
            RuntimeError: the loop is closed.
        """
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

        async def run() -> None:
            try:
                result = await make()
            except asyncio.CancelledError:
                outcome.set_exception(concurrent.futures.CancelledError())
                raise
            except Exception as error:  # it is the waiting thread's
                outcome.set_exception(error)
            else:
                outcome.set_result(result)

        def begin() -> None:
            if not outcome.set_running_or_notify_cancel():
                return
            try:
                self.start(run(), name=name)
            except RuntimeError as error:
                outcome.set_exception(error)

        loop.call_soon_threadsafe(begin)
        return outcome

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.on_error(task, error)

    async def join(self, timeout: float | None = None) -> bool:
        """Wait until every task has ended, at most *timeout* seconds; True when all have."""
        end = None if timeout is None else asyncio.get_running_loop().time() + timeout
        while self._tasks:
            left = None if end is None else end - asyncio.get_running_loop().time()
            if left is not None and left <= 0:
                return False
            await asyncio.wait(self._tasks, timeout=left)
            await asyncio.sleep(0)  # lets the done callbacks run
        return True

    async def close(self) -> None:
        """Cancel what is left and wait for it, up to the deadline; idempotent.

        The calling task itself, when it is one of the scope's, is neither cancelled nor waited for.
        """
        self._closed = True
        current = asyncio.current_task()
        left = {task for task in self._tasks if task is not current}
        for task in left:
            task.cancel()
        if left:
            _, pending = await asyncio.wait(left, timeout=self.deadline)
            for task in pending:
                logger.error("task %s ignored its cancellation for %s s", task.get_name(), self.deadline)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
