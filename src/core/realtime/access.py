"""Who may do what with a channel: the rules asked, and a websocket's origin.

A rule's function is asked when a subscription starts or resumes, in the request's (or websocket's) context, with the
pattern's values as arguments. A channel without a rule is open to route code, which names it; the function of a rule
answers for everybody else. ``hub.*`` is trusted code and never asks.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from ...broadcast import ChannelRule, Rules
from ...broadcast.names import PresenceChannel
from ...errors import ConfigError
from ..ctx import required_context

logger: logging.Logger = logging.getLogger("samovar.channels")

AccessFunction: TypeAlias = "Callable[..., bool | Access | Awaitable[bool | Access]]"


@dataclass(frozen=True, slots=True)
class Access:
    """What a rule's function grants; a bare True stands for ``Access()``.

    Args:
        user: who this is, instead of what ``app.identify`` says.
        info: JSON data shown to others in presence.
        expires: when the access ends, in seconds since 1970: the rule is asked again then; None never.
    """

    user: str | None = None
    info: Any = None
    expires: float | None = None


GRANTED = Access()


class ChannelAccess:
    """The app's channel rules with the functions that guard them, and who connections are.

    Args:
        ensure_async: makes a plain function awaitable off the loop; the app passes its own.
    """

    def __init__(self, ensure_async: Callable[[Callable[..., Any]], Callable[..., Awaitable[Any]]]) -> None:
        self.rules: Rules = Rules()
        self.declared: list[ChannelRule] = []
        self._ensure_async = ensure_async
        self._functions: dict[str, Callable[..., Awaitable[Any]]] = {}
        self._identify: Callable[..., Awaitable[Any]] | None = None
        self._beginnings: dict[str, str] = {}  # of guarded patterns that nobody was warned about yet

    def add(self, rule: ChannelRule, function: AccessFunction | None = None) -> None:
        """Declare *rule*; *function* says who may subscribe.

        Raises:
            InvalidRule: the pattern is malformed or ties with another rule's.
        """
        self.rules.add(rule)
        self.declared.append(rule)
        if function is not None:
            self._functions[rule.pattern] = self._ensure_async(function)
            beginning, variable, _ = rule.pattern.partition("<")
            if beginning and variable:
                self._beginnings[beginning] = rule.pattern

    def identify_with(self, function: Callable[[], str | Awaitable[str | None] | None]) -> None:
        """Have *function* name the user of a connection."""
        self._identify = self._ensure_async(function)

    @property
    def identifies(self) -> bool:
        """A function names users."""
        return self._identify is not None

    async def user(self) -> str | None:
        """Who the active connection is, None for anonymous; the app's function is asked once for each.

        Raises:
            TypeError: the app's function returned neither a str nor None.
        """
        if self._identify is None:
            return None
        connection = required_context("app.identify").connection
        if connection is not None and connection.identified is not None:
            return connection.identified[0]
        user: str | None = await self._identify()
        if user is not None and not isinstance(user, str):
            raise TypeError(f"the function given to app.identify must return a str or None, not {user!r}")
        if connection is not None:
            connection.identified = (user,)
        return user

    def guarded(self, rule: ChannelRule) -> str | None:
        """The name of the function that guards *rule*, None without one."""
        function = self._functions.get(rule.pattern)
        return None if function is None else name_of(function)

    def guards(self, channel: str) -> bool:
        """A function says who may subscribe to *channel*."""
        rule = self.rule(asked_about(channel))
        if rule is None:
            self._warn_of_neighbour(asked_about(channel))
            return False
        return rule.pattern in self._functions

    def _warn_of_neighbour(self, channel: str) -> None:
        """Say, once for each pattern, that *channel* goes past a guard by beginning like its channels and going on
        otherwise: a name that comes from a URL in part is seldom meant to."""
        for beginning in [beginning for beginning in self._beginnings if channel.startswith(beginning)]:
            logger.warning(
                "nobody was asked who may follow %r: it begins like the guarded %r and does not match it. "
                "Give it a rule of its own",
                channel,
                self._beginnings.pop(beginning),
            )

    def rule(self, channel: str) -> ChannelRule | None:
        """The rule that *channel* falls under, None without one."""
        match = self.rules.match(channel)
        return None if match is None else match[0]

    async def ask(self, channel: str) -> Access | None:
        """What the rule of *channel* grants to the connection whose context is active; None is a refusal.

        An access that has expired already is one too. About who is in a channel, that channel's rule is asked.

        Raises:
            TypeError: the rule's function returned neither a bool nor an :class:`Access`.
        """
        match = self.rules.match(asked_about(channel))
        if match is None:
            self._warn_of_neighbour(asked_about(channel))
            return GRANTED
        rule, values = match
        function = self._functions.get(rule.pattern)
        if function is None:
            return GRANTED
        answer = await function(**values)
        if isinstance(answer, Access):
            return None if answer.expires is not None and answer.expires <= time.time() else answer
        if isinstance(answer, bool):
            return GRANTED if answer else None
        name = name_of(function)
        raise TypeError(
            f"{name}, asked about the channel {channel!r}, must return a bool or an Access, not {answer!r}"
        )


def asked_about(channel: str) -> str:
    """The channel whose rule holds for *channel*: itself, or the one whose joins and leaves it tells."""
    return channel.watched if isinstance(channel, PresenceChannel) else channel


def name_of(function: Callable[..., Any]) -> str:
    """How a guard is called in messages."""
    return str(getattr(inspect.unwrap(function), "__qualname__", repr(function)))


# --- origin -----------------------------------------------------------------------------------------------------------

DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


def origin_allowed(origin: str | None, host: str | None, allowed: Collection[str] | None = None) -> bool:
    """Whether a websocket may come from *origin*, the page's (RFC 6455, section 10.2; CWE-1385).

    Args:
        origin: the ``Origin`` header; without one the client is no browser, and passes.
        host: the ``Host`` header.
        allowed: origins that pass beside the own one, such as ``https://app.example.com``; ``*`` lets all pass.

    The own origin is the one whose authority equals *host*: default ports are dropped, the scheme is not compared,
    since TLS often ends at a proxy. ``null``, the origin of sandboxed pages and files, does not pass.
    """
    if origin is None:
        return True
    if allowed and (
        "*" in allowed or origin.lower().rstrip("/") in {entry.lower().rstrip("/") for entry in allowed}
    ):
        return True
    page = _authority(origin)
    return page is not None and host is not None and page == _authority(f"//{host}", _scheme(origin))


def check_origins(value: object) -> tuple[str, ...]:
    """The setting ``WEBSOCKET_ALLOWED_ORIGINS``, checked.

    Raises:
        ConfigError: it is neither None nor a list of origins or ``*``.
    """
    if value is None:
        return ()
    entries = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Collection) else None
    if entries is None:
        raise ConfigError(f"WEBSOCKET_ALLOWED_ORIGINS takes a list of origins, not {value!r}")
    for entry in entries:
        if entry != "*" and (not isinstance(entry, str) or _authority(entry) is None):
            raise ConfigError(
                f"WEBSOCKET_ALLOWED_ORIGINS: {entry!r} is no origin such as 'https://app.example.com', nor '*'"
            )
    return entries


def _scheme(origin: str) -> str:
    return origin.partition(":")[0].lower()


def _authority(url: str, scheme: str = "") -> tuple[str, int | None] | None:
    """Host and port of *url*, the port None when it is the scheme's default one; None when it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname or parts.username is not None or (not scheme and not parts.scheme):
        return None
    scheme = scheme or parts.scheme
    return parts.hostname, None if port == DEFAULT_PORTS.get(scheme) else port
