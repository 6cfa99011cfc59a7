"""Hubs for tests: open and up, and what their subscribers got."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from samovar.broadcast import Gap, Hub, Message, State
from samovar.broadcast.subscription import Subscription

from .until import PATIENCE, until


@asynccontextmanager
async def up(url: str, **options: Any) -> AsyncIterator[Hub]:
    """A hub on *url* that is connected, and that waits for its broker longer than a busy machine stands still."""
    patient = {"linger": 0, "publish_timeout": PATIENCE, "join_timeout": PATIENCE}
    async with Hub(url, **{**patient, **options}) as hub:
        await until(lambda: hub.health.state is not State.DOWN, f"the connection ({hub.health})")
        yield hub


async def got(messages: Subscription, count: int) -> list[Any]:
    """The next *count* events, short: the data of a message, the reason of a Gap with a "!" before it."""
    return [short(await anext(messages)) for _ in range(count)]


def short(event: Message | Gap) -> Any:
    """See :func:`got`."""
    return event.data if isinstance(event, Message) else f"!{event.reason}"


async def nothing_more(publisher: Hub, channel: str, messages: Subscription) -> None:
    """Check that nothing is left to come: what is published now comes next."""
    await publisher.publish(channel, "fence")
    assert await got(messages, 1) == ["fence"]
