"""``teapot://NAME``: a backend that somebody else wrote, as small as one can be.

Its broker is a :class:`Pot` of this process, reached as a real one would be: through a link that has to be up, over
which records arrive later than publish returns. It keeps history and knows ids; it has neither presence nor versions.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import ClassVar, Self
from urllib.parse import urlsplit

from samovar.broadcast import Accepted, Backend, Feature, Health, Page, Position, Receiver, Retention, State
from samovar.broadcast.history import Stream
from samovar.errors import BackendUnavailable, ConfigError

MAX_WAITING = 10_000  # things to say to the hub


class Pot:
    """The broker: streams of records, and the links of the backends that are up."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.links: dict[Teapot, None] = {}

    def stream(self, channel: str) -> Stream:
        """That channel's, which comes to be."""
        if channel not in self.streams:
            self.streams[channel] = Stream(channel, secrets.token_urlsafe(6))
        return self.streams[channel]


class Teapot(Backend):
    """One hub's door to a :class:`Pot`."""

    features: ClassVar[Feature] = Feature.HISTORY | Feature.POSITION | Feature.DEDUPE

    def __init__(self, pot: Pot) -> None:
        self._pot = pot
        self._wanted: dict[str, None] = {}
        self._to_say: deque[Callable[[Receiver], None]] = deque()
        self._something = asyncio.Event()

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Refuse what the URL cannot mean; open nothing."""
        parts = urlsplit(url)
        if not parts.netloc or parts.path or parts.query:
            raise ConfigError(f"a teapot's URL reads teapot://NAME, not {url!r}")
        return cls(POTS.setdefault(parts.netloc, Pot()))

    async def run(self, receiver: Receiver) -> None:
        """Be connected until cancelled; everything the hub is told is told from here, in order."""
        self._pot.links[self] = None
        receiver.health(Health(State.UP, generation=1))
        receiver.attached(tuple(self._wanted))
        try:
            while True:
                await self._something.wait()
                self._something.clear()
                while self._to_say:
                    self._to_say.popleft()(receiver)
        finally:
            del self._pot.links[self]
            self._to_say.clear()

    def say(self, what: Callable[[Receiver], None]) -> None:
        """Say something from :meth:`run`. Over the bound records go, and the hub is told to look."""
        if len(self._to_say) >= MAX_WAITING:
            self._to_say.clear()
            self._to_say.append(lambda receiver: receiver.attached(tuple(self._wanted)))
        self._to_say.append(what)
        self._something.set()

    def _up(self) -> Pot:
        if self not in self._pot.links:
            raise BackendUnavailable("the teapot is not connected")
        return self._pot

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
        """Store and send, in one step."""
        pot = self._up()
        accepted, record = pot.stream(channel).append(
            envelope, id=id, now=time.monotonic(), retention=retention, dedupe_seconds=dedupe_seconds
        )
        if record is not None:
            for link in pot.links:
                if channel in link._wanted:
                    link.say(lambda receiver: receiver.message(record))
        return accepted

    async def attach(self, channels: Collection[str]) -> None:
        """Remember them whether or not there is a link; confirm when there is one."""
        self._wanted.update(dict.fromkeys(channels))
        if self in self._pot.links:
            self.say(lambda receiver: receiver.attached(channels))

    async def detach(self, channels: Collection[str]) -> None:
        """Forget them."""
        for channel in channels:
            self._wanted.pop(channel, None)

    async def history(
        self, channel: str, *, since: Position | None = None, limit: int, reverse: bool = False
    ) -> Page:
        """Read."""
        stream = self._up().stream(channel)
        return stream.read(now=time.monotonic(), since=since, limit=limit, reverse=reverse)

    async def heads(self, channels: Collection[str], *, create: bool = False) -> Mapping[str, Position]:
        """Where they stand."""
        pot = self._up()
        return {channel: pot.stream(channel).head for channel in channels}

    async def clear(self, channel: str) -> Position:
        """Begin a new epoch, and have every hub look."""
        pot = self._up()
        head = pot.stream(channel).clear(secrets.token_urlsafe(6))
        for link in pot.links:
            if channel in link._wanted:
                link.say(lambda receiver: receiver.attached([channel]))
        return head


POTS: dict[str, Pot] = {}
