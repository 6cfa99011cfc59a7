"""The public names exist, and importing the package brings no library that is optional."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys

import pytest

from .services import ROOT

PUBLIC = ["samovar", "samovar.broadcast", "samovar.backends", "samovar.core"]
OPTIONAL = {
    "aio_pika",
    "dotenv",
    "flask",
    "greenback",
    "hiredis",
    "httptools",
    "orjson",
    "pamqp",
    "playwright",
    "prometheus_client",
    "psutil",
    "pytest",
    "pytest_asyncio",
    "quart",
    "redis",
    "uvicorn",
    "uvloop",
    "watchfiles",
    "websockets",
}
# A worker pays for these only when it serves by them, runs a command, or looks for what other packages offer.
NOT_AT_IMPORT = {"click", "hypercorn", "zipfile"}  # the last stands for importlib.metadata, which brings it


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_exists_and_is_listed_once_in_order(name: str) -> None:
    module = importlib.import_module(name)
    listed = list(getattr(module, "__all__", []))
    assert [entry for entry in listed if not hasattr(module, entry)] == []
    assert len(listed) == len(set(listed))


def test_a_star_import_gives_what_is_listed() -> None:
    namespace: dict[str, object] = {}
    exec("from samovar import *", namespace)
    assert set(importlib.import_module("samovar").__all__) <= namespace.keys()


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after *statement*."""
    script = f"{statement}\nimport sys\nprint(sorted({{name.partition('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(ast.literal_eval(result.stdout))


def test_importing_the_package_brings_nothing_optional() -> None:
    loaded = loaded_by("import samovar, samovar.core.app, samovar.broadcast")
    assert loaded & (OPTIONAL | NOT_AT_IMPORT) == set()


def test_broadcast_alone_brings_no_web_framework_beyond_the_package_s_own_import() -> None:
    # What broadcast/ itself imports is held by the floors; here: its modules work when imported first.
    assert "msgpack" in loaded_by("import samovar.broadcast.codec")


def test_the_directory_is_not_a_second_package() -> None:
    result = subprocess.run([sys.executable, "-c", "import src"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert "import this package as 'samovar'" in result.stderr
