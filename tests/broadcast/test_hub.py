"""The hub, as its users meet it: publishing, reading, life."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from samovar.backends.memory import Broker, MemoryBackend
from samovar.broadcast import (
    Backend,
    ChannelRule,
    Feature,
    Gap,
    Health,
    Hub,
    Member,
    Message,
    Position,
    Receiver,
    State,
    Subscribed,
    presence_channel,
)
from samovar.errors import (
    BackendUnavailable,
    ConfigError,
    HubClosed,
    InvalidChannel,
    InvalidCursor,
    InvalidPayload,
    InvalidRule,
    MessageTooLarge,
    PublishRejected,
    PublishUnknown,
    UnsupportedByBackend,
)
from samovar.tasks import Scope

from .faulty import FaultyBackend


async def data(hub: Hub, channel: str, **options: Any) -> list[Any]:
    return [message.data for message in (await hub.history(channel, **options)).messages]


# --- publishing -----------------------------------------------------------------------------------------------------


async def test_kinds_of_payloads() -> None:
    hub = Hub()
    for value in ("é", b"\xff", {"a": 1}, None, 1.5, "", b""):
        await hub.publish("c", value)
    assert await data(hub, "c") == ["é", b"\xff", {"a": 1}, None, 1.5, "", b""]


async def test_a_publish_says_where_it_stands() -> None:
    hub = Hub()
    one = await hub.publish("c", 1, id="mine")
    again = await hub.publish("c", 2, id="mine")
    other = await hub.publish("c", 3, position=True)
    assert one.position is not None and other.position is not None
    assert (one.id, one.position.offset, one.duplicate) == ("mine", 1, False)
    assert (again.id, again.position, again.duplicate) == ("mine", one.position, True)
    assert other.position.offset == 2
    assert await data(hub, "c") == [1, 3]
    assert (hub.counters.published, hub.counters.duplicates) == (2, 1)


async def test_old_versions_are_dropped() -> None:
    hub = Hub()
    answers = [await hub.publish("c", v, version=v) for v in (2, 1, 2, 3)]
    assert [one.duplicate for one in answers] == [False, True, True, False]
    assert await data(hub, "c") == [2, 3]


async def test_many_keep_their_order_and_are_checked_before_any_is_sent() -> None:
    hub = Hub(max_message_bytes=20)
    published = await hub.publish_many([("a", 1), ("b", 2), ("a", 3)])
    assert [one.position.offset for one in published if one.position] == [1, 1, 2]
    assert len({one.id for one in published}) == 3
    assert await hub.publish_many([]) == []
    for bad in ("no name", "x" * 201, presence_channel("a")):
        with pytest.raises(InvalidChannel):
            await hub.publish_many([("a", 4), (bad, 5)])
    with pytest.raises(InvalidPayload):
        await hub.publish_many([("a", 4), ("a", object())])
    with pytest.raises(MessageTooLarge):
        await hub.publish_many([("a", 4), ("a", "x" * 21)])
    assert await data(hub, "a") == [1, 3]


@pytest.mark.parametrize("channel", ["", "a b", "x" * 201, "!a", "é", "a\n", "a=b", None, 7])
async def test_bad_names_are_refused_everywhere(channel: Any) -> None:
    hub = Hub()
    for call in (hub.cursor(channel), hub.history(channel), hub.presence(channel), hub.clear(channel),
                 hub.publish(channel, 1), hub.leave(channel, "m")):  # fmt: skip
        with pytest.raises(InvalidChannel):
            await call
    with pytest.raises(InvalidChannel):
        hub.subscribe("good", channel)
    async with hub.subscribe() as messages:
        with pytest.raises(InvalidChannel):
            await messages.add(channel)


@pytest.mark.parametrize("value", [float("nan"), {"x": float("inf")}, object(), "\ud800", {b"x": 1}])
async def test_what_browsers_cannot_parse_is_refused(value: Any) -> None:
    hub = Hub()
    with pytest.raises(InvalidPayload):
        await hub.publish("c", value)
    assert await data(hub, "c") == []


async def test_the_size_is_limited() -> None:
    hub = Hub(max_message_bytes=10)
    await hub.publish("c", "x" * 10)
    for value in ("x" * 11, "é" * 6, b"x" * 11, ["x" * 7]):
        with pytest.raises(MessageTooLarge, match="limit is 10"):
            await hub.publish("c", value)
    assert len(await data(hub, "c")) == 1


@pytest.mark.parametrize(
    "options",
    [{"max_message_bytes": 0}, {"max_message_bytes": (1 << 20) + 1}, {"publish_timeout": 0}, {"join_timeout": -1},
     {"outbox_messages": 0}, {"outbox_bytes": 0}, {"policy": "drop"}, {"lease": 0}],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Hub(**options)


async def test_publishing_yields_to_the_loop_now_and_then() -> None:
    hub, turns = Hub(), 0

    def count() -> None:
        nonlocal turns
        turns += 1

    asyncio.get_running_loop().call_soon(count)
    for n in range(63):
        await hub.publish("c", n)
    assert turns == 0
    await hub.publish("c", 63)
    assert turns == 1


async def test_the_json_library_is_the_callers() -> None:
    class Shouting:
        def dumps(self, obj: Any, **options: Any) -> str:
            assert options["allow_nan"] is False
            return f'"{obj!r}!"'

        def loads(self, text: str | bytes, /) -> Any:
            return b"heard " + text if isinstance(text, bytes) else text

    hub = Hub(json=Shouting())
    await hub.publish("c", 7)
    assert await data(hub, "c") == [b'heard "7!"']


# --- retries --------------------------------------------------------------------------------------------------------


def faulty(**options: Any) -> tuple[Hub, FaultyBackend]:
    link = FaultyBackend()
    return Hub(link, publish_timeout=options.pop("publish_timeout", 5), **options), link


async def test_a_retry_has_the_same_id_and_doubles_nothing() -> None:
    hub, link = faulty()
    link.fail["published"] = [PublishUnknown("no answer"), None]
    link.fail["publish"] = [None, None]
    published = await hub.publish("c", "once")
    assert [id for call, id in link.calls if call == "publish"] == [published.id] * 2
    assert published.duplicate and published.position is not None
    assert await data(hub, "c") == ["once"]
    assert hub.counters.retries == 1
    await hub.stop()


async def test_an_unreachable_broker_rejects_for_certain() -> None:
    hub, link = faulty(publish_timeout=0.05)
    link.is_cut = True
    with pytest.raises(PublishRejected, match="not reached") as caught:
        await hub.publish("c", 1)
    link.is_cut = False
    assert caught.value.id and await data(hub, "c") == []
    assert hub.counters.rejected == 1
    await hub.stop()


async def test_no_answer_in_time_is_unknown_and_the_id_is_good_for_a_retry() -> None:
    hub, link = faulty(publish_timeout=0.05)
    link.fail["published"] = [PublishUnknown("no answer")] * 50
    with pytest.raises(PublishUnknown) as caught:
        await hub.publish("c", "once")
    link.fail.clear()
    assert (await hub.publish("c", "once", id=caught.value.id)).duplicate
    assert await data(hub, "c") == ["once"]
    assert hub.counters.unknown == 1
    await hub.stop()


async def test_a_broker_that_hangs_is_unknown() -> None:
    hub, link = faulty(publish_timeout=0.02)
    link.turns = 1_000_000
    with pytest.raises(PublishUnknown):
        await hub.publish("c", 1)
    link.turns = 0
    await hub.stop()


async def test_a_rejection_after_an_attempt_without_answer_is_unknown() -> None:
    hub, link = faulty()
    link.fail["published"] = [PublishUnknown("no answer")]
    link.fail["publish"] = [None, PublishRejected("full")]
    with pytest.raises(PublishUnknown, match="full"):
        await hub.publish("c", 1)
    await hub.stop()


async def test_a_rejection_is_passed_on_at_once() -> None:
    hub, link = faulty()
    link.fail["publish"] = [PublishRejected("full")]
    with pytest.raises(PublishRejected, match="full"):
        await hub.publish("c", 1)
    assert link.count("publish") == 1
    await hub.stop()


async def test_publishes_in_flight_are_bounded() -> None:
    hub, link = faulty()
    link.turns = 5
    hub._publisher.max_in_flight = 3
    async with Scope("flight") as scope:
        tasks = [scope.start(hub.publish("c", n)) for n in range(5)]
        await scope.join(60)
    errors = [task.exception() for task in tasks]
    assert [type(error) for error in errors] == [type(None)] * 3 + [PublishRejected] * 2
    assert "busy" in str(errors[-1])
    assert hub._publisher.in_flight == 0
    await hub.stop()


async def test_many_are_tried_again_whole_and_doubled_nowhere() -> None:
    hub, link = faulty()
    link.fail["publish_many"] = [PublishUnknown("no answer")]
    await hub.publish_many([("c", n) for n in range(5)])
    (_, first), (_, second) = [call for call in link.calls if call[0] == "publish_many"]
    assert first == second
    assert await data(hub, "c") == list(range(5))
    await hub.stop()


# --- history, cursors, clear ----------------------------------------------------------------------------------------


async def test_history_from_every_position() -> None:
    hub = Hub(channels=[ChannelRule("c", history=3)])
    cursors = [await hub.cursor("c")]
    for n in range(5):
        await hub.publish("c", n)
        cursors.append(await hub.cursor("c"))
    for seen, cursor in enumerate(cursors):
        history = await hub.history("c", since=cursor)
        assert [m.data for m in history.messages] == [2, 3, 4][max(0, seen - 2) :]
        assert history.recovered is (seen >= 2)
        assert str(history.position) == cursors[-1]
    assert await data(hub, "c", limit=2) == [2, 3]
    assert await data(hub, "c", limit=2, reverse=True) == [4, 3]
    assert await data(hub, "c", since=cursors[4], reverse=True) == [2]
    assert (await hub.history("c", limit=2)).more and not (await hub.history("c", limit=3)).more


async def test_what_is_published_first_while_nothing_is_read_comes_after_the_read() -> None:
    broker = Broker()

    class UsedMeanwhile(FaultyBackend):
        """The channel is found unused, then asked for its epoch; between the two it is used."""

        async def heads(self, channels: Collection[str], *, create: bool = False) -> Mapping[str, Position]:
            await other.publish("c", "first")
            return await super().heads(channels, create=create)

    async with Hub(UsedMeanwhile(broker)) as hub, Hub(MemoryBackend(broker)) as other:
        read = await hub.history("c")
        assert (read.messages, read.gap, read.position.offset) == ((), None, 0)
        assert await data(hub, "c", since=read.position) == ["first"]


async def test_history_pages_with_its_position() -> None:
    hub, seen, since = Hub(), list[Any](), None
    await hub.publish_many([("c", n) for n in range(10)])
    while True:
        history = await hub.history("c", since=since, limit=4)
        assert len(history) <= 4
        seen += [message.data for message in history]  # iterating over it is iterating over its messages
        since = history.position
        if not history.more:
            break
    assert seen == list(range(10))


@pytest.mark.parametrize("since", ["x", "e:", "a=b", 7, "e:1,"])
async def test_malformed_cursors_are_refused(since: Any) -> None:
    hub = Hub()
    with pytest.raises(InvalidCursor):
        await hub.history("c", since=since)
    with pytest.raises(InvalidCursor):
        hub.subscribe("c", since=since)
    async with hub.subscribe() as messages:
        with pytest.raises(InvalidCursor):
            await messages.add("c", since=since)
        assert messages.channels == ()


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_limit_is_at_least_one(limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        await Hub().history("c", limit=limit)


async def test_a_cursor_is_empty_when_the_broker_is_away() -> None:
    hub, link = faulty()
    link.is_cut = True
    assert await hub.cursor("c") == ""
    link.is_cut = False
    async with hub.subscribe("c", since="") as messages:
        first, gap = await messages.events()
        assert isinstance(first, Subscribed) and isinstance(gap, Gap)
        assert (first.recovered, gap.reason) == (False, "unknown")
    await hub.stop()


async def test_clear_reaches_subscribers_of_every_hub() -> None:
    broker = Broker()
    one, two = Hub(MemoryBackend(broker)), Hub(MemoryBackend(broker))
    async with one, two, two.subscribe("c") as messages:
        await one.publish("c", "old")
        new = await one.clear("c")
        await one.publish("c", "new")
        got = [await anext(messages) for _ in range(3)]
        old = got[0]
        assert isinstance(old, Message) and old.data == "old"
        assert got[1] == Gap("c", "reset", old.position, new)
        assert isinstance(got[2], Message) and got[2].data == "new"
        assert await data(two, "c") == ["new"]


async def test_a_rule_decides_what_is_kept_and_a_publish_without_one_follows() -> None:
    broker = Broker()
    ruled = Hub(MemoryBackend(broker), channels=[ChannelRule("c/<x>", history=2)])
    plain = Hub(MemoryBackend(broker))
    await ruled.publish("c/1", 0)
    for n in range(1, 6):
        await plain.publish("c/1", n)
    assert await data(plain, "c/1") == [4, 5]


# --- rules, features ------------------------------------------------------------------------------------------------


def test_rules_that_tie_are_refused_at_once() -> None:
    with pytest.raises(InvalidRule):
        Hub(channels=[ChannelRule("c/<a>"), ChannelRule("c/<b>")])


def test_a_backend_that_cannot_do_what_a_rule_asks_is_refused_at_once() -> None:
    class Bare(MemoryBackend):
        features = Feature.SHARED

    hub = Hub(Bare(), channels=[ChannelRule("typing", history=0)])
    with pytest.raises(UnsupportedByBackend, match="HISTORY"):
        hub.add_rule(ChannelRule("c"))
    with pytest.raises(UnsupportedByBackend, match="PRESENCE"):
        hub.add_rule(ChannelRule("c", history=0, presence=True))


async def test_what_a_backend_cannot_do_is_said_before_it_is_tried() -> None:
    class Bare(MemoryBackend):
        features = Feature.HISTORY

    hub = Hub(Bare())
    for call in (hub.publish("c", 1, position=True), hub.publish("c", 1, version=1), hub.presence("c")):
        with pytest.raises(UnsupportedByBackend):
            await call
    assert await data(hub, "c") == []


# --- life -----------------------------------------------------------------------------------------------------------


async def test_memory_needs_no_start() -> None:
    hub = Hub()
    await hub.publish("c", 1)
    assert await data(hub, "c") == [1]
    assert hub.health.state is State.UP


async def test_starting_and_stopping_are_idempotent_and_the_data_stays() -> None:
    hub = Hub()
    await hub.stop()
    with pytest.raises(HubClosed, match="stopped"):
        await hub.publish("c", 1)
    for _ in range(2):
        await hub.start()
        await hub.start()
        await hub.publish("c", 1)
        await hub.stop()
        await hub.stop()
    with pytest.raises(HubClosed):
        await hub.cursor("c")
    async with hub:
        assert await data(hub, "c") == [1, 1]


async def test_stopping_ends_subscriptions_after_what_they_have() -> None:
    hub = Hub()
    async with hub:
        messages = await hub.subscribe("c").__aenter__()
        idle = await hub.subscribe("d").__aenter__()
        await hub.publish("c", "last words")
        async with Scope("idle") as scope:
            waiting = scope.start(idle.events())
            await waiting
            waiting = scope.start(idle.events())
            await asyncio.sleep(0)
            await hub.stop()
            await scope.join(60)
        assert isinstance(waiting.exception(), HubClosed)
    assert [getattr(event, "data", None) for event in await messages.events()] == [None, "last words"]
    with pytest.raises(HubClosed):
        await messages.events()
    with pytest.raises(HubClosed):
        await messages.add("e")
    assert hub.stats()["channels"] == hub.stats()["subscriptions"] == 0


async def test_stopping_detaches() -> None:
    broker = Broker()
    async with Hub(MemoryBackend(broker)) as hub:
        await hub.subscribe("c").__aenter__()
        assert list(broker.receivers) == ["c"]
    assert not broker.receivers


def test_a_hub_without_start_serves_one_loop_after_another() -> None:
    hub = Hub()

    async def use() -> list[Any]:
        async with hub.subscribe("c") as messages:
            await hub.publish("c", "x")
            _, message = await messages.events()
            assert isinstance(message, Message)
            return await data(hub, "c")

    assert asyncio.run(use()) == ["x"]
    assert asyncio.run(use()) == ["x", "x"]


class Started(FaultyBackend):
    """Needs a start, as brokers do; can end by itself."""

    needs_start = True

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0
        self.running = asyncio.Event()
        self.end: asyncio.Future[None] | None = None

    async def run(self, receiver: Receiver) -> None:
        self.runs += 1
        self.end = asyncio.get_running_loop().create_future()
        receiver.attached(tuple(self._wanted))
        self.running.set()
        try:
            await self.end
        finally:
            self.running.clear()


async def test_a_broker_needs_a_start_and_the_error_says_how() -> None:
    hub = Hub(Started())
    for call in (hub.publish("c", 1), hub.cursor("c"), hub.history("c"), hub.subscribe("c").__aenter__()):
        with pytest.raises(HubClosed, match="async with"):
            await call
    async with hub:
        await hub.publish("c", 1)
    with pytest.raises(HubClosed, match="stopped"):
        await hub.publish("c", 1)


async def test_each_state_of_the_broker_is_told_once_the_first_one_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Silent(Started):
        """Says nothing by itself of how it is."""

        def health(self, health: Health) -> None:
            pass

    backend = Silent()
    with caplog.at_level(logging.INFO, "samovar"):
        async with Hub(backend):
            await backend.running.wait()
            for state in (State.DOWN, State.DOWN, State.UP, State.UP, State.DEGRADED, State.DOWN):
                backend.outer.health(Health(state, reason="" if state is State.UP else "so it is"))
    told = [
        (record.levelname, record.message) for record in caplog.records if "the backend is" in record.message
    ]
    assert told == [
        ("WARNING", "the backend is down: so it is"),
        ("WARNING", "the backend is up"),
        ("WARNING", "the backend is degraded: so it is"),
        ("WARNING", "the backend is down: so it is"),
    ]


async def test_the_backend_runs_while_the_hub_does() -> None:
    backend = Started()
    async with Hub(backend):
        await asyncio.wait_for(backend.running.wait(), 60)
    assert (backend.running.is_set(), backend.runs) == (False, 1)


async def test_a_backend_that_fails_is_said_and_run_again(caplog: pytest.LogCaptureFixture) -> None:
    backend = Started()
    async with Hub(backend) as hub, hub.subscribe("c") as messages:
        await asyncio.wait_for(backend.running.wait(), 60)
        await hub.publish("c", 1)
        assert backend.end is not None
        backend.end.set_exception(ZeroDivisionError("a bug"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert hub.health.state is State.DOWN and "a bug" in hub.health.reason
        assert "running it again" in caplog.text
        await asyncio.wait_for(backend.running.wait(), 60)
        await hub.publish("c", 2)
        got = [await anext(messages) for _ in range(2)]
        assert [m.data for m in got if isinstance(m, Message)] == [1, 2]
    assert backend.runs == 2


async def test_counters_are_plain_values() -> None:
    hub = Hub()
    async with hub.subscribe("c", since="e:1") as messages:
        await hub.publish("c", 1)
        await messages.events()
        stats = hub.stats()
    assert stats["published"] == stats["delivered"] == stats["received"] == stats["unrecovered"] == 1
    assert stats["gaps"] == {"reset": 1}
    assert (stats["channels"], stats["subscriptions"], stats["queued"], stats["backend"]) == (1, 1, 0, "up")
    await hub.stop()


async def test_a_record_that_is_no_message_is_a_gap_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    backend: Backend = MemoryBackend()
    hub = Hub(backend)
    async with hub.subscribe("c") as messages:
        await hub.publish("c", 1)
        for n, garbage in enumerate((b"garbage", b"\x92\x02\xa1x", b"\x92\x02\xa1y")):
            await backend.publish("c", garbage, id=str(n))
        await hub.publish("c", 2)
        _, one, *gaps, two = await messages.events()
    assert (one.data, two.data) == (1, 2)
    assert [(gap.reason, gap.after.offset, gap.until.offset) for gap in gaps] == [
        ("lost", 1, 2),
        ("lost", 2, 3),
        ("lost", 3, 4),
    ]
    assert hub.counters.unreadable == 3
    assert caplog.text.count("is no message") == 2
    async with hub.subscribe("c", since=one.cursor) as messages:
        assert messages.recovered == {"c": False}
        assert [type(event) for event in (await messages.events())[1:]] == [Gap, Gap, Gap, Message]
    async with hub.subscribe("c", since=str(gaps[-1].until)) as messages:
        assert messages.recovered == {"c": True}
    assert Position.parse(two.cursor).offset == 5
    await hub.stop()


async def test_history_gives_the_newest_oldest_first() -> None:
    hub = Hub(channels=[ChannelRule("c", history=5)])
    start = await hub.cursor("c")
    cursors = [str((await hub.publish("c", n)).position) for n in range(8)]
    page = await hub.history("c", last=3)
    assert ([m.data for m in page.messages], page.gap, page.more) == ([5, 6, 7], None, False)
    assert str(page.position) == str(page.head) == cursors[-1]
    assert [m.data for m in (await hub.history("c", last=50)).messages] == [3, 4, 5, 6, 7]
    empty = await hub.history("c", last=0)
    assert (empty.messages, str(empty.position)) == ((), cursors[-1])
    page = await hub.history("c", since=cursors[3], last=1)
    assert ([m.data for m in page.messages], page.recovered) == ([4, 5, 6, 7], True)
    page = await hub.history("c", since=start, last=2)
    assert ([m.data for m in page.messages], page.recovered) == ([6, 7], False)
    assert page.gap == Gap("c", "expired", Position.parse(start), Position.parse(cursors[5]))
    page = await hub.history("c", since="other:1", last=0)
    assert (page.gap and page.gap.reason, page.gap and str(page.gap.until)) == ("reset", cursors[-1])
    for wrong in ({"last": -1}, {"last": 1, "reverse": True}):
        with pytest.raises(ValueError, match="last="):
            await hub.history("c", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [2**63, -(2**63) - 1, True, 1.5, "1"])
async def test_a_version_that_is_no_number_of_64_bits_is_refused(version: Any) -> None:
    link = FaultyBackend()
    async with Hub(link) as hub:
        with pytest.raises(InvalidPayload, match="version"):
            await hub.publish("a", 1, version=version)
        assert not link.calls
        for fits in (-(2**63), 0, 2**63 - 1):
            assert not (await hub.publish("a", 1, version=fits)).duplicate


class Silent(FaultyBackend):
    """A broker that answers nothing about channels."""

    async def _pass(self, name: str, detail: Any = None) -> None:
        await super()._pass(name, detail)
        await asyncio.Event().wait()

    async def clear(self, channel: str) -> Position:
        await self._pass("clear", channel)
        return await super().clear(channel)

    async def members(self, channel: str) -> list[Member]:
        await self._pass("members", channel)
        return await super().members(channel)


async def test_nothing_waits_for_ever_for_a_broker_that_is_silent() -> None:
    link = Silent()
    async with asyncio.timeout(60), Hub(link, join_timeout=0.01) as hub:
        for ask in (hub.presence, hub.occupancy, hub.clear, hub.history):
            with pytest.raises(BackendUnavailable, match="within 0.01 s"):
                await ask("a")
        await hub.enter("a", Member("m"))
        await hub.sweep()
        await hub.leave("a", "m")
        assert link.count("touch") == 3


async def test_the_backend_in_the_process_has_all_the_time_of_a_busy_loop() -> None:
    hub = Hub(join_timeout=1e-9)
    await hub.publish("c", 1)
    async with hub.subscribe("c", last=1) as messages:
        events = await messages.events()
    assert [type(event) for event in events] == [Subscribed, Message]
    await hub.stop()


async def test_thousands_of_timers_cost_a_step_each_and_none_outlives_its_use() -> None:
    hub = Hub()
    await hub.start()
    channels = hub._channels
    sets = [channels._timers]
    for _ in range(5000):
        channels.later(60, lambda: None)
        if channels._timers is not sets[-1]:
            sets.append(channels._timers)  # all were looked at
    assert len(sets) < 10
    for timer in channels._timers:
        timer.cancel()
    for _ in range(12_000):
        channels.later(60, lambda: None).cancel()
    assert len(channels._timers) < 200
    called = asyncio.Event()
    channels.later(0, called.set)
    async with asyncio.timeout(60):
        await called.wait()
    last = channels.later(60, lambda: None)
    await hub.stop()
    assert last.cancelled() and not channels._timers
