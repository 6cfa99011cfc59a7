"""Kicks: who is connected to which worker, and the word that sends a user away from all of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from samovar.backends.memory import Broker, MemoryBackend
from samovar.broadcast import Hub, Member, Occupancy
from samovar.broadcast.connections import KICKS, REMEMBERED
from samovar.errors import InvalidChannel

from .faulty import FaultyBackend


class Client:
    def __init__(self) -> None:
        self.told: list[str] = []

    def kicked(self) -> None:
        self.told.append("kicked")

    def doubted(self) -> None:
        self.told.append("doubted")


async def connect(hub: Hub, user: str) -> Client:
    await hub.follow_kicks()
    client = Client()
    hub.connections.add(user, client, since=hub.connections.mark())
    return client


async def told(client: Client) -> list[str]:
    async with asyncio.timeout(60):
        while not client.told:
            await asyncio.sleep(0)
    return client.told


async def test_a_kick_reaches_every_worker_and_nobody_else() -> None:
    broker = Broker()
    async with Hub(MemoryBackend(broker)) as one, Hub(MemoryBackend(broker)) as two:
        ann, ann_too, bob = await connect(one, "ann"), await connect(two, "ann"), await connect(two, "bob")
        await one.kick("ann")
        assert (await told(ann), await told(ann_too), bob.told) == (["kicked"], ["kicked"], [])
        assert len(two.connections) == 2


async def test_who_left_is_told_nothing() -> None:
    async with Hub() as hub:
        ann = await connect(hub, "ann")
        hub.connections.discard("ann", ann)
        hub.connections.discard("ann", ann)
        await hub.kick("ann")
        assert (ann.told, len(hub.connections)) == ([], 0)


async def test_a_kick_between_asking_and_registering_is_not_lost() -> None:
    async with Hub() as hub:
        await hub.follow_kicks()
        mark = hub.connections.mark()
        await hub.kick("ann")
        late, other, later = Client(), Client(), Client()
        hub.connections.add("ann", late, since=mark)
        hub.connections.add("bob", other, since=mark)
        hub.connections.add("ann", later, since=hub.connections.mark())
        assert (late.told, other.told, later.told) == (["kicked"], [], [])


async def test_more_kicks_than_are_remembered_put_in_doubt() -> None:
    async with Hub() as hub:
        await hub.follow_kicks()
        mark = hub.connections.mark()
        for n in range(REMEMBERED + 1):
            await hub.kick(f"user{n}")
        late = Client()
        hub.connections.add("ann", late, since=mark)
        assert late.told == ["doubted"]


async def test_a_kick_during_an_outage_is_caught_up() -> None:
    broker = Broker()
    link = FaultyBackend(broker)
    async with Hub(link) as cut, Hub(MemoryBackend(broker)) as other:
        ann = await connect(cut, "ann")
        link.cut()
        await other.kick("ann")
        link.restore()
        assert await told(ann) == ["kicked"]


async def test_who_is_let_in_while_the_broker_is_away_is_in_doubt_when_it_is_back() -> None:
    broker = Broker()
    link = FaultyBackend(broker)
    async with Hub(link) as cut, Hub(MemoryBackend(broker)) as other:
        link.cut()
        ann = await connect(cut, "ann")
        mark = cut.connections.mark()
        await other.kick("ann")
        link.restore()
        assert await told(ann) == ["doubted"]
        late, later = Client(), Client()
        cut.connections.add("bob", late, since=mark)
        cut.connections.add("bob", later, since=cut.connections.mark())
        assert (late.told, later.told) == (["doubted"], [])


async def test_a_mark_from_before_a_gap_is_in_doubt_unless_it_was_kicked_after_it() -> None:
    async with Hub() as hub:
        ann = await connect(hub, "ann")
        mark = hub.connections.mark()
        await hub.backend.clear(KICKS)
        await told(ann)
        await hub.kick("ann")
        assert await told(ann) == ["doubted", "kicked"]
        clients = {user: Client() for user in ("ann", "bob")}
        for user, client in clients.items():
            hub.connections.add(user, client, since=mark)
        assert {user: client.told for user, client in clients.items()} == {
            "ann": ["kicked"],
            "bob": ["doubted"],
        }


async def test_where_kicks_may_be_missing_everybody_is_in_doubt() -> None:
    async with Hub() as hub:
        ann = await connect(hub, "ann")
        await hub.backend.clear(KICKS)
        assert await told(ann) == ["doubted"]


async def test_a_kick_that_names_nobody_is_ignored() -> None:
    async with Hub() as hub:
        ann = await connect(hub, "ann")
        for wrong in (5, ["ann"], {"user": 5}, {"name": "ann"}):
            await hub._publish_internal(KICKS, wrong)
        await hub.kick("bob")
        assert ann.told == []
        with pytest.raises(TypeError):
            await hub.kick(5)  # type: ignore[arg-type]


async def test_users_can_neither_kick_by_publishing_nor_listen_by_name() -> None:
    async with Hub() as hub:
        for channel in (KICKS, str(KICKS)):
            with pytest.raises(InvalidChannel):
                await hub.publish(channel, {"user": "ann"})
            with pytest.raises(InvalidChannel):
                await hub.publish_many([(channel, {"user": "ann"})])
        with pytest.raises(InvalidChannel):
            hub.subscribe(str(KICKS))


async def test_following_kicks_is_no_presence() -> None:
    async with Hub() as hub:
        await hub.follow_kicks()
        assert hub._channels.presence_watched() == []
        await hub.sweep()


async def test_a_hub_that_starts_again_follows_again() -> None:
    hub = Hub()
    for _ in range(2):
        async with hub:
            ann = await connect(hub, "ann")
            await hub.kick("ann")
            assert await told(ann) == ["kicked"]


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        ([], Occupancy(0, 0, 0)),
        (["ann", "ann", "bob"], Occupancy(3, 2, 0)),
        ([None, None, "ann"], Occupancy(3, 1, 2)),
    ],
)
async def test_occupancy_counts_connections_users_and_the_anonymous(
    users: list[Any], expected: Occupancy
) -> None:
    async with Hub() as hub:
        for n, user in enumerate(users):
            await hub.enter("c", Member(f"id{n}", user))
        assert await hub.occupancy("c") == expected
