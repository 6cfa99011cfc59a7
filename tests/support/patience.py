"""Test clients of the tests wait longer by default than those of users: a busy machine may stand still for seconds."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from samovar import Samovar
from samovar.core.testing import TestApp, TestClient

from .until import PATIENCE

PATIENT: tuple[Callable[..., Any], ...] = (
    TestClient.__init__,
    TestApp.__init__,
    TestApp.test_client,
    Samovar.test_app,
)


def pytest_configure(config: pytest.Config) -> None:
    for function in PATIENT:
        make_patient(function)


def make_patient(function: Callable[..., Any]) -> None:
    """Let every argument of *function* that is called a timeout be :data:`PATIENCE` by default."""
    parameters = inspect.signature(function).parameters.values()
    late = {p.name for p in parameters if p.name.endswith("timeout") and isinstance(p.default, float)}
    assert late, f"{function.__qualname__} has no timeout"
    given = {
        p.name: PATIENCE if p.name in late else p.default for p in parameters if p.default is not p.empty
    }
    only = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    plain: Any = function
    plain.__defaults__ = tuple(value for name, value in given.items() if name not in only)
    plain.__kwdefaults__ = {name: value for name, value in given.items() if name in only}
