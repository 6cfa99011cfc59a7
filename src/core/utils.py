"""Small helpers: sync code in threads, coroutine checks, steps with a deadline."""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from types import TracebackType, coroutine
from typing import Any, ParamSpec, TypeVar

from werkzeug.datastructures import Headers

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_END = object()


def is_coroutine_function(func: Any) -> bool:
    """Tell whether calling *func* gives a coroutine; looks through partials and callable objects."""
    while isinstance(func, functools.partial):
        func = func.func
    if inspect.iscoroutinefunction(func):
        return True
    return inspect.iscoroutinefunction(getattr(type(func), "__call__", None))  # noqa: B004  # the function is wanted


async def run_in_thread(func: Callable[..., R], *args: Any) -> R:
    """Call *func* in the loop's thread pool under a copy of the current context and return its result."""
    return await asyncio.get_running_loop().run_in_executor(None, copy_context().run, _call, func, *args)


def _call(func: Callable[..., R], *args: Any) -> R:
    try:
        return func(*args)
    except StopIteration as error:  # a future cannot carry it: who awaits would wait for ever
        raise RuntimeError("a function run in a thread raised StopIteration") from error


def run_sync(func: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Make a coroutine function of a blocking one: each call runs in a thread, under the caller's context.

    What *func* returns is returned; if that is a coroutine (a plain function wrapping an async one), it is awaited, and
    a generator becomes an async one, each step of which runs in a thread too.
    """

    @functools.wraps(func)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        result = await run_in_thread(functools.partial(func, *args, **kwargs))
        if inspect.iscoroutine(result):
            return await result  # type: ignore[no-any-return]  # what a wrapped async function gives
        if inspect.isgenerator(result):
            return iterate_in_thread(result)  # type: ignore[return-value]  # it is iterated like what it stands for
        return result

    return wrapper


def ensure_async(
    func: Callable[..., Any],
    in_thread: Callable[[Callable[..., Any]], Callable[..., Awaitable[Any]]] = run_sync,
) -> Callable[..., Awaitable[Any]]:
    """*func* itself when it is async, a coroutine function for an async generator's, else *in_thread* of it."""
    if is_coroutine_function(func):
        return func
    if inspect.isasyncgenfunction(func):

        @functools.wraps(func)
        async def call(*args: Any, **kwargs: Any) -> Any:
            return func(*args, **kwargs)

        return call
    return in_thread(func)


async def iterate_in_thread(iterable: Iterable[T]) -> AsyncIterator[T]:
    """Iterate over a blocking iterable, each step in a thread; closes a generator when left early.

    A step under way cannot be interrupted: closing waits for its end.
    """
    busy = Lock()
    iterator: Iterator[T] = await run_in_thread(iter, iterable)

    def step() -> Any:
        with busy:
            return next(iterator, _END)

    def close() -> None:
        with busy:
            if inspect.isgenerator(iterator):
                iterator.close()

    try:
        while (item := await run_in_thread(step)) is not _END:
            yield item
    finally:
        await run_in_thread(close)


run_sync_iterable = iterate_in_thread  # where Quart has it


async def cancel_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel *tasks*, wait for them, and raise what one of them raised."""
    tasks = set(tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    raise_task_exceptions(tasks)


def raise_task_exceptions(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Raise what one of the finished *tasks* raised; a cancellation is no error."""
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error


def encode_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI wants them: pairs of bytes, names in lower case."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def decode_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Headers from the pairs that ASGI has."""
    return Headers([(name.decode("latin-1").title(), value.decode("latin-1")) for name, value in headers])


def file_path_to_path(*paths: str | bytes | os.PathLike[Any]) -> Path:
    """The parts of a path, of whichever type, joined."""
    return Path(*(os.fsdecode(path) for path in paths))


@coroutine
def within(awaitable: Awaitable[T], seconds: float | None) -> Generator[Any, Any, T]:
    """Await *awaitable* for at most *seconds*, arming a timer only if it really suspends.

    So a message that is already there costs neither a timer nor a task.

    Raises:
        TimeoutError: the time is over; what was awaited was cancelled.
    """
    steps = awaitable.__await__()
    try:
        waiting = next(steps)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    return (yield from finish_within(steps, waiting, seconds))


@coroutine
def finish_within(
    steps: Generator[Any, Any, T] | Coroutine[Any, Any, T], waiting: Any, seconds: float | None
) -> Generator[Any, Any, T]:
    """The rest of :func:`within`, for a coroutine whose first step was made already and gave *waiting*."""
    if seconds is None:
        return (yield from drive(steps, waiting))
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        return (yield from drive(steps, waiting))
    except asyncio.CancelledError:
        if expired and task.cancelling() <= before + 1:
            raise TimeoutError(f"no progress for {seconds} s") from None
        raise
    finally:
        timer.cancel()
        if expired:
            task.uncancel()


@coroutine
def drive(
    steps: Generator[Any, Any, T] | Coroutine[Any, Any, T],
    waiting: Any,
    at_wait: Callable[[], object] | None = None,
) -> Generator[Any, Any, T]:
    """Go on with *steps*, whose first yield was *waiting*: ``yield from`` for something already begun.

    Args:
        steps: a coroutine, or what an awaitable's ``__await__`` gave.
        waiting: what its first step gave.
        at_wait: called whenever it really suspends, the first time included.
    """
    while True:
        if at_wait is not None:
            at_wait()
        try:
            sent = yield waiting
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:
            resume: Callable[[], Any] = functools.partial(steps.throw, error)
        else:
            resume = functools.partial(steps.send, sent)
        try:
            waiting = resume()
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def no_response_from(kind: str, func: Any, value: Any) -> str:
    """What is wrong with a hook that returned *value* instead of the response."""
    what = "None" if value is None else type(value).__name__
    return f"{kind} function {getattr(func, '__name__', func)!r} returned {what}: return the response"


def import_string(name: str) -> Any:
    """Import ``package.module`` or ``package.module:attribute`` or ``package.module.attribute``.

    Raises:
        ImportError: nothing of that name.
    """
    module_name, colon, attribute = name.partition(":")
    if colon:
        return getattr(importlib.import_module(module_name), attribute)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        module_name, _, attribute = name.rpartition(".")
        if not module_name or (error.name is not None and not name.startswith(error.name)):
            raise
        module = importlib.import_module(module_name)
        if not hasattr(module, attribute):
            raise ImportError(f"there is no {attribute!r} in {module_name!r}") from error
        return getattr(module, attribute)


def get_root_path(import_name: str) -> str:
    """The folder of a module or package, the working directory when it has none (as in a shell)."""
    module = sys.modules.get(import_name)
    if module is not None and getattr(module, "__file__", None):
        return os.path.dirname(os.path.abspath(str(module.__file__)))
    spec = None
    if module is None:
        try:
            spec = importlib.util.find_spec(import_name)
        except (ImportError, ValueError):  # no module of that name, nor a package it could be in
            spec = None
    if spec is None or spec.origin is None:
        return os.getcwd()
    return str(Path(spec.origin).resolve().parent)


def find_package(import_name: str) -> tuple[Path | None, Path]:
    """Where the package or module that *import_name* is in was installed, and the folder it lies in.

    Returns:
        The prefix of the Python that it is installed for, None when it is not, and the folder.
    """
    folder = Path(get_root_path(import_name))
    if folder.samefile(os.getcwd()) and import_name not in sys.modules:
        return None, folder
    while (folder / "__init__.py").exists():
        folder = folder.parent
    prefix = Path(sys.prefix).resolve()
    installed = folder.resolve().is_relative_to(prefix) and folder.name in ("site-packages", "dist-packages")
    return prefix if installed else None, folder


def in_seconds(value: timedelta | float | None) -> int | None:
    """A duration setting in whole seconds."""
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    return None if value is None else int(value)


def exc_info_of(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """*error* as ``sys.exc_info()`` would give it."""
    return type(error), error, error.__traceback__


def from_timestamp(seconds: float) -> datetime:
    """A file's time as a date."""
    return datetime.fromtimestamp(seconds, tz=UTC)
