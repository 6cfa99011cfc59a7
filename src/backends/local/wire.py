"""What a worker and the hub of its host say to each other over the unix socket. Pure: no I/O.

A frame is its length (4 bytes, big-endian) and that many bytes of msgpack: an array of *calls*, each an array that
begins with an :class:`Op`. Whatever one side has to say in one turn of its loop goes into one frame, so that thousands
of small calls cost one write, one read and one decoding.

A worker's calls are numbered; each is answered, in order, by an ``ANSWER`` with its number (a long list by several
``PART`` before it), or by a ``FAILED`` that says which value the hub does not take; then nothing was done. What the hub
says by itself (``RECORD``, ``ATTACHED``) stands between the answers at the place where it happened. The worker's first
call is ``HELLO``, the hub's first word ``WELCOME`` or ``REFUSED``; a later version of this protocol changes
:data:`VERSION`, and both sides then say so instead of guessing.
"""

from __future__ import annotations

import json
import math
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any, TypeGuard

import msgpack  # type: ignore[import-untyped]  # ships no types

from ...broadcast.backend import Page, Record, Retention
from ...broadcast.message import Member, Position

MAGIC = "samovar-local"
VERSION = 2
MAX_RECORD = 4 * 1024 * 1024  # bytes of one envelope: four times the largest payload a hub lets through
MAX_FRAME = 2 * MAX_RECORD
BATCH = 256 * 1024  # bytes after which a frame is closed: what a socket takes at once, about
MAX_NAME = 256  # bytes of a channel's name; names.py allows 200, and one for presence
MAX_ID = 256
MEMBERS = 500  # in one call
MAX_USER = 64 * 1024  # characters
MAX_NAMES = 5_000  # channels in one call
MAX_LEASE = 86_400.0  # seconds
MAX_WHOLE = 1 << 63

_HEAD = struct.Struct(">IBI")  # length, msgpack's mark of an array with a 32-bit count, the count
_LENGTH = struct.Struct(">I")
_ARRAY32 = 0xDD

pack: Any = msgpack.Packer(use_bin_type=True).pack


class Op(IntEnum):
    """The kinds of calls: below 20 a worker's, above the hub's."""

    HELLO = 0
    PING = 1
    PUBLISH = 2
    PUBLISH_MANY = 3
    ATTACH = 4
    DETACH = 5
    HISTORY = 6
    HEADS = 7
    CLEAR = 8
    TOUCH = 9
    LEAVE = 10
    SWEEP = 11
    MEMBERS = 12
    WELCOME = 20
    REFUSED = 21
    ANSWER = 22
    PART = 23
    RECORD = 24
    ATTACHED = 25
    FAILED = 26


class WireError(ValueError):
    """The other side does not speak this protocol: the connection is over."""


class BadValue(WireError):
    """A call is one, but a value in it is not what it takes: the call fails, and the connection goes on."""


class Incoming:
    """Bytes as they come, turned into calls."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[list[Any]]:
        """The calls that are complete with *data*, in order.

        Raises:
            WireError: these are no frames, or too large ones.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if not 0 < length <= MAX_FRAME:
                raise WireError(f"a frame of {length} bytes; the largest has {MAX_FRAME}")
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            yield from _calls(bytes(memoryview(buffer)[start + _LENGTH.size : end]))
            start = end
        del buffer[:start]


def _calls(body: bytes) -> list[list[Any]]:
    try:
        calls = msgpack.unpackb(body, raw=False, strict_map_key=True)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"no msgpack: {error}") from error
    if not isinstance(calls, list) or not all(type(call) is list and call for call in calls):
        raise WireError("a frame holds an array of calls, which are arrays")
    return calls


class Outgoing:
    """Packed calls that wait to be written.

    ``size`` is what they hold in bytes, with something for each.
    """

    __slots__ = ("_parts", "size")

    OVERHEAD = 64  # bytes counted for each call beside its own: a deque's place and a bytes object's head

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self.size: int = 0

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, packed: bytes) -> None:
        """Add a call behind the others."""
        self._parts.append(packed)
        self.size += len(packed) + self.OVERHEAD

    def take(self) -> bytes:
        """The next frame: as many calls as fit into :data:`BATCH`, at least one."""
        parts = self._parts
        if self.size - len(parts) * self.OVERHEAD <= BATCH:
            taken = list(parts)
            parts.clear()
            self.size = 0
        else:
            taken = self._some()
        body = b"".join(taken)
        return _HEAD.pack(len(body) + _HEAD.size - _LENGTH.size, _ARRAY32, len(taken)) + body

    def _some(self) -> list[bytes]:
        taken: list[bytes] = []
        size = 0
        while self._parts and (not taken or size + len(self._parts[0]) <= BATCH):
            size += len(self._parts[0])
            taken.append(self._parts.popleft())
        self.size -= size + len(taken) * self.OVERHEAD
        return taken


# --- values that travel: every reader checks what it reads ----------------------------------------------------------


def check(good: bool, what: str) -> None:
    """Raise BadValue unless *good*."""
    if not good:
        raise BadValue(f"not what a call has: {what}")


