"""The hub of ``local://`` in a process of its own: ``python -m tests.faults.localhub URL``."""

from __future__ import annotations

import asyncio
import signal
import sys

from samovar.backends.local.hub import LocalHub


async def serve(url: str) -> None:
    """Serve until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with LocalHub.from_url(url):
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
