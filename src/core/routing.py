"""Routing: Werkzeug's map is the reference, a compiled matcher the fast road.

The matcher answers only what it is sure of: this path and method belong to this rule, with these values. Paths without
variables are looked up in a dictionary, others walk a tree of their parts, made from Werkzeug's own compiled parts, so
that weights and patterns are the same. Whatever is not a plain hit (404, 405, redirects, hosts and subdomains, rules
that redirect or alias) is left to Werkzeug, which stays right if a little slower. ``tests/core/test_routing.py``
compares the two over generated paths.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from math import isinf
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import ImmutableDict
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import BaseConverter, Map, MapAdapter, Rule, RuleFactory
from werkzeug.routing import BuildError as BuildError
from werkzeug.routing import RequestRedirect as RequestRedirect
from werkzeug.routing import RoutingException as RoutingException
from werkzeug.routing import WebsocketMismatch as WebsocketMismatch
from werkzeug.routing.converters import (
    FloatConverter,
    IntegerConverter,
    PathConverter,
    UnicodeConverter,
    ValidationError,
)

if TYPE_CHECKING:
    from .wrappers.base import BaseRequestWebsocket


class SamovarRule(Rule):
    """A rule that knows whether it answers OPTIONS by itself; ``websocket=True`` for websockets."""

    def __init__(
        self,
        string: str,
        defaults: Mapping[str, Any] | None = None,
        subdomain: str | None = None,
        methods: Iterable[str] | None = None,
        endpoint: str | None = None,
        strict_slashes: bool | None = None,
        merge_slashes: bool | None = None,
        host: str | None = None,
        websocket: bool = False,
        provide_automatic_options: bool = False,
        **options: Any,
    ) -> None:
        if websocket and methods is not None and set(methods) - {"GET", "HEAD", "OPTIONS"}:
            raise ValueError(f"the websocket route {string!r} takes no methods")
        super().__init__(
            string,
            defaults=defaults,
            subdomain=subdomain,
            methods=methods,
            endpoint=endpoint,
            strict_slashes=strict_slashes,
            merge_slashes=merge_slashes,
            host=host,
            websocket=websocket,
            **options,
        )
        self.provide_automatic_options = provide_automatic_options


class FiniteFloatConverter(FloatConverter):
    """``<float:x>``, which takes no number that is too large for one: it would be infinity, which no JSON has."""

    def to_python(self, value: str) -> float:
        """The number.

        Raises:
            ValidationError: too large, or outside the bounds.
        """
        number: float = super().to_python(value)
        if isinf(number):
            raise ValidationError(f"{value:.40} is too large for a number")
        return number


class SamovarMap(Map):
    """The rules of one app, and the order they were added in: among equals the first wins."""

    default_converters: ImmutableDict[str, type[BaseConverter]] = ImmutableDict(
        {**Map.default_converters, "float": FiniteFloatConverter}
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.added: list[Rule] = []
        super().__init__(*args, **kwargs)

    def add(self, rulefactory: RuleFactory) -> None:
        """Add a rule, or the rules of a factory."""
        rules = list(rulefactory.get_rules(self))
        for rule in rules:
            super().add(rule)
        self.added.extend(rules)

    def bind_to_request(
        self, request: BaseRequestWebsocket, subdomain: str | None, server_name: str | None
    ) -> MapAdapter:
        """Werkzeug's adapter for a request or websocket.

        Args:
            request: whose path, query and root path are taken.
            subdomain: None: what the request's host has in front of *server_name*; one that no rule can have, so that
                nothing matches, when it is another server's.
            server_name: the host of external URLs; None: the request's.
        """
        host = request.host
        if server_name is not None:
            server_name = server_name.lower()
            if subdomain is None and not self.host_matching:
                subdomain = _subdomain(host.lower(), server_name)
            host = server_name
        return self.bind(
            host,
            script_name=request.root_path or None,
            subdomain=None if self.host_matching else subdomain,
            url_scheme=request.scheme,
            default_method=request.method,
            path_info=request.path,
            query_args=request.query_string.decode("ascii"),
        )


def _subdomain(host: str, server_name: str) -> str:
    if host == server_name:
        return ""
    return host.removesuffix(f".{server_name}") if host.endswith(f".{server_name}") else "/"


class Route:
    """What answers one endpoint, worked out once: its view and the hooks around it, outmost first.

    ``rule`` is None in the one for requests that no rule matches.
    """

    __slots__ = (
        "after",
        "after_websocket",
        "before",
        "before_websocket",
        "endpoint",
        "names",
        "options",
        "preprocessors",
        "rule",
        "teardown",
        "teardown_websocket",
        "view",
    )

    def __init__(
        self, rule: Rule | None, view: Callable[..., Awaitable[Any]] | None, names: Sequence[str]
    ) -> None:
        self.rule: Rule | None = rule
        self.view: Callable[..., Awaitable[Any]] | None = view
        self.names: tuple[str, ...] = tuple(names)
        self.endpoint: str | None = None if rule is None else rule.endpoint
        self.options: bool = bool(getattr(rule, "provide_automatic_options", False))
        self.preprocessors: tuple[Callable[..., Any], ...] = ()
        self.before: tuple[Callable[..., Awaitable[Any]], ...] = ()
        self.after: tuple[Callable[..., Awaitable[Any]], ...] = ()
        self.teardown: tuple[Callable[..., Awaitable[Any]], ...] = ()
        self.before_websocket: tuple[Callable[..., Awaitable[Any]], ...] = ()
        self.after_websocket: tuple[Callable[..., Awaitable[Any]], ...] = ()
        self.teardown_websocket: tuple[Callable[..., Awaitable[Any]], ...] = ()

    def __repr__(self) -> str:
        return f"<Route {self.rule!s} -> {self.endpoint}>"


class _Slow(Exception):
    """This path is Werkzeug's to decide."""


