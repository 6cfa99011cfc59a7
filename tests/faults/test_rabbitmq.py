"""RabbitMQ under every fault, once; what is lost with its stream is told; and that this can fail."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ..support.rabbitmq import RabbitServer
from ..support.until import PATIENCE
from .arena import Arena
from .brokers import RabbitMQ, SmallRabbitMQ
from .catalogue import Act, faults_for, stream_deleted, stream_truncated
from .checker import Promise
from .mutants import no_look_for_holes, no_memory_of_ids
from .ordeal import endure
from .plan import Plan
from .relay import Relay
from .stage import Stage
from .test_mutants import hubs, judge, twins

SEED = 11
TRUNCATED = Promise(gaps={"stream truncated": 1}, sparse=True)


class Once:
    """Faults that say whether each has been there."""

    def __init__(self, faults: Mapping[str, Act]) -> None:
        self.left = set(faults)
        self.acts = {name: self._noted(name, act) for name, act in faults.items()}

    def _noted(self, name: str, act: Act) -> Act:
        async def noted(arena: Arena) -> None:
            await act(arena)
            self.left.discard(name)

        return noted

    def done(self, arena: Arena, count: int) -> bool:
        """All were there."""
        return not self.left


@pytest.mark.limit(300)
async def test_nothing_is_lost_in_silence_under_any_fault(rabbitmq: RabbitServer, tmp_path: Path) -> None:
    """The server's faults and those of links and workers go on at the same time: it takes long to start."""
    broker = RabbitMQ(tmp_path, rabbitmq)
    plan = Plan(run=tmp_path.name, seed=SEED, clients=10, steady=1, lossy=1, rate=30.0, lounges=2, lease=2.0)
    once = Once(faults_for(broker))
    verdict = await endure(
        broker,
        plan,
        tmp_path,
        seed=SEED,
        enough=once.done,
        faults=once.acts,
        pace=0.3,
        rest=(0.05, 0.3),
        overlap=True,
    )
    assert not verdict.words, verdict.words
    assert set(verdict.figures.faults) == set(once.acts)
    assert verdict.report.acked > 100 and verdict.report.received > verdict.report.acked
    assert verdict.report.resumed["own True"] > len(once.acts)


@pytest.mark.limit(300)
@pytest.mark.parametrize(
    ("kind", "name", "act"),
    [
        (RabbitMQ, "stream deleted", stream_deleted),
        (SmallRabbitMQ, "stream truncated", stream_truncated),
    ],
)
async def test_what_the_stream_loses_is_a_gap(
    kind: type[RabbitMQ], name: str, act: Act, rabbitmq: RabbitServer, tmp_path: Path
) -> None:
    plan = Plan(run=tmp_path.name, seed=SEED, rate=40.0)
    verdict = await endure(
        kind(tmp_path, rabbitmq),
        plan,
        tmp_path,
        seed=SEED,
        enough=lambda _, done: done >= 1,
        faults={name: act},
        pace=0.5,
    )
    assert not verdict.words, verdict.words
    assert sum(verdict.figures.gaps[reason][name] for reason in ("reset", "lost", "expired")) > 0


@twins
async def test_what_the_stream_dropped_is_not_looked_for(
    mutated: bool, rabbitmq: RabbitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that comes back is moved forward by the server, without a word, to what the stream still has."""
    if mutated:
        no_look_for_holes(monkeypatch.setattr)
    broker = SmallRabbitMQ(tmp_path, rabbitmq)
    async with (
        Relay(broker.target) as relay,
        hubs(broker.url(), broker.url(relay.port)) as [here, there],
        Stage(tmp_path) as stage,
    ):
        await stage.publish(here, 5)
        await stage.follow(there, "there")
        await stage.caught_up(here)
        relay.refuse()
        relay.cut()
        await stage.publish(here, 10)
        for _ in range(20):
            await here.publish_many([("flood", "x" * 60_000)] * 10)
        stage.fault("stream truncated")
        relay.restore()
        await stage.publish(here, 10)
        report = await stage.judge(here, TRUNCATED, limit=PATIENCE)
    judge(report, mutated, "silent loss")


@twins
async def test_no_memory_of_ids(
    mutated: bool, rabbitmq: RabbitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mutated:
        no_memory_of_ids(monkeypatch.setattr)
    broker = RabbitMQ(tmp_path, rabbitmq)
    async with hubs(broker.url(), broker.url()) as [here, there], Stage(tmp_path) as stage:
        await stage.follow(there, "there")
        for hub in (here, there):
            stage.published = 0
            await stage.publish(hub, 3)
        report = await stage.judge(here, TRUNCATED, limit=PATIENCE)
    judge(report, mutated, "duplicate")
