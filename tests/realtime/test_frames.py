"""What goes on the wire, byte for byte; checked against the WHATWG text and an independent SSE parser."""

import json

import pytest
from httpx_sse import ServerSentEvent as Parsed
from httpx_sse._decoders import SSEDecoder

from samovar.broadcast import Gap, Member, Message, Position, Subscribed
from samovar.core.realtime import frames
from samovar.core.realtime.frames import ServerSentEvent


def message(data: object = "hi", kind: str = "text", offset: int = 7, user: str | None = None) -> Message:
    body = data if isinstance(data, bytes) else (str(data) if kind == "text" else json.dumps(data)).encode()
    return Message("chat/1", Position("ep", offset), "id1", 1700000000123, kind, body, user)  # type: ignore[arg-type]


def parse(block: bytes) -> list[Parsed]:
    decoder = SSEDecoder()
    lines = block.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]
    events = [decoder.decode(line) for line in lines]
    return [event for event in events if event is not None]


@pytest.mark.parametrize(
    ("data", "kind", "expected"),
    [
        ("hi", "text", "hi"),
        ('quote " and \\ and \n newline', "text", 'quote " and \\ and \n newline'),
        ({"a": [1, None]}, "json", {"a": [1, None]}),
        ("é ☕", "text", "é ☕"),
        (None, "json", None),
    ],
)
def test_the_envelope_is_json_with_the_position_of_its_own_channel(
    data: object, kind: str, expected: object
) -> None:
    assert json.loads(frames.envelope(message(data, kind))) == {
        "channel": "chat/1",
        "cursor": "ep:7",
        "id": "id1",
        "ts": 1700000000123,
        "data": expected,
    }


def test_binary_data_is_base64_and_says_so() -> None:
    body = json.loads(frames.envelope(message(b"\x00\xff", "bytes")))
    assert (body["data"], body["enc"]) == ("AP8=", "base64")


def test_the_publishing_user_stands_in_the_envelope() -> None:
    assert json.loads(frames.envelope(message(user='a"b')))["user"] == 'a"b'


def test_an_envelope_is_made_once_for_all_subscribers() -> None:
    one = message()
    assert frames.envelope(one) is frames.envelope(one)
    assert frames.sse_message(one, "ep:7") is frames.sse_message(one, "ep:7")


def test_the_forms_a_message_remembers_are_bounded() -> None:
    one = message()
    for n in range(100):
        frames.sse_message(one, f"a=ep:{n},chat/1=ep:7")
    assert len(one.wire) <= frames.MAX_COMPOSITE_FORMS


def test_the_first_word_and_a_gap() -> None:
    assert json.loads(frames.subscribed(Subscribed("c", True, Position("e", 3)))) == {
        "channel": "c",
        "subscribed": True,
        "recovered": True,
        "cursor": "e:3",
    }
    gap = Gap("c", "expired", Position("e", 1), Position("e", 5), 4)
    assert json.loads(frames.gap(gap)) == {
        "channel": "c",
        "gap": {"reason": "expired", "after": "e:1", "until": "e:5", "count": 4},
        "cursor": "e:5",
    }


def test_presence_lists_members_and_tells_changes() -> None:
    listed = json.loads(frames.presence("c", "list", [Member("1", "ann", {"x": 1})], "e:2"))
    assert listed == {
        "channel": "c",
        "presence": {"event": "list", "members": [{"id": "1", "user": "ann", "info": {"x": 1}}]},
        "cursor": "e:2",
    }


@pytest.mark.parametrize(
    "data", ["one", "two\nlines", "crlf\r\nhere", "lone\rcr", "", "\n", "trailing\n", " lead", "a:b"]
)
def test_multi_line_data_comes_out_of_a_parser_as_it_went_in(data: str) -> None:
    [event] = parse(ServerSentEvent(data, id="1", event="note").encode())
    assert event.data == data.replace("\r\n", "\n").replace("\r", "\n")
    assert (event.event, event.id) == ("note", "1")


def test_data_cannot_inject_fields_or_events() -> None:
    events = parse(ServerSentEvent("x\n\nevent: evil\rdata: y\r\n\r\nid: 9").encode())
    assert len(events) == 1
    assert events[0].event == "message"
    assert events[0].id == ""


@pytest.mark.parametrize("field", ["id", "event", "comment"])
@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\r\nb", "a\0b", "\n"])
def test_other_fields_refuse_line_ends_and_nul(field: str, bad: str) -> None:
    with pytest.raises(ValueError, match=field):
        ServerSentEvent("x", **{field: bad})  # type: ignore[arg-type]


@pytest.mark.parametrize("retry", [-1, True])
def test_retry_is_a_number_of_milliseconds(retry: int) -> None:
    with pytest.raises(ValueError, match="retry"):
        ServerSentEvent(retry=retry)


def test_json_data_and_all_fields() -> None:
    block = ServerSentEvent({"a": 1}, event="e", id="7", retry=1500, comment="hello").encode()
    assert block == b': hello\nretry: 1500\nevent: e\ndata: {"a":1}\nid: 7\n\n'


def test_nan_is_refused_because_browsers_cannot_parse_it() -> None:
    with pytest.raises(ValueError, match="JSON"):
        ServerSentEvent(float("nan")).encode()


def test_an_event_without_data_dispatches_nothing_but_moves_the_id() -> None:
    assert (
        parse(ServerSentEvent(id="5").encode()) == [] or parse(ServerSentEvent(id="5").encode())[0].data == ""
    )
    assert ServerSentEvent(id="5").encode() == b"id: 5\n\n"


def test_an_sse_message_carries_the_given_cursor_as_id() -> None:
    [event] = parse(frames.sse_message(message("x\ny"), "a=e:1,chat/1=ep:7"))
    assert event.id == "a=e:1,chat/1=ep:7"
    assert json.loads(event.data)["data"] == "x\ny"
    [bare] = parse(frames.sse_message(message("x\ny"), "ep:7", bare=True))
    assert bare.data == "x\ny"


def test_an_empty_cursor_writes_no_id_line() -> None:
    assert b"id:" not in frames.sse_event("gap", "{}", "")


def test_a_poll_body_holds_everything_a_client_goes_on_from() -> None:
    gap = Gap("chat/1", "reset", None, Position("ep", 6))
    body = json.loads(frames.poll_body([message()], "ep:7", recovered=False, gaps=[gap], more=True))
    assert body["messages"][0]["data"] == "hi"
    assert (body["cursor"], body["recovered"], body["more"]) == ("ep:7", False, True)
    assert body["gaps"] == [{"channel": "chat/1", "reason": "reset", "after": None, "until": "ep:6"}]
    assert json.loads(frames.poll_body([], "ep:7")) == {"messages": [], "cursor": "ep:7", "recovered": None}
    bare = json.loads(frames.poll_body([message(), message({"a": 1}, "json")], "ep:7", envelopes=False))
    assert bare["messages"] == ["hi", {"a": 1}]
