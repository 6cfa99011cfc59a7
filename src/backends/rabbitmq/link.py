"""One connection to a RabbitMQ server: methods out, answers and deliveries in, in order.

It is an :class:`asyncio.Protocol` that speaks AMQP 0-9-1 itself, with pamqp for the methods, and not a connection of
aio-pika, for four reasons. What arrives is handed on in the same synchronous step in which it is read, so that no task
and no queue stands between the socket and the log, and nothing is reordered or cut in the middle by a cancellation. A
delivery costs a fifth of the CPU, which is what lets a new worker read a whole log in seconds. What the broker says
unasked (blocked, a cancelled consumer, a returned message) is heard. And nothing reconnects, restores or waits behind
our back.

Frames of one turn of the loop leave in one write, whoever sent them. The specification is AMQP 0-9-1 with RabbitMQ's
extensions: confirms, ``basic.nack``, ``connection.blocked``, ``consumer_cancel_notify``.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections import deque
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from ...errors import BackendUnavailable
from ...extras import Needed
from .. import keeping

with Needed("pamqp", by="the RabbitMQ backend"):
    from pamqp import commands, exceptions, frame
    from pamqp.base import Frame
    from pamqp.header import ContentHeader

MAX_UNSENT = 64 * 1024 * 1024  # bytes that wait for a link that takes none
MAX_BODY = 4 * 1024 * 1024  # bytes of a message that are kept; of a longer one only that it came
MAX_FRAME = 128 * 1024  # bytes; RabbitMQ's own default
MAX_CHANNELS = 16
PUBLISH = 1  # the channel with confirms
PROBE = 2  # the channel of signs of life

METHOD, HEADER, BODY, HEARTBEAT, END = 1, 2, 3, 8, 0xCE
_FRAME = struct.Struct(">BHI")
_BEAT = _FRAME.pack(HEARTBEAT, 0, 0) + b"\xce"
_DELIVER = struct.pack(">HH", 60, 60)
_RETURN = struct.pack(">HH", 60, 50)
_CONTENT = struct.Struct(">HHQH")
_TAG = struct.Struct(">Q")
_BEFORE_HEADERS, _HEADERS = 0xE001, 0x2000  # flags of what stands before the headers, and of them
# How the headers of a message of ours begin, behind their length: what the broker put there.
_OFFSET_ENTRY = b"\x0fx-stream-offsetl"
_OFFSET = struct.Struct(">q")

FrameT = TypeVar("FrameT", bound=Frame)
Answer: TypeAlias = "asyncio.Future[Frame]"


class Lost(keeping.Lost):
    """The link or a channel of it went while an answer was awaited; see :class:`~samovar.backends.keeping.Lost`.

    Args:
        why: in words.
        code: the broker's reply code (AMQP 0-9-1, section 1.2), 0 when it gave none.
    """

    def __init__(self, why: str, code: int = 0) -> None:
        super().__init__(why)
        self.code = code


class Nacked(Exception):
    """The broker says that it could not take a message; it may be in all the same."""


class Ear(Protocol):
    """Who hears what the broker sends unasked."""

    def delivered(self, channel: int, tag: int, offset: int | None, body: bytes | None) -> None:
        """A message of a consumer: its delivery tag, its offset (None: not from a stream), and its bytes (None: it has
        more than we take)."""

    def returned(self, body: bytes | None) -> None:
        """A published message found no queue."""

    def blocked(self, why: str | None) -> None:
        """The broker takes no messages from this connection, or (None) takes them again."""


class _Content:
    """A message whose frames are coming."""

    __slots__ = ("back", "left", "offset", "parts", "tag")

    def __init__(self, tag: int, *, back: bool) -> None:
        self.tag = tag
        self.back = back
        self.offset: int | None = None
        self.left = 0
        self.parts: list[bytes] | None = []


class Link(asyncio.Protocol):
    """See the module.

    Args:
        ear: hears, in order, what comes unasked.
    """

    def __init__(self, ear: Ear) -> None:
        self._loop = asyncio.get_running_loop()
        self._ear = ear
        self._rest = b""
        self._contents: dict[int, _Content] = {}
        self._asked: dict[int, deque[asyncio.Future[Frame]]] = {}
        self._confirms: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._published = 0
        self._unsent: list[bytes] = []
        self._queued = 0
        self._transport: asyncio.Transport | None = None
        self._frame_max = MAX_FRAME
        self._why = ""
        self.heartbeat: int = 0
        """Seconds between two signs of life that the broker wants, 0: none."""
        self.lost: asyncio.Future[Lost] = self._loop.create_future()
        """Done, with the reason, when the link is gone."""
        self.received: float = self._loop.time()
        """When something last came."""
        self.heard: float = self.received
        """When something last came but for the broker's heartbeats, which it sends also when it hears nothing of us."""
        self.sent: float = self.received
        """When something last went."""
        self.barred: str | None = None
        """Why the broker takes no messages at the moment."""

    def __repr__(self) -> str:
        return (
            f"<Link {f'lost: {self._why}' if self.lost.done() else 'open'} unconfirmed={len(self._confirms)}>"
        )

    # --- out --------------------------------------------------------------------------------------------------------

    def call(self, channel: int, method: Frame) -> asyncio.Future[Frame]:
        """Send a method that is answered; the future gives the answer, or raises :class:`Lost`.

        Raises:
            BackendUnavailable: nothing was sent: the link is gone, or takes no more.
        """
        self._send(frame.marshal(method, channel))
        future: asyncio.Future[Frame] = self._loop.create_future()
        self._asked.setdefault(channel, deque()).append(future)
        return future

    def tell(self, channel: int, method: Frame) -> None:
        """Send a method that is not answered.

        Raises:
            BackendUnavailable: see :meth:`call`.
        """
        self._send(frame.marshal(method, channel))

    def beat(self) -> None:
        """Send a sign of life, unless something was sent a moment ago anyway."""
        if self.heartbeat and self._loop.time() - self.sent >= self.heartbeat / 3:
            self._send(_BEAT)

    def publish(self, head: bytes, body: bytes) -> asyncio.Future[None]:
        """Send a message on the channel with confirms; the future ends when the broker has it.

        Args:
            head: what :func:`publishing` made.
            body: at least a byte.

        Raises:
            BackendUnavailable: see :meth:`call`.
        """
        most = self._frame_max - 8
        header = _FRAME.pack(HEADER, PUBLISH, 14) + _CONTENT.pack(60, 0, len(body), 0) + b"\xce"
        if len(body) <= most:
            parts = [head, header, _FRAME.pack(BODY, PUBLISH, len(body)), body, b"\xce"]
        else:
            parts = [head, header]
            for at in range(0, len(body), most):
                part = body[at : at + most]
                parts += [_FRAME.pack(BODY, PUBLISH, len(part)), part, b"\xce"]
        self._send(b"".join(parts))
        self._published += 1
        future: asyncio.Future[None] = self._loop.create_future()
        self._confirms.append((self._published, future))
        return future

    def _send(self, data: bytes) -> None:
        if self._transport is None or self.lost.done():
            raise BackendUnavailable(f"the link to RabbitMQ is gone: {self._why or 'not connected'}")
        if self._queued + self._transport.get_write_buffer_size() > MAX_UNSENT:
            raise BackendUnavailable(f"busy: {MAX_UNSENT >> 20} MiB wait to be taken by RabbitMQ")
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(data)
        self._queued += len(data)

    def _flush(self) -> None:
        unsent, self._unsent, self._queued = self._unsent, [], 0
        if unsent and self._transport is not None and not self.lost.done():
            self.sent = self._loop.time()
            self._transport.write(b"".join(unsent))

    # --- in ---------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        self.received = self._loop.time()
        if data != _BEAT:
            self.heard = self.received
        if self._rest:
            data = self._rest + data
        at, end, unpack = 0, len(data), _FRAME.unpack_from
        while end - at >= 8 and not self.lost.done():
            kind, channel, size = unpack(data, at)
            stop = at + 7 + size
            if size > self._frame_max or kind > HEARTBEAT:
                return self.abort(f"what answers there is no RabbitMQ: {data[at : at + 20]!r}")
            if stop >= end:
                break
            if data[stop] != END:
                return self.abort(f"a frame without its end came: {data[at : at + 20]!r}")
            if kind == METHOD:
                self._method(channel, data, at, stop)
            elif kind == HEADER:
                self._header(channel, data, at + 7, stop)
            elif kind == BODY:
                self._body(channel, data[at + 7 : stop])
            at = stop + 1
        self._rest = data[at:]

    def _method(self, channel: int, data: bytes, at: int, stop: int) -> None:
        index = data[at + 7 : at + 11]
        if index == _DELIVER:
            (tag,) = _TAG.unpack_from(data, at + 12 + data[at + 11])
            self._contents[channel] = _Content(tag, back=False)
            return
        try:
            _, _, method = frame.unmarshal(data[at : stop + 1])
        except (exceptions.UnmarshalingException, exceptions.PAMQPException, ValueError) as error:
            return self.abort(f"a method that cannot be read came: {error}")
        self._heard(channel, cast(Frame, method))

    def _header(self, channel: int, data: bytes, at: int, stop: int) -> None:
        content = self._contents.get(channel)
        if content is None:
            return self.abort("a message without its beginning came")
        _, _, content.left, flags = _CONTENT.unpack_from(data, at)
        head = at + 14
        if flags & _BEFORE_HEADERS == _HEADERS and data[head + 4 : head + 21] == _OFFSET_ENTRY:
            (content.offset,) = _OFFSET.unpack_from(data, head + 21)
        elif not content.back:
            content.offset = _offset(data[at:stop])
        if content.left > MAX_BODY:
            content.parts = None
        if not content.left:
            self._whole(channel, content, b"")

    def _body(self, channel: int, part: bytes) -> None:
        content = self._contents.get(channel)
        if content is None:
            return self.abort("a message without its beginning came")
        content.left -= len(part)
        parts = content.parts
        if content.left > 0:
            if parts is not None:
                parts.append(part)
        elif parts is None:
            self._whole(channel, content, None)
        else:
            self._whole(channel, content, b"".join([*parts, part]) if parts else part)

    def _whole(self, channel: int, content: _Content, body: bytes | None) -> None:
        del self._contents[channel]
        if content.back:
            self._ear.returned(body)
        else:
            self._ear.delivered(channel, content.tag, content.offset, body)

    def _heard(self, channel: int, method: Frame) -> None:
        """Do what a method other than a delivery asks for."""
        if isinstance(method, commands.Basic.Ack | commands.Basic.Nack):
            self._confirmed(method.delivery_tag or 0, bool(method.multiple), method)
        elif isinstance(method, commands.Basic.Return):
            self._contents[channel] = _Content(0, back=True)
        elif isinstance(method, commands.Basic.Cancel):
            self.abort("the stream was deleted, or moves to another node: the broker ended our reading")
        elif isinstance(method, commands.Connection.Blocked):
            self.barred = method.reason or "an alarm"
            self._ear.blocked(self.barred)
        elif isinstance(method, commands.Connection.Unblocked):
            self.barred = None
            self._ear.blocked(None)
        elif isinstance(method, commands.Channel.Close):
            self._closed(channel, method)
        elif isinstance(method, commands.Connection.Close):
            self.abort(method.reply_text or "closed by the broker", method.reply_code or 0)
        else:
            asked = self._asked.get(channel)
            if not asked:
                return self.abort(f"an answer to nothing came: {method.name}")
            future = asked.popleft()
            if not future.done():
                future.set_result(method)

    def _confirmed(self, tag: int, multiple: bool, method: Frame) -> None:
        """Everything up to *tag* is answered, or that one alone."""
        confirms = self._confirms
        while multiple and confirms and confirms[0][0] <= tag:
            _answer(confirms.popleft()[1], method)
        if not multiple:
            for at, (number, future) in enumerate(confirms):
                if number == tag:
                    del confirms[at]
                    return _answer(future, method)
                if number > tag:
                    return

    def _closed(self, channel: int, method: commands.Channel.Close) -> None:
        """The broker closed a channel: who waits there learns it; where nobody does, the link is of no use."""
        lost = Lost(method.reply_text or "the channel was closed", method.reply_code or 0)
        asked = self._asked.pop(channel, None)
        if not asked:
            return self.abort(str(lost), lost.code)
        self._contents.pop(channel, None)
        self.tell(channel, commands.Channel.CloseOk())
        for future in asked:
            if not future.done():
                future.set_exception(lost)

    # --- the end ----------------------------------------------------------------------------------------------------

    def abort(self, why: str, code: int = 0) -> None:
        """Give the link up at once: what waits for an answer raises :class:`Lost`. Idempotent."""
        if self.lost.done():
            return
        self._why = why
        self.lost.set_result(Lost(why, code))
        asked, self._asked = self._asked, {}
        waiting: list[asyncio.Future[Any]] = [future for futures in asked.values() for future in futures]
        waiting += [future for _, future in self._confirms]
        self._confirms.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(Lost(why, code))
        self._unsent = []
        if self._transport is not None:
            self._transport.abort()

    def leave(self, why: str) -> None:
        """Give the link up, with a word to the broker where it hears one."""
        if self._transport is not None and not self.lost.done():
            self._flush()
            self._transport.write(frame.marshal(commands.Connection.Close(200, "bye", 0, 0), 0))
            if (
                not self._transport.get_write_buffer_size()
            ):  # else nobody takes it, and closing would wait for that
                transport, self._transport = self._transport, None
                transport.close()
        self.abort(why)

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self.abort(f"the connection broke: {exc}" if exc else "the server closed the connection")

    # --- the handshake ----------------------------------------------------------------------------------------------

    async def greet(
        self, user: str, password: str, vhost: str, *, name: str, heartbeat: int
    ) -> dict[str, Any]:
        """Introduce ourselves; returns the server's properties.

        Raises:
            Lost: it hung up or refused; the code says why.
        """
        start = await self._begin()
        properties: dict[str, Any] = {
            "product": "Samovar",
            "connection_name": name,
            "capabilities": {
                "publisher_confirms": True,
                "basic.nack": True,
                "connection.blocked": True,
                "consumer_cancel_notify": True,
                "authentication_failure_close": True,
            },
        }
        login = f"\0{user}\0{password}"
        tune = await self._asking(
            0, commands.Connection.StartOk(properties, "PLAIN", login), commands.Connection.Tune
        )
        self._frame_max = min(tune.frame_max or MAX_FRAME, MAX_FRAME)
        self.heartbeat = min(heartbeat, tune.heartbeat or heartbeat)
        channels = min(tune.channel_max or MAX_CHANNELS, MAX_CHANNELS)
        self.tell(0, commands.Connection.TuneOk(channels, self._frame_max, self.heartbeat))
        await self._asking(0, commands.Connection.Open(vhost), commands.Connection.OpenOk)
        return dict(start.server_properties or {})

    async def _begin(self) -> commands.Connection.Start:
        if self._transport is not None:
            self._transport.write(b"AMQP\x00\x00\x09\x01")
        future: asyncio.Future[Frame] = self._loop.create_future()
        self._asked.setdefault(0, deque()).append(future)
        start = await future
        if not isinstance(start, commands.Connection.Start):
            raise Lost(f"what answers there is no RabbitMQ: {start.name}")
        return start

    async def _asking(self, channel: int, method: Frame, answer: type[FrameT]) -> FrameT:
        found = await self.call(channel, method)
        if not isinstance(found, answer):
            raise Lost(f"{method.name} was answered by {found.name}")
        return found

    async def open_channel(self, channel: int) -> None:
        """Open a channel, again where the broker closed it.

        Raises:
            Lost: the link is gone.
        """
        await self._asking(channel, commands.Channel.Open(), commands.Channel.OpenOk)

    async def declare(
        self, channel: int, queue: str, *, passive: bool = False, arguments: dict[str, Any] | None = None
    ) -> int:
        """Declare a durable queue, or (*passive*) see that it is there; how many messages it has.

        Raises:
            Lost: the broker refuses, and closed the channel.
        """
        method = commands.Queue.Declare(0, queue, passive, True, False, False, False, arguments)
        found = await self._asking(channel, method, commands.Queue.DeclareOk)
        return found.message_count or 0

    async def consume(self, channel: int, queue: str, *, offset: int | str, prefetch: int) -> None:
        """Read a stream from *offset* (a number, ``first``, ``last`` or ``next``).

        Raises:
            Lost: the broker refuses, and closed the channel.
        """
        await self._asking(channel, commands.Basic.Qos(0, prefetch, False), commands.Basic.QosOk)
        arguments: dict[str, Any] = {"x-stream-offset": offset}
        method = commands.Basic.Consume(0, queue, "", False, False, False, False, arguments)
        await self._asking(channel, method, commands.Basic.ConsumeOk)

    async def confirm(self) -> None:
        """Let the broker confirm what is published.

        Raises:
            Lost: the link is gone.
        """
        await self._asking(PUBLISH, commands.Confirm.Select(), commands.Confirm.SelectOk)

    def acknowledge(self, channel: int, tag: int) -> None:
        """Let the broker send more than what came up to *tag*."""
        self._send(_FRAME.pack(METHOD, channel, 13) + struct.pack(">HHQB", 60, 80, tag, 1) + b"\xce")


