"""Forms: URL-encoded and multipart bodies, on Werkzeug's sans-I/O decoder, within bounds.

Fields are held in memory up to ``MAX_FORM_MEMORY_SIZE`` together; files go to memory up to 500 kB each, then to a
temporary file, written in a thread. Malformed bodies are 400, over a bound is 413.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from io import BytesIO
from tempfile import TemporaryFile
from typing import IO, Any, ClassVar
from urllib.parse import parse_qsl

from werkzeug.datastructures import Headers, ImmutableMultiDict, MultiDict
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from .datastructures import FileStorage
from .utils import run_in_thread

SPOOL_BYTES = 500_000  # as Werkzeug's default_stream_factory
FEED_BYTES = 64 * 1024  # the decoder checks its memory limit against one feed, so no feed may be larger

MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
FORM_TYPES = frozenset({MULTIPART, URLENCODED, "application/x-url-encoded"})

FormAndFiles = tuple[MultiDict[str, str], MultiDict[str, FileStorage]]
StreamFactory = Callable[[int | None, str | None, str | None, int | None], IO[bytes]]
"""Gives the file that an upload is written to; its arguments: the request's length, the upload's content type, its file
name, its length; None where unknown."""
ParseFunction = Callable[
    ["FormDataParser", AsyncIterable[bytes], str, int | None, Mapping[str, str]], Awaitable[FormAndFiles]
]


class FormDataParser:
    """Reads a form from a body.

    Args:
        stream_factory: gives the file that an upload is written to, in threads; by default memory, and a temporary
            file from 500 kB on.
        max_form_memory_size: bytes of fields held in memory; None for no limit.
        max_content_length: bytes of the whole as announced; None for no limit.
        cls: the class of what is returned.
        silent: what is malformed is an empty form instead of a 400.
        max_form_parts: fields and files; None for no limit.

    Attributes:
        file_storage_class: the class of an upload.
        parse_functions: what parses each mimetype; a subclass may add to it.
    """

    file_storage_class: type[FileStorage] = FileStorage
    parse_functions: ClassVar[dict[str, ParseFunction]] = {}

    def __init__(
        self,
        stream_factory: StreamFactory | None = None,
        max_form_memory_size: int | None = None,
        max_content_length: int | None = None,
        cls: type[Any] | None = None,
        silent: bool = False,
        *,
        max_form_parts: int | None = None,
    ) -> None:
        self.stream_factory = stream_factory
        self.max_form_memory_size = max_form_memory_size
        self.max_content_length = max_content_length
        self.cls: type[Any] = cls or ImmutableMultiDict
        self.silent = silent
        self.max_form_parts = max_form_parts

    def get_parse_func(self, mimetype: str, options: Mapping[str, str]) -> ParseFunction | None:
        """What parses *mimetype*, None when it is no form's."""
        return self.parse_functions.get(mimetype)

    async def parse(
        self,
        body: AsyncIterable[bytes],
        mimetype: str,
        content_length: int | None,
        options: Mapping[str, str] | None = None,
    ) -> FormAndFiles:
        """The fields and files of *body*; empty ones when *mimetype* is no form's.

        Args:
            body: its pieces.
            mimetype: in lower case, without parameters.
            content_length: as announced, in bytes.
            options: the content type's parameters; ``boundary`` for multipart.

        Raises:
            BadRequest: malformed. RequestEntityTooLarge: over a bound.
        """
        if self.max_content_length is not None and (content_length or 0) > self.max_content_length:
            raise RequestEntityTooLarge()
        parse = self.get_parse_func(mimetype, options or {})
        if parse is None:
            return self.cls(), self.cls()
        try:
            return await parse(self, body, mimetype, content_length, options or {})
        except BadRequest:
            if self.silent:
                return self.cls(), self.cls()
            raise

    async def _parse_urlencoded(
        self,
        body: AsyncIterable[bytes],
        mimetype: str,
        content_length: int | None,
        options: Mapping[str, str],
    ) -> FormAndFiles:
        limit = self.max_form_memory_size
        if limit is not None and content_length is not None and content_length > limit:
            raise RequestEntityTooLarge()
        data = bytearray()
        async for piece in body:
            data += piece
            if limit is not None and len(data) > limit:
                raise RequestEntityTooLarge()
        if self.max_form_parts is not None and data.count(b"&") >= self.max_form_parts:
            raise RequestEntityTooLarge()
        text = data.decode(errors="replace")
        return self.cls(parse_qsl(text, keep_blank_values=True, errors="replace")), self.cls()

    async def _parse_multipart(
        self,
        body: AsyncIterable[bytes],
        mimetype: str,
        content_length: int | None,
        options: Mapping[str, str],
    ) -> FormAndFiles:
        parser = MultiPartParser(
            cls=self.cls,
            file_storage_cls=self.file_storage_class,
            max_content_length=self.max_content_length,
            max_form_memory_size=self.max_form_memory_size,
            max_form_parts=self.max_form_parts,
            stream_factory=self.stream_factory,
        )
        boundary = options.get("boundary", "").encode("latin-1", "replace")
        return await parser.parse(body, boundary, content_length)


