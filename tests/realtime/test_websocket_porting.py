"""What a Quart user knows of websockets, under the same names: routes, hooks, contexts, signals, steps to override."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

import samovar
from samovar import (
    Blueprint,
    Response,
    Samovar,
    Websocket,
    abort,
    copy_current_websocket_context,
    current_app,
    g,
    has_app_context,
    has_request_context,
    has_websocket_context,
    session,
    url_for,
    websocket,
)
from samovar.core import signals
from samovar.core.asgi.websocket import WebsocketHandler
from samovar.core.ctx import WebsocketContext, after_this_websocket
from samovar.core.testing import WebsocketDisconnectError, WebsocketResponseError

from .test_cancellation import Peer, scope

SIGNALS = (
    "appcontext_pushed", "websocket_started", "websocket_received", "websocket_sent", "got_websocket_exception",
    "websocket_finished", "websocket_tearing_down", "appcontext_tearing_down", "appcontext_popped",
)  # fmt: skip


@pytest.fixture
def app() -> Samovar:
    app = Samovar(__name__)
    app.config["SECRET_KEY"] = "secret"
    app.extensions["log"] = []
    return app


async def only(app: Samovar, path: str = "/ws", **options: Any) -> Any:
    """The first frame of a websocket."""
    async with app.test_client().websocket(path, **options) as ws:
        return await ws.receive()


async def refusal(app: Samovar, path: str = "/ws", **options: Any) -> Response:
    """The response that refuses a websocket."""
    with pytest.raises(WebsocketResponseError) as refused:
        await only(app, path, **options)
    return refused.value.response


# --- routes -----------------------------------------------------------------------------------------------------------


async def test_rules_have_their_options_and_names(app: Samovar) -> None:
    @app.websocket("/ws", defaults={"n": 1}, endpoint="numbers")
    @app.websocket("/ws/<int:n>/", strict_slashes=False, endpoint="one")
    async def handler(n: int) -> None:
        await websocket.send(f"{websocket.endpoint} {n} {url_for('one', n=n, _external=True)}")

    app.add_websocket("/late", "late", None, defaults={"n": 5})
    app.endpoint("late")(handler)
    assert await only(app) == "numbers 1 ws://localhost/ws/1/"
    assert await only(app, "/ws/7") == "one 7 ws://localhost/ws/7/"
    assert await only(app, "/late") == "late 5 ws://localhost/ws/5/"


async def test_one_path_serves_both_kinds(app: Samovar) -> None:
    @app.get("/ws")
    async def page() -> str:
        return "http"

    @app.websocket("/ws", endpoint="ws")
    async def handler() -> None:
        await websocket.send("websocket")

    assert await only(app) == "websocket"
    assert await (await app.test_client().get("/ws")).get_data(as_text=True) == "http"


@pytest.mark.parametrize(("path", "status"), [("/http-only", 400), ("/nowhere", 404)])
async def test_what_is_no_websocket_is_refused_by_status(app: Samovar, path: str, status: int) -> None:
    app.add_url_rule("/http-only", "page", lambda: "page")
    assert (await refusal(app, path)).status_code == status


async def test_a_websockets_route_is_400_to_plain_http(app: Samovar) -> None:
    app.add_websocket("/ws", "ws", lambda: None)
    assert (await app.test_client().get("/ws")).status_code == 400


async def test_a_plain_function_runs_in_a_thread_with_the_context(app: Samovar) -> None:
    @app.websocket("/ws/<name>")
    def handler(name: str) -> tuple[str, int]:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return f"{name} {websocket.path} {has_websocket_context()}", 403

    response = await refusal(app, "/ws/ann")
    assert await response.get_data(as_text=True) == "ann /ws/ann True"


async def test_blueprints_have_websockets_and_their_own_hooks(app: Samovar) -> None:
    blueprint = Blueprint("tea", __name__, url_prefix="/tea")
    log = app.extensions["log"]

    def note(name: str) -> Any:
        async def hook(*values: Any) -> Any:
            log.append(name)
            return values[0] if "after" in name else None

        return hook

    names = [f"{when}_{whose}websocket" for when in ("before", "after", "teardown") for whose in ("", "app_")]
    for name in names:
        getattr(blueprint, name)(note(name))

    @blueprint.websocket("/ws")
    async def handler() -> None:
        log.append(f"{websocket.blueprint} {url_for('.handler')}")
        await websocket.send("x")

    @app.websocket("/ws")
    async def other() -> None:
        await websocket.send("y")

    app.register_blueprint(blueprint)
    await only(app, "/tea/ws")
    assert log == [
        "before_app_websocket", "before_websocket", "tea ws://localhost/tea/ws", "after_websocket",
        "after_app_websocket", "teardown_websocket", "teardown_app_websocket",
    ]  # fmt: skip
    log.clear()
    await only(app)
    assert log == ["before_app_websocket", "after_app_websocket", "teardown_app_websocket"]


async def test_url_processors_see_websockets(app: Samovar) -> None:
    @app.url_value_preprocessor
    def take_language(endpoint: str | None, values: dict[str, Any] | None) -> None:
        assert values is not None
        g.language = values.pop("language")

    @app.url_defaults
    def give_language(endpoint: str, values: dict[str, Any]) -> None:
        values.setdefault("language", g.language)

    @app.websocket("/<language>/ws")
    async def handler() -> None:
        await websocket.send(url_for("handler"))

    assert await only(app, "/de/ws") == "ws://localhost/de/ws"


@pytest.mark.parametrize(
    ("settings", "urls"),
    [
        ({}, ["http://example.com/", "ws://example.com/ws"]),
        ({"PREFERRED_URL_SCHEME": "https"}, ["https://example.com/", "wss://example.com/ws"]),
        ({"PREFER_SECURE_URLS": True}, ["https://example.com/", "wss://example.com/ws"]),
    ],
    ids=["default", "Flask's setting", "Quart's setting"],
)
async def test_outside_a_request_urls_have_the_preferred_scheme(
    app: Samovar, settings: dict[str, Any], urls: list[str]
) -> None:
    app.config.update(SERVER_NAME="example.com", **settings)
    app.add_url_rule("/", "index", lambda: "")
    app.add_websocket("/ws", "ws", lambda: None)
    async with app.app_context():
        assert [url_for("index"), url_for("ws")] == urls


async def test_a_host_that_is_not_trusted_opens_no_websocket(app: Samovar) -> None:
    app.config["TRUSTED_HOSTS"] = ["example.com"]

    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.send("in")

    assert await only(app, headers={"Host": "example.com"}) == "in"
    assert (await refusal(app, headers={"Host": "evil.example"})).status_code == 400


# --- the proxy --------------------------------------------------------------------------------------------------------


async def test_the_handshake_is_read_like_a_request(app: Samovar) -> None:
    @app.websocket("/a b")
    async def handler() -> None:
        ws = websocket
        auth = ws.authorization
        assert auth is not None
        await ws.accept(subprotocol="second")
        await ws.send_json(
            [ws.path, ws.full_path, ws.url, ws.base_url, ws.host_url, ws.root_path, ws.scheme, ws.is_secure],
            [ws.method, ws.http_version, ws.args.getlist("q"), ws.cookies["k"], ws.headers["X-A"]],
            [ws.requested_subprotocols, ws.user_agent.string, ws.origin, auth.username, ws.remote_addr],
            [
                ws.accept_languages.best,
                ws.endpoint,
                ws.blueprint,
                ws.view_args,
                str(ws.url_rule),
                ws.scope["type"],
            ],
        )

    async with app.test_client().websocket(
        "/a%20b?q=1&q=2",
        scheme="wss",
        subprotocols=["first", "second"],
        headers={
            "Cookie": "k=v",
            "X-A": "1",
            "User-Agent": "kettle",
            "Origin": "https://localhost",
            "Accept-Language": "de",
        },
        auth=("ann", "pw"),
    ) as ws:
        assert await ws.receive_json() == [
            ["/a b", "/a b?q=1&q=2", "wss://localhost/a%20b?q=1&q=2", "wss://localhost/a%20b", "wss://localhost/", "",
             "wss", True],
            ["GET", "1.1", ["1", "2"], "v", "1"],
            [["first", "second"], "kettle", "https://localhost", "ann", "127.0.0.1"],
            ["de", "handler", None, {}, "/a b", "websocket"],
        ]  # fmt: skip


async def test_the_session_is_read_and_its_cookie_sent_with_a_refusal(app: Samovar) -> None:
    @app.websocket("/ws")
    async def handler() -> Any:
        session["count"] = session.get("count", 0) + 1
        return str(session["count"]), 403

    client = app.test_client()
    for count in ("1", "2"):
        with pytest.raises(WebsocketResponseError) as refused:
            async with client.websocket("/ws") as ws:
                await ws.receive()
        assert await refused.value.response.get_data(as_text=True) == count


# --- in and out -------------------------------------------------------------------------------------------------------


async def test_json_is_the_apps_and_its_errors_are_those_of_json(app: Samovar) -> None:
    app.json.ensure_ascii = False  # type: ignore[attr-defined]

    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.send_json("é")
        await websocket.send_json(1, 2)
        await websocket.send_json(a=1)
        await websocket.send_json()
        with pytest.raises(TypeError):
            await websocket.send_json(1, a=2)
        try:
            await websocket.receive_json()
        except json.JSONDecodeError as error:
            await websocket.send_json([error.pos, error.doc])

    async with app.test_client().websocket("/ws") as ws:
        assert [await ws.receive() for _ in range(4)] == ['"é"', "[1, 2]", '{"a": 1}', "{}"]
        await ws.send("[1,")
        assert await ws.receive_json() == [3, "[1,"]


async def test_a_json_error_of_another_library_is_one_of_json_too() -> None:
    error = samovar.core.wrappers.websocket.MalformedJSON(ValueError("no"))
    assert isinstance(error, json.JSONDecodeError) and (error.code, error.msg, error.doc) == (400, "no", "")


async def test_what_is_no_frame_is_a_type_error(app: Samovar) -> None:
    @app.websocket("/ws")
    async def handler() -> None:
        with pytest.raises(TypeError, match="send_json"):
            await websocket.send({"a": 1})  # type: ignore[arg-type]
        await websocket.send(bytearray(b"bytes"))

    assert await only(app) == b"bytes"


async def test_a_handler_that_sends_in_a_loop_lets_others_have_their_turn(app: Samovar) -> None:
    log = app.extensions["log"]

    @app.websocket("/ws")
    async def handler() -> None:
        @current_app.add_background_task
        async def other() -> None:
            log.append("other")

        for _ in range(100):
            await websocket.send("x")
        log.append("handler")

    async def send(message: Any) -> None:
        """The server's, that never waits."""

    await app(scope("websocket", "/ws"), Peer({"type": "websocket.connect"}).receive, send)
    assert log == ["other", "handler"]


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accepted", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("how", ["abort", "return", "before_websocket", "errorhandler", "close"])
async def test_every_way_to_refuse(app: Samovar, how: str, accepted: bool) -> None:
    async def refuse() -> Any:
        if accepted:
            await websocket.accept()
        if how == "abort":
            abort(403)
        if how == "errorhandler":
            raise LookupError
        if how == "close":
            await websocket.close(4403)
        return ("no", 403, {"X-Why": "tea"}) if how != "close" else None

    @app.errorhandler(LookupError)
    async def not_found(error: LookupError) -> tuple[str, int]:
        return "no", 403

    if how == "before_websocket":
        app.before_websocket(refuse)
    app.add_websocket("/ws", "ws", refuse)
    if accepted:
        with pytest.raises(WebsocketDisconnectError) as closed:
            await only(app)
        assert closed.value.code == 4403
    else:
        response = await refusal(app)
        assert response.status_code == 403
        assert ("X-Why" in response.headers) is (how in ("return", "before_websocket"))


