"""The lifespan: the app's start-up and shut-down, as the server asks for them."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from ...errors import ConfigError
from ..siblings import Siblings
from ..typing import ASGIMessage, ASGIReceive, ASGISend, Scope
from .forewarned import Forewarned

if TYPE_CHECKING:
    from ..app import Samovar


class LifespanHandler:
    """Serves the lifespan scope.

    Args:
        app: the application.
        scope: the ASGI lifespan scope.
    """

    def __init__(self, app: Samovar, scope: Scope) -> None:
        self.app = app
        self.scope = scope
        self._hosted = "samovar" in (scope.get("extensions") or {})
        self._siblings = Siblings(app.import_name, app.root_path)
        self._forewarned = Forewarned(self._end_is_near)

    async def __call__(self, receive: ASGIReceive, send: ASGISend) -> None:
        try:
            while await self._hear(await receive(), send):
                pass
        finally:
            await self._forewarned.close()

    async def _hear(self, message: ASGIMessage, send: ASGISend) -> bool:
        """Do what *message* asks for; tell whether more may come."""
        if message["type"] == "lifespan.startup":
            try:
                self._check_siblings()
                await self.app.startup()
            except Exception:
                self._siblings.release()
                await send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})
                return False
            if not self._hosted:
                self._forewarned.listen()
                self.app.shutdown_event.overhear = self._forewarned.overhear
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await self._forewarned.close()
            try:
                await self.app.shutdown()
            except Exception:
                await send({"type": "lifespan.shutdown.failed", "message": traceback.format_exc()})
            else:
                await send({"type": "lifespan.shutdown.complete"})
            finally:
                self._siblings.release()
            return False
        return True

    def _end_is_near(self) -> None:
        """Tell open connections, before the server waits for them."""
        self.app.shutdown_event.set()

    def _check_siblings(self) -> None:
        """Refuse to be the second worker with channels that reach one process only.

        Our own host of apps, which runs one or gives several a broker, says that it is there; it needs no check.

        Raises:
            ConfigError: that is what this process would be.
        """
        app = self.app
        if (
            self._hosted
            or app.config["BROADCAST_URL"] not in (None, "memory://")
            or not app.channels.declared
        ):
            return
        if self._siblings.found():
            raise ConfigError(
                f"another worker of this server runs {app.import_name!r} on memory:// already, and its clients would "
                "get nothing of what this one publishes: set BROADCAST_URL=local:///path.sock for all of them and run "
                "`samovar hub --path /path.sock` beside the server, or use a broker such as redis://; "
                "`samovar run --workers N` brings its own. Separate servers on purpose: BROADCAST_URL=memory://NAME"
            )
