"""Reading the answer to a long-poll."""

from __future__ import annotations

from json import dumps
from typing import Any

from samovar.core.testing import TestClient

from .apps import Recorder, answer, read_body


def answering(status: int, body: Any = None, **headers: str) -> Recorder:
    """An app that gives this answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await answer(send, b"" if body is None else dumps(body).encode(), status, pairs)

    return Recorder(app)


async def test_the_body_is_read() -> None:
    body = {
        "messages": [{"data": 1}],
        "cursor": "e:1",
        "more": True,
        "gaps": [{"gap": {}}],
        "recovered": False,
    }
    got = await TestClient(answering(200, body, content_type="application/json", etag='"e:1"')).poll("/")
    assert (got.messages, got.cursor, got.more) == ([{"data": 1}], "e:1", True)
    assert (got.gaps, got.recovered, got.etag, got.status_code) == ([{"gap": {}}], False, '"e:1"', 200)


async def test_an_empty_answer_keeps_its_cursor() -> None:
    got = await TestClient(answering(204, samovar_cursor="e:2")).poll("/")
    assert (got.status_code, got.messages, got.cursor) == (204, [], "e:2")
    got = await TestClient(answering(304, etag='W/"e:3"')).poll("/")
    assert (got.status_code, got.messages, got.cursor) == (304, [], "e:3")


async def test_another_answer_has_no_messages() -> None:
    got = await TestClient(answering(403, {"messages": ["no"]}, content_type="application/json")).poll("/")
    assert (got.status_code, got.messages, got.cursor) == (403, [], None)


async def test_cursor_etag_and_query_are_sent() -> None:
    app = answering(204)
    await TestClient(app).poll("/p", since="a=e:1,b=e:2", etag='"x"', query_string={"limit": 3})
    scope = app.scopes[0]
    assert scope["query_string"] == b"limit=3&since=a%3De%3A1%2Cb%3De%3A2"
    assert dict(scope["headers"])[b"if-none-match"] == b'"x"'
