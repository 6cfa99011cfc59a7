"""``local://``: the contract over a real socket, the link, the hub's bounds, its socket, its death."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count, repeat
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from samovar.backends.contract import BackendContract, Worker
from samovar.backends.local import LocalBackend
from samovar.backends.local import hub as hub_module
from samovar.backends.local import worker as worker_module
from samovar.backends.local.hub import LocalHub, private_folder
from samovar.backends.local.wire import MAX_RECORD, VERSION, Op
from samovar.backends.local.worker import SOCKET_VARIABLE, Options
from samovar.broadcast import ChannelRule, Gap, Hub, Member, Message, Subscribed, open_backend
from samovar.broadcast import channels as channels_module
from samovar.broadcast.backend import Health, Retention, State
from samovar.errors import BackendUnavailable, ConfigError, InvalidPayload, PublishRejected, PublishUnknown
from samovar.tasks import Scope
from tests.support.process import Process
from tests.support.until import until

ROOT = Path(__file__).resolve().parents[2]


class TestLocal(BackendContract):
    """The suite; both backends reach one hub through its socket."""

    @pytest.fixture
    async def backend_url(self, tmp_path: Path) -> AsyncIterator[str]:
        async with LocalHub(Options(str(tmp_path / "hub.sock"))) as hub:
            yield hub.url


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalHub]:
    """A hub in this loop, behind its socket."""
    async with LocalHub(Options(str(tmp_path / "hub.sock"), buffer=1_000_000)) as hub:
        yield hub


@pytest.fixture
def fast_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats every 50 ms instead of every second."""
    for module in (hub_module, worker_module):
        monkeypatch.setattr(module, "BEAT", 0.05)


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Worker]:
    """A backend that is up, with what it told."""
    worker = Worker(open_backend(url))
    async with Scope("test") as scope:
        scope.start(worker.backend.run(worker.told))
        await worker.told.until(lambda: is_up(worker), "health up")
        yield worker


def is_up(worker: Worker) -> bool:
    return worker.told.last_health is not None and worker.told.last_health.state is State.UP


def link_of(hub: Hub) -> Any:
    assert isinstance(hub.backend, LocalBackend)
    return hub.backend._link


# --- URLs -----------------------------------------------------------------------------------------------------------


def test_the_url_names_path_and_bounds() -> None:
    assert Options.from_url("local:///run/a%20b.sock?buffer=2000000&channels=5&meta=60") == Options(
        "/run/a b.sock", buffer=2_000_000, channels=5, meta=60
    )
    assert Options("/run/a b.sock").url == "local:///run/a%20b.sock"


def test_the_path_can_come_from_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SOCKET_VARIABLE, "/run/x.sock")
    backend = open_backend("local://")
    assert isinstance(backend, LocalBackend)
    assert backend.options.path == "/run/x.sock"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("local://", "samovar hub"),
        ("local://name", "local:///path/to.sock"),
        ("local://host/path.sock", "local:///path/to.sock"),
        ("local:relative.sock", "local:///path/to.sock"),
        ("local:///x.sock?bufer=3", "'bufer'"),
        ("local:///x.sock?buffer=3&buffer=4", "each once"),
        ("local:///x.sock?buffer=0", "above 0, not '0'"),
        ("local:///x.sock?buffer=5000", "at least 1048576 bytes"),
        ("local:///x.sock?meta=1.5", "not '1.5'"),
        ("local:///" + "x" * 150, "has 151: choose a shorter one"),
    ],
)
def test_what_cannot_work_is_said(url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SOCKET_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=said):
        open_backend(url)


def test_windows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigError, match="needs unix sockets"):
        open_backend("local:///x.sock")


# --- the socket -----------------------------------------------------------------------------------------------------


async def test_the_socket_is_its_users_alone_and_goes_with_the_hub(tmp_path: Path) -> None:
    path = tmp_path / "new" / "hub.sock"
    async with LocalHub(Options(str(path))):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


async def test_without_a_path_it_lies_in_a_private_folder() -> None:
    async with LocalHub(Options()) as hub:
        folder = Path(hub.options.path).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        async with Hub(hub.url) as client:
            await client.publish("c", "x")
    assert not folder.exists()


def test_a_long_temporary_folder_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 80)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    folder = private_folder()
    os.rmdir(folder)
    assert len(folder) < 70


async def test_a_living_hub_keeps_its_socket(local: LocalHub) -> None:
    other = LocalHub(local.options)
    with pytest.raises(ConfigError, match="another process serves"):
        await other.start()
    await other.stop()
    async with Hub(local.url) as client:
        assert (await client.publish("c", "still served")).position is not None


