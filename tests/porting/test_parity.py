"""Whatever is public in Quart's requests, responses, templates, JSON, sessions, test kit and signals is here too.

Quart itself is asked, as it is installed: each class's attributes, each method's and function's arguments by name. What
differs on purpose stands below with its reason; a reason that is no longer needed fails too.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

CLASSES = """
    wrappers.BaseRequestWebsocket wrappers.Request wrappers.Response wrappers.request.Body wrappers.response.DataBody
    wrappers.response.FileBody wrappers.response.IOBody wrappers.response.IterableBody wrappers.response.ResponseBody
    datastructures.FileStorage formparser.FormDataParser formparser.MultiPartParser
    json.provider.DefaultJSONProvider json.provider.JSONProvider json.tag.JSONTag json.tag.PassDict json.tag.PassList
    json.tag.TagBytes json.tag.TagDateTime json.tag.TagDict json.tag.TagMarkup json.tag.TagTuple json.tag.TagUUID
    json.tag.TaggedJSONSerializer
    sessions.NullSession sessions.SecureCookieSession sessions.SecureCookieSessionInterface
    sessions.SessionInterface sessions.SessionMixin
    templating.DispatchingJinjaLoader templating.Environment
    testing.QuartClient testing.QuartCliRunner testing.TestApp
    testing.connections.TestHTTPConnection testing.connections.TestWebsocketConnection
"""

FUNCTIONS = """
    helpers.abort helpers.flash helpers.get_flashed_messages helpers.get_template_attribute helpers.make_push_promise
    helpers.make_response helpers.redirect helpers.send_file helpers.send_from_directory helpers.stream_with_context
    helpers.url_for
    json.dump json.dumps json.jsonify json.load json.loads
    templating.render_template templating.render_template_string templating.stream_template
    templating.stream_template_string
    testing.make_test_body_with_headers testing.make_test_headers_path_and_query_string testing.make_test_scope
    testing.no_op_push
"""

MADE_OF_A_SCOPE = "made of the ASGI scope, whose parts are parsed when read"
PULLED = "the body is taken from the server when it is read, so nobody pushes pieces"
ONE_PARSER = "its steps are private"

DIFFERENT = {
    "wrappers.BaseRequestWebsocket.__init__": MADE_OF_A_SCOPE,
    "wrappers.Request.__init__": MADE_OF_A_SCOPE,
    "wrappers.Request.lock_class": "bodies and forms may be read by several at once without it",
    "wrappers.request.Body.append": PULLED,
    "wrappers.request.Body.set_complete": PULLED,
    "formparser.MultiPartParser.fail": ONE_PARSER,
    "formparser.MultiPartParser.get_part_charset": ONE_PARSER,
    "formparser.MultiPartParser.start_file_streaming": ONE_PARSER,
}


def ours(name: str) -> str:
    return name.replace("Quart", "Samovar")


def find(package: str, path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(f"{package}.{module}"), name)


def parameters(function: Any) -> dict[str, inspect.Parameter] | None:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return None


def arguments_missing(theirs: Any, mine: Any) -> Iterator[str]:
    """The names that only *theirs* takes; what comes first is given by its place, and may have another."""
    wanted, taken = parameters(theirs), parameters(mine)
    if wanted is None or taken is None or any(one.kind is one.VAR_KEYWORD for one in taken.values()):
        return
    named = [one for one in wanted.values() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    named = [one for one in named if one.name != "self" and not one.name.startswith("_")]
    for place, one in enumerate(named):
        if one.name not in taken and (place or one.kind is one.KEYWORD_ONLY or not taken):
            yield one.name


def differences(path: str) -> Iterator[str]:
    """What is missing of a class, as the table names it."""
    theirs, mine = find("quart", path), find("samovar.core", ours(path))
    for name in dir(theirs):
        if name.startswith("_") and name != "__init__":
            continue
        one, other = inspect.getattr_static(theirs, name), getattr(mine, ours(name), None)
        if not hasattr(mine, ours(name)) or (
            callable(one) and any(arguments_missing(getattr(theirs, name), other))
        ):
            yield f"{path}.{name}"


@pytest.mark.parametrize("path", CLASSES.split())
def test_a_class_has_what_quart_s_has(path: str) -> None:
    known = {entry for entry in DIFFERENT if entry.rpartition(".")[0] == path}
    assert set(differences(path)) == known


@pytest.mark.parametrize("path", FUNCTIONS.split())
def test_a_function_takes_what_quart_s_takes(path: str) -> None:
    assert list(arguments_missing(find("quart", path), find("samovar.core", path))) == []


def test_signals_are_those_of_quart() -> None:
    from quart import signals as theirs

    from samovar.core import signals as mine

    names = {name: one.name for name, one in vars(theirs).items() if hasattr(one, "send_async")}
    assert {name: getattr(mine, name).name for name in names} == names


def test_types_are_those_of_quart() -> None:
    import quart.typing

    from samovar.core import typing as mine

    names = [name for name, one in vars(quart.typing).items()
             if not name.startswith("_") and (getattr(one, "__module__", "") == "quart.typing")]  # fmt: skip
    assert [name for name in names if not hasattr(mine, name)] == []
