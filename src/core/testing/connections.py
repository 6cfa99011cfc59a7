"""The connections of the test client and what they raise, where Quart has them."""

from __future__ import annotations

from .errors import EventStreamError, HTTPDisconnectError, WebsocketDisconnectError, WebsocketResponseError
from .http import TestHTTPConnection
from .sse import TestSSEConnection
from .websocket import TestWebsocketConnection

__all__ = [
    "EventStreamError",
    "HTTPDisconnectError",
    "TestHTTPConnection",
    "TestSSEConnection",
    "TestWebsocketConnection",
    "WebsocketDisconnectError",
    "WebsocketResponseError",
]
