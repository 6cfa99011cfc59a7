"""Running the real command and reading what it says."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.process import Process
from tests.support.until import PATIENCE

SERVING = re.compile(
    r"Samovar is serving '(?P<name>.*)' on (?P<url>\S+) \((?P<server>\w+)(, \d workers)?; Ctrl-C stops\)"
)
ROOT = Path(__file__).resolve().parents[2]
QUIET = {
    "PYTHONUNBUFFERED": "1",
    "SAMOVAR_APP": None,
    "SAMOVAR_DEBUG": None,
    "DISPLAY": None,
    "BROWSER": None,
}

_numbers = itertools.count(1)


class Served:
    """``samovar … run --port 0`` in a process of its own.

    Args:
        arguments: what stands behind ``samovar``; ``run`` and its options included.
        folder: where it runs, and where its log goes unless *log* says otherwise.
    """

    def __init__(
        self,
        *arguments: str,
        folder: Path,
        log: Path | None = None,
        env: Mapping[str, str | None] | None = None,
    ) -> None:
        self.process = Process(
            [sys.executable, "-m", "samovar", *arguments],
            log=log or folder / f"samovar-{next(_numbers)}.log",
            cwd=folder,
            env=QUIET | dict(env or {}),
        )

    def wait(self, count: int = 1) -> str:
        """Wait until it has said *count* times that it serves; returns the last address."""
        self.process.wait_until(lambda: len(self.said()) >= count, what="line that says it serves")
        return self.said()[-1]["url"]

    def said(self) -> list[re.Match[str]]:
        return list(SERVING.finditer(self.process.output()))

    @property
    def port(self) -> int:
        return int(self.said()[-1]["url"].rpartition(":")[2])


def samovar(
    *arguments: str, folder: Path, env: Mapping[str, str | None] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run ``samovar`` to its end, at most a minute."""
    merged = {**os.environ, **QUIET, **(env or {})}
    return subprocess.run(
        [sys.executable, "-m", "samovar", *arguments],
        cwd=folder,
        env={name: value for name, value in merged.items() if value is not None},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
