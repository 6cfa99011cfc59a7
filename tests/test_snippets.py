"""The code in the documentation runs: what a newcomer copies first must work.

The Python blocks of a page are one module, in their order; HTML blocks that begin with ``{# templates/name #}`` lie
beside it. Functions called ``test_…`` in them are tests here too.
"""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from a2wsgi import WSGIMiddleware

from samovar import Hub
from samovar.core.testing import WebsocketResponseError
from samovar.tasks import Scope

from .conftest import SESSION_LOOP
from .services import ROOT
from .support.server import AppServer
from .support.until import until

if TYPE_CHECKING:
    from playwright.async_api import Page

PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
TEMPLATE_BLOCK = re.compile(r"^```html\n(\{# (templates/\S+) #\}\n.*?)^```", re.MULTILINE | re.DOTALL)
TEST = re.compile(r"^(?:async )?def (test_\w+)\(\):", re.MULTILINE)

PAGES = [
    "README.md",
    "docs/tutorial/quickstart.md",
    "docs/how-to/channels.md",
    "docs/how-to/web.md",
    "docs/how-to/from-flask.md",
    "docs/how-to/from-quart.md",
    "docs/how-to/testing.md",
    "docs/how-to/nginx.md",
    "docs/how-to/workers.md",
    "docs/reference/cli.md",
    "docs/reference/javascript.md",
]

EXCERPTS = {
    "CONTRIBUTING.md": "a test as it would be written, of fixtures that a page does not have",
    "docs/explain/delivery.md": "single lines, whose surroundings are on the page of channels",
    "docs/how-to/backends.md": "the suite of a backend that somebody else has; ours run it",
    "docs/tutorial/dashboard.md": "parts of examples/dashboard, compared with it below",
}
"""Pages whose blocks are no app, and why; their syntax is checked."""

Load = Callable[[str], ModuleType]


def text_of(path: str) -> str:
    """A file of the repository."""
    return (ROOT / path).read_text()