class _End:
    """The rules that end at one place of the tree, by method."""

    __slots__ = ("any", "lenient", "methods")

    def __init__(self) -> None:
        self.methods: dict[str, _Leaf] = {}
        self.any: _Leaf | None = None  # a rule for all methods; shadows those after it
        self.lenient: _End | None = None  # those of them without strict slashes

    def add(self, leaf: _Leaf) -> None:
        rule = leaf.route.rule
        assert rule is not None
        if self.any is not None:
            return
        if rule.methods is None:
            self.any = leaf
            return
        for method in rule.methods:
            self.methods.setdefault(method, leaf)

    def get(self, method: str) -> _Leaf | None:
        return self.methods.get(method) or self.any

    def exact(self) -> dict[str, Route]:
        return {method: leaf.route for method, leaf in self.methods.items() if leaf.hit is not None}


class _Leaf:
    """A rule at the end of a path: its route, and what its variables are called and converted by."""

    __slots__ = ("converters", "defaults", "hit", "names", "route", "slow", "strict")

    def __init__(self, route: Route, slow: bool) -> None:
        rule = route.rule
        assert rule is not None
        self.route = route
        self.slow = slow
        self.strict = bool(rule.strict_slashes)
        self.defaults = dict(rule.defaults) if rule.defaults else None
        self.names = tuple(rule._converters)
        self.converters = tuple(_conversion(converter) for converter in rule._converters.values())
        plain = self.defaults is None and not self.names and not slow
        self.hit: tuple[Route, None] | None = (route, None) if plain else None

    def values(self, texts: Sequence[str]) -> dict[str, Any]:
        """The view's arguments.

        Raises:
            _Slow: a converter refuses its text.
        """
        values: dict[str, Any] = {}
        try:
            if len(texts) == 1 and self.defaults is None:
                convert = self.converters[0]
                return {self.names[0]: texts[0] if convert is None else convert(texts[0])}
            for name, convert, text in zip(self.names, self.converters, texts, strict=True):
                values[name] = text if convert is None else convert(text)
        except ValueError as error:  # ValidationError is one
            raise _Slow from error
        if self.defaults is not None:
            values.update(self.defaults)
        return values


def _conversion(converter: BaseConverter) -> Callable[[str], Any] | None:
    """The cheapest function that does what the converter's ``to_python`` does; None for none at all."""
    kind = type(converter)
    if kind in (UnicodeConverter, PathConverter):
        return None
    if (
        isinstance(converter, IntegerConverter)
        and kind is IntegerConverter
        and converter.min is None
        and converter.max is None
        and not converter.fixed_digits
    ):
        return int
    return converter.to_python


class _State:
    """A place in the tree: where a static part, or a dynamic one in the order of weights, leads on."""

    __slots__ = ("dynamic", "end", "static")

    def __init__(self) -> None:
        self.static: dict[str, _State] = {}
        self.dynamic: list[_Step] = []
        self.end: _End | None = None


