"""The test kit: a client of every door, an app with its lifespan, and what they raise."""

from __future__ import annotations

from ...errors import LifespanError
from .app import TestApp
from .building import (
    make_test_body_with_headers,
    make_test_headers_path_and_query_string,
    make_test_scope,
    no_op_push,
    sentinel,
)
from .cli import CliRunner, SamovarCliRunner
from .client import SamovarClient, TestClient
from .cookies import Cookie, CookieJar
from .errors import EventStreamError, HTTPDisconnectError, WebsocketDisconnectError, WebsocketResponseError
from .http import TestHTTPConnection
from .poll import PollAnswer
from .sse import EventStreamParser, ReceivedEvent, TestSSEConnection
from .websocket import TestWebsocketConnection

__all__ = [
    "CliRunner",
    "Cookie",
    "CookieJar",
    "EventStreamError",
    "EventStreamParser",
    "HTTPDisconnectError",
    "LifespanError",
    "PollAnswer",
    "ReceivedEvent",
    "SamovarCliRunner",
    "SamovarClient",
    "TestApp",
    "TestClient",
    "TestHTTPConnection",
    "TestSSEConnection",
    "TestWebsocketConnection",
    "WebsocketDisconnectError",
    "WebsocketResponseError",
    "make_test_body_with_headers",
    "make_test_headers_path_and_query_string",
    "make_test_scope",
    "no_op_push",
    "sentinel",
]
