"""Bodies that are checked by a library: good ones come back complete, others are 400 with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Recipe

LIBRARIES = {"marshmallow_app": "post", "cerberus_app": "post", "msgspec_app": "post", "pydantic_app": "put"}


async def answer_to(recipe: Recipe, name: str, body: bytes) -> tuple[int, Any]:
    client = recipe(name).app.test_client()
    path = "/teas/1" if LIBRARIES[name] == "put" else "/teas"
    headers = {"Content-Type": "application/json"}
    answer = await client.open(path, method=LIBRARIES[name].upper(), data=body, headers=headers)
    return answer.status_code, await answer.get_json()


@pytest.mark.parametrize("name", LIBRARIES)
async def test_a_good_body_comes_back_complete(recipe: Recipe, name: str) -> None:
    status, body = await answer_to(recipe, name, b'{"name": "Assam"}')
    assert status in (200, 201)
    assert body == {"name": "Assam", "grams": 4}


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize(
    ("body", "words"),
    [(b'{"name": "Assam", "grams": 0}', "grams"), (b"{}", "name"), (b"[1]", ""), (b"{", "")],
)
async def test_a_bad_body_is_refused_with_a_reason(
    recipe: Recipe, name: str, body: bytes, words: str
) -> None:
    status, told = await answer_to(recipe, name, body)
    assert status == 400
    assert words in str(told)
