"""The fast road: a request's steps in two functions, for an app that overrides none of them.

What it does is what :class:`~samovar.core.asgi.http.HTTPHandler` and :class:`~samovar.core.dispatch.Dispatch` do step
by step, and what is rare it leaves to those steps: an exception, an odd answer. Where nobody is going to look at the
response, none is made: its bytes go to the server as they are. An app that overrides a step, in a subclass, on the
instance, or in the class itself before its first request or its next test client, takes the plain road;
``tests/core/test_express.py`` compares the two over generated requests.

What is replaced in the class while requests are served is not noticed: asking for each request costs what is saved, and
only a metaclass would be told, which an app's subclass with a metaclass of its own could not have.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..ctx import Context, _current
from ..json.orjson import OrjsonProvider
from ..json.provider import DefaultJSONProvider
from ..sessions import SecureCookieSessionInterface
from ..signals import appcontext_pushed, heard, request_finished, request_started
from ..signals import send as send_signal
from ..typing import ASGIReceive, ASGISend, Scope
from ..wrappers.response import HTML_WIRE, NO_LENGTH, NUMBERS, WIRE_VALUES, RawHeaders, Response
from .http import HTTPHandler

if TYPE_CHECKING:
    from ..app import Samovar
    from ..wrappers.request import Request

STEPS = (
    "context_entered",
    "dispatch_request",
    "do_teardown_appcontext",
    "do_teardown_request",
    "finalize_request",
    "full_dispatch_request",
    "handle_request",
    "make_response",
    "match_request",
    "preprocess_request",
    "process_response",
    "request_context",
    "tear_down",
)
"""The methods that are left out on the fast road."""


RawAnswer = tuple[int, RawHeaders, bytes]
"""Status, headers and body, as ASGI's messages have them."""

SPECIAL = NO_LENGTH | {503}
"""Statuses with rules of their own: no body, or a stream in its place for an EventSource."""

OUR_JSON: frozenset[type] = frozenset({DefaultJSONProvider, OrjsonProvider})
"""The providers whose answers are their ``body`` and nothing more; a subclass may answer otherwise."""


_NOTHING = object()


def steps_of(kind: type[Samovar]) -> dict[str, Any]:
    """The steps as *kind* has them now."""
    return {name: getattr(kind, name) for name in STEPS}


def overrides(app: Samovar, own: dict[str, Any]) -> bool:
    """Tell whether *app* has a step that is not among *own*, which :func:`steps_of` gave."""
    given = app.__dict__
    return steps_of(type(app)) != own or any(name in given for name in STEPS)


async def call(
    app: Samovar, scope: Scope, receive: ASGIReceive, send: ASGISend, _inside: bool = False
) -> None:
    """The app as an ASGI application: a request is served here, from its scope to its last byte and the last teardown
    function, all else by :meth:`Samovar.asgi_app`.

    Args:
        app: what the request is for.
        scope: of a request, a websocket, or the lifespan.
        receive, send: the server's.
        _inside: it is asgi_app that calls, for an app that takes the fast road.
    """
    if not _inside:
        if app._attributes != len(app.__dict__):
            app._choose_road()
        if not app._direct or scope["type"] != "http":
            await app.asgi_app(scope, receive, send)
            return
    handler = HTTPHandler(app, scope)
    handler.receive = receive
    handler._send = send
    request = app.request_class(scope, handler)
    context = Context(app, request)
    handler.token = _current.set(context)  # as context.push() does
    error: BaseException | None = None
    try:
        serving = answer_and_send(handler, app, request, context)
        waiting = next(serving.__await__(), _NOTHING)  # unlike send() it needs no exception to say "done"
        if waiting is not _NOTHING:  # most requests never suspend, and that was all
            await handler._go_on(serving, waiting, context)
    except BaseException as raised:
        error = raised
        raise
    finally:
        try:
            route: Any = context.route
            if (
                heard
                or (route is not None and route.teardown)
                or app.teardown_appcontext_funcs
                or request._parsed is not None
                or app._torn_down_always
            ):
                handler.enter_again(context)
                await leave(app, context, context.error if error is None else error)
        finally:
            if handler.token is not None:
                handler.leave_context()
            if handler._watcher is not None:
                await handler.stop_watching()


