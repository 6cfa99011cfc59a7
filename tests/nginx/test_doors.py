"""Every door behind Nginx: events and polls even behind a bare ``proxy_pass``, the websocket with what is shipped.

No test measures how soon something comes: behind a proxy that holds back it does not come at all.
"""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ..support.http import get, open_stream, post
from ..support.nginx import Nginx
from ..support.server import AppServer
from ..support.until import until_async


async def publish(app: AppServer, channel: str, data: object) -> None:
    """Publish past Nginx, so that only the way to the client is looked at."""
    assert (await post(f"{app.url}/publish/{channel}", data)).status == 204


async def test_the_first_byte_of_an_event_stream_comes_at_once(front: Nginx, tea: str) -> None:
    async with open_stream(f"{front.url}/events/{tea}") as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        first = await stream.event("subscribed")
        assert first.json()["channel"] == tea


async def test_each_event_arrives_when_it_is_sent(front: Nginx, app: AppServer, tea: str) -> None:
    async with open_stream(f"{front.url}/events/{tea}") as stream:
        await stream.event("subscribed")
        for number in range(5):
            await publish(app, tea, {"cup": number})
            assert (await stream.event("message")).json()["data"] == {"cup": number}


async def test_an_idle_stream_has_a_heartbeat(front: Nginx, tea: str) -> None:
    async with open_stream(f"{front.url}/events/{tea}") as stream:
        await stream.event("subscribed")
        assert all(line.startswith(":") for line in await stream.block())


async def test_a_stream_resumes_from_where_it_was(front: Nginx, app: AppServer, tea: str) -> None:
    async with open_stream(f"{front.url}/events/{tea}") as stream:
        await stream.event("subscribed")
        await publish(app, tea, "first")
        cursor = (await stream.event("message")).id
    assert cursor is not None
    await publish(app, tea, "missed")
    async with open_stream(f"{front.url}/events/{tea}", headers={"Last-Event-ID": cursor}) as stream:
        assert (await stream.event("subscribed")).json()["recovered"] is True
        assert (await stream.event("message")).json()["data"] == "missed"


async def has_ended(app: AppServer, path: str) -> bool:
    """A request for *path* has ended at the app."""
    return path in (await get(f"{app.url}/ended")).json()


async def test_a_client_that_leaves_a_ticking_stream_is_noticed(
    front: Nginx, app: AppServer, tea: str
) -> None:
    ticks = f"/ticks/{tea}"
    async with open_stream(f"{front.url}{ticks}") as stream:
        assert (await stream.event()).data == "tick"
        assert not await has_ended(app, ticks)
        stream.abort()
    await until_async(lambda: has_ended(app, ticks), "the end at the app")


async def test_a_client_that_leaves_an_idle_stream_is_noticed(front: Nginx, app: AppServer, tea: str) -> None:
    events = f"/events/{tea}"
    async with open_stream(f"{front.url}{events}") as stream:
        await stream.event("subscribed")
        assert not await has_ended(app, events)
        stream.abort()
    await until_async(lambda: has_ended(app, events), "the end at the app")


async def test_a_long_poll_waits_and_answers_when_something_comes(
    front: Nginx, app: AppServer, tea: str
) -> None:
    head = (await get(f"{front.url}/poll/{tea}")).json()["cursor"]
    waiting = asyncio.ensure_future(get(f"{front.url}/poll/{tea}?since={head}"))
    try:
        await asyncio.wait([waiting], timeout=0.2)
        assert not waiting.done()
        await publish(app, tea, "hot")
        answer = (await waiting).json()
    finally:
        waiting.cancel()
    assert [message["data"] for message in answer["messages"]] == ["hot"]
    assert answer["cursor"] != head


async def test_a_websocket_behind_a_bare_proxy_pass_is_refused_and_the_app_goes_on(
    bare: Nginx, app: AppServer, tea: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(bare.url.replace("http", "ws") + f"/ws/{tea}")
    assert 400 <= refused.value.response.status_code < 500
    assert (await get(f"{bare.url}/poll/{tea}")).status == 200


@pytest.mark.parametrize("origin", ["same", "none"])
async def test_a_websocket_works_behind_the_shipped_configuration(
    shipped: Nginx, app: AppServer, origin: str, tea: str
) -> None:
    address = shipped.url.replace("http", "ws") + f"/ws/{tea}"
    # The authority of Origin has to equal Host, so this also shows that Nginx passes the port on.
    async with connect(address, origin=shipped.url if origin == "same" else None) as socket:  # type: ignore[arg-type]
        async with asyncio.timeout(60):
            assert json.loads(await socket.recv())["subscribed"] is True
            await publish(app, tea, {"cup": 1})
            assert json.loads(await socket.recv())["data"] == {"cup": 1}
            await socket.send("from a client")
            assert json.loads(await socket.recv())["data"] == "from a client"


async def test_a_foreign_origin_is_refused_behind_the_shipped_configuration(shipped: Nginx, tea: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(shipped.url.replace("http", "ws") + f"/ws/{tea}", origin="https://evil.example")  # type: ignore[arg-type]
    assert refused.value.response.status_code == 403
