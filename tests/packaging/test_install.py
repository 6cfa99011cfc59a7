"""Installed into an empty environment, the package serves from anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ..services import ROOT
from ..support.http import get, open_stream
from ..support.server import AppServer
from ..support.uv import environment, uv
from .conftest import copy_tree

pytestmark = pytest.mark.limit(300)  # seconds: environments are made

TEN_LINES = """
from samovar import Samovar, event_stream, hub

app = Samovar(__name__)

@app.get("/")
async def index() -> str:
    await hub.publish("tea", {"cups": 1})
    return "<h1>tea</h1>"

@app.get("/events")
async def events():
    return await event_stream("tea", last=1)
"""


def run_python(python: Path, script: str, cwd: Path) -> str:
    result = subprocess.run(
        [str(python), "-c", script], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_package_comes_from_the_environment(installed: Path, tmp_path: Path) -> None:
    report = "import samovar, sys; print(*sys.version_info[:2], samovar.__file__)"
    *version, where = run_python(installed, report, tmp_path).split(maxsplit=2)
    assert Path(where).is_relative_to(installed.parent.parent)
    assert tuple(map(int, version)) == sys.version_info[:2]  # and with the Python that these tests run on


def test_the_command_is_installed(installed: Path, tmp_path: Path) -> None:
    command = [str(installed.parent / "samovar"), "--help"]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert "run" in result.stdout


async def test_ten_lines_are_served(
    installed: Path, tmp_path: Path, serve: Callable[..., Awaitable[AppServer]]
) -> None:
    (tmp_path / "app.py").write_text(TEN_LINES)
    server = await serve("app", python=str(installed), cwd=tmp_path, env={"PYTHONPATH": None})
    response = await get(f"{server.url}/")
    assert (response.status, response.text) == (200, "<h1>tea</h1>")
    async with open_stream(f"{server.url}/events") as stream:
        assert (await stream.event("subscribed")).json()["channel"] == "tea"
        assert (await stream.event("message")).json()["data"] == {"cups": 1}


async def test_the_dashboard_is_served_from_elsewhere(
    installed: Path, tmp_path: Path, serve: Callable[..., Awaitable[AppServer]]
) -> None:
    shutil.copytree(
        ROOT / "examples/dashboard", tmp_path / "dashboard", ignore=shutil.ignore_patterns("__pycache__")
    )
    server = await serve("dashboard/app", python=str(installed), cwd=tmp_path, env={"PYTHONPATH": None})
    page = await get(f"{server.url}/")
    assert page.status == 200
    assert "text/html" in page.headers["content-type"]
    async with open_stream(f"{server.url}/charts/events") as stream:
        assert (await stream.event("subscribed")).json()["subscribed"] is True
        assert (await stream.event("message")).json()["data"]


def test_an_editable_install_is_live_and_heals_when_its_link_is_gone(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    importing = ["run", "--quiet", "python", "-c", "import samovar; print(samovar.__file__, samovar.__doc__)"]
    where, _, doc = uv(*importing, cwd=tree).partition(" ")
    assert Path(where).parent == tree / ".dev/samovar"
    assert os.readlink(tree / ".dev/samovar") == "../src"

    (tree / "src/__init__.py").write_text('"""Edited."""\n')
    assert uv(*importing, cwd=tree).endswith("Edited.\n")

    shutil.rmtree(tree / ".dev")
    assert uv(*importing, cwd=tree).endswith("Edited.\n")
    assert doc != "Edited.\n"
