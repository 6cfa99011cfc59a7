"""JSON by orjson, for an app that asks for it: ``app.json = OrjsonProvider(app)``.

What orjson cannot say as the standard library does, the standard library says: orjson writes first, and where it
refuses (integers beyond 64 bits, keys that are no text, half a surrogate pair, deep nesting) or may have said something
else (``null`` for NaN), the value is written again by ``json``. What ``default`` made is kept between the two, for it
may have emptied an iterator. Reading is likewise: what orjson refuses, and what has digits enough for an integer that
it would round to a float, ``json`` reads.

What stays different: the text is UTF-8 unless ``ensure_ascii`` is set, ``dumps`` leaves out blanks, floats with an
exponent are spelt otherwise (``1e16`` for ``1e+16``), and enumerations and UUIDs are written without ``default`` being
asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ...extras import Needed
from .provider import DefaultJSONProvider

if TYPE_CHECKING:
    from ..app import Samovar

_COMPACT = (",", ":")
_OPTIONS = {"allow_nan", "default", "ensure_ascii", "indent", "separators", "sort_keys"}
"""What ``json.dumps`` takes and orjson can heed, or what is heeded around it."""
_PAYLOAD = {"allow_nan": False, "ensure_ascii": False, "separators": _COMPACT}
"""How the hub asks for what is published."""
_DIGITS = bytes(48 if 48 <= byte <= 57 else 32 for byte in range(256))
_LONG = b"0" * 19  # the digits of 2**63; orjson makes a float of an integer of 64 bits and more
_ATOMS = frozenset((str, int, bool, type(None)))
_PLAINER = (str, dict, list, tuple, float, int, Enum, UUID)
_Default = Callable[[Any], Any]
_Asked = dict[int, tuple[Any, Any]]
"""What was asked of ``default`` for one text, by identity: the object, which keeps that its own, and the answer."""


class OrjsonProvider(DefaultJSONProvider):
    """JSON by orjson, with the options of the default provider; needs the extra ``fast``.

    Differences: what is not ASCII is written as UTF-8 (``ensure_ascii`` is off; where it is on, text that is not ASCII
    takes the standard library's time), ``dumps`` writes no blanks unless ``separators`` or ``indent`` say so, and
    enumerations and UUIDs are written as their values and as text, whatever ``default`` makes of them.

    Args:
        app: the app it belongs to, None for use outside one.

    Raises:
        MissingDependency: orjson is not installed, or too old.
    """

    ensure_ascii = False

    def __init__(self, app: Samovar | None) -> None:
        super().__init__(app)
        self._own_encode: Callable[[Any], bytes] | None = None
        with Needed("orjson", by="OrjsonProvider"):
            import orjson
        plain = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
        self._plain = plain | orjson.OPT_PASSTHROUGH_SUBCLASS
        self._sorted, self._indented = orjson.OPT_SORT_KEYS, orjson.OPT_INDENT_2
        self._write, self._read = orjson.dumps, orjson.loads

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        object.__setattr__(self, "_own_encode", None)  # an option changed

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """*obj* as JSON text; keywords are those of ``json.dumps``, and without any there are no blanks in it.

        Raises:
            ValueError: it holds NaN, half a surrogate pair, or itself.
            TypeError: it holds what neither JSON nor ``default`` knows.
        """
        if not kwargs or (kwargs == _PAYLOAD and not (self.allow_nan or self.ensure_ascii)):
            return (self._own_encode or self._own())(obj).decode()
        indent, separators = kwargs.get("indent"), kwargs.get("separators")
        spelt = (indent is None and separators in (None, _COMPACT)) or (
            type(indent) is int and indent == 2 and separators in (None, (",", ": "))
        )
        if spelt and _OPTIONS.issuperset(kwargs):
            return self._writer(kwargs)(obj).decode()
        default: _Default = kwargs.get("default") or self.default
        given = {"separators": _COMPACT if indent is None else None, **self._options(kwargs), **kwargs}
        return _standard(obj, {**given, "default": lambda value: _plainer(value, default)}).decode()

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """What JSON text or bytes say; keywords are those of ``json.loads``, which then reads.

        Raises:
            ValueError: it is not JSON.
        """
        if kwargs or self.allow_nan or (type(s) is not bytes and type(s) is not str):
            return super().loads(s, **kwargs)
        try:
            data = s.encode() if isinstance(s, str) else s
            if data.translate(_DIGITS).find(_LONG) < 0:  # half the time of ``in``
                return self._read(data)
        except ValueError:  # not JSON, or of another encoding: json.loads tells
            pass
        return super().loads(s)

    def _build_encoder(self) -> Callable[[Any], bytes]:
        if getattr(self.dumps, "__func__", None) is not OrjsonProvider.dumps:  # overridden
            return lambda obj: self.dumps(obj, separators=_COMPACT).encode()
        return self._own()

    def _own(self) -> Callable[[Any], bytes]:
        """What writes compact JSON with the provider's options, made once."""
        encode = self._writer({})
        object.__setattr__(self, "_own_encode", encode)
        return encode

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        """The switches for one text: as *given* to ``dumps``, the provider's otherwise."""
        own = {"allow_nan": self.allow_nan, "ensure_ascii": self.ensure_ascii, "sort_keys": self.sort_keys}
        return {name: given.get(name, value) for name, value in own.items()}

    def _writer(self, given: dict[str, Any]) -> Callable[[Any], bytes]:
        """What writes compact JSON, or indented by two, with these options of ``json.dumps``."""
        default: _Default = given.get("default") or self.default
        options = self._options(given)
        indent = given.get("indent")
        ensure_ascii = options["ensure_ascii"]
        option = (
            self._plain | (self._sorted if options["sort_keys"] else 0) | (self._indented if indent else 0)
        )
        options.update(indent=indent, separators=_COMPACT if indent is None else None)
        write = self._write

        def encode(obj: Any) -> bytes:
            asked: _Asked = {}

            def ask(value: Any) -> Any:
                if (known := asked.get(id(value))) is not None:
                    return known[1]
                made = _plainer(value, default)
                asked[id(value)] = value, made
                return made

            failed = None
            try:
                data = write(obj, ask, option)
                if (b"null" not in data or _finite(obj, asked)) and (not ensure_ascii or data.isascii()):
                    return data
            except TypeError as error:
                failed = error.__cause__
            if failed is not None:
                try:
                    raise failed  # by default
                finally:
                    del failed  # it holds this frame
            return _standard(obj, {**options, "default": ask})

        return encode


def _finite(obj: Any, asked: _Asked) -> bool:
    """Tell whether every number in *obj* is one, and no NaN or Infinity.

    Args:
        obj: what orjson has written: it ends.
        asked: what was made of what orjson does not know.
    """
    inside: list[Iterable[Any]] = [(obj,)]
    while inside:
        for value in inside.pop():
            kind = type(value)
            if kind in _ATOMS:
                continue
            if kind is float:
                if value - value != 0.0:
                    return False
            elif kind is dict:
                inside.append(value.values())
            elif kind is list or kind is tuple:
                inside.append(value)
            elif (known := asked.get(id(value))) is not None:
                inside.append((known[1],))
            elif isinstance(value, Enum):
                inside.append((value.value,))
    return True


def _plainer(value: Any, default: _Default) -> Any:
    """What orjson can write for *value*, which it does not know: for a subclass of JSON's types what ``json`` takes."""
    if not isinstance(value, _PLAINER):
        return default(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return dict(value.items())  # a MultiDict's are not what is stored
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        return int.__int__(value)
    return value.value if isinstance(value, Enum) else str(value)


def _standard(obj: Any, options: dict[str, Any]) -> bytes:
    """*obj* as the standard library writes it, with these options of ``json.dumps``.

    Raises:
        ValueError: it holds NaN, half a surrogate pair, itself, or too many levels.
    """
    try:
        try:
            return _usual.dumps(obj, **options).encode()
        except (
            UnicodeEncodeError
        ):  # two halves may make a pair, and one may be allowed: escaped, it can be told
            return _usual.dumps(obj, **{**options, "ensure_ascii": True}).encode()
    except RecursionError as error:
        raise ValueError("circular reference, or nested too deeply, for JSON") from error


_usual = DefaultJSONProvider(None)