async def test_a_dead_hubs_socket_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "hub.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with LocalHub(Options(str(path))) as hub, Hub(hub.url) as client:
        await client.publish("c", "x")


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_what_is_no_socket_is_left_alone(tmp_path: Path, what: str) -> None:
    path = tmp_path / "precious"
    path.write_text("data") if what == "file" else path.mkdir()
    with pytest.raises(ConfigError, match="exists and is no socket"):
        await LocalHub(Options(str(path))).start()
    assert path.exists()


async def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot listen on .*file/hub\.sock"):
        await LocalHub(Options(str(tmp_path / "file" / "hub.sock"))).start()


async def test_stopping_leaves_a_successors_socket(tmp_path: Path) -> None:
    path = tmp_path / "hub.sock"
    first = LocalHub(Options(str(path)))
    await first.start()
    path.unlink()
    async with LocalHub(Options(str(path))) as second:
        await first.stop()
        async with Hub(second.url) as client:
            await client.publish("c", "x")


# --- large things ---------------------------------------------------------------------------------------------------


async def test_history_larger_than_an_answer_is_read_in_pieces(local: LocalHub) -> None:
    async with running(local.url) as worker:
        keep = Retention(messages=100, bytes=1 << 24)
        sent = [bytes([n]) * 200_000 for n in range(20)]
        for n, envelope in enumerate(sent):
            await worker.backend.publish("c", envelope, id=str(n), retention=keep)
        page = await worker.backend.history("c", limit=500)
        assert ([r.envelope for r in page.records], page.complete) == (sent, True)
        assert page.head == page.records[-1].position
        some = await worker.backend.history("c", since=page.records[1].position, limit=9)
        assert [r.envelope for r in some.records] == sent[2:11]
        back = await worker.backend.history("c", limit=500, reverse=True)
        assert [r.envelope for r in back.records] == sent[::-1]


async def test_history_that_is_trimmed_while_it_is_read_ends_there(local: LocalHub) -> None:
    async with running(local.url) as worker:
        keep = Retention(messages=10, bytes=1 << 24)
        for n in range(10):
            await worker.backend.publish("c", b"x" * 300_000, id=str(n), retention=keep)
        piece = worker.backend._piece  # type: ignore[attr-defined]

        async def trimmed(*arguments: Any) -> Any:
            answer = await piece(*arguments)
            if local.broker.stream("c").head.offset == 10:
                for n in range(10, 18):
                    await worker.backend.publish("c", b"y", id=str(n), retention=keep)
            return answer

        worker.backend._piece = trimmed  # type: ignore[attr-defined]
        page = await worker.backend.history("c", limit=500)
        assert [r.position.offset for r in page.records] == [1, 2, 3]
        assert (page.head.offset, page.complete) == (3, True), "as things stood at its last record"


async def test_many_members_many_channels(local: LocalHub) -> None:
    async with running(local.url) as worker:
        members = [Member(f"m{n:05}", None, {"n": n}) for n in range(2501)]
        assert await worker.backend.touch("c", members, lease=60) == members
        assert await worker.backend.members("c") == members
        assert await worker.backend.leave("c", [member.id for member in members]) == members
        names = [f"channel/{n}" for n in range(12_000)]
        assert set(await worker.backend.heads(names)) == set(names)
        await worker.attach(*names)
        await worker.backend.publish(names[-1], b"last", id="last")
        await worker.told.until(lambda: bool(worker.told.records[names[-1]]), "the record")


async def test_members_that_show_much_travel_in_pieces(local: LocalHub) -> None:
    async with running(local.url) as worker:
        members = [Member(f"m{n:05}", f"u{n}", {"about": "x" * 9_000}) for n in range(1200)]
        assert await worker.backend.touch("c", members, lease=60) == members
        assert await worker.backend.members("c") == members, "11 MB in one answer would be too large a frame"
        assert await worker.backend.leave("c", [member.id for member in members]) == members
        largest = Member("large", "u" * 1000, "x" * (MAX_RECORD - 2))
        assert await worker.backend.touch("c", [largest], lease=60) == [largest]
        with pytest.raises(InvalidPayload, match="the member 'more' shows 4194305 bytes"):
            await worker.backend.touch("c", [Member("more", None, "x" * (MAX_RECORD - 1))], lease=60)
        assert await worker.backend.members("c") == [largest]
        assert local.cuts == 0