async def test_where_the_server_cannot_deny_it_closes(app: Samovar) -> None:
    @app.websocket("/ws")
    async def handler() -> tuple[str, int]:
        return "no", 403

    peer = Peer({"type": "websocket.connect"})
    await app({**scope("websocket", "/ws"), "extensions": {}}, peer.receive, peer.send)
    assert [message["type"] for message in peer.sent] == ["websocket.close"]


async def test_what_came_before_the_peer_left_is_received_then_the_handler_is_cancelled(app: Samovar) -> None:
    log = app.extensions["log"]

    @app.websocket("/ws")
    async def handler() -> None:
        try:
            while True:
                log.append(await websocket.receive())
        except BaseException as error:
            log.append(type(error).__name__)
            raise

    @app.teardown_websocket
    async def teardown(error: BaseException | None) -> None:
        log.append(f"teardown {type(error).__name__}")

    inbox: asyncio.Queue[Any] = asyncio.Queue()
    inbox.put_nowait({"type": "websocket.connect"})

    async def send(message: Any) -> None:
        assert message["type"] == "websocket.accept"
        for text in "abc":
            inbox.put_nowait({"type": "websocket.receive", "text": text})
        inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})

    await app(scope("websocket", "/ws"), inbox.get, send)
    assert log == ["a", "b", "c", "CancelledError", "teardown CancelledError"]


