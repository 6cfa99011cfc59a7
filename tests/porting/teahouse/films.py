"""Films, in pieces as browsers ask for them."""

from __future__ import annotations

from quart import Blueprint, current_app, send_from_directory
from quart.typing import ResponseReturnValue

blueprint = Blueprint("films", __name__, url_prefix="/films")


@blueprint.route("/<name>.mp4")
async def film(name: str) -> ResponseReturnValue:
    return await send_from_directory(current_app.config["FILMS"], f"{name}.mp4", conditional=True)
