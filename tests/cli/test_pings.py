"""Pings of Hypercorn's websockets, whose answers are watched by our driver: a peer that is not heard is cut."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypercorn.asyncio.worker_context import WorkerContext

from samovar import Samovar
from samovar.core.cli.hypercorn_server import ConnectionContext, HeardReader, make_config
from samovar.core.cli.options import ServeOptions, sizes_of
from samovar.core.cli.uvicorn_server import make_config as make_uvicorn_config


class Clock:
    """The running loop's clock, set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("samovar.core.cli.hypercorn_server.asyncio.get_running_loop", lambda: self)

    def time(self) -> float:
        return self.now


async def test_silence_counts_from_when_somebody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = asyncio.StreamReader()
    with monkeypatch.context() as patch:
        clock = Clock(patch)
        reader = HeardReader(stream)
        assert reader.silence == 0.0
        reading = reader.read(10).__await__()
        next(reading)  # it waits
        clock.now += 5
        assert reader.silence == 5.0
        stream.feed_data(b"pong")
        with pytest.raises(StopIteration) as done:
            next(reading)
        assert done.value.value == b"pong"
        clock.now += 5
        assert reader.silence == 0.0, "the app is behind"
        stream.feed_eof()
        assert reader.at_eof()


class Heard:
    def __init__(self, silence: float) -> None:
        self.silence = silence


@pytest.mark.parametrize(("silence", "cut"), [(0.0, False), (0.014, False), (0.016, True)])
async def test_after_a_pause_a_peer_that_was_not_heard_is_cut(silence: float, cut: bool) -> None:
    cuts: list[bool] = []
    context = ConnectionContext(WorkerContext(None), lambda: cuts.append(True))
    context.reader = Heard(silence)  # type: ignore[assignment]
    await context.sleep(0.01)
    assert bool(cuts) is cut


async def test_a_pause_ends_with_the_connection_and_cuts_nobody() -> None:
    cuts: list[bool] = []
    context = ConnectionContext(WorkerContext(None), lambda: cuts.append(True))
    context.reader = Heard(100)  # type: ignore[assignment]
    context.closed.set()
    await context.sleep(600)
    assert cuts == []


@pytest.mark.parametrize(
    ("setting", "seconds"), [({}, 20.0), ({"WEBSOCKET_PING_INTERVAL": 5}, 5), (None, None)]
)
def test_both_servers_take_the_apps_interval(setting: dict[str, Any] | None, seconds: float | None) -> None:
    app = Samovar(__name__, static_folder=None)
    app.config.update({"WEBSOCKET_PING_INTERVAL": None} if setting is None else setting)
    options = ServeOptions(**sizes_of(app))
    assert make_config(options).websocket_ping_interval == seconds
    uvicorn = make_uvicorn_config(app, options)
    assert (uvicorn.ws_ping_interval, uvicorn.ws_ping_timeout) == (seconds, seconds)
