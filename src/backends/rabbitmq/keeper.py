"""Keeps a session with the server up: reads the log up to its end, follows it, and says how it is.

::

    open a session ──► read from the last entry ──► prove ──► end reached: say up, attach ──► follow ──┐
          ▲                                                                                            │ a link
          └──────────── wait a little (jitter) ◄── say detached and down ◄─────────────────────────────┘ is lost

*Prove*: reading goes on with the last entry itself, which must come again, byte for byte. If it does not, the stream
was shortened past us, rolled back, or is another one, and the log is read anew from the stream's beginning. If it turns
out that the broker has lost what we saw, while the epoch is the same, a new epoch begins: a Gap for all.

*End reached*: the broker does not say where a stream ends (its count of messages is seconds old). So we write a mark
and wait until we read it. The same tells a reader of history or of heads that nothing confirmed before it is missing,
and every 15 seconds that what is written arrives at all.

What is common to all brokers is in :mod:`~samovar.backends.keeping`: the attempts and their waiting.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import ssl
import struct
import time
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, NamedTuple, NoReturn

from ...broadcast.backend import Accepted, Health, Receiver, Record, Retention, State
from ...errors import BackendUnavailable
from ..keeping import SessionKeeper, Unusable
from ..memory import new_epoch
from .attendance import Attendance
from .entry import BEGIN, DEDUPE, MARK, MESSAGE, SUMMARY, LaterVersion, origin_of, write
from .link import Lost
from .log import NO_EPOCH, Log
from .options import Options
from .reading import Reading
from .refusal import no_stream, refusal
from .session import LOG, PRESENCE, Session

PROVING = 2.0  # seconds in which the last entry must come again
READING = 5.0  # seconds in which some entry comes while the log is read
STILL = 1.0  # seconds without an entry after which the end is taken as reached, where no mark can be written
READ_UP = 0.01  # seconds in which the loop, which stood still, looks at its sockets
CONTEST = 0.5  # seconds in which who knows the epoch of a stream answers who does not
READ_LATE = (
    2.0  # seconds after which a confirmed record that was not read yet is accepted without its position
)
GROWN = 1 << 20  # bytes by which the log grows between two summaries, at least
SUMMING = 5.0  # seconds in which another worker may write the summary that is due
MAX_WAITING = 100_000  # entries of ours that were not read yet

logger: logging.Logger = logging.getLogger("samovar.rabbitmq")


class Witness(NamedTuple):
    """What we saw last of a log that could not be gone on with."""

    offset: int
    body: bytes | None
    epoch: str

    def outdoes(self, log: Log) -> bool:
        """Whether *log*, in which it did not come yet, knows less than this."""
        return log.epoch == NO_EPOCH or (self.epoch == log.epoch and self.offset >= log.last)

    def rolled_back(self, log: Log) -> bool:
        """Whether *log*, in which the entry did not come, should have it."""
        return self.epoch == log.epoch and log.first <= self.offset


class NotIn(Exception):
    """An entry of ours came back: it is not in the stream."""


class Waiting:
    """An entry of ours on its way.

    Attributes:
        read: done when we have read it, with what it caused; or with :class:`Lost`, :class:`NotIn`.
        confirmed: when the broker had it, None: not yet.
        kind: of the entry.
        in_once_confirmed: it is a message that counts unless it is a repeat; one with a version may have come too late
            for it, which only reading it tells.
    """

    __slots__ = ("confirmed", "in_once_confirmed", "kind", "read")

    def __init__(self, read: asyncio.Future[Any], kind: int, *, versioned: bool = False) -> None:
        self.read: asyncio.Future[Any] = read
        self.kind: int = kind
        self.in_once_confirmed: bool = kind == MESSAGE and not versioned
        self.confirmed: float | None = None


class Keeper(SessionKeeper[Options, Session]):
    """See the module.

    Args:
        options: where the server is, and how long things may take.
    """

    broker: ClassVar[str] = "RabbitMQ"
    first_unusable: ClassVar[float] = 0.5
    latest_unusable: ClassVar[float] = 2.0

    def __init__(self, options: Options) -> None:
        super().__init__(options, logger)
        self.up: bool = False
        """The end of the log was reached in this session."""
        self.foreign: int = 0
        """Messages in the stream that are none of ours."""
        self._me = secrets.randbits(32)
        self._count = 0
        self._waiting: dict[int, Waiting] = {}
        self._summary_at = 0.0
        self._witness: Witness | None = None
        self._witnessed = False
        self._wanted: set[str] = set()
        self._log = Reading(options.stream, LOG, self._new_log)
        self._presence = Reading(options.presence, PRESENCE, self._new_attendance)

    def _new_log(self) -> Log:
        log = Log(self._me, self.options.size, self, clock=time.monotonic, wall=lambda: time.time() * 1000)
        log.wanted = self._wanted
        return log

    def _new_attendance(self) -> Attendance:
        return Attendance(self._me, self.own, clock=time.monotonic, wall=lambda: time.time() * 1000)

    @property
    def log(self) -> Log:
        """The log as it was read."""
        return self._log.into

    @property
    def attendance(self) -> Attendance:
        """Who is where, as it was read."""
        return self._presence.into

    async def current(self, *, reading: bool = False) -> Session:
        """The session that is up; waits for the first attempt to come up, but for no later one.

        Args:
            reading: one that still reads the log will do, if it is sure of the epoch: what is written before that
                begins does not count.

        Raises:
            BackendUnavailable: none is; the message says why.
        """
        if not self._attempted:
            await self._first_attempt()
        sure = self.log.epoch != NO_EPOCH and self._log.proof is None and self._witness is None
        good = self.up or (reading and sure)
        if self.session is None or not good:
            raise BackendUnavailable(self.words(self.why))
        return self.session

    # --- life -------------------------------------------------------------------------------------------------------

    async def _serve(self, receiver: Receiver) -> NoReturn:
        """One session from its beginning to its loss."""
        session = await self._connect()
        why = "the backend stops"
        self.session = session
        try:
            await self._read_up(session)
            self._begin(session, receiver)
            await self._follow(session)
        except Lost as error:
            why = session.unusable or str(error)
            if session.unusable:
                raise Unusable(session.unusable) from error
            raise
        finally:
            was_up, self.up, self.session = self.up, False, None
            self.log.live = self.attendance.live = False
            session.close(why)
            self._give_up(why)
            if was_up:
                receiver.detached(None, why)

    async def _open(self, context: ssl.SSLContext | None) -> Session:
        return await Session.open(self.options, context, self)

    def _meaning(self, failure: Exception) -> Exception:
        return refusal(failure, self.options) if isinstance(failure, Lost) else failure

    # --- reading up -------------------------------------------------------------------------------------------------

    async def _read_up(self, session: Session) -> None:
        """Read both streams up to their ends, from where we are if that can be proved, and know the epoch."""
        self.why = "the log is being read"
        for reading in (self._log, self._presence):
            await session.read(reading.channel, reading.stream, reading.begin())
        for reading in (self._log, self._presence):
            if reading.proved is not None:
                await self._wait(session, PROVING, reading.proved)
            if reading.proof is not None:
                self._start_over(reading, "the stream ends before what was read of it")
            await self._reach_end(session, reading)
        await self._know_epoch(session)
        self._witness = None
        self._witnessed = False

    def _start_over(self, reading: Reading[Any], why: str) -> None:
        """Forget what was read, for it cannot be gone on from, but for the last entry of the log."""
        logger.warning("RabbitMQ at %s: %s: %s; it is read anew", self.options.where, reading.stream, why)
        if reading is self._log:
            if self._witness is None or not self._witness.outdoes(self.log):
                self._witness = Witness(self.log.last, self.log.last_body, self.log.epoch)
            self._witnessed = False
        reading.start_over()
        if self.session is not None:
            self.session.tail.abort(why)

    async def _reach_end(self, session: Session, reading: Reading[Any]) -> None:
        """Wait until a mark of ours was read; where none can be written, until nothing comes any more.

        Raises:
            Lost: a link is gone, or gives nothing.
        """
        loop = asyncio.get_running_loop()
        mark: Waiting | None = None
        while True:
            mark = mark or self._mark(session, reading)
            barred = session.out.barred is not None
            await self._wait(session, STILL / 2, None if barred else mark.read)
            idle = loop.time() - reading.progress
            if session.out.barred is not None:
                if barred and idle >= STILL:
                    return
            elif mark.read.done():
                if mark.read.result() is not None:
                    return
                mark = None  # an alarm that is over was in between
            elif idle >= READING:
                raise Lost(f"the stream {reading.stream} gives none of its entries")

    async def _know_epoch(self, session: Session) -> None:
        """Begin an epoch where there is none, and another one where the broker lost what we saw.

        Raises:
            Lost: a link is gone, or the broker takes nothing.
        """
        log, witness = self.log, self._witness
        if log.epoch == NO_EPOCH:
            await self._begin_epoch(session, 1)
            if log.first > 0:  # somebody may know it, who has not said so for long
                await self._wait(session, CONTEST, None)
        elif witness is not None and not self._witnessed and witness.rolled_back(log):
            logger.warning(
                "RabbitMQ at %s has lost entries that it had confirmed: all channels begin anew, with a Gap",
                self.options.where,
            )
            await self._begin_epoch(session, log.term + 1)

    async def _begin_epoch(self, session: Session, term: int) -> None:
        waiting = self.send(session, BEGIN, id=new_epoch().encode(), number=term)
        await self._wait(session, READING, waiting.read)
        if not waiting.read.done() or session.out.barred is not None or self.log.term < term:
            raise Lost(f"the log cannot be begun: {session.out.barred or 'what is written does not arrive'}")

    def _epoch_id(self) -> bytes:
        return b"" if self.log.epoch == NO_EPOCH else self.log.epoch.encode()

    def _begin(self, session: Session, receiver: Receiver) -> None:
        """Say that we are there, and attach what was attached."""
        self.log.caught_up()
        self.attendance.live = True
        self.up = True
        self._come_up(session.server)
        self.report()
        if self._wanted:
            self.log.hold(self._wanted)
            receiver.attached(list(self._wanted))
        self._end_first_attempt()

    # --- signs of life ----------------------------------------------------------------------------------------------

    async def _follow(self, session: Session) -> NoReturn:
        """Ask for signs of life and send probes until a link is lost."""
        loop = asyncio.get_running_loop()
        next_probe = loop.time()
        sent, patience = 0.0, 2 * self.options.heartbeat
        self._summary_at = 0.0
        probe: Waiting | None = None
        while True:
            now = loop.time()
            if probe is not None and probe.read.done():
                self._probed(probe, now - sent)
                probe = None
            if probe is not None and now >= sent + patience:
                # Where entries keep coming we are late, and no link is at fault.
                if probe.confirmed is None or now - self._log.progress >= patience:
                    session.tail.abort("what is published does not arrive: the probe did not come back")
                sent = now
            elif probe is None and now >= next_probe and session.out.barred is None:
                next_probe = now + self.options.probe * random.uniform(0.8, 1.2)
                with suppress(BackendUnavailable):  # too much is on its way: that is a probe by itself
                    probe, sent = self._mark(session, self._log), now
            self._sum_up(session, now)
            due = next_probe if probe is None else sent + patience
            await self._wait(session, max(0.01, due - now), None if probe is None else probe.read)

    def _sum_up(self, session: Session, now: float) -> None:
        """Write a summary of the log, if it is time for one, and nobody else does within some seconds."""
        read, when = self.log.summed
        grown, age = self.log.read - read, time.monotonic() - when
        due = grown >= self.options.size // 4 or (grown >= GROWN and age >= self.options.age / 4)
        if not due or session.out.barred is not None:
            self._summary_at = 0.0
        elif not self._summary_at:
            self._summary_at = now + random.uniform(0, SUMMING)
        elif now >= self._summary_at:
            self._summary_at = 0.0
            with suppress(BackendUnavailable):  # too much is on its way; there will be another one
                for rest in self.log.summary():
                    self.send(session, SUMMARY, rest=rest)

    def _probed(self, probe: Waiting, took: float) -> None:
        if probe.read.exception() is None and probe.read.result() is not None:
            self._lag = took
            self.report()

    async def _wait(self, session: Session, seconds: float, future: asyncio.Future[Any] | None) -> None:
        """Wait so long, or until *future* is done, asking for signs of life meanwhile.

        Raises:
            Lost: a link is gone.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        awaited: set[asyncio.Future[Any]] = {session.out.lost, session.tail.lost}
        if future is not None:
            awaited.add(future)
        while True:
            now = loop.time()
            again = min(session.beat(now), end)
            self._let_late_ones_go(now)
            if (lost := session.lost()) is not None:
                raise lost
            if now >= end or (future is not None and future.done()):
                return
            await asyncio.wait(awaited, timeout=again - now, return_when=asyncio.FIRST_COMPLETED)
            if loop.time() > again + self.options.heartbeat / 2:
                # What came meanwhile is read before anything is made of the silence.
                await asyncio.sleep(READ_UP)
                session.stood_still(loop.time())

    def _let_late_ones_go(self, now: float) -> None:
        """Answer publishes that were confirmed, but that we have not read for too long: they are in."""
        late = []
        for origin, waiting in self._waiting.items():
            if waiting.confirmed is None or now - waiting.confirmed < READ_LATE:
                break
            late.append(origin)
        for origin in late:
            if self._waiting[origin].in_once_confirmed:
                _finish(self._waiting.pop(origin).read, Accepted(None))

    # --- how it is --------------------------------------------------------------------------------------------------

    @property
    def barred(self) -> str:
        """Why the broker takes no messages, empty when it does."""
        if self.session is None or self.session.out.barred is None:
            return ""
        said = self.session.out.barred
        return (
            f"RabbitMQ takes no messages, for it is {said}: free memory or disk, or see vm_memory_high_watermark and "
            "disk_free_limit"
        )

    def report(self) -> None:
        """Tell the receiver how we are."""
        if self._receiver is None or not self.up:
            return
        barred = self.barred
        state = State.DEGRADED if barred else State.UP
        self._receiver.health(Health(state, self._generation, barred, self._lag))

    # --- what is wanted ---------------------------------------------------------------------------------------------

    def attach(self, channels: Collection[str]) -> None:
        """Pass on what comes of these, now and in every session to come."""
        self._wanted.update(channels)
        if self.up and self._receiver is not None:
            self.log.hold(channels)
            self._receiver.attached(channels)

    def detach(self, channels: Collection[str]) -> None:
        """Pass it on no more."""
        self._wanted.difference_update(channels)

    # --- entries of ours --------------------------------------------------------------------------------------------

    def send(
        self,
        session: Session,
        kind: int,
        *,
        channel: bytes = b"",
        id: bytes = b"",
        rest: bytes = b"",
        retention: Retention | None = None,
        number: int | None = None,
        dedupe: int = DEDUPE,
        presence: bool = False,
    ) -> Waiting:
        """Write an entry to the log, or (*presence*) to the other stream; see :func:`entry.write`.

        Raises:
            BackendUnavailable: nothing was sent.
            TooLong: a name does not fit.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise BackendUnavailable(self.words(f"busy: {MAX_WAITING} entries are on their way"))
        self._count = self._count + 1 & 0xFFFFFFFF
        origin = self._me << 32 | self._count
        body = write(
            kind, origin, channel=channel, id=id, rest=rest, retention=retention, number=number, dedupe=dedupe
        )
        stream = self.options.presence if presence else self.options.stream
        confirm = session.out.publish(session.heads[stream], body)
        read: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        waiting = self._waiting[origin] = Waiting(read, kind, versioned=number is not None)
        confirm.add_done_callback(partial(self._confirmed, origin))
        return waiting

    def _confirmed(self, origin: int, confirm: asyncio.Future[None]) -> None:
        """The broker has it, or could not take it; of a link that was lost who waits learns otherwise."""
        error = None if confirm.cancelled() else confirm.exception()
        waiting = self._waiting.get(origin)
        if waiting is None:
            return
        if error is None:
            waiting.confirmed = asyncio.get_running_loop().time()
        elif not isinstance(error, Lost):
            del self._waiting[origin]
            _fail(waiting.read, Lost(str(error)))

    def _give_up(self, why: str) -> None:
        """The session is gone: tell whoever waits for an entry."""
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            if one.in_once_confirmed and one.confirmed is not None:
                _finish(one.read, Accepted(None))
            else:
                _fail(one.read, Lost(why))

    # --- marks ------------------------------------------------------------------------------------------------------

    def _mark(self, session: Session, reading: Reading[Any]) -> Waiting:
        """Write a mark to a stream. It is done with None where an alarm kept it from being written."""
        presence = reading is self._presence
        return self.send(session, MARK, id=self._epoch_id(), number=self.log.term, presence=presence)

    async def settled(self, *, presence: bool = False) -> None:
        """Return when everything that was confirmed before this call was read: in the log, or in the other stream.

        Where the broker takes no messages it returns at once: nobody can have written since.

        Raises:
            BackendUnavailable: the session is not up, or was lost.
        """
        session = await self.current()
        if session.out.barred is None:
            reading: Reading[Any] = self._presence if presence else self._log
            await reading.marks.settled(lambda: self._mark_now(reading))

    def _mark_now(self, reading: Reading[Any]) -> asyncio.Future[Any]:
        if self.session is None or not self.up:
            raise BackendUnavailable(self.words(self.why))
        return self._mark(self.session, reading).read

    def _repeat_epoch(self) -> None:
        """Tell whoever does not know it which epoch it is."""
        if self.session is not None and self.up and not self.barred:
            with suppress(BackendUnavailable):  # there will be another mark
                self._mark(self.session, self._log)

    # --- what comes in: the ear of the links ------------------------------------------------------------------------

    def delivered(self, channel: int, tag: int, offset: int | None, body: bytes | None) -> None:
        """An entry was read."""
        session = self.session
        if session is None or session.tail.lost.done():
            return
        if offset is None:
            session.unusable = no_stream(self.options.stream if channel == LOG else self.options.presence)
            return session.tail.abort(session.unusable)
        reading: Reading[Any] = self._log if channel == LOG else self._presence
        reading.progress = session.tail.received
        if reading.proof is not None:
            self._prove(reading, offset, body)
        elif offset <= reading.into.last:
            session.tail.abort(f"the stream {reading.stream} went back to {offset}")
        else:
            self._take(session, reading, offset, body)
        if reading.owed(tag) and not session.tail.lost.done():
            session.tail.acknowledge(channel, tag)

    def _take(self, session: Session, reading: Reading[Any], offset: int, body: bytes | None) -> None:
        if self._witness is not None and reading is self._log and offset == self._witness.offset:
            self._witnessed = body == self._witness.body
        try:
            reading.into.take(offset, body)
        except LaterVersion as error:
            session.unusable = str(error)
            return session.tail.abort(session.unusable)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, struct.error):
            self.stranger(offset)
        if self.log.contested:
            self.log.contested = False
            asyncio.get_running_loop().call_soon(self._repeat_epoch)

    def _prove(self, reading: Reading[Any], offset: int, body: bytes | None) -> None:
        """The first entry of a session is the last one we know, or all is to be read anew."""
        if reading.prove(offset, body):
            return
        if offset > reading.into.last:
            self._start_over(reading, f"it was shortened past what was read, and begins at {offset}")
        else:
            self._start_over(reading, "there is something else where we read last")

    def returned(self, body: bytes | None) -> None:
        """The stream is gone: an entry of ours found no queue."""
        waiting = self._waiting.pop(origin_of(body or b""), None)
        if waiting is not None:
            _fail(waiting.read, NotIn("the stream is gone"))
        if self.session is not None:
            self.session.out.abort("the stream is gone: what is written finds no queue")

    def blocked(self, why: str | None) -> None:
        """An alarm began or ended: what is on its way may be in or not, and nobody can tell when that is known."""
        if why is not None:
            words = self.barred
            self._log_once(logging.WARNING, words)
            for origin, waiting in list(self._waiting.items()):
                if waiting.confirmed is None:
                    del self._waiting[origin]
                    if waiting.kind == MARK:
                        _finish(waiting.read, None)
                    else:
                        _fail(waiting.read, Lost(words))
        self.report()

    # --- what the log says ------------------------------------------------------------------------------------------

    def record(self, record: Record) -> None:
        """A record of a channel that is wanted."""
        if self._receiver is not None:
            self._receiver.message(record)

    def begun(self, channels: Collection[str] | None) -> None:
        """Let the receiver look at these channels, or at all."""
        if not self.up or self._receiver is None:
            return
        if channels is None:
            channels = list(self._wanted)
            self.log.hold(channels)
        self._receiver.attached(channels)

    def own(self, number: int, caused: Any) -> None:
        """An entry of ours was read."""
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            _finish(waiting.read, caused)

    def stranger(self, offset: int) -> None:
        """Somebody else writes to the stream."""
        self.foreign += 1
        if self.foreign == 1:
            hint = "what they send is skipped and counted; the URL's stream= keeps apps apart"
            logger.warning(
                "RabbitMQ at %s: the message at offset %d of the stream %s is none of ours; %s",
                self.options.where,
                offset,
                self.options.stream,
                hint,
            )


def _finish(future: asyncio.Future[Any], caused: Any) -> None:
    if not future.done():
        future.set_result(caused)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may wait any more, and that is no fault
