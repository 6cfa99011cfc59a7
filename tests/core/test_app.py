"""A request's way: routing, hooks, views, answers, errors, in that order, whatever is missing or raises."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from werkzeug.exceptions import Conflict, HTTPException, NotFound
from werkzeug.wrappers import Response as WerkzeugResponse

from samovar import (
    Blueprint,
    Request,
    Response,
    Samovar,
    abort,
    after_this_request,
    g,
    hub,
    make_response,
    redirect,
    request,
    websocket,
)
from samovar.core.asgi import ASGIHTTPConnection
from samovar.core.ctx import _AppCtxGlobals
from samovar.core.debug import traceback_response
from samovar.core.sessions import SecureCookieSessionInterface, SessionInterface
from samovar.core.testing import WebsocketResponseError
from samovar.errors import (
    BackendUnavailable,
    InvalidChannel,
    InvalidCursor,
    InvalidRule,
    MessageTooLarge,
    PublishRejected,
    PublishUnknown,
)

from ..services import ROOT
from .wire import Wire


@pytest.fixture
def app() -> Samovar:
    return Samovar(__name__, static_folder=None)


async def text(app: Samovar, path: str = "/", **options: Any) -> str:
    return await (await app.test_client().get(path, **options)).get_data(as_text=True)


async def agen() -> AsyncIterator[str]:
    yield "a"
    yield "b"


def gen() -> Iterator[str]:
    yield "a"
    yield "b"


@pytest.mark.parametrize(
    ("value", "status", "body", "content_type"),
    [
        ("hi", 200, b"hi", "text/html; charset=utf-8"),
        (b"hi", 200, b"hi", "text/html; charset=utf-8"),
        (bytearray(b"hi"), 200, b"hi", "text/html; charset=utf-8"),
        ({"a": 1}, 200, b'{"a":1}\n', "application/json"),
        ([1, 2], 200, b"[1,2]\n", "application/json"),
        (("hi", 201), 201, b"hi", "text/html; charset=utf-8"),
        (("hi", "404 Gone Fishing"), 404, b"hi", "text/html; charset=utf-8"),
        (("hi", {"Content-Type": "text/plain"}), 200, b"hi", "text/plain"),
        (({"a": 1}, 202, [("X-A", "1")]), 202, b'{"a":1}\n', "application/json"),
        (Response("hi", 203), 203, b"hi", "text/html; charset=utf-8"),
        (WerkzeugResponse("hi", 204, {"X-A": "1"}), 204, b"", "text/plain; charset=utf-8"),
        (NotFound(), 404, None, "text/html; charset=utf-8"),
        (agen, 200, b"ab", "text/html; charset=utf-8"),
        (gen, 200, b"ab", "text/html; charset=utf-8"),
    ],
)
async def test_what_a_view_may_return(
    app: Samovar, value: Any, status: int, body: bytes | None, content_type: str
) -> None:
    @app.get("/")
    async def index() -> Any:
        return (
            value()
            if callable(value) and not isinstance(value, Response | HTTPException | WerkzeugResponse)
            else value
        )

    response = await app.test_client().get("/")
    assert response.status_code == status
    assert response.headers["content-type"] == content_type
    if body is not None:
        assert await response.get_data() == body


@pytest.mark.parametrize("value", [None, 5, object(), ("a", 1, {}, 2)])
async def test_what_a_view_may_not_return(app: Samovar, value: Any) -> None:
    app.testing = True
    app.add_url_rule("/", "index", lambda: value)
    with pytest.raises(TypeError, match="view"):
        await app.test_client().get("/")


async def test_a_forgotten_await_is_told(app: Samovar) -> None:
    app.testing = True

    async def work() -> str:
        return ""

    @app.get("/")
    async def index() -> Any:
        return work()

    with pytest.raises(TypeError, match="await is missing"):
        await app.test_client().get("/")


async def test_headers_given_replace_and_repeat(app: Samovar) -> None:
    @app.get("/")
    async def index() -> Any:
        response = await make_response("x", {"X-A": "1"})
        return response, {"X-A": "2", "X-B": ["3", "4"]}

    headers = (await app.test_client().get("/")).headers
    assert headers.getlist("x-a") == ["2"] and headers.getlist("x-b") == ["3", "4"]


async def test_a_newline_in_a_header_is_refused(app: Samovar) -> None:
    app.testing = True
    app.add_url_rule("/", "index", lambda: ("", {"Content-Type": "a\r\nSet-Cookie: x"}))
    with pytest.raises(ValueError, match="newline"):
        await app.test_client().get("/")


async def test_head_has_the_length_and_no_body(app: Samovar) -> None:
    app.add_url_rule("/", "index", lambda: "hello")
    wire = Wire(app, "HEAD")
    await wire.run()
    assert (wire.status, wire.headers[b"content-length"], wire.body) == (200, b"5", b"")


async def test_a_buffered_answer_is_two_sends(app: Samovar) -> None:
    app.add_url_rule("/", "index", lambda: "hello")
    wire = await Wire(app).run()
    assert len(wire.sent) == 2 and wire.complete
    assert wire.headers == {b"content-type": b"text/html; charset=utf-8", b"content-length": b"5"}


async def test_204_and_304_have_neither_body_nor_length(app: Samovar) -> None:
    app.add_url_rule("/<int:code>", "index", lambda code: ("x", code))
    for code in (204, 304):
        wire = await Wire(app, path=f"/{code}").run()
        assert wire.status == code and wire.body == b"" and b"content-length" not in wire.headers


async def test_405_names_the_methods_and_options_answers_by_itself(app: Samovar) -> None:
    app.add_url_rule("/", "index", lambda: "", methods=["GET", "POST"])
    client = app.test_client()
    wrong = await client.delete("/")
    assert wrong.status_code == 405 and set(wrong.allow) == {"GET", "HEAD", "OPTIONS", "POST"}
    options = await client.options("/")
    assert options.status_code == 200 and set(options.allow) == {"GET", "HEAD", "OPTIONS", "POST"}


async def test_options_may_be_the_views_own(app: Samovar) -> None:
    app.add_url_rule("/", "index", lambda: "mine", methods=["GET", "OPTIONS"])
    assert await (await app.test_client().options("/")).get_data() == b"mine"
    other = Samovar(__name__, static_folder=None)
    other.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    other.add_url_rule("/", "index", lambda: "")
    assert (await other.test_client().options("/")).status_code == 405


async def test_a_missing_slash_is_redirected_with_its_query(app: Samovar) -> None:
    app.add_url_rule("/a/", "a", lambda: "")
    response = await app.test_client().get("/a?x=1")
    assert (response.status_code, response.location) == (308, "http://localhost/a/?x=1")


async def test_hooks_run_in_order_sync_and_async(app: Samovar) -> None:
    calls: list[str] = []

    @app.before_request
    async def first() -> None:
        calls.append("before 1")

    @app.before_request
    def second() -> None:
        calls.append("before 2")

    @app.after_request
    def last(response: Response) -> Response:
        calls.append("after 1")
        return response

    @app.after_request
    async def but_one(response: Response) -> Response:
        calls.append("after 2")
        return response

    @app.teardown_request
    async def teardown(error: BaseException | None) -> None:
        calls.append("teardown request")

    @app.teardown_appcontext
    def teardown_app(error: BaseException | None) -> None:
        calls.append("teardown app")

    @app.get("/")
    async def index() -> str:
        @after_this_request
        async def this(response: Response) -> Response:
            calls.append("after this")
            response.headers["X-This"] = "1"
            return response

        calls.append("view")
        return ""

    response = await app.test_client().get("/")
    assert response.headers["x-this"] == "1"
    assert calls == [
        "before 1", "before 2", "view", "after this", "after 2", "after 1", "teardown request", "teardown app",
    ]  # fmt: skip


async def test_a_before_hook_may_answer(app: Samovar) -> None:
    app.before_request(lambda: ("no", 403))
    app.add_url_rule("/", "index", lambda: "view")
    assert (await app.test_client().get("/")).status_code == 403


async def test_hooks_run_for_404_too(app: Samovar) -> None:
    @app.before_request
    async def remember() -> None:
        g.seen = request.path

    @app.after_request
    async def tell(response: Response) -> Response:
        response.headers["X-Seen"] = g.seen
        return response

    response = await app.test_client().get("/nowhere")
    assert (response.status_code, response.headers["x-seen"]) == (404, "/nowhere")


async def test_every_teardown_runs_whichever_raise(app: Samovar, caplog: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []

    def broken(name: str) -> Any:
        async def teardown(error: BaseException | None) -> None:
            ran.append(name)
            raise ValueError(name)

        return teardown

    for name in ("a", "b"):
        app.teardown_request(broken(name))
        app.teardown_appcontext(broken(f"app {name}"))
    app.add_url_rule("/", "index", lambda: "fine")
    assert await text(app) == "fine"
    assert ran == ["b", "a", "app b", "app a"]
    told = [record for record in caplog.records if record.name != "asyncio"]  # which tells of slow turns
    assert len(told) == 4


async def test_teardown_gets_the_exception_nobody_handled(app: Samovar) -> None:
    seen: list[Any] = []

    @app.teardown_request
    async def teardown(error: BaseException | None) -> None:
        seen.append(type(error))

    @app.get("/<int:handled>")
    async def index(handled: int) -> str:
        raise KeyError if handled else ZeroDivisionError

    app.register_error_handler(KeyError, lambda error: "handled")
    await text(app, "/1")
    await text(app, "/0")
    assert seen == [type(None), ZeroDivisionError]


async def test_sync_views_and_hooks_run_in_a_thread_under_the_context(app: Samovar) -> None:
    loop_thread = threading.get_ident()
    seen: list[tuple[bool, str]] = []

    @app.before_request
    def hook() -> None:
        g.who = request.args["who"]

    @app.get("/")
    def index() -> str:
        seen.append((threading.get_ident() == loop_thread, request.path))
        return str(g.who)

    assert await text(app, "/?who=ann") == "ann"
    assert seen == [(False, "/")]


async def test_a_sync_wrapper_of_an_async_view_works(app: Samovar) -> None:
    async def view() -> str:
        return "inner"

    app.add_url_rule("/", "index", lambda: view())
    assert await text(app) == "inner"


async def test_a_sync_view_that_raises_stop_iteration_is_a_500(app: Samovar) -> None:
    app.add_url_rule("/", "index", lambda: next(iter(())))
    assert (await app.test_client().get("/")).status_code == 500


async def test_errorhandlers_by_code_class_and_blueprint(app: Samovar) -> None:
    class Mine(Exception):
        pass

    class Closer(Mine):
        pass

    blueprint = Blueprint("bp", __name__, url_prefix="/bp")
    blueprint.errorhandler(404)(lambda error: ("bp 404", 404))
    app.errorhandler(404)(lambda error: ("app 404", 404))
    app.errorhandler(HTTPException)(lambda error: (f"http {error.code}", error.code))
    app.errorhandler(Mine)(lambda error: "mine")
    app.errorhandler(Closer)(lambda error: "closer")

    @blueprint.get("/<what>")
    @app.get("/<what>")
    async def view(what: str) -> Any:
        raise {"mine": Mine(), "closer": Closer(), "404": NotFound(), "409": Conflict()}[what]

    app.register_blueprint(blueprint)
    assert [await text(app, f"/{what}") for what in ("mine", "closer", "404", "409")] == [
        "mine", "closer", "app 404", "http 409",
    ]  # fmt: skip
    assert await text(app, "/bp/404") == "bp 404"
    assert await text(app, "/a/b/c") == "app 404"


def test_errorhandlers_for_what_is_no_error(app: Samovar) -> None:
    with pytest.raises(ValueError, match="no HTTP error"):
        app.errorhandler(200)(lambda error: "")
    with pytest.raises(TypeError, match="neither"):
        app.register_error_handler("x", lambda error: "")  # type: ignore[arg-type]


async def test_an_unhandled_exception_is_logged_and_500(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/")
    async def index() -> str:
        raise ZeroDivisionError("secret")

    response = await app.test_client().get("/")
    assert response.status_code == 500 and "secret" not in await response.get_data(as_text=True)
    assert caplog.records[0].exc_info is not None and "GET '/'" in caplog.text


async def test_a_handler_of_500_sees_the_original(app: Samovar) -> None:
    app.errorhandler(500)(lambda error: (type(error.original_exception).__name__, 500))
    app.add_url_rule("/", "index", lambda: 1 / 0)
    assert await text(app) == "ZeroDivisionError"


async def test_debug_mode_shows_the_traceback_escaped(app: Samovar) -> None:
    app.debug = True

    @app.get("/")
    async def index() -> str:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("<script>") from error

    page = await text(app)
    assert "ValueError: &lt;script&gt;" in page and "KeyError" in page and "raise ValueError" in page
    assert "<script>" not in page


async def test_the_debug_page_shows_variables_whatever_their_repr(app: Samovar) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise LookupError

    app.debug = True

    @app.get("/")
    async def index() -> str:
        broken, tea, long = Broken(), "<assam>", "x" * 10_000
        raise ValueError(broken, tea, long[:1])

    page = await text(app)
    assert "<td>tea<td>&#39;&lt;assam&gt;&#39;" in page
    assert "whose repr raises LookupError" in page and "x" * 1000 not in page


async def test_the_debug_page_is_a_response_too(app: Samovar) -> None:
    async with app.app_context():
        response = await traceback_response(ValueError("no tea"))
    assert response.status_code == 500 and "no tea" in await response.get_data(as_text=True)


async def test_exceptions_reach_the_test(app: Samovar) -> None:
    app.testing = True
    app.add_url_rule("/", "index", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await app.test_client().get("/")


async def test_errors_in_error_handlers_and_after_hooks_still_answer(app: Samovar) -> None:
    def broken(argument: Any) -> Any:
        raise RuntimeError("broken")

    app.after_request(broken)
    app.errorhandler(KeyError)(broken)

    @app.get("/")
    async def index() -> str:
        raise KeyError

    assert (await app.test_client().get("/")).status_code == 500


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MessageTooLarge("big"), 413),
        (PublishRejected("busy"), 503),
        (PublishUnknown("lost", id="x"), 503),
        (InvalidChannel("a b"), 400),
        (InvalidCursor("x"), 400),
    ],
)
async def test_what_the_hub_refuses_is_no_500(
    app: Samovar, error: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/")
    async def index() -> str:
        raise error

    assert (await app.test_client().get("/")).status_code == status
    assert f"{type(error).__name__} in GET '/'" in caplog.text


AWAY = BackendUnavailable("redis://user@10.0.0.7:6379/0: connection refused")


@pytest.mark.parametrize("error", [AWAY, PublishRejected(f"not reached: {AWAY}"), PublishUnknown(str(AWAY))])
async def test_where_the_broker_is_stays_in_the_log(
    app: Samovar, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/")
    async def index() -> str:
        raise error

    seen: list[BaseException | None] = []

    response = await app.test_client().get("/")
    body = await response.get_data(as_text=True)
    assert response.status_code == 503 and "Try again later" in body
    assert "redis" not in body and "10.0.0.7" not in body and "10.0.0.7" in caplog.text

    again = Samovar(__name__, static_folder=None)
    again.add_url_rule("/", "index", index)

    @again.errorhandler(503)
    async def away(refusal: HTTPException) -> tuple[str, int]:
        seen.append(refusal.__cause__)
        return "away", 503

    response = await again.test_client().get("/")
    assert await response.get_data() == b"away" and seen == [error]


def broken_view(app: Samovar) -> None:
    @app.get("/")
    async def index() -> str:
        raise AWAY


def broken_before_hook(app: Samovar) -> None:
    @app.before_request
    async def before() -> None:
        raise AWAY


def broken_after_hook(app: Samovar) -> None:
    app.add_url_rule("/", "index", lambda: "x")
    left = [AWAY]

    @app.after_request
    async def after(response: Response) -> Response:
        if left:
            raise left.pop()
        return response


def broken_session(app: Samovar) -> None:
    class Store(SecureCookieSessionInterface):
        async def open_session(self, app: Any, connection: Any) -> Any:
            raise AWAY

    app.session_interface = Store()
    app.add_url_rule("/", "index", lambda: "x")


def busy_view(app: Samovar) -> None:
    app.add_url_rule("/", "index", lambda: abort(503))


def busy_handler(app: Samovar) -> None:
    broken_view(app)
    app.register_error_handler(BackendUnavailable, lambda error: ("busy", 503))


BUSY = [broken_view, broken_before_hook, broken_after_hook, broken_session, busy_view, busy_handler]


@pytest.mark.parametrize("break_it", BUSY)
async def test_an_event_source_is_told_to_come_back(
    app: Samovar, break_it: Callable[[Samovar], None]
) -> None:
    break_it(app)
    app.config["SSE_RETRY"] = 1000
    accept = {"Accept": "application/json;q=0.5, text/event-stream"}
    response = await app.test_client().get("/", headers=accept)
    body = await response.get_data(as_text=True)
    assert response.status_code == 200 and response.mimetype == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-cache, no-transform"
    (retry,) = [int(line[7:]) for line in body.splitlines() if line.startswith("retry: ")]
    assert 500 <= retry <= 1500 and body.endswith("\n\n")


@pytest.mark.parametrize("break_it", BUSY)
@pytest.mark.parametrize("accept", ["*/*", "text/*", "text/html", "text/event-stream;q=0"])
async def test_nobody_else_is(app: Samovar, break_it: Callable[[Samovar], None], accept: str) -> None:
    break_it(app)
    assert (await app.test_client().get("/", headers={"Accept": accept})).status_code == 503


async def test_an_error_that_will_not_pass_is_a_status_for_an_event_source_too(app: Samovar) -> None:
    @app.get("/")
    async def index() -> str:
        raise KeyError

    for path, status in (("/", 500), ("/nowhere", 404)):
        response = await app.test_client().get(path, headers={"Accept": "text/event-stream"})
        assert response.status_code == status


async def test_an_answer_in_place_of_a_503_passes_the_hooks(app: Samovar) -> None:
    broken_view(app)

    @app.after_request
    async def after(response: Response) -> Response:
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    response = await app.test_client().get("/", headers={"Accept": "text/event-stream"})
    assert response.status_code == 200 and response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("data", [object(), {1}, float("nan")])
async def test_what_cannot_be_published_is_the_views_mistake(
    app: Samovar, data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @app.post("/")
    async def publish() -> str:
        await hub.publish("a", data)
        return ""

    response = await app.test_client().post("/")
    assert response.status_code == 500 and "JSON" not in await response.get_data(as_text=True)
    assert "cannot be published" in caplog.text and "Traceback" in caplog.text


@pytest.mark.parametrize("register", ["after_request", "after_this_request"])
async def test_an_after_hook_that_loses_the_response_is_named(
    app: Samovar, register: str, caplog: pytest.LogCaptureFixture
) -> None:
    def forgetful(response: Response) -> None:
        pass

    @app.get("/")
    async def index() -> str:
        if register == "after_this_request":
            after_this_request(forgetful)
        return "x"

    if register == "after_request":
        app.after_request(forgetful)
    assert (await app.test_client().get("/")).status_code == 500
    assert f"{register} function 'forgetful' returned None: return the response" in caplog.text


async def test_an_after_websocket_hook_may_only_keep_none(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    def forgetful(response: Response | None) -> None:
        pass

    app.after_websocket(forgetful)

    @app.websocket("/<how>")
    async def socket(how: str) -> Any:
        if how == "refuse":
            return "no", 403
        await websocket.send("hello")
        return None

    async with app.test_client().websocket("/accept") as ws:
        assert await ws.receive() == "hello"
    assert not caplog.records
    with pytest.raises(WebsocketResponseError):
        async with app.test_client().websocket("/refuse") as ws:
            await ws.receive()
    assert "after_websocket function 'forgetful' returned None" in caplog.text
    assert "in websocket '/refuse'" in caplog.text


@pytest.mark.parametrize("status", ["nope", 999, 0, -1, "999 Strange", "", 2.5, True])
async def test_a_status_that_none_is_names_the_view(
    app: Samovar, status: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app.add_url_rule("/", "strange", lambda: ("x", status))
    assert (await app.test_client().get("/")).status_code == 500
    assert "the view of 'strange' returned" in caplog.text and "'404 Not Found'" in caplog.text


@pytest.mark.parametrize("status", [404, "404", "404 Not Found", HTTPStatus.NOT_FOUND])
async def test_a_status_is_a_number_or_text(app: Samovar, status: Any) -> None:
    app.add_url_rule("/", "index", lambda: ("x", status))
    assert (await app.test_client().get("/")).status_code == 404


async def test_the_wrong_kind_of_request_is_told_which_is_right(app: Samovar) -> None:
    app.add_url_rule("/page", "page", lambda: "x")

    @app.websocket("/ws")
    async def socket() -> None:
        pass

    response = await app.test_client().get("/ws")
    assert response.status_code == 400 and "websocket handshake" in await response.get_data(as_text=True)
    with pytest.raises(WebsocketResponseError) as refused:
        async with app.test_client().websocket("/page") as ws:
            await ws.receive()
    body = await refused.value.response.get_data(as_text=True)
    assert refused.value.response.status_code == 400 and "plain HTTP" in body


async def test_abort_with_code_description_and_response(app: Samovar) -> None:
    @app.get("/<what>")
    async def view(what: str) -> str:
        if what == "response":
            abort(Response("own", 418))
        abort(403, "not you")

    assert "not you" in await text(app, "/code")
    assert await text(app, "/response") == "own"


@pytest.mark.parametrize(
    ("location", "header"),
    [
        ("/a", "/a"),
        ("/ü?q=ä", "/%C3%BC?q=%C3%A4"),
        ("http://x/\r\nSet-Cookie: a", "http://x/Set-Cookie:%20a"),
    ],
)
async def test_redirects(app: Samovar, location: str, header: str) -> None:
    app.add_url_rule("/", "index", view_func=_redirect_to(location))
    response = await app.test_client().get("/")
    assert (response.status_code, response.headers["location"]) == (302, header)


def _redirect_to(location: str) -> Any:
    async def view() -> Any:
        return redirect(location)

    return view


async def test_registering_after_the_first_request_is_an_error(app: Samovar) -> None:
    app.add_url_rule("/", "index", lambda: "")
    async with app.test_request_context("/"):
        app.before_request(lambda: None)  # nothing was handled yet
    await text(app)
    with pytest.raises(AssertionError, match="before_request was called after the first request"):
        app.before_request(lambda: None)
    with pytest.raises(AssertionError, match="add_url_rule"):
        app.add_url_rule("/b", "b", lambda: "")


async def test_a_channel_that_comes_too_late_or_has_no_such_option_is_named(app: Samovar) -> None:
    with pytest.raises(InvalidRule, match=r"no option histroy=.*: it has history, ttl,"):
        app.add_channel("a", histroy=3)
    with pytest.raises(InvalidRule, match="no option histroy="):
        app.channel("a", histroy=3)(lambda: True)
    for place in (app, Blueprint("b", __name__)):
        with pytest.raises(InvalidRule, match=r"public and guarded at once.*add_channel\('a', public=True\)"):
            place.channel("a", public=True)
    await app.test_client().get("/")
    with pytest.raises(AssertionError, match="^add_channel was called"):
        app.add_channel("a")
    with pytest.raises(AssertionError, match="^channel was called"):
        app.channel("a")


def test_one_endpoint_has_one_view(app: Samovar) -> None:
    app.add_url_rule("/", "x", lambda: "")
    with pytest.raises(AssertionError, match="another view"):
        app.add_url_rule("/b", "x", lambda: "")


async def test_a_rule_without_a_view_is_a_500_that_names_it(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    app.add_url_rule("/", "ghost")
    assert (await app.test_client().get("/")).status_code == 500
    assert "'ghost' has a rule and no view" in caplog.text


async def test_endpoint_decorator_gives_the_view_later(app: Samovar) -> None:
    app.add_url_rule("/", "late")
    app.endpoint("late")(lambda: "here")
    assert await text(app) == "here"


async def test_steps_may_be_overridden() -> None:
    class Mine(Samovar):
        async def dispatch_request(self, context: Any = None) -> Any:
            return f"<{await super().dispatch_request(context)}>"

    app = Mine(__name__, static_folder=None)
    app.add_url_rule("/", "index", lambda: "x")
    assert await text(app) == "<x>"


async def test_every_step_may_be_overridden_with_the_arguments_that_quart_gives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    steps: list[str] = []

    class Mine(Samovar):
        async def handle_request(self, request: Any) -> Any:
            steps.append("handle")
            return await super().handle_request(request)

        async def full_dispatch_request(self, request_context: Any = None) -> Any:
            steps.append("full")
            return await super().full_dispatch_request(request_context)

        async def preprocess_request(self, request_context: Any = None) -> Any:
            steps.append("pre")
            return await super().preprocess_request(request_context)

        async def finalize_request(
            self, result: Any, request_context: Any = None, from_error_handler: bool = False
        ) -> Any:
            steps.append("finalize")
            return await super().finalize_request(result, request_context, from_error_handler)

        async def process_response(self, response: Any, request_context: Any = None) -> Any:
            steps.append("process")
            return await super().process_response(response, request_context)

        async def do_teardown_request(self, exc: Any, request_context: Any = None) -> None:
            steps.append(f"teardown {type(exc).__name__}")
            await super().do_teardown_request(exc, request_context)

        async def do_teardown_appcontext(self, exc: Any) -> None:
            steps.append("app teardown")
            await super().do_teardown_appcontext(exc)

        def log_exception(self, exception_info: Any) -> None:
            steps.append(f"log {exception_info[0].__name__}")

    app = Mine(__name__, static_folder=None)
    app.add_url_rule("/", "index", lambda: "x")
    app.add_url_rule("/broken", "broken", lambda: 1 / 0)
    assert await text(app) == "x"
    assert steps == [
        "handle", "full", "pre", "finalize", "process", "teardown NoneType", "app teardown",
    ]  # fmt: skip
    steps.clear()
    assert "Internal Server Error" in await text(app, "/broken")
    assert steps[-5:] == [
        "log ZeroDivisionError",
        "finalize",
        "process",
        "teardown ZeroDivisionError",
        "app teardown",
    ]


async def test_websocket_steps_may_be_overridden_too() -> None:
    steps: list[str] = []

    class Mine(Samovar):
        async def dispatch_websocket(self, websocket_context: Any = None) -> Any:
            steps.append("dispatch")
            return await super().dispatch_websocket(websocket_context)

        async def do_teardown_websocket(self, exc: Any, websocket_context: Any = None) -> None:
            steps.append("teardown")
            await super().do_teardown_websocket(exc, websocket_context)

    app = Mine(__name__, static_folder=None)

    @app.websocket("/")
    async def ws() -> None:
        await websocket.send("x")

    async with app.test_client().websocket("/") as connection:
        assert await connection.receive() == "x"
    assert steps == ["dispatch", "teardown"]


async def test_an_error_may_be_kept_from_teardown() -> None:
    class Mine(Samovar):
        def should_ignore_error(self, error: BaseException | None) -> bool:
            return isinstance(error, ZeroDivisionError)

    app = Mine(__name__, static_folder=None)
    told: list[Any] = []
    app.teardown_request(told.append)
    app.add_url_rule("/", "index", lambda: 1 / 0)
    await app.test_client().get("/")
    assert told == [None]


async def test_steps_may_be_called_by_hand(app: Samovar) -> None:
    app.teardown_request(lambda error: seen.append("teardown"))
    app.before_request(lambda: seen.append("before"))
    app.add_url_rule("/", "index", lambda: "x")
    seen: list[str] = []
    async with app.test_request_context("/") as context:
        assert context.request is not None
        assert await app.dispatch_request() == "x" and seen == []
        assert await (await app.full_dispatch_request()).get_data() == b"x"
        assert seen == ["before"]
    response = await app.handle_request(context.request)
    assert await response.get_data() == b"x"
    assert seen == ["before", "teardown", "before", "teardown"]
    async with app.test_request_context("/other"):
        await app.handle_request(context.request)
        assert seen == ["before", "teardown"] * 3 and request.path == "/other"
    with pytest.raises(ExceptionGroup, match="teardown functions failed") as failed:
        async with app.test_request_context("/"):
            app._router = None
            app.teardown_request_funcs[None] = [lambda error: 1 / 0, lambda error: int("x")]
            async with app.test_request_context("/"):
                await app.do_teardown_request(None)
    assert [type(error) for error in failed.value.exceptions] == [ValueError, ZeroDivisionError]


async def test_a_missing_key_is_an_error_in_debug_mode(app: Samovar) -> None:
    app.add_url_rule("/", "index", lambda: request.args["tea"])
    assert (await app.test_client().get("/")).status_code == 400
    app.debug = True
    answer = await app.test_client().get("/")
    assert answer.status_code == 500 and "BadRequestKeyError" in await answer.get_data(as_text=True)
    app.config["TRAP_BAD_REQUEST_ERRORS"] = False
    assert (await app.test_client().get("/")).status_code == 400


async def test_options_of_one_view_where_the_app_answers_none(app: Samovar) -> None:
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.add_url_rule("/", "off", lambda: "x")
    app.add_url_rule("/on", "on", lambda: "x", provide_automatic_options=True)
    client = app.test_client()
    assert [(await client.options(path)).status_code for path in ("/", "/on")] == [405, 200]


async def test_classes_may_be_replaced() -> None:
    class MyRequest(Request):
        tea = "assam"

    class MyResponse(Response):
        default_mimetype = "text/tea"

    class MyGlobals(_AppCtxGlobals):
        cups = 3

    class MyHandler(ASGIHTTPConnection):
        async def __call__(self, receive: Any, send: Any) -> None:
            self.scope["path"] = "/"
            await super().__call__(receive, send)

    class Mine(Samovar):
        request_class = MyRequest
        response_class = MyResponse
        app_ctx_globals_class = MyGlobals
        asgi_http_class = MyHandler

    app = Mine(__name__, static_folder=None)
    app.add_url_rule("/", "index", lambda: f"{request.tea} {g.cups}")  # type: ignore[attr-defined]
    answer = await app.test_client().get("/anywhere")
    assert (await answer.get_data(), answer.mimetype) == (b"assam 3", "text/tea")


def test_an_event_that_tells_nobody_is_refused() -> None:
    class Mine(Samovar):
        event_class = asyncio.Event  # type: ignore[assignment]

    with pytest.raises(TypeError, match="Event is none"):
        Mine(__name__)


def test_a_redirect_outside_an_app_is_werkzeugs() -> None:
    assert redirect("/tea", 307).headers["location"] == "/tea"


@pytest.mark.parametrize("options", [{"static_host": "a.example"}, {"host_matching": True}])
def test_static_files_have_a_host_where_hosts_are_matched(options: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="host"):
        Samovar(__name__, **options)


def test_the_static_url_path_has_no_slash_at_its_end() -> None:
    app = Samovar(__name__, static_folder="files/", static_url_path="/assets/")
    assert (app.static_url_path, [str(rule) for rule in app.url_map.iter_rules()]) == (
        "/assets", ["/assets/<path:filename>"],
    )  # fmt: skip


def test_the_instance_folder_of_what_is_installed_lies_in_the_prefix() -> None:
    assert Samovar("click").instance_path == os.path.join(sys.prefix, "var", "click-instance")
    assert Samovar(__name__).instance_path == os.path.join(ROOT, "instance")


async def test_instance_files_may_be_written(tmp_path: Path) -> None:
    app = Samovar(__name__, instance_path=tmp_path)
    async with await app.open_instance_resource("tea.txt", "w") as file:
        await file.writelines(["ассам\n", "дарджилинг\n"])
        assert await file.tell() > 0
    async with await app.open_instance_resource("tea.txt", "r") as file:
        assert file.name == str(tmp_path / "tea.txt")
        assert [line async for line in file] == ["ассам\n", "дарджилинг\n"]
        await file.seek(0)
        assert await file.readline() == "ассам\n" and await file.readlines() == ["дарджилинг\n"]
    async with await app.open_instance_resource("tea.txt", "r+b") as file:
        assert await file.truncate(2) == 2
        await file.write(b"!")
        await file.flush()
        assert (tmp_path / "tea.txt").read_bytes() == b"!" + "а".encode()[1:]


async def test_middleware_wraps_asgi_app(app: Samovar) -> None:
    inner = app.asgi_app

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        scope["path"] = "/real"
        await inner(scope, receive, send)

    app.asgi_app = middleware  # type: ignore[method-assign]
    app.add_url_rule("/real", "real", lambda: "real")
    assert await text(app, "/fake") == "real"


async def test_an_unknown_scope_is_an_error(app: Samovar) -> None:
    with pytest.raises(RuntimeError, match="'telnet'"):
        await app({"type": "telnet"}, Wire(app).inbox.get, Wire(app).send)


def test_method_shortcuts_take_no_methods(app: Samovar) -> None:
    with pytest.raises(TypeError, match="one method"):
        app.get("/", methods=["POST"])
    with pytest.raises(TypeError, match="list"):
        app.route("/", methods="POST")(lambda: "")


async def test_url_value_preprocessors_and_defaults(app: Samovar) -> None:
    @app.url_value_preprocessor
    def take_language(endpoint: str | None, values: dict[str, Any] | None) -> None:
        g.lang = (values or {}).pop("lang", None)

    @app.url_defaults
    def give_language(endpoint: str, values: dict[str, Any]) -> None:
        values.setdefault("lang", g.lang)

    @app.get("/<lang>/x")
    async def view() -> str:
        return app.url_for("view")

    assert await text(app, "/de/x") == "/de/x"


async def test_a_broken_handler_of_500s_still_answers(app: Samovar, caplog: pytest.LogCaptureFixture) -> None:
    app.errorhandler(500)(lambda error: 1 / 0)
    app.add_url_rule("/", "index", lambda: dict[str, str]()["missing"])
    assert (await app.test_client().get("/")).status_code == 500
    assert "ZeroDivisionError" in caplog.text and "KeyError" in caplog.text


async def test_a_header_that_http_cannot_carry_is_a_500(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    app.add_url_rule("/", "index", lambda: ("x", {"X-Name": "日本"}))
    assert (await app.test_client().get("/")).status_code == 500
    assert "UnicodeEncodeError" in caplog.text


async def test_a_session_that_cannot_be_opened_is_a_500(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(SessionInterface):
        async def open_session(self, app: Samovar, request: Any) -> None:
            raise OSError("the store is away")

    app.session_interface = Broken()
    app.add_url_rule("/", "index", lambda: "x")
    assert (await app.test_client().get("/")).status_code == 500
    assert "the store is away" in caplog.text
