"""Databases: what is posted is read back, and what fails leaves nothing."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Integer
from sqlalchemy.orm import mapped_column

from ..services import ROOT
from .conftest import Recipe


async def test_sqlalchemy_on_a_schema_made_by_alembic(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path}/teas.db")
    module = recipe("sqlalchemy_app")
    migrated = await asyncio.to_thread(module.app.test_cli_runner().invoke, args=["migrate"])
    assert migrated.exit_code == 0, migrated.output
    async with module.app.test_app() as test_app:
        client = test_app.test_client()
        assert (await client.post("/teas", json={"name": "Assam"})).status_code == 201
        assert (await client.post("/teas", json={"name": "Assam"})).status_code == 409
        assert await (await client.get("/teas")).get_json() == ["Assam"]


async def test_alembic_writes_what_the_models_have_changed(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path}/teas.db")
    module = recipe("sqlalchemy_app")
    copy = shutil.copytree(ROOT / "examples/recipes/migrations", tmp_path / "migrations")
    monkeypatch.setattr(module, "MIGRATIONS", copy)
    module.Tea.grams = mapped_column(Integer)
    for arguments in (["migrate"], ["revise", "How much of each"], ["migrate"]):
        done = await asyncio.to_thread(module.app.test_cli_runner().invoke, args=arguments)
        assert done.exit_code == 0, done.output
    await module.engine.dispose()
    (written,) = (tmp_path / "migrations/versions").glob("*_how_much_of_each.py")
    assert "grams" in written.read_text() and "down_revision = '0001'" in written.read_text()
    with closing(sqlite3.connect(tmp_path / "teas.db")) as database:
        assert "grams" in [column[1] for column in database.execute("pragma table_info(teas)")]


async def test_tortoise(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite://{tmp_path}/teas.db")
    async with recipe("tortoise_app").app.test_app() as test_app:
        client = test_app.test_client()
        answer = await client.post("/teas", json={"name": "Assam"})
        assert (answer.status_code, await answer.get_json()) == (201, {"id": 1})
        assert await (await client.get("/teas")).get_json() == ["Assam"]


async def test_peewee_in_threads(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE", str(tmp_path / "teas.db"))
    module = recipe("peewee_app")
    async with module.app.test_app() as test_app, module.app.hub.subscribe("teas") as messages:
        client = test_app.test_client()
        names = ["Assam", "Ceylon", "Darjeeling", "Keemun"]
        added = await asyncio.gather(*(client.post(f"/teas/{name}") for name in names))
        assert [answer.status_code for answer in added] == [201] * 4
        assert await (await client.get("/teas")).get_json() == names
        assert {(await anext(messages)).data["name"] for _ in names} == set(names)
