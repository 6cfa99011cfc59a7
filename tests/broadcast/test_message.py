"""Positions, cursors, messages."""

from __future__ import annotations

from typing import Any

import pytest

from samovar.broadcast import Cursor, Member, Message, Position
from samovar.broadcast.message import as_cursor
from samovar.errors import InvalidCursor


@pytest.mark.parametrize("text", ["e:0", "k3J9:17", "a.b~c-d_e:9223372036854775807", f"{'e' * 80}:1"])
def test_a_position_reads_as_it_was_written(text: str) -> None:
    assert str(Position.parse(text)) == text


HOSTILE = [
    "17", ":", ":17", "e:", "e:-1", "e:1.5", "e:1e5", "e: 1", "e:+1", " e:1", "e:1 ", "e:1\n", "e:٣", "e:²", "é:1",
    "e e:1", "e\x00:1", "e:1:2", f"{'e' * 81}:1", "e:9223372036854775808", f"e:{'9' * 20}", "e;1", "null", "e:0x10",
    f"e:{'9' * 5000}", "e=b:1=1", "\ud800:1", "e:1_0",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_a_malformed_position_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Position.parse(text)
    with pytest.raises(InvalidCursor):
        Cursor.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "a=e:1,a=e:2",
        "a=e:1,",
        ",a=e:1",
        "=e:1",
        "a",
        "a=e:1,b",
        "a=e",
        "a=e:1;b=e:2",
        "a=b=e:1",
        "," * 9,
        "x" * 70_000,
    ],
)
def test_a_malformed_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.parse(text)


def test_a_cursor_of_several_channels() -> None:
    cursor = Cursor.parse("chat/1=e:5,!chat/1=f:0,news=")
    assert cursor.get("chat/1") == Position("e", 5)
    assert cursor.get("!chat/1") == Position("f", 0)
    assert "news" in cursor and cursor.get("news") is None
    assert "other" not in cursor
    assert str(cursor) == "chat/1=e:5,!chat/1=f:0,news="
    assert list(cursor) == ["chat/1", "!chat/1", "news"]


def test_a_cursor_of_one_position_is_of_any_channel() -> None:
    cursor = Cursor.parse("e:5")
    assert "anything" in cursor and cursor.get("anything") == Position("e", 5)


def test_the_empty_cursor_is_unknown_everywhere() -> None:
    cursor = Cursor.parse("")
    assert "anything" in cursor and cursor.get("anything") is None


@pytest.mark.parametrize(
    ("since", "read"),
    [
        (None, None),
        ("e:1", Cursor(single=Position("e", 1))),
        (Position("e", 1), Cursor(single=Position("e", 1))),
        ({"a": Position("e", 1), "b": None}, Cursor(positions={"a": Position("e", 1), "b": None})),
        ("", Cursor(unknown=True)),
    ],
)
def test_since_takes_many_forms(since: Any, read: Cursor | None) -> None:
    assert as_cursor(since) == read


@pytest.mark.parametrize("since", [7, b"e:1", ("e", 1), object(), True])
def test_since_refuses_the_rest(since: Any) -> None:
    with pytest.raises(InvalidCursor, match="since="):
        as_cursor(since)


@pytest.mark.parametrize(
    ("kind", "body", "data"),
    [
        ("text", "é".encode(), "é"),
        ("bytes", b"\xff", b"\xff"),
        ("json", b'{"a":[1]}', {"a": [1]}),
        ("json", b"7", 7),
    ],
)
def test_data_is_what_was_published_and_read_once(kind: Any, body: bytes, data: Any) -> None:
    message = Message("c", Position("e", 1), "id", 0, kind, body)
    assert message.data == data
    assert message.data is message.data
    assert message.cursor == "e:1"


def test_members_are_grouped_by_user_else_by_connection() -> None:
    assert (Member("1", "ann").key, Member("1").key) == ("ann", "1")
