"""Subscribers: order, resuming, falling behind, coming and going."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from samovar.backends.memory import Broker, MemoryBackend
from samovar.broadcast import ChannelRule, Gap, Hub, Message, Position, Record, Subscribed, Subscription
from samovar.broadcast.channel import State
from samovar.broadcast.channels import CHECK_EVERY
from samovar.broadcast.codec import Envelope, encode
from samovar.errors import AlreadySubscribed, BackendUnavailable, HubClosed, InvalidCursor, SlowSubscriber
from samovar.tasks import Scope
from tests.support.until import until

from .faulty import Clock, FaultyBackend, SparseBackend


def short(events: Iterable[Any]) -> list[Any]:
    """Events as a reader of a test likes them: data, or reason with offsets, or the first word's ``recovered``."""
    out: list[Any] = []
    for event in events:
        match event:
            case Message():
                out.append(event.data)
            case Gap():
                out.append(
                    (event.reason, event.after and event.after.offset, event.until and event.until.offset)
                )
            case Subscribed():
                out.append(("first", event.recovered))
            case _:
                out.append(event)
    return out


async def now(subscription: Subscription) -> list[Any]:
    """Everything that is there now, in short."""
    events: list[Any] = []
    while more := await subscription.events(timeout=0):
        events += more
    return short(events)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def filled(
    count: int, *, history: int = 100, hub: Hub | None = None, **options: Any
) -> tuple[Hub, list[str]]:
    """A hub with so many messages in ``c``, and the cursor after each."""
    hub = hub or Hub(channels=[ChannelRule("c", history=history, **options)])
    cursors = [await hub.cursor("c")]
    for n in range(count):
        cursors.append(str((await hub.publish("c", n)).position))
    return hub, cursors


# --- where a subscription begins ------------------------------------------------------------------------------------


async def test_without_a_cursor_it_begins_now() -> None:
    hub, cursors = await filled(3)
    async with hub.subscribe("c") as messages:
        assert (messages.recovered, messages.cursor, messages.channels) == ({"c": None}, cursors[3], ("c",))
        await hub.publish("c", 3)
        assert await now(messages) == [("first", None), 3]


async def test_it_resumes_after_every_position() -> None:
    hub, cursors = await filled(6)
    for seen, cursor in enumerate(cursors):
        async with hub.subscribe("c", since=cursor) as messages:
            assert messages.recovered == {"c": True}
            assert messages.cursor == cursor
            assert await now(messages) == [("first", True), *range(seen, 6)]
            assert messages.cursor == cursors[-1]


async def test_what_expired_is_a_gap_then_what_is_kept() -> None:
    hub, cursors = await filled(6, history=2)
    async with hub.subscribe("c", since=cursors[1]) as messages:
        first, gap, *rest = await messages.events()
        assert first == Subscribed("c", False, Position.parse(cursors[1]))
        assert gap == Gap("c", "expired", Position.parse(cursors[1]), Position.parse(cursors[4]))
        assert short(rest) == [4, 5]


async def test_what_is_too_old_is_a_gap() -> None:
    clock = Clock()
    hub = Hub(MemoryBackend(Broker(clock=clock)), clock=clock, channels=[ChannelRule("c", ttl=60)])
    _, cursors = await filled(2, hub=hub)
    async with hub.subscribe("c") as watcher:
        clock.now += 30
        last = (await hub.publish("c", 2)).position
        clock.now += 31
        async with hub.subscribe("c", since=cursors[0]) as messages:
            assert await now(messages) == [("first", False), ("expired", 0, 2), 2]
        async with hub.subscribe("c", since=cursors[2]) as messages:
            assert await now(messages) == [("first", True), 2]
        clock.now += 60
        async with hub.subscribe("c", since=last) as messages:
            assert await now(messages) == [("first", True)]
        assert await now(watcher) == [("first", None), 2]


async def test_a_foreign_epoch_is_a_gap_then_all_that_is_kept() -> None:
    hub, cursors = await filled(3)
    async with hub.subscribe("c", since="elsewhere:2") as messages:
        first, gap, *rest = await messages.events()
        assert first == Subscribed("c", False, Position("elsewhere", 2))
        assert gap == Gap("c", "reset", Position("elsewhere", 2), Position.parse(cursors[0]))
        assert short(rest) == [0, 1, 2]


async def test_an_offset_beyond_the_head_is_a_gap_and_not_silence() -> None:
    hub, cursors = await filled(3)
    head = Position.parse(cursors[-1])
    async with hub.subscribe("c", since=Position(head.epoch, 9)) as messages:
        first, gap = await messages.events()
        assert first == Subscribed("c", False, Position(head.epoch, 9))
        assert gap == Gap("c", "reset", Position(head.epoch, 9), head)
        await hub.publish("c", 3)
        assert await now(messages) == [3]


@pytest.mark.parametrize("since", ["", {"c": None}])
async def test_a_cursor_that_tells_nothing_is_a_gap_and_begins_now(since: Any) -> None:
    hub, cursors = await filled(3)
    async with hub.subscribe("c", since=since) as messages:
        first, gap = await messages.events()
        assert first == Subscribed("c", False, Position.parse(cursors[-1]))
        assert gap == Gap("c", "unknown", None, Position.parse(cursors[-1]))


