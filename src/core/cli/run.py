"""``samovar run``."""

from __future__ import annotations

import sys
from typing import Any

import click

from .groups import ScriptInfo, pass_script_info, set_app
from .options import HOST, PORT, ServeOptions, sizes_of
from .reloader import inherited_listener, run_with_reloader
from .servers import run_options
from .supervisor import run_workers
from .worker import WorkerSide

FILE = click.Path(exists=True, dir_okay=False)


@click.command("run")
@click.option("-h", "--host", default=HOST, show_default=True, help="Address, unix:PATH or fd:NUMBER.")
@click.option("-p", "--port", default=PORT, show_default=True, type=int, help="Port; 0 takes a free one.")
@click.option("--open", "open_browser", is_flag=True, help="Open a browser once the server accepts.")
@click.option("--server", type=click.Choice(["hypercorn", "uvicorn"]), default="hypercorn", show_default=True)
@click.option("--loop", type=click.Choice(["auto", "asyncio", "uvloop"]), default="auto", show_default=True)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes; they share their channels.",
)
@click.option(
    "--reload/--no-reload", default=None, help="Restart when files change; by default in debug mode."
)
@click.option("--debug/--no-debug", default=None, help="The same as before the command.")
@click.option(
    "-A",
    "--app",
    metavar="IMPORT",
    is_eager=True,
    expose_value=False,
    callback=set_app,
    help="The same as before the command.",
)
@click.option("--certfile", "--cert", type=FILE, help="Certificate chain in PEM.")
@click.option("--keyfile", "--key", type=FILE, help="Private key in PEM.")
@click.option("--ca-certs", type=FILE, help="Clients must show a certificate of one of these, in PEM.")
@pass_script_info
def run_command(
    info: ScriptInfo, /, *, reload: bool | None, debug: bool | None, workers: int, **options: Any
) -> None:
    """Serve the app until Ctrl-C.

    Ctrl-C ends it within two seconds, with clients connected: event streams, long-polls and websockets are told
    first. A second Ctrl-C ends it at once.

    With several workers the process that you see keeps them running, and holds the channels they share unless
    BROADCAST_URL names a broker. SIGHUP replaces them one by one, without a gap.
    """
    if debug is not None:
        info.debug = debug
    worker = WorkerSide.from_environment()
    if worker is None:
        if (bool(info.debug) if reload is None else reload) and inherited_listener() is None:
            sys.exit(run_with_reloader(options["host"], options["port"]))
        if workers > 1:
            sys.exit(run_workers(workers, ServeOptions(debug=bool(info.debug), **options)))
    app = info.load_app()
    serving = ServeOptions(debug=bool(app.debug), **(sizes_of(app) | options))
    if worker is None:
        getattr(app, "hub", None)  # made here, a BROADCAST_URL that cannot work is one line and no traceback
        run_options(app, serving)
    else:
        worker.serve(app, serving)