async def answer_and_send(handler: HTTPHandler, app: Samovar, request: Request, context: Context) -> None:
    """Answer *request*, whose context is current, and send the answer.

    Args:
        handler: the ASGI side.
        app: what the request is for.
        request: not routed yet.
        context: its context.
    """
    router = app._router
    route: Any = None
    if router is not None and app.config["TRUSTED_HOSTS"] is None:
        found = router.exact.get(request.path)
        if found is not None:
            route = found.get(request.method)
    if route is not None:
        context.route = route
        request.url_rule = route.rule
        request.view_args = {}
    else:
        app.match_request(context)
        route = context.route
    app._got_first_request = True
    try:
        if heard or type(app.session_interface) is not SecureCookieSessionInterface:
            await announce(app, context)
        try:
            if heard and request_started.receivers:
                await send_signal(request_started, app)
                route = context.route
            result: Any = None
            if route.preprocessors:
                result = await app.preprocess_request(context)
            else:
                for hook in route.before:
                    result = await hook()
                    if result is not None:
                        break
            if result is None:
                route = context.route  # a hook may have had it looked for again
                if (
                    request.method != "OPTIONS"
                    and route.view is not None
                    and request.routing_exception is None
                ):
                    values = request.view_args
                    result = await (route.view(**values) if values else route.view())
                else:
                    result = await app.dispatch_request(context)
        except Exception as error:
            result = await app.handle_user_exception(error)
        answer = None
        if (
            context._session is None
            and context.after is None
            and not route.after
            and not heard
            and handler._watcher is None
            and not handler.gone
            and app.response_class is Response
        ):
            answer = raw_answer(app, result)
        if answer is not None:
            status, headers, data = answer
            handler._write_timeout = app.config["RESPONSE_TIMEOUT"]
        else:
            response = app.response_of(result)
            if response._code == 503:
                response = await app.finalize_request(response, context)
            else:
                if route.after or context.after is not None or context._session is not None:
                    response = await app.process_response(response, context)
                if request_finished.receivers:
                    await send_signal(request_finished, app, response=response)
    except Exception as error:
        answer = None
        response = await app.handle_exception(error)
    if answer is None:
        try:
            ready = whole(handler, app, response)
        except Exception:  # there are headers that HTTP cannot carry; deliver() says so
            ready = None
        if ready is None:
            await handler.deliver(response)
            return
        status, headers, data = ready
    send, token = handler._send, handler.token
    if token is not None:  # as handler.leave_context() does
        handler.token = None
        _current.reset(token)
    try:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if handler.scope["method"] == "HEAD" else data})
    except OSError:
        handler._log_gone()


def raw_answer(app: Samovar, result: Any) -> RawAnswer | None:
    """Status, headers and body of what a view gave, where nobody is going to look at the response.

    Returns:
        None where that is not simple: ``app.make_response`` knows what it is then.
    """
    kind = type(result)
    status, content_type = 200, None
    if kind is tuple:
        if len(result) == 2:
            result, status = result
        elif len(result) == 3:
            result, status, headers = result
            if type(headers) is not dict or len(headers) != 1:
                return None
            value = headers.get("Content-Type")
            content_type = WIRE_VALUES.get(value) if type(value) is str else None
            if content_type is None:
                return None
        else:
            return None
        if type(status) is not int or not 200 <= status <= 599 or status in SPECIAL:
            return None
        kind = type(result)
    if kind is dict or kind is list:
        provider: Any = app.json
        if type(provider) not in OUR_JSON or provider.mimetype != "application/json":
            return None
        data = provider.body(result)
        if content_type is None:
            content_type = b"application/json"
    elif kind is str:
        data = result.encode()
        if content_type is None:
            content_type = HTML_WIRE
    else:
        return None
    length = len(data)
    headers = [
        (b"content-type", content_type),
        (b"content-length", NUMBERS[length] if length < 2048 else b"%d" % length),
    ]
    return status, headers, data


def whole(handler: HTTPHandler, app: Samovar, response: Response) -> RawAnswer | None:
    """Status, headers and body of a response that can be sent as it is; None: :meth:`HTTPHandler.deliver` knows how."""
    data, code = response._data, response._code
    if data is None or handler.gone or handler._watcher is not None or code < 200 or code in NO_LENGTH:
        return None
    timeout: Any = response.timeout
    headers = response.raw_headers()
    handler._write_timeout = app.config["RESPONSE_TIMEOUT"] if timeout is ... else timeout
    return code, headers, data


async def announce(app: Samovar, context: Context) -> None:
    """What comes before all else, where somebody listens or the session is to be awaited."""
    if appcontext_pushed.receivers or type(app.session_interface) is not SecureCookieSessionInterface:
        await app.context_entered(context)


async def leave(app: Samovar, context: Context, error: BaseException | None) -> None:
    """Tear down what is to be torn down.

    Args:
        app: the app.
        context: of the request, which is over.
        error: with which it ended.
    """
    work = app.context_has_exit_work(context)
    if error is None and isinstance(work, tuple):  # the route's functions
        await tear_down(app, work)
    elif work:
        await app.tear_down(context, error)


async def tear_down(app: Samovar, functions: tuple[Callable[..., Awaitable[Any]], ...]) -> None:
    """Run the functions of ``teardown_request`` after a request that went well and has nothing else to tear down.

    Args:
        app: whose they are.
        functions: as the route has them.
    """
    errors: list[Exception] = []
    for function in functions:
        try:
            await function(None)
        except Exception as error:
            errors.append(error)  # the others must run too
    if errors:
        app.report_teardown(errors)
