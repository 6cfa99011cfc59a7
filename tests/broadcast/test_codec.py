"""The envelope between workers, with friends and enemies."""

from __future__ import annotations

import random
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from samovar.broadcast.codec import Envelope, StandardJSON, check_id, decode, encode, fresh_id, payload
from samovar.errors import InvalidEnvelope, InvalidPayload

SOUND = [1, "id", 5, 0, 1, b"text"]


@pytest.mark.parametrize(
    "envelope",
    [
        Envelope("id", 0, "text", b""),
        Envelope("id", 2**62, "json", b'{"a":1}'),
        Envelope("id", 5, "bytes", bytes(range(256)), "ann"),
        Envelope("id", 5, "text", "é".encode(), "é", {"k": "v"}),
        Envelope("id", 5, "text", b"x", None, {"k": "v"}),
    ],
)
def test_what_goes_in_comes_out(envelope: Envelope) -> None:
    assert decode(encode(envelope)) == envelope


def test_the_version_stands_first() -> None:
    assert msgpack.unpackb(encode(Envelope("i", 1, "json", b"7", "u")))[:2] == [1, "i"]


def test_fields_of_tomorrow_are_ignored() -> None:
    assert decode(msgpack.packb([*SOUND, "ann", {"k": "v"}, "new", 7])) == Envelope(
        "id", 5, "text", b"text", "ann", {"k": "v"}
    )


def changed(index: int, value: Any) -> bytes:
    fields = list(SOUND)
    fields[index] = value
    packed: bytes = msgpack.packb(fields)
    return packed


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "msgpack"),
        (b"\xc1", "msgpack"),
        (b"hello", "msgpack"),
        (encode(Envelope("i", 1, "text", b"x"))[:-1], "msgpack"),
        (encode(Envelope("i", 1, "text", b"x")) + b"x", "msgpack"),
        (b"\x91" * 5000, "msgpack"),
        (msgpack.packb(7), "array"),
        (msgpack.packb({"v": 1}), "array"),
        (msgpack.packb([]), "array"),
        (msgpack.packb([1]), "fields"),
        (msgpack.packb(SOUND[:5]), "fields"),
        (changed(0, 2), "version 2"),
        (changed(0, True), "version"),
        (changed(0, 1.0), "version"),
        (changed(0, "1"), "version"),
        (changed(1, 7), "type"),
        (changed(2, "now"), "type"),
        (changed(2, True), "type"),
        (changed(3, 1), "type 1"),
        (changed(4, 3), "kind 3"),
        (changed(4, -1), "kind"),
        (changed(4, None), "kind"),
        (changed(5, "text"), "type"),
        (changed(5, b"\xff"), "UTF-8"),
        (msgpack.packb([*SOUND, 7]), "user"),
        (msgpack.packb([*SOUND, None, [1]]), "headers"),
        (msgpack.packb([*SOUND, None, {"a": 1}]), "headers"),
        (msgpack.packb([*SOUND, None, {str(n): "" for n in range(17)}]), "headers"),
        (msgpack.packb([*SOUND, None, {b"a": "x"}]), "headers"),
        (msgpack.packb([1, "id", 5, 0, 1, msgpack.ExtType(5, b"x")]), "type"),
        (msgpack.packb([1, msgpack.Timestamp(1), 5, 0, 1, b"x"]), "type"),
    ],
)
def test_what_is_no_message_raises_one_error(data: bytes, why: str) -> None:
    with pytest.raises(InvalidEnvelope, match=why):
        decode(data)


def test_random_damage_is_read_or_refused_and_nothing_else() -> None:
    dice = random.Random(7)
    whole = encode(Envelope("an-id", 1_700_000_000_000, "json", b'{"a":[1,2,3]}', "ann", {"k": "v"}))
    refused = 0
    for _ in range(3000):
        damaged = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            decode(bytes(damaged))
        except InvalidEnvelope:
            refused += 1
    assert refused > 1000


@pytest.mark.parametrize(
    ("data", "kind", "body"),
    [
        ("é", "text", "é".encode()),
        ("", "text", b""),
        (b"\x00\xff", "bytes", b"\x00\xff"),
        (bytearray(b"x"), "bytes", b"x"),
        (memoryview(b"x"), "bytes", b"x"),
        ({"b": 1, "a": "é"}, "json", '{"b":1,"a":"é"}'.encode()),
        (None, "json", b"null"),
        (True, "json", b"true"),
        ([1.5, "x"], "json", b'[1.5,"x"]'),
    ],
)
def test_payloads_by_kind(data: Any, kind: str, body: bytes) -> None:
    assert payload(data, StandardJSON()) == (kind, body)


def nested(depth: int) -> Any:
    inner: Any = []
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "data",
    [float("nan"), {"x": [float("inf")]}, -float("inf"), object(), {1, 2}, {"x": b"y"}, "\ud800", {"x": "\ud800"},
     {(1, 2): 3}, nested(100_000)],
    ids=["nan", "inf", "-inf", "object", "set", "bytes inside", "surrogate", "surrogate inside", "key", "deep"],
)  # fmt: skip
def test_what_is_no_payload_is_refused(data: Any) -> None:
    with pytest.raises(InvalidPayload):
        payload(data, StandardJSON())


@pytest.mark.parametrize("id", ["", "x" * 65, "a b", "é", "a\n", "\x00", 7, None, b"x"])
def test_a_bad_id_is_refused(id: Any) -> None:
    with pytest.raises(InvalidPayload, match="id"):
        check_id(id)


def test_fresh_ids_differ_sort_by_time_and_are_uuids_of_version_7() -> None:
    ids = [fresh_id() for _ in range(500)]
    assert len(set(ids)) == 500
    assert all(len(id) == 32 and id[12] == "7" and id[16] in "89ab" for id in ids)
    assert [id[:12] for id in ids] == sorted(id[:12] for id in ids)
    check_id(ids[0])