def is_name(value: Any) -> TypeGuard[str]:
    """Whether *value* can be a channel's name."""
    return type(value) is str and 0 < len(value) <= MAX_NAME


def is_text(value: Any, most: int) -> TypeGuard[str]:
    """Whether *value* is text of at most *most* characters, all of which can be encoded."""
    if type(value) is not str or len(value) > most:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def read_names(value: Any) -> list[str]:
    """Channels."""
    check(type(value) is list and len(value) <= MAX_NAMES and all(map(is_name, value)), "channels")
    names: list[str] = value
    return names


def read_ids(value: Any) -> list[str]:
    """Ids of members."""
    check(type(value) is list and all(is_text(id, MAX_ID) for id in value), "ids")
    ids: list[str] = value
    return ids


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether *value* is a number that travels: 64 bits with a sign."""
    return type(value) is int and -MAX_WHOLE <= value < MAX_WHOLE


def retention_fields(retention: Retention | None) -> tuple[int, float, int] | None:
    """A retention as it travels."""
    return None if retention is None else (retention.messages, retention.seconds, retention.bytes)


def read_retention(value: Any) -> Retention | None:
    """What :func:`retention_fields` made."""
    if value is None:
        return None
    check(type(value) is list and len(value) == 3, "retention")
    messages, seconds, size = value
    good = type(messages) is int and type(size) is int and type(seconds) in (int, float)
    check(good and messages >= 0 and seconds >= 0 and size >= 0, "retention")
    return _retention(messages, seconds, size)


@lru_cache(maxsize=1024)  # a few rules, in every publish
def _retention(messages: int, seconds: float, size: int) -> Retention:
    return Retention(messages, seconds, size)


def read_seconds(value: Any) -> float:
    """A time span, cut to a day."""
    if type(value) is float and 0 <= value <= MAX_LEASE:
        return value
    check(type(value) in (int, float) and value >= 0 and not math.isnan(value), "seconds")
    return min(float(value), MAX_LEASE)


def read_position(value: Any) -> Position:
    """What a position, itself a tuple of epoch and offset, became."""
    check(type(value) is list and len(value) == 2, "a position")
    epoch, offset = value
    check(type(epoch) is str and type(offset) is int and offset >= 0, "a position")
    return Position(epoch, offset)


def page_fields(page: Page, *, most: int) -> tuple[list[tuple[int, int, bytes]], tuple[str, int], bool, bool]:
    """A page as it travels: records of the head's epoch, the head, complete, and whether it was cut at *most* bytes."""
    rows: list[tuple[int, int, bytes]] = []
    size = 0
    for record in page.records:
        size += len(record.envelope)
        if rows and size > most:
            break
        rows.append((record.position.offset, record.prev, record.envelope))
    head = (page.head.epoch, page.head.offset)
    return rows, head, page.complete, len(rows) < len(page.records)


def read_page(channel: str, value: Any) -> tuple[Page, bool]:
    """What :func:`page_fields` made: the page, and whether it was cut."""
    check(type(value) is list and len(value) == 4, "a page")
    rows, head, complete, cut = value
    head = read_position(head)
    records = tuple(
        Record(channel, Position(head.epoch, offset), prev, envelope) for offset, prev, envelope in rows
    )
    return Page(records, head, bool(complete)), bool(cut)


MemberRow = tuple[str, str | None, str]  # id, user, info as JSON


def member_fields(member: Member) -> MemberRow:
    """A member as it travels; its info as JSON, which the hub of the host passes on unread.

    Raises:
        TypeError, ValueError: the info is not JSON data.
    """
    return member.id, member.user, json.dumps(member.info)


def members_fields(members: Sequence[Member]) -> list[MemberRow]:
    """Members as the hub keeps them (their info still JSON), on their way back."""
    return [(member.id, member.user, member.info) for member in members]


def member_parts(rows: Sequence[MemberRow]) -> Iterator[list[MemberRow]]:
    """Members divided into calls of at most :data:`MEMBERS` and about :data:`BATCH` bytes, none of them empty."""
    some: list[MemberRow] = []
    size = 0
    for row in rows:
        id, user, info = row
        own = len(id.encode()) + len((user or "").encode()) + len(info.encode())
        if some and (size + own > BATCH or len(some) == MEMBERS):
            yield some
            some, size = [], 0
        some.append(row)
        size += own
    if some:
        yield some


def read_members(value: Any, *, decode: bool) -> list[Member]:
    """Members; with *decode* their info is read, else it stays JSON."""
    check(type(value) is list, "members")
    return [_member(fields, decode) for fields in value]


def _member(fields: Any, decode: bool) -> Member:
    check(type(fields) is list and len(fields) == 3, "a member")
    id, user, info = fields
    check(is_text(id, MAX_ID) and type(info) is str and len(info) <= MAX_RECORD, "a member")
    check(user is None or is_text(user, MAX_USER), "a member's user")
    return Member(id, user, json.loads(info) if decode else info)
