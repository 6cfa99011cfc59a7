"""The proxies: ``request``, ``websocket``, ``session``, ``g``, ``current_app``, ``hub`` always mean the current ones.

What views use most has a property of its own on the proxy, several times faster than the general road through
``__getattr__``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from ..errors import ContextError
from .ctx import Context, _current, current_context

if TYPE_CHECKING:
    from ..broadcast import Hub
    from .app import Samovar
    from .ctx import AppGlobals
    from .sessions import SessionMixin
    from .wrappers.request import Request
    from .wrappers.websocket import Websocket

_get = _current.get


def _class(proxy: Any) -> type:
    """What ``isinstance`` sees: the current object's class, the proxy's own outside a context."""
    try:
        return type(proxy._get_current_object())
    except ContextError:
        return type(proxy)


class _Proxy:
    """Stands for one object of the current context; every use is passed on to it."""

    __slots__ = ()
    __class__ = property(_class)  # what isinstance asks
    _slot = ""
    _help = "call it while a request is handled, or inside 'async with app.test_request_context(\"/\"):'"

    def _get_current_object(self) -> Any:
        """The object meant.

        Raises:
            ContextError: no such context is active.
        """
        context = _get(None)
        target = None if context is None else self._of(context)
        if target is None:
            help = self._help if context is None else self._help_in(context)
            raise ContextError(f"{self._slot!r} was used outside its context: {help}")
        return target

    def _help_in(self, context: Context) -> str:
        """What to do in a context that has no such object."""
        return self._help

    def _of(self, context: Context) -> Any:
        return getattr(context, self._slot)

    def __getattr__(self, name: str) -> Any:
        try:
            target = self._get_current_object()
        except ContextError as error:
            if name.startswith(
                "__"
            ):  # tools that look around (inspect, doctest, pytest) ask every name for these
                raise AttributeError(name) from error
            raise
        return getattr(target, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._get_current_object(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._get_current_object(), name)

    def __repr__(self) -> str:
        try:
            return repr(self._get_current_object())
        except ContextError:
            return f"<{self._slot}: none active>"

    def __str__(self) -> str:
        try:
            return str(self._get_current_object())
        except ContextError:
            return repr(self)

    def __bool__(self) -> bool:
        try:
            return bool(self._get_current_object())
        except ContextError:
            return False

    def __dir__(self) -> list[str]:
        try:
            return dir(self._get_current_object())
        except ContextError:
            return list(object.__dir__(self))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _Proxy):
            other = other._get_current_object()
        return bool(self._get_current_object() == other)

    def __hash__(self) -> int:
        return hash(self._get_current_object())


def _hot(slot: str, name: str) -> property:
    """A property that reads ``context.slot.name`` in one step, and falls back on the general road to complain."""
    read = attrgetter(f"{slot}.{name}")
    owner = attrgetter(slot)

    def fget(proxy: _Proxy) -> Any:
        context = _get(None)
        if context is None or owner(context) is None:
            proxy._get_current_object()
        return read(context)

    def fset(proxy: _Proxy, value: Any) -> None:
        setattr(proxy._get_current_object(), name, value)

    return property(fget, fset)


def _method(slot: str, name: str) -> Callable[..., Any]:
    """A method of the proxy that passes on to the current object's; for the special ones Python finds on the type."""

    def method(proxy: _Proxy, *args: Any) -> Any:
        return getattr(proxy._get_current_object(), name)(*args)

    method.__name__ = name
    return method


_MAPPING = (
    "__getitem__",
    "__setitem__",
    "__delitem__",
    "__contains__",
    "__len__",
    "__iter__",
    "__or__",
    "__ior__",
)

_REQUEST = (
    "args",
    "content_length",
    "cookies",
    "data",
    "endpoint",
    "files",
    "form",
    "full_path",
    "get_data",
    "get_json",
    "headers",
    "host",
    "is_json",
    "json",
    "method",
    "mimetype",
    "path",
    "query_string",
    "remote_addr",
    "scheme",
    "scope",
    "url",
    "url_rule",
    "view_args",
)

_WEBSOCKET = (
    "accept",
    "args",
    "close",
    "closed",
    "cookies",
    "headers",
    "path",
    "receive",
    "receive_json",
    "scope",
    "send",
    "send_json",
    "subscribe",
    "unsubscribe",
    "view_args",
)