async def test_a_cut_right_after_the_first_word_loses_nothing() -> None:
    hub, cursors = await filled(4, history=2)
    for since, rest in ((cursors[3], [3]), (cursors[0], [("expired", 0, 2), 2, 3])):
        async with hub.subscribe("c", since=since) as messages:
            first = (await messages.events())[0]
        async with hub.subscribe("c", since=first.cursor) as messages:
            assert (await now(messages))[1:] == rest


@pytest.mark.parametrize(
    ("last", "expected"), [(0, []), (2, [4, 5]), (4, [2, 3, 4, 5]), (9, [2, 3, 4, 5]), (None, [])]
)
async def test_the_newest_first(last: int | None, expected: list[int]) -> None:
    hub, cursors = await filled(6, history=4)
    async with hub.subscribe("c", last=last) as messages:
        first, *rest = await messages.events()
        assert (first.recovered, short(rest)) == (None, expected)
        assert first.cursor == cursors[6 - len(expected)]
        await hub.publish("c", 6)
        assert await now(messages) == [6]


async def test_a_rule_has_a_default_of_the_newest() -> None:
    hub, _ = await filled(5, replay=2)
    async with hub.subscribe("c") as messages:
        assert await now(messages) == [("first", None), 3, 4]
    async with hub.subscribe("c", last=0) as messages:
        assert await now(messages) == [("first", None)]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (4, [("first", True), 4, 5]),
        (2, [("first", True), 2, 3, 4, 5]),
        (0, [("first", False), ("expired", 0, 5), 5]),
    ],
)
async def test_since_and_last_together(seen: int, expected: list[Any]) -> None:
    hub, cursors = await filled(6, history=4)
    async with hub.subscribe("c", since=cursors[seen], last=1) as messages:
        assert await now(messages) == expected


async def test_an_unreadable_cursor_and_last_together() -> None:
    hub, _ = await filled(6)
    for since in ("", "elsewhere:1"):
        async with hub.subscribe("c", since=since, last=2) as messages:
            first, gap, *rest = await messages.events()
            assert isinstance(gap, Gap) and gap.until is not None
            assert (first.recovered, gap.until.offset, short(rest)) == (False, 4, [4, 5])


@pytest.mark.parametrize("last", [-1, 1.5, "3"])
async def test_a_bad_last_is_refused(last: Any) -> None:
    hub = Hub()
    with pytest.raises(ValueError, match="last="):
        hub.subscribe("c", last=last)
    async with hub.subscribe() as messages:
        with pytest.raises(ValueError, match="last="):
            await messages.add("c", last=last)


async def test_without_history_every_loss_is_a_gap() -> None:
    hub, cursors = await filled(3, history=0)
    async with hub.subscribe("c", since=cursors[1]) as messages:
        assert await now(messages) == [("first", False), ("expired", 1, 3)]
        await hub.publish("c", 3)
        assert await now(messages) == [3]
    async with hub.subscribe("c", since=cursors[3], last=5) as messages:
        assert await now(messages) == [("first", False), ("expired", 3, 4)]


# --- several channels -----------------------------------------------------------------------------------------------


async def test_one_cursor_for_several_channels() -> None:
    hub = Hub()
    async with hub.subscribe("a", "b/1", "c") as messages:
        start = messages.cursor
        await hub.publish_many([("a", 1), ("b/1", 2), ("a", 3)])
        await now(messages)
        middle = messages.cursor
        await hub.publish_many([("c", 4), ("a", 5)])
    async with hub.subscribe("a", "b/1", "c", since=middle) as messages:
        assert messages.recovered == {"a": True, "b/1": True, "c": True}
        assert sorted(map(str, await now(messages))) == ["('first', True)"] * 3 + ["4", "5"]
    async with hub.subscribe("a", "c", "new", since=start) as messages:
        assert messages.recovered == {"a": True, "c": True, "new": None}
        events = await messages.events()
        assert short(e for e in events if e.channel == "a") == [("first", True), 1, 3, 5]
        assert short(e for e in events if e.channel == "new") == [("first", None)]


def test_one_position_for_several_channels_is_refused() -> None:
    with pytest.raises(InvalidCursor, match="of which of 2 channels"):
        Hub().subscribe("a", "b", since="e:5")


async def test_channels_come_and_go() -> None:
    hub = Hub(linger=0)
    async with hub.subscribe("a") as messages:
        first = await messages.add("b")
        assert first.channel == "b" and messages.channels == ("a", "b")
        await hub.publish_many([("a", 1), ("b", 2), ("c", 3)])
        await messages.remove("a")
        await messages.remove("a")
        assert short(e for e in await messages.events() if isinstance(e, Message)) == [2]
        await hub.publish_many([("a", 4), ("b", 5)])
        assert await now(messages) == [5]
        assert list(messages.channels) == ["b"] and "=" not in messages.cursor
        await messages.add("a", last=1)
        assert await now(messages) == [("first", None), 4]


