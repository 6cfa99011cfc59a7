"""What the RabbitMQ backend costs: latency, publishes a second, a worker that starts on a full log, losses of the link.

    python benchmarks/bench_rabbitmq.py                      # a private RabbitMQ, that of the tests
    python benchmarks/bench_rabbitmq.py --url amqp://host/   # a server of yours (not the parts that break it)

Run from the top of the repository. Hub, backend and server are on one machine, on loopback; figures depend on it, and
on whatever else it does. The private server has one scheduler, as in the tests, so a server of yours is faster. The
goals are those of the project: p50 of a confirm at most 2.5 ms and of a publish to its position at most 5 ms, 3,000
publishes a second from one worker, a full log of the default size read within 5 s, a half-open link found within 4 s,
delivery within 2 s of the broker's return.
"""

from __future__ import annotations

# ruff: noqa: T201, ASYNC110  # it prints its figures, and looks at what has no event
import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from samovar.backends.rabbitmq import RabbitBackend
from samovar.backends.rabbitmq.entry import MARK, write
from samovar.backends.rabbitmq.keeper import Keeper
from samovar.broadcast import Hub, Message, State

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.services import RABBITMQ
from tests.support.proxy import Proxy
from tests.support.rabbitmq import RabbitServer

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]


def row(what: str, figure: str, goal: str = "") -> None:
    print(f"{what:58} {figure:>20}   {goal}", flush=True)


def at(url: str, stream: str) -> str:
    """*url* with a stream of this run's own."""
    return f"{url}{'&' if '?' in url else '?'}stream=bench.{time.time_ns()}.{stream}"


def keeper(hub: Hub) -> Keeper:
    assert isinstance(hub.backend, RabbitBackend)
    return hub.backend._keeper


async def wait_up(hub: Hub, generation: int = 0) -> None:
    while hub.health.state is State.DOWN or hub.health.generation <= generation:
        await asyncio.sleep(0.0005)


async def latency(url: str) -> None:
    """One after the other: the broker's confirm, a publish to its position, and to another hub's subscriber."""
    async with Hub(url) as one, Hub(url) as two, two.subscribe("latency") as messages:
        await wait_up(one)
        confirm, publish, deliver = [], [], []
        session = keeper(one).session
        assert session is not None
        head = session.heads[keeper(one).options.stream]
        for n in range(2000):
            began = time.perf_counter()
            await session.out.publish(head, write(MARK, 0, rest=b"x" * 100))
            confirm.append(time.perf_counter() - began)
            began = time.perf_counter()
            await one.publish("latency", n, position=True)
            publish.append(time.perf_counter() - began)
            await anext(messages)
            deliver.append(time.perf_counter() - began)
        for name, times, goal in (
            ("the broker's confirm", confirm, "goal p50 ≤ 2.5 ms"),
            ("publish to its position", publish, "goal p50 ≤ 5 ms"),
            ("publish to delivery by another worker", deliver, ""),
        ):
            cuts = statistics.quantiles(times, n=100)
            row(f"{name}, p50 / p99", f"{cuts[49] * 1000:.2f} / {cuts[98] * 1000:.2f} ms", goal)


