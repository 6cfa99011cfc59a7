"""Who somebody is here: a name and a colour that come with the visit, and can be changed."""

from __future__ import annotations

import hashlib
import unicodedata

MAX_NAME = 24

_FIRST = (
    "Amber Brass Bright Calm Copper Curious Dapper Early Gentle Golden Honest Jolly Lively Mellow Nimble Patient "
    "Quiet Rosy Silver Smoky Steady Sunny Warm Wry"
)
_SECOND = (
    "Assam Badger Ceylon Cricket Darjeeling Finch Hare Heron Keemun Kettle Lapsang Lark Magpie Marten Oolong Otter "
    "Puffin Rooibos Saucer Sencha Sparrow Sugar Teacup Wren"
)


def friendly_name(visitor: str) -> str:
    """A name for a visitor's id, always the same one: ``Copper Heron``."""
    seed, first, second = _seed(visitor), _FIRST.split(), _SECOND.split()
    return f"{first[seed % len(first)]} {second[seed // 97 % len(second)]}"


def hue(visitor: str) -> int:
    """A colour for a visitor's id, in degrees of the colour wheel."""
    return _seed(visitor) // 9973 % 360


def _seed(visitor: str) -> int:
    return int.from_bytes(hashlib.sha256(visitor.encode()).digest()[:6])


def tidy(text: str, limit: int) -> str:
    """One line of what somebody typed: no control or direction characters, single spaces, at most *limit* characters.

    The joiner inside emoji stays.
    """
    kept = "".join(
        character if character == "\u200d" or unicodedata.category(character)[0] != "C" else " "
        for character in text
    )
    return " ".join(kept.split())[:limit].strip()
