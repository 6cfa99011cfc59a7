"""Hypercorn, driven in our loop.

Hypercorn's own ``worker_serve`` learns of the end by its own signal handlers, waits up to three seconds for
connections that the app could have ended at once, closes open websockets with 1011, and from Python 3.12 on may wait
without end in ``Server.wait_closed()``. So its parts (protocols and connections) are used under a driver of our own:
the app is told first, then connections get :data:`GRACE` seconds, then they are cut.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from socket import socket
from typing import Any, cast

import hypercorn.protocol
from h2.events import DataReceived
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.protocol.h2 import H2Protocol

from ...tasks import Scope
from .access_log import AccessLogger
from .options import GRACE, HEADER_BYTES, ServeOptions, counted

logger: logging.Logger = logging.getLogger("samovar.server")

CUT = 0.3  # seconds a cancelled connection has to close before its transport is aborted


class HypercornServer:
    """Serves one app on one socket.

    Args:
        app: any ASGI callable.
        options: certificates, sizes and the rest.
        state: what the lifespan left, copied into each connection's scope.
    """

    name = "Hypercorn"

    def __init__(self, app: Any, options: ServeOptions, state: dict[str, Any]) -> None:
        self.config: Config = make_config(options)
        self._ssl = self.config.create_ssl_context()
        self._app = ASGIWrapper(app)
        self._state = state
        self._context = WorkerContext(None)
        self._writers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(self, listener: socket, *, started: Callable[[], None], stop: asyncio.Event) -> None:
        """Accept connections until *stop* is set, then let them end and return when all have."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_ignore_handshakes)
        async with Scope("hypercorn", deadline=CUT) as scope:

            def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = scope.start(self._serve_connection(reader, writer), name="connection")
                self._writers[task] = writer
                task.add_done_callback(lambda done: self._writers.pop(done, None))

            server = await asyncio.start_server(
                connected,
                sock=listener,
                backlog=self.config.backlog,
                ssl=self._ssl,
                ssl_handshake_timeout=self.config.ssl_handshake_timeout if self._ssl else None,
            )
            started()
            try:
                await stop.wait()
            finally:
                server.close()
                await self._context.terminated.set()  # idle connections close, others after their answer
                await self._finish(scope)

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        context = ConnectionContext(self._context, writer.transport.abort)
        await Connection(self._app, loop, self.config, context, self._state, reader, writer)

    async def _finish(self, scope: Scope) -> None:
        if await scope.join(GRACE):
            return
        logger.warning("cut after %g s: %s that did not end", GRACE, counted(len(scope), "connection"))
        for task in list(self._writers):
            task.cancel()
        if not await scope.join(CUT):
            for writer in list(self._writers.values()):
                writer.transport.abort()  # one that does not read would keep the close waiting for ever


class ConnectionContext(WorkerContext):
    """Hypercorn's context for one connection, in which the pause between two pings ends with the connection.

    Hypercorn's pings sleep to the end of their pause although the websocket has closed, and hold the connection's task
    for so long. Whether anybody answers them it never asks; so after each pause it is seen here whether the peer has
    been heard at all, and a connection on which nothing came for one and a half pauses is cut.

    Args:
        worker: the context of all connections.
        cut: drops the connection.
    """

    def __init__(self, worker: WorkerContext, cut: Callable[[], None]) -> None:
        self.max_requests: int | None = worker.max_requests
        self.requests = 0
        self.terminate: Any = worker.terminate
        self.terminated: Any = worker.terminated
        self.closed: asyncio.Event = asyncio.Event()
        self.reader: HeardReader | None = None
        self._cut = cut

    async def sleep(self, wait: float) -> None:  # type: ignore[override]  # static there
        """Sleep for *wait* seconds, or until the connection closes; then cut a peer that was not heard."""
        try:
            async with asyncio.timeout(wait):
                await self.closed.wait()
        except TimeoutError:  # the whole pause
            if self.reader is not None and self.reader.silence > 1.5 * wait:
                logger.debug("a websocket's peer answered no ping: cut after %.1f s", self.reader.silence)
                self._cut()


class HeardReader:
    """A connection's reader, which knows for how long nothing has come.

    Args:
        reader: asyncio's.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._listens_since: float | None = None

    @property
    def silence(self) -> float:
        """Seconds without a word of the peer; 0 while nobody listens, because the app is behind with its messages."""
        since = self._listens_since
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    def at_eof(self) -> bool:
        """See :class:`asyncio.StreamReader`."""
        return self._reader.at_eof()

    async def read(self, most: int) -> bytes:
        """See :class:`asyncio.StreamReader`."""
        self._listens_since = asyncio.get_running_loop().time()
        try:
            return await self._reader.read(most)
        finally:
            self._listens_since = None


class Connection(TCPServer):
    """Hypercorn's connection, which tells its context what it hears and when it has closed."""

    context: ConnectionContext

    async def _read_data(self) -> None:
        self.context.reader = HeardReader(self.reader)
        self.reader: asyncio.StreamReader = cast(asyncio.StreamReader, self.context.reader)
        try:
            await super()._read_data()
        finally:
            self.context.closed.set()


class Http2(H2Protocol):
    """Hypercorn's HTTP/2, which bears a body that comes when its request is answered already.

    Hypercorn 0.18 looks for the request, finds none, and drops the connection with all the others on it: an event
    stream ended whenever a view answered a POST before its body had come. Here the late piece is counted for flow
    control (RFC 9113, 5.2) and let go.
    """

    async def _handle_events(self, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, DataReceived) and event.stream_id not in self.streams:
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                await self._flush()
            else:
                await super()._handle_events([event])


hypercorn.protocol.H2Protocol = Http2  # type: ignore[attr-defined]  # there is no other way to give it one


def make_config(options: ServeOptions) -> Config:
    """Translate our options into Hypercorn's."""
    config = Config()
    config.logger_class = AccessLogger
    config.accesslog = logging.getLogger("samovar.access") if options.access_log else None
    config.errorlog = logger
    config.backlog = 1024
    config.certfile, config.keyfile, config.ca_certs = options.certfile, options.keyfile, options.ca_certs
    config.h11_max_incomplete_size = config.h2_max_header_list_size = HEADER_BYTES
    config.include_server_header = False
    config.keep_alive_timeout = 75.0  # above the 60 s for which proxies keep a connection to us
    config.max_app_queue_size = options.websocket_queue
    config.websocket_max_message_size = options.websocket_max_message
    config.websocket_ping_interval = options.websocket_ping
    if options.ca_certs is not None:
        config.verify_mode = ssl.CERT_REQUIRED
    return config


def _ignore_handshakes(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A peer that fails its TLS handshake is no error of ours; the rest goes the usual way."""
    if not isinstance(context.get("exception"), ssl.SSLError):
        loop.default_exception_handler(context)