async def test_the_same_channel_twice_is_an_error() -> None:
    hub = Hub()
    with pytest.raises(AlreadySubscribed):
        hub.subscribe("a", "a")
    async with hub.subscribe("a") as messages:
        with pytest.raises(AlreadySubscribed):
            await messages.add("a")
        assert messages.channels == ("a",)
        async with Scope("adding") as scope:
            tasks = [scope.start(messages.add("b")) for _ in range(3)]
            await scope.join(60)
        assert sorted(type(task.exception()).__name__ for task in tasks) == ["AlreadySubscribed"] * 2 + [
            "NoneType"
        ]


# --- falling behind -------------------------------------------------------------------------------------------------


async def test_a_backlog_longer_than_the_outbox_comes_whole() -> None:
    hub, cursors = await filled(90)
    async with hub.subscribe("c", since=cursors[0], max_messages=7) as messages:
        assert messages.queued <= 8
        assert await now(messages) == [("first", True), *range(90)]


async def test_a_backlog_bigger_than_the_outbox_comes_whole() -> None:
    hub, cursors = await filled(20)
    async with hub.subscribe("c", since=cursors[0], max_bytes=1) as messages:
        assert messages.queued <= 2
        assert await now(messages) == [("first", True), *range(20)]


@pytest.mark.parametrize("count", [1500, 2600])
async def test_a_long_backlog_is_read_by_pages(count: int) -> None:
    hub, cursors = await filled(count, history=5000)
    async with hub.subscribe("c", since=cursors[3]) as messages:
        await hub.publish("c", count)
        assert await now(messages) == [("first", True), *range(3, count + 1)]
    assert hub.counters.reads <= count // 500 + 3
    async with hub.subscribe("c", last=1200) as messages:
        assert await now(messages) == [("first", None), *range(count - 1199, count + 1)]


async def test_live_messages_wait_behind_the_backlog() -> None:
    hub, cursors = await filled(10)
    async with hub.subscribe("c", since=cursors[0], max_messages=4) as messages:
        got = short(await messages.events())
        for n in range(10, 14):
            await hub.publish("c", n)
            got += short(await messages.events())
        got += await now(messages)
        assert got == [("first", True), *range(14)]


async def test_a_slow_subscriber_heals_and_costs_nobody_else() -> None:
    hub = Hub(channels=[ChannelRule("c", history=1000)])
    async with hub.subscribe("c", max_messages=5) as slow, hub.subscribe("c") as quick:
        got: list[Any] = []
        for n in range(300):
            await hub.publish("c", n)
            if n % 50 == 0:
                got += short(await quick.events())
            assert slow.queued <= 6
        assert got + await now(quick) == [("first", None), *range(300)]
        assert await now(slow) == [("first", None), *range(300)]
    assert hub.counters.overflows == {"heal": 1} and not hub.counters.gaps


async def test_what_history_no_longer_has_is_an_overflow() -> None:
    hub = Hub(channels=[ChannelRule("c", history=3)])
    async with hub.subscribe("c", max_messages=3) as slow:
        for n in range(12):
            await hub.publish("c", n)
        assert await now(slow) == [("first", None), 0, 1, ("overflow", 2, 9), 9, 10, 11]


async def test_without_history_an_overflow_keeps_what_was_queued() -> None:
    hub = Hub(channels=[ChannelRule("c", history=0)])
    async with hub.subscribe("c", max_messages=3) as slow:
        await now(slow)
        for n in range(9):
            await hub.publish("c", n)
        assert await now(slow) == [0, 1, 2, ("overflow", 3, 9)]
        await hub.publish("c", 9)
        assert await now(slow) == [9]


async def test_a_quiet_channel_suffers_nothing_from_a_loud_one() -> None:
    hub = Hub(channels=[ChannelRule("loud", history=2)])
    async with hub.subscribe("loud", "quiet", max_messages=4) as slow:
        await now(slow)
        for n in range(20):
            await hub.publish("loud", n)
        await hub.publish_many([("quiet", "q1"), ("quiet", "q2")])
        got = await now(slow)
        assert [event for event in got if isinstance(event, str)] == ["q1", "q2"]
        assert [event for event in got if not isinstance(event, str)] == [
            0,
            1,
            2,
            3,
            ("overflow", 4, 18),
            18,
            19,
        ]


async def test_a_reset_while_behind_is_told_in_its_place() -> None:
    hub, cursors = await filled(10)
    async with hub.subscribe("c", since=cursors[0], max_messages=3) as slow:
        got = short(await slow.events())
        await hub.clear("c")
        await turns()
        await hub.publish("c", "new")
        got += await now(slow)
        assert got[:3] == [("first", True), 0, 1]
        assert got[-2:] == [("reset", got[-3] + 1, 0), "new"]


