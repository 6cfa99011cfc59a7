"""Finding the app that a command is about, from what ``--app`` says or from what lies in the working folder."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import click

from ..app import Samovar

FILES = ("app.py", "wsgi.py", "asgi.py")
NAMES = ("app", "application")
FACTORIES = ("create_app", "make_app")


class NoAppError(click.UsageError):
    """No app was found; the message says what was looked for and where."""


class AppImportError(click.ClickException):
    """The module of the app raised while it was imported; shown with its whole traceback, without our frames."""

    def __init__(self, name: str, error: BaseException) -> None:
        super().__init__(f"importing {name!r} failed: {type(error).__name__}: {error}")
        self.name = name
        self.trace: str = _own_traceback(error)

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the traceback, which ends with the error, and what failed."""
        click.echo(f"{self.trace}Error: importing {self.name!r} failed", file=file, err=True)


def _own_traceback(error: BaseException) -> str:
    """The traceback of *error* from the user's first line on."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def _is_ours(filename: str) -> bool:
    return filename in (__file__, importlib.__file__) or filename.startswith("<frozen importlib")


def find_app(target: str | None) -> Samovar:
    """Return the app that *target* names, or the one that lies in the working folder.

    Args:
        target: ``module``, ``package.module``, ``path/to/module``, ``path/to/module.py`` or ``path/to/folder``,
            each with ``:name`` or ``:factory("argument")`` behind it; None looks for app.py, wsgi.py and asgi.py.

    Raises:
        NoAppError: there is none.
        AppImportError: its module raised.
    """
    if target is not None:
        where, _, expression = _split(target)
        return app_in(load_module(where), expression or None)
    for name in FILES:
        if os.path.exists(name):
            return app_in(load_module(name), None)
    raise NoAppError(
        f"no app was named, and there is no {', '.join(FILES[:-1])} or {FILES[-1]} in {os.getcwd()}: "
        "use --app module:name (or set SAMOVAR_APP)"
    )


def _split(target: str) -> tuple[str, str, str]:
    """Split at the colon that is not a Windows drive's."""
    match = re.fullmatch(r"((?:[A-Za-z]:[\\/])?[^:]*)(:?)(.*)", target.strip(), re.DOTALL)
    assert match is not None
    return match[1], match[2], match[3].strip()


def load_module(where: str) -> ModuleType:
    """Import the module that *where* names, as a path or as a dotted name.

    Raises:
        NoAppError: there is none.
        AppImportError: it raised.
    """
    path = _path_of(where)
    if path is not None:
        name, folder = _name_and_folder(path)
    else:
        name, folder = where, Path.cwd()
    if str(folder) not in sys.path[:1]:
        sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise NoAppError(_missing(where, name, folder)) from None
        raise AppImportError(name, error) from None
    except Exception as error:
        raise AppImportError(name, error) from None
    _check_is(module, path)
    return module


def _path_of(where: str) -> Path | None:
    """The file or package that *where* is the path of; None when it is a dotted name.

    Raises:
        NoAppError: it can only be a path, and nothing is there.
    """
    written = Path(where)
    candidates = [written.with_name(f"{written.name}.py"), written / "__init__.py"] if written.name else []
    candidates += [written / name for name in FILES]
    if written.suffix == ".py":
        candidates = [written]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    if written.suffix == ".py" or "/" in where or os.sep in where:
        looked = ", ".join(str(candidate) for candidate in candidates)
        raise NoAppError(f"there is no app at {where!r}: looked for {looked} in {os.getcwd()}")
    return None


def _name_and_folder(path: Path) -> tuple[str, Path]:
    """The dotted name of a file, and the folder from which it is imported: the one above its outermost package."""
    names = [] if path.name == "__init__.py" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists():
        names.insert(0, folder.name)
        folder = folder.parent
    return ".".join(names), folder


def _missing(where: str, name: str, folder: Path) -> str:
    return (
        f"there is no module {name!r} for --app {where}: looked in {folder} and among the installed packages"
    )


def _check_is(module: ModuleType, path: Path | None) -> None:
    """Refuse a module of the same name from elsewhere, such as an installed ``app`` package."""
    found = getattr(module, "__file__", None)
    if path is not None and found is not None and Path(found).resolve() != path:
        raise NoAppError(f"{path} cannot be imported as {module.__name__!r}: that name is taken by {found}")


def app_in(module: ModuleType, expression: str | None) -> Samovar:
    """Return the app in *module*: the one *expression* names or makes, else the one a usual name has.

    Raises:
        NoAppError: there is none, or more than one.
        AppImportError: the factory raised.
    """
    if expression is not None:
        return _evaluate(module, expression)
    for name in NAMES:
        if isinstance(found := getattr(module, name, None), Samovar):
            return found
    apps = [value for value in vars(module).values() if isinstance(value, Samovar)]
    if len(apps) == 1:
        return apps[0]
    if apps:
        raise NoAppError(
            f"{module.__name__!r} has {len(apps)} apps: say which, with --app {module.__name__}:name"
        )
    for name in FACTORIES:
        if callable(factory := getattr(module, name, None)):
            return _call(module, factory, name, (), {})
    raise NoAppError(
        f"there is no Samovar app in {module.__name__!r}: looked for {' and '.join(NAMES)}, for any other instance, "
        f"and for a factory {' or '.join(FACTORIES)}"
    )


def _evaluate(module: ModuleType, expression: str) -> Samovar:
    """The value of ``name`` or ``factory(literal, …, key=literal)`` in *module*."""
    try:
        node = ast.parse(expression, mode="eval").body
        name, args, kwargs = _read(node)
    except (SyntaxError, ValueError, AttributeError):
        raise NoAppError(f"{expression!r} is neither a name nor a call of one with literals") from None
    if not hasattr(module, name):
        raise NoAppError(f"there is no {name!r} in {module.__name__!r}")
    value = getattr(module, name)
    if isinstance(node, ast.Call) or (not isinstance(value, Samovar) and inspect.isfunction(value)):
        return _call(module, value, name, args, kwargs)
    return _checked(module, value, name)


def _read(node: ast.expr) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    if isinstance(node, ast.Name):
        return node.id, (), {}
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError("neither a name nor a call")
    args = tuple(ast.literal_eval(argument) for argument in node.args)
    kwargs = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg}
    return node.func.id, args, kwargs


def _call(
    module: ModuleType, factory: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Samovar:
    try:
        inspect.signature(factory).bind(*args, **kwargs)
    except TypeError as error:
        raise NoAppError(
            f"the factory {module.__name__}:{name} cannot be called so: {error}; "
            f"give its arguments as --app '{module.__name__}:{name}(…)'"
        ) from None
    try:
        app = factory(*args, **kwargs)
    except Exception as error:
        raise AppImportError(f"{module.__name__}:{name}", error) from None
    return _checked(module, app, f"{name}()")


def _checked(module: ModuleType, value: Any, name: str) -> Samovar:
    if not isinstance(value, Samovar):
        raise NoAppError(f"{module.__name__}:{name} is no Samovar app but {type(value).__name__}")
    return value
