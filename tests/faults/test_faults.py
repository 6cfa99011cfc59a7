"""Every backend under every fault, once, in the order of a fixed seed; and 2,000 clients that come back at once.

The longer run, until so many messages are acknowledged: ``python -m tests.faults.run``.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from .arena import Arena
from .brokers import Broker, Local, Memory, RabbitMQ, Redis, Valkey, VolatileRedis
from .catalogue import LOSSY, faults_for, promise_for
from .checker import Promise
from .figures import measure
from .ordeal import endure
from .plan import Plan
from .timeline import explain

SEED = 11
CLIENTS = 2000
STORMS = 3
BROKERS = {
    "memory": Memory,
    "local": Local,
    "redis": Redis,
    "redis-volatile": VolatileRedis,
    "valkey": Valkey,
}


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Broker:
    if request.param == "rabbitmq":  # its other tests are in test_rabbitmq.py
        return RabbitMQ(tmp_path, request.getfixturevalue("rabbitmq"))
    kind = BROKERS[request.param]
    if issubclass(kind, Valkey):
        request.getfixturevalue("valkey_here")
    elif issubclass(kind, Redis):
        request.getfixturevalue("redis_here")
    made: Broker = kind(tmp_path)
    return made


async def test_nothing_is_lost_in_silence_under_any_fault(broker: Broker, tmp_path: Path) -> None:
    alone = not broker.shared
    plan = Plan(
        run=tmp_path.name,
        seed=SEED,
        clients=10,
        steady=1,
        lossy=1,
        hubs=3 if alone else 1,
        heads=alone,
        rate=40.0,
        lounges=2,
        lease=1.0,
        slack=10.0,
    )
    faults = faults_for(broker)
    verdict = await endure(
        broker,
        plan,
        tmp_path,
        seed=SEED,
        enough=lambda _, done: done >= len(faults),
        pace=0.5,
        rest=(0.05, 0.3),
    )
    assert not verdict.words, verdict.words
    assert set(verdict.figures.faults) >= set(faults)
    assert verdict.report.acked > 50 * len(faults) and verdict.report.received > verdict.report.acked
    assert verdict.report.resumed["own True"] > len(faults)


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
async def test_data_that_somebody_removes_from_a_durable_store_are_a_gap(
    broker: Broker, tmp_path: Path
) -> None:
    plan = Plan(run=tmp_path.name, seed=SEED, rate=40.0)
    verdict = await endure(
        broker, plan, tmp_path, seed=SEED, enough=lambda _, done: done >= 2 * len(LOSSY), faults=dict(LOSSY)
    )
    assert not verdict.words, verdict.words
    assert verdict.figures.gaps["reset"]["wipe"] > 0


@pytest.mark.parametrize("broker", ["local", "redis", "rabbitmq"], indirect=True)
async def test_thousands_of_clients_that_come_back_at_once_read_history_once(
    broker: Broker, tmp_path: Path
) -> None:
    """All workers are killed together, and their clients resume from their cursors at workers that know nothing yet."""
    plan = Plan(
        run=tmp_path.name,
        seed=SEED,
        rate=5.0,
        clients=CLIENTS // 3,
        steady=1,
        movers=0,
        slow=0,
        strangers=0,
        patience=10,
    )
    async with Arena(broker, plan, tmp_path, seed=SEED) as arena:
        for _ in range(STORMS):
            for worker in arena.workers:
                worker.kill()
            await arena.flood(50, 1000, "deep/0")
            async with arena.fault("worker kill"):
                for worker in arena.workers:
                    worker.start()
                for worker in arena.workers:
                    await arena.ready(worker)
            await arena.until(lambda: len(arena.tail.places) >= arena.streams, "all clients to be back")
            for worker in arena.workers:
                worker.signal(signal.SIGUSR2)
        promise: Promise = promise_for(arena)
        report, entries = await arena.judge(promise)
    assert not report.violations, explain(report, entries, SEED)
    assert report.resumed["own True"] + report.resumed["own False"] >= STORMS * CLIENTS
    reads = measure(entries).counters["reads"]
    assert reads <= len(arena.workers) * len(plan.channels) * 2, (
        "each worker's last life: one to resume, one to join"
    )
