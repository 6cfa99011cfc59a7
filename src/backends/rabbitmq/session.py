"""The two links to one server, from their handshake to the loss of either.

One publishes and one reads: a broker that is short of memory or disk stops reading from connections that publish, and
the other must go on. When one is lost both are given up.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from .link import PROBE, PUBLISH, Answer, Ear, Link, Lost, connect, passive, publishing
from .options import Options
from .refusal import check_server

LOG, PRESENCE = 3, 4  # the channels on which the log and the stream of presence are read
PREFETCH = 4000  # entries the broker sends ahead of what was acknowledged
HEARTBEAT = 10  # seconds, as agreed with the broker: only for when it reads nothing from us
DECLARING = 10.0  # seconds a cluster may take to create a stream, or to let us read it

logger: logging.Logger = logging.getLogger("samovar.rabbitmq")


class Session:
    """Two links that are up.

    Args:
        out: publishes.
        tail: reads.
        options: of the backend.
        server: its name and version.
    """

    def __init__(self, out: Link, tail: Link, options: Options, server: str) -> None:
        self.out = out
        self.tail = tail
        self.options = options
        self.server = server
        self.heads: dict[str, bytes] = {
            stream: publishing(stream) for stream in (options.stream, options.presence)
        }
        """What a message to each stream begins with."""
        self.unusable = ""
        """Why connecting again does not help, where it does not."""
        self._asked = dict.fromkeys((out, tail), 0.0)
        self._spared = dict.fromkeys((out, tail), 0.0)  # until when a link is not given up

    @classmethod
    async def open(cls, options: Options, context: ssl.SSLContext | None, ear: Ear) -> Session:
        """Connect twice, see that the server can be used, and that the stream is there.

        Raises:
            Unusable: somebody has to change something.
            Lost, OSError, TimeoutError: the server is not there, or hung up.
        """
        links: list[Link] = []
        try:
            async with asyncio.timeout(options.connect_timeout):
                out, properties = await _greet(options, context, ear, links)
                server = check_server(properties)
                tail, _ = await _greet(options, context, ear, links)
            async with _patiently(f"to the declaration of {options.stream!r}"):
                for link in links:
                    await link.open_channel(PROBE)
                await _declare(tail, options.stream, options.arguments(size=options.size, age=options.age))
                await _declare(
                    tail, options.presence, options.arguments(size=options.size // 4, age=options.age)
                )
                await out.open_channel(PUBLISH)
                await out.confirm()
                await tail.open_channel(LOG)
                await tail.open_channel(PRESENCE)
        except BaseException:
            for link in links:
                link.leave("it was not needed any more")
            raise
        return cls(out, tail, options, server)

    async def read(self, channel: int, stream: str, offset: int | str) -> None:
        """Read *stream* from *offset* on.

        Raises:
            Lost: the link is gone or silent, the stream is not there yet, or the queue is none.
        """
        async with _patiently(f"to reading {stream!r}"):
            await self.tail.consume(channel, stream, offset=offset, prefetch=PREFETCH)

    def close(self, why: str) -> None:
        """Give both links up; idempotent."""
        self.out.leave(why)
        self.tail.leave(why)

    # --- signs of life ----------------------------------------------------------------------------------------------

    def beat(self, now: float) -> float:
        """Ask a link that is silent for a sign of life, give up one that gives none; when to look again."""
        again = now + HEARTBEAT / 4
        for link in (self.out, self.tail):
            if link.lost.done():
                continue
            link.beat()
            heard, patience = link.heard, 2 * self.options.heartbeat
            if link.barred is not None:
                # Nothing we say is read now. The broker's own heartbeats come all the same.
                heard, patience = link.received, max(patience, 3.0 * HEARTBEAT)
            elif now - heard >= self.options.heartbeat and self._asked[link] <= heard:
                self._asked[link] = now
                answer = link.call(PROBE, passive(self.options.stream))
                answer.add_done_callback(lambda answer, link=link: _answered(answer, link))  # type: ignore[misc]
            end = max(heard + patience, self._spared[link])
            if now >= end:
                link.abort(f"no sign of life for {now - heard:.1f} s")
            due = end if self._asked[link] > heard else heard + self.options.heartbeat
            again = min(again, max(due, now + 0.01))
        return again

    def stood_still(self, now: float) -> None:
        """The loop stood still, and has read since what lay there: what was asked before is answered in a moment or
        never, and what could not be asked has all its time.

        One question is spared once, so that a loop which stands again and again finds a dead link all the same.
        """
        for link in (self.out, self.tail):
            if self._asked[link] <= link.heard:
                self._spared[link] = now + self.options.heartbeat
            elif self._spared[link] <= self._asked[link]:
                self._spared[link] = now + self.options.heartbeat / 4

    def lost(self) -> Lost | None:
        """Why one of the links is gone, None while both are there."""
        for link in (self.out, self.tail):
            if link.lost.done():
                return link.lost.result()
        return None


@asynccontextmanager
async def _patiently(what: str) -> AsyncIterator[None]:
    """Wait for answers *what* as long as a cluster may need, and no longer: nobody else looks at the links yet.

    Raises:
        Lost: they did not come.
    """
    try:
        async with asyncio.timeout(DECLARING):
            yield
    except TimeoutError:
        raise Lost(f"no answer within {DECLARING:g} s {what}") from None


def _answered(answer: Answer, link: Link) -> None:
    """A sign of life, or the news that the stream is gone."""
    if not answer.cancelled() and (error := answer.exception()) is not None:
        link.abort(str(error), getattr(error, "code", 0))


async def _greet(
    options: Options, context: ssl.SSLContext | None, ear: Ear, links: list[Link]
) -> tuple[Link, dict[str, Any]]:
    """Connect and introduce ourselves."""
    link = await connect(ear, options.host, options.port, context, links)
    properties = await link.greet(
        options.user, options.password, options.vhost, name=options.name, heartbeat=HEARTBEAT
    )
    return link, properties


async def _declare(link: Link, stream: str, arguments: dict[str, Any]) -> None:
    """See that a stream is there, and create it where it is not and we may.

    One that is there with other bounds, or that an operator made for a user without the right to, is taken as it is.
    """
    try:
        await link.declare(PROBE, stream, arguments=arguments)
    except Lost as error:
        if error.code not in (403, 406):
            raise
        await link.open_channel(PROBE)
        await _declare_passively(link, stream, error)


async def _declare_passively(link: Link, stream: str, refused: Lost) -> None:
    try:
        await link.declare(PROBE, stream, passive=True)
    except Lost as error:
        raise refused if error.code == 404 else error from None
    if refused.code == 406:
        logger.info("the stream %s is there with other bounds, which hold: %s", stream, refused)
