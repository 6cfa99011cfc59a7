"""The bounded way in: order, backpressure, cancellation, pacing."""

import asyncio

import pytest

from samovar.core.realtime.inbound import Inbound, InboundEnd, InboundStuck, Pacer
from samovar.tasks import Scope


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_messages_come_out_in_order_and_empty_ones_are_messages() -> None:
    inbound = Inbound(4)
    for item in ("a", b"", ""):
        await inbound.put(item)
    assert [await inbound.get() for _ in range(3)] == ["a", b"", ""]


async def test_a_full_queue_makes_the_reader_wait_and_drops_nothing() -> None:
    inbound = Inbound(2)
    async with Scope("test") as scope:

        async def fill() -> None:
            for n in range(5):
                await inbound.put(str(n))

        writer = scope.start(fill())
        await settle()
        assert len(inbound) == 2 and not writer.done()
        assert [await inbound.get() for _ in range(5)] == list("01234")
        await writer


async def test_a_cancelled_get_takes_nothing_and_passes_its_wake_up_on() -> None:
    inbound = Inbound(4)
    async with Scope("test") as scope:
        first, second = scope.start(inbound.get()), scope.start(inbound.get())
        await settle()
        await inbound.put("x")
        first.cancel()
        assert await second == "x"
        await asyncio.wait({first})
        assert first.cancelled()


async def test_impatient_readers_leave_nothing_behind() -> None:
    inbound = Inbound(4)
    for _ in range(50):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await inbound.get()
    assert not inbound._getters


async def test_the_end_lets_what_came_be_read_first() -> None:
    inbound = Inbound(4)
    await inbound.put("last")
    inbound.end()
    assert await inbound.get() == "last"
    with pytest.raises(InboundEnd):
        await inbound.get()


async def test_the_end_wakes_everybody() -> None:
    inbound = Inbound(1)
    await inbound.put("x")
    async with Scope("test", on_error=lambda *_: None) as scope:
        writer = scope.start(inbound.put("y"))
        await settle()
        inbound.end()
        await writer
    other = Inbound(1)
    async with Scope("test", on_error=lambda *_: None) as scope:
        readers = [scope.start(other.get()) for _ in range(3)]
        await settle()
        other.end()
        await asyncio.wait(readers)
        assert all(isinstance(reader.exception(), InboundEnd) for reader in readers)


async def test_discarding_never_blocks_the_reader() -> None:
    inbound = Inbound(1)
    await inbound.put("x")
    inbound.discard()
    for _ in range(10):
        await inbound.put("y")
    assert (len(inbound), inbound.discarded) == (0, 11)


async def test_a_handler_that_read_before_and_stopped_is_stuck_once_the_patience_is_over() -> None:
    inbound = Inbound(1, patience=0.01)
    await inbound.put("a")
    await inbound.get()
    await inbound.put("b")
    with pytest.raises(InboundStuck):
        await inbound.put("c")


async def test_for_a_handler_that_never_reads_the_oldest_are_dropped_until_it_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inbound = Inbound(2, patience=0.01)
    for item in "abcdef":
        await inbound.put(item)
    assert inbound.discarded == 4
    assert caplog.text.count("does not read") == 1
    assert [await inbound.get(), await inbound.get()] == ["e", "f"]
    await inbound.put("g")
    assert await inbound.get() == "g"


def test_a_pacer_lets_bursts_through_and_holds_the_rate_in_the_long_run() -> None:
    pacer = Pacer(50, burst=2)
    now = 100.0
    assert sum(pacer.delay(now) > 0 for _ in range(100)) == 0
    assert pacer.delay(now) == pytest.approx(1 / 50)
    now += 10
    assert pacer.delay(now) == 0


def test_a_pacer_without_a_rate_never_waits() -> None:
    pacer = Pacer(None)
    assert not any(pacer.delay(0.0) for _ in range(1000))
