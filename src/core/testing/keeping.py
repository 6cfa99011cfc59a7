"""Keeping what was current in the app for the test that asked: ``async with client``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any

from ..ctx import Context, current_context
from ..signals import appcontext_pushed

_keeper: ContextVar[ContextKeeper] = ContextVar("samovar.testing.keeper")


class ContextKeeper:
    """Makes the context of the last request current in the test, so that ``g`` and ``session`` can be looked at.

    The context has been torn down by then; what its ``g`` and its session hold is still there.

    Args:
        app: the app whose contexts are kept; another app's are not.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self._seen: list[Context] = []  # the last one, or none
        self._pushed: tuple[Context, Token[Context]] | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Make the context current that a request inside this block ran under, in place of the one before."""
        self.release()
        self._seen.clear()
        token = _keeper.set(self)
        try:
            with appcontext_pushed.connected_to(_note, sender=self.app):
                yield
        finally:
            _keeper.reset(token)
        for context in self._seen:
            self._pushed = context, context.enter()

    def note(self, context: Context) -> None:
        """Remember *context*, if it is a request's."""
        if context.request is not None:
            self._seen[:] = [context]

    def release(self) -> None:
        """Let what was current before be current again; idempotent."""
        if self._pushed is not None:
            (context, token), self._pushed = self._pushed, None
            context.leave(token)


def _note(sender: Any, **extra: Any) -> None:
    """Hears of every context that is pushed; the variable says whose request it belongs to."""
    keeper, context = _keeper.get(None), current_context()
    if keeper is not None and context is not None:
        keeper.note(context)
