"""The answer to a long-poll, read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..wrappers.response import Response


@dataclass(frozen=True, slots=True)
class PollAnswer:
    """What one poll brought.

    Args:
        response: the response it was read from.
        messages: the envelopes, oldest first; empty on 204 and 304.
        cursor: where the next poll goes on; from the body, else from ``Samovar-Cursor``, else from the ETag.
        more: True when another poll would answer at once.
        gaps: the gaps, each ``{"channel", "gap": …}`` as the door wrote it.
        recovered: False when something may have been missed, None when the answer does not say.
    """

    response: Response
    messages: list[Any] = field(default_factory=list)
    cursor: str | None = None
    more: bool = False
    gaps: list[Any] = field(default_factory=list)
    recovered: bool | None = None

    @property
    def status_code(self) -> int:
        """The status code of the response."""
        return self.response.status_code

    @property
    def etag(self) -> str | None:
        """The ETag header, quotes and all, as ``If-None-Match`` takes it."""
        return self.response.headers.get("etag")


async def read_poll(response: Response) -> PollAnswer:
    """Read *response*; an answer other than 200 in JSON has no messages."""
    headers = response.headers
    etag = headers.get("etag")
    cursor = headers.get("samovar-cursor") or (etag.removeprefix("W/").strip('"') if etag else None)
    if response.status_code != 200 or response.mimetype != "application/json":
        return PollAnswer(response, cursor=cursor)
    body = await response.get_json()
    return PollAnswer(
        response,
        messages=body.get("messages", []),
        cursor=body.get("cursor", cursor),
        more=bool(body.get("more", False)),
        gaps=body.get("gaps", []),
        recovered=body.get("recovered"),
    )
