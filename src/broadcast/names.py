"""What a channel may be called, the rules that patterns of names carry, and the only matcher of patterns.

A pattern is spelled as Flask spells a route, though it is not one: ``chat/<room>``, ``orders/<int:number>``,
``files/<path:name>``, ``doc/<uuid:id>``. A converter matches one spelling of each value only (``7`` but not ``07``,
UUIDs in lower case): two names never give a rule the same values.

Which of several matching patterns applies is decided from left to right, character by character: where two patterns
first differ in kind, text beats a converter, and of converters ``int`` beats ``uuid`` beats ``<x>`` beats ``path``.
Two patterns between which this decides nothing, and which share a name, *tie*: the second is refused when it is added.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from ..errors import InvalidChannel, InvalidRule

MAX_NAME = 200  # bytes; characters too, since names are ASCII
NAME = re.compile(r"[A-Za-z0-9_.:/@~-]{1,200}")
PRESENCE_PREFIX = "!"
MATCH_CACHE = 4096  # names; the table of matches is emptied when it is full


class InternalChannel(str):
    """The name of a channel of the hubs' own; users cannot write one, for it has characters that theirs have not."""

    __slots__ = ()


class PresenceChannel(InternalChannel):
    """The name of a companion channel on which joins and leaves are told; made by :func:`presence_channel`."""

    __slots__ = ()

    @property
    def watched(self) -> str:
        """The channel whose joins and leaves are told."""
        return self[len(PRESENCE_PREFIX) :]


def check_channel(name: str) -> None:
    """Check that *name* may name a channel: 1 to 200 bytes of ``A-Z a-z 0-9 _ . : / @ ~ -``.

    Raises:
        InvalidChannel: it may not; the message says why.
    """
    if isinstance(name, InternalChannel):
        return
    if not isinstance(name, str):
        raise InvalidChannel(f"the name of a channel is a str, not {type(name).__name__}")
    if NAME.fullmatch(name):
        return
    if not name:
        raise InvalidChannel("the name of a channel is empty")
    if len(name) > MAX_NAME:
        raise InvalidChannel(f"the name of a channel has at most {MAX_NAME} bytes: {name[:60]!r}… is longer")
    raise InvalidChannel(f"the name of a channel is made of A-Z a-z 0-9 _ . : / @ ~ -, which {name!r} is not")


def presence_channel(channel: str) -> PresenceChannel:
    """The channel that tells the joins and leaves of *channel*, for ``hub.subscribe`` and the doors.

    Its messages are ``{"event": "join" | "leave", "member": {"id", "user", "info"}}``. Nobody can publish on it or
    subscribe to it by writing its name. At a door the rule of *channel* is asked.

    Raises:
        InvalidChannel: *channel* is no name, or is such a channel itself.
    """
    if type(channel) is PresenceChannel:
        raise InvalidChannel(f"{channel!r} tells joins and leaves itself: it has no presence of its own")
    check_channel(channel)
    return PresenceChannel(PRESENCE_PREFIX + channel)


