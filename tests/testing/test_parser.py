"""The event-stream parser against the WHATWG text, section 9.2.6, and its examples."""

import pytest

from samovar.core.testing import EventStreamParser, ReceivedEvent


def parse(*pieces: bytes) -> list[ReceivedEvent]:
    parser = EventStreamParser()
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [ReceivedEvent("YHOO\n+2\n10")]),
        (
            b": test\n\ndata: first\nid: 1\n\ndata:second\nid\n\ndata:  third\n\n",
            "the standard's second example",
        ),
        (b"data\n\ndata\ndata\n\ndata:", [ReceivedEvent(""), ReceivedEvent("\n")]),
        (b"data:test\n\ndata: test\n\n", [ReceivedEvent("test"), ReceivedEvent("test")]),
        (b"event: add\ndata: 1\n\n", [ReceivedEvent("1", "add")]),
        (b"event: add\n\ndata: 1\n\n", [ReceivedEvent("1")]),
        (b"retry: 1500\ndata: x\n\n", [ReceivedEvent("x", retry=1500)]),
        ("retry: 1\u00b25\ndata: x\n\n".encode(), [ReceivedEvent("x")]),
        (b"id: a\0b\ndata: x\n\n", [ReceivedEvent("x")]),
        (b"Data: x\n data: x\nother: x\n\n", []),
        (b"\xef\xbb\xbfdata: bom\n\n", [ReceivedEvent("bom")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: second bom is text\n\n", []),
        (b"data: \xff\n\n", [ReceivedEvent("\ufffd")]),
        (b"data: unfinished", []),
    ],
)
def test_a_stream_gives_the_events_of_the_standard(
    stream: bytes, expected: list[ReceivedEvent] | str
) -> None:
    if isinstance(expected, str):
        expected = [
            ReceivedEvent("first", id="1"),
            ReceivedEvent("second", id=""),
            ReceivedEvent(" third", id=""),
        ]
    assert parse(stream) == expected


@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_any_line_ending_cut_anywhere_reads_the_same(newline: str, size: int) -> None:
    stream = "id: é:1\ndata: a\ndata: б\n\n: beat\n\ndata: c\n\n".replace("\n", newline).encode()
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert parse(*pieces) == [ReceivedEvent("a\nб", id="é:1"), ReceivedEvent("c", id="é:1")]


def test_an_id_counts_when_its_block_is_complete() -> None:
    parser = EventStreamParser()
    parser.feed(b"id: 1\n\nid: 2\n")
    assert parser.last_event_id == "1"
    assert parser.feed(b"\n") == []
    assert parser.last_event_id == "2"


def test_comments_and_the_retry_time_are_kept() -> None:
    parser = EventStreamParser()
    parser.feed(b":\n: beat\n:  two\nretry: 2000\n\n")
    assert list(parser.comments) == ["", "beat", " two"]
    assert (parser.comment_count, parser.retry) == (3, 2000)
