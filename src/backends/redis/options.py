"""What a Redis URL says, checked."""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ...broadcast.backend import redact_url
from ...errors import ConfigError

PORT = 6379
PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
TCP = ("redis", "valkey")
TLS = ("rediss", "valkeys")
UNIX = ("unix", "redis+unix", "valkey+unix")
SCHEMES = (*TCP, *TLS, *UNIX)


@dataclass(frozen=True, slots=True)
class Options:
    """Where the server is, who we are there, and how the backend behaves. Shows no password.

    Args:
        host: name or address; empty with *socket*.
        port: of *host*.
        socket: path of a unix socket; empty with *host*.
        user: of the server's ACL; empty for its default user.
        password: empty when the server wants none.
        db: number of the database.
        prefix: what all keys and pub/sub channels begin with.
        durable: the server keeps what it acknowledged over a restart (AOF, standalone).
        connect_timeout: seconds a connection may take until the server has answered.
        heartbeat: seconds of silence after which the server is asked for a sign of life; after as many again without
            one the link counts as dead.
        probe: seconds between two messages to ourselves, which show that what is published arrives.
        meta: seconds a channel is remembered after its last use, beyond what it keeps.
        name: what this client is called in the server's list of clients.
        tls: the link is encrypted.
        tls_ca: file of the certificates that may sign the server's; those of the system otherwise.
        tls_cert: file of our own certificate, where the server wants one.
        tls_key: file of its key.
        tls_verify: False accepts any certificate.
    """

    host: str = ""
    port: int = PORT
    socket: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    prefix: str = "samovar"
    durable: bool = False
    connect_timeout: float = 2.0
    heartbeat: float = 2.0
    probe: float = 15.0
    meta: float = 86_400.0
    name: str = "samovar"
    tls: bool = False
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_verify: bool = True

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Read *url*; see :class:`~samovar.backends.redis.RedisBackend` for its forms and options.

        Raises:
            ConfigError: it cannot work; the message names what, and shows no password.
        """
        parts = _split(url)
        values: dict[str, Any] = {"tls": parts.scheme in TLS, **_login(url, parts)}
        if parts.scheme in UNIX:
            values |= _unix(url, parts)
        else:
            values |= _tcp(url, parts)
        values |= _query(url, parts, tcp=parts.scheme not in UNIX)
        options = cls(**values)
        options._check_tls(url)
        return options

    def _check_tls(self, url: str) -> None:
        """The files for TLS are there, and there is TLS."""
        for name in ("tls_ca", "tls_cert", "tls_key"):
            path = getattr(self, name)
            if path and not self.tls:
                raise _wrong(url, f"{name} needs rediss://, which encrypts")
            if path and not Path(path).is_file():
                raise _wrong(url, f"{name}={path} is no file")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise _wrong(url, "tls_cert and tls_key are given together")

    @property
    def where(self) -> str:
        """The server in words, for logs: no user, no password."""
        if self.socket:
            return self.socket
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def context(self) -> ssl.SSLContext | None:
        """How to encrypt; None: not at all.

        Raises:
            OSError: a file cannot be read or is no certificate.
        """
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.tls_ca or None)
        if self.tls_cert:
            context.load_cert_chain(self.tls_cert, self.tls_key)
        if not self.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _wrong(url: str, why: str) -> ConfigError:
    return ConfigError(f"{redact_url(url)!r}: {why}")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        # The reason in the exception may quote a password that was not percent-encoded.
        hint = "host and port do not read; special characters in a password are percent-encoded (@ as %40, # as %23)"
        raise _wrong(url, hint) from None
    behind = parts.path + parts.fragment
    if parts.query.partition("=")[0] not in _READERS:
        behind += parts.query
    begins = url.lstrip().lower().startswith(f"{parts.scheme}://")
    if parts.scheme != "unix" and (not begins or ("@" in behind and "@" not in parts.netloc)):
        # Perhaps the end of a password, which no message may show.
        hint = "it begins redis://:password@host, and in a password / is written %2F, ? %3F, # %23 and @ %40"
        raise ConfigError(f"a URL of Redis does not read: {hint}")
    if parts.fragment:
        raise _wrong(url, "a URL of Redis has no '#'; in a password it is written %23")
    return parts


def _login(url: str, parts: SplitResult) -> dict[str, Any]:
    """User and password."""
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if user and not password:
        raise _wrong(url, "a user comes with a password: user:password@, or :password@ for the default user")
    return {"user": user, "password": password}


def _tcp(url: str, parts: SplitResult) -> dict[str, Any]:
    """Host, port and database of ``redis://host:port/db``."""
    database = parts.path.strip("/")
    found: dict[str, Any] = {"host": parts.hostname or "localhost", "port": parts.port or PORT}
    if database:
        if not (database.isascii() and database.isdigit() and len(database) < 6):
            raise _wrong(url, f"the path is the number of a database, such as /0, not {parts.path!r}")
        found["db"] = int(database)
    return found


def _unix(url: str, parts: SplitResult) -> dict[str, Any]:
    """The path of ``unix:///path``."""
    if parts.hostname or not parts.path.strip("/"):
        raise _wrong(
            url, "a unix socket is named by its whole path, with three slashes: unix:///run/redis.sock"
        )
    return {"socket": unquote(parts.path)}


# --- the query ------------------------------------------------------------------------------------------------------


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("is 0 or 1")
    return text == "1"


def _seconds(text: str) -> float:
    value = float(text) if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text, re.ASCII) else math.nan
    if not value > 0:
        raise ValueError("is a number of seconds above 0, such as 2 or 0.5")
    return value


def _db(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII):
        raise ValueError("is the number of a database")
    return int(text)


def _prefix(text: str) -> str:
    if not PREFIX.fullmatch(text):
        raise ValueError("is 1 to 64 of A-Z a-z 0-9 _ . : -")
    return text


def _path(text: str) -> str:
    if not text:
        raise ValueError("is the path of a file")
    return text


_READERS: dict[str, Callable[[str], Any]] = {
    "prefix": _prefix,
    "durable": _flag,
    "db": _db,
    "connect_timeout": _seconds,
    "heartbeat": _seconds,
    "probe": _seconds,
    "meta": _seconds,
    "name": _prefix,
    "tls_ca": _path,
    "tls_cert": _path,
    "tls_key": _path,
    "tls_verify": _flag,
}
assert set(_READERS) <= {item.name for item in fields(Options)}


def _query(url: str, parts: SplitResult, *, tcp: bool) -> dict[str, Any]:
    """The options behind the '?'."""
    found: dict[str, Any] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _READERS or name in found or (name == "db" and tcp and parts.path.strip("/")):
            known = ", ".join(_READERS)
            raise _wrong(url, f"the options are {known}, each once, not {name!r}")
        try:
            found[name] = _READERS[name](text)
        except ValueError as error:
            raise _wrong(url, f"{name} {error}, not {text!r}") from None
    return found
