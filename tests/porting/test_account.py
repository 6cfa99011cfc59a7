"""The account for those who come from Quart and Flask speaks of names that exist, and leaves out none of Quart's.

The first column of its tables is read: a name in front of a colon is what the following ones belong to, arguments in
parentheses are those of its signature.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import flask
import flask.testing
import pytest
import quart
import quart.cli
import quart.testing.connections
from click import Command, Group

import samovar
from samovar.core.cli import cli
from samovar.core.config import DEFAULTS
from samovar.core.sessions import SecureCookieSessionInterface
from samovar.core.testing import SamovarClient, connections

from ..services import ROOT
from .test_port import SOURCE, ported

PAGE = (ROOT / "docs/how-to/from-quart.md").read_text()
FLASK_PAGE = (ROOT / "docs/how-to/from-flask.md").read_text()
CODE = re.compile(r"`([^`]+)`(:?)")
NAME = re.compile(r"^(--)?[A-Za-z_][\w.]*(\(.*\))?$")


def part(page: str, title: str) -> str:
    """What stands under a heading, up to the next one of its level."""
    level = title.split()[0]
    found = re.search(
        rf"^{re.escape(title)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", page, re.MULTILINE | re.DOTALL
    )
    assert found is not None, title
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in *text*, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {lines[at - 1] for at, line in enumerate(lines) if set(line) <= set("|- ")}
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in lines
        if line not in heads and not set(line) <= set("|- ")
    ]


AREAS = re.findall(r"^### (.+)$", part(PAGE, "## The account"), re.MULTILINE)
NOT_THERE = " ".join(row[0] for row in rows(part(PAGE, "### What is not there")))


def names(cell: str) -> Iterator[tuple[str, str]]:
    """Each name of a cell, with what it belongs to; a root stands for itself too."""
    root = "samovar"
    for token, colon in CODE.findall(cell):
        if colon:
            root = token
        elif token.startswith(("samovar ", "samovar.")):
            yield "samovar", token
        elif NAME.match(token):
            yield root, token


CLAIMS = {
    area: [
        claim for row in rows(part(part(PAGE, "## The account"), f"### {area}")) for claim in names(row[0])
    ]
    for area in AREAS
}


@pytest.fixture(scope="module")
def roots() -> dict[str, Any]:
    """What the page's lower-case words stand for."""
    app = samovar.Samovar("samovar")
    return {
        "samovar": samovar,
        "app": app,
        "config": app.config,
        "context": app.app_context(),
        "request": samovar.Request,
        "response": samovar.Response,
        "websocket": samovar.Websocket,
        "blueprint": samovar.Blueprint("blueprint", "samovar"),
        "client": app.test_client(),
        "connection": connections.TestHTTPConnection,
        "socket": connections.TestWebsocketConnection,
        "interface": SecureCookieSessionInterface(),
        "provider": app.json,
        "file": importlib.import_module("samovar.core.datastructures").FileStorage,
        "view": importlib.import_module("samovar.core.views").MethodView,
    }