class _Step:
    """A dynamic part and where it leads."""

    __slots__ = ("final", "groups", "match", "part", "state", "suffixed", "test")

    def __init__(self, part: Any, state: _State) -> None:
        self.part = part
        self.state = state
        self.final: bool = part.final
        self.suffixed: bool = part.suffixed
        pattern = re.compile(part.content)
        self.match = pattern.match
        self.groups = tuple(
            pattern.groupindex[name]
            for name in sorted(
                (name for name in pattern.groupindex if name.startswith("__werkzeug_")),
                key=lambda name: int(name.removeprefix("__werkzeug_")),
            )
        )
        self.test = _TESTS.get(part.content) if not part.final else None


# The two commonest parts, without a regular expression: any text, and decimal digits (``\d`` is what isdecimal says).
_TESTS: dict[str, Callable[[str], bool]] = {
    rf"(?P<__werkzeug_0>{UnicodeConverter(Map()).regex})\Z": bool,
    rf"(?P<__werkzeug_0>{IntegerConverter.regex})\Z": str.isdecimal,
}


class Matcher:
    """The fast road for one kind of rules, HTTP's or websockets'.

    Args:
        rules: in the order they were added.
        domain: the only subdomain served.
        route_for: gives a rule's route.
    """

    def __init__(self, rules: Iterable[Rule], domain: str, route_for: Callable[[Rule], Route]) -> None:
        self._static: dict[str, _End] = {}
        self._root = _State()
        rules = list(rules)
        defaults = _endpoints_with_defaults(rules)
        for rule in rules:
            self._add(rule, domain, _Leaf(route_for(rule), _is_slow(rule, defaults)))
        _sort(self._root)
        self.exact: dict[str, dict[str, Route]] = {path: end.exact() for path, end in self._static.items()}
        self._start = self._root.static.setdefault("", _State())  # every path begins with a slash

    def _add(self, rule: Rule, domain: str, leaf: _Leaf) -> None:
        first, *parts = rule._parts
        if not first.static or first.content != domain:
            return  # another subdomain's: cannot match here
        state = self._root
        for part in parts:
            state = _follow(state, part)
        if state.end is None:
            state.end = _End()
        state.end.add(leaf)
        if not leaf.strict:
            if state.end.lenient is None:
                state.end.lenient = _End()
            state.end.lenient.add(leaf)
        if all(part.static for part in parts):
            self._static["/".join(part.content for part in parts)] = state.end

    def match(self, path: str, method: str) -> tuple[Route, dict[str, Any] | None] | None:
        """The route for *path* and the view's arguments (None for none); None when Werkzeug has to say."""
        end = self._static.get(path)
        if end is not None:
            leaf = end.methods.get(method) or end.any
            if leaf is not None and leaf.hit is not None:
                return leaf.hit
        texts: list[str] = []
        try:
            leaf = _walk(self._start, path.split("/"), 1, method, texts)
            if leaf is None or leaf.slow:
                return None
            return leaf.route, leaf.values(texts)
        except _Slow:
            return None


def _follow(state: _State, part: Any) -> _State:
    if part.static:
        return state.static.setdefault(part.content, _State())
    for step in state.dynamic:
        if step.part == part:
            return step.state
    step = _Step(part, _State())
    state.dynamic.append(step)
    return step.state


def _sort(state: _State) -> None:
    state.dynamic.sort(key=lambda step: step.part.weight)
    for child in state.static.values():
        _sort(child)
    for step in state.dynamic:
        _sort(step.state)


def _endpoints_with_defaults(rules: list[Rule]) -> set[Any]:
    """Endpoints with several rules of which one has defaults: Werkzeug may redirect from one to another."""
    several: dict[Any, list[Rule]] = {}
    for rule in rules:
        several.setdefault(rule.endpoint, []).append(rule)
    return {
        endpoint
        for endpoint, group in several.items()
        if len(group) > 1 and any(rule.defaults for rule in group)
    }


def _is_slow(rule: Rule, with_defaults: set[Any]) -> bool:
    return bool(rule.alias or rule.redirect_to is not None or rule.endpoint in with_defaults)


