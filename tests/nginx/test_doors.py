"""Every door behind Nginx: events and polls even behind a bare ``proxy_pass``, the websocket with what is shipped."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ..support.http import get, open_stream, post
from ..support.nginx import Nginx
from ..support.server import AppServer
from ..support.until import until_async
from .app import HEARTBEAT

AT_ONCE = 0.5  # seconds on a busy machine; with a proxy that holds back, nothing comes at all


async def publish(app: AppServer, channel: str, data: object) -> None:
    """Publish past Nginx, so that only the way to the client is looked at."""
    assert (await post(f"{app.url}/publish/{channel}", data)).status == 204


async def test_the_first_byte_of_an_event_stream_comes_at_once(front: Nginx) -> None:
    start = time.monotonic()
    async with open_stream(f"{front.url}/events/tea") as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        first = await stream.event("subscribed")
        assert time.monotonic() - start < AT_ONCE
        assert first.json()["channel"] == "tea"


async def test_each_event_arrives_when_it_is_sent(front: Nginx, app: AppServer) -> None:
    async with open_stream(f"{front.url}/events/tea") as stream:
        await stream.event("subscribed")
        for number in range(5):
            start = time.monotonic()
            await publish(app, "tea", {"cup": number})
            assert (await stream.event("message")).json()["data"] == {"cup": number}
            assert time.monotonic() - start < AT_ONCE


async def test_an_idle_stream_has_a_heartbeat(front: Nginx) -> None:
    async with open_stream(f"{front.url}/events/tea") as stream:
        await stream.event("subscribed")
        start = time.monotonic()
        assert all(line.startswith(":") for line in await stream.block())
        assert time.monotonic() - start < HEARTBEAT + AT_ONCE


async def test_a_stream_resumes_from_where_it_was(front: Nginx, app: AppServer) -> None:
    async with open_stream(f"{front.url}/events/tea") as stream:
        await stream.event("subscribed")
        await publish(app, "tea", "first")
        cursor = (await stream.event("message")).id
    assert cursor is not None
    await publish(app, "tea", "missed")
    async with open_stream(f"{front.url}/events/tea", headers={"Last-Event-ID": cursor}) as stream:
        assert (await stream.event("subscribed")).json()["recovered"] is True
        assert (await stream.event("message")).json()["data"] == "missed"


async def ended(app: AppServer, path: str) -> list[float]:
    """When requests for *path* ended at the app (seconds since the epoch)."""
    return [entry["at"] for entry in (await get(f"{app.url}/ended")).json() if entry["path"] == path]


async def wait_for_end(app: AppServer, path: str) -> float:
    async def has_ended() -> bool:
        return bool(await ended(app, path))

    await until_async(has_ended, f"the end of {path} at the app")
    return (await ended(app, path))[0]


async def test_a_client_that_leaves_a_ticking_stream_is_noticed_within_a_second(
    front: Nginx, app: AppServer
) -> None:
    async with open_stream(f"{front.url}/ticks") as stream:
        assert (await stream.event()).data == "tick"
        assert await ended(app, "/ticks") == []
        stream.abort()
        left = time.time()
    assert await wait_for_end(app, "/ticks") - left < 1.0


async def test_a_client_that_leaves_an_idle_stream_is_noticed_within_a_heartbeat(
    front: Nginx, app: AppServer
) -> None:
    async with open_stream(f"{front.url}/events/tea") as stream:
        await stream.event("subscribed")
        assert await ended(app, "/events/tea") == []
        stream.abort()
        left = time.time()
    assert await wait_for_end(app, "/events/tea") - left < HEARTBEAT + AT_ONCE


async def test_a_long_poll_waits_and_answers_when_something_comes(front: Nginx, app: AppServer) -> None:
    head = (await get(f"{front.url}/poll/tea")).json()["cursor"]
    waiting = asyncio.ensure_future(get(f"{front.url}/poll/tea?since={head}"))
    try:
        await asyncio.wait([waiting], timeout=0.2)
        assert not waiting.done()
        start = time.monotonic()
        await publish(app, "tea", "hot")
        answer = (await waiting).json()
    finally:
        waiting.cancel()
    assert time.monotonic() - start < AT_ONCE
    assert [message["data"] for message in answer["messages"]] == ["hot"]
    assert answer["cursor"] != head


async def test_a_websocket_behind_a_bare_proxy_pass_is_refused_and_the_app_goes_on(
    bare: Nginx, app: AppServer
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(bare.url.replace("http", "ws") + "/ws/tea")
    assert 400 <= refused.value.response.status_code < 500
    assert (await get(f"{bare.url}/poll/tea")).status == 200


@pytest.mark.parametrize("origin", ["same", "none"])
async def test_a_websocket_works_behind_the_shipped_configuration(
    shipped: Nginx, app: AppServer, origin: str
) -> None:
    address = shipped.url.replace("http", "ws") + "/ws/tea"
    # The authority of Origin has to equal Host, so this also shows that Nginx passes the port on.
    async with connect(address, origin=shipped.url if origin == "same" else None) as socket:  # type: ignore[arg-type]
        async with asyncio.timeout(60):
            assert json.loads(await socket.recv())["subscribed"] is True
            await publish(app, "tea", {"cup": 1})
            assert json.loads(await socket.recv())["data"] == {"cup": 1}
            await socket.send("from a client")
            assert json.loads(await socket.recv())["data"] == "from a client"


async def test_a_foreign_origin_is_refused_behind_the_shipped_configuration(shipped: Nginx) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(shipped.url.replace("http", "ws") + "/ws/tea", origin="https://evil.example")  # type: ignore[arg-type]
    assert refused.value.response.status_code == 403
