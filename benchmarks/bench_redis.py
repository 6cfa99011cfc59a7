"""What the Redis backend costs: latency, publishes a second, a storm of re-attaching, reads of history.

    python benchmarks/bench_redis.py                       # a private redis-server found on PATH
    python benchmarks/bench_redis.py --program valkey-server
    python benchmarks/bench_redis.py --url redis://host/   # a server of yours (not the parts that kill it)

Hub, backend and server are on one machine, on loopback; figures depend on it, and on whatever else it does. The goals
are those of the project: p50 of a publish at most 1 ms, 8,000 publishes a second from one worker, 5,000 channels
attached and caught up within 2 s of the link's return, first delivery within 1 s of the broker's.
"""

from __future__ import annotations

# ruff: noqa: T201, ASYNC110  # it prints its figures, and looks at what has no event
import argparse
import asyncio
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable

from samovar.broadcast import Hub, Message, State

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]


def row(what: str, figure: str, goal: str = "") -> None:
    print(f"{what:58} {figure:>18}   {goal}", flush=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Server:
    """A private server that can be killed."""

    def __init__(self, program: str, folder: str) -> None:
        self.port = free_port()
        self.command = [
            program,
            "--port",
            f"{self.port}",
            "--bind",
            "127.0.0.1",
            "--dir",
            folder,
            "--save",
            "",
        ]
        self.command += ["--appendonly", "yes", "--appendfsync", "everysec", "--daemonize", "no"]
        self.command += ["--logfile", f"{folder}/log"]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/"

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                    sock.sendall(b"PING\r\n")
                    if sock.recv(64).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            time.sleep(0.002)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


async def wait_up(hub: Hub, generation: int = 0) -> None:
    while hub.health.state is State.DOWN or hub.health.generation <= generation:
        await asyncio.sleep(0.0005)


async def latency(url: str) -> None:
    """Publishes one after the other, and from publish to delivery at another hub."""
    async with Hub(url) as one, Hub(url) as two, two.subscribe("latency") as messages:
        publish, deliver = [], []
        for n in range(3000):
            began = time.perf_counter()
            await one.publish("latency", n)
            publish.append(time.perf_counter() - began)
            await anext(messages)
            deliver.append(time.perf_counter() - began)
        for name, times in (("publish", publish), ("publish to delivery", deliver)):
            cuts = statistics.quantiles(times, n=100)
            goal = "goal p50 ≤ 1 ms" if name == "publish" else ""
            row(f"{name}, p50 / p99", f"{cuts[49] * 1000:.2f} / {cuts[98] * 1000:.2f} ms", goal)


async def rate(url: str, count: int) -> None:
    """Publishes of 100 bytes from one worker, 100 at a time."""
    body = "x" * 100
    async with Hub(url) as hub:

        async def some() -> None:
            for n in range(count // 100):
                await hub.publish(f"rate/{n % 50}", body)

        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(some() for _ in range(100)))
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        row("publishes a second, 100 concurrently", f"{count / took:,.0f}", "goal ≥ 8,000")
        row("  CPU of the worker for each", f"{cpu / count * 1e6:.0f} µs")
        began = time.perf_counter()
        for _ in range(count // 500):
            await hub.publish_many([("rate/many", body)] * 500)
        row("publishes a second, publish_many of 500", f"{count / (time.perf_counter() - began):,.0f}")


async def delivery(url: str, count: int) -> None:
    """From one worker to another and its subscriber."""
    async with (
        Hub(url, publish_timeout=60) as one,
        Hub(url) as two,
        two.subscribe("delivery", max_messages=count, max_bytes=1 << 30) as messages,
    ):
        began = time.perf_counter()
        publishing = asyncio.gather(
            *(one.publish_many([("delivery", "x" * 100)] * 500) for _ in range(count // 500))
        )
        for _ in range(count):
            await anext(messages)
        row("deliveries a second, both hubs in one process", f"{count / (time.perf_counter() - began):,.0f}")
        await publishing


async def reads(url: str) -> None:
    """History of 100 messages of 100 bytes, and heads."""
    async with Hub(url) as hub:
        await hub.publish_many([("reads", "x" * 100)] * 100)

        async def some(read: Callable[[], Awaitable[object]], times: int) -> float:
            async def loop() -> None:
                for _ in range(times // 20):
                    await read()

            began = time.perf_counter()
            await asyncio.gather(*(loop() for _ in range(20)))
            return times / (time.perf_counter() - began)

        row(
            "reads of 100 messages a second, backend",
            f"{await some(lambda: hub.backend.history('reads', limit=500), 4000):,.0f}",
        )
        row(
            "reads of 100 messages a second, hub.history",
            f"{await some(lambda: hub.history('reads'), 2000):,.0f}",
        )
        names = [f"heads/{n}" for n in range(5000)]
        await hub.backend.heads(names, create=True)
        began = time.perf_counter()
        await hub.backend.heads(names)
        row("heads of 5,000 channels, one call", f"{(time.perf_counter() - began) * 1000:.0f} ms")


async def reattach(url: str) -> None:
    """5,000 channels over a cut link; 500 messages were published meanwhile."""
    count = 5000
    async with Hub(url) as publisher, Hub(url, outbox_messages=100_000, outbox_bytes=1 << 30) as hub:
        names = [f"attach/{n}" for n in range(count)]
        await publisher.backend.heads(names, create=True)
        began = time.perf_counter()
        async with hub.subscribe(*names) as messages:
            row(f"{count:,} channels joined for the first time", f"{time.perf_counter() - began:.2f} s")
            generation = hub.health.generation
            backend = hub.backend
            backend._keeper.session.events.abort("cut by the benchmark")  # type: ignore[attr-defined]
            await publisher.publish_many([(name, "meanwhile") for name in names[::10]])
            began = time.perf_counter()
            await wait_up(hub, generation)
            got = 0
            while got < count // 10:
                got += isinstance(await anext(messages), Message)
            caught = time.perf_counter() - began
            while not all(channel.flows for channel in hub._channels.table.values()):
                await asyncio.sleep(0.001)
            row(f"{count // 10} missed messages of {count:,} channels caught up", f"{caught:.2f} s")
            row(f"all {count:,} channels live again", f"{time.perf_counter() - began:.2f} s", "goal ≤ 2 s")
            assert not any(hub.counters.gaps.values()), hub.counters.gaps


async def back(server: Server) -> None:
    """From the broker answering again to the first delivery, ten times."""
    url = f"{server.url}?durable=1"
    times = []
    async with Hub(url) as one, Hub(url) as two, two.subscribe("back") as messages:
        for n in range(10):
            server.kill()
            while two.health.state is not State.DOWN:
                await asyncio.sleep(0.001)
            publishing = asyncio.ensure_future(one.publish("back", n))
            await asyncio.sleep(0.5 + n / 10)
            server.start()
            began = time.perf_counter()
            await anext(messages)
            times.append(time.perf_counter() - began)
            await publishing
    row(
        "first delivery after the broker's return, median / most",
        f"{statistics.median(times):.2f} / {max(times):.2f} s",
        "goal ≤ 1 s",
    )


async def run(url: str, server: Server | None, count: int) -> None:
    await latency(url)
    await rate(url, count)
    await delivery(url, count)
    await reads(url)
    await reattach(url)
    if server is not None:
        await back(server)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the Redis backend costs.")
    parser.add_argument("--program", default="redis-server")
    parser.add_argument("--url", default="")
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--asyncio", action="store_true", help="asyncio's own loop, not uvloop")
    options = parser.parse_args()
    runner = uvloop.run if uvloop is not None and not options.asyncio else asyncio.run
    print("loop:", "uvloop" if runner is not asyncio.run else "asyncio")
    if options.url:
        runner(run(options.url, None, options.count))
        return
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options.program, folder)
        server.start()
        try:
            runner(run(server.url, server, options.count))
        finally:
            server.kill()


if __name__ == "__main__":
    main()
