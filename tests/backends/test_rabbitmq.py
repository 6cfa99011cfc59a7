"""RabbitMQ: the contract on a real server, and what is its alone while all is well."""

from __future__ import annotations

from itertools import count

import pytest

from samovar.backends.contract import BackendContract

from ..support.rabbitmq import RabbitServer

_corners = count()


@pytest.fixture
def stream() -> str:
    """A stream that nobody has used."""
    return f"t{next(_corners)}"


@pytest.fixture
def url(rabbitmq: RabbitServer, stream: str) -> str:
    return rabbitmq.url(f"stream={stream}")


class TestRabbitMQ(BackendContract):
    """The suite."""

    @pytest.fixture
    def backend_url(self, url: str) -> str:
        return url
