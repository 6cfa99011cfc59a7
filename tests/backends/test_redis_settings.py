"""Redis URLs, passwords, rights, certificates, and servers that are set up wrongly: said in words, and survived."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest

from samovar.backends import keeping
from samovar.backends.redis import DurableRedisBackend, Options, RedisBackend
from samovar.backends.redis.keeper import Keeper
from samovar.broadcast import Hub, Member, Retention, State, open_backend
from samovar.broadcast.retry import delays
from samovar.errors import BackendUnavailable, ConfigError, PublishRejected, PublishUnknown

from ..services import ROOT
from ..support.certificates import make_certificates
from ..support.hubs import got, up
from ..support.ports import free_port, release_port
from ..support.process import NotReady
from ..support.redis import RedisServer
from ..support.until import until

Start = Callable[..., RedisServer]

# --- the URL --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", Options(host="localhost")),
        ("redis://h", Options(host="h")),
        ("valkey://h:7000/3", Options(host="h", port=7000, db=3)),
        ("redis://:p%40ss%23@h", Options(host="h", password="p@ss#")),
        ("redis://ann:p:w@h", Options(host="h", user="ann", password="p:w")),
        ("valkeys://h", Options(host="h", tls=True)),
        ("unix:///run/r.sock", Options(socket="/run/r.sock")),
        (
            "redis+unix://u:p@/run/a%20b.sock?db=2",
            Options(socket="/run/a b.sock", user="u", password="p", db=2),
        ),
        ("redis://h?prefix=shop:eu&durable=1", Options(host="h", prefix="shop:eu", durable=True)),
        (
            "rediss://h?meta=60&name=w1&db=4&probe=5",
            Options(host="h", tls=True, meta=60, name="w1", db=4, probe=5),
        ),
    ],
)
def test_a_url_says_where_and_how(url: str, expected: Options) -> None:
    assert Options.from_url(url) == expected


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://h?durable=yes", "durable is 0 or 1"),
        ("redis://h?prefix=", "prefix"),
        ("redis://h?prefix=a{b}", "prefix"),
        ("redis://h?prefix=" + "x" * 65, "prefix"),
        ("redis://h/zero", "number of a database"),
        ("redis://h/-1", "number of a database"),
        ("redis://h/1/2", "number of a database"),
        ("redis://h/1?db=1", "each once"),
        ("redis://h?db=x", "db is the number"),
        ("redis://ann@h", "user:password@, or :password@ for the default user"),
        (
            "redis://h?x=1",
            "the options are prefix, durable, db, connect_timeout, heartbeat, probe, meta, name, tls_ca, ",
        ),
        ("unix://run/r.sock", "three slashes"),
        ("unix://", "three slashes"),
    ],
)
def test_a_bad_url_names_what_is_wrong(url: str, named: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)):
        open_backend(url)


def test_the_password_of_a_unix_url_is_not_shown_either() -> None:
    with pytest.raises(ConfigError) as caught:
        open_backend("unix://:s3cret@run/x")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "scheme", ["redis", "valkey", "rediss", "valkeys", "unix", "redis+unix", "valkey+unix"]
)
def test_every_scheme_opens_the_backend(scheme: str) -> None:
    where = "/run/r.sock" if "unix" in scheme else "h"
    assert type(open_backend(f"{scheme}://{where}")) is RedisBackend
    assert type(open_backend(f"{scheme}://{where}?durable=1")) is DurableRedisBackend


# --- passwords and rights -------------------------------------------------------------------------------------------


async def reason(hub: Hub, words: str, *, timeout: float = 10.0) -> str:
    await until(lambda: words in hub.health.reason, f"{words!r} in {hub.health}", timeout=timeout)
    return hub.health.reason


async def test_a_password_that_is_wrong_is_said_and_one_that_is_put_right_is_used(
    start_redis: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_redis(options={"requirepass": "right"})
    async with (
        Hub(server.url(user=":wr0ng")) as hub,
        Hub(server.url()) as none,
        up(server.url(user=":right")),
    ):
        assert "does not accept the user and password" in await reason(hub, "WRONGPASS")
        assert "wants a password" in await reason(none, "NOAUTH")
        assert hub.health.state is State.DOWN
        assert len([r for r in caplog.records if r.name == "samovar.redis" and "WRONGPASS" in r.message]) == 1
        server.set("requirepass", "wr0ng")
        server.options["requirepass"] = "wr0ng"
        await until(lambda: hub.health.state is State.UP, "the rotated password to work")
        await hub.publish("c", "x")
    assert not [r for r in caplog.records if "wr0ng" in r.getMessage() or "right" in r.getMessage()]


async def test_a_password_that_changes_again_and_again_is_waited_for_as_if_it_were_the_first_time(
    start_redis: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float] = []

    def counted(first: float = 0.05, *, most: float) -> Iterator[float]:
        begun.append(most)
        return delays(first, most)

    monkeypatch.setattr(keeping, "delays", counted)
    server = start_redis(options={"requirepass": "right"})
    async with up(server.url(user=":right")) as hub:
        for round in range(2, 4):
            for password, state in (("wrong", State.DOWN), ("right", State.UP)):
                server.set("requirepass", password)
                server.options["requirepass"] = password
                server.call("CLIENT", "KILL", "TYPE", "pubsub")
                if state is State.DOWN:
                    await reason(hub, "WRONGPASS")
                await until(partial(is_in, hub, state), f"it to be {state.value}")
            assert begun.count(Keeper.latest_unusable) == round


def is_in(hub: Hub, state: State) -> bool:
    return hub.health.state is state


def documented_rule() -> list[str]:
    """The ACL rule of the documentation."""
    text = (ROOT / "docs/how-to/redis.md").read_text()
    found = re.search(r"^ACL SETUSER samovar (.*)$", text, re.MULTILINE)
    assert found is not None
    return found[1].split()


async def everything(hub: Hub) -> None:
    """Use the hub in every way it can be used."""
    async with hub.subscribe("c") as messages:
        await hub.publish("c", "x", version=1)
        await hub.backend.publish("other", b"12345", id="1", retention=Retention(100, 60, 5))
        await hub.backend.publish("other", b"12345", id="2")
        await hub.backend.attach(["other"])
        await hub.backend.detach(["other"])
        await hub.publish_many([("c", "y"), ("c", "z")])
        assert await got(messages, 3) == ["x", "y", "z"]
        assert len((await hub.history("c", since=await hub.cursor("c"), reverse=True)).messages) == 2
        await hub.enter("c", Member("one", "ann"))
        assert await hub.presence("c") == [Member("one", "ann")]
        await hub.leave("c", "one", grace=0)
        await hub.enter("c", Member("two"))
        await hub.sweep()
        await hub.backend.sweep("c")
        await hub.clear("c")
        assert await got(messages, 1) == ["!reset"]
    await until(lambda: hub.health.lag is not None, "the probe")


@pytest.mark.parametrize("db", ["", "2"])
async def test_the_documented_rights_suffice(start_redis: Start, db: str) -> None:
    server = start_redis()
    server.call("ACL", "SETUSER", "samovar", *documented_rule())
    url = f"redis://samovar:PASSWORD@127.0.0.1:{server.port}/{db}"
    async with up(url) as hub:
        await everything(hub)
        assert hub.health.state is State.UP, hub.health
        denied = server.call("ACL", "LOG")
        assert denied == []


async def test_the_documented_rights_have_nothing_to_spare(start_redis: Start) -> None:
    server = start_redis()
    server.call("ACL", "SETUSER", "samovar", *documented_rule())
    async with up(f"redis://samovar:PASSWORD@127.0.0.1:{server.port}/1") as hub:
        server.call("CONFIG", "RESETSTAT")
        await everything(hub)
        server.call("CLIENT", "KILL", "USER", "samovar")
        await until(lambda: hub.health.generation > 1, "the next session")
        stats = server.call("INFO", "commandstats").decode()
    used = set(re.findall(r"cmdstat_([a-z|]+):", stats))
    granted = {right[1:] for right in documented_rule() if right.startswith("+")}
    assert granted - used <= {"eval", "ping"}, "granted, but never used"


@pytest.mark.parametrize(
    ("without", "words"),
    [
        (["-subscribe"], "lacks rights"),
        (["-info"], "lacks rights"),
        (["-script|load"], "lacks rights"),
        (["resetchannels"], "lacks rights"),
    ],
    ids=["subscribe", "info", "script", "channels"],
)
async def test_a_user_who_lacks_what_connecting_takes_is_told(
    start_redis: Start, without: list[str], words: str
) -> None:
    server = start_redis()
    server.call("ACL", "SETUSER", "samovar", *documented_rule(), *without)
    async with Hub(server.url(user="samovar:PASSWORD")) as hub:
        assert "ACL rule" in await reason(hub, words)
        assert hub.health.state is State.DOWN


@pytest.mark.parametrize("without", ["-xadd", "-evalsha", "-publish"])
async def test_a_user_who_lacks_what_publishing_takes_is_told(start_redis: Start, without: str) -> None:
    server = start_redis()
    server.call("ACL", "SETUSER", "samovar", *documented_rule(), without)
    async with up(server.url(user="samovar:PASSWORD")) as hub:
        with pytest.raises(PublishRejected, match="lacks rights"):
            await hub.publish("c", "x")
        assert hub.health.state is State.DEGRADED


async def test_many_records_are_in_though_transactions_are_not_allowed(start_redis: Start) -> None:
    server = start_redis()
    server.call("ACL", "SETUSER", "samovar", *documented_rule(), "-multi")
    async with up(server.url(user="samovar:PASSWORD")) as hub:
        published = await hub.publish_many([("c", n) for n in range(3)])
        assert [one.position.offset for one in published if one.position] == [1, 2, 3]
        assert [m.data for m in (await hub.history("c")).messages] == [0, 1, 2]
        server.call("ACL", "SETUSER", "samovar", "-xadd")
        with pytest.raises(PublishRejected, match="lacks rights"):
            await hub.publish_many([("c", 3), ("c", 4)])
        server.set("maxmemory", 1)
        with pytest.raises(PublishRejected, match="maxmemory"):
            await hub.publish_many([("c", 3), ("c", 4)])


async def test_some_of_many_records_are_in_where_transactions_are_not_allowed(start_redis: Start) -> None:
    server = start_redis()
    server.call("ACL", "SETUSER", "samovar", *documented_rule(), "-multi")
    server.call("SET", "samovar:{wrong}:meta", "no hash")
    async with up(server.url(user="samovar:PASSWORD"), publish_timeout=3) as hub:
        with pytest.raises(PublishUnknown, match="1 of 2 records"):
            await hub.publish_many([("c", 0), ("wrong", 1)])
        assert [m.data for m in (await hub.history("c")).messages] == [0]


# --- servers set up wrongly -----------------------------------------------------------------------------------------


async def test_a_cluster_is_refused(start_redis: Start) -> None:
    bus = free_port()  # by default the port plus 10,000, which an outgoing connection may have
    server = start_redis(options={"cluster-enabled": "yes", "cluster-port": str(bus)})
    async with Hub(server.url()) as hub:
        assert "cluster-enabled no" in await reason(hub, "cluster mode")
        assert hub.health.state is State.DOWN
        with pytest.raises(BackendUnavailable, match="cluster mode"):
            await hub.history("c")
    release_port(bus)


async def test_eviction_is_warned_of(start_redis: Start, caplog: pytest.LogCaptureFixture) -> None:
    server = start_redis(options={"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"})
    async with up(server.url()) as hub:
        assert hub.health.state is State.DEGRADED and "maxmemory-policy noeviction" in hub.health.reason
        await hub.publish("c", "x")
        server.call("CLIENT", "KILL", "TYPE", "normal")
        await until(lambda: hub.health.generation > 1, "the next session")
    assert len([r for r in caplog.records if r.name == "samovar.redis" and "noeviction" in r.message]) == 1
    server.set("maxmemory-policy", "noeviction")
    async with up(server.url()) as hub:
        assert hub.health.state is State.UP


async def test_durable_is_not_believed_of_a_server_without_aof(
    start_redis: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_redis(keep="rdb")
    async with up(server.url("durable=1")) as hub, hub.subscribe("c") as messages:
        assert hub.health.state is State.DEGRADED and "appendonly yes" in hub.health.reason
        await hub.publish("c", "x")
        server.stop()
        server.start()
        await hub.publish("c", "y")
        assert await got(messages, 3) == ["x", "!reset", "y"]
    assert any("appendonly" in r.message and r.levelno == logging.WARNING for r in caplog.records)


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority (ca), a certificate of 127.0.0.1 (server) and another authority (other)."""
    return make_certificates(tmp_path_factory.mktemp("tls"))


