"""Subscribers that would rather miss messages than be late: ``drop_oldest`` and ``latest(key)``."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

import pytest

from samovar.broadcast import ChannelRule, Gap, Hub, Message, Policy, Position, Subscribed, latest
from samovar.broadcast.counters import Counters
from samovar.broadcast.lossy import LossyOutbox
from samovar.broadcast.policy import check_policy
from samovar.errors import ConfigError

from .test_model import Life, Reader


def message(number: int, channel: str = "c", data: bytes = b"1") -> Message:
    return Message(channel, Position("e", number), f"id{number}", 0, "json", data)


def lossy(bound: int, key: Any = None, max_bytes: int = 1 << 20) -> LossyOutbox:
    return LossyOutbox(bound, max_bytes, counters=Counters(), policy="test", key=key)


def fill(outbox: LossyOutbox, *events: Message | Gap) -> None:
    for event in events:
        assert outbox.offer(event, getattr(event, "size", 100))


def shown(events: list[Any]) -> list[Any]:
    """Offsets of messages; reason, ends and count of Gaps; anything else as it is."""
    out: list[Any] = []
    for event in events:
        match event:
            case Message():
                out.append((event.channel, event.position.offset))
            case Gap():
                after, until = event.after and event.after.offset, event.until and event.until.offset
                out.append((event.channel, event.reason, after, until, event.count))
            case Subscribed():
                out.append("first")
            case _:
                out.append(event)
    return out


def one_by_one(outbox: LossyOutbox) -> list[Any]:
    out = []
    while outbox:
        out.append(outbox.take_one())
    return out


def begin(outbox: LossyOutbox, channel: str = "c", at: int = 0) -> None:
    outbox.force(Subscribed(channel, None, Position("e", at)))


def by_parity(event: Message) -> Any:
    return event.position.offset % 2


TAKERS = pytest.mark.parametrize("take", [LossyOutbox.take, one_by_one])


# --- the outbox -----------------------------------------------------------------------------------------------------


@TAKERS
def test_the_oldest_go_and_a_gap_stands_where_they_stood(take: Any) -> None:
    outbox = lossy(4)
    begin(outbox)
    fill(outbox, *(message(n) for n in range(1, 8)))
    assert len(outbox) == 4
    assert shown(take(outbox)) == ["first", ("c", "overflow", 0, 4, 4), ("c", 5), ("c", 6), ("c", 7)]
    assert (len(outbox), outbox.bytes) == (0, 0)


@TAKERS
def test_dropping_goes_on_where_the_reader_is(take: Any) -> None:
    outbox = lossy(2)
    begin(outbox)
    fill(outbox, message(1))
    take(outbox)
    fill(outbox, *(message(n) for n in range(2, 6)))
    assert shown(take(outbox)) == [("c", "overflow", 1, 3, 2), ("c", 4), ("c", 5)]
    fill(outbox, message(6))
    assert shown(take(outbox)) == [("c", 6)]


@TAKERS
def test_a_channel_of_which_everything_went_is_announced_too(take: Any) -> None:
    outbox = lossy(3)
    begin(outbox, "quiet")
    begin(outbox, "loud")
    take(outbox)
    fill(outbox, message(1, "quiet"), message(2, "quiet"))
    fill(outbox, *(message(n, "loud") for n in range(1, 5)))
    assert len(outbox) == 4
    assert shown(take(outbox)) == [
        ("quiet", "overflow", 0, 2, 2),
        ("loud", "overflow", 0, 1, 1),
        ("loud", 2),
        ("loud", 3),
        ("loud", 4),
    ]


@TAKERS
def test_a_dropped_gap_is_part_of_the_hole(take: Any) -> None:
    outbox = lossy(2)
    begin(outbox)
    take(outbox)
    fill(outbox, message(1), Gap("c", "reset", Position("e", 1), Position("f", 0)))
    fresh = [Message("c", Position("f", n), "i", 0, "json", b"1") for n in (1, 2, 3)]
    fill(outbox, *fresh)
    first, *rest = take(outbox)
    assert first == Gap("c", "reset", Position("e", 0), Position("f", 1), None)
    assert rest == fresh[1:]


@TAKERS
def test_own_items_stay_where_they_are(take: Any) -> None:
    outbox = lossy(3)
    begin(outbox)
    take(outbox)
    fill(outbox, message(1))
    outbox.put("own", 50)
    fill(outbox, *(message(n) for n in range(2, 6)))
    assert shown(take(outbox)) == ["own", ("c", "overflow", 0, 3, 3), ("c", 4), ("c", 5)]
    assert outbox.bytes == 0


@TAKERS
def test_replaced_values_go_first(take: Any) -> None:
    outbox = lossy(4, by_parity)
    begin(outbox)
    take(outbox)
    fill(outbox, *(message(n) for n in range(1, 6)))
    assert shown(take(outbox)) == [("c", "conflated", 0, 3, 3), ("c", 4), ("c", 5)]


@TAKERS
def test_every_hole_has_its_gap(take: Any) -> None:
    outbox = lossy(5, lambda event: event.data)
    begin(outbox)
    take(outbox)
    fill(outbox, *(message(n, data=d) for n, d in enumerate([b"1", b"2", b"1", b"3", b"1", b"4"], 1)))
    assert shown(take(outbox)) == [
        ("c", "conflated", 0, 1, 1),
        ("c", 2),
        ("c", "conflated", 2, 3, 1),
        ("c", 4),
        ("c", 5),
        ("c", 6),
    ]


@TAKERS
def test_below_the_bound_nothing_is_conflated(take: Any) -> None:
    outbox = lossy(10, lambda event: 1)
    begin(outbox)
    fill(outbox, *(message(n) for n in range(1, 10)))
    assert shown(take(outbox)) == ["first", *(("c", n) for n in range(1, 10))]


@TAKERS
def test_keys_that_all_differ_drop_the_oldest(take: Any) -> None:
    outbox = lossy(3, lambda event: event.position.offset)
    begin(outbox)
    take(outbox)
    fill(outbox, *(message(n) for n in range(1, 6)))
    assert shown(take(outbox)) == [("c", "overflow", 0, 2, 2), ("c", 3), ("c", 4), ("c", 5)]
    assert (outbox._counters.dropped, outbox._counters.conflated) == (2, 0)


def test_a_key_is_of_its_channel() -> None:
    outbox = lossy(2, lambda event: 1)
    begin(outbox, "a")
    begin(outbox, "b")
    outbox.take()
    fill(outbox, message(1, "a"), message(1, "b"), message(2, "a"))
    assert shown(outbox.take()) == [("b", 1), ("a", "conflated", 0, 1, 1), ("a", 2)]


def test_bytes_are_a_bound_too() -> None:
    outbox = lossy(100, max_bytes=350)
    begin(outbox)
    outbox.take()
    fill(outbox, *(message(n) for n in range(1, 6)))
    assert outbox.bytes <= 350
    assert shown(outbox.take())[0] == ("c", "overflow", 0, 2, 2)
    fill(outbox, message(6, data=b"1" * 1000))
    assert shown(outbox.take()) == [("c", 6)]


def test_a_backlog_waits_instead_of_dropping() -> None:
    outbox = lossy(2)
    begin(outbox)
    outbox.take()
    assert [outbox.fit(message(n), 100) for n in (1, 2, 3)] == [True, True, False]
    assert shown(outbox.take()) == [("c", 1), ("c", 2)]


def test_dropping_a_channel_forgets_where_it_was() -> None:
    outbox = lossy(3, by_parity)
    begin(outbox, "a")
    begin(outbox, "b")
    fill(outbox, *(message(n, "a") for n in range(1, 5)), message(1, "b"))
    outbox.put("own", 5)
    outbox.drop("a")
    begin(outbox, "a", 9)
    assert shown(outbox.take()) == ["first", ("b", 1), "own", "first"]
    assert (len(outbox), outbox.bytes) == (0, 0)
    fill(outbox, message(10, "a"))
    assert shown(outbox.take()) == [("a", 10)]


def test_what_it_remembers_does_not_grow() -> None:
    outbox = lossy(50, lambda event: event.position.offset % 7)
    begin(outbox)
    for n in range(1, 20_000):
        fill(outbox, message(n))
        if n % 3 == 0 and len(outbox) > 1:
            outbox.take_one()
        assert len(outbox) <= 51
        assert len(outbox._newest) <= 7
        assert len(outbox._replaced) <= len(outbox._waiting)


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_dropped_is_counted_and_announced(seed: int) -> None:
    chance = random.Random(seed)
    key = chance.choice([None, by_parity, lambda event: event.position.offset % 5, lambda event: None])
    outbox = lossy(chance.choice((1, 2, 5, 20)), key, max_bytes=chance.choice((300, 10_000)))
    heads = dict.fromkeys("ab", 0)
    for channel in heads:
        begin(outbox, channel)
    got: list[Any] = []
    for _ in range(500):
        if chance.random() < 0.8:
            channel = chance.choice("aaab")
            heads[channel] += 1
            fill(outbox, message(heads[channel], channel))
        elif chance.random() < 0.5:
            got += outbox.take()
        elif outbox:
            got.append(outbox.take_one())
    got += outbox.take()
    at = {}
    for event in got:
        match event:
            case Subscribed():
                at[event.channel] = 0
            case Gap():
                assert event.after is not None and event.until is not None
                assert event.after.offset == at[event.channel]
                assert event.count == event.until.offset - event.after.offset > 0
                at[event.channel] = event.until.offset
            case Message():
                assert event.position.offset == at[event.channel] + 1
                at[event.channel] += 1
    assert at == heads
    missing = sum(event.count or 0 for event in got if isinstance(event, Gap))
    assert missing == outbox._counters.dropped + outbox._counters.conflated
    assert outbox.bytes == 0


# --- keys -----------------------------------------------------------------------------------------------------------


def test_a_field_of_json_objects_is_a_key() -> None:
    policy = latest("id")
    assert policy.key_of(message(1, data=b'{"id": 7}')) == 7
    for data in (b'{"x": 1}', b"[1]", b"5", b'{"id": [1]}', b"not json", b'{"id": null}'):
        assert policy.key_of(message(1, data=data)) is None
    assert latest().key_of(message(1, data=b"not json")) is not None


def test_a_key_function_that_fails_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Message) -> Any:
        raise RuntimeError("oh")

    policy = latest(broken)
    with caplog.at_level(logging.ERROR):
        assert [policy.key_of(message(n)) for n in range(3)] == [None] * 3
    assert len(caplog.records) == 1
    assert latest(lambda event: event.data["x"]).key_of(message(1)) is None


def test_what_is_no_policy_is_said() -> None:
    with pytest.raises(ConfigError, match="field"):
        latest(5)  # type: ignore[arg-type]
    for wrong in ("latest", "drop", 5, None):
        with pytest.raises(ConfigError, match=r"heal, disconnect, drop_oldest and latest\(key\)"):
            check_policy(wrong)
    policy = latest("id")
    assert check_policy(policy) is policy


# --- through a hub --------------------------------------------------------------------------------------------------


async def test_a_slow_reader_gets_the_newest_of_each_key() -> None:
    hub = Hub(channels=[ChannelRule("prices", history=0)])
    async with hub.subscribe("prices", policy=latest("sign"), max_messages=8) as slow:
        for n in range(100):
            await hub.publish("prices", {"sign": "abc"[n % 3], "n": n})
        events = await slow.events()
        newest = {e.data["sign"]: e.data["n"] for e in events if isinstance(e, Message)}
        assert newest == {"a": 99, "b": 97, "c": 98}
        gaps = [e for e in events if isinstance(e, Gap)]
        assert {gap.reason for gap in gaps} == {"conflated"}
        held = sum(isinstance(e, Message) for e in events)
        assert sum(gap.count or 0 for gap in gaps) + held == 100
        assert hub.stats()["conflated"] == 100 - held
        assert hub.stats()["overflows"]["latest"] > 0
        assert slow.cursor == await hub.cursor("prices")
    await hub.stop()


async def test_dropping_the_oldest_costs_no_history() -> None:
    hub = Hub(policy="drop_oldest", outbox_messages=3)
    async with hub.subscribe("c") as slow:
        await slow.events()
        for n in range(10):
            await hub.publish("c", n)
        first, *rest = await slow.events()
        assert (first.reason, first.count) == ("overflow", 7)
        assert [event.data for event in rest] == [7, 8, 9]
        stats = hub.stats()
        assert (stats["reads"], stats["dropped"], stats["gaps"]) == (0, 7, {"overflow": 1})
    await hub.stop()


async def test_a_backlog_comes_whole_to_those_who_drop() -> None:
    hub = Hub()
    since = await hub.cursor("c")
    for n in range(50):
        await hub.publish("c", n)
    async with hub.subscribe("c", since=since, policy="drop_oldest", max_messages=4) as reader:
        got: list[Any] = []
        async with asyncio.timeout(60):
            while len(got) < 50:
                got += [e.data for e in await reader.events() if isinstance(e, Message)]
        assert got == list(range(50))
    await hub.stop()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "policy", ["drop_oldest", latest(), latest(lambda message: message.data % 3)], ids=str
)
async def test_random_lives_hide_no_loss(seed: int, policy: Policy) -> None:
    life = Life(seed, keep=random.Random(seed).choice((0, 8, 40)), clears=True)
    for hub in life.hubs:
        hub.policy = policy
    await life.run(200)
    assert life.number > 50
    assert sum(hub.counters.overflows[str(policy)] for hub in life.hubs) > 0
    assert all(isinstance(reader, Reader) for reader in life.readers)
