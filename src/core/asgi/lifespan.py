"""The lifespan: the app's start-up and shut-down, as the server asks for them."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from ..typing import ASGIReceive, ASGISend, Scope

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

    async def __call__(self, receive: ASGIReceive, send: ASGISend) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.app.startup()
                except Exception:
                    await send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                try:
                    await self.app.shutdown()
                except Exception:
                    await send({"type": "lifespan.shutdown.failed", "message": traceback.format_exc()})
                else:
                    await send({"type": "lifespan.shutdown.complete"})
                return
