"""What is built holds what it should and nothing else."""

from __future__ import annotations

import configparser
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from ..services import ROOT
from ..support.uv import uv
from .conftest import Built

pytestmark = pytest.mark.limit(300)  # seconds: builds run pip-like tools


def wheel_files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def source_files() -> dict[str, bytes]:
    """The files of src/, under the names they have in a wheel."""
    return {
        f"samovar/{path.relative_to(ROOT / 'src').as_posix()}": path.read_bytes()
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_is_the_package_and_its_metadata(built: Built) -> None:
    names = set(wheel_files(built.wheel))
    package = {name for name in names if name.startswith("samovar/")}
    rest = {name.partition("/")[2] for name in names - package}
    assert package == source_files().keys()
    assert rest == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


@pytest.mark.parametrize("name", ["py.typed", "__main__.py", "core/realtime/client/index.js"])
def test_the_wheel_has_what_is_not_imported_too(built: Built, name: str) -> None:
    assert f"samovar/{name}" in wheel_files(built.wheel)


def test_the_wheel_says_what_it_is(built: Built) -> None:
    files = wheel_files(built.wheel)
    (metadata,) = (text.decode() for name, text in files.items() if name.endswith("/METADATA"))
    (points,) = (text.decode() for name, text in files.items() if name.endswith("/entry_points.txt"))
    assert "License-Expression: MIT" in metadata
    assert "Requires-Python: >=3.11" in metadata
    versions = re.findall(r"^Classifier: Programming Language :: Python :: (3\.\d+)$", metadata, re.MULTILINE)
    assert f"passes on {', '.join(versions[:-1])} and {versions[-1]}." in (ROOT / "README.md").read_text()
    assert "playwright" not in metadata, "the test group leaked into what users install"
    parsed = configparser.ConfigParser()
    parsed.read_string(points)
    assert parsed["console_scripts"]["samovar"] == "samovar.core.cli:main"


def sdist_names(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def test_the_sdist_has_what_a_packager_needs(built: Built) -> None:
    names = sdist_names(built.sdist)
    wanted = {
        "pyproject.toml",
        "hatch_build.py",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "dev",
    }
    wanted |= {"src/__init__.py", "src/py.typed", "tests/conftest.py", "docs/conf.py", "deploy/nginx.conf"}
    assert wanted - names == set()
    assert {name for name in names if name.startswith(("examples/dashboard/",))}
    assert {
        name for name in names if name.startswith((".venv", ".dev", "uv.lock")) or "__pycache__" in name
    } == set()


def test_the_sdist_builds_the_same_wheel(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and later have it
        archive.extractall(tmp_path)
    (tree,) = tmp_path.iterdir()
    uv("build", "--quiet", "--wheel", "--out-dir", tmp_path / "out", cwd=tree)
    (wheel,) = (tmp_path / "out").glob("*.whl")
    assert wheel.name == built.wheel.name
    assert wheel_files(wheel) == wheel_files(built.wheel)
