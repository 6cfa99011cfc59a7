"""Loads a recipe freshly for a test: it may read its settings when it is imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

Recipe = Callable[[str], ModuleType]


@pytest.fixture
def recipe() -> Iterator[Recipe]:
    """Imports the file ``examples/recipes/NAME.py`` as if for the first time."""
    names = []

    def load(name: str) -> ModuleType:
        names.append(module := f"examples.recipes.{name}")
        sys.modules.pop(module, None)
        return importlib.import_module(module)

    yield load
    for name in names:
        del sys.modules[name]
