"""The drawing in errors.py is the tree of its classes, line for line."""

from __future__ import annotations

import inspect

import samovar.errors
from samovar.errors import SamovarError


def drawn() -> list[str]:
    """The lines of the drawing in the module's docstring."""
    text = inspect.getdoc(samovar.errors) or ""
    block = text.partition("::\n\n")[2].partition("\n\n")[0]
    return inspect.cleandoc(block).splitlines()


def draw(error: type[Exception], prefix: str = "") -> list[str]:
    """What the drawing has to be: subclasses in the order of their definition."""
    lines = []
    children = [child for child in error.__subclasses__() if not child.__name__.startswith("_")]
    for child in children:
        last = child is children[-1]
        lines.append(f"{prefix}{'└── ' if last else '├── '}{label(child)}")
        lines += draw(child, prefix + ("    " if last else "│   "))
    return lines


def label(error: type[Exception]) -> str:
    """A class with those of its bases that are not ours."""
    foreign = [base.__name__ for base in error.__bases__ if not issubclass(base, SamovarError)]
    return error.__name__ + (f" ({', '.join(foreign)})" if foreign else "")


def own_classes() -> dict[str, type[Exception]]:
    return {
        name: value
        for name, value in vars(samovar.errors).items()
        if inspect.isclass(value) and issubclass(value, SamovarError)
    }


def test_the_drawing_is_the_tree() -> None:
    in_module = set(own_classes().values())
    lines = ["SamovarError", *draw(SamovarError)]
    assert drawn() == lines
    assert len(lines) == len(in_module), "a subclass is defined outside errors.py"


def test_every_error_says_what_it_means() -> None:
    assert [name for name, error in own_classes().items() if not inspect.getdoc(error)] == []
