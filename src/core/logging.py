"""The app's logger: named like the app, heard on standard error unless logging is set up otherwise."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from .app import Samovar

default_formatter = logging.Formatter("[%(asctime)s] %(levelname)s in %(module)s: %(message)s")


class _CurrentStderr(logging.StreamHandler[TextIO]):
    """Writes to whatever ``sys.stderr`` is at the moment, so that tests can capture it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        raise AttributeError("the default handler follows sys.stderr")


default_handler = _CurrentStderr()
default_handler.setFormatter(default_formatter)


def has_level_handler(logger: logging.Logger) -> bool:
    """Tell whether a handler of *logger* or of its parents takes the logger's level."""
    level = logger.getEffectiveLevel()
    current: logging.Logger | None = logger
    while current is not None:
        if any(handler.level <= level for handler in current.handlers):
            return True
        current = current.parent if current.propagate else None
    return False


def create_logger(app: Samovar) -> logging.Logger:
    """The logger of *app*: DEBUG in debug mode, with the default handler when nobody else would write it."""
    logger = logging.getLogger(app.name)
    if app.debug and not logger.level:
        logger.setLevel(logging.DEBUG)
    if not has_level_handler(logger):
        logger.addHandler(default_handler)
    return logger
