"""The request: its opening words, and its body, read in pieces, within its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator
from contextlib import aclosing
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, Protocol, TypeVar, overload

from werkzeug.datastructures import CombinedMultiDict, MultiDict
from werkzeug.exceptions import (
    BadRequest,
    RequestEntityTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)

from ..ctx import _current, current_context
from ..formparser import FORM_TYPES, MULTIPART, FormDataParser
from ..typing import Scope
from ..utils import finish_within, within
from .base import BaseRequestWebsocket, lazy, routed_path

if TYPE_CHECKING:
    from ..datastructures import FileStorage

T = TypeVar("T")


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

    What was awaited is kept, and several coroutines may await it at once. What was iterated over is not kept: of two
    that iterate, each gets what the other does not.

    Args:
        source: gives the pieces; None for no body.
        content_length: what the client announced, in bytes.
        max_content_length: above it the request is refused with 413, in bytes.
        timeout: for the whole, or for each piece when iterating, in seconds; then 408.
    """

    _busy = False
    """Somebody is taking pieces from the source."""
    _given = False
    """Pieces were given to somebody who iterates, and are not kept."""
    _waiters: list[asyncio.Future[None]] | None = None

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
        self._kept: list[bytes] = []
        if (
            max_content_length is not None
            and content_length is not None
            and content_length > max_content_length
        ):
            raise RequestEntityTooLarge()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.pieces()

    async def pieces(self, *, keep: bool = False, whole: bool = False) -> AsyncGenerator[bytes, None]:
        """The pieces as they come.

        Args:
            keep: keep them as well, so that the whole may still be awaited afterwards.
            whole: the time limit is for all of them, not for each.

        Raises:
            RequestEntityTooLarge: 413, over the limit. RequestTimeout: 408, too slow.
        """
        kept, seen = self._kept, 0
        left, end = self._timeout, 0.0
        while seen < len(kept) or not self._complete:
            if seen < len(kept):
                piece = kept[seen]
                seen += 1
            elif self._busy:
                await self._my_turn()
                continue
            else:
                piece = await self._take(keep, left)
                seen += keep
                if whole and self._timeout is not None and not self._complete:
                    now = asyncio.get_running_loop().time()
                    end = end or now + self._timeout
                    left = max(0.0, end - now)
            if piece:
                yield piece

    async def _take(self, keep: bool, timeout: float | None) -> bytes:
        """The next piece of the source, for somebody who iterates."""
        self._busy = True
        try:
            piece = await self._next(timeout)
        finally:
            self._pass_on()
        if keep:
            self._kept.append(piece)
        elif piece:
            self._given = True
        return piece

    def __await__(self) -> Generator[Any, Any, bytes]:
        return self.read().__await__()

    async def read(self) -> bytes:
        """All of it; kept, so that it can be read again. One who is cancelled meanwhile loses nothing for the others.

        Raises:
            RuntimeError: pieces of it went to somebody who iterated.
        """
        while not self._complete and not self._given:
            if self._busy:
                await self._my_turn()
                continue
            self._busy = True
            try:
                self._kept.append(await self._next(self._timeout))
                if not self._complete:
                    await self._read_rest()
            finally:
                self._pass_on()
        if self._given:
            raise RuntimeError(
                "the body was already iterated over, or read as a multipart form: it is not kept. "
                "Call get_data() first where both are needed"
            )
        kept = self._kept
        if len(kept) != 1:
            kept = self._kept = [b"".join(kept)]  # another list: somebody may be in the midst of the old one
        return kept[0]

    async def _read_rest(self) -> None:
        clock = asyncio.get_running_loop().time
        end = None if self._timeout is None else clock() + self._timeout  # the time is for the whole
        while not self._complete:
            self._kept.append(await self._next(None if end is None else max(0.0, end - clock())))

    async def _my_turn(self) -> None:
        """Wait until nobody takes pieces."""
        waiter = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        await waiter

    def _pass_on(self) -> None:
        self._busy = False
        if self._waiters is not None:
            waiters, self._waiters = self._waiters, None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def _next(self, timeout: float | None) -> bytes:
        if self._complete or self._source is None:
            return b""
        reading = self._source.read()
        try:
            if type(reading) is not CoroutineType:
                piece, more = await within(reading, timeout)
            else:
                try:
                    waiting = reading.send(None)
                except StopIteration as done:  # it was there already, as most bodies are
                    piece, more = done.value
                else:
                    piece, more = await finish_within(reading, waiting, timeout)
        except TimeoutError as error:
            raise RequestTimeout() from error
        self._size += len(piece)
        if self._max is not None and self._size > self._max:
            raise RequestEntityTooLarge()
        self._complete = not more
        return piece

    def clear(self) -> None:
        """Forget what was read and kept."""
        self._kept = []

    def set_result(self, data: bytes) -> None:
        """Make *data* the body, whatever the client sent: for a hook that decompresses or decrypts it."""
        self._kept, self._given, self._complete = [data], False, True