FormDataParser.parse_functions = {
    MULTIPART: FormDataParser._parse_multipart,
    URLENCODED: FormDataParser._parse_urlencoded,
    "application/x-url-encoded": FormDataParser._parse_urlencoded,
}


class MultiPartParser:
    """Reads a multipart body.

    Args:
        buffer_size: bytes given to the decoder at a time.
        cls: the class of what is returned.
        file_storage_cls: the class of an upload.
        max_content_length: bytes of the whole as announced; None for no limit.
        max_form_memory_size: bytes of fields held in memory; None for no limit.
        max_form_parts: fields and files; None for no limit.
        stream_factory: gives the file that an upload is written to; see :class:`FormDataParser`.
    """

    def __init__(
        self,
        *,
        buffer_size: int = FEED_BYTES,
        cls: type[Any] | None = None,
        file_storage_cls: type[FileStorage] = FileStorage,
        max_content_length: int | None = None,
        max_form_memory_size: int | None = None,
        max_form_parts: int | None = None,
        stream_factory: StreamFactory | None = None,
    ) -> None:
        self.buffer_size = buffer_size
        self.cls: type[Any] = cls or ImmutableMultiDict
        self.file_storage_cls = file_storage_cls
        self.max_content_length = max_content_length
        self.max_form_memory_size = max_form_memory_size
        self.max_form_parts = max_form_parts
        self.stream_factory = stream_factory

    async def parse(
        self, body: AsyncIterable[bytes], boundary: bytes, content_length: int | None = None
    ) -> FormAndFiles:
        """The fields and files of *body*.

        Raises:
            BadRequest: malformed. RequestEntityTooLarge: over a bound.
        """
        if self.max_content_length is not None and (content_length or 0) > self.max_content_length:
            raise RequestEntityTooLarge()
        if not boundary or len(boundary) > 70:  # RFC 2046, 5.1.1
            raise BadRequest("the multipart body has no usable boundary in its content type")
        form = _MultipartForm(self, boundary, content_length)
        try:
            fields, files = await form.read(body, self.buffer_size)
        except BaseException as error:
            form.close()
            if isinstance(error, ValueError):  # what the decoder raises; UnicodeDecodeError among them
                raise BadRequest(f"malformed multipart body: {error}") from error
            raise
        return self.cls(fields), self.cls(files)


