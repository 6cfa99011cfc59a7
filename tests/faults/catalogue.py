"""The faults: what each does, and to which brokers it can be done.

A fault is a coroutine that gets the arena and returns when it is over. How many Gaps it may cause stands in
:func:`promise_for`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias, TypeVar

from samovar.broadcast import State
from samovar.errors import BackendUnavailable

from ..support.rabbitmq import CtlError, RabbitServer
from ..support.until import PATIENCE, until
from .arena import Arena, Worker
from .brokers import Broker, Local, Memory, RabbitMQ, Redis, SmallRabbitMQ, VolatileRedis
from .checker import Promise, place_of
from .plan import DEEP

Act: TypeAlias = Callable[[Arena], Awaitable[None]]
B = TypeVar("B", bound=Broker)
REPLICA_GAPS = (
    3  # the first replica begins a new term; until all workers know, theirs and that of others take turns
)
CUT = "output buffer limits"  # what a server's log says when it cuts a client for them


async def pause(arena: Arena, least: float, most: float) -> None:
    """As long as the seed says."""
    await asyncio.sleep(arena.pace * arena.random.uniform(least, most))


def broker_of(arena: Arena, kind: type[B]) -> B:
    """The arena's broker, which is of that kind."""
    assert isinstance(arena.broker, kind)
    return arena.broker


@contextmanager
def relays(arena: Arena, *, all: bool = False) -> Iterator[list[Worker]]:
    """Some workers, or all, whose links are well again afterwards."""
    workers = arena.workers if all else [arena.random.choice(arena.workers)]
    try:
        yield workers
    finally:
        for worker in workers:
            assert worker.relay is not None
            worker.relay.restore()


def names(workers: list[Worker]) -> str:
    """For the journal."""
    return " ".join(worker.name for worker in workers)


# --- the broker -----------------------------------------------------------------------------------------------------


async def kill(arena: Arena) -> None:
    """SIGKILL, and a start after a while."""
    async with arena.fault("kill"):
        arena.broker.kill()
        await pause(arena, 0, 0.8)
        await arena.broker.up()


async def restart(arena: Arena) -> None:
    """SIGTERM, and a start."""
    async with arena.fault("restart"):
        await arena.broker.down()
        await arena.broker.up()


async def freeze(arena: Arena) -> None:
    """SIGSTOP and SIGCONT."""
    async with arena.fault("freeze"):
        arena.broker.freeze()
        try:
            await pause(arena, 0.2, 2.5)
        finally:
            arena.broker.thaw()


async def wipe(arena: Arena) -> None:
    """FLUSHALL under everybody's feet."""
    async with arena.fault("wipe"):
        broker_of(arena, Redis).server.call("FLUSHALL")


async def rollback(arena: Arena) -> None:
    """A snapshot, more messages, SIGKILL, and a start on the snapshot."""
    broker = broker_of(arena, VolatileRedis)
    broker.snapshot()
    await pause(arena, 0.2, 0.6)
    async with arena.fault("rollback"):
        broker.kill()
        broker.restore()
        broker.start()


async def failover(arena: Arena) -> None:
    """The primary gets a replica, which falls a little behind; SIGKILL, and the replica takes over its address."""
    broker = broker_of(arena, VolatileRedis)
    async with arena.fault("replica"):
        broker.add_replica()
        await until(lambda: broker.replicated, "the replica to have everything")
    await pause(arena, 0.1, 0.4)
    broker.leave_behind()
    await pause(arena, 0.1, 0.6)
    async with arena.fault("failover"):
        broker.fail_over()


async def script_flush(arena: Arena) -> None:
    """The server forgets all scripts."""
    async with arena.fault("script flush"):
        broker_of(arena, Redis).server.call("SCRIPT", "FLUSH")


async def evict(arena: Arena) -> None:
    """Keys vanish, as under maxmemory with a policy that evicts."""
    server = broker_of(arena, Redis).server
    kept = (b":meta", b":log")
    keys = sorted(key for key in server.call("KEYS", "*") if b"/" in key and key.endswith(kept))
    async with arena.fault("evict"):
        if keys:  # there are none right after a wipe
            server.call("DEL", *arena.random.sample(keys, min(len(keys), 4)))


async def out_of_memory(arena: Arena) -> None:
    """No more memory, and nothing may be evicted: publishes are refused."""
    server = broker_of(arena, Redis).server
    async with arena.fault("out of memory"):
        server.set("maxmemory", "1mb")
        await pause(arena, 0.2, 1.0)
        server.set("maxmemory", "0")


