"""A lease: among all workers one holder at a time, for what only one of them is to do.

A lease is a channel of the hubs' own with a record for each claim, renewal and release. Each is published with the
version that follows the newest record's, so of all who have seen the same record the broker lets one through: a
compare-and-set, on every backend that has versions.

- Who waits claims when the newest record says that nobody holds it, or when that record has stood for its seconds
  since it was *first seen here*, and is still the newest when it is read again.
- The holder renews at a third of its seconds, and gives up by itself at nine tenths, counted from *before* the last
  renewal that got in was sent. So it has given up before anybody else can begin, whatever the clocks show; they only
  have to run at the same pace.
- What else comes through the channel, a Gap among it, is a doubt, and makes the holder renew at once.

Two may hold it where that reasoning ends: for a moment when a broker has forgotten what it kept; and when a holder is
stopped between its look at :attr:`Lease.held` and what it does (a suspended process, a loop that blocks). What must
bear neither takes :attr:`Lease.term` along, which grows from holder to holder while the broker keeps its data, and lets
the store refuse an older one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from ..errors import BackendUnavailable, BroadcastError, HubClosed, PublishError, PublishUnknown
from ..tasks import Scope
from .codec import fresh_id
from .message import Event, History, Message, Position, Published, Subscribed
from .names import InternalChannel, check_channel
from .policy import Policy
from .retry import delays
from .subscription import Subscription

PREFIX = "!!lease:"
SECONDS = 15.0
MOST_SECONDS = 100.0
"""A third of the time for which a record is kept: while somebody holds the lease, its record is there."""
USED = 0.9
"""Part of its seconds after which a holder gives up; the rest is for what it does to come to an end."""
RELEASE_TIMEOUT = 2.0  # seconds the broker has to hear of a release

logger: logging.Logger = logging.getLogger("samovar.lease")


class House(Protocol):
    """What a lease needs of its hub."""

    def subscribe(self, *, policy: Policy) -> Subscription:
        """See :meth:`Hub.subscribe`."""

    async def history(self, channel: str, *, limit: int, reverse: bool) -> History:
        """See :meth:`Hub.history`."""


class Publish(Protocol):
    """Publishes on one of the hub's own channels; a *version* that is not higher than the channel's is a duplicate."""

    def __call__(self, channel: str, data: Any, *, version: int) -> Awaitable[Published]: ...


@dataclass(frozen=True, slots=True)
class Record:
    """What one claim, renewal or release says.

    Args:
        holder: a name made for one tenure.
        version: one more than the record's before.
        seconds: for which it stands; 0 is a release.
        position: where it stands in the channel.
    """

    holder: str
    version: int
    seconds: float
    position: Position

    @classmethod
    def read(cls, message: Message) -> Record:
        """What *message* says; one that says nothing we know stands for a holder, of whom we know nothing."""
        try:
            data = message.data
            return cls(str(data["holder"]), int(data["version"]), float(data["seconds"]), message.position)
        except (ValueError, TypeError, KeyError):
            logger.warning(
                "the lease %s has a record that does not read: %r", message.channel, message.body[:100]
            )
            return cls("", message.position.offset, MOST_SECONDS, message.position)


class Lease:
    """One name that one holder at a time has: ``async with hub.lease("nightly") as lease:``.

    Entering waits until it is ours; leaving gives it back, so that the next one begins at once.

    Args:
        hub: whose broker keeps it.
        publish: the hub's way to its own channels.
        name: as a channel's.
        seconds: how long a holder that vanishes keeps others waiting; up to 100.
        clock: seconds of a clock that does not go back.

    Raises:
        InvalidChannel: the name.
        ValueError: the seconds.
    """

    def __init__(
        self, hub: House, publish: Publish, name: str, seconds: float, clock: Callable[[], float]
    ) -> None:
        check_channel(name)
        if not 0 < seconds <= MOST_SECONDS:
            raise ValueError(f"a lease is for more than 0 and at most {MOST_SECONDS:g} s, not {seconds!r}")
        self.name = name
        self.seconds = seconds
        self.term: int | None = None
        """Greater than that of every holder before; None while it is not held."""
        self._hub = hub
        self._publish = publish
        self._channel = InternalChannel(PREFIX + name)
        self._clock = clock
        self._scope: Scope | None = None
        self._heard: Subscription | None = None
        self._lost: asyncio.Future[str] | None = None
        self._holder = ""
        self._version = 0
        self._tried: tuple[int, float] = (0, 0.0)
        self._until = 0.0
        self._seen: Position | None = None
        self._seen_at = 0.0
        self._floor = 0

    def __repr__(self) -> str:
        return f"<Lease {self.name!r} {f'term={self.term}' if self.held else 'not held'}>"

    @property
    def held(self) -> bool:
        """It is ours, as far as can be known."""
        return self.term is not None and self._clock() < self._until

    async def wait_lost(self) -> str:
        """Wait until it is not ours any more, and say why."""
        if self._lost is None:
            return "it is not held"
        return await asyncio.shield(self._lost)

    # --- taking and giving back -------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Wait until it is ours; a broker that is away is waited for too.

        Raises:
            RuntimeError: this object holds it already, or waits for it.
            HubClosed: the hub is not started, or stops.
        """
        if self._scope is not None:
            raise RuntimeError(f"this lease of {self.name!r} is in use: make another one")
        self._scope = Scope("lease")
        self._lost = asyncio.get_running_loop().create_future()
        self._holder, self._tried = fresh_id(), (0, 0.0)
        try:
            await self._acquire()
        except BaseException:
            await self._close()
            raise
        self._scope.start(self._keep(), name=self.name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held = self.held
        try:
            if self._scope is not None:
                await self._scope.close()
            if held:
                await self._release()
        finally:
            await self._close()

    async def _close(self) -> None:
        scope, self._scope = self._scope, None
        if scope is not None:
            await scope.close()
        if self._heard is not None:
            self._heard.close()
            self._heard = None
        self._lose("it was given back")

    async def _acquire(self) -> None:
        pauses = self._pauses()
        while True:
            try:
                heard = await self._follow()
                newest, head = await self._look()
                left = self._left(newest)
                if left > 0:
                    await heard.events(timeout=left)
                    continue
                version = self._next_version(newest, head)
                if await self._write(version, holds=True):
                    self.term = version
                    return
                self._floor = 0 if newest is not None else max(1, 2 * version)
            except (BackendUnavailable, PublishError) as error:
                logger.debug("the lease %s cannot be taken yet: %s", self.name, error)
            await asyncio.sleep(next(pauses))

    async def _follow(self) -> Subscription:
        """Hear what becomes of it."""
        if self._heard is None:
            heard = self._hub.subscribe(policy="heal")
            try:
                await heard.add(self._channel)
            except BaseException:
                heard.close()
                raise
            self._heard = heard
        return self._heard

    def _pauses(self) -> Iterator[float]:
        return delays(first=min(0.05, self.seconds / 10), most=self.seconds / 5)

    async def _look(self) -> tuple[Record | None, Position]:
        """The newest record, and the head."""
        page = await self._hub.history(self._channel, limit=1, reverse=True)
        return (Record.read(page.messages[0]) if page.messages else None), page.head

    def _left(self, newest: Record | None) -> float:
        """Seconds for which *newest* may still stand for a holder."""
        if newest is None or newest.seconds <= 0:
            return 0.0
        now = self._clock()
        if newest.position != self._seen:
            self._seen, self._seen_at = newest.position, now
        return newest.seconds - (now - self._seen_at)

    def _next_version(self, newest: Record | None, head: Position) -> int:
        """What follows the newest record. Where none is kept nobody can hold it, and the version is not known either:
        the records' number is a lower bound, and one that was too low is doubled."""
        return newest.version + 1 if newest is not None else max(head.offset + 1, self._floor)

    async def _write(self, version: int, *, holds: bool) -> bool:
        """Publish the record of that version, unless another one was quicker.

        Raises:
            BackendUnavailable, PublishError: it is not known whether it is in, or it is not.
        """
        sent = self._clock()
        if self._tried[0] != version:
            self._tried = (version, sent)
        data = {"holder": self._holder, "version": version, "seconds": self.seconds if holds else 0}
        try:
            ours = not (await self._publish(self._channel, data, version=version)).duplicate
        except PublishUnknown:
            ours = False
        if (
            not ours
        ):  # one that got in unheard makes the next attempt a duplicate: look; it counts from the first
            newest, _ = await self._look()
            sent = self._tried[1]
            ours = newest is not None and (newest.holder, newest.version) == (self._holder, version)
        if ours:
            self._version = version
            self._until = sent + USED * self.seconds
        return ours

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                newest, _ = await self._look()
                if newest is not None and newest.holder == self._holder:
                    await self._write(newest.version + 1, holds=False)
        except (BroadcastError, TimeoutError) as error:
            logger.info("the lease %s ends by itself: its release was not heard (%r)", self.name, error)

    # --- keeping ----------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Renew it until it is lost."""
        pauses = self._pauses()
        why = "another one took it"
        while True:
            try:
                if not await self._due():
                    continue
                async with asyncio.timeout(self._until - self._clock()):
                    if not await self._write(self._version + 1, holds=True):
                        break
                pauses = self._pauses()
            except HubClosed as error:
                why = str(error)
                break
            except (BackendUnavailable, PublishError, TimeoutError) as error:
                left = self._until - self._clock()
                if left <= 0:
                    why = f"it could not be renewed: {error or 'no answer'}"
                    break
                await asyncio.sleep(min(next(pauses), left))
        logger.warning("the lease %s is lost: %s", self.name, why)
        self._lose(why)

    async def _due(self) -> bool:
        """Wait until it is to be renewed; False for a word that needs none."""
        assert self._heard is not None
        due = self._until - USED * self.seconds + self.seconds / 3
        events = await self._heard.events(timeout=max(0.0, due - self._clock()))
        return not events or any(self._doubtful(event) for event in events)

    def _doubtful(self, event: Event) -> bool:
        if isinstance(event, Message):
            record = Record.read(event)
            return record.holder != self._holder and record.version >= self._version
        return not isinstance(event, Subscribed)

    def _lose(self, why: str) -> None:
        self.term = None
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(why)
