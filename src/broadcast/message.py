"""The values that travel: positions, cursors, messages, gaps. All frozen, none does I/O.

A *position* is where a message stands in its channel, ``(epoch, offset)``, written ``epoch:offset``. Offsets are
compared inside one epoch only; a new epoch means that continuity cannot be vouched for. A *cursor* is what ``since=``
takes: one position, or several as ``channel=epoch:offset,channel=epoch:offset``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..errors import InvalidCursor

EPOCH = re.compile(r"[A-Za-z0-9_.~-]{1,80}")
MAX_OFFSET = 2**63 - 1
MAX_CURSOR = 64 * 1024  # bytes of text; anything longer is hostile, not a cursor

Kind: TypeAlias = Literal["json", "text", "bytes"]
Reason: TypeAlias = Literal["expired", "reset", "unknown", "overflow", "conflated", "lost"]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in one channel: that of the message with this offset, or just after it when used as ``since``.

    Args:
        epoch: names one unbroken life of the channel's stream.
        offset: 1 for the first message of an epoch, 0 before any.
    """

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read ``epoch:offset``.

        Raises:
            InvalidCursor: it does not read so.
        """
        epoch, colon, digits = text.partition(":")
        if (
            not colon
            or not EPOCH.fullmatch(epoch)
            or not (digits.isascii() and digits.isdigit() and len(digits) < 20)
        ):
            raise InvalidCursor(f"a position reads as epoch:offset, such as 'k3J9:17', not {text[:100]!r}")
        offset = int(digits)
        if offset > MAX_OFFSET:
            raise InvalidCursor(f"the offset of a position is below 2**63, not {digits}")
        return cls(epoch, offset)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a subscriber stands, in one channel or in several.

    Args:
        single: the position of the only channel, for a cursor that names none.
        positions: channel to position; None stands for "subscribed, position never learned" and cannot be resumed
            from: it gives a Gap, never silence.
        unknown: the cursor is the empty string: nothing is known, so resuming gives a Gap.
    """

    single: Position | None = None
    positions: Mapping[str, Position | None] = field(default_factory=dict)
    unknown: bool = False

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read a cursor.

        Raises:
            InvalidCursor: it reads neither as one position nor as a list of ``channel=epoch:offset``.
        """
        if len(text) > MAX_CURSOR:
            raise InvalidCursor(f"a cursor has at most {MAX_CURSOR} characters, not {len(text)}")
        if not text:
            return cls(unknown=True)
        if "=" not in text:
            return cls(single=Position.parse(text))
        positions: dict[str, Position | None] = {}
        for part in text.split(","):
            channel, equals, position = part.partition("=")
            if not channel or not equals:
                raise InvalidCursor(
                    f"a cursor of several channels reads as channel=epoch:offset,…, not {part[:100]!r}"
                )
            if channel in positions:
                raise InvalidCursor(f"the cursor names the channel {channel[:100]!r} twice")
            positions[channel] = Position.parse(position) if position else None
        return cls(positions=positions)

    def __str__(self) -> str:
        if self.single is not None:
            return str(self.single)
        return ",".join(f"{name}={position or ''}" for name, position in self.positions.items())

    def __contains__(self, channel: str) -> bool:
        return self.single is not None or self.unknown or channel in self.positions

    def get(self, channel: str) -> Position | None:
        """The position of *channel*; None when the cursor has it but cannot say where (see ``positions``)."""
        return self.single if self.single is not None else self.positions.get(channel)

    def __iter__(self) -> Iterator[str]:
        return iter(self.positions)


Since: TypeAlias = "str | Position | Cursor | Mapping[str, Position | None] | None"


def as_cursor(since: Since) -> Cursor | None:
    """What ``since=`` takes, as a :class:`Cursor`; None stays None, "from now".

    Raises:
        InvalidCursor: a text that is no cursor, or a value of another type.
    """
    match since:
        case None | Cursor():
            return since
        case str():
            return Cursor.parse(since)
        case Position():
            return Cursor(single=since)
        case Mapping():
            return Cursor(positions=dict(since))
    raise InvalidCursor(
        f"since= takes a cursor as str, Position, Cursor or mapping, not {type(since).__name__}"
    )


_UNDECODED: Any = object()


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message of one channel, the same object for every subscriber of this worker.

    Args:
        channel: its name.
        position: where it stands.
        id: the publisher's id, or a fresh one; equal ids inside the dedupe window are one message.
        ts: when it was published, in milliseconds since 1970.
        kind: ``"json"``, ``"text"`` or ``"bytes"``.
        body: the payload's bytes (UTF-8 for text and JSON).
        user: who published it, when a client did.
        decode: reads JSON; the hub passes its own.
    """

    channel: str
    position: Position
    id: str
    ts: int
    kind: Kind
    body: bytes
    user: str | None = None
    decode: Callable[[bytes], Any] | None = field(default=None, repr=False)
    wire: dict[Any, Any] = field(default_factory=dict, repr=False)
    """Forms for clients, made once each by whoever carries the message (``core.realtime.frames``)."""
    _data: Any = field(default=_UNDECODED, init=False, repr=False)

    @property
    def data(self) -> Any:
        """The payload as it was published: str for text, bytes for bytes, else what the JSON says. Decoded once."""
        if self._data is _UNDECODED:
            object.__setattr__(self, "_data", self._decoded())
        return self._data

    def _decoded(self) -> Any:
        if self.kind == "bytes":
            return self.body
        if self.kind == "text":
            return self.body.decode()
        if self.decode is not None:
            return self.decode(self.body)
        import json

        return json.loads(self.body)

    @property
    def cursor(self) -> str:
        """The position as text: what ``since=`` takes to go on after this message."""
        return str(self.position)

    @property
    def size(self) -> int:
        """Bytes it counts for in an outbox: its payload, and 100 for what surrounds it."""
        return len(self.body) + 100


