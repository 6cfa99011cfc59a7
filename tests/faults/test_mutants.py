"""Code with one safeguard removed: each mutant must make the checker fail, where its unmutated twin passes.

So a run without breaches means something. Mutants of recorded logs are in ``test_checker.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from samovar.backends.memory import Broker, MemoryBackend
from samovar.backends.redis import RedisBackend
from samovar.broadcast import Accepted, Hub, Receiver, Record
from samovar.errors import PublishUnknown

from ..broadcast.faulty import FaultyBackend
from ..support.until import until
from .brokers import Redis, VolatileRedis
from .catalogue import faults_for
from .checker import Promise, Report
from .mutants import no_contiguity, no_incarnation
from .ordeal import endure
from .plan import Plan
from .relay import Relay
from .stage import RULES, Stage

VOLATILE = Promise(gaps={"rollback": 1}, must=frozenset({"rollback"}))
twins = pytest.mark.parametrize("mutated", [False, True], ids=["twin", "mutant"])


def judge(report: Report, mutated: bool, *kinds: str) -> None:
    """A twin has no breach, a mutant one of the named kinds."""
    told = "\n".join(map(str, report.violations))
    if mutated:
        assert set(kinds) & set(report.kinds), f"the mutant was not found: {told or 'no breach at all'}"
    else:
        assert not report.violations, told


@asynccontextmanager
async def hubs(*backends: Any) -> AsyncIterator[list[Hub]]:
    """Hubs on these, started."""
    async with AsyncExitStack() as stack:
        made = [Hub(backend, channels=RULES, publish_timeout=2.0) for backend in backends]
        yield [await stack.enter_async_context(hub) for hub in made]


# --- a store that came back from a snapshot -------------------------------------------------------------------------


@twins
async def test_no_check_of_the_servers_incarnation(
    mutated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_here: None
) -> None:
    """The epoch in the data alone: a snapshot that is restored has it, and the offsets are given out again."""
    if mutated:
        no_incarnation(monkeypatch.setattr)
    broker = VolatileRedis(tmp_path)
    broker.start()
    try:
        async with hubs(broker.url(), broker.url()) as [here, there], Stage(tmp_path) as stage:
            await stage.follow(there, "there")
            await stage.publish(here, 20)
            broker.snapshot()
            await stage.publish(here, 10)
            await stage.caught_up(here)
            broker.kill()
            broker.restore()
            broker.start()
            stage.fault("rollback")
            await stage.publish(here, 15)
            report = await stage.judge(here, VOLATILE)
    finally:
        broker.close()
    judge(report, mutated, "disagreement", "silent loss")


# --- attach ---------------------------------------------------------------------------------------------------------


class Attaching(FaultyBackend):
    """Attaching takes as long as the test says; the mutant says at once that it is done."""

    def __init__(self, broker: Broker, *, hasty: bool) -> None:
        super().__init__(broker)
        self.hasty = hasty
        self.wished = asyncio.Event()
        self.granted = asyncio.Event()
        self._silent = False

    async def attach(self, channels: Collection[str]) -> None:
        if self.hasty:
            self.outer.attached(channels)
            self._silent = True
        self.wished.set()
        await self.granted.wait()
        await super().attach(channels)

    def attached(self, channels: Iterable[str]) -> None:
        if not self._silent:
            super().attached(channels)


@twins
async def test_history_is_read_before_the_attach(mutated: bool, tmp_path: Path) -> None:
    broker = Broker()
    slow = Attaching(broker, hasty=mutated)
    async with hubs(MemoryBackend(broker), slow) as [here, there], Stage(tmp_path) as stage:
        await stage.publish(here, 3)
        reader = await stage.follow_soon(there, "there")
        await slow.wished.wait()
        if mutated:
            await until(lambda: reader.places, "the first word")  # too early: it is not attached yet
        await stage.publish(here)
        slow.granted.set()
        report = await stage.judge(here)
    judge(report, mutated, "stuck tail")


# --- tails ----------------------------------------------------------------------------------------------------------


class Unchecked(FaultyBackend):
    """Says that live records cannot get lost, so heads are not compared."""

    checks: ClassVar[bool] = False


@twins
async def test_no_look_at_the_heads(mutated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last message got lost on its way, and nothing comes after it that would show it."""
    monkeypatch.setattr("samovar.broadcast.channels.CHECK_EVERY", 0.1)
    broker = Broker()
    lossy = Unchecked(broker) if mutated else FaultyBackend(broker)
    async with hubs(MemoryBackend(broker), lossy) as [here, there], Stage(tmp_path) as stage:
        await stage.follow(there, "there")
        await stage.publish(here, 5)
        lossy.drop = lambda record: True
        await stage.publish(here)
        lossy.drop = lambda record: False
        report = await stage.judge(here)
    judge(report, mutated, "stuck tail")