async def test_tls_checks_the_certificate(start_redis: Start, certificates: Path) -> None:
    server = start_redis()
    server.kill()
    files: Iterable[tuple[str, str]] = (
        ("tls-cert-file", "server.crt"),
        ("tls-key-file", "server.key"),
        ("tls-ca-cert-file", "ca.crt"),
    )
    server.options |= {name: str(certificates / file) for name, file in files}
    server.options |= {"tls-port": str(server.port), "port": "0"}
    try:
        server.start()
    except NotReady:
        if "Failed finding TLS support" in server.log():
            pytest.skip("this server was built without TLS")
        raise
    secure = f"rediss://127.0.0.1:{server.port}/"
    own = f"tls_cert={certificates}/server.crt&tls_key={certificates}/server.key"
    ca = f"tls_ca={certificates}/ca.crt"
    async with (
        up(f"{secure}?{ca}&{own}") as one,
        up(f"{secure}?tls_verify=0&{own}") as two,
        two.subscribe("c") as messages,
    ):
        await one.publish("c", "x" * 60_000)
        assert await got(messages, 1) == ["x" * 60_000]
    async with Hub(f"{secure}?tls_ca={certificates}/other.crt&{own}") as hub:
        assert hub.health.state is State.DOWN
        await reason(hub, "certificate verify failed")
    async with Hub(f"{secure}?{ca}") as hub:
        await until(
            lambda: hub.health.reason not in ("", "not started"), "the refusal of one without a certificate"
        )
        assert hub.health.state is State.DOWN
    async with Hub(f"redis://127.0.0.1:{server.port}/") as hub:
        await until(lambda: hub.health.reason not in ("", "not started"), "the refusal of a plain link")
        assert hub.health.state is State.DOWN
