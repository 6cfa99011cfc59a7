"""uvicorn, driven in our loop: our signals, our lifespan, its protocols."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import socket
from typing import Any

import uvicorn

from .options import GRACE, HEADER_BYTES, ServeOptions, counted

logger: logging.Logger = logging.getLogger("samovar.server")

CUT = 0.3  # seconds a cancelled connection has to close before its transport is aborted


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, which stops when our event is set."""

    def __init__(
        self, config: uvicorn.Config, state: dict[str, Any], started: Callable[[], None], stop: asyncio.Event
    ) -> None:
        super().__init__(config)
        self._state = state
        self._on_started = started
        self._stop = stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket] | None = None) -> None:
        self.lifespan.state.update(self._state)  # our own lifespan left it; uvicorn's is off
        await super().startup(sockets)
        self._on_started()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._stop.is_set()


class UvicornServer:
    """Serves one app on one socket.

    Args:
        app: any ASGI callable.
        options: certificates, sizes and the rest.
        state: what the lifespan left, copied into each connection's scope.
    """

    name = "uvicorn"

    def __init__(self, app: Any, options: ServeOptions, state: dict[str, Any]) -> None:
        self.config: Any = make_config(app, options)
        self.config.load()
        self._state = state

    async def serve(self, listener: socket, *, started: Callable[[], None], stop: asyncio.Event) -> None:
        """Accept connections until *stop* is set, then let them end and return when all have."""
        server = _Server(self.config, self._state, started, stop)
        with _without_cancellations():
            await server.serve(sockets=[listener])
            await self._cut(server)

    async def _cut(self, server: _Server) -> None:
        """End what uvicorn only asked to end."""
        tasks, connections = server.server_state.tasks, server.server_state.connections
        if tasks:
            logger.warning("cut after %g s: %s that did not end", GRACE, counted(len(tasks), "request"))
            await asyncio.wait(tasks, timeout=CUT)
        for connection in list(connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        await asyncio.sleep(0)


def make_config(app: Any, options: ServeOptions) -> uvicorn.Config:
    """Translate our options into uvicorn's."""
    return uvicorn.Config(
        app,
        access_log=options.access_log,
        backlog=1024,
        h11_max_incomplete_event_size=HEADER_BYTES,
        lifespan="off",
        log_config=None,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=options.certfile,
        ssl_keyfile=options.keyfile,
        ssl_ca_certs=options.ca_certs,
        ssl_cert_reqs=ssl.CERT_NONE if options.ca_certs is None else ssl.CERT_REQUIRED,
        timeout_graceful_shutdown=GRACE,  # type: ignore[arg-type]  # an int by its type, given to wait_for as it is
        timeout_keep_alive=75,  # above the 60 s for which proxies keep a connection to us
        ws_max_queue=options.websocket_queue,
        ws_max_size=options.websocket_max_message,
        ws_ping_interval=options.websocket_ping,
        ws_ping_timeout=options.websocket_ping,
    )


@contextmanager
def _without_cancellations() -> Iterator[None]:
    """Keep uvicorn from printing a traceback for each request that a shutdown cancels: we say how many there were."""
    uvicorn_logger = logging.getLogger("uvicorn.error")

    def wanted(record: logging.LogRecord) -> bool:
        cancelled = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
        return not cancelled and "timeout graceful shutdown" not in record.getMessage()

    uvicorn_logger.addFilter(wanted)
    try:
        yield
    finally:
        uvicorn_logger.removeFilter(wanted)
