"""The lifespan: what starts, in which order it stops, and what becomes of failures and background tasks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from samovar import Samovar, current_app, g, has_request_context, request
from samovar.core import serving
from samovar.core.signals import got_background_exception, got_serving_exception
from samovar.errors import LifespanError
from samovar.tasks import Scope


@pytest.fixture
def app() -> Samovar:
    return Samovar(__name__, static_folder=None)


async def test_everything_starts_and_stops_in_order(app: Samovar) -> None:
    log: list[str] = []

    @app.before_serving
    async def before() -> None:
        log.append(f"before {current_app.name == app.name}")

    @app.before_serving
    def before_sync() -> None:
        log.append("before sync")

    def resource(name: str) -> Any:
        async def run() -> AsyncIterator[None]:
            log.append(f"open {name}")
            yield
            log.append(f"close {name}")

        return run

    app.while_serving(resource("a"))
    app.while_serving(resource("b"))

    @app.after_serving
    async def after() -> None:
        log.append(f"after {app.shutdown_event.is_set()}")

    async with app.test_app():
        log.append("serving")
        assert not app.shutdown_event.is_set()
    assert log == [
        "before True", "before sync", "open a", "open b", "serving", "close b", "close a", "after True",
    ]  # fmt: skip


async def test_an_app_may_be_served_again(app: Samovar) -> None:
    app.add_url_rule("/", "index", lambda: "x")
    for _ in range(2):
        async with app.test_app() as running:
            assert not app.shutdown_event.is_set()
            assert (await running.test_client().get("/")).status_code == 200


async def test_a_failing_start_is_told_and_undone(app: Samovar, caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []

    @app.while_serving
    async def resource() -> AsyncIterator[None]:
        log.append("open")
        yield
        log.append("close")

    @app.while_serving
    async def broken() -> AsyncIterator[None]:
        if app.config["TESTING"] is False:
            raise ValueError("no database")
        yield

    with pytest.raises(LifespanError, match="no database"):
        async with app.test_app():
            pass
    assert log == ["open", "close"]


async def test_everything_is_stopped_whatever_fails(app: Samovar, caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    failures: list[BaseException] = []

    @app.after_serving
    async def broken() -> None:
        raise ValueError("broken")

    @app.after_serving
    async def fine() -> None:
        log.append("fine")

    @app.while_serving
    async def twice() -> AsyncIterator[None]:
        try:
            yield
            yield
        finally:
            log.append("closed")

    async def failed(sender: Any, exception: BaseException) -> None:
        failures.append(exception)

    with got_serving_exception.connected_to(failed), pytest.raises(LifespanError):
        async with app.test_app():
            pass
    assert log == ["closed", "fine"] and isinstance(failures[0], RuntimeError)


async def test_the_hub_runs_with_the_app(app: Samovar) -> None:
    @app.get("/")
    async def index() -> str:
        return str((await app.hub.publish("a", "b")).id)

    async with app.test_app() as running:
        hub = app.hub
        assert (await running.test_client().get("/")).status_code == 200
    assert app.hub is not hub  # another serving, another hub


async def test_background_tasks_have_the_app_and_are_waited_for(app: Samovar) -> None:
    log: list[Any] = []
    gate, let_go = asyncio.Event(), threading.Event()

    async def work(name: str, *, more: int) -> None:
        g.mine = name
        await gate.wait()
        log.append((current_app.name == app.name, has_request_context(), g.mine, more))

    def blocking() -> None:
        log.append("blocking" if let_go.wait(60) else "nobody lets it go")

    @app.get("/")
    async def index() -> str:
        app.add_background_task(work, "a", more=1)
        app.add_background_task(blocking)
        return request.path

    async with app.test_app() as running:
        await running.test_client().get("/")
        assert len(app.background_tasks) == 2
        gate.set()
        let_go.set()
    assert sorted(map(str, log)) == ["(True, False, 'a', 1)", "blocking"]
    assert not app.background_tasks


async def test_background_tasks_that_do_not_end_are_cancelled(app: Samovar) -> None:
    app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = 0.01
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with app.test_app():
        app.add_background_task(forever)
        await asyncio.sleep(0)
    assert ended == ["cancelled"]


async def test_a_background_task_without_end_is_named_and_soon_cancelled(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ended: list[str] = []

    async def loop() -> None:
        try:
            while True:
                await asyncio.sleep(0.2)
        finally:
            ended.append("finally")

    before = asyncio.get_running_loop().time()
    async with app.test_app():
        app.add_background_task(loop)
        await asyncio.sleep(0)
    assert ended == ["finally"] and asyncio.get_running_loop().time() - before < 4
    assert caplog.text.count("waiting up to 1 s for background task 'loop'") == 1


async def test_background_tasks_that_watch_the_shutdown_are_not_mentioned(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def watching() -> None:
        await app.shutdown_event.wait()

    async with app.test_app():
        app.add_background_task(watching)
        await asyncio.sleep(0)
    assert "background task" not in caplog.text


async def test_background_tasks_started_at_the_end_are_ended_too(app: Samovar) -> None:
    app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = 0.15
    ended: list[str] = []

    async def forever(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def last_act() -> None:
        await app.shutdown_event.wait()
        app.add_background_task(forever, "of a task")

    @app.after_serving
    async def after() -> None:
        app.add_background_task(forever, "after")

    async with app.test_app():
        app.add_background_task(last_act)
        await asyncio.sleep(0)
    assert (ended, app.background_tasks) == (["of a task", "after"], frozenset())


async def test_all_background_tasks_of_a_shutdown_have_one_limit(
    app: Samovar, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = 0.25
    waited: list[float] = []
    ended: list[str] = []
    join = Scope.join

    async def measured(scope: Scope, timeout: float | None = None) -> bool:
        if scope.name == "background" and timeout is not None:
            waited.append(timeout)
        return await join(scope, timeout)

    monkeypatch.setattr(Scope, "join", measured)

    async def first() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("first")

    async def last() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("last")

    @app.after_serving
    async def after() -> None:
        app.add_background_task(last)

    async with app.test_app():
        app.add_background_task(first)
        await asyncio.sleep(0)
    assert ended == ["first", "last"]
    assert sum(waited) <= 0.251 + serving.SOON  # which those have that come last, so that they begin
    assert "waiting up to 0.25 s for background task 'first'" in caplog.text
    assert "cancelling background task 'last'" in caplog.text


async def test_a_background_task_is_given_as_a_function(app: Samovar) -> None:
    async def work() -> None:
        raise AssertionError("it never runs")

    with pytest.raises(TypeError, match=r"give the function, not what it returns: .*\(work"):
        app.add_background_task(work())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is a function, not int"):
        app.add_background_task(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["before_serving", "while_serving", "after_serving"])
async def test_a_failure_around_serving_is_logged_with_its_place(
    app: Samovar, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def bad() -> AsyncIterator[None]:
        if app.name:
            raise ValueError("broken")
        yield

    async def bad_call() -> None:
        raise ValueError("broken")

    bad_call.__name__ = "bad"
    getattr(app, kind)(bad if kind == "while_serving" else bad_call)
    with pytest.raises(LifespanError):
        async with app.test_app():
            pass
    assert f"exception in {kind} 'bad'" in caplog.text


async def test_every_failure_of_the_shutdown_is_logged(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    @app.after_serving
    async def first() -> None:
        raise ValueError("one")

    @app.after_serving
    async def second() -> None:
        raise ValueError("two")

    with pytest.raises(LifespanError, match="one"):
        async with app.test_app():
            pass
    assert "after_serving 'first'" in caplog.text and "after_serving 'second'" in caplog.text


async def test_a_failing_background_task_is_logged_and_signalled(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[BaseException] = []

    async def failed(sender: Any, exception: BaseException) -> None:
        seen.append(exception)

    async def work() -> None:
        raise ValueError("broken")

    with got_background_exception.connected_to(failed):
        async with app.test_app():
            app.add_background_task(work)
    assert isinstance(seen[0], ValueError) and "broken" in caplog.text
    assert "exception in background task 'work'" in caplog.text


async def test_requests_work_without_a_lifespan(app: Samovar) -> None:
    app.add_url_rule("/", "index", lambda: "x")
    assert (await app.test_client().get("/")).status_code == 200
