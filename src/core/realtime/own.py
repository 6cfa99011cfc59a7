"""Event streams of the app's own, whose user may be sent away while they run.

That is ``event_stream(iterable)``, and any other streamed body of the type ``text/event-stream``. Streams of channels
see to it themselves. Here the body is somebody else's and may wait for anything, so what carries it is interrupted, as
it is when the client goes; the last word follows from outside.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import TYPE_CHECKING, Self

from ..wrappers import Response
from ..wrappers.response import IterableBody
from . import codes, frames
from .sse import ChannelStream
from .stay import Stay

if TYPE_CHECKING:
    from ..app import Samovar

MIMETYPE = "text/event-stream"
BLOCK_ENDS = (b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r\n", b"\r\n\n")
LAST_WORD = 1.0
"""Seconds that a peer which does not read may hold up the last word."""


class OwnStream:
    """What may end one event stream of the app's own; iterates over its pieces until then.

    Args:
        stay: has been told whose it is.
    """

    over = False
    """Its user was sent away."""

    def __init__(self, stay: Stay) -> None:
        self._stay = stay
        self._pieces: AsyncIterator[bytes] | None = None
        self._tail = b"\n\n"
        self._whole = True

    def watch(self, pieces: AsyncIterable[bytes], interrupt: Callable[[], None]) -> Self:
        """Iterate over *pieces*; *interrupt* ends the wait for one, or its writing, when the stream is to end."""

        def end() -> None:
            self.over = True
            interrupt()

        self._pieces = aiter(pieces)
        self._stay.open(end)
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self._whole = self._tail.endswith(BLOCK_ENDS)  # who asks for the next has written the last
        assert self._pieces is not None
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            self.close()
            raise
        if self.over:
            raise StopAsyncIteration
        self._tail = (self._tail + piece)[-4:]
        self._whole = self._whole and self._tail.endswith(BLOCK_ENDS)  # until it is known to be written
        return piece

    def close(self) -> None:
        """It has ended, and cannot be interrupted any more; idempotent."""
        self._stay.close()

    @property
    def last_word(self) -> bytes:
        """The block that says why it ends; nothing in the middle of another block, which the client then forgets."""
        return frames.sse_closed(codes.SIGNED_OUT) if self._whole else b""


async def own_stream(app: Samovar, response: Response) -> OwnStream | None:
    """What may end *response*, which is about to be streamed; None where nobody can be sent away from it.

    Asks ``app.identify`` who the active connection is, unless it has been asked.
    """
    if not app.channels.identifies or response.mimetype != MIMETYPE:
        return None
    body = response.response
    if isinstance(body, IterableBody) and isinstance(body.iterable, ChannelStream):
        return None
    stay = Stay(app.hub)
    await stay.introduce()
    return OwnStream(stay) if stay.watched else None


__all__ = ["LAST_WORD", "OwnStream", "own_stream"]
