"""Files that are read and written without keeping the loop waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import IO, Any, Generic, Self, TypeVar

from .utils import run_in_thread

T = TypeVar("T", str, bytes)


class AsyncFile(Generic[T]):
    """An open file whose methods are awaited: each runs in a thread.

    ``async with await app.open_resource("schema.sql", "r") as file: schema = await file.read()``

    Args:
        wrapped: the file itself, for what wants a plain one.
    """

    def __init__(self, wrapped: IO[T]) -> None:
        self.wrapped: IO[T] = wrapped

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.wrapped.name)

    @property
    def closed(self) -> bool:
        """It was closed."""
        return self.wrapped.closed

    async def read(self, size: int = -1) -> T:
        """At most *size* bytes or characters from where it stands; all without a size."""
        return await run_in_thread(self.wrapped.read, size)

    async def readline(self, size: int = -1) -> T:
        """The next line, empty at the end."""
        return await run_in_thread(self.wrapped.readline, size)

    async def readlines(self, hint: int = -1) -> list[T]:
        """The lines that are left."""
        return await run_in_thread(self.wrapped.readlines, hint)

    async def write(self, data: T) -> int:
        """Write *data*; the bytes or characters written."""
        return await run_in_thread(self.wrapped.write, data)

    async def writelines(self, lines: Iterable[T]) -> None:
        """Write *lines*, which bring their own line ends."""
        await run_in_thread(self.wrapped.writelines, lines)

    async def flush(self) -> None:
        """Hand to the system what was written."""
        await run_in_thread(self.wrapped.flush)

    async def seek(self, offset: int, whence: int = 0) -> int:
        """Go to *offset*, counted as ``io.IOBase.seek`` does."""
        return await run_in_thread(self.wrapped.seek, offset, whence)

    async def tell(self) -> int:
        """Where it stands."""
        return await run_in_thread(self.wrapped.tell)

    async def truncate(self, size: int | None = None) -> int:
        """Cut it to *size*, or where it stands."""
        return await run_in_thread(self.wrapped.truncate, size)

    async def close(self) -> None:
        """Close it; a second call does nothing."""
        await run_in_thread(self.wrapped.close)

    async def __aiter__(self) -> AsyncIterator[T]:
        while line := await self.readline():
            yield line

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncFile {self.wrapped!r}>"


async def open_file(path: str, mode: str, encoding: str | None) -> AsyncFile[Any]:
    """Open a file in a thread; *encoding* is for text.

    Raises:
        OSError: it cannot be opened.
    """

    def opened() -> IO[Any]:
        return open(path, mode, encoding=None if "b" in mode else encoding)

    return AsyncFile(await run_in_thread(opened))
