"""JSON that keeps Python's types, for session cookies: tuples, bytes, Markup, UUIDs, dates.

A value of such a type is written as a dict of one key, its tag, with a blank in front. Tags are Flask's, so cookies
signed with the same key are understood by both.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from markupsafe import Markup
from werkzeug.http import http_date, parse_date


class JSONTag:
    """How one type is written; subclass it and register the class with :meth:`TaggedJSONSerializer.register`.

    Args:
        serializer: the serializer it is registered with, to tag what is inside a value.

    Attributes:
        key: the tag, by custom with a blank in front; empty for a type that needs none but has values inside.
    """

    __slots__ = ("serializer",)
    key: str = ""

    def __init__(self, serializer: TaggedJSONSerializer) -> None:
        self.serializer: TaggedJSONSerializer = serializer

    def check(self, value: Any) -> bool:
        """Tell whether *value* is to be written by this tag."""
        raise NotImplementedError

    def to_json(self, value: Any) -> Any:
        """What JSON can write of *value*, without the tag."""
        raise NotImplementedError

    def to_python(self, value: Any) -> Any:
        """The value, from what :meth:`to_json` gave; what is inside has been read already."""
        raise NotImplementedError

    def tag(self, value: Any) -> dict[str, Any]:
        """*value* with its tag."""
        return {self.key: self.to_json(value)}


class _Pass(JSONTag):
    """A type of JSON's own, whose values are looked into."""

    __slots__ = ()

    def tag(self, value: Any) -> Any:
        return self.to_json(value)


class TagDict(JSONTag):
    """A dict that looks like a tag, since its one key is one; written with another key."""

    __slots__ = ()
    key = " di"

    def check(self, value: Any) -> bool:
        return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in self.serializer.tags

    def to_json(self, value: Any) -> Any:
        ((key, item),) = value.items()
        return {f"{key}__": self.serializer.tag(item)}

    def to_python(self, value: Any) -> Any:
        ((key, item),) = value.items()
        return {key.removesuffix("__"): item}


class PassDict(_Pass):
    """Any other dict."""

    __slots__ = ()

    def check(self, value: Any) -> bool:
        return isinstance(value, dict)

    def to_json(self, value: Any) -> Any:
        tag = self.serializer.tag
        return {key: tag(item) for key, item in value.items()}


class TagTuple(JSONTag):
    """A tuple."""

    __slots__ = ()
    key = " t"

    def check(self, value: Any) -> bool:
        return isinstance(value, tuple)

    def to_json(self, value: Any) -> Any:
        return [self.serializer.tag(item) for item in value]

    def to_python(self, value: Any) -> Any:
        return tuple(value)


class PassList(_Pass):
    """A list."""

    __slots__ = ()

    def check(self, value: Any) -> bool:
        return isinstance(value, list)

    def to_json(self, value: Any) -> Any:
        return [self.serializer.tag(item) for item in value]


class TagBytes(JSONTag):
    """Bytes, as base64."""

    __slots__ = ()
    key = " b"

    def check(self, value: Any) -> bool:
        return isinstance(value, bytes)

    def to_json(self, value: Any) -> Any:
        return b64encode(value).decode("ascii")

    def to_python(self, value: Any) -> Any:
        return b64decode(value)


class TagMarkup(JSONTag):
    """Whatever gives HTML of itself; read back as ``Markup``."""

    __slots__ = ()
    key = " m"

    def check(self, value: Any) -> bool:
        return callable(getattr(value, "__html__", None))

    def to_json(self, value: Any) -> Any:
        return str(value.__html__())

    def to_python(self, value: Any) -> Any:
        return Markup(value)


class TagUUID(JSONTag):
    """A UUID, as its hex digits."""

    __slots__ = ()
    key = " u"

    def check(self, value: Any) -> bool:
        return isinstance(value, UUID)

    def to_json(self, value: Any) -> Any:
        return value.hex

    def to_python(self, value: Any) -> Any:
        return UUID(value)


class TagDateTime(JSONTag):
    """A date with a time, to the second, as HTTP writes it."""

    __slots__ = ()
    key = " d"

    def check(self, value: Any) -> bool:
        return isinstance(value, datetime)

    def to_json(self, value: Any) -> Any:
        return http_date(value)

    def to_python(self, value: Any) -> Any:
        return parse_date(value)


_encode = json.JSONEncoder(separators=(",", ":")).encode


class TaggedJSONSerializer:
    """Writes and reads JSON with tags; ItsDangerous uses it as its serializer.

    Attributes:
        default_tags: the classes that each serializer begins with, in the order they are asked.
        tags: by their keys.
        order: as they are asked.
    """

    __slots__ = ("_plain", "order", "tags")

    default_tags: ClassVar[list[type[JSONTag]]] = [
        TagDict,
        PassDict,
        TagTuple,
        PassList,
        TagBytes,
        TagMarkup,
        TagUUID,
        TagDateTime,
    ]

    def __init__(self) -> None:
        self._plain: frozenset[type] = _NONE
        self.tags: dict[str, JSONTag] = {}
        self.order: list[JSONTag] = []
        for tag_class in self.default_tags:
            self.register(tag_class)
        if _OURS.issuperset(self.default_tags):
            self._plain = _PLAIN

    def register(self, tag_class: type[JSONTag], force: bool = False, index: int | None = None) -> None:
        """Use a tag from now on.

        Args:
            tag_class: its class.
            force: replace a tag with the same key.
            index: its place among those that are asked; the last by default.

        Raises:
            KeyError: the key is taken.
        """
        tag = tag_class(self)
        if tag.key:
            if tag.key in self.tags and not force:
                raise KeyError(f"the tag {tag.key!r} is taken by {type(self.tags[tag.key]).__name__}")
            self.tags[tag.key] = tag
        self.order.insert(len(self.order) if index is None else index, tag)
        self._plain = _NONE

    def dumps(self, value: Any) -> str:
        """*value* as compact JSON text."""
        return _encode(self.tag(value))

    def loads(self, text: str | bytes) -> Any:
        """What :meth:`dumps` was given."""
        return self._untag_all(json.loads(text))

    def tag(self, value: Any) -> Any:
        """*value* with every special type in it written as a tagged dict.

        Raises:
            TypeError: from the encoder, for a type that neither JSON nor the tags know.
        """
        if type(value) in self._plain:
            return value
        for tag in self.order:
            if tag.check(value):
                return tag.tag(value)
        return value

    def untag(self, value: dict[str, Any]) -> Any:
        """What a tagged dict stands for; another dict as it is."""
        if len(value) == 1:
            ((key, item),) = value.items()
            tag = self.tags.get(key)
            if tag is not None:
                return tag.to_python(item)
        return value

    def _untag_all(self, value: Any) -> Any:
        """*value* as the decoder gave it, with every tagged dict in it read, inmost first."""
        if isinstance(value, dict):
            return self.untag({key: self._untag_all(item) for key, item in value.items()})
        if isinstance(value, list):
            return [self._untag_all(item) for item in value]
        return value


_OURS = frozenset(TaggedJSONSerializer.default_tags)
_PLAIN: frozenset[type] = frozenset({str, int, float, bool, type(None)})  # no tag of ours is for them
_NONE: frozenset[type] = frozenset()
