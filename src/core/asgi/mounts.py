"""Other ASGI apps under paths of their own, in front of an app."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from ...errors import ConfigError, LifespanError
from ..typing import ASGIMessage, ASGIReceive, ASGISend, Scope
from .hosting import ASGIApp, Lifespan


class Mounts:
    """Gives what lies below certain paths to other apps: ``app.asgi_app = Mounts(app.asgi_app, {"/blog": blog})``.

    A mounted app sees its path as ``root_path``, and so builds its URLs below it. Of several paths that fit, the
    longest counts; ``/blog`` covers ``/blog`` and ``/blog/…``, not ``/blogs``.

    The mounted apps start before *app* and stop after it, each with a state of its own; one that has no lifespan is
    served without. When one of them does not start, nothing does.

    Args:
        app: gets everything else, websockets too.
        mounts: each path, such as ``"/blog"``, and its ASGI app. A WSGI app needs a bridge, such as ``a2wsgi``.

    Raises:
        ConfigError: a path does not begin with ``/``, or ends with one.
    """

    def __init__(self, app: ASGIApp, mounts: Mapping[str, ASGIApp]) -> None:
        for path in mounts:
            if not path.startswith("/") or path.endswith("/"):
                raise ConfigError(
                    f"an app is mounted under a path such as '/blog', without a slash at its end, not {path!r}"
                )
        self.app = app
        self.mounts: dict[str, ASGIApp] = dict(sorted(mounts.items(), key=lambda mount: -len(mount[0])))
        self._states: dict[str, dict[str, Any]] = {}

    async def __call__(self, scope: Scope, receive: ASGIReceive, send: ASGISend) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        root = (scope.get("root_path") or "").rstrip("/")
        full = scope["path"] if below(root, scope["path"]) else root + scope["path"]
        for path, app in self.mounts.items():
            if below(root + path, full):
                inner = {"root_path": root + path, "path": full, "state": dict(self._states.get(path, {}))}
                await app({**scope, **inner}, receive, send)
                return
        await self.app(scope, receive, send)

    async def _live(self, scope: Scope, receive: ASGIReceive, send: ASGISend) -> None:
        """Serve the lifespan: the mounted apps around that of the app."""
        waiting = [await receive()]

        async def hear() -> ASGIMessage:
            return waiting.pop() if waiting else await receive()

        async def answer(message: ASGIMessage) -> None:
            if message["type"] != "lifespan.startup.complete":  # it was the last word
                message = await _close(stack, message)
            await send(message)

        async with AsyncExitStack() as stack:
            try:
                await self._start(stack)
            except LifespanError as error:
                message = {"type": "lifespan.startup.failed", "message": str(error)}
                await send(await _close(stack, message))
            else:
                await self.app(scope, hear, answer)

    async def _start(self, stack: AsyncExitStack) -> None:
        for path, app in self.mounts.items():
            try:
                lifespan = await stack.enter_async_context(Lifespan(app, hosted=False, optional=True))
            except LifespanError as error:
                raise LifespanError(f"under {path}: {error}") from error
            self._states[path] = lifespan.state


async def _close(stack: AsyncExitStack, message: ASGIMessage) -> ASGIMessage:
    """Stop what was started, before the server has the last word and may end the process; returns that word.

    A failure is told of in it, unless it tells of another.
    """
    try:
        await stack.aclose()
    except LifespanError as error:
        if not message["type"].endswith(".failed"):
            return {"type": "lifespan.shutdown.failed", "message": str(error)}
        raise
    return message


def below(root: str, path: str) -> bool:
    """True when *path* is *root* or lies below it; everything is below nothing."""
    return path == root or path.startswith(f"{root}/")
