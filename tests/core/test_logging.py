"""Log lines from the loop are written by a thread, in order, under their context, within a bound."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from samovar import Samovar, has_request_context, request
from samovar.core.logging import LocalQueueHandler, flush_logs

PATIENCE = 20.0  # seconds


class Slow(logging.Handler):
    """Writes only while it is let, and knows by whom it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.begun: list[str] = []
        self.free = threading.Event()
        self.free.set()

    def handle(self, record: logging.LogRecord) -> bool:
        if self.filter(record):
            self.emit(record)  # without the lock: who comes too early is seen
        return True

    def emit(self, record: logging.LogRecord) -> None:
        self.begun.append(record.getMessage())
        assert self.free.wait(PATIENCE)
        self.threads.add(threading.current_thread())
        self.lines.append(self.format(record))


@pytest.fixture
def slow() -> Iterator[Slow]:
    handler = Slow()
    yield handler
    handler.free.set()


def logger_of(handler: logging.Handler, name: str = "samovar.tests.queue") -> logging.Logger:
    logger = logging.Logger(name)
    logger.addHandler(handler)
    return logger


async def test_a_writer_that_waits_does_not_keep_the_loop_waiting(slow: Slow) -> None:
    queue = LocalQueueHandler(slow)
    logger = logger_of(queue)
    slow.free.clear()
    for number in range(5):
        logger.warning("line %d", number)
    await asyncio.sleep(0)
    assert slow.lines == []  # and here we are
    slow.free.set()
    await asyncio.to_thread(queue.flush, PATIENCE)
    assert slow.lines == [f"line {number}" for number in range(5)]
    assert threading.main_thread() not in slow.threads


async def test_a_message_is_that_of_its_moment(slow: Slow) -> None:
    queue = LocalQueueHandler(slow)
    slow.free.clear()
    teas = ["assam"]
    logger_of(queue).warning("%s", teas)
    teas.clear()
    slow.free.set()
    await asyncio.to_thread(queue.flush, PATIENCE)
    assert slow.lines == ["['assam']"]


async def test_a_formatter_sees_the_request(slow: Slow) -> None:
    class Where(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return f"{request.path if has_request_context() else '-'} {super().format(record)}"

    queue = LocalQueueHandler(slow)
    queue.setFormatter(Where())
    logger = logger_of(queue)
    app = Samovar(__name__, static_folder=None)

    @app.get("/tea")
    async def tea() -> str:
        logger.warning("poured")
        return ""

    await app.test_client().get("/tea")
    logger.warning("done")
    await asyncio.to_thread(queue.flush, PATIENCE)
    assert slow.lines == ["/tea poured", "- done"]


async def test_a_full_queue_leaves_out_and_says_how_many(slow: Slow) -> None:
    queue = LocalQueueHandler(slow, size=3)
    logger = logger_of(queue)
    slow.free.clear()
    logger.warning("0")
    while queue.waiting:  # the thread has taken it, and waits
        await asyncio.sleep(0.001)
    for number in range(1, 8):
        logger.warning("%d", number)
    slow.free.set()
    await asyncio.to_thread(queue.flush, PATIENCE)
    assert [line for line in slow.lines if line.isdecimal()] == ["0", "1", "2", "3"]
    assert [line.split()[0] for line in slow.lines if not line.isdecimal()] == ["4"]
    assert "left out" in slow.lines[1]


async def test_a_line_from_a_thread_comes_after_those_before_it(slow: Slow) -> None:
    queue = LocalQueueHandler(slow)
    logger = logger_of(queue)
    slow.free.clear()
    for line in "abc":
        logger.warning(line)
    asyncio.get_running_loop().call_later(0.05, slow.free.set)
    await asyncio.to_thread(logger.warning, "from a thread")
    assert slow.begun == slow.lines == ["a", "b", "c", "from a thread"]


async def test_a_line_from_a_thread_does_not_wait_for_those_after_it() -> None:
    loop, stop = asyncio.get_running_loop(), threading.Event()

    class Busy(logging.Handler):
        """Has another line in the queue before it is done with one."""

        def emit(self, record: logging.LogRecord) -> None:
            if not stop.is_set():
                loop.call_soon_threadsafe(logger.warning, "another")
                while not (queue.waiting or stop.wait(0.001)):
                    pass

    queue = LocalQueueHandler(Busy())
    logger = logger_of(queue)
    logger.warning("first")
    try:
        await asyncio.wait_for(asyncio.to_thread(logger.warning, "from a thread"), PATIENCE)
    finally:
        stop.set()


def test_without_a_loop_it_is_written_at_once(slow: Slow) -> None:
    logger_of(LocalQueueHandler(slow)).warning("now")
    assert slow.lines == ["now"] and slow.threads == {threading.main_thread()}


async def test_levels_are_each_handler_s_own(slow: Slow) -> None:
    quiet = Slow()
    quiet.setLevel(logging.ERROR)
    queue = LocalQueueHandler(slow, quiet)
    logger = logger_of(queue)
    logger.warning("a")
    logger.error("b")
    await asyncio.to_thread(queue.flush, PATIENCE)
    assert (slow.lines, quiet.lines) == (["a", "b"], ["b"])


async def test_a_handler_that_fails_stops_nothing(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)

    def broken(record: logging.LogRecord) -> bool:
        raise ValueError

    bad = Slow()
    bad.addFilter(broken)
    queue = LocalQueueHandler(bad, slow)
    logger = logger_of(queue)
    logger.warning("a")
    logger.warning("b")
    await asyncio.to_thread(queue.flush, PATIENCE)
    assert slow.lines == ["a", "b"]


async def test_a_child_process_begins_anew(slow: Slow) -> None:
    queue = LocalQueueHandler(slow)
    slow.free.clear()
    logger_of(queue).warning("the parent's")
    queue.after_fork()
    slow.free.set()
    logger_of(queue).warning("the child's")
    await asyncio.to_thread(flush_logs, PATIENCE)
    assert slow.lines[-1] == "the child's"


SCRIPT = """
import asyncio, logging
from samovar.core.logging import default_handler

async def main():
    logger = logging.getLogger("script")
    logger.addHandler(default_handler)
    for number in range(1000):
        logger.error("line %d", number)

asyncio.run(main())
"""


def test_the_end_of_the_process_loses_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert len(lines) == 1000 and lines[-1].endswith("ERROR in <string>: line 999")
