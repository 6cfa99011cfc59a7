"""The JavaScript client's own tests (``*.test.mjs``), run by the test runner that Node has in itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ..conftest import need
from ..services import NODE, Found

HERE = Path(__file__).parent


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Found:
    return need(NODE, request.config)


def test_the_clients_own_tests_pass(node: Found) -> None:
    files = sorted(HERE.glob("*.test.mjs"))
    command: list[str | Path] = [node.path, "--test", "--test-reporter=tap", *files]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    passed = int(result.stdout.rpartition("# pass ")[2].split()[0])
    assert passed > 70, "tests were not found"
