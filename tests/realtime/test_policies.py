"""Doors whose slow clients miss messages rather than be late."""

from __future__ import annotations

import json
from typing import Any

import pytest

from samovar import Samovar, event_stream, latest, websocket
from samovar.broadcast import Policy


@pytest.fixture
def app() -> Samovar:
    app = Samovar(__name__)
    app.config["TESTING"] = True
    return app


def serve(app: Samovar, policy: Policy) -> None:
    @app.websocket("/ws")
    async def handler() -> None:
        await websocket.subscribe("prices", policy=policy, max_messages=8)
        await websocket.wait_closed()

    @app.get("/events")
    async def events() -> Any:
        return await event_stream("prices", policy=policy, max_messages=8)


def account(frames: list[Any], positions: tuple[str, str]) -> list[Any]:
    """The data that came, after checking that frames and gaps lead from one position to the other without a hole."""
    at, data = int(positions[0].partition(":")[2]), []
    for frame in frames:
        here = int(frame["cursor"].partition(":")[2])
        if "gap" in frame:
            assert frame["gap"]["after"].endswith(f":{at}")
            assert frame["gap"]["count"] == here - at
        else:
            assert here == at + 1
            data.append(frame["data"])
        at = here
    assert at == int(positions[1].partition(":")[2])
    return data


CASES = pytest.mark.parametrize(
    ("policy", "reason"), [("drop_oldest", "overflow"), (latest("sign"), "conflated")], ids=["drop", "latest"]
)


async def publish(app: Samovar, count: int) -> str:
    for n in range(count):
        await app.hub.publish("prices", {"sign": "ab"[n % 2], "n": n})
    return await app.hub.cursor("prices")


@CASES
async def test_a_slow_websocket_is_told_what_went(app: Samovar, policy: Policy, reason: str) -> None:
    serve(app, policy)
    async with app.test_client().websocket("/ws") as ws:
        first = await ws.receive_json()
        head = await publish(app, 60)
        frames = [await ws.receive_json()]
        while frames[-1]["cursor"] != head:
            frames.append(await ws.receive_json())
    data = account(frames, (first["cursor"], head))
    assert [d["n"] for d in data[-2:]] == [58, 59]
    assert len(data) < 60
    assert {f["gap"]["reason"] for f in frames if "gap" in f} == {reason}


@CASES
async def test_a_slow_event_stream_is_told_what_went(app: Samovar, policy: Policy, reason: str) -> None:
    serve(app, policy)
    async with app.test_client().sse("/events") as events:
        first = await events.receive()
        head = await publish(app, 60)
        got = [await events.receive()]
        while got[-1].id != head:
            got.append(await events.receive())
    frames = [json.loads(event.data) for event in got]
    assert [event.id for event in got] == [frame["cursor"] for frame in frames]
    data = account(frames, (first.json()["cursor"], head))
    assert [d["n"] for d in data[-2:]] == [58, 59]
    assert {f["gap"]["reason"] for f in frames if "gap" in f} == {reason}
