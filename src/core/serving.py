"""What an app does around its requests: start-up, background tasks, shut-down."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any

from ..tasks import Scope as TaskScope
from .dispatch import Dispatch
from .signals import got_background_exception, got_serving_exception, send
from .typing import AnyCallable


class Serving(Dispatch):
    """The part of an app that starts and stops."""

    async def startup(self) -> None:
        """Start the hub, then run what is to run before the first request; undone if any of it fails."""
        self._open_doors()
        try:
            await self.hub.start()  # on memory:// too: threads publish through the loop it runs in
            async with self.app_context():
                for func in self.before_serving_funcs:
                    await self.ensure_async(func)()
                for generator_function in self._while_serving_funcs:
                    generator = generator_function()
                    self.while_serving_gens.append(generator)
                    await anext(generator)
        except Exception as error:
            await self._serving_failed(error)
            await self._stop_serving([])
            raise

    async def shutdown(self) -> None:
        """Tell open connections, wait for background tasks, run what is to run after the last request, stop the hub.

        Everything is run whatever fails; the first failure is raised in the end.
        """
        errors: list[Exception] = []
        self.shutdown_event.set()
        await self._stop_serving(errors)
        if errors:
            await self._serving_failed(errors[0])
            raise errors[0]

    async def _stop_serving(self, errors: list[Exception]) -> None:
        async def finish_background() -> None:
            if self._background is not None:
                scope, self._background = self._background, None
                await scope.join(self.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"])
                await scope.close()

        async def stop_hub() -> None:
            if self._hub is not None:
                hub, self._hub = self._hub, None
                await hub.stop()

        async with self.app_context():
            await self._each(errors, [self.polls.close, finish_background])
            while self.while_serving_gens:
                generator = self.while_serving_gens.pop()
                await self._each(errors, [_finish], generator)
            await self._each(errors, [self.ensure_async(func) for func in self.after_serving_funcs])
        await self._each(errors, [stop_hub])

    async def _serving_failed(self, error: Exception) -> None:
        if got_serving_exception.receivers:
            await send(got_serving_exception, self, exception=error)
        self.log_exception(error)

    def add_background_task(self, func: AnyCallable, *args: Any, **kwargs: Any) -> None:
        """Run *func* in the app's context beside the requests; shutdown gives it ``BACKGROUND_TASK_SHUTDOWN_TIMEOUT``.

        A plain function runs in a thread. An exception goes to :meth:`handle_background_exception`.
        """
        if self._background is None:
            self._background = TaskScope("background", on_error=lambda task, error: None)
        name = getattr(func, "__name__", "task")
        self._background.start(self._run_in_background(func, args, kwargs), name=name)

    @property
    def background_tasks(self) -> int:
        """How many background tasks run."""
        return 0 if self._background is None else len(self._background)

    async def _run_in_background(self, func: AnyCallable, args: Any, kwargs: Any) -> None:
        async with self.app_context():
            try:
                await self.ensure_async(func)(*args, **kwargs)
            except Exception as error:
                await self.handle_background_exception(error)

    async def handle_background_exception(self, error: Exception) -> None:
        """Log an exception of a background task, and send the signal."""
        if got_background_exception.receivers:
            await send(got_background_exception, self, exception=error)
        self.log_exception(error)


async def _finish(generator: AsyncIterator[None]) -> None:
    """Let a ``while_serving`` generator run to its end."""
    try:
        await anext(generator)
    except StopAsyncIteration:
        return
    if inspect.isasyncgen(generator):
        await generator.aclose()
    raise RuntimeError("a while_serving function yields once")
