"""The link to RabbitMQ, without a server: what it makes of bytes."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from samovar.backends.rabbitmq import link as link_module
from samovar.backends.rabbitmq import session as session_module
from samovar.backends.rabbitmq.entry import BEGIN, LEAVE, MARK, MESSAGE, SUMMARY, TOUCH, write
from samovar.backends.rabbitmq.keeper import READ_LATE, Keeper
from samovar.backends.rabbitmq.link import Link, Lost, Nacked, publishing
from samovar.backends.rabbitmq.options import Options
from samovar.backends.rabbitmq.session import LOG, PRESENCE, Session
from samovar.broadcast.backend import Accepted
from samovar.errors import BackendUnavailable


class Ear:
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def delivered(self, channel: int, tag: int, offset: int | None, body: bytes | None) -> None:
        self.heard.append((channel, tag, offset, body))

    def returned(self, body: bytes | None) -> None:
        self.heard.append(("returned", body))

    def blocked(self, why: str | None) -> None:
        self.heard.append(("blocked", why))


class Sent(asyncio.Transport):
    """A transport that remembers what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.gone = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.data += data

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.gone = True


@pytest.fixture
async def ear() -> Ear:
    return Ear()


@pytest.fixture
async def link(ear: Ear) -> Link:
    link = Link(ear)
    link.connection_made(Sent())
    return link


def message(tag: int, body: bytes, channel: int = 3, most: int = 1000, **properties: Any) -> bytes:
    """A delivery as the broker sends it."""
    found = commands.Basic.Properties(**properties)
    parts = [
        frame.marshal(commands.Basic.Deliver("ctag", tag, False, "", "q"), channel),
        frame.marshal(ContentHeader(0, len(body), found), channel),
    ]
    parts += [frame.marshal(ContentBody(body[at : at + most]), channel) for at in range(0, len(body), most)]
    return b"".join(parts)


async def test_deliveries_are_read_however_they_are_cut(ear: Ear, link: Link) -> None:
    big = random.Random(1).randbytes(5000)
    stream = [
        message(1, b"one", headers={"x-stream-offset": 2**40}),
        message(2, b"two", headers={"x-stream-offset": 8}, delivery_mode=2),
        message(3, b"three", headers={"a": "b", "x-stream-offset": 9}, content_type="x", app_id="y"),
        message(4, big, headers={"x-stream-offset": 10}),
        message(5, b"", headers={"x-stream-offset": 11}),
        message(6, b"no stream", channel=4),
        frame.marshal(commands.Connection.Blocked("low on disk"), 0),
        frame.marshal(commands.Connection.Unblocked(), 0),
    ]
    data = b"".join(stream)
    expected: list[tuple[Any, ...]] = [
        (3, 1, 2**40, b"one"),
        (3, 2, 8, b"two"),
        (3, 3, 9, b"three"),
        (3, 4, 10, big),
        (3, 5, 11, b""),
        (4, 6, None, b"no stream"),
        ("blocked", "low on disk"),
        ("blocked", None),
    ]
    rng = random.Random(2)
    for longest in (1, 7, 100, 10_000):
        ear.heard.clear()
        at = 0
        while at < len(data):
            size = rng.randint(1, longest)
            link.data_received(data[at : at + size])
            at += size
        assert ear.heard == expected


async def test_messages_of_two_channels_may_be_mixed(ear: Ear, link: Link) -> None:
    one = message(1, b"a" * 20, channel=3, most=10, headers={"x-stream-offset": 1})
    two = message(1, b"b" * 20, channel=4, most=10, headers={"x-stream-offset": 2})
    half = len(one) - 18
    link.data_received(one[:half] + two[:half] + one[half:] + two[half:])
    assert ear.heard == [(3, 1, 1, b"a" * 20), (4, 1, 2, b"b" * 20)]


async def test_of_a_message_too_long_only_that_it_came_is_kept(
    ear: Ear, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "MAX_BODY", 2000)
    link.data_received(message(1, b"x" * 2001, headers={"x-stream-offset": 1}))
    link.data_received(message(2, b"x" * 2000, headers={"x-stream-offset": 2}))
    assert [(tag, offset, body and len(body)) for _, tag, offset, body in ear.heard] == [
        (1, 1, None),
        (2, 2, 2000),
    ]


