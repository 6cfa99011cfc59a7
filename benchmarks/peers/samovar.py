"""Samovar, as anybody would write it."""

from __future__ import annotations

from typing import Any

import jinja2

from samovar import Samovar, current_app, g, render_template, request, session

from . import CONTEXT, MESSAGE, PAGE, ROUTES, TEXT


def build(routes: int = ROUTES, hooks: bool = False) -> Samovar:
    """The application, with so many more routes; with hooks: two before, two after, one teardown."""
    app = Samovar("benchmark")
    app.secret_key = "benchmark"
    app.jinja_options = {"loader": jinja2.DictLoader({"page.html": PAGE})}

    @app.get("/plain")
    async def plain() -> Any:
        return TEXT, 200, {"Content-Type": "text/plain; charset=utf-8"}

    @app.get("/json")
    async def view() -> Any:
        return MESSAGE

    @app.get("/users/<int:id>")
    async def user(id: int) -> Any:
        return {"id": id, "name": "user"}

    @app.post("/echo")
    async def echo() -> Any:
        return await request.get_json()

    @app.get("/page")
    async def page() -> Any:
        return await render_template("page.html", **CONTEXT)

    @app.get("/touch")
    async def touch() -> Any:
        g.path = request.path
        return {"path": g.path, "method": request.method, "app": current_app.name}

    @app.get("/session")
    async def count() -> Any:
        session["n"] = session.get("n", 0) + 1
        return {"n": session["n"]}

    for number in range(routes):
        app.add_url_rule(f"/r{number}/items/<int:id>", f"r{number}", _item(number))
    if hooks:
        _add_hooks(app)
    return app


def _item(number: int) -> Any:
    async def item(id: int) -> Any:
        return {"id": id, "r": number}

    return item


def _add_hooks(app: Samovar) -> None:
    @app.before_request
    async def first() -> None:
        g.first = 1

    @app.before_request
    async def second() -> None:
        g.second = 2

    @app.after_request
    async def third(response: Any) -> Any:
        return response

    @app.after_request
    async def fourth(response: Any) -> Any:
        return response

    @app.teardown_request
    async def last(error: BaseException | None) -> None:
        return None


app = build()
