"""The server's side of one ASGI connection, for tests.

An :class:`Exchange` runs the app in a task of its own scope and hands messages over in both directions. Both
directions are bounded by ``window``: an app that sends more than the test reads waits in ``send()``, as it would on
a full socket, and a test that sends more than the app reads waits too. Every wait of the test's side has a time
limit, so a test can fail but never hang.

After :meth:`Exchange.end` the app reads what is still queued and then the end message, as often as it asks; what it
sends is dropped without an error, as Hypercorn does (uvicorn raises on some of them).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import groupby
from typing import Any, Self

from ...tasks import Scope

ASGIMessage = MutableMapping[str, Any]
ASGIReceive = Callable[[], Awaitable[Any]]
ASGISend = Callable[[Any], Awaitable[None]]
ASGIApp = Callable[[Any, ASGIReceive, ASGISend], Awaitable[None]]

TIMEOUT = 5.0  # seconds; every wait of a test, unless told otherwise
WINDOW = 1024  # messages that may wait unread in one direction
REMEMBERED = 12  # runs of messages that an error message tells


class AppReturned(Exception):
    """Internal: the app is over and everything it sent has been read."""


class Exchange:
    """Runs one ASGI call and exchanges messages with it.

    Args:
        app: any ASGI callable.
        scope: the connection scope it is called with.
        label: how errors name the connection, for example ``GET /prices``.
        timeout: the limit of a wait, in seconds, where a call gives none.
        window: how many messages may wait unread in each direction.
        on_send: called with each message of the app before it is queued; raises where a server would.
    """

    def __init__(
        self,
        app: ASGIApp,
        scope: dict[str, Any],
        *,
        label: str,
        timeout: float = TIMEOUT,
        window: int = WINDOW,
        on_send: Callable[[ASGIMessage], None] = lambda message: None,
    ) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1 message, not {window}")
        self.scope = scope
        self.label = label
        self.timeout = timeout
        self.window = window
        self.returned: bool = False
        self.gone: bool = False  # the test's side left: nothing more is delivered to it
        self.last: ASGIMessage | None = None
        self.unread: deque[ASGIMessage] = deque()  # the app's, for the test; at most window
        self._app = app
        self._on_send = on_send
        self._incoming: deque[ASGIMessage] = deque()  # the test's, for the app; at most window
        self._changed = asyncio.Event()
        self._error: BaseException | None = None
        self._told = False
        self._seen: deque[str] = deque(maxlen=200)
        self._scope = Scope(f"test {label}", on_error=self._failed, deadline=timeout)

    def __repr__(self) -> str:
        return f"<Exchange {self.label}: {self.story()}>"

    # -- the app's side

    def start(self) -> Self:
        """Start the app's task."""
        task = self._scope.start(self._run(), name="app")
        task.add_done_callback(self._over)
        return self

    async def _run(self) -> None:
        await self._app(self.scope, self._receive, self._send)

    def _failed(self, task: asyncio.Task[Any], error: BaseException) -> None:
        self._error = error

    def _over(self, task: asyncio.Task[Any]) -> None:
        self.returned = True
        self._changed.set()

    async def _receive(self) -> ASGIMessage:
        await self._until(lambda: bool(self._incoming) or self.last is not None)
        message = self._incoming.popleft() if self._incoming else self.last
        assert message is not None
        self._changed.set()
        return message

    async def _send(self, message: ASGIMessage) -> None:
        if self.gone:
            return
        self._on_send(message)
        await self._until(lambda: self.gone or len(self.unread) < self.window)
        if not self.gone:
            self.unread.append(message)
            self._seen.append(str(message.get("type")))
            self._changed.set()

    # -- the test's side

    async def put(self, message: ASGIMessage, timeout: float | None = None) -> None:
        """Queue *message* for the app's ``receive()``.

        Raises:
            TimeoutError: the app left ``window`` messages unread for *timeout* seconds.
            BaseException: what the app raised, when it is over.
        """
        await self.wait(
            f"room for {message['type']} (the app reads too little)",
            lambda: self.returned or len(self._incoming) < self.window,
            timeout,
        )
        self.raise_error()
        if self.returned:
            raise AppReturned
        self._incoming.append(message)
        self._changed.set()

    async def get(self, what: str, timeout: float | None = None) -> ASGIMessage:
        """Return the next message that the app sent.

        Raises:
            AppReturned: the app returned and everything has been read.
            BaseException: what the app raised, after everything it had sent was read.
            TimeoutError: nothing came within *timeout* seconds; the message tells what had come before.
        """
        await self.wait(what, lambda: bool(self.unread) or self.returned, timeout)
        if not self.unread:
            self.raise_error()
            raise AppReturned
        message = self.unread.popleft()
        self._changed.set()
        return message

    def end(self, message: ASGIMessage) -> None:
        """Let the app's ``receive()`` give *message* from now on, behind what is queued; the first call wins."""
        if self.last is None:
            self.last = message
            self._changed.set()

    def leave(self, message: ASGIMessage) -> None:
        """Go, as a client that vanishes: the app reads *message*, and what it sends is dropped."""
        self.gone = True
        self.end(message)
        self._changed.set()

    async def wait(self, what: str, condition: Callable[[], bool], timeout: float | None = None) -> None:
        """Wait until *condition* holds; it is asked again after every message in either direction.

        Raises:
            TimeoutError: it did not within *timeout* seconds (default: the exchange's).
        """
        limit = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(limit):
                await self._until(condition)
        except TimeoutError:
            raise TimeoutError(
                f"{self.label}: waited {round(limit, 2):g} s for {what}; {self.story()}"
            ) from None

    def countdown(self, timeout: float | None = None) -> Callable[[], float]:
        """Start a time limit for several waits together; the returned function says what is left, in seconds."""
        clock = asyncio.get_running_loop().time
        end = clock() + (self.timeout if timeout is None else timeout)
        return lambda: max(0.0, end - clock())

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def story(self) -> str:
        """Say what the app has sent so far and whether it is still running."""
        runs = [(kind, sum(1 for _ in run)) for kind, run in groupby(self._seen)][-REMEMBERED:]
        told = ", ".join(kind if count == 1 else f"{kind} x{count}" for kind, count in runs)
        state = "has returned" if self.returned else "is still running"
        return f"the app had sent {told or 'nothing'} and {state}"

    def raise_error(self) -> None:
        """Raise what the app raised, if it did; it then counts as told."""
        if self._error is not None:
            self._told = True
            raise self._error

    async def close(self, message: ASGIMessage) -> None:
        """Leave with *message*, wait for the app to return, and end its task in any case; idempotent.

        Raises:
            TimeoutError: the app went on for ``timeout`` seconds; it has been cancelled.
            BaseException: what the app raised, unless an earlier call raised it already.
        """
        self.leave(message)
        try:
            if len(self._scope):
                await self.wait(f"the app to return after {message['type']}", lambda: self.returned)
        finally:
            await self._scope.close()
        if not self._told:
            self.raise_error()
