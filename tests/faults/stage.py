"""A small run inside one process: hubs whose subscribers write down what they see, for faults planted by hand."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path
from typing import Self

from samovar.broadcast import ChannelRule, Hub
from samovar.errors import BackendUnavailable, HubClosed
from samovar.tasks import Scope

from ..support.until import until, until_async
from .checker import Checker, Promise, Report
from .journal import Fault, Head, Journal, read_all
from .plan import Plan
from .worker import Desk, Reader, publish, steady

CHANNEL = "deep/0"
RULES = (ChannelRule(CHANNEL, history=10_000, ttl=600.0),)
now = time.monotonic


class Stage:
    """``async with Stage(folder) as stage``.

    Args:
        folder: for the journal.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stage.journal"
        self.path.unlink(missing_ok=True)
        self.desk = Desk("stage", Plan(run="stage"), Journal(self.path))
        self.readers: list[Reader] = []
        self.published = 0
        self._scope = Scope("stage")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._scope.close()
        self.desk.journal.close()

    async def follow(self, hub: Hub, name: str) -> Reader:
        """A steady reader, subscribed when this returns."""
        reader = await self.follow_soon(hub, name)
        await until(lambda: CHANNEL in reader.places, f"{name} to be subscribed")
        return reader

    async def follow_soon(self, hub: Hub, name: str) -> Reader:
        """A steady reader, which begins to subscribe."""
        reader = Reader(self.desk, hub, name, [CHANNEL])
        self.readers.append(reader)

        async def read() -> None:
            with contextlib.suppress(HubClosed):
                await steady(self.desk, reader)

        self._scope.start(read())
        return reader

    async def publish(self, hub: Hub, count: int = 1) -> None:
        """So many messages, each until its fate is known."""
        for _ in range(count):
            self.published += 1
            await publish(self.desk, hub, random.Random(0), CHANNEL, f"id{self.published}")

    def fault(self, name: str) -> None:
        """Write down that there was one."""
        self.desk.journal.write(Fault(now(), now(), name, ""))

    async def caught_up(self, hub: Hub, timeout: float = 5.0) -> None:
        """Wait until everybody stands at the head."""
        await until_async(lambda: self._at_head(hub), "everybody to stand at the head", timeout=timeout)

    async def judge(self, hub: Hub, promise: Promise | None = None, *, limit: float = 2.0) -> Report:
        """Give everybody *limit* seconds to reach the head that *hub* tells, and check."""
        with contextlib.suppress(TimeoutError):
            await self.caught_up(hub, limit)
        self.desk.journal.write(Head(now(), CHANNEL, await hub.cursor(CHANNEL)))
        entries = read_all([self.path])
        await self._scope.close()
        return Checker(promise or Promise()).check(entries)

    async def _at_head(self, hub: Hub) -> bool:
        with contextlib.suppress(BackendUnavailable):
            head = await hub.cursor(CHANNEL)
            return all(str(reader.places.get(CHANNEL)) == head for reader in self.readers)
        return False
