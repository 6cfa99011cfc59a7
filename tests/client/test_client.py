"""The JavaScript client's own tests (``*.test.mjs``), by the runner that Node has in itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ..services import NODE, Found
from ..conftest import need

HERE = Path(__file__).parent


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Found:
    return need(NODE, request.config)


def test_the_clients_own_tests_pass(node: Found) -> None:
    files = sorted(HERE.glob("*.test.mjs"))
    result = subprocess.run(
        [node.path, "--test", "--test-reporter=tap", *files], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"# fail 0" in result.stdout
    assert int(result.stdout.split("# pass ")[1].split()[0]) >= len(files)
