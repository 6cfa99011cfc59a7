"""Werkzeug's data structures, and an uploaded file that is saved and read without blocking the loop."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from werkzeug.datastructures import (
    Authorization,
    CallbackDict,
    Headers,
    ImmutableDict,
    ImmutableMultiDict,
    MultiDict,
    WWWAuthenticate,
)
from werkzeug.datastructures import FileStorage as WerkzeugFileStorage
from werkzeug.http import http_date

from .utils import run_in_thread

__all__ = [
    "Authorization",
    "CallbackDict",
    "FileStorage",
    "Headers",
    "ImmutableDict",
    "ImmutableMultiDict",
    "MultiDict",
    "WWWAuthenticate",
    "http_date",
]


class FileStorage(WerkzeugFileStorage):
    """An uploaded file. ``stream`` is an open binary file at its beginning."""

    async def save(  # type: ignore[override]  # Werkzeug's blocks
        self, destination: str | os.PathLike[str] | IO[bytes], buffer_size: int = 16384
    ) -> None:
        """Write the file to a path or an open binary file, in a thread.

        Args:
            destination: a path, which is created or replaced, or an open binary file, which is left open.
            buffer_size: bytes copied at a time.
        """
        save: Any = super().save
        await run_in_thread(save, destination, buffer_size)

    async def load(self, source: str | os.PathLike[str], buffer_size: int = 16384) -> None:
        """Replace the content by that of the file at *source*, read in a thread."""
        del buffer_size  # the whole of it is read
        self.stream: BytesIO = BytesIO(await run_in_thread(Path(source).read_bytes))
