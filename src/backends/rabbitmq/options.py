"""What an AMQP URL says, checked."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import unquote

from ..options import TIMES, TLS, BrokerOptions, BrokerUrl, Form, seconds

PORTS = {"amqp": 5672, "amqps": 5671}
NAME = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
SMALLEST = (
    8 << 20
)  # bytes; retention goes by segments, each of which has to hold several of the longest messages
SEGMENTS = 16  # of a full stream: what is dropped at a time is a sixteenth
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


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


@dataclass(frozen=True, slots=True)
class Options(BrokerOptions):
    """Where the server is, who we are there, and how the backend behaves. Shows no password.

    Args:
        vhost: the virtual host.
        stream: name of the stream queue that is the log; presence has another, with ``.presence`` behind it.
        size: bytes the stream keeps, and a worker at most remembers of it.
        age: seconds the stream keeps what it has.
        replicas: on how many nodes of a cluster the stream is created; 0 leaves it to the server.

    The others are those of :class:`~samovar.backends.options.BrokerOptions`.
    """

    form: ClassVar[Form] = Form(
        broker="RabbitMQ",
        begins="amqp://user:password@host",
        plain="amqp",
        secure="amqps",
        readers={
            "stream": _name,
            "size": _bytes,
            "age": seconds,
            "replicas": _replicas,
            **TIMES,
            "name": _name,
            **TLS,
        },
    )

    port: int = PORTS["amqp"]
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    stream: str = "samovar"
    size: int = 64 << 20
    age: float = 600.0
    replicas: int = 0

    @classmethod
    def _locate(cls, url: BrokerUrl) -> dict[str, Any]:
        parts = url.parts
        if "/" in parts.path[1:]:
            raise url.wrong(
                "the path is the virtual host, such as /shop, with its own slashes written %2F, "
                f"not {parts.path!r}"
            )
        return {
            "host": parts.hostname or "localhost",
            "port": parts.port or PORTS[parts.scheme],
            "vhost": unquote(parts.path[1:]) or "/",
            "tls": parts.scheme == cls.form.secure,
            **_login(url),
        }

    @property
    def where(self) -> str:
        """The server and its virtual host in words, for logs: no user, no password."""
        return self.address + ("" if self.vhost == "/" else f"/{self.vhost}")

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


def _login(url: BrokerUrl) -> dict[str, Any]:
    """User and password; RabbitMQ's own guest where the URL names nobody."""
    parts = url.parts
    if parts.username is None and parts.password is None:
        return {}
    if not parts.username or not parts.password:
        raise url.wrong("a user comes with a password: user:password@")
    return {"user": unquote(parts.username), "password": unquote(parts.password)}
