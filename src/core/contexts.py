"""What happens when contexts begin and end, and what templates see of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..errors import ContextError
from .ctx import Context, current_context, required_context
from .globals import g, hub, request, session
from .helpers import get_flashed_messages
from .scaffold import setupmethod
from .sessions import SecureCookieSessionInterface, SessionMixin
from .signals import (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    request_tearing_down,
    send,
    websocket_tearing_down,
)
from .templating import DispatchingLoader, Environment
from .typing import AnyCallable, F
from .urls import Urls
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
    def add_template_filter(self, func: AnyCallable, name: str | None = None) -> None:
        """Add a template filter under *name*, or its own."""
        self.jinja_env.filters[name or func.__name__] = func

    @setupmethod
    def add_template_test(self, func: AnyCallable, name: str | None = None) -> None:
        """Add a template test under *name*, or its own."""
        self.jinja_env.tests[name or func.__name__] = func

    @setupmethod
    def add_template_global(self, func: AnyCallable, name: str | None = None) -> None:
        """Add a function that templates may call, under *name*, or its own."""
        self.jinja_env.globals[name or func.__name__] = func

    def template_filter(self, name: Any = None) -> Any:
        """Decorate a template filter; with or without parentheses."""
        return self._template_decorator(self.add_template_filter, name)

    def template_test(self, name: Any = None) -> Any:
        """Decorate a template test; with or without parentheses."""
        return self._template_decorator(self.add_template_test, name)

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
        )

    async def context_entered(self, context: Context) -> None:
        """What happens when a context becomes current: the signal, and the session unless it opens itself."""
        if appcontext_pushed.receivers:
            await send(appcontext_pushed, self)
        connection = context.connection
        if connection is not None and not self._session_is_lazy:
            opened = await self.session_interface.open_session(self._whole, connection)
            context._session = (
                self.session_interface.make_null_session(self._whole) if opened is None else opened
            )

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
        return interface.make_null_session(self._whole) if opened is None else opened

    def context_has_exit_work(self, context: Context) -> bool:
        """:meth:`tear_down` has something to do for this request."""
        route = context.route
        opened = context.request
        return bool(
            self.teardown_appcontext_funcs
            or (route is not None and route.teardown)
            or (opened is not None and opened._parsed is not None)
            or request_tearing_down.receivers
            or appcontext_tearing_down.receivers
            or appcontext_popped.receivers
        )

    async def tear_down(self, context: Context, error: BaseException | None = None) -> None:
        """Run every teardown function of *context*, whichever of them raise.

        Errors are logged; where exceptions propagate, the first is raised in the end.
        """
        errors: list[Exception] = []
        if context.request is not None:
            await self._each(errors, [context.request.close])
            await self.do_teardown_request(error, context, errors)
        elif context.websocket is not None:
            await self.do_teardown_websocket(error, context, errors)
        await self.do_teardown_appcontext(error, errors)
        if appcontext_popped.receivers:
            await send(appcontext_popped, self)
        for failure in errors:
            self.log_exception(failure)
        if errors and self.propagates_exceptions:
            raise errors[0]

    async def _each(
        self, errors: list[Exception], functions: Iterable[Callable[..., Any]], *args: Any
    ) -> None:
        for func in functions:
            try:
                await func(*args)
            except Exception as error:  # the others must run too; tear_down reports it
                errors.append(error)

    async def do_teardown_request(
        self,
        error: BaseException | None = None,
        context: Context | None = None,
        errors: list[Exception] | None = None,
    ) -> None:
        """Run the functions of ``teardown_request``, the last registered first."""
        context = context or required_context()
        failed = [] if errors is None else errors
        if context.route is not None:
            await self._each(failed, context.route.teardown, error)
        if request_tearing_down.receivers:
            await send(request_tearing_down, self, exc=error)
        if errors is None and failed:
            raise failed[0]

    async def do_teardown_websocket(
        self,
        error: BaseException | None = None,
        context: Context | None = None,
        errors: list[Exception] | None = None,
    ) -> None:
        """Run the functions of ``teardown_websocket``, the last registered first."""
        context = context or required_context()
        failed = [] if errors is None else errors
        if context.route is not None:
            await self._each(failed, context.route.teardown_websocket, error)
        if websocket_tearing_down.receivers:
            await send(websocket_tearing_down, self, exc=error)
        if errors is None and failed:
            raise failed[0]

    async def do_teardown_appcontext(
        self, error: BaseException | None = None, errors: list[Exception] | None = None
    ) -> None:
        """Run the functions of ``teardown_appcontext``, the last registered first."""
        failed = [] if errors is None else errors
        functions = [self.ensure_async(func) for func in reversed(self.teardown_appcontext_funcs)]
        await self._each(failed, functions, error)
        if appcontext_tearing_down.receivers:
            await send(appcontext_tearing_down, self, exc=error)
        if errors is None and failed:
            raise failed[0]

    # --- errors ---------------------------------------------------------------------------------------------

    @property
    def propagates_exceptions(self) -> bool:
        """Unhandled exceptions leave the app: ``PROPAGATE_EXCEPTIONS``, or in tests."""
        value = self.config["PROPAGATE_EXCEPTIONS"]
        return bool(self.testing if value is None else value)

    def log_exception(self, error: BaseException) -> None:
        """Log an exception with its traceback and the request it happened in."""
        self.logger.error("exception%s", self._whereabouts(), exc_info=error)

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
        """Kept for Flask's sake; teardown does not ask it."""
        return False
