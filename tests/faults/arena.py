"""A run: a broker, a relay and a process for each worker, and what the faults do to them.

Everything random comes from one seed. The verdict does not depend on timing: whatever the faults hit, the checker's
rules hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, Self

from samovar.broadcast import Hub
from samovar.errors import PublishRejected, PublishUnknown

from ..support.process import Process
from ..support.until import until_async
from .attendance import Attendance
from .brokers import Broker
from .checker import Checker, Promise, Report
from .journal import KINDS, Answered, Entry, Fault, Head, Journal, Tried, read_all
from .plan import FLOOD, Plan
from .relay import Relay

now = time.monotonic
SETTLE = (
    30.0  # seconds after the last fault within which everybody stands at the head: a lost tail takes up to 12
)
PRESENCE = frozenset({"entered", "left", "listed", "heard", "felt"})  # what tells who is there


class Worker:
    """One worker process and its relay."""

    def __init__(self, name: str, arena: Arena, relay: Relay | None) -> None:
        self.name = name
        self.arena = arena
        self.relay = relay
        self.journal = arena.folder / f"{name}.journal"
        self.process: Process | None = None
        self.lives = 0
        self.killed = False

    def start(self) -> None:
        """Start it; with a journal of a life before it goes on where that ended."""
        self.lives += 1
        self.killed = False
        broker, relay = self.arena.broker, self.relay
        target = None if relay is None else relay.path or relay.port
        command = [sys.executable, "-m", "tests.faults.worker", self.name, broker.url(target)]
        log = self.arena.folder / f"{self.name}.log"
        self.process = Process([*command, self.journal, self.arena.plan.dump()], log=log, env=self.arena.env)

    @property
    def running(self) -> Process:
        assert self.process is not None, f"{self.name} is not started"
        return self.process

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.running.signal(number)

    def kill(self) -> None:
        """SIGKILL; it is to be started again."""
        self.killed = True
        self.running.kill()

    def ended(self) -> bool:
        """It has ended."""
        return not self.running.running

    def close(self) -> None:
        """End it for good; idempotent."""
        if self.process is not None:
            self.process.kill()


class Tail:
    """Reads journals as they grow: how much was acknowledged, where everybody stands, and who is present."""

    def __init__(self, paths: list[Path]) -> None:
        self.acked = 0
        self.attendance = Attendance(lease=0.0)
        self.quiet: set[str] = set()
        self.ready: Counter[str] = Counter()
        self.places: dict[tuple[str, str], str | None] = {}
        self._at = dict.fromkeys(paths, 0)

    def read(self) -> None:
        """Read what is new."""
        for path, at in self._at.items():
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(at)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._at[path] = at + len(whole)
            for line in whole.splitlines():
                self._note(json.loads(line))

    def _note(self, fields: list[Any]) -> None:
        if fields[0] in PRESENCE:
            kind, *values = fields
            self.attendance.read(KINDS[kind](*values))
        match fields:
            case ["got", _, subscriber, channel, position, _]:
                self.places[subscriber, channel] = position
            case ["told", _, subscriber, channel, _, _, end]:
                self.places[subscriber, channel] = end
            case ["opened", _, subscriber, channel, _, _, _, position]:
                self.places[subscriber, channel] = position
            case ["answered", _, _, _, _, "acked", _]:
                self.acked += 1
            case ["closed", _, subscriber]:
                for key in [key for key in self.places if key[0] == subscriber]:
                    del self.places[key]
            case ["felt", _, worker, "quiet", _]:
                self.quiet.add(worker)
            case ["felt", _, worker, "ready", _]:
                self.ready[worker] += 1


class Arena:
    """See the module. ``async with Arena(broker, plan, folder, seed=7) as arena: …; report = await arena.judge()``.

    Args:
        broker: not started yet.
        plan: what the workers do.
        folder: for journals and logs.
        seed: of everything random.
        workers: how many.
        pace: stretches the faults; under 1 for a hurry.
        env: variables for the workers.
        settle: seconds after the last publish within which everybody stands at the head.
    """

    def __init__(
        self,
        broker: Broker,
        plan: Plan,
        folder: Path,
        *,
        seed: int,
        workers: int = 3,
        pace: float = 1.0,
        env: Mapping[str, str] | None = None,
        settle: float = SETTLE,
    ) -> None:
        self.broker = broker
        self.plan = plan
        self.folder = folder
        self.seed = seed
        self.pace = pace
        self.env = env
        self.patience = settle
        self.random = random.Random(seed)
        self.workers: list[Worker] = []
        self.count = workers if broker.shared else 1
        self.journal = Journal(folder / "arena.journal")
        self.tail = Tail([])
        self.lives = asyncio.Lock()  # one worker at a time is killed and started again
        self._stack = AsyncExitStack()
        self._files = ExitStack()
        self._direct: Hub | None = None
        self._flooded = 0

    # --- life -------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._stack.callback(self.journal.close)
        self._stack.callback(self.broker.close)
        try:
            await self.broker.up()
            for n in range(self.count):
                await self._hire(f"w{n}")
            self.tail = Tail([worker.journal for worker in self.workers])
            if self.broker.shared:
                hub = Hub(self.broker.url(), channels=self.plan.rules, publish_timeout=5.0)
                self._direct = await self._stack.enter_async_context(hub)
            await self.until(lambda: len(self.tail.places) >= self.streams, "everybody to be subscribed")
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _hire(self, name: str) -> None:
        relay = None
        if (target := self.broker.target) is not None:
            path = f"{target}.{name}" if isinstance(target, str) else ""
            relay = await self._stack.enter_async_context(Relay(target, path=path, seed=self.seed))
        worker = Worker(name, self, relay)
        self._stack.callback(worker.close)
        self.workers.append(worker)
        worker.start()

    @property
    def streams(self) -> int:
        """How many (subscriber, channel) pairs are there when nobody is away."""
        plan = self.plan
        broad = (plan.steady + plan.slow + plan.movers + 2 * plan.lossy) * len(plan.channels)
        return self.count * plan.hubs * (broad + plan.clients)

    @property
    def direct(self) -> Hub:
        """A hub of our own, with no relay before the broker."""
        assert self._direct is not None, f"{self.broker} cannot be asked from outside"
        return self._direct

    async def until(self, condition: object, what: str, timeout: float = 20.0) -> None:
        """Read the journals until *condition* is true.

        Raises:
            TimeoutError: it is not in time.
            RuntimeError: a worker ended.
        """
        assert callable(condition)

        def met() -> bool:
            self.tail.read()
            for worker in self.workers:
                if not worker.running.running and not worker.killed:
                    raise RuntimeError(
                        f"{worker.running} while waiting for {what}:\n{worker.running.output()[-4000:]}"
                    )
            return bool(condition())

        await until_slowly(met, what, timeout)

    # --- for the faults ---------------------------------------------------------------------------------------------

    async def ready(self, worker: Worker) -> None:
        """Wait until *worker* takes signals."""
        await self.until(lambda: self.tail.ready[worker.name] >= worker.lives, f"{worker.name} to be ready")

    @contextlib.asynccontextmanager
    async def fault(self, name: str, target: str = "") -> AsyncIterator[None]:
        """Write down that a fault began and ended."""
        begun = now()
        yield
        self.journal.write(Fault(begun, now(), name, target))

    async def flood(self, messages: int, size: int, channel: str = FLOOD) -> None:
        """Publish many large messages on one channel, directly."""
        for _ in range(messages):
            self._flooded += 1
            id = f"{self.plan.run}-flood-{self._flooded}"
            self.journal.write(Tried(now(), "arena", channel, id))
            try:
                published = await self.direct.publish(channel, "x" * size, id=id)
            except PublishRejected:
                self.journal.write(Answered(now(), "arena", channel, id, "rejected", None))
            except PublishUnknown:
                self.journal.write(Answered(now(), "arena", channel, id, "unknown", None))
            else:
                self.journal.write(Answered(now(), "arena", channel, id, "acked", str(published.position)))

    # --- the end ----------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """End the publishing, wait until all is quiet, and note where the channels stand."""
        for worker in self.workers:
            if worker.relay is not None:
                worker.relay.restore()
            worker.signal(signal.SIGUSR1)
        await self.until(lambda: len(self.tail.quiet) >= self.count, "the publishers to end", 60.0)
        heads = await self._heads()
        with contextlib.suppress(TimeoutError):  # the checker says who does not stand there
            await self.until(lambda: self._all_at(heads), "everybody to stand at the head", self.patience)
        if self.plan.lounges:
            patience = self.patience + 2 * self.plan.lease  # somebody has to find out that a lease is over
            with contextlib.suppress(TimeoutError):
                await self.until(
                    lambda: self.tail.attendance.settled, "everybody to know who is there", patience
                )

    async def _heads(self) -> dict[str, str]:
        heads: dict[str, str] = {}
        if self.broker.shared:
            for channel in self.plan.channels:

                async def asked(channel: str = channel) -> bool:
                    heads[channel] = await self.direct.cursor(channel)
                    return bool(heads[channel])

                await until_async(asked, f"the head of {channel}")
            self.journal.write(*(Head(now(), channel, head) for channel, head in heads.items()))
        else:
            entries = read_all([worker.journal for worker in self.workers])
            heads = {entry.channel: entry.position for entry in entries if isinstance(entry, Head)}
        return heads

    def _all_at(self, heads: dict[str, str]) -> bool:
        places = self.tail.places
        return len(places) >= self.streams and all(
            heads[channel] == at for (_, channel), at in places.items()
        )

    async def judge(self, promise: Promise) -> tuple[Report, list[Entry]]:
        """End everything in order and check what was written down."""
        await self.settle()
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        for worker in self.workers:
            await until_slowly(worker.ended, f"{worker.name} to end", 10.0)
            if code := worker.running.popen.returncode:
                raise RuntimeError(f"{worker.name} ended with {code}:\n{worker.running.output()[-4000:]}")
        entries = read_all([self.folder / "arena.journal", *(worker.journal for worker in self.workers)])
        return Checker(promise).check(entries), entries


async def until_slowly(condition: object, what: str, timeout: float) -> None:
    """:func:`until` for a condition that is dear to ask."""
    assert callable(condition)

    async def ask() -> bool:
        return bool(condition())

    await until_async(ask, what, timeout=timeout)
