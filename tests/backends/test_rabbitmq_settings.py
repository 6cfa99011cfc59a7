"""RabbitMQ: what its URL says, and what is said about a server that cannot be used."""

from __future__ import annotations

import asyncio
import logging
import re
from itertools import count

import pytest

from samovar.backends.keeping import Unusable
from samovar.backends.rabbitmq import Options, RabbitBackend
from samovar.backends.rabbitmq.entry import MAGIC
from samovar.backends.rabbitmq.link import PUBLISH, Link, Lost, connect, publishing
from samovar.backends.rabbitmq.refusal import check_server, refusal
from samovar.broadcast import Hub, State, open_backend
from samovar.errors import ConfigError

from ..support.hubs import got, up
from ..support.rabbitmq import RabbitServer
from ..support.until import until

_corners = count()


@pytest.fixture
def stream() -> str:
    """A stream that nobody has used."""
    return f"settings{next(_corners)}"


class Deaf:
    """Hears nothing."""

    def delivered(self, channel: int, tag: int, offset: int | None, body: bytes | None) -> None: ...

    def returned(self, body: bytes | None) -> None: ...

    def blocked(self, why: str | None) -> None: ...


async def operator(server: RabbitServer) -> Link:
    """A link of the guest's, with a channel."""
    link = await connect(Deaf(), "127.0.0.1", server.port, None, [])
    await link.greet("guest", "guest", "/", name="operator", heartbeat=0)
    await link.open_channel(PUBLISH)
    return link


# --- the URL --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://", Options()),
        ("amqp://host", Options(host="host")),
        ("AMQP://host", Options(host="host")),
        ("amqp://host/", Options(host="host")),
        ("amqp://host/%2F", Options(host="host")),
        ("amqp://host/shop", Options(host="host", vhost="shop")),
        ("amqp://host/a%2Fb", Options(host="host", vhost="a/b")),
        ("amqp://u:p%40%2F@[::1]:99/v", Options(host="::1", port=99, user="u", password="p@/", vhost="v")),
        ("amqps://host", Options(host="host", port=5671, tls=True)),
        ("amqp://h?stream=a.b&size=1G&age=60", Options(host="h", stream="a.b", size=1 << 30, age=60.0)),
        ("amqp://h?replicas=3&heartbeat=0.5&name=x", Options(host="h", replicas=3, heartbeat=0.5, name="x")),
    ],
)
def test_a_url_is_read(url: str, expected: Options) -> None:
    assert Options.from_url(url) == expected


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("amqp://host/a/b", "slashes written %2F"),
        ("amqp://host?size=1M", "size is a number of bytes from 8M"),
        ("amqp://host?size=lots", "size is a number of bytes"),
        ("amqp://host?age=0", "age is a number of seconds above 0"),
        ("amqp://host?replicas=0", "replicas is a number of nodes"),
        ("amqp://host?stream=amq.x", "does not begin with amq."),
        (
            "amqp://host?x=1",
            "the options are stream, size, age, replicas, connect_timeout, heartbeat, probe, name, tls_ca",
        ),
        ("amqp://:x@host", "a user comes with a password: user:password@"),
    ],
)
def test_a_url_that_cannot_work_is_refused_in_words(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        open_backend(url)


def test_the_virtual_host_is_said_where_it_is_not_the_usual_one() -> None:
    assert Options.from_url("amqp://me:secret@host/shop").where == "host:5672/shop"
    assert Options.from_url("amqp://me:secret@host").where == "host:5672"


def test_a_stream_is_declared_with_what_the_url_says() -> None:
    options = Options.from_url("amqp://h?size=16M&age=90.5&replicas=3")
    assert options.arguments(size=options.size, age=options.age) == {
        "x-queue-type": "stream",
        "x-max-length-bytes": 16 << 20,
        "x-max-age": "91s",
        "x-stream-max-segment-size-bytes": 2 << 20,
        "x-initial-cluster-size": 3,
    }


# --- a server that cannot be used ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "properties",
    [
        {"product": "RabbitMQ", "version": "3.9.29", "capabilities": {}},
        {"product": "Other", "version": "4.1.0"},
        {"product": "RabbitMQ", "version": "4.1.0", "capabilities": {"publisher_confirms": True}},
        {},
    ],
)
def test_a_server_of_another_kind_is_refused(properties: dict[str, object]) -> None:
    with pytest.raises(Unusable):
        check_server(properties)


def test_only_what_somebody_has_to_change_is_called_unusable() -> None:
    options = Options()
    passing = [Lost("CONNECTION_FORCED - shutdown", 320), Lost("the server closed the connection")]
    assert all(refusal(lost, options) is lost for lost in passing)
    assert isinstance(refusal(Lost("INTERNAL_ERROR", 541), options), Lost)
    assert isinstance(refusal(Lost("NOT_FOUND - home node 'x' of durable queue is down", 404), options), Lost)


