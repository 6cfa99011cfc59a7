"""One time limit for many calls."""

from __future__ import annotations

import asyncio

import pytest

from samovar.broadcast.limits import Limits
from samovar.tasks import Scope


async def hang(limits: Limits) -> None:
    with limits.begin():
        await asyncio.get_running_loop().create_future()


async def test_what_takes_too_long_is_a_timeout() -> None:
    limits = Limits(0.01)
    with pytest.raises(TimeoutError):
        await hang(limits)
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0
    assert not limits
    await asyncio.sleep(0)  # the task goes on as any other


def over(limits: Limits, number: int) -> None:
    """Let the time of one of those that run be over."""
    tuple(limits._running)[number].end = 0.0
    limits._look()


async def test_each_of_many_has_its_own_time() -> None:
    limits = Limits(60)
    async with Scope("limits") as scope:
        first, second = scope.start(hang(limits)), scope.start(hang(limits))
        await asyncio.sleep(0)
        over(limits, 0)
        await asyncio.wait({first})
        assert isinstance(first.exception(), TimeoutError) and not second.done()
        (left,) = limits._running
        assert limits._timer is not None and limits._timer.when() == left.end
        over(limits, 0)
        await asyncio.wait({second})
        assert isinstance(second.exception(), TimeoutError) and not limits


async def test_in_time_is_as_if_there_were_no_limit() -> None:
    limits = Limits(10)
    with limits.begin():
        assert await asyncio.sleep(0, "done") == "done"
    with pytest.raises(ZeroDivisionError), limits.begin():
        1 / 0  # noqa: B018
    assert not limits


async def test_a_cancellation_by_somebody_else_stays_one() -> None:
    limits = Limits(10)
    async with Scope("limits") as scope:
        task = scope.start(hang(limits))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled() and not limits


async def test_cancelled_and_out_of_time_at_once_is_cancelled() -> None:
    limits = Limits(60)
    async with Scope("limits") as scope:
        task = scope.start(hang(limits))
        await asyncio.sleep(0)
        over(limits, 0)  # and it has not run yet
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled()


async def test_an_error_that_comes_with_the_end_of_the_time_is_that_error() -> None:
    limits = Limits(0.01)

    async def fails() -> None:
        with limits.begin():
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                raise ValueError from None

    with pytest.raises(ValueError):
        await fails()
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0


async def test_limits_in_limits_end_in_their_own_time() -> None:
    outer, inner = Limits(0.01), Limits(10)
    with pytest.raises(TimeoutError), outer.begin():
        await hang(inner)
    assert not outer and not inner


def test_a_second_loop_has_a_timer_of_its_own() -> None:
    limits = Limits(0.01)

    async def begin() -> None:
        with limits.begin():
            pass

    asyncio.run(begin())
    with pytest.raises(TimeoutError):
        asyncio.run(hang(limits))


async def test_only_tasks_have_limits() -> None:
    errors = []

    def callback() -> None:
        try:
            Limits(1).begin()
        except RuntimeError as error:
            errors.append(error)

    asyncio.get_running_loop().call_soon(callback)
    await asyncio.sleep(0)
    assert errors


async def test_a_thousand_have_one_timer() -> None:
    limits, loop = Limits(60), asyncio.get_running_loop()
    timers = 0
    call_at = loop.call_at

    def counting(when: float, *args: object, **options: object) -> asyncio.TimerHandle:
        nonlocal timers
        timers += 1
        return call_at(when, *args, **options)  # type: ignore[arg-type]

    loop.call_at = counting  # type: ignore[method-assign]
    try:
        for _ in range(1000):
            with limits.begin():
                pass
    finally:
        del loop.call_at
    assert timers == 1
    assert limits._timer is not None
    limits._timer.cancel()
