"""The door for plain HTTP: long-polls and reads of history, with a cursor and no state on the server.

Equal polls of one worker (the same channels from the same cursor) share one subscription, one waiting task and one
encoded body; each keeps its own time limit. No door needs sticky sessions: everything is in the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

from werkzeug.exceptions import ServiceUnavailable

from ...broadcast import Cursor, Event, Gap, History, Hub, Member, Message, Position, Since, Subscribed
from ...errors import BackendUnavailable, HubClosed
from ...tasks import Scope
from ..globals import current_app, request
from ..wrappers import Response
from . import frames
from .access import Access
from .codes import CloseCode
from .entry import ask_all, ask_rule, check_names, read_cursor
from .identity import members_for
from .stay import Stay

MAX_MESSAGES = 500
MAX_BYTES = 1024 * 1024


async def long_poll(
    *channels: str,
    timeout: float | None = None,
    since: Since = None,
    last: int | None = None,
    limit: int = MAX_MESSAGES,
    reverse: bool = False,
    envelope: bool = True,
    authorize: bool = True,
) -> Response:
    """Answer with what came after the client's cursor, waiting for it if need be.

    Without a cursor it answers at once with ``{"messages": [], "cursor": head}``. With ``timeout=0`` it is a plain read
    of history. The answer is ``{"messages", "cursor", "recovered"}``, with ``gaps`` where something was missed and
    ``"more": true`` where the next poll will not have to wait. After *timeout* seconds without a message: 204, or 304
    when the client sent ``If-None-Match``. The header ``Samovar-Cursor`` always has the cursor to go on from.

    Args:
        channels: their names.
        timeout: seconds to wait for a message; ``LONG_POLL_TIMEOUT`` by default.
        since: a cursor to go on after; ``?since=`` by default.
        last: the newest so many kept messages first, when there is no cursor or it does not recover.
        limit: at most so many messages in one answer, up to 500; an answer ends at 1 MiB too.
        reverse: newest first; only with ``timeout=0`` and one channel.
        envelope: send ``{"channel", "cursor", "id", "ts", "data"}``, or the payloads alone.
        authorize: ask the channels' rules; False where the route has decided itself.

    While it waits, its client may be sent away: by ``hub.kick``, or by a rule that is asked again. Then it is answered
    at once, with 401 or 403 and ``{"code", "reason", "retry"}``.

    Raises:
        BadRequest: a malformed ``since`` or channel name. Forbidden: a rule refused.
        ServiceUnavailable: the backend is away.
        ValueError: no channel, the same one twice, a limit outside 1 to 500, or *reverse* where it means nothing.
    """
    names = check_names(channels)
    if not 1 <= limit <= MAX_MESSAGES:
        raise ValueError(f"limit is 1 to {MAX_MESSAGES}, not {limit}")
    if reverse and (timeout != 0 or len(names) > 1 or last is not None):
        raise ValueError(
            "reverse reads the history of one channel: use it with timeout=0 and a single channel"
        )
    cursor = read_cursor(since, names)
    wait = current_app.config["LONG_POLL_TIMEOUT"] if timeout is None else timeout
    stay = Stay(current_app.hub)
    ask = stay.ask if wait > 0 else ask_rule
    access = await ask_all(names, ask, authorize=authorize)
    answer: Answer | CloseCode
    try:
        if wait <= 0:
            answer = await _read_history(current_app.hub, names, cursor, last, limit, reverse, envelope)
        else:
            async with _Presence(names, access):
                answer = await current_app.polls.wait(
                    current_app.hub,
                    names,
                    cursor,
                    last=last,
                    timeout=wait,
                    limit=limit,
                    envelope=envelope,
                    stay=stay,
                )
    except (BackendUnavailable, HubClosed) as error:
        raise ServiceUnavailable("the channels cannot be read at the moment: try again") from error
    finally:
        stay.close()
    return _respond(answer, names) if isinstance(answer, Answer) else _send_away(answer)


@dataclass(slots=True)
class Answer:
    """What a poll found, growing until it is sent.

    Args:
        positions: where each channel's client is to go on.
        messages, gaps: what it gets.
        recovered: of all channels together.
        size: bytes of payload so far.
        more: not everything fitted.
        body: the encoded form, made once for all equal polls.
    """

    positions: dict[str, Position | None] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    recovered: bool | None = None
    size: int = 0
    more: bool = False
    body: bytes = b""

    def cursor(self, names: Sequence[str]) -> str:
        """The cursor to go on from: one position for one channel, else the composite of those that are known."""
        if len(names) == 1:
            return str(self.positions.get(names[0]) or "")
        return frames.composite(self.positions)

    @property
    def found(self) -> bool:
        """There is something to tell."""
        return bool(self.messages or self.gaps)

    def begin(self, word: Subscribed) -> None:
        """Take a channel's first word in: what follows, follows after its position."""
        self.positions[word.channel] = word.position
        if word.recovered is not None:
            self.recovered = word.recovered if self.recovered is None else self.recovered and word.recovered

    def take(self, event: Message | Gap, limit: int) -> bool:
        """Take *event* in; False when it must wait for the next poll.

        An answer ends before a Gap that follows messages of its channel: clients read the gaps of an answer first.
        """
        if isinstance(event, Gap):
            full = any(message.channel == event.channel for message in self.messages)
        else:
            full = len(self.messages) >= limit or bool(self.messages and self.size + event.size > MAX_BYTES)
        if full:
            self.more = True
        elif isinstance(event, Gap):
            self.gaps.append(event)
            self.positions[event.channel] = event.until
        else:
            self.messages.append(event)
            self.size += event.size
            self.positions[event.channel] = event.position
        return not full

    def encode(self, names: Sequence[str], envelope: bool) -> Answer:
        """Make the body."""
        self.body = frames.poll_body(
            self.messages,
            self.cursor(names),
            recovered=False if self.gaps else self.recovered,
            gaps=self.gaps,
            more=self.more,
            envelopes=envelope,
        )
        return self

    def so_far(self, names: Sequence[str], envelope: bool) -> Answer:
        """What can be told when the time is over in the middle of it: all that was found, and that there is more."""
        copy = replace(self, positions=dict(self.positions))
        if not copy.found:
            return copy
        copy.more = True
        return copy.encode(names, envelope)


