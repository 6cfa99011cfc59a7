"""Finding the app: by name, by path, by a factory, by itself; and what is said when there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from samovar.core.cli import AppImportError, NoAppError
from samovar.core.cli.discovery import find_app

PLAIN = "from samovar import Samovar\n{} = Samovar({!r})\n"
FACTORY = """
from samovar import Samovar

def create_app(name="default", *, size=1):
    return Samovar(f"{name}{size}")

def needs(it):
    return Samovar(it)

def broken():
    raise LookupError("in the factory")

number = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder, and modules that are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: str, text: str) -> None:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(dedent(text))


@pytest.mark.parametrize("name", ["app.py", "wsgi.py", "asgi.py"])
def test_it_is_found_by_itself(name: str) -> None:
    write(name, PLAIN.format("app", "found"))
    assert find_app(None).name == "found"


@pytest.mark.parametrize(
    "target",
    [
        "shop",
        "shop.py",
        "shop:app",
        "./shop.py:app",
        "shop : app".replace(" ", ""),
    ],
)
def test_a_module_is_named(target: str) -> None:
    write("shop.py", PLAIN.format("app", "shop"))
    assert find_app(target).name == "shop"


@pytest.mark.parametrize(
    "target", ["examples/board/app", "examples/board/app.py", "examples/board", "examples/board/app:app"]
)
def test_a_path_is_named(target: str) -> None:
    write("examples/board/app.py", "import beside\n" + PLAIN.format("app", "board"))
    write("examples/board/beside.py", "")
    assert find_app(target).name == "board"


@pytest.mark.parametrize("target", ["pkg.web", "pkg/web", "pkg/web.py:app", "pkg.web:app"])
def test_a_module_of_a_package_keeps_its_package(target: str) -> None:
    write("pkg/__init__.py", "")
    write("pkg/names.py", "NAME = 'in the package'")
    write("pkg/web.py", "from .names import NAME\nfrom samovar import Samovar\napp = Samovar(NAME)")
    assert find_app(target).name == "in the package"


@pytest.mark.parametrize("target", ["pkg", "pkg/", "pkg/__init__.py", "pkg:app"])
def test_a_package_is_named(target: str) -> None:
    write("pkg/__init__.py", PLAIN.format("app", "package"))
    assert find_app(target).name == "package"


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("made", "default1"),
        ("made:create_app", "default1"),
        ("made:create_app()", "default1"),
        ("made:create_app('a', size=2)", "a2"),
        ('made.py:create_app("a:b")', "a:b1"),
        ("made:needs('x')", "x"),
    ],
)
def test_a_factory_makes_it(target: str, name: str) -> None:
    write("made.py", FACTORY)
    assert find_app(target).name == name


@pytest.mark.parametrize("name", ["application", "anything"])
def test_another_name_is_found(name: str) -> None:
    write("app.py", PLAIN.format(name, "other"))
    assert find_app(None).name == "other"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (None, "no app.py, wsgi.py or asgi.py in"),
        ("nowhere", "no module 'nowhere'"),
        ("no.where:app", "no module 'no.where'"),
        ("no/where", "looked for no/where.py, no/where/__init__.py, no/where/app.py"),
        ("nowhere.py", "looked for nowhere.py"),
        ("made:missing", "no 'missing' in 'made'"),
        ("made:number", "made:number is no Samovar app but int"),
        ("made:needs", "missing a required argument: 'it'"),
        ("made:create_app(name)", "neither a name nor a call"),
        ("made:create_app(", "neither a name nor a call"),
        ("made:1 + 1", "neither a name nor a call"),
        ("two", "2 apps"),
        ("empty", "looked for app and application"),
    ],
)
def test_what_was_looked_for_is_said(target: str | None, said: str) -> None:
    write("made.py", FACTORY)
    write("two.py", PLAIN.format("one", "one") + PLAIN.format("two", "two"))
    write("empty.py", "")
    with pytest.raises(NoAppError) as failed:
        find_app(target)
    assert said in failed.value.message
    assert failed.value.exit_code == 2


def test_a_name_taken_by_another_module_is_said() -> None:
    write("sub/json.py", PLAIN.format("app", "json"))
    with pytest.raises(NoAppError, match="that name is taken by"):
        find_app("sub/json.py")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("import helper_that_fails", ["shop.py", "helper_that_fails.py", "LookupError: deep down"]),
        ("import not_installed_anywhere", ["shop.py", "No module named 'not_installed_anywhere'"]),
        ("this is no python", ["shop.py", "SyntaxError"]),
    ],
)
def test_an_error_of_the_module_is_shown_whole_and_without_our_frames(text: str, shown: list[str]) -> None:
    write("shop.py", text)
    write("helper_that_fails.py", "raise LookupError('deep down')")
    with pytest.raises(AppImportError) as failed:
        find_app("shop")
    for part in shown:
        assert part in failed.value.trace
    assert "discovery.py" not in failed.value.trace
    assert failed.value.exit_code == 1


def test_an_error_of_the_factory_is_shown_whole() -> None:
    write("made.py", FACTORY)
    with pytest.raises(AppImportError) as failed:
        find_app("made:broken")
    assert 'raise LookupError("in the factory")' in failed.value.trace
