"""A cookie jar for tests: RFC 6265 as far as a client of one app needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import unquote

from werkzeug.http import dump_cookie, parse_cookie, parse_date


@dataclass(frozen=True, slots=True)
class Cookie:
    """One cookie as a browser keeps it.

    Args:
        name: its name.
        value: its value, decoded.
        domain: the host it belongs to, lower case, without a leading dot.
        path: the path it is sent to, and below.
        host_only: True when it goes to ``domain`` itself and not to its subdomains (section 5.3, step 6).
        secure: True when it goes over https and wss only; to this machine also without, as browsers have it.
        expires: when it ends, in seconds of the epoch; None for a session cookie.
        attributes: every attribute of the header, names in lower case.
    """

    name: str
    value: str
    domain: str = "localhost"
    path: str = "/"
    host_only: bool = True
    secure: bool = False
    expires: float | None = None
    attributes: dict[str, str] = field(default_factory=dict, compare=False)

    def goes_to(self, scheme: str, host: str, path: str) -> bool:
        """Whether it is sent with a request for *path* at *host* (section 5.4)."""
        same_host = host == self.domain or (not self.host_only and domain_matches(host, self.domain))
        secure = scheme in ("https", "wss") or _is_this_machine(host)
        return same_host and path_matches(path, self.path) and (secure or not self.secure)


def domain_matches(host: str, domain: str) -> bool:
    """Section 5.1.3: *host* is *domain* or a subdomain of it; addresses match only themselves."""
    if host == domain:
        return True
    return host.endswith("." + domain) and not _is_address(host)


def path_matches(path: str, prefix: str) -> bool:
    """Section 5.1.4: *path* is *prefix* or lies below it."""
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/")


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _is_this_machine(host: str) -> bool:
    """Secure Contexts, section 3.1: what goes to these hosts does not leave the machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return _is_address(host) and ip_address(host.strip("[]")).is_loopback


def _default_path(path: str) -> str:
    directory = path.rpartition("/")[0]
    return directory if directory.startswith("/") else "/"


def parse_set_cookie(header: str, *, host: str, path: str, now: float) -> Cookie | None:
    """Read one ``Set-Cookie`` header of a response from *host* and *path*; None when it must be ignored."""
    first, _, rest = header.partition(";")
    pairs = list(parse_cookie(first).items())
    if not pairs:
        return None
    attributes = dict(_attributes(rest))
    domain = attributes.get("domain", "").lstrip(".").lower()
    if domain and not domain_matches(host, domain):
        return None
    cookie_path = attributes.get("path", "")
    return Cookie(
        name=pairs[0][0],
        value=pairs[0][1],
        domain=domain or host,
        path=cookie_path if cookie_path.startswith("/") else _default_path(path),
        host_only=not domain,
        secure="secure" in attributes,
        expires=_expires(attributes, now),
        attributes=attributes,
    )


def _attributes(text: str) -> Iterator[tuple[str, str]]:
    for part in text.split(";"):
        name, _, value = part.strip().partition("=")
        if name:
            yield name.lower(), unquote(value.strip()) if name.lower() == "path" else value.strip()


def _expires(attributes: dict[str, str], now: float) -> float | None:
    try:
        return now + int(attributes["max-age"])
    except (KeyError, ValueError):
        date = parse_date(attributes.get("expires"))
        return None if date is None else date.timestamp()


class CookieJar:
    """Keeps cookies between the requests of one client.

    Args:
        clock: seconds of the epoch; a test of expiry passes its own.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._cookies: dict[tuple[str, str, str], Cookie] = {}

    def __iter__(self) -> Iterator[Cookie]:
        return iter(list(self._cookies.values()))

    def __len__(self) -> int:
        return len(self._cookies)

    def set(self, cookie: Cookie) -> None:
        """Keep *cookie* in place of its namesake; one that has expired only removes it."""
        self.delete(cookie.name, cookie.domain, cookie.path)
        if cookie.expires is None or cookie.expires > self._clock():
            self._cookies[cookie.domain, cookie.path, cookie.name] = cookie

    def get(self, name: str, domain: str = "localhost", path: str = "/") -> Cookie | None:
        """Return the cookie of exactly this name, domain and path."""
        return self._cookies.get((domain, path, name))

    def delete(self, name: str, domain: str = "localhost", path: str = "/") -> None:
        """Forget the cookie of exactly this name, domain and path; none is no error."""
        self._cookies.pop((domain, path, name), None)

    def read(self, headers: Iterable[str], *, host: str, path: str) -> None:
        """Take what the ``Set-Cookie`` *headers* of a response from *host* and *path* say."""
        for header in headers:
            cookie = parse_set_cookie(header, host=host, path=path, now=self._clock())
            if cookie is not None:
                self.set(cookie)

    def header(self, *, scheme: str, host: str, path: str, given: str = "") -> str:
        """Return the ``Cookie`` header for a request, longest paths first (section 5.4); may be empty.

        Args:
            given: a header of the test's own; its cookies come first and win over their namesakes.
        """
        now = self._clock()
        own = {pair.partition("=")[0].strip() for pair in given.split(";")}
        sent = [
            cookie
            for cookie in self._cookies.values()
            if cookie.goes_to(scheme, host, path)
            and (cookie.expires is None or cookie.expires > now)
            and cookie.name not in own
        ]
        sent.sort(key=lambda cookie: -len(cookie.path))
        return "; ".join([*([given] if given else []), *(_pair(cookie) for cookie in sent)])


def _pair(cookie: Cookie) -> str:
    # dump_cookie quotes the value as a browser gives it back: name=value comes first, attributes behind ";"
    return dump_cookie(cookie.name, cookie.value, path=None, max_size=0).partition(";")[0]
