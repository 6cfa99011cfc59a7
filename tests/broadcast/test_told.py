"""What is told of joins and leaves comes to agree with who is there, whatever became of the telling."""

from __future__ import annotations

from typing import Any

import pytest

from samovar.broadcast import Gap, Hub, Member, presence_channel, told
from samovar.broadcast.subscription import Subscription
from samovar.errors import BackendUnavailable, PublishRejected

from ..support.until import until
from .faulty import FaultyBackend
from .test_presence import GUEST, LAPTOP, PHONE, House

WATCHED = presence_channel("room/1")


async def looked(*hubs: Hub) -> None:
    """The hubs that listen have had their first look."""
    for hub in hubs:
        listening = hub._members._told["room/1"]
        await until(lambda listening=listening: listening._keys is not None, "the first look")  # type: ignore[misc]


async def words(house: House, watcher: Subscription) -> list[tuple[str, str]]:
    """What was told in the meantime."""
    return await house.told(watcher)


async def test_a_join_and_a_leave_that_nobody_told_are_told_once_by_those_who_listen() -> None:
    house = House()
    async with (
        house.one,
        house.two,
        house.one.subscribe(WATCHED) as here,
        house.two.subscribe(WATCHED) as there,
    ):
        await looked(house.one, house.two)
        await house.one.backend.touch("room/1", [PHONE, GUEST], lease=1000)
        await house.pass_time(45)
        told_here = await words(house, here)
        assert sorted(told_here) == [("join", "guest"), ("join", "phone")]
        assert await words(house, there) == told_here
        await house.one.backend.leave("room/1", ["phone"])
        await house.pass_time(45)
        assert await words(house, here) == await words(house, there) == [("leave", "phone")]
        await house.pass_time(200)
        assert await words(house, here) == []


async def test_a_word_that_was_overtaken_is_put_right() -> None:
    house = House()
    async with house.one, house.two, house.two.subscribe(WATCHED) as watcher:
        await looked(house.two)
        [gone] = await house.one.backend.touch("room/1", [PHONE], lease=1000)
        await house.one._members._tell("join", "room/1", [gone])
        await house.one.backend.leave("room/1", ["phone"])
        await house.two.enter("room/1", LAPTOP)
        await house.one._members._tell("leave", "room/1", [gone])  # it took its time
        await house.pass_time(60)
        assert await words(house, watcher) == [
            ("join", "phone"), ("join", "laptop"), ("leave", "phone"), ("join", "laptop"),
        ]  # fmt: skip


async def test_what_the_broker_did_not_take_is_told_when_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    async with house.one, house.two, house.two.subscribe(WATCHED) as watcher:
        await looked(house.two)

        async def full(*_: Any, **__: Any) -> Any:
            raise PublishRejected("full", id="x")

        with monkeypatch.context() as patch:
            patch.setattr(house.one.backend, "publish", full)
            await house.one.enter("room/1", PHONE)
            assert await house.two.presence("room/1") == [PHONE]
        await house.pass_time(45)
        assert await words(house, watcher) == [("join", "phone")]


async def test_what_was_told_well_is_not_told_again() -> None:
    house = House()
    async with house.one, house.two, house.two.subscribe(WATCHED) as watcher:
        await house.one.enter("room/1", PHONE)
        await house.two.enter("room/1", LAPTOP)  # the same user's
        await house.two.enter("room/1", GUEST)
        await house.pass_time(70)
        await house.one.leave("room/1", "phone", grace=15)
        await house.two.leave("room/1", "guest", grace=15)
        await house.pass_time(120)
        assert await words(house, watcher) == [("join", "phone"), ("join", "guest"), ("leave", "guest")]


async def test_nothing_is_compared_before_it_is_heard() -> None:
    house = House()
    async with house.one, house.two:
        house.two.channel(WATCHED)  # it listens as soon as the loop turns
        await house.two.sweep()
        await house.one.enter("room/1", PHONE)
        async with house.two.subscribe(WATCHED) as watcher:
            await house.pass_time(100)
            assert await words(house, watcher) == []


async def test_what_was_not_told_about_the_time_of_a_gap_is_told_after_it() -> None:
    """Who follows may have asked who is there before it changed."""
    house = House()
    async with house.one, house.two, house.two.subscribe(WATCHED) as watcher:
        await looked(house.two)
        await house.two.backend.clear(WATCHED)
        await house.one.backend.touch("room/1", [PHONE], lease=1000)
        while not any(isinstance(event, Gap) for event in await watcher.events()):
            pass
        await house.pass_time(45)
        assert await words(house, watcher) == [("join", "phone")]
        await house.pass_time(100)
        assert await words(house, watcher) == []


async def test_a_crowd_is_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "MOST_KEYS", 3)
    house = House()
    async with house.one, house.two, house.two.subscribe(WATCHED) as watcher:
        await looked(house.two)
        for n in range(5):
            await house.one.enter("room/1", Member(f"m{n}"))
        await house.one.backend.touch("room/1", [PHONE], lease=1000)
        await house.pass_time(100)
        assert await words(house, watcher) == [("join", f"m{n}") for n in range(5)]


async def test_a_listener_keeps_no_channel() -> None:
    async with Hub(linger=0) as hub:
        async with hub.subscribe(WATCHED):
            await looked(hub)
        assert WATCHED not in hub._channels.table
        await hub.sweep()
        assert hub._members._told == {}
        async with hub.subscribe(WATCHED):
            await looked(hub)


async def test_the_first_look_is_tried_until_the_broker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Hub(FaultyBackend()) as hub:
        members, asked = hub.backend.members, 0

        async def sometimes(channel: str) -> list[Member]:
            nonlocal asked
            asked += 1
            if asked < 4:
                raise BackendUnavailable("away")
            return await members(channel)

        monkeypatch.setattr(hub.backend, "members", sometimes)
        async with hub.subscribe(WATCHED):
            await looked(hub)
        assert asked == 4


async def test_words_that_make_no_sense_are_passed_over() -> None:
    house = House()
    async with house.one, house.two, house.two.subscribe(WATCHED):
        await looked(house.two)
        for said in (
            "x",
            {},
            {"event": "join"},
            {"event": "hop", "member": {"id": "a", "user": None, "info": 1}},
        ):
            await house.one._publish_internal(WATCHED, said)
        await house.one._publish_internal(
            WATCHED, {"event": "join", "member": {"id": 5, "user": None, "info": 1}}
        )
        await until(lambda: house.two.stats()["received"] >= 5, "them to come")
        assert house.two._members._told["room/1"]._keys == {}