# --- waiting ----------------------------------------------------------------------------------------------------------


class SharedPoll:
    """One wait for all equal polls of this worker; ends when it has an answer or nobody waits any more.

    Args:
        names: the channels.
        cursor: where the clients stand, None when they have none.
    """

    def __init__(self, names: Sequence[str], cursor: Cursor | None) -> None:
        self.names = names
        self.cursor = cursor
        self.waiting = 0
        known = {} if cursor is None else {name: cursor.get(name) for name in names if name in cursor}
        self.answer: Answer = Answer(known)
        self.task: asyncio.Task[Answer] | None = None

    async def run(self, hub: Hub, last: int | None, limit: int, envelope: bool) -> Answer:
        """Collect until there is something to tell; without a cursor the first words are enough."""
        answer = self.answer
        async with hub.subscribe() as subscription:
            for name in self.names:
                answer.begin(await subscription.add(name, since=self.cursor, last=last))
            while True:
                wait = None if self.cursor is not None and not answer.found else 0
                events = await subscription.events(timeout=wait)
                if not events or not all(_taken(answer, event, limit) for event in events):
                    break
        return answer.encode(self.names, envelope)


def _taken(answer: Answer, event: Event, limit: int) -> bool:
    return isinstance(event, Subscribed) or answer.take(event, limit)  # the first words are in by then


class Polls:
    """The polls in progress on this worker, by what they ask.

    Args:
        deadline: seconds :meth:`close` waits for what it cancelled.
    """

    def __init__(self, deadline: float = 5.0) -> None:
        self._scope = Scope(
            "polls", on_error=lambda task, error: None, deadline=deadline
        )  # the waiters get the error
        self._shared: dict[Hashable, SharedPoll] = {}

    def __len__(self) -> int:
        return len(self._shared)

    def shared(self) -> list[SharedPoll]:
        """The waits in progress."""
        return list(self._shared.values())

    async def wait(
        self,
        hub: Hub,
        names: tuple[str, ...],
        cursor: Cursor | None,
        *,
        last: int | None,
        timeout: float,
        limit: int,
        envelope: bool,
        stay: Stay,
    ) -> Answer | CloseCode:
        """What the poll has found; after *timeout* seconds, or when the server goes, what is known by then.

        The code says why, when the client may not stay; nothing that was found is for it.
        """
        key = (names, cursor is None, str(cursor or ""), last, limit, envelope)
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = SharedPoll(names, cursor)
            shared.task = self._scope.start(shared.run(hub, last, limit, envelope), name="poll")
            shared.task.add_done_callback(lambda _: self._forget(key, shared))
        task = shared.task
        assert task is not None
        shared.waiting += 1
        try:
            if (end := await _stay_until(task, stay, timeout)) is not None:
                return end
            if task.done() and not task.cancelled():
                return task.result()
            return shared.answer.so_far(names, envelope)
        finally:
            shared.waiting -= 1
            if not shared.waiting and not task.done():
                task.cancel()
                self._forget(key, shared)

    def _forget(self, key: Hashable, shared: SharedPoll) -> None:
        if self._shared.get(key) is shared:
            del self._shared[key]

    def going_away(self) -> None:
        """Answer every waiting poll at once with what is known: the client comes back, to another worker."""
        for shared in list(self._shared.values()):
            if shared.task is not None:
                shared.task.cancel()

    async def close(self) -> None:
        """Cancel what still waits; new polls are refused."""
        await self._scope.close()


