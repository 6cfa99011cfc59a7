"""One of several workers: what the supervisor handed down, what it is told, and the end when it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ...broadcast.backend import Feature
from ...errors import ConfigError
from .options import ServeOptions, stop_limit

if TYPE_CHECKING:
    from ..app import Samovar

VARIABLE = "SAMOVAR_WORKER"  # "number:listener:status", set by the supervisor for its workers


@dataclass(frozen=True, slots=True)
class WorkerSide:
    """A worker's side of its supervisor.

    Args:
        number: which worker it is, from 1 on.
        listener: the descriptor of the socket to accept on.
        status: the descriptor of the socket to the supervisor, which closes when that dies.
    """

    number: int
    listener: int
    status: int

    @classmethod
    def from_environment(cls) -> Self | None:
        """What was handed down, once: programs that the worker starts do not get it. None: no supervisor did."""
        value = os.environ.pop(VARIABLE, None)
        if value is None:
            return None
        return cls(*map(int, value.split(":")))

    def environment(self) -> dict[str, str]:
        """What :meth:`from_environment` reads."""
        return {VARIABLE: f"{self.number}:{self.listener}:{self.status}"}

    def serve(self, app: Samovar, options: ServeOptions) -> None:
        """Serve *app* until told to stop, by a signal or by the supervisor's death.

        Raises:
            ConfigError: the app's broker does not reach the other workers.
        """
        from .servers import run_options

        with socket.socket(fileno=self.status) as status, socket.socket(fileno=self.listener) as listener:
            limit = stop_limit(app)
            threading.Thread(target=_end_with, args=(status, limit), name="supervisor", daemon=True).start()
            reach_all(app)

            def started(name: str, server: str) -> None:
                told = {"app": name, "server": server, "stop": limit}
                status.sendall(json.dumps(told).encode() + b"\n")

            run_options(app, options, listener=listener, on_started=started)


def reach_all(app: Samovar) -> None:
    """See to it that what one worker publishes reaches the clients of all.

    Without a ``BROADCAST_URL`` the app gets the supervisor's broker.

    Raises:
        ConfigError: the one it has lives inside one process.
    """
    if app.config["BROADCAST_URL"] is None:
        app.config["BROADCAST_URL"] = "local://"
    if Feature.SHARED not in app.hub.backend.features:
        raise ConfigError(
            f"--workers needs a broker that reaches all workers: BROADCAST_URL is {app.config['BROADCAST_URL']}, which "
            "reaches one process only; leave it unset, or run with --workers 1"
        )


def _end_with(status: socket.socket, limit: float) -> None:
    """Wait for the supervisor's death, then ask this process to stop, and end it if it does not within *limit*."""
    try:
        status.recv(1)
    except OSError:
        return  # closed on this side: the worker has ended anyway
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(limit)
    os._exit(1)