async def subscribers_cut(arena: Arena) -> None:
    """The server cuts all subscriptions, and no command link."""
    async with arena.fault("subscribers cut"):
        broker_of(arena, Redis).server.call("CLIENT", "KILL", "TYPE", "pubsub")


async def output_buffer(arena: Arena) -> None:
    """A worker that stands still is cut by the server for the output that piles up."""
    server = broker_of(arena, Redis).server
    worker = arena.random.choice(arena.workers)
    server.set("client-output-buffer-limit", "pubsub 1mb 0 0")
    cut = server.log().count(CUT)
    async with arena.fault("output buffer", worker.name):
        worker.signal(signal.SIGSTOP)
        try:
            for _ in range(40):
                await arena.flood(
                    20, 60_000
                )  # how much the kernel takes before the server has to keep it differs
                if server.log().count(CUT) > cut:
                    break
        finally:
            worker.signal(signal.SIGCONT)
    server.set("client-output-buffer-limit", "pubsub 32mb 8mb 60")


async def password(arena: Arena) -> None:
    """The password is changed and everybody cut, and after a while it is changed back."""
    broker = broker_of(arena, Redis)
    async with arena.fault("password"):
        broker.rotate("second")
        broker.server.call("CLIENT", "KILL", "TYPE", "normal")
        broker.server.call("CLIENT", "KILL", "TYPE", "pubsub")
        await pause(arena, 0.2, 0.8)
        broker.rotate("first")


# --- RabbitMQ -------------------------------------------------------------------------------------------------------


async def memory_alarm(arena: Arena) -> None:
    """No more memory: publishers are blocked."""
    await _alarm(arena, "memory alarm", RabbitServer.memory_alarm)


async def disk_alarm(arena: Arena) -> None:
    """The disk is full, as the server sees it: publishers are blocked."""
    await _alarm(arena, "disk alarm", RabbitServer.disk_alarm)


async def _alarm(arena: Arena, name: str, raised: Callable[[RabbitServer], Awaitable[None]]) -> None:
    broker = broker_of(arena, RabbitMQ)
    async with arena.fault(name):
        with broker.spoiling():
            await raised(broker.server)
            await pause(arena, 0.2, 2.5)
            await broker.server.no_alarm()


async def connections_closed(arena: Arena) -> None:
    """The operator closes all connections."""
    async with arena.fault("connections closed"):
        broker_of(arena, RabbitMQ).server.close_connections()


async def permissions(arena: Arena) -> None:
    """The user may do nothing any more, and after a while everything again."""
    broker = broker_of(arena, RabbitMQ)
    async with arena.fault("permissions"):
        with broker.spoiling():
            broker.server.allow(configure="", write="", read="")
            await pause(arena, 0.2, 0.8)
            if arena.random.random() < 0.5:
                broker.server.close_connections()
                await pause(arena, 0.2, 0.8)
            broker.server.allow()


async def user_password(arena: Arena) -> None:
    """The user's password is changed and everybody cut, and after a while it is changed back."""
    broker = broker_of(arena, RabbitMQ)
    async with arena.fault("password"):
        with broker.spoiling():
            broker.server.set_password("second")
            broker.server.close_connections()
            await pause(arena, 0.2, 0.8)
            broker.server.set_password("guest")


async def start_meets_restart(arena: Arena) -> None:
    """A worker is killed, and starts while the server does."""
    async with arena.lives:
        worker = arena.random.choice(arena.workers)
        async with arena.fault("start meets restart"):
            worker.kill()
            arena.broker.kill()
            worker.start()
            await arena.broker.up()
        await arena.ready(worker)


async def data_wiped(arena: Arena) -> None:
    """The server starts on an empty disk."""
    broker = broker_of(arena, RabbitMQ)
    async with stream_made(arena), arena.fault("wipe"):
        broker.kill()
        broker.server.wipe()
        await broker.up()


async def stream_deleted(arena: Arena) -> None:
    """The stream is deleted under its readers and writers."""
    broker = broker_of(arena, RabbitMQ)

    def deleted() -> bool:
        with contextlib.suppress(CtlError):  # it is still being recovered
            broker.server.delete_queue(broker.stream)
            return True
        return False

    async with stream_made(arena), arena.fault("stream deleted"):
        await arena.until(deleted, "the stream to be deleted", PATIENCE)


