"""What an app is made of and what is registered on it, before the first request."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from werkzeug.datastructures import ImmutableDict
from werkzeug.exceptions import Aborter

from ..tasks import Scope as TaskScope
from .asgi.http import HTTPHandler
from .asgi.lifespan import LifespanHandler
from .asgi.websocket import WebsocketHandler
from .config import DEFAULTS, Config, ConfigAttribute, get_debug_flag, is_on
from .ctx import AppGlobals
from .files import AsyncFile, open_file
from .globals import g
from .helpers import redirect_response
from .json.provider import DefaultJSONProvider, JSONProvider
from .logging import create_logger
from .realtime.access import AccessFunction, ChannelAccess
from .realtime.drain import ShutdownEvent
from .realtime.longpoll import Polls
from .routing import Route, Router, SamovarMap, SamovarRule
from .scaffold import Scaffold, channel_rule, endpoint_of, guarded_rule, setupmethod
from .sessions import SecureCookieSessionInterface, SessionInterface
from .templating import Environment
from .typing import (
    AnyCallable,
    F,
    FilePath,
    LifespanCallable,
    TeardownCallable,
    WhileServingCallable,
)
from .utils import ensure_async, find_package, run_sync
from .wrappers.request import Request
from .wrappers.response import Response
from .wrappers.websocket import Websocket

if TYPE_CHECKING:
    from ..broadcast import ChannelRule, Hub
    from .app import Samovar
    from .blueprints import Blueprint


def _as_timedelta(value: timedelta | float) -> timedelta:
    return value if isinstance(value, timedelta) else timedelta(seconds=value)


class Setup(Scaffold):
    """The part of an app where everything is registered; its arguments are those of :class:`Samovar`."""

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
    lock_class = asyncio.Lock
    """Here for Quart's sake: nothing in Samovar needs a lock that could be replaced."""
    default_config: ClassVar[Mapping[str, Any]] = ImmutableDict(DEFAULTS)
    """What the config starts with; a subclass may have its own."""
    session_interface: SessionInterface = SecureCookieSessionInterface()
    jinja_options: Mapping[str, Any] = {}
    debug: ConfigAttribute = ConfigAttribute("DEBUG", is_on)
    testing: ConfigAttribute = ConfigAttribute("TESTING")
    secret_key: ConfigAttribute = ConfigAttribute("SECRET_KEY")
    permanent_session_lifetime: ConfigAttribute = ConfigAttribute("PERMANENT_SESSION_LIFETIME", _as_timedelta)

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
        self.instance_path: str = self._checked_instance_path(instance_path)
        self.config: Config = self.make_config(instance_relative_config)
        self.subdomain_matching = subdomain_matching
        self.url_map: SamovarMap = self.url_map_class(host_matching=host_matching)
        self.aborter: Aborter = self.make_aborter()
        self.json: JSONProvider = self.json_provider_class(self._whole)
        self.blueprints: dict[str, Blueprint] = {}
        self.extensions: dict[str, Any] = {}
        self.url_build_error_handlers: list[Callable[[Exception, str, dict[str, Any]], str]] = []
        self.teardown_appcontext_funcs: list[TeardownCallable] = []
        self.shell_context_processors: list[Callable[[], dict[str, Any]]] = []
        self.before_serving_funcs: list[LifespanCallable] = []
        self.after_serving_funcs: list[LifespanCallable] = []
        self.while_serving_gens: list[AsyncIterator[None]] = []
        self._while_serving_funcs: list[WhileServingCallable] = []
        self.channels: ChannelAccess = ChannelAccess(self.ensure_async)
        self._open_doors()
        self._background: TaskScope | None = None
        self._router: Router | None = None
        self._nowhere: Route | None = None
        self._jinja_env: Environment | None = None
        self._logger: logging.Logger | None = None
        self._hub: Hub | None = None
        self._got_first_request = False
        self._add_static_route(static_host)

    @property
    def _whole(self) -> Samovar:
        """This same app, as what it is in the end."""
        return cast("Samovar", self)

    def _open_doors(self) -> None:
        """Begin to serve, for the first time or again: nobody is told to go yet."""
        if not issubclass(self.event_class, ShutdownEvent):
            raise TypeError(
                f"event_class is a subclass of {ShutdownEvent.__qualname__}, which tells open connections that the "
                f"server ends; {self.event_class.__name__} is none"
            )
        self.shutdown_event: ShutdownEvent = self.event_class()
        self.polls: Polls = Polls()
        self.shutdown_event.add(self.polls.going_away)

    def make_config(self, instance_relative: bool = False) -> Config:
        """A config with the defaults; override it to use another.

        Args:
            instance_relative: its files are relative to the instance folder, else to the root path.
        """
        root = self.instance_path if instance_relative else self.root_path
        return self.config_class(root, {**self.default_config, "DEBUG": get_debug_flag()})

    def _checked_instance_path(self, path: FilePath | None) -> str:
        if path is None:
            return os.fspath(self.auto_find_instance_path())
        if not os.path.isabs(path):
            raise ValueError(f"instance_path must be absolute, not {os.fspath(path)!r}")
        return os.fspath(path)

    def _add_static_route(self, static_host: str | None) -> None:
        if bool(static_host) != self.url_map.host_matching and static_host:
            raise AssertionError("static_host needs host_matching=True")
        if not self.has_static_folder:
            return
        if self.url_map.host_matching and not static_host:
            raise AssertionError("host_matching with a static folder needs static_host")
        rule = f"{self.static_url_path}/<path:filename>"
        self.add_url_rule(rule, "static", self.send_static_file, host=static_host)

    # --- names, places, parts -------------------------------------------------------------------------------

    @property
    def name(self) -> str:  # type: ignore[override]  # an attribute of blueprints
        """The app's name: its module's, or its file's when it is run as a script."""
        if self.import_name == "__main__":
            path = getattr(sys.modules["__main__"], "__file__", None)
            return "__main__" if path is None else Path(path).stem
        return self.import_name

    def auto_find_instance_path(self) -> str:
        """``instance`` beside the app's module or package; ``var/NAME-instance`` of the Python it is installed for."""
        prefix, folder = find_package(self.import_name)
        if prefix is None:
            return str(folder / "instance")
        return str(prefix / "var" / f"{self.name}-instance")

    async def open_instance_resource(
        self, path: FilePath, mode: str = "rb", encoding: str | None = "utf-8"
    ) -> AsyncFile[Any]:
        """Open a file of the instance folder, in any mode; see :meth:`open_resource`."""
        return await open_file(os.path.join(self.instance_path, path), mode, encoding)

    @property
    def logger(self) -> logging.Logger:
        """The app's logger, named like the app."""
        if self._logger is None:
            self._logger = create_logger(self._whole)
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
            config["BROADCAST_URL"] or "memory://",
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
        """*func* if it is async, else what :meth:`sync_to_async` makes of it."""
        return ensure_async(func, self.sync_to_async)

    def sync_to_async(self, func: AnyCallable) -> Callable[..., Awaitable[Any]]:
        """A coroutine function that runs *func* in a thread."""
        return run_sync(func)

    # --- registering ----------------------------------------------------------------------------------------

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
            AssertionError: the endpoint has another view already, or there is neither endpoint nor view.
            ValueError: a websocket's rule with a method that no handshake has.
        """
        if endpoint is None:
            if view_func is None:
                raise AssertionError(f"the rule {rule!r} needs an endpoint or a view")
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
            provide_automatic_options = False
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
        if options.get("websocket"):
            return {method.upper() for method in methods or ("GET",)}
        if methods is None:
            methods = getattr(view_func, "methods", None) or ("GET",)
        if isinstance(methods, str):
            raise TypeError(f"methods takes a list: methods=[{methods!r}]")
        required = getattr(view_func, "required_methods", ())
        return {method.upper() for method in chain(methods, required)}

    @setupmethod
    def channel(self, pattern: str, **options: Any) -> Callable[[F], F]:
        """Declare the channels of *pattern*; the decorated function says who may subscribe.

        It is called in the context of the request or websocket that asks, with the pattern's values, and returns a
        bool or an :class:`Access`; a plain function runs in a thread.

        Args:
            pattern: ``"chat/<room>"``, ``<int:n>``, ``<path:rest>`` or ``<uuid:id>``; static parts win over converters.
            options: ``history``, ``ttl``, ``max_bytes``, ``replay``, ``presence``, ``recheck``; see
                :class:`ChannelRule`.

        Raises:
            InvalidRule: the pattern or an option cannot work, or it ties with another rule; ``public=True``, which is
                for :meth:`add_channel`.
        """
        rule = guarded_rule(pattern, options)

        def decorator(func: F) -> F:
            self._add_channel(rule, func)
            return func

        return decorator

    @setupmethod
    def add_channel(self, pattern: str, public: bool = False, **options: Any) -> None:
        """Declare the channels of *pattern* without a function that guards them.

        Args:
            pattern: see :meth:`channel`.
            public: anybody may subscribe, and shared caches may keep answers; without it they are open to routes that
                name them.
            options: see :meth:`channel`.
        """
        self._add_channel(channel_rule(pattern, {"public": public, **options}), None)

    def _add_channel(self, rule: ChannelRule, func: AccessFunction | None) -> None:
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
        blueprint.register(self._whole, options)

    def iter_blueprints(self) -> Iterable[Blueprint]:
        """The blueprints, in the order they were registered."""
        return self.blueprints.values()

    @setupmethod
    def teardown_appcontext(self, f: TeardownCallable) -> TeardownCallable:
        """Have *f* called at the end of every context, with the exception nobody handled, or None."""
        self.teardown_appcontext_funcs.append(f)
        return f

    @setupmethod
    def shell_context_processor(self, f: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        """Have *f* called for ``samovar shell``; the names it returns are there."""
        self.shell_context_processors.append(f)
        return f

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