async def test_the_disconnect_policy_lets_go_and_says_so() -> None:
    hub = Hub(linger=0)
    async with (
        hub.subscribe("c", "d", policy="disconnect", max_messages=4) as slow,
        hub.subscribe("c") as other,
    ):
        await now(slow)
        await hub.publish("c", 0)
        await now(slow)
        cursor = slow.cursor
        for n in range(1, 7):
            await hub.publish("c", n)
        with pytest.raises(SlowSubscriber):
            await slow.events()
        with pytest.raises(SlowSubscriber):
            await anext(slow)
        with pytest.raises(SlowSubscriber):
            await slow.add("e")
        assert slow.channels == () and slow.cursor == cursor
        assert await now(other) == [("first", None), *range(7)]
        assert hub.counters.overflows == {"disconnect": 1}
    async with hub.subscribe("c", "d", since=cursor) as again:
        assert [event for event in await now(again) if event != ("first", True)] == [*range(1, 7)]


async def test_the_last_one_let_go_takes_its_channel_along() -> None:
    hub = Hub(linger=0)
    async with hub.subscribe("c", policy="disconnect", max_messages=1) as slow:
        await hub.publish("c", 1)
        with pytest.raises(SlowSubscriber):
            await slow.events()
        assert not hub._channels.table
    async with hub.subscribe("c", last=5) as again:
        assert await now(again) == [("first", None), 1]


async def test_own_items_of_the_carrier_keep_their_place() -> None:
    hub = Hub()
    async with hub.subscribe("c") as messages:
        await now(messages)
        await hub.publish("c", 1)
        messages.put("own", 3)
        await hub.publish("c", 2)
        assert short(await messages.events()) == [1, "own", 2]
        messages.put("alone", 5)
        assert await messages.events() == ["alone"]


# --- reading --------------------------------------------------------------------------------------------------------


async def test_iterating_gives_messages_and_gaps() -> None:
    hub, cursors = await filled(4, history=2)
    async with hub.subscribe("c", since=cursors[0]) as messages:
        got: list[Any] = []
        async for event in messages:
            got += short([event])
            assert messages.cursor == (event.cursor if isinstance(event, Message) else cursors[2])
            if len(got) == 3:
                messages.close()
        assert got == [("expired", 0, 2), 2, 3]


async def test_reading_without_entering_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        async for _ in Hub().subscribe("c"):
            pass
    with pytest.raises(RuntimeError, match="async with"):
        await Hub().subscribe("c").events(timeout=0)


async def test_waiting_has_a_limit() -> None:
    async with Hub().subscribe("c") as messages:
        await messages.events()
        assert await messages.events(timeout=0) == []
        assert await messages.events(timeout=0.001) == []


async def test_cancelling_a_read_loses_nothing() -> None:
    """At each turn of the loop at which a read can be cancelled."""
    hub, cursors = await filled(8, history=100, hub=Hub(FaultyBackend(turns=2), linger=0))
    for at in range(40):
        async with hub.subscribe("c", since=cursors[0], max_messages=3) as messages, Scope("reader") as scope:
            got: list[Any] = []
            for _ in range(6):
                task = scope.start(messages.events())
                await turns(at % 20)
                if at % 2:
                    await hub.publish("x", 0)
                task.cancel()
                await asyncio.wait({task})
                got += [] if task.cancelled() else short(task.result())
            assert got + await now(messages) == [("first", True), *range(8)]


async def test_cancelling_a_subscription_leaves_nothing_behind() -> None:
    """At each turn of the loop at which it can be cancelled while it begins."""
    link = FaultyBackend(turns=2)
    hub, cursors = await filled(8, hub=Hub(link, linger=0))
    for at in range(25):
        messages = hub.subscribe("c", "d", since=f"c={cursors[2]}")
        async with Scope("opening") as scope:
            task = scope.start(messages.__aenter__())
            await turns(at)
            task.cancel()
            await asyncio.wait({task})
            messages.close()
        await turns(12)
        assert not hub._channels.table and not hub._subscriptions
        assert not link.broker.receivers
    async with hub.subscribe("c", since=cursors[2]) as messages:
        assert await now(messages) == [("first", True), *range(2, 8)]
    await hub.stop()


async def test_one_cancelled_joiner_does_not_take_the_others_along() -> None:
    link = FaultyBackend(turns=3)
    hub = Hub(link)
    async with Scope("joining") as scope:
        subscriptions = [hub.subscribe("c") for _ in range(5)]
        tasks = [scope.start(subscription.__aenter__()) for subscription in subscriptions]
        await turns(2)
        tasks[0].cancel()
        await scope.join(60)
    assert [task.cancelled() for task in tasks] == [True] + [False] * 4
    assert link.count("attach") == 1 and link.count("heads") == 1
    await hub.publish("c", 1)
    for subscription in subscriptions[1:]:
        assert await now(subscription) == [("first", None), 1]
    await hub.stop()


async def test_a_closed_subscription_says_so() -> None:
    hub = Hub()
    async with hub.subscribe("c") as messages, Scope("reader") as scope:
        await messages.events()
        waiting = scope.start(messages.events())
        await turns()
        messages.close()
        messages.close()
        await scope.join(60)
        assert isinstance(waiting.exception(), HubClosed)
        with pytest.raises(StopAsyncIteration):
            await anext(messages)
        with pytest.raises(HubClosed):
            await messages.add("d")
        with pytest.raises(HubClosed):
            messages.put("x", 1)


