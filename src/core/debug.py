"""The page that shows an unhandled exception in debug mode: its frames, their lines and their variables."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from .ctx import required_context

if TYPE_CHECKING:
    from .wrappers.response import Response

CONTEXT_LINES = 4
MAX_VARIABLES = 50  # of one frame
MAX_VALUE = 300  # characters of a variable's value

_STYLE = """
:root { color-scheme: light dark; --soft: #8884; --mark: #e0442230 }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
h1 { font-size: 1.3rem; overflow-wrap: anywhere } h2 { font-size: 1rem; margin: 1.5rem 0 .3rem }
pre { background: var(--soft); border-radius: 6px; margin: 0; overflow-x: auto; padding: .5rem 0 }
table { border-spacing: .8rem 0; font: 13px/1.5 ui-monospace, monospace }
td { overflow-wrap: anywhere; vertical-align: top }
pre span { display: block; padding: 0 .8rem } pre .here { background: var(--mark); font-weight: 600 }
.where { opacity: .7 }
"""


def traceback_page(error: BaseException) -> str:
    """A page with the exception's traceback and the lines around each frame."""
    chain = Markup("").join(_one(exception) for exception in _chain(error))
    title = escape(f"{type(error).__name__}: {_message(error)}")
    page = Markup(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>{}</title><style>{}</style><body>{}</body></html>'
    ).format(title, Markup(_STYLE), chain)
    return str(page)


async def traceback_response(error: BaseException) -> Response:
    """The page as a response with status 500, of the current app."""
    app = required_context("traceback_response").app
    return app.response_class(traceback_page(error), 500)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those it came from."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _one(error: BaseException) -> Markup:
    frames = Markup("").join(
        _frame(frame, line) for frame, line in reversed(list(traceback.walk_tb(error.__traceback__)))
    )
    return Markup("<h1>{}: {}</h1>{}").format(type(error).__name__, _message(error), frames)


def _frame(frame: FrameType, line: int) -> Markup:
    code = frame.f_code
    lines = [
        Markup('<span class="{}">{:>5}  {}</span>').format(
            "here" if number == line else "", number, linecache.getline(code.co_filename, number).rstrip()
        )
        for number in range(max(1, line - CONTEXT_LINES), line + CONTEXT_LINES + 1)
        if linecache.getline(code.co_filename, number)
    ]
    return Markup('<h2>{} <span class="where">{}:{}</span></h2><pre>{}</pre>{}').format(
        code.co_qualname if hasattr(code, "co_qualname") else code.co_name,
        code.co_filename,
        line,
        Markup("").join(lines),
        _variables(frame),
    )


def _variables(frame: FrameType) -> Markup:
    rows = [
        Markup("<tr><td>{}<td>{}").format(name, _shown(value))
        for name, value in list(frame.f_locals.items())[:MAX_VARIABLES]
        if not name.startswith("__")
    ]
    return (
        Markup("<details><summary>Variables</summary><table>{}</table></details>").format(
            Markup("").join(rows)
        )
        if rows
        else Markup("")
    )


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # of what it was raised with
        return f"<its text raises {type(second).__name__}>"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:  # of somebody's __repr__: the page is about another one
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"
