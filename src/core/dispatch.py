"""A request's and a websocket's way, step by step; each step is a method that may be overridden."""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, NoReturn

from werkzeug.datastructures import Headers
from werkzeug.exceptions import (
    BadRequest,
    BadRequestKeyError,
    HTTPException,
    InternalServerError,
    RequestEntityTooLarge,
    ServiceUnavailable,
)
from werkzeug.routing import RequestRedirect, RoutingException
from werkzeug.sansio.response import Response as SansIOResponse

from ..errors import (
    BackendUnavailable,
    InvalidChannel,
    InvalidCursor,
    MessageTooLarge,
    PublishError,
    WebsocketClosed,
)
from .contexts import Contexts
from .ctx import Context, _current, current_context, required_context
from .debug import traceback_response
from .helpers import redirect_response
from .realtime.comeback import come_back, wants_events
from .sessions import SecureCookieSessionInterface
from .signals import (
    appcontext_pushed,
    got_request_exception,
    got_websocket_exception,
    request_finished,
    request_started,
    send,
    websocket_finished,
    websocket_started,
)
from .typing import ResponseReturnValue
from .utils import exc_info_of, no_response_from
from .wrappers.base import BaseRequestWebsocket
from .wrappers.request import Request
from .wrappers.response import Response
from .wrappers.websocket import Websocket

# What the broadcast layer refuses on a client's account is the client's mistake; what the broker fails is 503. What
# cannot be published at all (InvalidPayload) was made by the view: 500, as for any error.
_BROADCAST_ERRORS: tuple[tuple[type[Exception], type[HTTPException]], ...] = (
    (MessageTooLarge, RequestEntityTooLarge),
    (PublishError, ServiceUnavailable),
    (BackendUnavailable, ServiceUnavailable),
    (InvalidChannel, BadRequest),
    (InvalidCursor, BadRequest),
)
_AWAY = "The message broker cannot be used at the moment. Try again later."


