"""SQLite in threads, as Quart's users do where no async driver is at hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from quart.utils import run_sync

SCHEMA = """CREATE TABLE IF NOT EXISTS post (
  id INTEGER PRIMARY KEY, slug TEXT UNIQUE NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL, author TEXT NOT NULL)"""


class Database:
    """One connection, used from one thread at a time."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, check_same_thread=False)
        self.connection.row_factory = sqlite3.Row

    async def create(self) -> None:
        """Create what is not there."""
        await run_sync(self.connection.execute)(SCHEMA)

    async def fetch(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """All rows."""

        def read() -> list[dict[str, Any]]:
            return [dict(row) for row in self.connection.execute(query, values)]

        return await run_sync(read)()

    async def execute(self, query: str, values: Sequence[Any] = ()) -> int:
        """Change something; returns the id of the last row."""

        def write() -> int:
            with self.connection:
                return self.connection.execute(query, values).lastrowid or 0

        return await run_sync(write)()

    async def close(self) -> None:
        """Close the connection."""
        await run_sync(self.connection.close)()
