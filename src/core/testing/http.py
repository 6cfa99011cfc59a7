"""An HTTP request in progress, for tests that look at a response while it is being made."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from werkzeug.datastructures import Headers

from ..wrappers.response import Response
from .errors import HTTPDisconnectError
from .exchange import TIMEOUT, WINDOW, AppReturned, ASGIApp, ASGIMessage, Exchange

DISCONNECT = {"type": "http.disconnect"}
BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class ResponseRules:
    """Checks what an app sends in answer to a request as a server does (ASGI, and h11 for lengths). Pure.

    Args:
        method: of the request: an answer to HEAD has no body on the wire.
    """

    def __init__(self, method: str = "GET", prefix: str = "http.response") -> None:
        self.method = method
        self.prefix = prefix
        self.started: bool = False
        self.complete: bool = False
        self.bodiless: bool = method == "HEAD"
        self._left: int | None = None

    def see(self, message: ASGIMessage) -> None:
        """Take the app's next message.

        Raises:
            RuntimeError: it is not allowed at this point, or the body and its Content-Length differ.
        """
        kind = message["type"]
        if kind == f"{self.prefix}.start" and not self.started:
            self._start(message)
        elif kind == f"{self.prefix}.body" and self.started and not self.complete:
            self._body(message)
        elif kind in ("http.response.push", "http.response.early_hint") and not self.complete:
            return
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r} {self._where()}")

    def _start(self, message: ASGIMessage) -> None:
        headers = read_headers(message)
        self.started = True
        self.bodiless = self.bodiless or message["status"] in BODILESS
        length = headers.get("content-length")
        self._left = None if length is None or self.bodiless else int(length)

    def _body(self, message: ASGIMessage) -> None:
        more = bool(message.get("more_body", False))
        if self._left is not None:
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise RuntimeError("the body is longer than its Content-Length")
            if self._left and not more:
                raise RuntimeError(f"the body is {self._left} bytes shorter than its Content-Length")
        self.complete = not more

    def _where(self) -> str:
        if self.complete:
            return "after the response was complete"
        return "after the response started" if self.started else "before the response started"


def read_headers(message: ASGIMessage) -> Headers:
    """Read the headers of an ASGI message.

    Raises:
        TypeError: a name or value is not bytes.
    """
    headers = Headers()
    for name, value in message.get("headers", ()):
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            raise TypeError(f"ASGI headers are bytes, got {name!r}: {value!r}")
        headers.add(name.decode("latin-1"), value.decode("latin-1"))
    return headers


class TestHTTPConnection:
    """One request whose body is sent, and whose response is read, piece by piece.

    Used as ``async with client.request(path) as connection``. Leaving the block after :meth:`send_complete` reads
    the response to its end (:meth:`as_response` may then be called outside); leaving it earlier, after
    :meth:`disconnect` or by an exception, is a client that goes: the app gets ``http.disconnect`` and is waited for.

    Args:
        app: any ASGI callable.
        scope: the HTTP scope.
        timeout: the limit of each wait, in seconds, where a call gives none.
        window: how many messages of the app may wait unread before its ``send()`` waits.

    Attributes:
        status_code: None until the response has started; so is ``headers``.
        push_promises: path and headers of each promise that came.
        app, scope: what it was made of.
        on_headers: called with the response's headers when they come.
    """

    __test__ = False  # not a test case of pytest's

    def __init__(
        self, app: ASGIApp, scope: dict[str, Any], *, timeout: float = TIMEOUT, window: int = WINDOW
    ) -> None:
        self.status_code: int | None = None
        self.headers: Headers | None = None
        self.push_promises: list[tuple[str, Headers]] = []
        self.on_headers: Callable[[Headers], object] = lambda headers: None
        self.app = app
        self.scope = scope
        self._rules = ResponseRules(scope["method"])
        label = f"{scope['method']} {scope['path']}"
        self._exchange = Exchange(
            app, scope, label=label, timeout=timeout, window=window, on_send=self._on_send
        )
        self.countdown: Callable[[float | None], Callable[[], float]] = self._exchange.countdown
        self._request_complete = False
        self._complete = False  # the last body message has been read
        self._rest: list[bytes] = []  # read on leaving, for as_response

    def __repr__(self) -> str:
        return f"<TestHTTPConnection {self._exchange.label} status={self.status_code}>"

    async def __aenter__(self) -> Self:
        self._exchange.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._request_complete and not self._exchange.gone:
                self._rest = await self._read_rest()
        except BaseException as failed:
            error = failed
            raise
        finally:
            await self._close(error)

    async def _close(self, error: BaseException | None) -> None:
        try:
            await self._exchange.close(DISCONNECT)
        except Exception as late:
            if error is None or error is late:
                raise
            error.add_note(f"leaving the connection failed too: {late!r}")

    def _on_send(self, message: ASGIMessage) -> None:
        self._rules.see(message)
        if self._rules.complete:
            self._exchange.end(DISCONNECT)

    async def send(self, data: bytes, timeout: float | None = None) -> None:
        """Send a piece of the request's body."""
        await self._put({"type": "http.request", "body": data, "more_body": True}, timeout)

    async def send_complete(self, timeout: float | None = None) -> None:
        """Say that the request's body is complete."""
        await self._put({"type": "http.request", "body": b"", "more_body": False}, timeout)
        self._request_complete = True

    async def _put(self, message: ASGIMessage, timeout: float | None) -> None:
        try:
            await self._exchange.put(message, timeout)
        except AppReturned:
            pass  # it answered without reading the body, which a server then throws away

    async def start(self, timeout: float | None = None) -> int:
        """Wait for the response's first message and return the status code; ``headers`` is set as well.

        Raises:
            HTTPDisconnectError: the app returned without a response.
        """
        while self.status_code is None:
            self._take(await self._next("the start of the response", timeout))
        return self.status_code

    async def receive(self, timeout: float | None = None) -> bytes:
        """Return the next piece of the response's body; empty when it is complete.

        Raises:
            HTTPDisconnectError: the app returned in the middle of the response.
            TimeoutError: nothing came in time.
        """
        while not self._complete:
            chunk = self._take(await self._next("a piece of the response", timeout))
            if chunk:
                return chunk
        return b""

    async def receive_nothing(self, timeout: float = 0.1) -> bool:
        """Check that nothing more of the response comes within *timeout* seconds, its end included.

        Returns:
            True, so that it can stand in an ``assert`` too.

        Raises:
            AssertionError: something came.
        """
        try:
            chunk = await self.receive(timeout)
        except TimeoutError:
            return True
        raise AssertionError(f"expected nothing, got {chunk!r}" if chunk else "expected nothing, got the end")

    async def disconnect(self) -> None:
        """Go, as a client that vanishes: the app gets ``http.disconnect`` and what it still sends is dropped."""
        self._exchange.leave(DISCONNECT)

    async def as_response(self, timeout: float | None = None) -> Response:
        """Read the response to its end and return it; what :meth:`receive` gave out is not in it again."""
        rest = self._rest or await self._read_rest(timeout)
        self._rest = rest
        assert self.status_code is not None
        return make_response(self.app, rest, self.status_code, self.headers or Headers())

    async def _read_rest(self, timeout: float | None = None) -> list[bytes]:
        left = self._exchange.countdown(timeout)  # for all of it: a stream without end must not hold the test
        await self.start(left())
        chunks = []
        while not self._complete:
            try:
                chunks.append(await self.receive(left()))
            except TimeoutError as error:
                read = sum(map(len, chunks))
                raise TimeoutError(f"the response did not end in time ({read} bytes read): {error}") from None
        return chunks

    async def _next(self, what: str, timeout: float | None) -> ASGIMessage:
        try:
            return await self._exchange.get(what, timeout)
        except AppReturned:
            raise HTTPDisconnectError(
                f"{self._exchange.label}: the response is cut; {self._exchange.story()}"
            ) from None

    def _take(self, message: ASGIMessage) -> bytes:
        kind = message["type"]
        if kind == "http.response.start":
            self.status_code = message["status"]
            self.headers = read_headers(message)
            self.on_headers(self.headers)
        elif kind == "http.response.push":
            self.push_promises.append((message["path"], read_headers(message)))
        elif kind == "http.response.body":
            self._complete = not message.get("more_body", False)
            return b"" if self._rules.bodiless else bytes(message.get("body", b""))
        return b""


def make_response(app: Any, body: list[bytes], status: int, headers: Headers) -> Response:
    """Build the response object a test looks at: of the app's ``response_class``, with the headers that came."""
    response_class = getattr(app, "response_class", None) or Response
    response: Response = response_class(b"".join(body), status=status, headers=Headers(headers))
    response.automatically_set_content_length = False
    for name in ("Content-Length", "Content-Type"):  # what the class adds and the app did not send
        if name not in headers:
            response.headers.pop(name, None)
    return response
