"""The doors to ASGI servers: HTTP, websockets, lifespan."""

from __future__ import annotations

from .http import HTTPHandler
from .lifespan import LifespanHandler
from .websocket import WebsocketHandler

ASGIHTTPConnection = HTTPHandler  # Quart's names
ASGILifespan = LifespanHandler
ASGIWebsocketConnection = WebsocketHandler

__all__ = [
    "ASGIHTTPConnection",
    "ASGILifespan",
    "ASGIWebsocketConnection",
    "HTTPHandler",
    "LifespanHandler",
    "WebsocketHandler",
]
