"""How an app is served: what the command line, ``app.run`` and ``app.run_task`` boil down to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ...errors import ConfigError

ServerName = Literal["hypercorn", "uvicorn"]
LoopName = Literal["auto", "asyncio", "uvloop"]

HOST, PORT = "127.0.0.1", 5000
GRACE = 1.0  # seconds for what is left once the app was told; with the cut and the lifespan below the promised two
HOOKS = 5.0  # seconds that a reloaded app's hooks may take at its end, beside what is counted above and below
HEADER_BYTES = (
    64 * 1024
)  # as uvicorn's default; Hypercorn's 16 KiB is less than a browser may send in cookies
MESSAGE_BYTES = 1024 * 1024  # of one websocket message, unless the app says otherwise
QUEUE = 16  # websocket messages that wait for the app
PING = 20.0  # seconds; below the 30 and more after which proxies drop a silent connection


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How one server process serves.

    Args:
        host: a name or address, ``unix:PATH`` or ``fd://NUMBER``.
        port: a TCP port, 0 for any free one.
        server: which server.
        loop: which event loop; ``auto`` takes uvloop where it is installed, but not in debug mode.
        debug: asyncio's debug mode and the access log, beside the app's own.
        certfile: a certificate chain in PEM; with *keyfile* it means TLS.
        keyfile: the private key in PEM.
        ca_certs: certificates in PEM of which clients must show one.
        open_browser: open a browser once the server accepts.
        websocket_max_message: the largest websocket message, in bytes; above it the server closes with 1009.
        websocket_queue: how many received messages may wait for the app.
        websocket_ping: seconds between two pings, each of which is to be answered; None for no pings.
    """

    host: str = HOST
    port: int = PORT
    server: ServerName = "hypercorn"
    loop: LoopName = "auto"
    debug: bool = False
    certfile: str | None = None
    keyfile: str | None = None
    ca_certs: str | None = None
    open_browser: bool = False
    websocket_max_message: int = MESSAGE_BYTES
    websocket_queue: int = QUEUE
    websocket_ping: float | None = PING

    def __post_init__(self) -> None:
        if (self.certfile is None) != (self.keyfile is None):
            raise ConfigError("TLS takes both --certfile and --keyfile")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port is 0 to 65535, not {self.port}")

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.certfile is not None

    @property
    def access_log(self) -> bool:
        """Whether each request is logged."""
        return self.debug


def counted(number: int, noun: str) -> str:
    """*number* of *noun*, such as ``1 request`` and ``2 requests``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def stop_limit(app: Any) -> float:
    """Seconds that *app* may take to stop: its connections, its background tasks, its hooks."""
    background = getattr(app, "config", {}).get("BACKGROUND_TASK_SHUTDOWN_TIMEOUT") or 0
    return 2 * GRACE + HOOKS + float(background)


def sizes_of(app: Any) -> dict[str, Any]:
    """The websocket limits that *app*'s config sets, as arguments of :class:`ServeOptions`."""
    config = getattr(app, "config", {})
    return {
        "websocket_max_message": config.get("WEBSOCKET_MAX_MESSAGE_BYTES") or MESSAGE_BYTES,
        "websocket_queue": config.get("WEBSOCKET_QUEUE_SIZE") or QUEUE,
        "websocket_ping": config.get("WEBSOCKET_PING_INTERVAL", PING) or None,
    }
