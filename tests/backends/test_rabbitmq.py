"""RabbitMQ: the contract on a real server, and what its links and its stream may do."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest

from samovar.backends.contract import BackendContract
from samovar.backends.rabbitmq import RabbitBackend
from samovar.backends.rabbitmq.keeper import Keeper
from samovar.backends.rabbitmq.link import PUBLISH, Link, connect, publishing
from samovar.broadcast import Hub, Member, State
from samovar.errors import BackendUnavailable, PublishRejected, PublishUnknown

from ..support.hubs import got, nothing_more, up
from ..support.proxy import Proxy
from ..support.rabbitmq import RabbitServer
from ..support.until import until

_corners = count()


@pytest.fixture
def stream() -> str:
    """A stream that nobody has used."""
    return f"t{next(_corners)}"


@pytest.fixture
def url(rabbitmq: RabbitServer, stream: str) -> str:
    return rabbitmq.url(f"stream={stream}")


class TestRabbitMQ(BackendContract):
    """The suite."""

    @pytest.fixture
    def backend_url(self, url: str) -> str:
        return url


def keeper(hub: Hub) -> Keeper:
    """The keeper of the hub's links."""
    assert isinstance(hub.backend, RabbitBackend)
    return hub.backend._keeper


def cut(hub: Hub) -> None:
    """Lose the links."""
    session = keeper(hub).session
    assert session is not None
    session.tail.abort("cut by the test")


async def again(hub: Hub, generation: int) -> None:
    """Wait for another session than that one."""
    await until(
        lambda: hub.health.generation > generation and hub.health.state is State.UP,
        f"a session ({hub.health})",
    )


