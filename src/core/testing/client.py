"""The test client: HTTP, websocket, event streams and long-polls against any ASGI callable, without a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin, urlsplit

from werkzeug.datastructures import FileStorage, Headers
from werkzeug.http import dump_cookie

from .building import (
    AuthLike,
    Body,
    HeadersLike,
    Target,
    app_dumps,
    app_host,
    make_body,
    make_headers,
    make_scope,
    make_target,
    sentinel,
)
from .cookies import Cookie, CookieJar
from .exchange import TIMEOUT, WINDOW
from .http import TestHTTPConnection
from .keeping import ContextKeeper
from .poll import PollAnswer, read_poll
from .sse import TestSSEConnection
from .websocket import TestWebsocketConnection

if TYPE_CHECKING:
    from ..wrappers.response import Response

QueryLike = str | bytes | Mapping[str, Any]
REDIRECTS = frozenset({301, 302, 303, 305, 307, 308})
MAX_REDIRECTS = 20  # as browsers have it (Fetch standard, HTTP-redirect fetch, step 7)


class TestClient:
    """Talks ASGI to an app as a server does, with cookies, redirects and a time limit on every wait.

    Args:
        app: any ASGI callable; only sessions and kept contexts need a Samovar app.
        use_cookies: whether to keep the cookies that responses set.
        timeout: the limit of each wait, in seconds; every method takes its own.

    Attributes:
        cookie_jar: the cookies kept, None without *use_cookies*.
        state: copied into the scope of each connection, as a server does with what the lifespan left.
        push_promises: path and headers of each promise that came with an answer to :meth:`open`.
    """

    __test__ = False  # not a test case of pytest's

    http_connection_class = TestHTTPConnection
    websocket_connection_class = TestWebsocketConnection
    sse_connection_class = TestSSEConnection

    def __init__(self, app: Any, use_cookies: bool = True, *, timeout: float = TIMEOUT) -> None:
        self.app = app
        self.timeout = timeout
        self.cookie_jar: CookieJar | None = CookieJar() if use_cookies else None
        self.state: dict[str, Any] = {}
        self.push_promises: list[tuple[str, Headers]] = []
        self._keeper: ContextKeeper | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.app!r}>"

    async def __aenter__(self) -> Self:
        """Keep the context of each request: ``request``, ``session`` and ``g`` can be looked at after it."""
        if self._keeper is not None:
            raise RuntimeError("this client keeps contexts already")
        self._keeper = ContextKeeper(self.app)
        return self

    async def __aexit__(self, *_: object) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.release()

    @property
    def preserve_context(self) -> bool:
        """True inside ``async with client``."""
        return self._keeper is not None

    # -- requests

    async def open(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: HeadersLike | None = None,
        data: bytes | str | Mapping[str, Any] | None = None,
        form: Mapping[str, Any] | None = None,
        files: Mapping[str, FileStorage] | None = None,
        query_string: QueryLike | None = None,
        json: Any = sentinel,
        scheme: str = "http",
        follow_redirects: bool = False,
        root_path: str = "",
        http_version: str = "1.1",
        scope_base: Mapping[str, Any] | None = None,
        auth: AuthLike | None = None,
        subdomain: str | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Send a request and return its whole response; what the app raises is raised here.

        Args:
            path: may have a query, and may be an absolute URL.
            method: the HTTP method.
            headers: further headers; they win over the ones the client makes.
            data: the body; a mapping is a form, as in Flask.
            form: the fields of a form.
            files: uploads, sent as multipart with *form*.
            query_string: the query, as text or as a mapping.
            json: the body, encoded by ``app.json``.
            scheme: ``http`` or ``https``.
            follow_redirects: whether to go where a redirect points.
            root_path: where the app is mounted; *path* is below it.
            http_version: as the scope has it.
            scope_base: wins over everything in the scope.
            auth: user and password, or an ``Authorization``.
            subdomain: put in front of the app's host.
            timeout: the limit of each wait, in seconds.
        """
        target = self._target(path, query_string, scheme, root_path, subdomain)
        body = make_body(data=data, form=form, files=files, json=json, dumps=app_dumps(self.app))
        extra = {"root_path": root_path, "http_version": http_version, "scope_base": scope_base}
        request_headers = make_headers(headers, host=target.host, auth=auth)
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._exchange(target, method, request_headers, body, timeout, extra)
            if not follow_redirects or response.status_code not in REDIRECTS:
                return response
            location = response.headers.get("location")
            if location is None:
                return response
            if response.status_code not in (307, 308):
                method, body = "HEAD" if method == "HEAD" else "GET", Body(b"")
                request_headers.remove("content-type")
            target = make_target(urljoin(target.url, location))
            request_headers["host"] = target.host
        raise RuntimeError(f"more than {MAX_REDIRECTS} redirects, the last one to {target.url}")

    async def _exchange(
        self,
        target: Target,
        method: str,
        headers: Headers,
        body: Body,
        timeout: float | None,
        extra: dict[str, Any],
    ) -> Response:
        headers = Headers(headers)
        if body.content_type is not None:
            headers.setdefault("content-type", body.content_type)
        if body.data or method not in ("GET", "HEAD", "OPTIONS", "TRACE", "DELETE"):
            headers.setdefault("content-length", str(len(body.data)))
        scope = self._scope("http", target, headers, method=method, **extra)
        with self._keeper.watching() if self._keeper is not None else nullcontext():
            async with self.http_connection_class(
                self.app, scope, timeout=self._limit(timeout)
            ) as connection:
                connection.on_headers = partial(self.read_cookies, target)
                if body.data:
                    await connection.send(body.data)
                await connection.send_complete()
        self.push_promises += connection.push_promises
        return await connection.as_response()

    async def get(self, path: str, **kwargs: Any) -> Response:
        """Send a GET; the arguments are those of :meth:`open`."""
        return await self.open(path, method="GET", **kwargs)

    async def post(self, path: str, **kwargs: Any) -> Response:
        """Send a POST; the arguments are those of :meth:`open`."""
        return await self.open(path, method="POST", **kwargs)

    async def put(self, path: str, **kwargs: Any) -> Response:
        """Send a PUT; the arguments are those of :meth:`open`."""
        return await self.open(path, method="PUT", **kwargs)

    async def patch(self, path: str, **kwargs: Any) -> Response:
        """Send a PATCH; the arguments are those of :meth:`open`."""
        return await self.open(path, method="PATCH", **kwargs)

    async def delete(self, path: str, **kwargs: Any) -> Response:
        """Send a DELETE; the arguments are those of :meth:`open`."""
        return await self.open(path, method="DELETE", **kwargs)

    async def head(self, path: str, **kwargs: Any) -> Response:
        """Send a HEAD; the arguments are those of :meth:`open`."""
        return await self.open(path, method="HEAD", **kwargs)

    async def options(self, path: str, **kwargs: Any) -> Response:
        """Send an OPTIONS; the arguments are those of :meth:`open`."""
        return await self.open(path, method="OPTIONS", **kwargs)

    async def trace(self, path: str, **kwargs: Any) -> Response:
        """Send a TRACE; the arguments are those of :meth:`open`."""
        return await self.open(path, method="TRACE", **kwargs)

    async def poll(
        self,
        path: str,
        *,
        since: str | None = None,
        etag: str | None = None,
        headers: HeadersLike | None = None,
        query_string: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> PollAnswer:
        """Long-poll once and return the answer, read.

        Args:
            since: the cursor to go on from; sent as ``?since=``.
            etag: sent as ``If-None-Match``.
            timeout: how long this client waits for the answer, in seconds.
        """
        query = dict(query_string or {})
        if since is not None:
            query["since"] = since
        sent = make_headers(headers, host=app_host(self.app))
        if etag is not None:
            sent["if-none-match"] = etag
        arguments = {"headers": sent, "query_string": query or None, "timeout": timeout, **kwargs}
        return await read_poll(await self.open(path, **arguments))

    # -- connections that stay open

    def request(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: HeadersLike | None = None,
        query_string: QueryLike | None = None,
        scheme: str = "http",
        root_path: str = "",
        http_version: str = "1.1",
        scope_base: Mapping[str, Any] | None = None,
        auth: AuthLike | None = None,
        subdomain: str | None = None,
        timeout: float | None = None,
        window: int = WINDOW,
    ) -> TestHTTPConnection:
        """Return a request to be sent and read piece by piece, with ``async with``.

        Args:
            timeout: the limit of each wait, in seconds.
            window: how many messages of the app may wait unread before its ``send()`` waits.
        """
        target = self._target(path, query_string, scheme, root_path, subdomain)
        sent = make_headers(headers, host=target.host, auth=auth)
        extra = {"root_path": root_path, "http_version": http_version, "scope_base": scope_base}
        scope = self._scope("http", target, sent, method=method, **extra)
        connection = self.http_connection_class(self.app, scope, timeout=self._limit(timeout), window=window)
        connection.on_headers = partial(self.read_cookies, target)
        return connection

    def sse(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: HeadersLike | None = None,
        last_event_id: str | None = None,
        query_string: QueryLike | None = None,
        scheme: str = "http",
        root_path: str = "",
        http_version: str = "1.1",
        scope_base: Mapping[str, Any] | None = None,
        auth: AuthLike | None = None,
        subdomain: str | None = None,
        timeout: float | None = None,
        window: int = WINDOW,
    ) -> TestSSEConnection:
        """Return an event stream, with ``async with``, that resumes behind *last_event_id*.

        Args:
            last_event_id: sent as ``Last-Event-ID``, in UTF-8 as browsers do.
            timeout: the limit of each wait, in seconds.
            window: how many messages of the app may wait unread before its ``send()`` waits.
        """
        target = self._target(path, query_string, scheme, root_path, subdomain)
        sent = make_headers(headers, host=target.host, auth=auth)
        sent.setdefault("accept", "text/event-stream")
        sent.setdefault("cache-control", "no-store")
        if last_event_id:
            sent["last-event-id"] = last_event_id.encode().decode("latin-1")
        extra = {"root_path": root_path, "http_version": http_version, "scope_base": scope_base}
        scope = self._scope("http", target, sent, method=method, **extra)
        stream = self.sse_connection_class(self.app, scope, timeout=self._limit(timeout), window=window)
        stream.connection.on_headers = partial(self.read_cookies, target)
        return stream

    def websocket(
        self,
        path: str,
        *,
        headers: HeadersLike | None = None,
        query_string: QueryLike | None = None,
        scheme: str = "ws",
        subprotocols: Iterable[str] | None = None,
        root_path: str = "",
        http_version: str = "1.1",
        scope_base: Mapping[str, Any] | None = None,
        auth: AuthLike | None = None,
        subdomain: str | None = None,
        timeout: float | None = None,
        window: int = WINDOW,
    ) -> TestWebsocketConnection:
        """Return a websocket, with ``async with``.

        Args:
            subprotocols: what the client offers, best first.
            timeout: the limit of each wait, in seconds.
            window: how many messages of the app may wait unread before its ``send()`` waits.
        """
        target = self._target(path, query_string, scheme, root_path, subdomain)
        sent = make_headers(headers, host=target.host, auth=auth)
        subprotocols = list(subprotocols or ())
        _websocket_headers(sent, subprotocols)
        extra = {"root_path": root_path, "http_version": http_version, "scope_base": scope_base}
        scope = self._scope("websocket", target, sent, subprotocols=subprotocols, **extra)
        ws = self.websocket_connection_class(self.app, scope, timeout=self._limit(timeout), window=window)
        ws.on_headers = partial(self.read_cookies, target)
        return ws

    # -- cookies

    def set_cookie(
        self,
        server_name: str,
        key: str,
        value: str | None = None,
        max_age: timedelta | int | None = None,
        expires: str | datetime | float | None = None,
        path: str = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: str | None = None,
    ) -> None:
        """Put a cookie into the jar, as an answer of *server_name* would.

        Flask's form, ``set_cookie(key, value)`` for the app's own host, is taken too.

        Args:
            server_name: the host it belongs to.
            key: its name.
            value: its value.
            max_age: seconds it is kept.
            expires: when it ends, where *max_age* is not given; seconds of the epoch or a date.
            domain: given, it goes to the subdomains of this one as well.
            secure: it goes over https and wss only.
            httponly, samesite: kept among its attributes.

        Raises:
            RuntimeError: the client keeps no cookies.
        """
        if value is None:
            server_name, key, value = app_host(self.app), server_name, key
        host = _hostname(domain or server_name)
        header = dump_cookie(
            key,
            value,
            max_age,
            expires,
            path,
            host if domain else None,
            secure,
            httponly,
            samesite=samesite,
            max_size=0,
        )
        self._jar().read([header], host=host, path=path)

    def delete_cookie(
        self, server_name: str, key: str | None = None, path: str = "/", domain: str | None = None
    ) -> None:
        """Take a cookie out of the jar; none is no error. Flask's ``delete_cookie(key)`` is taken too."""
        if key is None:
            server_name, key = app_host(self.app), server_name
        self._jar().delete(key, _hostname(domain or server_name), path)

    def get_cookie(self, key: str, domain: str = "localhost", path: str = "/") -> Cookie | None:
        """Return the cookie of exactly this name, domain and path."""
        return self._jar().get(key, domain, path)

    @asynccontextmanager
    async def session_transaction(
        self, path: str = "/", *, headers: HeadersLike | None = None, scheme: str = "http", **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Open the session as a request for *path* would find it, and save it as its response would.

        No hook of the app runs. Used as ``async with client.session_transaction() as session``.

        Args:
            kwargs: further arguments of :meth:`Samovar.test_request_context`.

        Raises:
            RuntimeError: the client keeps no cookies, or the app has no session (set ``SECRET_KEY``).
        """
        jar, app, interface = self._jar(), self.app, self.app.session_interface
        target = self._target(path, None, scheme, "", None)
        sent = make_headers(headers, host=target.host)
        given = sent.get("cookie", "")
        cookies = jar.header(scheme=scheme, host=target.hostname, path=target.path, given=given)
        if cookies:
            sent["cookie"] = cookies
        context = app.test_request_context(path, headers=sent, scheme=scheme, **kwargs)
        async with _current(context):
            session = await interface.open_session(app, context.request)
        if session is None or interface.is_null_session(session):
            raise RuntimeError("the app has no session to open: set app.secret_key")
        yield session
        response = app.response_class(b"")
        async with _current(context):
            await interface.save_session(app, session, response)
        self.read_cookies(target, response.headers)

    def read_cookies(self, target: Target, headers: Headers) -> None:
        """Keep what the ``Set-Cookie`` headers of a response from *target* say."""
        if self.cookie_jar is not None:
            self.cookie_jar.read(headers.getlist("set-cookie"), host=target.hostname, path=target.path)

    def _jar(self) -> CookieJar:
        if self.cookie_jar is None:
            raise RuntimeError("this client keeps no cookies: make it with use_cookies=True")
        return self.cookie_jar

    # -- parts

    def _limit(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout

    def _target(
        self, path: str, query_string: QueryLike | None, scheme: str, root_path: str, subdomain: str | None
    ) -> Target:
        return make_target(
            path,
            query_string=query_string,
            scheme=scheme,
            host=app_host(self.app),
            root_path=root_path,
            subdomain=subdomain,
        )

    def _scope(self, type_: Any, target: Target, headers: Headers, **kwargs: Any) -> dict[str, Any]:
        if self.cookie_jar is not None:
            given = headers.get("cookie", "")
            cookies = self.cookie_jar.header(
                scheme=target.scheme, host=target.hostname, path=target.path, given=given
            )
            if cookies:
                headers["cookie"] = cookies
        return make_scope(type_, target, headers, state=self.state, **kwargs)


def _hostname(name: str) -> str:
    """The host of a server's or a domain's name, which may have a port or a dot in front."""
    return (urlsplit(f"//{name.lstrip('.')}").hostname or name).lower()


@asynccontextmanager
async def _current(context: Any) -> AsyncIterator[None]:
    """Make *context* the current one without the hooks that belong to a real request."""
    token = context.enter()
    try:
        yield
    finally:
        context.leave(token)


SamovarClient = TestClient  # where Quart has QuartClient


def _websocket_headers(headers: Headers, subprotocols: Iterable[str]) -> None:
    """Add what a browser's handshake has (RFC 6455, section 4.1), but no Origin: a test gives its own."""
    headers.setdefault("connection", "Upgrade")
    headers.setdefault("upgrade", "websocket")
    headers.setdefault("sec-websocket-version", "13")
    headers.setdefault("sec-websocket-key", "c2Ftb3ZhciB0ZXN0IGtleQ==")
    offered = ", ".join(subprotocols)
    if offered:
        headers.setdefault("sec-websocket-protocol", offered)
