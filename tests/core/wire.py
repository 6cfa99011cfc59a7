"""Plays the server's side of one HTTP request, message by message; what the test client hides is seen here."""

from __future__ import annotations

import asyncio
from typing import Any


class Wire:
    """Gives messages to an app when told to, and keeps what the app sends.

    Args:
        app: any ASGI callable.
        method: of the request.
        path: of the request.
        scope: more for the scope.
    """

    def __init__(self, app: Any, method: str = "GET", path: str = "/", **scope: Any) -> None:
        self.app = app
        self.sent: list[Any] = []
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.new = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [(b"host", b"example.com")],
            "scheme": "http",
            "http_version": "1.1",
            "server": ("example.com", 80),
            "client": ("1.2.3.4", 5),
            **scope,
        }

    def feed(self, body: bytes = b"", more: bool = False) -> None:
        """Give the app a piece of the body."""
        self.inbox.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def disconnect(self) -> None:
        """Tell the app that the client has gone."""
        self.inbox.put_nowait({"type": "http.disconnect"})

    async def send(self, message: Any) -> None:
        """What the app sends with; waits while ``open`` is not set."""
        await self.open.wait()
        self.sent.append(message)
        self.new.set()

    async def run(self) -> Wire:
        """Run the app to its end, five seconds at most."""
        async with asyncio.timeout(60):
            await self.app(self.scope, self.inbox.get, self.send)
        return self

    async def until_body(self, body: bytes) -> None:
        """Wait until *body* has been sent."""
        async with asyncio.timeout(60):
            while self.body != body:
                self.new.clear()
                await self.new.wait()

    @property
    def status(self) -> int:
        """The status that was sent."""
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The headers that were sent."""
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        """The body so far."""
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def complete(self) -> bool:
        """The last message of the body was sent."""
        return bool(self.sent) and self.sent[-1].get("more_body", False) is False and len(self.sent) > 1
