"""``samovar shell``: a Python prompt inside the app's context that knows ``await``."""

from __future__ import annotations

import ast
import asyncio
import code
import contextvars
import inspect
import os
import sys
from types import CodeType, FunctionType
from typing import Any

import click

from .groups import ScriptInfo, with_appcontext


@click.command("shell")
@with_appcontext
def shell_command() -> None:
    """Open a Python prompt inside the app's context; ``await`` works at the top level."""
    app = click.get_current_context().ensure_object(ScriptInfo).load_app()
    namespace: dict[str, Any] = dict(app.make_shell_context())
    _run_start_up_file(namespace)
    _complete_names(namespace)
    banner = f"Python {sys.version.split()[0]} on {sys.platform}\nApp: {app.name} (await works)"
    AsyncConsole(namespace).interact(banner=banner, exitmsg="")


class AsyncConsole(code.InteractiveConsole):
    """A prompt whose lines may await; the loop runs only while one does.

    Args:
        namespace: the names that the lines see.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        super().__init__(namespace)
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._runner = asyncio.Runner()

    def interact(self, banner: str | None = None, exitmsg: str | None = None) -> None:
        """Read and run lines until the end of the input."""
        with self._runner:
            super().interact(banner=banner, exitmsg=exitmsg)

    def runcode(self, line: CodeType) -> None:
        """Run one line, and the loop if it awaits."""
        try:
            result = FunctionType(line, self.locals)()
            if inspect.iscoroutine(result):
                self._runner.run(result, context=contextvars.copy_context())
        except SystemExit:
            raise
        except BaseException:  # whatever a line raises is shown, and the next one is read
            self.showtraceback()


def _run_start_up_file(namespace: dict[str, Any]) -> None:
    """Run PYTHONSTARTUP, as the plain prompt does."""
    path = os.environ.get("PYTHONSTARTUP")
    if path and os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            eval(compile(file.read(), path, "exec"), namespace)


def _complete_names(namespace: dict[str, Any]) -> None:
    """Let Tab complete names, where the terminal can."""
    try:
        import readline
        from rlcompleter import Completer
    except ImportError:  # Windows
        return
    readline.set_completer(Completer(namespace).complete)
    readline.parse_and_bind("tab: complete")
