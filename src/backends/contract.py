"""The suite that every backend passes, ours and other people's.

Subclass :class:`BackendContract` in a test module and say how to reach a broker::

    from samovar.backends.contract import BackendContract

    class TestMine(BackendContract):
        @pytest.fixture
        def backend_url(self):
            return f"mine://localhost/{uuid4().hex}"  # a broker, or a corner of one, that is empty

Each case has a publishing and a receiving backend on that broker, as two workers would, and asserts that what had to
arrive did, in order, and nothing besides. Cases for features the backend does not declare are skipped. It needs pytest
and pytest-asyncio, and is the only module of the package that imports them.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TypeAlias, TypeVar

import pytest

from ..broadcast.backend import (
    Accepted,
    Backend,
    Feature,
    Health,
    Page,
    Record,
    Retention,
    State,
    open_backend,
)
from ..broadcast.hub import Hub
from ..broadcast.message import Gap, Member, Message, Position, Subscribed
from ..broadcast.names import presence_channel
from ..broadcast.policy import Policy, latest
from ..tasks import Scope

T = TypeVar("T")
NOTHING = Feature(0)
Connect: TypeAlias = Callable[[], Backend]

TIME_LIMIT = float(os.environ.get("SAMOVAR_CONTRACT_TIME_LIMIT", "10"))
"""Seconds any case waits for anything."""
EVERY_CHARACTER = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/@~-"


class Recorder:
    """A receiver that remembers everything it is told."""

    def __init__(self) -> None:
        self.records: dict[str, list[Record]] = defaultdict(list)
        self.confirmed: dict[str, int] = defaultdict(int)
        self.lost: list[tuple[list[str] | None, str]] = []
        self.rejected: list[str] = []
        self.last_health: Health | None = None
        self._told = asyncio.Event()

    def attached(self, channels: Iterable[str]) -> None:
        """See :class:`Receiver`."""
        for channel in channels:
            self.confirmed[channel] += 1
        self._told.set()

    def detached(self, channels: Iterable[str] | None, why: str) -> None:
        """See :class:`Receiver`."""
        self.lost.append((None if channels is None else list(channels), why))
        self._told.set()

    def refused(self, channels: Iterable[str], why: str) -> None:
        """See :class:`Receiver`."""
        self.rejected.extend(channels)
        self._told.set()

    def message(self, record: Record) -> None:
        """See :class:`Receiver`."""
        self.records[record.channel].append(record)
        self._told.set()

    def health(self, health: Health) -> None:
        """See :class:`Receiver`."""
        self.last_health = health
        self._told.set()

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until *condition* holds, which is asked again whenever anything is told."""
        try:
            async with asyncio.timeout(TIME_LIMIT):
                while not condition():
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            pytest.fail(f"not within {TIME_LIMIT:g} s: {what}")

    def envelopes(self, channel: str) -> list[bytes]:
        """What came on *channel*."""
        return [record.envelope for record in self.records[channel]]


class Worker:
    """A backend that runs, and what it told its receiver."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.told: Recorder = Recorder()
        self._ids = 0

    async def attach(self, *channels: str) -> None:
        """Attach, and wait for the confirmation."""
        before = {channel: self.told.confirmed[channel] for channel in channels}
        await self.backend.attach(channels)
        await self.told.until(
            lambda: all(self.told.confirmed[channel] > before[channel] for channel in channels),
            f"attached({channels})",
        )

    async def publish(
        self, channel: str, envelope: bytes, id: str | None = None, retention: Retention | None = None
    ) -> Accepted:
        """Publish with an id of its own."""
        self._ids += 1
        return await self.backend.publish(
            channel, envelope, id=id or f"{self._ids}-{id_of(self)}", retention=retention
        )

    async def has_exactly(self, channel: str, expected: list[bytes], *, publisher: Worker) -> list[Record]:
        """Check that *expected* came on *channel* and nothing besides: what a fence published last stands behind."""
        fence = f"fence {id_of(self)} {len(expected)} {publisher._ids}".encode()
        await publisher.publish(channel, fence)
        await self.told.until(lambda: fence in self.told.envelopes(channel), f"the fence on {channel}")
        came = self.told.records[channel]
        assert [record.envelope for record in came] == [*expected, fence]
        return came[:-1]


def id_of(thing: object) -> str:
    """Tells two workers' ids apart."""
    return f"{id(thing):x}"


