"""The door for ``EventSource``: server-sent events (WHATWG HTML, section 9.2) from channels or from one's own source.

An EventSource comes back by itself, with ``Last-Event-ID``, after a stream that ends or breaks; but after a status
other than 200 it dies for good. So whatever is temporary (a drain, a backend that is away) is answered 200, ``retry:``
and the end, never by a status. The first bytes leave at once, so that ``onopen`` fires and proxies see life; a comment
follows every ``SSE_HEARTBEAT`` seconds of silence, which also finds clients that are gone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from functools import partial
from typing import Any

from ...broadcast import (
    Cursor,
    Event,
    Gap,
    Hub,
    Member,
    Message,
    Policy,
    Position,
    Since,
    Subscribed,
    Subscription,
)
from ...errors import BackendUnavailable, HubClosed, SlowSubscriber
from ...tasks import Scope
from ..ctx import required_context
from ..globals import current_app
from ..wrappers import Response
from . import frames
from .drain import ShutdownEvent
from .entry import ask_all, check_names, read_cursor
from .frames import ServerSentEvent
from .identity import members_for
from .stay import Stay

HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # Nginx passes each block on at once, whatever proxy_buffering says
}
HEARTBEAT = b":\n\n"
MAX_COMPOSITE_ID = 2048
"""Bytes of a composite ``id:``; it comes back as a request header, and proxies refuse long ones."""
POSITION_BYTES = 40
"""What a position in a composite id is counted with before it is known: epoch, colon, offset, and the separators."""


async def event_stream(
    *channels: str | AsyncIterable[Any],
    since: Since = None,
    last: int | None = None,
    envelope: bool = True,
    authorize: bool = True,
    heartbeat: float | None = None,
    retry: int | None = None,
    policy: Policy | None = None,
    max_messages: int | None = None,
    max_bytes: int | None = None,
) -> Response:
    """A response that streams channels as server-sent events and resumes from ``Last-Event-ID``.

    Args:
        channels: their names; or one async iterable that yields :class:`ServerSentEvent`, str (data) or JSON data.
        since: a cursor to go on after; by default the client's ``Last-Event-ID``, else ``?since=``, else from now.
        last: start with the newest so many kept messages; by default the rule's ``replay``.
        envelope: send ``{"channel", "cursor", "id", "ts", "data"}``, or the payload alone.
        authorize: ask the channels' rules; False where the route has decided itself.
        heartbeat: seconds of silence after which a comment is sent; ``SSE_HEARTBEAT`` by default.
        retry: milliseconds a client is to wait before it comes back, spread by half either way; ``SSE_RETRY``.
        policy, max_messages, max_bytes: of the subscriber's outbox; the hub's defaults.

    Raises:
        BadRequest: a malformed ``since`` or channel name. Forbidden: a rule refused.
        ValueError: no channel, the same one twice, or so many that the composite ``id:`` would exceed 2 KiB.
    """
    config = current_app.config
    beat = config["SSE_HEARTBEAT"] if heartbeat is None else heartbeat
    wait = config["SSE_RETRY"] if retry is None else retry
    prelude = ServerSentEvent(retry=int(wait * random.uniform(0.5, 1.5)), comment="samovar").encode()
    app = required_context("event_stream").app
    body: AsyncIterable[bytes]
    if len(channels) == 1 and not isinstance(channels[0], str):
        body = SourceStream(channels[0], prelude, beat, app.shutdown_event)
    else:
        names = check_names([_name(channel) for channel in channels])
        _check_composite(names)
        cursor = read_cursor(since, names, last_event_id=True)
        stay = Stay(app.hub)
        granted = await ask_all(names, stay.ask, authorize=authorize)
        body = ChannelStream(
            app.hub,
            names,
            cursor,
            last,
            prelude=prelude,
            heartbeat=beat,
            envelope=envelope,
            members=await members_for(names, granted),
            stay=stay,
            grace=config["PRESENCE_GRACE"],
            shutdown=app.shutdown_event,
            bounds={"policy": policy, "max_messages": max_messages, "max_bytes": max_bytes},
        )
    response = Response(body, content_type="text/event-stream; charset=utf-8", headers=HEADERS)
    response.timeout = config["SSE_WRITE_TIMEOUT"]
    return response


def _name(channel: str | AsyncIterable[Any]) -> str:
    if isinstance(channel, str):
        return channel
    raise TypeError(
        f"event_stream takes channel names, or one async iterable alone, not {type(channel).__name__} among several"
    )


def _check_composite(names: Sequence[str]) -> None:
    size = sum(len(name) + POSITION_BYTES for name in names)
    if len(names) > 1 and size > MAX_COMPOSITE_ID:
        raise ValueError(
            f"{len(names)} channels make an id: of about {size} bytes, and proxies refuse headers over "
            f"{MAX_COMPOSITE_ID}: use fewer channels in one stream, or a websocket"
        )


class ChannelStream:
    """The body of a channels' event stream; iterated once, by the response."""

    def __init__(
        self,
        hub: Hub,
        channels: tuple[str, ...],
        cursor: Cursor | None,
        last: int | None,
        *,
        prelude: bytes,
        heartbeat: float,
        envelope: bool,
        members: dict[str, Member],
        stay: Stay,
        grace: float,
        shutdown: ShutdownEvent,
        bounds: dict[str, Any],
    ) -> None:
        self._hub = hub
        self._channels = channels
        self._cursor = cursor
        self._last = last
        self._prelude = prelude
        self._heartbeat = heartbeat
        self._envelope = envelope
        self._members = members
        self._stay = stay
        self._grace = grace
        self._shutdown = shutdown
        self._bounds = bounds
        known = {} if cursor is None else {name: cursor.get(name) for name in channels if name in cursor}
        self._positions: dict[str, Position | None] = known if len(channels) > 1 else {}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._prelude
        subscription = self._hub.subscribe(**self._bounds)
        self._shutdown.add(subscription.close)
        self._stay.open(partial(_wake, subscription))
        try:
            for channel in self._channels:
                await subscription.add(channel, since=self._cursor, last=self._last)
            for channel, member in self._members.items():
                await self._hub.enter(channel, member)
            while True:
                events = await subscription.events(timeout=self._heartbeat)
                if self._stay.unsettled:
                    if (end := await self._stay.settle()) is not None:
                        yield frames.sse_closed(end)
                        return
                    events = [event for event in events if event is not WAKE]
                    if not events:
                        continue
                yield b"".join([self._block(event) for event in events]) if events else HEARTBEAT
        except (SlowSubscriber, HubClosed, BackendUnavailable) as end:
            yield ServerSentEvent(comment=f"end: {frames.LINE_END.sub(' ', str(end))}").encode()
        finally:
            self._shutdown.discard(subscription.close)
            self._stay.close()
            subscription.close()
            for channel, member in self._members.items():
                await self._hub.leave(channel, member.id, grace=self._grace)

    def _block(self, event: Event) -> bytes:
        match event:
            case Message():
                return frames.sse_message(
                    event, self._id(event.channel, event.position), bare=not self._envelope
                )
            case Gap():
                return frames.sse_event("gap", frames.gap(event), self._id(event.channel, event.until))
            case Subscribed():
                cursor = self._id(event.channel, event.position)
                if self._envelope:
                    return frames.sse_event("subscribed", frames.subscribed(event), cursor)
                return f"id: {cursor}\n\n".encode() if cursor else HEARTBEAT

    def _id(self, channel: str, position: Position | None) -> str:
        if len(self._channels) == 1:
            return str(position or "")
        self._positions[channel] = position
        return frames.composite(self._positions)


