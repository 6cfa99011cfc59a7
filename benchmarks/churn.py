"""Ten minutes of churn: joins, leaves and publishes over 10,000 channels, and what the process weighs meanwhile.

    python benchmarks/churn.py [--seconds 600] [--settle 420] [--url memory://] [--plot docs/_static/churn.svg]

Subscribers come to random channels (one in ten resumes from a cursor of a while ago), read what is there and go; every
channel is published to now and then; members enter and leave. Fifty rounds a second, however fast the machine is, since
more work in the same time keeps more.

All channels and their presence are used once, and the same work goes on for ``--settle`` seconds before the first
sample: joins and leaves of members are kept for five minutes, so until these are over growth is to be expected. After
that it is a leak. Resident memory is sampled once a second; the slope is that of a straight line through all samples.
At first and at last it also counts the blocks that Python has allocated, rubbish collected: the same without the
allocator's part.
"""

from __future__ import annotations

# ruff: noqa: T201  # it prints its figures
import argparse
import asyncio
import gc
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from samovar.broadcast import ChannelRule, Hub, Member, Subscription

CHANNELS = 10_000
RULE = ChannelRule("churn/<int:n>", history=20, ttl=60)
AT_ONCE = 500
ROUND = 0.02  # seconds from the begin of a round to that of the next
WIDTH, HEIGHT, LEFT, BOTTOM = 720, 240, 56, 28


def resident() -> float:
    """MiB of resident memory."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def blocks() -> int:
    """How many blocks of memory Python has allocated, rubbish not counted."""
    gc.collect()
    return sys.getallocatedblocks()


class Churn:
    """One life: random work until the time is over.

    Args:
        hub: what is worked.
        seed: of the random choices.
    """

    def __init__(self, hub: Hub, seed: int = 1) -> None:
        self.hub = hub
        self.random = random.Random(seed)
        self.open: list[tuple[str, Subscription]] = []
        self.cursors: dict[str, str] = {}
        self.counts = Counter[str]()

    def channel(self) -> str:
        return f"churn/{self.random.randrange(CHANNELS)}"

    async def join(self) -> None:
        channel = self.channel()
        since = self.cursors[channel] if self.random.random() < 0.1 else None
        subscription = await self.hub.subscribe(channel, since=since).__aenter__()
        self.open.append((channel, subscription))
        self.counts["joins"] += 1

    async def leave(self) -> None:
        index = self.random.randrange(len(self.open))
        self.open[index], self.open[-1] = self.open[-1], self.open[index]
        channel, subscription = self.open.pop()
        self.counts["received"] += len(await subscription.events(timeout=0))
        self.cursors[channel] = subscription.cursor
        subscription.close()
        self.counts["leaves"] += 1

    async def publish(self) -> None:
        await self.hub.publish(
            self.channel(), {"n": self.random.random(), "text": "x" * self.random.randrange(200)}
        )
        self.counts["publishes"] += 1

    async def member(self) -> None:
        channel, name = self.channel(), f"m{self.random.randrange(10**9)}"
        await self.hub.enter(channel, Member(name))
        await self.hub.leave(channel, name, grace=0)
        self.counts["members"] += 1

    async def warm_up(self) -> None:
        """Make every channel be, and its presence, so that what grows later is no channel's first use."""
        for n in range(CHANNELS):
            channel = f"churn/{n}"
            await self.hub.publish(channel, n)
            await self.hub.enter(channel, Member("first"))
            await self.hub.leave(channel, "first", grace=0)
            self.cursors[channel] = await self.hub.cursor(channel)

    async def run(self, seconds: float) -> list[tuple[float, float]]:
        """Work; returns (second, MiB), once a second."""
        start = due = time.monotonic()
        samples = [(0.0, resident())]
        while (now := time.monotonic() - start) < seconds:
            await self.round()
            due += ROUND
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if now - samples[-1][0] >= 1:
                samples.append((now, resident()))
        return samples

    async def round(self) -> None:
        """Twenty publishes, one or two subscribers that come or go, and now and then a member."""
        for _ in range(20):
            await self.publish()
        await (self.join() if len(self.open) < AT_ONCE else self.leave())
        if self.open and self.random.random() < 0.5:
            await self.leave()
        if self.random.random() < 0.2:
            await self.member()


def slope(points: list[tuple[float, float]]) -> float:
    """How much a minute, by least squares."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread * 60


def plot(samples: list[tuple[float, float]], title: str) -> str:
    """The samples as an SVG."""
    top = max(y for _, y in samples) * 1.15
    last = samples[-1][0]

    def at(x: float, y: float) -> str:
        return f"{LEFT + x / last * (WIDTH - LEFT - 12):.1f},{HEIGHT - BOTTOM - y / top * (HEIGHT - BOTTOM - 34):.1f}"

    line = " ".join(at(x, y) for x, y in samples)
    marks = ""
    for step in range(5):
        y = top * step / 4
        _, _, height = at(0, y).partition(",")
        marks += f'<line x1="{LEFT}" x2="{WIDTH - 12}" y1="{height}" y2="{height}" stroke="#8884"/>'
        marks += (
            f'<text x="{LEFT - 8}" y="{height}" text-anchor="end" dominant-baseline="middle">{y:.0f}</text>'
        )
    for step in range(6):
        x = last * step / 5
        place, _, _ = at(x, 0).partition(",")
        marks += f'<text x="{place}" y="{HEIGHT - 8}" text-anchor="middle">{x / 60:.0f} min</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" fill="#777"><text x="{LEFT}" y="18" font-size="13">{title}</text>{marks}'
        f'<polyline points="{line}" fill="none" stroke="#a8521f" stroke-width="1.5"/></svg>\n'
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--settle", type=float, default=420)
    parser.add_argument("--url", default="memory://")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    async with Hub(arguments.url, channels=[RULE], linger=1) as hub:
        churn = Churn(hub)
        await churn.warm_up()
        await churn.run(arguments.settle)
        churn.counts.clear()
        before = blocks()
        samples = await churn.run(arguments.seconds)
        told = ", ".join(f"{count:,} {name}" for name, count in churn.counts.items())
        if churn.counts["publishes"] < 0.98 * 20 * arguments.seconds / ROUND:
            print(
                "the machine was too busy to keep the pace: what is kept varied, and the slope says nothing"
            )
        kib = slope([(x, y * 1024) for x, y in samples])
        print(f"{arguments.url}: {samples[-1][0]:.0f} s, {told}")
        print(
            f"resident: {samples[0][1]:.1f} MiB at first, {samples[-1][1]:.1f} at last; {kib:+.1f} KiB a minute"
        )
        print(f"blocks: {before:,} at first, {blocks():,} at last")
        print("left:", {name: hub.stats()[name] for name in ("channels", "subscriptions", "queued")})
        if arguments.plot:
            title = f"Resident memory, MiB: churn over {CHANNELS:,} channels. Slope: {kib:+.1f} KiB a minute"
            arguments.plot.write_text(plot(samples, title))


if __name__ == "__main__":
    asyncio.run(main())
