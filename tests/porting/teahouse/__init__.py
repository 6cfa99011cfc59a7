"""A tea house's site, written for Quart: a blog, a chat, an API and films. Nothing in it knows of Samovar."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from quart import Quart, Response, g, jsonify, render_template, request, session
from quart.json.provider import DefaultJSONProvider
from quart.typing import ResponseReturnValue
from werkzeug.routing import BaseConverter

from . import api, blog, chat, films
from .db import Database


class SlugConverter(BaseConverter):
    """Lower-case words joined by hyphens."""

    regex = r"[a-z0-9]+(?:-[a-z0-9]+)*"


class JSONProvider(DefaultJSONProvider):
    """Writes paths as text, and keys as they come."""

    sort_keys = False

    @staticmethod
    def default(value: Any) -> Any:
        if isinstance(value, Path):
            return value.as_posix()
        return DefaultJSONProvider.default(value)


def create_app(config: dict[str, Any] | None = None) -> Quart:
    """The application, with *config* over its defaults and the environment's ``TEAHOUSE_…`` over both."""
    app = Quart(__name__)
    app.config.from_mapping(SECRET_KEY="for development only", DATABASE=":memory:", FILMS=Path("films"))
    app.config.update(config or {})
    app.config.from_prefixed_env("TEAHOUSE")
    app.json = JSONProvider(app)
    app.url_map.converters["slug"] = SlugConverter
    app.register_blueprint(blog.blueprint)
    app.register_blueprint(chat.blueprint, url_prefix="/chat")
    app.register_blueprint(api.blueprint, url_prefix="/api")
    app.register_blueprint(films.blueprint)
    serving(app)
    requests(app)
    templates(app)
    errors(app)
    commands(app)
    return app


def serving(app: Quart) -> None:
    """What is there while the app serves."""

    @app.while_serving
    async def database() -> AsyncIterator[None]:
        app.db = Database(app.config["DATABASE"])  # type: ignore[attr-defined]
        await app.db.create()  # type: ignore[attr-defined]
        yield
        await app.db.close()  # type: ignore[attr-defined]

    @app.before_serving
    async def opened() -> None:
        app.extensions["events"] = ["opened"]
        app.extensions["kettle"] = asyncio.Event()

    @app.after_serving
    async def closed() -> None:
        app.extensions["events"].append("closed")


def requests(app: Quart) -> None:
    """What happens around every request."""

    @app.before_request
    async def who() -> None:
        g.user = session.get("user")
        g.began = datetime.now(UTC)

    @app.before_websocket
    async def who_is_there() -> None:
        g.user = session.get("user")

    @app.after_request
    async def mark(response: Response) -> Response:
        response.headers["X-Tea-House"] = f"{request.endpoint}"
        return response

    @app.teardown_request
    def count(error: BaseException | None) -> None:  # a plain function: it runs in a thread
        app.extensions["served"] = app.extensions.get("served", 0) + 1

    @app.route("/")
    async def home() -> str:
        return await render_template("home.html", posts=await blog.newest(3))

    @app.get("/health")
    def health() -> ResponseReturnValue:
        return {"ok": True, "films": app.config["FILMS"]}, 200, {"Cache-Control": "no-store"}

    @app.post("/kettle")
    async def kettle() -> ResponseReturnValue:
        app.add_background_task(boil, app)
        return "", 202


async def boil(app: Quart) -> None:
    """Boil water in the background."""
    await asyncio.sleep(0)
    app.extensions["kettle"].set()


def templates(app: Quart) -> None:
    """What templates may use."""

    @app.template_filter("shout")
    def shout(text: str) -> str:
        return f"{text.upper()}!"

    @app.template_global()
    def year() -> int:
        return 2024

    @app.context_processor
    async def user() -> dict[str, Any]:
        return {"user": g.get("user")}


def errors(app: Quart) -> None:
    """How errors are told."""

    @app.errorhandler(404)
    async def missing(error: Exception) -> ResponseReturnValue:
        if request.path.startswith("/api/"):
            return jsonify(error="not found"), 404
        return await render_template("missing.html", path=request.path), 404

    @app.errorhandler(blog.Refused)
    async def refused(error: blog.Refused) -> ResponseReturnValue:
        return f"refused: {error}", 409


def commands(app: Quart) -> None:
    """What ``quart …`` can do besides."""

    @app.cli.command("brew")
    @click.argument("tea")
    @click.option("--cups", default=1)
    def brew(tea: str, cups: int) -> None:
        click.echo(f"{cups} x {tea}")
