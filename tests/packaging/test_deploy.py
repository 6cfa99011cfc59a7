"""What deploy/ ships says only what there is; its nginx.conf has tests of its own."""

from __future__ import annotations

import re

import pytest

from samovar.backends.rabbitmq import RabbitBackend
from samovar.backends.redis import RedisBackend
from samovar.broadcast import open_backend
from samovar.core.config import SETTINGS

from ..services import ROOT

COMPOSE = (ROOT / "deploy/compose.yaml").read_text()


@pytest.mark.parametrize(("scheme", "kind"), [("amqp", RabbitBackend), ("redis", RedisBackend)])
def test_the_brokers_of_the_compose_file_can_be_opened(scheme: str, kind: type) -> None:
    [url] = re.findall(rf"{scheme}://[^'}}\s]+", COMPOSE)
    assert isinstance(open_backend(url), kind)


def test_the_settings_of_the_compose_file_exist() -> None:
    names = set(re.findall(r"^ +SAMOVAR_(\w+):", COMPOSE, re.MULTILINE))
    assert names == {"BROADCAST_URL", "BROADCAST_PUBLISH_TIMEOUT", "SECRET_KEY"}
    assert names - {"SECRET_KEY"} <= {setting.name for setting in SETTINGS}


def test_the_files_of_the_compose_file_exist() -> None:
    for path in re.findall(r"/source/([\w./]+)", COMPOSE):
        assert (ROOT / path).exists(), path
    assert (ROOT / "deploy/nginx.conf").exists() and "./nginx.conf:" in COMPOSE
