"""The attempts to keep a session with a broker up: who waits for them, what is logged, how far apart they are."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar, NoReturn

import pytest

from samovar.backends import keeping, rabbitmq, redis
from samovar.backends.keeping import CALM, MAX_TOLD, Lost, SessionKeeper, Unusable
from samovar.broadcast import Health, State
from samovar.errors import BackendUnavailable
from samovar.tasks import Scope

from ..support.until import until

Outcome = Exception | float
"""How a session goes: it cannot be opened, or it is up for so many seconds of the loop's clock and then lost."""


@dataclass(frozen=True, slots=True)
class Secure(redis.Options):
    """Options with TLS, which count how often the files are read."""

    read: ClassVar[list[ssl.SSLContext]] = []

    def context(self) -> ssl.SSLContext:
        self.read.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return self.read[-1]


class Hears:
    """The side of the hub, as far as the health goes."""

    def __init__(self) -> None:
        self.said: list[Health] = []

    def health(self, health: Health) -> None:
        self.said.append(health)


class Keeper(SessionKeeper[redis.Options, str]):
    """Sessions that go as planned; after the last it waits in the next."""

    broker: ClassVar[str] = "Kettle"
    first_unusable: ClassVar[float] = 7.0
    latest_unusable: ClassVar[float] = 9.0

    def __init__(self, *outcomes: Outcome, options: redis.Options | None = None) -> None:
        super().__init__(options or redis.Options(host="h"), logging.getLogger("samovar.kettle"))
        self.outcomes = list(outcomes)
        self.contexts: list[ssl.SSLContext | None] = []
        self.later: Callable[[float], None] = lambda seconds: None
        """Lets so many seconds pass."""

    async def _serve(self, receiver: object) -> NoReturn:
        session = await self._connect()
        if session:
            self._come_up(session)
            self._end_first_attempt()
            self.later(float(session))
        raise Lost("boiled dry")

    async def _open(self, context: ssl.SSLContext | None) -> str:
        self.contexts.append(context)
        if not self.outcomes:
            await asyncio.Event().wait()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)


class Waits:
    """Rows of waits, none of which takes any time; each is known by its longest.

    Attributes:
        begun: the rows that began.
        used: the rows that were waited by.
    """

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.used: list[float] = []

    def delays(self, first: float = 0.05, most: float = 2.0) -> Iterator[float]:
        self.begun.append(most)
        return self._row(most)

    def _row(self, most: float) -> Iterator[float]:
        while True:
            self.used.append(most)
            yield 0.0


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """What the keeper waits by."""
    waits = Waits()
    monkeypatch.setattr(keeping, "delays", waits.delays)
    return waits


@asynccontextmanager
async def kept(keeper: Keeper) -> AsyncIterator[Hears]:
    """*keeper* runs, and has gone through all that was planned."""
    hears = Hears()
    async with Scope("keeper") as scope:
        running = scope.start(keeper.run(hears), name="keeper")  # type: ignore[arg-type]  # it uses health() only
        await until(lambda: not keeper.outcomes and len(hears.said) >= len(keeper.contexts) - 1, "the plan")
        yield hears
        running.cancel()


@pytest.mark.usefixtures("waits")
async def test_a_cause_is_logged_once_and_said_with_each_attempt(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "samovar.kettle")
    away, full = OSError("away"), Lost("full")
    async with kept(Keeper(away, away, full, away, full)) as hears:
        pass
    assert [record.getMessage() for record in caplog.records] == [
        "Kettle at h:6379: away; connecting again until it works",
        "Kettle at h:6379: full; connecting again until it works",
    ]
    assert {health.state for health in hears.said} == {State.DOWN}
    assert [health.reason for health in hears.said] == [
        f"h:6379: {why}" for why in ["away", "away", "full", "away", "full"]
    ]


@pytest.mark.usefixtures("waits")
async def test_a_trouble_with_ever_new_causes_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with kept(Keeper(*(OSError(str(n)) for n in range(MAX_TOLD + 5)))):
        pass
    assert len(caplog.records) == MAX_TOLD


