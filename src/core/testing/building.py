"""Building what a request is made of: path, headers, body and ASGI scope. Pure functions."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from json import dumps as json_dumps
from secrets import token_hex
from typing import Any, Final, Literal
from urllib.parse import quote, unquote, urlencode, urlsplit

from werkzeug.datastructures import Authorization, FileStorage, Headers
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartEncoder, Preamble


class _Sentinel:
    def __repr__(self) -> str:
        return "not given"


sentinel: Final = _Sentinel()  # "no json given": None is a JSON value

PATH_SAFE = "/%:@!$&'()*+,;=~-._"  # RFC 3986 pchar, with "%" so that an encoded path stays as it is
USER_AGENT = "samovar-test-client"
CLIENT = ("127.0.0.1", 50000)

HeadersLike = Mapping[str, Any] | Iterable[tuple[str, Any]] | Headers
AuthLike = Authorization | tuple[str, str]
Dumps = Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: what remains of a path or URL once it is read.

    Args:
        host: host, with a port where one was given.
        path: as ASGI wants it, decoded, beginning with the root path.
        raw_path: as on the wire, percent-encoded, without the query.
        query_string: percent-encoded, without the question mark.
    """

    scheme: str
    host: str
    path: str
    raw_path: bytes
    query_string: bytes

    @property
    def hostname(self) -> str:
        """The host in lower case, without its port."""
        return (urlsplit(f"//{self.host}").hostname or "").lower()

    @property
    def url(self) -> str:
        """The absolute URL."""
        query = f"?{self.query_string.decode('ascii')}" if self.query_string else ""
        return f"{self.scheme}://{self.host}{self.raw_path.decode('ascii')}{query}"


def make_target(
    path: str,
    *,
    query_string: str | bytes | Mapping[str, Any] | None = None,
    scheme: str = "http",
    host: str = "localhost",
    root_path: str = "",
    subdomain: str | None = None,
) -> Target:
    """Read *path*, which may have a query and may be an absolute URL, which then wins over *scheme* and *host*.

    Raises:
        ValueError: the query is given twice, in the path and as *query_string*.
    """
    parts = urlsplit(path)
    if parts.query and query_string is not None:
        raise ValueError("give the query in the path or as query_string, not both")
    query = quote(parts.query, safe=PATH_SAFE + "?") if query_string is None else _query(query_string)
    raw_path = quote(root_path + (parts.path or "/"), safe=PATH_SAFE)
    host = parts.netloc or (f"{subdomain}.{host}" if subdomain else host)
    return Target(
        scheme=parts.scheme or scheme,
        host=host,
        path=unquote(raw_path),
        raw_path=raw_path.encode("ascii"),
        query_string=query.encode("ascii"),
    )


def _query(query_string: str | bytes | Mapping[str, Any]) -> str:
    if isinstance(query_string, bytes):
        return query_string.decode("ascii")
    if isinstance(query_string, str):
        return quote(query_string, safe=PATH_SAFE + "?")
    return urlencode(list(_pairs(query_string)))


