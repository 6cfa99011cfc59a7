"""What happens when contexts begin and end, and what templates see of them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, overload

from ..errors import ContextError
from .ctx import Context, current_context, required_context
from .globals import g, hub, request, session
from .helpers import get_flashed_messages
from .scaffold import setupmethod
from .sessions import SecureCookieSessionInterface, SessionInterface, SessionMixin
from .signals import (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    request_tearing_down,
    send,
    websocket_tearing_down,
)
from .templating import DispatchingLoader, Environment
from .typing import AnyCallable, ExceptionInfo, F
from .urls import Urls
from .utils import exc_info_of
from .wrappers.request import Request
from .wrappers.websocket import Websocket


class Contexts(Urls):
    """The part of an app that enters and leaves contexts."""

    # --- templates ------------------------------------------------------------------------------------------

    @property
    def jinja_env(self) -> Environment:
        """The Jinja environment, made when first used."""
        if self._jinja_env is None:
            self._jinja_env = self.create_jinja_environment()
        return self._jinja_env

    def create_jinja_environment(self) -> Environment:
        """A Jinja environment with the standard names."""
        options = dict(self.jinja_options)
        options.setdefault("autoescape", self.select_jinja_autoescape)
        if "auto_reload" not in options:
            reload = self.config["TEMPLATES_AUTO_RELOAD"]
            options["auto_reload"] = self.debug if reload is None else reload
        environment = self.jinja_environment(self._whole, **options)
        environment.globals.update(
            url_for=self.url_for,
            get_flashed_messages=get_flashed_messages,
            config=self.config,
            request=request,
            session=session,
            g=g,
            cursor=hub.cursor,
        )
        environment.policies["json.dumps_function"] = self.json.dumps
        return environment

    def create_global_jinja_loader(self) -> DispatchingLoader:
        """What looks for templates in the app's folder and in the blueprints'."""
        return DispatchingLoader(self._whole)

    def select_jinja_autoescape(self, filename: str | None) -> bool:
        """Templates given as text, and those named ``.html``, ``.htm``, ``.xml``, ``.xhtml``, ``.svg``, are escaped."""
        return filename is None or filename.endswith((".html", ".htm", ".xml", ".xhtml", ".svg"))

    async def update_template_context(self, context: dict[str, Any]) -> None:
        """Add what the context processors say to *context*; what is there already wins."""
        processors = self.template_context_processors
        if not processors:
            return
        current = current_context()
        names = current.route.names if current is not None and current.route is not None else ()
        given = dict(context)
        for name in (None, *reversed(names)):
            for func in processors.get(name, ()):
                context.update(await self.ensure_async(func)())
        context.update(given)

    @setupmethod
    def add_template_filter(self, f: AnyCallable, name: str | None = None) -> None:
        """Add a template filter under *name*, or its own."""
        self.jinja_env.filters[name or f.__name__] = f

    @setupmethod
    def add_template_test(self, f: AnyCallable, name: str | None = None) -> None:
        """Add a template test under *name*, or its own."""
        self.jinja_env.tests[name or f.__name__] = f

    @setupmethod
    def add_template_global(self, f: AnyCallable, name: str | None = None) -> None:
        """Add a function that templates may call, under *name*, or its own."""
        self.jinja_env.globals[name or f.__name__] = f

    @overload
    def template_filter(self, name: F) -> F: ...

    @overload
    def template_filter(self, name: str | None = None) -> Callable[[F], F]: ...

    def template_filter(self, name: Any = None) -> Any:
        """Decorate a template filter; with or without parentheses."""
        return self._template_decorator(self.add_template_filter, name)

    @overload
    def template_test(self, name: F) -> F: ...

    @overload
    def template_test(self, name: str | None = None) -> Callable[[F], F]: ...

    def template_test(self, name: Any = None) -> Any:
        """Decorate a template test; with or without parentheses."""
        return self._template_decorator(self.add_template_test, name)

    @overload
    def template_global(self, name: F) -> F: ...

    @overload
    def template_global(self, name: str | None = None) -> Callable[[F], F]: ...

    def template_global(self, name: Any = None) -> Any:
        """Decorate a function that templates may call; with or without parentheses."""
        return self._template_decorator(self.add_template_global, name)

    def _template_decorator(self, add: Callable[..., None], name: Any) -> Any:
        if callable(name):
            add(name)
            return name

        def decorate(func: F) -> F:
            add(func, name)
            return func

        return decorate

    # --- contexts -------------------------------------------------------------------------------------------

    def app_context(self) -> Context:
        """A context of the bare app: ``async with app.app_context():``."""
        return Context(self)

    def request_context(self, request: Request) -> Context:
        """A context of *request*."""
        return Context(self, request)

    def websocket_context(self, websocket: Websocket) -> Context:
        """A context of *websocket*."""
        return Context(self, None, websocket)

    @property
    def _session_is_lazy(self) -> bool:
        """The session may be opened when first touched, since nobody changed how it is opened."""
        kind = type(self.session_interface)
        return (
            issubclass(kind, SecureCookieSessionInterface)
            and kind.open_session is SecureCookieSessionInterface.open_session
            and kind.make_null_session is SessionInterface.make_null_session
        )

    async def context_entered(self, context: Context) -> None:
        """What happens when a context becomes current: the signal, and the session unless it opens itself."""
        if appcontext_pushed.receivers:
            await send(appcontext_pushed, self)
        connection = context.connection
        if connection is not None and not self._session_is_lazy:
            opened: Any = await self.session_interface.open_session(self._whole, connection)
            if opened is None:
                opened = self.session_interface.make_null_session(self._whole)
                if inspect.isawaitable(opened):  # Flask's is a plain function
                    opened = await opened
            context._session = opened

    def open_session_nowait(self, context: Context) -> SessionMixin:
        """The session of *context*, when it opens itself on first touch.

        Raises:
            ContextError: a bare app context has none.
        """
        connection = context.connection
        if connection is None:
            raise ContextError("'session' was used outside a request: a bare app context has none")
        interface = self.session_interface
        if not isinstance(interface, SecureCookieSessionInterface):
            raise ContextError("'session' was used before the session interface opened it")
        opened = interface.open_session_nowait(self._whole, connection)
        return interface.null_session_class() if opened is None else opened

    _torn_down_always = False
    """There are teardown steps of somebody's own, which run for every request."""

    def _choose_teardown(self) -> None:
        """Look whether a subclass, this app or its requests have teardown steps of their own."""
        given, kind = self.__dict__, type(self)
        self._torn_down_always = self.request_class.close is not Request.close or any(
            name in given or getattr(kind, name) is not getattr(Contexts, name) for name in _TEARDOWN_STEPS
        )

    def context_has_exit_work(self, context: Context) -> object:
        """:meth:`tear_down` has something to do for this request."""
        route: Any = context.route
        request: Any = context.request
        return (
            self.teardown_appcontext_funcs
            or request._parsed is not None
            or request_tearing_down.receivers
            or appcontext_tearing_down.receivers
            or appcontext_popped.receivers
            or self._torn_down_always
            or (route is not None and route.teardown)  # the last: its functions alone are express.tear_down's
        )

    async def tear_down(self, context: Context, error: BaseException | None = None) -> None:
        """Run every teardown function of *context*, whichever of them raise.

        Errors are logged; where exceptions propagate, the first is raised in the end.
        """
        if error is not None and self.should_ignore_error(error):
            error = None
        errors: list[Exception] = []
        if context.request is not None:
            await _attempt(errors, self.do_teardown_request, error, context)
            await _attempt(errors, context.request.close)
        elif context.websocket is not None:
            await _attempt(errors, self.do_teardown_websocket, error, context)
        await _attempt(errors, self.do_teardown_appcontext, error)
        if appcontext_popped.receivers:
            await send(appcontext_popped, self)
        self.report_teardown(errors)

    def report_teardown(self, errors: list[Exception]) -> None:
        """Log what teardown functions raised; where exceptions propagate, the first is raised."""
        for failure in errors:
            self.log_exception(exc_info_of(failure))
        if errors and self.propagates_exceptions:
            raise errors[0]

    async def do_teardown_request(
        self, exc: BaseException | None, request_context: Context | None = None
    ) -> None:
        """Run the functions of ``teardown_request``, the last registered first, whichever of them raise.

        Args:
            exc: what nobody handled, None when all went well.
            request_context: the current one unless given.

        Raises:
            Exception: what one of them raised; several are one :class:`ExceptionGroup`.
        """
        context = request_context or required_context()
        errors: list[Exception] = []
        if context.route is not None:
            for func in context.route.teardown:
                await _attempt(errors, func, exc)
        if request_tearing_down.receivers:
            await send(request_tearing_down, self, exc=exc)
        _raise_all(errors)

    async def do_teardown_websocket(
        self, exc: BaseException | None, websocket_context: Context | None = None
    ) -> None:
        """Run the functions of ``teardown_websocket``, as :meth:`do_teardown_request` does its own."""
        context = websocket_context or required_context()
        errors: list[Exception] = []
        if context.route is not None:
            for func in context.route.teardown_websocket:
                await _attempt(errors, func, exc)
        if websocket_tearing_down.receivers:
            await send(websocket_tearing_down, self, exc=exc)
        _raise_all(errors)

    async def do_teardown_appcontext(self, exc: BaseException | None) -> None:
        """Run the functions of ``teardown_appcontext``, as :meth:`do_teardown_request` does its own."""
        errors: list[Exception] = []
        for func in reversed(self.teardown_appcontext_funcs):
            await _attempt(errors, self.ensure_async(func), exc)
        if appcontext_tearing_down.receivers:
            await send(appcontext_tearing_down, self, exc=exc)
        _raise_all(errors)

    # --- errors ---------------------------------------------------------------------------------------------

    @property
    def propagates_exceptions(self) -> bool:
        """Unhandled exceptions leave the app: ``PROPAGATE_EXCEPTIONS``, or in tests."""
        value = self.config["PROPAGATE_EXCEPTIONS"]
        return bool(self.testing if value is None else value)

    def log_exception(self, exception_info: ExceptionInfo | BaseException) -> None:
        """Log an exception with its traceback and the request it happened in; override it to send it elsewhere too.

        Args:
            exception_info: as ``sys.exc_info()`` gives it; the exception itself will do.
        """
        self.logger.error("exception%s", self._whereabouts(), exc_info=exception_info)

    def _whereabouts(self) -> str:
        """Where the current context is, for a log: `` in GET '/path'``; empty where nothing is known."""
        context = current_context()
        if context is None:
            return ""
        if context.request is not None:
            return f" in {context.request.method} {context.request.path!r}"
        if context.websocket is not None:
            return f" in websocket {context.websocket.path!r}"
        return f" in {context.errand}" if context.errand else ""

    def should_ignore_error(self, error: BaseException | None) -> bool:
        """Tell whether teardown functions are told nothing of *error*; never, unless overridden."""
        return False


_TEARDOWN_STEPS = (
    "tear_down",
    "do_teardown_request",
    "do_teardown_websocket",
    "do_teardown_appcontext",
    "should_ignore_error",
)


class _Several(ExceptionGroup[Exception]):
    """What several teardown functions raised; :meth:`Contexts.tear_down` takes it apart again."""


async def _attempt(errors: list[Exception], func: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """Await *func*; what it raises is added to *errors*, since the others must run too."""
    try:
        await func(*args)
    except _Several as several:
        errors.extend(several.exceptions)
    except Exception as error:
        errors.append(error)


def _raise_all(errors: list[Exception]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise _Several("teardown functions failed", errors)
