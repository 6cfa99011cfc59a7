"""What apps and blueprints have in common: routes, hooks, error handlers, static files and templates.

Hooks are kept in tables by the name of the blueprint they belong to, None for the app's own. The app works out once
what runs around each endpoint (``Samovar.route_for``), so a table without entries costs a request nothing.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from werkzeug.exceptions import HTTPException, default_exceptions

from ..broadcast import ChannelRule
from ..errors import InvalidRule
from .files import AsyncFile, open_file
from .globals import current_app
from .helpers import send_from_directory
from .templating import folder_loader
from .typing import (
    AfterRequestCallable,
    AnyCallable,
    BeforeRequestCallable,
    ErrorHandlerCallable,
    F,
    FilePath,
    TeardownCallable,
    TemplateContextProcessor,
    URLDefaults,
    URLValuePreprocessor,
)
from .utils import get_root_path, in_seconds

if TYPE_CHECKING:
    import click
    from jinja2 import BaseLoader

    from .wrappers.response import Response

Name = str | None
Hooks = dict[Name, list[Any]]
ErrorHandlers = dict[Name, dict[int | None, dict[type[Exception], ErrorHandlerCallable]]]

T_setup = TypeVar("T_setup", bound=Callable[..., Any])


def setupmethod(method: T_setup) -> T_setup:
    """Mark a method that sets up: calling it once requests are served is an error, since it would come too late."""

    @wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._check_setup_finished(method.__name__)
        return method(self, *args, **kwargs)

    return wrapper  # type: ignore[return-value]  # same signature


def channel_rule(pattern: str, options: dict[str, Any]) -> ChannelRule:
    """The rule of *pattern*.

    Raises:
        InvalidRule: the pattern or an option cannot work, or there is no such option.
    """
    known = [field.name for field in fields(ChannelRule) if field.name != "pattern"]
    for name in options:
        if name not in known:
            raise InvalidRule(
                f"a channel has no option {name}=, as {pattern!r} is given: it has {', '.join(known)}"
            )
    return ChannelRule(pattern, **options)


def guarded_rule(pattern: str, options: dict[str, Any]) -> ChannelRule:
    """The rule of *pattern*, whose channels a function guards.

    Raises:
        InvalidRule: as of :func:`channel_rule`, and for ``public=True``: shared caches, which ask no function, would
            keep what it lets some clients see.
    """
    rule = channel_rule(pattern, options)
    if rule.public:
        raise InvalidRule(
            f"{pattern!r} is public and guarded at once: leave out public=True where a function says who may "
            f"subscribe; channels for everybody are app.add_channel({pattern!r}, public=True)"
        )
    return rule


class Scaffold:
    """The part of an app or blueprint where things are registered.

    Args:
        import_name: the module it is defined in, usually ``__name__``.
        static_folder: static files, relative to the root path; None for none.
        static_url_path: where they are served; the folder's name unless given.
        template_folder: templates, relative to the root path.
        root_path: what these are relative to; the module's folder unless given.
    """

    name: str

    def __init__(
        self,
        import_name: str,
        static_folder: FilePath | None = None,
        static_url_path: str | None = None,
        template_folder: FilePath | None = None,
        root_path: FilePath | None = None,
    ) -> None:
        self.import_name = import_name
        self.root_path: str = os.fspath(root_path) if root_path is not None else get_root_path(import_name)
        self._static_folder = None if static_folder is None else os.fspath(static_folder).rstrip("/\\")
        self.static_url_path = static_url_path
        self.template_folder = template_folder
        self.view_functions: dict[str, AnyCallable] = {}
        self.error_handler_spec: ErrorHandlers = defaultdict(lambda: defaultdict(dict))
        self.before_request_funcs: Hooks = defaultdict(list)
        self.after_request_funcs: Hooks = defaultdict(list)
        self.teardown_request_funcs: Hooks = defaultdict(list)
        self.before_websocket_funcs: Hooks = defaultdict(list)
        self.after_websocket_funcs: Hooks = defaultdict(list)
        self.teardown_websocket_funcs: Hooks = defaultdict(list)
        self.template_context_processors: Hooks = defaultdict(list)
        self.url_value_preprocessors: Hooks = defaultdict(list)
        self.url_default_functions: Hooks = defaultdict(list)
        self._cli: click.Group | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def _check_setup_finished(self, what: str) -> None:
        raise NotImplementedError

    # --- command line, files, templates -----------------------------------------------------------------------

    @property
    def cli(self) -> click.Group:
        """The group of the app's own commands."""
        if self._cli is None:
            from .cli import AppGroup

            self._cli = AppGroup(self.name)
        return self._cli

    @property
    def static_folder(self) -> str | None:
        """The folder of static files, an absolute path; None for none."""
        return None if self._static_folder is None else os.path.join(self.root_path, self._static_folder)

    @static_folder.setter
    def static_folder(self, value: FilePath | None) -> None:
        self._static_folder = None if value is None else os.fspath(value).rstrip("/\\")

    @property
    def has_static_folder(self) -> bool:
        """There is one."""
        return self._static_folder is not None

    @property
    def static_url_path(self) -> str | None:
        """Where static files are served, without a slash at the end; None for nowhere."""
        if self._static_url_path is not None:
            return self._static_url_path
        if self._static_folder is None:
            return None
        return f"/{Path(self._static_folder).name}".rstrip("/")

    @static_url_path.setter
    def static_url_path(self, value: str | None) -> None:
        self._static_url_path = None if value is None else value.rstrip("/")

    def get_send_file_max_age(self, filename: str | None) -> int | None:
        """Seconds that clients may keep *filename*; ``SEND_FILE_MAX_AGE_DEFAULT`` unless overridden.

        In debug mode None: files are being edited, and a browser that keeps them would show the old ones.
        """
        if current_app.debug:
            return None
        return in_seconds(current_app.config["SEND_FILE_MAX_AGE_DEFAULT"])

    async def send_static_file(self, filename: str) -> Response:
        """Answer with a file of the static folder.

        Raises:
            RuntimeError: there is no static folder. NotFound: it has no such file.
        """
        if self.static_folder is None:
            raise RuntimeError(f"{self!r} has no static folder")
        max_age = self.get_send_file_max_age(filename)
        return await send_from_directory(self.static_folder, filename, max_age=max_age)

    async def open_resource(
        self, path: FilePath, mode: str = "rb", encoding: str | None = "utf-8"
    ) -> AsyncFile[Any]:
        """Open a file that lies beside the code, for reading: ``async with await app.open_resource("x") as file``.

        Args:
            path: relative to the root path.
            mode: ``rb``, ``r`` or ``rt``.
            encoding: of text.

        Raises:
            ValueError: another mode. OSError: it cannot be opened.
        """
        if mode not in {"r", "rt", "rb"}:
            raise ValueError(f"resources are opened for reading, not {mode!r}")
        return await open_file(os.path.join(self.root_path, path), mode, encoding)

    @property
    def jinja_loader(self) -> BaseLoader | None:
        """Where its templates are looked for; None for nowhere."""
        if self.template_folder is None:
            return None
        return folder_loader(os.path.join(self.root_path, self.template_folder))

    # --- routes -----------------------------------------------------------------------------------------------

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: AnyCallable | None = None,
        provide_automatic_options: bool | None = None,
        **options: Any,
    ) -> None:
        """Route *rule* to *endpoint*, and to *view_func*.

        Args:
            rule: a path with converters, such as ``/users/<int:id>``.
            endpoint: its name for ``url_for``; the function's name unless given.
            view_func: the view; may be given later under the endpoint's name.
            provide_automatic_options: answer OPTIONS without asking the view.
            options: ``methods``, ``defaults``, ``host``, ``subdomain``, ``strict_slashes``, ``websocket``, … as
                ``werkzeug.routing.Rule`` takes them.
        """
        raise NotImplementedError

    def add_websocket(
        self, rule: str, endpoint: str | None = None, view_func: AnyCallable | None = None, **options: Any
    ) -> None:
        """Route websockets that ask for *rule* to *view_func*."""
        self.add_url_rule(rule, endpoint, view_func, False, websocket=True, **options)

    def route(self, rule: str, *, endpoint: str | None = None, **options: Any) -> Callable[[F], F]:
        """Decorate a view: ``@app.route("/users", methods=["GET", "POST"])``; GET unless said otherwise."""

        def decorate(func: F) -> F:
            self.add_url_rule(rule, endpoint, func, **options)
            return func

        return decorate

    def websocket(self, rule: str, *, endpoint: str | None = None, **options: Any) -> Callable[[F], F]:
        """Decorate a websocket's handler: ``@app.websocket("/ws")``."""

        def decorate(func: F) -> F:
            self.add_websocket(rule, endpoint, func, **options)
            return func

        return decorate

    def _method_route(self, method: str, rule: str, options: dict[str, Any]) -> Callable[[F], F]:
        if "methods" in options:
            raise TypeError(f"{method.lower()}() means one method: use route() to name several")
        return self.route(rule, methods=[method], **options)

    def get(self, rule: str, **options: Any) -> Callable[[F], F]:
        """:meth:`route` for GET."""
        return self._method_route("GET", rule, options)

    def post(self, rule: str, **options: Any) -> Callable[[F], F]:
        """:meth:`route` for POST."""
        return self._method_route("POST", rule, options)

    def put(self, rule: str, **options: Any) -> Callable[[F], F]:
        """:meth:`route` for PUT."""
        return self._method_route("PUT", rule, options)

    def delete(self, rule: str, **options: Any) -> Callable[[F], F]:
        """:meth:`route` for DELETE."""
        return self._method_route("DELETE", rule, options)

    def patch(self, rule: str, **options: Any) -> Callable[[F], F]:
        """:meth:`route` for PATCH."""
        return self._method_route("PATCH", rule, options)

    @setupmethod
    def endpoint(self, endpoint: str) -> Callable[[F], F]:
        """Decorate the view of an endpoint whose rule is added elsewhere."""

        def decorate(func: F) -> F:
            self.view_functions[endpoint] = func
            return func

        return decorate

    # --- hooks ------------------------------------------------------------------------------------------------

    @setupmethod
    def before_request(self, f: BeforeRequestCallable) -> BeforeRequestCallable:
        """Have *f* called before the view; what it returns, unless None, is the answer."""
        self.before_request_funcs[None].append(f)
        return f

    @setupmethod
    def after_request(self, f: AfterRequestCallable) -> AfterRequestCallable:
        """Have *f* called with the response; it returns the response to send."""
        self.after_request_funcs[None].append(f)
        return f

    @setupmethod
    def teardown_request(self, f: TeardownCallable) -> TeardownCallable:
        """Have *f* called after the last byte, with the exception nobody handled, or None."""
        self.teardown_request_funcs[None].append(f)
        return f

    @setupmethod
    def before_websocket(self, func: BeforeRequestCallable) -> BeforeRequestCallable:
        """Have *func* called before a websocket's handler; what it returns, unless None, refuses the websocket."""
        self.before_websocket_funcs[None].append(func)
        return func

    @setupmethod
    def after_websocket(self, func: AfterRequestCallable) -> AfterRequestCallable:
        """Have *func* called when a websocket's handler has ended, with its response, usually None."""
        self.after_websocket_funcs[None].append(func)
        return func

    @setupmethod
    def teardown_websocket(self, func: TeardownCallable) -> TeardownCallable:
        """Have *func* called at the end of a websocket, with the exception nobody handled, or None."""
        self.teardown_websocket_funcs[None].append(func)
        return func

    @setupmethod
    def context_processor(self, f: TemplateContextProcessor) -> TemplateContextProcessor:
        """Have *f* called for each template; the dict it returns is there in the template."""
        self.template_context_processors[None].append(f)
        return f

    @setupmethod
    def url_value_preprocessor(self, f: URLValuePreprocessor) -> URLValuePreprocessor:
        """Have *f* called with the endpoint and the view's arguments, which it may change."""
        self.url_value_preprocessors[None].append(f)
        return f

    @setupmethod
    def url_defaults(self, f: URLDefaults) -> URLDefaults:
        """Have *f* called with the endpoint and the values of each ``url_for``, which it may fill in."""
        self.url_default_functions[None].append(f)
        return f

    # --- errors -----------------------------------------------------------------------------------------------

    @setupmethod
    def errorhandler(self, code_or_exception: int | type[Exception]) -> Callable[[F], F]:
        """Decorate what answers an HTTP status or an exception of a class; it is called with the exception."""

        def decorate(func: F) -> F:
            self.register_error_handler(code_or_exception, func)
            return func

        return decorate

    @setupmethod
    def register_error_handler(
        self, code_or_exception: int | type[Exception], f: ErrorHandlerCallable
    ) -> None:
        """Have *f* answer an HTTP status or an exception of a class."""
        exception, code = _class_and_code(code_or_exception)
        self.error_handler_spec[None][code][exception] = f


def _class_and_code(code_or_exception: int | type[Exception]) -> tuple[type[Exception], int | None]:
    """The exception class that is meant, and its HTTP status if it has one.

    Raises:
        ValueError: no such status, or a class that is none of exceptions. TypeError: neither class nor status.
    """
    exception: Any = code_or_exception
    if isinstance(code_or_exception, int):
        try:
            exception = default_exceptions[code_or_exception]
        except KeyError:
            raise ValueError(f"{code_or_exception} is no HTTP error: register its exception class") from None
    if not isinstance(exception, type):
        raise TypeError(f"{code_or_exception!r} is neither an exception class nor an HTTP error's status")
    if not issubclass(exception, Exception):
        raise ValueError(f"{exception.__name__} is no exception class")
    return exception, exception.code if issubclass(exception, HTTPException) else None


def endpoint_of(view_func: AnyCallable) -> str:
    """The endpoint a view has when none is given: its name."""
    return str(view_func.__name__)
