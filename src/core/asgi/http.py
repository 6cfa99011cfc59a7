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
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import ClientDisconnected

from ...tasks import Scope as TaskScope
from ..typing import ASGIMessage, ASGIReceive, ASGISend, Scope
from ..utils import within

if TYPE_CHECKING:
    from ..app import Samovar
    from ..wrappers.response import RawHeaders, Response

logger = logging.getLogger("samovar.http")

NO_BODY = frozenset({204, 304})  # and 1xx (RFC 9110, 6.4.1)


class HTTPHandler:
    """Serves one HTTP scope; it is also the source of the request's body.

    Args:
        app: the application.
        scope: the ASGI connection scope.
    """

    __slots__ = (
        "_disconnected",
        "_gone",
        "_read_all",
        "_reading",
        "_receive",
        "_send",
        "_stash",
        "_streaming",
        "app",
        "scope",
    )

    def __init__(self, app: Samovar, scope: Scope) -> None:
        self.app = app
        self.scope = scope

    async def __call__(self, receive: ASGIReceive, send: ASGISend) -> None:
        self._receive = receive
        self._send = send
        self._read_all = self._reading = self._gone = False
        self._stash: ASGIMessage | None = None
        self._streaming: _Streaming | None = None
        app = self.app
        context = app.request_context(app.request_class(self.scope, self))
        token = context.push()
        error: BaseException | None = None
        try:
            if app.context_has_entry_work:
                await app.context_entered(context)
            assert context.request is not None
            response = await app.handle_request(context.request)
            await self._respond(response)
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
            RuntimeError: a streamed response has begun before the body was read.
        """
        self._reading = True
        message = self._stash
        if message is None:
            if self._read_all:
                return b"", False
            if self._streaming is not None:
                self._streaming.must_not_watch()
            message = await self._receive()
        self._stash = None
        if message["type"] == "http.disconnect":
            self._gone = True
            raise ClientDisconnected()
        more = bool(message.get("more_body", False))
        if not more:
            self._read_all = True
            if self._streaming is not None:
                self._streaming.watch()
        return message.get("body", b""), more

    async def push(self, path: str, headers: RawHeaders) -> None:
        """Promise *path* to the client."""
        await self._send({"type": "http.response.push", "path": path, "headers": headers})

    # --- the response ------------------------------------------------------------------------------------------

    async def _respond(self, response: Response) -> None:
        data = response.buffered
        status = response.status_code
        headers = response.raw_headers()
        timeout: Any = response.timeout
        if timeout is ...:
            timeout = self.app.config["RESPONSE_TIMEOUT"]
        if status in NO_BODY or status < 200 or self.scope["method"] == "HEAD":
            await response.close()
            data = b""
            if status in NO_BODY or status < 200:
                headers = [
                    pair for pair in headers if pair[0] not in (b"content-length", b"transfer-encoding")
                ]
        if data is None:
            await self._stream(response, status, headers, timeout)
            return
        send = self._send
        try:
            await within(send({"type": "http.response.start", "status": status, "headers": headers}), timeout)
            await within(send({"type": "http.response.body", "body": data}), timeout)
        except TimeoutError:
            logger.warning("%s: the client took no data for %s s: connection dropped", self._name(), timeout)
        except OSError:
            logger.debug("%s: the client went before the answer", self._name())

    async def _stream(
        self, response: Response, status: int, headers: RawHeaders, timeout: float | None
    ) -> None:
        """Send the pieces as they come; end when the client goes.

        An error after the head cannot become a 500: it is logged and the connection dropped, which the client can tell
        from an end (RFC 9112, 8).
        """
        if self._gone:
            await response.close()
            return
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        # Some servers keep the head until the first body message (Hypercorn does).
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})
        async with TaskScope("http") as tasks:
            self._streaming = streaming = _Streaming(self, tasks)
            try:
                async with response.response as pieces:
                    await streaming.run(self._send_pieces(pieces, timeout))
            except TimeoutError as error:
                self._drop(error, f"the client took no data for {timeout} s")
            except OSError as error:
                self._drop(error, "the connection broke")
            except Exception as error:
                if not self._gone:
                    await self.app.handle_stream_exception(error)
            else:
                if not streaming.ended_by_disconnect:
                    await self._send({"type": "http.response.body", "body": b""})
            finally:
                self._streaming = None

    async def _send_pieces(self, pieces: AsyncIterable[bytes], timeout: float | None) -> None:
        send = self._send
        async for piece in pieces:
            if piece:
                await within(send({"type": "http.response.body", "body": piece, "more_body": True}), timeout)

    def _drop(self, error: Exception, why: str) -> None:
        logger.warning("%s: %s: connection dropped", self._name(), why)

    def _name(self) -> str:
        return f"{self.scope['method']} {self.scope['path']!r}"


class _Streaming:
    """Watches for the client's leaving while a response is streamed, and interrupts the stream then.

    The interruption is a cancellation of the handler's own task, taken back when it arrives, as asyncio.timeout does; so
    a generator sees CancelledError where it waits and runs its clean-up in its own task and context.

    The watcher shares ``receive`` with the reading of the body: while the body is being read it keeps out of the way.
    """

    def __init__(self, handler: HTTPHandler, tasks: TaskScope) -> None:
        self._handler = handler
        self._tasks = tasks
        self._watcher: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._before = 0
        self.ended_by_disconnect = False

    async def run(self, work: Any) -> None:
        """Run *work* until its end or the client's."""
        task = asyncio.current_task()
        assert task is not None
        self._before = task.cancelling()
        self._task = task
        self.watch()
        try:
            await work
        except asyncio.CancelledError:
            if not (self.ended_by_disconnect and task.uncancel() <= self._before):
                raise
        finally:
            self._task = None

    def watch(self) -> None:
        """Start watching, unless somebody does."""
        if self._watcher is None and self._task is not None:
            self._watcher = self._tasks.start(self._watch(), name="watch")

    def must_not_watch(self) -> None:
        """The body is going to be read now.

        Raises:
            RuntimeError: it is too late for that.
        """
        if self._watcher is not None and not self._watcher.done() and self._watching:
            raise RuntimeError(
                "the request's body was not read before the streamed response began: read it in the view, or begin "
                "reading it before the stream first waits"
            )

    _watching = False

    async def _watch(self) -> None:
        handler = self._handler
        if handler._reading and not handler._read_all:
            self._watcher = None  # the reader sees the client leave; at the body's end it has us called again
            return
        self._watching = True
        while True:
            message = await handler._receive()
            if message["type"] == "http.disconnect":
                break
            if not handler._reading and not message.get("more_body", False):
                handler._stash = message  # a small body: kept for a reader who comes late
                handler._read_all = True
        handler._gone = True
        if self._task is not None:
            self.ended_by_disconnect = True
            self._task.cancel()
