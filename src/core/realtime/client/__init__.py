"""The browser's side of a channel: plain ES modules, served as they are, without a build step."""

from __future__ import annotations

from pathlib import Path

__all__ = ["client_path"]


def client_path() -> Path:
    """The folder of the client's modules, for a static route to serve; pages import its ``index.js``."""
    return Path(__file__).parent
