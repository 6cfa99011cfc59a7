"""Contexts: one for each request, apart from all others, gone in the end."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from samovar import (
    Request,
    Samovar,
    copy_current_app_context,
    copy_current_request_context,
    current_app,
    g,
    has_app_context,
    has_request_context,
    has_websocket_context,
    hub,
    request,
    session,
    websocket,
)
from samovar.core.ctx import AppContext, RequestContext, WebsocketContext, current_context
from samovar.core.globals import app_ctx, request_ctx, websocket_ctx
from samovar.errors import ContextError
from samovar.tasks import Scope

from .wire import Wire


@pytest.fixture
def app() -> Samovar:
    app = Samovar(__name__, static_folder=None)
    app.secret_key = "k"
    return app


async def test_a_hundred_requests_at_once_keep_apart(app: Samovar) -> None:
    together = asyncio.Barrier(100)

    @app.get("/<int:number>")
    async def view(number: int) -> Any:
        g.number = number
        session["number"] = number
        await together.wait()
        await asyncio.sleep(0)
        assert request.view_args is not None
        return [g.number, session["number"], request.view_args["number"], request.path]

    client = app.test_client(use_cookies=False)
    responses = await asyncio.gather(*(client.get(f"/{number}") for number in range(100)))
    for number, response in enumerate(responses):
        assert await response.get_json() == [number, number, number, f"/{number}"]
        assert response.headers["set-cookie"].startswith("session=")


async def test_nothing_of_a_request_survives_it(app: Samovar) -> None:
    kept: list[weakref.ref[Any]] = []

    @app.get("/")
    async def view() -> str:
        kept.append(weakref.ref(request._get_current_object()))  # type: ignore[attr-defined]  # a proxy
        kept.append(weakref.ref(current_context()))
        return ""

    await Wire(app).run()
    gc.collect()
    assert [ref() for ref in kept] == [None, None]
    assert current_context() is None


async def test_a_context_ends_when_the_view_raises(app: Samovar) -> None:
    app.testing = True

    async def view() -> str:
        raise ZeroDivisionError

    app.add_url_rule("/", "view", view)
    with pytest.raises(ZeroDivisionError):
        await Wire(app).run()
    assert current_context() is None


@pytest.mark.parametrize("proxy", [request, session, g, current_app, hub, websocket])
def test_proxies_outside_a_context_say_what_to_do(proxy: Any) -> None:
    with pytest.raises(ContextError, match=r"outside its context: .*(app|handled|handler)"):
        _ = proxy.something
    assert not proxy and "none active" in repr(proxy)
    assert dir(proxy) and str(proxy)


def test_hot_attributes_outside_a_context_say_it_too() -> None:
    for use in (
        lambda: request.method,
        lambda: session["a"],
        lambda: current_app.config,
        lambda: hub.publish,
    ):
        with pytest.raises(ContextError):
            use()


async def test_a_bare_app_context_has_no_request_and_no_session(app: Samovar) -> None:
    async with app.app_context():
        assert has_app_context() and not has_request_context() and not has_websocket_context()
        assert current_app.name == app.name
        g.a = 1
        with pytest.raises(ContextError):
            _ = request.method
        with pytest.raises(ContextError):
            session["a"] = 1
    assert not has_app_context()


async def test_proxies_stand_for_the_object(app: Samovar) -> None:
    async with app.test_request_context("/x"):
        real = request._get_current_object()  # type: ignore[attr-defined]  # a proxy
        assert isinstance(request, Request) and request == real and hash(request) == hash(real)
        assert current_app == app and bool(request) and "method" in dir(request)
        request.method = "PATCH"
        request.mine = 1  # type: ignore[attr-defined]
        assert (real.method, real.mine) == ("PATCH", 1)
        del request.mine  # type: ignore[attr-defined]
        assert not hasattr(real, "mine")


async def test_g_is_a_place_for_anything(app: Samovar) -> None:
    async with app.app_context():
        assert g.get("a") is None and "a" not in g
        g.a = 1
        assert list(g) == ["a"] and g.setdefault("a", 2) == 1 and g.pop("a") == 1 and g.pop("a", 3) == 3
        with pytest.raises(AttributeError, match="no 'b'"):
            _ = g.b
        with pytest.raises(KeyError):
            g.pop("a")


async def test_the_session_is_like_a_dict(app: Samovar) -> None:
    async with app.test_request_context("/"):
        session["a"] = 1
        assert "a" in session and len(session) == 1 and list(session) == ["a"] and session["a"] == 1
        assert session.modified and session.new
        del session["a"]
        assert dict(session) == {}


async def test_a_context_is_pushed_and_popped_by_hand(app: Samovar) -> None:
    told: list[Any] = []
    app.teardown_appcontext(told.append)
    context = app.app_context()
    await context.push()
    g.tea = "assam"
    await context.push()
    await context.pop()
    assert current_app.name == app.name and g.tea == "assam" and told == []
    error = ValueError()
    await context.pop(error)
    assert not has_app_context() and told == [error]
    with pytest.raises(RuntimeError, match="not the current context"):
        await context.pop()


async def test_popping_tells_teardown_of_the_exception_at_hand(app: Samovar) -> None:
    told: list[Any] = []
    app.teardown_request(told.append)
    context = app.test_request_context("/")
    await context.push()
    try:
        raise LookupError
    except LookupError as error:
        await context.pop()
        assert told == [error]


async def test_popping_the_wrong_context_is_an_error(app: Samovar) -> None:
    outer, inner = app.app_context(), app.app_context()
    await outer.push()
    await inner.push()
    with pytest.raises(RuntimeError, match="innermost first"):
        await outer.pop()
    await inner.pop()
    await outer.pop()


async def test_a_copy_shares_what_its_context_holds(app: Samovar) -> None:
    async with app.test_request_context("/path") as context:
        g.tea, session["user"] = "assam", "ann"
        twin = context.copy()
    async with twin:
        assert (request.path, g.tea, session["user"]) == ("/path", "assam", "ann")
        assert twin is not context


async def test_the_contexts_have_proxies_and_the_names_of_three_classes(app: Samovar) -> None:
    assert AppContext is RequestContext is WebsocketContext
    async with app.app_context() as context:
        assert app_ctx == context and isinstance(context, AppContext) and not request_ctx
        with pytest.raises(ContextError, match="'request_ctx'"):
            _ = request_ctx.session
        async with app.test_request_context("/tea") as inner:
            assert request_ctx.request.path == "/tea" == request_ctx.request_websocket.path  # type: ignore[union-attr]
            assert app_ctx == inner and not websocket_ctx


async def test_contexts_nest(app: Samovar) -> None:
    other = Samovar("other", static_folder=None)
    async with app.test_request_context("/outer"):
        async with other.app_context():
            assert current_app.name == "other"
        async with app.test_request_context("/inner"):
            assert request.path == "/inner"
        assert request.path == "/outer" and current_app == app


async def test_a_context_entered_by_hand_tears_down_with_the_error(app: Samovar) -> None:
    seen: list[Any] = []

    @app.teardown_appcontext
    async def teardown(error: BaseException | None) -> None:
        seen.append(error)

    error = ValueError()
    with pytest.raises(ValueError):
        async with app.app_context():
            raise error
    async with app.app_context():
        pass
    assert seen == [error, None]


async def test_copied_contexts_follow_into_tasks(app: Samovar) -> None:
    async with Scope("test") as scope:
        async with app.test_request_context("/x"):

            @copy_current_request_context
            async def path() -> str:
                return request.path

            @copy_current_app_context
            async def name() -> str:
                return current_app.name

        assert not has_app_context()
        assert await scope.start(path()) == "/x"
        assert await scope.start(name()) == app.name


async def test_copied_plain_functions_run_in_a_thread(app: Samovar) -> None:
    @app.get("/<name>")
    async def view(name: str) -> Any:
        @copy_current_request_context
        def blocking() -> list[Any]:
            return [request.path, g.name, threading.current_thread() is threading.main_thread()]

        g.name = name
        async with Scope("test") as scope:
            return await scope.start(blocking())

    answer = await app.test_client().get("/tea")
    assert await answer.get_json() == ["/tea", "tea", False]


def test_copying_without_a_context_is_an_error() -> None:
    with pytest.raises(ContextError):

        @copy_current_request_context
        async def path() -> None: ...


async def test_a_task_started_in_a_request_sees_its_context(app: Samovar) -> None:
    @app.get("/")
    async def view() -> str:
        async with Scope("test") as scope:
            return await scope.start(inner())

    async def inner() -> str:
        return request.path

    assert await (await app.test_client().get("/")).get_data() == b"/"


async def test_a_test_request_context_has_what_it_was_given(app: Samovar) -> None:
    context = app.test_request_context(
        "/a", method="POST", json={"a": 1}, headers={"X": "y"}, auth=("ann", "secret"), subdomain="sub"
    )
    async with context:
        assert await request.get_json() == {"a": 1}
        assert request.authorization is not None and request.authorization.username == "ann"
        assert request.host == "sub.localhost" and request.headers["x"] == "y"


async def test_page_load_cursors_are_kept_for_the_request(app: Samovar) -> None:
    async with app.app_context():
        context = current_context()
        assert context is not None
        context.cursors["a"] = "1:2"
        assert context.cursors == {"a": "1:2"}


async def test_the_wrong_one_of_request_and_websocket_names_the_right_one() -> None:
    app = Samovar(__name__, static_folder=None)

    @app.get("/page")
    async def page() -> str:
        with pytest.raises(ContextError, match="plain HTTP has 'request'"):
            _ = websocket.path
        return "page"

    @app.websocket("/ws")
    async def socket() -> None:
        with pytest.raises(ContextError, match="in a websocket's handler use 'websocket'"):
            _ = request.args
        await websocket.send("socket")

    assert await (await app.test_client().get("/page")).get_data() == b"page"
    async with app.test_client().websocket("/ws") as ws:
        assert await ws.receive() == "socket"


async def test_a_copy_has_the_session_that_nobody_has_opened_yet() -> None:
    app = Samovar(__name__)
    app.secret_key = "key"
    async with app.test_request_context("/") as context:
        twin = context.copy()
        opened = context.opened_session
        assert opened is not None and not opened.accessed
        async with twin:
            session["n"] = 1
        assert session["n"] == 1
