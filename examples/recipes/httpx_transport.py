"""httpx as a client of the app itself, without a server: for tests written against httpx."""

import httpx

from samovar import Samovar

app = Samovar(__name__)


@app.get("/teas/<name>")
async def tea(name: str) -> dict[str, str]:
    return {"name": name}


async def test_a_tea_by_httpx() -> None:
    async with app.test_app():  # before_serving and after_serving: httpx runs no lifespan
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.get("/teas/assam")
    assert answer.json() == {"name": "assam"}
