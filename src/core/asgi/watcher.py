"""Noticing that an HTTP client has gone while its view, or the body of its streamed response, still waits.

What is interrupted is the handler's own task: it is cancelled, and the cancellation is taken back when it arrives, as
:func:`asyncio.timeout` does. So a view or a generator sees CancelledError where it waits, and cleans up in its own task
and context.

A task for it costs as much as two or three small requests, and most waits are short (a query, a cache); so it is
started only when a view has waited for :data:`PATIENCE`.

There is one ``receive``, and who reads the body comes first. The watcher waits only for what nobody else is waiting
for: the word after the body's end, or a body that nobody has asked for. Its pieces are kept for a reader who comes
late, within the bounds of :mod:`.unread`, beyond which the client is watched no more; a reader who comes while the
watcher waits is given what arrives.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any

from ...tasks import Scope
from ..ctx import _current
from ..typing import ASGIMessage
from ..utils import drive
from .unread import Unread

if TYPE_CHECKING:
    from .http import HTTPHandler


PATIENCE = 0.05
"""Seconds from a view's first wait to its being watched."""


class Watcher:
    """Watches for the client's leaving, for one request; it has a task only while it waits.

    Args:
        handler: whose client is watched.
    """

    streaming: bool = False
    """A response is being streamed: then more of an unread body than its first piece is let go."""
    waiting: bool = False
    """The watcher is about to receive, or does."""
    dropped: bool = False
    """A part of the body was let go."""

    def __init__(self, handler: HTTPHandler) -> None:
        self._handler = handler
        self._scope = Scope("http")
        self._task: asyncio.Task[Any] | None = None
        self._interrupted = False
        self._readers = 0
        self._unread: Unread | None = None
        self._arrived: asyncio.Event | None = None
        self._watch_task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
        task = self._watch_task
        try:
            if task is not None and not task.done():
                task.cancel()
                await asyncio.sleep(0)  # its turn comes before ours, and that is nearly always its last
                if not task.done():
                    await self._scope.close()
        finally:
            if (
                self._unread or self.dropped
            ):  # who asks too late must not take what is missing for the body's end
                self._handler.body_read, self._handler.gone = False, True
            if self._unread is not None:
                self._unread.close()

    # --- the work ----------------------------------------------------------------------------------------------

    async def run_view(self, steps: Coroutine[Any, Any, None], waiting: Any) -> asyncio.CancelledError | None:
        """The rest of *steps*, a view and what follows it, whose first step was made and gave *waiting*.

        The view is watched while it waits for anything but the request's body; :meth:`end_work` is its end.

        Returns:
            The cancellation with which it ended because the client had gone.
        """
        return await self._run(drive(steps, waiting, self._at_wait))

    async def run_stream(self, work: Coroutine[Any, Any, None]) -> None:
        """Run *work*, which streams the response, until its end or an interruption: the client's leaving, as a rule."""
        await self._run(work)

    def watch_stream(self) -> None:
        """Watch from now on, and let go of a body that nobody has begun to read when the stream first waits.

        Called when the head is sent and the pieces begin: they cannot help it where the head has to wait.
        """
        self.streaming = True
        if self._unread is not None and self._unread.in_file:
            asyncio.get_running_loop().call_soon(self._let_go)
        self.start()

    async def _run(self, work: Awaitable[None]) -> asyncio.CancelledError | None:
        task = self._task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        try:
            await work
            return None
        except asyncio.CancelledError as error:
            if not self._interrupted or task.cancelling() > before + 1:
                raise  # the server's
            return error
        finally:
            self.end_work()

    def end_work(self) -> None:
        """The work is over, whether or not it let itself be interrupted: nothing is cancelled from now on."""
        task, self._task = self._task, None
        if self._interrupted and task is not None:
            self._interrupted = False
            task.uncancel()

    # --- watching ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Have a task watch, if none does; it begins when the handler first waits."""
        if not self.waiting:
            self.waiting = True
            overhear = self._handler.app.shutdown_event.overhear
            if overhear is not None:
                overhear(self._handler._send)
            self._watch_task = self._scope.start(self._watch(), name="watch")

    def _at_wait(self) -> None:
        if self._timer is None and not self.waiting and self._task is not None and self._free:
            # Without the request: a timer that is cancelled may keep its context until its time has come. With all
            # else: a middleware's receive() looks for the variables that the middleware has set.
            context = contextvars.copy_context()
            context.run(_current.set, None)  # type: ignore[arg-type]  # as if there were none
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(PATIENCE, self._start_if_needed, context=context)

    def _start_if_needed(self) -> None:
        self._timer = None
        if self._task is not None and self._free:
            self.start()

    @property
    def _free(self) -> bool:
        """Nobody else needs the client's next word."""
        handler = self._handler
        if handler.gone or handler.body_read:
            return not handler.gone
        if handler.body_begun:
            return False
        unread = self._unread
        return self.streaming or ((unread is None or unread.has_room) and not self._client_holds_back())

    def _client_holds_back(self) -> bool:
        """It expects "100 Continue" before it sends a body: to receive would be to ask for it, on nobody's behalf."""
        return any(name == b"expect" for name, _ in self._handler.scope["headers"])

    async def _watch(self) -> None:
        try:
            while self._free and self._take(await self._handler.receive()):
                pass
        finally:
            self.waiting = False
            self._wake_readers()

    def _take(self, message: ASGIMessage) -> bool:
        """Take in what came; tell whether to go on."""
        handler = self._handler
        if message["type"] == "http.disconnect":
            handler.gone = True
            if self._readers:
                handler.first_piece = message  # they raise ClientDisconnected
            else:
                self.interrupt()
            return False
        if handler.body_read:
            return False  # a server that repeats itself will not tell us of the client's leaving either
        more = bool(message.get("more_body", False))
        handler.body_read = not more
        if self.streaming and (more or self._unread or self.dropped):
            self._let_go()
        if not self.dropped:
            if self._unread is None and (more or message.get("body")):
                self._unread = Unread(handler.app.config["MAX_CONTENT_LENGTH"])
            if self._unread is not None:
                self._unread.add(message)  # for a reader who comes
            self._wake_readers()
        return True

    def _let_go(self) -> None:
        """Drop what came of a body that is not being read, and what will come."""
        if not self._handler.body_begun:
            self.dropped = True
            if self._unread is not None:
                self._unread.close()

    def interrupt(self) -> None:
        """End the work where it waits, if it goes on."""
        if self._task is not None and not self._interrupted:
            self._interrupted = True
            self._task.cancel()

    # --- readers of the body -----------------------------------------------------------------------------------

    async def arrival(self) -> None:
        """Where the watcher waits for the body's next piece, wait for it too; else the reader may receive by itself.

        Raises:
            RuntimeError: it is too late: a part of the body was let go.
        """
        if self.dropped:
            raise RuntimeError(
                "the request's body was let go when the streamed response first waited: read it in the view, or begin "
                "reading before the stream waits for anything else"
            )
        if self.waiting and not (self._handler.body_read or self._unread):
            self._readers += 1
            arrived = self._arrived = self._arrived or asyncio.Event()
            try:
                await arrived.wait()
            finally:
                self._readers -= 1
        if self._unread and self._handler.first_piece is None:
            self._handler.first_piece = self._unread.take()

    def _wake_readers(self) -> None:
        arrived, self._arrived = self._arrived, None
        if arrived is not None:
            arrived.set()
