"""Leases: one holder at a time among all hubs, whoever dies, is cut off, or is not heard."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from samovar.backends.memory import Broker, MemoryBackend
from samovar.broadcast import Accepted, Feature, Hub, Lease, Message, Position, Retention
from samovar.broadcast.codec import Envelope, encode, now_ms
from samovar.broadcast.lease import MOST_SECONDS, Record
from samovar.broadcast.names import InternalChannel
from samovar.errors import BackendUnavailable, InvalidChannel, PublishUnknown, UnsupportedByBackend
from samovar.tasks import Scope

from .faulty import FaultyBackend, SparseBackend

QUICK = 0.2  # seconds; what a test waits for has no other limit than a generous one
CHANNEL = InternalChannel("!!lease:job")


async def newest(hub: Hub) -> Record:
    page = await hub.history(CHANNEL, limit=1, reverse=True)
    return Record.read(page.messages[0])


async def vanish(lease: Lease) -> None:
    """Its worker dies: nobody renews it, nobody gives it back."""
    assert lease._scope is not None
    await lease._scope.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def test_one_holder_at_a_time_and_the_next_begins_when_it_is_given_back() -> None:
    broker = Broker()
    order: list[str] = []
    async with Hub(MemoryBackend(broker)) as one, Hub(MemoryBackend(broker)) as two, Scope("test") as scope:

        async def next_one() -> None:
            async with two.lease("job", seconds=60) as lease:
                order.append("two")
                assert lease.held and lease.term is not None and lease.term > first

        async with one.lease("job", seconds=60) as lease:
            assert lease.held and lease.term is not None
            first = lease.term
            waiting = scope.start(next_one())
            await until(lambda: two.stats()["subscriptions"] == 1)
            order.append("one")
        assert repr(lease) == "<Lease 'job' not held>"
        async with asyncio.timeout(60):
            await waiting
        assert order == ["one", "two"]
        assert one.stats()["subscriptions"] == two.stats()["subscriptions"] == 0


@pytest.mark.parametrize("backend", [FaultyBackend, SparseBackend], ids=["dense", "sparse"])
async def test_a_rush_lets_one_in_at_a_time(backend: type[FaultyBackend]) -> None:
    broker = Broker()
    inside = most = 0
    terms: list[int] = []

    async def hold(hub: Hub) -> None:
        nonlocal inside, most
        async with hub.lease("job", seconds=30) as lease:
            inside += 1
            most = max(most, inside)
            assert lease.term is not None
            terms.append(lease.term)
            await asyncio.sleep(0)
            inside -= 1

    far = [backend(broker, turns=3) for _ in range(2)]  # all look, and then all claim
    async with Hub(far[0]) as one, Hub(far[1]) as two, Scope("rush") as scope:
        tasks = [scope.start(hold(hub)) for hub in (one, two) * 5]
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)
    assert most == 1 and len(terms) == 10
    assert terms == sorted(set(terms))


async def test_it_is_renewed_as_long_as_it_is_held() -> None:
    async with Hub() as hub, hub.lease("job", seconds=QUICK) as lease:
        before = await newest(hub)
        async with asyncio.timeout(60):
            while (await newest(hub)).version < before.version + 3:
                await asyncio.sleep(0.01)
        assert (await newest(hub)).holder == before.holder
        assert lease.term == before.version


async def test_a_holder_that_vanishes_has_given_up_before_the_next_begins() -> None:
    broker = Broker()
    async with Hub(MemoryBackend(broker)) as one, Hub(MemoryBackend(broker)) as two:
        lost = await one.lease("job", seconds=QUICK).__aenter__()
        await vanish(lost)
        async with asyncio.timeout(60), two.lease("job", seconds=QUICK) as lease:
            assert lease.held and not lost.held
        await lost._close()


async def test_a_holder_that_is_cut_off_gives_up_before_the_next_begins(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = Broker()
    link = FaultyBackend(broker)
    async with Hub(link, publish_timeout=0.02) as one, Hub(MemoryBackend(broker)) as two:
        lost = one.lease("job", seconds=QUICK)
        async with lost:
            link.cut()
            async with asyncio.timeout(60), two.lease("job", seconds=QUICK):
                assert not lost.held
            assert "could not be renewed" in await lost.wait_lost()
    assert "the lease job is lost: it could not be renewed" in caplog.text


async def test_a_broker_that_is_away_is_waited_for() -> None:
    link = FaultyBackend()
    async with Hub(link, publish_timeout=0.02, join_timeout=0.02) as hub, Scope("test") as scope:
        link.cut()
        entering = scope.start(hub.lease("job", seconds=QUICK).__aenter__())
        await until(lambda: link.count("history") or link.count("attach"))
        assert not entering.done()
        link.restore()
        async with asyncio.timeout(60):
            lease = await entering
        assert lease.held
        await lease.__aexit__(None, None, None)


class Unheard(FaultyBackend):
    """Takes records in, but some answers get lost."""

    lost = 0

    async def publish(self, channel: str, envelope: bytes, **options: Any) -> Accepted:
        accepted = await super().publish(channel, envelope, **options)
        if self.lost:
            self.lost -= 1
            raise PublishUnknown("the answer was lost", id=options["id"])
        return accepted


@pytest.mark.parametrize("answers", [1, 2])
async def test_a_claim_or_renewal_whose_answer_is_lost_counts(answers: int) -> None:
    link = Unheard()
    async with Hub(link) as hub:
        link.lost = answers
        async with asyncio.timeout(60), hub.lease("job", seconds=60) as lease:
            term, link.lost = lease.term, answers
            assert term is not None
            await link.clear(CHANNEL)  # a doubt: it is renewed at once
            while not (await hub.history(CHANNEL, limit=1)).messages or link.lost:
                await asyncio.sleep(0.005)
            assert (await newest(hub)).version == term + 1
            await link.clear(CHANNEL)
            while not (await hub.history(CHANNEL, limit=1)).messages:
                await asyncio.sleep(0.005)
            assert (await newest(hub)).version == term + 2
            assert lease.held and lease.term == term


async def test_another_ones_record_takes_it_away_at_once() -> None:
    async with Hub() as hub, hub.lease("job", seconds=100) as lease:  # due in half a minute
        version = (await newest(hub)).version + 10
        data = {"holder": "another", "version": version, "seconds": 60}
        await hub._publish_internal(CHANNEL, data, version=version)
        assert await asyncio.wait_for(lease.wait_lost(), 20) == "another one took it"
        assert not lease.held


async def test_a_broker_that_forgets_makes_the_holder_renew_at_once() -> None:
    async with Hub() as hub, hub.lease("job", seconds=60) as lease:
        before = await newest(hub)
        await hub.backend.clear(CHANNEL)
        async with asyncio.timeout(60):
            while not (await hub.history(CHANNEL, limit=1, reverse=True)).messages:
                await asyncio.sleep(0)
        assert (await newest(hub)).version > before.version and lease.held


async def test_the_end_of_the_hub_is_the_end_of_the_lease() -> None:
    hub = Hub()
    async with hub.lease("job", seconds=60) as lease:
        await hub.stop()
        assert await asyncio.wait_for(lease.wait_lost(), 60)
        assert not lease.held


async def test_a_version_that_nobody_can_know_any_more_is_found() -> None:
    broker = Broker()
    backend = MemoryBackend(broker)
    async with Hub(backend) as hub:
        envelope = encode(Envelope("x", now_ms(), "json", b"{}", None))
        nothing = Retention(messages=0)
        await backend.publish(CHANNEL, envelope, id="x", retention=nothing, version=50)
        assert not (await hub.history(CHANNEL, limit=1)).messages
        await backend.publish(CHANNEL, envelope, id="y", retention=Retention(), version=51)
        await backend.clear(CHANNEL)
        await backend.publish(CHANNEL, envelope, id="z", retention=nothing, version=50)
        async with asyncio.timeout(60), hub.lease("job", seconds=QUICK) as lease:
            assert lease.term is not None and lease.term > 50


def test_a_record_that_does_not_read_stands_for_somebody() -> None:
    def message(body: bytes) -> Message:
        return Message(str(CHANNEL), Position("e", 7), "id", 0, "json", body)

    assert Record.read(message(b"nonsense")).seconds == MOST_SECONDS
    assert Record.read(message(b"{}")) == Record("", 7, MOST_SECONDS, Position("e", 7))
    good = Record.read(message(b'{"holder":"h","version":3,"seconds":15}'))
    assert good == Record("h", 3, 15.0, Position("e", 7))


async def test_what_cannot_be_a_lease_is_refused() -> None:
    hub = Hub()
    for seconds in (0, -1, 101, float("nan")):
        with pytest.raises(ValueError, match="a lease is for"):
            hub.lease("job", seconds=seconds)
    with pytest.raises(InvalidChannel):
        hub.lease("not a name")

    class Poor(MemoryBackend):
        features = MemoryBackend.features & ~Feature.VERSION

    with pytest.raises(UnsupportedByBackend, match="VERSION"):
        Hub(Poor()).lease("job")
    async with hub, hub.lease("job") as lease:
        with pytest.raises(RuntimeError, match="in use"):
            await lease.__aenter__()
        assert repr(lease) == f"<Lease 'job' term={lease.term}>"
    assert repr(lease) == "<Lease 'job' not held>"


async def test_a_wait_that_is_cancelled_leaves_nothing() -> None:
    broker = Broker()
    async with Hub(MemoryBackend(broker)) as one, Hub(MemoryBackend(broker)) as two, one.lease("job"):
        async with Scope("test") as scope:
            waiting = scope.start(two.lease("job").__aenter__())
            await until(lambda: two.stats()["subscriptions"] == 1)
            waiting.cancel()
            await asyncio.wait({waiting})
        assert two.stats()["subscriptions"] == 0


async def test_the_release_of_a_lost_broker_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    link = FaultyBackend()
    async with Hub(link, publish_timeout=0.02) as hub:
        with caplog.at_level("INFO", "samovar.lease"):
            async with hub.lease("job", seconds=60):
                link.fail["history"] = [BackendUnavailable("cut")]
    assert "ends by itself" in caplog.text
