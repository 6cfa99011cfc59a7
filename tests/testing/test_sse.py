"""Event streams of the test client against hand-written ASGI apps."""

import asyncio
from typing import Any

import pytest

from samovar.core.testing import EventStreamError, HTTPDisconnectError, TestClient

from .apps import EVENT_STREAM, Recorder, answer, read_body, ticker


async def test_events_are_read_as_they_come_and_leaving_ends_an_endless_stream() -> None:
    app = Recorder(ticker)
    async with TestClient(app).sse("/") as stream:
        assert stream.status_code == 200
        assert [(await stream.receive()).data for _ in range(3)] == ["1", "2", "3"]
        assert stream.last_event_id.startswith("e:")
    assert app.ended == ["returned"]


async def test_the_request_is_the_one_of_an_event_source() -> None:
    app = Recorder(ticker)
    async with TestClient(app).sse("/?since=x", last_event_id="e:ü"):
        pass
    headers = dict(app.scopes[0]["headers"])
    assert headers[b"accept"] == b"text/event-stream"
    assert headers[b"last-event-id"].decode() == "e:ü"


def once(*chunks: bytes, end: bool = True) -> Recorder:
    """A stream of these chunks, which then ends or stays until the client goes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        await send({"type": "http.response.start", "status": 200, "headers": EVENT_STREAM})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if end:
            await send({"type": "http.response.body"})
        else:
            await receive()

    return Recorder(app)


async def test_a_stream_that_ends_is_told_and_ends_the_loop() -> None:
    async with TestClient(once(b"data: 1\n\n", b"data: 2\n\n")).sse("/") as stream:
        assert [event.data async for event in stream] == ["1", "2"]
        assert stream.ended
        with pytest.raises(HTTPDisconnectError):
            await stream.receive()


async def test_json_retry_comments_and_ids_without_data_are_seen() -> None:
    app = once(b'data: {"a": 1}\nretry: 20', b"00\nid: 1\n\n: beat\n\nid: 2\n\n", end=False)
    async with TestClient(app).sse("/") as stream:
        assert await stream.receive_json() == {"a": 1}
        assert stream.retry == 2000
        assert await stream.receive_comment() == "beat"
        await stream.until(lambda: stream.last_event_id == "2")
        assert stream.comments == ["beat"]
    assert app.ended == ["returned"]


async def test_each_comment_is_given_once_and_keeps_the_events_before_it() -> None:
    async with TestClient(once(b"data: 1\n\n: a\n: b\ndata: 2\n\n", end=False)).sse("/") as stream:
        assert await stream.receive_comment() == "a"
        assert await stream.receive_comment() == "b"
        assert [(await stream.receive()).data, (await stream.receive()).data] == ["1", "2"]
        with pytest.raises(TimeoutError):
            await stream.receive_comment(0.01)


async def test_receive_nothing_lets_comments_pass_and_fails_on_an_event_or_the_end() -> None:
    async with TestClient(once(b": beat\n\n", end=False)).sse("/") as stream:
        assert await stream.receive_nothing(0.02)
    async with TestClient(once(b"data: 1\n\n")).sse("/") as stream:
        with pytest.raises(AssertionError, match="data='1'"):
            await stream.receive_nothing()
        with pytest.raises(AssertionError, match="end of the stream"):
            await stream.receive_nothing()


async def test_waiting_in_vain_ends_and_tells_what_had_come() -> None:
    async with TestClient(once(b": beat\n\n", end=False), timeout=0.05).sse("/x") as stream:
        with pytest.raises(TimeoutError, match=r"not within 0\.05 s .*0 unread events, 1 comments.*GET /x"):
            await stream.receive()


@pytest.mark.parametrize(
    ("status", "headers"), [(403, EVENT_STREAM), (200, [(b"content-type", b"text/plain")]), (204, [])]
)
async def test_another_answer_is_an_error_that_has_the_response(status: int, headers: Any) -> None:
    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        await answer(send, b"" if status == 204 else b"no", status, headers)

    async with TestClient(refusing).sse("/") as stream:
        assert stream.status_code == status
        with pytest.raises(EventStreamError) as refused:
            await stream.receive()
    assert refused.value.response.status_code == status


async def test_an_app_that_fails_before_the_stream_raises_and_leaves_no_task() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("its own")

    before = asyncio.all_tasks()
    with pytest.raises(LookupError):
        async with TestClient(failing).sse("/"):
            pass
    assert asyncio.all_tasks() == before


async def test_an_app_that_fails_in_the_stream_raises_after_its_events() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": EVENT_STREAM})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        raise LookupError("its own")

    async with TestClient(failing).sse("/") as stream:
        assert (await stream.receive()).data == "1"
        with pytest.raises(LookupError):
            await stream.receive()