# --- joining, leaving, storms ---------------------------------------------------------------------------------------


async def test_what_is_published_while_joining_is_not_missed() -> None:
    """The attach is confirmed before the head is read: wherever a publish falls, it is before or after."""
    for turn in range(12):
        link = FaultyBackend(turns=2)
        other, hub = Hub(MemoryBackend(link.broker)), Hub(link)
        start = await other.cursor("c")
        messages = hub.subscribe("c", since=start)
        async with Scope("joining") as scope:
            task = scope.start(messages.__aenter__())
            await turns(turn)
            await other.publish("c", "one")
            await turns(1)
            await other.publish("c", "two")
            await task
        await other.publish("c", "three")
        assert await now(messages) == [("first", True), "one", "two", "three"]
        await hub.stop()


async def test_a_storm_of_resumes_reads_history_once() -> None:
    link = FaultyBackend(turns=3)
    hub, cursors = await filled(50, hub=Hub(link))
    async with Scope("storm") as scope:
        subscriptions = [hub.subscribe("c", since=cursors[n % 50]) for n in range(200)]
        for subscription in subscriptions:
            scope.start(subscription.__aenter__())
        await scope.join(60)
    assert (link.count("history"), link.count("attach"), link.count("heads")) == (1, 1, 2)
    for n, subscription in enumerate(subscriptions):
        assert await now(subscription) == [("first", True), *range(n % 50, 50)]
    await hub.stop()


async def test_a_storm_of_resumes_too_late_reads_history_once() -> None:
    link = FaultyBackend(turns=3)
    hub, cursors = await filled(50, hub=Hub(link, channels=[ChannelRule("c", history=5)]))
    async with hub.subscribe("c"):
        async with Scope("storm") as scope:
            subscriptions = [hub.subscribe("c", since=cursors[n % 40]) for n in range(200)]
            for subscription in subscriptions:
                scope.start(subscription.__aenter__())
            await scope.join(60)
        assert link.count("history") == 1
        for n, subscription in enumerate(subscriptions):
            assert (await now(subscription))[1:] == [("expired", n % 40, 45), *range(45, 50)]
    await hub.stop()


async def test_forged_cursors_cost_one_question_together() -> None:
    link = FaultyBackend(turns=3)
    hub, _ = await filled(3, hub=Hub(link))
    async with hub.subscribe("c"):
        before = link.count("heads")
        async with Scope("storm") as scope:
            for n in range(100):
                scope.start(hub.subscribe("c", since=f"forged{n}:7").__aenter__())
            await scope.join(60)
        assert link.count("heads") == before + 1
        assert link.count("history") <= 1
    await hub.stop()


async def test_churn_leaves_nothing_behind() -> None:
    link = FaultyBackend()
    hub = Hub(link, linger=0.001)
    for n in range(300):
        async with hub.subscribe(f"c/{n % 7}", f"d/{n}", last=1) as messages:
            await hub.publish(f"d/{n}", n)
            assert (await now(messages))[-1] == n
    async with asyncio.timeout(60):
        while hub._channels.table or link.broker.receivers or len(hub._channels._scope):
            await asyncio.sleep(0.001)
    assert not hub._subscriptions and not hub._channels._to_tie and not hub._channels._to_look
    await hub.stop()


async def test_a_channel_lingers_and_comes_back_without_the_broker() -> None:
    link = FaultyBackend()
    hub = Hub(link, linger=60)
    async with hub.subscribe("c") as messages:
        start = messages.cursor
    await hub.publish("c", "meanwhile")
    async with hub.subscribe("c", since=start) as messages:
        assert await now(messages) == [("first", True), "meanwhile"]
    assert (link.count("attach"), link.count("heads"), link.count("history")) == (1, 1, 0)
    await hub.stop()
    assert not hub._channels._timers


async def test_without_linger_leaving_and_joining_at_once_ends_attached() -> None:
    link = FaultyBackend(turns=1)
    hub = Hub(link, linger=0)
    for _ in range(5):
        async with hub.subscribe("c"):
            pass
    async with hub.subscribe("c") as messages:
        await turns()
        await hub.publish("c", 1)
        assert await now(messages) == [("first", None), 1]
    await hub.stop()


# --- the link -------------------------------------------------------------------------------------------------------


def linked(**options: Any) -> tuple[Hub, FaultyBackend, Hub]:
    """A hub on a link that can be cut, and a publisher that is never cut off."""
    link = FaultyBackend(turns=options.pop("turns", 0))
    rules = [ChannelRule("c", history=options.pop("history", 100))]
    return (
        Hub(link, channels=rules, **options),
        link,
        Hub(MemoryBackend(link.broker), channels=rules),
    )


