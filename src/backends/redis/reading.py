"""What lies in Redis, read: keys, meta, pages of history, members. Pure.

Everything of channel ``c`` begins with ``prefix:{c}`` (the braces would hold it together in a cluster)::

    prefix:{c}:meta     hash      epoch, newest offset, retention …        (scripts/publish.lua)
    prefix:{c}:log      stream    <offset>-<bytes before> → envelope, time
    prefix:{c}:id:<id>  string    what was answered to the publish with that id
    prefix:{c}:leases, :members, :groups      who is present             (scripts/touch.lua)
    prefix@<db>:{c}     pub/sub   <offset>:<epoch>:<envelope>; offset 0: begun anew, look

Pub/sub knows no databases, so its names have the number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...broadcast.backend import DEFAULT_RETENTION, Page, Record
from ...broadcast.message import MAX_OFFSET, Member, Position
from ...broadcast.presence import group_key
from .link import Command, Reply

META = ("e", "b", "s", "t")
LONGEST = 10 * 365 * 86_400 * 1000  # milliseconds; what is to be kept longer than ten years


class Keys:
    """Names of keys and of pub/sub channels.

    Args:
        prefix: in front of all.
        db: number of the database.
    """

    def __init__(self, prefix: str, db: int) -> None:
        self._prefix = f"{prefix}:{{"
        self._topic = f"{prefix}@{db}:{{"
        self._cut = len(self._topic)

    def of(self, channel: str, what: str) -> str:
        """The key of one thing of *channel*."""
        return f"{self._prefix}{channel}}}:{what}"

    def topic(self, channel: str) -> str:
        """Where its messages are sent."""
        return f"{self._topic}{channel}}}"

    def channel(self, topic: bytes) -> str:
        """The channel of a :meth:`topic`."""
        return topic[self._cut : -1].decode(errors="replace")


def milliseconds(seconds: float) -> int:
    """As Redis takes them: whole, at least 1."""
    return max(1, min(LONGEST, int(seconds * 1000)))


# --- history --------------------------------------------------------------------------------------------------------


class Kept(NamedTuple):
    """A channel as one read found it.

    Args:
        head: its newest position.
        records: in the order they were read, without those whose time is over and what lies before them.
        dropped: the offset of the newest one whose time is over, 0 when none is.
        rows: how many were read, with those.
        own: what the log keeps belongs to the epoch of the head.
        unborn: there is no such channel, and the head is made up.
        over: milliseconds of the server's clock; the time of what was added by then is over.
    """

    head: Position
    records: list[Record]
    dropped: int = 0
    rows: int = 0
    own: bool = True
    unborn: bool = False
    over: float = 0.0


def read_meta(meta: Sequence[Any], *, suffix: str, term: str) -> tuple[Position | None, float, bool]:
    """Head, retention in milliseconds, and whether what the log keeps belongs to the epoch of the head.

    A log written before the server's last start, or before it was primary, does not, unless the store is vouched for:
    readers see another epoch.
    """
    epoch, run, newest, ttl = meta
    if epoch is None:
        return None, 0.0, False
    head = Position(epoch.decode() + suffix, int(newest or 0))
    own = not suffix or run == term.encode()
    return head, float(ttl or DEFAULT_RETENTION.seconds * 1000), own


def read_kept(
    channel: str, replies: Sequence[Any], *, suffix: str, term: str, reverse: bool = False
) -> Kept | None:
    """The answers to TIME, HMGET and XRANGE (*reverse*: XREVRANGE), in that order; None: there is no such channel.

    Whose time is over is left out, and all before it: where the server's clock went back an older record may seem
    younger, and with it alone there would be a hole.
    """
    (seconds, micros), meta, rows, *_ = replies
    head, ttl, own = read_meta(meta, suffix=suffix, term=term)
    if head is None:
        return None
    if not own:
        return Kept(head, [], own=False)
    oldest = int(seconds) * 1000 + int(micros) // 1000 - ttl
    records: list[Record] = []
    dropped = 0
    for id, values in rows:
        offset = int(id.partition(b"-")[0])
        if offset > head.offset:
            continue  # added since meta was read
        if float(values[3]) <= oldest:
            dropped = offset
            if reverse:
                break
            records.clear()
        else:
            records.append(Record(channel, Position(head.epoch, offset), offset - 1, values[1]))
    return Kept(head, records, dropped, len(rows), over=oldest)


def page_forward(kept: Kept, since: Position | None) -> Page:
    """What lies after *since*."""
    if kept.unborn:
        return Page((), kept.head, complete=since is None)
    if since is None:
        return Page(tuple(kept.records), kept.head, complete=True)
    first = kept.records[0].prev if kept.records else kept.head.offset
    return Page(tuple(kept.records), kept.head, complete=named(kept.head, since) and first <= since.offset)


def page_backward(kept: Kept, since: Position | None, there: Sequence[Any]) -> Page:
    """What lies before *since*, newest first; *there* are the rows that lie at *since* itself: one, or none.

    What is before it is complete when something is, for only the oldest go; or when it is itself the oldest kept; or
    when it names the record to come.
    """
    if kept.unborn:
        return Page((), kept.head, complete=since is None)
    if since is None:
        return Page(tuple(kept.records), kept.head, complete=True)
    oldest = kept.own and bool(there) and float(there[0][1][3]) > kept.over
    complete = bool(kept.records) or oldest or since.offset > kept.head.offset
    return Page(tuple(kept.records), kept.head, complete)


def before_head(head: Position, since: Position) -> bool:
    """*since* is of the channel as it is, or of the record to come: something may lie before it."""
    return since.epoch == head.epoch and since.offset <= head.offset + 1


def named(head: Position, since: Position) -> bool:
    """*since* is of the channel as it is."""
    return since.epoch == head.epoch and since.offset <= head.offset


def range_forward(log: str, after: int, limit: int) -> Command:
    """Reads the records after that offset."""
    return ["XRANGE", log, min(after, MAX_OFFSET) + 1, "+", "COUNT", limit]


def range_at(log: str, offset: int) -> Command:
    """Reads the record at that offset."""
    return ["XRANGE", log, offset, offset]


def range_backward(log: str, before: int | None, limit: int) -> Command:
    """Reads the records before that offset, newest first; all without it."""
    start: str | int = "+" if before is None else max(0, before - 1)
    return ["XREVRANGE", log, start, "-", "COUNT", limit]


# --- members --------------------------------------------------------------------------------------------------------


def write_member(member: Member) -> tuple[bytes, bytes, str]:
    """Id, key and what it shows, as touch.lua takes them."""
    is_user, key = group_key(member)
    shown = json.dumps([member.id, member.user, member.info], separators=(",", ":"))
    return write_id(member.id), write_id(f"{'u' if is_user else 'c'}{key}"), shown


def write_id(id: str) -> bytes:
    """A member's id; any str, even what is not UTF-8, has bytes of its own."""
    return id.encode(errors="surrogatepass")


