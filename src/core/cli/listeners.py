"""The socket a server listens on, bound before the app starts, so that a busy port costs nothing."""

from __future__ import annotations

import errno
import os
import socket
import stat

from ...errors import ConfigError


def bind(host: str, port: int) -> socket.socket:
    """Bind a socket that does not listen yet.

    Args:
        host: a name or address, ``unix:PATH`` for a unix socket, or ``fd:NUMBER`` for a socket that was inherited
            (``fd://NUMBER`` will do).
        port: a TCP port, 0 for any free one; unix sockets and inherited ones have none.

    Raises:
        ConfigError: it cannot be had; the message says why and which option to change.
    """
    if host.startswith("fd:"):
        return _inherited(host)
    try:
        return _bind_unix(host[len("unix:") :]) if host.startswith("unix:") else _bind_tcp(host, port)
    except OSError as error:
        raise ConfigError(_explain(error, host, port)) from error


def bind_shared(host: str, port: int) -> socket.socket:
    """Bind a TCP socket whose address others of this user may bind as well; connections are divided among them.

    Raises:
        ConfigError: see :func:`bind`.
    """
    try:
        return _bind_tcp(host, port, shared=True)
    except OSError as error:
        raise ConfigError(_explain(error, host, port)) from error


def _inherited(host: str) -> socket.socket:
    try:
        return socket.socket(fileno=int(host.removeprefix("fd:").removeprefix("//")))
    except (ValueError, OSError) as error:
        raise ConfigError(f"--host {host} is not an open socket: {error}") from error


def _bind_unix(path: str) -> socket.socket:
    if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
        os.unlink(path)  # left by a server that was killed; one that lives loses it, as with every server
    return _bound(socket.AF_UNIX, path)


def _bind_tcp(host: str, port: int, *, shared: bool = False) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(
        host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return _bound(family, address, shared=shared)


def _bound(family: int, address: object, *, shared: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(address)  # type: ignore[arg-type]  # a str for unix, a tuple otherwise
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use by another program: choose another with --port, or --port 0 for any"
    if error.errno == errno.EACCES:
        return f"this user may not listen on {_place(host, port)}: choose a port above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{host} is no address of this machine: choose another with --host"
    return f"cannot listen on {_place(host, port)}: {error.strerror or error}"


def _place(host: str, port: int) -> str:
    return host if host.startswith("unix:") else f"{host}:{port}"


def url_of(sock: socket.socket, host: str, *, secure: bool) -> str:
    """The address to tell people: the host as they wrote it, with the port that was really bound."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return f"unix:{sock.getsockname()}"
    address, port = sock.getsockname()[:2]
    if host.startswith("fd:"):
        host = address
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{'https' if secure else 'http'}://{host}:{port}"
