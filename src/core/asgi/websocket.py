"""One websocket connection: the server's task reads, the handler is the one task of ours.

::

    server's task                       the connection's scope
    connect → origin → Websocket ─────► handler: app.handle_websocket → flush → close 1000
    read → Inbound (bounded, paced)     (writer: from the first subscribe on)
    peer leaves / handler ends / shutdown → close → end the handler → teardown

The reader is interrupted, not polled, when the handler has ended or the server goes: its own task is cancelled and the
cancellation taken back, as :func:`asyncio.timeout` does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from ...errors import SamovarError, WebsocketClosed
from ...tasks import Scope, log_error
from ..realtime import codes
from ..realtime.access import check_origins, origin_allowed
from ..realtime.inbound import Inbound, InboundStuck, Pacer
from ..realtime.lanes import Closed, LaneState, PlainLane
from ..realtime.sink import Outbound

if TYPE_CHECKING:
    from ..app import Samovar
    from ..wrappers import Response, Websocket

logger: logging.Logger = logging.getLogger("samovar.websocket")


class WebsocketHandler:
    """Serves one websocket scope.

    Args:
        app: the application.
        scope: the ASGI connection scope.
    """

    def __init__(self, app: Samovar, scope: MutableMapping[str, Any]) -> None:
        self.app = app
        self.scope = scope
        config = app.config
        self.close_timeout: float = config["WEBSOCKET_CLOSE_TIMEOUT"]
        self.max_message: int | None = config["WEBSOCKET_MAX_MESSAGE_BYTES"]
        self.inbound: Inbound = Inbound(config["WEBSOCKET_QUEUE_SIZE"], config["WEBSOCKET_READ_TIMEOUT"])
        self._pacer = Pacer(config["WEBSOCKET_MAX_RATE"])
        self._reader: asyncio.Task[Any] | None = None
        self._interrupted = False
        self._shutdown = False
        self._handler: asyncio.Task[None] | None = None
        self._error: BaseException | None = None

    async def __call__(
        self,
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        lane = PlainLane(self.scope, receive, send, write_timeout=self.app.config["WEBSOCKET_WRITE_TIMEOUT"])
        if not await lane.connect():
            return
        if not self._origin_allowed():
            await lane.deny(403, [(b"content-type", b"text/plain; charset=utf-8")], ORIGIN_DENIED)
            return
        scope = Scope("websocket", on_error=self._failed, deadline=self.close_timeout)
        outbound = Outbound(lane, scope, self.interrupt)
        websocket = self.app.websocket_class(self.scope, lane=lane, inbound=self.inbound, outbound=outbound)
        shutdown_event = self.app.shutdown_event
        if shutdown_event.overhear is not None:
            shutdown_event.overhear(send)
        shutdown_event.add(self._going_away)
        try:
            handler = self._handler = scope.start(self._handle(websocket), name="handler")
            handler.add_done_callback(lambda _: self.interrupt())
            await self._read(lane)
            await self._end(lane, outbound, handler, websocket)
        finally:
            shutdown_event.discard(self._going_away)
            outbound.close()
            self.inbound.end()
            await scope.close()
            await outbound.leave(grace=self.app.config["PRESENCE_GRACE"])
        if self._error is not None:
            raise self._error

    def _failed(self, task: asyncio.Task[Any], error: BaseException) -> None:
        """Keep the handler's error for the server (the app lets one through only when it is told to); log others."""
        if task is self._handler:
            self._error = error
        else:
            log_error(task, error)

    def _origin_allowed(self) -> bool:
        headers = dict(reversed(self.scope["headers"]))
        origin, host = headers.get(b"origin"), headers.get(b"host")
        allowed = check_origins(self.app.config["WEBSOCKET_ALLOWED_ORIGINS"])
        return origin_allowed(
            None if origin is None else origin.decode("latin-1"),
            None if host is None else host.decode("latin-1"),
            allowed,
        )

    # --- reading -----------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Stop the reader: there is nobody left to read for."""
        if self._reader is not None and not self._interrupted:
            self._interrupted = True
            self._reader.cancel()

    def _going_away(self) -> None:
        self._shutdown = True
        self.interrupt()

    async def _read(self, lane: PlainLane) -> None:
        """Read until the peer leaves or somebody interrupts."""
        task = asyncio.current_task()
        assert task is not None
        if self._shutdown:
            return
        self._reader = task
        try:
            await self._read_all(lane)
        except asyncio.CancelledError:
            if not self._interrupted or task.uncancel() > 0:
                raise
        finally:
            self._reader = None

    async def _read_all(self, lane: PlainLane) -> None:
        now = asyncio.get_running_loop().time
        while True:
            message = await lane.read()
            if isinstance(message, Closed):
                return
            size = len(message) if isinstance(message, bytes) else utf8_size(message, self.max_message)
            if self.max_message is not None and size > self.max_message:
                await lane.close(codes.TOO_BIG.code, f"a message has at most {self.max_message} bytes")
                return
            if delay := self._pacer.delay(now()):
                await asyncio.sleep(delay)
            try:
                await self.inbound.put(message)
            except InboundStuck as error:
                logger.warning("%r is closed: %s", self.scope["path"], error)
                await lane.close(codes.POLICY.code, "messages are not read")
                return

    # --- ending ------------------------------------------------------------------------------------------------

    async def _end(
        self, lane: PlainLane, outbound: Outbound, handler: asyncio.Task[None], websocket: Websocket
    ) -> None:
        """Bring the handler to its end: with time to finish where it was promised any, else by cancelling it."""
        if self._shutdown and not handler.done():
            closing = lane.close(codes.RESTART.code, codes.RESTART.reason, initiator="server")
            await quietly(closing, within=SHUTDOWN_CLOSE)
        await asyncio.sleep(0)  # a handler that was just given a message takes it, and what came with it
        outbound.close()
        if not websocket.ends_gracefully:
            handler.cancel()  # where it waits, at a receive() too
        self.inbound.end()
        websocket.connection_ended()
        if handler.done() or handler.cancelling():
            return
        await asyncio.wait({handler}, timeout=self.close_timeout)
        if not handler.done():
            handler.cancel()

    # --- the handler -------------------------------------------------------------------------------------------

    async def _handle(self, websocket: Websocket) -> None:
        lane = websocket.lane
        try:
            response = await self.app.handle_websocket(websocket)
        except (Exception, asyncio.CancelledError):
            if lane.state is LaneState.CONNECTING:
                await quietly(lane.deny(500, [], b""))
            else:
                await quietly(lane.close(codes.INTERNAL_ERROR.code, codes.INTERNAL_ERROR.reason))
            raise
        try:
            await self._finish(websocket, response)
        except (WebsocketClosed, TimeoutError) as error:
            logger.debug("%s ended while it was being closed: %s", websocket, error)

    async def _finish(self, websocket: Websocket, response: Response | None) -> None:
        lane = websocket.lane
        if lane.state is LaneState.CONNECTING:
            if response is None:
                await lane.deny(403, [(b"content-type", b"text/plain; charset=utf-8")], NOT_ACCEPTED)
                return
            body = await response.get_data(as_text=False)
            headers = [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers
            ]
            await lane.deny(response.status_code, headers, body)
        elif response is not None and response.status_code >= 400:
            code = codes.for_status(response.status_code)
            known = codes.TABLE.get(code)
            await lane.close(code, known.reason if known else response.status)
        elif lane.state is LaneState.OPEN:
            async with asyncio.timeout(lane.write_timeout):
                await websocket.outbound.flush()
            await lane.close(codes.NORMAL.code)


SHUTDOWN_CLOSE = 1.0
"""Seconds that a peer which does not read may hold up the close frame when the server goes."""
ORIGIN_DENIED = (
    b"this websocket may not be opened from a page of another origin: "
    b"set WEBSOCKET_ALLOWED_ORIGINS to let it in\n"
)
NOT_ACCEPTED = b"the websocket was not accepted\n"


def utf8_size(text: str, limit: int | None) -> int:
    """Bytes of *text* in UTF-8; counted only where it can make a difference to *limit*."""
    if limit is None or len(text) > limit or len(text) * 4 <= limit:
        return len(text)
    return len(text.encode("utf-8", "surrogatepass"))


async def quietly(closing: Awaitable[None], *, within: float | None = None) -> None:
    """Close a connection that may be gone already: then there is nobody left to tell."""
    try:
        async with asyncio.timeout(within):
            await closing
    except (SamovarError, OSError) as error:
        logger.debug("closing a websocket: %s", error)
