"""The ``samovar`` command, and what apps build their own commands with."""

from __future__ import annotations

import sys

from .discovery import AppImportError, NoAppError
from .dotenv import load_dotenv
from .groups import AppGroup, SamovarGroup, ScriptInfo, pass_script_info, version_option, with_appcontext
from .hub import hub_command
from .options import ServeOptions
from .routes import routes_command
from .run import run_command
from .servers import run_app, serve_app
from .shell import shell_command

NoAppException = NoAppError  # Quart's name

cli: SamovarGroup = SamovarGroup(
    name="samovar",
    help="Run an app and look into it. The app is named by --app, by SAMOVAR_APP, or lies in app.py.",
)


def main() -> None:
    """Run the ``samovar`` command."""
    name = "python -m samovar" if sys.argv[0].endswith("__main__.py") else "samovar"
    cli.main(prog_name=name)


__all__ = [
    "AppGroup",
    "AppImportError",
    "NoAppError",
    "NoAppException",
    "SamovarGroup",
    "ScriptInfo",
    "ServeOptions",
    "cli",
    "hub_command",
    "load_dotenv",
    "main",
    "pass_script_info",
    "routes_command",
    "run_app",
    "run_command",
    "serve_app",
    "shell_command",
    "version_option",
    "with_appcontext",
]
