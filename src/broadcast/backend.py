"""The whole contract between the hub and a broker, and the opening of a backend by URL.

The hub runs :meth:`Backend.run`, which connects, reconnects with backoff and jitter, and calls the receiver's plain
functions in order; cancelling it closes. A backend owns no tasks. It moves *records*: bytes with a position, opaque to
it but for the id and the retention it is told.

``samovar.backends.contract`` is the suite that every backend passes.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, Flag, auto
from importlib import import_module
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self
from urllib.parse import urlsplit

from ..errors import UnknownBackend, UnsupportedByBackend
from .message import Member, Position


class Feature(Flag):
    """What a backend can do; the hub checks at start-up what the app's rules ask for."""

    SHARED = auto()
    """Several processes see the same channels."""
    HISTORY = auto()
    """Messages are kept and can be read again."""
    POSITION = auto()
    """publish returns the position."""
    DEDUPE = auto()
    """A second publish with the same id inside the window adds nothing."""
    VERSION = auto()
    """A publish with an older version than the channel's is dropped."""
    PRESENCE = auto()
    """Members of channels, with leases."""
    DURABLE = auto()
    """A broker's restart keeps channels, epochs and messages."""


class State(Enum):
    """How a backend is."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Health:
    """One report of a backend.

    Args:
        state: up, degraded or down.
        generation: counts the connections made; grows at each reconnect.
        reason: in words, empty when up.
        lag: round trip to the broker in seconds, None when unknown.
    """

    state: State
    generation: int = 0
    reason: str = ""
    lag: float | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """What a channel keeps: whichever bound is met first.

    Args:
        messages: at most so many; 0 keeps nothing, and every loss is a Gap.
        seconds: at most so old.
        bytes: at most so many bytes of records.
    """

    messages: int = 100
    seconds: float = 300.0
    bytes: int = 1024 * 1024


DEFAULT_RETENTION = Retention()


@dataclass(frozen=True, slots=True)
class Record:
    """A message as a backend knows it.

    Args:
        channel: its name.
        position: assigned by the broker.
        prev: the offset of the record before it in its channel and epoch: contiguous means ``prev == last``. Dense
            backends have ``offset - 1``.
        envelope: what ``codec.encode`` made; opaque to the backend.
    """

    channel: str
    position: Position
    prev: int
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """One read of history.

    Args:
        records: after ``since``, oldest first, at most ``limit``; with ``reverse`` newest first.
        head: the channel's newest position at the moment of the read.
        complete: ``since`` is of the head's epoch, not beyond the head, and nothing between it and the first record
            was trimmed. False: the records start with the oldest kept. Always True without ``since``.
    """

    records: Sequence[Record]
    head: Position
    complete: bool


class Receiver(Protocol):
    """The hub's side of a backend: plain functions, called in order from the backend's reader."""

    def attached(self, channels: Iterable[str]) -> None:
        """Live records of these channels flow from now on; anything before may have been missed."""

    def detached(self, channels: Iterable[str] | None, why: str) -> None:
        """Live records of these channels (None: all) stopped flowing."""

    def refused(self, channels: Iterable[str], why: str) -> None:
        """The broker does not take these beside what is attached: whoever waits for one is told *why*."""

    def message(self, record: Record) -> None:
        """A live record arrived. Must not raise and must not block."""

    def health(self, health: Health) -> None:
        """The backend's state changed."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a backend answers to a publish: where the record stands, and whether its id was known already."""

    position: Position | None
    duplicate: bool = False