def publishing(queue: str) -> bytes:
    """The first frame of a message to *queue*, by the default exchange, to be returned if it is not there."""
    return frame.marshal(commands.Basic.Publish(0, "", queue, True, False), PUBLISH)


def passive(queue: str) -> Frame:
    """Asks whether a queue is there; its answer is a sign of life."""
    return commands.Queue.Declare(0, queue, True, True, False, False, False, {})


async def connect(ear: Ear, host: str, port: int, context: ssl.SSLContext | None, links: list[Link]) -> Link:
    """Connect, and nothing more; *links* has the link also when what follows is cancelled.

    Raises:
        OSError: nobody answers.
    """
    loop = asyncio.get_running_loop()
    link = Link(ear)
    links.append(link)
    await loop.create_connection(lambda: link, host, port, ssl=context)
    return link


def _answer(future: asyncio.Future[None], method: Frame) -> None:
    if future.done():
        return
    if isinstance(method, commands.Basic.Nack):
        future.set_exception(Nacked("the broker could not take the message"))
    else:
        future.set_result(None)


def _offset(payload: bytes) -> int | None:
    """The stream's offset among the headers of a message that has more than ours."""
    header = ContentHeader()
    try:
        header.unmarshal(payload)
        found = (header.properties.headers or {}).get("x-stream-offset")
    except (ValueError, struct.error, IndexError):
        return None
    return found if isinstance(found, int) else None