class Dispatch(Contexts):
    """The part of an app that handles requests, websockets, and what goes wrong in them."""

    # --- a request, step by step ----------------------------------------------------------------------------

    async def handle_request(self, request: Request) -> Response:
        """Answer *request* in its context; exceptions become responses."""
        self._got_first_request = True
        context = _current.get(None)
        if context is None or context.request is not request:  # called by hand
            async with self.request_context(request):
                return await Dispatch.handle_request(self, request)  # an override has had its turn
        try:
            if (
                appcontext_pushed.receivers
                or type(self.session_interface) is not SecureCookieSessionInterface
            ) and not context.pushed:
                await self.context_entered(context)
            return await self.full_dispatch_request(context)
        except Exception as error:
            return await self.handle_exception(error)

    async def full_dispatch_request(self, request_context: Context | None = None) -> Response:
        """Hooks, view, response, hooks; what they raise goes to the error handlers."""
        context = request_context or required_context()
        try:
            if request_started.receivers:
                await send(request_started, self)
            result = await self.preprocess_request(context)
            if result is None:
                result = await self.dispatch_request(context)
        except Exception as error:
            result = await self.handle_user_exception(error)
        return await self.finalize_request(result, context)

    async def preprocess_request(self, request_context: Context | None = None) -> Any:
        """The hooks before the view; what one returns, unless None, is the answer."""
        context = request_context or required_context()
        route = context.route
        if route is None:
            return None
        if route.preprocessors:
            connection = context.connection
            assert connection is not None
            for func in route.preprocessors:
                func(connection.endpoint, connection.view_args)
        for hook in route.before:
            result = await hook()
            if result is not None:
                return result
        return None

    async def dispatch_request(self, request_context: Context | None = None) -> Any:
        """The view, or the error that routing found."""
        context = request_context or required_context()
        request, route = context.request, context.route
        assert request is not None and route is not None
        if request.routing_exception is not None:
            self.raise_routing_exception(request)
        if route.options and request.method == "OPTIONS":
            return await self.make_default_options_response()
        view = route.view
        if view is None:
            raise LookupError(f"the endpoint {route.endpoint!r} has a rule and no view")
        values = request.view_args
        return await (view(**values) if values else view())

    def raise_routing_exception(self, request: BaseRequestWebsocket) -> NoReturn:
        """Raise what routing found wrong."""
        error = request.routing_exception
        assert error is not None
        raise error

    async def make_default_options_response(self) -> Response:
        """The automatic answer to OPTIONS: an Allow header."""
        adapter = required_context().url_adapter
        response = self.response_class()
        response.allow.update(adapter.allowed_methods())
        return response

    async def make_response(self, result: ResponseReturnValue | HTTPException | None) -> Response:
        """The response that a view's *result* stands for.

        Raises:
            TypeError: it stands for none.
        """
        return self.response_of(result)

    def response_of(self, result: ResponseReturnValue | HTTPException | None) -> Response:
        """What :meth:`make_response` gives; see there."""
        value: Any = result
        status: Any = None
        headers: Any = None
        if isinstance(value, tuple):
            value, status, headers = value if len(value) == 3 else _unpacked(value)
        kind = type(value)
        if kind is str or kind is bytes:
            response = self.response_class(value)
        elif kind is dict or kind is list:
            response = self.json.response(value)
        else:
            response = self._response_of(value)
        if type(status) is int and 100 <= status <= 599:
            response._code = status
            response._phrase = None
        elif status is not None:
            _check_status(status)
            if isinstance(status, int):
                response.status_code = status
            else:
                response.status = status
        if headers:
            response.update_headers(headers)
        return response

    def _response_of(self, value: Any) -> Response:
        if isinstance(value, Response):
            return value
        if isinstance(value, str | bytes | bytearray):
            return self.response_class(value)
        if isinstance(value, dict | list):
            return self.json.response(value)
        if isinstance(value, HTTPException):
            return self._response_of_http_exception(value)
        if isinstance(value, SansIOResponse):
            return _converted(value, self.response_class)
        if isinstance(value, AsyncIterable | Iterator):
            return self.response_class(value)
        if isinstance(value, Mapping):
            return self.json.response(dict(value))
        raise TypeError(_not_a_response(value, current_context()))

    def _response_of_http_exception(self, error: HTTPException) -> Response:
        if error.response is not None:
            return self._response_of(error.response)
        if isinstance(error, RequestRedirect):
            return redirect_response(error.new_url, error.code, self.response_class)
        return self.response_class(error.get_body(), error.code, error.get_headers())

    async def finalize_request(
        self, result: Any, request_context: Context | None = None, from_error_handler: bool = False
    ) -> Response:
        """The response of *result*, after the hooks; a 503 to an EventSource becomes a stream that says to come back.

        Args:
            result: a view's or an error handler's.
            request_context: the current one.
            from_error_handler: errors in the hooks are logged only, so that there is an answer.
        """
        response = await self.make_response(result)
        if response.status_code == 503:
            response = await self._told_to_come_back(response, request_context or required_context())
        try:
            response = await self.process_response(response, request_context)
            if request_finished.receivers:
                await send(request_finished, self, response=response)
        except Exception as error:
            if not from_error_handler:
                raise
            if not _is_again(error, (request_context or required_context()).error):
                self.log_exception(exc_info_of(error))
        return response

    async def _told_to_come_back(self, response: Response, context: Context) -> Response:
        if context.request is None or not wants_events(context.request):
            return response
        await response.close()
        return come_back(self.response_class, self.config["SSE_RETRY"])

    async def process_response(self, response: Response, request_context: Context | None = None) -> Response:
        """The hooks after the view, then the session."""
        context = request_context or required_context()
        route = context.route
        if context.after is not None:
            for func in context.after:
                response = await self.ensure_async(func)(response)
                if not isinstance(response, Response):
                    raise TypeError(no_response_from("after_this_request", func, response))
        if route is not None:
            for hook in route.after:
                response = await hook(response)
                if not isinstance(response, Response):
                    raise TypeError(no_response_from("after_request", hook, response))
        opened = context._session  # not .session, which would open it
        if opened is not None and not self.session_interface.is_null_session(opened):
            await self.session_interface.save_session(self._whole, opened, response)
        return response

    # --- errors ---------------------------------------------------------------------------------------------

    def _find_error_handler(
        self, error: Exception, names: Sequence[str] = ()
    ) -> Callable[..., Awaitable[Any]] | None:
        """The handler for *error*: of the inmost blueprint, by status before by class, of the nearest class."""
        if not self.error_handler_spec:
            return None
        codes = (error.code, None) if isinstance(error, HTTPException) else (None,)
        for code in codes:
            for name in (*names, None):
                handlers = self.error_handler_spec.get(name, {}).get(code)
                if not handlers:
                    continue
                for kind in type(error).__mro__:
                    handler = handlers.get(kind)
                    if handler is not None:
                        return self.ensure_async(handler)
        return None

    def _names(self) -> Sequence[str]:
        context = current_context()
        return context.route.names if context is not None and context.route is not None else ()

    def trap_http_exception(self, e: Exception) -> bool:
        """Tell whether an HTTP exception is treated like any other."""
        if self.config["TRAP_HTTP_EXCEPTIONS"]:
            return True
        trap = self.config["TRAP_BAD_REQUEST_ERRORS"]
        if trap is None and self.debug and isinstance(e, BadRequestKeyError):
            return True
        return bool(trap) and isinstance(e, BadRequest)

    async def handle_http_exception(self, error: HTTPException) -> Any:
        """What answers an HTTP exception: a handler's word, or the exception itself."""
        if error.code is None or isinstance(error, RoutingException):
            return error
        handler = self._find_error_handler(error, self._names())
        return error if handler is None else await handler(error)

    async def handle_user_exception(self, error: Exception) -> Any:
        """What answers an exception of a view or hook; raises it again when nobody does."""
        if isinstance(error, BadRequestKeyError) and (self.debug or self.config["TRAP_BAD_REQUEST_ERRORS"]):
            error.show_exception = True
        if isinstance(error, HTTPException) and not self.trap_http_exception(error):
            return await self.handle_http_exception(error)
        handler = self._find_error_handler(error, self._names())
        if handler is not None:
            return await handler(error)
        refusal = _refusal(error)
        if refusal is None:
            raise error
        self.logger.warning("%s%s: %s", type(error).__name__, self._whereabouts(), error)
        return await self.handle_http_exception(refusal)

    async def handle_exception(self, error: Exception) -> Response:
        """The answer to an exception nobody handled: 500, or in debug mode its traceback.

        Raises:
            Exception: the same, where exceptions propagate.
        """
        required_context().error = error
        if got_request_exception.receivers:
            await send(got_request_exception, self, exception=error)
        if self.propagates_exceptions:
            raise error
        self.log_exception(exc_info_of(error))
        try:
            return await self.finalize_request(await self._server_error(error), from_error_handler=True)
        except Exception as second:  # in the handler of 500s itself: there must be an answer all the same
            self.log_exception(exc_info_of(second))
            return await self.make_response(InternalServerError())

    async def _server_error(self, error: Exception) -> Any:
        refusal = _refusal(error)
        if isinstance(refusal, ServiceUnavailable):  # of a hook or the session, as of a view
            return await self.handle_http_exception(refusal)
        server_error = InternalServerError(original_exception=error)
        handler = self._find_error_handler(server_error, self._names())
        if handler is not None:
            return await handler(server_error)
        if self.debug:
            return await traceback_response(error)
        return server_error

    async def handle_stream_exception(self, error: Exception) -> None:
        """An exception of a streamed body: too late for a 500. It is logged, and the connection dropped.

        Raises:
            Exception: the same, where exceptions propagate.
        """
        context = current_context()
        if context is not None:
            context.error = error
        if got_request_exception.receivers:
            await send(got_request_exception, self, exception=error)
        if self.propagates_exceptions:
            raise error
        self.log_exception(exc_info_of(error))

    # --- a websocket, step by step --------------------------------------------------------------------------

    async def handle_websocket(self, websocket: Websocket) -> Response | None:
        """Run *websocket*'s handler in its context; a response means that it is refused."""
        self._got_first_request = True
        context = self.websocket_context(websocket)
        token = context.enter()
        error: BaseException | None = None
        try:
            try:
                await self.context_entered(context)
                return await self.full_dispatch_websocket(context)
            except Exception as raised:
                return await self.handle_websocket_exception(raised)
        except BaseException as raised:
            error = raised
            raise
        finally:
            websocket.handled = True  # a peer that leaves now does not cut short what is given back
            try:
                await self.tear_down(context, error if error is not None else context.error)
            finally:
                context.leave(token)

    async def full_dispatch_websocket(self, websocket_context: Context | None = None) -> Response | None:
        """Hooks, handler, hooks; what they raise goes to the error handlers."""
        context = websocket_context or required_context()
        try:
            if websocket_started.receivers:
                await send(websocket_started, self)
            result = await self.preprocess_websocket(context)
            if result is None:
                result = await self.dispatch_websocket(context)
        except Exception as error:
            result = await self._handle_websocket_user_exception(error)
        return await self.finalize_websocket(result, context)

    async def _handle_websocket_user_exception(self, error: Exception) -> Any:
        """As for a request; but the peer's leaving, met by a handler that was sending, is an end and no error."""
        if isinstance(error, WebsocketClosed) and self._find_error_handler(error, self._names()) is None:
            return None
        return await self.handle_user_exception(error)

    async def preprocess_websocket(self, websocket_context: Context | None = None) -> Any:
        """The hooks before the handler; what one returns, unless None, refuses the websocket."""
        context = websocket_context or required_context()
        route, connection = context.route, context.connection
        assert route is not None and connection is not None
        for func in route.preprocessors:
            func(connection.endpoint, connection.view_args)
        for hook in route.before_websocket:
            result = await hook()
            if result is not None:
                return result
        return None

    async def dispatch_websocket(self, websocket_context: Context | None = None) -> Any:
        """The handler, or the error that routing found."""
        context = websocket_context or required_context()
        websocket, route = context.websocket, context.route
        assert websocket is not None and route is not None
        if websocket.routing_exception is not None:
            self.raise_routing_exception(websocket)
        if route.view is None:
            raise LookupError(f"the endpoint {route.endpoint!r} has a rule and no handler")
        return await route.view(**(websocket.view_args or {}))

    async def finalize_websocket(
        self, result: Any, websocket_context: Context | None = None, from_error_handler: bool = False
    ) -> Response | None:
        """The response of *result*, None for None, after the hooks."""
        response = None if result is None else await self.make_response(result)
        try:
            response = await self.postprocess_websocket(response, websocket_context)
            if websocket_finished.receivers:
                await send(websocket_finished, self, response=response)
        except Exception as error:
            if not from_error_handler:
                raise
            if not _is_again(error, (websocket_context or required_context()).error):
                self.log_exception(exc_info_of(error))
        return response

    async def postprocess_websocket(
        self, response: Response | None, websocket_context: Context | None = None
    ) -> Response | None:
        """The hooks after the handler, then the session."""
        context = websocket_context or required_context()
        if context.after is not None:
            for func in context.after:
                response = _kept(
                    "after_this_websocket", func, response, await self.ensure_async(func)(response)
                )
        if context.route is not None:
            for hook in context.route.after_websocket:
                response = _kept("after_websocket", hook, response, await hook(response))
        opened = context.opened_session
        if opened is not None and not self.session_interface.is_null_session(opened):
            await self.session_interface.save_session(self._whole, opened, response)
        return response

    async def handle_websocket_exception(self, error: Exception) -> Response | None:
        """The answer to an exception that no handler took: 500 while there still can be one.

        Raises:
            Exception: the same, where exceptions propagate.
        """
        required_context().error = error
        if got_websocket_exception.receivers:
            await send(got_websocket_exception, self, exception=error)
        if self.propagates_exceptions:
            raise error
        self.log_exception(exc_info_of(error))
        return await self.finalize_websocket(await self._server_error(error), from_error_handler=True)