def _pairs(mapping: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The items of *mapping*, a value that is a list giving one for each of its own."""
    to_items = getattr(mapping, "items")  # noqa: B009  (Werkzeug's MultiDict has its own signature)
    items = to_items(multi=True) if hasattr(mapping, "getlist") else to_items()
    for name, value in items:
        for one in value if isinstance(value, (list, tuple)) else (value,):
            yield name, one


def make_headers(headers: HeadersLike | None, *, host: str, auth: AuthLike | None = None) -> Headers:
    """Return a copy of *headers* with the host, a user agent and *auth* where they lack one."""
    if isinstance(headers, Mapping):
        headers = dict(headers)
    result = Headers(headers)
    result.setdefault("host", host)
    result.setdefault("user-agent", USER_AGENT)
    if auth is not None:
        result["authorization"] = _authorization(auth)
    return result


def _authorization(auth: AuthLike) -> str:
    if isinstance(auth, Authorization):
        return auth.to_header()
    user, password = auth
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body and the headers it asks for."""

    data: bytes
    content_type: str | None = None


def make_body(
    *,
    data: bytes | str | Mapping[str, Any] | None = None,
    form: Mapping[str, Any] | None = None,
    files: Mapping[str, FileStorage] | None = None,
    json: Any = sentinel,
    dumps: Dumps = json_dumps,
) -> Body:
    """Encode a request's body from exactly one of *data*, *json*, and *form* with *files*.

    A *data* that is a mapping is a form, as in Flask; values that are :class:`FileStorage` are uploads.

    Raises:
        ValueError: more than one is given.
    """
    if isinstance(data, Mapping):
        form, data = {**data, **(form or {})}, None
    given = [data is not None, json is not sentinel, form is not None or files is not None]
    if sum(given) > 1:
        raise ValueError("give one of data, json, and form with files")
    if json is not sentinel:
        return Body(dumps(json).encode(), "application/json")
    if given[2]:
        return _form_body(form or {}, files or {})
    return Body(data.encode() if isinstance(data, str) else data or b"")


def _form_body(form: Mapping[str, Any], files: Mapping[str, FileStorage]) -> Body:
    fields = [(name, value) for name, value in _pairs(form) if not isinstance(value, FileStorage)]
    uploads = [(name, value) for name, value in _pairs(form) if isinstance(value, FileStorage)]
    uploads += list(_pairs(files))
    if uploads:
        return _multipart(fields, uploads)
    return Body(urlencode(fields).encode("ascii"), "application/x-www-form-urlencoded")


def _multipart(fields: list[tuple[str, Any]], uploads: list[tuple[str, FileStorage]]) -> Body:
    boundary = f"----samovar-{token_hex(12)}"
    encoder = MultipartEncoder(boundary.encode())
    parts = [encoder.send_event(Preamble(data=b""))]
    for name, value in fields:
        parts.append(encoder.send_event(Field(name=name, headers=Headers())))
        parts.append(encoder.send_event(Data(data=str(value).encode(), more_data=False)))
    for name, upload in uploads:
        event = File(name=name, filename=upload.filename or name, headers=_upload_headers(upload))
        parts.append(encoder.send_event(event))
        parts.append(encoder.send_event(Data(data=upload.stream.read(), more_data=False)))
    parts.append(encoder.send_event(Epilogue(data=b"")))
    return Body(b"".join(parts), f"multipart/form-data; boundary={boundary}")


def _upload_headers(upload: FileStorage) -> Headers:
    headers = Headers(upload.headers)
    headers.pop("content-disposition", None)  # the encoder writes it
    headers.setdefault("content-type", upload.mimetype or "application/octet-stream")
    return headers


def make_scope(
    type_: Literal["http", "websocket"],
    target: Target,
    headers: Headers,
    *,
    method: str = "GET",
    root_path: str = "",
    http_version: str = "1.1",
    subprotocols: Iterable[str] = (),
    state: Mapping[str, Any] | None = None,
    scope_base: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Build the ASGI connection scope (HTTP & WebSocket specification 2.5); *scope_base* has the last word."""
    scope: dict[str, Any] = {
        "type": type_,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": http_version,
        "scheme": target.scheme,
        "path": target.path,
        "raw_path": target.raw_path,
        "query_string": target.query_string,
        "root_path": root_path,
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": CLIENT,
        "server": _server(target),
        "state": dict(state or {}),
        "extensions": {},
    }
    if type_ == "websocket":
        scope["subprotocols"] = list(subprotocols)
        scope["extensions"] = {"websocket.http.response": {}}
    else:
        scope["method"] = method
        scope["extensions"] = {
            "http.response.push": {}
        }  # whatever the version: a test is to see the promises
    return scope | dict(scope_base or {})


def _server(target: Target) -> tuple[str, int]:
    parts = urlsplit(f"//{target.host}")
    return parts.hostname or "", parts.port or (443 if target.scheme in ("https", "wss") else 80)


# -- the same under the names Quart's tests know


def make_test_headers_path_and_query_string(
    app: Any,
    path: str,
    headers: HeadersLike | None = None,
    query_string: str | bytes | Mapping[str, Any] | None = None,
    auth: AuthLike | None = None,
    subdomain: str | None = None,
) -> tuple[Headers, str, bytes]:
    """Return the headers, the decoded path and the encoded query string of a request to *app*."""
    target = make_target(path, query_string=query_string, host=app_host(app), subdomain=subdomain)
    return make_headers(headers, host=target.host, auth=auth), target.path, target.query_string


def make_test_body_with_headers(
    *,
    data: bytes | str | None = None,
    form: Mapping[str, Any] | None = None,
    files: Mapping[str, FileStorage] | None = None,
    json: Any = sentinel,
    app: Any = None,
) -> tuple[bytes, Headers]:
    """Return a body and the headers that go with it."""
    body = make_body(data=data, form=form, files=files, json=json, dumps=app_dumps(app))
    headers = Headers() if body.content_type is None else Headers([("content-type", body.content_type)])
    return body.data, headers


def make_test_scope(
    type_: Literal["http", "websocket"],
    path: str,
    method: str,
    headers: Headers,
    query_string: bytes,
    scheme: str,
    root_path: str,
    http_version: str,
    scope_base: Mapping[str, Any] | None,
    *,
    _preserve_context: bool = False,
) -> dict[str, Any]:
    """Build an ASGI scope from parts that are known already."""
    host = headers.get("host", "localhost")
    target = make_target(path, query_string=query_string, scheme=scheme, host=host, root_path=root_path)
    return make_scope(
        type_,
        target,
        headers,
        method=method,
        root_path=root_path,
        http_version=http_version,
        scope_base=scope_base,
    )


async def no_op_push(path: str, headers: Headers) -> None:
    """Take a push promise and do nothing, for requests that no server is behind."""


def app_host(app: Any) -> str:
    """The host that *app* says it has (``SERVER_NAME``), else ``localhost``."""
    config = getattr(app, "config", None)
    return (config.get("SERVER_NAME") if isinstance(config, Mapping) else None) or "localhost"


def app_dumps(app: Any) -> Dumps:
    """The JSON encoder of *app*, else the standard library's."""
    provider = getattr(app, "json", None)
    return getattr(provider, "dumps", json_dumps)
