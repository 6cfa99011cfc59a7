"""Free TCP ports for servers that tests start, handed out so that nobody else takes them meanwhile.

The classic way (bind port 0, read the number, close, pass it on) races: any outgoing connection of the machine may get
the number before the server binds it. So ports come from below the range in which kernels pick ports for outgoing
connections, and each is claimed by a lock on a file for as long as the process that claimed it lives.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

FIRST, LAST = 20000, 29999  # Linux hands out 32768 and above by default, macOS 49152 and above

_locks: dict[int, IO[bytes]] = {}


def free_port(host: str = "127.0.0.1") -> int:
    """Claim a port of *host* that nobody listens on, for the life of this process or until :func:`release_port`.

    Raises:
        RuntimeError: a thousand random ports were all taken.
    """
    for _ in range(1000):
        port = random.randint(FIRST, LAST)
        if port not in _locks and (lock := _claim(port)) is not None:
            if _can_bind(host, port):
                _locks[port] = lock
                return port
            lock.close()
    raise RuntimeError(f"no free port between {FIRST} and {LAST} on {host} in a thousand tries")


def claim_port(port: int) -> bool:
    """Claim this very *port*, whoever listens on it; False when somebody, or this process, has claimed it."""
    if port in _locks or (lock := _claim(port)) is None:
        return False
    _locks[port] = lock
    return True


def release_port(port: int) -> None:
    """Give *port* back; a port that was never claimed is nobody's concern."""
    if (lock := _locks.pop(port, None)) is not None:
        lock.close()


def _claim(port: int) -> IO[bytes] | None:
    folder = Path(tempfile.gettempdir(), f"samovar-test-ports-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    lock = open(folder / str(port), "wb")  # noqa: SIM115  # open as long as the claim lasts
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock


def _can_bind(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # a port in TIME_WAIT is free, as for servers
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
