"""Apps of other frameworks below a path of ours, and ours below a path of theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from samovar.core.testing import TestApp

from .conftest import Recipe


@pytest.fixture
def wsgi(recipe: Recipe) -> Iterator[TestApp]:
    """The recipe for WSGI, whose threads end with the test."""
    app = recipe("mount_wsgi").app
    yield app.test_app()
    for bridge in app.asgi_app.mounts.values():
        bridge.executor.shutdown()


async def test_flask_and_django_below_paths(wsgi: TestApp) -> None:
    async with wsgi:
        client = wsgi.test_client()
        posted = await client.post("/flask/posts/3", data=b"tea")
        assert await posted.get_json() == {"url": "/flask/posts/3", "body": "tea"}
        assert (await client.get("/flask/nothing")).status_code == 404
        shelf = await client.get("/django/shelf/")
        assert await shelf.get_data(as_text=True) == "/django/shelf/ GET"
        assert await (await client.get("/")).get_data() == b"samovar"


async def test_fastapi_and_starlette_below_paths(recipe: Recipe) -> None:
    async with recipe("mount_asgi").app.test_app() as test_app:
        client = test_app.test_client()
        assert await (await client.get("/api/teas/3")).get_json() == {"number": 3}
        assert (await client.get("/api/teas/x")).status_code == 422
        docs = await client.get("/api/docs")
        assert "/api/openapi.json" in await docs.get_data(as_text=True)
        greeted = await client.get("/star/greet")
        assert await greeted.get_data(as_text=True) == "hello from /star/greet"
        async with client.websocket("/star/echo") as socket:
            await socket.send("tea")
            assert await socket.receive() == "tea"
        assert await (await client.get("/")).get_data() == b"samovar"


async def test_below_a_path_of_starlette(recipe: Recipe) -> None:
    module = recipe("in_starlette")
    async with TestApp(module.app) as test_app:
        client = test_app.test_client()
        assert module.live.hub.health.state.value == "up"
        async with client.sse("/live/prices") as stream:
            await stream.receive()
            posted = await client.post("/live/prices/3")
            assert await posted.get_json() == {"see": "/live/prices"}
            assert (await stream.receive()).json()["data"] == 3
        assert await (await client.get("/")).get_data() == b"starlette"