async def test_each_publish_is_confirmed_for_itself(link: Link) -> None:
    head = publishing("q")
    confirms = [link.publish(head, b"x") for _ in range(6)]

    def done() -> list[bool]:
        return [confirm.done() for confirm in confirms]

    link.data_received(frame.marshal(commands.Basic.Ack(3, False), 1))
    assert done() == [False, False, True, False, False, False]
    link.data_received(frame.marshal(commands.Basic.Ack(4, True), 1))
    assert done() == [True] * 4 + [False] * 2
    link.data_received(frame.marshal(commands.Basic.Nack(5, False), 1))
    assert isinstance(confirms[4].exception(), Nacked)
    link.abort("over")
    assert isinstance(confirms[5].exception(), Lost)


async def test_what_came_back_is_told_before_it_is_confirmed(ear: Ear, link: Link) -> None:
    confirm = link.publish(publishing("q"), b"body")
    back = [
        frame.marshal(commands.Basic.Return(312, "NO_ROUTE", "", "q"), 1),
        frame.marshal(ContentHeader(0, 4, commands.Basic.Properties()), 1),
        frame.marshal(ContentBody(b"body"), 1),
    ]
    link.data_received(b"".join(back))
    assert ear.heard == [("returned", b"body")] and not confirm.done()


async def test_a_long_message_is_cut_into_frames(link: Link) -> None:
    body = random.Random(3).randbytes(300_000)
    link.publish(publishing("q"), body)
    link._flush()
    assert isinstance(link._transport, Sent)
    data, parts = link._transport.data, []
    while data:
        size, channel, one = frame.unmarshal(data)
        assert channel == 1 and size <= 128 * 1024
        if isinstance(one, ContentBody):
            parts.append(one.value)
        data = data[size:]
    assert b"".join(part or b"" for part in parts) == body and len(parts) == 3


async def test_a_channel_that_is_closed_tells_who_waits_there_and_nobody_else(link: Link) -> None:
    asked = link.call(2, commands.Queue.Declare(0, "q"))
    other = link.call(3, commands.Queue.Declare(0, "q"))
    link.data_received(frame.marshal(commands.Channel.Close(404, "NOT_FOUND - no queue", 50, 10), 2))
    error = asked.exception()
    assert isinstance(error, Lost) and error.code == 404 and not other.done() and not link.lost.done()
    link.data_received(frame.marshal(commands.Channel.Close(403, "ACCESS_REFUSED", 60, 40), 1))
    assert link.lost.done() and link.lost.result().code == 403
    assert isinstance(other.exception(), Lost)
    with pytest.raises(BackendUnavailable, match="ACCESS_REFUSED"):
        link.call(2, commands.Queue.Declare(0, "q"))


async def test_the_end_of_our_reading_is_the_end_of_the_link(link: Link) -> None:
    link.data_received(frame.marshal(commands.Basic.Cancel("ctag", True), 3))
    assert "deleted" in str(link.lost.result())


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0b\x00",  # no end
        b"\x01\x00\x00\x00\x00\x00\x04\xff\xff\xff\xff\xce",  # no such method
        b"\x03\x00\x01\x00\x00\x00\x01x\xce",  # a body without a header
        b"\x02\x00\x01\x00\x00\x00\x0e" + bytes(14) + b"\xce",  # a header without a message
        b"\x01\x00\x01\x00\xff\xff\xff\x00",  # a frame longer than agreed
        frame.marshal(commands.Queue.DeclareOk("q", 0, 0), 1),  # an answer to nothing
    ],
)
async def test_what_no_broker_says_ends_the_link(link: Link, data: bytes) -> None:
    link.data_received(data)
    assert link.lost.done()
    link.data_received(data)


# --- signs of life ----------------------------------------------------------------------------------------------------

BEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
ANSWER = frame.marshal(commands.Queue.DeclareOk("q", 0, 0), 2)


