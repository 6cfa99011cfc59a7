"""The code of the pages about testing and the command line runs."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from tests.services import ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def names_of(path: str) -> dict[str, Any]:
    """What the Python blocks of a page define, run as one module."""
    names: dict[str, Any] = {"__name__": "snippets", "__file__": str(ROOT / path)}
    for block in BLOCK.findall((ROOT / path).read_text()):
        exec(compile(block, path, "exec"), names)
    return names


PAGE = names_of("docs/how-to/testing.md")
TESTS = sorted(name for name in PAGE if name.startswith("test_"))


@pytest.mark.parametrize("name", [name for name in TESTS if inspect.iscoroutinefunction(PAGE[name])])
async def test_a_test_of_the_page_passes(name: str) -> None:
    await PAGE[name]()


@pytest.mark.parametrize("name", [name for name in TESTS if not inspect.iscoroutinefunction(PAGE[name])])
def test_a_sync_test_of_the_page_passes(name: str) -> None:
    PAGE[name]()


def test_the_command_of_the_page_publishes() -> None:
    app = names_of("docs/reference/cli.md")["app"]
    result = app.test_cli_runner().invoke(args=["announce", "tea is ready"])
    assert (result.exit_code, result.output[:13]) == (0, "published as ")
