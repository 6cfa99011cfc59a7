"""A request's body that nobody has asked for: leaving is noticed behind it, and a late reader gets it whole."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from samovar import Response, Samovar, request
from samovar.core.asgi import watcher
from samovar.core.asgi.watcher import KEPT_BYTES
from samovar.tasks import Scope

from .wire import Wire


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Samovar:
    monkeypatch.setattr(watcher, "PATIENCE", 0)
    app = Samovar(__name__, static_folder=None)
    app.extensions["go_on"] = asyncio.Event()

    @app.post("/")
    async def late() -> bytes:
        app.extensions["reached"] = True
        await app.extensions["go_on"].wait()
        return await request.get_data()

    return app


async def until_read(wire: Wire, left: int = 0) -> None:
    """Wait until the app has taken all but *left* of what was fed."""
    async with asyncio.timeout(60):
        while wire.inbox.qsize() > left:
            await asyncio.sleep(0)


@pytest.mark.parametrize("ends", [True, False], ids=["whole", "torn"])
async def test_a_client_that_goes_behind_an_unread_body_in_pieces_is_noticed(
    app: Samovar, ends: bool
) -> None:
    wire = Wire(app, "POST")
    for more in (True, True, not ends):
        wire.feed(b"piece", more)
    wire.disconnect()
    await wire.run()
    assert app.extensions["reached"] and wire.sent == []


async def test_a_late_reader_gets_all_pieces_in_order(app: Samovar) -> None:
    wire = Wire(app, "POST")
    async with Scope("server") as server:
        task = server.start(wire.run())
        for piece in (b"one ", b"", b"two "):
            wire.feed(piece, True)
        await until_read(wire)
        app.extensions["go_on"].set()
        await asyncio.sleep(0)
        wire.feed(b"three")
        await task
    assert wire.body == b"one two three" and wire.complete


@pytest.mark.parametrize("piece", [bytes(KEPT_BYTES // 4), b"x"], ids=["large", "tiny"])
async def test_what_is_kept_has_a_bound_and_the_rest_is_read_later(app: Samovar, piece: bytes) -> None:
    wire = Wire(app, "POST")
    count = 2000
    async with Scope("server") as server:
        task = server.start(wire.run())
        for n in range(count):
            wire.feed(piece, n < count - 1)
        for _ in range(2 * count):
            await asyncio.sleep(0)
        taken = count - wire.inbox.qsize()
        assert taken == (4 if len(piece) > 1 else KEPT_BYTES // watcher.PIECE_BYTES)
        if len(piece) == 1:
            app.extensions["go_on"].set()
            await task
            assert wire.body == piece * count
        else:
            task.cancel()
            await asyncio.wait({task})


async def test_a_stream_lets_go_of_what_was_kept(app: Samovar) -> None:
    @app.post("/stream")
    async def stream() -> Any:
        async def pieces() -> Any:
            yield "one"
            await asyncio.get_running_loop().create_future()

        await app.extensions["go_on"].wait()
        return Response(pieces())

    wire = Wire(app, "POST", "/stream")
    async with Scope("server") as server:
        task = server.start(wire.run())
        for _ in range(3):
            wire.feed(b"piece", True)
        await until_read(wire)
        app.extensions["go_on"].set()
        await wire.until_body(b"one")
        for _ in range(1000):
            wire.feed(b"piece", True)
        wire.disconnect()
        await task
    assert wire.inbox.empty() and not wire.complete
