"""What tests of ``local://`` run in processes of their own: ``python -m tests.backends.local_processes``."""

from __future__ import annotations

import asyncio
import sys

from samovar.backends.local.hub import LocalHub
from samovar.broadcast import Gap, Hub, Message


async def hub(url: str) -> None:
    """Holds the channels until it is killed."""
    async with LocalHub.from_url(url):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def worker(url: str, name: str, count: str, total: str) -> None:
    """Publishes *count* messages on one channel and prints the *total* that it receives there, its own among them."""
    async with Hub(url) as hub, hub.subscribe("c") as messages:
        await messages.events()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for n in range(int(count)):
            await hub.publish("c", f"{name}{n}")
        for _ in range(int(total)):
            event = await anext(messages)
            assert not isinstance(event, Gap), event
            assert isinstance(event, Message)
            print(event.position.offset, event.data, flush=True)


if __name__ == "__main__":
    asyncio.run(hub(sys.argv[2]) if sys.argv[1] == "hub" else worker(*sys.argv[2:]))
