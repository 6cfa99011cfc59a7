"""The dashboard's own arithmetic, and what it answers to bad input; no browser needed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from ..services import ROOT


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a module of the dashboard, as its own package."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))

    def load(name: str) -> ModuleType:
        return importlib.import_module(f"dashboard.{name}")

    yield load


def look(machine: Any, at: float, **counts: Any) -> Any:
    values = {"cores": ((1.0, 10.0),), "memory": (5, 16), "network": (0, 0), "disk": (0, 0), **counts}
    return machine.Look(at=at, time=int(at * 1000), **values)


def test_a_point_is_the_difference_of_two_looks(example: Any) -> None:
    machine = example("machine")
    before = look(machine, 1.0, cores=((1.0, 10.0), (2.0, 10.0)), network=(100, 200), disk=(0, 50))
    after = look(machine, 1.5, cores=((1.25, 10.5), (2.5, 10.5)), network=(600, 200), disk=(0, 150))
    assert machine.point(before, after) == {
        "t": 1500,
        "cpu": 75.0,
        "cores": [50, 100],
        "memory": [5, 16],
        "network": [1000, 0],
        "disk": [0, 200],
    }


def test_a_machine_that_does_not_tell_or_starts_anew_gives_no_nonsense(example: Any) -> None:
    machine = example("machine")
    before = look(machine, 1.0, network=(1000, 1000), cores=((5.0, 10.0),))
    after = look(machine, 1.0, network=(0, 0), disk=None, cores=((5.0, 10.0),))
    point = machine.point(before, after)
    assert (point["cpu"], point["network"], point["disk"]) == (0.0, [0, 0], None)


def test_this_machine_can_be_looked_at(example: Any) -> None:
    machine = example("machine")
    point = machine.point(machine.look(), machine.look())
    assert 0 <= point["cpu"] <= 100
    assert 0 < point["memory"][0] <= point["memory"][1]


def test_a_name_belongs_to_its_visitor(example: Any) -> None:
    people = example("people")
    assert people.friendly_name("abc") == people.friendly_name("abc")
    assert len({people.friendly_name(str(n)) for n in range(200)}) > 100
    assert all(len(people.friendly_name(str(n))) <= people.MAX_NAME for n in range(200))
    assert 0 <= people.hue("abc") < 360


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  two   words\n", "two words"),
        ("a\x00b\u202ec\u200bd", "a b c d"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("x" * 50, "x" * 10),
        ("123456789 x", "123456789"),
        ("\r\n\t", ""),
    ],
)
def test_what_is_typed_becomes_one_tidy_line(example: Any, typed: str, kept: str) -> None:
    assert example("people").tidy(typed, 10) == kept


def test_a_meter_turns_counters_into_rates(example: Any) -> None:
    meter = example("traffic").Meter(10.0)
    assert meter.rates(11.0, requests=5) == {"requests": 0.0}
    assert meter.rates(13.0, requests=9) == {"requests": 2.0}


@pytest.fixture
def app(example: Any) -> Any:
    return example("app").app


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"form": {"text": "hello"}}, 201),
        ({"json": {"text": "hello"}}, 201),
        ({"form": {"text": "x" * 280}}, 201),
        ({"form": {"text": "x" * 281}}, 400),
        ({"form": {"text": " \n "}}, 400),
        ({"form": {}}, 400),
        ({"json": ["hello"]}, 400),
        ({"data": b"{oops", "headers": {"Content-Type": "application/json"}}, 400),
        ({"form": {"text": "x" * 20_000}}, 413),
    ],
)
async def test_what_cannot_be_posted_gets_a_clear_answer(app: Any, sent: dict[str, Any], status: int) -> None:
    async with app.test_app() as running:
        client = running.test_client()
        before = len((await app.hub.history("feed", limit=1000)).messages)
        response = await client.post("/feed", **sent)
        assert response.status_code == status
        after = len((await app.hub.history("feed", limit=1000)).messages)
        assert after - before == (1 if status == 201 else 0)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/history/feed", 200),
        ("/history/secrets", 404),
        ("/history/feed?since=nonsense", 400),
        ("/poll/all?since=e:1", 400),
        ("/charts/events?since=,", 400),
        ("/_samovar/client/index.js", 200),
        ("/_samovar/client/__init__.py", 404),
        ("/_samovar/client/../access.py", 404),
    ],
)
async def test_what_cannot_be_asked_gets_a_clear_answer(app: Any, path: str, status: int) -> None:
    async with app.test_app() as running:
        response = await running.test_client().get(path)
        assert response.status_code == status


async def test_a_visitor_keeps_the_name(app: Any) -> None:
    async with app.test_app() as running:
        client = running.test_client()
        await client.get("/")
        posted = await (await client.post("/feed", form={"text": "one"})).get_json()
        renamed = await client.post("/name", form={"name": "  Anna\u202e "})
        assert (await renamed.get_json())["name"] == "Anna"
        again = await (await client.post("/feed", form={"text": "two"})).get_json()
        assert (again["name"], again["hue"]) == ("Anna", posted["hue"])
        assert (await client.post("/name", form={"name": " "})).status_code == 400
