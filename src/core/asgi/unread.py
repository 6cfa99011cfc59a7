"""The pieces of a request's body that nobody has asked for yet: in memory at first, then in a temporary file.

A client's leaving comes behind its body, and a server that is not asked for more does not look for it: it has stopped
reading (ASGI's back-pressure), and the kernel tells nobody of an end that lies behind unread bytes. So who would know
has to take the body in. What that may cost is bounded three times: for one body in memory, for one body altogether, and
for all of them on disk.
"""

from __future__ import annotations

import logging
import tempfile
from collections import deque
from typing import IO, ClassVar

from ..typing import ASGIMessage

MEMORY_BYTES = 256 * 1024
"""Of one body in memory. uvicorn gives pieces of up to 64 KiB."""
BODY_BYTES = 16 * 1024 * 1024
"""Of one body altogether: what ``MAX_CONTENT_LENGTH`` allows by default, for a reader would have to take it too."""
DISK_BYTES = 128 * 1024 * 1024
"""Of all bodies in this process, beyond their memory: uploads that wait for a slow view must not fill a disk."""
PIECE_BYTES = 512
"""What a piece counts with at least: a thousand tiny ones are more than their bytes."""
READ_BYTES = 64 * 1024
"""Of a piece that is read back."""

logger: logging.Logger = logging.getLogger("samovar.http")


class Unread:
    """Pieces of one body, in the order in which they came; false when there are none.

    Args:
        limit: of the body's bytes, beyond which no reader could have it; None for no limit.
    """

    all_on_disk: ClassVar[int] = 0
    """Bytes of all bodies of this process that are in files."""

    def __init__(self, limit: int | None) -> None:
        self._most = BODY_BYTES if limit is None else min(max(limit, 1), BODY_BYTES)  # one piece at least
        self._counted = 0
        self._first: deque[bytes] = deque()
        self._file: IO[bytes] | None = None
        self._written = 0
        self._read = 0
        self._last: deque[bytes] = deque()  # what the file did not take
        self._ended = False

    def __bool__(self) -> bool:
        return bool(self._first) or self._read < self._written or bool(self._last)

    @property
    def in_file(self) -> bool:
        """A part of it is on disk."""
        return self._file is not None

    @property
    def has_room(self) -> bool:
        """Another piece may be taken in."""
        if self._counted >= self._most or self._last:
            return False
        return self._counted < MEMORY_BYTES or Unread.all_on_disk < DISK_BYTES

    def add(self, message: ASGIMessage) -> None:
        """Take in a piece. What no file can be had for is kept in memory, and there is no more room."""
        body: bytes = message.get("body", b"")
        self._ended = not message.get("more_body", False)
        in_memory = self._counted < MEMORY_BYTES
        self._counted += max(len(body), PIECE_BYTES)
        if body and in_memory:
            self._first.append(body)
        elif body and (rest := body if self._last else self._write(body)):
            self._last.append(rest)

    def _write(self, body: bytes) -> bytes:
        """Put *body* into the file; returns what did not fit there."""
        written = 0
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # close() does
            self._file.seek(self._written)
            written = self._file.write(body)
        except OSError as error:
            logger.warning("an unread body is taken in no further, and its client not watched: %s", error)
        self._written += written
        Unread.all_on_disk += written
        return body[written:]

    def take(self) -> ASGIMessage:
        """Take out the next piece.

        Raises:
            IndexError: there is none.
        """
        if self._first:
            body = self._first.popleft()
        elif self._file is not None and self._read < self._written:
            self._file.seek(self._read)
            body = self._file.read(min(READ_BYTES, self._written - self._read))
            self._read += len(body)
        else:
            body = self._last.popleft()
        return {"type": "http.request", "body": body, "more_body": bool(self) or not self._ended}

    def close(self) -> None:
        """Let go of everything; idempotent."""
        self._first.clear()
        self._last.clear()
        if self._file is not None:
            Unread.all_on_disk -= self._written
            self._written = self._read = 0
            self._file.close()
            self._file = None