@asynccontextmanager
async def stream_made(arena: Arena) -> AsyncIterator[None]:
    """At the end wait until the stream is there anew and can be read.

    A server that is killed while it makes one may say for ever after that the stream's node is down.
    """
    before = arena.direct.health.generation
    yield

    def made() -> bool:
        health = arena.direct.health
        return health.state is State.UP and health.generation > before

    await arena.until(made, "the stream to be there anew", PATIENCE)


async def stream_truncated(arena: Arena) -> None:
    """While a worker stands still, so much is published that the stream drops what it has not read.

    The server holds some thousand messages ready for it, whatever their size: many small ones are what it takes. It is
    over when the worker has come to where the stream stood.
    """
    worker, channel = arena.random.choice(arena.workers), f"{DEEP}/0"
    async with arena.fault("stream truncated", worker.name):
        worker.signal(signal.SIGSTOP)
        try:
            for _ in range(60):
                await asyncio.gather(*(arena.flood(1, 2000, channel) for _ in range(200)))
        finally:
            worker.signal(signal.SIGCONT)
        head = place_of(await arena.direct.cursor(channel))

        def there() -> bool:
            place = place_of(arena.tail.places.get((f"{worker.name}/steady0", channel)))
            return place is not None and head is not None and place >= head

        await arena.until(there, f"{worker.name} to stand at {head}", PATIENCE)
        await asyncio.sleep(arena.plan.patience)  # who began to subscribe before that has its first word


# --- the network ----------------------------------------------------------------------------------------------------


async def cut_all(arena: Arena) -> None:
    """All links are reset, and for a while there are no new ones."""
    with relays(arena, all=True) as workers:
        async with arena.fault("cut all"):
            for worker in workers:
                assert worker.relay is not None
                worker.relay.refuse()
                worker.relay.cut()
            await pause(arena, 0, 0.6)


async def cut_one(arena: Arena) -> None:
    """One worker's links are reset."""
    with relays(arena) as [worker]:
        async with arena.fault("cut one", worker.name):
            assert worker.relay is not None
            worker.relay.cut()


async def half_open(arena: Arena) -> None:
    """Nothing passes, either way, and nothing says so."""
    with relays(arena) as [worker]:
        async with arena.fault("half open", worker.name):
            assert worker.relay is not None
            worker.relay.stall()
            await overlooked(arena)
    await pause(arena, 0, 0.2)


async def half_open_down(arena: Arena) -> None:
    """What the broker says does not arrive."""
    with relays(arena) as [worker]:
        async with arena.fault("half open down", worker.name):
            assert worker.relay is not None
            worker.relay.stall_one(down=True)
            await overlooked(arena)


async def half_open_up(arena: Arena) -> None:
    """What the worker says does not arrive."""
    with relays(arena) as [worker]:
        async with arena.fault("half open up", worker.name):
            assert worker.relay is not None
            worker.relay.stall_one(down=False)
            await overlooked(arena)


async def overlooked(arena: Arena) -> None:
    """As long as the seed says, from well under to well over what noticing it takes."""
    await pause(arena, 0.1 * arena.broker.notice, 2.0 * arena.broker.notice)


async def latency(arena: Arena) -> None:
    """50 to 300 ms, with jitter, both ways."""
    with relays(arena, all=True) as workers:
        async with arena.fault("latency", names(workers)):
            for worker in workers:
                assert worker.relay is not None
                worker.relay.delay(0.05, 0.3)
            await pause(arena, 0.5, 2.0)


async def trickle(arena: Arena) -> None:
    """20 kB a second."""
    with relays(arena) as workers:
        async with arena.fault("trickle", names(workers)):
            for worker in workers:
                assert worker.relay is not None
                worker.relay.throttle(20_000)
            await pause(arena, 0.5, 2.0)


async def torn(arena: Arena) -> None:
    """Connections end inside a reply."""
    with relays(arena) as [worker]:
        async with arena.fault("torn", worker.name):
            assert worker.relay is not None
            worker.relay.tear(arena.random.choice((1, 2, 5)))
            await pause(arena, 0.1, 0.5)


# --- the workers ----------------------------------------------------------------------------------------------------


async def worker_kill(arena: Arena) -> None:
    """SIGKILL; another worker takes its subscribers over."""
    async with arena.lives:
        worker = arena.random.choice(arena.workers)
        async with arena.fault("worker kill", worker.name):
            worker.kill()
            await pause(arena, 0, 0.5)
            worker.start()
        await arena.ready(worker)


