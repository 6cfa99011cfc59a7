"""One HTTP request: from the server's messages to a response, and back.

::

    receive ─► Request ─► app.handle_request ─► Response ─► send
               context entered                  context left, after the last byte

A buffered answer is two sends; no task is started and no timer armed for it unless something really waits. A view that
waits for something else than its request's body is watched from then on: it is cancelled when the client goes. A
streamed answer runs in the same task and context, and is ended in the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Coroutine
from contextvars import Token
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import ClientDisconnected

from ..ctx import Context, _current
from ..realtime.own import LAST_WORD, OwnStream, own_stream
from ..typing import ASGIMessage, ASGIReceive, ASGISend, Scope
from ..utils import drive, finish_within, within
from .watcher import Watcher

if TYPE_CHECKING:
    from ..app import Samovar
    from ..wrappers.request import Request
    from ..wrappers.response import RawHeaders, Response

logger: logging.Logger = logging.getLogger("samovar.http")


class WriteError(Exception):
    """A piece of a streamed response could not be written; the body's own TimeoutError or OSError is another thing."""


class HTTPHandler:
    """Serves one HTTP scope; it is also the source of the request's body.

    Args:
        app: the application.
        scope: the ASGI connection scope.
    """

    gone: bool = False
    """The client has left."""
    body_begun: bool = False
    """Somebody reads the body."""
    body_read: bool = False
    """The body's end has come."""
    first_piece: ASGIMessage | None = None
    """What came before anybody read the body."""
    receive: ASGIReceive
    """The server's, shared by the reader of the body and the watcher."""
    token: Token[Context] | None = None
    """Takes the context back; None once that is done."""
    _watcher: Watcher | None = None
    _write_timeout: Any = ...
    """For a buffered answer's two messages, in seconds or None, from when they are sent."""

    def __init__(self, app: Samovar, scope: Scope) -> None:
        self.app = app
        self.scope = scope

    async def __call__(self, receive: ASGIReceive, send: ASGISend) -> None:
        self.receive = receive
        self._send = send
        app = self.app
        request = app.request_class(self.scope, self)
        context = app.request_context(request)
        self.token = _current.set(context)  # as context.push() does
        error: BaseException | None = None
        try:
            app.match_request(context)
            serving = self._serve(request)
            try:
                waiting = serving.send(None)
            except StopIteration:
                pass
            else:
                await self._go_on(serving, waiting, context)
        except BaseException as raised:
            error = raised
            raise
        finally:
            try:
                if app.context_has_exit_work(context):
                    self.enter_again(context)
                    await app.tear_down(context, context.error if error is None else error)
            finally:
                self.leave_context()
                await self.stop_watching()

    def leave_context(self) -> None:
        """Make the request's context the current one no more; idempotent.

        Done before a whole answer is sent: a server may arm its timer for the next request while it sends, with the
        context variables as they are, and would hold the request until then.
        """
        token, self.token = self.token, None
        if token is not None:
            _current.reset(token)

    def enter_again(self, context: Context) -> None:
        """Make it the current one again, for what is to be torn down."""
        if self.token is None:
            self.token = _current.set(context)

    async def stop_watching(self) -> None:
        """End the watcher, if there is one."""
        # Each holds the other: a cycle would wait for the collector.
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            await watcher.close()

    async def _serve(self, request: Request) -> None:
        """The view, and the sending of its answer, unless there is nobody any more."""
        await self.deliver(await self.app.handle_request(request))

    async def deliver(self, response: Response) -> None:
        """Send *response*, unless there is nobody any more."""
        if self._watcher is not None:
            self._watcher.end_work()
        if self.gone:
            await response.close()
        else:
            await self._respond(response)

    async def _go_on(self, serving: Coroutine[Any, Any, None], waiting: Any, context: Context) -> None:
        """The rest of :meth:`_serve`, whose first step was made and gave *waiting*: it suspended after all."""
        if self._watcher is not None:  # in a streamed response
            await drive(serving, waiting)
        elif self._write_timeout is not ...:
            await self._whole_within(
                finish_within(serving, waiting, self._write_timeout), self._write_timeout
            )
        else:
            watcher = self._watcher = Watcher(self)
            interruption = await watcher.run_view(serving, waiting)
            if interruption is not None:
                context.error = interruption
                self._log_gone()

    # --- the request's body ------------------------------------------------------------------------------------

    async def read(self) -> tuple[bytes, bool]:
        """The body's next piece, and whether more follow.

        Raises:
            ClientDisconnected: the client went before the end.
            RuntimeError: it is too late: a streamed response is under way and the body was let go.
        """
        self.body_begun = True
        watcher = self._watcher
        if watcher is not None:
            await watcher.arrival()
        message, self.first_piece = self.first_piece, None
        if message is None:
            if self.body_read:
                return b"", False
            if self.gone:
                raise ClientDisconnected()
            message = await self.receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            raise ClientDisconnected()
        more = bool(message.get("more_body", False))
        if not more:
            self.body_read = True
            if watcher is not None and watcher.streaming:
                watcher.start()
        return message.get("body", b""), more

    async def push(self, path: str, headers: RawHeaders) -> None:
        """Promise *path* to the client."""
        await self._send({"type": "http.response.push", "path": path, "headers": headers})

    # --- the response ------------------------------------------------------------------------------------------

    async def _respond(self, response: Response) -> None:
        data = response.buffered
        status = response.status_code
        own: OwnStream | None = None
        try:
            headers = response.raw_headers()  # there are headers that HTTP cannot carry
            if data is None:
                own = await own_stream(self.app, response)
        except Exception as error:  # an error like one of the view
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
            await self._stream(response, status, headers, timeout, own)
            return
        sending = self._send_whole(status, headers, data)
        if self._watcher is not None:
            await self._whole_within(within(sending, timeout), timeout)
            return
        self._write_timeout = timeout
        await sending

    async def _send_whole(self, status: int, headers: RawHeaders, data: bytes) -> None:
        """The two messages of a buffered answer."""
        self.leave_context()
        send = self._send
        try:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": data})
        except OSError:
            self._log_gone()

    async def _whole_within(self, sending: Awaitable[None], timeout: float | None) -> None:
        try:
            await sending
        except TimeoutError:
            self._log_dropped(f"the client took no data for {timeout} s")

    async def _stream(
        self,
        response: Response,
        status: int,
        headers: RawHeaders,
        timeout: float | None,
        own: OwnStream | None,
    ) -> None:
        """Send the pieces as they come; end when the client goes, or is sent away.

        An error after the head cannot become a 500: it is logged and the answer left unfinished, so that the server
        drops the connection, which the client can tell from an end (RFC 9112, 8).
        """
        watcher = self._watcher = self._watcher or Watcher(self)
        try:
            await watcher.run_stream(self._send_pieces(response, status, headers, timeout, own))
            if own is not None and own.over and not self.gone:
                await self._write_end(own.last_word, LAST_WORD)
        except WriteError as error:
            self._log_dropped(str(error))
        except Exception as error:
            if not self.gone:
                await self.app.handle_stream_exception(error)
        finally:
            if own is not None:
                own.close()
            await response.close()

    async def _send_pieces(
        self,
        response: Response,
        status: int,
        headers: RawHeaders,
        timeout: float | None,
        own: OwnStream | None,
    ) -> None:
        watcher = self._watcher
        assert watcher is not None
        await self._write({"type": "http.response.start", "status": status, "headers": headers}, timeout)
        # Some servers keep the head until the first body message (Hypercorn does).
        await self._write({"type": "http.response.body", "body": b"", "more_body": True}, timeout)
        watcher.watch_stream()
        async with response.response as pieces:
            async for piece in pieces if own is None else own.watch(pieces, watcher.interrupt):
                if self.gone:
                    return
                if piece:
                    await self._write(
                        {"type": "http.response.body", "body": piece, "more_body": True}, timeout
                    )
        if own is None or not own.over:
            await self._write_end(b"", timeout)

    async def _write_end(self, data: bytes, timeout: float | None) -> None:
        await self._write({"type": "http.response.body", "body": data}, timeout)

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

    def _log_gone(self) -> None:
        logger.debug("%s %r: the client went before the answer", self.scope["method"], self.scope["path"])

    def _log_dropped(self, why: str) -> None:
        method, path = self.scope["method"], self.scope["path"]
        logger.warning("%s %r: %s; the connection is dropped", method, path, why)