class Backend(ABC):
    """A broker, as the hub uses it. Methods other than :meth:`run` may be called from any task of the hub's loop.

    Every method that talks to the broker raises ``BackendUnavailable`` when it cannot, and is safe to cancel.
    """

    features: ClassVar[Feature]
    needs_start: ClassVar[bool] = True
    """False: usable without :meth:`run`, which is then not called; attach is confirmed inside :meth:`attach`."""
    waits: ClassVar[bool] = True
    """False: publish never suspends and never loses an answer (the memory backend), so the hub needs no time limit."""
    checks: ClassVar[bool] = True
    """False: live records cannot get lost without ``detached``, so the hub need not compare heads now and then."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: str) -> Self:
        """Make one from its URL; options are in the query. Opens nothing.

        Raises:
            ConfigError: the URL has an option that is unknown or has a bad value; the message names it.
        """

    @abstractmethod
    async def run(self, receiver: Receiver) -> None:
        """Connect and read until cancelled, reconnecting for ever; say every change to *receiver*.

        After a reconnect the channels attached before are attached again, and ``attached`` is called for them.
        """

    def bind(self, receiver: Receiver) -> None:  # noqa: B027  # most need no receiver before run()
        """Called once before anything else; backends with ``needs_start = False`` keep *receiver* from here."""

    @abstractmethod
    async def publish(
        self,
        channel: str,
        envelope: bytes,
        *,
        id: str,
        retention: Retention | None = None,
        version: int | None = None,
        dedupe_seconds: float = 300.0,
    ) -> Accepted:
        """Store and send one record in one atomic step; returns when the broker has it.

        Args:
            channel: checked already.
            envelope: the record's bytes.
            id: known inside the dedupe window: nothing is added, the first position is returned.
            retention: stored in the channel's meta; None uses what is stored there, else the default.
            version: lower than or equal to the channel's stored one: dropped, answered as a duplicate.

        Raises:
            PublishRejected: certainly not in. PublishUnknown: sent, and no answer came.
        """

    async def publish_many(
        self, records: Sequence[tuple[str, bytes, str, Retention | None]], *, dedupe_seconds: float = 300.0
    ) -> list[Accepted]:
        """Publish several ``(channel, envelope, id, retention)`` in order; one round trip where the broker can."""
        return [
            await self.publish(channel, envelope, id=id, retention=retention, dedupe_seconds=dedupe_seconds)
            for channel, envelope, id, retention in records
        ]

    @abstractmethod
    async def attach(self, channels: Collection[str]) -> None:
        """Ask for live records; idempotent, remembered across reconnects. ``receiver.attached`` confirms."""

    @abstractmethod
    async def detach(self, channels: Collection[str]) -> None:
        """No more live records of these; idempotent."""

    @abstractmethod
    async def history(
        self, channel: str, *, since: Position | None = None, limit: int, reverse: bool = False
    ) -> Page:
        """Read kept records after *since* (exclusive), or all kept ones without it; a pure read.

        With *reverse*, newest first, and *since* means "older than". A channel never used has head ``(epoch, 0)``
        and is created by the read where that needs no write, else by :meth:`heads` with ``create``.
        """

    @abstractmethod
    async def heads(self, channels: Collection[str], *, create: bool = False) -> Mapping[str, Position]:
        """The newest position of each channel, in one call; with *create* missing channels come to be."""

    @abstractmethod
    async def clear(self, channel: str) -> Position:
        """Forget the channel's records and begin a new epoch; returns its head.

        Receivers that have the channel attached are told ``attached`` again, so they look and see the new epoch.
        """

    # --- presence: needs Feature.PRESENCE; a backend without it leaves these as they are ---------------------------
    # A key (``presence.group_key``) joins with its first member and leaves with its last; whichever call of whichever
    # worker causes that learns it, once. ``presence.Roster`` is the reference.

    async def touch(self, channel: str, members: Sequence[Member], *, lease: float) -> list[Member]:
        """Enter or renew members for *lease* seconds of the broker's clock; a shorter lease than before counts.

        Returns those by whom a key came to be present.
        """
        raise self._no_presence()

    async def leave(self, channel: str, ids: Collection[str]) -> list[Member]:
        """Remove members; returns those by whose leave a key is no longer present."""
        raise self._no_presence()

    async def sweep(self, channel: str) -> list[Member]:
        """Remove members whose lease ended; returns what :meth:`leave` does, each to exactly one caller."""
        raise self._no_presence()

    async def members(self, channel: str) -> list[Member]:
        """Members with a running lease, by id."""
        raise self._no_presence()

    def _no_presence(self) -> UnsupportedByBackend:
        return UnsupportedByBackend(f"{type(self).__name__} has no presence")


BACKENDS: dict[str, str] = {
    "memory": "samovar.backends.memory:MemoryBackend",
    **dict.fromkeys(
        ("redis", "rediss", "unix", "redis+unix", "valkey", "valkeys", "valkey+unix"),
        "samovar.backends.redis:RedisBackend",
    ),
    **dict.fromkeys(("amqp", "amqps"), "samovar.backends.rabbitmq:RabbitBackend"),
    "local": "samovar.backends.local:LocalBackend",
}
"""Ours: scheme to dotted name, imported on demand. Others come by the entry point group ``samovar.backends``."""


class BrokerServer(Protocol):
    """A broker of our own that one process runs for others: ``async with`` serves it."""

    @property
    def url(self) -> str:
        """What those others open their backend with."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


SERVERS: dict[str, str] = {"local": "samovar.backends.local.hub:LocalHub"}
"""Schemes whose broker we serve ourselves, to dotted name."""


def open_server(url: str) -> BrokerServer:
    """Make the server of the broker that *url* names; it serves inside ``async with``.

    Raises:
        UnknownBackend: there is none for the scheme.
        ConfigError: a bad option in the URL.
    """
    target = SERVERS.get(urlsplit(url).scheme)
    if target is None:
        known = ", ".join(f"{name}://" for name in SERVERS)
        raise UnknownBackend(f"{url!r} is no broker that Samovar serves itself: {known}")
    server: BrokerServer = _load(target).from_url(url)
    return server


def _load(target: str) -> Any:
    """Import what one of our tables names."""
    module, _, name = target.partition(":")
    package = __name__.split(".")[0]
    return getattr(import_module(module.replace("samovar", package, 1)), name)


def redact_url(url: str) -> str:
    """*url* without its password, for logs and messages; also where it does not read as a URL."""
    hidden = re.sub(r"//([^/@:]*):.*@", r"//\1:***@", url, count=1)
    if hidden == url:
        hidden = re.sub(r"//[^:]*@", "//***@", url, count=1)
    return hidden if "//" in url else re.sub(r"^([^:@]*:)?.*@", r"\1***@", url)


def open_backend(url: str) -> Backend:
    """Make the backend that *url* names; opens no connection.

    Raises:
        UnknownBackend: nobody registered the scheme; the message lists those that are.
        MissingDependency: the backend's client library is not installed.
        ConfigError: a bad option in the URL.
    """
    scheme = urlsplit(url).scheme
    target = BACKENDS.get(scheme)
    if target is not None:
        backend: type[Backend] = _load(target)
        return backend.from_url(url)
    from importlib.metadata import entry_points  # here: who uses our own backends need not load it

    others = {entry.name: entry for entry in entry_points(group="samovar.backends")}
    if scheme in others:
        loaded: type[Backend] = others[scheme].load()
        return loaded.from_url(url)
    known = ", ".join(f"{name}://" for name in sorted({*BACKENDS, *others}))
    raise UnknownBackend(
        f"no backend is registered for {scheme or redact_url(url)!r}: the URL must start with one of {known}"
    )
