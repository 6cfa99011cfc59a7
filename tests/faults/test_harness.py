"""The parts of the harness that could deceive: journals, tails, measures, what a failure says, and the bad network."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ..support.until import until
from .arena import Tail
from .checker import Checker, Promise
from .figures import measure
from .journal import Answered, Closed, Entry, Fault, Felt, Got, Head, Journal, Opened, Told, Tried, read
from .plan import Plan
from .relay import Relay
from .timeline import explain
from .worker import Desk

ENTRIES: list[Entry] = [
    Opened(1.0, "w0/steady0", "deep/0", "none", None, None, "e:0"),
    Tried(1.1, "w0", "deep/0", "a"),
    Answered(1.15, "w0", "deep/0", "a", "acked", "e:1"),
    Got(1.2, "w0/steady0", "deep/0", "e:1", "a"),
    Fault(2.0, 2.5, "kill", ""),
    Fault(4.0, 6.0, "half open", "w0"),
    Tried(2.1, "w0", "deep/0", "b"),
    Answered(2.6, "w0", "deep/0", "b", "acked", "e:2"),
    Tried(2.7, "w0", "deep/0", "c"),
    Answered(2.8, "w0", "deep/0", "c", "acked", "e:3"),
    Told(2.9, "w0/steady0", "deep/0", "lost", "e:1", "e:2"),
    Got(3.0, "w0/steady0", "deep/0", "e:3", "c"),
    Felt(5.0, "w0", "down", 1),
    Head(9.0, "deep/0", "e:3"),
]


def written(path: Path, entries: list[Entry]) -> Journal:
    journal = Journal(path)
    journal.write(*entries)
    return journal


def test_a_journal_reads_as_it_was_written(tmp_path: Path) -> None:
    written(tmp_path / "j", ENTRIES).close()
    assert list(read(tmp_path / "j")) == ENTRIES


def test_a_torn_line_is_left_out_and_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "j"
    written(path, ENTRIES[:2]).close()
    with path.open("ab") as file:
        file.write(b'["got", 1.0, "w0/st')
    assert list(read(path)) == ENTRIES[:2]
    written(path, ENTRIES[2:3]).close()
    assert list(read(path)) == ENTRIES[:3]


def test_a_tail_knows_what_was_acknowledged_and_where_everybody_stands(tmp_path: Path) -> None:
    tail = Tail([tmp_path / "j"])
    tail.read()
    journal = written(tmp_path / "j", ENTRIES)
    tail.read()
    assert tail.acked == 3 and tail.places == {("w0/steady0", "deep/0"): "e:3"}
    journal.write(Closed(9.5, "w0/steady0"))
    tail.read()
    journal.close()
    assert tail.places == {}


def test_a_worker_that_was_killed_goes_on_where_its_journal_ends(tmp_path: Path) -> None:
    journal = written(tmp_path / "j", ENTRIES)
    desk = Desk("w0", Plan(run="r"), journal)
    desk.remember()
    journal.close()
    assert str(desk.places["w0/steady0"]["deep/0"]) == "e:3"
    assert isinstance(list(read(tmp_path / "j"))[-1], Closed)


def test_measures() -> None:
    figures = measure(ENTRIES)
    assert figures.outages == {"kill": pytest.approx(0.5)}
    assert figures.noticed == {"half open": pytest.approx(1.0)}
    assert figures.gaps == {"lost": {"kill": 1}} and figures.other_gaps == 0
    assert figures.publish == [pytest.approx(0.05), pytest.approx(0.1), pytest.approx(0.5)]


def test_a_failure_tells_the_seed_the_fault_and_the_place() -> None:
    report = Checker(Promise()).check(ENTRIES)  # no fault may cause a Gap here
    words = explain(report, ENTRIES, seed=42)
    assert words.startswith("seed 42: 1 breaches: 1 × over budget")
    assert "over budget: w0/steady0 in deep/0 at e:1" in words
    assert "FAULT kill all, 0.500 s" in words and "told w0/steady0 deep/0 lost e:1 e:2" in words
    assert "half open" not in words, "what came later led to nothing"


def test_a_right_run_has_nothing_to_explain() -> None:
    assert explain(Checker(Promise(gaps={"kill": 1})).check(ENTRIES), ENTRIES, seed=42) == ""


# --- the relay ------------------------------------------------------------------------------------------------------


@pytest.fixture
def path() -> Iterator[str]:
    """Where a unix socket may lie: a short path."""
    with tempfile.TemporaryDirectory(prefix="smv") as folder:
        yield f"{folder}/echo.sock"


@pytest.fixture
async def echo(path: str) -> AsyncIterator[str]:
    """The path of a unix socket that says back what it hears."""
    tasks: list[asyncio.Task[None]] = []

    async def say_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())  # type: ignore[arg-type]
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    server = await asyncio.start_unix_server(say_back, path)
    async with server:
        yield path
    await asyncio.wait(tasks, timeout=2)


async def test_a_relay_of_unix_sockets_stalls_each_direction_by_itself(echo: str) -> None:
    async with Relay(echo, path=f"{echo}.r") as relay:
        reader, writer = await asyncio.open_unix_connection(relay.path)
        writer.write(b"one")
        assert await reader.read(100) == b"one"
        relay.stall_one(down=True)
        writer.write(b"two")
        await until(lambda: relay.received == 6, "it to go up")
        assert relay.sent == 3
        relay.restore()
        assert await reader.read(100) == b"two"
        relay.stall_one(down=False)
        writer.write(b"three")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reader.read(100)
        assert relay.received == 6
        relay.restore()
        assert await reader.read(100) == b"three"
        writer.close()
        await until(lambda: relay.open == 0, "the link to end")


async def test_a_torn_reply_comes_in_part_and_then_the_end(echo: str) -> None:
    async with Relay(echo, path=f"{echo}.r") as relay:
        relay.tear()
        reader, writer = await asyncio.open_unix_connection(relay.path)
        writer.write(b"0123456789")
        part = await reader.read()
        assert 0 < len(part) < 10 and b"0123456789".startswith(part)
        writer.close()
        await until(lambda: relay.open == 0, "the link to end")


async def test_latency_holds_back_both_ways(echo: str) -> None:
    async with Relay(echo, path=f"{echo}.r") as relay:
        relay.delay(0.05, 0.06)
        reader, writer = await asyncio.open_unix_connection(relay.path)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        writer.write(b"x")
        assert await reader.read(10) == b"x"
        assert loop.time() - begun >= 0.1
        writer.close()
        await until(lambda: relay.open == 0, "the link to end")