async def test_a_burst_of_publishes_arrives_whole(local: LocalHub) -> None:
    async with running(local.url) as worker, running(local.url) as receiver:
        await receiver.attach("c")
        records = [("c", b"%06d" % n * 100, f"id{n}", None) for n in range(5000)]
        accepted = await worker.backend.publish_many(records)
        assert [one.position.offset for one in accepted if one.position] == list(range(1, 5001))
        await receiver.told.until(lambda: len(receiver.told.records["c"]) == 5000, "5000 records")
        assert receiver.told.envelopes("c") == [envelope for _, envelope, _, _ in records]


async def test_what_is_too_large_or_no_json_is_refused_here(local: LocalHub) -> None:
    async with running(local.url) as worker:
        with pytest.raises(PublishRejected, match=f"local:// takes {MAX_RECORD}"):
            await worker.backend.publish("c", b"x" * (MAX_RECORD + 1), id="big")
        with pytest.raises(InvalidPayload, match="JSON data"):
            await worker.backend.touch("c", [Member("m", None, {1, 2})], lease=1)
        await worker.backend.publish("c", b"x" * MAX_RECORD, id="just", retention=Retention(0))
        assert local.cuts == 0


# --- hostile and broken workers -------------------------------------------------------------------------------------


class Raw:
    """A connection to the hub without a backend: says what the test says, reads when the test does."""

    def __init__(self, hub: LocalHub) -> None:
        self.path = hub.options.path

    async def __aenter__(self) -> Raw:
        self.reader, self.writer = await asyncio.open_unix_connection(self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)

    def say(self, *calls: Any) -> None:
        body = msgpack.packb(calls)
        self.writer.write(struct.pack(">I", len(body)) + body)

    def greet(self) -> None:
        self.say([Op.HELLO, "samovar-local", VERSION, 4711])

    async def hear(self) -> list[Any]:
        async with asyncio.timeout(60):
            (length,) = struct.unpack(">I", await self.reader.readexactly(4))
            calls: list[Any] = msgpack.unpackb(await self.reader.readexactly(length))
        return calls

    async def ended(self) -> bytes:
        async with asyncio.timeout(60):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


HELLO = [Op.HELLO, "samovar-local", VERSION, 1]
GARBAGE: dict[str, bytes] = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": bytes(100),
    "huge frame": b"\x7f\xff\xff\xff",
    "no msgpack": frame(b"\xc1" * 50),
    "half an array": frame(b"\xdd\x00\x00\x00\xff"),
    "deep": frame(b"\x91" * 5000),
    "no array": frame(msgpack.packb({"a": 1})),
    "no call": frame(msgpack.packb([1, 2])),
    "empty call": frame(msgpack.packb([[]])),
    "no greeting": frame(msgpack.packb([[Op.PING, 1]])),
    "foreign greeting": frame(msgpack.packb([[Op.HELLO, "other", 1, 1]])),
} | {
    f"call {name}": frame(msgpack.packb([HELLO, call]))
    for name, call in {
        "unknown": [99, 1],
        "unhashable": [[], 1],
        "of the hub": [Op.RECORD, "c", "e", 1, 0, b""],
        "without fields": [Op.PUBLISH],
        "number": [Op.PING, "x"],
    }.items()
}  # fmt: skip
BAD_VALUES: dict[str, list[Any]] = {
    "channel": [Op.PUBLISH, 1, 7, b"", "id", None, None, 1],
    "long channel": [Op.PUBLISH, 1, "x" * 999, b"", "id", None, None, 1],
    "envelope": [Op.PUBLISH, 1, "c", "text", "id", None, None, 1],
    "large envelope": [Op.PUBLISH, 1, "c", b"x" * (MAX_RECORD + 1), "id", None, None, 1],
    "id": [Op.PUBLISH, 1, "c", b"", None, None, None, 1],
    "retention": [Op.PUBLISH, 1, "c", b"", "id", [1, 2], None, 1],
    "negative": [Op.PUBLISH, 1, "c", b"", "id", [-1, 2, 3], None, 1],
    "version": [Op.PUBLISH, 1, "c", b"", "id", None, "v", 1],
    "dedupe": [Op.PUBLISH, 1, "c", b"", "id", None, None, float("nan")],
    "records": [Op.PUBLISH_MANY, 1, [["c", b""]], 1],
    "names": [Op.ATTACH, 1, ["c", 1]],
    "many names": [Op.HEADS, 1, [f"c{n}" for n in range(5001)]],
    "position": [Op.HISTORY, 1, "c", ["e", -1], 10, False],
    "limit": [Op.HISTORY, 1, "c", None, -1, False],
    "members": [Op.TOUCH, 1, "c", [["m", None]], 1],
    "info": [Op.TOUCH, 1, "c", [["m", None, {}]], 1],
    "lease": [Op.TOUCH, 1, "c", [], -1],
    "ids": [Op.LEAVE, 1, "c", [1]],
    "long id": [Op.LEAVE, 1, "c", ["x" * 300]],
    "long member": [Op.TOUCH, 1, "c", [["x" * 300, None, "{}"]], 1],
    "long user": [Op.TOUCH, 1, "c", [["m", "x" * 70_000, "{}"]], 1],
    "large version": [Op.PUBLISH, 1, "c", b"", "id", None, 1 << 63, 1],
    "true": [Op.HISTORY, 1, "c", None, True, False],
    "second record": [Op.PUBLISH_MANY, 1, [["c", b"", "1", None], ["c", "text", "2", None]], 1],
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_VALUES)
async def test_a_call_with_a_bad_value_fails_alone(local: LocalHub, name: str) -> None:
    async with Raw(local) as raw:
        raw.greet()
        raw.say([Op.ATTACH, 0, ["c"]], BAD_VALUES[name], [Op.PUBLISH, 2, "c", b"fine", "fine", None, None, 1])
        heard: list[Any] = []
        while not any(call[:2] == [Op.ANSWER, 2] for call in heard):
            heard += await raw.hear()
        failed = [call for call in heard if call[0] == Op.FAILED]
        assert [call[1] for call in failed] == [1]
        assert failed[0][2].startswith("not what a call has: ")
        assert [call[-1] for call in heard if call[0] == Op.RECORD] == [b"fine"], "nothing else was done"
        assert local.cuts == 0


