"""BlackSheep."""

from __future__ import annotations

from typing import Any

import jinja2
from blacksheep import Application, FromJSON, html, json, text

from . import CONTEXT, MESSAGE, PAGE, ROUTES, TEXT

app = Application()
template = jinja2.Environment(autoescape=True, enable_async=True).from_string(PAGE)


@app.router.get("/plain")
async def plain() -> Any:
    return text(TEXT)


@app.router.get("/json")
async def view() -> Any:
    return json(MESSAGE)


async def user(id: int) -> Any:
    return json({"id": id, "name": "user"})


async def echo(data: FromJSON[dict[str, Any]]) -> Any:
    return json(data.value)


@app.router.get("/page")
async def page() -> Any:
    return html(await template.render_async(CONTEXT))


# It reads annotations as objects: what postponed evaluation leaves as text is given by hand.
user.__annotations__ = {"id": int}
echo.__annotations__ = {"data": FromJSON[dict]}
app.router.add_get("/users/{id}", user)
app.router.add_post("/echo", echo)


def item(number: int) -> Any:
    async def answer(id: int) -> Any:
        return json({"id": id, "r": number})

    answer.__annotations__ = {"id": int}
    return answer


for number in range(ROUTES):
    app.router.add_get(f"/r{number}/items/{{id}}", item(number))
