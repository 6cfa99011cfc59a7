"""Other ASGI apps under paths: who gets what, and who starts and stops when."""

from __future__ import annotations

from typing import Any

import pytest

from samovar import Samovar, request, url_for, websocket
from samovar.core.asgi import Mounts
from samovar.errors import ConfigError, LifespanError


class Inner:
    """Answers with what it sees of a request; writes down its lifespan."""

    def __init__(self, log: list[str], name: str, fails: str = "") -> None:
        self.log, self.name, self.fails = log, name, fails

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["name"] = self.name
            for step in ("startup", "shutdown"):
                await receive()
                self.log.append(f"{self.name} {step}")
                outcome = "failed" if self.fails == step else "complete"
                await send({"type": f"lifespan.{step}.{outcome}", "message": "no water"})
            return
        seen = f"{scope['state'].get('name')} {scope['root_path']} {scope['path']}"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": seen.encode()})


async def no_lifespan(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise ValueError("HTTP only")  # Django's answer
    await Inner([], "plain")(scope, receive, send)


def make(log: list[str], mounts: dict[str, Any]) -> Samovar:
    app = Samovar(__name__)

    @app.get("/<path:path>")
    async def rest(path: str) -> str:
        return f"rest {path}"

    @app.before_serving
    async def start() -> None:
        log.append("app startup")

    @app.after_serving
    async def stop() -> None:
        log.append("app shutdown")

    app.asgi_app = Mounts(app.asgi_app, mounts)  # type: ignore[method-assign]  # Flask's way to wrap an app
    return app


@pytest.mark.parametrize(
    ("path", "root", "seen"),
    [
        ("/a", "", "one /a /a"),
        ("/a/x", "", "one /a /a/x"),
        ("/a/b", "", "two /a/b /a/b"),
        ("/a/b/c", "", "two /a/b /a/b/c"),
        ("/a/bc", "", "one /a /a/bc"),
        ("/ab", "", "rest ab"),
        ("/A", "", "rest A"),
        ("/a/x", "/base", "one /base/a /base/a/x"),
        ("/x", "/base", "rest x"),
        ("/x", "/a", "rest x"),
        ("/c/x", "", "None /c /c/x"),
    ],
)
async def test_the_longest_path_that_fits_gets_the_request(path: str, root: str, seen: str) -> None:
    app = make([], {"/a": Inner([], "one"), "/a/b": Inner([], "two"), "/c": no_lifespan})
    async with app.test_app() as test_app:
        answer = await test_app.test_client().get(path, root_path=root)
        assert await answer.get_data(as_text=True) == seen


async def test_a_server_that_leaves_the_root_out_of_the_path_is_understood() -> None:
    app = make([], {"/a": Inner([], "one")})
    async with app.test_app() as test_app:
        base = {"root_path": "/base", "path": "/a/x"}
        answer = await test_app.test_client().get("/a/x", scope_base=base)
        assert await answer.get_data(as_text=True) == "one /base/a /base/a/x"


async def test_mounted_apps_live_around_the_app() -> None:
    log: list[str] = []
    async with make(log, {"/a": Inner(log, "a"), "/bb": Inner(log, "b")}).test_app():
        assert log == ["b startup", "a startup", "app startup"]
    assert log[3:] == ["app shutdown", "a shutdown", "b shutdown"]


async def test_when_one_does_not_start_nothing_does() -> None:
    log: list[str] = []
    app = make(log, {"/a": Inner(log, "a", fails="startup"), "/bb": Inner(log, "b")})
    with pytest.raises(LifespanError, match=r"under /a: .*no water"):
        await app.test_app().startup()
    assert log == ["b startup", "a startup", "b shutdown"]


async def test_what_was_mounted_stops_when_the_app_does_not_start() -> None:
    log: list[str] = []
    app = make(log, {"/a": Inner(log, "a")})

    @app.before_serving
    async def fail() -> None:
        raise OSError("no tea")

    with pytest.raises(LifespanError, match="no tea"):
        await app.test_app().startup()
    assert log == ["a startup", "app startup", "app shutdown", "a shutdown"]


async def test_a_mounted_app_that_does_not_stop_well_is_told_of() -> None:
    test_app = make([], {"/a": Inner([], "a", fails="shutdown")}).test_app()
    await test_app.startup()
    with pytest.raises(LifespanError, match="no water"):
        await test_app.shutdown()


async def test_samovar_inside_samovar_builds_its_urls_below_its_path() -> None:
    inner = Samovar("inner")

    @inner.get("/here")
    async def here() -> dict[str, str]:
        return {"path": request.path, "url": url_for("here"), "root": request.root_path}

    @inner.websocket("/ws")
    async def ws() -> None:
        await websocket.send(websocket.path)

    async with make([], {"/in": inner}).test_app() as test_app:
        client = test_app.test_client()
        answer = await client.get("/in/here")
        assert await answer.get_json() == {"path": "/here", "url": "/in/here", "root": "/in"}
        async with client.websocket("/in/ws") as socket:
            assert await socket.receive() == "/ws"


@pytest.mark.parametrize("path", ["", "/", "a", "/a/"])
def test_a_path_that_none_is_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="'/blog'"):
        Mounts(Samovar(__name__), {path: no_lifespan})