@dataclass(frozen=True, slots=True)
class Gap:
    """Something may be missing here.

    What lay after *after*, up to and including *until*, may be missing. Either is None when unknown. The stream goes on
    after *until*.

    Args:
        channel: its name.
        reason: ``expired`` (history no longer has it), ``reset`` (a new epoch), ``unknown`` (the cursor tells nothing),
            ``overflow`` (the subscriber was too slow), ``conflated`` (older values were replaced on purpose), ``lost``
            (the link to the broker was).
        after: the last position before the hole.
        until: the last position of the hole.
        count: how many messages are missing, where known.
    """

    channel: str
    reason: Reason
    after: Position | None
    until: Position | None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The first word of a channel's subscription.

    Args:
        channel: its name.
        recovered: True when everything since the given cursor follows, False when a Gap does, None without a cursor.
        position: what follows, follows after this; None when the backend could not say.
    """

    channel: str
    recovered: bool | None
    position: Position | None

    @property
    def cursor(self) -> str:
        """The position as text, empty when unknown."""
        return str(self.position or "")


Event: TypeAlias = Message | Gap | Subscribed


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a publish.

    Args:
        id: the message's id.
        position: where it stands, None where the backend does not know.
        duplicate: the id was known already; nothing was added.
    """

    id: str
    position: Position | None
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """A read of a channel's kept messages; iterating over it gives them.

    Args:
        channel: its name.
        messages: oldest first, or newest first with ``reverse``.
        position: resume from here to continue after this read: the last message's, or the head's when none is left.
        head: the newest position of the channel.
        gap: set when not all that was asked for is there.
        more: there is more than ``limit`` allowed.
    """

    channel: str
    messages: tuple[Message, ...]
    position: Position
    head: Position
    gap: Gap | None = None
    more: bool = False

    @property
    def recovered(self) -> bool:
        """Nothing between the given cursor and this read is missing."""
        return self.gap is None

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    def __len__(self) -> int:
        return len(self.messages)


@dataclass(frozen=True, slots=True)
class Member:
    """One connection present in a channel.

    Args:
        id: the connection's id, unique among all workers.
        user: what ``app.identify`` said, None for anonymous.
        info: what ``Access.info`` gave to show; JSON data.
    """

    id: str
    user: str | None = None
    info: Any = None

    @property
    def key(self) -> str:
        """What members are grouped by: the user, else the connection."""
        return self.id if self.user is None else self.user


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How many are present in a channel.

    Args:
        connections: all members.
        users: different users among them.
        anonymous: connections without a user.
    """

    connections: int
    users: int
    anonymous: int

    @classmethod
    def of(cls, members: Collection[Member]) -> Occupancy:
        """Count *members*."""
        users = {member.user for member in members if member.user is not None}
        return cls(len(members), len(users), sum(member.user is None for member in members))
