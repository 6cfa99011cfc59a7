"""RabbitMQ under every fault, once; and what is lost with its stream is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ..support.rabbitmq import RabbitServer
from .arena import Arena
from .brokers import RabbitMQ, SmallRabbitMQ
from .catalogue import Act, faults_for, stream_deleted, stream_truncated
from .ordeal import endure
from .plan import Plan

SEED = 11


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
