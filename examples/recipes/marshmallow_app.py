"""Marshmallow: a schema reads the request's body and writes the answer's."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from samovar import Samovar, request

app = Samovar(__name__)


class TeaSchema(Schema):
    name = fields.String(required=True, validate=validate.Length(min=1))
    grams = fields.Integer(load_default=4, validate=validate.Range(min=1))
    picked = fields.Date()


@app.errorhandler(ValidationError)
async def refuse(error: ValidationError) -> tuple[dict[str, Any], int]:
    return {"errors": error.messages}, 400


@app.post("/teas")
async def add_tea() -> tuple[dict[str, Any], int]:
    tea = TeaSchema().load(await request.get_json())
    return TeaSchema().dump(tea), 201
