"""A TCP proxy that breaks connections on demand: what a bad network does, at a moment the test chooses.

Browsers' "offline" switches leave open websockets and EventSources alone; a proxy between client and server does not.
:class:`Proxy` lives in an asyncio loop. :class:`ThreadProxy` is the same in a thread of its own, for synchronous
tests; its methods return when the change has happened.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self, TypeVar, cast

from samovar.tasks import Scope

from .until import PATIENCE

T = TypeVar("T")
CHUNK = 65536


class Link:
    """One connection through the proxy: the client's side, the server's, and the scope of the two that carry."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.pipes = Scope("link")

    def reset(self) -> None:
        """Reset both sides: what was not delivered yet is lost."""
        reset(self.client)
        reset(self.server)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN, flushing nothing, as when a route vanishes; idempotent."""
    if (sock := writer.get_extra_info("socket")) is not None and not writer.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Proxy:
    """``async with Proxy(target_port) as proxy:`` clients use ``proxy.port``.

    Args:
        target_port: where connections go.
        target_host: the target's address.
        port: the port to listen on; 0 takes a free one.

    Attributes:
        port: the port clients connect to; it stays the same over :meth:`refuse` and :meth:`restore`.
        accepted: how many connections were ever let through.
        received: bytes that came from clients; ``sent``: bytes that went to them.
    """

    def __init__(self, target_port: int, target_host: str = "127.0.0.1", *, port: int = 0) -> None:
        self.target = (target_host, target_port)
        self.port = port
        self.accepted = 0
        self.received = 0
        self.sent = 0
        self._links: dict[Link, asyncio.Task[None]] = {}
        self._refusing = False
        self._rate: float | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._scope = Scope("proxy")
        self._listener: socket.socket | None = None
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<Proxy {self.port} → {self.target[1]} open={len(self._links)} accepted={self.accepted}>"

    @property
    def open(self) -> int:
        """How many connections are open through it now."""
        return len(self._links)

    # --- faults -------------------------------------------------------------------------------------------------

    def cut(self) -> int:
        """Reset every open connection; new ones are still let through. Returns how many were cut."""
        links, self._links = self._links, {}
        for link, task in links.items():
            link.reset()
            task.cancel()  # it may be held by stall()
        return len(links)

    def refuse(self) -> None:
        """Reset new connections at once, until :meth:`restore`; open ones stay."""
        self._refusing = True

    def stall(self) -> None:
        """Pass nothing on in either direction and close nothing (half-open), until :meth:`restore`."""
        self._flowing.clear()

    def throttle(self, bytes_per_second: float | None) -> None:
        """Pass on at most so many bytes a second in each direction of each connection; None: as fast as it goes."""
        self._rate = bytes_per_second

    def restore(self) -> None:
        """End :meth:`refuse`, :meth:`stall` and :meth:`throttle`; what was held back flows on."""
        self._refusing = False
        self._rate = None
        self._flowing.set()

    # --- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen."""
        self._server = await self._listen()

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=CHUNK)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.target, limit=CHUNK)

    async def stop(self) -> None:
        """Stop listening and reset what is open; idempotent."""
        if self._server is not None:
            self._server.close()
        self.cut()
        await self._scope.close()
        if self._server is not None:
            await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # --- carrying -----------------------------------------------------------------------------------------------

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A plain callback: for a coroutine function asyncio would start a task that nobody owns.
        self._scope.start(self._carry(reader, writer), name="carry")

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            reset(writer)
            return
        try:
            target_reader, target_writer = await self._connect()
        except OSError:
            reset(writer)
            return
        self.accepted += 1
        link = Link(writer, target_writer)
        self._links[link] = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            async with link.pipes as pipes:
                pipes.start(self._pump(reader, target_writer, self._count_received), name="up")
                pipes.start(self._pump(target_reader, writer, self._count_sent), name="down")
                await pipes.join()
        finally:
            self._links.pop(link, None)
            link.reset()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[int], None]
    ) -> None:
        """Carry one direction until its end; an end is passed on as an end, a reset as a reset."""
        try:
            while data := await reader.read(self._piece()):
                await self._flowing.wait()
                if self._rate:
                    await asyncio.sleep(len(data) / self._rate)
                writer.write(data)
                count(len(data))
                await writer.drain()
            await self._flowing.wait()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            await self._flowing.wait()  # a half-open link does not tell of a reset either
            reset(writer)

    def _piece(self) -> int:
        # A throttled link carries small pieces, so that bytes trickle instead of coming in lumps of 64 KiB.
        return CHUNK if not self._rate else max(1, min(CHUNK, int(self._rate / 20)))

    def _count_received(self, size: int) -> None:
        self.received += size

    def _count_sent(self, size: int) -> None:
        self.sent += size


class ThreadProxy:
    """:class:`Proxy` in a thread of its own: ``with ThreadProxy(target_port) as proxy: … proxy.cut()``."""

    def __init__(self, target_port: int, target_host: str = "127.0.0.1", *, port: int = 0) -> None:
        self._arguments = (target_port, target_host, port)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._proxy: Proxy | None = None
        self._stopping: asyncio.Event | None = None
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # told to the starter, in start()
            self._error = error
        finally:
            self._started.set()

    async def _main(self) -> None:
        target_port, target_host, port = self._arguments
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        async with Proxy(target_port, target_host, port=port) as self._proxy:
            self._started.set()
            await self._stopping.wait()

    def start(self) -> None:
        """Start the thread and listen."""
        self._thread.start()
        if not self._started.wait(PATIENCE) or self._error is not None:
            raise RuntimeError("the proxy's thread did not start") from self._error

    def stop(self) -> None:
        """Reset what is open and end the thread; idempotent."""
        if self._thread.is_alive() and self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(PATIENCE)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _do(self, call: Callable[[Proxy], T]) -> T:
        assert self._loop is not None and self._proxy is not None, "the proxy is not started"
        proxy = self._proxy

        async def inside() -> T:
            return call(proxy)

        return asyncio.run_coroutine_threadsafe(inside(), self._loop).result(PATIENCE)

    @property
    def port(self) -> int:
        return self._do(lambda proxy: proxy.port)

    @property
    def accepted(self) -> int:
        return self._do(lambda proxy: proxy.accepted)

    @property
    def open(self) -> int:
        return self._do(lambda proxy: proxy.open)

    @property
    def received(self) -> int:
        return self._do(lambda proxy: proxy.received)

    @property
    def sent(self) -> int:
        return self._do(lambda proxy: proxy.sent)

    def cut(self) -> int:
        """See :meth:`Proxy.cut`."""
        return self._do(Proxy.cut)

    def refuse(self) -> None:
        """See :meth:`Proxy.refuse`."""
        self._do(Proxy.refuse)

    def stall(self) -> None:
        """See :meth:`Proxy.stall`."""
        self._do(Proxy.stall)

    def throttle(self, bytes_per_second: float | None) -> None:
        """See :meth:`Proxy.throttle`."""
        self._do(lambda proxy: proxy.throttle(bytes_per_second))

    def restore(self) -> None:
        """See :meth:`Proxy.restore`."""
        self._do(Proxy.restore)