async def test_bad_values_are_refused_before_they_are_sent(local: LocalHub) -> None:
    async with running(local.url) as worker:
        backend = worker.backend
        for version in (1.5, True, 1 << 70, 1 << 63, "1"):
            with pytest.raises(InvalidPayload, match="a version is a whole number"):
                await backend.publish("c", b"", id="x", version=version)  # type: ignore[arg-type]
        for member in (Member("i" * 300), Member(7), Member("\ud800")):  # type: ignore[arg-type]
            with pytest.raises(InvalidPayload, match="the id of a member is text"):
                await backend.touch("c", [member], lease=1)
            with pytest.raises(InvalidPayload, match="the id of a member is text"):
                await backend.leave("c", [member.id])
        for user in ("u" * 9_000_000, 7, "\ud800"):
            with pytest.raises(InvalidPayload, match="the user of a member is text"):
                await backend.touch("c", [Member("m", user)], lease=1)  # type: ignore[arg-type]
        for limit in (True, -1, 1.5):
            with pytest.raises(InvalidPayload, match="the limit of a read"):
                await backend.history("c", limit=limit)  # type: ignore[arg-type]
        assert (await backend.publish("c", b"", id="y", version=(1 << 63) - 1)).position is not None
        assert local.cuts == 0


async def test_what_the_hub_does_not_take_is_said_to_the_caller(
    local: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(local.url) as worker:
        monkeypatch.setattr(hub_module, "MAX_RECORD", 10)
        with pytest.raises(PublishRejected, match="an envelope"):
            await worker.backend.publish("c", b"x" * 11, id="a")
        with pytest.raises(PublishRejected, match="an envelope") as rejected:
            await worker.backend.publish_many([("c", b"", "b", None), ("c", b"x" * 11, "c", None)])
        assert rejected.value.id == "b"
        with pytest.raises(InvalidPayload, match="does not take it: .*a channel"):
            await worker.backend.clear("c" * 300)
        assert (await worker.backend.publish("c", b"", id="b")).position.offset == 1  # type: ignore[union-attr]
        assert local.cuts == 0


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_ends_its_connection_and_no_other(local: LocalHub, name: str) -> None:
    async with running(local.url) as worker, Raw(local) as raw:
        await worker.attach("c")
        raw.writer.write(GARBAGE[name])
        said = await raw.ended()
        assert local.cuts == 1
        assert b"no" in said or b"frame" in said or b"call" in said, said
        await worker.publish("c", b"fine")
        await worker.told.until(lambda: worker.told.envelopes("c") == [b"fine"], "the record")
        assert worker.told.lost == []


async def test_another_version_is_told_what_to_do(local: LocalHub) -> None:
    async with Raw(local) as raw:
        raw.say([Op.HELLO, "samovar-local", VERSION + 1, 1])
        (refused,) = await raw.hear()
        assert refused[0] == Op.REFUSED
        assert "start `samovar run` or `samovar hub` anew" in refused[1]
        assert await raw.ended() == b""


async def test_a_worker_that_does_not_read_is_cut_at_the_limit(local: LocalHub) -> None:
    async with running(local.url) as worker, Raw(local) as stalled:
        stalled.greet()
        stalled.say([Op.ATTACH, 1, ["c"]])
        await until(lambda: "c" in local.broker.receivers, "attached")
        sent = 0
        while local.cuts == 0 and sent < 100_000_000:
            await worker.publish("c", b"x" * 50_000)
            sent += 50_000
        assert local.cuts == 1
        assert sent < 5_000_000, "its buffer, and what two sockets take"
        assert local.broker.receivers == {}
        assert len(local.connections) == 1


async def test_a_worker_that_does_not_take_answers_is_not_read(local: LocalHub) -> None:
    async with running(local.url) as worker, Raw(local) as greedy:
        for n in range(10):
            await worker.backend.publish("c", b"x" * 100_000, id=str(n))
        greedy.greet()
        for number in range(300):
            greedy.say([Op.HISTORY, number, "c", None, 10, False])
        await until(lambda: any(c._full for c in local.connections), "a full connection")
        await worker.publish("other", b"x")
        waiting = max(c._outgoing.size for c in local.connections)
        assert waiting < 3_000_000, "300 answers are 300 MB"
        answers: list[Any] = []
        while len(answers) < 301:
            answers += await greedy.hear()
        assert [answer[1] for answer in answers[1:]] == list(range(300))
        assert local.cuts == 0


async def test_one_that_says_nothing_is_cut(local: LocalHub, fast_beat: None) -> None:
    local._look()
    async with Raw(local) as silent, Raw(local) as greeted:
        greeted.greet()
        await greeted.hear()
        assert await silent.ended() == b""
        assert await greeted.ended() == b""


async def test_who_is_not_heard_is_cut_before_four_heartbeats_are_over(local: LocalHub) -> None:
    assert local._timer is not None
    local._timer.cancel()  # the looks of this test are the only ones
    looks = hub_module.LOOKS * worker_module.DEAD_AFTER - 1  # in four heartbeats, wherever the first falls
    async with Raw(local) as worker:
        worker.greet()
        await worker.hear()
        (connection,) = local.connections
        for number in range(looks):
            assert not connection._over, number
            if number == 0:
                worker.say([Op.PING, 1])
                await worker.hear()
            connection.look()
        assert await worker.ended() == b"" and local.cuts == 1


async def test_there_is_a_bound_on_workers(local: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MAX_WORKERS", 1)
    async with running(local.url), Raw(local) as second:
        assert (await second.hear())[0][0] == Op.REFUSED


async def test_channels_above_the_limit_are_refused_and_the_others_go_on(tmp_path: Path) -> None:
    options = Options(str(tmp_path / "hub.sock"), channels=3)
    async with (
        LocalHub(options) as local,
        Hub(local.url) as hub,
        Hub(local.url) as other,
        hub.subscribe() as m,
    ):
        await m.add("a")
        await m.add("b")
        await m.add("c")
        async with asyncio.timeout(60):
            with pytest.raises(
                BackendUnavailable, match="'d' is not attached: .* takes 3 channels .*channels="
            ):
                await m.add("d")
        assert m.channels == ("a", "b", "c")
        await other.publish("a", 1)
        await m.remove("b")
        assert (await anext(m)).data == 1  # type: ignore[union-attr]
        assert (local.cuts, hub.health.generation) == (0, 1)
        async with asyncio.timeout(60), hub.subscribe() as more:
            hub._channels.linger = 0.0
            await m.remove("c")
            await until(lambda: sum(map(len, local.broker.receivers.values())) < 3, "room")
            await more.add("d")


async def test_channels_above_the_limit_are_refused_by_a_hub_that_comes_later(tmp_path: Path) -> None:
    options = Options(str(tmp_path / "hub.sock"), channels=2)
    backend = LocalBackend(options)
    worker = Worker(backend)
    async with Scope("test") as scope:
        scope.start(backend.run(worker.told))
        await backend.attach(["a", "b", "c", "d"])
        async with LocalHub(options):
            await worker.told.until(lambda: worker.told.rejected == ["c", "d"], "refusals")
            assert dict(worker.told.confirmed) == {"a": 1, "b": 1}


@pytest.mark.parametrize("room", ["a channel is left", "the limit is raised"])
async def test_a_channel_that_a_later_hub_does_not_take_is_asked_for_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(channels_module, "REFUSED_AGAIN", 3600 if room == "a channel is left" else 0.02)
    options = Options(str(tmp_path / "hub.sock"))
    async with Hub(options.url, linger=0) as hub, Hub(options.url) as other:
        async with LocalHub(options):
            async with asyncio.timeout(60):
                a, b, c = [await hub.subscribe(name).__aenter__() for name in "abc"]
        async with LocalHub(replace(options, channels=2)) as local:
            await until(lambda: bool(hub._channels._refused), "a refusal")
            (refused,) = hub._channels._refused
            lost = {"a": a, "b": b, "c": c}[refused]
            if room == "a channel is left":
                next(one for one in (a, b, c) if one is not lost).close()
            else:
                await until(lambda: sum(map(len, local.broker.receivers.values())) == 2, "the others")
                local.options = options
            await until(lambda: not hub._channels._refused, "an attachment")
            await other.publish(refused, "heard")
            heard = [type(await anext(lost)), await anext(lost)]
    assert heard[0] is Gap and isinstance(heard[1], Message) and heard[1].data == "heard"
    assert sum("not attached" in line for line in caplog.messages) == 1, "said once"


async def test_rosters_of_the_dead_are_forgotten(local: LocalHub) -> None:
    now = 1000.0
    local.broker.clock = lambda: now
    async with running(local.url) as worker:
        await worker.backend.touch("gone", [Member("a")], lease=30)
        await worker.backend.touch("here", [Member("b")], lease=3000)
        now += 80
        local._forget_rosters()
        assert set(local.broker.rosters) == {"gone", "here"}, "a hub that watches may still sweep and tell it"
        now += 20
        local._forget_rosters()
        assert set(local.broker.rosters) == {"here"}


async def test_members_of_a_worker_that_is_gone_stay_for_half_their_lease(local: LocalHub) -> None:
    now = 1000.0
    local.broker.clock = lambda: now
    async with running(local.url) as living:
        async with running(local.url) as dying:
            await dying.backend.touch("room", [Member("a"), Member("moved"), Member("leaving")], lease=30)
            await dying.backend.touch("room", [Member("leaving")], lease=5)
            await living.backend.touch("room", [Member("b"), Member("moved")], lease=30)
        await until(lambda: len(local.connections) == 1, "one worker gone")

        async def here() -> list[str]:
            return [member.id for member in await living.backend.members("room")]

        now += 4.9
        assert await here() == ["a", "b", "leaving", "moved"]
        now += 10
        assert await here() == ["a", "b", "moved"]
        now += 0.2
        assert await here() == ["b", "moved"]
        assert [member.id for member in await living.backend.sweep("room")] == ["a", "leaving"]


async def test_a_worker_that_comes_back_renews_its_members_at_once(tmp_path: Path) -> None:
    options = Options(str(tmp_path / "hub.sock"))
    async with Hub(options.url, lease=2) as hub:
        async with LocalHub(options):
            await hub.enter("room", Member("a"))
        hub._members._stop_timer()  # the next renewal in turn
        async with LocalHub(options) as local:
            await until(lambda: "room" in local.broker.rosters, "a renewal")
            assert await hub.presence("room") == [Member("a")]


# --- losing the link ------------------------------------------------------------------------------------------------


async def test_a_stalled_worker_comes_back_and_heals(
    tmp_path: Path, fast_beat: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        LocalHub(Options(str(tmp_path / "hub.sock"), buffer=600_000)) as local,
        Hub(local.url, channels=[ChannelRule("c", max_bytes=1 << 24)]) as publisher,
        Hub(local.url) as stalled,
        stalled.subscribe("c") as messages,
    ):
        await messages.events()
        link_of(stalled)._transport.pause_reading()
        sent = 0
        while local.cuts == 0:
            await publisher.publish("c", f"{sent} {'x' * 30_000}")
            sent += 1
        assert sent < 100, "history has them all"
        got = [await anext(messages) for _ in range(sent)]
        assert [m.data.split()[0] for m in got if isinstance(m, Message)] == [str(n) for n in range(sent)]
        assert stalled.health.generation > 1
        assert await messages.events(timeout=0) == []


async def test_changes_are_told_in_order(tmp_path: Path) -> None:
    told: list[str] = []

    class Told:
        def attached(self, channels: Any) -> None:
            told.append(f"attached {sorted(channels)}")

        def detached(self, channels: Any, why: str) -> None:
            told.append("detached")

        def refused(self, channels: Any, why: str) -> None:
            told.append("refused")

        def message(self, record: Any) -> None:
            told.append("message")

        def health(self, health: Health) -> None:
            if not told or told[-1] != health.state.value:
                told.append(health.state.value)

    options = Options(str(tmp_path / "hub.sock"))
    backend = LocalBackend(options)
    async with Scope("test") as scope:
        scope.start(backend.run(Told()))
        await backend.attach(["a", "b"])
        await until(lambda: told == ["down"], "health down")
        async with LocalHub(options):
            await until(lambda: "attached ['a', 'b']" in told, "attached")
            await backend.detach(["a"])
        await until(lambda: told[-1] == "down", "health down again")
        async with LocalHub(options):
            await until(lambda: "attached ['b']" in told, "attached again")
    assert told == ["down", "up", "attached ['a', 'b']", "detached", "down", "up", "attached ['b']"]


async def test_without_a_hub_calls_wait_a_moment_and_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "PATIENCE", 0.1)
    backend = LocalBackend(Options(str(tmp_path / "none.sock")))
    worker = Worker(backend)
    async with Scope("test") as scope:
        scope.start(backend.run(worker.told))
        with pytest.raises(BackendUnavailable, match=r"none\.sock.*samovar hub"):
            await backend.heads(["c"])
        async with asyncio.timeout(60):
            await backend.attach(["c"])
            await backend.detach(["c"])
        assert worker.told.last_health is not None
        assert worker.told.last_health.state is State.DOWN
        assert "samovar hub" in worker.told.last_health.reason


async def test_failing_attempts_do_not_keep_calls_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "PATIENCE", 0.2)
    monkeypatch.setattr(worker_module, "delays", lambda **_: repeat(0.02))
    async with Hub(f"local://{tmp_path}/none.sock", publish_timeout=1.0) as hub, asyncio.timeout(60):
        with pytest.raises(BackendUnavailable, match="samovar hub"):
            await hub.presence("c")
        with pytest.raises(BackendUnavailable):
            await hub.clear("c")
        await hub.enter("c", Member("m"))
        with pytest.raises(PublishRejected, match="was not reached"):
            await hub.publish("c", 1)


