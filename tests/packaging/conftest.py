"""The tree copied away from where it is developed, and what is built from the copy."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..services import ROOT
from ..support.uv import uv

NOT_COPIED = (
    ".git", ".venv", ".dev", "uv.lock", "dist", "node_modules", "_build",
    "__pycache__", ".*_cache", ".coverage*",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Built:
    """A copy of the tree, with its wheel and its sdist."""

    tree: Path
    wheel: Path
    sdist: Path


def copy_tree(target: Path) -> Path:
    """Copy the repository as a fresh clone has it: without what tools have made in it."""
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*NOT_COPIED))
    return target


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The wheel and the sdist, each built from a copy of the tree."""
    folder = tmp_path_factory.mktemp("built")
    tree = copy_tree(folder / "tree")
    uv("build", "--quiet", "--wheel", "--sdist", "--out-dir", folder, cwd=tree)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return Built(tree, wheel, sdist)


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has nothing but the wheel, with what it requires, and the demo's psutil."""
    folder = tmp_path_factory.mktemp("installed")
    uv("venv", "--quiet", folder / "env", cwd=folder)
    python = folder / "env/bin/python"
    uv("pip", "install", "--quiet", "--python", python, built.wheel, "psutil", cwd=folder)
    return python
