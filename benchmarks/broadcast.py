"""What the broadcast layer costs in process, on the memory backend.

    python benchmarks/broadcast.py

It prints time per operation and, where cost must not grow, the ratio between many channels and few. The figures are
``time.perf_counter`` (``scale``: ``time.process_time``), the least of several rounds; on a busy machine look at the
ratios.
"""

from __future__ import annotations

# ruff: noqa: T201  # it prints its figures
import argparse
import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from samovar.broadcast import ChannelRule, Event, Hub, Subscription, latest
from samovar.broadcast.channel import Follow

ROUNDS = 5
SINKS = 1000
SLOW = 200
SHORT, LONG = 10, 10_000  # queues of those who never read
FEW, MANY = 10, 100_000  # channels
TIMES = 500


class NoSink:
    """Takes everything and does nothing: what is left is the cost of the road to it."""

    def __init__(self) -> None:
        self.taken = 0

    def offer(self, event: Event, size: int) -> bool:
        self.taken += 1
        return True

    def fell_behind(self, follow: Follow) -> None:
        raise AssertionError("it always has room")


async def least(work: Callable[[int], Awaitable[object]], count: int) -> float:
    """Seconds of one of *count* operations, in the best of several rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        gc.collect()
        begin = time.perf_counter()
        await work(count)
        best = min(best, time.perf_counter() - begin)
    return best / count


async def publish(hub: Hub, channel: str, count: int) -> None:
    """Publish small JSON, one after the other."""
    for number in range(count):
        await hub.publish(channel, {"n": number})


async def publish_rate() -> None:
    """Publish with nobody listening, and with one subscriber that reads."""
    hub = Hub()
    alone = await least(lambda n: publish(hub, "c", n), 5000)
    async with hub.subscribe("c") as messages:

        async def both(count: int) -> None:
            for number in range(count):
                await hub.publish("c", {"n": number})
                await messages.events()

        heard = await least(both, 5000)
    many = await least(lambda n: hub.publish_many([("c", {"n": number}) for number in range(n)]), 5000)
    print(f"publish, nobody listening        {alone * 1e6:8.2f} µs    {1 / alone:12,.0f} a second")
    print(f"publish_many, nobody listening   {many * 1e6:8.2f} µs    {1 / many:12,.0f} a second")
    print(f"publish, delivered and read      {heard * 1e6:8.2f} µs    {1 / heard:12,.0f} a second")
    await hub.stop()


async def fan_out() -> None:
    """One message to many: sinks that do nothing, then real subscriptions that queue and read."""
    hub = Hub()
    async with hub.subscribe("c") as first:
        channel = hub.channel("c")
        sinks = [NoSink() for _ in range(SINKS)]
        for sink in sinks:
            channel.go_live(channel.enter(sink))
        await first.events()
        nothing = await least(lambda n: publish(hub, "c", n), 500) / SINKS
        assert all(sink.taken == 500 * ROUNDS for sink in sinks)
    await hub.stop()

    hub = Hub()
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(hub.subscribe("c")) for _ in range(SINKS)]
        for reader in readers:
            await reader.events()

        async def told(count: int) -> None:
            for start in range(0, count, 50):
                await publish(hub, "c", min(50, count - start))
                for reader in readers:
                    await reader.events()

        queued = await least(told, 500) / SINKS
    print(f"delivery to a sink of {SINKS}       {nothing * 1e6:8.3f} µs    {1 / nothing:12,.0f} a second")
    print(f"delivery, queued and read        {queued * 1e6:8.3f} µs    {1 / queued:12,.0f} a second")
    await hub.stop()


async def overflow() -> None:
    """What a delivery costs to those who never read, by policy: the cost must not grow with their queue."""
    for policy in ("heal", "drop_oldest", latest("n")):
        costs = []
        for bound in (SHORT, LONG):
            hub = Hub()
            async with AsyncExitStack() as stack:
                for _ in range(SLOW):
                    slow = hub.subscribe("c", policy=policy, max_messages=bound, max_bytes=1 << 40)
                    await stack.enter_async_context(slow)
                await publish(hub, "c", bound)
                costs.append(await least(lambda n, hub=hub: publish(hub, "c", n), 500) / SLOW)  # type: ignore[misc]
            await hub.stop()
        few, many = (cost * 1e6 for cost in costs)
        print(
            f"to one who never reads, {policy!s:11} {few:6.3f} µs with {SHORT} queued, "
            f"{many:6.3f} µs with {LONG:,}: ratio {many / few:.2f}"
        )


class Followed:
    """A hub on which so many channels are followed.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.hub = Hub(channels=[ChannelRule("c/<int:n>")], linger=0)
        self.since = ""
        self.joined: list[Subscription] = []

    async def start(self, stack: AsyncExitStack) -> None:
        """Follow them all, and publish in each."""
        stack.push_async_callback(self.hub.stop)
        for number in range(self.count):
            await stack.enter_async_context(self.hub.subscribe(f"c/{number}"))
            await self.hub.publish(f"c/{number}", "first")
        self.since = await self.hub.cursor("c/1")
        await publish(self.hub, "c/1", 10)

    async def join(self, times: int) -> None:
        """Follow channels that nobody followed."""
        for number in range(times):
            self.joined.append(await self.hub.subscribe(f"new/{number}").__aenter__())

    async def leave(self, times: int) -> None:
        """Leave them, and let them be detached."""
        for subscription in self.joined:
            subscription.close()
        self.joined.clear()
        await asyncio.sleep(0)

    async def resume(self, times: int) -> None:
        """Come back to one channel, after ten messages."""
        for _ in range(times):
            async with self.hub.subscribe("c/1", since=self.since) as messages:
                await messages.events()

    async def publish(self, times: int) -> None:
        """Publish in one channel."""
        await publish(self.hub, "c/5", times)

    async def publish_all_over(self, times: int) -> None:
        """Publish in one channel after the other."""
        step = max(1, self.count // times)
        for number in range(times):
            await self.hub.publish(f"c/{number * step % self.count}", {"n": number})


async def scale() -> None:
    """The same with few channels and with many, in turns."""
    works = ("join", "leave", "resume", "publish", "publish_all_over")
    houses = Followed(FEW), Followed(MANY)
    best = {(house.count, work): float("inf") for house in houses for work in works}
    async with AsyncExitStack() as stack:
        for house in houses:
            await house.start(stack)
        gc.collect()
        for _ in range(8 * ROUNDS):
            for house in houses:
                for work in works:
                    begin = time.process_time()
                    await getattr(house, work)(TIMES)
                    took = (time.process_time() - begin) / TIMES
                    best[house.count, work] = min(best[house.count, work], took)
    for work in works:
        few, many = (best[count, work] * 1e6 for count in (FEW, MANY))
        print(
            f"{work.replace('_', ' '):20} {few:8.2f} µs with {FEW} channels, {many:8.2f} µs with {MANY:,}: "
            f"ratio {many / few:.2f}"
        )


async def storm() -> None:
    """Many subscribers of one channel come back at once."""
    hub = Hub(channels=[ChannelRule("c", history=100)])
    since = await hub.cursor("c")
    await publish(hub, "c", 100)
    subscriptions = [hub.subscribe("c", since=since) for _ in range(SINKS)]
    begin = time.perf_counter()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for subscription in subscriptions:
            group.create_task(stack.enter_async_context(subscription))
    took = time.perf_counter() - begin
    print(
        f"{SINKS} resumes of 100 messages     {took * 1e3:8.1f} ms    {hub.counters.reads} read(s) of history"
    )
    await hub.stop()


async def main() -> None:
    """Run what is asked for."""
    parts = {part.__name__: part for part in (publish_rate, fan_out, overflow, storm, scale)}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; all of them otherwise"
    )
    for name in parser.parse_args().parts or parts:
        await parts[name]()


if __name__ == "__main__":
    asyncio.run(main())
