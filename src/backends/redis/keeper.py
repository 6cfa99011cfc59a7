"""Keeps a session with the server up: attaches what is wanted in each, sends probes, and says how it is.

::

    open a session ──► say up, subscribe to what is wanted ──► signs of life, probes ──┐
          ▲                                                                            │ a link is lost
          └──────────── wait a little (jitter) ◄── say detached and down ◄─────────────┘

What is common to all brokers is in :mod:`~samovar.backends.keeping`: the attempts and their waiting.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import ssl
from collections.abc import Collection, Sequence
from functools import partial
from typing import ClassVar, NoReturn

from ...broadcast.backend import Health, Receiver, Record, Retention, State
from ...broadcast.message import Position
from ...errors import BackendUnavailable
from ..keeping import Lost, SessionKeeper, Unusable
from .link import Reply, ReplyError
from .options import Options
from .reading import Keys, milliseconds, read_message
from .refusal import Kind, Refusal, refusal
from .scripts import CLEAR, clearing, publishing
from .session import Session, is_forgotten
from .witness import Seen, Witness, questions, went_back

TESTIFYING = 10.0  # seconds for holding what we saw against the store
AT_ONCE = 500  # channels of which it is asked in one go
PROBE = Retention(messages=0, seconds=1, bytes=0)
PROBE_OUTLIVE = 60_000  # milliseconds the channel of the probe is remembered

logger: logging.Logger = logging.getLogger("samovar.redis")


class Keeper(SessionKeeper[Options, Session]):
    """See the module.

    Args:
        options: where the server is, and how long things may take.
        keys: names of pub/sub channels.
    """

    broker: ClassVar[str] = "Redis"
    first_unusable: ClassVar[float] = 0.3
    latest_unusable: ClassVar[float] = 0.8

    def __init__(self, options: Options, keys: Keys) -> None:
        super().__init__(options, logger)
        self.foreign: int = 0
        """Messages on our pub/sub channels that none of us sent."""
        self.witness: Witness = Witness()
        self._run_id = ""  # of the server of the session before
        self._keys = keys
        self._wanted: dict[bytes, str] = {}
        self._refused: Refusal | None = None
        self._elsewhere = ""  # why this session leads to the wrong server
        self._probe = f"?{secrets.token_urlsafe(9)}"  # no user's channel begins so
        self._probe_topic = keys.topic(self._probe).encode()
        self._probe_sent: float | None = None

    async def current(self) -> Session:
        """The session that is up; waits for the first attempt to connect, but for no later one.

        Raises:
            BackendUnavailable: none is; the message says why.
        """
        if self.session is None:
            await self._first_attempt()
        if self.session is None:
            raise BackendUnavailable(self.words(self.why))
        return self.session

    # --- life -------------------------------------------------------------------------------------------------------

    async def _serve(self, receiver: Receiver) -> NoReturn:
        """One session from its beginning to its loss."""
        session = await self._connect()
        why = "the backend stops"
        try:
            await self._testify(session)
            self._begin(session)
            await self._keep_alive(session)
        except Lost as error:
            why = str(error)
            if self._elsewhere:
                raise Unusable(self._elsewhere) from error
            raise
        finally:
            if self.session is session:
                receiver.detached(None, why)
            self.session = None
            session.close(why)

    async def _open(self, context: ssl.SSLContext | None) -> Session:
        return await Session.open(self.options, context, topic=self._probe_topic.decode(), push=self._pushed)

    async def _testify(self, session: Session) -> None:
        """See that a durable store that was started again still has what we saw; fence the channels where it has not.

        Nobody can publish through this session before.
        """
        again = self._run_id not in ("", session.server.run_id)
        if again and not session.suffix and (seen := self.witness.all()):
            async with asyncio.timeout(TESTIFYING):
                for at in range(0, len(seen), AT_ONCE):
                    await self._fence(session, seen[at : at + AT_ONCE])
        self._run_id = self.witness.run_id = session.server.run_id

    async def _fence(self, session: Session, seen: Sequence[tuple[str, Seen]]) -> None:
        asked = [question for channel, one in seen for question in questions(self._keys, channel, one)]
        answers = await session.commands.batch(asked)
        if errors := [answer for answer in answers if isinstance(answer, ReplyError)]:
            raise Lost(refusal(errors[0]).words)
        back = [
            (channel, one)
            for (channel, one), meta, rows in zip(seen, answers[::2], answers[1::2], strict=True)
            if went_back(one, meta, rows)
        ]
        if not back:
            return
        logger.warning(
            "Redis at %s came back without what it had acknowledged in %d channels, such as %s: "
            "they begin anew, with a Gap (set appendfsync always)",
            self.options.where,
            len(back),
            back[0][0],
        )
        outlive = milliseconds(self.options.meta)
        calls = [
            clearing(self._keys, channel, term=session.term, suffix="", outlive=outlive, only=one.epoch)
            for channel, one in back
        ]
        replies = await session.run(CLEAR, calls)
        for (channel, _), reply in zip(back, replies, strict=True):
            if isinstance(reply, ReplyError):
                raise Lost(refusal(reply).words)
            self.witness.forget(channel)

    def _begin(self, session: Session) -> None:
        """Say that we are there, and attach what was attached."""
        self.session = session
        self._come_up(session.server.name)
        for warning in session.server.warnings:
            self._log_once(logging.WARNING, warning)
        self._refused = self._probe_sent = None
        self._elsewhere = ""
        self.report()
        session.subscribe([topic.decode() for topic in self._wanted])
        self._end_first_attempt()

    # --- signs of life ----------------------------------------------------------------------------------------------

    async def _keep_alive(self, session: Session) -> NoReturn:
        """Ask for signs of life and send probes until a link is lost."""
        loop = asyncio.get_running_loop()
        next_probe = loop.time()
        while True:
            now = loop.time()
            again = session.beat(now)
            if self._probe_sent is not None:
                late = self._probe_sent + 2 * self.options.heartbeat
                if now >= late:
                    session.close("what is published does not arrive: the probe did not come back")
                again = min(again, late)
            elif now >= next_probe:
                next_probe = now + self.options.probe * random.uniform(0.8, 1.2)
                self._send_probe(session)
                continue
            else:
                again = min(again, next_probe)
            await session.wait(again - loop.time())

    def _send_probe(self, session: Session) -> None:
        """Publish to ourselves by the road of all messages; where writing is refused, send only.

        The answer is not awaited: who waits for it cannot see that the link gives no sign of life.
        """
        self._probe_sent = asyncio.get_running_loop().time()
        call = publishing(
            self._keys,
            self._probe,
            b"",
            id="",
            retention=PROBE,
            term=session.term,
            suffix=session.suffix,
            outlive=PROBE_OUTLIVE,
        )
        session.commands.call(*call).add_done_callback(partial(self._probe_answered, session))

    def _probe_answered(self, session: Session, answer: asyncio.Future[Reply]) -> None:
        """The probe was published or refused; a link that was lost is seen by who waits for that."""
        if answer.cancelled() or answer.exception() is not None or self.session is not session:
            return
        reply = answer.result()
        if not isinstance(reply, ReplyError):
            self.note(None)
            return
        try:
            if is_forgotten(reply):
                session.load_later()
            else:
                self.note(refusal(reply))
            session.commands.post("PUBLISH", self._probe_topic, "1:probe:")
        except BackendUnavailable as error:
            session.close(str(error))

    def _probe_arrived(self) -> None:
        if self._probe_sent is not None:
            self._lag = asyncio.get_running_loop().time() - self._probe_sent
            self._probe_sent = None
            self.report()

    # --- how it is --------------------------------------------------------------------------------------------------

    def note(self, refused: Refusal | None) -> None:
        """The server refused a call, or (None) carried a write out."""
        if refused is None:
            if self._refused is not None:
                self._refused = None
                self.report()
            return
        if refused.kind is Kind.ELSEWHERE and self.session is not None:
            self._elsewhere = refused.words
            self.session.close(refused.words)
        if refused.lasting and (self._refused is None or self._refused.code != refused.code):
            logger.warning("Redis at %s: %s", self.options.where, refused.words)
            self._refused = refused
            self.report()

    def report(self) -> None:
        """Tell the receiver how we are."""
        if self._receiver is None or self.session is None:
            return
        reasons = list(self.session.server.warnings)
        if self._refused is not None:
            reasons.append(self._refused.words)
        state = State.DEGRADED if reasons else State.UP
        self._receiver.health(Health(state, self._generation, "; ".join(reasons), self._lag))

    # --- what comes in ----------------------------------------------------------------------------------------------

    def attach(self, channels: Collection[str]) -> None:
        """Subscribe, now and in every session to come."""
        topics = {self._keys.topic(channel): channel for channel in channels}
        self._wanted.update((topic.encode(), channel) for topic, channel in topics.items())
        if self.session is not None:
            self.session.subscribe(list(topics))

    def detach(self, channels: Collection[str]) -> None:
        """Unsubscribe."""
        topics = [self._keys.topic(channel) for channel in channels]
        known = [topic for topic in topics if self._wanted.pop(topic.encode(), None) is not None]
        if self.session is not None:
            self.session.unsubscribe(known)

    def _pushed(self, reply: Reply) -> None:
        """What the subscribed link reads, in order."""
        receiver = self._receiver
        if not isinstance(reply, list) or len(reply) != 3 or receiver is None:
            if isinstance(reply, ReplyError):
                self.note(refusal(reply))
            return  # or it is a sign of life
        kind, topic, payload = reply
        channel = self._wanted.get(topic)
        if channel is None:
            if kind == b"message" and topic == self._probe_topic:
                self._probe_arrived()
        elif kind == b"message":
            self._message(receiver, channel, payload)
        elif kind == b"subscribe":
            receiver.attached((channel,))

    def _message(self, receiver: Receiver, channel: str, payload: bytes) -> None:
        found = read_message(payload)
        if found is None:
            self.foreign += 1
            if self.foreign == 1:
                topic = self._keys.topic(channel)
                hint = "what they send is skipped and counted; prefix= keeps apps apart"
                logger.warning("channel %s: somebody else publishes on %s; %s", channel, topic, hint)
            return
        offset, epoch, envelope = found
        if offset == 0:
            receiver.attached((channel,))  # begun anew: look
        else:
            if self.session is not None:
                self.session.unborn.born(channel)
                if not self.session.suffix:
                    self.witness.saw(channel, epoch, offset, envelope)
            receiver.message(Record(channel, Position(epoch, offset), offset - 1, envelope))
