"""The blog: posts that members write, with pictures."""

from __future__ import annotations

import functools
import hmac
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from quart import (
    Blueprint,
    abort,
    after_this_request,
    current_app,
    flash,
    g,
    make_response,
    redirect,
    render_template,
    render_template_string,
    request,
    session,
    stream_template,
    stream_with_context,
    url_for,
)
from quart.typing import ResponseReturnValue
from quart.views import MethodView

blueprint = Blueprint("blog", __name__, url_prefix="/blog")
PASSWORDS = {"ada": "camellia", "bob": "sinensis"}
pictures: dict[str, bytes] = {}

View = Callable[..., Awaitable[ResponseReturnValue]]


class Refused(Exception):
    """A post that cannot be taken."""


def members_only(view: View) -> View:
    """Sends strangers to the login."""

    @functools.wraps(view)
    async def guarded(*args: Any, **kwargs: Any) -> ResponseReturnValue:
        if g.user is None:
            return redirect(url_for("blog.login", next=request.path))
        return await view(*args, **kwargs)

    return guarded


async def newest(count: int) -> list[dict[str, Any]]:
    """The newest posts."""
    return await current_app.db.fetch("SELECT * FROM post ORDER BY id DESC LIMIT ?", (count,))


async def one(slug: str) -> dict[str, Any]:
    """A post, or 404."""
    found = await current_app.db.fetch("SELECT * FROM post WHERE slug = ?", (slug,))
    if not found:
        abort(404)
    return found[0]


@blueprint.route("/")
async def index() -> str:
    return await render_template("blog/index.html", posts=await newest(request.args.get("n", 10, type=int)))


@blueprint.route("/all")
async def everything() -> ResponseReturnValue:
    return await stream_template("blog/all.html", posts=await newest(1000))


@blueprint.route("/export")
async def export() -> ResponseReturnValue:
    @stream_with_context
    async def lines() -> AsyncIterator[str]:
        yield "slug,title\n"
        for post in await newest(1000):
            yield f"{post['slug']},{post['title']}\n"

    return lines(), {"Content-Type": "text/csv"}


class PostView(MethodView):
    """One post: read, replaced, taken away."""

    async def get(self, slug: str) -> str:
        return await render_template("blog/post.html", post=await one(slug))

    async def put(self, slug: str) -> ResponseReturnValue:
        post = await one(slug)
        if post["author"] != g.user:
            abort(403, "only its author may change a post")
        text = (await request.get_data(as_text=True)).strip()
        await current_app.db.execute("UPDATE post SET text = ? WHERE slug = ?", (text, slug))
        return "", 204

    async def delete(self, slug: str) -> ResponseReturnValue:
        await one(slug)
        await current_app.db.execute("DELETE FROM post WHERE slug = ?", (slug,))
        return "", 204


blueprint.add_url_rule("/<slug:slug>", view_func=PostView.as_view("post"))


@blueprint.route("/new", methods=["GET", "POST"])
@members_only
async def write() -> ResponseReturnValue:
    if request.method == "GET":
        return await render_template("blog/write.html")
    form = await request.form
    try:
        await current_app.db.execute(
            "INSERT INTO post (slug, title, text, author) VALUES (?, ?, ?, ?)",
            (form["slug"], form["title"], form.get("text", ""), g.user),
        )
    except sqlite3.IntegrityError:
        raise Refused(f"{form['slug']} is taken") from None
    picture = (await request.files).get("picture")
    if picture is not None and picture.filename:
        pictures[form["slug"]] = picture.read()
    await flash(f"{form['title']} is published", "success")
    return redirect(url_for("blog.post", slug=form["slug"]))


@blueprint.route("/<slug:slug>/picture")
async def picture(slug: str) -> ResponseReturnValue:
    if slug not in pictures:
        abort(404)
    response = await make_response(pictures[slug])
    response.mimetype = "image/png"
    await response.add_etag()
    return await response.make_conditional(request)


@blueprint.route("/login", methods=["GET", "POST"])
async def login() -> ResponseReturnValue:
    if request.method == "POST":
        form = await request.form
        if hmac.compare_digest(PASSWORDS.get(form["name"], ""), form["password"]):
            session["user"] = form["name"]
            session.permanent = True

            @after_this_request
            async def remember(response: Any) -> Any:
                response.set_cookie("last", form["name"], max_age=3600, httponly=True, samesite="Lax")
                return response

            return redirect(request.args.get("next") or url_for(".index"))
        await flash("wrong name or password", "error")
    return await render_template_string(
        "{% for category, text in get_flashed_messages(with_categories=True) %}[{{ category }}] {{ text }}{% endfor %}"
        "<form method=post action='{{ url_for('blog.login') }}'></form>"
    )


@blueprint.route("/logout", methods=["POST"])
async def logout() -> ResponseReturnValue:
    session.clear()
    return redirect(url_for("home"))
