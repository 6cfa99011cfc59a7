"""The contract's suite can fail: backends broken in one way each are caught, each by the case that is about it."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

MUTANTS = '''
from itertools import count
import pytest
from samovar.backends.contract import BackendContract
from samovar.backends.memory import Broker, MemoryBackend
from samovar.broadcast import Page, Position, Record

numbers = count(1)


def suite(mutant):
    class Test(BackendContract):
        @pytest.fixture
        def connect(self):
            broker = Broker()
            return lambda: mutant(broker)

    return Test


class Around:
    """A receiver between the backend and the hub."""

    def __init__(self, receiver, message):
        self.attached, self.detached, self.health = receiver.attached, receiver.detached, receiver.health
        self.message = lambda record: message(receiver, record)


class Filtered(MemoryBackend):
    def bind(self, receiver):
        super().bind(Around(receiver, self.passed))


class Drops(Filtered):
    def passed(self, receiver, record):
        if record.position.offset % 7:
            receiver.message(record)


class Doubles(Filtered):
    def passed(self, receiver, record):
        receiver.message(record)
        if record.position.offset % 7 == 0:
            receiver.message(record)


class Swaps(Filtered):
    held = None

    def passed(self, receiver, record):
        if record.position.offset % 7 == 0:
            self.held = record
            return
        receiver.message(record)
        if self.held:
            receiver.message(self.held)
            self.held = None


class Forgets(MemoryBackend):
    async def publish(self, channel, envelope, *, id, **options):
        return await super().publish(channel, envelope, id=f"{id}{next(numbers)}", **options)


class Pretends(MemoryBackend):
    async def history(self, channel, **options):
        page = await super().history(channel, **options)
        return Page(page.records, page.head, True)


class Includes(MemoryBackend):
    async def history(self, channel, *, since=None, **options):
        if since is not None and since.offset and not options.get("reverse"):
            since = Position(since.epoch, since.offset - 1)
        return await super().history(channel, since=since, **options)


class Keeps(MemoryBackend):
    async def publish(self, channel, envelope, *, retention=None, **options):
        return await super().publish(channel, envelope, **options)


class Clings(MemoryBackend):
    async def detach(self, channels):
        pass


class Early(MemoryBackend):
    async def attach(self, channels):
        self._bound().attached(channels)


class Hushes(MemoryBackend):
    async def clear(self, channel):
        return self.broker.stream(channel).clear(f"e{next(numbers)}")


class Greets(MemoryBackend):
    async def touch(self, channel, members, *, lease):
        await super().touch(channel, members, lease=lease)
        return list(members)


TestDrops, TestDoubles, TestSwaps = suite(Drops), suite(Doubles), suite(Swaps)
TestForgets, TestPretends, TestIncludes, TestKeeps = suite(Forgets), suite(Pretends), suite(Includes), suite(Keeps)
TestClings, TestEarly, TestHushes, TestGreets = suite(Clings), suite(Early), suite(Hushes), suite(Greets)
TestSound = suite(MemoryBackend)
'''

CAUGHT = {
    "TestDrops": "test_records_arrive_in_order_and_once",
    "TestDoubles": "test_records_arrive_in_order_and_once",
    "TestSwaps": "test_records_arrive_in_order_and_once",
    "TestForgets": "test_a_known_id_adds_nothing",
    "TestPretends": "test_a_position_that_is_none_of_the_channel_is_incomplete",
    "TestIncludes": "test_history_reads_from_every_position",
    "TestKeeps": "test_retention_bounds_what_is_kept[messages]",
    "TestClings": "test_nothing_arrives_after_detaching",
    "TestEarly": "test_records_arrive_in_order_and_once",
    "TestHushes": "test_clear_begins_a_new_epoch_and_says_so",
    "TestGreets": "test_a_key_joins_once_and_leaves_once",
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The suite run over every mutant, in a pytest of its own: mutant to the cases that failed."""
    folder: Path = tmp_path_factory.mktemp("mutants")
    (folder / "test_mutants.py").write_text(MUTANTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no"]
    only = " or ".join({case.partition("[")[0] for case in CAUGHT.values()})
    ran = subprocess.run(
        [
            *command,
            "-c",
            "/dev/null",
            "--rootdir",
            str(folder),
            "-k",
            only,
            "--junitxml",
            "out.xml",
            "test_mutants.py",
        ],
        cwd=folder,
        env={"SAMOVAR_CONTRACT_TIME_LIMIT": "0.25", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    found: dict[str, set[str]] = {}
    for case in ET.parse(folder / "out.xml").iter("testcase"):
        failed = found.setdefault(case.get("classname", "").rpartition(".")[2], set())
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(case.get("name", ""))
    return found


@pytest.mark.parametrize(("mutant", "case"), CAUGHT.items())
def test_a_broken_backend_is_caught(failures: dict[str, set[str]], mutant: str, case: str) -> None:
    assert case in failures[mutant]


def test_a_sound_backend_passes(failures: dict[str, set[str]]) -> None:
    assert failures["TestSound"] == set()