async def test_a_cut_is_bridged_from_history() -> None:
    hub, link, other = linked()
    async with hub, hub.subscribe("c") as messages:
        await other.publish("c", 0)
        link.cut()
        await other.publish_many([("c", 1), ("c", 2)])
        link.restore()
        await other.publish("c", 3)
        got = [await anext(messages) for _ in range(4)]
        assert short(got) == [0, 1, 2, 3]
        assert not hub.counters.gaps


async def test_what_history_lost_meanwhile_is_a_gap_for_all() -> None:
    hub, link, other = linked(history=2)
    async with hub, hub.subscribe("c") as one, hub.subscribe("c") as two:
        link.cut()
        for n in range(6):
            await other.publish("c", n)
        link.restore()
        for messages in (one, two):
            got = [await anext(messages) for _ in range(3)]
            assert short(got) == [("lost", 0, 4), 4, 5]
        assert hub.counters.gaps == {"lost": 1}


async def test_many_channels_are_compared_in_one_question() -> None:
    hub, link, other = linked(turns=1)
    async with hub, hub.subscribe(*(f"c/{n}" for n in range(300))) as messages:
        assert (link.count("attach"), link.count("heads")) == (1, 1)
        await now(messages)
        link.cut()
        await other.publish("c/7", "missed")
        before = link.count("heads"), link.count("history")
        link.restore()
        event = await anext(messages)
        assert isinstance(event, Message) and event.data == "missed"
        assert (link.count("heads"), link.count("history")) == (before[0] + 1, before[1] + 1)


async def test_a_hole_in_live_is_filled_from_history() -> None:
    hub, link, other = linked(turns=1)
    async with hub, hub.subscribe("c") as messages:
        link.drop = lambda record: record.position.offset in (2, 3)
        for n in range(1, 6):
            await other.publish("c", n)
        assert short([await anext(messages) for _ in range(5)]) == [1, 2, 3, 4, 5]


async def test_a_lost_tail_is_found_by_the_comparison() -> None:
    hub, link, other = linked()
    async with hub, hub.subscribe("c") as messages:
        link.drop = lambda record: True
        await other.publish("c", "tail")
        assert await now(messages) == [("first", None)]
        hub._channels.check_quiet()
        event = await anext(messages)
        assert isinstance(event, Message) and event.data == "tail"


async def test_a_cursor_ahead_of_this_worker_waits_for_it() -> None:
    """Another worker delivered what has not reached this one yet: that is no Gap."""
    hub, link, other = linked(turns=1)
    async with hub, hub.subscribe("c") as messages:
        link.drop = lambda record: True
        ahead = (await other.publish("c", "seen elsewhere")).position
        link.drop = lambda record: False
        async with hub.subscribe("c", since=ahead) as resumed:
            await other.publish("c", "next")
            assert await now(resumed) == [("first", True), "next"]
        assert await now(messages) == [("first", None), "seen elsewhere", "next"]


async def test_an_epoch_newer_than_this_worker_knows_is_no_gap() -> None:
    hub, link, other = linked(turns=1)
    async with hub, hub.subscribe("c") as messages:
        link.is_cut = True
        await other.clear("c")
        ahead = (await other.publish("c", "new")).position
        link.is_cut = False
        async with hub.subscribe("c", since=ahead) as resumed:
            assert await now(resumed) == [("first", True)]
        assert await now(messages) == [("first", None), ("reset", 0, 0), "new"]


async def test_the_answer_of_a_link_before_says_nothing() -> None:
    """A head asked for before a cut must not make the channel live after it."""
    hub, link, _ = linked(turns=6)
    async with hub, hub.subscribe("c") as messages:
        channel = hub._channels.table["c"]
        link.restore()
        states = [channel.state]
        for attachment in (channel.attachment - 1, channel.attachment):
            channel.head(channel.last, attachment)
            states.append(channel.state)
        assert states == [State.RESYNC, State.RESYNC, State.LIVE]
        assert await now(messages) == [("first", None)]


async def test_cleared_while_catching_up_is_told_without_another_message() -> None:
    hub, link, other = linked(turns=1)
    link.slow["history"] = 15
    async with hub, hub.subscribe("c") as messages:
        await now(messages)
        link.drop = lambda record: record.position.offset == 1
        await other.publish_many([("c", 1), ("c", 2)])
        await turns(20)  # history was read, and is on its way
        await other.clear("c")
        async with asyncio.timeout(5):  # sooner than the comparison of quiet channels
            assert short([await anext(messages) for _ in range(3)]) == [1, 2, ("reset", 2, 0)]


async def test_what_came_live_is_kept_until_history_has_led_there() -> None:
    hub, link, other = linked(turns=1, history=0)
    link.slow["history"] = 15
    async with hub, hub.subscribe("c") as messages:
        await now(messages)
        link.drop = lambda record: record.position.offset in (1, 4)
        await other.publish_many([("c", 1), ("c", 2)])
        await turns(20)  # history was read, with the head at 2
        await other.publish_many([("c", 3), ("c", 4), ("c", 5)])
        got = [await anext(messages) for _ in range(5)]
        assert short(got) == [("lost", 0, 1), 2, 3, ("lost", 3, 4), 5]


