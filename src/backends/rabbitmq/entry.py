"""What lies in the stream: entries, written and read. Pure.

Everything is in the body of a message, and nothing in its properties, which each version of RabbitMQ converts in its
own way::

    magic(4) version kind origin(8) ts(8) flags lengths(2)  channel id  [retention] [number] [dedupe]  rest

*origin* names the writer (its upper half) and counts its entries: by it a writer knows its own. *ts* is the writer's
wall clock in milliseconds. *rest* is the envelope of a message. The head is all a reader looks at to skip an entry.

Kinds: a message; a mark, by which its writer learns that its reader has come so far, and which repeats the epoch; a
beginning, which proposes or (with a higher number) begins an epoch; the clearing of a channel; a summary of what is
known of all channels; and who came to a channel, and left it.
"""

from __future__ import annotations

import struct
import time
from typing import NamedTuple

from ...broadcast.backend import Retention

MAGIC = b"\xb5smv"  # no text begins so
VERSION = 1
MESSAGE, MARK, BEGIN, CLEAR, SUMMARY, TOUCH, LEAVE = range(7)
HAS_RETENTION, HAS_NUMBER, HAS_DEDUPE = 1, 2, 4
DEDUPE = 300_000  # milliseconds; what an entry without the field means, and the most there is

HEAD = struct.Struct(">4sBBQQBBB")
NAMES = HEAD.size - 2
"""Where what tells ids apart begins: both lengths, the channel, the id."""
RETENTION = struct.Struct(">QdQ")
NUMBER = struct.Struct(">q")
DEDUPED = struct.Struct(">I")
MOST = 2**63 - 1
LONGEST = 10 * 365 * 86_400.0  # seconds; what is to be kept longer than ten years


class TooLong(ValueError):
    """A name that does not fit."""


class LaterVersion(Exception):
    """An entry was written by a later version of Samovar, which this one can neither read nor skip."""

    def __init__(self, version: int, kind: int, offset: int) -> None:
        super().__init__(
            f"the stream has an entry of version {version}, kind {kind}, at offset {offset}, which a later Samovar "
            "wrote: upgrade this one, or give it another stream="
        )


def write(
    kind: int,
    origin: int,
    *,
    channel: bytes = b"",
    id: bytes = b"",
    rest: bytes = b"",
    retention: Retention | None = None,
    number: int | None = None,
    dedupe: int = DEDUPE,
    ts: int | None = None,
) -> bytes:
    """The bytes of an entry; *dedupe* in milliseconds, 0: its id is not remembered; *ts* None: now.

    Raises:
        TooLong: the channel or the id has more than 255 bytes.
    """
    if len(channel) > 255 or len(id) > 255:
        raise TooLong(f"a channel's name and an id have at most 255 bytes, not {len(channel)} and {len(id)}")
    flags = 0
    more = b""
    if retention is not None:
        flags |= HAS_RETENTION
        seconds = min(retention.seconds, LONGEST)
        more += RETENTION.pack(min(retention.messages, MOST), seconds, min(retention.bytes, MOST))
    if number is not None:
        flags |= HAS_NUMBER
        more += NUMBER.pack(number)
    if dedupe < DEDUPE:
        flags |= HAS_DEDUPE
        more += DEDUPED.pack(dedupe)
    if ts is None:
        ts = time.time_ns() // 1_000_000
    head = HEAD.pack(MAGIC, VERSION, kind, origin, ts, flags, len(channel), len(id))
    return b"".join((head, channel, id, more, rest))


def origin_of(body: bytes) -> int:
    """Who wrote an entry; 0 where it is none."""
    return int.from_bytes(body[6:14]) if body[:4] == MAGIC and len(body) >= HEAD.size else 0


class More(NamedTuple):
    """What stands between the names and the rest of an entry."""

    retention: Retention | None
    number: int | None
    dedupe: int
    rest: bytes


def read_more(body: bytes, at: int, flags: int) -> More:
    """Read from behind the names.

    Raises:
        struct.error: it is cut off.
    """
    retention = number = None
    dedupe = DEDUPE
    if flags & HAS_RETENTION:
        messages, seconds, size = RETENTION.unpack_from(body, at)
        retention = Retention(messages, seconds, size)
        at += RETENTION.size
    if flags & HAS_NUMBER:
        (number,) = NUMBER.unpack_from(body, at)
        at += NUMBER.size
    if flags & HAS_DEDUPE:
        (dedupe,) = DEDUPED.unpack_from(body, at)
        at += DEDUPED.size
    return More(retention, number, dedupe, body[at:])