class _RequestProxy(_Proxy):
    __slots__ = ()
    _slot = "request"

    def _help_in(self, context: Context) -> str:
        return self._help if context.websocket is None else "in a websocket's handler use 'websocket'"


class _WebsocketProxy(_Proxy):
    __slots__ = ()
    _slot = "websocket"
    _help = "call it in a websocket's handler"

    def _help_in(self, context: Context) -> str:
        return self._help if context.request is None else "a view of plain HTTP has 'request'"

    def __aiter__(self) -> AsyncIterator[Any]:
        return aiter(self._get_current_object())


class _SessionProxy(_Proxy):
    __slots__ = ()
    _slot = "session"

    def _of(self, context: Context) -> Any:
        return None if context.connection is None else context.session


class _GlobalsProxy(_Proxy):
    __slots__ = ()
    _slot = "g"
    _help = "call it while a request is handled, or inside 'async with app.app_context():'"

    def __getattr__(self, name: str) -> Any:  # the hot road of ``g``: any name
        context = _get(None)
        return super().__getattr__(name) if context is None else getattr(context.g, name)

    def __contains__(self, name: object) -> bool:
        return name in self._get_current_object()

    def __iter__(self) -> Iterator[str]:
        return iter(self._get_current_object())


class _AppProxy(_Proxy):
    __slots__ = ()
    _slot = "app"
    _help = "call it while a request is handled, or inside 'async with app.app_context():'"


class _ContextProxy(_Proxy):
    """The context itself, for extensions that keep something on it."""

    __slots__ = ()
    _slot = "app_ctx"
    _help = _AppProxy._help

    def _of(self, context: Context) -> Any:
        return context


class _RequestContextProxy(_ContextProxy):
    __slots__ = ()
    _slot = "request_ctx"
    _help = _Proxy._help

    def _of(self, context: Context) -> Any:
        return None if context.request is None else context


class _WebsocketContextProxy(_ContextProxy):
    __slots__ = ()
    _slot = "websocket_ctx"
    _help = _WebsocketProxy._help

    def _of(self, context: Context) -> Any:
        return None if context.websocket is None else context


class _HubProxy(_Proxy):
    __slots__ = ()
    _slot = "hub"
    _help = "call it while a request is handled, or inside 'async with app.app_context():', or use app.hub"

    def _of(self, context: Context) -> Any:
        return context.app.hub

    def __aenter__(self) -> Any:
        return self._get_current_object().__aenter__()

    def __aexit__(self, *args: Any) -> Any:
        return self._get_current_object().__aexit__(*args)

    async def cursor(self, channel: str) -> str:
        """The page's cursor: asked of the hub once for each request, so that all of a page goes on from one place."""
        target = self._get_current_object()
        context = _get()
        if context.request is None:  # a websocket or a task lives on: what it asks later is another question
            return str(await target.cursor(channel))
        cursors = context.cursors
        if channel not in cursors:
            cursor = await target.cursor(channel)
            cursors.setdefault(channel, cursor)
        return cursors[channel]


for _name in _REQUEST:
    setattr(_RequestProxy, _name, _hot("request", _name))
for _name in _WEBSOCKET:
    setattr(_WebsocketProxy, _name, _hot("websocket", _name))
for _name in _MAPPING:
    setattr(_SessionProxy, _name, _method("session", _name))
for _name in ("config", "debug", "json", "logger", "extensions", "hub"):
    setattr(_AppProxy, _name, _hot("app", _name))
for _name in ("publish", "publish_many", "publish_sync", "subscribe", "history", "presence"):
    setattr(_HubProxy, _name, _hot("app.hub", _name))
del _name

request: Request = cast("Request", _RequestProxy())
websocket: Websocket = cast("Websocket", _WebsocketProxy())
session: SessionMixin = cast("SessionMixin", _SessionProxy())
g: AppGlobals = cast("AppGlobals", _GlobalsProxy())
current_app: Samovar = cast("Samovar", _AppProxy())
hub: Hub = cast("Hub", _HubProxy())
app_ctx: Context = cast("Context", _ContextProxy())
request_ctx: Context = cast("Context", _RequestContextProxy())
websocket_ctx: Context = cast("Context", _WebsocketContextProxy())

__all__ = [
    "app_ctx",
    "current_app",
    "current_context",
    "g",
    "hub",
    "request",
    "request_ctx",
    "session",
    "websocket",
    "websocket_ctx",
]