async def test_sparse_offsets_resume_from_every_position_and_by_pages() -> None:
    link = SparseBackend(turns=1)
    hub, cursors = await filled(90, hub=Hub(link, channels=[ChannelRule("c", history=500)]))
    async with hub.subscribe("c", max_messages=5) as slow:
        for seen, cursor in enumerate(cursors):
            async with hub.subscribe("c", since=cursor) as messages:
                assert await now(messages) == [("first", True), *range(seen, 90)]
        link.drop = lambda record: True
        for n in range(90, 100):
            await hub.publish("c", n)
        async with hub.subscribe("c", since=cursors[20], max_messages=5) as messages:
            hub._channels.table["c"].timeline.reset(hub._channels.table["c"].last)
            messages._outbox.max_messages = 1000  # room for all of the page that is read now
            assert await now(messages) == [("first", True), *range(20, 90)]
            hub._channels.check_quiet()
            assert [(await anext(messages)).data for _ in range(10)] == [*range(90, 100)]  # type: ignore[union-attr]
        assert await now(slow) == [("first", None), *range(90, 100)]
    await hub.stop()


async def test_a_rewound_store_is_a_gap_and_goes_on_from_its_head() -> None:
    hub, link, other = linked()
    async with hub, hub.subscribe("c") as messages:
        for n in range(5):
            await other.publish("c", n)
        await now(messages)
        link.cut()
        stream = link.broker.stream("c")
        stream._offset = 2
        while len(stream) > 2:
            stream._kept.pop()
        link.restore()
        await turns()
        await other.publish("c", "anew")
        assert short([await anext(messages), await anext(messages)]) == [("reset", 5, 2), "anew"]


async def test_a_subscriber_behind_during_a_cut_goes_on_afterwards() -> None:
    hub, link, other = linked(history=1000)
    async with hub, hub.subscribe("c", max_messages=2) as slow:
        for n in range(700):
            await other.publish("c", n)
        link.cut()
        hub._channels.table["c"].timeline.reset(hub._channels.table["c"].last)  # nothing is remembered here
        got = short(await slow.events())
        async with Scope("reader") as scope:
            waiting = scope.start(slow.events())
            await turns()
            assert not waiting.done()
            link.restore()
            got += short(await waiting)
        assert got + await now(slow) == [("first", None), *range(700)]


async def test_joining_while_the_broker_is_away_fails_in_time_and_leaves_nothing() -> None:
    hub, link, _ = linked(join_timeout=0.02)
    async with hub:
        link.is_cut = True
        with pytest.raises(BackendUnavailable, match=r"0\.02 s"):
            async with hub.subscribe("c"):
                pass
        assert not hub._channels.table and not hub._subscriptions
        async with hub.subscribe() as messages:
            with pytest.raises(BackendUnavailable):
                await messages.add("c")
            assert messages.channels == ()
            link.restore()
            await messages.add("c")
            await hub.publish("c", 1)
            assert await now(messages) == [("first", None), 1]


async def test_a_backend_with_a_bug_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    hub, link, other = linked()
    async with hub, hub.subscribe("c") as messages:
        link.fail["history"] = [ZeroDivisionError("a bug")]
        link.fail["heads"] = [ZeroDivisionError("another")]
        link.cut()
        await other.publish("c", 1)
        link.restore()
        event = await anext(messages)
        assert isinstance(event, Message) and event.data == 1
        assert "a bug" in caplog.text and "another" in caplog.text


async def test_history_that_promises_and_does_not_give_is_a_gap_and_no_endless_loop() -> None:
    class Liar(FaultyBackend):
        async def history(self, channel: str, **options: Any) -> Any:
            page = await super().history(channel, **options)
            return type(page)((), page.head, True)

    link = Liar()
    hub = Hub(link, channels=[ChannelRule("c", history=5000)])
    _, cursors = await filled(1200, hub=hub)
    async with hub.subscribe("c", since=cursors[0]) as messages:
        got = await now(messages)
        assert got == [("first", True), ("lost", 0, 1200)]
    await hub.stop()


async def test_a_message_of_a_publisher_of_another_kind_is_readable() -> None:
    backend = MemoryBackend()
    hub = Hub(backend)
    async with hub.subscribe("c") as messages:
        await backend.publish("c", encode(Envelope("their-id", 5, "json", b"[1]", "ann", {"h": "v"})), id="x")
        _, message = await messages.events()
        assert (message.id, message.ts, message.data, message.user) == ("their-id", 5, [1], "ann")


async def test_a_flood_while_resyncing_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samovar.broadcast.channel.MAX_BUFFER", 10)
    hub, link, other = linked(turns=200)
    async with hub, hub.subscribe("c") as messages:
        link.drop = lambda record: record.position.offset == 1
        for n in range(1, 60):
            await other.publish("c", n)
        assert len(hub._channels.table["c"]._buffer) == 10
        link.turns = 0
        assert short([await anext(messages) for _ in range(59)]) == list(range(1, 60))


