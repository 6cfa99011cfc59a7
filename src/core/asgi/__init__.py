"""The doors to ASGI servers: HTTP, websockets, lifespan; and other apps beside one's own."""

from __future__ import annotations

from .http import HTTPHandler
from .lifespan import LifespanHandler
from .mounts import Mounts
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
    "Mounts",
    "WebsocketHandler",
]
