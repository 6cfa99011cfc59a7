"""The doors to ASGI servers: HTTP, websockets, lifespan."""

from __future__ import annotations

from .http import HTTPHandler
from .lifespan import LifespanHandler

__all__ = ["HTTPHandler", "LifespanHandler"]
