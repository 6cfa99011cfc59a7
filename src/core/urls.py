"""Finding the route of a request, and building URLs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from werkzeug.routing import BuildError, MapAdapter, Rule

from .ctx import Context, current_context
from .routing import Route, Router
from .setup import Setup
from .wrappers.base import BaseRequestWebsocket, blueprint_names


class Urls(Setup):
    """The part of an app that knows its URLs."""

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

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """Werkzeug's adapter for a request or websocket; without one, for ``SERVER_NAME``; None when that is not set.

        With ``SERVER_NAME`` external URLs have that host, whichever the request named, except with host matching.
        """
        server_name: str | None = self.config["SERVER_NAME"]
        if request is not None:
            url_map = self.url_map
            if url_map.host_matching:
                return url_map.bind_to_request(request, None, None)
            domain = None if self.subdomain_matching else url_map.default_subdomain or ""
            return url_map.bind_to_request(request, domain, server_name)
        if server_name is None:
            return None
        secure = self.config["PREFER_SECURE_URLS"]
        return self.url_map.bind(
            server_name,
            script_name=self.config["APPLICATION_ROOT"],
            url_scheme="https" if secure else self.config["PREFERRED_URL_SCHEME"],
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
