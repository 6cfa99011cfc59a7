"""The page of recipes shows these files and these commands."""

from __future__ import annotations

import re

from ..services import ROOT
from .test_servers import COMMANDS, QUIC

PAGE = (ROOT / "docs/how-to/recipes.md").read_text()
RECIPES = ROOT / "examples/recipes"


def test_every_file_is_shown_and_every_file_shown_exists() -> None:
    shown = re.findall(r"^```\{literalinclude\} \.\./\.\./examples/recipes/(\S+)$", PAGE, re.MULTILINE)
    files = [
        str(path.relative_to(RECIPES))
        for path in RECIPES.rglob("*.*")
        if path.suffix in {".py", ".mako"} and path.name != "__init__.py"
    ]
    assert sorted(shown) == sorted(files)


def test_the_commands_of_the_servers_are_those_that_the_tests_run() -> None:
    commands = [command.replace("PORT", "8000") for command in (*COMMANDS.values(), QUIC)]
    assert [command for command in commands if command not in PAGE.splitlines()] == []
