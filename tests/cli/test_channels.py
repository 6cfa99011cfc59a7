"""``samovar publish``, ``tail`` and ``channels`` against real brokers."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samovar.broadcast import Hub, Member

from ..conftest import need
from ..services import REDIS
from ..support.ports import free_port, release_port
from ..support.process import Process
from ..support.redis import RedisServer
from ..support.until import PATIENCE
from .helpers import QUIET, samovar

PUBLISHED = re.compile(r"(\S+:\d+)  (\S+)\n")


@pytest.fixture(scope="module", params=["local", "redis"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker for all tests of this module; they use channels of their own."""
    if request.param == "redis":
        server = RedisServer(need(REDIS, request.config), tmp_path_factory.mktemp("redis"))
        server.start()
        yield server.url()
        server.close()
        return
    with tempfile.TemporaryDirectory(prefix="smv") as folder:  # a socket's path is short
        path = Path(folder) / "hub.sock"
        hub = Process(
            [sys.executable, "-m", "samovar", "hub", "--path", path], log=Path(folder) / "hub.log", env=QUIET
        )
        hub.wait_until(lambda: "BROADCAST_URL" in hub.output(), what="address of the hub")
        yield f"local://{path}"
        hub.stop()


@pytest.fixture
def channel(request: pytest.FixtureRequest) -> str:
    return re.sub(r"[^A-Za-z0-9]", ".", request.node.name)


def publish(folder: Path, url: str, *arguments: str, stdin: str = "") -> tuple[str, str]:
    """Run the command; returns the position and the id that it printed."""
    done = samovar("publish", *arguments, folder=folder, env={"SAMOVAR_BROADCAST_URL": url}, stdin=stdin)
    assert done.returncode == 0, done.stderr
    found = PUBLISHED.match(done.stdout)
    assert found is not None, done.stdout
    return found[1], found[2]


def tail(folder: Path, url: str, *arguments: str) -> list[str]:
    """Run the command to its end; returns its lines."""
    done = samovar("tail", *arguments, "--url", url, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_what_is_published_is_tailed(url: str, channel: str, tmp_path: Path) -> None:
    position, id = publish(tmp_path, url, channel, "tea is ready")
    publish(tmp_path, url, channel, '{"cups": 2}', "--json")
    first, *messages = [
        json.loads(line) for line in tail(tmp_path, url, channel, "--last", "5", "--count", "2")
    ]
    assert (first["channel"], first["subscribed"], first["recovered"]) == (channel, True, None)
    assert [message["data"] for message in messages] == ["tea is ready", {"cups": 2}]
    assert (messages[0]["cursor"], messages[0]["id"]) == (position, id)
    resumed = tail(tmp_path, url, channel, "--since", position, "--count", "1", "--raw")
    assert resumed == ['{"cups":2}']


def test_data_comes_from_standard_input_and_an_id_makes_it_one_message(
    url: str, channel: str, tmp_path: Path
) -> None:
    position, id = publish(tmp_path, url, channel, "--id", "once", stdin="piped\n")
    assert id == "once"
    again = samovar("publish", channel, "piped", "--id", "once", "--url", url, folder=tmp_path)
    assert again.stdout == f"{position}  once  (known already: nothing was added)\n"
    assert tail(tmp_path, url, channel, "--last", "9", "--count", "1", "--raw") == ["piped", ""]


def test_tail_follows_until_it_is_interrupted_and_tells_gaps(url: str, channel: str, tmp_path: Path) -> None:
    process = Process(
        [sys.executable, "-m", "samovar", "tail", channel, "--since", "foreign:7", "--url", url],
        log=tmp_path / "tail.log",
        env=QUIET,
    )
    process.wait_until(lambda: '"gap"' in process.output(), what="gap")
    publish(tmp_path, url, channel, "live")
    process.wait_until(lambda: "live" in process.output(), what="message")
    process.popen.send_signal(signal.SIGINT)
    assert process.popen.wait(PATIENCE) == 0
    first, gap, message = [json.loads(line) for line in process.output().splitlines() if line]
    assert (first["recovered"], gap["gap"]["reason"], message["data"]) == (False, "reset", "live")


def test_channels_tells_how_they_stand(url: str, channel: str, tmp_path: Path) -> None:
    for text in "abc":
        position, _ = publish(tmp_path, url, channel, text)

    async def stay(look: Callable[[], str]) -> str:
        async with Hub(url) as hub:
            await hub.publish(f"{channel}.first", "waits for the broker")
            for n, user in enumerate(["ann", "ann", None]):
                await hub.enter(channel, Member(f"id{n}", user))
            assert (await hub.occupancy(channel)).connections == 3
            return await asyncio.to_thread(look)

    def look() -> str:
        done = samovar("channels", channel, f"{channel}.unused", "--url", url, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    titles, _, one, other = asyncio.run(stay(look)).splitlines()
    assert titles.split() == ["Channel", "Cursor", "Kept", "Newest", "Here"]
    name, cursor, kept, newest, here = one.split()
    assert (name, cursor, kept, here) == (channel, position, "3", "2")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", newest)
    assert other.split()[2:] == ["0", "-", "0"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["publish", "no spaces", "x"], "the name of a channel"),
        (["publish", "c", "{", "--json"], "this is no JSON"),
        (["publish", "c", "NaN", "--json"], "cannot be published as JSON"),
        (["publish", "c", "x", "--id", "two words"], "id"),
        (["tail", "c", "--since", "zzz"], "a position reads as epoch:offset"),
        (["tail", "c", "c"], "twice"),
    ],
)
def test_what_cannot_be_is_one_line_and_a_failure(
    url: str, arguments: list[str], said: str, tmp_path: Path
) -> None:
    done = samovar(*arguments, "--url", url, folder=tmp_path)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "said"), [("memory://", "name a broker by --url"), ("nope://x", "no backend is registered")]
)
def test_a_broker_that_cannot_be_reached_is_said(url: str, said: str, tmp_path: Path) -> None:
    for command in (["publish", "c", "x"], ["tail", "c"], ["channels", "c"]):
        done = samovar(*command, "--url", url, folder=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_a_broker_that_is_away_is_said(tmp_path: Path) -> None:
    port = free_port()
    try:
        done = samovar("publish", "c", "x", "--url", f"redis://me:secret@127.0.0.1:{port}", folder=tmp_path)
    finally:
        release_port(port)
    assert done.returncode == 1
    assert "the broker was not reached within 5 s" in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_without_an_app_and_without_a_url_it_says_what_to_give(tmp_path: Path) -> None:
    done = samovar("tail", "c", folder=tmp_path)
    assert done.returncode == 2
    assert "app" in done.stderr


def test_a_plain_script_publishes_without_a_loop_of_its_own(url: str, channel: str, tmp_path: Path) -> None:
    with Hub(url) as hub:
        published = [hub.publish_sync(channel, n) for n in range(3)]
    assert [one.duplicate for one in published] == [False] * 3
    assert tail(tmp_path, url, channel, "--last", "9", "--count", "3", "--raw") == ["0", "1", "2"]
