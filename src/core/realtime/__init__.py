"""What carries a channel to a client: the doors, what they ask first, and what goes over the wire.

Names are looked up when first used: the doors stand above the wrappers, which use parts of this folder themselves.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .access import Access
    from .frames import ServerSentEvent
    from .longpoll import long_poll
    from .sse import event_stream

_HOMES = {"Access": "access", "ServerSentEvent": "frames", "event_stream": "sse", "long_poll": "longpoll"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


__all__ = ["Access", "ServerSentEvent", "event_stream", "long_poll"]
