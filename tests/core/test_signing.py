"""Signed cookies: what we sign ItsDangerous reads, and the other way round; what is unusual is ItsDangerous' word."""

from __future__ import annotations

import hashlib
import json
import marshal
from typing import Any

import pytest
from itsdangerous import (
    BadData,
    BadPayload,
    BadSignature,
    SignatureExpired,
    TimestampSigner,
    URLSafeTimedSerializer,
)
from itsdangerous.signer import HMACAlgorithm, SigningAlgorithm

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


class Doubled(SigningAlgorithm):
    """A hash of key and value, which is no HMAC."""

    def get_signature(self, key: bytes, value: bytes) -> bytes:
        return hashlib.sha256(key + value + key).digest()


class Truncated(HMACAlgorithm):
    """An HMAC of which a part is kept."""

    def get_signature(self, key: bytes, value: bytes) -> bytes:
        return super().get_signature(key, value)[:12]


class Stopped(TimestampSigner):
    """A signer whose clock stands."""

    def get_timestamp(self) -> int:
        return 1_000_000_000


SET_BY_SOMEBODY: dict[str, dict[str, Any]] = {
    "digest": {"signer_kwargs": {"digest_method": hashlib.sha512}},
    "derivation": {"signer_kwargs": {"key_derivation": "concat"}},
    "no derivation": {"signer_kwargs": {"key_derivation": "none"}},
    "hmac": {"signer_kwargs": {"algorithm": HMACAlgorithm(hashlib.sha512)}},
    "hmac and digest": {
        "signer_kwargs": {"algorithm": HMACAlgorithm(hashlib.sha512), "digest_method": hashlib.sha256}
    },
    "kind of hmac": {"signer_kwargs": {"algorithm": Truncated(hashlib.sha256)}},
    "algorithm": {"signer_kwargs": {"algorithm": Doubled()}},
    "separator": {"signer_kwargs": {"sep": b":"}},
    "signer": {"signer": Stopped},
    "older": {"fallback_signers": [{"digest_method": hashlib.md5}]},
    "writing": {"serializer": json, "serializer_kwargs": {"sort_keys": True, "indent": 1}},
}


@pytest.mark.parametrize("options", SET_BY_SOMEBODY.values(), ids=SET_BY_SOMEBODY)
def test_what_somebody_sets_wins(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.5)
    content = {"b": "x" * 30, "a": 1}
    ours, theirs = (
        KeepingSerializer(["old", "key"], **options),
        URLSafeTimedSerializer(["old", "key"], **options),
    )
    signed = theirs.dumps(content)
    assert ours.dumps(content) == signed
    assert ours.loads(signed) == content == theirs.loads(ours.dumps(content))
    assert ours.make_signer().sign(b"x") == theirs.make_signer().sign(b"x")
    for forged in (signed[:-2] + "AA", KeepingSerializer("stranger", **options).dumps(content)):
        with pytest.raises(BadSignature):
            theirs.loads(forged)
        with pytest.raises(BadSignature):
            ours.loads(forged)


def test_what_somebody_sets_afterwards_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.5)
    ours, theirs = pair("key")
    settings: tuple[dict[str, Any], ...] = (
        {"salt": b"other"},
        {"signer": Stopped},
        {"secret_keys": [b"next"]},
        {"signer_kwargs": {"key_derivation": "none"}},
    )
    for setting in settings:
        for one in (ours, theirs):
            vars(one).update(setting)
        assert ours.dumps({"n": 7}) == theirs.dumps({"n": 7})
        assert ours.loads(theirs.dumps({"n": 7})) == {"n": 7}
    for one in (ours, theirs):
        one.signer_kwargs["algorithm"] = Doubled()
    assert ours.dumps({"n": 7}) == theirs.dumps({"n": 7})


def test_a_payload_of_somebodys_own_is_asked() -> None:
    class Plain(KeepingSerializer):
        def dump_payload(self, obj: Any) -> bytes:
            return b"payload"

        def load_payload(self, payload: bytes, *args: Any, **kwargs: Any) -> Any:
            return payload

    assert Plain("key").loads(Plain("key").dumps({"n": 7})) == b"payload"
