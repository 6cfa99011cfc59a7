"""What a Redis URL says, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import unquote

from ..options import TIMES, TLS, BrokerOptions, BrokerUrl, Form, flag, seconds

PORT = 6379
PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
SECURE = ("rediss", "valkeys")
UNIX = ("unix", "redis+unix", "valkey+unix")


def _db(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII):
        raise ValueError("is the number of a database")
    return int(text)


def _prefix(text: str) -> str:
    if not PREFIX.fullmatch(text):
        raise ValueError("is 1 to 64 of A-Z a-z 0-9 _ . : -")
    return text


@dataclass(frozen=True, slots=True)
class Options(BrokerOptions):
    """Where the server is, who we are there, and how the backend behaves. Shows no password.

    Args:
        host: name or address; empty with *socket*.
        socket: path of a unix socket; empty with *host*.
        user: of the server's ACL; empty for its default user.
        password: empty when the server wants none.
        db: number of the database.
        prefix: what all keys and pub/sub channels begin with.
        durable: the server keeps what it acknowledged over a restart (AOF, standalone).
        meta: seconds a channel is remembered after its last use, beyond what it keeps.

    The others are those of :class:`~samovar.backends.options.BrokerOptions`.
    """

    form: ClassVar[Form] = Form(
        broker="Redis",
        begins="redis://:password@host",
        plain="redis",
        secure="rediss",
        readers={
            "prefix": _prefix,
            "durable": flag,
            "db": _db,
            **TIMES,
            "meta": seconds,
            "name": _prefix,
            **TLS,
        },
        paths=("unix",),
    )

    host: str = ""
    port: int = PORT
    socket: str = ""
    db: int = 0
    prefix: str = "samovar"
    durable: bool = False
    meta: float = 86_400.0

    @classmethod
    def _locate(cls, url: BrokerUrl) -> dict[str, Any]:
        login = _login(url)
        return login | (_unix(url) if url.parts.scheme in UNIX else _tcp(url))

    @property
    def where(self) -> str:
        """The server in words, for logs: no user, no password."""
        return self.socket or self.address


def _login(url: BrokerUrl) -> dict[str, Any]:
    """User and password."""
    user, password = unquote(url.parts.username or ""), unquote(url.parts.password or "")
    if user and not password:
        raise url.wrong("a user comes with a password: user:password@, or :password@ for the default user")
    return {"user": user, "password": password}


def _tcp(url: BrokerUrl) -> dict[str, Any]:
    """Host, port and database of ``redis://host:port/db``."""
    parts = url.parts
    database = parts.path.strip("/")
    found: dict[str, Any] = {
        "host": parts.hostname or "localhost",
        "port": parts.port or PORT,
        "tls": parts.scheme in SECURE,
    }
    if database:
        if not (database.isascii() and database.isdigit() and len(database) < 6):
            raise url.wrong(f"the path is the number of a database, such as /0, not {parts.path!r}")
        found["db"] = int(database)
    return found


def _unix(url: BrokerUrl) -> dict[str, Any]:
    """The path of ``unix:///path``."""
    if url.parts.hostname or not url.parts.path.strip("/"):
        raise url.wrong(
            "a unix socket is named by its whole path, with three slashes: unix:///run/redis.sock"
        )
    return {"socket": unquote(url.parts.path)}
