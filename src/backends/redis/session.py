"""The two links to one server, from their handshake to the loss of either.

A session is one *generation*: when one link is lost both are given up, so that nobody has to think about a command
link to one server and a subscription to another. Both handshakes read the server's *term*: its ``run_id``, which every
start makes anew, and its ``master_replid``, which every promotion to primary makes anew. It says that both lead to one
process, and, joined to the epochs of a store that is not declared durable, that this process vouches for them, and
only for the time since it is primary: one that was a replica in between has taken over another's data.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..keeping import Lost, Unusable
from .link import Command, Link, Reply, ReplyError
from .options import Options
from .refusal import Kind, refusal
from .scripts import SCRIPTS, Script
from .unborn import Unborn

OLDEST = (6, 2)
SUBSCRIBE_AT_ONCE = 500  # names in a command
LOOK: Command = ("INFO", "replication")


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says about itself.

    Args:
        run_id: of its process.
        term: of its time as primary, in this process.
        version: as Redis counts, which Valkey states too.
        name: with its own version, for logs.
        warnings: what should be changed, in words.
        durable: it keeps what it acknowledged over a restart, as far as its settings tell.
    """

    run_id: str
    term: str
    version: tuple[int, ...]
    name: str
    warnings: tuple[str, ...]
    durable: bool

    @classmethod
    def read(cls, info: Mapping[str, str], options: Options) -> Server:
        """What INFO says, checked.

        Raises:
            Unusable: it is too old, a cluster, a sentinel or a replica.
            Lost: it is not ready yet.
        """
        version = tuple(int(part) for part in re.findall(r"\d+", info.get("redis_version", ""))[:3])
        name = f"Redis {info.get('redis_version', '?')}"
        if "valkey_version" in info:
            name = f"Valkey {info['valkey_version']}"
        _check_usable(info, version, name)
        if info.get("loading", "0") != "0":
            raise Lost(f"{name} is loading its data")
        warnings = []
        if (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction" and _limited(info):
            warnings.append(
                f"maxmemory-policy is {policy}: when memory is full channels are dropped, each with a Gap, and "
                "messages may be doubled; set maxmemory-policy noeviction"
            )
        durable = info.get("aof_enabled", "1") != "0"
        if options.durable and not durable:
            warnings.append(
                "the URL says durable=1, but appendonly is no: a restart would lose messages, so it will be a Gap; "
                "set appendonly yes"
            )
        return cls(info["run_id"], term_of(info), version, name, tuple(warnings), durable)


def _limited(info: Mapping[str, str]) -> bool:
    return info.get("maxmemory", "0") != "0"


def _check_usable(info: Mapping[str, str], version: tuple[int, ...], name: str) -> None:
    if not version or "run_id" not in info:
        raise Unusable("the server's INFO has no redis_version or run_id: is it a Redis?")
    if version < OLDEST:
        raise Unusable(f"the server is {name}; Redis 6.2 or later, or Valkey, is needed")
    mode = info.get("redis_mode") or info.get("server_mode", "standalone")  # Valkey's word for it
    if mode == "cluster":
        raise Unusable(f"{name} runs in cluster mode, which is not supported: cluster-enabled no")
    if mode == "sentinel":
        raise Unusable(f"{name} is a Sentinel, which holds no data: give the address of the primary")
    if info.get("role", "master") != "master":
        primary = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
        raise Unusable(f"{name} is a replica of {primary}: the URL must lead to the primary")


def term_of(info: Mapping[str, str]) -> str:
    """The process and its time as primary, by its INFO: 40 hexadecimal digits."""
    words = f"{info.get('run_id', '')} {info.get('master_replid', '')}"
    return hashlib.sha1(words.encode(), usedforsecurity=False).hexdigest()


def suffix_of(term: str) -> str:
    """What epochs are joined with: a dot and 48 bits of the term."""
    bits = bytes.fromhex(term[:12])
    return "." + base64.urlsafe_b64encode(bits).decode().rstrip("=")


class Session:
    """Two links that are up.

    Args:
        commands: for commands.
        events: subscribed.
        server: what it said.
        options: of the backend.
    """

    def __init__(self, commands: Link, events: Link, server: Server, options: Options) -> None:
        self.commands = commands
        self.events = events
        self.server = server
        self.options = options
        vouched = options.durable and server.durable
        self.term: str = server.run_id if vouched else server.term
        """What is noted with a channel: the process, or its time as primary, that published to it last."""
        self.suffix: str = "" if vouched else suffix_of(server.term)
        """What the epochs that users see end with."""
        self.unborn: Unborn = Unborn()
        """What stands for the channels that the server does not have."""
        self._asked = asyncio.get_running_loop().time()

    @classmethod
    async def open(
        cls, options: Options, context: ssl.SSLContext | None, *, topic: str, push: Callable[[Reply], None]
    ) -> Session:
        """Connect, introduce ourselves, look at the server, load the scripts, subscribe to *topic*.

        Raises:
            Unusable, Lost, OSError, TimeoutError: it does not work; nothing is left open.
        """
        links: list[Link] = []
        try:
            async with asyncio.timeout(options.connect_timeout):
                commands = await _connect(options, context, _unasked(links), links)
                server = await _greet(commands, options)
            async with asyncio.timeout(options.connect_timeout):
                events = await _connect(options, context, push, links)
                await _listen(events, options, server, topic)
        except BaseException:
            for link in links:
                link.abort("the handshake failed")
            raise
        return cls(commands, events, server, options)

    def close(self, why: str) -> None:
        """Give both links up; idempotent."""
        self.commands.abort(why)
        self.events.abort(why)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for messages; the server confirms each by a push."""
        for names in _chunks(topics):
            self.events.tell("SUBSCRIBE", *names)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """No more messages."""
        for names in _chunks(topics):
            self.events.tell("UNSUBSCRIBE", *names)

    # --- commands ---------------------------------------------------------------------------------------------------

    async def transaction(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies to *commands*, carried out together; errors are among them, as values.

        Where the server refuses MULTI they are carried out one after the other.

        Raises:
            Lost: no answer came. BackendUnavailable: nothing was sent.
        """
        multi, *queued, done = await self.commands.batch([["MULTI"], *commands, ["EXEC"]])
        if isinstance(multi, ReplyError):
            return queued  # each was carried out, or refused, by itself
        if isinstance(done, ReplyError):
            return [next((reply for reply in queued if isinstance(reply, ReplyError)), done)]
        replies: list[Reply] = done
        return replies

    async def run(self, script: Script, calls: Sequence[Command]) -> list[Reply]:
        """The reply of *script* to each of *calls* (number of keys, keys, arguments); errors as values.

        Raises:
            Lost, BackendUnavailable: see :meth:`transaction`.
        """
        replies = await self.commands.batch([["EVALSHA", script.sha, *call] for call in calls])
        again = [n for n, reply in enumerate(replies) if is_forgotten(reply)]
        if again:
            await self.load()
            more = await self.commands.batch([["EVALSHA", script.sha, *calls[n]] for n in again])
            for n, reply in zip(again, more, strict=True):
                replies[n] = reply
        return replies

    async def load(self) -> None:
        """Load the scripts again, after SCRIPT FLUSH."""
        await self.commands.batch([["SCRIPT", "LOAD", script.source] for script in SCRIPTS])

    def load_later(self) -> None:
        """The same, without waiting until it is done: what is sent after this finds the scripts.

        Raises:
            BackendUnavailable: the link is gone.
        """
        for script in SCRIPTS:
            self.commands.post("SCRIPT", "LOAD", script.source)

    # --- signs of life ----------------------------------------------------------------------------------------------

    def beat(self, now: float) -> float:
        """Ask a link that is silent for a sign of life, give up one that gives none; when to look again."""
        again = self._ask_term(now)
        for link in (self.commands, self.events):
            silent = now - link.received
            if silent >= 2 * self.options.heartbeat:
                link.abort(f"no sign of life for {silent:.1f} s")
            elif silent >= self.options.heartbeat and not link.pinged:
                link.ping(pushed=link is self.events)
            beats = 2 if link.pinged else 1
            again = min(again, link.received + beats * self.options.heartbeat)
        return again

    def _ask_term(self, now: float) -> float:
        """Ask every heartbeat whether the term goes on, where it matters; when to ask again."""
        again = self._asked + self.options.heartbeat
        if now >= again:
            self._asked, again = now, now + self.options.heartbeat
            if self.suffix and not self.commands.lost.done():
                self.commands.call(*LOOK).add_done_callback(self._term_answered)
        return again

    def _term_answered(self, answer: asyncio.Future[Reply]) -> None:
        if not answer.cancelled() and answer.exception() is None:
            self.same_term(answer.result())

    def same_term(self, reply: Reply) -> bool:
        """Whether the term went on until the server answered :data:`LOOK`; if not the session is given up."""
        if not self.suffix or isinstance(reply, ReplyError):
            return True  # nothing hangs on it; or it was no answer
        info = {"run_id": self.server.run_id, **parse_info(reply)}
        if term_of(info) == self.server.term:
            return True
        self.close(
            "the server began another term as primary, or is none: REPLICAOF, or its first replica came"
        )
        return False

    async def wait(self, seconds: float) -> None:
        """Wait so long, or until a link is lost.

        Raises:
            Lost: one is.
        """
        losses = {self.commands.lost, self.events.lost}
        await asyncio.wait(losses, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        for lost in losses:
            if lost.done():
                raise Lost(lost.result())


def is_forgotten(reply: Reply) -> bool:
    """The server does not know the script any more."""
    return isinstance(reply, ReplyError) and "NOSCRIPT" in str(reply)


def _chunks(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[at : at + SUBSCRIBE_AT_ONCE] for at in range(0, len(names), SUBSCRIBE_AT_ONCE))


def _unasked(links: list[Link]) -> Callable[[Reply], None]:
    """What to do with a reply to no command: the two sides no longer agree who answers what."""

    def give_up(reply: Reply) -> None:
        links[0].abort(f"an answer to nothing came: {reply!r:.100}")

    return give_up


# --- the handshake --------------------------------------------------------------------------------------------------


async def _connect(
    options: Options, context: ssl.SSLContext | None, push: Callable[[Reply], None], links: list[Link]
) -> Link:
    loop = asyncio.get_running_loop()
    link = Link(push)
    if options.socket:
        await loop.create_unix_connection(lambda: link, options.socket)
    else:
        await loop.create_connection(lambda: link, options.host, options.port, ssl=context)
    links.append(link)
    return link


def _introduction(options: Options) -> list[Command]:
    """Who we are, and which database."""
    commands: list[Command] = []
    if options.password:
        user = [options.user] if options.user else []
        commands.append(["AUTH", *user, options.password])
    if options.db:
        commands.append(["SELECT", options.db])
    return commands


async def _greet(link: Link, options: Options) -> Server:
    """Introduce the link for commands, look at the server, and load the scripts: one round trip."""
    introduction = _introduction(options)
    named: list[Command] = [["CLIENT", "SETNAME", options.name]]
    scripts: list[Command] = [["SCRIPT", "LOAD", script.source] for script in SCRIPTS]
    replies = await link.batch([*introduction, ["INFO"], *scripts, *named])
    info, *loaded = replies[len(introduction) :][
        :-1
    ]  # a server that lets no client be named is good all the same
    _check(replies[: len(introduction)])
    _check([info])
    server = Server.read(parse_info(info), options)
    _check(loaded)
    return server


async def _listen(link: Link, options: Options, server: Server, topic: str) -> None:
    """Introduce the link for subscriptions, and see that it leads to the same process and term: one round trip."""
    commands = [*_introduction(options), ["INFO"], ["SUBSCRIBE", topic]]
    replies = await link.batch(commands)
    _check(replies)
    if term_of(parse_info(replies[-2])) != server.term:
        raise Lost("the address leads to several servers at the moment")


def _check(replies: Sequence[Reply]) -> None:
    """Raise the first error among *replies*."""
    for reply in replies:
        if isinstance(reply, ReplyError):
            found = refusal(reply)
            if found.kind is Kind.LATER:
                raise Lost(found.words)
            raise Unusable(found.words)


def parse_info(reply: Any) -> dict[str, str]:
    """INFO's answer as a table."""
    lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