# --- hooks, contexts, signals -----------------------------------------------------------------------------------------


async def test_hooks_come_in_their_order_plain_ones_too(app: Samovar) -> None:
    log = app.extensions["log"]
    app.before_websocket(lambda: log.append("before"))
    app.teardown_appcontext(lambda error: log.append(f"appcontext {error}"))

    @app.after_websocket
    def after(response: Any) -> Any:
        log.append(f"after {response}")
        return response

    @app.after_websocket
    async def after_async(response: Any) -> Any:
        log.append("after, the last one first")
        return response

    @app.teardown_websocket
    async def teardown(error: BaseException | None) -> None:
        log.append(f"teardown {error}")

    @app.websocket("/ws")
    async def handler() -> None:
        @after_this_websocket
        async def this(response: Any) -> Any:
            log.append("this")
            return response

        await websocket.send("x")

    async with app.test_client().websocket("/ws") as ws:
        await ws.wait_closed()
    assert log == [
        "before", "this", "after, the last one first", "after None", "teardown None", "appcontext None",
    ]  # fmt: skip


async def test_every_teardown_runs_whichever_raise(app: Samovar) -> None:
    log = app.extensions["log"]
    for name in ("first", "second"):

        @app.teardown_websocket
        async def teardown(error: BaseException | None, name: str = name) -> None:
            log.append(name)
            raise RuntimeError(name)

    @app.teardown_appcontext
    async def last(error: BaseException | None) -> None:
        log.append("appcontext")

    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.send("x")

    async with app.test_client().websocket("/ws") as ws:
        assert await ws.wait_closed() in (1000, 1011)
    assert log == ["second", "first", "appcontext"]


