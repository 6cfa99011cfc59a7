"""The fast road of a request and the plain one, step by step, give the same bytes, logs and teardowns."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import random
import re
import weakref
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any

import pytest
from werkzeug.exceptions import Forbidden

from samovar import (
    Blueprint,
    Request,
    Response,
    Samovar,
    abort,
    after_this_request,
    current_app,
    flash,
    g,
    get_flashed_messages,
    has_request_context,
    make_response,
    redirect,
    render_template_string,
    request,
    request_finished,
    request_started,
    session,
)
from samovar.core.ctx import required_context
from samovar.core.json import DefaultJSONProvider, OrjsonProvider
from samovar.core.sessions import SecureCookieSession, SecureCookieSessionInterface

from .wire import Wire


class Plain(Samovar):
    """The same app, whose steps cannot be left out: one of them might do something else."""

    async def dispatch_request(self, request_context: Any = None) -> Any:
        return await super().dispatch_request(request_context)


def build(kind: type[Samovar], hooks: bool) -> Samovar:
    """An app with views of many kinds, with or without hooks around them."""
    app = kind("express")
    app.secret_key = "k"
    app.config.update(PROPAGATE_EXCEPTIONS=False, MAX_CONTENT_LENGTH=2000)
    views(app)
    failures(app)
    blueprint = Blueprint("inner", "inner", url_prefix="/inner")

    @blueprint.route("/", methods=["GET", "PATCH"])
    async def index() -> Any:
        return request.blueprint, {"X-Endpoint": str(request.endpoint)}

    @blueprint.errorhandler(404)
    async def missing(error: Exception) -> Any:
        return "not inside", 404

    if hooks:
        add_hooks(app, blueprint)
    app.register_blueprint(blueprint)
    return app


def views(app: Samovar) -> None:
    """Views, each with another kind of answer."""

    @app.get("/text")
    async def text() -> Any:
        return "tëxt"

    @app.get("/bytes")
    def bytes_() -> Any:
        return b"\x00\xff"

    @app.get("/tuple/<int:status>")
    async def tuple_(status: int) -> Any:
        return "t", status, {"Content-Type": "text/plain"}

    @app.get("/headers")
    async def headers() -> Any:
        return {"a": [1, None]}, [("X-A", "1"), ("X-A", "2")]

    @app.route("/json", methods=["GET", "POST", "PUT"])
    async def json_() -> Any:
        if request.method == "GET":
            return [1.5, "ü"]
        return {"got": await request.get_json(), "length": request.content_length}

    @app.post("/form")
    async def form() -> Any:
        return {"form": (await request.form).to_dict(flat=False), "args": request.args.to_dict(flat=False)}

    @app.get("/session")
    async def session_() -> Any:
        session["n"] = session.get("n", 0) + 1
        await flash("hi")
        return {"n": session["n"], "flashed": get_flashed_messages()}

    @app.get("/stream")
    async def stream() -> Any:
        async def pieces() -> AsyncIterator[str]:
            yield request.path
            yield "!"

        return pieces(), 203

    @app.get("/response/<name>")
    async def response(name: str) -> Any:
        response = await make_response(f"<{name}>", 201)
        response.set_cookie("name", name)
        after_this_request(_marked)
        return response

    @app.get("/page")
    async def page() -> Any:
        return await render_template_string("{{ x }} {{ request.path }}", x="<")

    @app.get("/away")
    async def away() -> Any:
        return redirect("/text")

    @app.get("/path/<path:rest>/")
    async def path(rest: str) -> Any:
        return {"rest": rest, "host": request.host, "app": current_app.name, "g": g.get("seen")}


async def _marked(response: Response) -> Response:
    response.headers["X-Marked"] = "yes"
    return response


def failures(app: Samovar) -> None:
    """Views that fail, and what answers for them."""

    @app.get("/abort/<int:code>")
    async def abort_(code: int) -> Any:
        abort(code)

    @app.get("/fail/<what>")
    async def fail(what: str) -> Any:
        if what == "none":
            return None
        if what == "status":
            return "x", 99
        if what == "newline":
            return Response("x", headers=[("X", "a")], content_type="text/plain\r\nX: y")
        raise KeyError(what)

    @app.errorhandler(418)
    async def teapot(error: Exception) -> Any:
        return {"short": "and stout"}, 418

    @app.errorhandler(KeyError)
    async def key(error: KeyError) -> Any:
        if error.args[0] == "again":
            raise error
        return "no key", 400


def add_hooks(app: Samovar, blueprint: Blueprint) -> None:
    """Hooks of every kind."""

    @app.url_value_preprocessor
    def seen(endpoint: str | None, values: dict[str, Any] | None) -> None:
        g.seen = endpoint

    @app.before_request
    async def early() -> Any:
        if "stop" in request.args:
            return "stopped", 202
        return None

    @app.after_request
    async def late(response: Response) -> Response:
        if "lose" in request.args:
            return None  # type: ignore[return-value]  # the mistake
        response.headers["X-Late"] = request.args.get("late", "-")
        return response

    @app.teardown_request
    async def down(error: BaseException | None) -> None:
        current_app.extensions.setdefault("down", []).append((request.path, type(error).__name__))

    @blueprint.before_request
    def inner() -> None:
        g.seen = "inside"


PATHS = (
    "/text", "/bytes", "/tuple/200", "/tuple/204", "/tuple/304", "/tuple/404", "/tuple/503", "/headers", "/json",
    "/form", "/session", "/stream", "/response/ada", "/page", "/away", "/path/a/b/", "/path/a",
    "//text", "/text/", "/nothing", "/form", "/json", "/form", "/json",
    "/abort/400", "/abort/418", "/abort/503", "/abort/401", "/fail/none", "/fail/status", "/fail/newline", "/fail/key",
    "/fail/again", "/inner/", "/inner", "/inner/nothing", "*", "", "/te\x00xt", "/static/nothing",
)  # fmt: skip
METHODS = ("GET", "GET", "GET", "POST", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "WHAT")
QUERIES = (b"", b"", b"late=1", b"stop", b"lose", b"a=%ff&a=2", b"\xff=;&&", b"late=%0d%0a")
HEADERS: tuple[tuple[tuple[bytes, bytes], ...], ...] = (
    (),
    ((b"content-type", b"application/json"),),
    ((b"content-type", b"application/json"), (b"content-type", b"text/plain"), (b"content-length", b"5")),
    ((b"content-type", b"application/x-www-form-urlencoded"),),
    ((b"content-type", b"multipart/form-data; boundary=B"),),
    ((b"content-type", b"multipart/form-data"),),
    ((b"content-type", b"application/json"), (b"content-length", b"99999")),
    ((b"content-type", b"application/x-www-form-urlencoded"), (b"content-length", b"99999")),
    ((b"content-length", b"-1"), (b"cookie", b"session=forged; =; a=\xff")),
    ((b"host", b"ex ample:x"),),
    ((b"host", b"other.example"), (b"authorization", b"Basic \xff")),
    ((b"accept", b"text/event-stream"),),
    ((b"range", b"bytes=0-1"), (b"if-none-match", b'"x"'), (b"transfer-encoding", b"chunked")),
)
BODIES = (
    b"", b'{"a": 1}', b' {"a": 1} \n', b"{", b"[" * 500, b"a=1&b=%zz", b'\xff\xfe[\x001\x00]\x00', b"1 2",
    b'--B\r\nContent-Disposition: form-data; name="n"\r\n\r\nv\r\n--B--\r\n', b"x" * 3000,
)  # fmt: skip


CHANGING = re.compile(r"(session=|retry: )[\w.-]+")
"""What differs from one answer to the next by a time or by chance."""


async def exchange(app: Samovar, choice: random.Random, records: list[logging.LogRecord]) -> Any:
    """One request as *choice* has it: what was sent, logged and raised for it."""
    headers = [(b"host", b"example.com"), *choice.choice(HEADERS)]
    wire = Wire(
        app,
        choice.choice(METHODS),
        choice.choice(PATHS),
        query_string=choice.choice(QUERIES),
        headers=headers,
        root_path=choice.choice(("", "", "", "/te")),
    )
    body = choice.choice(BODIES)
    cut = choice.randint(0, len(body))
    wire.feed(body[:cut], more=True)
    wire.feed(body[cut:])
    records.clear()
    raised = None
    try:
        await wire.run()
    except Exception as error:
        raised = repr(error)
    said = [record.getMessage() for record in records if record.name != "asyncio"]  # it tells of slow steps
    told = (wire.scope["method"], wire.scope["path"], wire.scope["query_string"], headers, body)
    return (
        told,
        json.loads(CHANGING.sub(r"\1…", json.dumps(wire.sent, default=repr))),
        said,
        raised,
    )


@pytest.mark.parametrize("hooks", [False, True], ids=["bare", "hooks"])
async def test_both_roads_say_the_same_to_generated_requests(
    hooks: bool, caplog: pytest.LogCaptureFixture
) -> None:
    fast, plain = build(Samovar, hooks), build(Plain, hooks)
    statuses = set()
    for number in range(400):
        ours = await exchange(fast, random.Random(number), caplog.records)
        theirs = await exchange(plain, random.Random(number), caplog.records)
        assert ours == theirs, f"request {number}"
        statuses.add(ours[1][0]["status"])
    assert fast.is_express and not plain.is_express
    assert statuses >= {200, 201, 202, 302, 304, 308, 400, 404, 405, 413, 415, 418, 500, 503} - (
        {202} if not hooks else set()
    )
    assert fast.extensions == plain.extensions
    assert bool(fast.extensions) is hooks


class Loud(Response):
    """Has a default of its own."""

    default_mimetype = "text/plain"


class Spaced(DefaultJSONProvider):
    """Writes JSON in its own way."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return super().dumps(obj, **{**kwargs, "indent": 1})

    def response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().response(*args, **kwargs)
        response.headers["X-Spaced"] = "1"
        return response