class Soothing:
    """Between the backend and the hub: keeps to itself that the link was lost, as redis-py's PubSub does."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.known: set[str] = set()

    def attached(self, channels: Iterable[str]) -> None:
        fresh = [channel for channel in channels if channel not in self.known]
        self.known.update(fresh)
        self.receiver.attached(fresh)

    def detached(self, channels: Iterable[str] | None, why: str) -> None:
        """Nothing happened."""

    def refused(self, channels: Iterable[str], why: str) -> None:
        self.receiver.refused(channels, why)

    def message(self, record: Record) -> None:
        self.receiver.message(record)

    def health(self, health: Any) -> None:
        self.receiver.health(health)


class Resubscribing(RedisBackend):
    """Resubscribes in silence."""

    async def run(self, receiver: Receiver) -> None:
        await super().run(Soothing(receiver))


@twins
async def test_a_link_that_comes_back_in_silence(mutated: bool, tmp_path: Path, redis_here: None) -> None:
    broker = Redis(tmp_path)
    broker.start()
    try:
        async with Relay(broker.target) as relay:
            kind = Resubscribing if mutated else RedisBackend
            link = kind.from_url(broker.url(relay.port))
            async with hubs(broker.url(), link) as [here, there], Stage(tmp_path) as stage:
                await stage.follow(there, "there")
                await stage.publish(here, 3)
                await stage.caught_up(here)
                before = there.health.generation
                relay.refuse()
                relay.cut()
                await stage.publish(here)
                relay.restore()
                await until(lambda: there.health.generation > before, "the link to be back")
                report = await stage.judge(here)
    finally:
        broker.close()
    judge(report, mutated, "stuck tail")


# --- order, and twice -----------------------------------------------------------------------------------------------


@twins
@pytest.mark.parametrize("fault", ["lost", "swapped"])
async def test_no_look_at_what_came_before(
    mutated: bool, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live record is lost, or overtaken by the next one."""
    if mutated:
        no_contiguity(monkeypatch.setattr)
    broker = Broker()
    unruly = FaultyBackend(broker)
    async with hubs(MemoryBackend(broker), unruly) as [here, there], Stage(tmp_path) as stage:
        await stage.follow(there, "there")
        await stage.publish(here, 3)
        held: list[Record] = []

        def hold(record: Record) -> bool:
            held.append(record)
            return True

        unruly.drop = hold
        await stage.publish(here)
        unruly.drop = lambda record: False
        await stage.publish(here)
        if fault == "swapped":
            unruly.message(held[0])
        await stage.publish(here)
        report = await stage.judge(here)
    judge(report, mutated, "silent loss", "disorder")


class Forgetful(FaultyBackend):
    """Gives the broker a fresh id at each attempt."""

    attempt = 0

    async def publish(self, channel: str, envelope: bytes, **options: Any) -> Accepted:
        self.attempt += 1
        return await super().publish(channel, envelope, **{**options, "id": f"attempt{self.attempt}"})


@twins
async def test_no_memory_of_ids(mutated: bool, tmp_path: Path) -> None:
    """The answer to a publish is lost, and it is published again."""
    broker = Broker()
    kind: Callable[[Broker], FaultyBackend] = Forgetful if mutated else FaultyBackend
    unanswered = kind(broker)
    async with hubs(unanswered, MemoryBackend(broker)) as [here, there], Stage(tmp_path) as stage:
        await stage.follow(there, "there")
        await stage.publish(here)
        unanswered.fail["published"] = [PublishUnknown("the answer was lost")]
        await stage.publish(here, 2)
        report = await stage.judge(here)
    judge(report, mutated, "duplicate")


# --- in the workers of a whole run ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mutant", ["", "no incarnation"], ids=["twin", "mutant"])
async def test_a_whole_run_finds_it_and_tells_how_it_came(
    mutant: str, tmp_path: Path, redis_here: None
) -> None:
    broker = VolatileRedis(tmp_path)
    plan = Plan(run=tmp_path.name, seed=3, deep=4, brief=0, typing=0, slow=0, strangers=0, mutant=mutant)
    faults = {"rollback": faults_for(broker)["rollback"]}
    verdict = await endure(
        broker,
        plan,
        tmp_path,
        seed=3,
        enough=lambda _, done: done >= 2,
        faults=faults,
        pace=0.5,
        settle=2.0 if mutant else 30.0,
    )
    if mutant:
        assert {"disagreement", "silent loss"} & set(verdict.report.kinds)
        assert verdict.words.startswith("seed 3: ") and "FAULT rollback all" in verdict.words
    else:
        assert not verdict.words, verdict.words
