"""An app that is started and stopped around a test."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from ...errors import LifespanError
from ..asgi.hosting import Lifespan
from .client import TestClient
from .exchange import TIMEOUT, ASGIApp


class TestApp:
    """Runs an app's lifespan around a test: ``async with app.test_app() as test_app``.

    Args:
        app: any ASGI callable that takes the lifespan scope.
        startup_timeout: how long start-up may take, in seconds.
        shutdown_timeout: how long shut-down may take, in seconds.
    """

    __test__ = False  # not a test case of pytest's

    def __init__(self, app: ASGIApp, startup_timeout: float = 6.0, shutdown_timeout: float = 6.0) -> None:
        self.app = app
        self.startup_timeout = startup_timeout
        self.shutdown_timeout = shutdown_timeout
        self._lifespan = self._new_lifespan()

    def _new_lifespan(self) -> Lifespan:
        return Lifespan(
            self.app, startup_timeout=self.startup_timeout, shutdown_timeout=self.shutdown_timeout
        )

    @property
    def state(self) -> dict[str, Any]:
        """The namespace that the app filled at start-up; clients made here pass it on with each connection."""
        return self._lifespan.state

    def test_client(self, use_cookies: bool = True, *, timeout: float = TIMEOUT) -> TestClient:
        """Return a client of the app, of its ``test_client_class`` where it has one."""
        client_class = getattr(self.app, "test_client_class", None) or TestClient
        client: TestClient = client_class(self.app, use_cookies=use_cookies, timeout=timeout)
        client.state = self.state
        return client

    async def startup(self) -> None:
        """Start the app.

        Raises:
            LifespanError: it failed or took too long; the cause is chained.
        """
        self._lifespan = self._new_lifespan()
        await self._lifespan.startup()

    async def drain(self) -> None:
        """Tell the app that it is about to stop, as ``samovar run`` does on a signal: long connections end."""
        event = getattr(self.app, "shutdown_event", None)
        if event is not None:
            event.set()

    async def shutdown(self) -> None:
        """Drain the app and stop it; a second call does nothing.

        Raises:
            LifespanError: it failed or took too long; the cause is chained.
        """
        await self.drain()
        await self._lifespan.shutdown()

    async def __aenter__(self) -> Self:
        await self.startup()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.shutdown()
        except Exception as late:
            if error is None:
                raise
            error.add_note(f"the app's shut-down failed too: {late!r}")


__all__ = ["LifespanError", "TestApp"]