async def test_after_websocket_gets_a_refusals_response(app: Samovar) -> None:
    app.add_websocket("/ws", "ws", lambda: ("no", 403))

    @app.after_websocket
    async def after(response: Response) -> Response:
        response.headers["X-After"] = str(response.status_code)
        return response

    assert (await refusal(app)).headers["X-After"] == "403"


async def test_contexts_can_be_asked_for_copied_and_made(app: Samovar) -> None:
    @app.websocket("/ws")
    async def handler() -> None:
        @copy_current_websocket_context
        async def aside() -> None:
            await websocket.send(
                f"{has_websocket_context()} {has_request_context()} {has_app_context()} {g.tea}"
            )

        g.tea = "green"
        await asyncio.get_running_loop().create_task(aside())
        async with app.websocket_context(websocket._get_current_object()) as context:  # type: ignore[attr-defined]
            assert isinstance(context, WebsocketContext) and context.websocket is not None

    assert not has_websocket_context()
    assert await only(app) == "True False True green"


@pytest.fixture
def heard(app: Samovar) -> Iterator[list[Any]]:
    """What every signal of websockets says, in order: its name, its sender unless it is the app, its other words."""
    heard: list[Any] = []
    receivers = []
    for name in SIGNALS:

        async def receiver(sender: Any, name: str = name, **words: Any) -> None:
            heard.append((name, *([] if sender is app else [sender]), *words))

        receivers.append((getattr(samovar, name), receiver))
        assert getattr(signals, name) is getattr(samovar, name)
        receivers[-1][0].connect(receiver)
    yield heard
    for signal, receiver in receivers:
        signal.disconnect(receiver)


