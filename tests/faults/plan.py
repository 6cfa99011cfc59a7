"""What the workers of a run do: publishers and subscribers of every kind, on which channels, under which rules."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from samovar.broadcast import ChannelRule

DEEP, BRIEF, TYPING, FLOOD, LOUNGE = "deep", "brief", "typing", "flood", "lounge"
LOSSY = "lossy"  # what subscribers are called that chose to miss messages rather than be late


@dataclass(frozen=True)
class Plan:
    """The same for all workers of a run.

    Args:
        run: stands in every id, so that nothing left over from another run is taken for ours.
        seed: of everything random in the workers.
        deep: channels that keep everything.
        brief: channels that keep 20 messages, so that who is slow or away gets Gaps.
        typing: channels that keep nothing.
        hubs: per worker.
        publishers: per hub.
        rate: publishes a second of each publisher; 0: as fast as it goes.
        body: bytes of each payload.
        steady: subscribers per hub that follow all channels and never go.
        movers: subscribers per hub that follow all channels, go, and come back with their cursor.
        slow: subscribers per hub that read ``slow_bytes`` a second until the publishers have ended.
        lossy: as many that are slow under ``drop_oldest``, and as many under ``latest()``.
        slow_bytes: a second.
        strangers: tasks per hub that come with cursors that cannot be recovered.
        clients: subscribers per hub that follow one channel each and all come back at once at each storm.
        heads: the worker writes the heads at the end itself, since nobody else can ask (memory).
        mutant: the safeguard that the workers run without, of ``mutants.py``; none when empty.
        patience: ``publish_timeout`` and ``join_timeout`` in seconds.
        lounges: channels that are there for who is in them.
        guests: members per hub that come and go there.
        watchers: subscribers per hub that follow their coming and going.
        lease: seconds a member outlives its worker.
        slack: seconds beyond that for which it may still be listed: what a busy machine holds up.
    """

    run: str
    seed: int = 0
    deep: int = 12
    brief: int = 3
    typing: int = 1
    hubs: int = 1
    publishers: int = 2
    rate: float = 60.0
    body: int = 40
    steady: int = 2
    movers: int = 1
    slow: int = 1
    lossy: int = 0
    slow_bytes: int = 1000
    strangers: int = 1
    clients: int = 0
    heads: bool = False
    mutant: str = ""
    patience: float = 2.0
    lounges: int = 0
    guests: int = 4
    watchers: int = 1
    lease: float = 30.0
    slack: float = 1.0

    @property
    def channels(self) -> list[str]:
        """All of them."""
        return [f"{DEEP}/{n}" for n in range(self.deep)] + sorted(self.shallow)

    @property
    def rooms(self) -> list[str]:
        """Where guests come and go."""
        return [f"{LOUNGE}/{n}" for n in range(self.lounges)]

    @property
    def shallow(self) -> frozenset[str]:
        """Those that keep little or nothing."""
        brief = {f"{BRIEF}/{n}" for n in range(self.brief)} | {FLOOD}
        return frozenset(brief | {f"{TYPING}/{n}" for n in range(self.typing)})

    @property
    def rules(self) -> list[ChannelRule]:
        """How much they keep."""
        return [
            ChannelRule(f"{DEEP}/<n>", history=100_000, ttl=3600.0, max_bytes=1 << 28),
            ChannelRule(f"{BRIEF}/<n>", history=20, ttl=3600.0),
            ChannelRule(f"{TYPING}/<n>", history=0),
            ChannelRule(FLOOD, history=20, ttl=3600.0),
            ChannelRule(f"{LOUNGE}/<n>", history=0, presence=bool(self.lounges)),
        ]

    def dump(self) -> str:
        """As text, for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Self:
        """What :meth:`dump` wrote."""
        return cls(**json.loads(text))
