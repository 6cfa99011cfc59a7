"""``/livez`` and ``/readyz``: what a supervisor and a load balancer ask.

Alive means that the loop runs and answers; nothing else is looked at, for restarting a worker mends no broker. Ready
means that requests are welcome: not while the worker is going, and not when the backend has been down for longer than
``READY_BACKEND_GRACE``. Before that plain HTTP still works, and a load balancer that takes every worker out at once
because of a broker that blinks makes an outage of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from ..broadcast import Hub, State
from ..errors import ConfigError
from .globals import current_app
from .wrappers import Response

if TYPE_CHECKING:
    from .app import Samovar

USERINFO = re.compile(r"//[^/@\s]*@")
HIDDEN = "***"


def add_health(app: Samovar, livez: str | None, readyz: str | None) -> None:
    """Add the routes to *app*; None leaves one out."""
    if livez is not None:
        app.add_url_rule(livez, "livez", alive)
    if readyz is not None:
        app.add_url_rule(readyz, "readyz", ready)


async def alive() -> Response:
    """200 whenever it is asked."""
    return _answer({"status": "alive"}, 200)


async def ready() -> Response:
    """200 or 503, and why."""
    hub = current_app.hub
    draining = current_app.shutdown_event.is_set()
    usable = backend_usable(hub, current_app.config["READY_BACKEND_GRACE"])
    status = "draining" if draining else "ready" if usable else "unready"
    body = {"status": status, "backend": backend_report(hub), "draining": draining}
    return _answer(body, 200 if status == "ready" else 503)


def backend_usable(hub: Hub, grace: float | None) -> bool:
    """The backend is not down, or not for longer than *grace* seconds; None: for however long.

    Raises:
        ConfigError: *grace* is no such number.
    """
    if grace is None:
        return True
    if not isinstance(grace, int | float) or isinstance(grace, bool) or not grace >= 0:
        raise ConfigError(f"READY_BACKEND_GRACE is a number of seconds from 0 on, or None, not {grace!r}")
    return hub.health.state is not State.DOWN or hub.health_age <= grace


def backend_report(hub: Hub) -> dict[str, Any]:
    """What the backend says of itself, without secrets: lag and ``for_seconds`` in seconds."""
    health = hub.health
    return {
        "state": health.state.value,
        "generation": health.generation,
        "lag": None if health.lag is None else round(health.lag, 6),
        "reason": without_secrets(health.reason, current_app.config["BROADCAST_URL"] or ""),
        "for_seconds": round(hub.health_age, 3),
    }


def without_secrets(text: str, url: str) -> str:
    """*text* with what stands before the ``@`` of URLs hidden, and the password of *url* wherever it stands."""
    text = USERINFO.sub(f"//{HIDDEN}@", text)
    password = urlsplit(url).password if "://" in url else None
    if password:
        for form in {password, unquote(password), quote(unquote(password), safe="")}:
            text = text.replace(form, HIDDEN)
    return text


def _answer(body: dict[str, Any], status: int) -> Response:
    text = current_app.json.dumps(body)
    return Response(text, status, {"Cache-Control": "no-store"}, content_type="application/json")
