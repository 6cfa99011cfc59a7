"""Clients inside views, and httpx in front of the app."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from .conftest import Recipe


@pytest.fixture
async def upstream() -> AsyncIterator[BaseTestServer]:
    """Has a price of one tea."""

    async def price(request: web.Request) -> web.Response:
        if request.match_info["tea"] == "hops":
            raise web.HTTPInternalServerError
        return web.json_response({"price": 3.2})

    app = web.Application()
    app.router.add_get("/{tea:assam|hops}", price)
    async with TestServer(app) as server:
        yield server


@pytest.mark.parametrize("client", ["aiohttp", "httpx"])
async def test_a_client_inside_a_view(recipe: Recipe, upstream: BaseTestServer, client: str) -> None:
    app = recipe("clients_app").app
    app.config["PRICES"] = str(upstream.make_url("/")).rstrip("/")
    async with app.test_app() as test_app:
        asking = test_app.test_client()
        assert await (await asking.get(f"/by-{client}/assam")).get_json() == {"price": 3.2}
        assert (await asking.get(f"/by-{client}/coffee")).status_code == 404
        assert (await asking.get(f"/by-{client}/hops")).status_code == 502
        await upstream.close()
        assert (await asking.get(f"/by-{client}/assam")).status_code == 502


async def test_httpx_as_the_apps_client(recipe: Recipe) -> None:
    await recipe("httpx_transport").test_a_tea_by_httpx()


async def test_prometheus_reads_what_the_hub_counts(recipe: Recipe) -> None:
    async with recipe("prometheus_app").app.test_app() as test_app:
        client = test_app.test_client()
        async with client.sse("/prices") as stream:
            await stream.receive()
            await client.post("/prices/3")
            await stream.receive()
            answer = await client.get("/metrics")
    text = await answer.get_data(as_text=True)
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert {
        "samovar_published_total 1.0",
        "samovar_delivered_total 1.0",
        "samovar_subscriptions 1.0",
        "samovar_backend_up 1.0",
        'app_requests_total{endpoint="new_price",status="204"} 1.0',
    } <= set(text.splitlines())
