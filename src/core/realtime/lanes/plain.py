"""The plain lane: one websocket through ASGI's ``receive`` and ``send``.

States, and the only moves::

    CONNECTING ──accept──► OPEN ──close──► CLOSED
        └──────deny / close / peer left──────►

Every write has a deadline: a peer that stops reading costs its own connection, never its neighbours'. Reading and
writing of ASGI's message dicts for websockets stands here and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal, TypeAlias

from ....errors import WebsocketClosed
from ..codes import NO_CLOSE_FRAME, check_close

Initiator: TypeAlias = Literal["peer", "app", "server"]
ASGIMessage: TypeAlias = MutableMapping[str, Any]


class LaneState(Enum):
    """Where a connection is."""

    CONNECTING = auto()
    OPEN = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Closed:
    """How a websocket ended.

    Args:
        code: the close code, 1006 when the peer went without one.
        reason: the close reason, possibly empty.
        initiator: ``peer``, ``app`` (the handler or one of its policies) or ``server`` (a shutdown).
    """

    code: int
    reason: str
    initiator: Initiator


class PlainLane:
    """One websocket connection over ASGI.

    Args:
        scope: the ASGI connection scope.
        receive, send: ASGI's.
        write_timeout: how long one frame may wait for a peer that does not read, in seconds; None for ever.
    """

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[ASGIMessage]],
        send: Callable[[ASGIMessage], Awaitable[None]],
        *,
        write_timeout: float | None = 30.0,
    ) -> None:
        self.state: LaneState = LaneState.CONNECTING
        self.accepted: bool = False
        self.closed: Closed | None = None
        self.write_timeout = write_timeout
        self._receive = receive
        self._send = send
        self._lock = asyncio.Lock()
        self._can_deny = "websocket.http.response" in (scope.get("extensions") or {})

    def __repr__(self) -> str:
        return f"<PlainLane {self.state.name} {self.closed or ''}>"

    async def connect(self) -> bool:
        """Take the connection's first message; False when the peer has left already."""
        return isinstance(await self.read(), str)

    async def read(self) -> str | bytes | Closed:
        """The next message of the peer; :class:`Closed` once it left. Empty frames are frames."""
        message = await self._receive()
        match message["type"]:
            case "websocket.receive":
                text = message.get("text")
                return text if text is not None else (message.get("bytes") or b"")
            case "websocket.connect":
                return ""
            case _:
                return self._end(message.get("code") or NO_CLOSE_FRAME, message.get("reason") or "", "peer")

    def _end(self, code: int, reason: str, initiator: Initiator) -> Closed:
        self.state = LaneState.CLOSED
        if (
            self.closed is None or self.closed.initiator == initiator == "peer"
        ):  # the reader knows the peer's code
            self.closed = Closed(code, reason, initiator)
        return self.closed

    async def accept(
        self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Accept the handshake."""
        self.state = LaneState.OPEN
        self.accepted = True
        message = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": list(headers)}
        await self._deliver(message)

    async def deny(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        """Refuse the handshake with an HTTP response where the server can (ASGI's ``websocket.http.response``
        extension), else with a bare 403."""
        self._end(NO_CLOSE_FRAME, f"refused with {status}", "app")
        if not self._can_deny:
            await self._deliver({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        start = {"type": "websocket.http.response.start", "status": status, "headers": list(headers)}
        await self._deliver(start)
        await self._deliver({"type": "websocket.http.response.body", "body": body, "more_body": False})
        await asyncio.sleep(
            0
        )  # to an app that returns in the same turn uvicorn says that it completed no handshake

    async def write(self, data: str | bytes) -> None:
        """Send one text or binary frame; returns when the server has taken it.

        Raises:
            WebsocketClosed: the connection is not open (any more), or the peer did not read for ``write_timeout``.
        """
        async with self._lock:
            if self.state is not LaneState.OPEN:
                raise self.error()
            message: ASGIMessage = {"type": "websocket.send"}
            message["text" if isinstance(data, str) else "bytes"] = data
            await self._deliver(message)

    async def close(self, code: int = 1000, reason: str = "", *, initiator: Initiator = "app") -> None:
        """Send a close frame after the write in progress; idempotent. Before accept it refuses the handshake.

        Raises:
            ValueError: a code or reason that RFC 6455 does not let one send.
        """
        check_close(code, reason)
        async with self._lock:
            if self.state is LaneState.CLOSED:
                return
            self._end(code, reason, initiator)
            await self._deliver({"type": "websocket.close", "code": code, "reason": reason})

    def error(self) -> WebsocketClosed:
        """What to raise where an open connection was needed."""
        closed = self.closed or Closed(NO_CLOSE_FRAME, "not accepted yet", "app")
        return WebsocketClosed(closed.code, closed.reason, closed.initiator)

    async def _deliver(self, message: ASGIMessage) -> None:
        """Hand *message* to the server within the deadline; whatever goes wrong there ends the connection."""
        try:
            async with asyncio.timeout(self.write_timeout):
                await self._send(message)
        except TimeoutError as error:
            self._end(NO_CLOSE_FRAME, f"the peer did not read for {self.write_timeout} s", "server")
            raise self.error() from error
        except OSError as error:  # uvicorn's ClientDisconnected is one; the reader learns the code
            self._end(NO_CLOSE_FRAME, "the peer is gone", "peer")
            raise self.error() from error
