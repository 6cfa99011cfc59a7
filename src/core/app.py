"""The application: what is called by servers, by tests and by users.

Its parts, each on the shoulders of the one before: ``scaffold`` (routes and hooks, shared with blueprints), ``setup``
(what it is made of, and registering), ``urls`` (routes found, URLs built), ``contexts`` (entering, leaving, templates),
``dispatch`` (the steps of requests and websockets), ``serving`` (start-up, background tasks, shut-down).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .asgi.express import call, overrides, steps_of
from .asgi.http import HTTPHandler
from .ctx import Context
from .health import add_health
from .serving import Serving
from .typing import ASGIReceive, ASGISend, Scope
from .utils import decode_headers

if TYPE_CHECKING:
    from werkzeug.datastructures import Headers

    from .testing import SamovarClient as TestClient
    from .testing import TestApp
    from .testing.cli import CliRunner
    from .wrappers.response import RawHeaders

NOT_GIVEN: Any = object()  # None is JSON too


class Samovar(Serving):
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

    def health(self, livez: str | None = "/livez", readyz: str | None = "/readyz") -> None:
        """Add two routes for supervisors and load balancers; hooks run for them as for any route.

        ``livez`` answers 200 while the worker's loop runs. ``readyz`` answers 200 or 503 with
        ``{"status", "backend": {"state", "generation", "lag", "reason", "for_seconds"}, "draining"}``: 503 at once
        while the worker shuts down, and when the backend has been down for more than ``READY_BACKEND_GRACE`` seconds.

        Args:
            livez, readyz: their paths; None leaves one out.
        """
        add_health(self, livez, readyz)

    def test_request_context(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        query_string: Mapping[str, Any] | str | None = None,
        scheme: str = "http",
        send_push_promise: Callable[[str, Headers], Awaitable[None]] | None = None,
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
            send_push_promise: called with the path and headers of what the request promises to push.
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
        return self.request_context(self.request_class(scope, _GivenBody(body.data, send_push_promise)))

    is_express: bool = False
    """Requests take the fast road; see :mod:`samovar.core.asgi.express`."""
    _direct = False
    _attributes = 0

    __call__ = call

    def _choose_road(self) -> None:
        """Look whether something is overridden; asked again whenever the app gets an attribute."""
        self.is_express = self.asgi_http_class is HTTPHandler and not overrides(self, _OWN_STEPS)
        unwrapped = "asgi_app" not in self.__dict__ and type(self).asgi_app is Samovar.asgi_app
        self._direct = unwrapped and self.is_express
        self._choose_teardown()
        self._attributes = 0  # it counts itself
        self._attributes = len(self.__dict__)

    async def asgi_app(self, scope: Scope, receive: ASGIReceive, send: ASGISend) -> None:
        """The ASGI application; wrap this attribute to add middleware: ``app.asgi_app = Middleware(app.asgi_app)``."""
        kind = scope["type"]
        if kind == "http":
            if self._attributes != len(self.__dict__):  # called by somebody else than __call__
                self._choose_road()
            if self.is_express:
                await call(self, scope, receive, send, _inside=True)
            else:
                await self.asgi_http_class(self, scope)(receive, send)
        elif kind == "websocket":
            await self.asgi_websocket_class(self, scope)(receive, send)
        elif kind == "lifespan":
            await self.asgi_lifespan_class(self, scope)(receive, send)
        else:
            raise RuntimeError(f"unknown ASGI scope type {kind!r}")

    if TYPE_CHECKING:
        test_client_class: type[TestClient] | None
        test_app_class: type[TestApp] | None
        test_cli_runner_class: type[CliRunner] | None
    else:
        test_client_class = test_app_class = test_cli_runner_class = None

    def test_client(self, use_cookies: bool = True, **kwargs: Any) -> TestClient:
        """A client that speaks to the app without a server; *kwargs* go to ``test_client_class``."""
        from .testing import SamovarClient as TestClient

        self._attributes = 0  # a test may have replaced a step in the class
        return (self.test_client_class or TestClient)(self, use_cookies=use_cookies, **kwargs)

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
        self,
        host: str | None = None,
        port: int | None = None,
        debug: bool | None = None,
        use_reloader: bool = True,
        loop: asyncio.AbstractEventLoop | str | None = None,
        ca_certs: str | None = None,
        certfile: str | None = None,
        keyfile: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Serve the app from a script until a signal.

        Args:
            host: a name or address, ``unix:PATH`` or ``fd:NUMBER``; 127.0.0.1 unless given.
            port: a TCP port, 0 for any free one; 5000 unless given.
            debug: sets ``app.debug``; None leaves it.
            use_reloader: in debug mode, restart the program when its files change.
            loop: ``auto``, ``asyncio``, ``uvloop``, or a loop to run in, which is closed in the end.
            ca_certs: certificates in PEM of which clients must show one.
            certfile, keyfile: a certificate chain and its key in PEM, for TLS.
            kwargs: further options of ``samovar run``, such as ``server``; what is none is warned of.
        """
        from .cli import run_app

        tls = {"ca_certs": ca_certs, "certfile": certfile, "keyfile": keyfile}
        run_app(self, host, port, debug, use_reloader=use_reloader, loop=loop, **tls, **kwargs)

    async def run_task(
        self,
        host: str = "127.0.0.1",
        port: int = 5000,
        debug: bool | None = None,
        ca_certs: str | None = None,
        certfile: str | None = None,
        keyfile: str | None = None,
        shutdown_trigger: Callable[[], Awaitable[Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Serve the app inside a loop of one's own, until cancelled, or *shutdown_trigger* returns, or a signal comes.

        Args:
            host, port, debug, ca_certs, certfile, keyfile, kwargs: as of :meth:`run`.
            shutdown_trigger: awaited in place of signals.
        """
        from .cli import serve_app

        tls: dict[str, Any] = {"ca_certs": ca_certs, "certfile": certfile, "keyfile": keyfile}
        await serve_app(self, host, port, debug, shutdown_trigger=shutdown_trigger, **tls, **kwargs)


_OWN_STEPS = steps_of(Samovar)


class _GivenBody:
    """A body that is there from the start: of a made-up request."""

    def __init__(self, body: bytes, push: Callable[[str, Headers], Awaitable[None]] | None = None) -> None:
        self._body = body
        self._push = push

    async def read(self) -> tuple[bytes, bool]:
        body, self._body = self._body, b""
        return body, False

    async def push(self, path: str, headers: RawHeaders) -> None:
        if self._push is not None:
            await self._push(path, decode_headers(headers))


__all__ = ["Samovar"]