async def test_a_lost_link_keeps_calls_waiting_until_it_is_back(tmp_path: Path) -> None:
    options = Options(str(tmp_path / "hub.sock"))
    async with LocalHub(options) as first, running(options.url) as worker:
        await first.stop()
        await worker.told.until(lambda: not is_up(worker), "down")
        asked = asyncio.ensure_future(worker.backend.heads(["c"]))
        async with LocalHub(options), asyncio.timeout(60):
            assert list(await asked) == ["c"]


async def test_an_answer_that_never_comes_is_unknown(tmp_path: Path) -> None:
    path = str(tmp_path / "hub.sock")
    calls: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = struct.unpack(">I", await reader.readexactly(4))
                for op, *_ in msgpack.unpackb(await reader.readexactly(length)):
                    calls.append(op)
                    if op == Op.HELLO:
                        writer.write(frame(msgpack.packb([[Op.WELCOME, VERSION]])))
                    else:
                        writer.close()
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_unix_server(answer, path)
    async with server, running(f"local://{path}") as worker:
        with pytest.raises(PublishUnknown) as unknown:
            await worker.backend.publish("c", b"x", id="one")
        assert unknown.value.id == "one"
        await worker.told.until(lambda: is_up(worker), "up again")
        with pytest.raises(PublishUnknown):
            await worker.backend.publish_many([("c", b"x", "two", None)])
        with pytest.raises(BackendUnavailable):
            await worker.backend.heads(["c"])
    assert calls.count(Op.PUBLISH) == 1


