"""A TCP server that sends back what it gets: the other end in tests of what lies between."""

from __future__ import annotations

import asyncio
from typing import Self


class EchoServer:
    """``async with EchoServer() as server:`` clients use ``server.port``.

    Attributes:
        received: everything that clients sent, in order of arrival.
        open: how many connections are open.
    """

    def __init__(self) -> None:
        self.port = 0
        self.received = b""
        self.open = 0
        self.transports: set[asyncio.Transport] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Echo(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and reset what is open; idempotent."""
        if self._server is not None:
            self._server.close()
            for transport in list(self.transports):
                transport.abort()
            await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


class Echo(asyncio.Protocol):
    def __init__(self, server: EchoServer) -> None:
        self.server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.transports.add(transport)
        self.server.open += 1

    def data_received(self, data: bytes) -> None:
        self.server.received += data
        self.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.server.transports.discard(self.transport)
        self.server.open -= 1