async def worker_freeze(arena: Arena) -> None:
    """SIGSTOP and SIGCONT."""
    worker = arena.random.choice(arena.workers)
    async with arena.fault("worker freeze", worker.name):
        worker.signal(signal.SIGSTOP)
        try:
            await pause(arena, 0.2, 2.5)
        finally:
            worker.signal(signal.SIGCONT)


async def storm(arena: Arena) -> None:
    """All clients of all workers come back at once."""
    async with arena.lives, arena.fault("storm"):  # a worker that has just begun would die of the signal
        for worker in arena.workers:
            worker.signal(signal.SIGUSR2)
        await pause(arena, 0.1, 0.3)


async def clear(arena: Arena) -> None:
    """A channel is cleared through the hub."""
    async with arena.fault("clear"):
        with contextlib.suppress(BackendUnavailable):
            await arena.direct.clear(arena.random.choice(arena.plan.channels))


BROKER: Mapping[str, Act] = {"kill": kill, "restart": restart, "freeze": freeze}
NETWORK: Mapping[str, Act] = {
    "cut all": cut_all,
    "cut one": cut_one,
    "half open": half_open,
    "half open down": half_open_down,
    "half open up": half_open_up,
    "latency": latency,
    "trickle": trickle,
    "torn": torn,
}
WORKERS: Mapping[str, Act] = {"worker kill": worker_kill, "worker freeze": worker_freeze, "storm": storm}
REDIS: Mapping[str, Act] = {
    "script flush": script_flush,
    "out of memory": out_of_memory,
    "subscribers cut": subscribers_cut,
    "output buffer": output_buffer,
    "password": password,
}
RABBITMQ: Mapping[str, Act] = {
    "memory alarm": memory_alarm,
    "disk alarm": disk_alarm,
    "connections closed": connections_closed,
    "permissions": permissions,
    "password": user_password,
    "start meets restart": start_meets_restart,
}
LOSSY: Mapping[str, Act] = {"wipe": wipe, "evict": evict, "clear": clear}
"""Of Redis: somebody removes data. Each is a Gap where there was something to lose, whatever the server keeps."""
STREAM_LOST: Mapping[str, Act] = {
    "wipe": data_wiped,
    "stream deleted": stream_deleted,
    "clear": clear,
}
"""The same of RabbitMQ."""


def faults_for(broker: Broker) -> dict[str, Act]:
    """What is done to *broker* by default: a durable one must come through without a single Gap."""
    match broker:
        case Memory():
            return dict(WORKERS)
        case Local():
            return {**BROKER, **NETWORK, **WORKERS, "clear": clear}
        case VolatileRedis():
            return {
                **BROKER,
                **NETWORK,
                **WORKERS,
                **REDIS,
                **LOSSY,
                "rollback": rollback,
                "failover": failover,
            }
        case SmallRabbitMQ():
            return {**NETWORK, **WORKERS, "stream truncated": stream_truncated}
        case RabbitMQ():
            return {**BROKER, **NETWORK, **WORKERS, **RABBITMQ}
    return {**BROKER, **NETWORK, **WORKERS, **REDIS}


def all_faults_for(broker: Broker) -> dict[str, Act]:
    """What can be done to *broker* when it is asked for."""
    lossy = LOSSY if isinstance(broker, Redis) else STREAM_LOST if isinstance(broker, RabbitMQ) else {}
    return {**faults_for(broker), **lossy}


def promise_for(arena: Arena) -> Promise:
    """What must hold in a run, whatever of :func:`all_faults_for` was done."""
    lost = {*LOSSY, *STREAM_LOST}
    if not arena.broker.durable:
        lost |= (
            {"worker kill"}
            if isinstance(arena.broker, Memory)
            else {"kill", "restart", "rollback", "failover"}
        )
    must = lost - {"evict", "clear"}  # those hit some channels only
    plan = arena.plan
    any_number = {
        "stream truncated": None
    }  # it leaves less than channels keep, and than ids are remembered for
    return Promise(
        gaps={**dict.fromkeys(lost, 1), **any_number, "replica": REPLICA_GAPS},
        must=frozenset(must),
        shallow=plan.shallow,
        lease=plan.lease if plan.lounges else 0.0,
        patience=plan.patience,
        slack=plan.slack,
        repeats=frozenset(any_number),
        sparse=isinstance(arena.broker, RabbitMQ),
    )
