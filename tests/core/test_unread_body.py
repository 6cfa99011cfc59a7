"""A request's body that nobody has asked for: leaving is noticed behind it, and a late reader gets it whole."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import io
import tempfile
from typing import Any

import pytest
from werkzeug.exceptions import ClientDisconnected

from samovar import Response, Samovar, has_request_context, request
from samovar.core.asgi import unread, watcher
from samovar.core.asgi.unread import MEMORY_BYTES, Unread
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


LARGE = 3 * MEMORY_BYTES
PIECE = 50_000


def feed_large(wire: Wire) -> bytes:
    """Give the app a body that is not kept in memory; returns it."""
    body = bytes(range(251)) * (LARGE // 251)
    for start in range(0, len(body), PIECE):
        wire.feed(body[start : start + PIECE], start + PIECE < len(body))
    return body


async def test_a_client_that_goes_behind_a_large_unread_body_is_noticed(app: Samovar) -> None:
    wire = Wire(app, "POST")
    feed_large(wire)
    wire.disconnect()
    await wire.run()
    assert app.extensions["reached"] and wire.sent == []
    assert Unread.all_on_disk == 0


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "in two"])
async def test_a_late_reader_gets_a_large_body_whole(app: Samovar, torn: bool) -> None:
    wire = Wire(app, "POST")
    async with Scope("server") as server:
        task = server.start(wire.run())
        body = b""
        if torn:
            body = bytes(MEMORY_BYTES + PIECE)
            wire.feed(body, True)
            wire.feed(b"more", True)
        else:
            body = feed_large(wire)
        await until_read(wire)
        assert Unread.all_on_disk == (4 if torn else len(body) - -(-MEMORY_BYTES // PIECE) * PIECE)
        app.extensions["go_on"].set()
        if torn:
            await asyncio.sleep(0)
            wire.feed(b" still")
            body += b"more still"
        await task
    assert wire.body == body and wire.complete
    assert Unread.all_on_disk == 0


async def test_what_the_disk_does_not_take_is_read_all_the_same(
    app: Samovar, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(io.BytesIO):
        """Has room for one piece and a half."""

        def write(self, body: Any) -> int:
            if self.tell() > PIECE:
                raise OSError(errno.ENOSPC, "no space left")
            return super().write(body[: PIECE + PIECE // 2 - self.tell()])

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda buffering: Full())
    wire = Wire(app, "POST")
    async with Scope("server") as server:
        task = server.start(wire.run())
        body = feed_large(wire)
        count = wire.inbox.qsize()
        await until_read(wire, count - -(-MEMORY_BYTES // PIECE) - 2)
        app.extensions["go_on"].set()
        await task
    assert wire.body == body and Unread.all_on_disk == 0


async def test_a_file_that_cannot_be_made_is_told_and_its_piece_kept(
    app: Samovar, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(buffering: int) -> Any:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(tempfile, "TemporaryFile", none_left)
    kept = Unread(None)
    for body in (bytes(MEMORY_BYTES), b"one"):
        assert kept.has_room
        kept.add({"type": "http.request", "body": body, "more_body": body != b"one"})
    assert not kept.has_room and "too many open files" in caplog.text
    assert kept.take()["more_body"] and kept.take() == {
        "type": "http.request", "body": b"one", "more_body": False
    }  # fmt: skip


BOUNDS = {  # the bodies before it, the limit, the piece, how many of it are taken
    "all of one": (0, None, 1 << 20, 16),
    "what a reader may have": (0, 1000, 600, 2),
    "one at least": (0, 0, 1, 1),
    "tiny ones": (0, None, 1, (16 << 20) // unread.PIECE_BYTES),
    "all together": (1, None, 1 << 20, 9),
}


@pytest.mark.parametrize(("before", "limit", "size", "taken"), BOUNDS.values(), ids=BOUNDS)
def test_what_is_kept_has_bounds(
    before: int, limit: int | None, size: int, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "DISK_BYTES", 16 << 20)
    others = [Unread(None) for _ in range(before)]
    for other in others:
        for _ in range(9):
            other.add({"body": bytes(1 << 20), "more_body": True})
    kept = Unread(limit)
    count = 0
    while kept.has_room:
        kept.add({"body": bytes(size), "more_body": True})
        count += 1
    for one in (kept, *others):
        one.close()
        one.close()
    assert count == taken and Unread.all_on_disk == 0


def add_endless_stream(app: Samovar) -> None:
    """A view that waits, and then streams a piece and no end, without a look at the body."""

    @app.post("/stream")
    async def stream() -> Any:
        async def pieces() -> Any:
            yield "one"
            await asyncio.get_running_loop().create_future()

        await app.extensions["go_on"].wait()
        return Response(pieces())


async def test_a_stream_lets_go_of_a_file_that_nobody_reads(app: Samovar) -> None:
    add_endless_stream(app)
    wire = Wire(app, "POST", "/stream")
    async with Scope("server") as server:
        task = server.start(wire.run())
        feed_large(wire)
        await until_read(wire)
        assert Unread.all_on_disk > 0
        app.extensions["go_on"].set()
        await wire.until_body(b"one")
        await asyncio.sleep(0)
        assert Unread.all_on_disk == 0
        wire.disconnect()
        await task


async def test_a_stream_lets_go_of_what_was_kept(app: Samovar) -> None:
    add_endless_stream(app)
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


@pytest.mark.parametrize("waits", [False, True])
async def test_a_body_is_not_let_go_while_the_streams_head_is_sent(app: Samovar, waits: bool) -> None:
    @app.post("/echo")
    async def echo() -> Any:
        if waits:
            await app.extensions["go_on"].wait()
        return Response(piece async for piece in request.body)

    wire = Wire(app, "POST", "/echo")
    wire.open.clear()
    async with Scope("server") as server:
        task = server.start(wire.run())
        sent = feed_large(wire)
        if waits:
            await until_read(wire)
            app.extensions["go_on"].set()
        for _ in range(20):
            await asyncio.sleep(0)
        wire.open.set()
        await task
    assert wire.complete and wire.body == sent


@pytest.mark.parametrize("streams", [False, True])
async def test_who_asks_after_the_answer_is_not_told_that_there_was_no_body(
    app: Samovar, streams: bool
) -> None:
    bodies = []

    @app.post("/kept")
    async def kept() -> Any:
        async def pieces() -> Any:
            yield "one"
            await app.extensions["go_on"].wait()

        bodies.append(request.body)
        if streams:
            return Response(pieces())
        await app.extensions["go_on"].wait()
        return "one"

    wire = Wire(app, "POST", "/kept")
    async with Scope("server") as server:
        task = server.start(wire.run())
        wire.feed(b"piece", True)
        wire.feed(b"piece")
        await until_read(wire)
        app.extensions["go_on"].set()
        await task
    assert wire.body == b"one"
    with pytest.raises(ClientDisconnected):
        await bodies[0]


async def test_receive_sees_the_variables_of_a_middleware_and_no_request(app: Samovar) -> None:
    variable = contextvars.ContextVar[str]("variable")
    seen = []
    wire = Wire(app, "POST")

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        async def watched() -> Any:
            seen.append((variable.get("lost"), has_request_context()))
            return await receive()

        variable.set("mine")
        await app(scope, watched, send)

    wire.app = middleware
    async with Scope("server") as server:
        task = server.start(wire.run())
        wire.feed(b"piece")
        await until_read(wire)
        app.extensions["go_on"].set()
        await task
    assert wire.body == b"piece" and set(seen) == {("mine", False)}
