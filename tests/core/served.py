"""An app for tests through real servers: views that wait, and what became of them."""

import asyncio
from typing import Any

from samovar import Samovar, hub, long_poll, request

app = Samovar(__name__, static_folder=None)
app.add_channel("tea", public=True)
log: list[str] = []


@app.teardown_request
async def teardown(error: BaseException | None) -> None:
    if error is not None:
        log.append(f"{request.path} {type(error).__name__}")


@app.get("/log")
async def read_log() -> Any:
    return log


@app.post("/forget")
async def forget() -> Any:
    log.clear()
    return log


@app.route("/forever", methods=["GET", "POST"])
async def forever() -> str:
    log.append("begun")
    await asyncio.Event().wait()
    return "never"


@app.get("/poll")
async def poll() -> Any:
    log.append("polling")
    return await long_poll("tea", since=await hub.cursor("tea"), timeout=60)


@app.route("/echo", methods=["GET", "POST"])
async def echo() -> bytes:
    await asyncio.sleep(0.01)
    body: bytes = await request.get_data()
    await asyncio.sleep(0.01)
    return body + b"|" + request.query_string
