"""Cerberus: a schema of plain dictionaries checks and completes the body."""

from typing import Any

from cerberus import Validator

from samovar import Samovar, abort, request

app = Samovar(__name__)

TEA = {
    "name": {"type": "string", "required": True, "minlength": 1},
    "grams": {"type": "integer", "min": 1, "default": 4},
}


@app.post("/teas")
async def add_tea() -> tuple[dict[str, Any], int]:
    given = await request.get_json()
    if not isinstance(given, dict):
        abort(400, "send an object")
    validator = Validator(TEA)  # one for each request: it keeps what it found
    if not validator.validate(given):
        return {"errors": validator.errors}, 400
    return validator.document, 201