async def test_no_burst_overtakes_one_that_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "hub.sock")
    heard: list[list[int]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls: list[int] = []
        heard.append(calls)
        writer.write(frame(msgpack.packb([[Op.WELCOME, VERSION]])))
        try:
            while len(heard) > 1 or not calls:  # the first connection ends unread, after the greeting
                (length,) = struct.unpack(">I", await reader.readexactly(4))
                for op, number, *_ in msgpack.unpackb(await reader.readexactly(length)):
                    calls.append(op)
                    if op == Op.HEADS:
                        writer.write(frame(msgpack.packb([[Op.ANSWER, number, [["e", 1]]]])))
            await waiting.wait()
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    server = await asyncio.start_unix_server(answer, path)
    waiting = asyncio.Event()
    async with server, running(f"local://{path}") as worker:
        backend: Any = worker.backend
        wait_for_room = worker_module.Link.room

        async def room(link: Any) -> None:
            """The publisher comes to its turn only when the next link is up."""
            waiting.set()
            await wait_for_room(link)
            await until(lambda: backend._link not in (None, link), "the next link")

        monkeypatch.setattr(worker_module.Link, "room", room)
        before = asyncio.ensure_future(backend.publish("c", b"x" * MAX_RECORD, id="before"))
        await until(lambda: backend._link.full, "a full link")
        with pytest.raises(PublishUnknown):
            await backend.publish_many([("c", b"x" * 200_000, str(n), None) for n in range(50)])
        with pytest.raises(PublishUnknown):
            await before
        assert list(await backend.heads(["c"])) == ["c"]
    assert heard[1] == [Op.HELLO, Op.HEADS]


async def test_a_hub_that_talks_nonsense_is_left(tmp_path: Path) -> None:
    path = str(tmp_path / "hub.sock")
    sent = iter(
        [b"SSH-2.0-x\r\n" * 9, frame(msgpack.packb([[Op.RECORD, 1]])), frame(msgpack.packb([[77, 1]]))]
    )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(next(sent, b""))
        await reader.read()
        writer.close()

    worker = Worker(LocalBackend(Options(path)))
    reasons: list[str] = []
    worker.told.health = lambda health: reasons.append(health.reason)  # type: ignore[method-assign]
    server = await asyncio.start_unix_server(answer, path)
    async with server, Scope("test") as scope:
        scope.start(worker.backend.run(worker.told))
        await until(lambda: len(reasons) >= 3, "three refusals")
    assert all("cannot read" in reason for reason in reasons[:3])


# --- processes ------------------------------------------------------------------------------------------------------

_numbers = count()
Start = Callable[[str], Process]


@pytest.fixture
def start_hub(tmp_path: Path) -> Iterator[Start]:
    """Starts a hub in a process of its own and waits until it serves."""
    running: list[Process] = []

    def start(url: str) -> Process:
        log = tmp_path / f"hub{next(_numbers)}.log"
        command = [sys.executable, "-m", "tests.backends.local_processes", "hub", url]
        running.append(Process(command, log=log, cwd=ROOT))
        running[-1].wait_until(lambda: "ready" in running[-1].output(), what="hub")
        return running[-1]

    yield start
    for process in running:
        process.kill()


async def test_a_killed_hub_that_comes_back_is_a_gap(tmp_path: Path, start_hub: Start) -> None:
    url = f"local://{tmp_path}/hub.sock"
    first = start_hub(url)
    async with Hub(url) as hub, hub.subscribe("c") as messages:
        (subscribed,) = await messages.events()
        assert isinstance(subscribed, Subscribed)
        await hub.publish("c", "before")
        before = await anext(messages)
        assert isinstance(before, Message)
        first.kill()
        await until(lambda: hub.health.state is State.DOWN, "down")
        start_hub(url)
        assert (await hub.publish("c", "after")).position is not None
        gap, after = await anext(messages), await anext(messages)
        assert isinstance(gap, Gap) and isinstance(after, Message)
        assert (gap.reason, gap.after) == ("reset", before.position)
        assert after.data == "after"
        assert after.position.epoch != before.position.epoch
        async with hub.subscribe("c", since=before.cursor) as resumed:
            (first_word, *_) = await resumed.events()
            assert isinstance(first_word, Subscribed)
            assert first_word.recovered is False
        assert await messages.events(timeout=0) == []


async def test_a_frozen_hub_is_noticed_and_nothing_is_lost(
    tmp_path: Path, start_hub: Start, fast_beat: None
) -> None:
    url = f"local://{tmp_path}/hub.sock"
    process = start_hub(url)
    async with Hub(url) as hub, hub.subscribe("c") as messages:
        await messages.events()
        await hub.publish("c", 1)
        process.signal(signal.SIGSTOP)
        await until(lambda: hub.health.state is State.DOWN, "down")
        assert "no sign of life" in hub.health.reason or "no answer" in hub.health.reason
        process.signal(signal.SIGCONT)
        await hub.publish("c", 2)
        got = [await anext(messages) for _ in range(2)]
        assert [m.data for m in got if isinstance(m, Message)] == [1, 2]
        assert await messages.events(timeout=0) == []


def test_worker_processes_agree_on_one_order(tmp_path: Path, start_hub: Start) -> None:
    url = f"local://{tmp_path}/hub.sock"
    start_hub(url)
    command = [sys.executable, "-m", "tests.backends.local_processes", "worker", url]
    workers = [
        subprocess.Popen([*command, name, "200", "400"], cwd=ROOT, stdin=-1, stdout=-1, text=True)
        for name in "ab"
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        first, second = (worker.communicate(timeout=60)[0] for worker in workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    lines = [line.split() for line in first.splitlines()]
    assert first == second
    assert [int(offset) for offset, _ in lines] == list(range(1, 401))
    assert {data for _, data in lines} == {f"{name}{n}" for name in "ab" for n in range(200)}
