"""What becomes of a subscriber that is over its bound: the policies, by name, and the outbox each needs.

- ``heal``: the channel stops queueing for it; what is queued stays, and when it has been taken the subscriber catches
  up from what the worker remembers, else from history, else it gets a Gap. What is queued is kept, though dropping it
  and reading everything again would do too: it costs no more memory than the bound allows, spares the reads, and
  without history (``history=0``) loses less.
- ``disconnect``: it is let go.
- ``drop_oldest``: the oldest messages queued make room; a ``Gap("overflow")`` stands where they stood.
- ``latest(key)``: values that a newer one of the same key replaced make room; a ``Gap("conflated")`` stands where they
  stood. While all queued keys differ, the oldest messages go, as under ``drop_oldest``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from ..errors import ConfigError
from .counters import Counters
from .lossy import LossyOutbox
from .message import Message
from .outbox import Outbox

KeyFunction: TypeAlias = Callable[[Message], Hashable]
PolicyName: TypeAlias = Literal["heal", "disconnect", "drop_oldest"]
NAMES: tuple[PolicyName, ...] = get_args(PolicyName)
WHOLE_CHANNEL = ""
MAX_REPORTS = 100  # channels of which a failing key function is logged

logger: logging.Logger = logging.getLogger("samovar.policy")


@dataclass(frozen=True, slots=True)
class Latest:
    """The policy that conflates; made by :func:`latest`."""

    key: str | KeyFunction | None = None
    _failed: set[str] = field(default_factory=set, init=False, repr=False, compare=False, hash=False)

    def __str__(self) -> str:
        return "latest"

    def key_of(self, message: Message) -> Hashable:
        """What *message* is conflated by; None: by nothing, it has no key.

        Neither a payload without the field nor a key function that fails may stop a delivery: such messages have no
        key, and what failed is logged once a channel.
        """
        if self.key is None:
            return WHOLE_CHANNEL
        if isinstance(self.key, str):
            return _field(message, self.key)
        try:
            found = self.key(message)
            hash(found)
        except Exception:  # the application's function; the delivery to everybody else goes on
            if message.channel not in self._failed and len(self._failed) < MAX_REPORTS:
                self._failed.add(message.channel)
                logger.exception("the key function of latest(…) failed in channel %s", message.channel)
            return None
        return found


def _field(message: Message, name: str) -> Hashable:
    """That field of a JSON object, None without one that can be a key."""
    try:
        found: Hashable = message.data[name]
        hash(found)
    except (LookupError, TypeError, ValueError):
        return None
    return found


def latest(key: str | KeyFunction | None = None) -> Latest:
    """The policy that keeps a slow subscriber at the newest values, for ``policy=``.

    Over the subscriber's bound, every value that a newer one of the same channel and key replaced goes, and a
    ``Gap("conflated")`` that counts them stands before the next message that is left. Nothing goes below the bound.

    Args:
        key: the name of a field of JSON objects; or a function of the :class:`Message` that returns something
            hashable; None: one value a channel. Messages without the field, or for which the function returns None,
            replace nothing and are replaced by nothing.

    Raises:
        ConfigError: *key* is neither.
    """
    if key is not None and not isinstance(key, str) and not callable(key):
        raise ConfigError(f"latest(key) takes the name of a field or a function of the message, not {key!r}")
    return Latest(key)


Policy: TypeAlias = PolicyName | Latest


def check_policy(policy: object) -> Policy:
    """*policy*, if it is one.

    Raises:
        ConfigError: it is none; the message lists them.
    """
    if isinstance(policy, Latest):
        return policy
    for known in NAMES:
        if policy == known:
            return known
    raise ConfigError(
        f"the policies for slow subscribers are {', '.join(NAMES)} and latest(key), not {policy!r}"
    )


def make_outbox(policy: Policy, max_messages: int, max_bytes: int, counters: Counters) -> Outbox:
    """The outbox that *policy* needs.

    Raises:
        ConfigError: a bound below 1.
    """
    if isinstance(policy, Latest):
        return LossyOutbox(max_messages, max_bytes, counters=counters, policy="latest", key=policy.key_of)
    if policy == "drop_oldest":
        return LossyOutbox(max_messages, max_bytes, counters=counters, policy=policy)
    return Outbox(max_messages, max_bytes)
