"""Blueprints: routes, hooks, templates and static files that are written once and registered on apps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

from .scaffold import Scaffold, _class_and_code, channel_rule, endpoint_of, guarded_rule
from .typing import AnyCallable, F, FilePath

if TYPE_CHECKING:
    from .app import Samovar

Deferred = Callable[["BlueprintSetupState"], None]

_HOOKS = (
    "before_request_funcs",
    "after_request_funcs",
    "teardown_request_funcs",
    "before_websocket_funcs",
    "after_websocket_funcs",
    "teardown_websocket_funcs",
    "template_context_processors",
    "url_value_preprocessors",
    "url_default_functions",
)


class BlueprintSetupState:
    """One registration of a blueprint on an app: what its deferred functions work with.

    Args:
        blueprint: what is registered.
        app: where.
        options: given at registration: ``name``, ``url_prefix``, ``subdomain``, ``url_defaults``, ``name_prefix``.
        first_registration: this blueprint was not registered on this app before.
    """

    def __init__(
        self, blueprint: Blueprint, app: Samovar, options: dict[str, Any], first_registration: bool
    ) -> None:
        self.app = app
        self.blueprint = blueprint
        self.options = options
        self.first_registration = first_registration
        self.subdomain: str | None = _given(options, "subdomain", blueprint.subdomain)
        self.url_prefix: str | None = _given(options, "url_prefix", blueprint.url_prefix)
        self.name: str = options.get("name", blueprint.name)
        self.name_prefix: str = options.get("name_prefix", "")
        self.url_defaults: dict[str, Any] = {
            **blueprint.url_values_defaults,
            **(options.get("url_defaults") or {}),
        }

    @property
    def full_name(self) -> str:
        """The name with those of the blueprints around it: ``outer.inner``."""
        return f"{self.name_prefix}.{self.name}".lstrip(".")

    def add_url_rule(
        self, rule: str, endpoint: str | None = None, view_func: AnyCallable | None = None, **options: Any
    ) -> None:
        """Add a rule to the app, under the blueprint's prefix and name."""
        if self.url_prefix is not None:
            rule = f"{self.url_prefix.rstrip('/')}/{rule.lstrip('/')}" if rule else self.url_prefix
        options.setdefault("subdomain", self.subdomain)
        if endpoint is None:
            if view_func is None:
                raise AssertionError(f"the rule {rule!r} needs an endpoint or a view")
            endpoint = endpoint_of(view_func)
        defaults = {**self.url_defaults, **(options.pop("defaults", None) or {})}
        self.app.add_url_rule(
            rule, f"{self.full_name}.{endpoint}", view_func, defaults=defaults or None, **options
        )


