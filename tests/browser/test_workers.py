"""The dashboard on three workers behind Nginx, on a real broker that is killed under it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from ..conftest import SESSION_LOOP, NginxStarter, need
from ..faults.brokers import Broker, RabbitMQ, Redis
from ..nginx.conftest import shipped_config
from ..services import REDIS
from ..support.ports import free_port
from ..support.server import AppServer
from ..support.until import until, until_async
from .conftest import DASHBOARD, Opener, View, ask, history

pytestmark = SESSION_LOOP


@pytest_asyncio.fixture(params=["redis", "rabbitmq"], loop_scope="session")
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    """One that keeps what it acknowledged."""
    made: Broker
    if request.param == "redis":
        need(REDIS, request.config)
        made = Redis(tmp_path)
    else:
        made = RabbitMQ(tmp_path, request.getfixturevalue("rabbitmq"))
    await made.up()
    yield made
    made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def workers(broker: Broker, serve: Callable[..., Awaitable[AppServer]]) -> AppServer:
    """The dashboard on three workers, which try a publish again for longer than any broker takes to start."""
    env = {
        "SAMOVAR_BROADCAST_URL": broker.url(),
        "SAMOVAR_BROADCAST_PUBLISH_TIMEOUT": "100",
        "SAMOVAR_SECRET_KEY": "of these tests",
    }
    return await serve(DASHBOARD, arguments=["--workers", "3"], env=env)


async def post(url: str, count: int) -> list[str]:
    answers = [await ask(f"{url}/feed", form={"text": f"post {number}"}) for number in range(count)]
    assert [answer.status for answer in answers] == [201] * count
    return [answer.json()["id"] for answer in answers]


async def whole(view: View, server: AppServer, channel: str) -> None:
    """What the page has handled is the channel's history, message for message."""
    received = await view.received(channel)
    kept = await history(server, channel, await view.since(channel))
    assert received == kept[: len(received)] and len(received) >= 3
    assert len(set(received)) == len(received)


async def test_killing_the_real_broker_under_three_workers_loses_nothing(
    broker: Broker, workers: AppServer, nginx: NginxStarter, open_view: Opener
) -> None:
    port = free_port()
    url = nginx(shipped_config(port, workers.port), port).url
    views = [await open_view(f"{url}{path}") for path in ("/", "/", "/poll")]
    before = await post(url, 5)
    for view in views:
        await view.has_received("feed", before[-1])
        await view.has_points(4)
    broker.kill()
    during = asyncio.gather(*(post(url, 1) for _ in range(5)))
    await until(lambda: workers.output().count("the backend is down") >= 3, "every worker to be without it")
    assert not during.done()
    await broker.up()
    posted = [id for ids in await during for id in ids]
    after = await post(url, 5)
    for view in views:
        for id in (*posted, *after):
            await view.has_received("feed", id)
    await views[0].has_points(12)
    for view in views:
        await whole(view, workers, "feed")
    for view in (views[0], views[2]):
        await whole(view, workers, "machine")


async def test_a_broker_that_comes_after_the_workers_is_waited_for(
    tmp_path: Path, request: pytest.FixtureRequest, serve: Callable[..., Awaitable[AppServer]]
) -> None:
    need(REDIS, request.config)
    broker = Redis(tmp_path)
    try:
        server = await serve(DASHBOARD, env={"SAMOVAR_BROADCAST_URL": broker.url()})
        await until(
            lambda: "the workers do not count together yet" in server.output(), "no broker to be noticed"
        )
        assert "the backend is down" in server.output()
        await broker.up()

        async def counted() -> bool:
            answer = await ask(f"{server.url}/history/traffic")  # 503 until the broker is found
            return answer.status == 200 and bool(answer.json()["messages"])

        await until_async(counted, "the traffic to be counted")
    finally:
        broker.close()


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
async def test_three_workers_measure_together_and_count_every_moment_once(
    workers: AppServer, open_view: Opener
) -> None:
    view = await open_view(f"{workers.url}/")
    await view.has_points(8)
    points = (await ask(f"{workers.url}/history/machine")).json()["messages"]
    moments = [int(point["id"].removeprefix("machine-")) for point in points]
    assert moments == sorted(set(moments)), "one point a moment, whoever measured it"

    async def counted() -> bool:
        seconds = (await ask(f"{workers.url}/history/traffic")).json()["messages"]
        return bool(seconds and seconds[-1]["data"]["clients"] == {"websocket": 1, "sse": 1, "poll": 0})

    await until_async(counted, "the one page to be counted, by whichever worker")
