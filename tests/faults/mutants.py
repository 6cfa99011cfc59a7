"""Safeguards that can be taken out of the code, in this process or, by ``Plan.mutant``, in the workers of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from samovar.backends.rabbitmq import log, reading
from samovar.backends.redis import keeper, session
from samovar.broadcast import Record, channel


def no_incarnation(patch: Callable[[Any, str, Any], None]) -> None:
    """Epochs are those in the data, whichever process of the server gives them out, and no witness looks either."""
    patch(session, "suffix_of", lambda run_id: "")
    patch(keeper, "went_back", lambda *_, **__: False)


def no_contiguity(patch: Callable[[Any, str, Any], None]) -> None:
    """A live record is delivered whatever came before it."""

    def received(self: channel.Channel, record: Record) -> None:
        if self.flows:
            self._deliver(record)
        else:
            self._hold(record)

    patch(channel.Channel, "received", received)


def no_look_for_holes(patch: Callable[[Any, str, Any], None]) -> None:
    """RabbitMQ's stream is read on from wherever the server goes on."""

    def accepted(self: reading.Reading[Any], offset: int, body: bytes | None) -> bool:
        self.proof = (offset, body)
        taken = proved(self, offset, body)
        if offset > self.into.last:
            self.into.take(offset, body)
        return taken

    proved = reading.Reading.prove
    patch(reading.Reading, "prove", accepted)
    patch(log.Log, "_hole", lambda *_: None)


def no_memory_of_ids(patch: Callable[[Any, str, Any], None]) -> None:
    """Workers that read RabbitMQ's stream take every message for a new one."""
    patch(log.Log, "_known", lambda *_: False)


MUTANTS: dict[str, Callable[[Callable[[Any, str, Any], None]], None]] = {
    "no incarnation": no_incarnation,
    "no contiguity": no_contiguity,
}
