"""The types that views, hooks and ASGI parts are written with."""

from __future__ import annotations

import os
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias, TypeVar, Union

if TYPE_CHECKING:
    from werkzeug.datastructures import Headers
    from werkzeug.exceptions import HTTPException
    from werkzeug.sansio.response import Response as SansIOResponse

    from .app import Samovar
    from .sessions import SessionMixin
    from .wrappers.response import Response

# ASGI (https://asgi.readthedocs.io/en/latest/specs/main.html)
Scope: TypeAlias = MutableMapping[str, Any]
ASGIMessage: TypeAlias = MutableMapping[str, Any]
ASGIReceive: TypeAlias = Callable[[], Awaitable[ASGIMessage]]
ASGISend: TypeAlias = Callable[[ASGIMessage], Awaitable[None]]


ASGIReceiveCallable: TypeAlias = ASGIReceive
ASGISendCallable: TypeAlias = ASGISend
HTTPScope: TypeAlias = Scope
WebsocketScope: TypeAlias = Scope
LifespanScope: TypeAlias = Scope


class ASGIConnection(Protocol):
    """What serves one ASGI connection; one is made for each."""

    async def __call__(self, receive: ASGIReceive, send: ASGISend) -> None: ...


class ASGIProtocol(ASGIConnection, Protocol):
    """What ``asgi_http_class`` and its two siblings are: made of an app and a scope."""

    def __init__(self, app: Samovar, scope: Scope) -> None: ...


ASGIHTTPProtocol: TypeAlias = ASGIProtocol
ASGIWebsocketProtocol: TypeAlias = ASGIProtocol
ASGILifespanProtocol: TypeAlias = ASGIProtocol


