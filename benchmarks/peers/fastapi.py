"""FastAPI."""

from __future__ import annotations

from typing import Any

import jinja2
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, PlainTextResponse

from . import CONTEXT, MESSAGE, PAGE, ROUTES, TEXT

app = FastAPI(openapi_url=None)
template = jinja2.Environment(autoescape=True, enable_async=True).from_string(PAGE)


@app.get("/plain", response_class=PlainTextResponse)
async def plain() -> Any:
    return TEXT


@app.get("/json")
async def view() -> Any:
    return MESSAGE


@app.get("/users/{id}")
async def user(id: int) -> Any:
    return {"id": id, "name": "user"}


@app.post("/echo")
async def echo(body: dict[str, Any]) -> Any:
    return body


@app.get("/page", response_class=HTMLResponse)
async def page() -> Any:
    return await template.render_async(CONTEXT)


def item(number: int) -> Any:
    async def answer(id: int) -> Any:
        return {"id": id, "r": number}

    return answer


for number in range(ROUTES):
    app.get(f"/r{number}/items/{{id}}")(item(number))
