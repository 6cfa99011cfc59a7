"""Forms: fields, files, bounds, and what is malformed."""

from __future__ import annotations

import io
from typing import Any

import pytest
from werkzeug.datastructures import FileStorage

from samovar import Samovar, request
from samovar.core.formparser import SPOOL_BYTES


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


async def test_data_is_empty_where_it_was_a_form(app: Samovar) -> None:
    async with app.test_request_context("/?q=1", method="POST", form={"a": "1"}):
        assert await request.data == b""
        assert (await request.values)["a"] == "1" and (await request.values)["q"] == "1"


async def test_a_missing_field_is_400(app: Samovar) -> None:
    @app.post("/need")
    async def need() -> str:
        return (await request.form)["missing"]

    response = await app.test_client().post("/need", form={"a": "1"})
    assert response.status_code == 400
