"""A client that goes while its view waits: the view is cancelled, once, and everything is cleaned up behind it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from werkzeug.exceptions import ClientDisconnected

from samovar import Response, Samovar, g, request
from samovar.core.asgi import watcher

from .wire import Wire


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Samovar:
    monkeypatch.setattr(watcher, "PATIENCE", 0)
    return Samovar(__name__, static_folder=None)


class Desk:
    """A view that waits until it is told to go on, and writes down what happens to it."""

    def __init__(self, app: Samovar) -> None:
        self.log: list[str] = []
        self.reached = asyncio.Event()
        self.go_on: asyncio.Event | asyncio.Future[None] = asyncio.Event()

        @app.teardown_request
        async def teardown(error: BaseException | None) -> None:
            await asyncio.sleep(0)  # clean-up may await
            self.log.append(f"teardown {type(error).__name__} {g.name}")

        @app.after_request
        async def after(response: Response) -> Response:
            self.log.append("after")
            return response

    async def wait(self) -> None:
        g.name = request.path
        self.reached.set()
        try:
            if isinstance(self.go_on, asyncio.Event):
                await self.go_on.wait()
            else:
                await self.go_on
        except BaseException as error:
            self.log.append(type(error).__name__)
            await asyncio.sleep(0)
            raise

    async def until_reached(self) -> None:
        async with asyncio.timeout(60):
            await self.reached.wait()


def start(wire: Wire) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(wire.run())


GONE = ["CancelledError", "teardown CancelledError /"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_waiting_view_is_cancelled(app: Samovar, method: str) -> None:
    desk, wire = Desk(app), Wire(app, method)

    @app.route("/", methods=[method])
    async def index() -> str:
        await request.get_data()
        await desk.wait()
        return "never"

    wire.feed(b"" if method == "GET" else b"body")
    task = start(wire)
    await desk.until_reached()
    before = len(asyncio.all_tasks())
    wire.disconnect()
    await task
    assert desk.log == GONE and wire.sent == []
    assert task.cancelling() == 0 and len(asyncio.all_tasks()) < before


async def test_a_view_that_reads_no_body_is_cancelled(app: Samovar) -> None:
    desk, wire = Desk(app), Wire(app, "POST")

    @app.post("/")
    async def index() -> str:
        await desk.wait()
        return "never"

    wire.feed(b"unread")
    task = start(wire)
    await desk.until_reached()
    wire.disconnect()
    await task
    assert desk.log == GONE


async def test_a_view_that_never_waits_has_no_watcher(app: Samovar) -> None:
    tasks: list[int] = []

    @app.post("/")
    async def index() -> bytes:
        tasks.append(len(asyncio.all_tasks()))
        return await request.get_data()

    wire = Wire(app, "POST")
    wire.feed(b"x")
    before = len(asyncio.all_tasks())
    await app(wire.scope, wire.inbox.get, wire.send)
    assert tasks == [before] and wire.body == b"x" and wire.inbox.empty()


async def test_a_view_that_waits_shortly_has_none_either(
    app: Samovar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "PATIENCE", 60)
    tasks: list[int] = []

    @app.get("/")
    async def index() -> str:
        for _ in range(5):
            await asyncio.sleep(0)
        tasks.append(len(asyncio.all_tasks()))
        return "x"

    wire = Wire(app)
    wire.feed()
    before = len(asyncio.all_tasks())
    await app(wire.scope, wire.inbox.get, wire.send)
    assert tasks == [before] and wire.body == b"x" and wire.inbox.qsize() == 1


async def test_waiting_for_the_body_starts_no_watcher(app: Samovar) -> None:
    tasks: list[int] = []

    @app.post("/")
    async def index() -> bytes:
        body: bytes = await request.get_data()
        tasks.append(len(asyncio.all_tasks()))
        return body

    wire = Wire(app, "POST")
    before = len(asyncio.all_tasks()) + 1
    task = start(wire)
    await asyncio.sleep(0)
    wire.feed(b"a", True)
    await asyncio.sleep(0)
    wire.feed(b"b")
    await task
    assert tasks == [before] and wire.body == b"ab"


@pytest.mark.parametrize("pieces", [[b"whole"], [b"one", b"two", b"three"]], ids=["whole", "pieces"])
async def test_a_body_read_after_a_wait_is_whole(app: Samovar, pieces: list[bytes]) -> None:
    desk, wire = Desk(app), Wire(app, "POST")

    @app.post("/")
    async def index() -> bytes:
        await desk.wait()
        return await request.get_data()

    task = start(wire)
    await desk.until_reached()
    for piece in pieces:
        wire.feed(piece, piece is not pieces[-1])
        await asyncio.sleep(0)
    assert isinstance(desk.go_on, asyncio.Event)
    desk.go_on.set()
    await task
    assert wire.body == b"".join(pieces) and wire.complete


async def test_a_body_that_comes_while_the_watcher_waits_goes_to_its_reader(app: Samovar) -> None:
    desk, wire = Desk(app), Wire(app, "POST")

    @app.post("/")
    async def index() -> bytes:
        await desk.wait()
        desk.reached.clear()
        asyncio.get_running_loop().call_soon(desk.reached.set)
        return await request.get_data()

    task = start(wire)
    await desk.until_reached()
    await asyncio.sleep(0)  # the watcher waits for the first piece
    assert isinstance(desk.go_on, asyncio.Event)
    desk.go_on.set()
    await asyncio.sleep(0)
    await desk.until_reached()  # and so does the view now
    wire.feed(b"one", True)
    await asyncio.sleep(0)
    wire.feed(b"two")
    await task
    assert wire.body == b"onetwo"


async def test_a_client_that_goes_while_both_wait_for_the_body(app: Samovar) -> None:
    desk, wire = Desk(app), Wire(app, "POST")

    @app.post("/")
    async def index() -> bytes:
        await desk.wait()
        desk.reached.clear()
        asyncio.get_running_loop().call_soon(desk.reached.set)
        try:
            return await request.get_data()
        except Exception as error:
            desk.log.append(type(error).__name__)
            raise

    task = start(wire)
    await desk.until_reached()
    await asyncio.sleep(0)
    assert isinstance(desk.go_on, asyncio.Event)
    desk.go_on.set()
    await asyncio.sleep(0)
    await desk.until_reached()
    wire.disconnect()
    await task
    assert desk.log == ["ClientDisconnected", "after", "teardown NoneType /"] and wire.sent == []


async def test_a_body_whose_reader_gave_up_is_watched_for_nobody(app: Samovar) -> None:
    desk, wire = Desk(app), Wire(app, "POST")

    @app.post("/")
    async def index() -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await request.get_data()
        await desk.wait()
        return "done"

    task = start(wire)
    await desk.until_reached()
    wire.feed(b"late", True)
    assert isinstance(desk.go_on, asyncio.Event)
    desk.go_on.set()
    await task
    assert wire.body == b"done" and wire.inbox.qsize() == 1


async def test_a_body_is_not_asked_for_on_behalf_of_nobody(app: Samovar) -> None:
    desk, wire = Desk(app), Wire(app, "POST", headers=[(b"host", b"a"), (b"expect", b"100-continue")])

    @app.post("/")
    async def index() -> tuple[str, int]:
        await desk.wait()
        return "too large", 413

    task = start(wire)
    await desk.until_reached()
    wire.feed(b"a large body")
    for _ in range(3):
        await asyncio.sleep(0)
    assert wire.inbox.qsize() == 1  # to receive is to send "100 Continue"
    assert isinstance(desk.go_on, asyncio.Event)
    desk.go_on.set()
    await task
    assert wire.status == 413


@pytest.mark.parametrize("first", ["view", "client"])
async def test_a_view_that_ends_in_the_turn_in_which_its_client_goes(app: Samovar, first: str) -> None:
    desk, wire = Desk(app), Wire(app)
    desk.go_on = asyncio.get_running_loop().create_future()

    @app.get("/")
    async def index() -> str:
        await desk.wait()
        return "done"

    wire.feed()
    task = start(wire)
    await desk.until_reached()
    for _ in range(3):
        await asyncio.sleep(0)
    if first == "view":
        desk.go_on.set_result(None)
        wire.disconnect()
    else:
        wire.disconnect()
        await asyncio.sleep(0)
        desk.go_on.set_result(None) if not desk.go_on.done() else None
    await task
    assert desk.log[-1].startswith("teardown") and desk.log.count("after") <= 1
    assert task.cancelling() == 0
    assert wire.complete or wire.sent == []


async def test_a_view_may_refuse_to_be_cancelled(app: Samovar) -> None:
    desk, wire = Desk(app), Wire(app)
    closed: list[str] = []

    @app.get("/")
    async def index() -> Response:
        try:
            await desk.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)  # nobody cancels it again

        async def pieces() -> Any:
            closed.append("began")
            yield "x"

        return Response(pieces())

    wire.feed()
    task = start(wire)
    await desk.until_reached()
    wire.disconnect()
    await task
    assert desk.log == ["CancelledError", "after", "teardown NoneType /"]
    assert wire.sent == [] and closed == [] and task.cancelling() == 0


async def test_a_view_that_reads_on_is_told_again(app: Samovar) -> None:
    desk, wire = Desk(app), Wire(app, "POST")

    @app.post("/")
    async def index() -> bytes:
        with pytest.raises(asyncio.CancelledError):
            await desk.wait()
        with pytest.raises(ClientDisconnected):
            await request.get_data()
        return b"done"

    task = start(wire)
    await desk.until_reached()
    wire.disconnect()
    await task
    assert desk.log == ["CancelledError", "after", "teardown NoneType /"] and wire.sent == []


async def test_a_view_that_fails_when_cancelled_is_logged(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    desk, wire = Desk(app), Wire(app)

    @app.get("/")
    async def index() -> str:
        try:
            await desk.wait()
        finally:
            raise ValueError("clean-up failed")

    wire.feed()
    task = start(wire)
    await desk.until_reached()
    wire.disconnect()
    await task
    assert "clean-up failed" in caplog.text and wire.sent == [] and task.cancelling() == 0


async def test_the_servers_cancellation_is_passed_on(app: Samovar) -> None:
    desk, wire = Desk(app), Wire(app)

    @app.get("/")
    async def index() -> str:
        await desk.wait()
        return "never"

    wire.feed()
    task = start(wire)
    await desk.until_reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.log == GONE


async def test_both_at_once_are_the_servers(app: Samovar) -> None:
    desk, wire = Desk(app), Wire(app)

    @app.get("/")
    async def index() -> str:
        try:
            await desk.wait()
        except asyncio.CancelledError:
            desk.log.append("cleaning up")
            await asyncio.sleep(5)
        return "never"

    wire.feed()
    task = asyncio.get_running_loop().create_task(app(wire.scope, wire.inbox.get, wire.send))
    await desk.until_reached()
    wire.disconnect()
    async with asyncio.timeout(60):
        while "cleaning up" not in desk.log:
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.log[-1] == "teardown CancelledError /"


async def test_a_time_limit_of_the_view_keeps_its_meaning(app: Samovar) -> None:
    desk, wire = Desk(app), Wire(app)

    @app.get("/")
    async def index() -> str:
        try:
            async with asyncio.timeout(0.01):
                await desk.wait()
        except TimeoutError:
            return "mine"
        return "never"

    wire.feed()
    await wire.run()
    assert wire.body == b"mine"


async def test_a_stream_after_a_view_that_waited_is_ended_too(app: Samovar) -> None:
    desk, wire = Desk(app), Wire(app)
    ended: list[str] = []

    @app.get("/")
    async def index() -> Response:
        await desk.wait()

        async def pieces() -> Any:
            try:
                yield "a"
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        return Response(pieces())

    wire.feed()
    task = start(wire)
    await desk.until_reached()
    assert isinstance(desk.go_on, asyncio.Event)
    desk.go_on.set()
    await wire.until_body(b"a")
    wire.disconnect()
    await task
    assert ended == ["cancelled"] and not wire.complete
    assert desk.log == ["after", "teardown NoneType /"]


async def test_a_stream_after_a_view_that_waited_reads_its_body(app: Samovar) -> None:
    desk, wire = Desk(app), Wire(app, "POST")

    @app.post("/")
    async def index() -> Response:
        await desk.wait()

        async def pieces() -> Any:
            async for piece in request.body:
                yield piece.upper()

        return Response(pieces())

    task = start(wire)
    await desk.until_reached()
    wire.feed(b"a", True)
    await asyncio.sleep(0)
    assert isinstance(desk.go_on, asyncio.Event)
    desk.go_on.set()
    await wire.until_body(b"A")
    wire.feed(b"b", True)
    await wire.until_body(b"AB")
    wire.feed(b"c")
    await task
    assert wire.body == b"ABC" and wire.complete


async def test_a_server_that_repeats_itself_is_not_asked_for_ever(app: Samovar) -> None:
    calls: list[int] = []

    @app.get("/")
    async def index() -> str:
        await asyncio.sleep(0.01)
        return "done"

    async def receive() -> Any:
        calls.append(1)
        return {"type": "http.request", "body": b"", "more_body": False}

    wire = Wire(app)
    async with asyncio.timeout(60):
        await app(wire.scope, receive, wire.send)
    assert wire.body == b"done" and len(calls) <= 3


async def test_a_broken_receive_leaves_the_reader_its_own_error(app: Samovar) -> None:
    @app.post("/")
    async def index() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(OSError, match="broken"):
            await request.get_data()
        return "done"

    async def receive() -> Any:
        raise OSError("broken")

    wire = Wire(app, "POST")
    async with asyncio.timeout(60):
        await app(wire.scope, receive, wire.send)
    assert wire.body == b"done"


async def test_the_test_client_can_go(app: Samovar) -> None:
    desk = Desk(app)

    @app.get("/")
    async def index() -> str:
        await desk.wait()
        return "never"

    async with app.test_client().request("/") as connection:
        await connection.send_complete()
        await desk.until_reached()
        await connection.disconnect()
    assert desk.log == GONE


async def test_thousand_views_leave_nothing_behind(app: Samovar) -> None:
    desk = Desk(app)

    @app.get("/")
    async def index() -> str:
        await desk.wait()
        return "never"

    wires = [Wire(app) for _ in range(1000)]
    before = len(asyncio.all_tasks())
    tasks = [start(wire) for wire in wires]
    for wire in wires:
        wire.feed()
        await asyncio.sleep(0)
        wire.disconnect()
    await asyncio.gather(*tasks)
    assert len(asyncio.all_tasks()) == before
    assert desk.log.count("teardown CancelledError /") == 1000