async def test_the_signals_of_a_websocket(app: Samovar, heard: list[Any]) -> None:
    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.receive()
        async for message in websocket:
            await websocket.send(message)
            break
        await websocket.send_json(1)

    async with app.test_client().websocket("/ws") as ws:
        await ws.send("in")
        await ws.send(b"")
        await ws.wait_closed()
    assert heard == [
        ("appcontext_pushed",),
        ("websocket_started",),
        ("websocket_received", "in"),
        ("websocket_received", b""),
        ("websocket_sent", b""),
        ("websocket_sent", "1"),
        ("websocket_finished", "response"),
        ("websocket_tearing_down", "exc"),
        ("appcontext_tearing_down", "exc"),
        ("appcontext_popped",),
    ]


async def test_the_signals_of_a_websocket_that_fails(app: Samovar, heard: list[Any]) -> None:
    @app.websocket("/ws")
    async def handler() -> None:
        raise RuntimeError("boom")

    assert (await refusal(app)).status_code == 500
    assert ("got_websocket_exception", "exception") in heard


def test_the_signals_of_websockets_are_exported() -> None:
    names = [name for name in vars(signals) if "websocket" in name]
    assert len(names) == 6 and set(names) <= set(samovar.__all__)


# --- what may be replaced ---------------------------------------------------------------------------------------------


async def test_every_step_may_be_overridden() -> None:
    steps = (
        "handle_websocket", "full_dispatch_websocket", "preprocess_websocket", "dispatch_websocket",
        "handle_user_exception", "handle_websocket_exception", "finalize_websocket", "postprocess_websocket",
        "do_teardown_websocket",
    )  # fmt: skip
    called: list[str] = []

    def watched(name: str) -> Any:
        async def step(self: Samovar, *args: Any, **kwargs: Any) -> Any:
            called.append(name)
            return await getattr(Samovar, name)(self, *args, **kwargs)

        return step

    app: Samovar = type("App", (Samovar,), {name: watched(name) for name in steps})(__name__)

    @app.websocket("/ws")
    async def handler() -> None:
        raise RuntimeError("boom")

    assert (await refusal(app)).status_code == 500
    assert called == list(steps)


async def test_the_steps_take_their_arguments_by_name(app: Samovar) -> None:
    class App(Samovar):
        async def full_dispatch_websocket(self, websocket_context: Any = None) -> Any:
            result = await self.preprocess_websocket(websocket_context=websocket_context)
            assert result is None
            result = await self.dispatch_websocket(websocket_context=websocket_context)
            response = await self.finalize_websocket(
                result, websocket_context=websocket_context, from_error_handler=False
            )
            return await self.postprocess_websocket(response, websocket_context=websocket_context)

    own = App(__name__)
    own.add_websocket("/ws", "ws", lambda: ("no", 403))
    assert (await refusal(own)).status_code == 403


async def test_the_classes_may_be_replaced(app: Samovar) -> None:
    class Own(Websocket):
        async def greet(self) -> None:
            await self.send("hello")

    class OwnHandler(WebsocketHandler):
        async def __call__(self, receive: Any, send: Any) -> None:
            app.extensions["log"].append(self.scope["path"])
            await super().__call__(receive, send)

    app.websocket_class = Own
    app.asgi_websocket_class = OwnHandler

    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.greet()  # type: ignore[attr-defined]

    assert await only(app) == "hello"
    assert app.extensions["log"] == ["/ws"]