class Copier:
    """Reads all entries of a stream, and writes them to another."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.link: Link | None = None

    def delivered(self, channel: int, tag: int, offset: int | None, body: bytes | None) -> None:
        assert body is not None
        self.bodies.append(body)

    def returned(self, body: bytes | None) -> None: ...

    def blocked(self, why: str | None) -> None: ...

    async def connect(self, port: int) -> Link:
        link = await connect(self, "127.0.0.1", port, None, [])
        await link.greet("guest", "guest", "/", name="copier", heartbeat=0)
        await link.open_channel(PUBLISH)
        await link.confirm()
        return link


# --- the links ------------------------------------------------------------------------------------------------------


async def test_a_cut_costs_nothing_and_no_record_is_read_twice(url: str) -> None:
    async with up(url) as publisher, up(url) as hub, hub.subscribe("c") as messages:
        await publisher.publish("c", 1)
        read = keeper(hub).log.read
        log = keeper(hub).log
        cut(hub)
        await publisher.publish("c", 2)
        await again(hub, 1)
        await publisher.publish("c", 3)
        assert await got(messages, 3) == [1, 2, 3]
        await nothing_more(publisher, "c", messages)
        assert keeper(hub).log is log and read < log.read < 2 * read + 1000


async def test_a_half_open_link_is_found_and_given_up(rabbitmq: RabbitServer, stream: str) -> None:
    async with Proxy(rabbitmq.port) as proxy, up(rabbitmq.url(f"stream={stream}")) as publisher:
        url = rabbitmq.url(f"stream={stream}&heartbeat=0.2", port=proxy.port)
        async with up(url) as hub, hub.subscribe("c") as messages:
            proxy.stall()
            await until(lambda: hub.health.state is State.DOWN, "that it is noticed")
            assert "no sign of life" in hub.health.reason
            await publisher.publish("c", "meanwhile")
            proxy.restore()
            assert await got(messages, 1) == ["meanwhile"]


async def test_a_quiet_link_stays(rabbitmq: RabbitServer, stream: str) -> None:
    async with up(rabbitmq.url(f"stream={stream}&heartbeat=1&probe=60")) as hub:
        session = keeper(hub).session
        assert session is not None
        received = session.out.received
        await until(lambda: session.out.received > received + 0.9, "signs of life")
        assert hub.health.generation == 1


async def test_publishes_under_way_when_the_link_is_lost_are_unknown(url: str) -> None:
    async with up(url) as hub:
        for way in ("out", "tail"):
            await again(hub, hub.health.generation - 1)
            session = keeper(hub).session
            publish = asyncio.ensure_future(hub.backend.publish("c", b"x", id=way))
            await asyncio.sleep(0)
            getattr(session, way).abort("cut by the test")
            with pytest.raises(PublishUnknown, match="cut by the test"):
                await publish
            await until(lambda: hub.health.state is State.DOWN, "the loss")


async def test_a_retry_of_what_was_in_adds_nothing(url: str) -> None:
    async with up(url) as hub, hub.subscribe("c") as messages:
        first = await hub.publish("c", "x", id="same")
        cut(hub)
        second = await hub.publish("c", "x", id="same")
        assert second.duplicate and second.position == first.position
        assert await got(messages, 1) == ["x"]
        await nothing_more(hub, "c", messages)


# --- the stream -----------------------------------------------------------------------------------------------------


async def test_a_deleted_stream_is_a_gap_and_the_next_one_is_used(
    rabbitmq: RabbitServer, url: str, stream: str
) -> None:
    async with up(url) as publisher, up(url) as hub, hub.subscribe("c") as messages:
        await publisher.publish("c", 1)
        assert await got(messages, 1) == [1]
        rabbitmq.delete_queue(stream)
        await until(lambda: keeper(hub).session and keeper(hub)._log.proof, "another session")
        with pytest.raises(BackendUnavailable):  # it would be in a log that is about to begin anew
            await hub.backend.publish("c", b"too soon", id="too soon")
        await again(hub, 1)
        assert await got(messages, 1) == ["!reset"]
        await publisher.publish("c", 2)
        assert await got(messages, 1) == [2]


async def test_a_stream_put_back_to_an_older_state_begins_an_epoch(
    rabbitmq: RabbitServer, stream: str
) -> None:
    """As by a backup: the entries are the same up to a point, so is the epoch, and others follow."""
    copier = Copier()
    link = await copier.connect(rabbitmq.port)
    async with (
        Proxy(rabbitmq.port) as proxy,
        up(rabbitmq.url(f"stream={stream}", port=proxy.port)) as hub,
        hub.subscribe("c") as messages,
    ):
        await hub.publish("c", 1)
        await link.consume(PUBLISH, stream, offset="first", prefetch=100)
        await until(lambda: len(copier.bodies) == keeper(hub).log.last + 1, "the copy")
        older = list(copier.bodies)
        lost = await hub.publish("c", "lost")
        assert await got(messages, 2) == [1, "lost"]
        proxy.refuse()
        proxy.cut()
        link.leave("the stream goes")
        rabbitmq.delete_queue(stream)
        link = await copier.connect(rabbitmq.port)
        await link.declare(PUBLISH, stream, arguments=keeper(hub).options.arguments(size=64 << 20, age=600))
        for body in older + older[-1:] * 5:
            await link.publish(publishing(stream), body)
        link.leave("done")
        proxy.restore()
        assert await got(messages, 1) == ["!reset"]
        after = await hub.publish("c", 2)
        assert await got(messages, 1) == [2]
        assert lost.position is not None and after.position is not None
        assert after.position.epoch != lost.position.epoch


async def test_workers_that_start_together_on_no_stream_agree(url: str) -> None:
    async with Hub(url) as one, Hub(url) as two, Hub(url) as three:
        hubs = (one, two, three)
        await until(lambda: all(hub.health.state is State.UP for hub in hubs), "all up")
        cursors = {await hub.cursor("c") for hub in hubs}
        assert len(cursors) == 1
        await asyncio.gather(*(hub.publish("c", n) for n, hub in enumerate(hubs)))
        histories = [[m.id for m in (await hub.history("c")).messages] for hub in hubs]
        assert histories[0] == histories[1] == histories[2] and len(histories[0]) == 3


async def test_a_worker_that_starts_late_knows_all(url: str) -> None:
    async with up(url) as early:
        start = await early.cursor("c")
        for n in range(5):
            await early.publish("c", n, id=f"{n}")
        await early.backend.touch("c", [Member("m", "ann")], lease=60)
        async with up(url) as late:
            assert await late.cursor("c") == await early.cursor("c")
            assert (await late.publish("c", 3, id="3")).duplicate
            assert [m.id for m in await late.backend.members("c")] == ["m"]
            async with late.subscribe("c", since=start) as messages:
                assert await got(messages, 5) == list(range(5))


async def test_the_first_calls_wait_until_the_log_is_read(url: str) -> None:
    async with Hub(url) as hub:
        cursor = await hub.cursor("c")
        assert cursor and (await hub.publish("c", "x")).position is not None
        assert [m.data for m in (await hub.history("c", since=cursor)).messages] == ["x"]


async def test_what_was_published_before_a_read_is_in_it_however_late_the_reader_is(
    rabbitmq: RabbitServer, stream: str
) -> None:
    async with (
        Proxy(rabbitmq.port) as proxy,
        up(rabbitmq.url(f"stream={stream}")) as one,
        up(rabbitmq.url(f"stream={stream}", port=proxy.port)) as two,
    ):
        await one.publish("c", 1)
        proxy.stall()
        published = await one.publish("c", 2)
        heads = asyncio.ensure_future(two.backend.heads(["c"]))
        history = asyncio.ensure_future(two.history("c"))
        await one.publish("c", 3)  # time for an answer that is given too soon
        proxy.restore()
        assert published.position is not None
        assert (await heads)["c"].offset >= published.position.offset
        assert [m.data for m in (await history).messages][:2] == [1, 2]


async def test_reads_that_come_together_share_a_mark(url: str) -> None:
    async with up(url) as hub:
        last = keeper(hub).log.last
        await asyncio.gather(*(hub.backend.history("c", limit=1) for _ in range(200)))
        assert keeper(hub).log.last - last <= 4


# --- an alarm -------------------------------------------------------------------------------------------------------


async def test_under_an_alarm_publishes_are_refused_and_history_is_read(
    rabbitmq: RabbitServer, url: str
) -> None:
    async with up(url) as hub, hub.subscribe("c") as messages:
        await hub.publish("c", 1)
        try:
            await rabbitmq.memory_alarm()
            refused: list[Any] = []
            for _ in range(2):
                with pytest.raises((PublishUnknown, PublishRejected), match="takes no messages") as raised:
                    await hub.publish("c", "perhaps", id="perhaps")
                refused.append(raised.type)
            assert refused == [PublishUnknown, PublishRejected]
            assert hub.health.state is State.DEGRADED and "vm_memory_high_watermark" in hub.health.reason
            assert [m.data for m in (await hub.history("c")).messages] == [1]
            async with up(url) as late:
                assert late.health.state is not State.DOWN
                assert [m.data for m in (await late.history("c")).messages] == [1]
        finally:
            await rabbitmq.no_alarm()
        await until(lambda: hub.health.state is State.UP, "the end of the alarm")
        await hub.publish("c", "perhaps", id="perhaps")
        assert await got(messages, 2) == [1, "perhaps"]
        await nothing_more(hub, "c", messages)
        assert hub.health.generation == 1