async def eventually(read: Callable[[], Awaitable[T]], good: Callable[[T], bool], what: str) -> T:
    """Ask the broker again until the answer is *good*: for what only time brings about, such as expiry."""
    async with asyncio.timeout(TIME_LIMIT):
        while not good(answer := await read()):  # noqa: ASYNC110  # a broker tells nobody that time went by
            await asyncio.sleep(0.01)
    return answer


def _health_of(hub: Hub) -> Callable[[], Awaitable[Health]]:
    async def read() -> Health:
        return hub.health

    return read


def _marks_of(hub: Hub, since: int) -> Callable[[], Awaitable[int]]:
    async def read() -> int:
        return hub.connections.mark() - since

    return read


def offsets(records: Iterable[Record]) -> list[int]:
    """Their offsets."""
    return [record.position.offset for record in records]


def bodies(page: Page) -> list[bytes]:
    """The envelopes of a page."""
    return [record.envelope for record in page.records]


def contiguous(records: list[Record]) -> bool:
    """Each follows the one before, in one epoch."""
    return all(
        after.prev == before.position.offset and after.position.epoch == before.position.epoch
        for before, after in pairwise(records)
    )


@pytest.mark.asyncio
class BackendContract:
    """See the module."""

    @pytest.fixture
    def backend_url(self) -> str:
        """The URL of an empty broker; override this one, or :meth:`connect`."""
        raise NotImplementedError("override the fixture backend_url: it returns the URL of an empty broker")

    @pytest.fixture
    def connect(self, backend_url: str) -> Connect:
        """Makes another backend on the broker of this case."""
        return lambda: open_backend(backend_url)

    @asynccontextmanager
    async def workers(
        self, connect: Connect, needs: Feature = NOTHING
    ) -> AsyncIterator[tuple[Worker, Worker]]:
        """A publishing and a receiving worker, both up."""
        pair = Worker(connect()), Worker(connect())
        if missing := needs & ~pair[0].backend.features:
            pytest.skip(f"{type(pair[0].backend).__name__} does not declare {missing}")
        async with Scope("contract") as scope:
            for worker in pair:
                worker.backend.bind(worker.told)
                if worker.backend.needs_start:
                    scope.start(worker.backend.run(worker.told))
            for told in (pair[0].told, pair[1].told):
                await told.until(
                    lambda told=told: told.last_health is not None and told.last_health.state is State.UP,  # type: ignore[misc]
                    "health up",
                )
            yield pair

    @asynccontextmanager
    async def hubs(self, connect: Connect, needs: Feature = NOTHING) -> AsyncIterator[tuple[Hub, Hub]]:
        """A publishing and a receiving hub, both up."""
        async with Hub(connect(), linger=0) as publisher, Hub(connect(), linger=0) as receiver:
            if missing := needs & ~publisher.backend.features:
                pytest.skip(f"{type(publisher.backend).__name__} does not declare {missing}")
            for hub in (publisher, receiver):
                await eventually(_health_of(hub), lambda health: health.state is State.UP, "health up")
            async with asyncio.timeout(TIME_LIMIT * 2):
                yield publisher, receiver

    # --- live records -----------------------------------------------------------------------------------------------

    async def test_records_arrive_in_order_and_once(self, connect: Connect) -> None:
        async with self.workers(connect) as (publisher, receiver):
            await receiver.attach("c")
            sent = [f"record {n}".encode() for n in range(50)]
            for envelope in sent:
                await publisher.publish("c", envelope)
            came = await receiver.has_exactly("c", sent, publisher=publisher)
            assert contiguous(came)

    async def test_the_publisher_gets_its_own_by_the_same_road(self, connect: Connect) -> None:
        async with self.workers(connect) as (publisher, receiver):
            await publisher.attach("c")
            await receiver.attach("c")
            await publisher.publish("c", b"one")
            await receiver.publish("c", b"two")
            own = await publisher.has_exactly("c", [b"one", b"two"], publisher=receiver)
            await receiver.told.until(lambda: len(receiver.told.records["c"]) == 3, "the fence of the other")
            assert receiver.told.records["c"][:2] == own

    async def test_concurrent_publishers_agree_on_one_order(self, connect: Connect) -> None:
        async with self.workers(connect) as (publisher, receiver):
            await publisher.attach("c")
            await receiver.attach("c")

            async def publish(worker: Worker, name: str) -> None:
                for n in range(30):
                    await worker.publish("c", f"{name}{n}".encode())

            async with asyncio.TaskGroup() as group:
                for name, worker in (("a", publisher), ("b", receiver), ("c", publisher), ("d", receiver)):
                    group.create_task(publish(worker, name))
            for worker in (publisher, receiver):
                await worker.told.until(lambda w=worker: len(w.told.records["c"]) >= 120, "120 records")  # type: ignore[misc]
            assert publisher.told.records["c"] == receiver.told.records["c"]
            assert contiguous(publisher.told.records["c"])
            for name in "abcd":
                own = [e for e in publisher.told.envelopes("c") if e.startswith(name.encode())]
                assert own == [f"{name}{n}".encode() for n in range(30)]

    async def test_only_attached_channels_arrive(self, connect: Connect) -> None:
        async with self.workers(connect) as (publisher, receiver):
            await receiver.attach("mine")
            await publisher.publish("mine/too", b"no")
            await publisher.publish("min", b"no")
            await publisher.publish("mine", b"yes")
            await receiver.has_exactly("mine", [b"yes"], publisher=publisher)
            assert set(receiver.told.records) == {"mine"}
            assert not publisher.told.records

    async def test_nothing_arrives_after_detaching(self, connect: Connect) -> None:
        async with self.workers(connect) as (publisher, receiver):
            await receiver.attach("c", "other")
            await publisher.publish("c", b"before")
            await receiver.told.until(lambda: bool(receiver.told.records["c"]), "the first record")
            await receiver.backend.detach(["c"])
            await receiver.backend.detach(["c"])
            await publisher.publish("c", b"between")
            await receiver.has_exactly("other", [], publisher=publisher)
            await receiver.attach("c")
            await publisher.publish("c", b"after")
            await receiver.has_exactly("c", [b"before", b"after"], publisher=publisher)

    async def test_attaching_twice_confirms_twice_and_doubles_nothing(self, connect: Connect) -> None:
        async with self.workers(connect) as (publisher, receiver):
            await receiver.attach("c")
            await receiver.attach("c")
            await publisher.publish("c", b"once")
            await receiver.has_exactly("c", [b"once"], publisher=publisher)

    async def test_what_history_lacks_after_attaching_arrives_live(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.HISTORY) as (publisher, receiver):
            sent = [f"record {n}".encode() for n in range(60)]

            async def publish() -> None:
                for envelope in sent:
                    await publisher.publish("c", envelope)
                    await asyncio.sleep(0)

            async with asyncio.TaskGroup() as group:
                group.create_task(publish())
                await receiver.attach("c")
                page = await receiver.backend.history("c", limit=1000)
            read = bodies(page)
            last = len(read)
            await receiver.told.until(
                lambda: last == 60 or sent[-1] in receiver.told.envelopes("c"), "the last record"
            )
            live = [r.envelope for r in receiver.told.records["c"] if r.position.offset > page.head.offset]
            assert read + live == sent

    async def test_publish_many_keeps_the_order(self, connect: Connect) -> None:
        async with self.workers(connect) as (publisher, receiver):
            await receiver.attach("c", "d")
            items = [("c" if n % 3 else "d", f"{n}".encode(), f"many-{n}", None) for n in range(30)]
            accepted = await publisher.backend.publish_many(items)
            assert [one.duplicate for one in accepted] == [False] * 30
            for channel in "cd":
                expected = [envelope for name, envelope, _, _ in items if name == channel]
                await receiver.has_exactly(channel, expected, publisher=publisher)

    @pytest.mark.parametrize(
        "envelope",
        [b"", bytes(range(256)) * 4, b"\r\n:0:\x00", b"x" * (1 << 20)],
        ids=["empty", "binary", "line", "1MiB"],
    )
    async def test_bytes_arrive_as_they_were(self, connect: Connect, envelope: bytes) -> None:
        async with self.workers(connect) as (publisher, receiver):
            await receiver.attach("c")
            await publisher.publish("c", envelope, retention=Retention(10, 60, 1 << 22))
            await receiver.has_exactly("c", [envelope], publisher=publisher)

    @pytest.mark.parametrize("channel", [EVERY_CHARACTER, "x" * 200, "!chat/1", "/"])
    async def test_every_name_is_a_channel_of_its_own(self, connect: Connect, channel: str) -> None:
        async with self.workers(connect) as (publisher, receiver):
            await receiver.attach(channel, f"{channel[:-1]}z")
            await publisher.publish(channel, b"here")
            await receiver.has_exactly(channel, [b"here"], publisher=publisher)
            assert set(receiver.told.records) == {channel}

    # --- positions, history -----------------------------------------------------------------------------------------

    async def test_positions_of_publish_and_record_agree(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.POSITION) as (publisher, receiver):
            await receiver.attach("c")
            accepted = [await publisher.publish("c", b"%d" % n) for n in range(5)]
            came = await receiver.has_exactly("c", [b"%d" % n for n in range(5)], publisher=publisher)
            assert [record.position for record in came] == [one.position for one in accepted]
            assert not any(one.duplicate for one in accepted)

    async def test_a_channel_never_used_has_a_head_that_lasts(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.HISTORY) as (publisher, receiver):
            heads = await receiver.backend.heads(["c", "d"], create=True)
            assert set(heads) == {"c", "d"}
            assert heads["c"].offset == 0
            assert await publisher.backend.heads(["c"]) == {"c": heads["c"]}
            page = await publisher.backend.history("c", since=heads["c"], limit=10)
            assert (list(page.records), page.head, page.complete) == ([], heads["c"], True)
            await publisher.publish("c", b"first")
            page = await receiver.backend.history("c", since=heads["c"], limit=10)
            assert (bodies(page), page.complete) == ([b"first"], True)
            assert page.records[0].prev == heads["c"].offset

    async def test_history_reads_from_every_position(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.HISTORY) as (publisher, receiver):
            start = (await receiver.backend.heads(["c"], create=True))["c"]
            sent = [b"%d" % n for n in range(8)]
            for envelope in sent:
                await publisher.publish("c", envelope)
            whole = await receiver.backend.history("c", limit=100)
            assert (bodies(whole), whole.complete) == (sent, True)
            assert contiguous(list(whole.records)) and whole.head == whole.records[-1].position
            for seen, since in enumerate([start, *(record.position for record in whole.records)]):
                page = await receiver.backend.history("c", since=since, limit=100)
                assert (bodies(page), page.complete, page.head) == (sent[seen:], True, whole.head)

    async def test_history_has_limit_and_reverse(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.HISTORY) as (publisher, receiver):
            sent = [b"%d" % n for n in range(8)]
            for envelope in sent:
                await publisher.publish("c", envelope)
            read = receiver.backend.history
            records = (await read("c", limit=100)).records
            assert bodies(await read("c", limit=3)) == sent[:3]
            assert bodies(await read("c", since=records[2].position, limit=3)) == sent[3:6]
            assert bodies(await read("c", limit=3, reverse=True)) == sent[:-4:-1]
            older = await read("c", since=records[4].position, limit=3, reverse=True)
            assert (bodies(older), older.complete) == (sent[3:0:-1], True)
            assert bodies(await read("c", since=records[0].position, limit=3, reverse=True)) == []

    async def test_a_position_that_is_none_of_the_channel_is_incomplete(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.HISTORY) as (publisher, receiver):
            for n in range(3):
                await publisher.publish("c", b"%d" % n)
            head = (await receiver.backend.heads(["c"]))["c"]
            foreign = await receiver.backend.history("c", since=Position("elsewhere", 1), limit=10)
            assert (foreign.complete, bodies(foreign)) == (False, [b"0", b"1", b"2"])
            future = await receiver.backend.history(
                "c", since=Position(head.epoch, head.offset + 5), limit=10
            )
            assert (future.complete, future.head) == (False, head)

    async def test_reading_changes_nothing(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.HISTORY) as (publisher, receiver):
            await receiver.attach("c")
            await publisher.publish("c", b"one")
            first = await receiver.backend.history("c", limit=10)
            assert await publisher.backend.history("c", limit=10) == first
            assert await receiver.backend.heads(["c"], create=True) == {"c": first.head}
            await receiver.has_exactly("c", [b"one"], publisher=publisher)

    @pytest.mark.parametrize(
        ("retention", "kept"),
        [
            (Retention(messages=3), 3),
            (Retention(messages=100, bytes=45), 4),
            (Retention(messages=0), 0),
        ],
        ids=["messages", "bytes", "none"],
    )
    async def test_retention_bounds_what_is_kept(
        self, connect: Connect, retention: Retention, kept: int
    ) -> None:
        async with self.workers(connect, Feature.HISTORY) as (publisher, receiver):
            start = (await receiver.backend.heads(["c"], create=True))["c"]
            await receiver.attach("c")
            sent = [b"%010d" % n for n in range(9)]
            for envelope in sent:
                await publisher.publish("c", envelope, retention=retention)
            page = await receiver.backend.history("c", since=start, limit=100)
            assert (bodies(page), page.complete) == (sent[9 - kept :], False)
            at_head = await receiver.backend.history("c", since=page.head, limit=100)
            assert (bodies(at_head), at_head.complete) == ([], True)
            if kept:
                edge = Position(page.head.epoch, page.records[0].prev)
                assert (await receiver.backend.history("c", since=edge, limit=100)).complete
            await receiver.told.until(lambda: len(receiver.told.records["c"]) == 9, "all nine, kept or not")
            assert contiguous(receiver.told.records["c"])

    async def test_a_publish_without_retention_uses_what_is_stored(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.HISTORY) as (publisher, receiver):
            await publisher.publish("c", b"0", retention=Retention(messages=2))
            for n in range(1, 6):
                await receiver.publish("c", b"%d" % n)
            assert bodies(await publisher.backend.history("c", limit=100)) == [b"4", b"5"]

    async def test_records_expire_and_positions_stay(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.HISTORY) as (publisher, receiver):
            start = (await receiver.backend.heads(["c"], create=True))["c"]
            await publisher.publish("c", b"brief", retention=Retention(seconds=0.05))
            page = await eventually(
                lambda: receiver.backend.history("c", since=start, limit=10),
                lambda page: not page.records,
                "expiry",
            )
            assert not page.complete
            assert page.head.epoch == start.epoch and page.head.offset > start.offset
            assert (await receiver.backend.history("c", since=page.head, limit=10)).complete

    # --- duplicates, versions, clear --------------------------------------------------------------------------------

    async def test_a_known_id_adds_nothing(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.DEDUPE) as (publisher, receiver):
            await receiver.attach("c", "d")
            first = await publisher.publish("c", b"one", id="same")
            again = await receiver.publish("c", b"other bytes", id="same")
            assert (first.duplicate, again.duplicate) == (False, True)
            assert again.position == first.position
            assert not (await publisher.publish("d", b"another channel", id="same")).duplicate
            await receiver.has_exactly("c", [b"one"], publisher=publisher)
            await receiver.has_exactly("d", [b"another channel"], publisher=publisher)

    async def test_an_id_is_forgotten_after_its_window(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.DEDUPE) as (publisher, receiver):
            await receiver.attach("c")
            publish = publisher.backend.publish
            assert not (await publish("c", b"one", id="same", dedupe_seconds=0.05)).duplicate
            accepted = await eventually(
                lambda: publish("c", b"two", id="same", dedupe_seconds=0.05),
                lambda a: not a.duplicate,
                "the window",
            )
            assert not accepted.duplicate
            await receiver.has_exactly("c", [b"one", b"two"], publisher=publisher)

    async def test_an_old_version_is_dropped(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.VERSION) as (publisher, receiver):
            await receiver.attach("c")
            dropped = []
            for n, version in enumerate([5, 4, 5, 6]):
                accepted = await publisher.backend.publish("c", b"v%d" % n, id=f"v{n}", version=version)
                dropped.append(accepted.duplicate)
            assert dropped == [False, True, True, False]
            await receiver.has_exactly("c", [b"v0", b"v3"], publisher=publisher)

    async def test_clear_begins_a_new_epoch_and_says_so(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.HISTORY) as (publisher, receiver):
            await receiver.attach("c", "d")
            for n in range(3):
                await publisher.publish("c", b"%d" % n)
            await publisher.publish("d", b"stays")
            old = (await receiver.backend.heads(["c"]))["c"]
            told = receiver.told.confirmed["c"]
            new = await publisher.backend.clear("c")
            await receiver.told.until(lambda: receiver.told.confirmed["c"] > told, "attached() after clear()")
            assert new.epoch != old.epoch
            assert await receiver.backend.heads(["c"]) == {"c": new}
            page = await receiver.backend.history("c", since=old, limit=10)
            assert (bodies(page), page.complete, page.head) == ([], False, new)
            assert bodies(await receiver.backend.history("d", limit=10)) == [b"stays"]
            await publisher.publish("c", b"anew")
            came = await receiver.has_exactly("c", [b"0", b"1", b"2", b"anew"], publisher=publisher)
            assert came[-1].position.epoch == new.epoch and came[-1].prev == new.offset

    async def test_a_cancelled_call_harms_nothing(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.HISTORY) as (publisher, receiver):
            await receiver.attach("c")
            async with Scope("cancelled") as scope:
                for turns in range(4):
                    task = scope.start(publisher.backend.history("c", limit=10))
                    other = scope.start(publisher.backend.publish("x", b"perhaps", id=f"cancelled {turns}"))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                    other.cancel()
                await scope.join(TIME_LIMIT)
            await publisher.publish("c", b"still here")
            await receiver.has_exactly("c", [b"still here"], publisher=publisher)
            assert bodies(await publisher.backend.history("c", limit=1)) == [b"still here"]

    # --- presence ---------------------------------------------------------------------------------------------------

    async def test_a_key_joins_once_and_leaves_once(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.PRESENCE) as (one, two):
            phone, laptop = Member("phone", "ann"), Member("laptop", "ann", {"where": ["home", 1]})
            guest = Member("ann")
            assert await one.backend.touch("c", [phone, guest], lease=60) == [phone, guest]
            assert await two.backend.touch("c", [laptop], lease=60) == []
            assert await one.backend.touch("c", [phone], lease=60) == []
            assert await two.backend.members("c") == [guest, laptop, phone]
            assert await two.backend.members("other") == []
            assert await two.backend.leave("c", ["phone", "nobody"]) == []
            assert await one.backend.leave("c", ["laptop"]) == [laptop]
            assert await one.backend.leave("c", ["laptop"]) == []
            assert await two.backend.members("c") == [guest]

    async def test_a_lease_ends_and_is_swept_by_one(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.PRESENCE) as (one, two):
            brief, lasting = Member("brief"), Member("lasting")
            await one.backend.touch("c", [lasting], lease=60)
            await one.backend.touch("c", [brief], lease=0.05)
            left = await eventually(lambda: two.backend.members("c"), lambda m: len(m) < 2, "the lease")
            assert left == [lasting]
            swept = await one.backend.sweep("c") + await two.backend.sweep("c")
            assert swept == [brief]
            assert await one.backend.touch("c", [brief], lease=60) == [brief]

    async def test_a_shorter_lease_is_a_grace(self, connect: Connect) -> None:
        async with self.workers(connect, Feature.PRESENCE) as (one, two):
            old, new = Member("old", "ann"), Member("new", "ann")
            await one.backend.touch("c", [old], lease=60)
            assert await one.backend.touch("c", [old], lease=0.05) == []
            assert await two.backend.touch("c", [new], lease=60) == []
            left = await eventually(lambda: two.backend.members("c"), lambda m: len(m) < 2, "the grace")
            assert left == [new]
            assert await one.backend.sweep("c") == []

    # --- through hubs -----------------------------------------------------------------------------------------------

    async def test_hubs_pass_messages_on(self, connect: Connect) -> None:
        async with self.hubs(connect) as (publisher, receiver), receiver.subscribe("c") as messages:
            for data in ("text", b"\x00bytes", {"n": [1, None]}, 7):
                await publisher.publish("c", data, user="ann")
            await publisher.publish("c", "fence")
            got = [await anext(messages) for _ in range(5)]
            assert [m.data for m in got if isinstance(m, Message)] == [
                "text",
                b"\x00bytes",
                {"n": [1, None]},
                7,
                "fence",
            ]
            assert [m.user for m in got if isinstance(m, Message)] == ["ann"] * 4 + [None]
            assert await messages.events(timeout=0) == []

    async def test_a_resume_from_every_position_loses_nothing(self, connect: Connect) -> None:
        async with self.hubs(connect, Feature.HISTORY) as (publisher, receiver):
            cursors = [await receiver.cursor("c")]
            for n in range(6):
                await publisher.publish("c", n)
                cursors.append(await publisher.cursor("c"))
            for seen, cursor in enumerate(cursors):
                async with receiver.subscribe("c", since=cursor) as messages:
                    await publisher.publish("fence", "")
                    first, *rest = await messages.events()
                    while len(rest) < 6 - seen:
                        rest += await messages.events()
                    assert first.recovered is True and first.cursor == cursor
                    assert [m.data for m in rest] == list(range(seen, 6))
                    assert await messages.events(timeout=0) == []

    async def test_a_resume_from_nowhere_is_announced(self, connect: Connect) -> None:
        async with self.hubs(connect, Feature.HISTORY) as (publisher, receiver):
            await publisher.publish("c", "old")
            head = Position.parse(await publisher.cursor("c"))
            for cursor in ("elsewhere:3", str(Position(head.epoch, head.offset + 9)), ""):
                async with receiver.subscribe("c", since=cursor) as messages:
                    first, gap, *_ = await messages.events()
                    assert isinstance(first, Subscribed) and first.recovered is False
                    assert isinstance(gap, Gap) and gap.until is not None

    async def test_a_read_of_a_channel_never_used_gives_a_position_that_lasts(self, connect: Connect) -> None:
        async with self.hubs(connect, Feature.HISTORY) as (publisher, receiver):
            async with publisher.subscribe("c"), receiver.subscribe("c"):
                pass  # both are connected
            start = (await receiver.history("never")).position
            assert (await publisher.history("never")).position == start
            await publisher.publish("never", "first")
            read = await receiver.history("never", since=start)
            assert ([m.data for m in read.messages], read.gap) == (["first"], None)

    async def test_a_slow_subscriber_heals(self, connect: Connect) -> None:
        async with (
            self.hubs(connect, Feature.HISTORY) as (publisher, receiver),
            receiver.subscribe("c", max_messages=3) as slow,
            receiver.subscribe("c") as quick,
        ):
            for n in range(40):
                await publisher.publish("c", n)
            got = [await anext(quick) for _ in range(40)]
            healed = [await anext(slow) for _ in range(40)]
            for events in (got, healed):
                assert [m.data for m in events if isinstance(m, Message)] == list(range(40))
            assert await slow.events(timeout=0) == []

    async def test_joins_and_leaves_are_told_once_to_everybody(self, connect: Connect) -> None:
        async with self.hubs(connect, Feature.PRESENCE) as (one, two):
            watched = presence_channel("c")
            async with one.subscribe(watched) as here, two.subscribe(watched) as there:
                await one.enter("c", Member("phone", "ann"))
                await two.enter("c", Member("laptop", "ann"))
                await one.leave("c", "phone", grace=0)
                await two.leave("c", "laptop", grace=0)
                await one.enter("c", Member("fence"))
                for events in (here, there):
                    told = [await anext(events) for _ in range(3)]
                    assert [
                        (m.data["event"], m.data["member"]["id"]) for m in told if isinstance(m, Message)
                    ] == [
                        ("join", "phone"),
                        ("leave", "laptop"),
                        ("join", "fence"),
                    ]

    @pytest.mark.parametrize("policy", ["drop_oldest", latest("key")], ids=str)
    async def test_who_drops_messages_is_told_of_every_one(self, connect: Connect, policy: Policy) -> None:
        async with (
            self.hubs(connect) as (publisher, receiver),
            receiver.subscribe("c", policy=policy, max_messages=4) as slow,
            receiver.subscribe("c") as quick,
        ):
            for n in range(40):
                await publisher.publish("c", {"key": n % 2, "n": n})
            got = [await anext(quick) for _ in range(40)]
            assert [m.data["n"] for m in got if isinstance(m, Message)] == list(range(40))
            first, *events = await slow.events()
            data = [event.data["n"] for event in events if isinstance(event, Message)]
            missing = sum(event.count or 0 for event in events if isinstance(event, Gap))
            assert data == sorted(data) and data[-2:] == [38, 39] and len(data) + missing == 40
            at = first.position
            for event in events:
                if isinstance(event, Gap):
                    assert event.after == at
                at = event.until if isinstance(event, Gap) else event.position
            assert isinstance(got[-1], Message) and at == got[-1].position

    async def test_a_lease_has_one_holder_and_passes_on(self, connect: Connect) -> None:
        inside: list[str] = []
        terms: list[int] = []

        async def hold(hub: Hub, name: str) -> None:
            async with hub.lease("job", seconds=60) as lease:
                inside.append(name)
                assert len(inside) == 1, "two hold it at once"
                assert lease.term is not None
                terms.append(lease.term)
                await asyncio.sleep(0)
                inside.remove(name)

        async with self.hubs(connect, Feature.VERSION | Feature.HISTORY) as (one, two):
            async with asyncio.TaskGroup() as group:
                for n in range(3):
                    group.create_task(hold(one, f"one {n}"))
                    group.create_task(hold(two, f"two {n}"))
            assert len(terms) == 6 and terms == sorted(set(terms)), "terms grow from holder to holder"

    async def test_a_kick_reaches_every_worker_once(self, connect: Connect) -> None:
        told: list[str] = []

        class Client:
            def __init__(self, name: str) -> None:
                self.name = name

            def kicked(self) -> None:
                told.append(self.name)

            def doubted(self) -> None:
                told.append(f"{self.name} in doubt")

        async with self.hubs(connect) as (one, two):
            for hub, name in ((one, "here"), (two, "there")):
                await hub.follow_kicks()
                for user in ("ann", "bob"):
                    hub.connections.add(user, Client(f"{user} {name}"), since=hub.connections.mark())
            marks = [(hub, hub.connections.mark()) for hub in (one, two)]
            await two.kick("ann")
            await one.kick("bob")
            for hub, mark in marks:
                await eventually(_marks_of(hub, mark), lambda kicks: kicks == 2, "both kicks")
            assert sorted(told) == ["ann here", "ann there", "bob here", "bob there"]
