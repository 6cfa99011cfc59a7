"""The fast road: a request's steps in one function, for an app that overrides none of them.

What it does is what :class:`~samovar.core.dispatch.Dispatch` does step by step, and what is rare it leaves to those
steps: an exception, a hook, an odd answer. An app that overrides a step, in a subclass, on the instance, or in the
class itself before its first request, takes the plain road; ``tests/core/test_express.py`` compares the two over
generated requests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..sessions import SecureCookieSessionInterface
from ..signals import appcontext_pushed, request_finished, request_started
from ..signals import send as send_signal
from ..wrappers.response import NO_LENGTH

if TYPE_CHECKING:
    from ..app import Samovar
    from ..ctx import Context
    from ..wrappers.request import Request
    from .http import HTTPHandler

STEPS = (
    "context_entered",
    "dispatch_request",
    "do_teardown_appcontext",
    "do_teardown_request",
    "finalize_request",
    "full_dispatch_request",
    "handle_request",
    "make_response",
    "preprocess_request",
    "process_response",
    "request_context",
    "tear_down",
)
"""The methods that are left out on the fast road."""


def steps_of(kind: type[Samovar]) -> dict[str, Any]:
    """The steps as *kind* has them now."""
    return {name: getattr(kind, name) for name in STEPS}


def overrides(app: Samovar, own: dict[str, Any]) -> bool:
    """Tell whether *app* has a step that is not among *own*, which :func:`steps_of` gave."""
    given = app.__dict__
    return steps_of(type(app)) != own or any(name in given for name in STEPS)


async def answer_and_send(handler: HTTPHandler, app: Samovar, request: Request, context: Context) -> None:
    """Answer *request*, whose context is current, and send the answer.

    Args:
        handler: the ASGI side.
        app: what the request is for.
        request: with its route found.
        context: its context.
    """
    app._got_first_request = True
    try:
        if appcontext_pushed.receivers or type(app.session_interface) is not SecureCookieSessionInterface:
            await app.context_entered(context)
        route: Any = context.route
        try:
            if request_started.receivers:
                await send_signal(request_started, app)
            result: Any = None
            if route.preprocessors:
                result = await app.preprocess_request(context)
            else:
                for hook in route.before:
                    result = await hook()
                    if result is not None:
                        break
            if result is None:
                if (
                    request.routing_exception is None
                    and request.method != "OPTIONS"
                    and route.view is not None
                ):
                    values = request.view_args
                    result = await (route.view(**values) if values else route.view())
                else:
                    result = await app.dispatch_request(context)
        except Exception as error:
            result = await app.handle_user_exception(error)
        response = app.response_of(result)
        if response._code == 503:
            response = await app.finalize_request(response, context)
        else:
            if route.after or context.after is not None or context._session is not None:
                response = await app.process_response(response, context)
            if request_finished.receivers:
                await send_signal(request_finished, app, response=response)
    except Exception as error:
        response = await app.handle_exception(error)
    data = response._data
    if (
        data is None
        or handler.gone
        or handler._watcher is not None
        or response._code < 200
        or response._code in NO_LENGTH
    ):
        await handler.deliver(response)
        return
    try:
        headers = response.raw_headers()
    except Exception:  # there are headers that HTTP cannot carry; deliver() says so
        await handler.deliver(response)
        return
    timeout = response.timeout
    handler._write_timeout = app.config["RESPONSE_TIMEOUT"] if timeout is ... else timeout
    send = handler._send
    try:
        await send({"type": "http.response.start", "status": response._code, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if handler.scope["method"] == "HEAD" else data})
    except OSError:
        handler._log_gone()


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
