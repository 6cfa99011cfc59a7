"""aiohttp and httpx as clients inside views: one of each for the life of the app, so that connections are reused."""

import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx

from samovar import Samovar, abort

app = Samovar(__name__)
app.config["PRICES"] = os.environ.get("PRICES", "http://127.0.0.1:8001")


@app.while_serving
async def clients() -> AsyncIterator[None]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session, httpx.AsyncClient(timeout=10) as client:
        app.extensions.update(aiohttp=session, httpx=client)
        yield


@app.errorhandler(aiohttp.ClientError)
@app.errorhandler(httpx.HTTPError)
async def no_answer(error: Exception) -> tuple[dict[str, str], int]:
    return {"error": f"the prices cannot be had: {type(error).__name__}"}, 502


@app.get("/by-aiohttp/<tea>")
async def by_aiohttp(tea: str) -> Any:
    async with app.extensions["aiohttp"].get(f"{app.config['PRICES']}/{tea}") as answer:
        if answer.status == 404:
            abort(404)
        answer.raise_for_status()
        return await answer.json()


@app.get("/by-httpx/<tea>")
async def by_httpx(tea: str) -> Any:
    answer = await app.extensions["httpx"].get(f"{app.config['PRICES']}/{tea}")
    if answer.status_code == 404:
        abort(404)
    return answer.raise_for_status().json()
