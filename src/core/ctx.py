"""The context: what is current. One context variable holds one object, for a request, a websocket or the bare app.

It lives as long as the answer does: a streamed body runs under it, and teardown comes after the last byte.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..errors import ContextError

if TYPE_CHECKING:
    from werkzeug.routing import MapAdapter

    from .app import Samovar
    from .routing import Route
    from .sessions import SessionMixin
    from .wrappers.base import BaseRequestWebsocket
    from .wrappers.request import Request
    from .wrappers.websocket import Websocket

_MISSING: Any = object()

_current: ContextVar[Context] = ContextVar("samovar.context")


class AppGlobals:
    """``g``: a place for the app's own values, one for each context."""

    if TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None: ...
        def __delattr__(self, name: str) -> None: ...

    def get(self, name: str, default: Any = None) -> Any:
        """The value of *name*, or *default*."""
        return self.__dict__.get(name, default)

    def pop(self, name: str, default: Any = _MISSING) -> Any:
        """Take *name* away and return its value; without *default* a missing one is a KeyError."""
        if default is _MISSING:
            return self.__dict__.pop(name)
        return self.__dict__.pop(name, default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The value of *name*, after setting it to *default* if there was none."""
        return self.__dict__.setdefault(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self.__dict__

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"g has no {name!r} in this context")

    def __repr__(self) -> str:
        return f"<g {', '.join(self.__dict__) or 'empty'}>"


class Context:
    """What is current while one request, websocket, or piece of app code runs.

    ``g``, ``session`` and the URL adapter are made when first used. Use ``async with`` to enter one by hand.

    Args:
        app: the app.
        request: the request, if it is one's.
        websocket: the websocket, if it is one's.

    Attributes:
        errand: what runs in a bare app context, in a log's words, such as ``background task 'tick'``.
    """

    # Most contexts keep most of these: as class attributes they cost a request nothing.
    after: list[Callable[..., Any]] | None = None
    error: BaseException | None = None
    errand = ""
    flashes: list[tuple[str, str]] | None = None
    route: Route | None = None
    _adapter: MapAdapter | None = None
    _cursors: dict[str, str] | None = None
    _g: Any = None
    _session: Any = None
    _tokens: list[Token[Context]] | None = None

    def __init__(self, app: Any, request: Request | None = None, websocket: Websocket | None = None) -> None:
        self.app: Samovar = app
        self.request = request
        self.websocket = websocket

    @property
    def g(self) -> Any:
        """The app's own values, made when first used."""
        g = self._g
        if g is None:
            g = self._g = self.app.app_ctx_globals_class()
        return g

    @g.setter
    def g(self, value: Any) -> None:
        self._g = value

    @property
    def connection(self) -> BaseRequestWebsocket | None:
        """The request or the websocket, None in a bare app context."""
        return self.request if self.request is not None else self.websocket

    @property
    def request_websocket(self) -> BaseRequestWebsocket | None:
        """Quart's name of :attr:`connection`."""
        return self.connection

    @property
    def session(self) -> SessionMixin:
        """The session, opened when first used; that counts as access.

        Raises:
            ContextError: a bare app context has none, or the session interface has to be awaited and was not yet.
        """
        session: SessionMixin | None = self._session
        if session is None:
            session = self._session = self.app.open_session_nowait(self)
        session.accessed = True
        return session

    @property
    def opened_session(self) -> SessionMixin | None:
        """The session if somebody has opened it; does not open it."""
        session: SessionMixin | None = self._session
        return session

    @property
    def url_adapter(self) -> MapAdapter:
        """Werkzeug's adapter for building URLs here, bound when first used.

        Raises:
            RuntimeError: outside a request without ``SERVER_NAME``.
        """
        adapter = self._adapter
        if adapter is None:
            adapter = self._adapter = self.app.create_url_adapter(self.connection)
        if adapter is None:
            raise RuntimeError(
                "URLs cannot be built outside a request: set app.config['SERVER_NAME'], or enter a request context"
            )
        return adapter

    @property
    def cursors(self) -> dict[str, str]:
        """The cursors taken for this page, by channel; the first call for a channel wins."""
        cursors = self._cursors
        if cursors is None:
            cursors = self._cursors = {}
        return cursors

    def after_this(self, func: Callable[..., Any]) -> None:
        """Have *func* called with the response of this context."""
        if self.after is None:
            self.after = []
        self.after.append(func)

    def enter(self) -> Token[Context]:
        """Make this the current context and find its route; the token takes it back by :meth:`leave`.

        The app's own road: nothing is set up that waits, nothing torn down. :meth:`push` is for everybody else.
        """
        token = _current.set(self)
        if self.request is not None or self.websocket is not None:
            self.app.match_request(self)
        return token

    def leave(self, token: Token[Context]) -> None:
        """Make the context before this one the current one again."""
        _current.reset(token)

    async def push(self) -> None:
        """Enter this context by hand; each needs its :meth:`pop`, in the same task. ``async with`` does both."""
        token = self.enter()
        if self._tokens is None:
            self._tokens = []
        self._tokens.append(token)
        if len(self._tokens) == 1:
            try:
                await self.app.context_entered(self)
            except BaseException:
                self.leave(self._tokens.pop())
                raise

    async def pop(self, exc: BaseException | None = _MISSING) -> None:
        """Leave this context, which was pushed; the last time its teardown functions run.

        Args:
            exc: what they are told; the exception that is being handled unless given.

        Raises:
            RuntimeError: it was not pushed, or another one was pushed since and is still there.
        """
        if not self._tokens or _current.get(None) is not self:
            raise RuntimeError(
                f"{self!r} is not the current context: a context is popped once for each push, innermost first"
            )
        try:
            if len(self._tokens) == 1:
                error = sys.exc_info()[1] if exc is _MISSING else exc
                await self.app.tear_down(self, error if error is not None else self.error)
        finally:
            self.leave(self._tokens.pop())

    @property
    def pushed(self) -> bool:
        """It was entered by hand."""
        return bool(self._tokens)

    def copy(self) -> Context:
        """Another context of the same request or websocket, with the same ``g`` and session, for another task."""
        if self._session is None and self.connection is not None and self.app._session_is_lazy:
            self._session = self.app.open_session_nowait(self)  # else each would open one of its own
        twin = type(self)(self.app, self.request, self.websocket)
        twin.route, twin._adapter, twin.flashes = self.route, self._adapter, self.flashes
        twin._g, twin._session, twin._cursors = self.g, self._session, self._cursors
        return twin

    def match_request(self) -> None:
        """Find the route of the request or websocket again, after its path or method was changed."""
        self.app.match_request(self)

    async def __aenter__(self) -> Self:
        await self.push()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.pop(error)

    def __repr__(self) -> str:
        return f"<Context of {self.app.name!r} {self.connection or 'app'}>"


# One class has the three roles that Quart gives three; so has Flask from 3.2 on.
AppContext = RequestContext = WebsocketContext = Context
_AppCtxGlobals = AppGlobals


def current_context() -> Context | None:
    """The current context, None outside any."""
    return _current.get(None)


def required_context(what: str = "this") -> Context:
    """The current context.

    Raises:
        ContextError: there is none; the message says what to do.
    """
    context = _current.get(None)
    if context is None:
        raise ContextError(
            f"{what} needs a context and none is active: call it while a request is handled, or inside "
            f"'async with app.app_context():' (for requests 'app.test_request_context(\"/\")')"
        )
    return context


def has_app_context() -> bool:
    """Tell whether a context is active; every request's and websocket's is an app context too."""
    return _current.get(None) is not None


def has_request_context() -> bool:
    """Tell whether a request is being handled."""
    context = _current.get(None)
    return context is not None and context.request is not None


def has_websocket_context() -> bool:
    """Tell whether a websocket is being handled."""
    context = _current.get(None)
    return context is not None and context.websocket is not None


def after_this_request(func: Callable[..., Any]) -> Callable[..., Any]:
    """Have *func* called with this request's response; it returns the response to send."""
    context = required_context("after_this_request")
    if context.request is None:
        raise ContextError("after_this_request needs a request; none is being handled")
    context.after_this(func)
    return func


def after_this_websocket(func: Callable[..., Any]) -> Callable[..., Any]:
    """Have *func* called with this websocket's response, or None, when its handler has ended."""
    context = required_context("after_this_websocket")
    if context.websocket is None:
        raise ContextError("after_this_websocket needs a websocket; none is being handled")
    context.after_this(func)
    return func


def _carrying(func: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    context = required_context("copying the context")
    call = context.app.ensure_async(func)

    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        token = _current.set(context)
        try:
            return await call(*args, **kwargs)
        finally:
            _current.reset(token)

    return wrapper


def copy_current_app_context(func: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """*func*, run under the context that is current now, whichever is when it is called; a plain one in a thread."""
    return _carrying(func)


def copy_current_request_context(func: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """*func*, run under the request's context that is current now; a plain one in a thread.

    Raises:
        ContextError: no request is being handled.
    """
    if not has_request_context():
        raise ContextError("copy_current_request_context needs a request; none is being handled")
    return _carrying(func)


def copy_current_websocket_context(func: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """*func*, run under the websocket's context that is current now; a plain one in a thread.

    Raises:
        ContextError: no websocket is being handled.
    """
    if not has_websocket_context():
        raise ContextError("copy_current_websocket_context needs a websocket; none is being handled")
    return _carrying(func)


__all__ = [
    "AppContext",
    "AppGlobals",
    "Context",
    "RequestContext",
    "WebsocketContext",
    "after_this_request",
    "after_this_websocket",
    "copy_current_app_context",
    "copy_current_request_context",
    "copy_current_websocket_context",
    "current_context",
    "has_app_context",
    "has_request_context",
    "has_websocket_context",
    "required_context",
]
