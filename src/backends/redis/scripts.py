"""The scripts that run inside the server, each atomic; they lie in the folder of that name."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import NamedTuple

from ...broadcast.backend import DEFAULT_RETENTION, Retention
from ..memory import new_epoch
from .link import Argument
from .reading import Keys, milliseconds

VERSION_BIAS = 2**63  # makes versions unsigned, so that their digits compare as they do
DEFAULT = (DEFAULT_RETENTION.messages, milliseconds(DEFAULT_RETENTION.seconds), DEFAULT_RETENTION.bytes)


class Script(NamedTuple):
    """One script: its text, and the name under which the server keeps it."""

    source: bytes
    sha: bytes


def _load(name: str) -> Script:
    source = files(__package__).joinpath("scripts", f"{name}.lua").read_bytes()
    return Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())


PUBLISH = _load("publish")
CREATE = _load("create")
CLEAR = _load("clear")
TOUCH = _load("touch")
LEAVE = _load("leave")
SCRIPTS = (PUBLISH, CREATE, CLEAR, TOUCH, LEAVE)


def publishing(
    keys: Keys,
    channel: str,
    envelope: bytes,
    *,
    id: str,
    term: str,
    suffix: str,
    outlive: int,
    retention: Retention | None = None,
    version: int | None = None,
    remember: int = 0,
) -> list[Argument]:
    """The command that publishes one record.

    Args:
        keys: names of keys.
        channel: its name.
        envelope: the record.
        id: remembered for *remember* milliseconds.
        term: the process of the server, or its time as primary.
        suffix: what epochs are joined with.
        outlive: milliseconds the channel is remembered beyond what it keeps.
        retention: None leaves it as it is.
        version: from -2**63 to 2**63 - 1.
        remember: 0 does not look for the id either.
    """
    of = keys.of
    kept: tuple[Argument, ...] = ("", "", "")
    if retention is not None:
        kept = (retention.messages, milliseconds(retention.seconds), retention.bytes)
    return [
        "EVALSHA", PUBLISH.sha, 3, of(channel, "meta"), of(channel, "log"), of(channel, f"id:{id}"),
        envelope, keys.topic(channel), term, suffix, new_epoch(), remember, outlive,
        *kept, "" if version is None else f"{version + VERSION_BIAS:020d}", *DEFAULT,
    ]  # fmt: skip


def clearing(
    keys: Keys, channel: str, *, term: str, suffix: str, outlive: int, only: str = ""
) -> list[Argument]:
    """Keys and arguments of the script that begins a channel anew; with *only*, if that is its epoch."""
    call: list[Argument] = [2, keys.of(channel, "meta"), keys.of(channel, "log")]
    call += [keys.topic(channel), term, suffix, new_epoch(), outlive]
    return [*call, only] if only else call
