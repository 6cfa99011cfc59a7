"""Random lives of a channel, checked: every subscriber sees everything once and in order, or a Gap that says so."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from samovar.backends.memory import Broker, MemoryBackend
from samovar.broadcast import ChannelRule, Gap, Hub, Message, Position, Subscribed, Subscription

from .faulty import FaultyBackend

CHANNELS = ("a", "b", "c/1")


@dataclass
class Reader:
    """A subscriber and the log of what it was handed."""

    subscription: Subscription
    link: FaultyBackend
    log: list[Any] = field(default_factory=list)
    at: dict[str, Position | None] = field(default_factory=dict)

    def take(self, events: list[Any]) -> None:
        """Add to the log."""
        self.log += events
        for event in events:
            self.at[event.channel] = event.until if isinstance(event, Gap) else event.position


class Checker:
    """What really was published, and whether a log agrees with it."""

    def __init__(self) -> None:
        self.truth: dict[tuple[str, str, int], int] = {}
        self.gaps = 0

    def published(self, channel: str, position: Position | None, number: int) -> None:
        assert position is not None
        assert self.truth.setdefault((channel, position.epoch, position.offset), number) == number

    def check(self, reader: Reader) -> dict[str, Position]:
        """Walk through the log; returns where it ends in each channel."""
        at: dict[str, Position] = {}
        opened: dict[str, Subscribed] = {}
        for event in reader.log:
            match event:
                case Subscribed():
                    assert event.channel not in opened, "two first words"
                    assert event.position is not None
                    opened[event.channel], at[event.channel] = event, event.position
                case Gap():
                    before = at[event.channel]
                    unknown = event.reason == "unknown"
                    assert unknown or event.after == before, f"{event} does not begin at {before}"
                    assert event.until is not None
                    assert unknown or event.until != before, "a Gap of nothing"
                    at[event.channel] = event.until
                    self.gaps += 1
                case Message():
                    before, position = at[event.channel], event.position
                    assert position == Position(before.epoch, before.offset + 1), (
                        f"{position} follows {before}"
                    )
                    assert self.truth[(event.channel, position.epoch, position.offset)] == event.data
                    at[event.channel] = position
        for channel, first in opened.items():
            events = [event for event in reader.log if event.channel == channel]
            if first.recovered is False:
                assert isinstance(events[1], Gap), "recovered: false, and no Gap"
        return at


class Life:
    """One random run."""

    def __init__(self, seed: int, *, keep: int, clears: bool) -> None:
        self.random = random.Random(seed)
        self.clears = clears
        self.empty_cursors = True
        broker = Broker()
        rules = [ChannelRule(name, history=keep) for name in CHANNELS]
        self.links = [
            FaultyBackend(broker, turns=self.random.choice((0, 1, 3))),
            FaultyBackend(broker, turns=2),
        ]
        self.hubs = [Hub(link, channels=rules, linger=self.random.choice((0, 0.001))) for link in self.links]
        self.publisher = Hub(MemoryBackend(broker), channels=rules)
        self.checker = Checker()
        self.readers: list[Reader] = []
        self.cursors: list[str] = []
        self.number = 0

    async def publish(self) -> None:
        for _ in range(self.random.choice((1, 1, 2, 30))):
            channel = self.random.choice(CHANNELS)
            self.number += 1
            published = await self.publisher.publish(channel, self.number)
            self.checker.published(channel, published.position, self.number)

    async def join(self) -> None:
        hub, link = self.random.choice(list(zip(self.hubs, self.links, strict=True)))
        if link.is_cut:
            return
        since = self.random.choice([None, *([""] if self.empty_cursors else []), *self.cursors[-6:]])
        bound = self.random.choice((1, 2, 5, 1000))
        last = self.random.choice((None, 0, 3))
        channels = self.random.sample(CHANNELS, self.random.choice((1, 2, 3)))
        subscription = hub.subscribe(*channels, since=since, last=last, max_messages=bound)
        reader = Reader(subscription, link)
        await subscription.__aenter__()
        self.readers.append(reader)

    async def read(self) -> None:
        for reader in self.random.sample(self.readers, min(len(self.readers), 3)):
            if reader.link.is_cut or self.random.random() < 0.3:
                await self.read_interrupted(reader)
            else:
                reader.take(await reader.subscription.events(timeout=0))

    async def read_interrupted(self, reader: Reader) -> None:
        """Cancel a read after a few turns; what it had not returned must come later."""
        task = asyncio.ensure_future(reader.subscription.events())
        for _ in range(self.random.randrange(5)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            reader.take(task.result())

    async def part(self) -> None:
        if not self.readers:
            return
        reader = self.readers.pop(self.random.randrange(len(self.readers)))
        self.cursors.append(self.full_cursor(reader))
        reader.subscription.close()
        self.checker.check(reader)

    def full_cursor(self, reader: Reader) -> str:
        """Its cursor with the channel's name, as one of several would be."""
        cursor = reader.subscription.cursor
        if "=" in cursor:
            return cursor
        return f"{reader.subscription.channels[0]}={cursor}"

    async def fault(self) -> None:
        link = self.random.choice(self.links)
        if link.is_cut:
            link.restore()
        elif self.random.random() < 0.5:
            link.cut()
        else:
            lost = self.random.randrange(1, 4)

            def drop(_: object) -> bool:
                nonlocal lost
                lost -= 1
                return lost >= 0

            link.drop = drop

    async def clear(self) -> None:
        if self.clears:
            await self.publisher.clear(self.random.choice(CHANNELS))

    async def step(self) -> None:
        do = self.random.choices(
            (self.publish, self.join, self.read, self.part, self.fault, self.clear),
            weights=(8, 3, 8, 1, 1, 0.5),
        )[0]
        await do()
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)

    async def settle(self) -> None:
        """Heal every link, let every reader read to the end, and check it stands where the broker does."""
        for hub, link in zip(self.hubs, self.links, strict=True):
            link.drop = lambda record: False
            if link.is_cut:
                link.restore()
            for channel in hub._channels.table.values():
                channel.quiet = True
            hub._channels.check_quiet()
        heads = {name: Position.parse(await self.publisher.cursor(name)) for name in CHANNELS}
        for reader in self.readers:
            wanted = {name: heads[name] for name in reader.subscription.channels}
            async with asyncio.timeout(60):
                while reader.at != wanted:
                    reader.take(await reader.subscription.events())
            assert self.checker.check(reader) == wanted
            assert await reader.subscription.events(timeout=0) == []
            reader.subscription.close()

    async def run(self, steps: int) -> None:
        async with self.publisher, self.hubs[0], self.hubs[1]:
            for _ in range(steps):
                await self.step()
            await self.settle()


@pytest.mark.parametrize("seed", range(16))
async def test_nothing_is_lost_doubled_or_disordered_without_a_gap(seed: int) -> None:
    life = Life(seed, keep=random.Random(seed).choice((0, 1, 8, 40)), clears=True)
    await life.run(300)
    assert life.number > 100


@pytest.mark.parametrize("seed", range(100, 110))
async def test_with_history_enough_there_is_no_gap_at_all(seed: int) -> None:
    life = Life(seed, keep=10_000, clears=False)
    life.cursors = [",".join([f"{name}={await life.publisher.cursor(name)}" for name in CHANNELS])]
    life.empty_cursors = False  # such a cursor is a Gap by itself
    await life.run(300)
    assert life.checker.gaps == 0
    assert life.number > 100