def as_it_is(app: Samovar) -> None:
    """Change nothing."""


def own_response(app: Samovar) -> None:
    app.response_class = Loud


def own_json(app: Samovar) -> None:
    app.json = Spaced(app)


def faster_json(app: Samovar) -> None:
    app.json = OrjsonProvider(app)


def other_json_type(app: Samovar) -> None:
    app.json.mimetype = "application/problem+json"  # type: ignore[attr-defined]  # the default provider's


def unsorted_json(app: Samovar) -> None:
    app.json.sort_keys = app.json.ensure_ascii = False  # type: ignore[attr-defined]


def debugging(app: Samovar) -> None:
    app.config["DEBUG"] = True


def listening(app: Samovar) -> None:
    signals(app)


def own_limit(app: Samovar) -> None:
    app.config["RESPONSE_TIMEOUT"] = None


class Text(str):
    """Text by inheritance."""


RESULTS: tuple[Any, ...] = (
    "tëxt", "", "x" * 3000, b"\x00", bytearray(b"b"), Text("t"), {}, {"b": [1, None], "a": "ü</"}, [], [1.5, {"k": ()}],
    ("t", 200), ("t", 201), ("t", 204), ("t", 304), ("t", 404), ("t", 503), ("t", 599), ("t", 600), ("t", 99),
    ("t", "t"), ("t", True), ("t", HTTPStatus.ACCEPTED), ("t", "202 Taken"), ("t", None), ("t", {"X-A": "1"}),
    ("t", {"Content-Type": "text/plain"}), ("t", 200, {"Content-Type": "text/plain; charset=utf-8"}),
    ({"a": 1}, 202, {"Content-Type": "application/problem+json"}), ([1], 200, {"content-type": "text/csv"}),
    ("t", 200, {"Content-Type": ["text/plain", "text/html"]}), ("t", 200, {"Content-Type": "text/plain\r\nX: y"}),
    ("t", 200, {"Content-Type": "text/plain", "X-A": "1"}), ("t", 200, {}), ("t", 200, None), ("t", 200, []),
    ("t", 200, [("X-A", "1"), ("X-A", "2")]), ("t", 200, {"X-A": "1"}), ({"a": 1}, 400), (b"b", 200), (None, 200), (),
    ("t",), ("t", 1, {}, 4), None, 7, {1, 2}, {"a": {1, 2}}, {"a": float("nan")}, {"half": "\ud800"}, ["\ud83d\ude00"],
    "half \ud800", ({"a": object()}, 200),
)  # fmt: skip


