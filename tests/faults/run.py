"""The longer run: ``python -m tests.faults.run --backend redis --seed 1 --messages 100000``.

Fault after fault until so many messages are acknowledged, then a report; exit status 1 when a promise was broken, with
the seed and a timeline of each kind of breach. ``--backend`` is memory, local, redis, redis-volatile, valkey,
valkey-volatile, rabbitmq or rabbitmq-small (whose stream keeps 8 MiB). ``--disk`` (Redis and Valkey, as root, Linux)
puts their files on a file system that fills up now and then; ``--clock`` (with a C compiler, Linux) lets the clocks of
broker and workers jump.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import secrets
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..services import Missing
from .brokers import Local, Memory, RabbitMQ, Redis, SmallRabbitMQ, Valkey, VolatileRedis, VolatileValkey
from .catalogue import Act, all_faults_for, faults_for
from .figures import Figures
from .ordeal import Verdict, endure
from .plan import Plan
from .trouble import Clocks, Disk, Unavailable

BROKERS: dict[str, type[Any]] = {
    "memory": Memory,
    "local": Local,
    "redis": Redis,
    "redis-volatile": VolatileRedis,
    "valkey": Valkey,
    "valkey-volatile": VolatileValkey,
    "rabbitmq": RabbitMQ,
    "rabbitmq-small": SmallRabbitMQ,
}


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.run", description="Delivery under faults, for longer."
    )
    parser.add_argument("--backend", choices=BROKERS, default="redis")
    parser.add_argument("--seed", type=int, default=None, help="of everything random; a fresh one otherwise")
    parser.add_argument("--messages", type=int, default=100_000, help="go on until so many are acknowledged")
    parser.add_argument("--faults", default="", help="only these, separated by commas")
    parser.add_argument("--rate", type=float, default=80.0, help="publishes a second of each of 9 publishers")
    parser.add_argument(
        "--heartbeat", type=float, default=2.0, help="of the backend of Redis or RabbitMQ, in seconds"
    )
    parser.add_argument(
        "--pace", type=float, default=1.0, help="stretches the faults and the peace between them"
    )
    parser.add_argument(
        "--overlap", action="store_true", help="the broker's faults and the others at the same time"
    )
    parser.add_argument("--disk", action="store_true", help="the disk fills up, too (as root)")
    parser.add_argument("--clock", action="store_true", help="clocks jump, too (needs cc)")
    parser.add_argument("--folder", type=Path, default=None, help="for journals and logs; kept")
    return parser.parse_args(arguments)


def plan_of(options: argparse.Namespace, seed: int) -> Plan:
    """What the workers do: 9 publishers, 6 to 9 broad readers, 60 of one channel each."""
    alone = not BROKERS[options.backend].shared
    return Plan(
        run=secrets.token_hex(4),
        seed=seed,
        publishers=3,
        rate=options.rate,
        steady=1,
        lossy=1,
        clients=20,
        hubs=3 if alone else 1,
        heads=alone,
        lounges=0 if options.clock else 2,  # leases are times of the broker's clock
        lease=3.0,
    )


def chosen(known: dict[str, Act], names: str) -> dict[str, Act]:
    """Those that were asked for.

    Raises:
        SystemExit: one is unknown.
    """
    asked = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := set(asked) - set(known):
        raise SystemExit(
            f"no fault of this backend: {', '.join(sorted(unknown))}; there are {', '.join(known)}"
        )
    return {name: known[name] for name in asked}


async def run(options: argparse.Namespace, seed: int, folder: Path) -> Verdict:
    """One run."""
    kind = BROKERS[options.backend]
    redis = issubclass(kind, Redis)
    clocks = Clocks(folder) if options.clock else None
    disk = Disk(folder / "broker") if options.disk and redis else None
    try:
        beats = issubclass(kind, Redis | RabbitMQ)
        broker = kind(folder, heartbeat=options.heartbeat) if beats else kind(folder)
        if isinstance(broker, Redis) and clocks is not None:
            broker.preload(clocks.env("broker"))
        more: dict[str, Act] = {} if disk is None else {"full disk": disk.fill}
        more |= {} if clocks is None else {"clock": clocks.jump}
        return await endure(
            broker,
            plan_of(options, seed),
            folder,
            seed=seed,
            enough=lambda arena, _: arena.tail.acked >= options.messages,
            faults=chosen({**all_faults_for(broker), **more}, options.faults)
            or {**faults_for(broker), **more},
            pace=options.pace,
            overlap=options.overlap,
            env=None if clocks is None else clocks.env("workers"),
        )
    finally:
        if disk is not None:
            disk.close()


# --- the report -----------------------------------------------------------------------------------------------------


def report(options: argparse.Namespace, seed: int, verdict: Verdict) -> list[str]:
    """In lines."""
    found, figures = verdict.report, verdict.figures
    kinds = found.kinds
    loss = sum(
        kinds[kind] for kind in ("silent loss", "stuck tail", "hidden Gap", "false recovery", "misplaced")
    )
    disorder = kinds["disorder"] + kinds["disagreement"]
    duration = f"{verdict.seconds:.0f} s of faults"
    lines = [
        f"backend {options.backend}, seed {seed}, {duration}, {sum(figures.faults.values())} faults: "
        + ", ".join(f"{count} {name}" for name, count in sorted(figures.faults.items())),
        f"acknowledged {found.acked}, unknown {found.unknown}, rejected {found.rejected}; received {found.received} "
        f"in {found.streams} streams",
        f"silent loss {loss}, duplicates {kinds['duplicate']}, disorder {disorder}, all breaches {sum(kinds.values())}",
        "resumed: " + ", ".join(f"{count} {name}" for name, count in sorted(found.resumed.items())),
        f"doubled after a loss that was told: {found.redelivered}; history reads {figures.counters['reads']}",
        f"presence: {found.entered} members, {found.listed} lists, {found.heard} joins and leaves heard; "
        f"members of a killed worker listed {found.departed:.2f} s at most (lease 3 s)",
        f"publish p50 {figures.quantile(0.5) * 1000:.2f} ms, p99 {figures.quantile(0.99) * 1000:.0f} ms, "
        f"longest {figures.quantile(1.0):.2f} s (faults included)",
    ]
    return [*lines, *_tables(figures)]


def _tables(figures: Figures) -> list[str]:
    lines = ["longest from the end of a fault to the first delivery at every worker it hit:"]
    lines += [f"  {name}: {seconds:.2f} s" for name, seconds in sorted(figures.outages.items())]
    if figures.noticed:
        lines.append("longest until a half-open link was noticed:")
        lines += [f"  {name}: {seconds:.2f} s" for name, seconds in sorted(figures.noticed.items())]
    lines.append(
        "Gaps of subscribers with cursors of their own on channels that keep everything, by reason and fault:"
    )
    for reason, table in sorted(figures.gaps.items()):
        lines.append(f"  {reason}: " + ", ".join(f"{count} {name}" for name, count in table.most_common()))
    lines.append(f"other Gaps: {figures.other_gaps}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    options = options_of(arguments)
    logging.getLogger("samovar").setLevel(logging.ERROR)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    folder = options.folder or Path(tempfile.mkdtemp(prefix="samovar-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}, journals and logs in {folder}", flush=True)
    try:
        verdict = asyncio.run(run(options, seed, folder))
    except (Missing, Unavailable) as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(report(options, seed, verdict)))
    if verdict.words:
        print(f"\n{verdict.words}")
        return 1
    if options.folder is None:
        shutil.rmtree(folder)
    print("no promise was broken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
