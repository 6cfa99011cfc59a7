"""Signals reach functions and coroutine functions, in order; logging says what happened where it can be read."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import samovar
from samovar import Samovar, websocket
from samovar.core import signals
from samovar.core.logging import create_logger, default_handler, has_level_handler


async def test_the_signals_of_a_request() -> None:
    app = Samovar(__name__, static_folder=None)
    app.add_url_rule("/<int:n>", "index", lambda n: 1 / n)
    seen: list[str] = []
    names = (
        "appcontext_pushed", "request_started", "got_request_exception", "request_finished", "request_tearing_down",
        "appcontext_tearing_down", "appcontext_popped",
    )  # fmt: skip
    receivers = []
    for name in names:

        async def receiver(sender: Any, name: str = name, **extra: Any) -> None:
            assert sender is app
            seen.append(name)

        receivers.append(receiver)
        getattr(samovar, name).connect(receiver)
    try:
        await app.test_client().get("/0")
    finally:
        for name, receiver in zip(names, receivers, strict=True):
            getattr(samovar, name).disconnect(receiver)
    assert seen == list(names)


async def test_a_websocket_is_torn_down_to_the_end_though_its_peer_leaves_meanwhile() -> None:
    app = Samovar(__name__, static_folder=None)
    begun, left = asyncio.Event(), asyncio.Event()
    ended: list[str] = []

    @app.websocket("/")
    async def ws() -> None:
        await websocket.send("x")

    @app.teardown_websocket
    async def slowly(error: BaseException | None) -> None:
        begun.set()
        await left.wait()
        ended.append("websocket")

    @app.teardown_appcontext
    async def last(error: BaseException | None) -> None:
        ended.append("app")

    async with app.test_client().websocket("/") as ws_client:
        await ws_client.receive()
        await begun.wait()
        await ws_client.disconnect()
        for _ in range(10):
            await asyncio.sleep(0)
        left.set()
    assert ended == ["websocket", "app"]


async def test_plain_receivers_run_too() -> None:
    seen: list[Any] = []

    def receiver(sender: Any, **extra: Any) -> None:
        seen.append(extra["x"])

    with signals.request_started.connected_to(receiver):
        await signals.send(signals.request_started, None, x=1)
    assert seen == [1]


def test_the_logger_is_named_like_the_app_and_heard() -> None:
    app = Samovar("named.like.this", static_folder=None)
    app.debug = True
    assert app.logger.name == "named.like.this" and app.logger.level == logging.DEBUG
    assert app.logger is app.logger and has_level_handler(app.logger)


def test_the_default_handler_is_for_loggers_nobody_hears() -> None:
    app = Samovar("unheard", static_folder=None)
    logger = logging.getLogger("unheard")
    logger.propagate = False
    try:
        assert create_logger(app).handlers == [default_handler]
    finally:
        logger.propagate = True
        logger.handlers.clear()


def test_the_default_handler_follows_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    default_handler.emit(logging.LogRecord("x", logging.ERROR, __file__, 1, "heard", None, None))
    assert "ERROR in test_signals: heard" in capsys.readouterr().err
