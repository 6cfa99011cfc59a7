"""The libraries that an installation may lack: which version is needed, and which extra of the package brings it.

What is found out about one that cannot be used is said in one line, with the command that puts it right.
"""

from __future__ import annotations

import re
import sys
from types import TracebackType
from typing import NamedTuple, Self

from .errors import MissingDependency


class Library(NamedTuple):
    """A library that is optional.

    Args:
        distribution: what it is called where it is installed from.
        oldest: the version that is needed, or any later one.
        extra: of Samovar, with which it is installed.
    """

    distribution: str
    oldest: str
    extra: str


LIBRARIES: dict[str, Library] = {
    "hiredis": Library("hiredis", "3", "redis"),
    "pamqp": Library("pamqp", "3.3", "rabbitmq"),
    "uvloop": Library("uvloop", "0.21", "fast"),
    "orjson": Library("orjson", "3.10", "fast"),
    "uvicorn": Library("uvicorn", "0.34", "fast"),
    "watchfiles": Library("watchfiles", "1.0", "dev"),
    "dotenv": Library("python-dotenv", "1.0", "dev"),
}
"""By the name under which each is imported; ``pyproject.toml`` says the same."""


class Needed:
    """Surrounds the imports of an optional library: ``with Needed("hiredis", by="the Redis backend"): …``.

    Args:
        library: one of :data:`LIBRARIES`.
        by: what needs it, for the message.

    Raises:
        MissingDependency: on leaving: the library is not installed, too old, or cannot be imported.
    """

    def __init__(self, library: str, *, by: str) -> None:
        self._name = library
        self._library = LIBRARIES[library]
        self._by = by
        self.found: str = ""
        """The version that is there, once it was left; empty where there is none, or nobody knows."""

    def __enter__(self) -> Self:
        """Let the imports begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See that what was imported will do. An *error* of any kind may come of its age."""
        distribution, oldest, _ = self._library
        self.found = _imported(self._name) if error is None else ""
        if _release(self.found) < _release(oldest):
            self.found = _installed(distribution)
        if () < _release(self.found) < _release(oldest):
            raise self._missing(f"and {self.found} is installed") from error
        if not isinstance(error, ImportError):
            return
        if not self.found and isinstance(error, ModuleNotFoundError):
            raise self._missing("which is not installed") from error
        how = f"and {self.found or 'what'} is installed, but cannot be imported ({error})"
        raise self._missing(how, f'pip install --force-reinstall "{distribution}>={oldest}"') from error

    def _missing(self, how: str, command: str = "") -> MissingDependency:
        name, oldest, extra = self._library
        command = command or f'pip install "samovar[{extra}]"'
        return MissingDependency(f"{self._by} needs {name} {oldest} or later, {how}: {command}", name=name)


def _imported(name: str) -> str:
    """What a module that was imported says of its version, which may be less than it has (pamqp 4.0.1 says 4.0.0)."""
    said = getattr(sys.modules.get(name), "__version__", None)
    return said if isinstance(said, str) else ""


def _installed(distribution: str) -> str:
    """What the installation says of its version; asked last, for this is a large import."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _release(version: str) -> tuple[int, ...]:
    """The numbers that tell which of two versions is older; none where it begins with no number."""
    found = re.match(r"\d+(\.\d+)*", version)
    return (*map(int, found[0].split(".")), 0, 0, 0)[:4] if found else ()
