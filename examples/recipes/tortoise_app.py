"""Tortoise ORM: opened before the first request, closed after the last."""

import os
from collections.abc import AsyncIterator

from tortoise import Tortoise, fields
from tortoise.models import Model

from samovar import Samovar, request

app = Samovar(__name__)


class Tea(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=80, unique=True)


@app.while_serving
async def database() -> AsyncIterator[None]:
    await Tortoise.init(
        db_url=os.environ.get("DATABASE_URL", "sqlite://teas.db"),
        modules={"models": [__name__]},
        _enable_global_fallback=True,  # for all tasks of the process: each request is one
    )
    await Tortoise.generate_schemas()
    yield
    await Tortoise.close_connections()


@app.get("/teas")
async def teas() -> list[str]:
    return [tea.name async for tea in Tea.all().order_by("name")]


@app.post("/teas")
async def add_tea() -> tuple[dict[str, int], int]:
    tea = await Tea.create(name=(await request.get_json())["name"])
    return {"id": tea.id}, 201
