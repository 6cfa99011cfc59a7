"""The envelope in which a message travels between workers: a msgpack array, its version first.

``[1, id, ts, type, kind, data, user, headers]``: *ts* in milliseconds since 1970, *type* 0 (others are reserved for
what backends tell each other), *kind* 0 JSON, 1 text, 2 bytes, *data* the payload's bytes; trailing fields may be left
out, and a reader ignores fields it does not know. Channel, epoch and offset are not inside: the broker assigns them.

The version grows only when an old reader would misread; until every worker is new, old ones announce such messages as
a Gap.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import msgpack  # type: ignore[import-untyped]  # ships no types

from ..errors import InvalidEnvelope, InvalidPayload
from .message import Kind

VERSION = 1
MESSAGE = 0
KINDS: tuple[Kind, ...] = ("json", "text", "bytes")
MAX_HEADERS = 16
MAX_MEMBER_ID = 256  # characters
ID = re.compile(r"[!-~]{1,64}")  # printable ASCII without the space: it travels in text protocols

_CODES: Mapping[str, int] = {kind: code for code, kind in enumerate(KINDS)}
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_RANDOM = struct.Struct(">HQ")
_pack = msgpack.Packer(use_bin_type=True).pack


class JSONCodec(Protocol):
    """What the hub needs of a JSON library; ``app.json`` is one."""

    def dumps(self, obj: Any, **options: Any) -> str:
        """As text; *options* are those of :func:`json.dumps`, heeded where the library has them."""

    def loads(self, text: str | bytes, /) -> Any:
        """What the text says."""


COMPACT: Mapping[str, Any] = MappingProxyType(
    {"allow_nan": False, "ensure_ascii": False, "separators": (",", ":")}
)
"""The options with which payloads are encoded: small, and nothing that browsers cannot parse."""
_encode_compact = json.JSONEncoder(**COMPACT).encode


class StandardJSON:
    """The standard library's ``json``."""

    def dumps(self, obj: Any, **options: Any) -> str:
        """As text; with the options of payloads by an encoder that is made once."""
        return _encode_compact(obj) if options == COMPACT else json.dumps(obj, **options)

    def loads(self, text: str | bytes) -> Any:
        """What the text says."""
        return json.loads(text)


class Envelope(NamedTuple):
    """A message as it travels; see the module."""

    id: str
    ts: int
    kind: Kind
    body: bytes
    user: str | None = None
    headers: Mapping[str, str] = _NO_HEADERS


def encode(envelope: Envelope) -> bytes:
    """The bytes of *envelope*."""
    id, ts, kind, body, user, headers = envelope
    packed: bytes
    if headers:
        packed = _pack((VERSION, id, ts, MESSAGE, _CODES[kind], body, user, dict(headers)))
    elif user is not None:
        packed = _pack((VERSION, id, ts, MESSAGE, _CODES[kind], body, user))
    else:
        packed = _pack((VERSION, id, ts, MESSAGE, _CODES[kind], body))
    return packed


def decode(data: bytes) -> Envelope:
    """Read what :func:`encode` made, here or in another worker.

    Raises:
        InvalidEnvelope: it is garbage, foreign, or of a later version; the message says which.
    """
    try:
        fields = msgpack.unpackb(data, raw=False, strict_map_key=True)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise InvalidEnvelope(f"not msgpack: {error}") from error
    if not isinstance(fields, list) or not fields:
        raise InvalidEnvelope(f"not an array: {type(fields).__name__}")
    if fields[0] != VERSION or type(fields[0]) is not int:
        raise InvalidEnvelope(f"version {fields[0]!r:.40}; this worker reads version {VERSION}")
    try:
        _, id, ts, type_, code, body, *more = fields
    except ValueError:
        raise InvalidEnvelope(f"{len(fields)} fields; a message has at least 6") from None
    if type_ != MESSAGE:
        raise InvalidEnvelope(f"type {type_!r:.40}; this worker reads type {MESSAGE}")
    if not (isinstance(id, str) and type(ts) is int and isinstance(body, bytes)):
        raise InvalidEnvelope("id, ts or data is of another type than a message's")
    if type(code) is not int or not 0 <= code < len(KINDS):
        raise InvalidEnvelope(f"kind {code!r:.40}; this worker reads 0 to {len(KINDS) - 1}")
    _check_text(code, body)
    if not more:
        return Envelope(id, ts, KINDS[code], body)
    return Envelope(id, ts, KINDS[code], body, *_more(*more))