WAKE: Any = object()
"""Stands in a stream's outbox so that its reader looks at the stay."""


def _wake(subscription: Subscription) -> None:
    try:
        subscription.put(WAKE, 0)
    except SlowSubscriber:
        return  # others stand there already
    except HubClosed:
        return  # the stream ends anyway


class SourceStream:
    """The body of an event stream from the app's own async iterable, with heartbeats while it is silent."""

    def __init__(
        self, source: AsyncIterable[Any], prelude: bytes, heartbeat: float, shutdown: ShutdownEvent
    ) -> None:
        self._source = source
        self._prelude = prelude
        self._heartbeat = heartbeat
        self._shutdown = shutdown

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        yield self._prelude
        slot = _Slot()
        self._shutdown.add(slot.end)
        try:
            async with Scope(
                "event source", on_error=lambda task, error: None
            ) as scope:  # its error is raised here
                source = scope.start(slot.fill(self._source), name="source")
                source.add_done_callback(lambda _: slot.end())
                async for block in slot.blocks(self._heartbeat):
                    yield block
                if source.done():
                    source.result()
        finally:
            self._shutdown.discard(slot.end)


class _Slot:
    """Hands blocks over from the one task in which a source runs, so that its time limits and task groups hold across
    ``yield``; the source goes on when its block was taken."""

    def __init__(self) -> None:
        self._block: bytes | None = None
        self._ended = False
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()

    async def fill(self, source: AsyncIterable[Any]) -> None:
        """Run *source* to its end."""
        try:
            async for event in source:
                self._block = (
                    event.encode() if isinstance(event, ServerSentEvent) else ServerSentEvent(event).encode()
                )
                self._taken.clear()
                self._changed.set()
                await self._taken.wait()
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    def end(self) -> None:
        """No more blocks are wanted, or will come."""
        self._ended = True
        self._changed.set()

    async def blocks(self, heartbeat: float) -> AsyncGenerator[bytes, None]:
        """What the source gives, with a heartbeat for every so many seconds without anything."""
        while True:
            try:
                async with asyncio.timeout(heartbeat):
                    await self._changed.wait()
            except TimeoutError:
                yield HEARTBEAT
                continue
            block, self._block = self._block, None
            if not self._ended:
                self._changed.clear()
            self._taken.set()
            if block is not None:
                yield block
            elif self._ended:
                return


__all__ = ["ChannelStream", "ServerSentEvent", "SourceStream", "event_stream"]