def write(path: str, folder: Path) -> Path:
    """Put the code of a page into *folder*; returns the module's file."""
    text = text_of(path)
    for source, name in TEMPLATE_BLOCK.findall(text):
        template = folder / name
        template.parent.mkdir(exist_ok=True)
        template.write_text(source)
    file = folder / "app.py"
    file.write_text("\n".join(PYTHON_BLOCK.findall(text)))
    return file


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Imports the code of a page as one module."""
    names = []

    def load_page(path: str) -> ModuleType:
        name = "page_" + Path(path).stem
        spec = importlib.util.spec_from_file_location(name, write(path, tmp_path))
        assert spec is not None and spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        names.append(name)
        spec.loader.exec_module(module)
        return module

    yield load_page
    for name in names:
        module = sys.modules.pop(name)
        for mounted in getattr(module.app.asgi_app, "mounts", {}).values():
            if isinstance(mounted, WSGIMiddleware):
                mounted.executor.shutdown()  # its idle threads live as long as the process


def shown_tests() -> list[tuple[str, str]]:
    """Page and name of every test that a page shows."""
    return [
        (path, name)
        for path in PAGES
        for name in TEST.findall("\n".join(PYTHON_BLOCK.findall(text_of(path))))
    ]


@pytest.mark.parametrize("path", PAGES)
async def test_the_code_of_a_page_runs_as_one_module(load: Load, path: str) -> None:
    assert load(path).app.url_map is not None


@pytest.mark.parametrize(("path", "name"), shown_tests())
async def test_the_tests_that_a_page_shows_pass(load: Load, path: str, name: str) -> None:
    test: Callable[[], Any] = getattr(load(path), name)
    if inspect.iscoroutinefunction(test):
        await test()
    else:
        await asyncio.to_thread(test)


async def test_the_app_of_the_readme_serves_its_channel(load: Load) -> None:
    client = load("README.md").app.test_client()
    async with client.sse("/prices/events") as stream:
        assert (await stream.receive()).event == "subscribed"
        assert (await client.post("/prices", json={"tea": 3.2})).status_code == 204
        assert (await stream.receive()).json()["data"] == {"tea": 3.2}


# --- quickstart -------------------------------------------------------------------------------------------------------


async def test_the_other_doors_of_the_quickstart_carry_the_same_message(load: Load) -> None:
    client = load("docs/tutorial/quickstart.md").app.test_client()
    before = (await (await client.get("/prices/poll")).get_json())["cursor"]
    async with client.websocket("/prices/socket") as socket:
        assert (await socket.receive_json())["subscribed"] is True
        await socket.send("tea")
        first = await socket.receive_json()
    polled = await (await client.get(f"/prices/poll?since={before}")).get_json()
    assert polled["messages"] == [first]
    assert first["data"] == "tea"


async def test_the_page_of_the_quickstart_has_a_cursor_to_go_on_from(load: Load) -> None:
    client = load("docs/tutorial/quickstart.md").app.test_client()
    page = await (await client.get("/")).get_data(as_text=True)
    found = re.search(r"since=([\w.~:-]+)", page)
    assert found is not None
    await client.post("/prices", json={"tea": 3.3})
    assert [m["data"] for m in (await client.poll("/prices/poll", since=found[1])).messages] == [{"tea": 3.3}]


async def test_only_members_may_follow_the_room_of_the_quickstart(load: Load) -> None:
    app = load("docs/tutorial/quickstart.md").app
    client = app.test_client()
    assert (await client.get("/rooms/tea/events")).status_code == 403
    async with client.session_transaction() as session:
        session["rooms"] = ["tea"]
    async with client.sse("/rooms/tea/events") as stream:
        assert (await stream.receive()).event == "subscribed"


# --- channels ---------------------------------------------------------------------------------------------------------


async def test_a_free_path_leads_around_a_rule_and_the_safe_way_does_not(load: Load) -> None:
    client = load("docs/how-to/channels.md").app.test_client()
    assert (await client.get("/rooms/tea/events")).status_code == 403
    assert (await client.get("/rooms/tea/private/events")).status_code == 404
    async with client.sse("/open/tea/private/events") as stream:
        assert (await stream.receive_json())["channel"] == "chat/tea/private"


async def test_a_plain_view_of_the_channels_page_publishes(load: Load) -> None:
    app = load("docs/how-to/channels.md").app
    async with app.test_app() as test_app, app.hub.subscribe("imports") as messages:
        answer = await test_app.test_client().post("/import")
        assert answer.status_code == 200
        assert (await anext(messages)).data == {"rows": 3}


async def test_the_script_of_the_channels_page_prints_what_it_gets(
    load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    follow = load("docs/how-to/channels.md").follow
    async with Hub("memory://script") as publisher, Scope("script") as scope:
        since = f"prices={await publisher.cursor('prices')}"
        await publisher.publish("prices", {"tea": 3.2})
        script = scope.start(follow("memory://script", since))
        printed = ""

        def has_printed() -> bool:
            nonlocal printed
            printed += capsys.readouterr().out
            return "{'tea': 3.2}" in printed

        await until(has_printed, "the price")
        script.cancel()
    assert printed == "prices {'tea': 3.2}\n"


async def test_the_page_of_the_channels_page_prints_the_cursor_taken_first(load: Load) -> None:
    client = load("docs/how-to/channels.md").app.test_client()
    page = await (await client.get("/")).get_data(as_text=True)
    assert re.search(r"since=[\w.~-]+:\d+", page)


async def test_the_room_of_the_channels_page_goes_on_where_its_page_ends(load: Load) -> None:
    app = load("docs/how-to/channels.md").app
    client = app.test_client()
    assert (await client.get("/rooms/tea")).status_code == 403
    async with client.session_transaction() as session:
        session["rooms"] = ["tea"]
    for text in ("hello", "<b>"):
        await app.hub.publish("chat/tea", text)
    page = await (await client.get("/rooms/tea")).get_data(as_text=True)
    assert "<li>hello</li><li>&lt;b&gt;</li>" in page
    address = re.search(r'EventSource\("(.*)"\)', page)
    assert address is not None
    async with client.sse(address[1]) as stream:
        assert (await stream.receive_json())["recovered"] is True
        await app.hub.publish("chat/tea", "live")
        assert (await stream.receive_json())["data"] == "live"


@pytest.mark.parametrize(("token_of", "status"), [("ada", 200), ("bob", 403), (None, 403)])
async def test_a_token_opens_the_inbox_of_its_user_at_every_door(
    load: Load, token_of: str | None, status: int
) -> None:
    app = load("docs/how-to/channels.md").app
    client, stranger = app.test_client(), app.test_client()
    async with client.session_transaction() as session:
        session["user"] = token_of or "ada"
    token = "none" if token_of is None else (await (await client.post("/token")).get_json())["token"]
    origin = {"Origin": "https://www.example.com"}
    async with stranger.request(f"/inbox/ada/events?token={token}", headers=origin) as stream:
        await stream.send_complete()
        assert await stream.start() == status
        assert stream.headers["Access-Control-Allow-Origin"] == "https://www.example.com"
        await stream.disconnect()
    async with stranger.websocket(f"/inbox/ada/ws?token={token}", headers=origin) as socket:
        if status == 200:
            assert (await socket.receive_json())["subscribed"] is True
        else:
            with pytest.raises(WebsocketResponseError):
                await socket.receive()


async def test_a_client_chooses_channels_and_none_that_is_closed(load: Load) -> None:
    app = load("docs/how-to/channels.md").app
    client = app.test_client()
    async with client.session_transaction() as session:
        session["rooms"] = ["tea", "pot"]
    async with client.websocket("/halls/ws?hall=tea&hall=pot") as socket:
        assert {(await socket.receive_json())["channel"] for _ in range(2)} == {"hall/tea", "hall/pot"}
    async with client.sse("/halls/events?hall=pot&hall=tea") as stream:
        assert (await stream.receive_json())["channel"] == "hall/pot"
    for closed in ("milk", "tea/private", "tea&hall=milk"):
        assert (await client.get(f"/halls/events?hall={closed}")).status_code == 403


async def test_pages_of_named_origins_only_are_let_in(load: Load) -> None:
    client = load("docs/how-to/channels.md").app.test_client()
    for origin, allowed in (("https://www.example.com", True), ("https://evil.example", False)):
        asked = await client.options("/prices", headers={"Origin": origin})
        assert asked.status_code == 200 and "Origin" in asked.headers["Vary"]
        assert asked.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)


async def test_who_comes_and_goes_is_told_by_an_event_stream_of_the_channels_page(load: Load) -> None:
    app = load("docs/how-to/channels.md").app
    client = app.test_client()
    async with client.session_transaction() as session:
        session["rooms"], session["user"] = ["tea"], "ada"
    async with client.sse("/rooms/tea/everything") as stream:
        first = [await stream.receive_json() for _ in range(3)]
    assert [word["channel"] for word in first] == ["chat/tea", "!chat/tea", "!chat/tea"]
    assert (first[2]["data"]["event"], first[2]["data"]["member"]["user"]) == ("join", "ada")
    assert (await app.test_client().get("/rooms/tea/everything")).status_code == 403


# --- web --------------------------------------------------------------------------------------------------------------


async def test_the_web_page_does_what_it_says(load: Load) -> None:
    client = load("docs/how-to/web.md").app.test_client()
    assert await (await client.get("/teas/1.json")).get_json() == {"name": "Keemun", "grams": 4}
    missing = await client.get("/teas/9.json")
    assert (missing.status_code, (await missing.get_json())["error"]) == (404, "Not Found")
    assert (await client.post("/teas", form={"grams": "3"})).status_code == 400
    assert "has a name" in await (
        await client.post("/teas", form={"name": " "}, follow_redirects=True)
    ).get_data(as_text=True)
    assert (await client.put("/teas/2.json", json={"name": "Assam", "grams": 3})).status_code == 201
    assert (await client.put("/teas/2.json", json=["Assam"])).status_code == 400
    assert (await client.put("/teas/2.json", data=b"x")).status_code == 415
    assert await (await client.get("/count?by=ada")).get_json() == {"teas": 2, "asked by": "ada"}
    assert (await client.get("/pot")).status_code == 503


async def test_the_web_pages_blueprint_is_for_admins(load: Load) -> None:
    module = load("docs/how-to/web.md")
    client = module.app.test_client()
    assert (await client.delete("/admin/teas/1")).status_code == 403
    async with client.session_transaction() as session:
        session["user"] = "ada"
    assert (await client.delete("/admin/teas/1")).status_code == 204
    assert module.teas == {}


async def test_the_web_pages_background_task_ends_when_told(load: Load) -> None:
    app = load("docs/how-to/web.md").app
    app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = (
        60  # so that one that is not told would exceed the limit below
    )
    async with app.hub.subscribe("teas", last=1) as messages:
        async with asyncio.timeout(60):
            async with app.test_app():
                assert (await anext(messages)).data == {"count": 1}
    assert not app.background_tasks


async def test_views_that_come_from_flask_work(load: Load) -> None:
    client = load("docs/how-to/from-flask.md").app.test_client()
    answer = await client.post("/name", form={"name": "<Ada>"}, follow_redirects=True)
    assert await answer.get_data(as_text=True) == "Hello &lt;Ada&gt; saved"


async def test_what_replaces_things_built_for_quart_works(load: Load) -> None:
    client = load("docs/how-to/from-quart.md").app.test_client()
    async with client.sse("/countdown") as stream:
        assert [(event.id, event.event, event.json()) async for event in stream] == [
            (str(number), "tick", {"number": number}) for number in (3, 2, 1)
        ]
    start = await client.poll("/chat/poll")
    async with client.websocket("/chat") as socket:
        assert (await socket.receive_json())["subscribed"] is True
        await socket.send("hello")
    assert [
        message["data"] for message in (await client.poll("/chat/poll", since=start.cursor)).messages
    ] == ["hello"]


@pytest.mark.skipif(shutil.which("perl") is None, reason="the script is perl's, which this machine lacks")
def test_the_script_of_the_quart_page_changes_imports_and_prefixes(tmp_path: Path) -> None:
    script = re.search(r"```sh\n(grep .*?)```", text_of("docs/how-to/from-quart.md"), re.DOTALL)
    assert script is not None
    (tmp_path / "shop.py").write_text(
        "import quart\nimport quart.views\nfrom quart import Quart\nfrom quart.testing import QuartClient\n"
        'app = quart.Quart("quart.shop")\n'
        "class Tea(quart.views.MethodView):\n"
        "    get = quart.render_template, quart.request.path, quart_cors.cors, old.quart.x\n"
    )
    subprocess.run(["sh", "-ec", script[1]], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "shop.py").read_text() == (
        "import samovar\nimport samovar.core.views\nfrom samovar import Samovar\n"
        "from samovar.core.testing import SamovarClient\n"
        'app = samovar.Samovar("samovar.shop")\n'
        "class Tea(samovar.core.views.MethodView):\n"
        "    get = samovar.render_template, samovar.request.path, quart_cors.cors, old.quart.x\n"
    )


async def test_the_handler_that_comes_from_quart_learns_how_its_client_went(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    client = load("docs/how-to/from-quart.md").app.test_client()
    with caplog.at_level("INFO"):
        async with client.websocket("/greet") as socket:
            await socket.send("Ada")
            assert await socket.receive() == "hello Ada"
            await socket.close(1001)
        await until(lambda: "gone with 1001" in caplog.text, "the line of the log")


# --- behind a proxy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "address", "url"),
    [
        ("127.0.0.1", "203.0.113.7", "https://shop.example/"),
        ("198.51.100.9", "198.51.100.9", "http://shop.example/"),
    ],
    ids=["the proxy", "a stranger"],
)
async def test_only_the_proxy_is_believed(load: Load, peer: str, address: str, url: str) -> None:
    client = load("docs/how-to/nginx.md").app.test_client()
    headers = {
        "Host": "shop.example",
        "X-Forwarded-For": "10.0.0.1, 203.0.113.7",
        "X-Forwarded-Proto": "https",
    }
    answer = await client.get("/who", headers=headers, scope_base={"client": (peer, 40000)})
    assert await answer.get_json() == {"address": address, "url": url}


# --- the command line -------------------------------------------------------------------------------------------------


async def test_the_command_of_the_command_lines_page_counts(load: Load) -> None:
    app = load("docs/reference/cli.md").app
    result = await asyncio.to_thread(app.test_cli_runner().invoke, args=["users", "add", "ada"])
    assert (result.exit_code, result.output) == (0, "added ada\n")


# --- excerpts ---------------------------------------------------------------------------------------------------------


def pages_with_python() -> set[str]:
    """Every page of the repository's own that shows code."""
    files = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*/*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("examples/**/*.md"),
    ]
    pages = {file.relative_to(ROOT).as_posix() for file in files}
    return {page for page in pages if "_build" not in page and PYTHON_BLOCK.search(text_of(page))}


