"""An app behind a real Nginx: once with nothing but ``proxy_pass``, once with the configuration that is shipped."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from ..services import ROOT
from ..support.nginx import Nginx
from ..support.ports import free_port
from ..support.server import AppServer

if TYPE_CHECKING:
    from ..conftest import NginxStarter

SHIPPED = ROOT / "deploy/nginx.conf"
WORKER = "server 127.0.0.1:5000 max_fails=0;"


def shipped_config(port: int, *app_ports: int) -> str:
    """deploy/nginx.conf with other ports, with a worker at each of *app_ports*, and nothing else changed."""
    text = SHIPPED.read_text()
    for ours, theirs in (
        ("listen 8080;", f"listen 127.0.0.1:{port};"),
        (WORKER, "\n".join(WORKER.replace("5000", str(app_port)) for app_port in app_ports)),
    ):
        assert text.count(ours) == 1, f"{ours!r} stands {text.count(ours)} times in {SHIPPED.name}"
        text = text.replace(ours, theirs)
    return text


@pytest.fixture(scope="module")
def app(module_serve: Callable[..., AppServer]) -> AppServer:
    """The app of these tests, served by ``samovar run``."""
    return module_serve("tests.nginx.app:app")


@pytest.fixture(scope="module")
def bare(module_nginx: NginxStarter, app: AppServer) -> Nginx:
    """Nginx with a bare ``proxy_pass`` to the app."""
    return module_nginx.bare(app.port)


@pytest.fixture(scope="module")
def shipped(module_nginx: NginxStarter, app: AppServer) -> Nginx:
    """Nginx with deploy/nginx.conf in front of the app."""
    port = free_port()
    return module_nginx(shipped_config(port, app.port), port)


@pytest.fixture
def tea(request: pytest.FixtureRequest) -> str:
    """A channel of the test's own: the app is shared."""
    return re.sub(r"[^A-Za-z0-9]", ".", request.node.name)


@pytest.fixture(params=["bare", "shipped"])
def front(request: pytest.FixtureRequest) -> Nginx:
    """Both, one after the other."""
    found: Nginx = request.getfixturevalue(request.param)
    return found
