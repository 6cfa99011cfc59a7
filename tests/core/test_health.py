"""``/livez`` and ``/readyz``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from samovar import Samovar
from samovar.broadcast import Health, Hub, State
from samovar.core.health import without_secrets
from samovar.errors import ConfigError

from ..broadcast.faulty import Clock, FaultyBackend


class Stand:
    """An app on a backend that can be cut, with a clock that goes when it is told to."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.link = FaultyBackend()
        stand = self

        class App(Samovar):
            def make_hub(self) -> Hub:
                return Hub(stand.link, clock=stand.clock)

        self.app = App(__name__)
        self.app.health()

    async def ask(self) -> tuple[int, Any]:
        response = await self.app.test_client().get("/readyz")
        assert response.headers["Cache-Control"] == "no-store"
        return response.status_code, await response.get_json()


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    stand = Stand()
    await stand.app.hub.start()
    yield stand
    await stand.app.hub.stop()


async def test_all_is_well(stand: Stand) -> None:
    stand.clock.now += 2.5
    status, body = await stand.ask()
    backend = body["backend"]
    assert (status, body["status"], body["draining"]) == (200, "ready", False)
    assert (backend["state"], backend["generation"], backend["reason"]) == ("up", 1, "")
    assert (backend["lag"], backend["for_seconds"]) == (0.0, 2.5)


async def test_a_backend_that_is_down_turns_it_red_after_the_grace_and_not_before(stand: Stand) -> None:
    stand.clock.now += 100
    stand.link.cut()
    stand.clock.now += 30
    status, body = await stand.ask()
    assert (status, body["status"]) == (200, "ready")
    assert (body["backend"]["state"], body["backend"]["for_seconds"]) == ("down", 30.0)
    stand.clock.now += 0.5
    status, body = await stand.ask()
    assert (status, body["status"], body["backend"]["reason"]) == (503, "unready", "cut")
    assert (await stand.app.test_client().get("/livez")).status_code == 200
    stand.link.restore()
    status, body = await stand.ask()
    assert (status, body["backend"]["generation"], body["backend"]["for_seconds"]) == (200, 2, 0.0)


async def test_degraded_is_ready(stand: Stand) -> None:
    stand.link.outer.health(Health(State.DEGRADED, reason="slow"))
    stand.clock.now += 1000
    status, body = await stand.ask()
    assert (status, body["backend"]["state"]) == (200, "degraded")


@pytest.mark.parametrize(("grace", "status"), [(None, 200), (0, 503), (5, 503), (2000, 200)])
async def test_the_grace_is_a_setting(stand: Stand, grace: float | None, status: int) -> None:
    stand.app.config["READY_BACKEND_GRACE"] = grace
    stand.link.cut()
    stand.clock.now += 1000
    assert (await stand.ask())[0] == status


@pytest.mark.parametrize("wrong", ["30", -1, True])
async def test_a_grace_that_cannot_be_is_said(stand: Stand, wrong: Any) -> None:
    stand.app.config.update(READY_BACKEND_GRACE=wrong, TESTING=True)
    with pytest.raises(ConfigError, match="READY_BACKEND_GRACE"):
        await stand.ask()


async def test_a_worker_that_goes_is_not_ready_at_once(stand: Stand) -> None:
    stand.app.shutdown_event.set()
    status, body = await stand.ask()
    assert (status, body["status"], body["draining"]) == (503, "draining", True)
    assert (await stand.app.test_client().get("/livez")).status_code == 200


async def test_no_password_is_told(stand: Stand) -> None:
    stand.app.config["BROADCAST_URL"] = "redis://me:s3cr%23t@host:1/0"
    for reason in ("redis://me:s3cr%23t@host:1/0 refused", "AUTH failed for s3cr#t", "with s3cr%23t"):
        stand.link.outer.health(Health(State.DOWN, reason=reason))
        _, body = await stand.ask()
        assert "s3cr" not in body["backend"]["reason"]
    assert without_secrets("no secret in redis://host/0", "redis://host/0") == "no secret in redis://host/0"


async def test_paths_can_be_chosen_and_left_out() -> None:
    app = Samovar(__name__)
    assert (await app.test_client().get("/livez")).status_code == 404
    app = Samovar(__name__)
    app.health(livez=None, readyz="/up")
    client = app.test_client()
    assert [(await client.get(path)).status_code for path in ("/livez", "/readyz", "/up")] == [404, 404, 200]
