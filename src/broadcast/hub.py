"""The hub: publish, subscribe, history, presence; one in each worker.

A message's way: :meth:`Hub.publish` → name and size checked → envelope → ``backend.publish``, which stores and sends →
the backend's reader on every worker → channel → its subscribers. The publisher's own worker gets its message by the
same road, so there is one order and no echo to filter.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from enum import Enum
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from ..errors import (
    BackendUnavailable,
    ConfigError,
    HubClosed,
    MessageTooLarge,
    UnsupportedByBackend,
)
from ..tasks import Scope
from .backend import (
    DEFAULT_RETENTION,
    Accepted,
    Backend,
    Feature,
    Health,
    Retention,
    open_backend,
    redact_url,
)
from .backend import State as BackendState
from .blocking import HubThread, refuse_loop, wait_for_publish
from .channel import Channel
from .channels import Channels
from .codec import (
    Envelope,
    JSONCodec,
    StandardJSON,
    check_id,
    check_version,
    encode,
    fresh_id,
    now_ms,
    payload,
)
from .connections import KICKS, Connections
from .counters import Counters
from .lease import SECONDS, Lease
from .members import GRACE, LEASE, Members
from .message import Cursor, History, Member, Occupancy, Position, Published, Since, as_cursor
from .names import MATCH_CACHE, ChannelRule, InternalChannel, PresenceChannel, Rules, check_channel
from .policy import Policy, check_policy, make_outbox
from .publisher import Publisher
from .recovery import newest_of, read_out
from .retry import delays
from .subscription import Subscription, check_last

STOP_TIMEOUT = 2.0  # seconds the broker has to hear that members leave
DEDUPE = 300.0  # seconds for which a message's id is remembered
MAX_MESSAGE_BYTES = 1 << 20  # what the setting can be raised to

T = TypeVar("T")
logger: logging.Logger = logging.getLogger("samovar.hub")


class _State(Enum):
    NEW = "not started"
    OPEN = "open"
    STOPPED = "stopped"


class Hub:
    """Channels, on one backend.

    On ``memory://`` it can be used at once; with a broker it is started first, by ``async with hub`` or by the app's
    lifespan. It is used from one event loop; other threads have :meth:`publish_sync`. A script without a loop says
    ``with Hub(url) as hub:``, which runs one in a thread.

    Args:
        url: of the backend; ``memory://``, ``memory://NAME``, or what is installed. Or a ready :class:`Backend`.
        channels: rules, see :class:`ChannelRule`.
        json: encodes and decodes payloads; the standard library's otherwise.
        max_message_bytes: a payload's limit, up to 1 MiB.
        publish_timeout: seconds a publish is tried.
        join_timeout: seconds the broker has to confirm a subscription and read its backlog, and to answer whatever
            else is asked of it but publishes.
        outbox_messages: events a subscriber may have waiting.
        outbox_bytes: bytes they may have.
        policy: what becomes of a subscriber over that: ``heal``, ``disconnect``, ``drop_oldest``, or
            :func:`latest` of a key.
        linger: seconds a channel stays attached after its last subscriber.
        lease: seconds a member's presence outlives its worker.
        clock: seconds of a clock that does not go back.

    Raises:
        UnknownBackend: nobody registered the URL's scheme.
        ConfigError: a value that cannot work.
    """

    def __init__(
        self,
        url: str | Backend = "memory://",
        *,
        channels: Iterable[ChannelRule] = (),
        json: JSONCodec | None = None,
        max_message_bytes: int = 65536,
        publish_timeout: float = 5.0,
        join_timeout: float = 5.0,
        outbox_messages: int = 1024,
        outbox_bytes: int = 1 << 20,
        policy: Policy = "heal",
        linger: float = 5.0,
        lease: float = LEASE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < max_message_bytes <= MAX_MESSAGE_BYTES:
            raise ConfigError(f"max_message_bytes is 1 to {MAX_MESSAGE_BYTES}, not {max_message_bytes}")
        for name, value in (
            ("publish_timeout", publish_timeout),
            ("join_timeout", join_timeout),
            ("lease", lease),
        ):
            if not value > 0:
                raise ConfigError(f"{name} is a number of seconds above 0, not {value}")
        self.url: str = redact_url(url) if isinstance(url, str) else type(url).__name__
        self.backend: Backend = open_backend(url) if isinstance(url, str) else url
        self.json: JSONCodec = json or StandardJSON()
        self.rules: Rules = Rules()
        self.counters: Counters = Counters()
        self.max_message_bytes = max_message_bytes
        self.join_timeout = join_timeout
        self.outbox_messages = outbox_messages
        self.outbox_bytes = outbox_bytes
        self.policy = check_policy(policy)
        make_outbox(self.policy, outbox_messages, outbox_bytes, self.counters)  # checks its bounds
        self._state = _State.NEW
        self._loop: asyncio.AbstractEventLoop | None = None
        self._link: Scope | None = None
        self._aside: HubThread | None = None
        self._subscriptions: set[Subscription] = set()
        self._retentions: dict[str, Retention | None] = {}
        self._publisher = Publisher(self.backend, timeout=publish_timeout, counters=self.counters)
        self._channels = Channels(
            self.backend,
            retention=lambda name: self._retention(name) or DEFAULT_RETENTION,
            json=self.json,
            counters=self.counters,
            linger=linger,
            clock=clock,
        )
        self._members = Members(
            self.backend,
            self._channels,
            self._publish_internal,
            json=self.json,
            lease=lease,
            timeout=join_timeout,
            max_bytes=max_message_bytes,
            clock=clock,
        )
        self.connections: Connections = Connections(self._channels)
        self.backend.bind(self._channels)
        for rule in channels:
            self.add_rule(rule)

    def __repr__(self) -> str:
        return f"<Hub {type(self.backend).__name__} {self._state.value} channels={len(self._channels.table)}>"

    # --- rules ------------------------------------------------------------------------------------------------------

    def add_rule(self, rule: ChannelRule, value: Any = None) -> None:
        """Add a rule; *value* comes back from ``hub.rules.value(rule)``.

        Raises:
            InvalidRule: it ties with another.
            UnsupportedByBackend: the backend cannot do what it asks for.
        """
        self._check_supported(rule)
        self.rules.add(rule, value)
        self._retentions.clear()

    def _check_supported(self, rule: ChannelRule) -> None:
        needed = Feature(0)
        if rule.history:
            needed |= Feature.HISTORY
        if rule.presence:
            needed |= Feature.PRESENCE
        if missing := needed & ~self.backend.features:
            names = ", ".join(feature.name or "" for feature in missing)
            raise UnsupportedByBackend(
                f"the rule {rule.pattern!r} needs {names}, which {type(self.backend).__name__} does not have"
            )

    def _retention(self, channel: str) -> Retention | None:
        """What the channel's rule says about keeping, None without one; checks the name on its way.

        Joins and leaves are kept by default, however briefly the channel keeps its messages.
        """
        try:
            return self._retentions[channel]
        except KeyError:
            pass
        check_channel(channel)
        if isinstance(channel, InternalChannel):
            return None
        match = self.rules.match(channel)
        found = None
        if match is not None:
            found = Retention(match.rule.history, match.rule.ttl, match.rule.max_bytes)
        if len(self._retentions) >= MATCH_CACHE:
            self._retentions.clear()
        self._retentions[channel] = found
        return found

    def replay(self, name: str) -> int:
        """How many kept messages a subscriber of *name* gets who asks for nothing."""
        match = None if isinstance(name, InternalChannel) else self.rules.match(name)
        return 0 if match is None else match.rule.replay

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start; idempotent. With a broker this begins to connect, and does not wait for it."""
        self._open()

    async def stop(self) -> None:
        """End all subscriptions, detach, disconnect; idempotent. Subscribers get HubClosed."""
        if self._state is not _State.OPEN:
            self._state = _State.STOPPED
            return
        self._state = _State.STOPPED
        if self._loop is not asyncio.get_running_loop():
            return
        for subscription in tuple(self._subscriptions):
            subscription.stop()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._members.retire()
        except TimeoutError:
            logger.warning("members of this hub leave when their leases end: the broker did not answer")
        except Exception:  # whatever it is, the rest is closed
            logger.exception("members of this hub leave when their leases end")
        finally:
            await self._close()

    async def _close(self) -> None:
        """Give up the channels and the link to the broker."""
        try:
            await self._channels.close()
        finally:
            link, self._link = self._link, None
            if link is not None:
                await link.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        """Start in an event loop of its own, in a thread, for :meth:`publish_sync` in plain scripts.

        Raises:
            RuntimeError: there is an event loop in this thread, or the hub runs already.
        """
        refuse_loop("with Hub(…) runs a loop of its own: use `async with Hub(…)`")
        if self._aside is not None or self._state is _State.OPEN:
            raise RuntimeError("the hub runs already")
        aside = HubThread(self.start, self.stop)
        aside.begin()
        self._aside = aside
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and wait for the thread to end; idempotent."""
        aside, self._aside = self._aside, None
        if aside is not None:
            aside.end()

    def _open(self) -> None:
        """Become usable in the running loop; what belonged to a loop before is forgotten."""
        loop = asyncio.get_running_loop()
        if self._state is _State.OPEN and self._loop is loop:
            return
        if self._state is _State.OPEN and self._loop is not None and not self._loop.is_closed():
            raise HubClosed("the hub runs in another event loop; a Hub serves one loop at a time")
        self._loop = loop
        self._state = _State.OPEN
        self._subscriptions.clear()
        self._members.forget()
        self.connections.forget()
        self._channels.open()
        if self.backend.needs_start:
            self._link = Scope("samovar.hub.link")
            self._link.start(self._run(), name="run")
        if self.backend.checks:
            self._channels.check_later()

    async def _run(self) -> None:
        """Run the backend for ever; one that ends by itself has a bug, is logged, and is run again."""
        for delay in delays(first=0.5, most=10.0):
            why = "its run ended"
            try:
                await self.backend.run(self._channels)
            except Exception as error:
                why = f"its run failed: {error!r}"
                logger.exception("the backend %s failed; running it again in %.1f s", self.url, delay)
            self._channels.detached(None, why)
            self._channels.health(Health(BackendState.DOWN, reason=why))
            await asyncio.sleep(delay)

    def _ready(self) -> None:
        """Called first by everything: the hub is open here and now, or says why not.

        Raises:
            HubClosed: it is not started, or was stopped.
        """
        if self._state is _State.OPEN and self._loop is asyncio.get_running_loop():
            return
        if self._state is _State.STOPPED and self._loop in (None, asyncio.get_running_loop()):
            raise HubClosed("the hub was stopped; `async with hub` or hub.start() starts it again")
        if self.backend.needs_start:
            raise HubClosed(
                f"the hub of {self.url} is not started: use `async with hub` (an app: `async with app.hub`)"
            )
        self._open()

    @property
    def health(self) -> Health:
        """What the backend said last about itself."""
        return self._channels.last_health

    @property
    def health_age(self) -> float:
        """Seconds since the backend has been in that state: up, degraded, or down."""
        return max(0.0, self._channels.clock() - self._channels.health_since)

    def stats(self) -> dict[str, Any]:
        """Counters and sizes, as plain values; see :class:`Counters`."""
        counted = {name: getattr(self.counters, name) for name in Counters.__slots__}
        return {
            **{name: dict(value) if isinstance(value, dict) else value for name, value in counted.items()},
            "channels": len(self._channels.table),
            "subscriptions": len(self._subscriptions),
            "queued": sum(subscription.queued for subscription in self._subscriptions),
            "in_flight": self._publisher.in_flight,
            "backend": self.health.state.value,
        }

    # --- publishing -------------------------------------------------------------------------------------------------

    async def publish(
        self,
        channel: str,
        data: Any,
        *,
        id: str | None = None,
        user: str | None = None,
        position: bool = False,
        version: int | None = None,
    ) -> Published:
        """Publish one message; returns when the broker has it.

        It is tried again, with the same id, until ``publish_timeout``. Awaited publishes keep their order, concurrent
        ones need not. Cancelled, the message may or may not be in.

        Args:
            channel: its name.
            data: str is text, bytes is bytes, everything else JSON.
            id: 1 to 64 printable ASCII characters; within 300 s a second publish with it adds nothing.
            user: who publishes, when a client does.
            position: the returned position must be known.
            version: an int of 64 bits that grows with the data; one not higher than the channel's is dropped, as a
                duplicate.

        Raises:
            InvalidChannel, InvalidPayload, MessageTooLarge: what was given cannot be published.
            PublishRejected: certainly not in.
            PublishUnknown: it may or may not be in; ``error.id`` is good for a retry.
            UnsupportedByBackend: *position* or *version* is more than the backend can do.
        """
        if isinstance(channel, InternalChannel):
            check_channel(str(channel))
        if position:
            self._need(Feature.POSITION)
        if version is not None:
            check_version(version)
            self._need(Feature.VERSION)
        id, attempt = self._prepare(channel, data, id, user, version)
        return self._published(id, await self._publisher.call(id, attempt))

    def _prepare(
        self, channel: str, data: Any, id: str | None, user: str | None, version: int | None
    ) -> tuple[str, Callable[[], Awaitable[Accepted]]]:
        """Check and encode a message; returns its id, and what publishes it.

        A closure would hold a cell for each argument, and while a thousand publishes wait that is felt.
        """
        self._ready()
        retention = self._retention(channel)
        id, envelope, dedupe = self._envelope(channel, data, id, user)
        return id, partial(
            self.backend.publish,
            channel,
            envelope,
            id=id,
            retention=retention,
            version=version,
            dedupe_seconds=dedupe,
        )

    def _published(self, id: str, accepted: Accepted) -> Published:
        if accepted.duplicate:
            self.counters.duplicates += 1
        else:
            self.counters.published += 1
        return Published(id, accepted.position, accepted.duplicate)

    async def _publish_internal(
        self, channel: str, data: Any, *, id: str | None = None, version: int | None = None
    ) -> Published:
        """Publish on a channel of the hubs' own."""
        id, attempt = self._prepare(channel, data, id, None, version)
        return self._published(id, await self._publisher.call(id, attempt))

    def publish_sync(
        self,
        channel: str,
        data: Any,
        *,
        id: str | None = None,
        user: str | None = None,
        position: bool = False,
        version: int | None = None,
    ) -> Published:
        """Publish from a thread, as :meth:`publish` does in the hub's event loop; blocks until the broker has it.

        For plain functions: sync views, callbacks of other libraries, scripts under ``with Hub(…)``.

        Args:
            channel, data, id, user, position, version: see :meth:`publish`.

        Raises:
            RuntimeError: there is an event loop in this thread: ``await hub.publish`` there.
            HubClosed: the hub is not running, so no loop could do it.
            PublishError: and what else :meth:`publish` raises.
        """
        refuse_loop("publish_sync would block this thread's event loop: use `await hub.publish(…)`")
        known = fresh_id() if id is None else id
        loop = self._loop
        if self._state is not _State.OPEN or loop is None or loop.is_closed():
            raise HubClosed(
                f"the hub is {self._state.value} and has no loop to publish in: an app starts it with its lifespan, "
                "a script by `with Hub(url) as hub:`"
            )

        async def publish() -> Published:
            return await self.publish(channel, data, id=known, user=user, position=position, version=version)

        outcome = self._channels.submit(loop, publish, "publish_sync")
        return wait_for_publish(outcome, known, self._publisher.timeout)

    async def publish_many(self, items: Iterable[tuple[str, Any]]) -> list[Published]:
        """Publish several ``(channel, data)`` in order, in one round trip where the broker can.

        All are checked before any is sent. They are not one transaction: after PublishUnknown some may be in.

        Raises:
            InvalidChannel, InvalidPayload, MessageTooLarge, PublishRejected, PublishUnknown: see :meth:`publish`.
        """
        self._ready()
        records = []
        for channel, data in items:
            if isinstance(channel, InternalChannel):
                check_channel(str(channel))
            retention = self._retention(channel)
            id, envelope, _ = self._envelope(channel, data, None, None)
            records.append((channel, envelope, id, retention))
        if not records:
            return []
        dedupe = DEDUPE if self.backend.waits else 0.0
        accepted = await self._publisher.call(
            records[0][2], lambda: self.backend.publish_many(records, dedupe_seconds=dedupe)
        )
        return [self._published(id, one) for (_, _, id, _), one in zip(records, accepted, strict=True)]

    def _envelope(
        self, channel: str, data: Any, id: str | None, user: str | None
    ) -> tuple[str, bytes, float]:
        """The id, the bytes that travel, and how long the id must be remembered.

        An id of our own is only ever repeated by a retry, which a backend that cannot lose an answer never sees.
        """
        dedupe = DEDUPE
        if id is None:
            id = fresh_id()
            dedupe = DEDUPE if self.backend.waits else 0.0
        else:
            check_id(id)
        kind, body = payload(data, self.json)
        if len(body) > self.max_message_bytes:
            self.counters.rejected += 1
            raise MessageTooLarge(
                f"a message for {channel!r} has {len(body)} bytes; the limit is {self.max_message_bytes} "
                "(max_message_bytes, BROADCAST_MAX_MESSAGE_BYTES)",
                id=id,
            )
        return id, encode(Envelope(id, now_ms(), kind, body, user)), dedupe

    def _need(self, feature: Feature) -> None:
        if feature not in self.backend.features:
            raise UnsupportedByBackend(f"{type(self.backend).__name__} cannot do {feature.name}")

    # --- subscribing ------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        *channels: str,
        since: Since = None,
        last: int | None = None,
        policy: Policy | None = None,
        max_messages: int | None = None,
        max_bytes: int | None = None,
    ) -> Subscription:
        """A subscription of *channels*, which begins when it is entered: ``async with hub.subscribe(…) as messages``.

        Args:
            channels: names, or :func:`presence_channel` of one; more can be added later.
            since: go on after this cursor; channels it does not name start from now. None: from now.
            last: the newest so many kept messages first; with *since*, only where that does not recover. None: the
                rule's ``replay``.
            policy: for this one, see :class:`Hub`.
            max_messages: for this one, instead of ``outbox_messages``.
            max_bytes: for this one, instead of ``outbox_bytes``.

        Raises:
            InvalidChannel, InvalidCursor: a name or the cursor does not read.
            AlreadySubscribed: one channel twice.
        """
        chosen = self.policy if policy is None else check_policy(policy)
        outbox = make_outbox(
            chosen,
            self.outbox_messages if max_messages is None else max_messages,
            self.outbox_bytes if max_bytes is None else max_bytes,
            self.counters,
        )
        return Subscription(self, channels, since=since, last=last, policy=chosen, outbox=outbox)

    def channel(self, name: str) -> Channel:
        """The channel of that name on this worker, for subscriptions."""
        self._ready()
        channel = self._channels.get(name)
        if isinstance(name, PresenceChannel):
            self._members.watch(channel)
        return channel

    def opened(self, subscription: Subscription) -> None:
        """For subscriptions: it has a place in a channel."""
        self._subscriptions.add(subscription)

    def closed(self, subscription: Subscription) -> None:
        """For subscriptions: it has none any more."""
        self._subscriptions.discard(subscription)

    # --- looking ----------------------------------------------------------------------------------------------------

    async def cursor(self, channel: str) -> str:
        """Where *channel* stands now, for ``since=``; take it before reading the data it keeps current.

        Empty when the broker cannot be reached: resuming from that announces a Gap.

        Raises:
            InvalidChannel: the name.
        """
        check_channel(channel)
        self._ready()
        try:
            async with asyncio.timeout(self.join_timeout if self.backend.waits else None):
                heads = await self.backend.heads([channel], create=True)
        except (BackendUnavailable, TimeoutError) as error:
            logger.warning("the cursor of %s is unknown: %s", channel, error or type(error).__name__)
            return ""
        return str(heads[channel])

    async def history(
        self,
        channel: str,
        *,
        since: Since = None,
        last: int | None = None,
        limit: int = 100,
        reverse: bool = False,
    ) -> History:
        """Read kept messages.

        Args:
            channel: its name.
            since: only what came after this cursor; with *reverse*, before it.
            last: the newest so many, oldest first; with *since*, only where that does not recover, behind its Gap.
            limit: at most so many messages, from 1 on; *last* has its own number.
            reverse: newest first.

        Returns:
            The messages, with a Gap where not everything asked for is there.

        Raises:
            InvalidChannel, InvalidCursor: the name or the cursor does not read.
            BackendUnavailable: the broker does not answer.
            ValueError: a limit below 1, a negative *last*, or *last* with *reverse*.
        """
        check_channel(channel)
        if limit < 1:
            raise ValueError(f"limit= is a number of messages from 1 on, not {limit}")
        check_last(last)
        if last is not None and reverse:
            raise ValueError(
                "last= gives the newest messages oldest first: reverse=True with limit= is the other order"
            )
        cursor = as_cursor(since)
        self._ready()
        asked = cursor is not None and channel in cursor
        if last is None:
            return await self._read_history(channel, cursor, asked=asked, limit=limit, reverse=reverse)
        gap = None
        if asked:
            found = await self._read_history(channel, cursor, asked=True, limit=limit, reverse=False)
            if found.recovered:
                return found
            gap = found.gap
        newest = await self._read_history(channel, None, asked=False, limit=max(last, 1), reverse=True)
        return newest_of(newest, last, gap)

    async def _read_history(
        self, channel: str, cursor: Cursor | None, *, asked: bool, limit: int, reverse: bool
    ) -> History:
        position = cursor.get(channel) if cursor is not None else None
        try:
            async with asyncio.timeout(self.join_timeout if self.backend.waits else None):
                page = await self.backend.history(channel, since=position, limit=limit + 1, reverse=reverse)
                if not page.head.offset and self.backend.waits:
                    # Never used, maybe: a read creates nothing there. What the stream has by now is not in the page,
                    # so the head is as of the read.
                    heads = await self.backend.heads([channel], create=True)
                    page = replace(page, head=Position(heads[channel].epoch, 0))
        except TimeoutError:
            raise BackendUnavailable(f"no history of {channel!r} within {self.join_timeout:g} s") from None
        return read_out(
            channel, page, since=position, asked=asked, limit=limit, reverse=reverse, read=self._channels.read
        )

    async def clear(self, channel: str) -> Position:
        """Forget what *channel* keeps and begin a new epoch; subscribers get ``Gap("reset")``. Returns the new head.

        Raises:
            InvalidChannel: the name.
            BackendUnavailable: the broker does not answer within ``join_timeout``; it may be cleared.
        """
        check_channel(channel)
        self._ready()
        return await self._in_time(self.backend.clear(channel), f"clear of {channel!r}")

    async def _in_time(self, answer: Awaitable[T], what: str) -> T:
        """What the broker answers within ``join_timeout``.

        Raises:
            BackendUnavailable: it does not.
        """
        if not self.backend.waits:
            return await answer
        try:
            async with asyncio.timeout(self.join_timeout):
                return await answer
        except TimeoutError:
            raise BackendUnavailable(f"no answer to the {what} within {self.join_timeout:g} s") from None

    # --- presence ---------------------------------------------------------------------------------------------------

    async def presence(self, channel: str) -> list[Member]:
        """Who is in *channel*: its members, by id.

        Raises:
            InvalidChannel: the name.
            UnsupportedByBackend: the backend has no presence.
            BackendUnavailable: the broker does not answer within ``join_timeout``.
        """
        self._check_presence(channel)
        return await self._in_time(self.backend.members(channel), f"question who is in {channel!r}")

    async def occupancy(self, channel: str) -> Occupancy:
        """How many are in *channel*: connections, users, anonymous connections.

        Raises:
            InvalidChannel, UnsupportedByBackend, BackendUnavailable: see :meth:`presence`.
        """
        return Occupancy.of(await self.presence(channel))

    async def enter(self, channel: str, member: Member) -> None:
        """Enter *member*, and renew it until :meth:`leave`; entering again replaces what it shows.

        A join is told when no other member has its key. While the broker is away that waits, and so does the entering:
        this returns after ``join_timeout``, and the hub sees to it when the broker is back.

        Raises:
            InvalidChannel, UnsupportedByBackend: see :meth:`presence`.
            InvalidPayload: what it shows is not JSON, its id is not 1 to 256 characters, its user is no str, or all
                together is more than a message may be (``max_message_bytes``).
        """
        self._check_presence(channel)
        await self._members.enter(channel, member)

    async def leave(self, channel: str, member_id: str, *, grace: float = GRACE) -> None:
        """Let a member go. Idempotent; while the broker is away it leaves when its lease ends.

        Args:
            channel: its name.
            member_id: as it was entered, through this hub.
            grace: seconds within which it may come back, under any id of the same key, without leave or join.
        """
        self._check_presence(channel)
        await self._members.leave(channel, member_id, grace=grace)

    async def kick(self, user: str) -> None:
        """Send *user* away from every worker: the open connections of that name are closed.

        Those are websockets, event streams and waiting long-polls that asked a rule or ``app.identify`` who they are.
        It is no ban: rules are asked again when the client comes back, so take its rights first, then kick.

        Raises:
            PublishError: the workers may not have heard it; kicking again does no harm.
        """
        if not isinstance(user, str):
            raise TypeError(f"kick takes a user's name as app.identify gives it, not {user!r}")
        await self._publish_internal(KICKS, {"user": user})

    async def follow_kicks(self) -> None:
        """For doors, before a client's rights are asked: kicks of all workers reach :attr:`connections` from now on.

        It returns when that is so, or after ``join_timeout``; a broker that is away is not waited for.
        """
        self._ready()
        if self.health.state is BackendState.DOWN:
            self.connections.begin()
        else:
            await self.connections.follow(self.join_timeout)

    async def sweep(self) -> None:
        """Renew and sweep presence now, as the hub does by itself every third of the lease."""
        self._ready()
        await self._members.tick()

    def _check_presence(self, channel: str) -> None:
        check_channel(channel)
        self._need(Feature.PRESENCE)
        self._ready()

    # --- leases -----------------------------------------------------------------------------------------------------

    def lease(self, name: str, *, seconds: float = SECONDS) -> Lease:
        """What one of all workers does alone: ``async with hub.lease("nightly") as lease:`` waits until it is ours.

        While it is held, ``lease.held`` is True; ``await lease.wait_lost()`` says when it no longer is, as after an
        outage of the broker: then stop, for another one begins. See :class:`Lease` for what is promised.

        Args:
            name: as a channel's; the same everywhere.
            seconds: how long others wait for a holder that vanished; up to 100.

        Raises:
            InvalidChannel: the name.
            ValueError: the seconds.
            UnsupportedByBackend: the backend has no versions or no history.
        """
        self._need(Feature.VERSION)
        self._need(Feature.HISTORY)
        return Lease(self, self._publish_internal, name, seconds, self._channels.clock)
