"""How fast the local hub is: publishes from one worker, acknowledgements, deliveries to two workers.

    python benchmarks/local.py                      # a hub, a publisher and two subscribers, each a process
    python benchmarks/local.py --messages 200000 --size 500 --loop asyncio

"backend" is the wire alone, "hub" what an application pays: checks, envelope, id, time limit and counters as well. The
rate is the best of three runs; deliveries are those that both subscribers have received, hub and channel included.
"""

from __future__ import annotations

# ruff: noqa: T201  # it prints its figures
import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from samovar.backends.local.hub import LocalHub
from samovar.broadcast import Hub, Message
from samovar.broadcast.backend import Retention

CHANNEL = "bench"
RUNS = 3
AT_ONCE = 1000
KEEP = Retention(messages=100, seconds=60)


async def serve(url: str) -> None:
    """The process that holds the channels."""
    async with LocalHub.from_url(url):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def receive(url: str, count: int) -> None:
    """A subscribing worker: says when it has *count* messages, for each run."""
    async with (
        Hub(url, outbox_messages=200_000, outbox_bytes=1 << 28) as hub,
        hub.subscribe(CHANNEL) as messages,
    ):
        await messages.events()
        print("ready", flush=True)
        for _ in range(RUNS):
            got = 0
            while got < count:
                got += sum(isinstance(event, Message) for event in await messages.events())
            print(time.monotonic(), flush=True)


async def rate(call: Callable[[], Awaitable[object]], messages: int) -> float:
    """Messages a second, the best of three runs."""
    best = 0.0
    for _ in range(RUNS):
        start = time.perf_counter()
        await call()
        best = max(best, messages / (time.perf_counter() - start))
    return best


async def measure(
    url: str, messages: int, size: int, start_receivers: Callable[[], list[subprocess.Popen[str]]]
) -> None:
    """Print every figure."""
    data = b"x" * size
    async with Hub(url) as hub:
        backend = hub.backend
        await hub.publish(CHANNEL, "warm")
        ids = iter(range(10**9))

        async def sequential() -> float:
            times = []
            for _ in range(3000):
                start = time.perf_counter()
                await backend.publish(CHANNEL, data, id=f"s{next(ids)}", retention=KEEP)
                times.append(time.perf_counter() - start)
            return statistics.median(times)

        async def one_backend() -> None:
            await backend.publish(CHANNEL, data, id=f"a{next(ids)}", retention=KEEP)

        async def in_groups(one: Callable[[], Awaitable[object]]) -> None:
            for _ in range(messages // AT_ONCE):
                await asyncio.gather(*(one() for _ in range(AT_ONCE)))

        async def many_backend() -> None:
            for _ in range(messages // AT_ONCE):
                await backend.publish_many([(CHANNEL, data, f"m{next(ids)}", KEEP) for _ in range(AT_ONCE)])

        async def many_hub() -> None:
            for _ in range(messages // AT_ONCE):
                await hub.publish_many([(CHANNEL, data)] * AT_ONCE)

        print(f"ack, one after the other, p50        {await sequential() * 1e6:9.0f} µs")
        backend_rate = await rate(lambda: in_groups(one_backend), messages)
        print(f"backend.publish, {AT_ONCE} at once      {backend_rate:9,.0f} /s")
        print(f"backend.publish_many of {AT_ONCE}       {await rate(many_backend, messages):9,.0f} /s")
        hub_rate = await rate(lambda: in_groups(lambda: hub.publish(CHANNEL, data)), messages)
        print(f"hub.publish, {AT_ONCE} at once          {hub_rate:9,.0f} /s")
        print(f"hub.publish_many of {AT_ONCE}           {await rate(many_hub, messages):9,.0f} /s")
        await deliveries(hub, data, messages, start_receivers)


async def deliveries(
    hub: Hub, data: bytes, messages: int, start_receivers: Callable[[], list[subprocess.Popen[str]]]
) -> None:
    """Print how many messages two other workers receive in a second."""
    receivers = start_receivers()
    best = 0.0
    for _ in range(RUNS):
        start = time.monotonic()
        for _ in range(messages // AT_ONCE):
            await hub.publish_many([(CHANNEL, data)] * AT_ONCE)
        ends = [
            float(await asyncio.to_thread(receiver.stdout.readline))
            for receiver in receivers
            if receiver.stdout
        ]
        best = max(best, len(receivers) * messages / (max(ends) - start))
    print(f"deliveries to {len(receivers)} workers              {best:9,.0f} /s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=50_000, help="in each run")
    parser.add_argument("--size", type=int, default=200, help="bytes of a message")
    parser.add_argument("--loop", choices=["auto", "asyncio"], default="auto")
    parser.add_argument("--role", choices=["serve", "receive"], help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "serve":
        return run(serve(options.url), options.loop)
    if options.role == "receive":
        return run(receive(options.url, options.messages), options.loop)
    with tempfile.TemporaryDirectory() as folder:
        url = f"local://{folder}/hub.sock"
        children: list[subprocess.Popen[str]] = []

        def start(role: str) -> subprocess.Popen[str]:
            command = [sys.executable, str(Path(__file__).resolve()), "--role", role, "--url", url]
            command += ["--messages", str(options.messages), "--loop", options.loop]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            children.append(child)
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            return child

        try:
            start("serve")
            measuring = measure(
                url, options.messages, options.size, lambda: [start("receive"), start("receive")]
            )
            run(measuring, options.loop)
        finally:
            for child in children:
                child.kill()
                child.wait()


def run(main: Awaitable[None], loop: str) -> None:
    """Run in the loop that was asked for."""
    factory = None
    if loop == "auto":
        try:
            from uvloop import new_event_loop as factory
        except ImportError:
            pass
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
