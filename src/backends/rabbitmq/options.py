"""What an AMQP URL says, checked."""

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

PORTS = {"amqp": 5672, "amqps": 5671}
NAME = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
SMALLEST = (
    8 << 20
)  # bytes; retention goes by segments, each of which has to hold several of the longest messages
SEGMENTS = 16  # of a full stream: what is dropped at a time is a sixteenth
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, slots=True)
class Options:
    """Where the server is, who we are there, and how the backend behaves. Shows no password.

    Args:
        host: name or address.
        port: of *host*.
        user: known to the server.
        password: of *user*.
        vhost: the virtual host.
        stream: name of the stream queue that is the log; presence has another, with ``.presence`` behind it.
        size: bytes the stream keeps, and a worker at most remembers of it.
        age: seconds the stream keeps what it has.
        replicas: on how many nodes of a cluster the stream is created; 0 leaves it to the server.
        connect_timeout: seconds a connection may take until the server has answered.
        heartbeat: seconds of silence after which the server is asked for a sign of life; after as many again without
            one the link counts as dead.
        probe: seconds between two messages to ourselves, which show that what is published arrives.
        name: what our connections are called in the server's list.
        tls: the links are encrypted.
        tls_ca: file of the certificates that may sign the server's; those of the system otherwise.
        tls_cert: file of our own certificate, where the server wants one.
        tls_key: file of its key.
        tls_verify: False accepts any certificate.
    """

    host: str = "localhost"
    port: int = PORTS["amqp"]
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    stream: str = "samovar"
    size: int = 64 << 20
    age: float = 600.0
    replicas: int = 0
    connect_timeout: float = 2.0
    heartbeat: float = 2.0
    probe: float = 15.0
    name: str = "samovar"
    tls: bool = False
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_verify: bool = True

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Read *url*; see :class:`~samovar.backends.rabbitmq.RabbitBackend` for its form and options.

        Raises:
            ConfigError: it cannot work; the message names what, and shows no password.
        """
        parts = _split(url)
        values: dict[str, Any] = {
            "host": parts.hostname or "localhost",
            "port": parts.port or PORTS[parts.scheme],
            "vhost": unquote(parts.path[1:]) or "/",
            "tls": parts.scheme == "amqps",
            **_login(url, parts),
            **_query(url, parts),
        }
        options = cls(**values)
        options._check_tls(url)
        return options

    def _check_tls(self, url: str) -> None:
        """The files for TLS are there, and there is TLS."""
        for name in ("tls_ca", "tls_cert", "tls_key"):
            path = getattr(self, name)
            if path and not self.tls:
                raise _wrong(url, f"{name} needs amqps://, which encrypts")
            if path and not Path(path).is_file():
                raise _wrong(url, f"{name}={path} is no file")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise _wrong(url, "tls_cert and tls_key are given together")

    @property
    def where(self) -> str:
        """The server and its virtual host in words, for logs: no user, no password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        vhost = "" if self.vhost == "/" else f"/{self.vhost}"
        return f"{host}:{self.port}{vhost}"

    @property
    def presence(self) -> str:
        """Name of the stream of who is where."""
        return f"{self.stream}.presence"

    def arguments(self, *, size: int, age: float) -> dict[str, Any]:
        """What a stream that keeps so much is declared with."""
        found: dict[str, Any] = {
            "x-queue-type": "stream",
            "x-max-length-bytes": max(size, SMALLEST),
            "x-max-age": f"{math.ceil(age)}s",
            "x-stream-max-segment-size-bytes": max(size // SEGMENTS, SMALLEST // 4),
        }
        if self.replicas:
            found["x-initial-cluster-size"] = self.replicas
        return found

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
    if not begins or ("@" in behind and "@" not in parts.netloc):
        # Perhaps the end of a password, which no message may show.
        hint = (
            "it begins amqp://user:password@host, and in a password / is written %2F, ? %3F, # %23 and @ %40"
        )
        raise ConfigError(f"a URL of RabbitMQ does not read: {hint}")
    if parts.fragment:
        raise _wrong(url, "a URL of RabbitMQ has no '#'; in a password it is written %23")
    if "/" in parts.path[1:]:
        raise _wrong(
            url,
            f"the path is the virtual host, such as /shop, with its own slashes written %2F, not {parts.path!r}",
        )
    return parts


def _login(url: str, parts: SplitResult) -> dict[str, Any]:
    """User and password; RabbitMQ's own guest where the URL names nobody."""
    if parts.username is None and parts.password is None:
        return {}
    if not parts.username or not parts.password:
        raise _wrong(url, "a user comes with a password: user:password@")
    return {"user": unquote(parts.username), "password": unquote(parts.password)}


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


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d{1,12})([KMG]?)", text, re.ASCII)
    value = int(found[1]) * UNITS[found[2]] if found else 0
    if not SMALLEST <= value <= 1 << 40:
        raise ValueError("is a number of bytes from 8M to 1024G, such as 64M")
    return value


def _replicas(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d?", text, re.ASCII):
        raise ValueError("is a number of nodes from 1 to 99")
    return int(text)


def _name(text: str) -> str:
    if not NAME.fullmatch(text) or text.startswith("amq."):
        raise ValueError("is 1 to 100 of A-Z a-z 0-9 _ . : - and does not begin with amq.")
    return text


def _path(text: str) -> str:
    if not text:
        raise ValueError("is the path of a file")
    return text


_READERS: dict[str, Callable[[str], Any]] = {
    "stream": _name,
    "size": _bytes,
    "age": _seconds,
    "replicas": _replicas,
    "connect_timeout": _seconds,
    "heartbeat": _seconds,
    "probe": _seconds,
    "name": _name,
    "tls_ca": _path,
    "tls_cert": _path,
    "tls_key": _path,
    "tls_verify": _flag,
}
assert set(_READERS) <= {item.name for item in fields(Options)}


def _query(url: str, parts: SplitResult) -> dict[str, Any]:
    """The options behind the '?'."""
    found: dict[str, Any] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _READERS or name in found:
            known = ", ".join(_READERS)
            raise _wrong(url, f"the options are {known}, each once, not {name!r}")
        try:
            found[name] = _READERS[name](text)
        except ValueError as error:
            raise _wrong(url, f"{name} {error}, not {text!r}") from None
    return found