class _MultipartForm:
    """One multipart body while it is read: events of the decoder become fields and files."""

    def __init__(self, parser: MultiPartParser, boundary: bytes, content_length: int | None) -> None:
        self._decoder = MultipartDecoder(
            boundary, parser.max_form_memory_size, max_parts=parser.max_form_parts
        )
        self._delimiter = b"--" + boundary
        self._parser = parser
        self._content_length = content_length
        self._memory = 0
        self._fields: list[tuple[str, str]] = []
        self._files: list[tuple[str, FileStorage]] = []
        self._part: Field | File | None = None
        self._text = bytearray()
        self._upload: _Upload | None = None

    async def read(
        self, body: AsyncIterable[bytes], buffer_size: int
    ) -> tuple[Iterable[tuple[str, str]], Iterable[tuple[str, FileStorage]]]:
        """Feed the decoder until its end."""
        rest = b""  # may be the beginning of a line of the boundary's
        async for piece in body:
            for start in range(0, len(piece), buffer_size):
                data = rest + piece[start : start + buffer_size]
                decided = undecided_from(data, self._delimiter)
                rest = data[decided:]
                await self._feed(data[:decided])
        await self._feed(rest)
        await self._feed(None)
        return self._fields, self._files

    async def _feed(self, data: bytes | None) -> None:
        if data != b"":
            self._decoder.receive_data(data)
            await self._take_events()

    async def _take_events(self) -> None:
        event: Event = self._decoder.next_event()
        while not isinstance(event, NeedData | Epilogue):
            if isinstance(event, Field | File):
                await self._begin(event)
            elif isinstance(event, Data):
                await self._add(event)
            event = self._decoder.next_event()

    async def _begin(self, part: Field | File) -> None:
        if part.name is None:
            raise BadRequest("malformed multipart body: a part has no name")
        self._part = part
        self._text = bytearray()
        self._upload = await self._new_upload(part) if isinstance(part, File) else None

    async def _new_upload(self, part: File) -> _Upload:
        make = self._parser.stream_factory
        if make is None:
            return _Upload()
        length = part.headers.get("content-length", type=int)
        arguments = self._content_length, part.headers.get("content-type"), part.filename, length
        return _Upload(await run_in_thread(make, *arguments))

    async def _add(self, data: Data) -> None:
        if self._upload is not None:
            await self._upload.write(data.data)
        else:
            self._memory += len(data.data)
            most = self._parser.max_form_memory_size
            if most is not None and self._memory > most:
                raise RequestEntityTooLarge()
            self._text += data.data
        if not data.more_data:
            await self._finish()

    async def _finish(self) -> None:
        part = self._part
        assert part is not None
        if isinstance(part, File) and self._upload is not None:
            stream = await self._upload.finish()
            self._upload = None
            file = self._parser.file_storage_cls(stream, part.filename, part.name, headers=part.headers)
            self._files.append((part.name, file))
        else:
            self._fields.append((part.name, self._text.decode(_charset(part.headers), "replace")))

    def close(self) -> None:
        """Close the files; for when reading failed."""
        if self._upload is not None:
            self._upload.file.close()
        for _, file in self._files:
            file.close()


_MAX_PADDING = 64  # blanks behind a boundary that are waited for
_UNDECIDED = re.compile(rb"-|[ \t]*")  # behind a boundary: its line may go on
_DELIMITER_END = re.compile(rb"(--)?[ \t]*")  # behind a boundary, before a line break


def undecided_from(data: bytes, delimiter: bytes) -> int:
    """Where the part of *data* begins that may yet become a delimiter, its line break included; the length if none may.

    Werkzeug's decoder takes a part of a delimiter for content, a stray CR at the end of a file, when a piece of the
    body ends inside it (issues 3065, 3119 and 3285 of Werkzeug). So it is given such a line when it is whole.
    """
    size = len(data)
    window = max(0, size - len(delimiter) - _MAX_PADDING)
    line_break = 2 if data.endswith(b"\r\n") else data.endswith((b"\r", b"\n"))
    end = size - line_break
    at = max(data.rfind(b"\n", window, end), data.rfind(b"\r", window, end))
    begin = at - (data[at - 1 : at + 1] == b"\r\n")
    line = data[at + 1 : end] if at >= 0 else b""
    delimits = line.startswith(delimiter)
    if line_break:
        if delimits and _DELIMITER_END.fullmatch(line, len(delimiter)):
            return size if data.endswith(b"\n") else begin
        return end
    if at >= 0 and (delimiter.startswith(line) or (delimits and _UNDECIDED.fullmatch(line, len(delimiter)))):
        return begin
    return size


def _charset(headers: Headers) -> str:
    """The charset of a field, of the few that HTML forms can have; UTF-8 for any other."""
    charset = parse_options_header(headers.get("content-type", ""))[1].get("charset", "utf-8").lower()
    return charset if charset in {"ascii", "us-ascii", "utf-8", "iso-8859-1"} else "utf-8"


class _Upload:
    """A file while it arrives: in memory at first, in a temporary file when it grows; or in a file given.

    Args:
        file: what to write to, in threads, from the beginning.
    """

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self.file: IO[bytes] = BytesIO() if file is None else file
        self._size = 0
        self._on_disk = file is not None

    async def write(self, data: bytes) -> None:
        """Append *data*."""
        self._size += len(data)
        if not self._on_disk and self._size > SPOOL_BYTES:
            await self._move_to_disk()
        if self._on_disk:
            await run_in_thread(self.file.write, data)
        else:
            self.file.write(data)

    async def _move_to_disk(self) -> None:
        memory = self.file
        assert isinstance(memory, BytesIO)
        self.file = await run_in_thread(TemporaryFile)
        self._on_disk = True
        await run_in_thread(self.file.write, memory.getvalue())

    async def finish(self) -> IO[bytes]:
        """The file, at its beginning."""
        if self._on_disk:
            await run_in_thread(self.file.seek, 0)
        else:
            self.file.seek(0)
        return self.file
