"""One connection to a Redis server: commands out, replies in, in order.

It is an :class:`asyncio.Protocol` over hiredis' parser, and not a connection of redis-py, for three reasons: what
arrives is handed on in the same synchronous step in which it is read, so no task stands between the socket and the
receiver and nothing can be cut in the middle by a cancellation; a call costs about a third of the CPU; and nothing
reconnects, resubscribes, retries or negotiates behind our back, whichever version is installed. RESP2 is spoken, which
every server and proxy speaks.

Commands of one turn of the loop leave in one write (pipelining), whoever called them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

from ...errors import BackendUnavailable
from ...extras import Needed
from ..keeping import Lost

with Needed("hiredis", by="the Redis backend"):
    from hiredis import ProtocolError, Reader, ReplyError, pack_command

MAX_UNSENT = 64 * 1024 * 1024  # bytes that wait for a link that takes none
Argument: TypeAlias = "str | bytes | int"
Command: TypeAlias = Sequence[Argument]
Reply: TypeAlias = Any
"""What hiredis reads: bytes, int, None, a list of those, or a ReplyError as a value."""

_MORE = object()


def _pack(command: Command) -> bytes:
    packed: bytes = pack_command(tuple(command))  # type: ignore[arg-type]  # its stub takes one argument only
    return packed


class _Batch:
    """The replies to several commands, given together."""

    __slots__ = ("future", "left", "replies")

    def __init__(self, count: int, future: asyncio.Future[list[Reply]]) -> None:
        self.left = count
        self.future = future
        self.replies: list[Reply] = []


class Link(asyncio.Protocol):
    """See the module.

    Args:
        push: gets, in order, what the server sends unasked: messages of subscriptions.
    """

    def __init__(self, push: Callable[[Reply], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._push = push
        self._reader = Reader(notEnoughData=_MORE)
        self._waiting: deque[asyncio.Future[Reply] | _Batch | None] = deque()
        self._unsent: list[bytes] = []
        self._queued = 0
        self._transport: asyncio.Transport | None = None
        self._why = ""
        self.lost: asyncio.Future[str] = self._loop.create_future()
        """Done, with the reason, when the link is gone."""
        self.received: float = self._loop.time()
        """When something last came."""
        self.pinged: bool = False
        """A sign of life is awaited."""

    def __repr__(self) -> str:
        state = f"lost: {self._why}" if self.lost.done() else "open"
        return f"<Link {state} waiting={len(self._waiting)}>"

    # --- out --------------------------------------------------------------------------------------------------------

    def call(self, *command: Argument) -> asyncio.Future[Reply]:
        """Send one command; the future gives its reply, or raises :class:`Lost`. Cancelling it takes nothing back.

        Raises:
            BackendUnavailable: nothing was sent: the link is gone, or takes no more.
        """
        self._send(_pack(command))
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting.append(future)
        return future

    def batch(self, commands: Sequence[Command]) -> asyncio.Future[list[Reply]]:
        """Send several commands together; the future gives their replies, or raises :class:`Lost`.

        Raises:
            BackendUnavailable: see :meth:`call`.
        """
        self._send(b"".join([_pack(command) for command in commands]))
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        self._waiting.append(_Batch(len(commands), future))
        return future

    def post(self, *command: Argument) -> None:
        """Send one command whose reply nobody waits for.

        Raises:
            BackendUnavailable: see :meth:`call`.
        """
        self._send(_pack(command))
        self._waiting.append(None)

    def tell(self, *command: Argument) -> None:
        """Send one command to which the server answers by pushes only, as to SUBSCRIBE."""
        self._send(_pack(command))

    def ping(self, *, pushed: bool) -> None:
        """Ask for a sign of life; *pushed*: the link is subscribed, so the answer comes as a push."""
        self.pinged = True
        if pushed:
            self.tell("PING")
        else:
            self.post("PING")

    def _send(self, data: bytes) -> None:
        if self._transport is None or self.lost.done():
            raise BackendUnavailable(f"the link to Redis is gone: {self._why or 'not connected'}")
        if self._queued + self._transport.get_write_buffer_size() > MAX_UNSENT:
            raise BackendUnavailable(f"busy: {MAX_UNSENT >> 20} MiB wait to be taken by Redis")
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(data)
        self._queued += len(data)

    def _flush(self) -> None:
        unsent, self._unsent, self._queued = self._unsent, [], 0
        if self._transport is not None and not self.lost.done():
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    # --- in ---------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        self.received = self._loop.time()
        self.pinged = False
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _MORE and not self.lost.done():
                self._take(reply)
        except ProtocolError as error:
            self.abort(f"what answers there is no Redis: {error}")

    def _take(self, reply: Reply) -> None:
        """Give one reply to whom it belongs."""
        if not self._waiting:
            return self._push(reply)
        first = self._waiting[0]
        if isinstance(first, _Batch):
            first.replies.append(reply)
            if len(first.replies) < first.left:
                return
            reply = first.replies
            first = first.future
        self._waiting.popleft()
        if first is not None and not first.done():
            first.set_result(reply)

    def abort(self, why: str) -> None:
        """Give the link up at once: what waits for an answer raises :class:`Lost`. Idempotent."""
        if self.lost.done():
            return
        self._why = why
        self.lost.set_result(why)
        waiting, self._waiting = self._waiting, deque()
        for first in waiting:
            said = ""
            if isinstance(first, _Batch):
                # A server that takes no more clients, say, answers the first command and hangs up.
                errors = [str(reply) for reply in first.replies if isinstance(reply, ReplyError)]
                said = f" ({errors[-1]})" if errors else ""
            future = first.future if isinstance(first, _Batch) else first
            if future is not None and not future.done():
                future.set_exception(Lost(why + said))
        self._unsent = []
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self.abort(f"the connection broke: {exc}" if exc else "the server closed the connection")


__all__ = ["Argument", "Command", "Link", "Lost", "Reply", "ReplyError"]
