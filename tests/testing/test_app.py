"""The lifespan around a test, against hand-written ASGI apps."""

import asyncio
from typing import Any

import pytest

from samovar.core.testing import LifespanError, TestApp

from .apps import answer

COMPLETE = {
    "lifespan.startup": {"type": "lifespan.startup.complete"},
    "lifespan.shutdown": {"type": "lifespan.shutdown.complete"},
}


class App:
    """Notes what of its lifespan happened; *answers* replaces what it says."""

    def __init__(self, **answers: dict[str, str]) -> None:
        self.answers = COMPLETE | {f"lifespan.{key}": value for key, value in answers.items()}
        self.seen: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await answer(send, scope["state"]["word"].encode())
            return
        scope["state"]["word"] = "tea"
        for _ in range(2):
            message = await receive()
            self.seen.append(message["type"])
            await send(self.answers[message["type"]])


async def test_the_app_is_started_before_and_stopped_after() -> None:
    app = App()
    async with TestApp(app) as test_app:
        assert app.seen == ["lifespan.startup"]
        response = await test_app.test_client().get("/")
        assert await response.get_data() == b"tea"
    assert app.seen == ["lifespan.startup", "lifespan.shutdown"]


async def test_it_can_be_started_again_and_shut_down_twice() -> None:
    app = App()
    test_app = TestApp(app)
    for _ in range(2):
        await test_app.startup()
        await test_app.shutdown()
        await test_app.shutdown()
    assert app.seen == ["lifespan.startup", "lifespan.shutdown"] * 2


async def test_a_start_up_that_fails_says_why() -> None:
    app = App(startup={"type": "lifespan.startup.failed", "message": "no water"})
    with pytest.raises(LifespanError, match="start-up of the app failed: no water"):
        async with TestApp(app):
            pass


async def test_a_start_up_that_raises_is_chained_and_leaves_no_task() -> None:
    async def raising(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise LookupError("no water")

    before = asyncio.all_tasks()
    with pytest.raises(LifespanError, match="no water") as failed:
        await TestApp(raising).startup()
    assert isinstance(failed.value.__cause__, LookupError)
    assert asyncio.all_tasks() == before


async def test_a_start_up_that_hangs_ends() -> None:
    async def hanging(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    with pytest.raises(LifespanError, match=r"longer than 0\.05 s"):
        await TestApp(hanging, startup_timeout=0.05).startup()
    assert asyncio.all_tasks() == before


async def test_a_shut_down_that_fails_is_told() -> None:
    app = App(shutdown={"type": "lifespan.shutdown.failed", "message": "too hot"})
    with pytest.raises(LifespanError, match="shut-down of the app failed: too hot"):
        async with TestApp(app):
            pass


async def test_an_app_that_leaves_its_lifespan_early_is_told() -> None:
    async def leaving(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE["lifespan.startup"])
        raise LookupError("gone")

    with pytest.raises(LifespanError, match="left its lifespan") as failed:
        async with TestApp(leaving):
            await asyncio.sleep(0.01)
    assert isinstance(failed.value.__cause__, LookupError)


async def test_long_connections_are_told_before_the_lifespan_ends() -> None:
    class Draining(App):
        def __init__(self) -> None:
            super().__init__()
            self.shutdown_event = asyncio.Event()

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await super().__call__(scope, receive, send)
            else:
                await send({"type": "websocket.accept"})
                await self.shutdown_event.wait()
                await send({"type": "websocket.close", "code": 1012})

    async with TestApp(Draining()) as test_app, test_app.test_client().websocket("/") as ws:
        await ws.handshake()
        await test_app.drain()
        assert await ws.wait_closed() == 1012
