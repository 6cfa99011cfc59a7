"""What clients are sent: messages, gaps and first words as JSON text, SSE blocks and poll bodies.

Pure, and memoised on the message: a wire form is made once, whoever and however many are to get it. The envelope
carries the position of its own channel only, so that its text is the same for every subscriber. Its JSON is put
together from the payload's bytes as published; nothing is decoded on the way.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ...broadcast import Gap, Member, Message, Position, Subscribed
from .codes import CloseCode

_string = json.encoder.encode_basestring_ascii
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode

LINE_END = re.compile("\r\n|\n|\r")
FORBIDDEN = re.compile("[\r\n\0]")
MAX_COMPOSITE_FORMS = 8
"""How many forms with a composite id one message remembers; more are made afresh, so a message stays bounded."""


def envelope(message: Message) -> str:
    """The message as JSON text: ``{"channel", "cursor", "id", "ts", "data"}``, with ``user`` and ``enc`` where due."""
    text: str | None = message.wire.get("envelope")
    if text is None:
        text = message.wire["envelope"] = _envelope(message)
    return text


def _envelope(message: Message) -> str:
    if message.kind == "json":
        data = message.body.decode()
    elif message.kind == "text":
        data = _compact(message.body.decode())
    else:
        data = f'"{b64encode(message.body).decode()}","enc":"base64"'
    user = "" if message.user is None else f',"user":{_compact(message.user)}'
    return (
        f'{{"channel":{_string(message.channel)},"cursor":{_string(message.cursor)},'
        f'"id":{_compact(message.id)},"ts":{message.ts}{user},"data":{data}}}'
    )


def bare(message: Message) -> str | bytes:
    """The payload alone, for ``envelope=False``: text and JSON as str, bytes as bytes."""
    return message.body if message.kind == "bytes" else message.body.decode()


def bare_text(message: Message) -> str:
    """The payload alone where only text can go: bytes become base64."""
    return b64encode(message.body).decode() if message.kind == "bytes" else message.body.decode()


def subscribed(word: Subscribed, cursor: str | None = None) -> str:
    """The first word as JSON text."""
    return _compact(
        {
            "channel": word.channel,
            "subscribed": True,
            "recovered": word.recovered,
            "cursor": word.cursor if cursor is None else cursor,
        }
    )


def gap_body(gap: Gap) -> dict[str, Any]:
    """``{"reason", "after", "until"}`` with positions as text or null, and ``count`` where known."""
    body: dict[str, Any] = {
        "reason": gap.reason,
        "after": None if gap.after is None else str(gap.after),
        "until": None if gap.until is None else str(gap.until),
    }
    if gap.count is not None:
        body["count"] = gap.count
    return body


def gap(gap: Gap) -> str:
    """The gap as JSON text: ``{"channel", "gap": {…}, "cursor"}``; the cursor is where the stream goes on."""
    return _compact({"channel": gap.channel, "gap": gap_body(gap), "cursor": str(gap.until or "")})


def presence(channel: str, event: str, members: Iterable[Member] | dict[str, Any], cursor: str) -> str:
    """A change of presence, or with ``event="list"`` all members, as JSON text."""
    body: dict[str, Any] = {"event": event}
    if isinstance(members, dict):
        body["member"] = members
    else:
        body["members"] = [member_body(member) for member in members]
    return _compact({"channel": channel, "presence": body, "cursor": cursor})


def member_body(member: Member) -> dict[str, Any]:
    """What is shown of a member."""
    return {"id": member.id, "user": member.user, "info": member.info}


def sent_away(code: CloseCode) -> str:
    """The last word to a client that may not stay, as JSON text: ``{"code", "reason", "retry"}``."""
    return _compact({"code": code.code, "reason": code.reason, "retry": code.retry})


# --- server-sent events: WHATWG HTML, section 9.2 ---------------------------------------------------------------------


def sse_lines(field: str, text: str) -> str:
    """*text* as lines of one field; CR, LF and CRLF each end a line, as the WHATWG parser reads them."""
    return "".join(f"{field}: {line}\n" for line in LINE_END.split(text))


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event for an ``EventSource``.

    Args:
        data: a str as it is (line ends are split into lines), anything else as JSON; None sends no data, so that the
            browser dispatches nothing but takes over ``id`` and ``retry``.
        event: the type that listeners are added for; None means ``message``.
        id: becomes the ``Last-Event-ID`` of a reconnect.
        retry: how long the browser is to wait before a reconnect, in milliseconds.
        comment: sent before the fields, ignored by browsers.

    Raises:
        ValueError: a line end or NUL in ``event``, ``id`` or ``comment`` (CWE-93), or a negative ``retry``.
    """

    data: Any = None
    event: str | None = None
    id: str | None = None
    retry: int | None = None
    comment: str | None = None

    def __post_init__(self) -> None:
        for name in ("event", "id", "comment"):
            value = getattr(self, name)
            if value is not None and FORBIDDEN.search(value):
                raise ValueError(
                    f"{name} of a server-sent event must not contain CR, LF or NUL: {value[:80]!r}"
                )
        if self.retry is not None and (isinstance(self.retry, bool) or self.retry < 0):
            raise ValueError(f"retry of a server-sent event is a number of milliseconds, not {self.retry!r}")

    def encode(self) -> bytes:
        """The block as it goes on the wire, closed by its blank line."""
        parts = []
        if self.comment is not None:
            parts.append(f": {self.comment}\n")
        if self.retry is not None:
            parts.append(f"retry: {self.retry:d}\n")
        if self.event is not None:
            parts.append(f"event: {self.event}\n")
        if self.data is not None:
            parts.append(sse_lines("data", self.data if isinstance(self.data, str) else _compact(self.data)))
        if self.id is not None:
            parts.append(f"id: {self.id}\n")
        return ("".join(parts) + "\n").encode()