async def _stay_until(task: asyncio.Task[Answer], stay: Stay, timeout: float) -> CloseCode | None:
    """Wait for *task*, at most *timeout* seconds; the code when the client may not stay so long."""
    if not stay.watched:
        await asyncio.wait({task}, timeout=timeout)
        return None
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout
    bell = loop.create_future()

    def ring() -> None:
        if not bell.done():
            bell.set_result(None)

    stay.open(ring)
    while True:
        left = max(0.0, until - loop.time())
        await asyncio.wait({task, bell}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        while stay.unsettled:
            if (end := await stay.settle()) is not None:
                return end
        if task.done() or loop.time() >= until:
            return None
        if bell.done():
            bell = loop.create_future()


# --- reading history --------------------------------------------------------------------------------------------------


async def _read_history(
    hub: Hub,
    names: Sequence[str],
    cursor: Cursor | None,
    last: int | None,
    limit: int,
    reverse: bool,
    envelope: bool,
) -> Answer:
    """A plain read: of each channel what is kept after the cursor, all together within one limit."""
    answer = Answer(recovered=None if cursor is None else True)
    for name in names:
        if cursor is not None and name not in cursor:  # a channel missing from a cursor starts from now
            answer.positions[name] = (await hub.history(name, limit=1, reverse=True)).head
            continue
        room = max(limit - len(answer.messages), 1)
        if cursor is None and last is not None and not reverse:
            _take_page(answer, await _newest(hub, name, min(last, room)), limit)
            continue
        page = await hub.history(name, since=cursor, limit=room, reverse=reverse)
        if page.gap is not None and last is not None:
            page = await _newest(hub, name, min(last, room), page.gap)
        _take_page(answer, page, limit)
    return answer.encode(names, envelope)


async def _newest(hub: Hub, name: str, count: int, gap: Gap | None = None) -> History:
    """The newest *count* messages in their order, after *gap*, which then reaches up to them."""
    if not count:
        head = (await hub.history(name, limit=1, reverse=True)).head
        return History(name, (), head, head, gap and replace(gap, until=head))
    page = await hub.history(name, limit=count, reverse=True)
    messages = tuple(reversed(page.messages))
    if gap is not None:
        first = messages[0].position if messages else None
        until = page.head if first is None else Position(first.epoch, first.offset - 1)
        gap = replace(gap, until=until)
    return History(name, messages, page.head, page.head, gap)


def _take_page(answer: Answer, page: History, limit: int) -> None:
    """Take in of *page* what there is room for; the position is that of the last message taken."""
    start = page.messages[0].position if page.messages else page.position
    answer.positions.setdefault(page.channel, Position(start.epoch, max(start.offset - 1, 0)))
    if page.gap is not None:
        answer.take(page.gap, limit)
    if all(answer.take(message, limit) for message in page.messages):
        answer.positions[page.channel] = page.position
        answer.more = answer.more or page.more


class _Presence:
    """Counts a poller with a name while it polls, each poll as a connection of its own.

    Without a name nobody could tell the next poll from another client's, so nameless pollers are not counted.
    """

    def __init__(self, names: Sequence[str], granted: Sequence[Access]) -> None:
        self._names = names
        self._granted = granted
        self._members: dict[str, Member] = {}

    async def __aenter__(self) -> None:
        try:
            members = await members_for(self._names, self._granted)
            for name, member in members.items():
                if member.user is not None:
                    self._members[name] = member
                    await current_app.hub.enter(name, member)
        except BaseException:
            await self._leave()
            raise

    async def __aexit__(self, *exc: object) -> None:
        await self._leave()

    async def _leave(self) -> None:
        grace = current_app.config["PRESENCE_GRACE"]
        for name, member in self._members.items():
            await current_app.hub.leave(name, member.id, grace=grace)


# --- answering --------------------------------------------------------------------------------------------------------


def _respond(answer: Answer, names: Sequence[str]) -> Response:
    rules = [current_app.channels.rule(name) for name in names]
    public = all(rule is not None and rule.public for rule in rules)
    cursor = answer.cursor(names)
    headers = {"Samovar-Cursor": cursor, "Cache-Control": "private, no-store"}
    asked = request.headers.get("If-None-Match")
    if public or asked is not None:
        headers["ETag"] = f'"{cursor}"'
    if answer.body:
        if public:
            headers["Cache-Control"] = "public, max-age=1"
        return Response(answer.body, content_type="application/json", headers=headers)
    # "Nothing yet" is kept by nobody: a cache would give it at once to the next poll, and the client would spin.
    response = Response(b"", status=204 if asked is None else 304, headers=headers)
    response.headers.remove("Content-Type")  # of no body; with a 304 a cache would write it to what it keeps
    return response


def _send_away(code: CloseCode) -> Response:
    """The answer to a client that may not stay: as a close code says it, whose last digits are the status."""
    return Response(
        frames.sent_away(code),
        status=code.code - 4000 if code.code >= 4000 else 500,
        content_type="application/json",
        headers={"Cache-Control": "private, no-store"},
    )


__all__ = ["Answer", "Polls", "SharedPoll", "long_poll"]
