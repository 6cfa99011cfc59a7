"""The least there can be: one function, no framework."""

from __future__ import annotations

import json
from typing import Any

import jinja2

from . import CONTEXT, MESSAGE, PAGE, TEXT

template = jinja2.Environment(autoescape=True, enable_async=True).from_string(PAGE)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer by hand."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"]
    kind = b"application/json"
    if path == "/plain":
        kind, body = b"text/plain; charset=utf-8", TEXT.encode()
    elif path == "/json":
        body = json.dumps(MESSAGE).encode()
    elif path.startswith("/users/"):
        body = json.dumps({"id": int(path[7:]), "name": "user"}).encode()
    elif path == "/echo":
        body = json.dumps(json.loads((await receive())["body"])).encode()
    elif path == "/page":
        kind, body = b"text/html; charset=utf-8", (await template.render_async(CONTEXT)).encode()
    else:
        body = json.dumps({"id": int(path.rpartition("/")[2]), "r": 199}).encode()
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
