"""Which brokers are there: a run that needs one fails where it is missing, and is left out where that was asked for."""

from __future__ import annotations

import pytest

from ..conftest import need
from ..services import REDIS, VALKEY


@pytest.fixture
def redis_here(request: pytest.FixtureRequest) -> None:
    """There is a Redis."""
    need(REDIS, request.config)


@pytest.fixture
def valkey_here(request: pytest.FixtureRequest) -> None:
    """There is a Valkey."""
    need(VALKEY, request.config)
