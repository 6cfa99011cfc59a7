"""The response: status and headers on Werkzeug's sans-I/O class, and a body that is bytes, a stream or a file.

A response made of text or bytes alone, by far the most frequent, stays small: no ``Headers`` object exists until
somebody asks for it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from hashlib import sha1
from http import HTTPStatus
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal, Self, overload

from werkzeug.datastructures import ContentRange, Headers
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.http import HTTP_STATUS_CODES, parse_etags
from werkzeug.sansio.http import is_resource_modified
from werkzeug.sansio.response import Response as SansIOResponse
from werkzeug.utils import get_content_type

from ..ctx import current_context
from ..typing import FilePath
from ..utils import iterate_in_thread, run_in_thread

if TYPE_CHECKING:
    from ..json.provider import JSONProvider
    from ..typing import HeadersValue
    from .request import Request

RawHeaders = list[tuple[bytes, bytes]]

BUFFER_BYTES = 64 * 1024
NO_LENGTH = frozenset({204, 304})  # RFC 9110, 8.6

_HTML = "text/html; charset=utf-8"
_content_types: dict[str, str] = {"text/html": _HTML, "application/json": "application/json"}
_names: dict[str, bytes] = {}  # header names as ASGI wants them; bounded in _wire_name
_MAX_NAMES = 512


WIRE_VALUES: dict[str, bytes] = {}  # content types as ASGI wants them; bounded in _wire_value
HTML_WIRE: bytes = _HTML.encode()
NUMBERS = tuple(b"%d" % number for number in range(2048))
_CONTENT_TYPE = frozenset({"Content-Type", "content-type"})


def _wire_value(value: str) -> bytes:
    wire = value.encode("latin-1")
    if len(WIRE_VALUES) < _MAX_NAMES and len(value) < 128 and value.isprintable():
        WIRE_VALUES[value] = wire
    return wire


def _one_line(content_type: str) -> str:
    """*content_type*, as ``Headers`` would take it.

    Raises:
        ValueError: it has a line end, with which a client could add headers.
    """
    if "\n" in content_type or "\r" in content_type:
        raise ValueError("Header values must not contain newline characters.")
    return content_type


def _wire_name(name: str) -> bytes:
    wire = _names.get(name)
    if wire is None:
        wire = name.lower().encode("latin-1")
        if len(_names) < _MAX_NAMES:
            _names[name] = wire
    return wire


class ResponseBody:
    """A body: ``async with body as pieces`` and ``async for piece in pieces``."""

    async def __aenter__(self) -> AsyncIterable[bytes]:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @property
    def length(self) -> int | None:
        """Bytes in all, None where unknown."""
        return None

    async def make_conditional(self, begin: int, end: int | None, max_partial_size: int | None = None) -> int:
        """Keep the bytes from *begin* up to, not including, *end*; returns the length of the whole.

        Raises:
            RequestedRangeNotSatisfiable: this body has no ranges, or not that one.
        """
        raise RequestedRangeNotSatisfiable()


def _range(size: int, begin: int, end: int | None, most: int | None) -> tuple[int, int]:
    """The part from *begin* to *end*, as HTTP writes ranges, within *size* bytes."""
    stop = size if end is None else min(end, size)
    start = max(size + begin, 0) if begin < 0 else begin
    if most is not None:
        stop = min(stop, start + most)
    if not 0 <= start < stop:
        raise RequestedRangeNotSatisfiable(size)
    return start, stop


class DataBody(ResponseBody):
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.begin: int = 0
        self.end: int = len(data)

    @property
    def length(self) -> int:
        return self.end - self.begin

    async def __aenter__(self) -> AsyncIterable[bytes]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        yield self.data[self.begin : self.end]

    async def make_conditional(self, begin: int, end: int | None, max_partial_size: int | None = None) -> int:
        """Keep only a part; see :meth:`ResponseBody.make_conditional`."""
        self.begin, self.end = _range(len(self.data), begin, end, max_partial_size)
        return len(self.data)


class IterableBody(ResponseBody):
    """Pieces from an iterable or async iterable; a blocking one is iterated over in threads."""

    def __init__(self, iterable: Iterable[Any] | AsyncIterable[Any]) -> None:
        self.iterable = iterable
        self._pieces: AsyncIterator[bytes] | None = None

    async def __aenter__(self) -> AsyncIterable[bytes]:
        self._pieces = self._encoded()
        return self._pieces

    async def _encoded(self) -> AsyncIterator[bytes]:
        source = self.iterable
        items = source if isinstance(source, AsyncIterable) else iterate_in_thread(source)
        try:
            async for item in items:
                yield _as_bytes(item)
        finally:
            if hasattr(items, "aclose"):
                await items.aclose()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if inspect.isasyncgen(self._pieces):
            await self._pieces.aclose()
        if hasattr(self.iterable, "aclose"):  # never begun, so the above did not reach it
            await self.iterable.aclose()
        elif inspect.isgenerator(self.iterable):
            await run_in_thread(self.iterable.close)


class FileBody(ResponseBody):
    """A file's content, read in threads.

    Args:
        file_path: its path.
        buffer_size: bytes read at a time; by default the class's.
    """

    buffer_size: int = BUFFER_BYTES

    def __init__(self, file_path: FilePath, *, buffer_size: int | None = None) -> None:
        self.file_path: Path = Path(file_path)
        if buffer_size is not None:
            self.buffer_size = buffer_size
        self.size: int = self.file_path.stat().st_size
        self.begin: int = 0
        self.end: int = self.size
        self._file: IO[bytes] | None = None

    @property
    def length(self) -> int:
        return self.end - self.begin

    async def __aenter__(self) -> AsyncIterable[bytes]:
        self._file = await run_in_thread(self._open)
        return _read_pieces(self._file, self.length, self.buffer_size)

    def _open(self) -> IO[bytes]:
        file = self.file_path.open("rb")
        file.seek(self.begin)
        return file

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    async def make_conditional(self, begin: int, end: int | None, max_partial_size: int | None = None) -> int:
        """Keep only a part; see :meth:`ResponseBody.make_conditional`."""
        self.begin, self.end = _range(self.size, begin, end, max_partial_size)
        return self.size


class IOBody(ResponseBody):
    """The content of an open binary file, read in threads, and closed in the end.

    Args:
        io_stream: open for reading; from its position on.
        buffer_size: bytes read at a time; by default the class's.
    """

    buffer_size: int = BUFFER_BYTES

    def __init__(self, io_stream: IO[bytes], *, buffer_size: int | None = None) -> None:
        self.io_stream = io_stream
        if buffer_size is not None:
            self.buffer_size = buffer_size
        self.begin: int = io_stream.tell()
        self.size: int = io_stream.seek(0, os.SEEK_END) - self.begin
        io_stream.seek(self.begin)
        self.end: int = self.size
        self._offset = 0

    @property
    def length(self) -> int:
        return self.end - self._offset

    async def __aenter__(self) -> AsyncIterable[bytes]:
        await run_in_thread(self.io_stream.seek, self.begin + self._offset)
        return _read_pieces(self.io_stream, self.length, self.buffer_size)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.io_stream.close()

    async def make_conditional(self, begin: int, end: int | None, max_partial_size: int | None = None) -> int:
        """Keep only a part; see :meth:`ResponseBody.make_conditional`."""
        self._offset, self.end = _range(self.size, begin, end, max_partial_size)
        return self.size


def _as_bytes(piece: Any) -> bytes:
    """One piece of a stream as bytes.

    Raises:
        TypeError: it is neither text nor bytes. ``bytes(n)`` would be *n* zero bytes.
    """
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, bytes | bytearray | memoryview):
        return bytes(piece)
    raise TypeError(f"a streamed response yields str or bytes, not {type(piece).__name__}: {piece!r:.80}")


async def _read_pieces(file: IO[bytes], length: int, buffer_size: int) -> AsyncIterator[bytes]:
    while length > 0:
        piece = await run_in_thread(file.read, min(buffer_size, length))
        if not piece:
            raise EOFError(f"the file is {length} bytes shorter than it was when the response was made")
        length -= len(piece)
        yield piece


class Response(SansIOResponse):
    """One HTTP response.

    Args:
        response: the body: text, bytes, an iterable or async iterable of either, or a :class:`ResponseBody`.
        status: 200, or ``"200 OK"``.
        headers: to begin with.
        mimetype: without charset; text types get ``charset=utf-8``. HTML if nothing is said.
        content_type: the whole of it, instead of *mimetype*.
    """

    default_mimetype: str = "text/html"
    automatically_set_content_length = True
    implicit_sequence_conversion = True
    """Reading a streamed body keeps it; False: that is a RuntimeError."""
    data_body_class = DataBody
    iterable_body_class = IterableBody
    file_body_class = FileBody
    io_body_class = IOBody

    timeout: float | EllipsisType | None = ...
    """Seconds for one write of this response; ``...`` means ``RESPONSE_TIMEOUT``, None no limit (as SSE needs)."""

    _headers: Headers | None = None
    _content_type: str = _HTML
    _code: int = 200
    _phrase: str | None = None
    _data: bytes | None = None
    _body: ResponseBody | None = None

    def __init__(
        self,
        response: Any = None,
        status: int | str | HTTPStatus | None = None,
        headers: HeadersValue | None = None,
        mimetype: str | None = None,
        content_type: str | None = None,
    ) -> None:
        # SansIOResponse.__init__ is left out on purpose: it builds Headers, which most responses never need.
        kind = type(response)
        if kind is str:
            self._data = response.encode()
        elif kind is bytes:
            self._data = response
        else:
            self._take_body(response)
        if status is not None:
            if type(status) is int:
                self._code = status
            else:
                self.status = status
        if content_type is None and mimetype is not None:
            content_type = _content_types.get(mimetype) or get_content_type(mimetype, "utf-8")
        if headers:
            self._take_headers(headers, content_type)
        elif content_type is not None:
            self._content_type = content_type if content_type in WIRE_VALUES else _one_line(content_type)
        elif self.default_mimetype != "text/html":
            self._content_type = get_content_type(self.default_mimetype or "", "utf-8")

    def _take_body(self, body: Any) -> None:
        if body is None:
            self._data = b""
        elif isinstance(body, ResponseBody):
            self._body = body
        elif isinstance(body, str):
            self._data = str(body).encode()
        elif isinstance(body, bytes | bytearray | memoryview):
            self._data = bytes(body)
        else:
            self._body = self.iterable_body_class(body)

    def _take_headers(self, headers: HeadersValue, content_type: str | None) -> None:
        own = headers if isinstance(headers, Headers) else Headers(headers)
        if content_type is not None:
            own["Content-Type"] = content_type
        elif "Content-Type" not in own and self.default_mimetype is not None:
            own["Content-Type"] = get_content_type(self.default_mimetype, "utf-8")
        self._adopt(own)

    def _adopt(self, headers: Headers) -> None:
        self._headers = headers
        length = None if self._code in NO_LENGTH else self._body_length()
        if length is not None and self.automatically_set_content_length and "Content-Length" not in headers:
            headers["Content-Length"] = str(length)

    def _body_length(self) -> int | None:
        if self._data is not None:
            return len(self._data)
        return None if self._body is None else self._body.length

    # --- status and headers -----------------------------------------------------------------------------------

    @property
    def headers(self) -> Headers:
        """The headers; the object is made when first asked for."""
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers()
            pairs = headers._list
            pairs.append(("Content-Type", self._content_type))
            if self.automatically_set_content_length and self._code not in NO_LENGTH:
                length = self._body_length()
                if length is not None:
                    pairs.append(("Content-Length", str(length)))
        return headers

    @headers.setter
    def headers(self, value: Headers) -> None:
        self._headers = value

    @property
    def status_code(self) -> int:
        """The status as a number."""
        return self._code

    @status_code.setter
    def status_code(self, code: int) -> None:
        self._code = int(code)
        self._phrase = None

    @property
    def status(self) -> str:
        """The status as text, such as ``404 NOT FOUND``."""
        if self._phrase is None:
            return f"{self._code} {HTTP_STATUS_CODES.get(self._code, 'UNKNOWN').upper()}"
        return self._phrase

    @status.setter
    def status(self, value: str | int | HTTPStatus) -> None:
        self._phrase, self._code = self._clean_status(value)

    @property
    def max_cookie_size(self) -> int:  # type: ignore[override]  # an attribute there
        """Bytes above which a cookie causes a warning: ``MAX_COOKIE_SIZE``."""
        context = current_context()
        return 4093 if context is None else int(context.app.config["MAX_COOKIE_SIZE"])

    def update_headers(self, headers: HeadersValue) -> None:
        """Replace headers by those given; one that is given several times is sent several times."""
        if self._headers is None and type(headers) is dict and len(headers) == 1:
            for name, value in headers.items():  # a content type alone needs no Headers object
                if (
                    name in _CONTENT_TYPE
                    and type(value) is str
                    and (value in WIRE_VALUES or value.isprintable())
                ):
                    self._content_type = value
                    return
        self.headers.update(headers)

    def raw_headers(self) -> RawHeaders:
        """The headers as ASGI wants them, names in lower case."""
        headers = self._headers
        if headers is not None:
            return [
                (_names.get(name) or _wire_name(name), value.encode("latin-1"))
                for name, value in headers._list
            ]
        content_type, data = self._content_type, self._data
        raw = (
            [(b"content-type", WIRE_VALUES.get(content_type) or _wire_value(content_type))]
            if content_type
            else []
        )
        if self.automatically_set_content_length:
            length = self._body_length() if data is None else len(data)
            if length is not None:
                raw.append((b"content-length", NUMBERS[length] if length < 2048 else b"%d" % length))
        return raw

    # --- the body ---------------------------------------------------------------------------------------------

    @property
    def response(self) -> ResponseBody:
        """The body."""
        if self._body is None:
            self._body = self.data_body_class(self._data or b"")
            self._data = None
        return self._body

    @response.setter
    def response(self, value: ResponseBody) -> None:
        self._body = value
        self._data = None

    @property
    def buffered(self) -> bytes | None:
        """The whole body when it is in memory, None when it is a stream or a file."""
        if self._data is not None:
            return self._data
        body = self._body
        if type(body) is DataBody:
            return body.data[body.begin : body.end]
        return None

    @property
    def is_streamed(self) -> bool:
        """The body's length is not known."""
        return self._body_length() is None

    @property
    def is_sequence(self) -> bool:
        """The body is in memory."""
        return self.buffered is not None

    def calculate_content_length(self) -> int | None:
        """The body's length in bytes, None where unknown."""
        return self._body_length()

    def set_data(self, data: str | bytes) -> None:
        """Make *data* the body and set the content length."""
        self._data = data.encode() if isinstance(data, str) else data
        self._body = None
        if self._headers is not None and self.automatically_set_content_length:
            self._headers["Content-Length"] = str(len(self._data))

    @overload
    async def get_data(self, as_text: Literal[True]) -> str: ...
    @overload
    async def get_data(self, as_text: Literal[False] = False) -> bytes: ...
    @overload
    async def get_data(self, as_text: bool) -> str | bytes: ...
    async def get_data(self, as_text: bool = False) -> str | bytes:
        """The whole body; a stream is read to its end and kept.

        Args:
            as_text: decoded from UTF-8.

        Raises:
            RuntimeError: it is a stream, and ``implicit_sequence_conversion`` is off.
        """
        if self._data is None:
            if not self.implicit_sequence_conversion and self.is_streamed:
                raise RuntimeError("the body is a stream: make_sequence() reads it, if that is meant")
            await self.make_sequence()
        data = self._data or b""
        return data.decode() if as_text else data

    @property
    async def data(self) -> bytes:
        """The whole body: ``await response.data``."""
        return await self.get_data()

    async def make_sequence(self) -> None:
        """Read the body into memory."""
        if self._data is None:
            async with self.response as pieces:
                data = b"".join([piece async for piece in pieces])
            self._data, self._body = data, None

    async def freeze(self) -> None:
        """Read the body into memory, with content length and ETag: for a response that is kept and sent again."""
        await self.make_sequence()
        self.headers["Content-Length"] = str(self._body_length())
        await self.add_etag()

    async def iter_encode(self) -> AsyncIterator[bytes]:
        """The body's pieces."""
        async with self.response as pieces:
            async for piece in pieces:
                yield piece

    def iter_encoded(self) -> AsyncIterator[bytes]:
        """The body's pieces, under Werkzeug's name."""
        return self.iter_encode()

    async def get_json(self, force: bool = False, silent: bool = False) -> Any:
        """What the JSON in the body says; None when the content type is not JSON's.

        Args:
            force: whatever the content type is.
            silent: None instead of a ValueError.
        """
        if not (force or self.is_json):
            return None
        data = await self.get_data()
        try:
            return self.json_module.loads(data)
        except ValueError:
            if silent:
                return None
            raise

    @property
    async def json(self) -> Any:
        """What the JSON in the body says: ``await response.json``."""
        return await self.get_json()

    @property
    def json_module(self) -> JSONProvider:
        """What reads JSON: the app's provider, or a default one."""
        from ..json import _provider

        return _provider()

    # --- conditional and partial answers ----------------------------------------------------------------------

    async def add_etag(self, overwrite: bool = False, weak: bool = False) -> None:
        """Set the ETag from the body's content, unless there is one.

        Args:
            overwrite: set it anyway.
            weak: mark it as weak (RFC 9110, 8.8.1).
        """
        if overwrite or "etag" not in self.headers:
            self.set_etag(sha1(await self.get_data(), usedforsecurity=False).hexdigest(), weak)

    async def make_conditional(
        self, request: Request, accept_ranges: bool | str = False, complete_length: int | None = None
    ) -> Self:
        """Answer 304, 412 or 206 where the request's conditions ask for it (RFC 9110, 13 and 14).

        Args:
            request: with the conditions.
            accept_ranges: True to answer ranges.
            complete_length: bytes of the whole; needed for ranges unless the body knows.

        Raises:
            RequestedRangeNotSatisfiable: 416.
        """
        if request.method not in {"GET", "HEAD"}:
            return self
        modified = self._is_modified(request, ignore_if_range=True)
        if not modified:
            unmet = "etag" in self.headers and parse_etags(request.headers.get("If-Match"))
            self.status_code = 412 if unmet else 304
            await self.close()
            self.set_data(b"")
            self.headers.pop("Content-Length", None)
            return self
        if accept_ranges:
            self.headers["Accept-Ranges"] = "bytes" if accept_ranges is True else accept_ranges
            length = complete_length if complete_length is not None else self._body_length()
            await self._make_partial(request, length)
        return self

    def _is_modified(self, request: Request, *, ignore_if_range: bool) -> bool:
        headers = request.headers
        try:
            return is_resource_modified(
                http_range=headers.get("Range"),
                http_if_range=headers.get("If-Range"),
                http_if_modified_since=headers.get("If-Modified-Since"),
                http_if_none_match=headers.get("If-None-Match"),
                http_if_match=headers.get("If-Match"),
                etag=self.headers.get("ETag"),
                last_modified=self.headers.get("Last-Modified"),
                ignore_if_range=ignore_if_range,
            )
        except OverflowError:  # an enormous date: no condition
            return True

    async def _make_partial(self, request: Request, length: int | None) -> None:
        """Become a 206 when one satisfiable byte range is asked for and If-Range holds."""
        header = request.headers.get("Range")
        if not header or not length or request.method != "GET" or self._if_range_fails(request):
            return
        wanted = request.range
        if wanted is None:
            if header.strip().lower().startswith("bytes"):
                raise RequestedRangeNotSatisfiable(length)
            return  # a unit unknown to us is ignored (RFC 9110, 14.2)
        if wanted.units != "bytes" or len(wanted.ranges) != 1:
            return  # several ranges: the whole is a right answer too
        start, stop = wanted.ranges[0]
        try:
            await self.response.make_conditional(start, stop)
        except RequestedRangeNotSatisfiable as error:
            raise RequestedRangeNotSatisfiable(length) from error
        begin = max(length + start, 0) if start < 0 else start
        size = self._body_length() or 0
        self.headers["Content-Length"] = str(size)
        self.content_range = ContentRange("bytes", begin, begin + size, length)
        self.status_code = 206

    def _if_range_fails(self, request: Request) -> bool:
        condition = request.if_range
        if condition.etag is not None:
            etag, weak = self.get_etag()
            return weak or etag != condition.etag
        if condition.date is not None:
            last_modified = self.last_modified
            return last_modified is None or last_modified.replace(microsecond=0) != condition.date
        return False

    async def close(self) -> None:
        """Let go of a body that will not be sent: its generator or file is closed."""
        body = self._body
        if isinstance(body, IterableBody | IOBody):
            await body.__aexit__(None, None, None)
