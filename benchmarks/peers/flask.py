"""Flask, for Gunicorn."""

from __future__ import annotations

from typing import Any

import jinja2
from flask import Flask, render_template, request

from . import CONTEXT, MESSAGE, PAGE, ROUTES, TEXT

app = Flask("benchmark")
app.jinja_options = {"loader": jinja2.DictLoader({"page.html": PAGE})}


@app.get("/plain")
def plain() -> Any:
    return TEXT, 200, {"Content-Type": "text/plain; charset=utf-8"}


@app.get("/json")
def view() -> Any:
    return MESSAGE


@app.get("/users/<int:id>")
def user(id: int) -> Any:
    return {"id": id, "name": "user"}


@app.post("/echo")
def echo() -> Any:
    return request.get_json()


@app.get("/page")
def page() -> Any:
    return render_template("page.html", **CONTEXT)


def item(number: int) -> Any:
    def answer(id: int) -> Any:
        return {"id": id, "r": number}

    return answer


for number in range(ROUTES):
    app.add_url_rule(f"/r{number}/items/<int:id>", f"r{number}", item(number))
