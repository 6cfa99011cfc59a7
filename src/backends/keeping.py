"""Keeps a session with a broker up, and says how it is: what the keepers of all brokers have in common.

::

    open a session ──► come up ──► serve ──┐
          ▲                                │ a link is lost, or none was made
          └── wait a little (jitter) ◄── say down, and why

A cause is logged once and not with every attempt, so a broker that is away for an hour costs one line. Where somebody
has to change something first (:class:`Unusable`) attempts are further apart.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Generic, NoReturn, TypeVar

from ..broadcast.backend import Health, Receiver, State
from ..broadcast.retry import Signal, delays
from ..errors import BackendUnavailable
from .options import BrokerOptions

LATEST = (
    0.3  # seconds, at most, between two attempts to connect: an outage ends with the broker's, not long after
)
CALM = 5.0  # seconds a session lasts, after which the next loss is a new trouble and not the same
MAX_TOLD = 20  # causes that are logged in one trouble

OptionsT = TypeVar("OptionsT", bound=BrokerOptions)
SessionT = TypeVar("SessionT")


class Lost(Exception):
    """The link went while an answer was awaited; the message says why. What was asked for may have been done."""


class Unusable(Exception):
    """The server answers, but it cannot be used as it is or as we are known to it; the message says what to change."""


class SessionKeeper(ABC, Generic[OptionsT, SessionT]):
    """See the module. Its owner awaits :meth:`run`; it has no tasks.

    Args:
        options: where the server is, and how long things may take.
        logger: the broker's.
    """

    broker: ClassVar[str]
    """Its name, in messages."""
    first_unusable: ClassVar[float]
    """Seconds, at most, to the second attempt where somebody has to change something first."""
    latest_unusable: ClassVar[float]
    """Seconds, at most, between further ones."""

    def __init__(self, options: OptionsT, logger: logging.Logger) -> None:
        self.options: OptionsT = options
        self.session: SessionT | None = None
        self.why: str = "not connected yet"
        """The reason of having no session that is up."""
        self._receiver: Receiver | None = None
        self._generation = 0
        self._lag: float | None = None
        self._logger = logger
        self._context: ssl.SSLContext | None = None
        self._attempted = False
        self._attempt = Signal()
        self._told: set[str] = set()

    def words(self, why: object) -> str:
        """*why*, with the server."""
        return f"{self.broker} at {self.options.where}: {why}"

    async def run(self, receiver: Receiver) -> NoReturn:
        """Keep a session up until cancelled."""
        self._receiver = receiver
        loop = asyncio.get_running_loop()
        waits, waits_unusable = delays(most=LATEST), self._waits_unusable()
        while True:
            began, generation = loop.time(), self._generation
            try:
                await self._serve(receiver)
            except (Unusable, Lost, BackendUnavailable, OSError) as failure:
                error = self._meaning(failure)
                self.why = self._reason(error)
                calm = loop.time() - began > CALM
                if calm:
                    waits = delays(most=LATEST)
                    self._told.clear()
                if calm or self._generation > generation:  # what made it unusable was put right before
                    waits_unusable = self._waits_unusable()
                wait = next(waits_unusable if isinstance(error, Unusable) else waits)
            finally:
                self._end_first_attempt()
            self._log_once(logging.WARNING, f"{self.why}; connecting again until it works")
            receiver.health(Health(State.DOWN, self._generation, f"{self.options.where}: {self.why}"))
            await asyncio.sleep(wait)

    def _waits_unusable(self) -> Iterator[float]:
        return delays(first=self.first_unusable, most=self.latest_unusable)

    # --- what a broker's keeper does in its own way -----------------------------------------------------------------

    @abstractmethod
    async def _serve(self, receiver: Receiver) -> NoReturn:
        """One session from its beginning to its loss; it begins by :meth:`_connect`.

        Raises:
            Unusable: somebody has to change something.
            Lost, BackendUnavailable, OSError: it is worth trying again.
        """

    @abstractmethod
    async def _open(self, context: ssl.SSLContext | None) -> SessionT:
        """Open a session; *context* is that for TLS, where the URL wants it."""

    def _meaning(self, failure: Exception) -> Exception:
        """What a failure of :meth:`_serve` comes to, where it says more than its class."""
        return failure

    # --- what each of them uses -------------------------------------------------------------------------------------

    async def _connect(self) -> SessionT:
        """Open a session. The files for TLS are read once, and again where they did not do."""
        if self.options.tls and self._context is None:
            self._context = self.options.context()
        try:
            return await self._open(self._context)
        except ssl.SSLError:
            self._context = None  # perhaps other files lie there by the next attempt
            raise

    async def _first_attempt(self) -> None:
        """Wait until the first attempt is over; not for long where nobody runs this."""
        if not self._attempted:
            await self._attempt.wait(2 * self.options.connect_timeout)

    def _end_first_attempt(self) -> None:
        """Let those go on who wait for it."""
        self._attempted = True
        self._attempt.wake()

    def _come_up(self, server: str) -> None:
        """A new generation begins, with *server*."""
        self._generation += 1
        self._lag = None
        self._log_once(logging.INFO, f"connected to {server}")

    def _log_once(self, level: int, words: str) -> None:
        """Log what was not logged since things were calm for the last time."""
        if words not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(words)
            self._logger.log(level, "%s at %s: %s", self.broker, self.options.where, words)

    def _reason(self, error: Exception) -> str:
        """Why a connection failed, in words."""
        if isinstance(error, TimeoutError):
            return f"no answer within {self.options.connect_timeout:g} s"
        words = str(error) or type(error).__name__
        if self.options.tls and "WRONG_VERSION_NUMBER" in words:
            words += f"; {self.options.form.plain}:// is the scheme without TLS"
        return words
