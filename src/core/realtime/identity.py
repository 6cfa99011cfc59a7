"""Who a connection is, for presence: what ``app.identify`` says, once, and an id of its own."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from ...broadcast import Member
from ..globals import current_app
from .access import Access


def connection_id() -> str:
    """An id for one connection, unique among all workers."""
    return secrets.token_urlsafe(12)


async def member_for(connection: str, access: Access) -> Member:
    """The active connection as others see it: the rule's word on the user beats the app's."""
    user = await current_app.channels.user() if access.user is None else access.user
    return Member(connection, user, access.info)


async def members_for(channels: Sequence[str], granted: Sequence[Access]) -> dict[str, Member]:
    """Where this connection is to be counted: the channels whose rules want presence."""
    connection = connection_id()
    members: dict[str, Member] = {}
    for channel, access in zip(channels, granted, strict=True):
        rule = current_app.channels.rule(channel)
        if rule is not None and rule.presence:
            members[channel] = await member_for(connection, access)
    return members
