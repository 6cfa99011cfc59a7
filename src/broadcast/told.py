"""What was told of joins and leaves, held against who is there.

A join or leave is noted by the broker in one step and told in another, by the worker that caused or found it. In
between the telling can fail: the broker takes no messages, the worker dies, another's word about the same key overtakes
it. Whoever goes by what is told would be wrong for ever. So every hub on which somebody does listens too, and looks now
and then who is there: a key about which that and what was told differ twice, with no word about it in between, is told
of again. The hubs that find it out together say it under one id, so that it is told once.

Pure, but for being a listener of its channel; the clock is passed in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from .channel import Channel, Follow, Offer
from .message import Event, Member, Message, Position
from .presence import Key, group_key

Word: TypeAlias = Literal["join", "leave"]
MOST_KEYS = 10_000  # of a channel: a larger one is not looked through


class Correction(NamedTuple):
    """What is to be told.

    Args:
        event: join or leave.
        member: by whom the key is there, or was.
        id: the same at every hub that heard the same.
    """

    event: Word
    member: Member
    id: str


class Told:
    """What was told on one presence channel since a first look at who is there; a sink of its channel.

    Args:
        channel: the presence channel.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._looked: float | None = None  # None: not yet
        self._keys: dict[Key, Member] | None = None  # None: not known
        self._doubted: set[Key] = set()
        self._heard: set[Key] | None = None  # during a look

    def due(self, now: float, lease: float) -> bool:
        """Whether who is there should be held against it: once a lease, and soon where it differed."""
        return self._looked is not None and now - self._looked >= (lease / 3 if self._doubted else lease)

    def listen(self) -> None:
        """Hear what is told from now on, until the channel leaves: this does not keep it from that."""
        self.channel.go_live(Follow(self.channel, self))

    # --- a sink of its channel --------------------------------------------------------------------------------------

    @property
    def offer(self) -> Offer:
        """Where the channel hands joins and leaves over."""
        return self._take

    def fell_behind(self, follow: Follow) -> None:
        """Never: there is no queue."""

    def _take(self, event: Event, size: int) -> bool:
        # What a Gap hides was told, or was not: it is told, once more perhaps, if it differs from who is there.
        if isinstance(event, Message) and (said := _read(event)) is not None:
            word, member = said
            key = group_key(member)
            self._doubted.discard(key)
            if self._heard is not None:
                self._heard.add(key)
            if self._keys is not None:
                if word == "leave":
                    self._keys.pop(key, None)
                elif len(self._keys) < MOST_KEYS:
                    self._keys[key] = member
                else:
                    self._keys = None
        return True

    # --- looking ----------------------------------------------------------------------------------------------------

    def begin_look(self) -> None:
        """Who is there is about to be asked: what is heard until the answer may be newer or older than it."""
        self._heard = set()

    def look(self, members: Sequence[Member], now: float) -> list[Correction]:
        """What is to be told, with *members* there at the time *now*; the first look is taken as told."""
        self._looked, heard, self._heard = now, self._heard, None
        there = {group_key(member): member for member in reversed(members)}
        if len(there) > MOST_KEYS:
            self._keys = None
            return []
        if self._keys is None:
            self._keys = there
            return []
        differing = (there.keys() ^ self._keys.keys()) - (heard or set())
        certain, self._doubted = differing & self._doubted, differing - self._doubted
        return [self._correction(key, there) for key in sorted(certain)]

    def _correction(self, key: Key, there: dict[Key, Member]) -> Correction:
        assert self._keys is not None
        word: Word = "join" if key in there else "leave"
        member = there[key] if key in there else self._keys[key]
        return Correction(word, member, _id(self.channel.name, self.channel.last, word, key))


def _read(message: Message) -> tuple[Word, Member] | None:
    """What a message of a presence channel says; None where it says nothing that this worker understands."""
    try:
        said = message.data
        member = Member(said["member"]["id"], said["member"]["user"], said["member"]["info"])
        if said["event"] not in ("join", "leave") or not isinstance(member.key, str):
            return None
        return said["event"], member
    except (ValueError, TypeError, KeyError):
        return None


def _id(channel: str, last: Position, word: Word, key: Key) -> str:
    text = f"{channel} {last} {word} {key[0]} {key[1]}".encode(errors="surrogatepass")
    return hashlib.sha256(text).hexdigest()[:32]