def read_member(shown: bytes) -> Member:
    """What :func:`write_member` wrote."""
    id, user, info = json.loads(shown)
    return Member(id, user, info)


def read_members(replies: Sequence[Any]) -> list[Member]:
    """The answers to TIME, ZRANGE … WITHSCORES and HGETALL: members with a running lease, by id.

    They are of three moments; who came or went in between is there or not, and right either way.
    """
    (seconds, micros), leases, members = replies
    now = int(seconds) * 1000 + int(micros) // 1000
    ends: Mapping[bytes, bytes] = dict(zip(leases[::2], leases[1::2], strict=True))
    shown = zip(members[::2], members[1::2], strict=True)
    present = [read_member(body) for id, body in shown if float(ends.get(id, 0)) > now]
    return sorted(present, key=lambda member: member.id)


# --- messages -------------------------------------------------------------------------------------------------------


def read_message(payload: bytes) -> tuple[int, str, bytes] | None:
    """Offset, epoch and envelope of what came on a topic; None when somebody else sent it."""
    number, _, rest = payload.partition(b":")
    epoch, colon, envelope = rest.partition(b":")
    if not (colon and number.isdigit() and len(number) < 20 and 0 < len(epoch) <= 80 and epoch.isascii()):
        return None
    return int(number), epoch.decode(), envelope


def read_accepted(reply: Reply) -> tuple[bool, Position]:
    """What publish.lua answers."""
    duplicate, offset, epoch = reply.split(b":")
    return duplicate == b"1", Position(epoch.decode(), int(offset))
