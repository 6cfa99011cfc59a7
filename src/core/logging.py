"""The app's logger: named like the app, heard on standard error unless logging is set up otherwise.

Whoever writes a log line to a pipe or terminal may have to wait for its reader. In the loop that would keep every
client waiting, so what is logged there goes through a queue to a thread that writes it (:class:`LocalQueueHandler`).
"""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import queue
import sys
import threading
from contextvars import Context, copy_context
from logging.handlers import QueueHandler
from typing import TYPE_CHECKING, Any, TextIO
from weakref import WeakSet

if TYPE_CHECKING:
    from .app import Samovar

QUEUE_SIZE = 10_000  # records that wait to be written; with usual lines some MiB, and minutes of a busy log
FLUSH_TIMEOUT = 5.0  # seconds that the end of the process waits for a reader of its log

default_formatter: logging.Formatter = logging.Formatter(
    "[%(asctime)s] %(levelname)s in %(module)s: %(message)s"
)


class LocalQueueHandler(QueueHandler):
    """Stands in front of handlers that write, and lets a thread call them for what is logged in an event loop.

    What is logged elsewhere is written at once by who logs it, after all that was logged before; so a script's lines
    stay where they belong. A record is handled under the context it was logged in: formatters and filters may look at
    ``request``. When the queue is full, records are counted and left out, and the next one written says how many. At
    the end of the process the queue is written out, for at most :data:`FLUSH_TIMEOUT` seconds.

    Args:
        handlers: they write; each has its own level.
        size: how many records may wait.
    """

    def __init__(self, *handlers: logging.Handler, size: int = QUEUE_SIZE) -> None:
        self.handlers = handlers
        self.lost: int = 0
        self._size = size
        self._begin()
        super().__init__(self._records)
        _all.add(self)

    def _begin(self) -> None:
        self._records: queue.Queue[Any] = queue.Queue(self._size)
        self._written = 0
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many records wait to be written, beside one that may be."""
        return self._records.qsize()

    def createLock(self) -> None:
        """None: the lock would be held while a thread waits for the queue, and the loop would wait for that."""
        self.lock: None = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Ask the filters, which from Python 3.12 on may change the record, and pass it on; without a lock."""
        kept: Any = self.filter(record)
        if kept:
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return bool(kept)

    def setFormatter(self, fmt: logging.Formatter | None) -> None:
        """Format by *fmt* in every handler behind."""
        super().setFormatter(fmt)
        for handler in self.handlers:
            handler.setFormatter(fmt)

    def prepare(self, record: logging.LogRecord) -> Any:
        """The record with its message made, since its arguments may change, and the context it is formatted in."""
        record = copy.copy(record)
        record.msg, record.args = record.getMessage(), None
        return copy_context(), record

    def enqueue(self, item: Any) -> None:
        """Put what :meth:`prepare` made into the queue, or write it."""
        if not _in_loop() or not self._has_thread():
            if threading.current_thread() is not self._thread:
                self.flush(None)
            self._write(*item)
            return
        try:
            self._records.put_nowait(item)
        except queue.Full:
            self.lost += 1

    def flush(self, timeout: float | None = FLUSH_TIMEOUT) -> None:
        """Wait until what is queued now is written, for at most *timeout* seconds; None: for as long as it takes."""
        if self._thread is not None and self._thread.is_alive():
            records = self._records
            with records.all_tasks_done:
                enough = self._written + records.unfinished_tasks
                records.all_tasks_done.wait_for(lambda: self._written >= enough, timeout)

    def _has_thread(self) -> bool:
        """The writing thread runs, started now if need be; False at the interpreter's end, when none can."""
        if self._thread is not None:
            return True
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="samovar-log", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return False
                self._thread = thread
        return True

    def _work(self) -> None:
        records = self._records
        while True:
            context, record = records.get()
            try:
                context.run(self._write, context, record)
            finally:
                with records.all_tasks_done:  # as task_done() does, and both numbers at once
                    records.unfinished_tasks -= 1
                    self._written += 1
                    records.all_tasks_done.notify_all()

    def _write(self, context: Context, record: logging.LogRecord) -> None:
        del context  # it is the current one, or may as well be
        lost, self.lost = self.lost, 0
        if lost:
            self._handle(_about_loss(record, lost))
        self._handle(record)

    def _handle(self, record: logging.LogRecord) -> None:
        for handler in self.handlers:
            if record.levelno >= handler.level:
                try:
                    handler.handle(record)
                except (
                    Exception
                ):  # of a filter; the thread goes on, and logging tells people as it always does
                    self.handleError(record)

    def after_fork(self) -> None:
        """Begin anew in a child process, which has neither the thread nor business with what is queued."""
        self._begin()
        self.queue: Any = self._records
        self.lost = 0


_all: WeakSet[LocalQueueHandler] = WeakSet()


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _about_loss(record: logging.LogRecord, lost: int) -> logging.LogRecord:
    told = copy.copy(record)
    told.levelno, told.levelname = logging.WARNING, "WARNING"
    told.msg = f"{lost} log records before this one were left out: standard error was not read fast enough"
    told.exc_info = told.exc_text = told.stack_info = None
    return told


def flush_logs(timeout: float = FLUSH_TIMEOUT) -> None:
    """Write out what waits in every queue, for at most *timeout* seconds each."""
    for handler in list(_all):
        handler.flush(timeout)


def _after_fork() -> None:
    for handler in list(_all):
        handler.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


class CurrentStderr(logging.StreamHandler[TextIO]):
    """Writes to whatever ``sys.stderr`` is at the moment, so that tests can capture it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        raise AttributeError("the default handler follows sys.stderr")


default_handler: LocalQueueHandler = LocalQueueHandler(CurrentStderr())
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
