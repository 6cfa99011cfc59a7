"""ItsDangerous, kept ready: the same signatures and formats, at a third of the time.

Keys are derived once, and a cookie in the usual form is signed and verified in a few calls of the standard library. All
that is unusual (another salt, a signature that does not match the newest key, an old time stamp) is ItsDangerous' own,
and so is everything where somebody has set what is not foreseen here: an algorithm, a signer, a separator, a payload.
"""

from __future__ import annotations

import binascii
import hmac
import time
import zlib
from collections.abc import Callable
from typing import Any, cast

from itsdangerous import TimestampSigner, URLSafeTimedSerializer
from itsdangerous.signer import HMACAlgorithm, SigningAlgorithm

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")
_TOO_SHORT_TO_COMPRESS = 16


def _encode(data: bytes) -> bytes:
    """Base64 for URLs (RFC 4648, 5) without padding."""
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    return binascii.a2b_base64(text.translate(_FROM_URL) + b"=" * (-len(text) % 4))


class OneShotHMAC(SigningAlgorithm):
    """HMAC (RFC 2104) in one call.

    Args:
        digest_method: as ``hashlib`` has them.
    """

    def __init__(self, digest_method: Callable[..., Any]) -> None:
        self.digest_method: Any = digest_method

    def get_signature(self, key: bytes, value: bytes) -> bytes:
        """The signature of *value*."""
        return hmac.digest(key, value, self.digest_method)


class KeepingSigner(TimestampSigner):
    """A signer that keeps the keys it has derived: as many as there are secret keys."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if type(self.algorithm) is HMACAlgorithm:
            self.algorithm: SigningAlgorithm = OneShotHMAC(self.algorithm.digest_method)
        self._derived = {key: super(KeepingSigner, self).derive_key(key) for key in self.secret_keys}

    def derive_key(self, secret_key: str | bytes | None = None) -> bytes:
        """The key derived from *secret_key*, by default from the one that signs."""
        key = self.secret_keys[-1] if secret_key is None else secret_key
        known = self._derived.get(key) if isinstance(key, bytes) else None
        return super().derive_key(secret_key) if known is None else known


class KeepingSerializer(URLSafeTimedSerializer):
    """A serializer that keeps its signer; what it signs is read by ItsDangerous' own, and the other way round.

    Args:
        args: as ``URLSafeTimedSerializer`` takes them, and so *kwargs*.
    """

    default_signer: type[TimestampSigner] = KeepingSigner

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._keep()

    def _keep(self) -> None:
        """Make the signer of what is set now, and see whether it can be done without."""
        self._kept_for = (
            self.signer, dict(self.signer_kwargs), list(self.secret_keys), self.salt, dict(self.serializer_kwargs)
        )  # fmt: skip
        signer: Any = super().make_signer()
        self._kept: Any = signer if type(signer) is KeepingSigner else None
        kind = type(self)
        self._short: bool = (
            self._kept is not None
            and type(signer.algorithm) is OneShotHMAC
            and signer.sep == b"."
            and not self.serializer_kwargs
            and kind.dump_payload is URLSafeTimedSerializer.dump_payload
            and kind.load_payload is URLSafeTimedSerializer.load_payload
        )
        if self._short:
            self._key: bytes = signer.derive_key()
            self._digest: Any = signer.algorithm.digest_method

    def _is_short(self) -> bool:
        """Tell whether the short way is that of what is set now."""
        now = (self.signer, self.signer_kwargs, self.secret_keys, self.salt, self.serializer_kwargs)
        if now != self._kept_for:
            self._keep()
        return self._short

    def make_signer(self, salt: str | bytes | None = None) -> TimestampSigner:
        """The signer; another one for another salt."""
        self._is_short()
        if self._kept is not None and (salt is None or salt == self.salt):
            return cast("TimestampSigner", self._kept)
        return cast("TimestampSigner", super().make_signer(salt))

    def dumps(self, obj: Any, salt: str | bytes | None = None) -> str:
        """*obj*, the time in seconds, and their signature, as text."""
        if salt is not None or not self._is_short():
            return super().dumps(obj, salt)
        text = self.serializer.dumps(obj)
        data = text.encode() if isinstance(text, str) else text
        payload = b""
        if len(data) > _TOO_SHORT_TO_COMPRESS:
            packed = zlib.compress(data)
            if len(packed) < len(data) - 1:
                payload, data = b".", packed
        now = int(time.time())
        stamp = _encode(now.to_bytes((now.bit_length() + 7) // 8, "big"))
        value = b"%b%b.%b" % (payload, _encode(data), stamp)
        return (value + b"." + _encode(hmac.digest(self._key, value, self._digest))).decode("ascii")

    def loads(  # type: ignore[override]  # as TimedSerializer has it
        self,
        s: str | bytes,
        max_age: int | None = None,
        return_timestamp: bool = False,
        salt: str | bytes | None = None,
    ) -> Any:
        """What :meth:`dumps` was given.

        Args:
            s: the signed text.
            max_age: in seconds; None for any age.
            return_timestamp: give a pair with the time of the signing.
            salt: another one than the serializer's.

        Raises:
            itsdangerous.BadData: it was signed by nobody who has a key, too long ago, or is broken.
        """
        if salt is None and not return_timestamp and self.is_text_serializer and self._is_short():
            signed = s.encode("utf-8", "surrogateescape") if isinstance(s, str) else s
            value, _, signature = signed.rpartition(b".")
            if hmac.compare_digest(_encode(hmac.digest(self._key, value, self._digest)), signature):
                payload, _, stamp = value.rpartition(b".")
                try:
                    age = time.time() // 1 - int.from_bytes(_decode(stamp), "big")
                    if payload[:1] not in (b"", b".") and (max_age is None or 0 <= age <= max_age):
                        return self.serializer.loads(_decode(payload).decode())
                except Exception:  # signed, but no content of ours: what follows says what is wrong
                    return super().loads(s, max_age=max_age)
        return super().loads(s, max_age=max_age, return_timestamp=return_timestamp, salt=salt)


__all__ = ["KeepingSerializer", "KeepingSigner", "OneShotHMAC"]
