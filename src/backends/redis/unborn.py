"""Channels that a server without room for them cannot let come to be; see :class:`Unborn`."""

from __future__ import annotations

from collections import OrderedDict

from ...broadcast.message import Position
from ..memory import new_epoch

MAX_UNBORN = 100_000  # channels; beyond that the one asked for longest ago gets another epoch


class Unborn:
    """Gives each channel that the server does not have one made-up head for the session.

    A head that changed with each look would say that the channel begins anew all the time.
    """

    def __init__(self) -> None:
        self._epochs: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._epochs)

    def head(self, channel: str) -> Position:
        """Where a channel stands that the server does not have."""
        epoch = self._epochs.get(channel)
        if epoch is None:
            epoch = self._epochs[channel] = new_epoch()
            if len(self._epochs) > MAX_UNBORN:
                self._epochs.popitem(last=False)
        else:
            self._epochs.move_to_end(channel)
        return Position(epoch, 0)

    def born(self, channel: str) -> None:
        """The server has it: if it goes, it does not come back under the same epoch."""
        self._epochs.pop(channel, None)


__all__ = ["Unborn"]
