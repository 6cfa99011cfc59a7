"""``samovar hub``: hold the channels for the workers of another server."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

import click

from ...broadcast.backend import open_server
from ...errors import ConfigError
from .logs import configure_logging
from .options import ServeOptions
from .servers import loop_factory

BUFFER = 32  # MiB


@click.command("hub", short_help="Hold the channels for other servers' workers.")
@click.option(
    "--path", metavar="PATH", help="The socket's path; by default one in this user's runtime folder."
)
@click.option(
    "--buffer",
    type=click.IntRange(min=1),
    default=BUFFER,
    show_default=True,
    metavar="MIB",
    help="What may wait for one worker; one that falls further behind is cut, comes back and catches up.",
)
def hub_command(path: str | None, buffer: int) -> None:
    """Hold the channels of the workers on this host, without a broker, until Ctrl-C.

    For servers that bring their own workers, such as gunicorn and uvicorn --workers. Prints the setting that their
    apps need. When it ends, workers stay up and wait; when it is back, their channels begin anew, with a Gap.
    """
    configure_logging(debug=False)
    where = os.path.abspath(path) if path else default_path()
    server = open_server(f"local://{quote(where)}?buffer={buffer * 1024 * 1024}")

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with server:
            click.echo(f"BROADCAST_URL={server.url}")
            click.echo(
                "Set it for every worker (SAMOVAR_BROADCAST_URL in the environment); Ctrl-C stops", err=True
            )
            await stop.wait()

    with asyncio.Runner(loop_factory=loop_factory(ServeOptions())) as runner:
        runner.run(serve())


def default_path() -> str:
    """A path that is the same each time and in a folder of this user alone.

    Raises:
        ConfigError: the folder belongs to somebody else, or others may write to it.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return os.path.join(runtime, "samovar-hub.sock")
    folder = (
        Path(tempfile.gettempdir(), f"samovar-{os.getuid()}") if hasattr(os, "getuid") else Path("samovar")
    )
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ConfigError(f"{folder} is not a folder of this user alone: choose another place with --path")
    return str(folder / "hub.sock")
