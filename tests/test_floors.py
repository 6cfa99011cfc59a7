"""The floors of the house: imports run downward, every library has its door, tasks start in one place.

The tables below are the plan of the house. The source is read with ``ast``; imports for type checking alone do not
count. A module that is on no floor fails, so that whoever adds one says where it stands.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src"

# Floor by floor, the lowest first. A name stands for the module, or for the package with all that is in it.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "tasks", "extras"),
    ("broadcast/message", "broadcast/names"),
    (
        "broadcast/backend",
        "broadcast/codec",
        "broadcast/history",
        "broadcast/recovery",
        "broadcast/presence",
        "broadcast/outbox",
        "broadcast/timeline",
        "broadcast/counters",
        "broadcast/retry",
        "broadcast/limits",
    ),
    ("broadcast", "backends"),
    (
        "core/typing",
        "core/config",
        "core/json",
        "core/signals",
        "core/logging",
        "core/utils",
        "core/datastructures",
        "core/files",
        "core/formparser",
        "core/sessions",
        "core/signing",
        "core/siblings",
        "core/templating",
        "core/routing",
        "core/ctx",
        "core/globals",
        "core/helpers",
        "core/views",
        "core/debug",
    ),
    ("core/wrappers", "core/asgi", "core/realtime"),
    (
        "core/scaffold",
        "core/blueprints",
        "core/setup",
        "core/urls",
        "core/contexts",
        "core/dispatch",
        "core/serving",
        "core/singletons",
        "core/app",
        "core/health",
    ),
    ("", "core", "core/cli", "core/testing", "backends/contract", "client", "__main__"),
)

# Inside these functions an import may go up: what they offer is above the app by its nature.
UPWARD = {
    "core/app": {"run", "run_task", "test_client", "test_cli_runner", "test_app", "test_request_context"},
    "core/scaffold": {"cli"},
}

# Whose folder may see which other folder.
FOLDERS = {"broadcast": {"broadcast"}, "backends": {"backends", "broadcast"}, "core": {"core", "broadcast"}}

# Each library behind its door: where it may be imported.
DOORS: Mapping[str, tuple[str, ...]] = {
    "hiredis": ("backends/redis",),
    "pamqp": ("backends/rabbitmq",),
    "aio_pika": ("backends/rabbitmq",),
    "msgpack": ("broadcast/codec", "backends/local"),
    "itsdangerous": ("core/sessions", "core/signing"),
    "jinja2": ("core/templating",),
    "blinker": ("core/signals",),
    "click": ("core/cli", "core/testing"),
    "hypercorn": ("core/cli", "core/realtime/lanes/hypercorn"),
    "h2": ("core/cli/hypercorn_server",),
    "uvicorn": ("core/cli", "core/realtime/lanes/uvicorn"),
    "uvloop": ("core/cli",),
    "watchfiles": ("core/cli",),
    "dotenv": ("core/cli",),
    "orjson": ("core/json",),
    "pytest": ("backends/contract",),
    "werkzeug": ("core",),
    "markupsafe": ("", "core"),
}

# Who reads and writes the messages of ASGI.
ASGI_PLACES = ("core/asgi", "core/realtime/lanes", "core/testing")
ASGI_MESSAGE = re.compile(
    r"(http\.(request|disconnect|response\.\w+)|lifespan\.(startup|shutdown)(\.\w+)?"
    r"|websocket\.(connect|disconnect|accept|receive|send|close|http\.response\.\w+))"
)
TASK_STARTERS = {"create_task", "ensure_future"}
TASK_PLACES = ("tasks", "backends/contract")  # the contract is a suite of tests: task groups own its tasks


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module: dotted name with its package in front, where, and inside which functions."""

    module: str
    line: int
    functions: tuple[str, ...]


def sources() -> dict[str, str]:
    """Every module of the package: ``core/app`` → its text; a package is named without ``__init__``."""
    return {module_name(path.relative_to(SRC)): path.read_text() for path in sorted(SRC.rglob("*.py"))}


def module_name(path: Path) -> str:
    name = path.with_suffix("").as_posix()
    return "" if name == "__init__" else name.removesuffix("/__init__")


