"""How an app writes and reads JSON.

Departures from a plain ``json.dumps``: one encoder is built and kept, which halves the cost of a call, and it notices
circular references not by a table but by the interpreter's depth limit. Unlike Flask's, it refuses NaN and Infinity,
which are no JSON (RFC 8259, 6), numbers too large for a float, and text that no UTF-8 can carry (half a surrogate pair,
RFC 8259, 8.2), read or written: what a client sends can then always be stored, sent back and published.
"""

from __future__ import annotations

import dataclasses
import decimal
import inspect
import json
import json.encoder
import re
import uuid
from collections.abc import Callable
from datetime import date
from math import isinf
from typing import IO, TYPE_CHECKING, Any, NoReturn

from ..config import is_on
from ..datastructures import http_date

if TYPE_CHECKING:
    from ..app import Samovar
    from ..wrappers.response import Response


class JSONProvider:
    """What an app needs to speak JSON; subclass it to use another library.

    Args:
        app: the app it belongs to, None for use outside one.
    """

    def __init__(self, app: Samovar | None) -> None:
        self._app: Any = app

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """*obj* as JSON text."""
        raise NotImplementedError

    def dump(self, obj: Any, fp: IO[str], **kwargs: Any) -> None:
        """Write *obj* as JSON text to an open text file."""
        fp.write(self.dumps(obj, **kwargs))

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """What JSON text or UTF-8 bytes say."""
        raise NotImplementedError

    def load(self, fp: IO[Any], **kwargs: Any) -> Any:
        """What the JSON in an open file says."""
        return self.loads(fp.read(), **kwargs)

    def _prepared(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args and kwargs:
            raise TypeError("a JSON response takes either positional or keyword arguments, not both")
        if not args:
            return kwargs or None
        return args[0] if len(args) == 1 else list(args)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """A response of one value, of a list of several, or of a dict of the keywords."""
        text = self.dumps(self._prepared(args, kwargs))
        response: Response = self._app.response_class(text, mimetype="application/json")
        return response


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


_STRICT: dict[str, Any] = {"parse_constant": _no_constant, "parse_float": _finite}
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(**_STRICT).scan_once  # type: ignore[attr-defined]  # not in its stub


_HALF = re.compile(
    r"\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})|(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f][0-9a-f]{2}"
)


def _written(text: str) -> str:
    """*text*, which an encoder has written.

    Raises:
        ValueError: half a surrogate pair was escaped in it.
    """
    if "\\ud" in text and (
        _HALF.search(text) or "\\\\u" in text
    ):  # an escaped backslash misleads the pattern
        _check_text(json.loads(text))
    return text


def _check_text(value: Any) -> None:
    """Refuse a value with half a surrogate pair in its text; for what was escaped in the first place.

    Raises:
        ValueError: there is one.
    """
    json.dumps(value, ensure_ascii=False).encode()


def default(obj: Any) -> Any:
    """JSON data for what JSON does not know: dates (as HTTP writes them), UUIDs, Decimals, dataclasses, Markup.

    Raises:
        TypeError: nothing is known for its type either. A coroutine is closed.
    """
    if inspect.iscoroutine(obj):
        obj.close()
        raise TypeError(f"coroutine is not JSON serializable: an await is missing before {obj.__name__}()")
    if isinstance(obj, date):
        return http_date(obj)
    if isinstance(obj, decimal.Decimal | uuid.UUID):
        return str(obj)
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return dataclasses.asdict(obj)
    if hasattr(obj, "__html__"):
        return str(obj.__html__())
    raise TypeError(f"{type(obj).__name__} is not JSON serializable: {obj!r:.80}")


class DefaultJSONProvider(JSONProvider):
    """The standard library's JSON, with Flask's options as attributes.

    ``default`` is called with what JSON does not know, ``allow_nan`` reads and writes NaN and Infinity all the same,
    ``ensure_ascii`` escapes what is not ASCII, ``sort_keys`` writes keys in order, ``compact`` leaves out blanks (None:
    unless in debug mode), ``mimetype`` is the responses'.
    """

    default: Callable[[Any], Any] = staticmethod(default)
    allow_nan = False
    ensure_ascii = True
    sort_keys = True
    compact: bool | None = None
    mimetype = "application/json"

    def __init__(self, app: Samovar | None) -> None:
        super().__init__(app)
        self._compact_encode: Callable[[Any], bytes] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name != "_compact_encode":
            super().__setattr__("_compact_encode", None)  # an option changed: the encoder is built anew

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """*obj* as JSON text; keywords are those of ``json.dumps``."""
        kwargs.setdefault("default", self.default)
        kwargs.setdefault("allow_nan", self.allow_nan)
        kwargs.setdefault("ensure_ascii", self.ensure_ascii)
        kwargs.setdefault("sort_keys", self.sort_keys)
        text = json.dumps(obj, **kwargs)
        return text if kwargs["allow_nan"] else _written(text)

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """What JSON text or bytes say; keywords are those of ``json.loads``.

        Raises:
            ValueError: it is not JSON.
        """
        if self.allow_nan:
            return json.loads(s, **kwargs)
        if type(s) is bytes and not kwargs:
            try:
                text = s.decode()
                value, end = _scan(text, 0)
                if end == len(text) and "\\u" not in text:
                    return value
            except (
                ValueError,
                StopIteration,
            ):  # blanks around it, UTF-16 or UTF-32, or no JSON: json.loads tells
                pass
        if kwargs:
            return json.loads(s, **{**_STRICT, **kwargs})
        text = s if isinstance(s, str) else s.decode(json.detect_encoding(s))
        value = json.loads(text, **_STRICT)
        if _SURROGATE.search(text):
            _check_text(value)
        return value

    def encode(self, obj: Any) -> str:
        """*obj* as compact JSON text, by the kept encoder: what responses are made of."""
        return (self._compact_encode or self._encoder())(obj).decode()

    def _encoder(self) -> Callable[[Any], bytes]:
        encode = self._build_encoder()
        super().__setattr__("_compact_encode", encode)
        return encode

    def _build_encoder(self) -> Callable[[Any], bytes]:
        if getattr(self.dumps, "__func__", None) is not DefaultJSONProvider.dumps:  # overridden
            return lambda obj: self.dumps(obj, separators=(",", ":")).encode()
        options = {
            "allow_nan": self.allow_nan,
            "default": self.default,
            "ensure_ascii": self.ensure_ascii,
            "sort_keys": self.sort_keys,
            "separators": (",", ":"),
        }
        plain = json.JSONEncoder(**options)  # type: ignore[arg-type]  # a dict of mixed options
        make: Any = json.encoder.c_make_encoder  # type: ignore[attr-defined]  # absent where there is no C part
        if make is None:
            check: Callable[[str], str] = str if self.allow_nan else _written
            return lambda obj: check(plain.encode(obj)).encode()
        string = json.encoder.encode_basestring_ascii if self.ensure_ascii else json.encoder.encode_basestring
        # markers=None: no table of containers; a circle ends in RecursionError.
        pieces = make(None, plain.default, string, None, ":", ",", self.sort_keys, False, self.allow_nan)

        allow_nan = self.allow_nan

        def encode(obj: Any) -> bytes:
            try:
                text = "".join(pieces(obj, 0))
            except RecursionError as error:
                raise ValueError("circular reference, or nested too deeply, for JSON") from error
            return (text if allow_nan else _written(text)).encode()

        return encode

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """A response of one value, of a list of several, or of a dict of the keywords.

        Its body is compact and ended by a newline; indented in debug mode, unless ``compact`` is set.
        """
        obj = args[0] if len(args) == 1 and not kwargs else self._prepared(args, kwargs)
        response: Response = self._app.response_class(self.body(obj), mimetype=self.mimetype)
        return response

    def body(self, obj: Any) -> bytes:
        """The body of a response that says *obj*."""
        compact = self.compact
        if compact is None:
            debug = self._app.config["DEBUG"]
            compact = not (debug and is_on(debug))
        if compact:
            return (self._compact_encode or self._encoder())(obj) + b"\n"
        return self.dumps(obj, indent=2).encode() + b"\n"
