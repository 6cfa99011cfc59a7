"""A page whose line may be ended by the server: one user, one channel, one door at a time."""

from __future__ import annotations

from typing import Any

from samovar import Samovar, event_stream, hub, long_poll, request, send_from_directory, websocket
from samovar.core.realtime.client import client_path

app = Samovar(__name__)


@app.identify
async def who() -> str:
    return "ann"


@app.channel("news", recheck=0.05)
async def may_follow() -> bool:
    if app.extensions.get("fails"):
        app.extensions["fails"] -= 1
        raise RuntimeError("asked again, it failed")
    return not app.extensions.get("refuses")


@app.get("/client/<path:name>")
async def client(name: str) -> Any:
    return await send_from_directory(client_path(), name)


@app.websocket("/ws")
async def ws() -> None:
    await websocket.subscribe("news", since=websocket.args.get("since"))
    await websocket.wait_closed()


@app.get("/events")
async def events() -> Any:
    return await event_stream("news")


@app.get("/answers")
async def poll() -> Any:
    return await long_poll("news")


@app.post("/kick")
async def kick() -> tuple[str, int]:
    await hub.kick("ann")
    return "", 204


@app.post("/set")
async def change() -> tuple[str, int]:
    app.extensions.update(await request.get_json())
    return "", 204


@app.get("/<door>")
async def page(door: str) -> str:
    url = {"websocket": "/ws", "sse": "/events", "poll": "/answers"}[door]
    return f"""<!doctype html><script type="module">
      import {{ connect }} from "/client/index.js";
      globalThis.seen = [];
      globalThis.line = connect({{ {door}: "{url}" }}, {{ report: () => 0 }});
      line.subscribe("news", {{ onstatus: (status) => seen.push(status.state) }});
    </script>"""
