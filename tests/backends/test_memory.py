"""The memory backend: the contract, its URL, its bounds."""

from __future__ import annotations

from itertools import count

import pytest

from samovar.backends import memory
from samovar.backends.contract import BackendContract, Connect
from samovar.backends.memory import Broker, MemoryBackend, Options
from samovar.broadcast import ChannelRule, Hub, Member, Position, Retention, open_backend
from samovar.errors import ConfigError, UnknownBackend

_names = count()


class TestMemory(BackendContract):
    """The suite; two backends of one name are two workers on one broker."""

    @pytest.fixture
    def backend_url(self) -> str:
        return f"memory://contract-{next(_names)}"

    @pytest.fixture
    def connect(self, backend_url: str) -> Connect:
        first = open_backend(backend_url)  # a named broker lives as long as one of its backends
        return lambda: open_backend(backend_url) if first else first


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_hubs_of_one_name_share_and_those_without_do_not() -> None:
    async with Hub("memory://shared-here") as one, Hub("memory://shared-here") as two, Hub() as other:
        published = await one.publish("c", "x")
        assert await two.cursor("c") == str(published.position)
        assert Position.parse(await other.cursor("c")).offset == 0


async def test_a_named_broker_ends_with_its_last_hub() -> None:
    async with Hub("memory://ends-here") as hub:
        first = await hub.cursor("c")
    del hub
    async with Hub("memory://ends-here") as hub:
        again = await hub.cursor("c")
        assert Position.parse(again).epoch != Position.parse(first).epoch or again == first


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("memory://?size=3", "size"),
        ("memory://?channels=0", "channels"),
        ("memory://?channels=-1", "channels"),
        ("memory://?channels=", "channels"),
        ("memory://?channels=٣", "channels"),
        ("memory://?meta=1e9", "meta"),
        ("memory://?channels=5&channels=6", "channels"),
        ("memory://name/path", "path"),
        ("memory://name:80", "name:80"),
        ("memory://user@name", "user@name"),
        ("memory://#part", "part"),
    ],
)
def test_a_bad_url_names_what_is_wrong(url: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        open_backend(url)


def test_one_name_has_one_set_of_options() -> None:
    first = open_backend("memory://options-differ?channels=10")
    assert isinstance(first, MemoryBackend)
    assert open_backend("memory://options-differ").broker is first.broker  # type: ignore[attr-defined]
    assert open_backend("memory://options-differ?channels=10").broker is first.broker  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="channels=10"):
        open_backend("memory://options-differ?channels=11")


@pytest.mark.parametrize("url", ["nowhere://x", "", "memory", "//x"])
def test_an_unknown_scheme_lists_the_known_ones(url: str) -> None:
    with pytest.raises(UnknownBackend, match="memory://"):
        Hub(url)


async def test_idle_channels_are_bounded_and_the_longest_unused_goes_first() -> None:
    broker = Broker(Options(channels=3))
    hub = Hub(MemoryBackend(broker))
    cursors = {name: await hub.cursor(name) for name in ("a", "b", "c")}
    await hub.publish("a", "used again")
    for name in ("d", "e"):
        await hub.publish(name, "x")
        assert len(broker) == 3
    assert Position.parse(await hub.cursor("a")).epoch == Position.parse(cursors["a"]).epoch
    for name in ("b", "c"):
        assert Position.parse(await hub.cursor(name)).epoch != Position.parse(cursors[name]).epoch


async def test_an_attached_channel_is_never_forgotten() -> None:
    broker = Broker(Options(channels=1), clock=(clock := Clock()))
    async with Hub(MemoryBackend(broker), linger=0) as hub:
        async with hub.subscribe("kept", "kept/too") as messages:
            before = messages.cursor
            for n in range(40):
                await hub.publish(f"idle/{n}", "x")
            clock.now += 10 * 86_400
            await hub.publish("idle", "x")
            assert len(broker) <= 3
            await hub.publish("kept", "still here")
            assert [event.data for event in (await messages.events())[2:]] == ["still here"]
        async with hub.subscribe("kept", "kept/too", since=before) as messages:
            assert messages.recovered["kept/too"] is True


