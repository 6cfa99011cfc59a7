"""A hard time limit for every test: whatever hangs fails within it, and says where it hung.

``@pytest.mark.limit(seconds)`` sets another limit than the default of 180 s; the limit is for set-up, call and
tear-down together. When it is over, the stacks of all threads and of all asyncio tasks go into the report and the test
fails. That needs the main thread to run Python code now and then; where it does not (a C call that never returns),
pytest's ``faulthandler_timeout`` of pyproject.toml ends the whole run with the stacks.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import io
import signal
import sys
import threading
import traceback
from collections.abc import Generator
from types import FrameType
from typing import Any

import pytest

DEFAULT = 180.0  # seconds; above every single wait inside a test, which then says itself what did not come


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "limit(seconds): the time limit of this test, 180 s without it")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    seconds = limit_of(item)

    def over(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)  # the tear-down gets as long again
        where = stacks(frame)
        for task in _tasks():
            task.cancel()  # the report is written; what hung must not count as a leak as well
        pytest.fail(f"{item.nodeid} is not done after {seconds:g} s\n\n{where}", pytrace=False)

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def limit_of(item: pytest.Item) -> float:
    """The limit of a test in seconds: its closest mark's, or the default."""
    marker = item.get_closest_marker("limit")
    return float(marker.args[0]) if marker else DEFAULT


def stacks(frame: FrameType | None) -> str:
    """The stacks of the interrupted main thread, of the other threads and of every task of the running loop."""
    out = io.StringIO()
    frames = sys._current_frames()
    for thread in threading.enumerate():
        at = frame if thread is threading.main_thread() else frames.get(thread.ident or 0)
        out.write(f"--- thread {thread.name}\n{''.join(traceback.format_stack(at))}\n")
    for task in _tasks():
        out.write(f"--- task {task.get_name()}\n")
        out.write("".join(traceback.StackSummary.from_list(task_stack(task)).format()))
    return out.getvalue()


def task_stack(task: asyncio.Task[object]) -> list[traceback.FrameSummary]:
    """The frames of a task from its coroutine down to where it waits (``Task.get_stack`` stops at the first)."""
    frames: list[traceback.FrameSummary] = []
    waiting: Any = task.get_coro()
    while waiting is not None:
        if type(waiting).__name__ == "async_generator_asend":  # it shows its generator to nobody else
            waiting = next(filter(inspect.isasyncgen, gc.get_referents(waiting)), None)
        frame = _attribute(waiting, "frame")
        if frame is None:
            break
        frames += traceback.StackSummary.extract([(frame, frame.f_lineno)])
        waiting = _attribute(waiting, "await") or getattr(waiting, "gi_yieldfrom", None)
    return frames


def _attribute(waiting: object, name: str) -> Any:
    found = (getattr(waiting, f"{kind}_{name}", None) for kind in ("cr", "ag", "gi"))
    return next((value for value in found if value is not None), None)


def _tasks() -> set[asyncio.Task[object]]:
    try:
        return asyncio.all_tasks()
    except RuntimeError:  # no loop runs in this thread
        return set()
