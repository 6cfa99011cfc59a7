"""What this app is doing: requests and messages a second, and who is connected by which door."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any
from urllib.parse import parse_qs

POLL_COUNTS_FOR = 5.0
"""Seconds for which somebody who polls counts as connected after the last poll."""


class Traffic:
    """An ASGI layer around the app that counts what passes through.

    Args:
        app: the ASGI app inside.
        poll_paths: where long-polls go; who asks there is counted as connected for a while.
    """

    def __init__(self, app: Any, poll_paths: frozenset[str]) -> None:
        self.app = app
        self.poll_paths = poll_paths
        self.requests = 0
        self.open: Counter[str] = Counter()
        self._polled: dict[str, float] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        door = self._door(scope)
        self.requests += scope["type"] == "http"
        if door is None:
            await self.app(scope, receive, send)
            return
        self.open[door] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.open[door] -= 1

    def _door(self, scope: Any) -> str | None:
        if scope["type"] == "websocket":
            return "websocket"
        if scope["type"] != "http":
            return None
        if scope["path"] in self.poll_paths:
            tab = parse_qs(scope["query_string"].decode("latin-1")).get("tab", [""])[0]
            self._polled[tab[:32] or str(scope["client"])] = time.monotonic()
        return "sse" if b"text/event-stream" in dict(scope["headers"]).get(b"accept", b"") else None

    def clients(self) -> dict[str, int]:
        """How many are connected by each door."""
        limit = time.monotonic() - POLL_COUNTS_FOR
        self._polled = {who: at for who, at in self._polled.items() if at > limit}
        return {"websocket": self.open["websocket"], "sse": self.open["sse"], "poll": len(self._polled)}


class Meter:
    """Turns counters that only grow into rates.

    Args:
        now: seconds of a clock that never goes back.
    """

    def __init__(self, now: float) -> None:
        self.at = now
        self.counts: dict[str, float] = {}

    def rates(self, now: float, **counts: float) -> dict[str, float]:
        """How much each of *counts* has grown a second since the last call; 0 the first time."""
        seconds = max(now - self.at, 0.001)
        rates = {
            name: round((count - self.counts.get(name, count)) / seconds, 1) for name, count in counts.items()
        }
        self.at, self.counts = now, counts
        return rates


class Total:
    """Adds up what the workers tell; who has not told for a while is gone."""

    COUNTS_FOR = 2.5
    """Seconds for which a worker's last word counts."""

    def __init__(self) -> None:
        self._parts: dict[str, tuple[float, dict[str, Any]]] = {}

    def take(self, part: dict[str, Any], now: float) -> None:
        """Take the newest part of one worker."""
        self._parts[part["worker"]] = (now, part)

    def sum(self, now: float) -> dict[str, Any]:
        """All workers together: requests and messages a second, and clients by door."""
        self._parts = {
            name: (at, part) for name, (at, part) in self._parts.items() if now - at < self.COUNTS_FOR
        }
        parts = [part for _, part in self._parts.values()]
        clients: Counter[str] = Counter({"websocket": 0, "sse": 0, "poll": 0})
        for part in parts:
            clients.update(part["clients"])
        return {
            "requests": round(sum(part["requests"] for part in parts), 1),
            "messages": round(sum(part["messages"] for part in parts), 1),
            "clients": dict(clients),
        }
