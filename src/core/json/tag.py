"""JSON that keeps Python's types, for session cookies: tuples, bytes, Markup, UUIDs, dates.

A value of such a type is written as a dict of one key, its tag, with a blank in front. Tags are Flask's, so cookies
signed with the same key are understood by both.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from markupsafe import Markup
from werkzeug.http import http_date, parse_date

_READ: dict[str, Callable[[Any], Any]] = {
    " t": tuple,
    " b": b64decode,
    " m": Markup,
    " u": UUID,
    " d": parse_date,
}


class TaggedJSONSerializer:
    """Writes and reads JSON with tags; ItsDangerous uses it as its serializer."""

    def dumps(self, value: Any) -> str:
        """*value* as compact JSON text."""
        return json.dumps(self.tag(value), separators=(",", ":"))

    def loads(self, text: str | bytes) -> Any:
        """What :meth:`dumps` was given."""
        return self.untag(json.loads(text))

    def tag(self, value: Any) -> Any:
        """*value* with every special type in it written as a tagged dict.

        Raises:
            TypeError: from the encoder, for a type that neither JSON nor the tags know.
        """
        if isinstance(value, dict):
            return self._tag_dict(value)
        if isinstance(value, tuple):
            return {" t": [self.tag(item) for item in value]}
        if isinstance(value, list):
            return [self.tag(item) for item in value]
        if isinstance(value, bytes):
            return {" b": b64encode(value).decode("ascii")}
        if hasattr(value, "__html__"):
            return {" m": str(value.__html__())}
        if isinstance(value, UUID):
            return {" u": value.hex}
        if isinstance(value, datetime):
            return {" d": http_date(value)}
        return value

    def _tag_dict(self, value: dict[Any, Any]) -> dict[Any, Any]:
        if len(value) == 1:
            key = next(iter(value))
            if key == " di" or key in _READ:  # a dict that looks like a tag
                return {" di": {f"{key}__": self.tag(value[key])}}
        return {key: self.tag(item) for key, item in value.items()}

    def untag(self, value: Any) -> Any:
        """The inverse of :meth:`tag`, for what the JSON decoder gave."""
        if isinstance(value, list):
            return [self.untag(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            key, item = next(iter(value.items()))
            if key == " di":
                inner, content = next(iter(item.items()))
                return {inner.removesuffix("__"): self.untag(content)}
            if key in _READ:
                return _READ[key](self.untag(item))
        return {key: self.untag(item) for key, item in value.items()}
