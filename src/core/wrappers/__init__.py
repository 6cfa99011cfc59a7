"""Requests, responses and websockets, on Werkzeug's sans-I/O classes."""

from __future__ import annotations

from .base import BaseRequestWebsocket
from .request import Body, Request
from .response import DataBody, FileBody, IOBody, IterableBody, Response, ResponseBody
from .websocket import Websocket

__all__ = [
    "BaseRequestWebsocket",
    "Body",
    "DataBody",
    "FileBody",
    "IOBody",
    "IterableBody",
    "Request",
    "Response",
    "ResponseBody",
    "Websocket",
]
