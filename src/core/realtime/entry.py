"""What every HTTP door asks first: where the client stands, and whether it may come in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from werkzeug.exceptions import BadRequest, Forbidden

from ...broadcast import Cursor, Since, check_channel
from ...broadcast.message import as_cursor
from ...errors import InvalidChannel, InvalidCursor
from ..globals import current_app, request
from .access import GRANTED, Access


def check_names(channels: Sequence[str]) -> tuple[str, ...]:
    """The channels a route names, checked and without repetition.

    Raises:
        ValueError: none is given, or one twice. BadRequest: a name that no channel can have; it came from the URL.
    """
    if not channels:
        raise ValueError("name at least one channel")
    if len(set(channels)) != len(channels):
        raise ValueError(f"the same channel is named twice: {', '.join(channels)}")
    for channel in channels:
        try:
            check_channel(channel)
        except InvalidChannel as error:
            raise BadRequest(str(error)) from error
    return tuple(channels)


def read_cursor(since: Since, channels: Sequence[str], *, last_event_id: bool = False) -> Cursor | None:
    """Where this request wants to go on from.

    ``Last-Event-ID`` beats ``?since=``, because an EventSource repeats the URL it was made with; a malformed one is an
    unknown place and gives a Gap, since the page cannot change it. *since*, when the route gives it, beats the query.

    Raises:
        BadRequest: a malformed ``since``.
    """
    if last_event_id and (header := request.headers.get("Last-Event-ID")):
        try:
            return _for_channels(Cursor.parse(header), channels)
        except InvalidCursor:
            return Cursor(unknown=True)
    try:
        cursor = as_cursor(request.args.get("since") if since is None else since)
        return None if cursor is None else _for_channels(cursor, channels)
    except InvalidCursor as error:
        raise BadRequest(str(error)) from error


def _for_channels(cursor: Cursor, channels: Sequence[str]) -> Cursor:
    if cursor.single is not None and len(channels) > 1:
        names = ", ".join(channels)
        raise InvalidCursor(
            f"the cursor {cursor} must name its channel, as channel=epoch:offset, one of: {names}"
        )
    return cursor


class Ask(Protocol):
    """Asks the rule of one channel."""

    async def __call__(self, channel: str, *, authorize: bool) -> Access | None:
        """What is granted, None for a refusal."""


async def ask_rule(channel: str, *, authorize: bool) -> Access | None:
    """What the rule grants to the active request, None for a refusal."""
    return await current_app.channels.ask(channel) if authorize else GRANTED


async def ask_all(channels: Sequence[str], ask: Ask = ask_rule, *, authorize: bool) -> list[Access]:
    """Ask about all *channels* in the active request's name.

    Raises:
        Forbidden: one of them refused.
    """
    granted = []
    for channel in channels:
        access = await ask(channel, authorize=authorize)
        if access is None:
            raise Forbidden(f"you may not subscribe to the channel {channel!r}")
        granted.append(access)
    return granted
