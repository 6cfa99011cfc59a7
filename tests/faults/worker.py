"""One worker of a run: plain hubs with publishers and subscribers that write down all they see.

``python -m tests.faults.worker NAME URL JOURNAL PLAN``. Signals: SIGUSR1 ends the publishing (and lets slow readers
read on), SIGUSR2 is a storm (all clients go and come back at once), SIGTERM ends it. Started again with the journal of
a worker that was killed, its subscribers resume from the cursors that they last wrote down.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samovar.broadcast import (
    Gap,
    Hub,
    Member,
    Message,
    Policy,
    Position,
    Subscribed,
    Subscription,
    latest,
    presence_channel,
)
from samovar.errors import BackendUnavailable, HubClosed, InvalidCursor, PublishRejected, PublishUnknown
from samovar.tasks import Scope

from .journal import (
    Answered,
    Cause,
    Closed,
    Counted,
    Entered,
    Entry,
    Felt,
    Got,
    Head,
    Heard,
    Journal,
    Left,
    Listed,
    Opened,
    Refused,
    Told,
    Tried,
    read,
)
from .plan import LOSSY, Plan

now = time.monotonic
BEAT = 0.02  # seconds between two looks at a hub's health
BURST = 20  # events that a slow reader's outbox holds
ROLL = 0.3  # seconds between two looks at who is present
USERS = 3  # whose connections guests are, at every worker the same


@dataclass
class Desk:
    """What all parts of a worker share."""

    name: str
    plan: Plan
    journal: Journal
    places: dict[str, dict[str, Position | None]] = field(default_factory=dict)
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    clients: set[Subscription] = field(default_factory=set)

    def random(self, name: str) -> random.Random:
        """Random numbers of one part's own, the same for the same seed."""
        return random.Random(f"{self.plan.seed} {name}")

    def remember(self) -> None:
        """Read from the journal of a life before where its subscribers stood; its end closed them all."""
        for entry in read(self.journal.path):
            if not isinstance(entry, Got | Told | Opened):
                continue
            places = self.places.setdefault(entry.subscriber, {})
            match entry:
                case Got() | Opened(recovered=None | True) if entry.position:
                    places[entry.channel] = Position.parse(entry.position)
                case Told():
                    places[entry.channel] = Position.parse(entry.until) if entry.until else None
        self.journal.write(*(Closed(now(), subscriber) for subscriber in self.places))


# --- publishing -----------------------------------------------------------------------------------------------------


async def publisher(desk: Desk, hub: Hub, name: str) -> None:
    """Publish at a steady rate until told to stop; whatever is unknown is published again under its id."""
    rng, plan, number = desk.random(name), desk.plan, 0
    life = f"{int(now() * 1000):x}"
    due = now()
    while not desk.quiet.is_set():
        number += 1
        id = f"{plan.run}-{name}-{life}-{number}"
        await publish(desk, hub, rng, rng.choice(plan.channels), id)
        due = max(due + (1 / plan.rate if plan.rate else 0.0), now() - 0.2)
        await asyncio.sleep(max(0.0, due - now()))


async def publish(desk: Desk, hub: Hub, rng: random.Random, channel: str, id: str) -> None:
    """One message, until its fate is known; what is rejected is tried again half of the time."""
    body = "x" * desk.plan.body
    for attempt in range(60):
        again = True
        desk.journal.write(Tried(now(), desk.name, channel, id))
        try:
            published = await hub.publish(channel, body, id=id)
        except PublishUnknown:
            desk.journal.write(Answered(now(), desk.name, channel, id, "unknown", None))
        except PublishRejected:
            desk.journal.write(Answered(now(), desk.name, channel, id, "rejected", None))
            again = rng.random() < 0.5
            await asyncio.sleep(0.05)
        else:
            position = str(published.position) if published.position else None
            desk.journal.write(Answered(now(), desk.name, channel, id, "acked", position))
            return
        if not again or (desk.quiet.is_set() and attempt > 5):
            return


# --- subscribing ----------------------------------------------------------------------------------------------------


