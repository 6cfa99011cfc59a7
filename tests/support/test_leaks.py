"""The leak fixture finds what a test leaves, names it, and leaves clean tests alone."""

from __future__ import annotations

from pathlib import Path

from .inner import run_inner

CLEAN = """
import asyncio, socket, sys, threading, time, types
from contextvars import ContextVar

def test_sync():
    with socket.create_server(("127.0.0.1", 0)):
        thread = threading.Thread(target=time.sleep, args=(0.01,))
        thread.start()
    thread.join()

async def test_a_cancelled_task_may_end_in_the_next_turn():
    asyncio.get_running_loop().create_task(asyncio.sleep(60)).cancel()

async def test_a_closed_server_and_its_connections():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await reader.read()
    writer.close()
    server.close()

async def test_the_loop_s_own_executor():
    assert await asyncio.to_thread(lambda: 1) == 1

async def test_a_context_that_ended():
    module = sys.modules["samovar.core.ctx"] = types.ModuleType("fake")
    module.variable = ContextVar("variable")
    module.variable.reset(module.variable.set("a context"))
"""

LEAKING = """
import asyncio, socket, sys, threading, time, types
from contextvars import ContextVar

kept = []
module = sys.modules["samovar.core.ctx"] = types.ModuleType("fake")
module.variable = ContextVar("variable", default=None)

async def test_task():
    asyncio.get_running_loop().create_task(asyncio.sleep(60), name="forgotten")

async def test_server():
    kept.append(await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0))

async def test_transport():
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept.append(await asyncio.open_connection(*server.getsockname()))
        kept.append(server.accept())

def test_socket():
    kept.append(socket.create_server(("127.0.0.1", 0)))

def test_thread():
    threading.Thread(target=threading.main_thread().join, name="forgotten by a sync test").start()

async def test_thread_async():
    threading.Thread(target=threading.main_thread().join, name="forgotten by an async test").start()

def test_context():
    module.variable.set("context of a sync test")

async def test_context_async():
    module.variable.set("context of an async test")

def test_clean():
    pass
"""
MESSAGES = [
    "task forgotten: <coroutine object sleep",
    "listening on ('127.0.0.1', ",
    "from ('127.0.0.1', ",
    "thread forgotten by a sync test",
    "thread forgotten by an async test",
    "a samovar context is still pushed: 'context of a sync test'",
    "a samovar context is still pushed: 'context of an async test'",
]


def test_clean_tests_pass(tmp_path: Path) -> None:
    code, output = run_inner(tmp_path, CLEAN)
    assert code == 0, output


def test_every_leak_fails_its_own_test_and_is_named(tmp_path: Path) -> None:
    code, output = run_inner(tmp_path, LEAKING)
    assert code == 1, output
    assert output.count("the test left behind:") == 8, output
    for message in MESSAGES:
        assert message in output
    # The context left inside a task fails the test itself, the rest is found when its fixtures have ended.
    assert "1 failed, 8 passed, 7 errors" in output
    assert "ERROR test_inner.py::test_clean" not in output


REAL_CONTEXTS = """
from samovar import Samovar

def test_sync():
    Samovar("tea").app_context().enter()

async def test_async():
    Samovar("tea").test_request_context("/cup").enter()

async def test_clean():
    async with Samovar("tea").app_context():
        pass
"""


def test_the_package_s_own_contexts_are_found(tmp_path: Path) -> None:
    code, output = run_inner(tmp_path, REAL_CONTEXTS)
    assert code == 1, output
    assert output.count("a samovar context is still pushed: ") == 2
    assert "1 failed, 2 passed, 1 error" in output