def _check_text(code: int, body: bytes) -> None:
    """Text and JSON are UTF-8; checked here, once, so that no subscriber stumbles over them."""
    if KINDS[code] != "bytes" and not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise InvalidEnvelope(f"{KINDS[code]} that is not UTF-8: {error}") from error


def _more(user: Any, headers: Any = None, *_: Any) -> tuple[str | None, Mapping[str, str]]:
    if user is not None and not isinstance(user, str):
        raise InvalidEnvelope(f"a user is text, not {type(user).__name__}")
    if headers is None:
        return user, _NO_HEADERS
    if not isinstance(headers, dict) or len(headers) > MAX_HEADERS:
        raise InvalidEnvelope(f"headers are a map of at most {MAX_HEADERS}")
    if not all(isinstance(item, str) for pair in headers.items() for item in pair):
        raise InvalidEnvelope("headers map text to text")
    return user, MappingProxyType(headers)


# --- payloads -------------------------------------------------------------------------------------------------------


def payload(data: Any, codec: JSONCodec) -> tuple[Kind, bytes]:
    """Encode what is published: str is text, bytes (bytearray, memoryview) is bytes, everything else JSON.

    Raises:
        InvalidPayload: not JSON; NaN and Infinity are not, since browsers cannot parse them.
    """
    try:
        if isinstance(data, str):
            return "text", data.encode()
        if isinstance(data, bytes | bytearray | memoryview):
            return "bytes", bytes(data)
        text = codec.dumps(data, **COMPACT)
        return "json", text.encode() if isinstance(text, str) else bytes(text)
    except UnicodeEncodeError as error:
        raise InvalidPayload(f"text with a lone surrogate cannot be published: {error}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPayload(f"{type(data).__name__} cannot be published as JSON: {error}") from error


def check_id(id: str) -> None:
    """Check an id given by a caller: 1 to 64 printable ASCII characters, no space.

    Raises:
        InvalidPayload: it is not so.
    """
    if not isinstance(id, str) or not ID.fullmatch(id):
        raise InvalidPayload(f"a message's id is 1 to 64 printable ASCII characters, not {str(id)[:100]!r}")


def check_version(version: int | None) -> None:
    """Check a version given by a caller: a whole number of 64 bits, as every broker can compare them.

    Raises:
        InvalidPayload: it is not so.
    """
    if version is None:
        return
    if isinstance(version, bool) or not isinstance(version, int) or not -(2**63) <= version < 2**63:
        raise InvalidPayload(f"a version is an int from -2**63 to 2**63 - 1, not {str(version)[:100]}")


def check_member_id(id: str) -> None:
    """Check the id of a member: 1 to 256 characters.

    Raises:
        InvalidPayload: it is not so.
    """
    if not isinstance(id, str) or not 1 <= len(id) <= MAX_MEMBER_ID:
        raise InvalidPayload(
            f"a member's id is a str of 1 to {MAX_MEMBER_ID} characters, not {str(id)[:100]!r}"
        )


def fresh_id() -> str:
    """An id of our own: a UUID of version 7 (RFC 9562, section 5.7) as 32 hex digits, so ids sort by time."""
    high, low = _RANDOM.unpack(os.urandom(_RANDOM.size))
    first = time.time_ns() // 1_000_000 << 16 | 0x7000 | high & 0xFFF
    return "%016x%016x" % (first, 0x8000000000000000 | low & 0x3FFFFFFFFFFFFFFF)  # noqa: UP031  # a third faster


def now_ms() -> int:
    """The wall clock, in milliseconds since 1970."""
    return math.floor(time.time() * 1000)
