"""Sanic, on its own server: ``python -m peers.sanic PORT``."""

from __future__ import annotations

import sys
from typing import Any

import jinja2
from sanic import Sanic
from sanic.response import html, json, text

from . import CONTEXT, MESSAGE, PAGE, ROUTES, TEXT

app = Sanic("benchmark")
template = jinja2.Environment(autoescape=True, enable_async=True).from_string(PAGE)


@app.get("/plain")
async def plain(request: Any) -> Any:
    return text(TEXT)


@app.get("/json")
async def view(request: Any) -> Any:
    return json(MESSAGE)


@app.get("/users/<id:int>")
async def user(request: Any, id: int) -> Any:
    return json({"id": id, "name": "user"})


@app.post("/echo")
async def echo(request: Any) -> Any:
    return json(request.json)


@app.get("/page")
async def page(request: Any) -> Any:
    return html(await template.render_async(CONTEXT))


def item(number: int) -> Any:
    async def answer(request: Any, id: int) -> Any:
        return json({"id": id, "r": number})

    return answer


for number in range(ROUTES):
    app.add_route(item(number), f"/r{number}/items/<id:int>", name=f"r{number}")

if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[1]), single_process=True, access_log=False, motd=False)
