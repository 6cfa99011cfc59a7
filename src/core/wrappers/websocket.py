"""The websocket, as a handler sees it."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import MutableMapping
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from werkzeug.datastructures import Headers
from werkzeug.exceptions import BadRequest, Forbidden

from ...broadcast import Policy, Since, Subscribed, check_channel
from ...broadcast.message import as_cursor
from ...errors import InvalidChannel, InvalidCursor, WebsocketClosed
from ..globals import current_app
from ..realtime import codes
from ..realtime.access import GRANTED, Access
from ..realtime.identity import connection_id, member_for
from ..realtime.inbound import Inbound, InboundEnd
from ..realtime.lanes import Closed, LaneState, PlainLane
from ..realtime.stay import may_end
from ..signals import send, websocket_received, websocket_sent
from .base import BaseRequestWebsocket

if TYPE_CHECKING:
    from ..json.provider import JSONProvider
    from ..realtime.sink import OnGap, Outbound

HeadersLike: TypeAlias = "Headers | MutableMapping[str, str] | list[tuple[str, str]]"


class MalformedJSON(BadRequest, JSONDecodeError):
    """A message was to be JSON and is not: a 400 to the peer, and what the ``json`` module raises to the handler.

    Args:
        error: the provider's.
    """

    def __init__(self, error: ValueError) -> None:
        known = error if isinstance(error, JSONDecodeError) else JSONDecodeError(str(error), "", 0)
        JSONDecodeError.__init__(self, known.msg, known.doc, known.pos)
        self.description: str = "a message of this websocket must be JSON"
        self.response: None = None


class Websocket(BaseRequestWebsocket):
    """One websocket connection: the handshake's headers, args and cookies, and the way in and out.

    ``send`` and ``receive`` accept the handshake when the handler has not. When the peer leaves, an ``async for`` over
    the websocket ends and the handler has ``WEBSOCKET_CLOSE_TIMEOUT`` seconds to finish, as it has after
    :meth:`wait_closed` and after a close of its own; a handler anywhere else, :meth:`receive` included, is cancelled.

    Args:
        scope: the ASGI scope.
        lane: carries frames.
        inbound: what the peer has sent and nobody has read.
        outbound: what is to be written.
    """

    def __init__(
        self, scope: MutableMapping[str, Any], *, lane: PlainLane, inbound: Inbound, outbound: Outbound
    ) -> None:
        super().__init__(scope)
        self.lane = lane
        self.inbound = inbound
        self.outbound = outbound
        self.id: str = connection_id()
        self._iterator: weakref.ref[_Messages] | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._awaits_close = False
        self.handled = False
        """The handler has ended, and what comes after it is running."""

    def __repr__(self) -> str:
        return f"<Websocket {self.path!r} {self.id} {self.lane.state.name}>"

    # --- the handshake -----------------------------------------------------------------------------------------

    @property
    def requested_subprotocols(self) -> list[str]:
        """The subprotocols the client offers, in its order (RFC 6455, section 1.9)."""
        return list(self.scope.get("subprotocols") or ())

    @property
    def accepted(self) -> bool:
        """The handshake was accepted (the connection may be closed again by now)."""
        return self.lane.accepted

    async def accept(self, headers: HeadersLike | None = None, subprotocol: str | None = None) -> None:
        """Accept the handshake; a second call does nothing.

        Args:
            headers: sent with the answer.
            subprotocol: one of :attr:`requested_subprotocols`.

        Raises:
            ValueError: a subprotocol that the client did not offer; browsers would drop the connection.
            WebsocketClosed: the peer has gone.
        """
        if self.lane.accepted:
            return
        if subprotocol is not None and subprotocol not in self.requested_subprotocols:
            offered = ", ".join(self.requested_subprotocols) or "none"
            raise ValueError(f"the client did not offer the subprotocol {subprotocol!r}, but {offered}")
        if self.lane.state is LaneState.CLOSED:
            raise self.lane.error()
        raw = [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in Headers(headers or ())]
        await self.lane.accept(subprotocol, raw)
        if current_app.channels.identifies:
            await self.outbound.stay_of(current_app.hub).introduce()

    @property
    def json_module(self) -> JSONProvider:
        """What reads and writes JSON: the app's provider."""
        return current_app.json

    # --- in and out --------------------------------------------------------------------------------------------

    async def receive(self) -> str | bytes:
        """The next message of the peer, text as str and binary as bytes; empty ones are messages too.

        Raises:
            WebsocketClosed: the connection is closed. A peer that leaves meanwhile cancels the handler instead.
        """
        await self.accept()
        try:
            return await self.next_message()
        except InboundEnd:
            raise self.lane.error() from None

    async def next_message(self) -> str | bytes:
        """The peer's next message, for :meth:`receive` and ``async for``.

        Raises:
            InboundEnd: none will come.
        """
        message = await self.inbound.get()
        if websocket_received.receivers:
            await send(websocket_received, message)
        return message

    async def send(self, data: str | bytes | bytearray | memoryview) -> None:
        """Send one message, text or binary, behind what is queued; returns when the server has taken it.

        Raises:
            TypeError: *data* is neither str nor bytes.
            WebsocketClosed: the connection is closed.
        """
        if isinstance(data, bytearray | memoryview):
            data = bytes(data)
        if not isinstance(data, (str, bytes)):
            raise TypeError(
                f"send takes str or bytes, not {type(data).__name__}: use send_json for JSON data"
            )
        await self.accept()
        await self.outbound.send(data)
        if websocket_sent.receivers:
            await send(websocket_sent, data)

    async def receive_json(self) -> Any:
        """The next message of the peer, read as JSON.

        Raises:
            MalformedJSON: it is not JSON; unhandled, it closes the connection with 4400.
        """
        data = await self.receive()
        try:
            return self.json_module.loads(data)
        except ValueError as error:
            raise MalformedJSON(error) from error

    async def send_json(self, *args: Any, **kwargs: Any) -> None:
        """Send data as JSON; arguments as those of ``jsonify``."""
        if args and kwargs:
            raise TypeError("send_json takes positional or keyword arguments, not both")
        value = (args[0] if len(args) == 1 else list(args)) if args else kwargs
        await self.send(self.json_module.dumps(value))

    def __aiter__(self) -> _Messages:
        """The peer's messages until it leaves; what it sent before is still delivered."""
        messages = _Messages(self)
        self._iterator = weakref.ref(messages)
        return messages

    # --- channels ----------------------------------------------------------------------------------------------

    async def subscribe(
        self,
        channel: str,
        *,
        since: Since = None,
        last: int | None = None,
        envelope: bool = True,
        presence: bool = False,
        authorize: bool = True,
        on_gap: OnGap = "close",
        policy: Policy | None = None,
        max_messages: int | None = None,
        max_bytes: int | None = None,
    ) -> Subscribed:
        """Carry *channel* to this client: ask its rule, accept, attach, send the first word, and go on by itself.

        Args:
            channel: its name.
            since: a cursor to go on after; None means from now.
            last: start with the newest so many kept messages; by default the rule's ``replay``.
            envelope: send ``{"channel", "cursor", "id", "ts", "data"}``, or the payload alone.
            presence: send who is present, and each join and leave.
            authorize: ask the channel's rule; False where the route has decided itself.
            on_gap: with ``envelope=False``, what a Gap does: ``"close"`` (4009), ``"ignore"``, or a function of the
                Gap that returns a frame to send, or None. It must not call :meth:`send`.
            policy, max_messages, max_bytes: of the connection's one outbox; the first subscription sets them.

        Returns:
            The first word: whether everything since *since* follows.

        Raises:
            Forbidden: the rule refused; after the handshake the connection is closed with 4403 instead.
            BadRequest: a malformed cursor or name; after the handshake 4400.
            AlreadySubscribed: this connection has the channel already.
        """
        await self._check(channel, since)
        access: Access | None = GRANTED
        if may_end(channel, authorize=authorize):
            access = await self.outbound.stay_of(current_app.hub).ask(channel, authorize=authorize)
        if access is None:
            await self._refuse(Forbidden(f"you may not subscribe to the channel {channel!r}"), codes.DENIED)
        assert access is not None
        await self.accept()
        rule = current_app.channels.rule(channel)
        counted = rule is not None and rule.presence
        member = await member_for(self.id, access) if counted else None
        self.outbound.open(current_app.hub, policy=policy, max_messages=max_messages, max_bytes=max_bytes)
        word = await self.outbound.add(
            channel, envelope=envelope, on_gap=on_gap, member=member, since=since, last=last
        )
        if presence:
            await self.outbound.add_presence(channel)
        return word

    async def unsubscribe(self, channel: str) -> None:
        """Carry *channel* no more; a channel that is not subscribed is no error."""
        if self.outbound.stay is not None:
            self.outbound.stay.forget(channel)
        await self.outbound.remove(channel, grace=current_app.config["PRESENCE_GRACE"])

    async def _check(self, channel: str, since: Since) -> None:
        try:
            check_channel(channel)
            as_cursor(since)
        except (InvalidChannel, InvalidCursor) as error:
            await self._refuse(BadRequest(str(error)), codes.BAD_REQUEST)

    async def _refuse(self, error: BadRequest | Forbidden, code: codes.CloseCode) -> NoReturn:
        """Refuse with a status before the handshake, with a close code after it."""
        if not self.lane.accepted:
            raise error
        await self.close(code.code, code.reason)
        raise WebsocketClosed(code.code, error.description or code.reason, "app")

    # --- the end -----------------------------------------------------------------------------------------------

    @property
    def closed(self) -> Closed | None:
        """How the connection ended (code, reason, initiator); None while it is open."""
        return self.lane.closed

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Write what is queued, then close; idempotent. Before the handshake is accepted it refuses it.

        Raises:
            ValueError: a code that may not be sent, or a reason over 123 bytes (RFC 6455, sections 5.5 and 7.4).
        """
        codes.check_close(code, reason)
        await self.outbound.flush()
        await self.lane.close(code, reason)
        self.outbound.close()

    async def wait_closed(self) -> Closed:
        """Wait until the connection has ended, for handlers that only push; what the peer sends is dropped."""
        await self.accept()
        self._awaits_close = True
        self.inbound.discard()
        if self.lane.closed is None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
        assert self.lane.closed is not None
        return self.lane.closed

    def connection_ended(self) -> None:
        """Called by the connection when the peer has left or the server goes."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def ends_gracefully(self) -> bool:
        """The handler has time to finish: it iterates, waits for the end, closed by itself, or is being torn down."""
        iterating = self._iterator is not None and self._iterator() is not None
        closed = self.lane.closed
        told = self._awaits_close or self.handled
        return iterating or told or (closed is not None and closed.initiator == "app")


class _Messages:
    """One ``async for`` over a websocket; alive as long as the loop is."""

    __slots__ = ("__weakref__", "_websocket")

    def __init__(self, websocket: Websocket) -> None:
        self._websocket = websocket

    def __aiter__(self) -> _Messages:
        return self

    async def __anext__(self) -> str | bytes:
        websocket = self._websocket
        try:
            await websocket.accept()
            return await websocket.next_message()
        except (InboundEnd, WebsocketClosed):
            raise StopAsyncIteration from None
