"""Tasks that one of all workers runs: each under a lease of the app's hub."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..broadcast import Lease, check_channel
from ..tasks import Scope

if TYPE_CHECKING:
    from .serving import Serving

FIRST_PAUSE = 1.0  # seconds until a task that failed is run again, here or elsewhere; doubled each time
LONGEST_PAUSE = 60.0
RAN_WELL = 60.0  # seconds of one run after which what failed before is forgotten

logger: logging.Logger = logging.getLogger("samovar.singletons")


@dataclass(frozen=True, slots=True)
class Singleton:
    """One task that is declared.

    Args:
        func: a coroutine function without arguments.
        name: of its lease.
        lease: seconds.
    """

    func: Callable[[], Awaitable[Any]]
    name: str
    lease: float

    def __post_init__(self) -> None:
        if not inspect.iscoroutinefunction(self.func):
            raise TypeError(
                f"a singleton task is an async function, so that it can be cancelled, not {self.func!r}"
            )
        check_channel(self.name)


class Singletons:
    """Runs the declared tasks of one app, each while its lease is this worker's.

    Args:
        app: in whose context they run.
    """

    def __init__(self, app: Serving) -> None:
        self._app = app
        self._declared: dict[str, Singleton] = {}
        self._scope: Scope | None = None

    def add(self, singleton: Singleton) -> None:
        """Declare one.

        Raises:
            ValueError: there is one of that name.
        """
        if singleton.name in self._declared:
            raise ValueError(
                f"there is a singleton task {singleton.name!r} already: give one of them a name="
            )
        self._declared[singleton.name] = singleton

    def start(self) -> None:
        """Begin to wait for the leases.

        Raises:
            UnsupportedByBackend: the backend cannot keep any.
        """
        hub = self._app.hub
        ready = [(one, hub.lease(one.name, seconds=one.lease)) for one in self._declared.values()]
        if ready and self._scope is None:
            self._scope = Scope("singletons")
            for one, lease in ready:
                self._scope.start(self._serve(one, lease), name=one.name)

    async def stop(self) -> None:
        """Cancel the tasks and give the leases back."""
        scope, self._scope = self._scope, None
        if scope is not None:
            await scope.close()

    async def _serve(self, one: Singleton, lease: Lease) -> None:
        """Run it whenever the lease is ours, until it returns."""
        clock = asyncio.get_running_loop().time
        pause = FIRST_PAUSE
        while True:
            failed = False
            async with lease:
                logger.info("the singleton task %s runs on this worker", one.name)
                begun = clock()
                work = await self._work(one, lease)
                if work is None:
                    await lease.wait_lost()  # it is done: nobody else is to begin it while this worker lives
                    return
                failed = work
                if clock() - begun >= RAN_WELL:
                    pause = FIRST_PAUSE
            if failed:
                logger.info("the singleton task %s is run again in %g s", one.name, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _work(self, one: Singleton, lease: Lease) -> bool | None:
        """Run it once, cancelling it when the lease is lost: None when it returned, else whether it failed."""
        async with Scope("singleton") as scope:  # it logs what even the telling of a failure raised
            work = scope.start(self._in_context(one), name=one.name)
            lost = scope.start(lease.wait_lost(), name="lease")
            await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return False
            failed = work.cancelled() or work.exception() is not None or not work.result()
            return True if failed else None

    async def _in_context(self, one: Singleton) -> bool:
        """Run it in the app's context; False when it failed, which is told as of any background task."""
        async with self._app.app_context() as context:
            context.errand = f"singleton task {one.name!r}"
            try:
                await one.func()
            except Exception as error:
                await self._app.handle_background_exception(error)
                return False
            return True
