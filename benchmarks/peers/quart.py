"""Quart."""

from __future__ import annotations

from typing import Any

import jinja2
from quart import Quart, render_template, request

from . import CONTEXT, MESSAGE, PAGE, ROUTES, TEXT

app = Quart("benchmark")
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


def item(number: int) -> Any:
    async def answer(id: int) -> Any:
        return {"id": id, "r": number}

    return answer


for number in range(ROUTES):
    app.add_url_rule(f"/r{number}/items/<int:id>", f"r{number}", item(number))
