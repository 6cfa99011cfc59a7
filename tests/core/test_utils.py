"""Steps with a deadline, threads, and the telling of async functions from others."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest

from samovar.core.utils import (
    ensure_async,
    import_string,
    is_coroutine_function,
    iterate_in_thread,
    run_in_thread,
    run_sync,
    within,
)


async def coroutine() -> str:
    return "async"


def plain() -> str:
    return "plain"


async def generator() -> AsyncIterator[int]:
    yield 1


class Callable:
    async def __call__(self) -> str:
        return "object"


@pytest.mark.parametrize(
    ("func", "answer"),
    [
        (coroutine, True),
        (functools.partial(coroutine), True),
        (functools.partial(functools.partial(coroutine)), True),
        (Callable(), True),
        (Callable().__call__, True),
        (plain, False),
        (functools.partial(plain), False),
        (generator, False),
        (print, False),
        (Callable, False),
    ],
)
def test_is_coroutine_function(func: Any, answer: bool) -> None:
    assert is_coroutine_function(func) is answer


async def test_ensure_async() -> None:
    assert ensure_async(coroutine) is coroutine
    assert await ensure_async(plain)() == "plain"
    assert [item async for item in await ensure_async(generator)()] == [1]


async def test_run_sync_has_the_context_and_another_thread() -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("here")
    seen = await run_sync(lambda: (variable.get(), threading.get_ident()))()
    assert seen[0] == "here" and seen[1] != threading.get_ident()


async def test_run_sync_passes_errors_and_turns_stop_iteration() -> None:
    with pytest.raises(ZeroDivisionError):
        await run_sync(lambda: 1 / 0)()
    with pytest.raises(RuntimeError, match="StopIteration"):
        await run_in_thread(next, iter(()))


async def test_iterate_in_thread_closes_what_is_left() -> None:
    closed: list[bool] = []

    def numbers() -> Any:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    iterator = iterate_in_thread(numbers())
    assert await anext(iterator) == 0
    await iterator.aclose()  # type: ignore[attr-defined]  # a generator
    assert closed == [True]
    assert [item async for item in iterate_in_thread([1, 2])] == [1, 2]


async def test_within_lets_pass_what_is_there_and_what_comes_in_time() -> None:
    assert await within(coroutine(), 0.0) == "async"  # did not suspend
    assert await within(asyncio.sleep(0, "now"), 5) == "now"
    assert await within(asyncio.sleep(0.001, "later"), 5) == "later"
    assert await within(asyncio.sleep(0.001, "no limit"), None) == "no limit"


async def test_within_raises_timeout_and_cancels() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    with pytest.raises(TimeoutError):
        await within(forever(), 0.01)
    assert ended == ["ended"]
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0


async def test_within_passes_errors_and_foreign_cancellations() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError

    with pytest.raises(ValueError):
        await within(fail(), 5)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await within(asyncio.Event().wait(), 5)


async def test_within_swallowed_cancellation_still_ends() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "stubborn"
        return ""

    assert await within(stubborn(), 0.01) == "stubborn"
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0


@pytest.mark.parametrize("name", ["os.path", "os:path", "os.path.join", "os.path:join"])
def test_import_string(name: str) -> None:
    assert import_string(name) is not None


@pytest.mark.parametrize("name", ["no_such_thing", "os.no_such_thing", "no_such.thing.at_all"])
def test_import_string_of_nothing(name: str) -> None:
    with pytest.raises(ImportError):
        import_string(name)


async def test_a_blocking_generator_becomes_an_async_one_in_threads() -> None:
    def count() -> Any:
        for _ in range(2):
            yield threading.current_thread() is threading.main_thread()

    assert [item async for item in await run_sync(count)()] == [False, False]
