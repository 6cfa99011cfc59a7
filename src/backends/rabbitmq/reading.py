"""One stream as a session reads it: where we are in it, the proof that we may go on from there, and its marks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from ...errors import BackendUnavailable

ACKNOWLEDGE = 1000  # entries for which there is one acknowledgement


class Followed(Protocol):
    """What is made of the entries of a stream."""

    last: int
    """The offset of the newest entry that was taken, -1: none."""
    last_body: bytes | None

    def take(self, offset: int, body: bytes | None) -> None:
        """Take an entry in."""


FollowedT = TypeVar("FollowedT", bound=Followed)


class Reading(Generic[FollowedT]):
    """See the module.

    Args:
        stream: its name.
        channel: that on which it is read.
        make: makes what its entries are taken into, from the beginning.
    """

    def __init__(self, stream: str, channel: int, make: Callable[[], FollowedT]) -> None:
        self.stream = stream
        self.channel = channel
        self._make = make
        self.into: FollowedT = make()
        self.marks: Marks = Marks()
        self.progress: float = 0.0
        """When an entry came."""
        self.proof: tuple[int, bytes | None] | None = None
        """The entry that must come first; None: nothing is to be proved, or it was."""
        self.proved: asyncio.Future[None] | None = None
        self._acknowledged = 0

    def begin(self) -> int | str:
        """A session begins: where it reads from."""
        loop = asyncio.get_running_loop()
        self._acknowledged = 0
        self.progress = loop.time()
        self.proved = loop.create_future()
        last = self.into.last
        if last < 0:
            self.proof = None
            self.proved.set_result(None)
            return "first"
        self.proof = (last, self.into.last_body)
        return last

    def prove(self, offset: int, body: bytes | None) -> bool:
        """Whether the first entry is that which was taken last."""
        if self.proof != (offset, body):
            return False
        self.proof = None
        if self.proved is not None and not self.proved.done():
            self.proved.set_result(None)
        return True

    def start_over(self) -> None:
        """Forget everything: the next session reads from the stream's beginning."""
        self.proof = None
        self.into = self._make()

    def owed(self, tag: int) -> bool:
        """Whether it is time to acknowledge what came up to *tag*, so that the broker sends more."""
        if tag - self._acknowledged < ACKNOWLEDGE:
            return False
        self._acknowledged = tag
        return True


class Marks:
    """Waits until a mark of ours was read; who asks while one is on its way shares the next."""

    def __init__(self) -> None:
        self._asking: list[asyncio.Future[None]] = []
        self._marking: asyncio.Future[Any] | None = None

    async def settled(self, send: Callable[[], asyncio.Future[Any]]) -> None:
        """Return when everything that was in before this call was read.

        Args:
            send: writes a mark; the future is done when it was read.

        Raises:
            BackendUnavailable: it cannot be written or read.
        """
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[None] = loop.create_future()
        self._asking.append(asked)
        if len(self._asking) == 1 and self._marking is None:
            loop.call_soon(self._send, send)
        await asked

    def _send(self, send: Callable[[], asyncio.Future[Any]]) -> None:
        if self._marking is not None or not self._asking:
            return
        asking, self._asking = self._asking, []
        try:
            self._marking = send()
        except BackendUnavailable as error:
            return _answer(asking, error)
        self._marking.add_done_callback(partial(self._read, asking, send))

    def _read(
        self,
        asking: list[asyncio.Future[None]],
        send: Callable[[], asyncio.Future[Any]],
        mark: asyncio.Future[Any],
    ) -> None:
        _answer(asking, None if mark.cancelled() else mark.exception())
        self._marking = None
        self._send(send)


def _answer(asking: list[asyncio.Future[None]], error: BaseException | None) -> None:
    for asked in asking:
        if asked.done():
            continue
        if error is None:
            asked.set_result(None)
        else:
            asked.set_exception(BackendUnavailable(str(error)))