def _is_again(error: Exception, first: BaseException | None) -> bool:
    """A hook fails on the error page just as it did on the view's answer, which was logged."""
    return type(error) is type(first) and str(error) == str(first)


def _refusal(error: Exception) -> HTTPException | None:
    """What *error* of the broadcast layer is to a client, None for other errors.

    What a client did wrong is said to it; of a broker's trouble, which may name hosts and users, only the log speaks.
    """
    for kind, http_error in _BROADCAST_ERRORS:
        if isinstance(error, kind):
            refusal = http_error(_AWAY if http_error is ServiceUnavailable else str(error))
            refusal.__cause__ = error  # for an error handler that wants to know
            return refusal
    return None


def _unpacked(result: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """A view's tuple as (value, status, headers)."""
    if len(result) == 3:
        return result
    if len(result) == 2:
        value, other = result
        if isinstance(other, Headers | dict | tuple | list):
            return value, None, other
        return value, other, None
    raise TypeError(
        f"a view may return a value, (value, status), (value, headers) or (value, status, headers), "
        f"not a tuple of {len(result)}"
    )


def _converted(value: SansIOResponse, response_class: type[Response]) -> Response:
    """One of Werkzeug's responses as ours."""
    body: Any = getattr(value, "response", None)
    if isinstance(body, list | tuple):
        body = b"".join(item.encode() if isinstance(item, str) else item for item in body)
    return response_class(body, value.status, value.headers)


def _check_status(status: Any) -> None:
    """Complain about a status that no response can have (RFC 9110, 15: 100 to 599).

    Raises:
        TypeError, ValueError: it is no number or text, or not such a one.
    """
    if not isinstance(status, int | str):
        raise TypeError(
            f"{_view_of(current_context())} returned a {type(status).__name__} as status: {_STATUS}"
        )
    number = status if isinstance(status, int) else status.partition(" ")[0]
    if not (str(number).isdecimal() and 100 <= int(number) <= 599):
        raise ValueError(f"{_view_of(current_context())} returned the status {status!r:.80}: {_STATUS}")


_STATUS = "it is a number from 100 to 599, or such a number and a phrase, as '404 Not Found'"


def _kept(kind: str, func: Any, before: Response | None, after: Any) -> Response | None:
    """The response that a hook of a websocket gave back; most often there is none, before or after.

    Raises:
        TypeError: it lost the one there was, or gave something else.
    """
    if isinstance(after, Response) or (after is None and before is None):
        return after
    raise TypeError(no_response_from(kind, func, after))


def _view_of(context: Context | None) -> str:
    endpoint = context.connection.endpoint if context is not None and context.connection is not None else None
    return f"the view of {endpoint!r}" if endpoint else "a view"


def _not_a_response(value: Any, context: Context | None) -> str:
    who = _view_of(context)
    if value is None:
        return f"{who} returned None: it may have ended without a return"
    if inspect.iscoroutine(value):
        value.close()
        return f"{who} returned a coroutine: an await is missing"
    return f"{who} returned {type(value).__name__}, which is no response: {value!r:.80}"
