"""Who is here: the pure parts, then a hub with a clock that is told what time it is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from samovar.backends.memory import Broker, MemoryBackend
from samovar.broadcast import ChannelRule, Hub, Member, Message, Subscription, presence_channel
from samovar.broadcast.members import AT_ONCE
from samovar.broadcast.presence import Attendance, Roster
from samovar.errors import BackendUnavailable, HubClosed, InvalidChannel, InvalidPayload

from .faulty import Clock, FaultyBackend

PHONE, LAPTOP, GUEST = Member("phone", "ann"), Member("laptop", "ann"), Member("guest")


def test_a_key_joins_with_its_first_member_and_leaves_with_its_last() -> None:
    roster = Roster()
    assert roster.touch([PHONE], until=30) == [PHONE]
    assert roster.touch([LAPTOP, GUEST], until=30) == [GUEST]
    assert roster.leave(["phone"]) == []
    assert roster.leave(["laptop", "guest", "nobody", "guest"]) == [LAPTOP, GUEST]
    assert len(roster) == 0 and not roster._keys


def test_a_connection_called_like_a_user_is_not_that_user() -> None:
    roster = Roster()
    assert roster.touch([Member("x", "ann"), Member("ann")], until=30) == [Member("x", "ann"), Member("ann")]


def test_a_lease_is_renewed_shortened_and_swept_once() -> None:
    roster = Roster()
    roster.touch([PHONE, GUEST], until=30)
    roster.touch([PHONE], until=40)
    assert roster.sweep(29.9) == []
    assert roster.members(30) == [PHONE]
    assert roster.sweep(30) == [GUEST]
    assert roster.sweep(30) == []
    roster.touch([PHONE], until=35)
    assert roster.sweep(35) == [PHONE]


def test_coming_back_within_grace_is_no_event() -> None:
    roster = Roster()
    roster.touch([PHONE], until=30)
    roster.touch([PHONE], until=15)
    assert roster.touch([LAPTOP], until=40) == []
    assert roster.sweep(15) == []
    assert roster.members(15) == [LAPTOP]


def test_a_lease_is_shortened_for_those_of_one_owner_only() -> None:
    roster = Roster()
    roster.touch([Member("a"), Member("b")], until=30, by=1)
    roster.touch([Member("b"), Member("c")], until=30, by=2)
    roster.touch([Member("d")], until=5, by=1)
    roster.shorten(1, 10)
    assert [member.id for member in roster.members(5)] == ["a", "b", "c"]
    assert [member.id for member in roster.members(10)] == ["b", "c"]


def test_coming_back_after_the_lease_and_before_the_sweep_is_no_event_either() -> None:
    roster = Roster()
    roster.touch([PHONE], until=15)
    assert roster.touch([LAPTOP], until=60) == []
    assert roster.sweep(20) == []
    assert roster.members(20) == [LAPTOP]


def test_what_a_member_shows_can_change() -> None:
    roster = Roster()
    roster.touch([GUEST], until=30)
    shown = Member("guest", info={"name": "G"})
    assert roster.touch([shown], until=30) == []
    assert roster.members(0) == [shown]


def test_a_connection_that_gets_a_user_changes_its_key() -> None:
    roster = Roster()
    roster.touch([GUEST], until=30)
    named = Member("guest", "ann")
    assert roster.touch([named], until=30) == [named]
    assert roster.leave(["guest"]) == [named]


@pytest.mark.parametrize("seed", range(20))
def test_joins_and_leaves_of_a_key_alternate(seed: int) -> None:
    dice, roster, now = random.Random(seed), Roster(), 0.0
    present: dict[str, bool] = {}
    for _ in range(400):
        now += dice.random() * 5
        member = Member(str(dice.randrange(8)), f"u{dice.randrange(3)}")
        member = Member(f"{member.user}/{member.id}", member.user)
        joined, left = [], []
        match dice.randrange(3):
            case 0:
                joined = roster.touch([member], until=now + dice.random() * 20)
            case 1:
                left = roster.leave([member.id])
            case 2:
                left = roster.sweep(now)
        for one in joined:
            assert not present.get(one.key, False)
            present[one.key] = True
        for one in left:
            assert present[one.key]
            present[one.key] = False
        assert {m.key for m in roster.members(now)} <= {key for key, here in present.items() if here}
    assert {m.key for m in roster.leave(list(roster._seats))} == {
        key for key, here in present.items() if here
    }


def test_attendance_knows_whom_to_renew_and_what_to_sweep() -> None:
    attendance = Attendance(lease=30, clock=(clock := Clock()))
    assert not attendance and attendance.next_grace() is None
    attendance.enter("a", PHONE)
    attendance.enter("a", GUEST)
    attendance.enter("b", PHONE)
    assert attendance.here() == ["a", "b"]
    assert attendance.batch("a", attendance.ids("a"), most=9, size=99) == (2, [PHONE, GUEST])
    assert attendance.leave("b", "phone", grace=15) == PHONE
    assert attendance.leave("b", "phone", grace=15) is None
    assert attendance.next_grace() == 15
    assert attendance.channels(["watched"]) == ["a", "b", "watched"]
    clock.now += 15
    assert attendance.next_grace() == 0
    assert attendance.channels() == ["a", "b"]
    assert attendance.channels() == ["a"]
    attendance.leave("a", "phone", grace=0)
    attendance.leave("a", "guest", grace=0)
    attendance.channels()
    assert not attendance


# --- hubs -----------------------------------------------------------------------------------------------------------


class House:
    """Two hubs on one broker, one clock, and somebody who watches."""

    def __init__(self) -> None:
        self.clock = Clock()
        broker = Broker(clock=self.clock)
        self.one, self.two = (
            Hub(MemoryBackend(broker), clock=self.clock, channels=[ChannelRule("room/<x>", presence=True)])
            for _ in range(2)
        )

    async def told(self, watcher: Subscription) -> list[tuple[str, str]]:
        """What was told since last asked, up to now."""
        await self.one.publish("fence", "")
        events: list[Any] = []
        while more := await watcher.events(timeout=0):
            events += more
        return [(e.data["event"], e.data["member"]["id"]) for e in events if isinstance(e, Message)]

    async def pass_time(self, seconds: float) -> None:
        """Let time go by, with the hubs doing every few seconds what they do."""
        while seconds > 0:
            self.clock.now += min(seconds, 5)
            seconds -= 5
            await self.one.sweep()
            await self.two.sweep()


async def test_a_short_absence_is_not_told() -> None:
    house = House()
    async with house.one, house.two, house.two.subscribe(presence_channel("room/1")) as watcher:
        await house.one.enter("room/1", PHONE)
        await house.one.leave("room/1", "phone")
        await house.pass_time(14)
        assert await house.two.presence("room/1") == [PHONE]
        await house.two.enter("room/1", LAPTOP)
        await house.pass_time(60)
        assert await house.one.presence("room/1") == [LAPTOP]
        assert await house.told(watcher) == [("join", "phone")]


async def test_a_long_absence_is_told_once_by_whoever_finds_it() -> None:
    house = House()
    async with house.one, house.two, house.two.subscribe(presence_channel("room/1")) as watcher:
        await house.one.enter("room/1", PHONE)
        await house.one.leave("room/1", "phone", grace=15)
        await house.pass_time(40)
        assert await house.told(watcher) == [("join", "phone"), ("leave", "phone")]
        assert await house.two.presence("room/1") == []


async def test_members_are_renewed_as_long_as_their_hub_lives() -> None:
    house = House()
    async with house.two, house.two.subscribe(presence_channel("room/1")) as watcher:
        async with house.one:
            await house.one.enter("room/1", PHONE)
            await house.pass_time(300)
            assert await house.two.presence("room/1") == [PHONE]
        house.clock.now += 16
        await house.two.sweep()
        assert await house.two.presence("room/1") == []
        events = await watcher.events() + await watcher.events(timeout=0)
        assert [e.data["event"] for e in events if isinstance(e, Message)] == ["join", "leave"]


async def test_a_worker_that_dies_loses_its_members_with_their_leases() -> None:
    house = House()
    async with house.two, house.two.subscribe(presence_channel("room/1")) as watcher:
        await house.one.enter("room/1", PHONE)
        house.one._members.forget()  # as a killed process forgets
        house.clock.now += 29.9
        await house.two.sweep()
        assert await house.two.presence("room/1") == [PHONE]
        house.clock.now += 0.2
        await house.two.sweep()
        assert await house.told(watcher) == [("join", "phone"), ("leave", "phone")]
        await house.one.stop()


async def test_presence_sweeps_by_itself() -> None:
    async with Hub(lease=0.2) as hub, hub.subscribe(presence_channel("room")) as watcher:
        await hub.enter("room", GUEST)
        await hub.leave("room", "guest", grace=0.05)
        told: list[str] = []
        while len(told) < 2:
            told += [e.data["event"] for e in await watcher.events(timeout=5) if isinstance(e, Message)]
        assert told == ["join", "leave"]


async def test_leaving_without_grace_is_told_at_once() -> None:
    async with Hub() as hub, hub.subscribe(presence_channel("room")) as watcher:
        await hub.enter("room", Member("m", "ann", {"name": "Ann"}))
        await hub.leave("room", "m", grace=0)
        _, join, leave = await watcher.events()
        assert join.data == {"event": "join", "member": {"id": "m", "user": "ann", "info": {"name": "Ann"}}}
        assert leave.data["event"] == "leave"
        await hub.leave("room", "m", grace=0)
        await hub.leave("room", "never entered")
        assert await watcher.events(timeout=0) == []


@pytest.mark.parametrize("info", [{"x": {1, 2}}, float("nan"), "\ud800"], ids=["set", "nan", "surrogate"])
async def test_what_cannot_be_told_does_not_enter(info: Any) -> None:
    async with Hub() as hub, hub.subscribe(presence_channel("room")) as watcher:
        await hub.enter("room", PHONE)
        with pytest.raises(InvalidPayload):
            await hub.enter("room", Member("bad", "bob", info))
        await hub.leave("room", "bad", grace=0)
        await hub.sweep()
        assert await hub.presence("room") == [PHONE]
        told = await watcher.events() + await watcher.events(timeout=0)
        assert [e.data["member"]["id"] for e in told if isinstance(e, Message)] == ["phone"]


@pytest.mark.parametrize(
    "member",
    [
        Member(""),
        Member("i" * 257),
        Member(5),  # type: ignore[arg-type]
        Member("i", 5),  # type: ignore[arg-type]
        Member("i", "u" * 990),
        Member("i", info="x" * 950),
    ],
    ids=["no id", "long id", "id 5", "user 5", "long user", "much info"],
)
async def test_a_member_that_is_too_much_does_not_enter(member: Member) -> None:
    link = FaultyBackend()
    async with Hub(link, max_message_bytes=1000) as hub:
        with pytest.raises(InvalidPayload):
            await hub.enter("room", member)
        assert not link.calls
        await hub.enter("room", Member("i" * 256, "u" * 200, "x" * 400))
        await hub.leave("room", "i" * 256, grace=0)


async def test_a_member_is_shown_as_it_was_when_it_entered() -> None:
    async with Hub() as hub:
        info = {"name": "Ann", "tags": ("a", "b")}
        await hub.enter("room", Member("m", "ann", info))
        info["name"] = "Bob"
        assert [member.info for member in await hub.presence("room")] == [{"name": "Ann", "tags": ["a", "b"]}]


async def test_presence_goes_on_after_a_failure() -> None:
    link = FaultyBackend()
    async with Hub(link, lease=0.1) as hub:
        await hub.enter("room", GUEST)
        link.fail["touch"] = [ValueError("a broker that talks nonsense")]
        before = link.count("touch")
        async with asyncio.timeout(60):
            while link.count("touch") < before + 3:
                await hub._channels._looking.wait(0.01)
        assert await hub.presence("room") == [GUEST]


class Held(FaultyBackend):
    """Its answers about presence wait to be let through; it counts how many do."""

    def __init__(self, broker: Broker | None = None) -> None:
        super().__init__(broker)
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = self.most = 0

    async def touch(self, channel: str, members: Sequence[Member], *, lease: float) -> list[Member]:
        joined = await super().touch(channel, members, lease=lease)
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1
        return joined

    async def held(self, count: int) -> None:
        async with asyncio.timeout(60):
            while self.waiting < count:
                await asyncio.sleep(0)


class Slow(Held):
    """A renewal reaches the broker late: after what was asked later."""

    async def touch(self, channel: str, members: Sequence[Member], *, lease: float) -> list[Member]:
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        return await MemoryBackend.touch(self, channel, members, lease=lease)


@pytest.mark.parametrize("grace", [0, 15])
async def test_who_leaves_during_a_renewal_is_not_entered_again(grace: float) -> None:
    link, clock = Slow(), Clock()
    link.broker.clock = clock
    async with Hub(link, clock=clock) as hub, Hub(MemoryBackend(link.broker)) as other:
        await hub.enter("room", PHONE)
        await hub.enter("room", GUEST)
        link.open.clear()
        tick = asyncio.create_task(hub.sweep())
        await link.held(1)
        leaving = asyncio.create_task(hub.leave("room", "phone", grace=grace))
        if grace:
            await link.held(2)
        else:
            await leaving
        link.open.set()
        await tick
        await leaving
        clock.now += grace
        assert await other.presence("room") == [GUEST]


async def test_who_left_before_its_channel_was_renewed_is_not_renewed() -> None:
    link = Held()
    async with Hub(link) as hub:
        rooms = [f"room{n}" for n in range(AT_ONCE + 1)]
        for room in rooms:
            await hub.enter(room, GUEST)
        link.open.clear()
        tick = asyncio.create_task(hub.sweep())
        await link.held(AT_ONCE)
        await hub.leave(rooms[-1], GUEST.id, grace=0)
        before = link.calls.count(("touch", rooms[-1]))
        link.open.set()
        await tick
        assert link.calls.count(("touch", rooms[-1])) == before == 1
        assert await hub.presence(rooms[-1]) == []


async def test_many_channels_are_renewed_at_the_same_time_but_not_all() -> None:
    link = Held()
    async with Hub(link) as hub:
        for n in range(3 * AT_ONCE):
            await hub.enter(f"room{n}", GUEST)
        link.open.clear()
        tick = asyncio.create_task(hub.sweep())
        await link.held(AT_ONCE)
        link.open.set()
        await tick
        assert link.most == AT_ONCE
        assert link.count("touch") == 6 * AT_ONCE


async def test_a_large_channel_is_renewed_in_several_calls() -> None:
    link = FaultyBackend()
    async with Hub(link) as hub:
        for n in range(80):
            await hub.enter("room", Member(f"m{n}", info="x" * 10_000))
        before = link.count("touch")
        await hub.sweep()
        assert link.count("touch") == before + 4
        assert len(await hub.presence("room")) == 80


async def test_what_fails_in_one_channel_keeps_no_other_from_being_renewed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    link = FaultyBackend()
    async with Hub(link) as hub:
        for room in ("a", "b", "c"):
            await hub.enter(room, GUEST)
        link.fail["touch"] = [ValueError("a broker that talks nonsense")]
        link.fail["sweep"] = [BackendUnavailable("cut")]
        before = {name: link.count(name) for name in ("touch", "sweep")}
        await hub.sweep()
        assert {name: link.count(name) - count for name, count in before.items()} == {"touch": 3, "sweep": 3}
        assert "1 channels could not be renewed, a among them" in caplog.text
        link.fail["touch"] = [ValueError("a broker that talks nonsense")]
        before = {"touch": link.count("touch")}
    assert link.count("touch") == before["touch"] + 3


async def test_a_grace_that_could_not_be_swept_is_swept_later() -> None:
    link, clock = FaultyBackend(), Clock()
    link.broker.clock = clock
    async with Hub(link, clock=clock) as hub:
        await hub.enter("room", GUEST)
        await hub.leave("room", GUEST.id, grace=15)
        clock.now += 16
        link.fail["sweep"] = [BackendUnavailable("cut")]
        await hub.sweep()
        before = link.count("sweep")
        await hub.sweep()
        assert link.count("sweep") == before + 1
        assert not link.broker.rosters


async def test_a_renewal_that_takes_too_long_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    link = Held()
    async with Hub(link, lease=0.06) as hub:
        await hub.enter("room", GUEST)
        for _ in range(2):
            link.open.clear()
            await link.held(1)
            await asyncio.wait({asyncio.create_task(link.open.wait())}, timeout=0.05)
            link.open.set()
            before = link.count("sweep")
            async with asyncio.timeout(60):
                while link.count("sweep") == before:
                    await asyncio.sleep(0)
    assert caplog.text.count("renewing presence took") == 1


@pytest.mark.parametrize("error", [ValueError("nonsense"), BackendUnavailable("cut")])
async def test_a_hub_stops_whatever_becomes_of_its_members(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(link := FaultyBackend())
    await hub.start()
    await hub.enter("room", GUEST)
    link.fail["touch"] = [error]
    await hub.stop()
    assert hub._link is None and not hub._channels._timers
    await hub.start()

    async def retire() -> None:
        raise error

    monkeypatch.setattr(hub._members, "retire", retire)
    await hub.stop()
    assert hub._link is None and not hub._channels._scope


async def test_stopping_during_a_renewal_is_quiet_and_leaves_the_grace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    link, clock = Held(), Clock()
    link.broker.clock = clock
    hub = Hub(link, lease=0.06, clock=clock)
    await hub.start()
    async with hub.subscribe(presence_channel("room")):
        link.fail["touch"] = [BackendUnavailable("cut")]
        await hub.enter("room", GUEST)  # so that the renewal has a join to tell
        link.open.clear()
        await link.held(1)
        sweep = asyncio.create_task(hub.sweep())
        await link.held(2)
        stopping = asyncio.create_task(hub.stop())
        async with asyncio.timeout(60):
            while link.count("touch") < 4:
                await asyncio.sleep(0)
        link.open.set()
        await stopping
        await sweep
    assert not hub._channels._timers
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_nobody_writes_on_a_presence_channel() -> None:
    async with Hub() as hub:
        for channel in ("!room", presence_channel("room")):
            with pytest.raises(InvalidChannel):
                await hub.publish(channel, {"event": "join"})
            with pytest.raises(InvalidChannel):
                await hub.publish_many([(channel, {"event": "join"})])
        with pytest.raises(InvalidChannel):
            hub.subscribe("!room")
        with pytest.raises(InvalidChannel):
            await hub.enter(presence_channel("room"), GUEST)


async def test_presence_waits_for_the_broker_and_goes_on() -> None:
    link = FaultyBackend()
    async with Hub(link, lease=0.1) as hub:
        await hub.enter("room", GUEST)
        link.cut()
        before = link.count("touch")
        while link.count("touch") < before + 2:
            await hub._channels._looking.wait(0.01)
        link.restore()
        before = link.count("touch")
        while link.count("touch") < before + 2:
            await hub._channels._looking.wait(0.01)
        assert await hub.presence("room") == [GUEST]


async def test_coming_and_going_while_the_broker_is_away() -> None:
    link = FaultyBackend()
    clock = link.broker.clock = Clock()
    async with Hub(link, clock=clock) as hub, hub.subscribe(presence_channel("room")) as watcher:
        await hub.enter("room", PHONE)
        link.cut()
        await hub.enter("room", GUEST)
        await hub.leave("room", "phone", grace=0)
        link.restore()
        clock.now += 10
        await hub.sweep()
        assert await hub.presence("room") == [GUEST, PHONE]
        clock.now += 21
        await hub.sweep()
        assert await hub.presence("room") == [GUEST]
        told = [await anext(watcher) for _ in range(3)]
        assert [(m.data["event"], m.data["member"]["id"]) for m in told if isinstance(m, Message)] == [
            ("join", "phone"),
            ("join", "guest"),
            ("leave", "phone"),
        ]


async def test_a_stopped_hub_leaves_no_timer_and_says_so() -> None:
    hub = Hub()
    await hub.enter("room", GUEST)
    assert len(hub._channels._timers) == 1
    await hub.stop()
    assert not hub._channels._timers
    with pytest.raises(HubClosed):
        await hub.enter("room", GUEST)
