"""What a hub counts, and that the documentation names all of it."""

from __future__ import annotations

import re
from pathlib import Path

from samovar.broadcast import ChannelRule, Gap, Hub

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "counters.md"


def test_every_value_is_documented_and_nothing_else() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert len(set(named)) == len(named)
    assert set(named) == set(Hub().stats())


async def test_catching_up_without_a_gap_is_healing() -> None:
    async with Hub() as hub, hub.subscribe("c", max_messages=2) as slow:
        await slow.events()
        for round in (1, 2):
            for n in range(10):
                await hub.publish("c", n)
            while await slow.events(timeout=0):
                pass
            assert (hub.stats()["healed"], hub.stats()["overflows"]) == (round, {"heal": round})
        assert hub.stats()["gaps"] == {}


async def test_catching_up_with_a_gap_is_none() -> None:
    rules = [ChannelRule("c", history=0)]
    async with Hub(channels=rules) as hub, hub.subscribe("c", max_messages=2) as slow:
        await slow.events()
        for n in range(10):
            await hub.publish("c", n)
        events = []
        while more := await slow.events(timeout=0):
            events += more
        assert any(isinstance(event, Gap) for event in events)
        assert (hub.stats()["healed"], hub.stats()["gaps"]) == (0, {"overflow": 1})
