"""Editable installs: give the package directory ``src/`` its import name.

``pip install -e .`` puts ``.dev/`` on ``sys.path``; ``.dev/samovar`` is a link to ``src``.
"""

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EditableLink(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's generic is of no use here
    """Make the link before an editable install; do nothing for a wheel or an sdist."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            return
        target, link = Path(self.root, "src"), Path(self.root, ".dev", "samovar")
        link.parent.mkdir(exist_ok=True)
        (link.parent / ".gitignore").write_text("*\n")
        if link.exists() and link.samefile(target):
            return
        if link.is_symlink():
            link.unlink()
        if os.name == "nt":
            import _winapi

            _winapi.CreateJunction(str(target), str(link))
        else:
            link.symlink_to(Path("..", "src"), target_is_directory=True)