class Blueprint(Scaffold):
    """Routes and hooks under one name; ``app.register_blueprint`` puts them on an app.

    Args:
        name: stands before its endpoints; without dots.
        import_name: the module it is defined in, usually ``__name__``.
        static_folder: static files, relative to the root path; None for none.
        static_url_path: where they are served, under the prefix; the folder's name unless given.
        template_folder: templates, relative to the root path; the app's come first.
        url_prefix: stands before its rules.
        subdomain: of its rules.
        url_defaults: values for its rules.
        root_path: what folders are relative to.
        cli_group: the name of its command group; None for none of its own.
    """

    def __init__(
        self,
        name: str,
        import_name: str,
        static_folder: FilePath | None = None,
        static_url_path: str | None = None,
        template_folder: FilePath | None = None,
        url_prefix: str | None = None,
        subdomain: str | None = None,
        url_defaults: dict[str, Any] | None = None,
        root_path: FilePath | None = None,
        cli_group: str | None = "",
    ) -> None:
        super().__init__(import_name, static_folder, static_url_path, template_folder, root_path)
        if not name or "." in name:
            raise ValueError(f"a blueprint's name is not empty and has no dot: {name!r}")
        self.name = name
        self.url_prefix = url_prefix
        self.subdomain = subdomain
        self.url_values_defaults: dict[str, Any] = url_defaults or {}
        self.cli_group = cli_group
        self.deferred_functions: list[Deferred] = []
        self._blueprints: list[tuple[Blueprint, dict[str, Any]]] = []
        self._registered = False

    def _check_setup_finished(self, what: str) -> None:
        if self._registered:
            raise AssertionError(
                f"{what} was called on the blueprint {self.name!r} after it was registered: the app would not know"
            )

    # --- recording ---------------------------------------------------------------------------------------------

    def record(self, func: Deferred) -> None:
        """Have *func* called with the :class:`BlueprintSetupState` at each registration."""
        self._check_setup_finished("record")
        self.deferred_functions.append(func)

    def record_once(self, func: Deferred) -> None:
        """Have *func* called at the first registration on each app only."""

        def once(state: BlueprintSetupState) -> None:
            if state.first_registration:
                func(state)

        self.record(once)

    def make_setup_state(
        self, app: Samovar, options: dict[str, Any], first_registration: bool = False
    ) -> BlueprintSetupState:
        """The state of a registration; override it to use another class."""
        return BlueprintSetupState(self, app, options, first_registration)

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: AnyCallable | None = None,
        provide_automatic_options: bool | None = None,
        **options: Any,
    ) -> None:
        """See :meth:`Scaffold.add_url_rule`; the prefix and the blueprint's name are added at registration.

        Raises:
            ValueError: the endpoint, or the view's name in its place, has a dot.
        """
        known = endpoint if endpoint is not None else str(getattr(view_func, "__name__", ""))
        if "." in known:
            raise ValueError(f"a blueprint's endpoint has no dot: {known!r}")
        self.record(
            lambda state: state.add_url_rule(
                rule, endpoint, view_func, provide_automatic_options=provide_automatic_options, **options
            )
        )

    def channel(self, pattern: str, **options: Any) -> Callable[[F], F]:
        """As ``app.channel``: declare the channels of *pattern*, with the function that says who may subscribe.

        Names are not prefixed: the same channel is reached from everywhere. A blueprint that is registered twice on an
        app declares its channels once.

        Raises:
            InvalidRule: the pattern or an option cannot work; at registration, it ties with another rule.
        """
        guarded_rule(pattern, options)  # complains now rather than at registration

        def decorate(func: F) -> F:
            self.record_once(lambda state: _ignore(state.app.channel(pattern, **options)(func)))
            return func

        return decorate

    def add_channel(self, pattern: str, public: bool = False, **options: Any) -> None:
        """As ``app.add_channel``: declare the channels of *pattern* without a function; see :meth:`channel`."""
        channel_rule(pattern, options)
        self.record_once(lambda state: state.app.add_channel(pattern, public, **options))

    def register_blueprint(self, blueprint: Blueprint, **options: Any) -> None:
        """Put another blueprint inside this one; names and prefixes are joined."""
        self._check_setup_finished("register_blueprint")
        if blueprint is self:
            raise ValueError("a blueprint cannot be registered on itself")
        self._blueprints.append((blueprint, options))

    # --- registration ------------------------------------------------------------------------------------------

    def register(self, app: Samovar, options: dict[str, Any]) -> None:
        """Put everything on *app*; ``app.register_blueprint`` calls it.

        Raises:
            ValueError: the name is taken.
        """
        known = any(blueprint is self for blueprint in app.blueprints.values())
        state = self.make_setup_state(app, options, first_registration=not known)
        name = state.full_name
        if name in app.blueprints:
            taken = "this one already" if app.blueprints[name] is self else "another blueprint"
            raise ValueError(f"the blueprint name {name!r} is taken by {taken}: register with name=")
        app.blueprints[name] = self
        self._registered = True
        self._merge(app, name)
        if self.has_static_folder:
            state.add_url_rule(f"{self.static_url_path}/<path:filename>", "static", self.send_static_file)
        for deferred in self.deferred_functions:
            deferred(state)
        self._add_commands(app, name)
        for child, child_options in self._blueprints:
            child.register(app, _joined(state, child, child_options))

    def _merge(self, app: Samovar, name: str) -> None:
        for table in _HOOKS:
            functions = getattr(self, table).get(None)
            if functions:
                getattr(app, table)[name].extend(functions)
        for code, handlers in self.error_handler_spec.get(None, {}).items():
            app.error_handler_spec[name][code].update(handlers)
        for endpoint, func in self.view_functions.items():
            app.view_functions[endpoint] = func  # for a rule of the app, as in Flask
            app.view_functions.setdefault(f"{name}.{endpoint}", func)  # for one of this blueprint

    def _add_commands(self, app: Samovar, name: str) -> None:
        if self._cli is None or not self._cli.commands:
            return
        if self.cli_group is None:
            app.cli.commands.update(self._cli.commands)
        else:
            self._cli.name = self.cli_group or name
            app.cli.add_command(self._cli)

    # --- hooks for the whole app -------------------------------------------------------------------------------

    def _app_hook(self, table: str, func: F) -> F:
        self.record_once(lambda state: getattr(state.app, table)[None].append(func))
        return func

    def before_app_request(self, f: F) -> F:
        """``before_request`` for the whole app."""
        return self._app_hook("before_request_funcs", f)

    def after_app_request(self, f: F) -> F:
        """``after_request`` for the whole app."""
        return self._app_hook("after_request_funcs", f)

    def teardown_app_request(self, f: F) -> F:
        """``teardown_request`` for the whole app."""
        return self._app_hook("teardown_request_funcs", f)

    def before_app_websocket(self, func: F) -> F:
        """``before_websocket`` for the whole app."""
        return self._app_hook("before_websocket_funcs", func)

    def after_app_websocket(self, func: F) -> F:
        """``after_websocket`` for the whole app."""
        return self._app_hook("after_websocket_funcs", func)

    def teardown_app_websocket(self, func: F) -> F:
        """``teardown_websocket`` for the whole app."""
        return self._app_hook("teardown_websocket_funcs", func)

    def app_context_processor(self, f: F) -> F:
        """``context_processor`` for the whole app."""
        return self._app_hook("template_context_processors", f)

    def app_url_value_preprocessor(self, f: F) -> F:
        """``url_value_preprocessor`` for the whole app."""
        return self._app_hook("url_value_preprocessors", f)

    def app_url_defaults(self, f: F) -> F:
        """``url_defaults`` for the whole app."""
        return self._app_hook("url_default_functions", f)

    def app_errorhandler(self, code: int | type[Exception]) -> Callable[[F], F]:
        """``errorhandler`` for the whole app; *code* is a status or an exception class."""
        _class_and_code(code)  # complains now rather than at registration

        def decorate(func: F) -> F:
            self.record_once(lambda state: state.app.register_error_handler(code, func))
            return func

        return decorate

    def before_app_serving(self, func: F) -> F:
        """``before_serving`` of the app."""
        self.record_once(lambda state: _ignore(state.app.before_serving(func)))
        return func

    def while_app_serving(self, func: F) -> F:
        """``while_serving`` of the app."""
        self.record_once(lambda state: _ignore(state.app.while_serving(func)))
        return func

    def after_app_serving(self, func: F) -> F:
        """``after_serving`` of the app."""
        self.record_once(lambda state: _ignore(state.app.after_serving(func)))
        return func

    def _template_decorator(self, kind: str, name: Any) -> Any:
        def add(func: AnyCallable, name: str | None) -> None:
            self.record_once(lambda state: getattr(state.app, f"add_template_{kind}")(func, name))

        if callable(name):
            add(name, None)
            return name

        def decorate(func: F) -> F:
            add(func, name)
            return func

        return decorate

    @overload
    def app_template_filter(self, name: F) -> F: ...

    @overload
    def app_template_filter(self, name: str | None = None) -> Callable[[F], F]: ...

    def app_template_filter(self, name: Any = None) -> Any:
        """Decorate a template filter for the whole app; with or without parentheses."""
        return self._template_decorator("filter", name)

    @overload
    def app_template_test(self, name: F) -> F: ...

    @overload
    def app_template_test(self, name: str | None = None) -> Callable[[F], F]: ...

    def app_template_test(self, name: Any = None) -> Any:
        """Decorate a template test for the whole app; with or without parentheses."""
        return self._template_decorator("test", name)

    @overload
    def app_template_global(self, name: F) -> F: ...

    @overload
    def app_template_global(self, name: str | None = None) -> Callable[[F], F]: ...

    def app_template_global(self, name: Any = None) -> Any:
        """Decorate a function that templates of the whole app may call; with or without parentheses."""
        return self._template_decorator("global", name)

    def add_app_template_filter(self, f: AnyCallable, name: str | None = None) -> None:
        """Add a template filter for the whole app, under *name*, or its own."""
        self._template_decorator("filter", name)(f)

    def add_app_template_test(self, f: AnyCallable, name: str | None = None) -> None:
        """Add a template test for the whole app, under *name*, or its own."""
        self._template_decorator("test", name)(f)

    def add_app_template_global(self, f: AnyCallable, name: str | None = None) -> None:
        """Add a function that templates of the whole app may call, under *name*, or its own."""
        self._template_decorator("global", name)(f)


def _ignore(value: object) -> None:
    del value


def _given(options: dict[str, Any], name: str, own: Any) -> Any:
    """An option of the registration; the blueprint's own where it is left out or None."""
    value = options.get(name)
    return own if value is None else value


def _joined(state: BlueprintSetupState, child: Blueprint, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a blueprint inside another: prefixes, subdomains and names joined."""
    joined = dict(options)
    prefix = _given(options, "url_prefix", child.url_prefix)
    if state.url_prefix is not None:
        joined["url_prefix"] = (
            state.url_prefix if prefix is None else f"{state.url_prefix.rstrip('/')}/{prefix.lstrip('/')}"
        )
    subdomain = _given(options, "subdomain", child.subdomain)
    if state.subdomain is not None:
        joined["subdomain"] = state.subdomain if subdomain is None else f"{subdomain}.{state.subdomain}"
    joined["name_prefix"] = state.full_name
    return joined


__all__ = ["Blueprint", "BlueprintSetupState"]
