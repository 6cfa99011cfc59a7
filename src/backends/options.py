"""What the URL of a backend says, checked: what the options of all of ours have in common.

A broker's options class declares its own fields, what reads them, and the :class:`Form` of its URLs. Whatever is wrong
with a URL is said here, with the setting named. No message shows a password, and neither the end of one that was not
percent-encoded, wherever in the URL it got to by that.
"""

from __future__ import annotations

import math
import re
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ..broadcast.backend import redact_url
from ..errors import ConfigError

Reader: TypeAlias = Callable[[str], Any]
"""Reads the value of an option; its ValueError says what the value is instead, such as "is 0 or 1"."""


# --- what options are -----------------------------------------------------------------------------------------------


def flag(text: str) -> bool:
    """Read 0 or 1."""
    if text not in ("0", "1"):
        raise ValueError("is 0 or 1")
    return text == "1"


def seconds(text: str) -> float:
    """Read a duration."""
    value = float(text) if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text, re.ASCII) else math.nan
    if not value > 0:
        raise ValueError("is a number of seconds above 0, such as 2 or 0.5")
    return value


def file(text: str) -> str:
    """Read the path of a file."""
    if not text:
        raise ValueError("is the path of a file")
    return text


def whole(text: str) -> int:
    """Read a number of at most eleven digits."""
    if not re.fullmatch(r"\d{1,11}", text, re.ASCII) or not int(text):
        raise ValueError("is a whole number above 0")
    return int(text)


TIMES: Mapping[str, Reader] = {"connect_timeout": seconds, "heartbeat": seconds, "probe": seconds}
TLS: Mapping[str, Reader] = {"tls_ca": file, "tls_cert": file, "tls_key": file, "tls_verify": flag}


def read_query(
    shown: str, query: str, readers: Mapping[str, Reader], *, known: str, given: Collection[str] = ()
) -> dict[str, Any]:
    """The options behind the '?' of a URL, by name.

    Args:
        shown: the URL, for messages.
        query: what stands behind its '?'.
        readers: what reads each option.
        known: which options there are, in words.
        given: options that the rest of the URL has given already.

    Raises:
        ConfigError: an option is unknown, given twice, or has a value that cannot be.
    """
    found: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in readers or name in found or name in given:
            raise ConfigError(f"{shown!r}: {known}, each once, not {name!r}")
        try:
            found[name] = readers[name](text)
        except ValueError as error:
            raise ConfigError(f"{shown!r}: {name} {error}, not {text!r}") from None
    return found


# --- the URL of a broker --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """How the URLs of a broker read.

    Args:
        broker: its name.
        begins: how one begins that has a password.
        plain: the scheme without TLS.
        secure: the scheme with TLS.
        readers: what reads each option of the query.
        paths: schemes with the path of a file behind them, in which an '@' has nothing to do with a password.
    """

    broker: str
    begins: str
    plain: str
    secure: str
    readers: Mapping[str, Reader]
    paths: Collection[str] = ()


class BrokerUrl:
    """A URL of a broker, in its parts.

    Args:
        url: as it is written.
        form: how it should read.

    Raises:
        ConfigError: it does not read.
    """

    def __init__(self, url: str, form: Form) -> None:
        self._shown = redact_url(url)
        self._form = form
        self.parts: SplitResult = self._split(url)

    def wrong(self, why: str) -> ConfigError:
        """What to raise for a URL that cannot work."""
        return ConfigError(f"{self._shown!r}: {why}")

    def query(self, given: Collection[str]) -> dict[str, Any]:
        """The options of the query, none of which is *given* by the rest of the URL already.

        Raises:
            ConfigError: see :func:`read_query`.
        """
        readers = self._form.readers
        known = f"the options are {', '.join(readers)}"
        return read_query(self._shown, self.parts.query, readers, known=known, given=given)

    def _split(self, url: str) -> SplitResult:
        form = self._form
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            # The reason in the exception may quote a password that was not percent-encoded.
            hint = "special characters in a password are percent-encoded (@ as %40, # as %23)"
            raise self.wrong(f"host and port do not read; {hint}") from None
        if parts.scheme not in form.paths and (not _has_slashes(url, parts) or self._is_cut(parts)):
            hint = f"it begins {form.begins}, and in a password / is written %2F, ? %3F, # %23 and @ %40"
            raise ConfigError(f"a URL of {form.broker} does not read: {hint}")
        if parts.fragment:
            raise self.wrong(f"a URL of {form.broker} has no '#'; in a password it is written %23")
        return parts

    def _is_cut(self, parts: SplitResult) -> bool:
        """Whether what stands behind the host is perhaps the end of a password, which no message may show."""
        behind = parts.path + parts.fragment
        if parts.query.partition("=")[0] not in self._form.readers:
            behind += parts.query
        return "@" in behind and "@" not in parts.netloc


def _has_slashes(url: str, parts: SplitResult) -> bool:
    return url.lstrip().lower().startswith(f"{parts.scheme}://")


# --- the options of a broker ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BrokerOptions(ABC):
    """Where a broker is, who we are there, and how the links to it behave. Shows no password.

    Args:
        host: name or address.
        port: of *host*.
        user: known to the server.
        password: of *user*.
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

    form: ClassVar[Form]

    host: str = "localhost"
    port: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
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
        """Read *url*; see the backend's class for its form and options.

        Raises:
            ConfigError: it cannot work; the message names what, and shows no password.
        """
        read = BrokerUrl(url, cls.form)
        located = cls._locate(read)
        options = cls(**located, **read.query(located))
        options._check_tls(read)
        return options

    @classmethod
    @abstractmethod
    def _locate(cls, url: BrokerUrl) -> dict[str, Any]:
        """What stands before the query: where the server is, whether by TLS, and who we are there.

        Raises:
            ConfigError: it cannot be.
        """

    def _check_tls(self, url: BrokerUrl) -> None:
        """The files for TLS are there, and there is TLS."""
        for name in ("tls_ca", "tls_cert", "tls_key"):
            path = getattr(self, name)
            if path and not self.tls:
                raise url.wrong(f"{name} needs {self.form.secure}://, which encrypts")
            if path and not Path(path).is_file():
                raise url.wrong(f"{name}={path} is no file")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise url.wrong("tls_cert and tls_key are given together")

    @property
    def address(self) -> str:
        """Host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    @abstractmethod
    def where(self) -> str:
        """The server in words, for logs: no user, no password."""

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