async def give(number: int) -> Any:
    """A view that does not wait: only what it gives is sent without a response."""
    return RESULTS[number]


@pytest.mark.parametrize(
    "change",
    [
        as_it_is,
        own_response,
        own_json,
        faster_json,
        other_json_type,
        unsorted_json,
        debugging,
        listening,
        own_limit,
    ],
)
async def test_both_roads_make_the_same_of_every_result(
    change: Callable[[Samovar], None], caplog: pytest.LogCaptureFixture
) -> None:
    said: dict[type[Samovar], list[Any]] = {Samovar: [], Plain: []}
    for kind, lines in said.items():
        app = kind("results")
        app.config["PROPAGATE_EXCEPTIONS"] = False
        app.add_url_rule("/<int:number>", "result", give)
        change(app)
        for number in range(len(RESULTS)):
            for method in ("GET", "HEAD"):
                for headers in ([], [(b"accept", b"text/event-stream")]):
                    caplog.clear()
                    wire = await Wire(app, method=method, path=f"/{number}", headers=headers).run()
                    logged = [record.getMessage() for record in caplog.records if record.name != "asyncio"]
                    failed = wire.sent[0]["status"] == 500  # then debug mode shows the road itself
                    sent = 500 if failed else CHANGING.sub(r"\1…", json.dumps(wire.sent, default=repr))
                    lines.append((number, method, headers, sent, logged))
        assert app.is_express is (kind is Samovar)
    for ours, theirs in zip(said[Samovar], said[Plain], strict=True):
        assert ours == theirs


