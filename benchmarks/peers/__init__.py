"""The same small application in each framework: what the HTTP benchmarks drive.

Every module has an ``app``: plain text, JSON, a typed path parameter, JSON sent back, a page of ten items, and two
hundred routes; each as its framework's documentation would have it, with the framework's own JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

BODY = json.dumps(
    {
        "id": 12345,
        "name": "Alice Example",
        "email": "alice@example.com",
        "tags": ["admin", "editor", "user"],
        "active": True,
        "score": 98.6,
        "address": {"street": "1 Main St", "city": "Springfield"},
    }
).encode()

PAGE = """<!doctype html>
<html><head><title>{{ title }}</title></head>
<body><h1>{{ title }}</h1>
<ul>
{% for item in items %}<li><a href="/users/{{ item.id }}">{{ item.name }}</a></li>
{% endfor %}</ul>
<p>Hello {{ user }}!</p>
</body></html>
"""
CONTEXT = {
    "title": "Users",
    "items": [{"id": i, "name": f"user <{i}>"} for i in range(10)],
    "user": "Ann & Bob",
}
MESSAGE = {"message": "Hello, World!", "n": 1, "ok": True}
TEXT = "Hello, World!"
ROUTES = 200


@dataclass(frozen=True)
class Workload:
    """One kind of request."""

    name: str
    path: str
    method: str = "GET"
    body: bytes = b""
    cookie: str = ""


WORKLOADS = (
    Workload("plain", "/plain"),
    Workload("json", "/json"),
    Workload("typed", "/users/42"),
    Workload("post", "/echo", "POST", BODY),
    Workload("page", "/page"),
    Workload("routes", f"/r{ROUTES - 1}/items/42"),
)

ASGI = ("bare", "samovar", "starlette", "fastapi", "litestar", "falcon", "blacksheep", "quart")
"""Frameworks that any ASGI server serves."""
OTHERS = ("sanic", "aiohttp", "flask")
"""Frameworks measured on a server of their own: Sanic's, aiohttp's, Gunicorn."""
