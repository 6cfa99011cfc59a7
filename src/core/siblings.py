"""Noticing that another process of the same server runs the same app, each with channels of its own.

A server with several workers starts them all from one parent process. On ``memory://`` what one of them publishes
reaches its own clients only, and nothing shows it until somebody misses a message. So an app on ``memory://`` holds a
lock, named by its parent process, its import name and its folder, from its start-up to its end; who finds it held by a
process that started lately is a sibling.

It must not get in the way of anybody else. A process that lost the lock to one that has been running for longer than
:data:`WINDOW` seconds may be the successor in a reload, which gunicorn starts before the old one ends: it is warned.
A parent that is another program (a shell, systemd) says nothing about its children, and tests in parallel are no
workers. ``memory://NAME`` is left alone: whoever gives it a name knows that it is one process's.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import sys
import tempfile
import time
from dataclasses import dataclass, field

WINDOW = 10.0  # seconds
_TIMES = struct.Struct(
    "<dd"
)  # when the holder started, and when a sibling was last refused; monotonic seconds
_NEVER = -1e9

logger: logging.Logger = logging.getLogger("samovar.siblings")


@dataclass(slots=True)
class Siblings:
    """The lock of one app in this process.

    Args:
        name: the app's import name.
        folder: its root path: equal names in different folders are different apps.
    """

    name: str
    folder: str
    _key: str | None = field(default=None, init=False)

    def found(self) -> bool:
        """Take the lock; True when a sibling has it, so that this process must not go on."""
        path = _path(self.name, self.folder)
        if path is None:
            return False
        if path in _held:
            _held[path][1] += 1
            self._key = path
            return False
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            logger.debug("workers on memory:// are not looked for: %s", error)
            return False
        if _lock(fd):
            os.pwrite(fd, _TIMES.pack(time.monotonic(), _NEVER), 0)
            _held[path] = [fd, 1]
            self._key = path
            return False
        try:
            return self._is_refused(fd)
        finally:
            os.close(fd)

    def _is_refused(self, fd: int) -> bool:
        now = time.monotonic()
        data = os.pread(fd, _TIMES.size, 0)
        started, refused = _TIMES.unpack(data) if len(data) == _TIMES.size else (now, _NEVER)
        if now - max(started, refused) < WINDOW:
            os.pwrite(fd, _TIMES.pack(started, now), 0)
            return True
        logger.warning(
            "another process of this server runs %s on memory:// as well: if it is not about to end, what one "
            "publishes does not reach the clients of the other; see BROADCAST_URL",
            self.name,
        )
        return False

    def release(self) -> None:
        """Give the lock back; idempotent."""
        key, self._key = self._key, None
        if key is None:
            return
        held = _held[key]
        held[1] -= 1
        if held[1] == 0:
            del _held[key]
            os.unlink(key)
            os.close(held[0])


_held: dict[str, list[int]] = {}
"""What this process holds: path to descriptor and how many apps hold it."""


def _lock(fd: int) -> bool:
    import fcntl  # not on Windows, where _path() has said no before

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _path(name: str, folder: str) -> str | None:
    """The lock's file; None where siblings cannot be told from strangers."""
    if os.name != "posix" or "pytest" in sys.modules or not _parent_is_like_us():
        return None
    try:
        namespace = os.stat(
            "/proc/self/ns/pid"
        ).st_ino  # two containers may share a folder, not their numbers
    except OSError:
        namespace = 0
    what = f"{namespace} {os.getppid()} {name} {folder}".encode()
    digest = hashlib.sha256(what).hexdigest()[:20]
    return os.path.join(tempfile.gettempdir(), f"samovar-{os.getuid()}-{digest}.lock")


def _parent_is_like_us() -> bool:
    """Whether the parent runs the same interpreter, as the parents of workers do."""
    try:
        return os.readlink(f"/proc/{os.getppid()}/exe") == os.readlink("/proc/self/exe")
    except OSError:
        return not sys.platform.startswith("linux")
