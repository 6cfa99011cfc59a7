"""A real Nginx in a folder of its own, in front of an app under test."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ..services import Found
from .ports import free_port, release_port
from .process import Process
from .until import PATIENCE

# One process in the foreground: nothing is left over when it is killed. Paths are relative to its folder (-p).
OPTIONS = "daemon off; master_process off; pid nginx.pid; error_log stderr info;"
TEMP_PATHS = "".join(
    f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)


class Nginx:
    """Runs Nginx with a given configuration; ``with Nginx(found, folder, config, port):``.

    Args:
        found: the program (``tests.services.NGINX.need()``).
        folder: an empty folder for the configuration, the log and its temporary files.
        config: the whole configuration; it gets temporary paths inside *folder* and must set neither ``daemon`` nor
            ``pid`` nor the main ``error_log``.
        port: a port that it listens on, where ``wait`` and ``url`` go.
    """

    def __init__(self, found: Found, folder: Path, config: str, port: int) -> None:
        self.found = found
        self.folder = folder
        self.port = port
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "nginx.conf").write_text(config.replace("http {", f"http {{\n  {TEMP_PATHS}", 1))
        self.process: Process | None = None

    @property
    def url(self) -> str:
        """Where it is reached, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def _command(self, *more: str) -> list[str]:
        return [str(self.found.path), "-p", f"{self.folder}/", "-c", "nginx.conf", "-e", "stderr", *more]

    def check(self) -> str:
        """What ``nginx -t`` says.

        Raises:
            RuntimeError: it refuses the configuration.
        """
        command = self._command("-t", "-g", "pid nginx.pid;")
        result = subprocess.run(
            command, env=dict(self.found.env) or None, capture_output=True, text=True, timeout=PATIENCE
        )
        if result.returncode:
            raise RuntimeError(f"nginx refuses the configuration:\n{result.stderr}")
        return result.stderr

    def start(self) -> Nginx:
        """Start it and wait until it accepts connections."""
        log = self.folder / "nginx.log"
        self.process = Process(self._command("-g", OPTIONS), log=log, cwd=self.folder, env=self.found.env)
        self.process.wait_for_port(self.port)
        return self

    def log(self) -> str:
        """What it wrote to its error log so far."""
        return self.process.output() if self.process else ""

    def stop(self) -> None:
        """End it; idempotent."""
        if self.process is not None:
            self.process.stop()
        release_port(self.port)


def bare_config(port: int, app_port: int, *, server: str = "") -> str:
    """The least that anybody writes: a ``proxy_pass`` and nothing else, so buffering is on and upgrades are dropped."""
    return f"""
events {{}}
http {{
  access_log off;
  server {{
    listen 127.0.0.1:{port};
    {server}
    location / {{
      proxy_pass http://127.0.0.1:{app_port};
    }}
  }}
}}
"""


def start_bare(found: Found, folder: Path, app_port: int) -> Nginx:
    """An Nginx with :func:`bare_config` on a free port, started."""
    port = free_port()
    return Nginx(found, folder, bare_config(port, app_port), port).start()
