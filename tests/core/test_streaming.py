"""Streamed responses: at once, under their context, ended by the client's leaving, never silently cut."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from samovar import Response, Samovar, g, request, session, stream_with_context

from .wire import Wire


@pytest.fixture
def app() -> Samovar:
    app = Samovar(__name__, static_folder=None)
    app.secret_key = "k"
    return app


class Tap:
    """A stream that a test opens piece by piece; it writes down how it ended."""

    def __init__(self, app: Samovar, timeout: Any = ...) -> None:
        self.items: asyncio.Queue[Any] = asyncio.Queue()
        self.log: list[str] = []
        app.add_url_rule("/", "tap", self.view, methods=["GET", "POST"])
        self.timeout = timeout

        @app.teardown_request
        async def teardown(error: BaseException | None) -> None:
            self.log.append(f"teardown {type(error).__name__}")

    async def view(self) -> Response:
        g.name = "context"
        response = Response(self.pieces())
        response.timeout = self.timeout
        return response

    async def pieces(self) -> AsyncIterator[str]:
        try:
            while (item := await self.items.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield f"{item} {g.name} {request.path};"
        except BaseException as error:
            self.log.append(type(error).__name__)
            raise
        finally:
            await asyncio.sleep(0)  # clean-up may await
            self.log.append(f"closed {g.name}")


async def running(wire: Wire) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(wire.run())


async def test_pieces_go_out_as_they_come_under_the_context(app: Samovar) -> None:
    tap, wire = Tap(app), Wire(app)
    wire.feed()
    task = await running(wire)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert wire.status == 200 and len(wire.sent) == 2  # the head is out before there is a piece
    tap.items.put_nowait("a")
    await wire.until_body(b"a context /;")
    assert tap.log == []
    tap.items.put_nowait(None)
    await task
    assert wire.complete and tap.log == ["closed context", "teardown NoneType"]
    assert b"content-length" not in wire.headers


async def test_a_client_that_leaves_ends_a_waiting_stream(app: Samovar) -> None:
    tap, wire = Tap(app), Wire(app)
    wire.feed()
    task = await running(wire)
    tap.items.put_nowait("a")
    await wire.until_body(b"a context /;")
    wire.disconnect()
    await task
    assert tap.log == ["CancelledError", "closed context", "teardown NoneType"]
    assert not wire.complete


async def test_a_client_that_leaves_ends_a_stream_that_cannot_write(app: Samovar) -> None:
    tap, wire = Tap(app), Wire(app)
    wire.feed()
    task = await running(wire)
    tap.items.put_nowait("a")
    await wire.until_body(b"a context /;")
    wire.open.clear()
    tap.items.put_nowait("b")
    async with asyncio.timeout(60):
        while not tap.items.empty():  # then it is being written
            await asyncio.sleep(0)
    wire.disconnect()
    await task
    assert tap.log == ["GeneratorExit", "closed context", "teardown NoneType"]


async def test_a_client_that_left_before_the_answer(app: Samovar) -> None:
    tap, wire = Tap(app), Wire(app)
    wire.disconnect()
    await wire.run()
    assert tap.log[-1] == "teardown NoneType" and not wire.complete


async def test_the_servers_cancellation_is_passed_on(app: Samovar) -> None:
    tap, wire = Tap(app), Wire(app)
    wire.feed()
    task = await running(wire)
    tap.items.put_nowait("a")
    await wire.until_body(b"a context /;")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tap.log == ["CancelledError", "closed context", "teardown CancelledError"]


async def test_an_error_after_the_head_is_logged_and_the_answer_left_unfinished(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    tap, wire = Tap(app), Wire(app)
    wire.feed()
    tap.items.put_nowait("a")
    tap.items.put_nowait(ValueError("broken"))
    await wire.run()
    assert wire.body == b"a context /;" and not wire.complete
    assert "broken" in caplog.text and tap.log[-1] == "teardown ValueError"


async def test_a_streams_own_timeout_is_an_error_like_another(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    tap, wire = Tap(app), Wire(app)
    tap.items.put_nowait(TimeoutError("mine"))
    await wire.run()
    assert not wire.complete and "exception in GET" in caplog.text


async def test_errors_in_streams_reach_the_test(app: Samovar) -> None:
    app.testing = True
    tap, wire = Tap(app), Wire(app)
    tap.items.put_nowait(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        await wire.run()


async def test_one_write_has_a_time_limit_and_waiting_for_data_has_none(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    app.config["RESPONSE_TIMEOUT"] = 0.02
    tap, wire = Tap(app), Wire(app)
    task = await running(wire)
    tap.items.put_nowait("a")
    await wire.until_body(b"a context /;")
    await asyncio.sleep(0.05)  # longer than the limit: the stream itself may be idle
    assert not task.done()
    wire.open.clear()
    tap.items.put_nowait("b")
    await task
    assert "took no data for 0.02 s" in caplog.text
    assert tap.log == ["GeneratorExit", "closed context", "teardown NoneType"]


async def test_the_limit_may_be_lifted_for_one_response(app: Samovar) -> None:
    app.config["RESPONSE_TIMEOUT"] = 0.01
    tap, wire = Tap(app, timeout=None), Wire(app)
    task = await running(wire)
    tap.items.put_nowait("a")
    await wire.until_body(b"a context /;")
    wire.open.clear()
    tap.items.put_nowait("b")
    await asyncio.sleep(0.03)
    assert not task.done()
    wire.open.set()
    tap.items.put_nowait(None)
    await task
    assert wire.complete


async def test_a_buffered_answer_nobody_takes_is_dropped(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    app.config["RESPONSE_TIMEOUT"] = 0.01
    app.add_url_rule("/", "index", lambda: "x")
    wire = Wire(app)
    wire.open.clear()
    await wire.run()
    assert wire.sent == [] and "took no data" in caplog.text


async def test_a_broken_connection_is_no_error(app: Samovar) -> None:
    async def index() -> str:
        return "x"

    app.add_url_rule("/", "index", index)
    tap = Tap(Samovar(__name__, static_folder=None))

    async def broken(message: Any) -> None:
        raise BrokenPipeError

    wire = Wire(app)
    await app(wire.scope, wire.inbox.get, broken)
    tap.items.put_nowait("a")


async def test_head_does_not_run_the_stream(app: Samovar) -> None:
    tap, wire = Tap(app), Wire(app, "HEAD")
    await wire.run()
    assert wire.complete and wire.body == b"" and tap.log == ["teardown NoneType"]


async def test_a_stream_may_read_the_requests_body(app: Samovar) -> None:
    @app.post("/echo")
    async def echo() -> Any:
        async def pieces() -> AsyncIterator[bytes]:
            async for piece in request.body:
                yield piece.upper()

        return pieces()

    wire = Wire(app, "POST", "/echo")
    task = await running(wire)
    wire.feed(b"a", True)
    await wire.until_body(b"A")
    wire.feed(b"b", False)
    await task
    assert wire.body == b"AB" and wire.complete


async def test_a_small_unread_body_may_be_read_late_a_long_one_not(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    @app.post("/late")
    async def late() -> Any:
        async def pieces() -> AsyncIterator[bytes]:
            await asyncio.sleep(0.01)
            yield await request.get_data()

        return pieces()

    wire = Wire(app, "POST", "/late")
    wire.feed(b"small")
    await wire.run()
    assert wire.body == b"small" and wire.complete
    wire = Wire(app, "POST", "/late")
    wire.feed(b"long ", True)
    await wire.run()
    assert not wire.complete and "was let go" in caplog.text


async def test_a_client_that_leaves_while_the_stream_reads_the_body(app: Samovar) -> None:
    ended: list[str] = []

    @app.post("/echo")
    async def echo() -> Any:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in request.body:
                    yield piece
            finally:
                ended.append("closed")

        return pieces()

    wire = Wire(app, "POST", "/echo")
    wire.feed(b"a", True)
    wire.disconnect()
    await wire.run()
    assert ended == ["closed"] and not wire.complete


async def test_a_blocking_generator_is_closed_when_its_step_ends(app: Samovar) -> None:
    log: list[str] = []
    stuck, gate = threading.Event(), threading.Event()

    @app.get("/")
    async def index() -> Any:
        def pieces() -> Iterator[str]:
            try:
                yield request.path
                stuck.set()
                gate.wait(60)
                yield "never sent"
            finally:
                log.append("closed")

        return pieces()

    wire = Wire(app)
    wire.feed()
    task = await running(wire)
    await wire.until_body(b"/")
    await asyncio.to_thread(stuck.wait, 5)
    wire.disconnect()
    for _ in range(5):  # the watcher takes it and interrupts the handler, which waits for the step
        await asyncio.sleep(0)
    gate.set()
    await task
    assert log == ["closed"] and wire.body == b"/"


async def test_the_session_is_readable_in_a_stream_and_saved_before_it(app: Samovar) -> None:
    @app.get("/")
    async def index() -> Any:
        session["a"] = "1"

        async def pieces() -> AsyncIterator[str]:
            yield session["a"]

        return pieces()

    response = await app.test_client().get("/")
    assert await response.get_data() == b"1" and "session=" in response.headers["set-cookie"]


async def test_stream_with_context_is_accepted(app: Samovar) -> None:
    @app.get("/")
    async def index() -> Any:
        g.x = "x"

        @stream_with_context
        async def pieces() -> AsyncIterator[str]:
            yield g.x

        return pieces()

    assert await (await app.test_client().get("/")).get_data() == b"x"


async def test_thousand_streams_leave_nothing_behind(app: Samovar) -> None:
    tap = Tap(app)
    wires = [Wire(app) for _ in range(1000)]
    for wire in wires:
        wire.feed()
    before = len(asyncio.all_tasks())
    tasks = [await running(wire) for wire in wires]
    for wire in wires:
        wire.disconnect()
    await asyncio.gather(*tasks)
    assert len(asyncio.all_tasks()) == before
    assert tap.log.count("teardown NoneType") == 1000
