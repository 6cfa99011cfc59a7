"""Opening a browser, which must never be the reason that a server does not run."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser

import click


def open_browser(url: str) -> None:
    """Open *url* in the user's browser, in a daemon thread; without one, say so and go on.

    Args:
        url: the server's own address; a wildcard address is replaced by the loopback one.
    """
    target = url.replace("://0.0.0.0:", "://127.0.0.1:").replace("://[::]:", "://[::1]:")
    if not has_display():
        click.echo(f"No browser to open here: visit {target}", err=True)
        return
    threading.Thread(target=_open, args=(target,), name="open browser", daemon=True).start()


def has_display() -> bool:
    """Whether a browser has a screen to show itself on; a text browser would take over the terminal."""
    if os.environ.get("BROWSER") or sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open(url: str) -> None:
    try:
        opened = webbrowser.open(url)
    except Exception as error:  # whatever the user's browser set-up does, the server runs on
        click.echo(f"Could not open a browser ({error}): visit {url}", err=True)
        return
    if not opened:
        click.echo(f"Could not open a browser: visit {url}", err=True)
