"""Calling an app's commands in tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from click import testing

from ..app import Samovar
from ..cli import ScriptInfo
from ..cli import cli as whole_command


class CliRunner(testing.CliRunner):
    """Click's runner, bound to an app: ``app.test_cli_runner().invoke(args=["routes"])``.

    Commands run a loop of their own, so call it from a test that is not async.

    Args:
        app: the app that the commands are about.
        options: the arguments of :class:`click.testing.CliRunner`.
    """

    def __init__(self, app: Samovar, **options: Any) -> None:
        self.app = app
        super().__init__(**options)

    def invoke(  # type: ignore[override]  # the command comes with a default, as in Flask and Quart
        self, cli: click.Command | None = None, args: str | Sequence[str] | None = None, **options: Any
    ) -> testing.Result:
        """Run a command line and return its exit code and output.

        Args:
            cli: a command or group; by default the whole ``samovar`` command, with those of the app.
            args: its arguments.
            options: further arguments of :meth:`click.testing.CliRunner.invoke`.
        """
        options.setdefault("obj", ScriptInfo(create_app=lambda: self.app))
        return super().invoke(cli or whole_command, args, **options)


SamovarCliRunner = CliRunner  # where Quart has QuartCliRunner
