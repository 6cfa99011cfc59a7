"""A test that leaves something behind fails, and the message names what it left.

Looked for, when the test's own fixtures are finished: asyncio tasks still pending in the test's loop, sockets still
open (listening ones too), threads still running that are not daemons, and a Samovar context still pushed.

What ends by itself within :data:`PATIENCE` seconds is not a leak: a cancelled task needs a turn of the loop, an
aborted transport needs two.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest
import pytest_asyncio

PATIENCE = float(os.environ.get("SAMOVAR_TEST_LEAK_PATIENCE", "20"))
CONTEXT_MODULE = "samovar.core.ctx"  # looked into once something has imported it

Finder = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves something behind."""
    contexts = pushed_contexts()
    if inspect.iscoroutinefunction(request.function):
        if "browser" in request.fixturenames:  # it stays for all tests of the session
            request.getfixturevalue("browser")
        marker = request.node.get_closest_marker("asyncio")
        shared = marker is not None and marker.kwargs.get("loop_scope") == "session"
        request.getfixturevalue("no_leaks_in_session_loop" if shared else "no_leaks_in_loop")
        yield
    else:
        threads, sockets = set(threading.enumerate()), open_sockets()
        yield
        fail_with(wait_for_none(lambda: new_threads(threads) + new_sockets(sockets)))
    fail_with(new_contexts(contexts))


@pytest_asyncio.fixture
async def no_leaks_in_loop() -> AsyncIterator[None]:
    """Fail an asynchronous test that leaves something behind, while its loop is still there to ask."""
    async with watching():
        yield


@pytest_asyncio.fixture(loop_scope="session")
async def no_leaks_in_session_loop() -> AsyncIterator[None]:
    """The same for a test in the loop that lasts as long as the session."""
    async with watching():
        yield


@asynccontextmanager
async def watching() -> AsyncIterator[None]:
    """Fail when more is there afterwards than before."""
    loop = asyncio.get_running_loop()
    tasks, threads, sockets = asyncio.all_tasks(), set(threading.enumerate()), open_sockets()
    executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
    loop.set_default_executor(executor)
    yield
    executor.shutdown(wait=False)  # its idle threads are the loop's, not the test's, and end now
    end = loop.time() + PATIENCE
    while (left := new_tasks(tasks) + new_threads(threads) + new_sockets(sockets)) and loop.time() < end:
        await asyncio.sleep(0.005)
    fail_with(left)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each asynchronous test tell of a context it leaves: only inside its own task can that be seen."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = checking_contexts(item.obj)


def checking_contexts(test: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an asynchronous test: fails when it returns with a context pushed that was not there before."""

    @functools.wraps(test)
    async def checked(*args: Any, **kwargs: Any) -> None:
        before = pushed_contexts()
        await test(*args, **kwargs)
        fail_with(new_contexts(before))

    return checked


def fail_with(left: list[str]) -> None:
    """Fail the test when it left something."""
    if left:
        pytest.fail("the test left behind:\n" + "\n".join(f"  - {what}" for what in left), pytrace=False)


def wait_for_none(find: Finder) -> list[str]:
    """What *find* still finds after a moment of patience (threads need one to end)."""
    end = time.monotonic() + PATIENCE
    while (left := find()) and time.monotonic() < end:
        time.sleep(0.005)
    return left


def new_tasks(before: set[asyncio.Task[Any]]) -> list[str]:
    """Pending tasks of the running loop beside *before* and the caller's own."""
    known = before | {asyncio.current_task()}
    return [
        f"task {task.get_name()}: {task.get_coro()!r}" for task in asyncio.all_tasks() if task not in known
    ]


def new_threads(before: set[threading.Thread]) -> list[str]:
    """Living non-daemon threads beside *before*."""
    return [
        f"thread {thread.name}"
        for thread in threading.enumerate()
        if thread not in before and not thread.daemon
    ]


def new_sockets(before: dict[int, int]) -> list[str]:
    """Open sockets beside *before*; garbage is collected first, so that only what somebody holds counts."""
    if open_sockets().items() <= before.items():
        return []
    gc.collect()
    return [describe_socket(fd) for fd, _ in sorted(open_sockets().items() - before.items())]


def new_contexts(before: list[object]) -> list[str]:
    """Contexts that are pushed and were not *before*."""
    known = {id(value) for value in before}
    return [
        f"a samovar context is still pushed: {value!r}"
        for value in pushed_contexts()
        if id(value) not in known
    ]


def open_sockets() -> dict[int, int]:
    """File descriptor → inode of every socket this process has open."""
    found = {}
    for name in os.listdir("/dev/fd"):
        try:
            status = os.fstat(int(name))
        except OSError:
            continue  # the descriptor of the listing itself
        if stat.S_ISSOCK(status.st_mode):
            found[int(name)] = status.st_ino
    return found


def describe_socket(fd: int) -> str:
    """A socket in words: which ends it has, and whether it listens."""
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            peer = "" if listening else f" to {peer_of(sock)}"
            return f"socket fd {fd}, {'listening on' if listening else 'from'} {sock.getsockname()!r}{peer}"
    except OSError as error:
        return f"socket fd {fd} ({error})"


def peer_of(sock: socket.socket) -> str:
    try:
        return repr(sock.getpeername())
    except OSError:
        return "nobody"


def pushed_contexts() -> list[object]:
    """The values of Samovar's context variables that are set here and now."""
    module = sys.modules.get(CONTEXT_MODULE)
    variables = [value for value in vars(module).values() if isinstance(value, ContextVar)] if module else []
    return [value for variable in variables if (value := variable.get(None)) is not None]