async def test_a_record_from_beyond_the_head_is_healed_while_others_are_ignored_for_it() -> None:
    hub, link, other = linked()
    async with hub, hub.subscribe("c") as messages:
        await other.publish("c", 1)
        assert await now(messages) == [("first", None), 1]
        forged = Position(hub._channels.table["c"].last.epoch, 999)
        link.message(Record("c", forged, 998, encode(Envelope("forged", 0, "json", b"0", None))))
        assert short([await anext(messages) for _ in range(2)]) == [("lost", 1, 998), 0]
        for n in range(2):
            await other.publish("c", n)
            hub._channels.check_quiet()
        async with asyncio.timeout(60):
            event = await anext(messages)
        assert isinstance(event, Gap) and event.reason == "reset"
        await other.publish("c", 3)
        assert (await now(messages))[-1] == 3


async def test_many_quiet_channels_are_asked_about_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samovar.broadcast.channels.SLICE", 10)
    link = FaultyBackend()
    async with Hub(link) as hub, hub.subscribe(*(f"c{n}" for n in range(25))):
        link.calls.clear()
        hub._channels.check_quiet()
        async with asyncio.timeout(60):
            while link.count("heads") < 3:
                await asyncio.sleep(0)
        asked = [names for call, names in link.calls if call == "heads"]
        assert [len(names) for names in asked] == [10, 10, 5]
        assert len({name for names in asked for name in names}) == 25


async def test_a_round_of_checks_is_spread_over_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samovar.broadcast.channels.SLICE", 10)
    link = FaultyBackend()
    async with Hub(link) as hub, hub.subscribe(*(f"c{n}" for n in range(25))):
        channels = hub._channels
        looked: list[str] = []
        waits: list[float] = []
        monkeypatch.setattr(channels, "look", lambda channel: looked.append(channel.name))
        monkeypatch.setattr(channels, "later", lambda seconds, call: waits.append(seconds))
        sizes: list[int] = []
        for _ in range(6):
            channels._check()
            sizes.append(len(looked) - sum(sizes))
        assert sizes == [10, 10, 5, 10, 10, 5]
        assert len(set(looked)) == 25
        assert all(CHECK_EVERY / 3 * 0.8 <= wait <= CHECK_EVERY / 3 * 1.2 for wait in waits)


# --- what ends while it begins --------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["remove", "remove and add", "close", "stop"])
async def test_a_channel_that_is_left_before_it_began_leaves_nothing(end: str) -> None:
    hub, link, other = linked()
    async with hub, hub.subscribe("c") as neighbour:
        since = await hub.cursor("c")
        for n in range(300):  # more than the worker remembers
            await other.publish("c", n)
        await until(lambda: neighbour.queued > 300, "the neighbour has all")
        channel = hub._channels.table["c"]
        link.slow["history"] = 20
        messages = hub.subscribe()
        async with Scope("joins") as scope, messages:
            joining = scope.start(messages.add("c", since=since))
            await turns(3)
            assert not joining.done()
            match end:
                case "close":
                    messages.close()
                case "stop":
                    messages.stop()
                case _:
                    await messages.remove("c")
            if end == "remove and add":
                await messages.add("c")
            await asyncio.wait({joining})
            assert isinstance(joining.exception(), BackendUnavailable | HubClosed)
            await other.publish("c", "later")
            if end == "remove and add":
                assert messages.channels == ("c",) and len(channel.live) == 2
                assert await now(messages) == [("first", None), "later"]
            else:
                assert messages.channels == () and not messages.queued and not messages.recovered
        assert len(channel.live) == len(channel.follows) == 1, "the neighbour's"


async def test_what_is_held_while_history_is_read_is_bounded_in_bytes() -> None:
    hub, link, _ = linked(max_message_bytes=1 << 20)
    other = Hub(MemoryBackend(link.broker), max_message_bytes=1 << 20)
    async with hub, hub.subscribe("c", max_bytes=1 << 30) as messages:
        channel = hub._channels.table["c"]
        link.slow["history"] = 2000
        link.drop = lambda record: record.position.offset == 1
        await other.publish("c", 1)
        link.drop = lambda record: False
        for _ in range(40):
            await other.publish("c", b"x" * (1 << 20))
        assert channel.state is State.RESYNC and 1 < len(channel._buffer) <= 17
        link.slow["history"] = 0
        got = await messages.events()
        while len(got) < 3 or not isinstance(got[-1], Message) or got[-1].position.offset < 41:
            got += await messages.events()
        place = 0
        for event in got[1:]:
            if isinstance(event, Gap):
                assert event.after is not None and event.until is not None and event.after.offset == place
                place = event.until.offset
            else:
                assert event.position.offset == place + 1
                place += 1
        assert place == 41


async def test_a_detach_that_fails_keeps_no_other_from_being_attached() -> None:
    hub, link, other = linked(linger=0)
    async with hub, hub.subscribe("a"):
        link.fail["detach"] = [BackendUnavailable("not now")]
        async with hub.subscribe("b"):
            pass
        async with asyncio.timeout(60), hub.subscribe("c") as messages:
            assert not link.fail["detach"]
            await other.publish("c", 1)
            assert await now(messages) == [("first", None), 1]
