"""Forms: fields, files, bounds, and what is malformed."""

from __future__ import annotations

import asyncio
import io
from typing import Any, ClassVar

import pytest
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import RequestEntityTooLarge

from samovar import Request, Samovar, request
from samovar.core.formparser import SPOOL_BYTES, FormDataParser, MultiPartParser

from .wire import Wire


@pytest.fixture
def app() -> Samovar:
    app = Samovar(__name__, static_folder=None)

    @app.post("/")
    async def index() -> Any:
        form, files = await request.form, await request.files
        return {
            "form": {name: form.getlist(name) for name in form},
            "files": {name: [file.filename, len(file.read())] for name, file in files.items()},
        }

    return app


async def test_urlencoded_fields(app: Samovar) -> None:
    response = await app.test_client().post("/", form={"a": ["1", "2"], "b": "ü &"})
    assert (await response.get_json())["form"] == {"a": ["1", "2"], "b": ["ü &"]}


async def test_undecodable_fields_are_replaced(app: Samovar) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    response = await app.test_client().post("/", data=b"a=%ff&\xff=b", headers=headers)
    assert (await response.get_json())["form"] == {"a": ["\ufffd"], "\ufffd": ["b"]}


async def test_multipart_fields_and_files(app: Samovar) -> None:
    upload = FileStorage(io.BytesIO(b"x" * 100), filename="a.txt")
    response = await app.test_client().post("/", form={"a": "1"}, files={"f": upload})
    assert await response.get_json() == {"form": {"a": ["1"]}, "files": {"f": ["a.txt", 100]}}


async def test_a_large_file_goes_to_disk_and_comes_back_whole(app: Samovar, tmp_path: Any) -> None:
    content = bytes(range(256)) * (SPOOL_BYTES // 256 + 100)
    target = tmp_path / "saved"

    @app.post("/save")
    async def save() -> str:
        file = (await request.files)["f"]
        await file.save(target)
        return type(file.stream).__name__

    upload = FileStorage(io.BytesIO(content), filename="big")
    response = await app.test_client().post("/save", files={"f": upload})
    assert await response.get_data() != b"BytesIO"
    assert target.read_bytes() == content


async def test_files_are_closed_when_the_request_ends(app: Samovar) -> None:
    kept: list[Any] = []

    @app.post("/keep")
    async def keep() -> str:
        kept.append((await request.files)["f"].stream)
        return ""

    await app.test_client().post("/keep", files={"f": FileStorage(io.BytesIO(b"x"), filename="f")})
    assert kept[0].closed


MULTIPART = {"content-type": "multipart/form-data; boundary=B"}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", MULTIPART),
        (b"nothing of the kind", MULTIPART),
        (b"--B\r\n", MULTIPART),
        (b"--B\r\nContent-Disposition: form-data; name=a\r\n\r\nvalue", MULTIPART),
        (b"--B\r\nX: y\r\n\r\nvalue\r\n--B--\r\n", MULTIPART),
        (b"--B\r\nContent-Disposition: form-data\r\n\r\nvalue\r\n--B--\r\n", MULTIPART),
        (b"--B\r\nContent-Disposition: form-data; name=a\xff\r\n\r\nvalue\r\n--B--\r\n", MULTIPART),
        (b"--B--", {"content-type": "multipart/form-data"}),
        (b"--B--", {"content-type": f"multipart/form-data; boundary={'x' * 71}"}),
    ],
)
async def test_malformed_multipart_is_400(app: Samovar, body: bytes, headers: dict[str, str]) -> None:
    response = await app.test_client().post("/", data=body, headers=headers)
    assert response.status_code == 400


async def test_too_many_parts_are_413(app: Samovar) -> None:
    app.config["MAX_FORM_PARTS"] = 3
    client = app.test_client()
    upload = {"f": FileStorage(io.BytesIO(b"x"), filename="f")}
    assert (await client.post("/", form={"a": ["1"] * 2}, files=upload)).status_code == 200
    assert (await client.post("/", form={"a": ["1"] * 3}, files=upload)).status_code == 413
    assert (await client.post("/", form={"a": ["1"] * 4})).status_code == 413


async def test_fields_over_the_memory_limit_are_413(app: Samovar) -> None:
    app.config["MAX_FORM_MEMORY_SIZE"] = 100_000
    client = app.test_client()
    upload = {"f": FileStorage(io.BytesIO(b"x" * 300_000), filename="f")}  # files do not count
    assert (await client.post("/", form={"a": "x" * 1000}, files=upload)).status_code == 200
    assert (await client.post("/", form={"a": ["x" * 60_000] * 2}, files=upload)).status_code == 413
    assert (await client.post("/", form={"a": "x" * 100_000})).status_code == 413


async def test_the_bytes_of_an_urlencoded_form_stay_readable(app: Samovar) -> None:
    async with app.test_request_context("/", method="POST", form={"a": "1"}):
        assert (await request.form)["a"] == "1"
        assert await request.get_data() == await request.data == b"a=1"


