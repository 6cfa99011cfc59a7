"""One HTTP request: from the server's messages to a response, and back.

::

    receive ─► Request ─► app.handle_request ─► Response ─► send
               context entered                  context left, after the last byte

A buffered answer is two sends; no task is started and no timer armed for it unless something really waits. A streamed
answer runs in the same task and context, with a watcher on ``receive`` that ends it when the client goes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import ClientDisconnected

from ...tasks import Scope as TaskScope
from ..typing import ASGIMessage, ASGIReceive, ASGISend, Scope
from ..utils import finish_within, within

if TYPE_CHECKING:
    from ..app import Samovar
    from ..wrappers.response import RawHeaders, Response

logger = logging.getLogger("samovar.http")


class WriteError(Exception):
    """A piece of a streamed response could not be written; the body's own TimeoutError or OSError is another thing."""


class HTTPHandler:
    """Serves one HTTP scope; it is also the source of the request's body.

    Args:
        app: the application.
        scope: the ASGI connection scope.
    """

    gone = False
    """The client has left."""
    body_begun = False
    """Somebody reads the body."""
    body_read = False
    """The body's end has come."""
    _stash: ASGIMessage | None = None
    _watcher: StreamWatcher | None = None

    def __init__(self, app: Samovar, scope: Scope) -> None:
        self.app = app
        self.scope = scope

    async def __call__(self, receive: ASGIReceive, send: ASGISend) -> None:
        self._receive = receive
        self._send = send
        app = self.app
        request = app.request_class(self.scope, self)
        context = app.request_context(request)
        token = context.push()
        error: BaseException | None = None
        try:
            await self._respond(await app.handle_request(request))
        except BaseException as raised:
            error = raised
            raise
        finally:
            try:
                if app.context_has_exit_work(context):
                    await app.tear_down(context, error if error is not None else context.error)
            finally:
                context.leave(token)

    # --- the request's body ------------------------------------------------------------------------------------

    async def read(self) -> tuple[bytes, bool]:
        """The body's next piece, and whether more follow.

        Raises:
            ClientDisconnected: the client went before the end.
            RuntimeError: it is too late: a streamed response is under way and the body was let go.
        """
        self.body_begun = True
        message, self._stash = self._stash, None
        if message is None:
            if self.body_read:
                return b"", False
            if self._watcher is not None:
                self._watcher.check_body_is_free()
            message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            raise ClientDisconnected()
        more = bool(message.get("more_body", False))
        if not more:
            self.body_read = True
            if self._watcher is not None:
                self._watcher.start()
        return message.get("body", b""), more

    async def next_unread(self) -> bool:
        """Wait for what the client does while nobody reads the body; False when it has gone.

        A body that comes in one piece is kept for a reader who comes late; a longer one is let go.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            return False
        if not self.body_begun and not self.body_read and not message.get("more_body", False):
            self._stash = message
            self.body_read = True
        return True

    async def push(self, path: str, headers: RawHeaders) -> None:
        """Promise *path* to the client."""
        await self._send({"type": "http.response.push", "path": path, "headers": headers})

    # --- the response ------------------------------------------------------------------------------------------

    async def _respond(self, response: Response) -> None:
        data = response.buffered
        status = response.status_code
        try:
            headers = response.raw_headers()
        except UnicodeEncodeError as error:  # a header that HTTP cannot carry: an error like one of the view
            await response.close()
            response = await self.app.handle_exception(error)
            data, status, headers = response.buffered, response.status_code, response.raw_headers()
        timeout: Any = response.timeout
        if timeout is ...:
            timeout = self.app.config["RESPONSE_TIMEOUT"]
        if (
            status < 200 or status == 204 or status == 304
        ):  # no body, nor its length (RFC 9110, 6.4.1 and 8.6)
            await response.close()
            data, headers = b"", [pair for pair in headers if pair[0] != b"content-length"]
        elif self.scope["method"] == "HEAD":
            await response.close()
            data = b""
        if data is None:
            await self._stream(response, status, headers, timeout)
            return
        sending = self._send_whole(status, headers, data)
        try:
            waiting = sending.send(None)  # most often the server takes both at once, and this is all
            await finish_within(sending, waiting, timeout)
        except StopIteration:
            return
        except TimeoutError:
            self._log_dropped(f"the client took no data for {timeout} s")
        except OSError:
            logger.debug("%s %r: the client went before the answer", self.scope["method"], self.scope["path"])

    async def _send_whole(self, status: int, headers: RawHeaders, data: bytes) -> None:
        """The two messages of a buffered answer."""
        send = self._send
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    async def _stream(
        self, response: Response, status: int, headers: RawHeaders, timeout: float | None
    ) -> None:
        """Send the pieces as they come; end when the client goes.

        An error after the head cannot become a 500: it is logged and the answer left unfinished, so that the server
        drops the connection, which the client can tell from an end (RFC 9112, 8).
        """
        async with TaskScope("http") as tasks:
            self._watcher = watcher = StreamWatcher(self, tasks)
            try:
                await watcher.run(self._send_pieces(response, status, headers, timeout))
            except WriteError as error:
                self._log_dropped(str(error))
            except Exception as error:
                if not self.gone:
                    await self.app.handle_stream_exception(error)
            finally:
                self._watcher = None
                await response.close()

    async def _send_pieces(
        self, response: Response, status: int, headers: RawHeaders, timeout: float | None
    ) -> None:
        await self._write({"type": "http.response.start", "status": status, "headers": headers}, timeout)
        # Some servers keep the head until the first body message (Hypercorn does).
        await self._write({"type": "http.response.body", "body": b"", "more_body": True}, timeout)
        async with response.response as pieces:
            async for piece in pieces:
                if self.gone:
                    return
                if piece:
                    await self._write(
                        {"type": "http.response.body", "body": piece, "more_body": True}, timeout
                    )
        await self._write({"type": "http.response.body", "body": b""}, timeout)

    async def _write(self, message: ASGIMessage, timeout: float | None) -> None:
        """Send one message.

        Raises:
            WriteError: the client takes nothing, or the connection broke.
        """
        try:
            await within(self._send(message), timeout)
        except TimeoutError as error:
            raise WriteError(f"the client took no data for {timeout} s") from error
        except OSError as error:
            raise WriteError(f"the connection broke: {error}") from error

    def _log_dropped(self, why: str) -> None:
        method, path = self.scope["method"], self.scope["path"]
        logger.warning("%s %r: %s; the connection is dropped", method, path, why)


class StreamWatcher:
    """Watches for the client's leaving while a response is streamed, and interrupts the stream then.

    The interruption is a cancellation of the handler's own task, taken back when it arrives, as asyncio.timeout does;
    so a generator sees CancelledError where it waits, and cleans up in its own task and context.

    The watcher shares ``receive`` with the reader of the body: while the body is being read it keeps out of the way.

    Args:
        handler: whose client is watched.
        tasks: where the watcher's task lives.
    """

    def __init__(self, handler: HTTPHandler, tasks: TaskScope) -> None:
        self._handler = handler
        self._tasks = tasks
        self._watching = False
        self._interrupted = False
        self._task: asyncio.Task[Any] | None = None

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run *work* until its end or the client's leaving."""
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        self._task = task
        self.start()
        try:
            await work
        except asyncio.CancelledError:
            if not (self._interrupted and task.uncancel() <= before):
                raise
        finally:
            self._task = None

    def start(self) -> None:
        """Have a task watch; it begins when the handler first waits."""
        self._tasks.start(self._watch(), name="watch")

    def check_body_is_free(self) -> None:
        """Complain when the watcher waits for the client's next word already.

        Raises:
            RuntimeError: it does.
        """
        if self._watching:
            raise RuntimeError(
                "the request's body was let go when the streamed response first waited: read it in the view, or begin "
                "reading before the stream waits for anything else"
            )

    async def _watch(self) -> None:
        handler = self._handler
        if handler.body_begun and not handler.body_read:
            return  # the reader sees the client leave, and has us started again at the body's end
        self._watching = True
        while await handler.next_unread():
            pass
        if self._task is not None:
            self._interrupted = True
            self._task.cancel()