def _walk(state: _State, parts: list[str], index: int, method: str, texts: list[str]) -> _Leaf | None:
    """Follow *parts* from *index* on; variables' texts are left in *texts*.

    Raises:
        _Slow: a slash would be added; Werkzeug redirects.
    """
    while True:
        if index == len(parts):
            return _leaf_at(state, method)
        part = parts[index]
        child = state.static.get(part)
        dynamic = state.dynamic
        if part == "":
            break
        if child is not None:
            if dynamic:
                break
            state = child  # nowhere else to go from here: no need to come back
        elif len(dynamic) == 1 and dynamic[0].test is not None:
            if not dynamic[0].test(part):
                return None
            texts.append(part)
            state = dynamic[0].state
        else:
            break
        index += 1
    if child is not None:
        leaf = _walk(child, parts, index + 1, method, texts)
        if leaf is not None:
            return leaf
    for step in dynamic:
        leaf = _try_step(step, parts, index, method, texts)
        if leaf is not None:
            return leaf
    if part == "" and index == len(parts) - 1 and state.end is not None and state.end.lenient is not None:
        return state.end.lenient.get(method)
    return None


def _try_step(step: _Step, parts: list[str], index: int, method: str, texts: list[str]) -> _Leaf | None:
    kept = len(texts)
    test = step.test
    if test is not None:
        if not test(parts[index]):
            return None
        texts.append(parts[index])
        leaf = _walk(step.state, parts, index + 1, method, texts)
    else:
        rest, following = parts, index + 1
        target = parts[index]
        if step.final:  # takes all that is left
            target, rest, following = "/".join(parts[index:]), [], 0
        match = step.match(target)
        if match is None:
            return None
        if step.suffixed and match.groups()[-1] == "/":
            rest, following = [""], 0
        texts.extend(match.group(*step.groups) if len(step.groups) > 1 else (match.group(step.groups[0]),))
        leaf = _walk(step.state, rest, following, method, texts)
    if leaf is None:
        del texts[kept:]
    return leaf


def _leaf_at(state: _State, method: str) -> _Leaf | None:
    if state.end is not None:
        leaf = state.end.get(method)
        if leaf is not None:
            return leaf
    slash = state.static.get("")
    if slash is not None and slash.end is not None:
        leaf = slash.end.get(method)
        if leaf is not None:
            if leaf.strict:
                raise _Slow
            return leaf
    return None


_ONLY_A_WEBSOCKET = "This address is a websocket's: it takes a websocket handshake, not a plain request."
_NOT_A_WEBSOCKET = "This address takes plain HTTP requests: there is no websocket here."


class Router:
    """Finds the route of a request: the fast matchers first, then Werkzeug's map.

    Args:
        url_map: the rules.
        plain_hosts: neither host nor subdomain matching; else every request goes to Werkzeug.
        route_for: gives a rule's route.
    """

    def __init__(self, url_map: SamovarMap, plain_hosts: bool, route_for: Callable[[Rule], Route]) -> None:
        url_map.update()
        self._route_for = route_for
        self._routes: dict[int, Route] = {}
        rules = [rule for rule in url_map.added if not rule.build_only]
        self.exact: dict[str, dict[str, Route]] = {}
        """Of HTTP: path to method to route, where these two decide and the view takes no arguments."""
        self.http: Matcher | None = None
        self.websocket: Matcher | None = None
        if plain_hosts and all(hasattr(rule, "_parts") for rule in rules):
            domain = url_map.default_subdomain
            http = [rule for rule in rules if not rule.websocket]
            websocket = [rule for rule in rules if rule.websocket]
            self.http = Matcher(http, domain, self.route)
            self.exact = self.http.exact
            self.websocket = Matcher(websocket, domain, self.route)

    def route(self, rule: Rule) -> Route:
        """The route of *rule*, made once."""
        route = self._routes.get(id(rule))
        if route is None:
            route = self._routes[id(rule)] = self._route_for(rule)
        return route

    def match_slowly(
        self, adapter: MapAdapter, websocket: bool = False
    ) -> tuple[Route, dict[str, Any] | None]:
        """The route and the view's arguments, by Werkzeug.

        Raises:
            HTTPException: 404, 405, 400 (only the other kind of rule is there) or a redirect.
        """
        try:
            rule, values = adapter.match(return_rule=True, websocket=websocket)
        except WebsocketMismatch:
            raise WebsocketMismatch(_NOT_A_WEBSOCKET if websocket else _ONLY_A_WEBSOCKET) from None
        except UnicodeEncodeError as error:  # half a surrogate pair, of a server that lets it through
            raise NotFound() from error
        return self.route(rule), dict(values) or None


__all__ = [
    "BuildError",
    "HTTPException",
    "Map",
    "MapAdapter",
    "Matcher",
    "MethodNotAllowed",
    "NotFound",
    "RequestRedirect",
    "Route",
    "Router",
    "RoutingException",
    "Rule",
    "SamovarMap",
    "SamovarRule",
]