async def test_a_multipart_form_is_not_kept_in_memory(app: Samovar) -> None:
    @app.post("/both")
    async def both() -> str:
        assert await request.data == b""
        with pytest.raises(RuntimeError, match=r"get_data\(\) first"):
            await request.get_data()
        return (await request.form)["a"]

    upload = FileStorage(io.BytesIO(b"x"), filename="a.txt")
    response = await app.test_client().post("/both", form={"a": "1"}, files={"f": upload})
    assert await response.get_data() == b"1"


NASTY = b"\r\n--B", b"\r", b"\n", b"\r\n", b"", b"--B--", b"\r\n--", b"x\r\n--B-", b"\r\n--Bx\r\n\r"


@pytest.mark.parametrize(
    ("boundary", "size", "padding"),
    [(boundary, size, b"") for boundary in (b"B0undary", b"----", b"x" * 70) for size in (1, 2, 3)]
    + [(b"B0undary", 1, b" \t"), (b"B0undary", None, b" \t")],
)
async def test_where_a_multipart_body_is_cut_does_not_matter(
    boundary: bytes, size: int | None, padding: bytes
) -> None:
    start = b"--" + boundary + padding + b'\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n'
    whole = b"".join(start + content + b"\r\n" for content in NASTY) + b"--" + boundary + b"--" + padding

    async def parsed(pieces: list[bytes]) -> list[bytes]:
        async def body() -> Any:
            for piece in pieces:
                yield piece

        _, files = await MultiPartParser(max_form_memory_size=100_000).parse(body(), boundary)
        return [file.read() for file in files.getlist("a")]

    if size is not None:
        assert await parsed([whole[at : at + size] for at in range(0, len(whole), size)]) == list(NASTY)
    else:
        for at in range(len(whole)):
            assert await parsed([whole[:at], whole[at:]]) == list(NASTY), at


@pytest.mark.parametrize(("method", "values"), [("GET", ["q"]), ("POST", ["a", "q"]), ("DELETE", ["a", "q"])])
async def test_values_are_of_the_query_and_the_form_except_with_get(
    app: Samovar, method: str, values: list[str]
) -> None:
    async with app.test_request_context("/?q=1", method=method, form={"a": "1"}):
        assert sorted(await request.values) == values


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=B"])
async def test_a_form_may_be_asked_for_by_several_at_once(app: Samovar, kind: str) -> None:
    @app.post("/all")
    async def all_at_once() -> Any:
        form, files, values = await asyncio.gather(request.form, request.files, request.values)
        return [dict(form), dict(files), dict(values)]

    bodies = [b"a=1&b", b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--B--']
    wire = Wire(app, "POST", "/all", headers=[(b"content-type", kind.encode())])
    running = asyncio.ensure_future(wire.run())
    for byte in bodies[kind.startswith("multipart")]:
        wire.feed(bytes([byte]), True)
        await asyncio.sleep(0)
    wire.feed()
    await running
    assert wire.status == 200 and b'{"a":"1"' in wire.body


async def test_uploads_may_go_to_a_file_of_ones_own(app: Samovar, tmp_path: Any) -> None:
    asked: list[Any] = []

    def new_file(*about: Any) -> Any:
        asked.append(about[1:])
        return (tmp_path / "upload").open("wb+")

    class Parser(FormDataParser):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(new_file, *args, **kwargs)

    class OwnRequest(Request):
        form_data_parser_class = Parser

    app.request_class = OwnRequest
    upload = FileStorage(io.BytesIO(b"content"), filename="a.txt", content_type="text/plain")
    response = await app.test_client().post("/", form={"a": "1"}, files={"f": upload})
    assert (await response.get_json())["files"] == {"f": ["a.txt", 7]}
    assert (tmp_path / "upload").read_bytes() == b"content" and asked == [("text/plain", "a.txt", None)]


async def test_another_mimetype_may_have_a_parser_of_its_own(app: Samovar) -> None:
    async def parse(parser: FormDataParser, body: Any, *about: Any) -> Any:
        lines = b"".join([piece async for piece in body]).decode().split(";")
        return parser.cls(line.split(":") for line in lines), parser.cls()

    class Parser(FormDataParser):
        parse_functions: ClassVar = {**FormDataParser.parse_functions, "text/x-lines": parse}

    class OwnRequest(Request):
        form_data_parser_class = Parser

    app.request_class = OwnRequest
    response = await app.test_client().post("/", data="a:1;b:2", headers={"content-type": "text/x-lines"})
    assert (await response.get_json())["form"] == {"a": ["1"], "b": ["2"]}


async def test_what_is_malformed_may_be_an_empty_form() -> None:
    async def body() -> Any:
        yield b"nothing of the kind"

    form, files = await FormDataParser(silent=True).parse(
        body(), "multipart/form-data", 19, {"boundary": "B"}
    )
    assert not form and not files
    with pytest.raises(RequestEntityTooLarge):
        await FormDataParser(max_content_length=18).parse(
            body(), "multipart/form-data", 19, {"boundary": "B"}
        )


async def test_a_missing_field_is_400(app: Samovar) -> None:
    @app.post("/need")
    async def need() -> str:
        return (await request.form)["missing"]

    response = await app.test_client().post("/need", form={"a": "1"})
    assert response.status_code == 400