def override_step(app: Samovar) -> None:
    """Give *app* a step of its own after it has answered."""
    step = app.process_response

    async def marked(response: Response, *args: Any) -> Response:
        response = await step(response, *args)
        response.headers["X-Step"] = "mine"
        return response

    app.process_response = marked  # type: ignore[method-assign, assignment]  # as in a test


class Interface(SecureCookieSessionInterface):
    """Opens sessions in its own way."""

    async def open_session(self, app: Any, request: Any) -> SecureCookieSession:
        return SecureCookieSession({"n": 7})


def other_sessions(app: Samovar) -> None:
    """Replace the sessions after the app has answered."""
    app.session_interface = Interface()


def signals(app: Samovar) -> None:
    """Listen to the beginning and end of requests."""

    async def started(sender: Any, **_: Any) -> None:
        g.seen = "started"

    async def finished(sender: Any, response: Response, **_: Any) -> None:
        response.headers["X-Seen"] = g.seen

    app.extensions["kept"] = (started, finished)
    request_started.connect(started, app)
    request_finished.connect(finished, app)


@pytest.mark.parametrize(
    ("change", "path", "expected"),
    [
        (override_step, "/text", (b"x-step", b"mine")),
        (other_sessions, "/session", b'{"flashed":["hi"],"n":8}\n'),
        (signals, "/text", (b"x-seen", b"started")),
    ],
)
async def test_what_changes_after_the_first_request_is_heeded(
    change: Callable[[Samovar], None], path: str, expected: Any
) -> None:
    app = build(Samovar, hooks=False)
    for changed in (False, True):
        wire = Wire(app, path=path)
        wire.feed()
        await wire.run()
        found = wire.body if isinstance(expected, bytes) else expected[0] in dict(wire.sent[0]["headers"])
        assert (found == expected if isinstance(expected, bytes) else found) is changed
        if not changed:
            change(app)


async def test_a_step_of_the_instance_is_taken_back() -> None:
    app = build(Samovar, hooks=False)
    roads = []
    for change in (None, override_step, lambda app: delattr(app, "process_response")):
        if change is not None:
            change(app)
        await Wire(app, path="/text").run()
        roads.append(app.is_express)
    assert roads == [True, False, True]


