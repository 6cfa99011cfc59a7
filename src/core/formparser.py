"""Forms: URL-encoded and multipart bodies, on Werkzeug's sans-I/O decoder, within bounds.

Fields are held in memory up to ``MAX_FORM_MEMORY_SIZE`` together; files go to memory up to 500 kB each, then to a
temporary file, written in a thread. Malformed bodies are 400, over a bound is 413.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from io import BytesIO
from tempfile import TemporaryFile
from typing import IO
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


class FormDataParser:
    """Reads a form from a body.

    Args:
        max_form_memory_size: bytes of fields held in memory; None for no limit.
        max_form_parts: fields and files; None for no limit.
    """

    def __init__(self, max_form_memory_size: int | None = None, max_form_parts: int | None = None) -> None:
        self.max_form_memory_size = max_form_memory_size
        self.max_form_parts = max_form_parts

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
        if mimetype == MULTIPART:
            return await self._parse_multipart(body, options or {})
        if mimetype in FORM_TYPES:
            return await self._parse_urlencoded(body, content_length)
        return ImmutableMultiDict(), ImmutableMultiDict()

    async def _parse_urlencoded(self, body: AsyncIterable[bytes], content_length: int | None) -> FormAndFiles:
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
        return ImmutableMultiDict(
            parse_qsl(text, keep_blank_values=True, errors="replace")
        ), ImmutableMultiDict()

    async def _parse_multipart(self, body: AsyncIterable[bytes], options: Mapping[str, str]) -> FormAndFiles:
        boundary = options.get("boundary", "").encode("latin-1", "replace")
        if not boundary or len(boundary) > 70:  # RFC 2046, 5.1.1
            raise BadRequest("the multipart body has no usable boundary in its content type")
        form = _MultipartForm(boundary, self.max_form_memory_size, self.max_form_parts)
        try:
            return await form.read(body)
        except BaseException as error:
            form.close()
            if isinstance(error, ValueError):  # what the decoder raises; UnicodeDecodeError among them
                raise BadRequest(f"malformed multipart body: {error}") from error
            raise


class _MultipartForm:
    """One multipart body while it is read: events of the decoder become fields and files."""

    def __init__(self, boundary: bytes, max_memory: int | None, max_parts: int | None) -> None:
        self._decoder = MultipartDecoder(boundary, max_memory, max_parts=max_parts)
        self._max_memory = max_memory
        self._memory = 0
        self._fields: list[tuple[str, str]] = []
        self._files: list[tuple[str, FileStorage]] = []
        self._part: Field | File | None = None
        self._text = bytearray()
        self._upload: _Upload | None = None

    async def read(self, body: AsyncIterable[bytes]) -> FormAndFiles:
        """Feed the decoder until its end."""
        async for piece in body:
            for start in range(0, len(piece), FEED_BYTES):
                self._decoder.receive_data(piece[start : start + FEED_BYTES])
                await self._take_events()
        self._decoder.receive_data(None)
        await self._take_events()
        return ImmutableMultiDict(self._fields), ImmutableMultiDict(self._files)

    async def _take_events(self) -> None:
        event: Event = self._decoder.next_event()
        while not isinstance(event, NeedData | Epilogue):
            if isinstance(event, Field | File):
                self._begin(event)
            elif isinstance(event, Data):
                await self._add(event)
            event = self._decoder.next_event()

    def _begin(self, part: Field | File) -> None:
        if part.name is None:
            raise BadRequest("malformed multipart body: a part has no name")
        self._part = part
        self._text = bytearray()
        self._upload = _Upload() if isinstance(part, File) else None

    async def _add(self, data: Data) -> None:
        if self._upload is not None:
            await self._upload.write(data.data)
        else:
            self._memory += len(data.data)
            if self._max_memory is not None and self._memory > self._max_memory:
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
            self._files.append(
                (part.name, FileStorage(stream, part.filename, part.name, headers=part.headers))
            )
        else:
            self._fields.append((part.name, self._text.decode(_charset(part.headers), "replace")))

    def close(self) -> None:
        """Close the files; for when reading failed."""
        if self._upload is not None:
            self._upload.file.close()
        for _, file in self._files:
            file.close()


def _charset(headers: Headers) -> str:
    """The charset of a field, of the few that HTML forms can have; UTF-8 for any other."""
    charset = parse_options_header(headers.get("content-type", ""))[1].get("charset", "utf-8").lower()
    return charset if charset in {"ascii", "us-ascii", "utf-8", "iso-8859-1"} else "utf-8"


class _Upload:
    """A file while it arrives: in memory at first, in a temporary file when it grows."""

    def __init__(self) -> None:
        self.file: IO[bytes] = BytesIO()
        self._size = 0
        self._on_disk = False

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
