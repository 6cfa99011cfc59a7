"""aiohttp, on its own server: ``python -m peers.aiohttp PORT``."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import jinja2
from aiohttp import web

from . import CONTEXT, MESSAGE, PAGE, ROUTES, TEXT

template = jinja2.Environment(autoescape=True, enable_async=True).from_string(PAGE)


async def plain(request: Any) -> Any:
    return web.Response(text=TEXT)


async def view(request: Any) -> Any:
    return web.json_response(MESSAGE)


async def user(request: Any) -> Any:
    return web.json_response({"id": int(request.match_info["id"]), "name": "user"})


async def echo(request: Any) -> Any:
    return web.json_response(await request.json())


async def page(request: Any) -> Any:
    return web.Response(text=await template.render_async(CONTEXT), content_type="text/html")


def item(number: int) -> Any:
    async def answer(request: Any) -> Any:
        return web.json_response({"id": int(request.match_info["id"]), "r": number})

    return answer


def build() -> web.Application:
    """The application."""
    app = web.Application()
    app.router.add_get("/plain", plain)
    app.router.add_get("/json", view)
    app.router.add_get(r"/users/{id:\d+}", user)
    app.router.add_post("/echo", echo)
    app.router.add_get("/page", page)
    for number in range(ROUTES):
        app.router.add_get(rf"/r{number}/items/{{id:\d+}}", item(number))
    return app


if __name__ == "__main__":
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    web.run_app(
        build(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=new_event_loop()
    )