# --- rules ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChannelRule:
    """What holds for the channels whose names match a pattern.

    Args:
        pattern: such as ``chat/<room>``, see the module.
        history: keep at most so many messages; 0 keeps none, and every loss is a Gap.
        ttl: keep messages at most so many seconds.
        max_bytes: keep at most so many bytes of messages.
        replay: how many kept messages a subscriber gets who gives neither ``since=`` nor ``last=``.
        presence: who is there is known, and joins and leaves are told.
        public: everybody may subscribe, and shared caches may keep answers for a second.
        recheck: ask again so many seconds after the last answer whether a subscriber may stay; None: never.

    Raises:
        InvalidRule: the pattern or an option cannot work.
    """

    pattern: str
    history: int = 100
    ttl: float = 300.0
    max_bytes: int = 1 << 20
    replay: int = 0
    presence: bool = False
    public: bool = False
    recheck: float | None = None

    def __post_init__(self) -> None:
        _parse(self.pattern)
        for name, least in (("history", 0), ("max_bytes", 1), ("replay", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise InvalidRule(f"{name}= of {self.pattern!r} is an integer from {least} on, not {value!r}")
        for name in ("ttl", "recheck"):
            value = getattr(self, name)
            if value is None and name == "recheck":
                continue
            if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
                raise InvalidRule(
                    f"{name}= of {self.pattern!r} is a number of seconds above 0, not {value!r}"
                )


class Match(NamedTuple):
    """A rule that applies, and the values of its converters by their names."""

    rule: ChannelRule
    values: Mapping[str, Any]


class Rules:
    """The table of rules: which one applies to a channel."""

    def __init__(self) -> None:
        self._patterns: list[_Pattern] = []
        self._values: dict[ChannelRule, Any] = {}
        self._matches: dict[str, Match | None] = {}

    def __len__(self) -> int:
        return len(self._patterns)

    def __iter__(self) -> Iterator[ChannelRule]:
        """The rules, in the order in which they are tried."""
        return (pattern.rule for pattern in self._patterns)

    def add(self, rule: ChannelRule, value: Any = None) -> None:
        """Add *rule*; *value* is whatever the caller wants back from :meth:`value`.

        Raises:
            InvalidRule: it ties with a rule that is there; the message names both and a name that both match.
        """
        pattern = _Pattern(rule)
        for other in self._patterns:
            if other.ranks == pattern.ranks and _overlap(other.units, pattern.units):
                raise InvalidRule(
                    f"the channel rules {other.rule.pattern!r} and {rule.pattern!r} tie: some names match both, and "
                    "neither is more specific"
                )
        self._patterns.append(pattern)
        self._patterns.sort(key=lambda item: item.ranks)
        self._values[rule] = value
        self._matches.clear()

    def value(self, rule: ChannelRule) -> Any:
        """What was given with *rule*."""
        return self._values[rule]

    def match(self, channel: str) -> Match | None:
        """The rule that applies to *channel* with the converted values, None without one."""
        try:
            return self._matches[channel]
        except KeyError:
            pass
        found = next((match for p in self._patterns if (match := p.match(channel)) is not None), None)
        if len(self._matches) >= MATCH_CACHE:
            self._matches.clear()
        self._matches[channel] = found
        return found


# --- patterns -------------------------------------------------------------------------------------------------------

_ALL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/@~-")
_PART = _ALL - {"/"}
_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdef")
_DASH = frozenset("-")


class _Unit(NamedTuple):
    """One step of a pattern: one character of *chars*, or any number of them."""

    chars: frozenset[str]
    many: bool = False


class _Converter(NamedTuple):
    rank: int
    regex: str
    convert: Callable[[str], Any]
    units: tuple[_Unit, ...]


def _once(length: int) -> tuple[_Unit, ...]:
    return (_Unit(_HEX),) * length


_UUID_UNITS = (
    *_once(8), _Unit(_DASH), *_once(4), _Unit(_DASH), *_once(4), _Unit(_DASH), *_once(4), _Unit(_DASH), *_once(12)
)  # fmt: skip

CONVERTERS: Mapping[str, _Converter] = MappingProxyType(
    {
        "int": _Converter(1, r"0|[1-9][0-9]*", int, (_Unit(_DIGITS), _Unit(_DIGITS, many=True))),
        "uuid": _Converter(2, r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", UUID, _UUID_UNITS),
        "string": _Converter(3, r"[^/]+", str, (_Unit(_PART), _Unit(_PART, many=True))),
        "path": _Converter(4, r"[^/].*", str, (_Unit(_PART), _Unit(_ALL, many=True))),
    }
)
_TEXT_RANK = 0
_END_RANK = 5  # a pattern that goes on beats one that ended: what is more said is more specific

_PIECE = re.compile(r"<(?:(?P<converter>[^<>:]*):)?(?P<name>[^<>:]*)>|(?P<text>[^<>]+)|(?P<stray>[<>])")


def _parse(pattern: str) -> list[tuple[str, str]]:
    """Split a pattern into ``(converter, variable)`` and ``("", text)``."""
    if not isinstance(pattern, str) or not pattern:
        raise InvalidRule(f"the pattern of a channel rule is a str such as 'chat/<room>', not {pattern!r}")
    pieces: list[tuple[str, str]] = []
    for found in _PIECE.finditer(pattern):
        text, name, converter = found["text"], found["name"], found["converter"]
        if found["stray"]:
            raise InvalidRule(f"the pattern {pattern!r} has a {found['stray']!r} without its partner")
        if text is not None:
            if not NAME.fullmatch(text):
                raise InvalidRule(f"no channel can match {pattern!r}: {text!r} may not be part of a name")
            pieces.append(("", text))
            continue
        if not name.isidentifier() or name in (known for kind, known in pieces if kind):
            raise InvalidRule(f"the pattern {pattern!r} needs one identifier for each <…>, each used once")
        if (converter := converter if converter is not None else "string") not in CONVERTERS:
            raise InvalidRule(f"{pattern!r}: converters are {', '.join(CONVERTERS)}, not {converter!r}")
        if pieces and pieces[-1][0]:
            raise InvalidRule(f"the pattern {pattern!r} needs text between its two converters")
        pieces.append((converter, name))
    return pieces


class _Pattern:
    """A rule's pattern, made ready: a regular expression, its precedence, and its steps for :func:`_overlap`."""

    __slots__ = ("_convert", "_regex", "ranks", "rule", "units")

    def __init__(self, rule: ChannelRule) -> None:
        self.rule = rule
        regex: list[str] = []
        ranks: list[int] = []
        self.units: list[_Unit] = []
        self._convert: list[tuple[str, Callable[[str], Any]]] = []
        for kind, text in _parse(rule.pattern):
            if not kind:
                regex.append(re.escape(text))
                ranks.extend([_TEXT_RANK] * len(text))
                self.units.extend(_Unit(frozenset(char)) for char in text)
                continue
            converter = CONVERTERS[kind]
            regex.append(f"(?P<{text}>{converter.regex})")
            ranks.append(converter.rank)
            self.units.extend(converter.units)
            self._convert.append((text, converter.convert))
        self.ranks = (*ranks, _END_RANK)
        self._regex = re.compile("".join(regex))

    def match(self, channel: str) -> Match | None:
        found = self._regex.fullmatch(channel)
        if found is None:
            return None
        return Match(self.rule, MappingProxyType({name: to(found[name]) for name, to in self._convert}))


def _overlap(left: list[_Unit], right: list[_Unit]) -> bool:
    """Whether some name matches both: a walk over the pairs of places that both can have reached together."""
    todo, seen = [(0, 0)], {(0, 0)}
    while todo:
        i, j = todo.pop()
        if i == len(left) and j == len(right):
            return True
        steps: list[tuple[int, int]] = []
        if i < len(left) and left[i].many:
            steps.append((i + 1, j))
        if j < len(right) and right[j].many:
            steps.append((i, j + 1))
        if i < len(left) and j < len(right) and left[i].chars & right[j].chars:
            steps.append((i if left[i].many else i + 1, j if right[j].many else j + 1))
        for step in steps:
            if step not in seen:
                seen.add(step)
                todo.append(step)
    return False
