"""Reading environment files, where python-dotenv is installed."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ...errors import MissingDependency
from ...extras import Needed
from ..config import get_load_dotenv

DEFAULTS = (".env", ".samovarenv")


def load_dotenv(path: str | os.PathLike[str] | None = None, load_defaults: bool = True) -> bool:
    """Set environment variables from files; what is set already stays, and earlier files win.

    The files are *path*, then ``.env`` and ``.samovarenv`` from the working folder or the nearest one above it.
    ``SAMOVAR_SKIP_DOTENV=1`` leaves the latter two out.

    Returns:
        True when a file was read.

    Raises:
        MissingDependency: *path* is given and python-dotenv is not installed, or too old.
    """
    files = [] if path is None or not os.path.isfile(path) else [Path(path)]
    if load_defaults and get_load_dotenv():
        files += [found for name in DEFAULTS if (found := _nearest(name)) is not None]
    if not files:
        return False
    names = ", ".join(str(file) for file in files)
    try:
        with Needed("dotenv", by=f"reading {names}"):
            from dotenv import load_dotenv as read
    except MissingDependency as error:
        if path is not None:
            raise
        click.secho(f"Note: {error}", err=True)
        return False
    for file in files:
        read(file, encoding="utf-8", override=False)
    return True


def _nearest(name: str) -> Path | None:
    here = Path.cwd()
    return next((folder / name for folder in (here, *here.parents) if (folder / name).is_file()), None)