async def test_middleware_around_the_app_is_not_passed_by() -> None:
    app = build(Samovar, hooks=False)
    await Wire(app, path="/text").run()
    inner, seen = app.asgi_app, []

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])
        await inner(scope, receive, send)

    app.asgi_app = middleware  # type: ignore[method-assign]  # what the attribute is for
    wire = await Wire(app, path="/text").run()
    assert (seen, wire.body) == (["/text"], "tëxt".encode())


@pytest.mark.parametrize("kind", [Samovar, Plain])
async def test_a_session_first_touched_after_the_view_is_saved(kind: type[Samovar]) -> None:
    app = kind("late")
    app.secret_key = "k"
    app.add_url_rule("/", "index", lambda: "")

    @app.after_request
    async def keep(response: Response) -> Response:
        session["seen"] = request.path
        return response

    client = app.test_client()
    assert "session=" in (await client.get("/")).headers["set-cookie"]


@pytest.mark.parametrize("kind", [Samovar, Plain])
async def test_head_has_no_body_whatever_a_hook_makes_of_the_method(kind: type[Samovar]) -> None:
    app = kind("head")
    app.add_url_rule("/", "index", lambda: "text")

    @app.before_request
    async def as_get() -> None:
        request.method = "GET"

    wire = await Wire(app, method="HEAD").run()
    assert (wire.body, dict(wire.sent[0]["headers"])[b"content-length"]) == (b"", b"4")


@pytest.mark.parametrize("kind", [Samovar, Plain])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("teardown", [False, True])
async def test_a_timer_of_the_server_does_not_hold_the_request(
    kind: type[Samovar], waits: bool, teardown: bool
) -> None:
    """A server arms its keep-alive timer while the last byte is sent, with the context variables as they are then."""
    app = kind("kept")
    seen: list[Any] = []

    @app.get("/")
    async def index() -> Any:
        g.name = "Ada"
        if waits:
            await asyncio.sleep(0.001)
        seen.append(weakref.ref(request._get_current_object()))  # type: ignore[attr-defined]  # the proxy's
        return "text"

    if teardown:

        @app.teardown_request
        async def down(error: BaseException | None) -> None:
            seen.append((request.path, g.name))

    wire = Wire(app)
    send, timers = wire.send, []

    async def sending(message: Any) -> None:
        timers.append(contextvars.copy_context())
        await send(message)

    await app(wire.scope, wire.inbox.get, sending)
    assert (wire.body, len(timers)) == (b"text", 2)
    assert seen[0]() is None
    assert seen[1:] == ([("/", "Ada")] if teardown else [])
    assert not has_request_context()


def tear_down_in_subclass() -> tuple[Samovar, list[str]]:
    ran: list[str] = []

    class Own(Samovar):
        async def tear_down(self, context: Any, error: BaseException | None = None) -> None:
            ran.append(context.request.path)
            await super().tear_down(context, error)

    return Own("own"), ran


def teardown_of_instance() -> tuple[Samovar, list[str]]:
    ran: list[str] = []
    app = Samovar("own")

    async def own(error: BaseException | None, request_context: Any = None) -> None:
        ran.append(request.path)

    app.do_teardown_request = own  # type: ignore[method-assign, assignment]  # as in a test
    return app, ran


def closing_request() -> tuple[Samovar, list[str]]:
    ran: list[str] = []

    class Own(Request):
        async def close(self) -> None:
            ran.append(self.path)

    app = Samovar("own")
    app.request_class = Own
    return app, ran


@pytest.mark.parametrize("make", [tear_down_in_subclass, teardown_of_instance, closing_request])
async def test_an_override_of_the_teardown_runs_without_other_work(
    make: Callable[[], tuple[Samovar, list[str]]],
) -> None:
    for way in ("__call__", "asgi_app"):
        app, ran = make()
        app.add_url_rule("/", "index", lambda: "")
        await Wire(getattr(app, way)).run()
        assert ran == ["/"], way


