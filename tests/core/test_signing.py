"""Signed cookies: what we sign ItsDangerous reads, and the other way round; what is unusual is ItsDangerous' word."""

from __future__ import annotations

import hashlib
import marshal
from typing import Any

import pytest
from itsdangerous import BadData, BadPayload, BadSignature, SignatureExpired, URLSafeTimedSerializer

from samovar.core.json.tag import TaggedJSONSerializer
from samovar.core.signing import KeepingSerializer

OPTIONS: dict[str, Any] = {
    "salt": "cookie-session",
    "serializer": TaggedJSONSerializer(),
    "signer_kwargs": {"key_derivation": "hmac", "digest_method": hashlib.sha1},
}
CONTENTS: tuple[Any, ...] = (
    {}, {"n": 1}, {"text": "ü" * 400, "bytes": b"\x00\xff", "t": (1, [2, {" t": 3}])}, [], "", None, {"a": "x" * 5000},
)  # fmt: skip


def pair(*keys: str) -> tuple[KeepingSerializer, URLSafeTimedSerializer]:
    """Ours and ItsDangerous' own."""
    return KeepingSerializer(list(keys), **OPTIONS), URLSafeTimedSerializer(list(keys), **OPTIONS)


@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
def test_both_read_what_either_signs(content: Any) -> None:
    ours, theirs = pair("key")
    for signer in (ours, theirs):
        for reader in (ours, theirs):
            assert reader.loads(signer.dumps(content), max_age=60) == content
            assert reader.loads(signer.dumps(content, salt="other"), salt="other") == content


def test_the_same_second_gives_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.5)
    ours, theirs = pair("old", "new")
    for content in CONTENTS:
        assert ours.dumps(content) == theirs.dumps(content)


def test_old_keys_read_and_a_stranger_s_key_does_not() -> None:
    ours, _ = pair("old", "new")
    assert ours.loads(pair("old")[1].dumps(7)) == 7
    assert pair("new")[1].loads(ours.dumps(7)) == 7
    with pytest.raises(BadSignature):
        ours.loads(pair("stranger")[1].dumps(7))


@pytest.mark.parametrize(("age", "future"), [(61, False), (-1, True)])
def test_age_is_judged_by_itsdangerous(monkeypatch: pytest.MonkeyPatch, age: int, future: bool) -> None:
    ours, theirs = pair("key")
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.9)
    signed = ours.dumps(7)
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.0 + age)
    assert ours.loads(signed) == theirs.loads(signed) == 7
    for reader in (ours, theirs):
        with pytest.raises(SignatureExpired, match="< 0" if future else "61 > 60"):
            reader.loads(signed, max_age=60)
    value, time = ours.loads(signed, return_timestamp=True)
    assert (value, time.timestamp()) == (7, 1_700_000_000)


def test_whatever_is_changed_is_refused_by_both_in_the_same_words() -> None:
    ours, theirs = pair("key")
    signed = ours.dumps({"user": "ada"})
    cases = {
        "",
        ".",
        "..",
        "a",
        "é",
        "\udcff",
        signed + ".",
        "." + signed,
        signed.replace(".", "", 1),
        signed.upper(),
    }
    cases |= {
        signed[:at] + ("A" if signed[at] != "A" else "B") + signed[at + 1 :] for at in range(len(signed) - 1)
    }
    for case in cases:
        words = []
        for reader in (ours, theirs):
            try:
                words.append(repr(reader.loads(case, max_age=60)))
            except (BadData, UnicodeEncodeError) as error:
                words.append(f"{type(error).__name__}: {error}")
        assert words[0] == words[1], case
        assert "ada" not in words[0], case


@pytest.mark.parametrize("payload", [b"bm90IGpzb24", b"_w", b"!", b".eJw", b""])
def test_what_was_signed_and_cannot_be_read_is_refused_by_both(payload: bytes) -> None:
    ours, theirs = pair("key")
    signed = theirs.make_signer(theirs.salt).sign(payload)
    for reader in (ours, theirs):
        with pytest.raises(BadPayload):
            reader.loads(signed, max_age=60)


def test_a_serializer_that_writes_bytes_is_understood() -> None:
    options: dict[str, Any] = {**OPTIONS, "serializer": marshal}
    ours, theirs = KeepingSerializer("key", **options), URLSafeTimedSerializer("key", **options)
    for signer in (ours, theirs):
        for reader in (ours, theirs):
            assert reader.loads(signer.dumps({"a": b"\xff"}), max_age=60) == {"a": b"\xff"}