@pytest.mark.usefixtures("waits")
async def test_after_calm_the_same_cause_is_a_new_trouble(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "samovar.kettle")
    keeper = Keeper(CALM - 1, CALM + 1, CALM - 2)
    skipped(keeper, monkeypatch)
    async with kept(keeper) as hears:
        pass
    words = [record.getMessage().removeprefix("Kettle at h:6379: ") for record in caplog.records]
    lost = "boiled dry; connecting again until it works"
    assert words == ["connected to 4.0", lost, "connected to 6.0", lost, "connected to 3.0"]
    assert [health.generation for health in hears.said] == [1, 2, 3]


def skipped(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the keeper's sessions last as long as planned, by the clock that it reads."""
    loop = asyncio.get_running_loop()
    clock, passed = loop.time, [0.0]

    def later(seconds: float) -> None:
        passed[0] += seconds

    monkeypatch.setattr(loop, "time", lambda: clock() + passed[0])
    keeper.later = later


USUAL, UNUSABLE = keeping.LATEST, Keeper.latest_unusable


@pytest.mark.parametrize(
    ("plan", "begun", "used"),
    [
        ([OSError("x"), Unusable("y"), OSError("x")], [], [USUAL, UNUSABLE, USUAL]),
        ([Unusable("y"), 0.1, Unusable("y")], [UNUSABLE], [UNUSABLE, USUAL, UNUSABLE]),
        ([OSError("x"), CALM + 1, OSError("x")], [USUAL, UNUSABLE], [USUAL, USUAL, USUAL]),
    ],
    ids=["never up", "up", "calm"],
)
async def test_waits_get_longer_until_it_was_up_and_where_nobody_has_to_do_anything_until_calm(
    plan: list[Outcome], begun: list[float], used: list[float], waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(*plan)
    skipped(keeper, monkeypatch)
    async with kept(keeper):
        pass
    assert waits.begun == [USUAL, UNUSABLE, *begun]
    assert waits.used == used


@pytest.mark.parametrize("outcome", [OSError("away"), 1.0])
@pytest.mark.usefixtures("waits")
async def test_who_waits_for_the_first_attempt_goes_on_when_it_is_over(outcome: Outcome) -> None:
    keeper = Keeper(outcome, options=redis.Options(host="h", connect_timeout=3600))
    async with Scope("waiting") as scope:
        waiting = scope.start(keeper._first_attempt(), name="waiting")
        await asyncio.sleep(0)
        assert not waiting.done()
        async with kept(keeper):
            await until(waiting.done, "the first attempt to be over")


async def test_where_nobody_runs_it_the_first_attempt_is_not_waited_for_long() -> None:
    keeper = Keeper(options=redis.Options(connect_timeout=0.01))
    await keeper._first_attempt()
    assert not keeper._attempted


@pytest.mark.usefixtures("waits")
async def test_the_files_for_tls_are_read_again_once_they_did_not_do() -> None:
    Secure.read.clear()
    keeper = Keeper(OSError("away"), ssl.SSLError("bad"), OSError("away"), options=Secure(tls=True))
    async with kept(keeper):
        first, second = Secure.read
        assert keeper.contexts[:3] == [first, first, second]


@pytest.mark.parametrize(
    "options", [redis.Options(tls=True), rabbitmq.Options(tls=True)], ids=["redis", "amqp"]
)
def test_a_failure_is_told_in_words(options: redis.Options | rabbitmq.Options) -> None:
    reason = SessionKeeper._reason
    keeper = Keeper()
    keeper.options = options  # type: ignore[assignment]  # of any broker
    scheme = options.form.plain
    assert reason(keeper, TimeoutError()) == "no answer within 2 s"
    assert reason(keeper, ConnectionResetError()) == "ConnectionResetError"
    assert reason(keeper, BackendUnavailable("busy")) == "busy"
    wrong = "[SSL: WRONG_VERSION_NUMBER] wrong version number"
    assert reason(keeper, ssl.SSLError(1, wrong)).endswith(
        f"wrong version number; {scheme}:// is the scheme without TLS"
    )