def inside(module: str, places: tuple[str, ...] | set[str]) -> bool:
    """True when *module* is one of the places or lies in one."""
    return any(module == place or module.startswith(f"{place}/") for place in places)


def floor_of(module: str) -> int | None:
    """The floor of the longest name in the plan that covers *module*."""
    covering = [
        (len(place), floor)
        for floor, places in enumerate(FLOORS)
        for place in places
        if module == place or (place not in ("", "core") and module.startswith(f"{place}/"))
    ]
    return max(covering)[1] if covering else None


class Reader(ast.NodeVisitor):
    """Collects from one module its imports, the tasks it starts and the ASGI messages it names."""

    def __init__(self, module: str, is_package: bool, modules: set[str]) -> None:
        self.package = module if is_package else module.rpartition("/")[0]
        self.modules = modules
        self.imports: list[Import] = []
        self.task_starts: list[int] = []
        self.asgi_messages: list[tuple[int, str]] = []
        self.functions: tuple[str, ...] = ()

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.functions += (node.name,)
        self.generic_visit(node)
        self.functions = self.functions[:-1]

    visit_FunctionDef = _visit_function
    visit_AsyncFunctionDef = _visit_function

    def visit_Import(self, node: ast.Import) -> None:
        self._add(node, [alias.name for alias in node.names])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level == 0:
            self._add(node, [node.module or ""])
            return
        steps = self.package.split("/") if self.package else []
        base = "/".join([*steps[: len(steps) - node.level + 1], *(node.module or "").split(".")]).strip("/")
        named = (f"{base}/{alias.name}".strip("/") for alias in node.names)
        self._add(node, [f"./{name if name in self.modules else base}" for name in named])

    def _add(self, node: ast.stmt, names: list[str]) -> None:
        self.imports += [Import(name, node.lineno, self.functions) for name in dict.fromkeys(names)]

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in TASK_STARTERS:
            self.task_starts.append(node.lineno)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        # "x" in extensions asks what the server can do; extensions are called like their messages.
        asks = isinstance(node.left, ast.Constant) and isinstance(node.ops[0], (ast.In, ast.NotIn))
        for child in ast.iter_child_nodes(node):
            if child is not node.left or not asks:
                self.visit(child)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and ASGI_MESSAGE.fullmatch(node.value):
            self.asgi_messages.append((node.lineno, node.value))


def violations(texts: Mapping[str, str], packages: set[str]) -> Iterator[str]:
    """Every departure from the plan among these modules, in words."""
    for module, text in texts.items():
        place = f"{module or '__init__'}.py"
        if floor_of(module) is None:
            yield f"{place}: on no floor; give it one in FLOORS"
            continue
        reader = Reader(module, module in packages, set(texts))
        reader.visit(ast.parse(text))
        for line, words in complaints(module, reader):
            yield f"{place}:{line}: {words}"


def complaints(module: str, reader: Reader) -> Iterator[tuple[int, str]]:
    for imported in reader.imports:
        if words := complaint(module, imported):
            yield imported.line, words
    if not inside(module, TASK_PLACES):
        for line in reader.task_starts:
            yield line, "starts a task; only tasks.py does, in a Scope"
    if not inside(module, ASGI_PLACES):
        for line, message in reader.asgi_messages:
            yield line, f"handles the ASGI message {message!r}; only {', '.join(ASGI_PLACES)} do"


def complaint(module: str, imported: Import) -> str | None:
    """What is wrong with one import, None when nothing is."""
    if imported.module.startswith("./"):
        return complaint_inside(module, imported.module.removeprefix("./"), imported.functions)
    library = imported.module.partition(".")[0]
    if library in ("samovar", "src"):
        return f"imports {imported.module} absolutely; inside the package imports are relative"
    if library in sys.stdlib_module_names:
        return None
    doors = DOORS.get(library)
    if doors is None:
        return f"imports {library}, which has no door; give it one in DOORS"
    return None if inside(module, doors) else f"imports {library}, whose door is {', '.join(doors)}"


