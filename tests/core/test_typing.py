"""The protocols are those of the classes that fulfil them; the type checker reads this too."""

from __future__ import annotations

from samovar import Samovar
from samovar.core.testing import SamovarClient, TestApp, TestHTTPConnection, TestWebsocketConnection
from samovar.core.typing import (
    ASGIHTTPProtocol,
    ASGILifespanProtocol,
    ASGIWebsocketProtocol,
    Event,
    TestAppProtocol,
    TestClientProtocol,
    TestHTTPConnectionProtocol,
    TestWebsocketConnectionProtocol,
)


def members(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


def test_the_test_kit_fulfils_its_protocols() -> None:
    app = Samovar(__name__, static_folder=None)
    client: TestClientProtocol = SamovarClient(app)
    test_app: TestAppProtocol = TestApp(app)
    http: type[TestHTTPConnectionProtocol] = TestHTTPConnection
    websocket: type[TestWebsocketConnectionProtocol] = TestWebsocketConnection
    for found, protocol in (
        (client, TestClientProtocol),
        (test_app, TestAppProtocol),
        (http, TestHTTPConnectionProtocol),
        (websocket, TestWebsocketConnectionProtocol),
    ):
        assert [name for name in members(protocol) if not hasattr(found, name)] == []


async def test_the_app_s_parts_fulfil_theirs() -> None:
    app = Samovar(__name__, static_folder=None)
    http: type[ASGIHTTPProtocol] = app.asgi_http_class
    websocket: type[ASGIWebsocketProtocol] = app.asgi_websocket_class
    lifespan: type[ASGILifespanProtocol] = app.asgi_lifespan_class
    event: Event = app.shutdown_event
    assert (http, websocket, lifespan) and not event.is_set()
