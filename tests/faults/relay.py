"""The bad network between one worker and its broker: :class:`tests.support.proxy.Proxy` with more ways to be bad."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from ..support.proxy import CHUNK, Proxy, reset


class Relay(Proxy):
    """A proxy that can also stall one direction, delay, end a connection inside a reply, and speak unix sockets.

    Args:
        target: a port, or the path of a unix socket.
        path: the unix socket to listen on, when *target* is one.
        seed: of the jitter.
    """

    def __init__(self, target: int | str, *, path: str = "", seed: int = 0) -> None:
        super().__init__(target if isinstance(target, int) else 0)
        self.socket = target if isinstance(target, str) else ""
        self.path = path
        self._open = {True: asyncio.Event(), False: asyncio.Event()}
        for gate in self._open.values():
            gate.set()
        self._delay = (0.0, 0.0)
        self._tears = 0
        self._random = random.Random(seed)

    async def _listen(self) -> asyncio.Server:
        if not self.path:
            return await super()._listen()
        return await asyncio.start_unix_server(self._serve, self.path, limit=CHUNK)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not self.socket:
            return await super()._connect()
        return await asyncio.open_unix_connection(self.socket, limit=CHUNK)

    # --- faults -----------------------------------------------------------------------------------------------------

    def stall_one(self, *, down: bool) -> None:
        """Pass nothing on in one direction, from the broker (down) or to it; until :meth:`restore`."""
        self._open[down].clear()

    def delay(self, least: float, most: float) -> None:
        """Hold each piece back for a random time between so many seconds, both ways; until :meth:`restore`."""
        self._delay = (least, most)

    def tear(self, replies: int = 1) -> None:
        """End the connection in the middle of each of the next so many pieces that the broker sends."""
        self._tears = replies

    def restore(self) -> None:
        """All is well again."""
        super().restore()
        self._delay, self._tears = (0.0, 0.0), 0
        for gate in self._open.values():
            gate.set()

    # --- carrying ---------------------------------------------------------------------------------------------------

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[int], None]
    ) -> None:
        """Carry one direction, as its parent does, through the faults that are on."""
        down = count == self._count_sent
        try:
            while data := await reader.read(self._piece()):
                await self._hold(down, len(data))
                if down and self._tears and len(data) > 1:
                    self._tears -= 1
                    writer.write(data[: self._random.randrange(1, len(data))])
                    await writer.drain()
                    break
                writer.write(data)
                count(len(data))
                await writer.drain()
            await self._hold(down, 0)
            writer.close()
        except OSError:
            await self._hold(down, 0)
            reset(writer)

    async def _hold(self, down: bool, size: int) -> None:
        """Wait as long as the faults say."""
        await self._flowing.wait()
        await self._open[down].wait()
        if self._rate and size:
            await asyncio.sleep(size / self._rate)
        if self._delay[1] and size:
            await asyncio.sleep(self._random.uniform(*self._delay))
