"""Server-sent events for tests: an incremental parser by the WHATWG rules, and a connection that reads with it.

The parser is written from https://html.spec.whatwg.org/multipage/server-sent-events.html, sections 9.2.5 and 9.2.6,
and shares nothing with the code that writes events, so that each can find the other's mistakes.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from json import loads as json_loads
from types import TracebackType
from typing import Any, Self

from werkzeug.datastructures import Headers

from .errors import EventStreamError, HTTPDisconnectError
from .exchange import TIMEOUT, WINDOW, ASGIApp
from .http import TestHTTPConnection

KEPT = 10_000  # events and comments a test may leave unread while it waits for something else


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One event as an ``EventSource`` dispatches it.

    Args:
        data: the ``data`` lines joined by newlines.
        event: its type, ``message`` where the stream gave none.
        id: the last event id when it was dispatched, which an earlier block may have set.
        retry: the reconnection time in milliseconds that its block set, if it did.
    """

    data: str
    event: str = "message"
    id: str = ""
    retry: int | None = None

    def json(self) -> Any:
        """The data decoded from JSON."""
        return json_loads(self.data)


class EventStreamParser:
    """Turns the bytes of an event stream into events, fed in pieces of any size. Pure.

    Attributes:
        last_event_id: what the client would send as ``Last-Event-ID``; a block without data sets it too.
        retry: the reconnection time in milliseconds, None until the stream sets one.
        comments: the newest comments, at most 10,000, without their colon and one leading space.
        comment_count: how many comments there were in all.
    """

    def __init__(self) -> None:
        self.last_event_id: str = ""
        self.retry: int | None = None
        self.comments: deque[str] = deque(maxlen=KEPT)
        self.comment_count: int = 0
        self._id = ""
        self._decoder = getincrementaldecoder("utf-8-sig")("replace")  # drops one leading BOM
        self._line = ""
        self._after_cr = False
        self._reset()

    def _reset(self) -> None:
        self._data: list[str] = []
        self._event = ""
        self._block_retry: int | None = None

    def feed(self, data: bytes) -> list[ReceivedEvent]:
        """Take the next bytes; returns the events they complete, in order."""
        text = self._decoder.decode(data)
        events = []
        for line in self._lines(text):
            event = self._take(line)
            if event is not None:
                events.append(event)
        return events

    def _lines(self, text: str) -> list[str]:
        """The lines that *text* completes: CR LF, LF and CR end one, and a CR LF may be cut in two."""
        if self._after_cr and text.startswith("\n"):
            text = text[1:]
            self._after_cr = False
        if not text:
            return []
        self._after_cr = text.endswith("\r")
        *lines, rest = (self._line + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._line = rest
        return lines

    def _take(self, line: str) -> ReceivedEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            self.comments.append(value)
            self.comment_count += 1
        else:
            self._field(name, value)
        return None

    def _field(self, name: str, value: str) -> None:
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = self._block_retry = int(value)

    def _dispatch(self) -> ReceivedEvent | None:
        data, event, retry = self._data, self._event, self._block_retry
        self._reset()
        self.last_event_id = self._id  # now and not before: a block cut in two must not be skipped on resume
        if not data:  # the standard drops it, type and all; the id stays
            return None
        return ReceivedEvent("\n".join(data), event or "message", self.last_event_id, retry)


class TestSSEConnection:
    """One event stream, used as ``async with client.sse(path) as stream``.

    Entering waits for the response's start, so ``status_code`` and ``headers`` are there. Leaving is a client that
    goes: the app gets ``http.disconnect`` and is waited for. ``async for event in stream`` ends with the stream.

    Args:
        app: any ASGI callable.
        scope: the HTTP scope.
        timeout: the limit of each wait, in seconds, where a call gives none.
        window: how many messages of the app may wait unread before its ``send()`` waits.
    """

    __test__ = False  # not a test case of pytest's

    def __init__(
        self, app: ASGIApp, scope: dict[str, Any], *, timeout: float = TIMEOUT, window: int = WINDOW
    ) -> None:
        self.connection: TestHTTPConnection = TestHTTPConnection(app, scope, timeout=timeout, window=window)
        self.parser: EventStreamParser = EventStreamParser()
        self.ended: bool = False
        self._events: deque[ReceivedEvent] = deque()
        self._comments_read = 0

    async def __aenter__(self) -> Self:
        await self.connection.__aenter__()
        try:
            await self.connection.send_complete()
            await self.connection.start()
        except BaseException as error:
            await self.connection.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.connection.disconnect()
        await self.connection.__aexit__(kind, error, trace)

    @property
    def status_code(self) -> int:
        """The status code of the response."""
        assert self.connection.status_code is not None
        return self.connection.status_code

    @property
    def headers(self) -> Headers:
        """The headers of the response."""
        assert self.connection.headers is not None
        return self.connection.headers

    @property
    def last_event_id(self) -> str:
        """The id to resume from, empty if the stream has set none."""
        return self.parser.last_event_id

    @property
    def retry(self) -> int | None:
        """The reconnection time in milliseconds, None if the stream has set none."""
        return self.parser.retry

    @property
    def comments(self) -> list[str]:
        """The comments that have been read so far; heartbeats are among them."""
        return list(self.parser.comments)

    async def receive(self, timeout: float | None = None) -> ReceivedEvent:
        """Return the next event.

        Raises:
            EventStreamError: the response is no event stream; the error has it.
            HTTPDisconnectError: the stream has ended.
            TimeoutError: no event came in time.
        """
        await self.until(lambda: bool(self._events), timeout)
        return self._events.popleft()

    async def receive_json(self, timeout: float | None = None) -> Any:
        """Return the data of the next event decoded from JSON."""
        return (await self.receive(timeout)).json()

    async def receive_comment(self, timeout: float | None = None) -> str:
        """Return the next comment that no call has returned yet; events that come before it are kept."""
        parser = self.parser
        await self.until(lambda: parser.comment_count > self._comments_read, timeout)
        dropped = parser.comment_count - len(parser.comments)
        self._comments_read = max(self._comments_read, dropped) + 1
        return parser.comments[self._comments_read - dropped - 1]

    async def receive_nothing(self, timeout: float = 0.1) -> bool:
        """Check that no event comes within *timeout* seconds and that the stream does not end; comments may come.

        Returns:
            True, so that it can stand in an ``assert`` too.

        Raises:
            AssertionError: an event came, or the end.
        """
        try:
            event = await self.receive(timeout)
        except TimeoutError:
            return True
        except HTTPDisconnectError:
            raise AssertionError("expected nothing, got the end of the stream") from None
        raise AssertionError(f"expected nothing, got {event!r}")

    async def until(self, condition: Callable[[], bool], timeout: float | None = None) -> None:
        """Read on until *condition* holds, asked after each piece; events read on the way wait for :meth:`receive`.

        For what is no event: ``await stream.until(lambda: stream.last_event_id == "e:7")``.

        Raises:
            EventStreamError, HTTPDisconnectError, TimeoutError: as :meth:`receive`.
        """
        await self._check()
        left = self.connection.countdown(timeout)
        limit = left()
        while not condition():
            try:
                await self._read(left())
            except TimeoutError as error:
                told = f"{len(self._events)} unread events, {self.parser.comment_count} comments"
                raise TimeoutError(
                    f"not within {round(limit, 2):g} s of the event stream ({told}): {error}"
                ) from None

    async def _read(self, timeout: float) -> None:
        if len(self._events) > KEPT:
            raise RuntimeError(f"more than {KEPT} events were left unread")
        chunk = await self.connection.receive(timeout)
        if not chunk:
            self.ended = True
            raise HTTPDisconnectError(f"the event stream of {self.connection!r} has ended")
        self._events.extend(self.parser.feed(chunk))

    async def _check(self) -> None:
        kind = (self.headers.get("content-type") or "").partition(";")[0].strip().lower()
        if self.status_code != 200 or kind != "text/event-stream":
            raise EventStreamError(await self.connection.as_response())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedEvent:
        try:
            return await self.receive()
        except HTTPDisconnectError:
            raise StopAsyncIteration from None
