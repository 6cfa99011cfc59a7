"""The server's side of the ASGI lifespan, for what runs an app: ``samovar run`` and the test kit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from ...errors import LifespanError
from ...tasks import Scope

ASGIApp = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

GRACE = 1.0  # seconds an app has to return after it said that it failed


class _NoLifespan(LifespanError):
    """The app ended instead of answering: it may not know what a lifespan is."""


class Lifespan:
    """Runs an app's lifespan: ``async with Lifespan(app) as lifespan``.

    The app's lifespan runs in one task of its own scope, from start-up to shut-down, so that context variables and
    async generators of the app live in one place.

    Args:
        app: any ASGI callable that takes the lifespan scope.
        startup_timeout: how long start-up may take, in seconds.
        shutdown_timeout: how long shut-down may take, in seconds.
        hosted: tell a Samovar app that its host warns it in time of the end. False for an app inside another: it then
            listens for the signals itself.
        optional: an app that raises or returns instead of answering has no lifespan, which is no error.

    Attributes:
        state: the namespace the app may fill at start-up; each connection gets a shallow copy of it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        startup_timeout: float = 60.0,
        shutdown_timeout: float = 60.0,
        hosted: bool = True,
        optional: bool = False,
    ) -> None:
        self.state: dict[str, Any] = {}
        self._hosted = hosted
        self._optional = optional
        self._app = app
        self._startup_timeout = startup_timeout
        self._shutdown_timeout = shutdown_timeout
        self._scope = Scope("lifespan", on_error=self._failed)
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._asked = asyncio.Semaphore(0)
        self._requests = iter(("lifespan.startup", "lifespan.shutdown"))

    async def startup(self) -> None:
        """Start the app.

        An app that has no lifespan is left alone where that was allowed.

        Raises:
            LifespanError: it failed or took too long; the cause is chained.
        """
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
            "extensions": {"samovar": {}} if self._hosted else {},  # we are the host: see LifespanHandler
        }
        self._task = self._scope.start(self._run(scope), name="app")
        try:
            await self._ask(self._task, "start-up", self._startup_timeout)
        except BaseException as error:
            self._task = None
            await self._scope.close()
            if not (self._optional and isinstance(error, _NoLifespan)):
                raise

    async def shutdown(self) -> None:
        """Stop the app and end its task; a second call does nothing.

        Raises:
            LifespanError: it failed or took too long; the cause is chained.
        """
        if self._task is None:
            return
        task, self._task = self._task, None
        try:
            if task.done():
                raise LifespanError("the app left its lifespan before it was shut down") from self._error
            await self._ask(task, "shut-down", self._shutdown_timeout)
            await self._scope.join(self._shutdown_timeout)
        finally:
            await self._scope.close()

    async def _run(self, scope: dict[str, Any]) -> None:
        await self._app(scope, self._receive, self._send)

    def _failed(self, task: asyncio.Task[Any], error: BaseException) -> None:
        self._error = error

    async def _receive(self) -> dict[str, Any]:
        await self._asked.acquire()
        return {"type": next(self._requests)}

    async def _send(self, message: dict[str, Any]) -> None:
        if self._answer is None or self._answer.done():
            raise RuntimeError(f"unexpected ASGI message {message['type']!r}: nothing was asked")
        self._answer.set_result(message)

    async def _ask(self, task: asyncio.Task[None], what: str, timeout: float) -> None:
        """Let the app read its next request and wait for the answer, or for the app to end without one."""
        self._answer = asyncio.get_running_loop().create_future()
        self._asked.release()
        waits: set[asyncio.Future[Any]] = {self._answer, task}
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._answer.done():
            await self._check(what, self._answer.result())
            return
        self._answer.cancel()
        await asyncio.sleep(0)  # lets the scope report the error of a task that has just ended
        if task.done():
            raise _NoLifespan(f"{what} of the app failed: {self._error!r}") from self._error
        raise LifespanError(f"{what} of the app took longer than {timeout:g} s")

    async def _check(self, what: str, message: dict[str, Any]) -> None:
        if not message["type"].endswith(".failed"):
            return
        await self._scope.join(GRACE)  # an app may raise what went wrong after it said so: the better cause
        told = (message.get("message") or "the app gave no reason").strip()
        error = LifespanError(f"{what} of the app failed: {told.splitlines()[-1]}")
        if "\n" in told:
            error.add_note(told)  # a traceback, as a rule
        raise error from self._error

    async def __aenter__(self) -> Self:
        await self.startup()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()
