"""Starlette."""

from __future__ import annotations

from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.routing import Route

from . import CONTEXT, MESSAGE, PAGE, ROUTES, TEXT

template = jinja2.Environment(autoescape=True, enable_async=True).from_string(PAGE)


async def plain(request: Any) -> Any:
    return PlainTextResponse(TEXT)


async def view(request: Any) -> Any:
    return JSONResponse(MESSAGE)


async def user(request: Any) -> Any:
    return JSONResponse({"id": request.path_params["id"], "name": "user"})


async def echo(request: Any) -> Any:
    return JSONResponse(await request.json())


async def page(request: Any) -> Any:
    return HTMLResponse(await template.render_async(CONTEXT))


def item(number: int) -> Any:
    async def answer(request: Any) -> Any:
        return JSONResponse({"id": request.path_params["id"], "r": number})

    return answer


app = Starlette(
    routes=[
        Route("/plain", plain),
        Route("/json", view),
        Route("/users/{id:int}", user),
        Route("/echo", echo, methods=["POST"]),
        Route("/page", page),
        *(Route(f"/r{number}/items/{{id:int}}", item(number)) for number in range(ROUTES)),
    ]
)
