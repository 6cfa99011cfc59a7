"""A Quart application of some hundred lines runs here after changing its imports and class name, and nothing else.

The same tests run on Quart itself: what they ask is what Quart does.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

SOURCE = Path(__file__).parent / "teahouse"
CHANGES = (
    (r"\bfrom quart import\b", "from samovar import"),
    (r"\bfrom quart\.", "from samovar.core."),
    (r"\bQuart\b", "Samovar"),
)
TEA = UUID("6f0f5fb4-1f0e-4a4c-9a5e-0d4c6c6b0001")


def ported(source: str) -> str:
    """What somebody who moves changes, and no more."""
    for old, new in CHANGES:
        source = re.sub(old, new, source)
    return source


@pytest.fixture(scope="module", params=["quart", "samovar"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The package, in a folder of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    name = f"teahouse_{request.param}"
    for file in SOURCE.rglob("*.*"):
        if file.suffix in (".py", ".html"):
            target = folder / name / file.relative_to(SOURCE)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = file.read_text()
            target.write_text(ported(text) if request.param == "samovar" and file.suffix == ".py" else text)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
        for module in [module for module in sys.modules if module.split(".")[0] == name]:
            del sys.modules[module]


@pytest.fixture
async def app(house: ModuleType, tmp_path: Path) -> AsyncIterator[Any]:
    """The application, serving."""
    (tmp_path / "leaf.mp4").write_bytes(bytes(range(256)) * 40)
    app = house.create_app({"FILMS": tmp_path, "TESTING": True})
    async with app.test_app():
        yield app


@pytest.fixture
async def ada(app: Any) -> Any:
    """A client of somebody who is logged in."""
    client = app.test_client()
    answer = await client.post("/blog/login", form={"name": "ada", "password": "camellia"})
    assert (answer.status_code, answer.location) == (302, "/blog/")
    return client


def test_nothing_but_imports_and_the_class_name_changes() -> None:
    for file in SOURCE.glob("*.py"):
        old, new = file.read_text().splitlines(), ported(file.read_text()).splitlines()
        changed = [line for line, other in zip(old, new, strict=True) if line != other]
        assert changed
        assert [line for line in changed if "import" not in line and "Quart" not in line] == []


async def text(answer: Any) -> str:
    """The body of an answer."""
    body: str = await answer.get_data(as_text=True)
    return body


# --- the blog ---------------------------------------------------------------------------------------------------------


async def test_a_post_is_written_read_changed_and_taken_away(app: Any, ada: Any) -> None:
    form = {"slug": "first-flush", "title": "First <flush>", "text": "It is spring."}
    answer = await ada.post("/blog/new", form=form, follow_redirects=True)
    assert answer.headers["X-Tea-House"] == "blog.post"
    page = await text(answer)
    assert "<p>ada · 2024</p>" in page
    assert '<p class="flash">First &lt;flush&gt; is published</p>' in page
    assert "<title>First &lt;flush&gt;</title>" in page
    assert '<a href="/blog/first-flush">First &lt;flush&gt;</a>' in await text(await ada.get("/blog/?n=1"))
    assert "nothing yet" in await text(await ada.get("/blog/?n=0"))
    assert "First &lt;flush&gt;" in await text(await ada.get("/blog/all"))
    exported = await ada.get("/blog/export")
    assert exported.headers["Content-Type"].startswith("text/csv")
    assert await text(exported) == "slug,title\nfirst-flush,First <flush>\n"
    home = await text(await ada.get("/"))
    assert "<h1>WELCOME!</h1><li>First &lt;flush&gt;</li>" in home
    assert '<a href="/blog/">blog</a> / session' in home
    assert (await ada.put("/blog/first-flush", data=" It is autumn. ")).status_code == 204
    assert "<article>It is autumn.</article> by ada" in await text(await ada.get("/blog/first-flush"))
    assert (await ada.post("/blog/first-flush")).status_code == 405
    again = await ada.post("/blog/new", form=form)
    assert (again.status_code, await text(again)) == (409, "refused: first-flush is taken")
    stranger = await app.test_client().put("/blog/first-flush", data="mine")
    assert (stranger.status_code, "only its author" in await text(stranger)) == (403, True)
    assert (await ada.delete("/blog/first-flush")).status_code == 204
    gone = await ada.get("/blog/first-flush")
    assert (gone.status_code, "Nothing at /blog/first-flush" in await text(gone)) == (404, True)
    assert (await ada.get("/blog/First_Flush")).status_code == 404


async def test_a_picture_comes_with_its_post(house: ModuleType, ada: Any) -> None:
    file_storage = importlib.import_module(
        "quart.datastructures" if house.__name__.endswith("quart") else "samovar.core.datastructures"
    ).FileStorage
    with (SOURCE / "templates/home.html").open("rb") as stream:
        kept = stream.read()
        stream.seek(0)
        upload = {"picture": file_storage(stream, "leaf.png")}
        form = {"slug": "leaf", "title": "A leaf"}
        assert (await ada.post("/blog/new", form=form, files=upload)).status_code == 302
    picture = await ada.get("/blog/leaf/picture")
    assert (picture.mimetype, await picture.get_data()) == ("image/png", kept)
    again = await ada.get("/blog/leaf/picture", headers={"If-None-Match": picture.headers["ETag"]})
    assert (again.status_code, await again.get_data()) == (304, b"")


async def test_a_stranger_is_sent_to_the_login_and_back(app: Any) -> None:
    client = app.test_client()
    sent = await client.get("/blog/new")
    assert (sent.status_code, sent.location) == (302, "/blog/login?next=/blog/new")
    wrong = await client.post("/blog/login", form={"name": "ada", "password": "robusta"})
    assert "[error] wrong name or password" in await text(wrong)
    assert "action='/blog/login'" in await text(wrong)
    right = await client.post(sent.location, form={"name": "ada", "password": "camellia"})
    assert right.location == "/blog/new"
    last, session = sorted(right.headers.getlist("Set-Cookie"))
    assert {"last=ada", "Max-Age=3600", "HttpOnly", "SameSite=Lax"} <= set(last.split("; "))
    assert session.startswith("session=") and "Expires=" in session
    assert (await client.get("/blog/new")).status_code == 200
    out = await client.post("/blog/logout", follow_redirects=True)
    assert "<p>stranger · 2024</p>" in await text(out)
    assert (await client.get("/blog/new")).status_code == 302


async def test_a_test_may_prepare_the_session(app: Any) -> None:
    client = app.test_client()
    async with client.session_transaction() as session:
        session["user"] = "bob"
    assert (await client.get("/blog/new")).status_code == 200
    async with app.test_request_context("/blog/", method="GET"):
        url_for = importlib.import_module(type(app).__module__.split(".")[0]).url_for
        assert url_for("blog.post", slug="a-b") == "/blog/a-b"


# --- the chat ---------------------------------------------------------------------------------------------------------


async def test_words_go_to_everybody_in_the_room(app: Any, ada: Any) -> None:
    bob = app.test_client()
    await bob.post("/blog/login", form={"name": "bob", "password": "sinensis"})
    async with ada.websocket("/chat/tea?topic=green") as hers, bob.websocket("/chat/tea") as his:
        assert await hers.receive_json() == {"room": "tea", "you": "ada", "topic": "green"}
        assert await his.receive_json() == {"room": "tea", "you": "bob", "topic": None}
        await hers.send("hello")
        words = {"from": "ada", "words": "hello"}
        assert [await hers.receive_json(), await his.receive_json()] == [words, words]
        said = await app.test_client().post("/chat/tea", json={"words": "psst"})
        assert await said.get_json() == {"listeners": 2}
        assert (await his.receive_json())["from"] == "somebody"


async def test_a_stranger_may_not_talk(house: ModuleType, app: Any) -> None:
    testing = importlib.import_module(
        "quart.testing" if house.__name__.endswith("quart") else "samovar.core.testing"
    )
    with pytest.raises(testing.WebsocketResponseError) as refused:
        async with app.test_client().websocket("/chat/tea") as socket:
            await socket.receive()
    assert refused.value.response.status_code == 401


async def test_a_socket_gives_back_text_and_bytes(app: Any) -> None:
    async with app.test_client().websocket("/chat/echo/a/b") as socket:
        for frame in ("text", b"bytes"):
            await socket.send(frame)
            assert await socket.receive() == frame


async def test_words_come_as_server_sent_events_too(house: ModuleType, app: Any) -> None:
    client = app.test_client()
    assert (await client.get("/chat/tea/events", headers={"Accept": "text/html"})).status_code == 406
    headers = {"Accept": "text/event-stream"}
    async with client.request("/chat/tea/events", headers=headers) as connection:
        await connection.send_complete()
        assert await connection.receive() == b": welcome\n\n"
        assert (connection.status_code, connection.headers["Content-Type"]) == (200, "text/event-stream")
        broker = importlib.import_module(f"{house.__name__}.chat").broker
        async with asyncio.timeout(60):
            while not broker.rooms.get("tea"):
                await asyncio.sleep(0)
        await app.test_client().post("/chat/tea", json={"words": "hot"})
        assert await connection.receive() == b"event: words\ndata: hot\n\n"
        await connection.disconnect()


# --- the API ----------------------------------------------------------------------------------------------------------


async def test_a_tea_is_put_and_read(app: Any) -> None:
    client = app.test_client()
    body = {"name": "Keemun", "price": "4.20"}
    put = await client.put(f"/api/teas/{TEA}", json=body)
    assert (put.status_code, put.location) == (201, f"/api/teas/{TEA}")
    tea = await (await client.get(f"/api/teas/{TEA}")).get_json()
    expected = {"id": str(TEA), "name": "Keemun", "price": "4.20", "since": "Wed, 01 May 2024 00:00:00 GMT"}
    assert tea == expected == await put.get_json()
    assert list(tea) == ["id", "name", "price", "since"]
    assert (await client.put(f"/api/teas/{TEA}", json=body)).status_code == 200
    assert await (await client.get("/api/teas/?like=Kee")).get_json() == [tea]
    assert await (await client.get("/api/teas/?like=Assam")).get_json() == []


async def test_errors_of_the_api_are_json(app: Any) -> None:
    client = app.test_client()
    missing = await client.get("/api/teas/00000000-0000-0000-0000-000000000000")
    assert (missing.status_code, await missing.get_json()) == (
        404,
        {"error": "not found"},
    )  # a code's handler first
    nameless = await client.put(f"/api/teas/{TEA}", json={})
    assert (nameless.status_code, (await nameless.get_json())["detail"]) == (400, "a tea has a name")
    broken = await client.put(f"/api/teas/{TEA}", data=b"{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, (await broken.get_json())["error"]) == (400, "Bad Request")
    nowhere = await client.get("/api/nothing")
    assert (nowhere.status_code, await nowhere.get_json()) == (404, {"error": "not found"})


async def test_defaults_of_urls_and_plain_functions(app: Any) -> None:
    client = app.test_client()
    assert await (await client.get("/api/fr/about")).get_json() == {
        "language": "fr",
        "here": "/api/en/about",
        "there": "http://localhost/api/en/about",
    }
    health = await client.get("/health")
    assert health.headers["Cache-Control"] == "no-store"
    assert await health.get_json() == {"ok": True, "films": app.config["FILMS"].as_posix()}


async def test_a_body_is_read_piece_by_piece(app: Any) -> None:
    headers = {"Content-Type": "application/x-tea"}
    answer = await app.test_client().post("/api/sum", data=b"x" * 100_000, headers=headers)
    assert await answer.get_json() == [100_000, "application/x-tea"]


# --- the films --------------------------------------------------------------------------------------------------------


async def test_a_film_comes_in_the_pieces_a_browser_asks_for(app: Any) -> None:
    client = app.test_client()
    whole = await client.get("/films/leaf.mp4")
    assert (whole.status_code, whole.mimetype, whole.content_length) == (200, "video/mp4", 10_240)
    part = await client.get("/films/leaf.mp4", headers={"Range": "bytes=256-511"})
    assert (part.status_code, part.headers["Content-Range"]) == (206, "bytes 256-511/10240")
    assert await part.get_data() == bytes(range(256))
    beyond = await client.get("/films/leaf.mp4", headers={"Range": "bytes=99999-"})
    assert beyond.status_code == 416
    same = await client.get("/films/leaf.mp4", headers={"If-None-Match": whole.headers["ETag"]})
    assert same.status_code == 304
    assert (await client.get("/films/stalk.mp4")).status_code == 404


# --- serving ----------------------------------------------------------------------------------------------------------


async def test_serving_begins_and_ends_and_background_work_is_done(house: ModuleType) -> None:
    app = house.create_app({"TESTING": True})
    async with app.test_app() as serving:
        assert app.extensions["events"] == ["opened"]
        assert (await serving.test_client().post("/kettle")).status_code == 202
        async with asyncio.timeout(60):
            await app.extensions["kettle"].wait()
    assert app.extensions["events"] == ["opened", "closed"]
    assert app.extensions["served"] == 1


def test_the_environment_configures(house: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAHOUSE_TEAPOTS", "3")
    monkeypatch.setenv("TEAHOUSE_LIMITS__CUPS", "[1, 2]")
    app = house.create_app()
    assert (app.config["TEAPOTS"], app.config["LIMITS"]) == (3, {"CUPS": [1, 2]})


def test_the_command_line_has_the_apps_commands(house: ModuleType) -> None:
    result = house.create_app().test_cli_runner().invoke(args=["brew", "assam", "--cups", "2"])
    assert (result.exit_code, result.output) == (0, "2 x assam\n")