def complaint_inside(module: str, target: str, functions: tuple[str, ...]) -> str | None:
    here, there = floor_of(module), floor_of(target)
    if here is None or there is None:
        return f"imports {target}, which is on no floor"
    folder, other = module.partition("/")[0], target.partition("/")[0]
    if other in FOLDERS and folder in FOLDERS and other not in FOLDERS[folder]:
        return f"imports {target}; {folder} never sees {other}"
    if there > here and not UPWARD.get(module, set()).intersection(functions):
        return f"imports {target or 'the package itself'}, upward from floor {here} to {there}"
    return None


def real_packages() -> set[str]:
    return {module_name(path.relative_to(SRC)) for path in SRC.rglob("__init__.py")}


def test_the_house_stands_as_planned() -> None:
    assert list(violations(sources(), real_packages())) == []


def test_every_folder_is_a_package() -> None:
    folders = {path.parent for path in SRC.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


PLANTED = {
    "upward": ("core/ctx", "from .app import Samovar", "upward from floor 4 to 6"),
    "upward through a package": ("broadcast/names", "from . import hub", "upward from floor 1 to 3"),
    "upward in a function": ("core/ctx", "def f():\n    from .app import Samovar", "upward"),
    "upward in the wrong function": ("core/app", "def f():\n    from .cli import main", "upward"),
    "the package itself": ("core/ctx", "from .. import Samovar", "imports the package itself, upward"),
    "core sees backends": ("core/app", "from ..backends.memory import x", "core never sees backends"),
    "backends see core": ("backends/memory", "from ..core import app", "backends never sees core"),
    "broadcast sees backends": (
        "broadcast/hub",
        "from ..backends import memory",
        "broadcast never sees backends",
    ),
    "broadcast sees core": (
        "broadcast/hub",
        "def f():\n    from ..core import app",
        "broadcast never sees core",
    ),
    "absolute": ("core/app", "import samovar.errors", "imports are relative"),
    "absolute by folder": ("core/app", "from src.errors import ConfigError", "imports are relative"),
    "library at the wrong door": ("broadcast/hub", "import werkzeug.http", "whose door is core"),
    "library without a door": ("core/app", "import requests", "has no door"),
    "task": ("core/app", "import asyncio\nasyncio.create_task(f())", "starts a task"),
    "task of a loop": ("core/app", "loop.create_task(f())", "starts a task"),
    "future": ("broadcast/hub", "from asyncio import ensure_future\nensure_future(f())", "starts a task"),
    "asgi message": ("core/app", "await_send({'type': 'http.response.start'})", "'http.response.start'"),
    "no floor": ("core/kitchen", "", "on no floor"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_violation_is_found(name: str) -> None:
    module, text, words = PLANTED[name]
    found = list(violations({**plan(), module: text}, {"", "core", "broadcast", "backends", "core/cli"}))
    assert len(found) == 1, found
    assert found[0].startswith(f"{module}.py:")
    assert words in found[0]


ALLOWED = {
    "downward": (
        "core/app",
        "from ..broadcast.hub import Hub\nfrom ..errors import ConfigError\nfrom . import ctx",
    ),
    "the same floor": ("broadcast/hub", "from .channel import Channel"),
    "type-only": (
        "core/ctx",
        "if TYPE_CHECKING:\n    from .app import Samovar\n    from ..backends import memory",
    ),
    "upward in run": ("core/app", "class A:\n    def run(self):\n        from .cli import serve"),
    "a library at its door": (
        "core/sessions",
        "from itsdangerous import URLSafeTimedSerializer\nimport json",
    ),
    "a message at its place": ("core/asgi/http", "send({'type': 'http.response.start'})"),
    "a task in its place": ("tasks", "loop.create_task(f())"),
    "asking for an extension": ("core/app", "'http.response.push' in scope['extensions']"),
    "words about a message": ("core/app", "'''Handles http.disconnect as it comes.'''"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_the_plan_allows_is_not_complained_of(name: str) -> None:
    module, text = ALLOWED[name]
    assert list(violations({**plan(), module: text}, {"", "core", "broadcast", "backends", "core/cli"})) == []


def plan() -> dict[str, str]:
    """An empty house with every room that is named in the plan."""
    return {place: "" for floor in FLOORS for place in floor} | {
        "broadcast/hub": "",
        "broadcast/channel": "",
        "backends/memory": "",
    }
