"""The time limit ends whatever hangs, shows where, and lets the next test run."""

from __future__ import annotations

from pathlib import Path

from .inner import run_inner

HANGING = """
import asyncio, threading, time
import pytest

pytestmark = pytest.mark.limit(1)

async def wait_for_godot():
    await asyncio.Event().wait()

@pytest.fixture
async def hangs_at_the_end():
    yield
    await wait_for_godot()

@pytest.fixture
def hangs_at_the_start():
    threading.Event().wait()

def test_sync():
    time.sleep(60)

def test_fixture(hangs_at_the_start):
    pass

async def test_async():
    await wait_for_godot()

async def test_async_fixture(hangs_at_the_end):
    pass

@pytest.mark.limit(60)
async def test_closest_mark_wins():
    await asyncio.sleep(1.1)
"""


def test_whatever_hangs_fails_within_its_limit_and_shows_where(tmp_path: Path) -> None:
    code, output = run_inner(tmp_path, HANGING)
    assert code == 1, output
    assert output.count("is not done after 1 s") >= 4
    assert "in test_sync\n    time.sleep(60)" in output
    assert "in hangs_at_the_start\n    threading.Event().wait()" in output
    assert output.count("in wait_for_godot\n    await asyncio.Event().wait()") == 2
    assert "2 failed, 2 passed, 2 errors" in output
