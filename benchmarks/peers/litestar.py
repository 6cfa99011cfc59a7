"""Litestar."""

from __future__ import annotations

from typing import Any

import jinja2
from litestar import Litestar, MediaType, get, post

from . import CONTEXT, MESSAGE, PAGE, ROUTES, TEXT

template = jinja2.Environment(autoescape=True, enable_async=True).from_string(PAGE)


@get("/plain", media_type=MediaType.TEXT)
async def plain() -> str:
    return TEXT


@get("/json")
async def view() -> dict[str, Any]:
    return MESSAGE


@get("/users/{id:int}")
async def user(id: int) -> dict[str, Any]:
    return {"id": id, "name": "user"}


@post("/echo", status_code=200)
async def echo(data: dict[str, Any]) -> dict[str, Any]:
    return data


@get("/page", media_type=MediaType.HTML)
async def page() -> str:
    return await template.render_async(CONTEXT)


def item(number: int) -> Any:
    @get(f"/r{number}/items/{{id:int}}")
    async def answer(id: int) -> dict[str, Any]:
        return {"id": id, "r": number}

    return answer


app = Litestar([plain, view, user, echo, page, *map(item, range(ROUTES))], openapi_config=None)
