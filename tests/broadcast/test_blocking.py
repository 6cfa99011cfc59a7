"""Publishing from threads, and hubs of plain scripts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from samovar.backends.memory import Broker, MemoryBackend
from samovar.broadcast import Gap, Hub, Message
from samovar.errors import (
    HubClosed,
    InvalidChannel,
    MessageTooLarge,
    PublishRejected,
    PublishUnknown,
    UnsupportedByBackend,
)

from .faulty import FaultyBackend


async def test_a_thread_publishes_and_every_subscriber_gets_it() -> None:
    async with Hub() as hub, hub.subscribe("c") as messages:
        published = await asyncio.to_thread(hub.publish_sync, "c", {"n": 1}, user="ann")
        _, message = await messages.events()
        assert isinstance(message, Message)
        assert (message.data, message.user, message.id) == ({"n": 1}, "ann", published.id)
        assert message.position == published.position


async def test_threads_publish_at_once_and_nothing_is_lost() -> None:
    async with Hub() as hub, hub.subscribe("c") as messages:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(8) as pool:
            calls = [loop.run_in_executor(pool, hub.publish_sync, "c", n) for n in range(200)]
            published = await asyncio.gather(*calls)
        got: list[Any] = []
        while len(got) < 200:
            got += [event for event in await messages.events() if isinstance(event, Message | Gap)]
        assert {event.id for event in got} == {one.id for one in published}
        assert sorted(event.data for event in got) == list(range(200))


async def test_the_same_id_from_a_thread_is_one_message() -> None:
    async with Hub() as hub:
        first = await asyncio.to_thread(hub.publish_sync, "c", 1, id="once")
        again = await asyncio.to_thread(hub.publish_sync, "c", 1, id="once")
        assert (first.duplicate, again.duplicate, again.position) == (False, True, first.position)


async def test_in_a_thread_with_a_loop_it_names_the_awaitable() -> None:
    async with Hub() as hub:
        with pytest.raises(RuntimeError, match="await hub.publish"):
            hub.publish_sync("c", 1)
        with pytest.raises(RuntimeError, match="async with"), hub:
            pass


async def test_errors_reach_the_thread() -> None:
    async with Hub(max_message_bytes=10) as hub:
        for error, channel, data in [
            (InvalidChannel, "no spaces", 1),
            (MessageTooLarge, "c", "x" * 11),
        ]:
            with pytest.raises(error):
                await asyncio.to_thread(hub.publish_sync, channel, data)


async def test_a_hub_that_does_not_run_says_so() -> None:
    hub = Hub()
    with pytest.raises(HubClosed, match="not started"):
        await asyncio.to_thread(hub.publish_sync, "c", 1)
    async with hub:
        pass
    with pytest.raises(HubClosed, match="stopped"):
        await asyncio.to_thread(hub.publish_sync, "c", 1)


async def test_a_thread_waits_for_the_broker_and_is_told_when_it_does_not_come() -> None:
    link = FaultyBackend(Broker())
    async with Hub(link, publish_timeout=0.05) as hub:
        link.cut()
        with pytest.raises(PublishRejected):
            await asyncio.to_thread(hub.publish_sync, "c", 1)
        link.restore()
        assert (await asyncio.to_thread(hub.publish_sync, "c", 1)).position is not None


class Stuck(MemoryBackend):
    """Publishes that never come back."""

    async def publish(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.get_running_loop().create_future()


async def test_stopping_the_hub_frees_a_waiting_thread() -> None:
    hub = Hub(Stuck())
    await hub.start()
    call = asyncio.get_running_loop().run_in_executor(None, lambda: hub.publish_sync("c", 1, id="me"))
    async with asyncio.timeout(60):
        while not hub.stats()["in_flight"]:
            await asyncio.sleep(0)
    await hub.stop()
    with pytest.raises(PublishUnknown, match="stopped") as caught:
        await call
    assert caught.value.id == "me"


def test_a_loop_that_is_blocked_rejects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samovar.broadcast.blocking.MARGIN", 0.0)
    free, blocked = threading.Event(), threading.Event()

    def block() -> None:
        blocked.set()
        free.wait(60)

    with Hub(publish_timeout=0.05) as hub:
        assert hub._loop is not None
        hub._loop.call_soon_threadsafe(block)
        assert blocked.wait(60)
        with pytest.raises(PublishRejected, match="blocked"):
            hub.publish_sync("c", 1)
        free.set()
        published = hub.publish_sync("c", 2)
        assert published.position is not None
        assert published.position.offset == 1


# --- plain scripts --------------------------------------------------------------------------------------------------


def test_a_plain_script_publishes() -> None:
    before = threading.active_count()
    with Hub("memory://") as hub:
        assert [hub.publish_sync("c", n).position.offset for n in range(3)] == [1, 2, 3]  # type: ignore[union-attr]
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    with pytest.raises(HubClosed):
        hub.publish_sync("c", 4)
    hub.__exit__(None, None, None)
    with hub:
        assert hub.publish_sync("c", 5).duplicate is False


def test_two_with_at_once_are_refused() -> None:
    with Hub() as hub, pytest.raises(RuntimeError, match="runs already"), hub:
        pass
    assert repr(hub).count("stopped") == 1


def test_what_starting_raises_reaches_the_script() -> None:
    class Broken(Hub):
        async def start(self) -> None:
            raise UnsupportedByBackend("no")

    before = threading.active_count()
    with pytest.raises(UnsupportedByBackend), Broken():
        pass
    assert threading.active_count() == before


def test_a_script_that_crashes_ends() -> None:
    body = "    hub.publish_sync('c', 1)\n    raise SystemExit(3)\n"
    script = f"from samovar.broadcast import Hub\nwith Hub() as hub:\n{body}"
    done = subprocess.run([sys.executable, "-c", script], timeout=30, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (3, b"")
