"""The application: where everything is registered, and the steps of a request, each a method of its own."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

from werkzeug.datastructures import Headers
from werkzeug.exceptions import (
    Aborter,
    BadRequest,
    BadRequestKeyError,
    HTTPException,
    InternalServerError,
    RequestEntityTooLarge,
    ServiceUnavailable,
)
from werkzeug.routing import BuildError, MapAdapter, RequestRedirect, RoutingException, Rule
from werkzeug.sansio.response import Response as SansIOResponse

from ..broadcast import ChannelRule
from ..errors import (
    BackendUnavailable,
    ContextError,
    InvalidChannel,
    InvalidCursor,
    InvalidPayload,
    MessageTooLarge,
    PublishError,
    WebsocketClosed,
)
from ..tasks import Scope as TaskScope
from .asgi.http import HTTPHandler
from .asgi.lifespan import LifespanHandler
from .asgi.websocket import WebsocketHandler
from .config import DEFAULTS, Config, ConfigAttribute
from .ctx import AppGlobals, Context, current_context, required_context
from .debug import traceback_page
from .globals import g, hub, request, session
from .helpers import get_flashed_messages, redirect_response
from .json.provider import DefaultJSONProvider, JSONProvider
from .logging import create_logger
from .realtime.access import AccessFunction, ChannelAccess
from .realtime.drain import ShutdownEvent
from .realtime.longpoll import Polls
from .routing import Route, Router, SamovarMap, SamovarRule
from .scaffold import Scaffold, endpoint_of, setupmethod
from .sessions import SecureCookieSessionInterface, SessionInterface, SessionMixin
from .signals import (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    got_background_exception,
    got_request_exception,
    got_serving_exception,
    got_websocket_exception,
    request_finished,
    request_started,
    request_tearing_down,
    send,
    websocket_finished,
    websocket_started,
    websocket_tearing_down,
)
from .templating import DispatchingLoader, Environment
from .typing import (
    AnyCallable,
    ASGIReceive,
    ASGISend,
    F,
    FilePath,
    LifespanCallable,
    ResponseReturnValue,
    Scope,
    TeardownCallable,
    WhileServingCallable,
)
from .utils import ensure_async, run_in_thread, run_sync
from .wrappers.base import BaseRequestWebsocket, blueprint_names
from .wrappers.request import Request
from .wrappers.response import Response
from .wrappers.websocket import Websocket

if TYPE_CHECKING:
    from ..broadcast import Hub
    from .blueprints import Blueprint
    from .testing import SamovarClient as TestClient
    from .testing import TestApp
    from .testing.cli import CliRunner

# What the broadcast layer refuses on a client's account is the client's mistake; what the broker fails is 503.
_BROADCAST_ERRORS: tuple[tuple[type[Exception], type[HTTPException]], ...] = (
    (MessageTooLarge, RequestEntityTooLarge),
    (PublishError, ServiceUnavailable),
    (BackendUnavailable, ServiceUnavailable),
    (InvalidPayload, BadRequest),
    (InvalidChannel, BadRequest),
    (InvalidCursor, BadRequest),
)


NOT_GIVEN: Any = object()  # None is JSON too


def _as_timedelta(value: timedelta | float) -> timedelta:
    return value if isinstance(value, timedelta) else timedelta(seconds=value)


class Samovar(Scaffold):
    """A web application, and an ASGI one: hand it to any ASGI server.

    Args:
        import_name: the module it is defined in, usually ``__name__``.
        static_url_path: where static files are served; the folder's name unless given.
        static_folder: relative to the root path; None for none.
        static_host: their host, with *host_matching*.
        host_matching: rules may have a ``host``.
        subdomain_matching: rules may have a ``subdomain``; needs ``SERVER_NAME``.
        template_folder: relative to the root path.
        instance_path: an absolute path for files of this deployment.
        instance_relative_config: configuration files are relative to that.
        root_path: what folders are relative to; the module's folder unless given.
    """

    aborter_class = Aborter
    app_ctx_globals_class = AppGlobals
    asgi_http_class = HTTPHandler
    asgi_lifespan_class = LifespanHandler
    asgi_websocket_class = WebsocketHandler
    config_class = Config
    event_class = ShutdownEvent
    jinja_environment = Environment
    json_provider_class: type[JSONProvider] = DefaultJSONProvider
    request_class = Request
    response_class = Response
    url_map_class = SamovarMap
    url_rule_class = SamovarRule
    websocket_class = Websocket
    session_interface: SessionInterface = SecureCookieSessionInterface()
    jinja_options: Mapping[str, Any] = {}

    debug = ConfigAttribute("DEBUG", bool)
    testing = ConfigAttribute("TESTING")
    secret_key = ConfigAttribute("SECRET_KEY")
    permanent_session_lifetime = ConfigAttribute("PERMANENT_SESSION_LIFETIME", _as_timedelta)

    def __init__(
        self,
        import_name: str,
        static_url_path: str | None = None,
        static_folder: FilePath | None = "static",
        static_host: str | None = None,
        host_matching: bool = False,
        subdomain_matching: bool = False,
        template_folder: FilePath | None = "templates",
        instance_path: FilePath | None = None,
        instance_relative_config: bool = False,
        root_path: FilePath | None = None,
    ) -> None:
        super().__init__(import_name, static_folder, static_url_path, template_folder, root_path)
        self.instance_path = self._checked_instance_path(instance_path)
        config_root = self.instance_path if instance_relative_config else self.root_path
        self.config = self.config_class(config_root, self._default_config())
        self.subdomain_matching = subdomain_matching
        self.url_map = self.url_map_class(host_matching=host_matching)
        self.aborter = self.make_aborter()
        self.json = self.json_provider_class(self)
        self.blueprints: dict[str, Blueprint] = {}
        self.extensions: dict[str, Any] = {}
        self.url_build_error_handlers: list[Callable[[Exception, str, dict[str, Any]], str]] = []
        self.teardown_appcontext_funcs: list[TeardownCallable] = []
        self.shell_context_processors: list[Callable[[], dict[str, Any]]] = []
        self.before_serving_funcs: list[LifespanCallable] = []
        self.after_serving_funcs: list[LifespanCallable] = []
        self.while_serving_gens: list[AsyncIterator[None]] = []
        self._while_serving_funcs: list[WhileServingCallable] = []
        self.channels = ChannelAccess(self.ensure_async)
        self._open_doors()
        self._background: TaskScope | None = None
        self._router: Router | None = None
        self._nowhere: Route | None = None
        self._jinja_env: Environment | None = None
        self._logger: logging.Logger | None = None
        self._hub: Hub | None = None
        self._got_first_request = False
        self._add_static_route(static_host)

    def _default_config(self) -> dict[str, Any]:
        defaults = dict(DEFAULTS)
        flag = os.environ.get("SAMOVAR_DEBUG", "").strip().lower()
        defaults["DEBUG"] = flag not in {"", "0", "false", "no"}
        return defaults

    def _checked_instance_path(self, path: FilePath | None) -> str:
        if path is None:
            return self.auto_find_instance_path()
        if not os.path.isabs(path):
            raise ValueError(f"instance_path must be absolute, not {os.fspath(path)!r}")
        return os.fspath(path)

    def _add_static_route(self, static_host: str | None) -> None:
        if bool(static_host) != self.url_map.host_matching and static_host:
            raise ValueError("static_host needs host_matching=True")
        if not self.has_static_folder:
            return
        if self.url_map.host_matching and not static_host:
            raise ValueError("host_matching with a static folder needs static_host")
        rule = f"{self.static_url_path}/<path:filename>"
        self.add_url_rule(rule, "static", self.send_static_file, host=static_host)

    # --- names, places, parts ---------------------------------------------------------------------------------

    @property
    def name(self) -> str:  # type: ignore[override]  # an attribute of blueprints
        """The app's name: its module's, or its file's when it is run as a script."""
        if self.import_name == "__main__":
            path = getattr(sys.modules["__main__"], "__file__", None)
            return "__main__" if path is None else Path(path).stem
        return self.import_name

    def auto_find_instance_path(self) -> str:
        """The folder ``instance`` beside the app's module or package."""
        folder = Path(self.root_path)
        while (folder / "__init__.py").exists():
            folder = folder.parent
        return str(folder / "instance")

    async def open_instance_resource(
        self, path: FilePath, mode: str = "rb", encoding: str | None = "utf-8"
    ) -> IO[Any]:
        """Open a file of the instance folder, in a thread."""

        def opened() -> IO[Any]:
            return open(
                os.path.join(self.instance_path, path), mode, encoding=None if "b" in mode else encoding
            )

        return await run_in_thread(opened)

    @property
    def logger(self) -> logging.Logger:
        """The app's logger, named like the app."""
        if self._logger is None:
            self._logger = create_logger(self)
        return self._logger

    @property
    def got_first_request(self) -> bool:
        """A request or websocket was handled; nothing can be registered any more."""
        return self._got_first_request

    @property
    def hub(self) -> Hub:
        """The hub of the app's channels, made from the ``BROADCAST_`` settings when first used."""
        if self._hub is None:
            self._hub = self.make_hub()
        return self._hub

    def make_hub(self) -> Hub:
        """A hub as the settings say; override it to build another."""
        from ..broadcast import Hub

        config = self.config
        return Hub(
            config["BROADCAST_URL"],
            channels=self.channels.declared,
            json=self.json,
            max_message_bytes=config["BROADCAST_MAX_MESSAGE_BYTES"],
            publish_timeout=config["BROADCAST_PUBLISH_TIMEOUT"],
            outbox_messages=config["BROADCAST_OUTBOX_MESSAGES"],
            outbox_bytes=config["BROADCAST_OUTBOX_BYTES"],
        )

    def make_aborter(self) -> Aborter:
        """What ``abort`` uses."""
        return self.aborter_class()

    def redirect(self, location: str, code: int = 302) -> Response:
        """A response that sends the client to *location*."""
        return redirect_response(location, code, self.response_class)

    def ensure_async(self, func: AnyCallable) -> Callable[..., Awaitable[Any]]:
        """*func* if it is async, else a coroutine function that runs it in a thread."""
        return ensure_async(func)

    def sync_to_async(self, func: AnyCallable) -> Callable[..., Awaitable[Any]]:
        """A coroutine function that runs *func* in a thread."""
        return run_sync(func)

    # --- registering ------------------------------------------------------------------------------------------

    def _check_setup_finished(self, what: str) -> None:
        if self._got_first_request:
            raise AssertionError(
                f"{what} was called after the first request was handled: it would come too late for some. "
                "Register everything while the app is built"
            )
        self._router = None  # what runs around the endpoints is worked out anew

    @setupmethod
    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: AnyCallable | None = None,
        provide_automatic_options: bool | None = None,
        **options: Any,
    ) -> None:
        """See :meth:`Scaffold.add_url_rule`.

        Raises:
            AssertionError: the endpoint has another view already.
        """
        if endpoint is None:
            if view_func is None:
                raise ValueError(f"the rule {rule!r} needs an endpoint or a view")
            endpoint = endpoint_of(view_func)
        self._add_view(endpoint, view_func)
        methods = self._methods(view_func, options)
        if provide_automatic_options is None:
            provide_automatic_options = getattr(view_func, "provide_automatic_options", None)
        if provide_automatic_options is None:
            provide_automatic_options = (
                bool(self.config["PROVIDE_AUTOMATIC_OPTIONS"]) and "OPTIONS" not in methods
            )
        if options.get("websocket"):
            provide_automatic_options, methods = False, {"GET"}
        if provide_automatic_options:
            methods.add("OPTIONS")
        self.url_map.add(
            self.url_rule_class(
                rule,
                endpoint=endpoint,
                methods=methods,
                provide_automatic_options=provide_automatic_options,
                **options,
            )
        )

    def _add_view(self, endpoint: str, view_func: AnyCallable | None) -> None:
        known = self.view_functions.get(endpoint)
        if known is not None and view_func is not None and known != view_func:
            raise AssertionError(
                f"the endpoint {endpoint!r} has another view already: give one of them another endpoint="
            )
        if view_func is not None:
            self.view_functions[endpoint] = view_func

    def _methods(self, view_func: AnyCallable | None, options: dict[str, Any]) -> set[str]:
        methods = options.pop("methods", None)
        if methods is None:
            methods = getattr(view_func, "methods", None) or ("GET",)
        if isinstance(methods, str):
            raise TypeError(f"methods takes a list: methods=[{methods!r}]")
        required = getattr(view_func, "required_methods", ())
        return {method.upper() for method in chain(methods, required)}

    def channel(self, pattern: str, **options: Any) -> Callable[[F], F]:
        """Declare the channels of *pattern*; the decorated function says who may subscribe.

        It is called in the context of the request or websocket that asks, with the pattern's values, and returns a
        bool or an :class:`Access`; a plain function runs in a thread.

        Args:
            pattern: ``"chat/<room>"``, ``<int:n>``, ``<path:rest>`` or ``<uuid:id>``; static parts win over converters.
            options: ``history``, ``ttl``, ``max_bytes``, ``replay``, ``presence``, ``public``, ``recheck``; see
                :class:`ChannelRule`.

        Raises:
            InvalidRule: the pattern or an option cannot work, or it ties with another rule.
        """

        def decorator(func: F) -> F:
            self._add_channel(pattern, func, options)
            return func

        return decorator

    def add_channel(self, pattern: str, public: bool = False, **options: Any) -> None:
        """Declare the channels of *pattern* without a function that guards them.

        Args:
            pattern: see :meth:`channel`.
            public: anybody may subscribe, and shared caches may keep answers; without it they are open to routes that
                name them.
            options: see :meth:`channel`.
        """
        self._add_channel(pattern, None, {"public": public, **options})

    @setupmethod
    def _add_channel(self, pattern: str, func: AccessFunction | None, options: dict[str, Any]) -> None:
        rule = ChannelRule(pattern, **options)
        self.channels.add(rule, func)
        if self._hub is not None:
            self._hub.add_rule(rule)

    @setupmethod
    def identify(self, func: F) -> F:
        """Have *func* name the user of a connection, a str or None; presence groups connections by it.

        It is called in the context of the request or websocket, once for each.
        """
        self.channels.identify_with(func)
        return func

    @setupmethod
    def register_blueprint(self, blueprint: Blueprint, **options: Any) -> None:
        """Put a blueprint on the app.

        Args:
            blueprint: what to put.
            options: ``url_prefix``, ``name``, ``subdomain``, ``url_defaults`` instead of the blueprint's own.
        """
        blueprint.register(self, options)

    def iter_blueprints(self) -> Iterable[Blueprint]:
        """The blueprints, in the order they were registered."""
        return self.blueprints.values()

    @setupmethod
    def teardown_appcontext(self, func: TeardownCallable) -> TeardownCallable:
        """Have *func* called at the end of every context, with the exception nobody handled, or None."""
        self.teardown_appcontext_funcs.append(func)
        return func

    @setupmethod
    def shell_context_processor(self, func: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        """Have *func* called for ``samovar shell``; the names it returns are there."""
        self.shell_context_processors.append(func)
        return func

    def make_shell_context(self) -> dict[str, Any]:
        """The names in ``samovar shell``."""
        names: dict[str, Any] = {"app": self, "g": g}
        for processor in self.shell_context_processors:
            names.update(processor())
        return names

    @setupmethod
    def before_serving(self, func: LifespanCallable) -> LifespanCallable:
        """Have *func* called before the first request, once in each worker."""
        self.before_serving_funcs.append(func)
        return func

    @setupmethod
    def after_serving(self, func: LifespanCallable) -> LifespanCallable:
        """Have *func* called after the last request, once in each worker."""
        self.after_serving_funcs.append(func)
        return func

    @setupmethod
    def while_serving(self, func: WhileServingCallable) -> WhileServingCallable:
        """Have an async generator run to its one ``yield`` before the first request, and on after the last."""
        self._while_serving_funcs.append(func)
        return func

    # --- templates --------------------------------------------------------------------------------------------

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
        environment = self.jinja_environment(self, **options)
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
        return DispatchingLoader(self)

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

    # --- contexts ---------------------------------------------------------------------------------------------

    def app_context(self) -> Context:
        """A context of the bare app: ``async with app.app_context():``."""
        return Context(self)

    def request_context(self, request: Request) -> Context:
        """A context of *request*."""
        return Context(self, request)

    def websocket_context(self, websocket: Websocket) -> Context:
        """A context of *websocket*."""
        return Context(self, None, websocket)

    def test_request_context(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        query_string: Mapping[str, Any] | str | None = None,
        scheme: str = "http",
        data: str | bytes | None = None,
        form: Mapping[str, Any] | None = None,
        json: Any = NOT_GIVEN,
        root_path: str = "",
        http_version: str = "1.1",
        scope_base: Mapping[str, Any] | None = None,
        auth: Any = None,
        subdomain: str | None = None,
    ) -> Context:
        """A context of a made-up request, for tests and shells: ``async with app.test_request_context("/"):``.

        Args:
            path: with or without a query.
            method, headers, query_string, scheme, root_path, http_version: of the request.
            data, form, json: one of them is its body.
            scope_base: more for the ASGI scope.
            auth: ``(user, password)`` or a werkzeug ``Authorization``.
            subdomain: of the host.
        """
        from .testing.building import app_host, make_body, make_headers, make_scope, make_target

        given = {} if json is NOT_GIVEN else {"json": json}
        host = app_host(self)
        target = make_target(
            path,
            query_string=query_string,
            scheme=scheme,
            host=host,
            root_path=root_path,
            subdomain=subdomain,
        )
        own = make_headers(headers, host=target.host, auth=auth)
        body = make_body(data=data, form=form, dumps=self.json.dumps, **given)
        if body.content_type is not None:
            own.setdefault("content-type", body.content_type)
        if body.data:
            own.setdefault("content-length", str(len(body.data)))
        scope = make_scope(
            "http",
            target,
            own,
            method=method,
            root_path=root_path,
            http_version=http_version,
            scope_base=scope_base,
        )
        return self.request_context(self.request_class(scope, _GivenBody(body.data)))

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
            opened = await self.session_interface.open_session(self, connection)
            context._session = self.session_interface.make_null_session(self) if opened is None else opened

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
        opened = interface.open_session_nowait(self, connection)
        return interface.make_null_session(self) if opened is None else opened

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

    # --- routing ----------------------------------------------------------------------------------------------

    @property
    def router(self) -> Router:
        """What finds routes; made anew when something was registered."""
        router = self._router
        if router is None:
            plain = not (self.url_map.host_matching or self.subdomain_matching)
            router = self._router = Router(self.url_map, plain, self.route_for)
            self._nowhere = self._hooked(Route(None, None, ()))
        return router

    def route_for(self, rule: Rule) -> Route:
        """The route of *rule*: its view and what runs around it, each already async."""
        view = self.view_functions.get(rule.endpoint)
        names = blueprint_names(rule.endpoint.rpartition(".")[0])
        return self._hooked(Route(rule, None if view is None else self.ensure_async(view), names))

    def _hooked(self, route: Route) -> Route:
        outwards: tuple[str | None, ...] = (*route.names, None)
        inwards = outwards[::-1]

        def collect(table: Any, names: Sequence[str | None], backwards: bool = False) -> tuple[Any, ...]:
            found: list[Any] = []
            for name in names:
                functions = table.get(name, ())
                found += reversed(functions) if backwards else functions
            return tuple(self.ensure_async(func) for func in found)

        route.preprocessors = tuple(
            func for name in inwards for func in self.url_value_preprocessors.get(name, ())
        )
        route.before = collect(self.before_request_funcs, inwards)
        route.after = collect(self.after_request_funcs, outwards, backwards=True)
        route.teardown = collect(self.teardown_request_funcs, outwards, backwards=True)
        route.before_websocket = collect(self.before_websocket_funcs, inwards)
        route.after_websocket = collect(self.after_websocket_funcs, outwards, backwards=True)
        route.teardown_websocket = collect(self.teardown_websocket_funcs, outwards, backwards=True)
        return route

    def match_request(self, context: Context) -> None:
        """Find the route of the context's request or websocket; what goes wrong is kept for the dispatch."""
        router = self._router or self.router
        connection: BaseRequestWebsocket | None = context.request
        websocket = connection is None
        if connection is None:
            connection = context.websocket
            assert connection is not None
        try:
            if self.config["TRUSTED_HOSTS"] is not None:
                connection.trusted_hosts = self.config["TRUSTED_HOSTS"]
                _ = connection.host  # raises SecurityError
            matcher = router.websocket if websocket else router.http
            found = None if matcher is None else matcher.match(connection.path, connection.method)
            if found is None:
                adapter = self.create_url_adapter(connection)
                assert adapter is not None
                context._adapter = adapter
                found = router.match_slowly(adapter, websocket)
        except Exception as error:  # 404 and its like, or a converter's own; the dispatch raises it
            connection.routing_exception = error
            context.route = self._nowhere
        else:
            route, values = found
            context.route = route
            connection.url_rule = route.rule
            connection.view_args = {} if values is None else values

    def create_url_adapter(self, connection: BaseRequestWebsocket | None) -> MapAdapter | None:
        """Werkzeug's adapter for *connection*; without one, for ``SERVER_NAME``; None when that is not set."""
        server_name: str | None = self.config["SERVER_NAME"]
        if connection is not None:
            return self._bind_to(connection, server_name)
        if server_name is None:
            return None
        secure = self.config["PREFER_SECURE_URLS"]
        return self.url_map.bind(
            server_name,
            script_name=self.config["APPLICATION_ROOT"],
            url_scheme="https" if secure else self.config["PREFERRED_URL_SCHEME"],
        )

    def _bind_to(self, connection: BaseRequestWebsocket, server_name: str | None) -> MapAdapter:
        host = connection.host
        subdomain: str | None = None
        if self.subdomain_matching and not self.url_map.host_matching and server_name is not None:
            subdomain, host = _split_subdomain(host, server_name.lower())
        return self.url_map.bind(
            host,
            script_name=connection.root_path or None,
            subdomain=None if self.url_map.host_matching else subdomain,
            url_scheme=connection.scheme,
            default_method=connection.method,
            path_info=connection.path,
            query_args=connection.query_string.decode("ascii"),
        )

    def url_for(
        self,
        endpoint: str,
        *,
        _anchor: str | None = None,
        _external: bool | None = None,
        _method: str | None = None,
        _scheme: str | None = None,
        **values: Any,
    ) -> str:
        """The URL of *endpoint*; see :func:`samovar.url_for`."""
        context = current_context()
        connection = None
        if context is not None and context.app is self:
            connection = context.connection
            adapter: MapAdapter | None = context.url_adapter
        else:
            adapter = self.create_url_adapter(None)
        if adapter is None:
            raise RuntimeError("URLs cannot be built outside a request: set app.config['SERVER_NAME']")
        if endpoint.startswith("."):
            blueprint = None if connection is None else connection.blueprint
            endpoint = endpoint[1:] if blueprint is None else f"{blueprint}{endpoint}"
        if _scheme is not None and _external is False:
            raise ValueError("url_for: _scheme means _external=True")
        external = (connection is None or _scheme is not None) if _external is None else _external
        self.inject_url_defaults(endpoint, values)
        try:
            url = adapter.build(endpoint, values, method=_method, url_scheme=_scheme, force_external=external)
        except BuildError as error:
            values.update(_anchor=_anchor, _method=_method, _scheme=_scheme, _external=external)
            return self.handle_url_build_error(error, endpoint, values)
        return url if _anchor is None else f"{url}#{quote(_anchor, safe='%!#$&*+,/:;=?@')}"

    def inject_url_defaults(self, endpoint: str, values: dict[str, Any]) -> None:
        """Let the functions of ``url_defaults`` fill in *values*."""
        table = self.url_default_functions
        if table:
            names = blueprint_names(endpoint.rpartition(".")[0])
            for name in (None, *reversed(names)):
                for func in table.get(name, ()):
                    func(endpoint, values)

    def handle_url_build_error(self, error: BuildError, endpoint: str, values: dict[str, Any]) -> str:
        """What ``url_for`` gives when no rule fits: the first word of ``url_build_error_handlers``, else the error."""
        for handler in self.url_build_error_handlers:
            try:
                url = handler(error, endpoint, values)
            except BuildError as other:
                error = other
            else:
                if url is not None:
                    return url
        raise error

    # --- a request, step by step ------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: ASGIReceive, send: ASGISend) -> None:
        await self.asgi_app(scope, receive, send)

    async def asgi_app(self, scope: Scope, receive: ASGIReceive, send: ASGISend) -> None:
        """The ASGI application; wrap this attribute to add middleware: ``app.asgi_app = Middleware(app.asgi_app)``."""
        kind = scope["type"]
        if kind == "http":
            await self.asgi_http_class(self, scope)(receive, send)
        elif kind == "websocket":
            await self.asgi_websocket_class(self, scope)(receive, send)
        elif kind == "lifespan":
            await self.asgi_lifespan_class(self, scope)(receive, send)
        else:
            raise RuntimeError(f"unknown ASGI scope type {kind!r}")

    async def handle_request(self, request: Request) -> Response:
        """Answer *request*, whose context is current; exceptions become responses."""
        self._got_first_request = True
        try:
            context = required_context()
            if appcontext_pushed.receivers or type(self.session_interface) is not SecureCookieSessionInterface:
                await self.context_entered(context)
            return await self.full_dispatch_request(context)
        except Exception as error:
            return await self.handle_exception(error)

    async def full_dispatch_request(self, context: Context | None = None) -> Response:
        """Hooks, view, response, hooks; what they raise goes to the error handlers."""
        context = context or required_context()
        try:
            if request_started.receivers:
                await send(request_started, self)
            result = await self.preprocess_request(context)
            if result is None:
                result = await self.dispatch_request(context)
        except Exception as error:
            result = await self.handle_user_exception(error)
        return await self.finalize_request(result, context)

    async def preprocess_request(self, context: Context | None = None) -> Any:
        """The hooks before the view; what one returns, unless None, is the answer."""
        route = (context or required_context()).route
        if route is None:
            return None
        if route.preprocessors:
            connection = (context or required_context()).connection
            assert connection is not None
            for func in route.preprocessors:
                func(connection.endpoint, connection.view_args)
        for hook in route.before:
            result = await hook()
            if result is not None:
                return result
        return None

    async def dispatch_request(self, context: Context | None = None) -> Any:
        """The view, or the error that routing found."""
        context = context or required_context()
        request, route = context.request, context.route
        assert request is not None and route is not None
        if request.routing_exception is not None:
            self.raise_routing_exception(request)
        if route.options and request.method == "OPTIONS":
            return await self.make_default_options_response()
        view = route.view
        if view is None:
            raise LookupError(f"the endpoint {route.endpoint!r} has a rule and no view")
        values = request.view_args
        return await (view(**values) if values else view())

    def raise_routing_exception(self, connection: BaseRequestWebsocket) -> NoReturn:
        """Raise what routing found wrong."""
        error = connection.routing_exception
        assert error is not None
        raise error

    async def make_default_options_response(self) -> Response:
        """The automatic answer to OPTIONS: an Allow header."""
        adapter = required_context().url_adapter
        response = self.response_class()
        response.allow.update(adapter.allowed_methods())
        return response

    async def make_response(self, result: ResponseReturnValue | HTTPException | None) -> Response:
        """The response that a view's *result* stands for.

        Raises:
            TypeError: it stands for none.
        """
        kind = type(result)
        if kind is str or kind is bytes:
            return self.response_class(result)
        if kind is dict or kind is list:
            return self.json.response(result)
        status: Any = None
        headers: Any = None
        if isinstance(result, tuple):
            result, status, headers = _unpacked(result)
        response = await self._response_of(result)
        if status is not None:
            if isinstance(status, int):
                response.status_code = status
            else:
                response.status = status
        if headers:
            response.update_headers(headers)
        return response

    async def _response_of(self, value: Any) -> Response:
        if isinstance(value, Response):
            return value
        if isinstance(value, str | bytes | bytearray):
            return self.response_class(value)
        if isinstance(value, dict | list):
            return self.json.response(value)
        if isinstance(value, HTTPException):
            return await self._response_of_http_exception(value)
        if isinstance(value, SansIOResponse):
            return _converted(value, self.response_class)
        if isinstance(value, AsyncIterable | Iterator):
            return self.response_class(value)
        if isinstance(value, Mapping):
            return self.json.response(dict(value))
        raise TypeError(_not_a_response(value, current_context()))

    async def _response_of_http_exception(self, error: HTTPException) -> Response:
        if error.response is not None:
            return await self._response_of(error.response)
        if isinstance(error, RequestRedirect):
            return redirect_response(error.new_url, error.code, self.response_class)
        return self.response_class(error.get_body(), error.code, error.get_headers())

    async def finalize_request(
        self, result: Any, context: Context | None = None, from_error_handler: bool = False
    ) -> Response:
        """The response of *result*, after the hooks.

        Args:
            result: a view's or an error handler's.
            context: the current one.
            from_error_handler: errors in the hooks are logged only, so that there is an answer.
        """
        response = await self.make_response(result)
        try:
            response = await self.process_response(response, context)
            if request_finished.receivers:
                await send(request_finished, self, response=response)
        except Exception as error:
            if not from_error_handler:
                raise
            self.log_exception(error)
        return response

    async def process_response(self, response: Response, context: Context | None = None) -> Response:
        """The hooks after the view, then the session."""
        context = context or required_context()
        route = context.route
        if context.after is not None:
            for func in context.after:
                response = await self.ensure_async(func)(response)
        if route is not None:
            for hook in route.after:
                response = await hook(response)
        opened = context.opened_session
        if opened is not None and not self.session_interface.is_null_session(opened):
            await self.session_interface.save_session(self, opened, response)
        return response

    # --- errors -----------------------------------------------------------------------------------------------

    @property
    def propagates_exceptions(self) -> bool:
        """Unhandled exceptions leave the app: ``PROPAGATE_EXCEPTIONS``, or in tests."""
        value = self.config["PROPAGATE_EXCEPTIONS"]
        return bool(self.testing if value is None else value)

    def _find_error_handler(
        self, error: Exception, names: Sequence[str] = ()
    ) -> Callable[..., Awaitable[Any]] | None:
        """The handler for *error*: of the inmost blueprint, by status before by class, of the nearest class."""
        if not self.error_handler_spec:
            return None
        codes = (error.code, None) if isinstance(error, HTTPException) else (None,)
        for code in codes:
            for name in (*names, None):
                handlers = self.error_handler_spec.get(name, {}).get(code)
                if not handlers:
                    continue
                for kind in type(error).__mro__:
                    handler = handlers.get(kind)
                    if handler is not None:
                        return self.ensure_async(handler)
        return None

    def _names(self) -> Sequence[str]:
        context = current_context()
        return context.route.names if context is not None and context.route is not None else ()

    def trap_http_exception(self, error: Exception) -> bool:
        """Tell whether an HTTP exception is treated like any other."""
        if self.config["TRAP_HTTP_EXCEPTIONS"]:
            return True
        trap = self.config["TRAP_BAD_REQUEST_ERRORS"]
        if trap is None and self.debug and isinstance(error, BadRequestKeyError):
            return False
        return bool(trap) and isinstance(error, BadRequest)

    async def handle_http_exception(self, error: HTTPException) -> Any:
        """What answers an HTTP exception: a handler's word, or the exception itself."""
        if error.code is None or isinstance(error, RoutingException):
            return error
        handler = self._find_error_handler(error, self._names())
        return error if handler is None else await handler(error)

    async def handle_user_exception(self, error: Exception) -> Any:
        """What answers an exception of a view or hook; raises it again when nobody does."""
        if isinstance(error, BadRequestKeyError) and (self.debug or self.config["TRAP_BAD_REQUEST_ERRORS"]):
            error.show_exception = True
        if isinstance(error, HTTPException) and not self.trap_http_exception(error):
            return await self.handle_http_exception(error)
        handler = self._find_error_handler(error, self._names())
        if handler is not None:
            return await handler(error)
        for kind, http_error in _BROADCAST_ERRORS:
            if isinstance(error, kind):
                self.logger.warning("%s: %s", type(error).__name__, error)
                return await self.handle_http_exception(http_error(str(error)))
        raise error

    async def handle_exception(self, error: Exception) -> Response:
        """The answer to an exception nobody handled: 500, or in debug mode its traceback.

        Raises:
            Exception: the same, where exceptions propagate.
        """
        required_context().error = error
        if got_request_exception.receivers:
            await send(got_request_exception, self, exception=error)
        if self.propagates_exceptions:
            raise error
        self.log_exception(error)
        try:
            return await self.finalize_request(await self._server_error(error), from_error_handler=True)
        except Exception as second:  # in the handler of 500s itself: there must be an answer all the same
            self.log_exception(second)
            return await self.make_response(InternalServerError())

    async def _server_error(self, error: Exception) -> Any:
        server_error = InternalServerError(original_exception=error)
        handler = self._find_error_handler(server_error, self._names())
        if handler is not None:
            return await handler(server_error)
        if self.debug:
            return self.response_class(traceback_page(error), 500)
        return server_error

    async def handle_stream_exception(self, error: Exception) -> None:
        """An exception of a streamed body: too late for a 500. It is logged, and the connection dropped.

        Raises:
            Exception: the same, where exceptions propagate.
        """
        context = current_context()
        if context is not None:
            context.error = error
        if got_request_exception.receivers:
            await send(got_request_exception, self, exception=error)
        if self.propagates_exceptions:
            raise error
        self.log_exception(error)

    def log_exception(self, error: BaseException) -> None:
        """Log an exception with its traceback and the request it happened in."""
        context = current_context()
        connection = None if context is None else context.connection
        where = "" if connection is None else f" in {connection.method} {connection.path!r}"
        self.logger.error("exception%s", where, exc_info=error)

    def should_ignore_error(self, error: BaseException | None) -> bool:
        """Kept for Flask's sake; teardown does not ask it."""
        return False

    # --- a websocket, step by step ----------------------------------------------------------------------------

    async def handle_websocket(self, websocket: Websocket) -> Response | None:
        """Run *websocket*'s handler in its context; a response means that it is refused."""
        self._got_first_request = True
        context = self.websocket_context(websocket)
        token = context.push()
        error: BaseException | None = None
        try:
            try:
                await self.context_entered(context)
                return await self.full_dispatch_websocket(context)
            except Exception as raised:
                return await self.handle_websocket_exception(raised)
        except BaseException as raised:
            error = raised
            raise
        finally:
            try:
                await self.tear_down(context, error if error is not None else context.error)
            finally:
                context.leave(token)

    async def full_dispatch_websocket(self, context: Context | None = None) -> Response | None:
        """Hooks, handler, hooks; what they raise goes to the error handlers."""
        context = context or required_context()
        try:
            if websocket_started.receivers:
                await send(websocket_started, self)
            result = await self.preprocess_websocket(context)
            if result is None:
                result = await self.dispatch_websocket(context)
        except Exception as error:
            result = await self._handle_websocket_user_exception(error)
        return await self.finalize_websocket(result, context)

    async def _handle_websocket_user_exception(self, error: Exception) -> Any:
        """As for a request; but the peer's leaving, met by a handler that was sending, is an end and no error."""
        if isinstance(error, WebsocketClosed) and self._find_error_handler(error, self._names()) is None:
            return None
        return await self.handle_user_exception(error)

    async def preprocess_websocket(self, context: Context | None = None) -> Any:
        """The hooks before the handler; what one returns, unless None, refuses the websocket."""
        context = context or required_context()
        route, connection = context.route, context.connection
        assert route is not None and connection is not None
        for func in route.preprocessors:
            func(connection.endpoint, connection.view_args)
        for hook in route.before_websocket:
            result = await hook()
            if result is not None:
                return result
        return None

    async def dispatch_websocket(self, context: Context | None = None) -> Any:
        """The handler, or the error that routing found."""
        context = context or required_context()
        websocket, route = context.websocket, context.route
        assert websocket is not None and route is not None
        if websocket.routing_exception is not None:
            self.raise_routing_exception(websocket)
        if route.view is None:
            raise LookupError(f"the endpoint {route.endpoint!r} has a rule and no handler")
        return await route.view(**(websocket.view_args or {}))

    async def finalize_websocket(
        self, result: Any, context: Context | None = None, from_error_handler: bool = False
    ) -> Response | None:
        """The response of *result*, None for None, after the hooks."""
        response = None if result is None else await self.make_response(result)
        try:
            response = await self.postprocess_websocket(response, context)
            if websocket_finished.receivers:
                await send(websocket_finished, self, response=response)
        except Exception as error:
            if not from_error_handler:
                raise
            self.log_exception(error)
        return response

    async def postprocess_websocket(
        self, response: Response | None, context: Context | None = None
    ) -> Response | None:
        """The hooks after the handler, then the session."""
        context = context or required_context()
        if context.after is not None:
            for func in context.after:
                response = await self.ensure_async(func)(response)
        if context.route is not None:
            for hook in context.route.after_websocket:
                response = await hook(response)
        opened = context.opened_session
        if opened is not None and not self.session_interface.is_null_session(opened):
            await self.session_interface.save_session(self, opened, response)
        return response

    async def handle_websocket_exception(self, error: Exception) -> Response | None:
        """The answer to an exception that no handler took: 500 while there still can be one.

        Raises:
            Exception: the same, where exceptions propagate.
        """
        required_context().error = error
        if got_websocket_exception.receivers:
            await send(got_websocket_exception, self, exception=error)
        if self.propagates_exceptions:
            raise error
        self.log_exception(error)
        return await self.finalize_websocket(await self._server_error(error), from_error_handler=True)

    # --- serving ----------------------------------------------------------------------------------------------

    def _open_doors(self) -> None:
        """Begin to serve, for the first time or again: nobody is told to go yet."""
        self.shutdown_event = self.event_class()
        self.polls = Polls()
        self.shutdown_event.add(self.polls.going_away)

    async def startup(self) -> None:
        """Start the hub, then run what is to run before the first request; undone if any of it fails."""
        self._open_doors()
        try:
            if self._hub is not None or self.config["BROADCAST_URL"] != "memory://":
                await self.hub.start()
            async with self.app_context():
                for func in self.before_serving_funcs:
                    await self.ensure_async(func)()
                for generator_function in self._while_serving_funcs:
                    generator = generator_function()
                    self.while_serving_gens.append(generator)
                    await anext(generator)
        except Exception as error:
            await self._serving_failed(error)
            await self._stop_serving([])
            raise

    async def shutdown(self) -> None:
        """Tell open connections, wait for background tasks, run what is to run after the last request, stop the hub.

        Everything is run whatever fails; the first failure is raised in the end.
        """
        errors: list[Exception] = []
        self.shutdown_event.set()
        await self._stop_serving(errors)
        if errors:
            await self._serving_failed(errors[0])
            raise errors[0]

    async def _stop_serving(self, errors: list[Exception]) -> None:
        async def finish_background() -> None:
            if self._background is not None:
                scope, self._background = self._background, None
                await scope.join(self.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"])
                await scope.close()

        async def stop_hub() -> None:
            if self._hub is not None:
                hub, self._hub = self._hub, None
                await hub.stop()

        async with self.app_context():
            await self._each(errors, [self.polls.close, finish_background])
            while self.while_serving_gens:
                generator = self.while_serving_gens.pop()
                await self._each(errors, [_finish], generator)
            await self._each(errors, [self.ensure_async(func) for func in self.after_serving_funcs])
        await self._each(errors, [stop_hub])

    async def _serving_failed(self, error: Exception) -> None:
        if got_serving_exception.receivers:
            await send(got_serving_exception, self, exception=error)
        self.log_exception(error)

    def add_background_task(self, func: AnyCallable, *args: Any, **kwargs: Any) -> None:
        """Run *func* in the app's context beside the requests; shutdown gives it ``BACKGROUND_TASK_SHUTDOWN_TIMEOUT``.

        A plain function runs in a thread. An exception goes to :meth:`handle_background_exception`.
        """
        if self._background is None:
            self._background = TaskScope("background", on_error=lambda task, error: None)
        name = getattr(func, "__name__", "task")
        self._background.start(self._run_in_background(func, args, kwargs), name=name)

    @property
    def background_tasks(self) -> int:
        """How many background tasks run."""
        return 0 if self._background is None else len(self._background)

    async def _run_in_background(self, func: AnyCallable, args: Any, kwargs: Any) -> None:
        async with self.app_context():
            try:
                await self.ensure_async(func)(*args, **kwargs)
            except Exception as error:
                await self.handle_background_exception(error)

    async def handle_background_exception(self, error: Exception) -> None:
        """Log an exception of a background task, and send the signal."""
        if got_background_exception.receivers:
            await send(got_background_exception, self, exception=error)
        self.log_exception(error)

    # --- running and testing ----------------------------------------------------------------------------------

    if TYPE_CHECKING:
        test_client_class: type[TestClient] | None
        test_app_class: type[TestApp] | None
        test_cli_runner_class: type[CliRunner] | None
    else:
        test_client_class = test_app_class = test_cli_runner_class = None

    def test_client(self, use_cookies: bool = True) -> TestClient:
        """A client that speaks to the app without a server."""
        from .testing import SamovarClient as TestClient

        return (self.test_client_class or TestClient)(self, use_cookies=use_cookies)

    def test_app(self, startup_timeout: float = 6.0, shutdown_timeout: float = 6.0) -> TestApp:
        """The app with its lifespan: ``async with app.test_app() as test_app``. Times in seconds."""
        from .testing import TestApp

        return (self.test_app_class or TestApp)(
            self, startup_timeout=startup_timeout, shutdown_timeout=shutdown_timeout
        )

    def test_cli_runner(self, **kwargs: Any) -> CliRunner:
        """What calls the app's commands in tests."""
        from .testing.cli import CliRunner

        return (self.test_cli_runner_class or CliRunner)(self, **kwargs)

    def run(
        self, host: str | None = None, port: int | None = None, debug: bool | None = None, **options: Any
    ) -> None:
        """Serve the app from a script; see ``samovar run`` for the options."""
        from .cli import run_app

        run_app(self, host, port, debug, **options)

    async def run_task(
        self, host: str = "127.0.0.1", port: int = 5000, debug: bool | None = None, **options: Any
    ) -> None:
        """Serve the app inside a loop of one's own, until cancelled or *shutdown_trigger* returns."""
        from .cli import serve_app

        await serve_app(self, host, port, debug, **options)


class _GivenBody:
    """A body that is there from the start: of a made-up request."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> tuple[bytes, bool]:
        body, self._body = self._body, b""
        return body, False

    async def push(self, path: str, headers: Any) -> None:
        return None


async def _finish(generator: AsyncIterator[None]) -> None:
    """Let a ``while_serving`` generator run to its end."""
    try:
        await anext(generator)
    except StopAsyncIteration:
        return
    if inspect.isasyncgen(generator):
        await generator.aclose()
    raise RuntimeError("a while_serving function yields once")


def _split_subdomain(host: str, server_name: str) -> tuple[str, str]:
    """The subdomain in *host* and the server's name; ``/``, which no rule matches, when it is another server's."""
    name = host.lower()
    if name == server_name:
        return "", server_name
    if name.endswith(f".{server_name}"):
        return name[: -len(server_name) - 1], server_name
    return "/", server_name


def _unpacked(result: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """A view's tuple as (value, status, headers)."""
    if len(result) == 3:
        return result
    if len(result) == 2:
        value, other = result
        if isinstance(other, Headers | dict | tuple | list):
            return value, None, other
        return value, other, None
    raise TypeError(
        f"a view may return a value, (value, status), (value, headers) or (value, status, headers), "
        f"not a tuple of {len(result)}"
    )


def _converted(value: SansIOResponse, response_class: type[Response]) -> Response:
    """One of Werkzeug's responses as ours."""
    body: Any = getattr(value, "response", None)
    if isinstance(body, list | tuple):
        body = b"".join(item.encode() if isinstance(item, str) else item for item in body)
    return response_class(body, value.status, value.headers)


def _not_a_response(value: Any, context: Context | None) -> str:
    endpoint = context.connection.endpoint if context is not None and context.connection is not None else None
    who = f"the view of {endpoint!r}" if endpoint else "a view"
    if value is None:
        return f"{who} returned None: it may have ended without a return"
    if inspect.iscoroutine(value):
        value.close()
        return f"{who} returned a coroutine: an await is missing"
    return f"{who} returned {type(value).__name__}, which is no response: {value!r:.80}"


__all__ = ["Samovar"]