class Reader:
    """One subscriber, over all its subscriptions; writes down what it is handed.

    Args:
        desk: of the worker.
        hub: to subscribe at.
        name: unique in the run.
        channels: what it follows.
        burst: events its outbox holds; the hub's default without it.
        policy: for when that is full; the hub's default without it.
    """

    def __init__(
        self,
        desk: Desk,
        hub: Hub,
        name: str,
        channels: list[str],
        *,
        burst: int | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.desk = desk
        self.hub = hub
        self.name = name
        self.channels = channels
        self.burst = burst
        self.policy = policy
        self.places = desk.places.setdefault(name, {})
        self.given: dict[str, tuple[Cause, str | None]] = {}

    @asynccontextmanager
    async def subscribed(
        self, since: str | None = None, cause: Cause = "none"
    ) -> AsyncIterator[Subscription]:
        """A subscription from its own cursor, or from *since*; tried until the broker answers."""
        subscription = await self._open(since, cause)
        try:
            yield subscription
        finally:
            subscription.close()
            self.desk.journal.write(Closed(now(), self.name))

    async def _open(self, since: str | None, cause: Cause) -> Subscription:
        while True:
            given: Any = since
            if since is None:
                given = dict(self.places) or None
                self.given = {channel: ("own", str(place or "")) for channel, place in self.places.items()}
            else:
                self.given = dict.fromkeys(self.channels, (cause, since))
            subscription = self.hub.subscribe(
                *self.channels, since=given, max_messages=self.burst, policy=self.policy
            )
            try:
                return await subscription.__aenter__()
            except BackendUnavailable:
                await asyncio.sleep(0.05)

    def note(self, events: list[Any]) -> int:
        """Write down what was handed over; returns how many bytes of messages that were."""
        t = now()
        entries = [self._entry(event, t) for event in events]
        self.desk.journal.write(*entries)
        return sum(event.size for event in events if isinstance(event, Message))

    def _entry(self, event: Any, t: float) -> Entry:
        match event:
            case Message(channel=channel, position=position, id=id):
                self.places[channel] = position
                return Got(t, self.name, channel, str(position), id)
            case Gap(channel=channel, reason=reason, after=after, until=until):
                self.places[channel] = until
                return Told(t, self.name, channel, reason, _text(after), _text(until))
            case Subscribed(channel=channel, recovered=recovered, position=position):
                cause, since = self.given.get(channel, ("none", None))
                if recovered is not False:
                    self.places[channel] = position
                return Opened(t, self.name, channel, cause, since, recovered, _text(position))
        raise TypeError(f"no event: {event!r}")

    def compare(self, subscription: Subscription) -> None:
        """The subscription's own cursor says what was written down, or that is a breach."""
        own = ",".join(f"{channel}={place or ''}" for channel, place in sorted(self.places.items()))
        told = (
            subscription.cursor if "=" in subscription.cursor else f"{self.channels[0]}={subscription.cursor}"
        )
        if ",".join(sorted(told.split(","))) != ",".join(sorted(own.split(","))):
            words = f"its cursor is {told}, what it was handed says {own}"
            self.desk.journal.write(Refused(now(), self.name, "*", "own", words))


def _text(position: Position | None) -> str | None:
    return None if position is None else str(position)


async def steady(desk: Desk, reader: Reader) -> None:
    """Follow to the end."""
    async with reader.subscribed() as subscription:
        while True:
            reader.note(await subscription.events())


async def mover(desk: Desk, reader: Reader) -> None:
    """Go and come back with the cursor, again and again until the publishers have ended."""
    rng = desk.random(reader.name)
    while not desk.quiet.is_set():
        until = now() + rng.choice((0.0, 0.2, 1.0, 3.0)) * rng.random()
        async with reader.subscribed() as subscription:
            reader.note(await subscription.events())  # every first word is there before anything else
            while (left := until - now()) > 0:
                reader.note(await subscription.events(timeout=left))
            reader.compare(subscription)
        await asyncio.sleep(rng.choice((0.0, 0.1, 1.0)) * rng.random())
    await steady(desk, reader)


async def slow(desk: Desk, reader: Reader) -> None:
    """Read so many bytes a second; quickly when the publishers have ended."""
    async with reader.subscribed() as subscription:
        while True:
            size = reader.note(await subscription.events())
            if not desk.quiet.is_set():
                await first_of(desk.quiet.wait(), asyncio.sleep(size / desk.plan.slow_bytes))


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when one of them does."""
    async with Scope("first") as scope:
        await asyncio.wait([scope.start(wait) for wait in waits], return_when=asyncio.FIRST_COMPLETED)


async def stranger(desk: Desk, hub: Hub, name: str) -> None:
    """Come with cursors that are none of this channel, until the publishers have ended."""
    rng, number = desk.random(name), 0
    while not desk.quiet.is_set():
        number += 1
        channel = rng.choice(desk.plan.channels)
        reader = Reader(desk, hub, f"{name}.{int(now() * 1000):x}.{number}", [channel])
        cause: Cause = rng.choice(("foreign", "future", "malformed"))
        try:
            async with reader.subscribed(await cursor_of(hub, rng, channel, cause), cause) as subscription:
                until = now() + 0.3
                while (left := until - now()) > 0:
                    reader.note(await subscription.events(timeout=left))
        except InvalidCursor as error:
            desk.journal.write(Refused(now(), reader.name, channel, cause, str(error)))
        await asyncio.sleep(rng.random() * 0.5)


async def cursor_of(hub: Hub, rng: random.Random, channel: str, cause: Cause) -> str:
    """A cursor that cannot be recovered from."""
    if cause == "malformed":
        return rng.choice(
            ("", "nonsense", "a:b:c", ":1", "e:-1", "x" * 70_000, f"{channel}=", "e:99999999999999999999")
        )
    if cause == "foreign":
        return f"Never-Was:{rng.choice((0, 1, 7, 10**6))}"
    cursor = await hub.cursor(channel)
    if not cursor:  # the broker is away
        return "Never-Was:1"
    head = Position.parse(cursor)
    return str(Position(head.epoch, head.offset + 10**9))


async def client(desk: Desk, reader: Reader) -> None:
    """Follow one channel; when a storm closes the subscription come back at once."""
    while True:
        async with reader.subscribed() as subscription:
            desk.clients.add(subscription)
            try:
                while True:
                    reader.note(await subscription.events())
            except HubClosed:
                if subscription in desk.clients:  # not by a storm: the hub stops
                    raise
            finally:
                desk.clients.discard(subscription)


def storm(desk: Desk) -> None:
    """All clients are cut, and come back in the same turn."""
    cut, desk.clients = desk.clients, set()
    for subscription in cut:
        subscription.close()


# --- who is present -------------------------------------------------------------------------------------------------


async def guest(desk: Desk, hub: Hub, name: str) -> None:
    """Enter and leave, alone or as one of a user's connections, until the publishers have ended; then stay."""
    rng, life, number = desk.random(name), f"{int(now() * 1000):x}", 0
    while not desk.quiet.is_set():
        number += 1
        channel, id = rng.choice(desk.plan.rooms), f"{name}.{life}.{number}"
        user = f"user{rng.randrange(USERS)}" if rng.random() < 0.6 else None
        desk.journal.write(Entered(now(), desk.name, channel, id, user))
        await hub.enter(channel, Member(id, user))
        await first_of(desk.quiet.wait(), asyncio.sleep(rng.choice((0.0, 0.3, 1.0, 4.0)) * rng.random()))
        if desk.quiet.is_set() and rng.random() < 0.7:
            return
        desk.journal.write(Left(now(), desk.name, channel, id))
        await hub.leave(channel, id, grace=rng.choice((0.0, 0.0, 0.2)))
        await asyncio.sleep(0.3 * rng.random())


async def listed(desk: Desk, hub: Hub, witness: str, channel: str) -> bool:
    """Write down who is in *channel*; False when the broker does not answer."""
    asked = now()
    try:
        members = await hub.presence(channel)
    except BackendUnavailable:
        return False
    desk.journal.write(Listed(asked, witness, channel, [(member.id, member.user) for member in members]))
    return True


async def roll(desk: Desk, hub: Hub, name: str) -> None:
    """Look who is there, again and again."""
    while True:
        for channel in desk.plan.rooms:
            await listed(desk, hub, name, channel)
        await asyncio.sleep(ROLL)


async def watcher(desk: Desk, hub: Hub, name: str) -> None:
    """Follow who comes and goes; look who is there at the beginning and after each Gap, and never else."""
    async with hub.subscribe(*map(presence_channel, desk.plan.rooms)) as subscription:
        while True:
            for event in await subscription.events():
                channel = event.channel[1:]
                match event:
                    case Message(data={"event": what, "member": member}):
                        desk.journal.write(Heard(now(), name, channel, what, member["id"], member["user"]))
                        continue
                    case Gap():
                        desk.journal.write(Heard(now(), name, channel, "gap", "", None))
                    case Subscribed():
                        desk.journal.write(Heard(now(), name, channel, "opened", "", None))
                while not await listed(desk, hub, name, channel):
                    await asyncio.sleep(0.05)


# --- the whole ------------------------------------------------------------------------------------------------------


async def watch(desk: Desk, hub: Hub, name: str) -> None:
    """Write down each change of the hub's health."""
    before: tuple[str, int] | None = None
    while True:
        health = hub.health
        if (state := (health.state.value, health.generation)) != before:
            desk.journal.write(Felt(now(), name, *state))
            before = state
        await asyncio.sleep(BEAT)


async def retried(make: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a reader again after the broker was away when it had to catch up: it resumes from its cursor."""
    while True:
        try:
            return await make()
        except BackendUnavailable:
            await asyncio.sleep(0.05)
        except HubClosed:
            return


def staff(desk: Desk, hub: Hub, at: str) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """The readers of one hub."""
    plan, channels = desk.plan, desk.plan.channels
    rng = desk.random(at)
    made: list[Callable[[], Coroutine[Any, Any, None]]] = []

    def add(kind: Callable[[Desk, Reader], Coroutine[Any, Any, None]], reader: Reader) -> None:
        made.append(lambda: kind(desk, reader))

    for n in range(plan.steady):
        add(steady, Reader(desk, hub, f"{at}/steady{n}", channels))
    for n in range(plan.movers):
        add(mover, Reader(desk, hub, f"{at}/mover{n}", channels))
    for n in range(plan.slow):
        add(slow, Reader(desk, hub, f"{at}/slow{n}", channels, burst=BURST))
    for n in range(plan.lossy):
        add(slow, Reader(desk, hub, f"{at}/{LOSSY}-oldest{n}", channels, burst=BURST, policy="drop_oldest"))
        add(slow, Reader(desk, hub, f"{at}/{LOSSY}-latest{n}", channels, burst=BURST, policy=latest()))
    for n in range(plan.clients):
        add(client, Reader(desk, hub, f"{at}/client{n}", [rng.choice(channels)]))
    return made


async def work(desk: Desk, url: str) -> None:
    """Run everything until SIGTERM."""
    plan, loop = desk.plan, asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        publishing = await stack.enter_async_context(Scope("publishing", on_error=die))
        reading = await stack.enter_async_context(Scope("reading", on_error=die))
        hubs: dict[str, Hub] = {}
        for n in range(plan.hubs):
            hub = Hub(
                url,
                channels=plan.rules,
                linger=1.0,
                publish_timeout=plan.patience,
                join_timeout=plan.patience,
                lease=plan.lease,
            )
            at = f"{desk.name}.{n}" if plan.hubs > 1 else desk.name
            hubs[at] = await stack.enter_async_context(hub)
        loop.add_signal_handler(signal.SIGUSR1, desk.quiet.set)
        loop.add_signal_handler(signal.SIGTERM, desk.ended.set)
        loop.add_signal_handler(signal.SIGUSR2, storm, desk)
        desk.journal.write(Felt(now(), desk.name, "ready", 0))
        for at, hub in hubs.items():
            man(desk, hub, at, publishing, reading)
        await desk.quiet.wait()
        await publishing.join()
        if plan.heads:
            for channel in plan.channels:
                desk.journal.write(Head(now(), channel, await next(iter(hubs.values())).cursor(channel)))
        desk.journal.write(Felt(now(), desk.name, "quiet", 0))
        await desk.ended.wait()
        desk.journal.write(*(Counted(now(), at, hub.stats()) for at, hub in hubs.items()))
        await reading.close()


def man(desk: Desk, hub: Hub, at: str, publishing: Scope, reading: Scope) -> None:
    """Start the tasks of one hub."""
    reading.start(watch(desk, hub, at), name="watch")
    for make in staff(desk, hub, at):
        reading.start(retried(make), name="reader")
    for n in range(desk.plan.strangers):
        reading.start(retried(lambda n=n: stranger(desk, hub, f"{at}/stranger{n}")), name="stranger")  # type: ignore[misc]
    if desk.plan.lounges:
        meet(desk, hub, at, reading)
    for n in range(desk.plan.publishers):
        publishing.start(publisher(desk, hub, f"{at}/p{n}"), name="publisher")


def meet(desk: Desk, hub: Hub, at: str, scope: Scope) -> None:
    """Start those who come and go, and those who look at it."""
    scope.start(roll(desk, hub, f"{at}/roll"), name="roll")
    for n in range(desk.plan.watchers):
        scope.start(retried(lambda n=n: watcher(desk, hub, f"{at}/watcher{n}")), name="watcher")  # type: ignore[misc]
    for n in range(desk.plan.guests):
        scope.start(guest(desk, hub, f"{at}/guest{n}"), name="guest")


def die(task: asyncio.Task[Any], error: BaseException) -> None:
    """A part failed: say so, loudly; the run that misses this worker's entries fails."""
    logging.getLogger("worker").critical("%s failed", task.get_name(), exc_info=error)
    sys.stderr.flush()
    signal.raise_signal(signal.SIGABRT)


def main(arguments: list[str]) -> None:
    """See the module."""
    name, url, path, text = arguments
    plan = Plan.load(text)
    if plan.mutant:
        from .mutants import MUTANTS

        MUTANTS[plan.mutant](setattr)
    logging.basicConfig(
        level=logging.WARNING, format="%(relativeCreated)d %(name)s %(levelname)s %(message)s"
    )

    async def run() -> None:
        desk = Desk(name, plan, Journal(Path(path)))
        desk.remember()
        await work(desk, url)

    asyncio.run(run())


if __name__ == "__main__":
    main(sys.argv[1:])
