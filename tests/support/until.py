"""Waiting for a condition with a time limit: what tests do instead of sleeping.

The limit is there to name what did not come, not to measure: a busy machine may stand still for seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

PATIENCE: Final = 60.0  # seconds


async def until(
    condition: Callable[[], object], what: str = "the condition", *, timeout: float = PATIENCE
) -> None:
    """Let the loop run until *condition()* is true, at most *timeout* seconds.

    Raises:
        TimeoutError: it is still false; the message says *what* was waited for.
    """
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        await asyncio.sleep(0.001)


async def until_async(
    condition: Callable[[], Awaitable[object]], what: str = "the condition", *, timeout: float = PATIENCE
) -> None:
    """:func:`until` for a condition that has to be awaited (a request to a server, say)."""
    end = time.monotonic() + timeout
    while not await condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        await asyncio.sleep(0.02)
