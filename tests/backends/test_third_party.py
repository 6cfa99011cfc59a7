"""A backend of somebody else's, installed beside the package and found by its entry point."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from uuid import uuid4

import pytest

from samovar import Samovar
from samovar.backends.contract import BackendContract
from samovar.broadcast import ChannelRule, Hub, open_backend
from samovar.errors import ConfigError, UnknownBackend, UnsupportedByBackend

SITE = Path(__file__).parent / "third_party"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The distribution ``teapot``, as ``pip install`` leaves it on the path."""
    monkeypatch.syspath_prepend(str(SITE))
    assert importlib.metadata.version("teapot") == "1.0"


@pytest.mark.usefixtures("installed")
class TestTeapot(BackendContract):
    @pytest.fixture
    def backend_url(self) -> str:
        return f"teapot://{uuid4().hex}"


def test_without_it_the_scheme_is_unknown() -> None:
    with pytest.raises(UnknownBackend, match="teapot"):
        open_backend("teapot://x")


@pytest.mark.usefixtures("installed")
async def test_an_app_runs_on_it() -> None:
    app = Samovar(__name__)
    app.config["BROADCAST_URL"] = f"teapot://{uuid4().hex}"
    async with app.test_app(), app.hub.subscribe("c") as messages:
        await app.hub.publish("c", {"tea": "green"})
        async for message in messages:
            assert message.data == {"tea": "green"}  # type: ignore[union-attr]
            break


@pytest.mark.usefixtures("installed")
async def test_what_it_cannot_do_is_said_at_the_start() -> None:
    url = f"teapot://{uuid4().hex}"
    with pytest.raises(UnsupportedByBackend, match="PRESENCE"):
        Hub(url, channels=[ChannelRule("c", presence=True)])
    async with Hub(url) as hub:
        with pytest.raises(UnsupportedByBackend, match="PRESENCE"):
            await hub.presence("c")
        with pytest.raises(UnsupportedByBackend, match="VERSION"):
            await hub.publish("c", 1, version=1)
    with pytest.raises(UnsupportedByBackend, match="presence"):
        await open_backend(url).members("c")
    with pytest.raises(ConfigError, match="teapot://NAME"):
        open_backend("teapot://x?sugar=1")
