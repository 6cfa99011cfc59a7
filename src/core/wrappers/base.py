"""What requests and websockets have in common: the opening words of a connection, read when asked for.

Werkzeug's sans-I/O request has the parsing; here its constructor is replaced by descriptors that take each part out of
the connection's scope on first use and keep it in the instance.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

import werkzeug.urls  # noqa: F401  # registers the error handler that parsing query strings uses
from werkzeug.datastructures import Authorization, Headers, IfRange, ImmutableMultiDict
from werkzeug.http import parse_date, parse_if_range_header
from werkzeug.sansio.http import parse_cookie
from werkzeug.sansio.request import Request as SansIORequest
from werkzeug.sansio.utils import get_host

from ..ctx import current_context
from ..typing import Scope

if TYPE_CHECKING:
    from werkzeug.routing import Rule

    from ..json.provider import JSONProvider

T = TypeVar("T")

_NOT_ASCII = re.compile(rb"[\x80-\xff]")


class lazy(Generic[T]):
    """An attribute worked out when first read, then plain: it may be set like any other."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute = compute
        self.name: str = compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> lazy[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> lazy[T] | T:
        if instance is None:
            return self
        value = instance.__dict__[self.name] = self.compute(instance)
        return value


class BaseRequestWebsocket(SansIORequest):
    """The opening of a connection: method, URL, headers, where it was routed to.

    Args:
        scope: the ASGI connection scope.
    """

    url_rule: Rule | None = None
    """The rule that matched."""
    view_args: dict[str, Any] | None = None
    """What the rule's converters took from the path."""
    routing_exception: Exception | None = None
    """Why nothing matched."""
    identified: tuple[str | None] | None = None
    """What ``app.identify`` said of this connection; None: it was not asked yet."""

    def __init__(self, scope: Scope) -> None:
        # SansIORequest.__init__ is left out on purpose: see the module's docstring.
        self.scope = scope
        path = scope["path"]
        plain = path[:1] == "/" and path[1:2] != "/" and not scope.get("root_path")
        self.path: str = path if plain else routed_path(scope)
        self.method: str = scope.get("method", "GET")

    @lazy
    def scheme(self) -> str:
        """``http``, ``https``, ``ws`` or ``wss``."""
        return cast("str", self.scope.get("scheme", "http"))

    @lazy
    def server(self) -> tuple[str, int | None] | None:
        """The server's address, None where unknown."""
        server = self.scope.get("server")
        return None if server is None else (server[0], server[1])

    @lazy
    def root_path(self) -> str:
        """Where the app is mounted, without a slash at the end."""
        return cast("str", self.scope.get("root_path") or "").rstrip("/")

    @lazy
    def query_string(self) -> bytes:
        """What follows the ``?``, as it came; bytes outside ASCII are percent-encoded, so that it always decodes."""
        raw = cast("bytes", self.scope.get("query_string") or b"")
        if raw.isascii():
            return raw
        return _NOT_ASCII.sub(lambda match: b"%%%02X" % match[0][0], raw)

    @lazy
    def headers(self) -> Headers:
        """The headers, each as often as it was sent; latin-1, which never fails."""
        headers = Headers()
        # Straight into the list: these came off the wire, there is no newline to look for.
        headers._list = [
            (name.decode("latin-1").title(), value.decode("latin-1")) for name, value in self.scope["headers"]
        ]
        return headers

    @lazy
    def cookies(self) -> ImmutableMultiDict[str, str]:
        """The cookies, each name with its first value in front."""
        texts = [value.decode("latin-1") for name, value in self.scope["headers"] if name == b"cookie"]
        return cast(
            "ImmutableMultiDict[str, str]", parse_cookie(";".join(texts), cls=self.dict_storage_class)
        )

    def cookie(self, name: str) -> str | None:
        """The first cookie of that name; in its usual form without parsing the others."""
        if "cookies" in self.__dict__:
            return self.cookies.get(name)
        wanted = name.encode()
        for key, value in self.scope["headers"]:
            if key == b"cookie" and wanted in value:
                if b'"' in value:  # what is quoted may have a semicolon
                    return self.cookies.get(name)
                for pair in value.split(b";"):
                    own, _, text = pair.partition(b"=")
                    if own.strip(b" \t") == wanted:
                        text = text.strip(b" \t")
                        plain = text.isascii() and b" " not in text and b"\t" not in text
                        return text.decode() if plain else self.cookies.get(name)
        return None

    @lazy
    def remote_addr(self) -> str | None:
        """The client's address, None where unknown."""
        client = self.scope.get("client")
        return None if client is None else cast("str", client[0])

    @lazy
    def http_version(self) -> str:
        """``1.0``, ``1.1``, ``2`` or ``3``."""
        return cast("str", self.scope.get("http_version", "1.1"))

    @lazy
    def host(self) -> str:
        """``host[:port]`` from the Host header, else the server's; empty when it has characters no host has.

        Raises:
            SecurityError: it is not among the trusted hosts.
        """
        return get_host(self.scheme, self.header(b"host"), self.server, self.trusted_hosts)

    def header(self, name: bytes) -> str | None:
        """The first header of that name (in lower case), read straight from the scope."""
        value = self._first_values.get(name)
        return None if value is None else value.decode("latin-1")

    @lazy
    def _first_values(self) -> dict[bytes, bytes]:
        """The first value of each header, by its name, which ASGI has in lower case."""
        return dict(reversed(self.scope["headers"]))

    @lazy
    def content_length(self) -> int | None:
        """The body's length as announced, in bytes; None when it was not, or comes in chunks."""
        values = self._first_values
        text = values.get(b"content-length")
        if text is None or not text.isdigit() or b"transfer-encoding" in values:
            return None
        return int(text) if len(text) < 20 else None

    @lazy
    def authorization(self) -> Authorization | None:
        """What the Authorization header says; None without one, or when it cannot be read."""
        try:
            return Authorization.from_header(self.header(b"authorization"))
        except ValueError:  # Werkzeug lets through what is not ASCII
            return None

    @lazy
    def date(self) -> datetime | None:
        """When the client sent it; None when it does not say, or nothing readable."""
        return _date(self.header(b"date"))

    @lazy
    def if_modified_since(self) -> datetime | None:
        """The condition's date, None as for :attr:`date`."""
        return _date(self.header(b"if-modified-since"))

    @lazy
    def if_unmodified_since(self) -> datetime | None:
        """The condition's date, None as for :attr:`date`."""
        return _date(self.header(b"if-unmodified-since"))

    @lazy
    def if_range(self) -> IfRange:
        """The ETag or date of a range that is asked for; empty without one."""
        try:
            return parse_if_range_header(self.header(b"if-range"))
        except OverflowError:
            return IfRange()

    @property
    def endpoint(self) -> str | None:
        """The endpoint that was routed to."""
        rule = self.url_rule
        return None if rule is None else cast("str", rule.endpoint)

    @property
    def blueprint(self) -> str | None:
        """The name of the blueprint that has the endpoint."""
        endpoint = self.endpoint
        if endpoint is None or "." not in endpoint:
            return None
        return endpoint.rpartition(".")[0]

    @property
    def blueprints(self) -> list[str]:
        """The blueprint's name and those of the blueprints around it, inmost first."""
        return blueprint_names(self.blueprint)

    @property
    def json_module(self) -> JSONProvider:
        """What reads JSON: the app's provider, or a default one."""
        context = current_context()
        if context is not None:
            return context.app.json
        from ..json import _bare

        return _bare

    @property
    def script_root(self) -> str:
        """The root path, under its old name."""
        return self.root_path

    @property
    def url_root(self) -> str:
        """``scheme://host/root_path/``."""
        return self.root_url


def _date(text: str | None) -> datetime | None:
    """What a header says; None for nonsense, of which Werkzeug lets an enormous day or year through as an error."""
    try:
        return parse_date(text)
    except OverflowError:
        return None


def routed_path(scope: Scope) -> str:
    """The path that is routed: decoded, without the root path, with exactly one slash in front.

    ASGI's ``path`` has the root path in front (spec 2.x, "Path encoding"); servers and mounts that leave it out are
    understood too.
    """
    path = cast("str", scope["path"])
    root = scope.get("root_path")
    if root:
        root = root.rstrip("/")
        if path == root or path.startswith(f"{root}/"):
            path = path[len(root) :]
    if path[:1] != "/" or path[1:2] == "/":
        return "/" + path.lstrip("/")
    return path


def blueprint_names(name: str | None) -> list[str]:
    """``a.b.c`` as ``["a.b.c", "a.b", "a"]``."""
    names = []
    while name:
        names.append(name)
        name = name.rpartition(".")[0]
    return names
