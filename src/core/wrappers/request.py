"""The request: its opening words, and its body, read in pieces, within its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Generator
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, overload

from werkzeug.datastructures import CombinedMultiDict, MultiDict
from werkzeug.exceptions import (
    BadRequest,
    RequestEntityTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)

from ..ctx import current_context
from ..formparser import FORM_TYPES, FormDataParser
from ..typing import Scope
from ..utils import within
from .base import BaseRequestWebsocket, lazy, routed_path

if TYPE_CHECKING:
    from ..datastructures import FileStorage
    from ..json.provider import JSONProvider

_UNSET: Any = object()


class BodySource(Protocol):
    """Where the body comes from: the ASGI side of a request."""

    def read(self) -> Awaitable[tuple[bytes, bool]]:
        """The next piece, and whether more follow.

        Raises:
            ClientDisconnected: the client went before the end.
        """
        ...

    async def push(self, path: str, headers: list[tuple[bytes, bytes]]) -> None:
        """Promise *path* to the client, where the server can."""
        ...


class Body:
    """A request's body: ``await`` it for all of it, or ``async for`` the pieces as they come.

    Both may be used once each: what was iterated over is not kept.

    Args:
        source: gives the pieces; None for no body.
        content_length: what the client announced, in bytes.
        max_content_length: above it the request is refused with 413, in bytes.
        timeout: for the whole, or for each piece when iterating, in seconds; then 408.
    """

    def __init__(
        self,
        source: BodySource | None,
        content_length: int | None,
        max_content_length: int | None,
        timeout: float | None = None,
    ) -> None:
        self._source = source
        self._max = max_content_length
        self._timeout = timeout
        self._size = 0
        self._complete: bool = source is None
        self._result: bytes | None = None
        if (
            max_content_length is not None
            and content_length is not None
            and content_length > max_content_length
        ):
            raise RequestEntityTooLarge()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        if self._result is not None:
            if self._result:
                yield self._result
            return
        while not self._complete:
            piece = await self._next(self._timeout)
            if piece:
                yield piece

    def __await__(self) -> Generator[Any, Any, bytes]:
        return self.read().__await__()

    async def read(self) -> bytes:
        """All of it; kept, so that it can be read again."""
        if self._result is not None:
            return self._result
        if self._size:
            raise RuntimeError("the body was already iterated over; it is not kept")
        pieces: list[bytes] = []
        left, end = self._timeout, 0.0
        while not self._complete:
            pieces.append(await self._next(left))
            if left is not None and not self._complete:  # the time is for the whole
                now = asyncio.get_running_loop().time()
                end = end or now + left
                left = max(0.0, end - now)
        self._result = b"".join(pieces)
        return self._result

    async def _next(self, timeout: float | None) -> bytes:
        if self._complete or self._source is None:
            return b""
        try:
            piece, more = await within(self._source.read(), timeout)
        except TimeoutError as error:
            raise RequestTimeout() from error
        self._size += len(piece)
        if self._max is not None and self._size > self._max:
            raise RequestEntityTooLarge()
        self._complete = not more
        return piece

    def clear(self) -> None:
        """Forget what was read and kept."""
        self._result = b"" if self._result is not None else None


class Request(BaseRequestWebsocket):
    """One HTTP request.

    Args:
        scope: the ASGI connection scope.
        source: gives the body; None for none.
    """

    body_class: type[Body] = Body
    form_data_parser_class: type[FormDataParser] = FormDataParser

    _max_content_length: int | None = _UNSET
    _max_form_memory_size: int | None = _UNSET
    _max_form_parts: int | None = _UNSET
    body_timeout: float | None = _UNSET
    """Seconds for the body, instead of ``BODY_TIMEOUT``; None for no limit."""

    _parsed: tuple[MultiDict[str, str], MultiDict[str, FileStorage]] | None = None
    _json: dict[bool, Any] | None = None

    def __init__(self, scope: Scope, source: BodySource | None = None) -> None:
        self.scope = scope  # as the base has it; spelt out because each request passes here
        path = scope["path"]
        plain = path[:1] == "/" and path[1:2] != "/" and not scope.get("root_path")
        self.path = path if plain else routed_path(scope)
        self.method = scope["method"]
        self._source = source

    # --- limits -----------------------------------------------------------------------------------------------

    @property
    def max_content_length(self) -> int | None:
        """The largest body for this request, in bytes; ``MAX_CONTENT_LENGTH`` unless set, None for no limit."""
        limit: int | None = self._limit(self._max_content_length, "MAX_CONTENT_LENGTH")
        return limit

    @max_content_length.setter
    def max_content_length(self, value: int | None) -> None:
        self._max_content_length = value

    @property
    def max_form_memory_size(self) -> int | None:
        """Bytes of form fields held in memory; ``MAX_FORM_MEMORY_SIZE`` unless set."""
        limit: int | None = self._limit(self._max_form_memory_size, "MAX_FORM_MEMORY_SIZE")
        return limit

    @max_form_memory_size.setter
    def max_form_memory_size(self, value: int | None) -> None:
        self._max_form_memory_size = value

    @property
    def max_form_parts(self) -> int | None:
        """Fields and files of one form; ``MAX_FORM_PARTS`` unless set."""
        limit: int | None = self._limit(self._max_form_parts, "MAX_FORM_PARTS")
        return limit

    @max_form_parts.setter
    def max_form_parts(self, value: int | None) -> None:
        self._max_form_parts = value

    def _limit(self, own: float | None, setting: str) -> Any:
        if own is not _UNSET:
            return own
        context = current_context()
        return None if context is None else context.app.config[setting]

    # --- the body ---------------------------------------------------------------------------------------------

    @lazy
    def body(self) -> Body:
        """The body, to await or to iterate over.

        Raises:
            RequestEntityTooLarge: the client announces more than the limit.
        """
        context = current_context()
        config = {} if context is None else context.app.config
        most, timeout = self._max_content_length, self.body_timeout
        return self.body_class(
            self._source,
            self.content_length,
            config.get("MAX_CONTENT_LENGTH") if most is _UNSET else most,
            config.get("BODY_TIMEOUT") if timeout is _UNSET else timeout,
        )

    @property
    def stream(self) -> NoReturn:
        """Not here: a blocking stream would block everybody. Use :attr:`body`."""
        raise NotImplementedError("request.stream blocks: use 'async for chunk in request.body'")

    @property
    def data(self) -> Awaitable[bytes]:
        """The whole body: ``await request.data``; empty when it was a form."""
        return self.get_data(as_text=False, parse_form_data=True)

    @overload
    async def get_data(
        self, cache: bool = True, as_text: Literal[False] = False, parse_form_data: bool = False
    ) -> bytes: ...
    @overload
    async def get_data(
        self, cache: bool = True, *, as_text: Literal[True], parse_form_data: bool = False
    ) -> str: ...
    async def get_data(
        self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False
    ) -> bytes | str:
        """The whole body.

        Args:
            cache: keep it, so that it can be read again.
            as_text: decoded from UTF-8; what does not decode is replaced.
            parse_form_data: a form is parsed first, and the result is empty then.

        Raises:
            RequestEntityTooLarge: 413, over the limit. RequestTimeout: 408, too slow.
        """
        if parse_form_data and self.mimetype in FORM_TYPES:
            await self._form_and_files()
            return "" if as_text else b""
        body = self.body
        data = await body.read()
        if not cache:
            body.clear()
        return data.decode(errors="replace") if as_text else data

    # --- JSON -------------------------------------------------------------------------------------------------

    @property
    def is_json(self) -> bool:
        """The content type says JSON: ``application/json`` or ``application/…+json``."""
        content_type = self.header(b"content-type")
        if content_type == "application/json":  # by far the most frequent; spares the parser
            return True
        if content_type is None:
            return False
        mimetype = content_type.partition(";")[0].strip().lower()
        return mimetype == "application/json" or (
            mimetype.startswith("application/") and mimetype.endswith("+json")
        )

    @property
    def json(self) -> Awaitable[Any]:
        """The body's JSON: ``await request.json``."""
        return self.get_json()

    @property
    def json_module(self) -> JSONProvider | None:
        """What reads JSON: the app's provider."""
        context = current_context()
        return None if context is None else context.app.json

    async def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """What the JSON in the body says.

        Args:
            force: whatever the content type is.
            silent: None instead of an error.
            cache: keep the result for the next call.

        Raises:
            BadRequest: 400, it is not JSON. UnsupportedMediaType: 415, the content type is not JSON's.
        """
        if cache and self._json is not None and silent in self._json:
            return self._json[silent]
        if not (force or self.is_json):
            return None if silent else self.on_json_loading_failed(None)
        data = await self.get_data(cache=cache)
        try:
            value = self._loads(data)
        except (ValueError, RecursionError) as error:  # RecursionError: nested by the thousand
            value = None if silent else self.on_json_loading_failed(error)
            failed = True
        else:
            failed = False
        if cache:
            self._json = {silent: value} if failed else {True: value, False: value}
        return value

    def _loads(self, data: bytes) -> Any:
        context = current_context()
        if context is None:
            from ..json import loads

            return loads(data)
        return context.app.json.loads(data)

    def on_json_loading_failed(self, error: Exception | None) -> Any:
        """What :meth:`get_json` gives when there is no JSON to give; raises unless overridden.

        Args:
            error: from the parser; None when the content type was not JSON's.
        """
        if error is None:
            raise UnsupportedMediaType(
                "the body was not taken as JSON because its content type is not application/json"
            )
        context = current_context()
        if context is not None and context.app.debug:
            raise BadRequest(f"the body is not JSON: {error}") from error
        raise BadRequest("the body is not JSON") from error

    # --- forms ------------------------------------------------------------------------------------------------

    @property
    def form(self) -> Awaitable[MultiDict[str, str]]:
        """The form's fields: ``await request.form``."""
        return self._form()

    @property
    def files(self) -> Awaitable[MultiDict[str, FileStorage]]:
        """The form's files: ``await request.files``."""
        return self._files()

    @property
    def values(self) -> Awaitable[CombinedMultiDict[str, str]]:
        """The query's arguments and, where a method has a body, the form's fields: ``await request.values``."""
        return self._values()

    async def _form(self) -> MultiDict[str, str]:
        return (await self._form_and_files())[0]

    async def _files(self) -> MultiDict[str, FileStorage]:
        return (await self._form_and_files())[1]

    async def _values(self) -> CombinedMultiDict[str, str]:
        sources: list[MultiDict[str, str]] = [self.args]
        if self.method in {"POST", "PUT", "PATCH"}:
            sources.append(await self._form())
        return CombinedMultiDict(sources)

    async def _form_and_files(self) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
        if self._parsed is None:
            parser = self.make_form_data_parser()
            self._parsed = await parser.parse(
                self.body, self.mimetype, self.content_length, self.mimetype_params
            )
        return self._parsed

    def make_form_data_parser(self) -> FormDataParser:
        """The parser of this request's form."""
        return self.form_data_parser_class(
            max_form_memory_size=self.max_form_memory_size, max_form_parts=self.max_form_parts
        )

    async def close(self) -> None:
        """Close the uploaded files; done by itself when the request ends."""
        if self._parsed is not None:
            for _, file in self._parsed[1].items(multi=True):
                file.close()

    async def send_push_promise(self, path: str) -> None:
        """Promise *path* to the client (HTTP/2 push), where the server can; nothing happens where not."""
        if self._source is not None and "http.response.push" in (self.scope.get("extensions") or {}):
            kept = (b"accept", b"accept-encoding", b"accept-language", b"cache-control", b"user-agent")
            headers = [(name, value) for name, value in self.scope["headers"] if name.lower() in kept]
            await self._source.push(path, headers)


__all__ = ["Body", "BodySource", "Request"]
