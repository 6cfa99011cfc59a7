"""Serving an app: bind, start it, serve until told to stop, stop it. Behind ``samovar run`` and ``app.run``."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import fields, replace
from typing import Any, Protocol

import click

from ...errors import ConfigError, MissingDependency
from ...extras import Needed
from ...tasks import Scope
from ..asgi.hosting import Lifespan
from .browser import open_browser
from .groups import is_loading
from .listeners import bind, url_of
from .logs import configure_logging
from .options import HOST, PORT, ServeOptions, sizes_of, stop_limit
from .reloader import inherited_listener, run_with_reloader
from .stopping import Stop

ShutdownTrigger = Callable[[], Awaitable[Any]]
OnStarted = Callable[[str, str], None]


class Server(Protocol):
    """A server of one app on one socket."""

    name: str

    async def serve(
        self, listener: socket.socket, *, started: Callable[[], None], stop: asyncio.Event
    ) -> None: ...


def make_server(app: Any, options: ServeOptions, state: dict[str, Any]) -> Server:
    """Return the server that *options* names.

    Raises:
        ConfigError: the certificates cannot be used.
        MissingDependency: it is not installed, or too old; the message has the command that installs it.
    """
    try:
        return _server_class(options)(app, options, state)
    except OSError as error:  # ssl.SSLError is one: a file is missing, or is no certificate
        files = ", ".join(filter(None, (options.certfile, options.keyfile, options.ca_certs)))
        raise ConfigError(f"TLS cannot be set up from {files}: {error}") from error


def _server_class(options: ServeOptions) -> Callable[[Any, ServeOptions, dict[str, Any]], Server]:
    if options.server == "hypercorn":
        from .hypercorn_server import HypercornServer

        return HypercornServer
    with Needed("uvicorn", by="the uvicorn server"):
        from .uvicorn_server import UvicornServer
    return UvicornServer


async def serve_app(
    app: Any,
    host: str = HOST,
    port: int = PORT,
    debug: bool | None = None,
    *,
    shutdown_trigger: ShutdownTrigger | None = None,
    **settings: Any,
) -> None:
    """Serve *app* in the running loop until told to stop; behind ``app.run_task``.

    Args:
        app: a Samovar app, or any ASGI callable that takes the lifespan scope.
        host: a name or address, ``unix:PATH`` or ``fd://NUMBER``.
        port: a TCP port, 0 for any free one.
        debug: sets ``app.debug``; None leaves it.
        shutdown_trigger: awaited in place of signals.
        settings: further arguments of :class:`ServeOptions`.

    Raises:
        ConfigError, LifespanError, MissingDependency: as :func:`serve`.
    """
    options = make_options(app, host, port, debug, settings)
    await serve(app, options, shutdown_trigger=shutdown_trigger)


def make_options(
    app: Any, host: str, port: int, debug: bool | None, settings: dict[str, Any]
) -> ServeOptions:
    """Set ``app.debug`` if asked to, and gather how to serve *app*; settings that do not exist are warned of."""
    unknown = sorted(settings.keys() - {field.name for field in fields(ServeOptions)})
    if unknown:  # Flask's have no meaning here, and are no reason not to serve
        warnings.warn(f"not an option of Samovar's servers: {', '.join(unknown)}", stacklevel=4)
        settings = {name: value for name, value in settings.items() if name not in unknown}
    if debug is not None:
        app.debug = debug
    debug = bool(getattr(app, "debug", False))
    return ServeOptions(host=host, port=port, debug=debug, **(sizes_of(app) | settings))


async def serve(
    app: Any,
    options: ServeOptions,
    *,
    shutdown_trigger: ShutdownTrigger | None = None,
    listener: socket.socket | None = None,
    on_started: OnStarted | None = None,
) -> None:
    """Serve *app* in the running loop until told to stop.

    On a signal, or when *shutdown_trigger* returns, the app's ``shutdown_event`` is set first; connections that do
    not end then get a second, and what is left is cut. The lifespan runs around it all.

    Args:
        app: a Samovar app, or any ASGI callable that takes the lifespan scope.
        options: how to serve.
        shutdown_trigger: awaited in place of signals.
        listener: a bound socket to use instead of host and port; closed in the end.
        on_started: called with the app's name and the server's once it accepts, instead of telling people.

    Raises:
        ConfigError: the address cannot be had, or a setting cannot work.
        LifespanError: the app did not start or stop well; the cause is chained.
        MissingDependency: the server is not installed.
    """
    with contextlib.ExitStack() as stack:
        hurry = stack.enter_context(_unhurried())
        server = make_server(app, options, state := {})
        stop = Stop(app)
        sock = stack.enter_context(contextlib.closing(listener or bind(options.host, options.port)))

        def started() -> None:
            hurry()
            if on_started is None:
                _announce(app, server, sock, options)
            else:
                on_started(app_name(app), server.name)

        async with Scope("serve") as scope:
            with contextlib.ExitStack() as signals:
                if shutdown_trigger is None:
                    signals.enter_context(stop.on_signals())
                else:
                    scope.start(_await_trigger(shutdown_trigger, stop), name="shutdown trigger")
                lifespan = Lifespan(app)
                if await _start(lifespan, stop):
                    state.update(lifespan.state)
                    await _serve_started(server, sock, started, stop, lifespan)


@contextlib.contextmanager
def _unhurried() -> Iterator[Callable[[], None]]:
    """Keep asyncio's debug mode from complaining of slow steps until the function given is called.

    Imports and what the app does at its start may block: there is nobody yet whom it could keep waiting.
    """
    loop = asyncio.get_running_loop()
    usual = loop.slow_callback_duration

    def hurry() -> None:
        loop.slow_callback_duration = usual

    loop.slow_callback_duration = math.inf
    try:
        yield hurry
    finally:
        hurry()


def _announce(app: Any, server: Server, sock: socket.socket, options: ServeOptions) -> None:
    url = url_of(sock, options.host, secure=options.secure)
    click.echo(f"Samovar is serving '{app_name(app)}' on {url} ({server.name}; Ctrl-C stops)")
    if options.open_browser:
        open_browser(url)


async def _serve_started(
    server: Server, sock: socket.socket, started: Callable[[], None], stop: Stop, lifespan: Lifespan
) -> None:
    try:
        async with Scope(
            "server", on_error=lambda task, error: None
        ) as scope:  # awaiting it raises its error
            serving = scope.start(server.serve(sock, started=started, stop=stop.event), name=server.name)
            await _watch_over(serving, stop)
    finally:
        stop.request()  # also when the server failed: the app's long tasks must not outlive it
        await lifespan.shutdown()


async def _watch_over(serving: asyncio.Task[None], stop: Stop) -> None:
    """Wait for the server; a cancellation of the caller stops it in order instead of tearing it down."""
    try:
        await asyncio.wait({serving})
    except asyncio.CancelledError:
        stop.request()
        await asyncio.wait({serving})
        raise
    await serving


async def _start(lifespan: Lifespan, stop: Stop) -> bool:
    """Start the app; False when the wish to stop came first, which ends a start-up that hangs."""
    async with Scope("start-up", on_error=lambda task, error: None) as scope:  # awaiting it raises its error
        starting = scope.start(lifespan.startup(), name="app")
        stopping = scope.start(stop.event.wait(), name="stop")
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return False
        await starting
        return True


async def _await_trigger(trigger: ShutdownTrigger, stop: Stop) -> None:
    try:
        await trigger()
    finally:
        stop.request()


def app_name(app: Any) -> str:
    """How people know *app*."""
    return str(getattr(app, "name", None) or type(app).__name__)


def run_app(
    app: Any,
    host: str | None = None,
    port: int | None = None,
    debug: bool | None = None,
    *,
    use_reloader: bool = True,
    loop: asyncio.AbstractEventLoop | str | None = None,
    **settings: Any,
) -> None:
    """Serve *app* in a loop of its own until a signal; behind ``app.run``.

    Args:
        app: a Samovar app, or any ASGI callable that takes the lifespan scope.
        host: 127.0.0.1 by default.
        port: 5000 by default.
        debug: sets ``app.debug``; None leaves it.
        use_reloader: in debug mode, restart the whole program when its files change.
        loop: ``auto``, ``asyncio``, ``uvloop``, or a loop to run in, which is closed in the end.
        settings: further arguments of :class:`ServeOptions`.

    Raises:
        ConfigError, LifespanError, MissingDependency: as :func:`serve`.
    """
    if is_loading():
        click.secho("Note: app.run() does nothing while the samovar command imports the app", err=True)
        return
    given = loop if isinstance(loop, asyncio.AbstractEventLoop) else None
    if loop is not None and given is None:
        settings["loop"] = loop
    options = make_options(app, host or HOST, PORT if port is None else port, debug, settings)
    if use_reloader and options.debug and inherited_listener() is None:
        sys.exit(run_with_reloader(options.host, options.port))
    run_options(app, options, loop=given)


def run_options(
    app: Any,
    options: ServeOptions,
    *,
    listener: socket.socket | None = None,
    on_started: OnStarted | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
) -> None:
    """Serve *app* in *loop* or a new one, on *listener* or on the reloader's socket where one was handed down."""
    configure_logging(debug=options.debug)
    handed = inherited_listener() if listener is None else None
    if handed is not None:
        handed.tell_limit(stop_limit(app))
        listener = bind(handed.host, 0)
        options = replace(options, open_browser=options.open_browser and handed.first)
    make_loop = loop_factory(options) if loop is None else lambda: loop
    with asyncio.Runner(debug=options.debug, loop_factory=make_loop) as runner:
        runner.run(serve(app, options, listener=listener, on_started=on_started))


def loop_factory(options: ServeOptions) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is wanted and installed, None for asyncio's own.

    Raises:
        MissingDependency: it is asked for by its name and cannot be had.
    """
    if options.loop == "asyncio" or (options.loop == "auto" and options.debug):
        return None
    try:
        with Needed("uvloop", by="the event loop of uvloop") as needed:
            import uvloop
    except MissingDependency as error:
        if options.loop == "uvloop":
            raise
        if needed.found:  # somebody meant it to be used
            click.secho(f"Note: asyncio's own event loop is used: {error}", err=True)
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
