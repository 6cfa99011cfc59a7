"""A websocket connection for tests, which behaves as the wire does."""

from __future__ import annotations

from collections.abc import Callable
from json import loads as json_loads
from types import TracebackType
from typing import Any, Self

from werkzeug.datastructures import Headers

from .building import app_dumps
from .errors import WebsocketDisconnectError, WebsocketResponseError
from .exchange import TIMEOUT, WINDOW, AppReturned, ASGIApp, ASGIMessage, Exchange
from .http import ResponseRules, make_response, read_headers

NORMAL, ABNORMAL, INTERNAL = 1000, 1006, 1011  # RFC 6455, section 7.4.1


class TestWebsocketConnection:
    """One websocket, used as ``async with client.websocket(path) as ws``.

    The handshake is waited for at the first :meth:`send`, :meth:`receive` or :meth:`handshake`, since a handler may
    accept late. Leaving the block closes with 1000 and waits for the app to return.

    What a browser could not see, a test cannot see either: a close before accept is a refusal with 403, a handler
    that returns without a close is 1011, as with Hypercorn. What the app raises is raised to the test.

    Args:
        app: any ASGI callable.
        scope: the websocket scope.
        timeout: the limit of each wait, in seconds, where a call gives none.
        window: how many messages of the app may wait unread before its ``send()`` waits.

    Attributes:
        accepted: whether the handshake is done; ``headers`` and ``subprotocol`` are then set.
        close_code: None while open; with ``close_reason``.
        status_code: of the answer, when the app refused the handshake.
        app, scope: what it was made of.
        on_headers: called with the headers of the handshake's answer, refusals included.
    """

    __test__ = False  # not a test case of pytest's

    def __init__(
        self, app: ASGIApp, scope: dict[str, Any], *, timeout: float = TIMEOUT, window: int = WINDOW
    ) -> None:
        self.accepted: bool = False
        self.headers: Headers | None = None
        self.on_headers: Callable[[Headers], object] = lambda headers: None
        self.subprotocol: str | None = None
        self.close_code: int | None = None
        self.close_reason: str = ""
        self.app = app
        self.scope = scope
        self.status_code: int | None = None
        self._rules = WebsocketRules("websocket.http.response" in scope["extensions"])
        label = f"websocket {scope['path']}"
        self._exchange = Exchange(
            app, scope, label=label, timeout=timeout, window=window, on_send=self._on_send
        )
        self._refusal: WebsocketResponseError | None = None

    def __repr__(self) -> str:
        return f"<TestWebsocketConnection {self._exchange.label} accepted={self.accepted} code={self.close_code}>"

    async def __aenter__(self) -> Self:
        self._exchange.start()
        await self._exchange.put({"type": "websocket.connect"})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = NORMAL if self.accepted else ABNORMAL
        unseen = error is None and self._refused_unseen()
        try:
            await self._exchange.close({"type": "websocket.disconnect", "code": code, "reason": ""})
            if unseen:
                await self.handshake()
        except Exception as late:
            if error is None or error is late:
                raise
            error.add_note(f"leaving the websocket failed too: {late!r}")

    def _refused_unseen(self) -> bool:
        """Whether the app refused and the test never looked: leaving says so, else the test would pass."""
        ended = self._rules.refused or self._rules.closed or self._exchange.returned
        return ended and not self._rules.accepted and not self._exchange.gone and self._refusal is None

    def _on_send(self, message: ASGIMessage) -> None:
        self._rules.see(message)
        if message["type"] == "websocket.close":
            code, reason = message.get("code", NORMAL), message.get("reason") or ""
            self._exchange.end({"type": "websocket.disconnect", "code": code, "reason": reason})
        elif self._rules.refused:
            self._exchange.end({"type": "websocket.disconnect", "code": ABNORMAL, "reason": ""})

    # -- the test's side

    async def handshake(self, timeout: float | None = None) -> Self:
        """Wait until the app has accepted; ``headers`` and ``subprotocol`` are then set.

        Raises:
            WebsocketResponseError: it refused; the error has the response.
        """
        while not self.accepted:
            if self._refusal is not None:
                raise self._refusal
            await self._take(await self._next("the handshake", timeout), timeout)
        return self

    async def receive(self, timeout: float | None = None) -> str | bytes:
        """Return the next message of the app; text is ``str``, binary is ``bytes``, empty ones included.

        Raises:
            WebsocketResponseError: the handshake was refused.
            WebsocketDisconnectError: the websocket is closed, by the app or by the test.
            TimeoutError: nothing came in time.
        """
        await self.handshake(timeout)
        while True:
            if self.close_code is not None and not self._exchange.unread:
                raise WebsocketDisconnectError(self.close_code, self.close_reason)
            data = await self._take(await self._next("a message", timeout), timeout)
            if data is not None:
                return data

    async def receive_json(self, timeout: float | None = None) -> Any:
        """Return the next message decoded from JSON."""
        provider = getattr(self.app, "json", None)
        return getattr(provider, "loads", json_loads)(await self.receive(timeout))

    async def receive_nothing(self, timeout: float = 0.1) -> bool:
        """Check that neither a message nor a close comes within *timeout* seconds.

        Returns:
            True, so that it can stand in an ``assert`` too.

        Raises:
            AssertionError: something came.
        """
        try:
            data = await self.receive(timeout)
        except TimeoutError:
            return True
        except (WebsocketDisconnectError, WebsocketResponseError) as error:
            raise AssertionError(f"expected nothing, but {error}") from None
        raise AssertionError(f"expected nothing, got {data!r}")

    async def send(self, data: str | bytes, timeout: float | None = None) -> None:
        """Send a message: ``str`` as text, ``bytes`` as binary.

        Raises:
            WebsocketResponseError: the handshake was refused.
            WebsocketDisconnectError: the websocket is closed.
            TimeoutError: the app reads too little.
        """
        await self.handshake(timeout)
        if self._exchange.last is not None:
            raise self._closed()
        key = "text" if isinstance(data, str) else "bytes"
        try:
            await self._exchange.put({"type": "websocket.receive", key: data}, timeout)
        except AppReturned:
            raise self._closed() from None

    async def send_json(self, data: Any, timeout: float | None = None) -> None:
        """Send *data* as a text message in JSON."""
        await self.send(app_dumps(self.app)(data), timeout)

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close as a browser does: the app gets the code and the reason."""
        await self.handshake()
        self._go(code, reason)

    async def disconnect(self) -> None:
        """Vanish without a close frame: the app gets code 1006, also where it has not accepted yet."""
        self._go(ABNORMAL, "")

    async def wait_closed(self, timeout: float | None = None) -> int:
        """Read until the app closes, throw away what comes before, and return the close code.

        Args:
            timeout: the limit for all of it, in seconds.
        """
        left = self._exchange.countdown(timeout)
        while True:
            try:
                await self.receive(left())
            except WebsocketDisconnectError as closed:
                return closed.code

    def _go(self, code: int, reason: str) -> None:
        if self.close_code is None:
            self.close_code, self.close_reason = code, reason
        self._exchange.leave({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _closed(self) -> WebsocketDisconnectError:
        last = self._exchange.last or {}
        return WebsocketDisconnectError(last.get("code", INTERNAL), last.get("reason", ""))

    async def _next(self, what: str, timeout: float | None) -> ASGIMessage:
        try:
            return await self._exchange.get(what, timeout)
        except AppReturned:
            if not self.accepted:
                self._refuse([], 500, Headers())
            elif self.close_code is None:
                self.close_code, self.close_reason = INTERNAL, "the app returned without closing"
            raise (self._refusal or self._disconnected()) from None

    def _disconnected(self) -> WebsocketDisconnectError:
        assert self.close_code is not None
        return WebsocketDisconnectError(self.close_code, self.close_reason)

    async def _take(self, message: ASGIMessage, timeout: float | None) -> str | bytes | None:
        kind = message["type"]
        if kind == "websocket.accept":
            self.accepted = True
            self.subprotocol = message.get("subprotocol")
            self.headers = read_headers(message)
            self.on_headers(self.headers)
        elif kind == "websocket.close" and not self.accepted:
            self._refuse([], 403, Headers())
        elif kind == "websocket.close":
            self.close_code, self.close_reason = message.get("code", NORMAL), message.get("reason") or ""
        elif kind == "websocket.http.response.start":
            await self._read_refusal(message, timeout)
        elif kind == "websocket.send":
            return bytes(message["bytes"]) if message.get("bytes") is not None else str(message["text"])
        return None

    async def _read_refusal(self, start: ASGIMessage, timeout: float | None) -> None:
        chunks, more = [], True
        while more:
            message = await self._next("the rest of the refusal", timeout)
            chunks.append(bytes(message.get("body", b"")))
            more = bool(message.get("more_body", False))
        self._refuse(chunks, start["status"], read_headers(start))

    def _refuse(self, body: list[bytes], status: int, headers: Headers) -> None:
        self.on_headers(headers)
        self.status_code = status
        self._refusal = WebsocketResponseError(make_response(self.app, body, status, headers))


class WebsocketRules:
    """Checks what an app sends on a websocket as a server does. Pure.

    Args:
        denial: whether the server offers the denial response extension.
    """

    def __init__(self, denial: bool) -> None:
        self.denial = denial
        self.accepted: bool = False
        self.closed: bool = False
        self.response: ResponseRules = ResponseRules(prefix="websocket.http.response")

    @property
    def refused(self) -> bool:
        """True once a denial response is complete."""
        return self.response.complete

    def see(self, message: ASGIMessage) -> None:
        """Take the app's next message.

        Raises:
            RuntimeError: it is not allowed at this point.
            TypeError: a ``websocket.send`` has neither text nor bytes, or one of the wrong type.
        """
        kind = message["type"]
        if kind == "websocket.accept" and not (self.accepted or self.closed or self.response.started):
            self.accepted = True
        elif kind == "websocket.close" and not (self.closed or self.response.started):
            self.closed = True
        elif kind == "websocket.send" and self.accepted and not self.closed:
            self._check_payload(message)
        elif (
            kind.startswith("websocket.http.response.") and self.denial and not (self.accepted or self.closed)
        ):
            self.response.see(message)
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r} {self._where()}")

    def _check_payload(self, message: ASGIMessage) -> None:
        text, data = message.get("text"), message.get("bytes")
        if (text is None) == (data is None):
            raise TypeError("websocket.send takes either text or bytes")
        if not isinstance(text, str) and not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"websocket.send takes str as text and bytes as bytes, got {text!r}, {data!r}")

    def _where(self) -> str:
        if self.closed:
            return "after the close"
        return "after the accept" if self.accepted else "before the accept"
