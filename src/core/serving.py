"""What an app does around its requests: start-up, background tasks, shut-down."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar, overload

from ..tasks import Scope as TaskScope
from .dispatch import Dispatch
from .signals import got_background_exception, got_serving_exception, send
from .singletons import Singleton, Singletons
from .typing import AnyCallable
from .utils import exc_info_of

F = TypeVar("F", bound=Callable[..., Any])
SOON = 0.1  # seconds in which a background task that watches app.shutdown_event has ended: nobody needs to hear of it


class Patience:
    """The time that one shutdown has for background tasks, whenever they are started.

    Args:
        seconds: altogether.
    """

    def __init__(self, seconds: float) -> None:
        self.left = seconds
        self.moment: float = min(SOON, seconds)

    async def join(self, scope: TaskScope, seconds: float) -> bool:
        """Wait for the tasks of *scope*, up to *seconds*, which count; True when all have ended."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            return await scope.join(seconds)
        finally:
            self.left = max(0.0, self.left - (clock() - begun))


class Serving(Dispatch):
    """The part of an app that starts and stops."""

    _singletons: Singletons | None = None

    async def startup(self) -> None:
        """Start the hub, then run what is to run before the first request; undone if any of it fails."""
        self._open_doors()
        errand = "the hub's start"
        try:
            await self.hub.start()  # on memory:// too: threads publish through the loop it runs in
            async with self.app_context() as context:
                for func in self.before_serving_funcs:
                    context.errand = errand = f"before_serving {_name(func)!r}"
                    await self.ensure_async(func)()
                for generator_function in self._while_serving_funcs:
                    context.errand = errand = f"while_serving {_name(generator_function)!r}"
                    generator = generator_function()
                    self.while_serving_gens.append(generator)
                    await anext(generator)
            if self._singletons is not None:
                errand = "the start of singleton tasks"
                self._singletons.start()
        except Exception as error:
            await self._serving_failed(error, errand)
            await self._stop_serving()
            raise

    async def shutdown(self) -> None:
        """Tell open connections, wait for background tasks, run what is to run after the last request, stop the hub.

        Everything is run whatever fails, and every failure logged; the first is raised in the end.
        """
        self.shutdown_event.set()
        errors = await self._stop_serving()
        if errors:
            raise errors[0]

    async def _stop_serving(self) -> list[Exception]:
        errors: list[Exception] = []

        async def attempt(errand: str, func: Callable[..., Awaitable[Any]], *args: Any) -> None:
            try:
                await func(*args)
            except Exception as error:  # the others must run too; shutdown raises it
                errors.append(error)
                await self._serving_failed(error, errand)

        patience = Patience(self.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"])
        async with self.app_context():
            if self._singletons is not None:
                await attempt("the end of singleton tasks", self._singletons.stop)
            await attempt("the end of long-polls", self.polls.close)
            await attempt("the end of background tasks", self._finish_background, patience)
            while self.while_serving_gens:
                generator = self.while_serving_gens.pop()
                await attempt(f"while_serving {_name(generator)!r}", _finish, generator)
            for func in self.after_serving_funcs:
                await attempt(f"after_serving {_name(func)!r}", self.ensure_async(func))
            await attempt(
                "the end of background tasks", self._finish_background, patience
            )  # those of the functions above
        await attempt("the hub's stop", self._stop_hub)
        return errors

    async def _stop_hub(self) -> None:
        if self._hub is not None:
            hub, self._hub = self._hub, None
            await hub.stop()

    async def _finish_background(self, patience: Patience) -> None:
        """Let background tasks end, saying so when they take their time, and cancel what is left.

        Those that come when nothing is left have a moment all the same: what runs at all begins, and cleans up.
        """
        scope = self._background  # tasks started meanwhile join it
        if scope is None:
            return
        left = patience.left
        if not await patience.join(scope, patience.moment):
            self.logger.info(
                "%s background %s %.200s: one that watches app.shutdown_event ends at once",
                f"waiting up to {round(left, 2):g} s for" if patience.left else "cancelling",
                "task" if len(scope) == 1 else "tasks",
                ", ".join(map(repr, scope.names)),
            )
            await patience.join(scope, patience.left)
        try:
            await scope.close()
        finally:
            self._background = None

    async def _serving_failed(self, error: Exception, errand: str) -> None:
        if got_serving_exception.receivers:
            await send(got_serving_exception, self, exception=error)
        context = self.app_context()
        context.errand = errand
        token = context.enter()  # for the log's sake alone: nothing is set up or torn down
        try:
            self.log_exception(exc_info_of(error))
        finally:
            context.leave(token)

    def add_background_task(self, func: AnyCallable, *args: Any, **kwargs: Any) -> None:
        """Run *func* in the app's context beside the requests.

        A plain function runs in a thread. An exception goes to :meth:`handle_background_exception`. At shutdown, once
        ``app.shutdown_event`` is set, it has ``BACKGROUND_TASK_SHUTDOWN_TIMEOUT`` to end; then it is cancelled, which
        runs its ``finally`` blocks.

        Raises:
            TypeError: *func* is no function, but perhaps what one returned.
        """
        _check_function(func)
        if self._background is None:
            self._background = TaskScope("background", on_error=lambda task, error: None)
        self._background.start(self._run_in_background(func, args, kwargs), name=_name(func))

    @property
    def background_tasks(self) -> frozenset[asyncio.Task[Any]]:
        """The background tasks that run."""
        return frozenset() if self._background is None else self._background.tasks

    @overload
    def singleton_task(self, func: F, /) -> F: ...
    @overload
    def singleton_task(
        self, func: None = None, /, *, name: str | None = None, lease: float = 15.0
    ) -> Callable[[F], F]: ...
    def singleton_task(self, func: Any = None, /, *, name: str | None = None, lease: float = 15.0) -> Any:
        """Have the decorated async function run on one of all workers at a time, from start-up to shut-down.

        The worker that runs it holds a lease on the broker; when it goes, another one runs the function, at once after
        a shutdown and after *lease* seconds at the latest after a death. It is cancelled when the lease is lost, as in
        an outage of the broker. When it returns it is not run again before its worker goes; when it raises, that goes
        to :meth:`handle_background_exception`, and it is run again after a pause, here or elsewhere: a second, doubled
        by each failure up to a minute, and a second again once a run has lasted a minute. What this promises, and where
        two may run for a moment, says :class:`samovar.broadcast.Lease`.

        Args:
            func: where it is used without arguments: ``@app.singleton_task``.
            name: of the lease, as a channel's; by default the app's and the function's, with a dot between.
            lease: seconds that others wait for a worker that vanished; up to 100.

        Raises:
            TypeError: the function is not async. ValueError: there is one of that name.
            InvalidChannel: the name.
        """

        def decorate(func: F) -> F:
            self._check_setup_finished("singleton_task")
            if self._singletons is None:
                self._singletons = Singletons(self)
            self._singletons.add(Singleton(func, name or f"{self.name}.{_name(func)}", lease))
            return func

        return decorate if func is None else decorate(func)

    async def _run_in_background(self, func: AnyCallable, args: Any, kwargs: Any) -> None:
        async with self.app_context() as context:
            context.errand = f"background task {_name(func)!r}"
            try:
                await self.ensure_async(func)(*args, **kwargs)
            except Exception as error:
                await self.handle_background_exception(error)

    async def handle_background_exception(self, error: Exception) -> None:
        """Log an exception of a background task, and send the signal."""
        if got_background_exception.receivers:
            await send(got_background_exception, self, exception=error)
        self.log_exception(exc_info_of(error))


def _check_function(func: Any) -> None:
    """Complain about a coroutine, which is closed, and whatever else cannot be called.

    Raises:
        TypeError: it is so.
    """
    if inspect.iscoroutine(func):
        func.close()
        raise TypeError(
            f"give the function, not what it returns: app.add_background_task({func.__name__}, …arguments)"
        )
    if not callable(func):
        raise TypeError(f"a background task is a function, not {type(func).__name__}")


def _name(func: Any) -> str:
    """What a log calls *func*."""
    func = getattr(func, "func", func)  # a functools.partial's
    return str(getattr(func, "__name__", None) or type(func).__name__)


async def _finish(generator: AsyncIterator[None]) -> None:
    """Let a ``while_serving`` generator run to its end."""
    try:
        await anext(generator)
    except StopAsyncIteration:
        return
    if inspect.isasyncgen(generator):
        await generator.aclose()
    raise RuntimeError("a while_serving function yields once")
