"""Channels, positions, history, recovery and presence; usable in any asyncio program, alone.

::

    async with Hub("memory://") as hub:
        async with hub.subscribe("prices", since=cursor) as messages:
            async for message in messages:  # Message or Gap
                ...
"""

from .backend import (
    Accepted,
    Backend,
    Feature,
    Health,
    Page,
    Receiver,
    Record,
    Retention,
    State,
    open_backend,
)
from .codec import JSONCodec
from .hub import Hub
from .lease import Lease
from .message import (
    Cursor,
    Event,
    Gap,
    History,
    Kind,
    Member,
    Message,
    Occupancy,
    Position,
    Published,
    Reason,
    Since,
    Subscribed,
)
from .names import ChannelRule, Match, Rules, check_channel, presence_channel
from .policy import Latest, Policy, latest
from .subscription import Subscription

__all__ = [
    "Accepted",
    "Backend",
    "ChannelRule",
    "Cursor",
    "Event",
    "Feature",
    "Gap",
    "Health",
    "History",
    "Hub",
    "JSONCodec",
    "Kind",
    "Latest",
    "Lease",
    "Match",
    "Member",
    "Message",
    "Occupancy",
    "Page",
    "Policy",
    "Position",
    "Published",
    "Reason",
    "Receiver",
    "Record",
    "Retention",
    "Rules",
    "Since",
    "State",
    "Subscribed",
    "Subscription",
    "check_channel",
    "latest",
    "open_backend",
    "presence_channel",
]
