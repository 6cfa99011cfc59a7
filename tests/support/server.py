"""An app served by a real server in a process of its own."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from ..services import ROOT
from .ports import free_port, release_port
from .process import Process

ServerName = Literal["samovar", "hypercorn", "uvicorn"]
_numbers = itertools.count(1)


class AppServer:
    """Serves ``module:app`` on a free port; :meth:`wait` until it accepts, :meth:`stop` it in the end.

    Args:
        app: what to serve, as ``module:name`` or a path as ``samovar --app`` takes it.
        folder: where its log goes.
        server: ``samovar`` runs ``samovar --app … run``; ``hypercorn`` and ``uvicorn`` run those themselves.
        arguments: more arguments for the server's command line.
        env: variables set on top of ours; None removes one.
        cwd: the folder it runs in; the repository's root by default, so that ``tests.…`` can be served.
        python: the interpreter, for a server out of another environment.
        port: a port of one's own instead of a free one (to come back at the same address).
    """

    def __init__(
        self,
        app: str,
        *,
        folder: Path,
        server: ServerName = "samovar",
        arguments: Sequence[str] = (),
        env: Mapping[str, str | None] | None = None,
        cwd: Path = ROOT,
        python: str = sys.executable,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [python, "-m", *self._command(server, app), *arguments]
        log = folder / f"{server}-{next(_numbers)}.log"
        self.process = Process(command, log=log, cwd=cwd, env={"PYTHONUNBUFFERED": "1", **(env or {})})

    def _command(self, server: ServerName, app: str) -> list[str]:
        match server:
            case "samovar":
                return ["samovar", "--app", app, "run", "--host", "127.0.0.1", "--port", str(self.port)]
            case "hypercorn":
                return ["hypercorn", "--bind", f"127.0.0.1:{self.port}", app]
            case "uvicorn":
                return ["uvicorn", "--host", "127.0.0.1", "--port", str(self.port), app]

    def __repr__(self) -> str:
        return f"<AppServer {self.url} {self.process}>"

    def wait(self) -> None:
        """Wait until it accepts connections."""
        self.process.wait_for_port(self.port)

    def output(self) -> str:
        """What it has printed so far."""
        return self.process.output()

    def stop(self) -> int:
        """End it and return its exit code; idempotent."""
        code = self.process.stop()
        release_port(self.port)
        return code