def sse_message(message: Message, cursor: str, *, bare: bool = False) -> bytes:
    """The message as an SSE block whose ``id:`` is *cursor*; remembered per form.

    Args:
        message: to be sent.
        cursor: the message's own, or the composite one of a stream of several channels.
        bare: the payload alone instead of the envelope.
    """
    key = ("sse", bare, cursor)
    block: bytes | None = message.wire.get(key)
    if block is None:
        text = bare_text(message) if bare else envelope(message)
        block = f"{sse_lines('data', text)}id: {cursor}\n\n".encode()
        if len(message.wire) < MAX_COMPOSITE_FORMS:
            message.wire[key] = block
    return block


def sse_event(event: str, text: str, cursor: str) -> bytes:
    """A named block: a first word, a gap, a change of presence. Without a cursor there is no ``id:`` line, because an
    empty one would make the browser forget where it was."""
    tail = f"id: {cursor}\n\n" if cursor else "\n"
    return f"event: {event}\n{sse_lines('data', text)}{tail}".encode()


def sse_closed(code: CloseCode) -> bytes:
    """The last block of a stream whose client may not stay; an EventSource comes back all the same, and is asked."""
    return sse_event("closed", sent_away(code), "")


# --- polls ------------------------------------------------------------------------------------------------------------


def poll_body(
    messages: Iterable[Message],
    cursor: str,
    *,
    recovered: bool | None = None,
    gaps: Iterable[Gap] = (),
    more: bool = False,
    envelopes: bool = True,
) -> bytes:
    """A long-poll's answer: ``{"messages": […], "cursor", "recovered", "gaps"?, "more"?}``."""
    rows = ",".join(envelope(m) if envelopes else _bare_json(m) for m in messages)
    told = _compact(recovered)
    lost = [{"channel": gap.channel, **gap_body(gap)} for gap in gaps]
    tail = f',"gaps":{_compact(lost)}' if lost else ""
    if more:
        tail += ',"more":true'
    return f'{{"messages":[{rows}],"cursor":{_string(cursor)},"recovered":{told}{tail}}}'.encode()


def _bare_json(message: Message) -> str:
    return message.body.decode() if message.kind == "json" else _compact(bare_text(message))


def composite(positions: dict[str, Position | None]) -> str:
    """The cursor of several channels, in the order of *positions*."""
    return ",".join(f"{channel}={position or ''}" for channel, position in positions.items())
