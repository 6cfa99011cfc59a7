"""The bounded queue of one subscriber."""

from __future__ import annotations

import asyncio

import pytest

from samovar.broadcast import Gap, Message, Position, Subscribed
from samovar.broadcast.outbox import Outbox, event_size
from samovar.broadcast.policy import check_policy
from samovar.errors import ConfigError, SlowSubscriber


def message(number: int, channel: str = "c", size: int = 0) -> Message:
    return Message(channel, Position("e", number), f"id{number}", 0, "bytes", b"x" * size)


def offer(outbox: Outbox, event: Message) -> bool:
    return outbox.offer(event, event.size)


def test_first_in_first_out() -> None:
    outbox, events = Outbox(10, 10_000), [message(n) for n in range(3)]
    assert all(offer(outbox, event) for event in events)
    assert (len(outbox), outbox.bytes) == (3, 300)
    assert outbox.take() == events
    assert (len(outbox), outbox.bytes, outbox.take()) == (0, 0, [])


def test_the_number_is_bounded() -> None:
    outbox = Outbox(2, 10_000)
    assert [offer(outbox, message(n)) for n in range(3)] == [True, True, False]
    assert [m.position.offset for m in outbox.take()] == [0, 1]
    assert offer(outbox, message(3))


def test_the_bytes_are_bounded() -> None:
    outbox = Outbox(100, 450)
    assert [offer(outbox, message(n, size=100)) for n in range(3)] == [True, True, False]
    assert outbox.bytes == 400


def test_one_event_is_taken_however_big() -> None:
    outbox = Outbox(100, 10)
    assert offer(outbox, message(0, size=5000))
    assert not offer(outbox, message(1))


def test_taking_one_by_one_keeps_the_account() -> None:
    outbox = Outbox(3, 1000)
    first = Subscribed("c", None, None)
    outbox.force(first)
    offer(outbox, message(1, size=7))
    outbox.put("own", 50)
    assert outbox.take_one() is first
    assert outbox.take_one().position.offset == 1
    assert outbox.take_one() == "own"
    assert (len(outbox), outbox.bytes) == (0, 0)


def test_own_items_stand_in_their_place() -> None:
    outbox, one, two = Outbox(10, 10_000), message(1), message(2)
    offer(outbox, one)
    outbox.put("frame", 20)
    offer(outbox, two)
    assert outbox.bytes == 220
    assert outbox.take() == [one, "frame", two]
    assert outbox.take() == []


def test_own_items_are_bounded_too() -> None:
    outbox = Outbox(2, 100)
    outbox.put("a", 10)
    outbox.put("b", 10)
    with pytest.raises(SlowSubscriber):
        outbox.put("c", 10)
    outbox.take()
    outbox.put("huge", 5000)
    with pytest.raises(SlowSubscriber):
        outbox.put("more", 1)


def test_dropping_a_channel_keeps_the_rest() -> None:
    outbox = Outbox(10, 10_000)
    for event in (message(1, "a"), message(2, "b", size=5), message(3, "a")):
        offer(outbox, event)
    outbox.put("own", 7)
    outbox.force(Gap("a", "lost", None, None))
    outbox.drop("a")
    assert outbox.bytes == 105 + 7
    assert [getattr(item, "channel", item) for item in outbox.take()] == ["b", "own"]
    offer(outbox, message(1))
    outbox.drop()
    assert (len(outbox), outbox.bytes) == (0, 0)


@pytest.mark.parametrize("bounds", [(0, 10), (10, 0), (-1, 10)])
def test_a_queue_holds_something(bounds: tuple[int, int]) -> None:
    with pytest.raises(ConfigError):
        Outbox(*bounds)


def test_policies_have_names() -> None:
    assert (check_policy("heal"), check_policy("disconnect")) == ("heal", "disconnect")
    with pytest.raises(ConfigError, match="heal, disconnect"):
        check_policy("drop")


def test_what_surrounds_a_payload_counts() -> None:
    assert event_size(message(1, size=5)) == 105
    assert event_size(Subscribed("c", None, None)) > 0


async def test_waiting_ends_by_an_offer_by_time_or_by_waking() -> None:
    outbox, loop = Outbox(10, 10_000), asyncio.get_running_loop()
    async with asyncio.timeout(60):
        loop.call_soon(offer, outbox, message(1))
        await outbox.wait(None)
        assert len(outbox.take()) == 1
        await outbox.wait(0.001)
        loop.call_soon(outbox.wake)
        await outbox.wait(None)
    assert outbox._waiter is None


async def test_only_one_reader_waits() -> None:
    outbox = Outbox(10, 10_000)
    first = asyncio.ensure_future(outbox.wait(None))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another task"):
        await outbox.wait(None)
    first.cancel()
    await asyncio.wait({first})
    await outbox.wait(0)
