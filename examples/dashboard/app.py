"""A dashboard of the machine it runs on, and of itself: three channels, each through every door.

``machine`` and ``traffic`` are measured here and published; into ``feed`` posts whoever likes. Nothing below knows
which page listens by which door: that is the routes' business, one line each.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

from werkzeug.exceptions import BadRequest

from samovar import (
    Access,
    Message,
    Response,
    Samovar,
    abort,
    event_stream,
    hub,
    jsonify,
    long_poll,
    redirect,
    render_template,
    request,
    send_from_directory,
    session,
    url_for,
    websocket,
)
from samovar.core.realtime.client import client_path
from samovar.errors import BackendUnavailable, PublishError

from . import machine
from .people import MAX_NAME, friendly_name, hue, tidy
from .traffic import Meter, Total, Traffic

MAX_TEXT = 280
POINT_EVERY = 0.25  # seconds between two looks at the machine
WINDOW = 60  # seconds a chart shows
WORKER = secrets.token_hex(4)
KEPT = 180  # seconds of points kept: how long a page may be cut off and still miss nothing

app = Samovar(__name__)
app.config.update(
    SECRET_KEY=secrets.token_urlsafe(),  # names then last as long as the process; set SAMOVAR_SECRET_KEY to keep them
    SESSION_COOKIE_SAMESITE="Lax",  # other sites cannot post in a visitor's name
    MAX_CONTENT_LENGTH=16 * 1024,
)
app.config.from_prefixed_env()

app.add_channel("machine", public=True, history=int(KEPT / POINT_EVERY), ttl=KEPT)
app.add_channel("traffic", public=True, history=KEPT, ttl=KEPT)
app.add_channel("traffic/parts", history=0)

traffic = Traffic(app.asgi_app, poll_paths=frozenset({"/charts/poll", "/feed/poll", "/poll/all"}))
app.asgi_app = traffic  # type: ignore[method-assign]  # an ASGI layer around the app, as with any framework


# --- measuring --------------------------------------------------------------------------------------------------


@app.before_serving
async def measure() -> None:
    app.add_background_task(watch_machine)
    app.add_background_task(watch_traffic)


async def every(seconds: float) -> AsyncIterator[int]:
    """Tick with the wall clock until the app shuts down: on all workers at once, and with the same numbers."""
    while not app.shutdown_event.is_set():
        now = time.time()
        try:
            async with asyncio.timeout(seconds - now % seconds):
                await app.shutdown_event.wait()
        except TimeoutError:
            yield round(time.time() / seconds)


async def watch_machine() -> None:
    before = await asyncio.to_thread(machine.look)
    async for tick in every(POINT_EVERY):
        after = await asyncio.to_thread(machine.look)
        await tell("machine", machine.point(before, after), id=f"machine-{tick}")
        before = after


async def watch_traffic() -> None:
    """Tell the other workers what this one does, and everybody what all of them do together.

    A broker that is away while we start is waited for.
    """
    meter, total = Meter(time.monotonic()), Total()
    while not app.shutdown_event.is_set():
        try:
            await tell_traffic(meter, total)
        except BackendUnavailable as error:
            app.logger.warning("the workers do not count together yet: %s", error)


async def tell_traffic(meter: Meter, total: Total) -> None:
    """Do so every second."""
    async with hub.subscribe("traffic/parts") as parts:
        async for tick in every(1.0):
            rates = meter.rates(
                time.monotonic(), requests=traffic.requests, messages=hub.stats()["published"]
            )
            part = {"worker": WORKER, **rates, "clients": traffic.clients()}
            await tell("traffic/parts", part, id=f"traffic-{WORKER}-{tick}")
            for message in await parts.events(timeout=0):
                if isinstance(message, Message):
                    total.take(message.data, time.monotonic())
            point = {"t": time.time_ns() // 1_000_000, **total.sum(time.monotonic())}
            await tell("traffic", point, id=f"traffic-{tick}")


async def tell(channel: str, point: dict[str, Any], id: str) -> None:
    """Publish a point; where the broker is away it is left out, and the next one is tried.

    Each worker measures, and all give the point of one moment the same id: the first one is it, the others add nothing.
    """
    try:
        await hub.publish(channel, point, id=id)
    except PublishError as error:
        app.logger.warning("a point of %s was not published: %s", channel, error)


# --- who is here ------------------------------------------------------------------------------------------------


@app.identify
def visitor() -> str | None:
    return session.get("visitor")


@app.channel("feed", history=200, ttl=86400, presence=True)
def may_follow_feed() -> Access:
    return Access(info=person())


def person() -> dict[str, Any]:
    """How the visitor of this request is shown to the others."""
    if "visitor" in session:
        name = session.get("name") or friendly_name(session["visitor"])
        return {"name": name, "hue": hue(session["visitor"])}
    client = tidy(request.headers.get("User-Agent", "").partition("/")[0], MAX_NAME) if request else ""
    return {"name": client or "somebody", "hue": hue(client)}


@app.post("/name")
async def rename() -> Response:
    """Change one's name; the others are told in the feed's channel, and the page comes back under the new name."""
    name = tidy(str((await fields()).get("name", "")), MAX_NAME)
    if not name:
        raise BadRequest("a name has at least one letter")
    session.setdefault("visitor", secrets.token_urlsafe(9))
    before, session["name"] = person()["name"], name
    if name != before:
        told = {"kind": "name", **person(), "before": before, "visitor": session["visitor"]}
        await hub.publish("feed", told)
    return answer(person(), 200)


# --- pages ------------------------------------------------------------------------------------------------------


@app.get("/")
async def index() -> Response:
    return await dashboard("live")


@app.get("/poll")
async def poll_page() -> Response:
    return await dashboard("poll")


async def dashboard(page: str) -> Response:
    """The page with its history in it, and for each channel the cursor of the last message it shows.

    What comes live goes on after exactly these cursors, so there is no hole between page and stream. (Data that is not
    a channel's own history needs ``await hub.cursor(channel)`` before it is read.)
    """
    session.setdefault("visitor", secrets.token_urlsafe(9))
    points = await hub.history("machine", limit=int(KEPT / POINT_EVERY))
    seconds = await hub.history("traffic", limit=KEPT)
    posts = await hub.history("feed", limit=200)
    response = Response(
        await render_template(
            "dashboard.html",
            page=page,
            me=person(),
            visitor=session["visitor"],
            host=socket.gethostname(),
            cores=os.cpu_count(),
            posts=[{"id": post.id, "ts": post.ts, **post.data} for post in reversed(posts.messages)],
            first={
                "machine": [message.data for message in points.messages[-int(WINDOW / POINT_EVERY) :]],
                "traffic": [message.data for message in seconds.messages[-WINDOW:]],
            },
            names={
                post.data["visitor"]: post.data["name"] for post in posts.messages if "visitor" in post.data
            },
            since={read.channel: str(read.position) for read in (points, seconds, posts)},
            max_text=MAX_TEXT,
            max_name=MAX_NAME,
        )
    )
    response.headers["Cache-Control"] = "no-store"  # the cursors are of this moment
    return response


@app.get("/_samovar/client/<path:name>")
async def client_script(name: str) -> Response:
    if not name.endswith(".js"):
        abort(404)
    return await send_from_directory(client_path(), name)


# --- the charts' doors --------------------------------------------------------------------------------------------


@app.get("/charts/events")
async def charts_events() -> Response:
    return await event_stream("machine", "traffic")


@app.get("/charts/poll")
async def charts_poll() -> Response:
    return await long_poll("machine", "traffic", timeout=patience())


# --- the feed's doors ---------------------------------------------------------------------------------------------


@app.websocket("/feed/ws")
async def feed_socket() -> None:
    await websocket.subscribe("feed", since=websocket.args.get("since"), presence=True)
    async for frame in websocket:
        if frame == '{"ping":1}':
            await websocket.send('{"pong":1}')


@app.get("/feed/events")
async def feed_events() -> Response:
    return await event_stream("feed")


@app.get("/feed/poll")
async def feed_poll() -> Response:
    return await long_poll("feed", timeout=patience())


@app.get("/feed/people")
async def feed_people() -> Response:
    """Who is here, for pages whose door does not tell of comings and goings."""
    members = {member.key: member for member in await hub.presence("feed")}
    return jsonify([{"id": m.id, "user": m.user, "info": m.info} for m in members.values()])


@app.post("/feed")
async def post() -> Response:
    """Post into the feed: ``curl -d text=hello http://127.0.0.1:5000/feed``, the form, or JSON."""
    given = await fields()
    text = tidy(str(given.get("text", "")), MAX_TEXT + 1)
    if not 1 <= len(text) <= MAX_TEXT:
        raise BadRequest(f"text has 1 to {MAX_TEXT} characters, not {'none' if not text else 'more'}")
    name = tidy(str(given.get("name", "")), MAX_NAME)
    author = {"name": name, "hue": hue(name)} if name else person()
    said = {"kind": "post", "text": text, **author}
    published = await hub.publish("feed", said, user=session.get("visitor"))
    return answer({"id": published.id, "cursor": str(published.position), **said}, 201)


# --- all three by long-poll, and as plain JSON ----------------------------------------------------------------------


@app.get("/poll/all")
async def poll_all() -> Response:
    return await long_poll("machine", "traffic", "feed", timeout=patience())


@app.get("/history/<channel>")
async def history(channel: str) -> Response:
    """What a channel keeps: ``curl http://127.0.0.1:5000/history/feed``, after ``?since=`` if given."""
    if channel not in ("machine", "traffic", "feed"):
        abort(404)
    return await long_poll(channel, timeout=0)


def patience() -> float:
    """Seconds a poll waits: none for the first one of a page, so that it knows at once where it stands."""
    return 0 if request.args.get("wait") == "0" else 25


# --- helpers --------------------------------------------------------------------------------------------------------


async def fields() -> dict[str, Any]:
    """What was sent, as JSON or as a form."""
    if request.is_json:
        given = await request.get_json()
        if not isinstance(given, dict):
            raise BadRequest('send an object, such as {"text": "hello"}')
        return given
    return dict(await request.form)


def answer(body: dict[str, Any], status: int) -> Response:
    """JSON for scripts, the page again for a form sent without one."""
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        return redirect(url_for("poll_page" if request.args.get("from") == "poll" else "index"), 303)
    response = jsonify(body)
    response.status_code = status
    return response
