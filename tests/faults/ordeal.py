"""Runs a plan under a seeded sequence of faults and says what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .arena import SETTLE, Arena
from .brokers import Broker
from .catalogue import NETWORK, WORKERS, Act, faults_for, pause, promise_for
from .checker import Promise, Report
from .figures import Figures, measure
from .journal import Entry
from .plan import Plan
from .timeline import explain


@dataclass
class Verdict:
    """What came of a run.

    Args:
        report: of the checker.
        figures: what was measured.
        words: what went wrong, empty when nothing did.
        seconds: how long the faults went on.
    """

    report: Report
    figures: Figures
    words: str
    seconds: float


def sequence(arena: Arena, faults: Mapping[str, Act]) -> Iterator[Act]:
    """Faults without end: all of them in an order of the seed's, then all again in another."""
    while True:
        names = sorted(faults)
        arena.random.shuffle(names)
        yield from (faults[name] for name in names)


def lanes(faults: Mapping[str, Act]) -> list[dict[str, Act]]:
    """The broker's faults, and those of links and workers: two of one kind at a time would undo each other."""
    outside = {name: act for name, act in faults.items() if name in NETWORK or name in WORKERS}
    inside = {name: act for name, act in faults.items() if name not in outside}
    return [lane for lane in (inside, outside) if lane]


async def endure(
    broker: Broker,
    plan: Plan,
    folder: Path,
    *,
    seed: int,
    enough: Callable[[Arena, int], bool],
    faults: dict[str, Act] | None = None,
    promise: Callable[[Arena], Promise] = promise_for,
    rest: tuple[float, float] = (0.1, 0.5),
    pace: float = 1.0,
    env: Mapping[str, str] | None = None,
    settle: float = SETTLE,
    overlap: bool = False,
) -> Verdict:
    """Let *plan* go on, fault after fault, until *enough*.

    Args:
        broker: not started yet.
        plan: what the workers do.
        folder: for journals and logs.
        seed: of everything random.
        enough: told the arena and how many faults are over.
        faults: which; all that can be done to *broker* otherwise.
        promise: what must hold.
        rest: seconds of peace between two faults, at least and at most.
        pace: stretches the faults and the rest.
        env: variables for the workers.
        settle: seconds after the last publish within which everybody stands at the head.
        overlap: the broker's faults and those of links and workers go on at the same time.
    """
    known = faults_for(broker) if faults is None else faults
    async with Arena(broker, plan, folder, seed=seed, pace=pace, env=env, settle=settle) as arena:
        began, done = time.monotonic(), 0

        async def go_on(faults: Mapping[str, Act]) -> None:
            nonlocal done
            acts = sequence(arena, faults)
            await pause(arena, *rest)
            while not enough(arena, done):
                await next(acts)(arena)
                await pause(arena, *rest)
                arena.tail.read()
                done += 1

        async with asyncio.TaskGroup() as group:
            for lane in lanes(known) if overlap else [known]:
                group.create_task(go_on(lane))
        seconds = time.monotonic() - began
        report, entries = await arena.judge(promise(arena))
    return Verdict(report, measure(entries), _words(report, entries, seed, folder), seconds)


def _words(report: Report, entries: list[Entry], seed: int, folder: Path) -> str:
    words = explain(report, entries, seed)
    return f"{words}\n\njournals and logs are in {folder}" if words else ""