def imported(path: str) -> Any:
    """A module, or what lies in one."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(imported(module), name)


def has(owner: Any, name: str) -> bool:
    """True for what the methods of a class set as well."""
    return hasattr(owner, name) or (isinstance(owner, type) and f"self.{name}" in inspect.getsource(owner))


def commands(name: str) -> Command:
    """The command that is called *name*, ``samovar run``."""
    found: Command = cli
    for word in name.split()[1:]:
        assert isinstance(found, Group)
        found = found.commands[word]
    return found


def options(command: Command) -> set[str]:
    """All that begins with ``--``."""
    return {option for one in command.params for option in (*one.opts, *one.secondary_opts)}


def is_there(roots: dict[str, Any], root: str, claim: str) -> bool:
    """True when a name of the account exists, with the arguments that are given there."""
    name, _, arguments = claim.partition("(")
    if name.startswith("--"):
        return name in options(commands(root))
    if " " in name:
        return isinstance(commands(name), Command)
    if name in DEFAULTS or (root == "samovar" and name in roots):
        return True
    owner, _, last = name.rpartition(".") if name.startswith("samovar.") else (root, "", name)
    holder = roots[owner] if owner in roots else imported(owner)
    wanted = {argument.strip() for argument in arguments.rstrip(")").split(",") if argument}
    taken = inspect.signature(getattr(holder, last)).parameters if wanted else {}
    return has(holder, last) and wanted <= set(taken)


@pytest.mark.parametrize("area", AREAS)
def test_what_the_account_names_is_there(roots: dict[str, Any], area: str) -> None:
    assert CLAIMS[area]
    assert [claim for claim in CLAIMS[area] if not is_there(roots, *claim)] == []


# --- nothing is left out ----------------------------------------------------------------------------------------------

WHOLE = {
    "app": quart.Quart("quart"),
    "blueprint": quart.Blueprint("blueprint", "quart"),
    "config": quart.Config,
    "request": quart.Request,
    "response": quart.Response,
    "websocket": quart.Websocket,
    "client": quart.Quart("quart").test_client(),
    "connection": quart.testing.connections.TestHTTPConnection,
    "socket": quart.testing.connections.TestWebsocketConnection,
    "interface": quart.sessions.SecureCookieSessionInterface(),
}
INHERITED = {"blueprint": "app"}
"""A blueprint's registries are the app's, and named there."""
PLAIN = {"client": {"app", "cookie_jar", "preserve_context", "push_promises"}, "blueprint": {
    "deferred_functions", "import_name", "name", "root_path", "subdomain", "template_folder", "url_prefix",
    "url_values_defaults", "view_functions", "error_handler_spec", "cli_group", "jinja_loader"}}  # fmt: skip
"""What is set on an object and nobody asks for by that name."""


def claimed(root: str) -> set[str]:
    """The names that the account gives to *root*."""
    return {name.partition("(")[0] for claims in CLAIMS.values() for owner, name in claims if owner == root}


@pytest.mark.parametrize("root", WHOLE)
def test_every_attribute_of_quart_s_is_in_the_account(root: str) -> None:
    known = claimed(root) | PLAIN.get(root, set())
    if root in INHERITED:
        known |= claimed(INHERITED[root])
    public = {name for name in dir(WHOLE[root]) if not name.startswith("_")}
    assert {name for name in public - known if f".{name}" not in NOT_THERE} == set()


def test_every_setting_of_quart_s_is_in_the_account() -> None:
    assert set(quart.Quart.default_config) - claimed("samovar") == set()


def test_every_name_that_quart_exports_is_in_the_account() -> None:
    exported = {
        name for name, one in vars(quart).items() if not name.startswith("_") and not inspect.ismodule(one)
    }
    mine = claimed("samovar") | {claim.rpartition(".")[2] for claim in claimed("samovar")}
    assert {name.replace("Quart", "Samovar") for name in exported - {"annotations"}} - mine == set()


# --- the table of modules ---------------------------------------------------------------------------------------------

MODULES = {row[0].strip("`"): row[1] for row in rows(part(PAGE, "## What to change")) if "quart" in row[0]}


def test_every_module_of_quart_s_is_in_the_table() -> None:
    theirs = {module.name for module in pkgutil.walk_packages(quart.__path__, "quart.")}
    assert theirs - set(MODULES) == {"quart.__main__"}


@pytest.mark.parametrize("name", [name for name in MODULES if re.fullmatch(r"quart[\w.]*", name)])
def test_a_module_of_the_table_has_what_quart_s_defines(name: str) -> None:
    theirs, mine = importlib.import_module(name), importlib.import_module(CODE.findall(MODULES[name])[0][0])
    defined = [
        one
        for one, value in vars(theirs).items()
        if getattr(value, "__module__", None) == name and not one.startswith(("_", "T_")) and one not in "TPF"
    ]
    missing = [one for one in defined if not hasattr(mine, one.replace("Quart", "Samovar"))]
    assert [one for one in missing if f"`{name}.{one}`" not in NOT_THERE] == []


def test_the_command_of_the_page_changes_what_has_to_be_changed() -> None:
    steps = re.findall(r"^  s/(.+)/(.*)/(g?);$", part(PAGE, "## What to change"), re.MULTILINE)
    assert len(steps) > 3
    for file in SOURCE.glob("*.py"):
        lines = file.read_text().splitlines()
        for old, new, everywhere in steps:
            lines = [re.sub(old, new, line, count=0 if everywhere else 1) for line in lines]
        assert lines == ported(file.read_text()).splitlines()


# --- Flask ------------------------------------------------------------------------------------------------------------

FLASK_NOT_THERE = " ".join(row[0] for row in rows(part(FLASK_PAGE, "## What is not there")))
FLASK_CLASSES = {
    flask.Flask("flask"): samovar.Samovar("samovar"),
    flask.Blueprint: samovar.Blueprint,
    flask.Request: samovar.Request,
    flask.Response: samovar.Response,
    flask.testing.FlaskClient: SamovarClient,
}


def test_what_lacks_of_flask_s_is_named() -> None:
    missing = {
        f"{getattr(theirs, '__name__', 'Flask')}.{name}"
        for theirs, mine in FLASK_CLASSES.items()
        for name in dir(theirs)
        if not name.startswith("_") and not hasattr(mine, name)
    }
    assert missing == {name for name, _ in CODE.findall(FLASK_NOT_THERE) if name[0].isupper()} - {
        "Request.environ"
    }


@pytest.mark.parametrize(
    "name",
    [
        module.name
        for module in pkgutil.walk_packages(flask.__path__, "flask.")
        if "sansio" not in module.name
    ],
)
def test_a_module_of_flask_s_has_its_names(name: str) -> None:
    if name == "flask.__main__" or f"`{name}`" in FLASK_NOT_THERE:
        return
    theirs, mine = (
        importlib.import_module(name),
        importlib.import_module(name.replace("flask", "samovar.core", 1)),
    )
    missing = [
        one
        for one, value in vars(theirs).items()
        if getattr(value, "__module__", None) == name
        and not one.startswith(("_", "T_"))
        and one not in ("T", "F", "ResponseClass")  # type variables
        and not hasattr(mine, one.replace("Flask", "Samovar"))
    ]
    assert [one for one in missing if f"`{name}.{one}`" not in FLASK_NOT_THERE] == []


def test_links_within_the_pages_lead_to_headings() -> None:
    for page in (PAGE, FLASK_PAGE):
        headings = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in
                    re.findall(r"^#+ (.+)$", page, re.MULTILINE)}  # fmt: skip
        assert [link for link in re.findall(r"\]\(#([^)]+)\)", page) if link not in headings] == []
