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
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, Union

if TYPE_CHECKING:
    from werkzeug.datastructures import Headers
    from werkzeug.exceptions import HTTPException
    from werkzeug.sansio.response import Response as SansIOResponse

    from .wrappers.response import Response

# ASGI (https://asgi.readthedocs.io/en/latest/specs/main.html)
Scope: TypeAlias = MutableMapping[str, Any]
ASGIMessage: TypeAlias = MutableMapping[str, Any]
ASGIReceive: TypeAlias = Callable[[], Awaitable[ASGIMessage]]
ASGISend: TypeAlias = Callable[[ASGIMessage], Awaitable[None]]


class ASGIConnection(Protocol):
    """What serves one ASGI connection; one is made for each."""

    async def __call__(self, receive: ASGIReceive, send: ASGISend) -> None: ...


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
StatusCode: TypeAlias = int
ResponseReturnValue: TypeAlias = (
    ResponseValue
    | tuple[ResponseValue, HeadersValue]
    | tuple[ResponseValue, StatusCode]
    | tuple[ResponseValue, StatusCode, HeadersValue]
)

# what an app registers; sync functions run in a thread
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

__all__ = [
    "ASGIConnection",
    "ASGIMessage",
    "ASGIReceive",
    "ASGISend",
    "AfterRequestCallable",
    "AnyCallable",
    "AsyncIterator",
    "BeforeRequestCallable",
    "ErrorHandlerCallable",
    "ExceptionInfo",
    "FilePath",
    "HeadersValue",
    "LifespanCallable",
    "ResponseReturnValue",
    "ResponseValue",
    "RouteCallable",
    "Scope",
    "StatusCode",
    "TeardownCallable",
    "TemplateContextProcessor",
    "URLDefaults",
    "URLValuePreprocessor",
    "WhileServingCallable",
]
