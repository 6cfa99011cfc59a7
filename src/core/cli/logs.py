"""Logging of a served app: warnings and errors always, requests in debug mode, all on standard error."""

from __future__ import annotations

import logging

from ..logging import LocalQueueHandler

FORMAT = "[%(asctime)s] %(levelname)s %(name)s: %(message)s"


def configure_logging(*, debug: bool) -> None:
    """Give the root logger a handler unless the app has set logging up, and the servers' loggers their levels."""
    level = logging.INFO if debug else logging.WARNING
    root = logging.getLogger()
    if not root.handlers:
        handler = LocalQueueHandler(logging.StreamHandler())
        handler.setFormatter(logging.Formatter(FORMAT))
        root.addHandler(handler)
        root.setLevel(level)
    for name in ("samovar.server", "samovar.access", "uvicorn.access", "uvicorn.error"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)
    logging.getLogger("asyncio").setLevel(
        logging.WARNING
    )  # INFO tells which selector is used, at every start
