"""JSON as the current app reads and writes it."""

from __future__ import annotations

import json as _json
from typing import IO, TYPE_CHECKING, Any

from ..ctx import current_context
from .orjson import OrjsonProvider
from .provider import DefaultJSONProvider, JSONProvider

if TYPE_CHECKING:
    from ..wrappers.response import Response

_bare = DefaultJSONProvider(None)

__all__ = [
    "DefaultJSONProvider",
    "JSONProvider",
    "OrjsonProvider",
    "dump",
    "dumps",
    "jsonify",
    "load",
    "loads",
]


def _provider() -> JSONProvider:
    context = current_context()
    return _bare if context is None else context.app.json


def dumps(obj: Any, **kwargs: Any) -> str:
    """*obj* as JSON text, by the current app's provider."""
    return _provider().dumps(obj, **kwargs)


def dump(obj: Any, fp: IO[str], **kwargs: Any) -> None:
    """Write *obj* as JSON text to a text file."""
    _provider().dump(obj, fp, **kwargs)


def loads(s: str | bytes, **kwargs: Any) -> Any:
    """What the JSON text says.

    Raises:
        ValueError: it is not JSON.
    """
    return _provider().loads(s, **kwargs)


def load(fp: IO[Any], **kwargs: Any) -> Any:
    """What the JSON in an open file says."""
    return _provider().load(fp, **kwargs)


def jsonify(*args: Any, **kwargs: Any) -> Response:
    """A response of the arguments as JSON: one value, a list of several, or a dict of the keywords."""
    from ..globals import current_app

    return current_app.json.response(*args, **kwargs)


JSONDecodeError = _json.JSONDecodeError