def test_the_code_of_every_page_is_run() -> None:
    """Here, or as a file of examples/ that has tests of its own."""
    examples = [file.read_text() for file in ROOT.glob("examples/**/*.py")]
    unknown = [
        (page, block)
        for page in sorted(pages_with_python() - set(PAGES) - set(EXCERPTS))
        for block in PYTHON_BLOCK.findall(text_of(page))
        if not any(block.strip() in example for example in examples)
    ]
    assert unknown == []
    assert set(EXCERPTS) <= pages_with_python()


@pytest.mark.parametrize("page", EXCERPTS)
def test_an_excerpt_is_python(page: str) -> None:
    for number, block in enumerate(PYTHON_BLOCK.findall(text_of(page)), 1):
        source = re.sub(
            r"^(\w+=.+),$", r"dict(\1)", block, flags=re.MULTILINE
        )  # an argument of a longer call
        compile(source, f"{page}, block {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def lines(source: str) -> list[str]:
    """The lines of *source* without indentation, comments at their end, and what says that something was left out."""
    stripped = [re.sub(r"\s{2,}(#|//) .*$", "", line).strip() for line in source.splitlines()]
    return [line for line in stripped if line and line != "..."]


def test_the_dashboards_tutorial_shows_the_dashboards_code() -> None:
    folder = ROOT / "examples/dashboard"
    code = {
        line
        for file in [*folder.glob("*.py"), *folder.glob("static/*.js")]
        for line in lines(file.read_text())
    }
    tutorial = text_of("docs/tutorial/dashboard.md")
    excerpts = re.findall(r"^```(?:python|js)\n(.*?)^```", tutorial, re.MULTILINE | re.DOTALL)
    assert len(excerpts) > 5
    assert [line for excerpt in excerpts for line in lines(excerpt) if line not in code] == []


# --- the JavaScript client --------------------------------------------------------------------------------------------

CLIENT = ROOT / "src/core/realtime/client"


def test_every_option_of_the_client_is_documented() -> None:
    defaults = re.search(
        r"const defaults = \(\) => \(\{\n(.*?)^\}\);", (CLIENT / "env.js").read_text(), re.M | re.S
    )
    assert defaults is not None
    options = set(re.findall(r"^  (\w+):", defaults[1], re.MULTILINE))
    documented = set(re.findall(r"^\| `(\w+)` \|", text_of("docs/reference/javascript.md"), re.MULTILINE))
    assert len(options) > 10
    assert options - documented == set()


def test_every_name_that_the_client_exports_is_documented() -> None:
    index = (CLIENT / "index.js").read_text()
    names = {
        name.strip() for group in re.findall(r"^export \{(.*?)\}", index, re.M) for name in group.split(",")
    }
    assert "formatCursor" in names
    page = text_of("docs/reference/javascript.md")
    assert [name for name in names if f"`{name}" not in page] == []


@SESSION_LOOP
async def test_the_page_of_the_client_follows_its_channel_over_a_cut(
    page: Page, serve: Callable[..., Awaitable[AppServer]], tmp_path: Path
) -> None:
    server = await serve(str(write("docs/reference/javascript.md", tmp_path)))
    says = "word => document.querySelector('#status').value === word"
    shows = "texts => Array.from(document.querySelectorAll('#feed li'), item => item.textContent).join() === texts"
    post = "text => fetch('/feed', {method: 'POST', body: new URLSearchParams({text})})"
    await page.goto(server.url)
    await page.wait_for_function(says, arg="live")
    assert await page.evaluate("document.querySelector('#people').value") == "1"
    await page.evaluate(post, "first")
    await page.wait_for_function(shows, arg="first")
    await page.evaluate("line.interrupt(0.5)")
    await page.evaluate(post, "second")
    await page.wait_for_function(says, arg="resumed")
    await page.wait_for_function(shows, arg="first,second")


# --- the README -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md"])
def test_links_to_files_lead_somewhere(path: str) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / path).read_text())
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_path_in_the_readmes_tree_exists() -> None:
    tree = next(block for block in (ROOT / "README.md").read_text().split("```") if "├──" in block)
    missing, folders = [], [ROOT]
    for line in tree.strip().splitlines():
        indent, name = re.match(r"^([│├└─ ]*)(\S+)", line).groups()  # type: ignore[union-attr]  # every line matches
        depth = len(indent) // 4
        path = (folders[: depth + 1][-1] if depth < len(folders) else folders[-1]) / name.rstrip(",/")
        folders[depth + 1 :] = [path]
        if not path.exists():
            missing.append(path)
    assert missing == []