async def test_what_nobody_used_for_a_day_begins_a_new_epoch() -> None:
    clock = Clock()
    hub = Hub(MemoryBackend(Broker(clock=clock)))
    cursor = await hub.cursor("c")
    clock.now += 86_399
    assert await hub.cursor("c") == cursor
    clock.now += 86_400
    assert await hub.cursor("c") != cursor


async def test_leaving_members_leave_no_roster_behind() -> None:
    broker = Broker()
    hub = Hub(MemoryBackend(broker))
    await hub.enter("c", Member("one"))
    assert list(broker.rosters) == ["c"]
    await hub.leave("c", "one", grace=0)
    assert not broker.rosters
    await hub.stop()


async def test_channels_that_nobody_touches_again_hold_nothing_for_long() -> None:
    clock = Clock()
    broker = Broker(clock=clock)
    async with Hub(MemoryBackend(broker)) as hub:
        for n in range(100):
            await hub.publish(f"once/{n}", "x", id=f"id{n}")
        clock.now += 301
        for _ in range(60):
            await hub.publish("busy", "x")
        assert sum(len(broker.stream(f"once/{n}")) for n in range(100)) == 0
        assert len(broker.stream("busy")) == 60
        assert (await hub.publish("once/7", "x", id="id7")).duplicate is False


async def test_what_is_kept_for_a_day_keeps_nothing_else() -> None:
    clock = Clock()
    broker = Broker(clock=clock)
    rules = [ChannelRule("day/<int:n>", ttl=86_400), ChannelRule("minute/<int:n>", ttl=60)]
    async with Hub(MemoryBackend(broker), channels=rules) as hub:
        for n in range(20):
            await hub.publish(f"day/{n}", "x")
            await hub.publish(f"minute/{n}", "x")
        broker.publish(
            "day/0", b"", id="new", retention=Retention(seconds=60)
        )  # a worker whose rule is another
        clock.now += 61
        for _ in range(40):
            await hub.publish("busy", "x")
        assert [len(broker.stream(f"minute/{n}")) for n in range(20)] == [0] * 20
        assert [len(broker.stream(f"day/{n}")) for n in range(20)] == [0] + [1] * 19


async def test_forgotten_channels_leave_nothing_behind() -> None:
    broker = Broker(Options(channels=10))
    async with Hub(MemoryBackend(broker), channels=[ChannelRule("day/<int:n>", ttl=86_400)]) as hub:
        for n in range(100):
            await hub.publish(f"day/{n}", "x")
    assert len(broker) == len(broker._holding) == 10


async def test_remembered_ids_are_bounded_over_all_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_IDS", 10)
    clock = Clock()
    broker = Broker(Options(channels=40), clock=clock)

    def publish(channel: str, id: str) -> bool:
        return broker.publish(channel, b"", id=id).duplicate

    def remembered() -> int:
        return sum(stream.ids for stream in broker._streams.values())

    for n in range(20):
        publish("quiet", "q")
        publish("busy", str(n))
    assert remembered() == broker._ids == 10
    assert publish("quiet", "q"), "who fills the memory pays for it"
    assert publish("busy", "11") and publish("busy", "19") and not publish("busy", "0")
    for n in range(100):
        publish(f"one/{n}", "x")
        assert publish(f"one/{n}", "x"), "the newest is remembered"
        if n % 7 == 0:
            broker.clear(f"one/{n}")
        assert remembered() == broker._ids <= 10
    assert set(broker._with_ids) == {name for name, stream in broker._streams.items() if stream.ids}
    clock.now += 86_401
    for n in range(50):
        publish(f"later/{n}", "x")
        assert remembered() == broker._ids <= 10
