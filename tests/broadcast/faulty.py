"""A broker that can be cut off: the memory backend, really used, with faults between it and one hub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from samovar.backends.memory import Broker, MemoryBackend
from samovar.broadcast import Accepted, Health, Member, Page, Position, Receiver, Record, Retention, State
from samovar.errors import BackendUnavailable


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FaultyBackend(MemoryBackend):
    """One hub's link to a broker that others reach undisturbed.

    While it is ``cut`` live records are lost, calls raise BackendUnavailable, and attaching is remembered only. Each
    call to the broker takes ``turns`` turns of the loop (or ``slow[name]``) before it acts and as many after.
    """

    waits: ClassVar[bool] = True
    checks: ClassVar[bool] = True

    def __init__(self, broker: Broker | None = None, *, turns: int = 0) -> None:
        super().__init__(broker)
        self.turns = turns
        self.slow: dict[str, int] = {}
        self.is_cut = False
        self.drop: Callable[[Record], bool] = lambda record: False
        self.fail: dict[str, list[Exception | None]] = {}
        self.calls: list[tuple[str, Any]] = []
        self._wanted: dict[str, None] = {}
        self._outer: Receiver | None = None

    # --- the link ---------------------------------------------------------------------------------------------------

    def bind(self, receiver: Receiver) -> None:
        self._outer = receiver
        super().bind(self)

    def cut(self) -> None:
        """Lose the link, and say so."""
        self.is_cut = True
        self.outer.detached(None, "cut")
        self.outer.health(Health(State.DOWN, reason="cut"))

    def restore(self) -> None:
        """The link is back; what was attached before is attached again."""
        self.is_cut = False
        self.outer.health(Health(State.UP, generation=2))
        self.outer.attached(tuple(self._wanted))

    @property
    def outer(self) -> Receiver:
        assert self._outer is not None
        return self._outer

    # As the broker's receiver it stands between the broker and the hub.

    def attached(self, channels: Iterable[str]) -> None:
        if not self.is_cut:
            self.outer.attached(channels)

    def detached(self, channels: Iterable[str] | None, why: str) -> None:
        self.outer.detached(channels, why)

    def refused(self, channels: Iterable[str], why: str) -> None:
        self.outer.refused(channels, why)

    def health(self, health: Health) -> None:
        self.outer.health(health)

    def message(self, record: Record) -> None:
        if not self.is_cut and not self.drop(record):
            self.outer.message(record)

    # --- calls ------------------------------------------------------------------------------------------------------

    async def _pass(self, name: str, detail: Any = None) -> None:
        """Take time, note the call, and fail if that is planned or the link is cut."""
        self.calls.append((name, detail))
        for _ in range(self.slow.get(name, self.turns)):
            await asyncio.sleep(0)
        if self.is_cut:
            raise BackendUnavailable("cut")
        if planned := self.fail.get(name):
            error = planned.pop(0)
            if error is not None:
                raise error

    async def _back(self, name: str) -> None:
        for _ in range(self.slow.get(name, self.turns)):
            await asyncio.sleep(0)

    def count(self, name: str) -> int:
        """How often *name* was called."""
        return sum(call == name for call, _ in self.calls)

    async def publish(self, channel: str, envelope: bytes, **options: Any) -> Accepted:
        await self._pass("publish", options["id"])
        accepted = await super().publish(channel, envelope, **options)
        await self._pass("published", options["id"])
        return accepted

    async def publish_many(
        self, records: Sequence[tuple[str, bytes, str, Retention | None]], *, dedupe_seconds: float = 300.0
    ) -> list[Accepted]:
        await self._pass("publish_many", [id for _, _, id, _ in records])
        return [
            await MemoryBackend.publish(
                self, channel, envelope, id=id, retention=retention, dedupe_seconds=dedupe_seconds
            )
            for channel, envelope, id, retention in records
        ]

    async def attach(self, channels: Collection[str]) -> None:
        self._wanted.update(dict.fromkeys(channels))
        self.calls.append(("attach", tuple(channels)))
        await self._back("attach")
        await super().attach([channel for channel in channels if channel in self._wanted])

    async def detach(self, channels: Collection[str]) -> None:
        for channel in channels:
            self._wanted.pop(channel, None)
        self.calls.append(("detach", tuple(channels)))
        if planned := self.fail.get("detach"):
            error = planned.pop(0)
            if error is not None:
                raise error
        await super().detach(channels)

    async def history(self, channel: str, **options: Any) -> Page:
        await self._pass("history", channel)
        page = await super().history(channel, **options)
        await self._back("history")
        return page

    async def heads(self, channels: Collection[str], *, create: bool = False) -> Mapping[str, Position]:
        await self._pass("heads", tuple(channels))
        heads = await super().heads(channels, create=create)
        await self._back("heads")
        return heads

    async def touch(self, channel: str, members: Sequence[Member], *, lease: float) -> list[Member]:
        await self._pass("touch", channel)
        return await super().touch(channel, members, lease=lease)

    async def leave(self, channel: str, ids: Collection[str]) -> list[Member]:
        await self._pass("leave", channel)
        return await super().leave(channel, ids)

    async def sweep(self, channel: str) -> list[Member]:
        await self._pass("sweep", channel)
        return await super().sweep(channel)


class SparseBackend(FaultyBackend):
    """Numbers its records in tens, as a log does in which many channels lie."""

    @staticmethod
    def _out(position: Position) -> Position:
        return Position(position.epoch, position.offset * 10)

    def _record(self, record: Record) -> Record:
        return Record(record.channel, self._out(record.position), record.prev * 10, record.envelope)

    def message(self, record: Record) -> None:
        super().message(self._record(record))

    async def publish(self, channel: str, envelope: bytes, **options: Any) -> Accepted:
        accepted = await super().publish(channel, envelope, **options)
        assert accepted.position is not None
        return Accepted(self._out(accepted.position), accepted.duplicate)

    async def history(self, channel: str, **options: Any) -> Page:
        if (since := options.get("since")) is not None:
            offset = -(-since.offset // 10) if options.get("reverse") else since.offset // 10
            options["since"] = Position(since.epoch, offset)
        page = await super().history(channel, **options)
        return Page([self._record(record) for record in page.records], self._out(page.head), page.complete)

    async def heads(self, channels: Collection[str], *, create: bool = False) -> Mapping[str, Position]:
        heads = await super().heads(channels, create=create)
        return {channel: self._out(head) for channel, head in heads.items()}