class Event(Protocol):
    """What an event class has."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...
    async def wait(self) -> Any: ...


FilePath: TypeAlias = str | os.PathLike[str]
ExceptionInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)

# what a view may return
ResponseValue: TypeAlias = Union[
    "Response",
    "SansIOResponse",
    "HTTPException",
    str,
    bytes,
    bytearray,
    Mapping[str, Any],
    list[Any],
    Iterator[str],
    Iterator[bytes],
    AsyncIterable[str],
    AsyncIterable[bytes],
]
HeaderValue: TypeAlias = str | list[str] | tuple[str, ...]
HeadersValue: TypeAlias = Union[
    "Headers", Mapping[str, HeaderValue], Sequence[tuple[str, HeaderValue]], Iterable[tuple[str, str]]
]
HeaderName: TypeAlias = str
StatusCode: TypeAlias = int
ResponseReturnValue: TypeAlias = (
    ResponseValue
    | tuple[ResponseValue, HeadersValue]
    | tuple[ResponseValue, StatusCode]
    | tuple[ResponseValue, StatusCode, HeadersValue]
)

ResponseTypes: TypeAlias = Union["Response", "SansIOResponse"]

# what an app registers; sync functions run in a thread
AppOrBlueprintKey: TypeAlias = str | None  # None stands for the app
AnyCallable: TypeAlias = Callable[..., Any]
F = TypeVar("F", bound=Callable[..., Any])

RouteCallable: TypeAlias = Callable[..., Any]
BeforeRequestCallable: TypeAlias = Callable[[], Any]
AfterRequestCallable: TypeAlias = Callable[["Response"], Any]
TeardownCallable: TypeAlias = Callable[[BaseException | None], Any]
ErrorHandlerCallable: TypeAlias = Callable[[Any], Any]
TemplateContextProcessor: TypeAlias = Callable[[], Any]
URLValuePreprocessor: TypeAlias = Callable[[str | None, dict[str, Any] | None], Any]
URLDefaults: TypeAlias = Callable[[str, dict[str, Any]], None]
LifespanCallable: TypeAlias = Callable[[], Any]
WhileServingCallable: TypeAlias = Callable[[], AsyncIterator[None]]
BeforeServingCallable: TypeAlias = LifespanCallable
AfterServingCallable: TypeAlias = LifespanCallable
BeforeWebsocketCallable: TypeAlias = BeforeRequestCallable
AfterWebsocketCallable: TypeAlias = Callable[[Union["Response", None]], Any]
WebsocketCallable: TypeAlias = Callable[..., Any]
ShellContextProcessorCallable: TypeAlias = Callable[[], dict[str, Any]]
TemplateContextProcessorCallable: TypeAlias = TemplateContextProcessor
TemplateFilterCallable: TypeAlias = Callable[..., Any]
TemplateGlobalCallable: TypeAlias = Callable[..., Any]
TemplateTestCallable: TypeAlias = Callable[..., bool]
URLDefaultCallable: TypeAlias = URLDefaults
URLValuePreprocessorCallable: TypeAlias = URLValuePreprocessor


# the test kit, as far as an app's test classes are asked for it
class TestHTTPConnectionProtocol(Protocol):
    """A request whose parts a test sends and receives one by one."""

    async def send(self, data: bytes) -> None: ...
    async def send_complete(self) -> None: ...
    async def receive(self) -> bytes: ...
    async def disconnect(self) -> None: ...
    async def as_response(self) -> Response: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class TestWebsocketConnectionProtocol(Protocol):
    """A websocket of a test."""

    async def send(self, data: str | bytes) -> None: ...
    async def send_json(self, data: Any) -> None: ...
    async def receive(self) -> str | bytes: ...
    async def receive_json(self) -> Any: ...
    async def close(self, code: int) -> None: ...
    async def disconnect(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class TestClientProtocol(Protocol):
    """What ``test_client_class`` makes; its methods have more arguments than could be told here."""

    app: Samovar

    def __init__(self, app: Samovar, use_cookies: bool = True) -> None: ...
    @property
    def open(self) -> Callable[..., Awaitable[Response]]: ...
    async def get(self, path: str, **options: Any) -> Response: ...
    async def post(self, path: str, **options: Any) -> Response: ...
    async def put(self, path: str, **options: Any) -> Response: ...
    async def delete(self, path: str, **options: Any) -> Response: ...
    async def patch(self, path: str, **options: Any) -> Response: ...
    async def head(self, path: str, **options: Any) -> Response: ...
    async def options(self, path: str, **options: Any) -> Response: ...
    async def trace(self, path: str, **options: Any) -> Response: ...
    @property
    def request(self) -> Callable[..., TestHTTPConnectionProtocol]: ...
    @property
    def websocket(self) -> Callable[..., TestWebsocketConnectionProtocol]: ...
    @property
    def set_cookie(self) -> Callable[..., None]: ...
    @property
    def delete_cookie(self) -> Callable[..., None]: ...
    @property
    def session_transaction(self) -> Callable[..., AbstractAsyncContextManager[SessionMixin]]: ...


class TestAppProtocol(Protocol):
    """What ``test_app_class`` makes."""

    def __init__(self, app: Samovar) -> None: ...
    def test_client(self) -> TestClientProtocol: ...
    async def startup(self) -> None: ...
    async def shutdown(self) -> None: ...
    async def __aenter__(self) -> TestAppProtocol: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


for _protocol in (
    TestHTTPConnectionProtocol,
    TestWebsocketConnectionProtocol,
    TestClientProtocol,
    TestAppProtocol,
):
    setattr(_protocol, "__test__", False)  # noqa: B010  # what pytest asks for: they are no tests
del _protocol

__all__ = [
    "ASGIConnection",
    "ASGIHTTPProtocol",
    "ASGILifespanProtocol",
    "ASGIMessage",
    "ASGIProtocol",
    "ASGIReceive",
    "ASGIReceiveCallable",
    "ASGISend",
    "ASGISendCallable",
    "ASGIWebsocketProtocol",
    "AfterRequestCallable",
    "AfterServingCallable",
    "AfterWebsocketCallable",
    "AnyCallable",
    "AppOrBlueprintKey",
    "AsyncIterator",
    "BeforeRequestCallable",
    "BeforeServingCallable",
    "BeforeWebsocketCallable",
    "ErrorHandlerCallable",
    "Event",
    "ExceptionInfo",
    "F",
    "FilePath",
    "HTTPScope",
    "HeaderName",
    "HeaderValue",
    "HeadersValue",
    "LifespanCallable",
    "LifespanScope",
    "ResponseReturnValue",
    "ResponseTypes",
    "ResponseValue",
    "RouteCallable",
    "Scope",
    "ShellContextProcessorCallable",
    "StatusCode",
    "TeardownCallable",
    "TemplateContextProcessor",
    "TemplateContextProcessorCallable",
    "TemplateFilterCallable",
    "TemplateGlobalCallable",
    "TemplateTestCallable",
    "TestAppProtocol",
    "TestClientProtocol",
    "TestHTTPConnectionProtocol",
    "TestWebsocketConnectionProtocol",
    "URLDefaultCallable",
    "URLDefaults",
    "URLValuePreprocessor",
    "URLValuePreprocessorCallable",
    "WebsocketCallable",
    "WebsocketScope",
    "WhileServingCallable",
]
