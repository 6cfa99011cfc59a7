"""Small hand-written ASGI apps for the tests of the test kit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from json import dumps
from typing import Any


async def read_body(receive: Callable[[], Any]) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def answer(send: Any, body: bytes, status: int = 200, headers: Any = (), prefix: str = "http") -> None:
    start = {"type": f"{prefix}.response.start", "status": status, "headers": list(headers)}
    await send(start)
    await send({"type": f"{prefix}.response.body", "body": body})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what the scope and the body were, as JSON."""
    body = await read_body(receive)
    seen = {
        "method": scope["method"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "root_path": scope["root_path"],
        "scheme": scope["scheme"],
        "headers": {name.decode(): value.decode("latin-1") for name, value in scope["headers"]},
        "body": body.decode("latin-1"),
    }
    await answer(send, dumps(seen).encode(), headers=[(b"content-type", b"application/json")])


class Recorder:
    """An ASGI app made of a handler, which remembers how its calls ended."""

    def __init__(self, handler: Callable[..., Any]) -> None:
        self.handler = handler
        self.scopes: list[Any] = []
        self.ended: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        try:
            await self.handler(scope, receive, send)
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        except Exception as error:
            self.ended.append(repr(error))
            raise
        self.ended.append("returned")


EVENT_STREAM = [(b"content-type", b"text/event-stream; charset=utf-8")]


async def ticker(scope: Any, receive: Any, send: Any) -> None:
    """An event stream that counts, as fast as it is read, until the client goes."""
    await read_body(receive)
    await send({"type": "http.response.start", "status": 200, "headers": EVENT_STREAM})
    number, gone = 0, asyncio.ensure_future(receive())
    while not gone.done():
        number += 1
        chunk = f": beat\nid: e:{number}\ndata: {number}\n\n".encode()
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await asyncio.sleep(0)