async def rate(url: str, count: int) -> None:
    """Publishes of 100 bytes from one worker, 100 at a time."""
    body = "x" * 100
    async with Hub(url) as hub:
        await wait_up(hub)

        async def some() -> None:
            for n in range(count // 100):
                await hub.publish(f"rate/{n % 50}", body)

        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(some() for _ in range(100)))
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        row("publishes a second, 100 concurrently", f"{count / took:,.0f}", "goal ≥ 3,000")
        row("  CPU of the worker for each, reading it included", f"{cpu / count * 1e6:.0f} µs")
        began = time.perf_counter()
        for _ in range(count // 500):
            await hub.publish_many([("rate/many", body)] * 500)
        row("publishes a second, publish_many of 500", f"{count / (time.perf_counter() - began):,.0f}")


async def reads(url: str) -> None:
    """History of 100 messages of 100 bytes, and heads."""
    async with Hub(url) as hub:
        await wait_up(hub)
        await hub.publish_many([("reads", "x" * 100)] * 100)

        async def loop() -> None:
            for _ in range(200):
                await hub.backend.history("reads", limit=500)

        began = time.perf_counter()
        await asyncio.gather(*(loop() for _ in range(20)))
        row("reads of 100 messages a second, 20 at a time", f"{4000 / (time.perf_counter() - began):,.0f}")
        began = time.perf_counter()
        await hub.backend.heads([f"heads/{n}" for n in range(5000)])
        row("heads of 5,000 channels, one call", f"{(time.perf_counter() - began) * 1000:.0f} ms")


async def late_worker(url: str) -> None:
    """A worker that starts on a full log of 64 MiB, in messages of 200 bytes on 1,000 channels."""
    async with Hub(url) as hub:
        await wait_up(hub)
        for part in range(720):
            await hub.publish_many(
                [(f"late/{n % 1000}", "x" * 200) for n in range(part * 500, part * 500 + 500)]
            )
    for _ in range(2):
        began, cpu = time.perf_counter(), time.process_time()
        async with Hub(url) as hub:
            await wait_up(hub)
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
            log = keeper(hub).log
            row(
                f"start on a full log: {log.last - log.first + 1:,} entries, {log.read >> 20} MiB",
                f"{took:.2f} s",
                "goal ≤ 5 s",
            )
            row("  CPU of the worker for each entry", f"{cpu / (log.last - log.first + 1) * 1e6:.1f} µs")


async def reattach(url: str) -> None:
    """5,000 channels over a cut link; 500 messages were published meanwhile."""
    count = 5000
    async with Hub(url) as publisher, Hub(url, outbox_messages=100_000, outbox_bytes=1 << 30) as hub:
        await wait_up(publisher)
        await wait_up(hub)
        names = [f"attach/{n}" for n in range(count)]
        began = time.perf_counter()
        async with hub.subscribe(*names) as messages:
            row(f"{count:,} channels joined for the first time", f"{time.perf_counter() - began:.2f} s")
            session = keeper(hub).session
            assert session is not None
            session.tail.abort("cut by the benchmark")
            await publisher.publish_many([(name, "meanwhile") for name in names[::10]])
            began = time.perf_counter()
            await wait_up(hub, 1)
            got = 0
            while got < count // 10:
                got += isinstance(await anext(messages), Message)
            caught = time.perf_counter() - began
            while not all(channel.flows for channel in hub._channels.table.values()):
                await asyncio.sleep(0.001)
            row(f"{count // 10} missed messages of {count:,} channels caught up", f"{caught:.2f} s")
            row(f"all {count:,} channels live again", f"{time.perf_counter() - began:.2f} s", "goal ≤ 2 s")
            assert not any(hub.counters.gaps.values()), hub.counters.gaps


async def hole(server: RabbitServer) -> None:
    """From the moment in which nothing gets through any more to its discovery."""
    times = []
    async with Proxy(server.port) as proxy, Hub(at(server.url(port=proxy.port), "hole")) as hub:
        await wait_up(hub)
        for n in range(5):
            await asyncio.sleep(0.7 * n)
            proxy.stall()
            began = time.perf_counter()
            while hub.health.state is not State.DOWN:
                await asyncio.sleep(0.001)
            times.append(time.perf_counter() - began)
            proxy.restore()
            await wait_up(hub, n + 1)
    row("a half-open link is found after, most of 5", f"{max(times):.2f} s", "goal ≤ 4 s")


async def back(server: RabbitServer) -> None:
    """From the broker answering again to the first delivery, three times."""
    url = at(server.url(), "back")
    times = []
    async with Hub(url, publish_timeout=60) as one, Hub(url) as two, two.subscribe("back") as messages:
        await asyncio.sleep(2)  # of a coordinator of streams that is younger the broker finds nothing again
        for n in range(3):
            server.kill()
            while two.health.state is not State.DOWN:
                await asyncio.sleep(0.001)
            publishing = asyncio.ensure_future(one.publish("back", n))
            await server.up()
            began = time.perf_counter()
            await anext(messages)
            times.append(time.perf_counter() - began)
            await publishing
    row(
        "first delivery after the broker's return, median / most",
        f"{statistics.median(times):.2f} / {max(times):.2f} s",
        "goal ≤ 2 s",
    )


async def run(url: str, server: RabbitServer | None, count: int) -> None:
    await latency(at(url, "latency"))
    await rate(at(url, "rate"), count)
    await reads(at(url, "reads"))
    await late_worker(at(url, "late"))
    await reattach(at(url, "reattach"))
    if server is not None:
        await hole(server)
        await back(server)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the RabbitMQ backend costs.")
    parser.add_argument("--url", default="")
    parser.add_argument("--count", type=int, default=30_000)
    parser.add_argument("--asyncio", action="store_true", help="asyncio's own loop, not uvloop")
    options = parser.parse_args()
    runner = uvloop.run if uvloop is not None and not options.asyncio else asyncio.run
    print("loop:", "uvloop" if runner is not asyncio.run else "asyncio")
    if options.url:
        runner(run(options.url, None, options.count))
        return
    with tempfile.TemporaryDirectory() as folder:
        server = RabbitServer(RABBITMQ.need(), Path(folder))
        server.start()
        try:
            runner(run(server.url(), server, options.count))
        finally:
            server.close()


if __name__ == "__main__":
    main()
