"""Hypercorn's access log as ours: one line for each request, also for one whose client leaves early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypercorn.logging import Logger

LOGGED = "samovar.logged"  # in the scope of a request that has its line


class AccessLogger(Logger):
    """Writes the line of a request when it ends, or when its client leaves; not again when the app ends after that."""

    async def access(self, request: Any, response: Any, request_time: float) -> None:
        """Write a request's line, unless it has one; *response* is None when the client left before its end."""
        if self.access_logger is None or request.get(LOGGED):
            return
        request[LOGGED] = True
        await super().access(request, response, request_time)

    def atoms(self, request: Any, response: Any, request_time: float) -> Mapping[str, str]:
        """What the line is made of; the path as it came, since a decoded one could hold a newline."""
        atoms: Any = super().atoms(request, response, request_time)
        protocol = f"HTTP/{request['http_version']}"
        atoms["H"] = protocol
        atoms["U"] = path = request["raw_path"].decode("latin-1")
        atoms["r"] = f"{atoms['m']} {path} {protocol}"
        return atoms  # type: ignore[no-any-return]  # Hypercorn's own dict
