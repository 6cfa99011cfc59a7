"""The API: teas as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from quart import Blueprint, abort, current_app, jsonify, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, HTTPException

blueprint = Blueprint("api", __name__)
teas = Blueprint("teas", __name__, url_prefix="/teas")


@dataclass
class Tea:
    """A tea on the shelf."""

    id: UUID
    name: str
    price: Decimal
    since: datetime


shelf: dict[UUID, Tea] = {}


@blueprint.errorhandler(HTTPException)
async def tell(error: HTTPException) -> ResponseReturnValue:
    return jsonify({"error": error.name, "detail": error.description}), error.code


@blueprint.url_defaults
def language(endpoint: str, values: dict[str, object]) -> None:
    if current_app.url_map.is_endpoint_expecting(endpoint, "language"):
        values.setdefault("language", "en")


@teas.get("/")
async def everything() -> ResponseReturnValue:
    chosen = [tea for tea in shelf.values() if request.args.get("like", "") in tea.name]
    return jsonify(sorted(chosen, key=lambda tea: tea.name))


@teas.put("/<uuid:id>")
async def put(id: UUID) -> ResponseReturnValue:
    body = await request.get_json()
    if not isinstance(body, dict) or not body.get("name"):
        raise BadRequest("a tea has a name")
    tea = Tea(id, body["name"], Decimal(body.get("price", "1")), datetime(2024, 5, 1, tzinfo=UTC))
    created = id not in shelf
    shelf[id] = tea
    where = {"Location": url_for("api.teas.get", id=id)}
    return asdict(tea), 201 if created else 200, where


@teas.get("/<uuid:id>")
async def get(id: UUID) -> ResponseReturnValue:
    if id not in shelf:
        abort(404, "no such tea")
    return jsonify(shelf[id])


@blueprint.get("/<language>/about")
def about(language: str) -> ResponseReturnValue:
    return {"language": language, "here": url_for(".about"), "there": url_for(".about", _external=True)}


@blueprint.post("/sum")
async def total() -> ResponseReturnValue:
    size = 0
    async for piece in request.body:
        size += len(piece)
    return [size, request.content_type]


blueprint.register_blueprint(teas)