async def reason(url: str) -> str:
    """Why a hub on *url* is down."""
    async with Hub(url) as hub:
        backend = hub.backend
        assert isinstance(backend, RabbitBackend)
        await until(lambda: backend._keeper.why in hub.health.reason, "a reason")
        assert hub.health.state is State.DOWN
        return hub.health.reason


async def test_what_is_wrong_is_said_with_the_setting_that_helps(rabbitmq: RabbitServer, stream: str) -> None:
    rabbitmq.add_user("nobody", "secret")
    rabbitmq.add_user("reader", "secret", configure=".*", read=".*")
    link = await operator(rabbitmq)
    await link.declare(PUBLISH, f"{stream}.classic")
    link.leave("done")
    url = rabbitmq.url
    cases = {
        url(f"stream={stream}", vhost="nonesuch"): "rabbitmqctl add_vhost",
        url(f"stream={stream}", user="guest:secret"): "user and password of the URL",
        url(f"stream={stream}", user="nobody:secret"): "set_permissions",
        url(f"stream={stream}.r", user="reader:secret"): "set_permissions",
        url(f"stream={stream}.classic"): "is no stream: delete it, or name another by the URL's stream=",
        rabbitmq.secure_url(f"stream={stream}"): "CERTIFICATE_VERIFY_FAILED",
        rabbitmq.secure_url(f"stream={stream}", port=rabbitmq.port): "amqp:// is the scheme without TLS",
    }
    reasons = await asyncio.gather(*map(reason, cases))
    for words, said in zip(cases.values(), reasons, strict=True):
        assert words in said and "secret" not in said


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9, b"AMQP\x00\x01\x00\x00", b""])
async def test_what_is_no_rabbitmq_is_said(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        said = await reason(f"amqp://127.0.0.1:{port}/")
    assert "is no RabbitMQ" in said or "closed the connection" in said


async def test_least_rights_and_tls_are_enough(rabbitmq: RabbitServer, stream: str) -> None:
    mine = rf"^{stream}(\..+)?$"
    rabbitmq.add_user("least", "p@ss", configure=mine, write=rf"^({stream}(\..+)?|amq\.default)$", read=mine)
    authority = f"tls_ca={rabbitmq.certificates}/ca.crt"
    async with up(rabbitmq.secure_url(f"stream={stream}&{authority}", user="least:p%40ss")) as hub:
        assert hub.health.state is State.UP
        async with hub.subscribe("c") as messages:
            await hub.publish("c", "x")
            assert await got(messages, 1) == ["x"]


async def test_streams_made_beforehand_need_no_right_to_make_them(
    rabbitmq: RabbitServer, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    link = await operator(rabbitmq)
    for name in (stream, f"{stream}.presence"):
        await link.declare(PUBLISH, name, arguments={"x-queue-type": "stream", "x-max-age": "1h"})
    link.leave("done")
    rabbitmq.add_user("poor", "x", write=r"^amq\.default$", read=rf"^{stream}")
    async with up(rabbitmq.url(f"stream={stream}", user="poor:x")) as hub:
        await hub.publish("c", "x")
    caplog.set_level(logging.INFO)
    async with up(rabbitmq.url(f"stream={stream}")) as hub:
        assert [m.data for m in (await hub.history("c")).messages] == ["x"]
    assert "other bounds" in caplog.text


async def test_foreign_messages_are_skipped_counted_and_logged_once(
    rabbitmq: RabbitServer, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with up(rabbitmq.url(f"stream={stream}")) as hub, hub.subscribe("c") as messages:
        link = await operator(rabbitmq)
        await link.confirm()
        head = publishing(stream)
        for body in (b"x", b"x" * 100, b"x" * (5 << 20)):
            await link.publish(head, body)
        link.leave("done")
        await hub.publish("c", "ours")
        assert await got(messages, 1) == ["ours"]
        assert isinstance(hub.backend, RabbitBackend)
        assert hub.backend.foreign == 3 and caplog.text.count("is none of ours") == 1


async def test_a_stream_that_a_later_version_writes_is_not_read_and_not_skipped(
    rabbitmq: RabbitServer, stream: str
) -> None:
    async with up(rabbitmq.url(f"stream={stream}")) as hub:
        link = await operator(rabbitmq)
        await link.confirm()
        await link.publish(publishing(stream), MAGIC + b"\xff" * 50)
        link.leave("done")
        await until(lambda: hub.health.state is State.DOWN, "the later version")
        assert "upgrade this one" in hub.health.reason
    assert "upgrade this one" in await reason(rabbitmq.url(f"stream={stream}"))
