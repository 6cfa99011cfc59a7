"""Tasks that one of all workers runs: where they run, when they move, and what ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from samovar import Samovar, current_app, hub
from samovar.backends.memory import MemoryBackend
from samovar.broadcast import Feature, Hub
from samovar.core import singletons
from samovar.errors import InvalidChannel, UnsupportedByBackend

Make = Callable[[str], Samovar]


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Make:
    """Makes one worker after the other, on one broker; ``log`` in their extensions is shared."""
    log: list[str] = []

    def worker(name: str) -> Samovar:
        app = Samovar("job", static_folder=None)
        app.config["BROADCAST_URL"] = f"memory://{request.node.name.partition('[')[0]}"
        app.extensions.update(log=log, worker=name)
        return app

    return worker


def log_of(app: Samovar) -> list[str]:
    log: list[str] = app.extensions["log"]
    return log


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def add_endless(app: Samovar) -> None:
    @app.singleton_task
    async def endless() -> None:
        log_of(app).append(f"begun {current_app.extensions['worker']}")
        await hub.publish("news", 1)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            log_of(app).append(f"ended {app.extensions['worker']}")


async def test_one_worker_runs_it_and_the_next_when_that_one_stops(make: Make) -> None:
    one, two = make("one"), make("two")
    add_endless(one)
    add_endless(two)
    log = log_of(one)
    async with one.test_app():
        await until(lambda: log == ["begun one"])
        test_two = two.test_app()
        await test_two.startup()
        await until(lambda: two.hub.stats()["subscriptions"] == 1)
        assert log == ["begun one"]
    await until(lambda: log == ["begun one", "ended one", "begun two"])
    await test_two.shutdown()
    assert log == ["begun one", "ended one", "begun two", "ended two"]


async def test_a_worker_that_loses_the_lease_stops_and_the_next_begins(make: Make) -> None:
    one, two = make("one"), make("two")
    for app in (one, two):
        add_endless(app)
    log = log_of(one)
    async with one.test_app():
        await until(lambda: log == ["begun one"])
        data = {"holder": "nobody", "version": 99, "seconds": 0.2}
        async with two.test_app():
            await two.hub._publish_internal(singletons_channel(), data, version=99)
            await until(lambda: len(log) == 3)
            assert log[1] == "ended one" and log[2].startswith("begun ")


def singletons_channel() -> Any:
    from samovar.broadcast.lease import PREFIX
    from samovar.broadcast.names import InternalChannel

    return InternalChannel(f"{PREFIX}job.endless")


async def test_one_that_returns_is_not_run_again_while_its_worker_lives(make: Make) -> None:
    one, two = make("one"), make("two")
    for app in (one, two):

        @app.singleton_task(name="once")
        async def once() -> None:
            log_of(one).append(current_app.extensions["worker"])

    log = log_of(one)
    async with one.test_app():
        await until(lambda: log == ["one"])
        async with two.test_app():
            await until(lambda: two.hub.stats()["subscriptions"] == 1)
            await asyncio.sleep(0.05)
            assert log == ["one"]


async def test_one_that_fails_is_told_and_run_again(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(singletons, "FIRST_PAUSE", 0.01)
    app = make("one")
    log = log_of(app)

    @app.singleton_task(lease=30)
    async def failing() -> None:
        log.append("run")
        if len(log) == 1:
            raise RuntimeError("the directory is away")
        if len(log) == 2:
            raise asyncio.CancelledError  # of something it waited for
        await asyncio.get_running_loop().create_future()

    async with app.test_app():
        await until(lambda: len(log) == 3)
    assert "singleton task 'job.failing'" in caplog.text and "the directory is away" in caplog.text


async def test_the_pause_doubles_and_begins_anew_after_a_long_run(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(singletons, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(singletons, "LONGEST_PAUSE", 0.004)
    caplog.set_level("INFO", "samovar.singletons")
    app = make("one")
    log = log_of(app)

    @app.singleton_task
    async def fails() -> None:
        log.append("run")
        monkeypatch.setattr(
            singletons, "RAN_WELL", 0.0 if len(log) == 5 else 60.0
        )  # as if the fifth took long
        raise RuntimeError("again")

    def pauses() -> list[str]:
        return [words.split()[-2] for words in caplog.messages if "is run again" in words]

    async with app.test_app():
        await until(lambda: len(pauses()) >= 7)
    assert pauses()[:7] == ["0.001", "0.002", "0.004", "0.004", "0.001", "0.002", "0.004"]


async def test_one_whose_failure_cannot_even_be_told_is_run_again(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(singletons, "FIRST_PAUSE", 0.01)
    app = make("one")
    log = log_of(app)

    @app.singleton_task
    async def fails() -> None:
        log.append("begun")
        raise ValueError("of the task")

    async def tell(error: Exception) -> None:
        raise LookupError("of the telling")

    app.handle_background_exception = tell  # type: ignore[method-assign]  # as a subclass might
    async with app.test_app():
        await until(lambda: len(log) == 2)
    assert "LookupError: of the telling" in caplog.text


async def test_what_cannot_be_one_is_refused(make: Make) -> None:
    app = make("one")
    add_endless(app)
    with pytest.raises(ValueError, match="already"):
        add_endless(app)
    with pytest.raises(TypeError, match="async function"):
        app.singleton_task(lambda: None)
    with pytest.raises(InvalidChannel):

        @app.singleton_task(name="not a name")
        async def misnamed() -> None:
            """Never run."""


async def test_a_backend_that_keeps_no_leases_fails_the_start(make: Make) -> None:
    class Poor(MemoryBackend):
        features = MemoryBackend.features & ~Feature.VERSION

    class App(Samovar):
        def make_hub(self) -> Hub:
            return Hub(Poor())

    app = App("job", static_folder=None)
    app.extensions["log"] = []
    add_endless(app)
    with pytest.raises(Exception) as failed:
        async with app.test_app():
            raise AssertionError("it started")
    assert isinstance(failed.value.__cause__, UnsupportedByBackend) or "VERSION" in str(failed.value)


async def test_an_app_starts_again_with_its_tasks(make: Make) -> None:
    app = make("one")
    add_endless(app)
    for times in (1, 2):
        async with app.test_app():
            await until(lambda times=times: log_of(app).count("begun one") == times)  # type: ignore[misc]
