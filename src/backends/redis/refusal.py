"""What the server's errors mean: whose fault it is, which setting helps, and whether trying again does."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from .link import ReplyError


class Kind(Enum):
    """What to do about an error."""

    REFUSED = "refused"
    """It stays so until somebody changes something."""
    LATER = "later"
    """It passes by itself."""
    ELSEWHERE = "elsewhere"
    """This connection is the wrong one: connect again."""


class Refusal(NamedTuple):
    """An error of the server.

    Args:
        kind: what to do.
        code: its first word, such as ``OOM``.
        words: for people, with the setting that helps.
    """

    kind: Kind
    code: str
    words: str

    @property
    def lasting(self) -> bool:
        """The whole server is in a state in which it takes no writes, rather than refusing this one."""
        return self.code in ("OOM", "MISCONF", "NOREPLICAS", "NOPERM")


_KNOWN: dict[str, tuple[Kind, str]] = {
    "OOM": (
        Kind.REFUSED,
        "Redis is full: raise its maxmemory, or keep less (history, ttl, max_bytes of the rules)",
    ),
    "MISCONF": (
        Kind.REFUSED,
        "Redis cannot save to its disk and takes no writes: free the disk, or set stop-writes-on-bgsave-error no",
    ),
    "NOREPLICAS": (Kind.REFUSED, "Redis has fewer good replicas than its min-replicas-to-write"),
    "NOPERM": (
        Kind.REFUSED,
        "the user of the URL lacks rights: give it those of the ACL rule in the documentation",
    ),
    "LOADING": (Kind.LATER, "Redis is loading its data"),
    "BUSY": (Kind.LATER, "Redis is busy with somebody's script (busy-reply-threshold, SCRIPT KILL)"),
    "TRYAGAIN": (Kind.LATER, "Redis asks to try again"),
    "READONLY": (Kind.ELSEWHERE, "the server is a replica now: the URL must lead to the primary"),
    "MASTERDOWN": (
        Kind.ELSEWHERE,
        "the server is a replica without its primary: the URL must lead to the primary",
    ),
    "CLUSTERDOWN": (
        Kind.ELSEWHERE,
        "the server belongs to a cluster, which is not supported: cluster-enabled no",
    ),
    "MOVED": (Kind.ELSEWHERE, "the server belongs to a cluster, which is not supported: cluster-enabled no"),
    "NOAUTH": (
        Kind.ELSEWHERE,
        "Redis wants a password: redis://:PASSWORD@host or redis://USER:PASSWORD@host",
    ),
    "WRONGPASS": (Kind.ELSEWHERE, "Redis does not accept the user and password of the URL"),
    "DENIED": (
        Kind.ELSEWHERE,
        "Redis is in protected mode and takes no connections from other hosts: set a password",
    ),
}
# Inside a script Redis 6.2 puts the code behind a dash: "ERR Error running script …: -OOM command not allowed".
_CODE = re.compile(rf"(?:^|[\s-])({'|'.join(_KNOWN)})\b")
# How scripts say NOPERM, without the code: Redis 7; Valkey.
_SCRIPT_ACL = re.compile(r"can't run this command|ACL failure in script|has no permissions to")


def refusal(error: ReplyError) -> Refusal:
    """What *error* means."""
    text = str(error)
    found = _CODE.search(text)
    code = found[1] if found else "NOPERM" if _SCRIPT_ACL.search(text) else ""
    if not code:
        first = text.partition(" ")[0]
        return Refusal(Kind.REFUSED, first, f"Redis refused: {text:.200}")
    kind, words = _KNOWN[code]
    return Refusal(kind, code, f"{words} ({text:.200})")
