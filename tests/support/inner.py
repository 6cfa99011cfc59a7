"""Test files run by a pytest of their own: how the test tools themselves are tested."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from ..services import ROOT
from .until import PATIENCE

INI = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
PLUGINS = ("-p", "no:cacheprovider", "-p", "tests.support.leaks", "-p", "tests.support.limits")


def run_inner(folder: Path, body: str) -> tuple[int, str]:
    """Run *body* as a test file under the leak fixture and the time limit; returns pytest's exit code and output."""
    (folder / "pytest.ini").write_text(INI)
    (folder / "test_inner.py").write_text(textwrap.dedent(body))
    command = [sys.executable, "-m", "pytest", "-q", *PLUGINS, f"--rootdir={folder}", str(folder)]
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CI", "BUILD_NUMBER")  # else more is told
        and not name.startswith("PYTEST_XDIST")
    }
    env["SAMOVAR_TEST_LEAK_PATIENCE"] = "0.5"  # these tests do leave something
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE)
    return result.returncode, result.stdout + result.stderr