class limit(Generic[T]):
    """An attribute that is a setting of the app until it is set, on one request or in a subclass.

    Args:
        setting: the name in ``app.config``.
        doc: the attribute's docstring.
    """

    def __init__(self, setting: str, doc: str) -> None:
        self.setting = setting
        self.__doc__ = doc

    if TYPE_CHECKING:  # at run time it is set in the instance, which comes first

        def __set__(self, instance: object, value: T) -> None: ...

    @overload
    def __get__(self, instance: None, owner: type) -> limit[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:
            return self
        context = _current.get(None)
        return None if context is None else context.app.config[self.setting]


class Request(BaseRequestWebsocket):
    """One HTTP request.

    Args:
        scope: the ASGI connection scope.
        source: gives the body; None for none.
    """

    body_class: type[Body] = Body
    form_data_parser_class: type[FormDataParser] = FormDataParser

    max_content_length: limit[int | None] = limit[int | None](
        "MAX_CONTENT_LENGTH",
        "The largest body, in bytes; ``MAX_CONTENT_LENGTH`` unless set, None for no limit.",
    )
    max_form_memory_size: limit[int | None] = limit[int | None](
        "MAX_FORM_MEMORY_SIZE", "Bytes of form fields held in memory; ``MAX_FORM_MEMORY_SIZE`` unless set."
    )
    max_form_parts: limit[int | None] = limit[int | None](
        "MAX_FORM_PARTS", "Fields and files of one form; ``MAX_FORM_PARTS`` unless set."
    )
    body_timeout: limit[float | None] = limit[float | None](
        "BODY_TIMEOUT", "Seconds for the body; ``BODY_TIMEOUT`` unless set, None for no limit."
    )

    _parsed: tuple[MultiDict[str, str], MultiDict[str, FileStorage]] | None = None
    _json: dict[bool, Any] | None = None

    def __init__(self, scope: Scope, source: BodySource | None = None) -> None:
        self.scope = scope  # as the base has it; spelt out because each request passes here
        path = scope["path"]
        if "//" in path or path[:1] != "/" or scope.get("root_path"):
            path = routed_path(scope)
        self.path = path
        self.method: str = scope["method"]
        self._source = source

    # --- the body ---------------------------------------------------------------------------------------------

    @lazy
    def body(self) -> Body:
        """The body, to await or to iterate over.

        Raises:
            RequestEntityTooLarge: the client announces more than the limit.
        """
        return self.body_class(self._source, self.content_length, self.max_content_length, self.body_timeout)

    @property
    def stream(self) -> NoReturn:
        """Not here: a blocking stream would block everybody. Use :attr:`body`."""
        raise NotImplementedError("request.stream blocks: use 'async for chunk in request.body'")

    @property
    def data(self) -> Awaitable[bytes]:
        """The whole body: ``await request.data``; empty when it was a multipart form."""
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
            parse_form_data: a form is parsed first; if it was multipart, the result is empty, since uploads go to
                files piece by piece.

        Raises:
            RequestEntityTooLarge: 413, over the limit. RequestTimeout: 408, too slow.
            RuntimeError: the body was iterated over or read as a multipart form before.
        """
        if parse_form_data and self.mimetype in FORM_TYPES:
            await self._form_and_files()
            if self.mimetype == MULTIPART:
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
        content_type = self._first_values.get(b"content-type")
        if content_type == b"application/json":  # by far the most frequent; spares the parser
            return True
        if content_type is None:
            return False
        mimetype = content_type.decode("latin-1").partition(";")[0].strip().lower()
        return mimetype == "application/json" or (
            mimetype.startswith("application/") and mimetype.endswith("+json")
        )

    @property
    def json(self) -> Awaitable[Any]:
        """The body's JSON: ``await request.json``."""
        return self.get_json()

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
        if cache and type(self).get_data is Request.get_data:
            data = await self.body.read()
        else:
            data = await self.get_data(cache=cache)
        try:
            value = self.json_module.loads(data)
        except (ValueError, RecursionError) as error:  # RecursionError: nested by the thousand
            value = None if silent else self.on_json_loading_failed(error)
            failed = True
        else:
            failed = False
        if cache:
            self._json = {silent: value} if failed else {True: value, False: value}
        return value

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
        """The query's arguments and, unless the method is GET, the form's fields: ``await request.values``."""
        return self._values()

    async def _form(self) -> MultiDict[str, str]:
        return (await self._form_and_files())[0]

    async def _files(self) -> MultiDict[str, FileStorage]:
        return (await self._form_and_files())[1]

    async def _values(self) -> CombinedMultiDict[str, str]:
        sources: list[MultiDict[str, str]] = [self.args]
        if self.method != "GET":
            sources.append(await self._form())
        return CombinedMultiDict(sources)

    async def _form_and_files(self) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
        if self._parsed is None:
            async with self._form_turn:  # of several that ask at once, one parses
                if self._parsed is None:
                    self._parsed = await self._parse_form()
        return self._parsed

    @lazy
    def _form_turn(self) -> asyncio.Lock:
        return asyncio.Lock()

    async def _parse_form(self) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
        parser = self.make_form_data_parser()
        # What is held in memory anyway stays readable, as those who verify a signature over it need it.
        async with aclosing(self.body.pieces(keep=self.mimetype != MULTIPART, whole=True)) as pieces:
            return await parser.parse(pieces, self.mimetype, self.content_length, self.mimetype_params)

    def make_form_data_parser(self) -> FormDataParser:
        """The parser of this request's form."""
        return self.form_data_parser_class(
            max_form_memory_size=self.max_form_memory_size,
            max_content_length=self.max_content_length,
            max_form_parts=self.max_form_parts,
            cls=self.parameter_storage_class,
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
