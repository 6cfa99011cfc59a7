"""Falcon."""

from __future__ import annotations

from typing import Any

import falcon
import falcon.asgi
import jinja2

from . import CONTEXT, MESSAGE, PAGE, ROUTES, TEXT

template = jinja2.Environment(autoescape=True, enable_async=True).from_string(PAGE)


class Plain:
    async def on_get(self, req: Any, resp: Any) -> None:
        resp.content_type = falcon.MEDIA_TEXT
        resp.text = TEXT


class View:
    async def on_get(self, req: Any, resp: Any) -> None:
        resp.media = MESSAGE


class User:
    async def on_get(self, req: Any, resp: Any, id: int) -> None:
        resp.media = {"id": id, "name": "user"}


class Echo:
    async def on_post(self, req: Any, resp: Any) -> None:
        resp.media = await req.get_media()


class Page:
    async def on_get(self, req: Any, resp: Any) -> None:
        resp.content_type = falcon.MEDIA_HTML
        resp.text = await template.render_async(CONTEXT)


class Item:
    def __init__(self, number: int) -> None:
        self.number = number

    async def on_get(self, req: Any, resp: Any, id: int) -> None:
        resp.media = {"id": id, "r": self.number}


app = falcon.asgi.App()
for path, resource in (
    ("/plain", Plain()),
    ("/json", View()),
    ("/users/{id:int}", User()),
    ("/echo", Echo()),
    ("/page", Page()),
    *((f"/r{number}/items/{{id:int}}", Item(number)) for number in range(ROUTES)),
):
    app.add_route(path, resource)