@pytest.mark.parametrize("name", ["content_type", "mimetype"])
def test_no_line_ends_in_a_content_type(name: str) -> None:
    for end in "\r\n":
        given: Any = {name: f"text/plain{end}X-Own: 1"}
        with pytest.raises(ValueError, match="newline"):
            Response("x", **given)


async def test_a_step_that_was_replaced_in_the_class_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Samovar.full_dispatch_request
    seen = []

    async def traced(self: Samovar, *args: Any) -> Response:
        seen.append(request.path)
        return await own(self, *args)

    monkeypatch.setattr(Samovar, "full_dispatch_request", traced)
    wire = await Wire(build(Samovar, hooks=False), path="/text").run()
    assert (seen, wire.body) == (["/text"], "tëxt".encode())


async def test_a_step_that_a_test_replaces_in_the_class_is_taken_by_its_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def mocked(self: Samovar, *args: Any) -> Response:
        return Response("mocked")

    app = build(Samovar, hooks=False)
    said = []
    for step in (Samovar.dispatch_request, mocked, Samovar.dispatch_request):
        monkeypatch.setattr(Samovar, "dispatch_request", step)
        said.append(await (await app.test_client().get("/text")).get_data())
    assert said == ["tëxt".encode(), b"mocked", "tëxt".encode()]


@pytest.mark.parametrize("kind", [Samovar, Plain])
async def test_a_route_that_a_hook_has_looked_for_again_is_taken(kind: type[Samovar]) -> None:
    app = kind("again")
    ran: list[str] = []
    blueprint = Blueprint("new", "new", url_prefix="/new")
    app.add_url_rule("/old", "old", lambda: "old")
    blueprint.add_url_rule("/<name>", "view", lambda name: name)

    @app.before_request
    async def rewrite() -> None:
        context = required_context()
        assert context.request is not None
        context.request.path = "/new/ada"
        context.match_request()

    @blueprint.teardown_request
    async def down(error: BaseException | None) -> None:
        ran.append(request.path)

    @blueprint.after_request
    async def after(response: Response) -> Response:
        response.headers["X-New"] = "1"
        return response

    app.register_blueprint(blueprint)
    wire = await Wire(app, path="/old").run()
    assert (wire.body, wire.headers[b"x-new"], ran) == (b"ada", b"1", ["/new/ada"])


@pytest.mark.parametrize("kind", [Samovar, Plain])
async def test_what_a_receiver_of_the_beginning_raises_goes_to_the_error_handlers(
    kind: type[Samovar],
) -> None:
    app = kind("begun")
    app.add_url_rule("/", "index", lambda: "")
    error: Exception = ValueError("mine")

    @app.errorhandler(ValueError)
    async def handled(error: ValueError) -> Any:
        return str(error), 418

    async def refuse(sender: Any, **_: Any) -> None:
        raise error

    request_started.connect(refuse, app)
    assert (await Wire(app).run()).status == 418
    error = Forbidden()
    assert (await Wire(app).run()).status == 403


@pytest.mark.parametrize("kind", [Samovar, Plain])
async def test_an_override_of_the_routing_is_asked_for_every_path(kind: type[Samovar]) -> None:
    class Own(kind):  # type: ignore[valid-type, misc]  # one of two
        def match_request(self, context: Any) -> None:
            if context.request.path == "/broken":
                raise LookupError("mine")
            context.request.path = "/new"
            super().match_request(context)

    app = Own("own")
    torn_down: list[str] = []
    for path in ("/old", "/broken", "/new"):
        app.add_url_rule(path, path.strip("/"), lambda path=path: path)
    assert [(await Wire(app, path="/old").run()).body for _ in range(2)] == [b"/new", b"/new"]
    with pytest.raises(LookupError, match="mine"):
        await Wire(app, path="/broken").run()

    async def down(error: BaseException | None) -> None:
        torn_down.append(type(error).__name__)

    app.teardown_appcontext_funcs.append(down)
    with pytest.raises(LookupError, match="mine"):
        await Wire(app, path="/broken").run()
    assert torn_down == ["LookupError"]
