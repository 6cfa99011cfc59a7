"""The uv that ``./dev`` uses, for tests that build and install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ..services import DEV, Missing

# What a run inside our own environment sets and an environment of its own must not inherit.
FOREIGN = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH", "PYTHONHOME", "UV_RUN_RECURSION_DEPTH")


class Failed(RuntimeError):
    """A command of uv failed; the message is what it printed."""


def uv_program() -> str:
    """uv: the one that runs these tests, or on PATH, or where ``./dev`` put it.

    Raises:
        Missing: there is none; the message names the command that helps.
    """
    candidates = (
        os.environ.get("UV", ""),
        DEV / "uv/bin/uv",
        DEV / "uvenv/bin/uv",
        Path.home() / ".local/bin/uv",
    )
    for candidate in ("uv", *candidates):
        if candidate and (found := shutil.which(candidate)):
            return found
    raise Missing("no uv on this machine; run: ./dev prepare")


def environment(**more: str) -> dict[str, str]:
    """Our environment variables without those that point at our own virtual environment, but with our Python."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return kept | {"UV_PYTHON": sys.executable} | more


def uv(*arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run uv from its cache, which ``./dev test`` has filled; only when that is not enough, from the network.

    Raises:
        Failed: it failed both ways.
    """
    for network in (["--offline"], []):
        command = [uv_program(), *map(str, arguments), *network]
        result = subprocess.run(
            command, cwd=cwd, env=env or environment(), capture_output=True, text=True, timeout=110
        )
        if result.returncode == 0:
            return result.stdout
    raise Failed(f"{' '.join(command)} exited with {result.returncode}:\n{result.stdout}{result.stderr}")