@pytest.fixture
async def session(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Two links that heard something at 100 s, when it is that late."""
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 100.0)
    out, tail = Link(ear), Link(ear)
    for link in (out, tail):
        link.connection_made(Sent())
    return Session(out, tail, Options(), "RabbitMQ")


def keeper_of(session: Session) -> Keeper:
    """Who has that session."""
    keeper = Keeper(session.options)
    keeper.session = session
    return keeper


def at(monkeypatch: pytest.MonkeyPatch, seconds: float) -> float:
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: seconds)
    return seconds


async def test_a_silent_link_is_asked_and_given_up_within_four_seconds(session: Session) -> None:
    assert session.beat(101.0) == 102.0 and session.beat(102.0) == 104.0
    assert session.beat(103.99) == pytest.approx(104.0) and session.lost() is None
    session.beat(104.0)
    assert "no sign of life for 4.0 s" in str(session.lost())


async def test_an_answer_is_a_sign_of_life_and_the_brokers_heartbeat_is_none(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.beat(102.0)
    at(monkeypatch, 103.0)
    session.out.data_received(BEAT)
    session.tail.data_received(ANSWER)
    session.beat(104.0)
    assert session.out.lost.done() and not session.tail.lost.done()


async def test_the_brokers_heartbeat_is_all_that_is_asked_of_a_barred_link(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.out.data_received(frame.marshal(commands.Connection.Blocked("low on disk"), 0))
    for seconds in (105.0, 110.0, 135.0):
        session.tail.heard = at(monkeypatch, seconds)
        session.out.data_received(BEAT)
        session.beat(seconds)
    assert session.lost() is None
    session.tail.heard = at(monkeypatch, 136.0)
    session.out.data_received(frame.marshal(commands.Connection.Unblocked(), 0))
    session.beat(137.0)
    assert session.lost() is None
    session.beat(140.0)
    assert session.out.lost.done()


async def test_who_stood_still_before_asking_gives_the_answer_all_its_time(session: Session) -> None:
    session.stood_still(109.0)
    assert session.beat(109.0) == 111.0 and session.lost() is None
    session.stood_still(110.9)
    session.beat(111.0)
    assert session.lost() is not None


async def test_who_stood_still_after_asking_spares_a_link_for_a_moment_and_once(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.beat(102.0)
    session.stood_still(106.0)
    assert session.beat(106.0) == 106.5 and session.lost() is None
    at(monkeypatch, 106.4)
    session.tail.data_received(ANSWER)
    session.stood_still(108.0)
    session.beat(108.0)
    assert session.out.lost.done() and not session.tail.lost.done()


async def test_who_gets_no_answer_before_reading_begins_does_not_wait_for_ever(
    ear: Ear, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "DECLARING", 0.05)
    session = Session(Link(ear), link, Options(), "RabbitMQ")
    async with asyncio.timeout(20):
        with pytest.raises(Lost, match=r"no answer within 0\.05 s to reading 'log'"):
            await session.read(3, "log", "first")


async def test_what_was_confirmed_and_not_read_is_in_but_nobody_knows_of_a_version(session: Session) -> None:
    keeper = keeper_of(session)
    sent = [keeper.send(session, MESSAGE, id=b"1", rest=b"x", number=number) for number in (None, 7, None)]
    session.out.data_received(frame.marshal(commands.Basic.Ack(2, True), 1))
    await asyncio.sleep(0)
    keeper._let_late_ones_go(100.0 + READ_LATE)
    assert [waiting.read.done() for waiting in sent] == [True, False, False]
    session.out.data_received(frame.marshal(commands.Basic.Ack(3, False), 1))
    await asyncio.sleep(0)
    keeper._give_up("cut by the test")
    assert sent[0].read.result() == sent[2].read.result() == Accepted(None)
    assert isinstance(sent[1].read.exception(), Lost)


@pytest.mark.parametrize("kind", [SUMMARY, TOUCH, LEAVE])
@pytest.mark.parametrize("rest", [b'{"word": 1}', b"[1]", b"[[[]]]", b"\xff", b"", b"[" * 100_000])
async def test_an_entry_that_does_not_read_is_counted_and_ends_nothing(
    session: Session, kind: int, rest: bytes
) -> None:
    keeper = keeper_of(session)
    channel = LOG if kind == SUMMARY else PRESENCE
    for offset in (5, 6):
        keeper.delivered(channel, offset, offset, write(kind, 9, channel=b"c", rest=rest, number=5))
    assert keeper.foreign == 2 and session.lost() is None


async def test_what_was_seen_is_not_forgotten_when_reading_anew_is_begun_twice(session: Session) -> None:
    keeper = keeper_of(session)

    def read(*offsets: int, epoch: bytes = b"one") -> None:
        kind = BEGIN if 0 in offsets else MARK
        for offset in offsets:
            keeper.log.take(offset, write(kind, 9, id=epoch, number=1, rest=b"%d" % offset))

    def witness() -> tuple[int, str] | None:
        keeper._start_over(keeper._log, "said the test")
        return keeper._witness and (keeper._witness.offset, keeper._witness.epoch)

    read(0, 1, 2, 3)
    assert witness() == (3, "one")
    assert witness() == (3, "one"), "before anything was read again"
    read(0, 1)
    assert witness() == (3, "one"), "before it was read as far again"
    read(0, 1, 2, 3, 4)
    assert witness() == (4, "one")
    read(0, 1, epoch=b"two")
    assert witness() == (1, "two"), "another stream"
