"""Files: whole, conditional, in parts, never from outside their folder; and the small helpers of views."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from samovar import Response, Samovar, make_response, redirect, request, send_file, send_from_directory
from samovar.core.wrappers import FileBody

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def app(tmp_path: Path) -> Samovar:
    static = tmp_path / "site" / "static"
    (static / "sub").mkdir(parents=True)
    (static / "a.txt").write_bytes(b"hello world")
    (static / "big.bin").write_bytes(CONTENT)
    (static / "sub" / "ü.html").write_text("<p>")
    (static / "empty.css").write_bytes(b"")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "site" / "static-secret").write_text("secret")
    return Samovar(__name__, root_path=tmp_path / "site")


async def test_static_files_have_type_length_and_validators(app: Samovar) -> None:
    response = await app.test_client().get("/static/a.txt")
    assert await response.get_data() == b"hello world"
    assert response.content_type == "text/plain; charset=utf-8" and response.content_length == 11
    assert (
        response.headers["etag"] and response.last_modified and response.headers["accept-ranges"] == "bytes"
    )
    assert response.cache_control.max_age == 12 * 3600 and response.cache_control.public


@pytest.mark.parametrize("name", ["big.bin", "sub/ü.html", "empty.css"])
async def test_static_files_come_whole(app: Samovar, name: str) -> None:
    response = await app.test_client().get(f"/static/{name}")
    async with await app.open_resource(f"static/{name}") as file:
        assert await response.get_data() == await file.read()


async def test_head_of_a_file_has_its_length(app: Samovar) -> None:
    response = await app.test_client().head("/static/big.bin")
    assert response.content_length == len(CONTENT) and await response.get_data() == b""


HOSTILE = (
    "../secret", "..%2fsecret", "%2e%2e/secret", "../static-secret", "sub/../../../secret", "/etc/passwd",
    "//etc/passwd", "..\\secret", "..%5csecret", "\x00", "a.txt\x00", "a.txt%00", "sub", "sub/", ".", "",
    "a" * 5000, "\udcff", "a.txt/", "./../../secret", "C:/secret", "nul", "%c0%ae%c0%ae/secret",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_path_leads_outside(app: Samovar, name: str) -> None:
    from .wire import Wire

    for path in (f"/static/{name}", f"/static/sub/{name}"):
        wire = await Wire(app, path=path).run()
        assert wire.status in (404, 308), (path, wire.status, wire.body)
        assert b"secret" not in wire.body.replace(name.encode("utf-8", "replace"), b"")


async def test_a_file_not_modified_is_304(app: Samovar) -> None:
    client = app.test_client()
    first = await client.get("/static/a.txt")
    for headers in (
        {"If-None-Match": first.headers["etag"]},
        {"If-None-Match": f"W/{first.headers['etag']}"},
        {"If-None-Match": "*"},
        {"If-Modified-Since": first.headers["last-modified"]},
    ):
        again = await client.get("/static/a.txt", headers=headers)
        assert again.status_code == 304 and again.headers["etag"] == first.headers["etag"], headers
        assert "content-length" not in again.headers and await again.get_data() == b""
    changed = await client.get("/static/a.txt", headers={"If-None-Match": '"other"'})
    assert changed.status_code == 200
    failed = await client.get("/static/a.txt", headers={"If-Match": '"other"'})
    assert failed.status_code == 412


@pytest.mark.parametrize(
    ("header", "status", "body", "content_range"),
    [
        ("bytes=0-4", 206, b"hello", "bytes 0-4/11"),
        ("bytes=6-", 206, b"world", "bytes 6-10/11"),
        ("bytes=-5", 206, b"world", "bytes 6-10/11"),
        ("bytes=-50", 206, b"hello world", "bytes 0-10/11"),
        ("bytes=6-500", 206, b"world", "bytes 6-10/11"),
        ("bytes=11-", 416, None, "bytes */11"),
        ("bytes=50-60", 416, None, "bytes */11"),
        ("bytes=nope", 416, None, "bytes */11"),
        ("bytes=4-1", 416, None, "bytes */11"),
        ("bytes=0-1,4-5", 200, b"hello world", None),
        ("lines=0-1", 200, b"hello world", None),
        ("", 200, b"hello world", None),
    ],
)
async def test_ranges(
    app: Samovar, header: str, status: int, body: bytes | None, content_range: str | None
) -> None:
    response = await app.test_client().get("/static/a.txt", headers={"Range": header})
    assert response.status_code == status
    assert response.headers.get("content-range") == content_range
    if body is not None:
        assert await response.get_data() == body and response.content_length == len(body)


async def test_if_range_gives_the_whole_when_it_changed(app: Samovar) -> None:
    client = app.test_client()
    etag = (await client.get("/static/a.txt")).headers["etag"]
    same = await client.get("/static/a.txt", headers={"Range": "bytes=0-1", "If-Range": etag})
    other = await client.get("/static/a.txt", headers={"Range": "bytes=0-1", "If-Range": '"x"'})
    assert (same.status_code, other.status_code) == (206, 200)


async def test_a_range_of_a_large_file(app: Samovar) -> None:
    response = await app.test_client().get("/static/big.bin", headers={"Range": "bytes=100000-200001"})
    assert await response.get_data() == CONTENT[100000:200002]


async def test_max_age_may_be_none(app: Samovar) -> None:
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = None
    response = await app.test_client().get("/static/a.txt")
    assert response.headers["cache-control"] == "no-cache"


async def test_files_are_asked_for_each_time_in_debug_mode(app: Samovar) -> None:
    app.debug = True
    response = await app.test_client().get("/static/a.txt")
    assert response.headers["cache-control"] == "no-cache" and response.headers["etag"]


async def test_send_file_as_attachment(app: Samovar) -> None:
    @app.get("/<name>")
    async def download(name: str) -> Response:
        return await send_file("static/a.txt", as_attachment=True, download_name=name)

    client = app.test_client()
    plain = await client.get("/a b.txt")
    assert plain.headers["content-disposition"] == 'attachment; filename="a b.txt"'
    odd = await client.get('/ü".txt')
    assert odd.headers["content-disposition"] == "attachment; filename=.txt; filename*=UTF-8''%C3%BC%22.txt"


async def test_send_file_takes_quarts_names(app: Samovar) -> None:
    @app.get("/")
    async def index() -> Response:
        return await send_file(
            filename_or_io="static/a.txt",
            as_attachment=True,
            attachment_filename="mine.csv",
            add_etags=False,
            cache_timeout=7,
        )

    @app.get("/from")
    async def from_directory() -> Response:
        return await send_from_directory("static", file_name="a.txt", cache_timeout=0)

    client = app.test_client()
    response = await client.get("/")
    assert response.headers["content-disposition"] == "attachment; filename=mine.csv"
    assert response.headers["cache-control"] == "public, max-age=7" and "etag" not in response.headers
    assert response.mimetype == "text/csv" and await response.get_data() == b"hello world"
    response = await client.get("/from")
    assert response.headers["cache-control"] == "no-cache" and await response.get_data() == b"hello world"


async def test_a_file_that_is_shown_has_the_name_it_was_given(app: Samovar) -> None:
    async with app.test_request_context("/"):
        named = await send_file("static/a.txt", download_name="b.html")
        assert named.headers["content-disposition"] == "inline; filename=b.html"
        assert named.mimetype == "text/html"
        assert "content-disposition" not in (await send_file("static/a.txt")).headers


@pytest.mark.parametrize(
    "name", ["a://[/b.png", "data:b.png", "data:,b.png", "//[b.png", ":b.png", "[b]#?;.png"]
)
async def test_a_name_that_looks_like_a_url_has_the_type_of_its_end(app: Samovar, name: str) -> None:
    async with app.test_request_context("/"):
        assert (await send_file("static/a.txt", download_name=name)).mimetype == "image/png"


async def test_what_cannot_be_read_is_an_error_before_the_answer_begins(
    app: Samovar, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app.test_request_context("/"):
        with pytest.raises(IsADirectoryError):
            await send_file("static")
        with pytest.raises(TypeError, match="needs a path"):
            await send_file()
        with pytest.raises(TypeError, match="needs the path"):
            await send_from_directory("static")
        monkeypatch.setattr("os.access", lambda path, mode: False)
        with pytest.raises(PermissionError):
            await send_file("static/a.txt")


async def test_send_file_of_an_open_file(app: Samovar) -> None:
    files: list[io.BytesIO] = []

    @app.get("/")
    async def index() -> Response:
        file = io.BytesIO(b"0123456789")
        files.append(file)
        return await send_file(file, mimetype="application/x-mine")

    client = app.test_client()
    whole = await client.get("/")
    assert await whole.get_data() == b"0123456789" and whole.mimetype == "application/x-mine"
    part = await client.get("/", headers={"Range": "bytes=2-3"})
    assert await part.get_data() == b"23"
    await client.head("/")
    assert (await client.get("/", headers={"Range": "bytes=90-"})).status_code == 416
    assert all(file.closed for file in files)


async def test_send_file_takes_no_text(app: Samovar) -> None:
    async with app.test_request_context("/"):
        with pytest.raises(TypeError, match="binary"):
            await send_file(io.StringIO("x"))  # type: ignore[arg-type]  # the mistake
        with pytest.raises(TypeError, match="download_name"):
            await send_file(io.BytesIO(b"x"), as_attachment=True)
        with pytest.raises(FileNotFoundError):
            await send_file("nowhere")


async def test_x_sendfile_leaves_the_file_to_the_proxy(app: Samovar) -> None:
    app.config["USE_X_SENDFILE"] = True
    response = await app.test_client().get("/static/a.txt")
    assert response.headers["x-sendfile"].endswith("static/a.txt") and await response.get_data() == b""


async def test_send_from_directory_is_relative_to_the_app(app: Samovar) -> None:
    async with app.test_request_context("/"):
        response = await send_from_directory("static", "a.txt")
        assert await response.get_data() == b"hello world"


async def test_a_file_that_shrinks_drops_the_connection(
    app: Samovar, caplog: pytest.LogCaptureFixture
) -> None:
    from .wire import Wire

    @app.get("/")
    async def index() -> Response:
        response = await send_file("static/big.bin")
        os.truncate(Path(app.root_path, "static/big.bin"), 10)
        return response

    wire = await Wire(app).run()
    assert not wire.complete and "shorter" in caplog.text


async def test_open_resource(app: Samovar) -> None:
    async with await app.open_resource("static/a.txt") as file:
        assert await file.read() == b"hello world"
    async with await app.open_resource("static/a.txt", "r") as file:
        assert await file.read() == "hello world"
    assert file.closed
    with pytest.raises(ValueError, match="reading"):
        await app.open_resource("static/a.txt", "w")


def test_a_redirect_may_be_of_a_class_of_ones_own() -> None:
    class Own(Response):
        pass

    response = redirect("/ü", 303, Response=Own)
    assert type(response) is Own and response.status_code == 303
    assert response.headers["location"] == "/%C3%BC"


async def test_make_response(app: Samovar) -> None:
    async with app.test_request_context("/"):
        assert (await make_response()).status_code == 200
        assert (await make_response("x", 201)).status_code == 201
        assert await (await make_response({"a": 1})).get_json() == {"a": 1}


async def test_responses_read_back_and_change() -> None:
    response = Response("abc", headers={"X": "y"})
    assert await response.get_data(as_text=True) == "abc" and response.content_length == 3
    response.set_data("longer")
    assert response.content_length == 6 and response.headers["x"] == "y"
    response.status = "404 Lost"
    assert (response.status_code, response.status) == (404, "404 Lost")
    response.status_code = 201
    assert response.status == "201 CREATED"
    await response.freeze()
    assert response.get_etag()[0]


async def test_a_streamed_response_reads_back() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"a":'
        yield b"1}"

    response = Response(pieces(), mimetype="application/json")
    assert response.is_streamed and await response.get_json() == {"a": 1} and not response.is_streamed


async def test_a_response_tells_a_stream_from_what_it_has() -> None:
    class Strict(Response):
        implicit_sequence_conversion = False

    stream = Strict(iter(["a", "b"]))
    assert [stream.is_sequence, stream.calculate_content_length()] == [False, None]
    with pytest.raises(RuntimeError, match="make_sequence"):
        await stream.get_data()
    await stream.make_sequence()
    assert [stream.is_sequence, stream.calculate_content_length()] == [True, 2]
    assert await stream.get_data() == b"ab"


async def test_a_body_class_may_have_another_buffer(app: Samovar) -> None:
    class Small(FileBody):
        buffer_size = 4

    path = Path(app.root_path, "static/a.txt")
    async with Small(path) as pieces:
        assert [piece async for piece in pieces] == [b"hell", b"o wo", b"rld"]
    async with Small(path, buffer_size=6) as pieces:
        assert [piece async for piece in pieces] == [b"hello ", b"world"]


async def test_cookies_are_set_and_deleted(app: Samovar) -> None:
    @app.get("/")
    async def index() -> Response:
        response = await make_response(str(request.cookies.get("a")))
        response.set_cookie("a", "1")
        return response

    client = app.test_client()
    await client.get("/")
    assert await (await client.get("/")).get_data() == b"1"


async def test_push_promises_go_to_servers_that_take_them(app: Samovar) -> None:
    @app.get("/")
    async def index() -> Any:
        await request.send_push_promise("/static/a.txt")
        return "x"

    async with app.test_client().request("/", http_version="2") as connection:
        await connection.send_complete()
    assert connection.push_promises[0][0] == "/static/a.txt"


async def test_a_stream_yields_text_or_bytes_of_any_kind() -> None:
    pieces = ["ü", b"b", bytearray(b"c"), memoryview(b"d")]
    assert await Response(iter(pieces)).get_data() == "übcd".encode()


@pytest.mark.parametrize("piece", [3, 2.5, None, [98]])
async def test_a_stream_refuses_what_is_neither_text_nor_bytes(piece: Any) -> None:
    with pytest.raises(TypeError, match=f"yields str or bytes, not {type(piece).__name__}"):
        await Response(iter([piece])).get_data()


async def test_the_date_is_the_servers_to_give(app: Samovar) -> None:
    first = await app.test_client().get("/static/a.txt")
    second = await app.test_client().get("/static/a.txt", headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, second.status_code) == (200, 304)
    assert "date" not in first.headers and "date" not in second.headers
