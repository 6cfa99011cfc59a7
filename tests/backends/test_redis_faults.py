"""Redis and Valkey that die, come back, forget, fill up, or are cut off: nothing is lost in silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from samovar.broadcast import ChannelRule, Hub, Member, Retention, State, open_backend
from samovar.errors import BackendUnavailable, PublishError, PublishRejected

from ..support.hubs import got, nothing_more, short, up
from ..support.ports import free_port
from ..support.proxy import Proxy
from ..support.redis import RedisServer
from ..support.until import until

Start = Callable[..., RedisServer]
StartProxy = Callable[[int], Awaitable[Proxy]]
TYPING = ChannelRule("typing", history=0)
BIG = ChannelRule("big", history=1000, max_bytes=64 << 20)


def state_of(hub: Hub) -> State:
    return hub.health.state


async def is_down(hub: Hub) -> None:
    await until(lambda: hub.health.state is State.DOWN, "the loss to be noticed")


async def is_up(hub: Hub, generation: int = 0) -> None:
    await until(
        lambda: hub.health.state is not State.DOWN and hub.health.generation > generation,
        f"the connection ({hub.health})",
    )


# --- restarts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["nothing", "rdb", "aof"])
async def test_a_restart_of_a_store_not_declared_durable_is_a_gap(start_redis: Start, keep: str) -> None:
    server = start_redis(keep=keep)
    async with up(server.url()) as hub, hub.subscribe("c") as messages:
        for n in range(3):
            await hub.publish("c", n)
        assert await got(messages, 3) == [0, 1, 2]
        cursor = messages.cursor
        server.restart()
        await hub.publish("c", "after")
        assert await got(messages, 2) == ["!reset", "after"]
        await nothing_more(hub, "c", messages)
        async with hub.subscribe("c", since=cursor) as late:
            assert late.recovered["c"] is False
            assert (await got(late, 1)) == ["!reset"]
        history = await hub.history("c", since=cursor)
        assert not history.recovered
        assert [message.data for message in history.messages] == ["after", "fence"]


async def test_a_restart_of_a_durable_store_loses_nothing(start_redis: Start) -> None:
    server = start_redis(keep="aof")
    url = server.url("durable=1")
    async with up(url) as publisher, up(url) as hub, hub.subscribe("c", max_messages=5000) as messages:
        start = messages.cursor
        sent = 0

        async def publish() -> None:
            nonlocal sent
            for n in range(300):
                await publisher.publish("c", n)
                sent += 1

        async with asyncio.TaskGroup() as group:
            group.create_task(publish())
            await until(lambda: sent > 50, "50 publishes")
            server.restart()
        assert await got(messages, 300) == list(range(300))
        await nothing_more(publisher, "c", messages)
        assert hub.stats()["gaps"] == {} or not any(hub.stats()["gaps"].values())
        assert len((await hub.history("c", limit=500)).messages) == 100
        async with hub.subscribe("c", since=messages.cursor) as late:
            assert late.recovered["c"] is True
        async with hub.subscribe("c", since=start) as late:
            assert late.recovered["c"] is False


async def test_an_id_is_known_after_a_durable_restart(start_redis: Start) -> None:
    server = start_redis(keep="aof")
    async with up(server.url("durable=1")) as hub:
        first = await hub.publish("c", "x", id="same")
        server.restart()
        again = await hub.publish("c", "x", id="same")
        assert again.duplicate and again.position == first.position


async def test_a_stale_snapshot_is_a_gap_even_when_its_offsets_have_been_passed(start_redis: Start) -> None:
    server = start_redis(keep="rdb")
    url = server.url()
    async with up(url) as hub:
        for n in range(5):
            await hub.publish("c", n)
        server.call("SAVE")
        early = await hub.cursor("c")
        for n in range(5, 10):
            await hub.publish("c", n)
        late = await hub.cursor("c")
    server.restart()
    async with up(url) as hub:
        for n in range(20):
            await hub.publish("c", f"new {n}")
        for cursor in (early, late):
            async with hub.subscribe("c", since=cursor) as messages:
                assert messages.recovered["c"] is False
                assert await got(messages, 21) == ["!reset", *(f"new {n}" for n in range(20))]
            assert not (await hub.history("c", since=cursor)).recovered


async def test_a_durable_store_that_went_back_is_fenced_by_who_saw_more(
    start_redis: Start, tcp_proxy: StartProxy, tmp_path: Path
) -> None:
    server = start_redis(keep="aof")
    proxy = await tcp_proxy(server.port)
    async with (
        up(server.url("durable=1"), channels=[TYPING]) as other,
        up(server.url("durable=1", port=proxy.port), channels=[TYPING]) as witness,
        witness.subscribe("c", "quiet", "typing") as messages,
    ):
        await other.publish("quiet", "q")
        await witness.publish("typing", "…")
        for n in range(5):
            await other.publish("c", n)
        server.copy_data(tmp_path / "backup")
        for n in range(5, 10):
            await witness.publish("c", n)
        seen = [await anext(messages) for _ in range(12)]
        assert [short(event) for event in seen if event.channel == "c"] == list(range(10))
        cursor = await witness.cursor("c")
        proxy.refuse()
        proxy.cut()
        server.kill()
        server.restore_data(tmp_path / "backup")
        server.start()
        for n in range(8):  # past what the witness saw: its offsets are given a second time
            await other.publish("c", f"new {n}", id=f"new{n}")
        assert (await other.history("c", since=cursor)).recovered  # nobody who could know has spoken yet
        proxy.restore()
        await is_up(witness, 1)
        assert await got(messages, 1) == ["!reset"]
        assert not (await other.history("c", since=cursor)).recovered
        await other.publish("quiet", "goes on")
        assert await got(messages, 1) == ["goes on"]
        await nothing_more(other, "c", messages)


async def test_a_durable_store_that_is_merely_restarted_is_not_fenced(start_redis: Start) -> None:
    server = start_redis(keep="aof")
    async with up(server.url("durable=1")) as hub, hub.subscribe("a", "b", "none", "gone") as messages:
        keep = {"b": Retention(2), "none": Retention(0), "gone": Retention(seconds=0.02)}
        for n in range(6):
            for channel in ("a", "b", "none", "gone"):
                await hub.backend.publish(channel, b"%d" % n, id=f"{channel}{n}", retention=keep.get(channel))
        before = {channel: await hub.cursor(channel) for channel in ("a", "b", "none", "gone")}
        server.restart()
        await is_up(hub, 1)
        assert {channel: await hub.cursor(channel) for channel in before} == before
        assert "reset" not in hub.counters.gaps and messages.channels == ("a", "b", "none", "gone")


async def test_a_witness_who_comes_late_does_not_fence_what_was_published_and_dropped_since(
    start_redis: Start, tcp_proxy: StartProxy
) -> None:
    server = start_redis(keep="aof")
    proxy = await tcp_proxy(server.port)
    url = server.url("durable=1")
    async with (
        up(url, channels=[TYPING]) as other,
        up(server.url("durable=1", port=proxy.port), channels=[TYPING]) as late,
        late.subscribe("typing", "unused") as messages,
    ):
        await other.publish("typing", "…")
        await other.publish("unused", 1)
        assert sorted(await got(messages, 2), key=str) == [1, "…"]
        before = await other.cursor("typing"), await other.cursor("unused")
        starts = 0
        for generation in (1, 2):
            proxy.refuse()
            proxy.cut()
            for _ in range(generation):  # the second time it misses a whole life of the server
                server.restart()
                starts += 1
                await is_up(other, starts)
                await other.publish("typing", "again")  # not kept: nobody can look at the one before it
                await other.publish("typing", "and again")
            proxy.restore()
            await is_up(late, generation)
            assert await got(messages, 1) == ["!lost"]
        epochs = [cursor.partition(":")[0] for cursor in before]
        assert (await other.cursor("typing")).partition(":")[0] == epochs[0]
        assert await other.cursor("unused") == before[1]


async def test_a_worker_that_was_away_during_a_restart_sees_the_gap(
    start_redis: Start, tcp_proxy: StartProxy
) -> None:
    server = start_redis(keep="rdb")
    proxy = await tcp_proxy(server.port)
    async with (
        up(server.url()) as publisher,
        up(server.url(port=proxy.port)) as hub,
        hub.subscribe("c") as messages,
    ):
        await publisher.publish("c", "before")
        assert await got(messages, 1) == ["before"]
        proxy.refuse()
        proxy.cut()
        await is_down(hub)
        server.stop()  # saves
        server.start()
        await publisher.publish("c", "meanwhile")
        proxy.restore()
        assert await got(messages, 2) == ["!reset", "meanwhile"]
        await nothing_more(publisher, "c", messages)


async def test_what_is_published_in_an_outage_arrives_soon_after_it(start_redis: Start) -> None:
    server = start_redis(keep="aof")
    url = server.url("durable=1")
    async with up(url) as publisher, up(url) as hub, hub.subscribe("c") as messages:
        server.kill()
        await is_down(hub)
        with pytest.raises(BackendUnavailable, match=str(server.port)):
            await hub.history("c")
        publish = asyncio.gather(*(publisher.publish("c", n) for n in range(20)))
        await until(lambda: publisher.stats()["retries"] >= 20, "attempts that fail")
        server.start()
        first = await anext(messages)  # within 1 s on a quiet machine: benchmarks/bench_redis.py measures it
        await publish
        assert sorted([short(first), *await got(messages, 19)]) == list(range(20))
        await nothing_more(publisher, "c", messages)


async def test_an_outage_longer_than_the_publish_timeout_rejects(start_redis: Start) -> None:
    server = start_redis()
    async with up(server.url(), publish_timeout=0.3) as hub:
        server.kill()
        await is_down(hub)
        with pytest.raises(PublishRejected, match=r"not reached within 0\.3 s: Redis at 127\.0\.0\.1"):
            await hub.publish("c", "x")
        assert await hub.cursor("c") == ""


# --- data that goes -------------------------------------------------------------------------------------------------


async def test_a_store_that_was_wiped_is_a_gap(start_redis: Start) -> None:
    server = start_redis(keep="aof")
    async with up(server.url("durable=1")) as hub, hub.subscribe("c") as messages:
        await hub.publish("c", "before")
        assert await got(messages, 1) == ["before"]
        cursor = messages.cursor
        server.call("FLUSHALL")
        await hub.publish("c", "after")
        assert await got(messages, 2) == ["!reset", "after"]
        async with hub.subscribe("c", since=cursor) as late:
            assert late.recovered["c"] is False


async def test_a_quiet_channel_that_was_wiped_is_noticed_by_the_check_of_heads(
    start_redis: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samovar.broadcast.channels.CHECK_EVERY", 0.05)
    server = start_redis()
    async with up(server.url()) as hub, hub.subscribe("c") as messages:
        await hub.publish("c", "before")
        assert await got(messages, 1) == ["before"]
        server.call("FLUSHALL")
        assert await got(messages, 1) == ["!reset"]
        await nothing_more(hub, "c", messages)


async def test_a_log_that_was_evicted_is_a_gap(start_redis: Start) -> None:
    server = start_redis()
    async with up(server.url()) as hub:
        before = await hub.cursor("c")
        for n in range(3):
            await hub.publish("c", n)
        assert server.call("DEL", "samovar:{c}:log") == 1
        await hub.publish("c", 3)
        async with hub.subscribe("c", since=before) as messages:
            assert messages.recovered["c"] is False
            assert await got(messages, 2) == ["!expired", 3]


async def test_a_meta_that_was_evicted_takes_the_log_with_it(start_redis: Start) -> None:
    server = start_redis()
    async with up(server.url()) as hub, hub.subscribe("c") as messages:
        for n in range(3):
            await hub.publish("c", n)
        assert await got(messages, 3) == [0, 1, 2]
        assert server.call("DEL", "samovar:{c}:meta") == 1
        await hub.publish("c", "after")
        assert await got(messages, 2) == ["!reset", "after"]
        assert [m.data for m in (await hub.history("c")).messages] == ["after"]


# --- links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "pubsub"])
async def test_killed_connections_heal_without_a_gap(start_redis: Start, kind: str) -> None:
    server = start_redis()
    async with up(server.url()) as publisher, up(server.url()) as hub, hub.subscribe("c") as messages:
        for round in range(5):
            before = hub.health.generation
            server.call("CLIENT", "KILL", "TYPE", kind)
            for n in range(10):
                await publisher.publish("c", f"{round}.{n}")
            await is_up(hub, before)
        assert await got(messages, 50) == [f"{round}.{n}" for round in range(5) for n in range(10)]
        await nothing_more(publisher, "c", messages)


async def test_a_half_open_link_is_found_and_left(start_redis: Start, tcp_proxy: StartProxy) -> None:
    server = start_redis()
    proxy = await tcp_proxy(server.port)
    through = server.url("heartbeat=0.4", port=proxy.port)
    async with up(server.url()) as publisher, up(through) as hub, hub.subscribe("c") as messages:
        await publisher.publish("c", "before")
        assert await got(messages, 1) == ["before"]
        proxy.stall()
        sent = asyncio.gather(*(hub.publish("c", f"mine {n}", id=f"id{n}") for n in range(5)))
        for n in range(3):
            await publisher.publish("c", n)
        await is_down(hub)  # after two heartbeats
        assert "no sign of life" in hub.health.reason or "no answer" in hub.health.reason
        proxy.restore()
        await sent
        arrived = await got(messages, 8)
        assert [data for data in arrived if isinstance(data, int)] == [0, 1, 2]
        assert sorted(data for data in arrived if isinstance(data, str)) == [f"mine {n}" for n in range(5)]
        await nothing_more(publisher, "c", messages)


async def test_a_half_open_link_is_found_while_the_answer_to_a_probe_is_awaited(
    start_redis: Start, tcp_proxy: StartProxy
) -> None:
    server = start_redis()
    proxy = await tcp_proxy(server.port)
    async with up(server.url("heartbeat=0.4&probe=0.2", port=proxy.port)) as hub:
        keeper = hub.backend._keeper  # type: ignore[attr-defined]
        proxy.stall()
        await until(lambda: keeper._probe_sent is not None, "a probe that is under way")
        await is_down(hub)
        proxy.restore()
        await is_up(hub, 1)


async def test_a_server_that_stands_still_is_left_and_found_again(start_redis: Start) -> None:
    server = start_redis()
    async with up(server.url("heartbeat=0.3&connect_timeout=0.5")) as hub, hub.subscribe("c") as messages:
        server.freeze()
        publish = asyncio.gather(*(hub.publish("c", n) for n in range(5)))
        await is_down(hub)
        server.thaw()
        await publish
        assert sorted(await got(messages, 5)) == [0, 1, 2, 3, 4]
        await nothing_more(hub, "c", messages)


async def test_a_subscription_that_went_silent_is_found_by_the_probe(start_redis: Start) -> None:
    server = start_redis()
    backend = open_backend(server.url("heartbeat=0.2&probe=0.1"))
    async with up(server.url()) as publisher, up(backend) as hub, hub.subscribe("c") as messages:  # type: ignore[arg-type]
        session = backend._keeper.session  # type: ignore[attr-defined]
        # As after a failover to a server that knows nothing of our subscriptions: the link itself is healthy.
        session.events.tell("UNSUBSCRIBE")
        await until(lambda: b"sub=0" in server.call("CLIENT", "LIST", "TYPE", "normal"), "the server to obey")
        for n in range(3):
            await publisher.publish("c", n)
        await is_up(hub, hub.health.generation)
        assert await got(messages, 3) == [0, 1, 2]
        await nothing_more(publisher, "c", messages)


async def test_the_probe_brings_back_scripts_that_the_server_forgot(start_redis: Start) -> None:
    server = start_redis()
    async with up(server.url("probe=0.1")) as hub:
        server.call("SCRIPT", "FLUSH")
        await until(lambda: server.call("KEYS", "*{[?]*") != [], "a probe that is published")
        server.call("SCRIPT", "FLUSH")
        await until(lambda: server.info("number_of_cached_scripts") == "5", "the scripts to be loaded again")
        assert hub.health.generation == 1


def passed(proxy: Proxy, count: int) -> bool:
    return proxy.sent > count


async def test_a_link_cut_in_the_middle_of_replies_loses_and_doubles_nothing(
    start_redis: Start, tcp_proxy: StartProxy
) -> None:
    server = start_redis()
    proxy = await tcp_proxy(server.port)
    through = server.url(port=proxy.port)
    async with (
        up(server.url(), channels=[BIG]) as publisher,
        up(through, channels=[BIG]) as hub,
        hub.subscribe("big", max_messages=5000, max_bytes=64 << 20) as messages,
    ):
        proxy.throttle(3_000_000)

        async def cut() -> None:
            for _ in range(4):
                enough = proxy.sent + 200_000
                await until(partial(passed, proxy, enough), "bytes to cut")
                proxy.cut()

        async with asyncio.TaskGroup() as group:
            group.create_task(cut())
            for n in range(150):
                await publisher.publish("big", f"{n} " + "x" * 20_000)
                await hub.publish("mine", n)
        proxy.throttle(None)
        assert [int(data.split()[0]) for data in await got(messages, 150)] == list(range(150))
        await nothing_more(publisher, "big", messages)
        assert [m.data for m in (await hub.history("mine", limit=500)).messages] == list(range(50, 150))


async def test_a_subscriber_cut_by_the_servers_output_limit_heals(
    start_redis: Start, tcp_proxy: StartProxy
) -> None:
    server = start_redis(options={"client-output-buffer-limit": "pubsub 64kb 0 0"})
    proxy = await tcp_proxy(server.port)
    async with (
        up(server.url(), channels=[BIG]) as publisher,
        up(server.url("heartbeat=30&probe=60", port=proxy.port), channels=[BIG]) as hub,
        hub.subscribe("big", max_messages=5000, max_bytes=64 << 20) as messages,
    ):
        proxy.stall()
        sent = 0
        while b"sub=2" in server.call("CLIENT", "LIST", "TYPE", "pubsub"):
            await publisher.publish("big", f"{sent} " + "x" * 60_000)
            sent += 1
            assert sent < 900, "the server never cut the subscriber"
        proxy.restore()
        assert [int(data.split()[0]) for data in await got(messages, sent)] == list(range(sent))
        await nothing_more(publisher, "big", messages)


async def test_leaving_while_the_broker_is_away_ends(start_redis: Start) -> None:
    server = start_redis()
    async with asyncio.timeout(60), up(server.url(), publish_timeout=1000, join_timeout=1000) as hub:
        await hub.enter("c", Member("m"))
        server.kill()
        await is_down(hub)


# --- a server that takes no writes ----------------------------------------------------------------------------------


async def test_a_full_memory_rejects_with_the_setting_and_can_still_be_read(start_redis: Start) -> None:
    server = start_redis()
    async with up(server.url("probe=0.1")) as hub, hub.subscribe("c") as messages:
        await hub.publish("c", "before")
        server.set("maxmemory", 1)
        with pytest.raises(PublishRejected, match="maxmemory"):
            await hub.publish("c", "x")
        with pytest.raises(PublishRejected, match="maxmemory"):
            await hub.publish_many([("c", "y"), ("d", "z")])
        assert hub.health.state is State.DEGRADED and "maxmemory" in hub.health.reason
        assert [m.data for m in (await hub.history("c")).messages] == ["before"]
        cursor = await hub.cursor("c")
        async with hub.subscribe("c", last=1) as late, hub.subscribe("never-used") as other:
            assert await got(late, 1) == ["before"]
            assert other.channels == ("never-used",)
        with pytest.raises(BackendUnavailable, match="maxmemory"):
            await hub.clear("c")
        server.set("maxmemory", 0)
        await until(lambda: hub.health.state is State.UP, "the probe to see that writing works again")
        await hub.publish("c", "after")
        assert await got(messages, 2) == ["before", "after"]
        assert [m.data for m in (await hub.history("c", since=cursor)).messages] == ["after"]


async def test_a_channel_for_which_there_is_no_room_is_no_gap_at_each_look(
    start_redis: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samovar.broadcast.channels.CHECK_EVERY", 0.05)
    server = start_redis()
    async with up(server.url("probe=0.1")) as hub:
        server.set("maxmemory", 1)
        async with hub.subscribe("quiet") as messages:
            backend = hub.backend
            heads = [await backend.heads(["quiet", "other"], create=create) for create in (True, False, True)]
            assert heads[0] == heads[1] == heads[2] and heads[0]["quiet"].epoch != heads[0]["other"].epoch
            for reverse in (False, True):
                assert (await backend.history("quiet", limit=5, reverse=reverse)).head == heads[0]["quiet"]
            asked = int(server.info("total_commands_processed"))
            await until(lambda: int(server.info("total_commands_processed")) > asked + 60, "some looks")
            server.set("maxmemory", 0)
            await until(lambda: hub.health.state is State.UP, "room")
            await hub.publish("quiet", "there")
            assert await got(messages, 2) == ["!reset", "there"]
            assert hub.stats()["gaps"] == {"reset": 1}
            server.call("FLUSHALL")
            server.set("maxmemory", 1)
            assert (await backend.heads(["quiet"]))["quiet"] != heads[0]["quiet"]


async def test_a_disk_that_takes_nothing_rejects_with_the_setting(start_redis: Start, tmp_path: Path) -> None:
    server = start_redis(keep="rdb", options={"dbfilename": "blocked"})
    (tmp_path / "redis" / "blocked").mkdir()
    async with up(server.url()) as hub:
        await hub.publish("c", "before")
        server.call("BGSAVE")
        server.wait_for("rdb_last_bgsave_status", "err")
        with pytest.raises(PublishRejected, match="stop-writes-on-bgsave-error"):
            await hub.publish("c", "x")
        assert state_of(hub) is State.DEGRADED
        assert [m.data for m in (await hub.history("c")).messages] == ["before"]
        async with hub.subscribe("c", last=1) as messages:
            assert await got(messages, 1) == ["before"]
        server.set("stop-writes-on-bgsave-error", "no")
        await hub.publish("c", "after")
        assert state_of(hub) is State.UP


async def test_a_refusal_is_told_once(start_redis: Start, caplog: pytest.LogCaptureFixture) -> None:
    server = start_redis()
    async with up(server.url()) as hub:
        server.set("maxmemory", 1)
        for n in range(5):
            with pytest.raises(PublishError):
                await hub.publish("c", n)
        full = [r for r in caplog.records if "maxmemory" in r.message and r.name == "samovar.redis"]
        assert [r.levelno for r in full] == [logging.WARNING]


# --- another server behind the address ------------------------------------------------------------------------------


async def test_a_failover_behind_one_address_is_a_gap(start_redis: Start, tcp_proxy: StartProxy) -> None:
    primary = start_redis(name="primary", options={"repl-diskless-sync-delay": "0"})
    replica = start_redis(name="replica", options={"replicaof": f"127.0.0.1 {primary.port}"})
    replica.wait_for("master_link_status", "up")
    proxy = await tcp_proxy(primary.port)
    async with up(primary.url(port=proxy.port)) as hub, hub.subscribe("c") as messages:
        await hub.publish("c", "before")
        assert await got(messages, 1) == ["before"]
        replica.call("REPLICAOF", "NO", "ONE")
        proxy.target = ("127.0.0.1", replica.port)
        proxy.cut()
        await hub.publish("c", "after")
        assert await got(messages, 2) == ["!reset", "after"]
        await nothing_more(hub, "c", messages)


async def test_a_process_that_was_a_replica_in_between_does_not_vouch_for_what_it_had_before(
    start_redis: Start,
) -> None:
    """A is primary, then B, then A again, and nothing is started again: what A had beyond B is lost."""
    options = {"repl-diskless-sync-delay": "0"}
    a, b = start_redis(name="a", options=options), start_redis(name="b", options=options)
    b.call("REPLICAOF", "127.0.0.1", a.port)
    b.wait_for("master_link_status", "up")
    async with (
        up(a.url("heartbeat=60&probe=600")) as sleeper,  # does not look by itself
        sleeper.subscribe("c") as asleep,
    ):
        async with up(a.url()) as hub:
            await hub.publish("c", "kept")
            b.wait_for("master_repl_offset", a.info("master_repl_offset"))
            b.call("REPLICAOF", "NO", "ONE")
            for n in range(3):
                await hub.publish("c", f"lost {n}")
            cursor = await hub.cursor("c")
        a.call("REPLICAOF", "127.0.0.1", b.port)
        a.wait_for("master_link_status", "up")
        a.call("REPLICAOF", "NO", "ONE")
        late = await sleeper.publish("c", "given a place that another had")
        assert late.position is not None and str(late.position) < cursor
        async with up(a.url()) as hub:
            for n in range(5):
                await hub.publish("c", f"new {n}")
            before = ["kept", *(f"lost {n}" for n in range(3))]
            assert await got(asleep, 10) == [*before, "!reset", *(f"new {n}" for n in range(5))]
            for one in (hub, sleeper):
                async with one.subscribe("c", since=cursor) as messages:
                    assert messages.recovered["c"] is False
                    assert await got(messages, 6) == ["!reset", *(f"new {n}" for n in range(5))]


async def test_a_new_term_of_the_same_process_is_noticed_within_a_heartbeat(start_redis: Start) -> None:
    server = start_redis()
    async with up(server.url("heartbeat=0.2")) as hub, hub.subscribe("c") as messages:
        await hub.publish("c", "before")
        assert await got(messages, 1) == ["before"]
        server.call("REPLICAOF", "127.0.0.1", 1)
        server.call("REPLICAOF", "NO", "ONE")
        await is_up(hub, 1)
        await hub.publish("c", "after")
        assert await got(messages, 2) == ["!reset", "after"]
        await nothing_more(hub, "c", messages)


async def test_a_durable_store_is_believed_over_a_change_of_its_replication(start_redis: Start) -> None:
    server, replica = start_redis(keep="aof", name="one"), start_redis(name="two")
    server.set("repl-diskless-sync-delay", 0)
    async with up(server.url("durable=1")) as hub, hub.subscribe("c") as messages:
        await hub.publish("c", "before")
        cursor, term = await hub.cursor("c"), server.info("master_replid")
        replica.call("REPLICAOF", "127.0.0.1", server.port)
        replica.wait_for("master_link_status", "up")
        assert server.info("master_replid") != term
        await hub.publish("c", "after")
        assert [m.data for m in (await hub.history("c", since=cursor)).messages] == ["after"]
        assert await got(messages, 2) == ["before", "after"]
        assert hub.health.generation == 1


async def test_a_primary_that_became_a_replica_is_left(start_redis: Start) -> None:
    server, other = start_redis(name="server"), start_redis(name="other")
    async with up(server.url(), publish_timeout=0.5) as hub, up(server.url()) as patient:
        server.call("REPLICAOF", "127.0.0.1", other.port)
        with pytest.raises(PublishError):
            await hub.publish("c", "x")
        await is_down(hub)
        await until(lambda: "is a replica of" in hub.health.reason, "the reason")
        assert f"127.0.0.1:{other.port}: the URL must lead to the primary" in hub.health.reason
        server.call("REPLICAOF", "NO", "ONE")
        await is_up(hub)
        await patient.publish("c", "x")


async def test_two_servers_behind_one_address_are_refused(start_redis: Start) -> None:
    one, two = start_redis(name="one"), start_redis(name="two")
    targets = [("127.0.0.1", two.port), ("127.0.0.1", one.port)]

    class TurningProxy(Proxy):
        """Leads to each of both in turn."""

        @property
        def target(self) -> tuple[str, int]:
            targets.reverse()
            return targets[0]

        @target.setter
        def target(self, value: tuple[str, int]) -> None:
            pass

    async with TurningProxy(one.port) as turning, Hub(one.url(port=turning.port)) as hub:
        await until(lambda: "several servers" in hub.health.reason, "the reason")
        assert hub.health.state is State.DOWN


async def test_an_unreachable_server_is_used_when_it_comes(start_redis: Start) -> None:
    server = start_redis()
    server.kill()
    async with Hub(server.url()) as hub:
        with pytest.raises(BackendUnavailable, match="Connect call failed"):
            await hub.history("c")
        assert await hub.cursor("c") == ""
        assert hub.health.state is State.DOWN
        server.start()
        await is_up(hub)
        async with hub.subscribe("c") as messages:
            await hub.publish("c", "there")
            assert await got(messages, 1) == ["there"]


async def test_a_name_that_does_not_resolve_leaves_the_app_up() -> None:
    async with Hub("redis://nowhere.invalid/?connect_timeout=5") as hub:
        await until(lambda: hub.health.reason not in ("", "not started"), "a reason")
        assert hub.health.state is State.DOWN
        assert hub.health.reason.startswith("nowhere.invalid:6379: ")


async def test_what_is_no_redis_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    asked = 0

    def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    port = free_port()
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    async with server, Hub(f"redis://127.0.0.1:{port}") as hub:
        await until(lambda: asked > 4, "several attempts")
        assert "no Redis" in hub.health.reason
        assert len([r for r in caplog.records if r.name == "samovar.redis"]) == 1
        server.close()


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ("redis_version:6.0.16\r\nredis_mode:standalone\r\nrun_id:0f\r\nrole:master", "6.2 or later"),
        ("redis_version:7.2.4\r\nredis_mode:sentinel\r\nrun_id:0f", "Sentinel"),
        ("redis_version:7.2.4\r\nredis_mode:standalone", "is it a Redis"),
        ("", "is it a Redis"),
        ("redis_version:7.2.4\r\nrun_id:0f\r\nrole:master\r\nloading:1", "loading"),
    ],
    ids=["old", "sentinel", "no run_id", "nothing", "loading"],
)
async def test_a_server_that_cannot_be_used_is_said(info: str, words: str) -> None:
    """From a server of the test's own: none so old, and none that loads for long, can be had here."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = info.encode()
        scripts = b"$40\r\n" + b"0" * 40 + b"\r\n"
        writer.write(b"$%d\r\n%b\r\n" % (len(body), body) + scripts * 5 + b"+OK\r\n")
        await reader.read()
        writer.close()

    port = free_port()
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    async with server, Hub(f"redis://127.0.0.1:{port}") as hub:
        await until(lambda: words in hub.health.reason, f"the reason ({hub.health})")
        assert hub.health.state is State.DOWN
        with pytest.raises(BackendUnavailable, match=words):
            await hub.history("c")
        server.close()
