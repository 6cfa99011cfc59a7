"""What a request costs in process: CPU per request, without a server, beside other frameworks.

    python benchmarks/bench_http.py                 # what is installed: a bare ASGI function, Samovar, Starlette
    uv run --with starlette python benchmarks/bench_http.py
    python benchmarks/bench_http.py --runs 15 --requests 2000 json typed

One ASGI callable is driven in one loop (uvloop where installed); the time is ``time.process_time``, the figure the
least of several runs, taken in turns so that a noisy minute hits all alike. Ratios are to Starlette, or to the bare
function where Starlette is missing.
"""

from __future__ import annotations

# ruff: noqa: T201  # it prints its figures
import argparse
import asyncio
import gc
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

BODY = json.dumps(
    {
        "id": 12345,
        "name": "Alice Example",
        "email": "alice@example.com",
        "tags": ["admin", "editor", "user"],
        "active": True,
        "score": 98.6,
        "address": {"street": "1 Main St", "city": "Springfield"},
    }
).encode()

PAGE = """<!doctype html>
<html><head><title>{{ title }}</title></head>
<body><h1>{{ title }}</h1>
<ul>
{% for item in items %}<li><a href="/users/{{ item.id }}">{{ item.name }}</a></li>
{% endfor %}</ul>
<p>Hello {{ user }}!</p>
</body></html>
"""
CONTEXT = {
    "title": "Users",
    "items": [{"id": i, "name": f"user <{i}>"} for i in range(10)],
    "user": "Ann & Bob",
}
ROUTES = 200

App = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Workload:
    """One kind of request."""

    name: str
    method: str
    path: str
    body: bytes = b""


WORKLOADS = (
    Workload("plain", "GET", "/plain"),
    Workload("json", "GET", "/json"),
    Workload("typed", "GET", "/users/42"),
    Workload("post", "POST", "/echo", BODY),
    Workload("page", "GET", "/page"),
    Workload("routes", "GET", f"/r{ROUTES - 1}/items/42"),
)


def bare() -> App:
    """The least there can be: one function, no framework."""
    import jinja2

    template = jinja2.Environment(autoescape=True, enable_async=True).from_string(PAGE)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        kind = b"application/json"
        if path == "/plain":
            kind, body = b"text/plain; charset=utf-8", b"Hello, World!"
        elif path == "/json":
            body = json.dumps({"message": "Hello, World!", "n": 1, "ok": True}).encode()
        elif path.startswith("/users/"):
            body = json.dumps({"id": int(path[7:]), "name": "user"}).encode()
        elif path == "/echo":
            body = json.dumps(json.loads((await receive())["body"])).encode()
        elif path == "/page":
            kind, body = b"text/html; charset=utf-8", (await template.render_async(CONTEXT)).encode()
        else:
            body = json.dumps({"id": int(path.rpartition("/")[2]), "r": 199}).encode()
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def samovar() -> App:
    """Samovar, as anybody would write it."""
    from samovar import Samovar, render_template, request

    app = Samovar("benchmark")

    @app.get("/plain")
    async def plain() -> Any:
        return "Hello, World!", 200, {"Content-Type": "text/plain; charset=utf-8"}

    @app.get("/json")
    async def view() -> Any:
        return {"message": "Hello, World!", "n": 1, "ok": True}

    @app.get("/users/<int:id>")
    async def user(id: int) -> Any:
        return {"id": id, "name": "user"}

    @app.post("/echo")
    async def echo() -> Any:
        return await request.get_json()

    @app.get("/page")
    async def page() -> Any:
        return await render_template("page.html", **CONTEXT)

    def add(number: int) -> None:
        async def item(id: int) -> Any:
            return {"id": id, "r": number}

        app.add_url_rule(f"/r{number}/items/<int:id>", f"r{number}", item)

    for number in range(ROUTES):
        add(number)
    import jinja2

    app.jinja_options = {"loader": jinja2.DictLoader({"page.html": PAGE})}
    return app


def starlette() -> App:
    """Starlette, where it is installed."""
    import jinja2
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
    from starlette.routing import Route

    template = jinja2.Environment(autoescape=True, enable_async=True).from_string(PAGE)

    async def plain(request: Any) -> Any:
        return PlainTextResponse("Hello, World!")

    async def view(request: Any) -> Any:
        return JSONResponse({"message": "Hello, World!", "n": 1, "ok": True})

    async def user(request: Any) -> Any:
        return JSONResponse({"id": request.path_params["id"], "name": "user"})

    async def echo(request: Any) -> Any:
        return JSONResponse(await request.json())

    async def page(request: Any) -> Any:
        return HTMLResponse(await template.render_async(CONTEXT))

    def item(number: int) -> Any:
        async def answer(request: Any) -> Any:
            return JSONResponse({"id": request.path_params["id"], "r": number})

        return answer

    routes = [
        Route("/plain", plain),
        Route("/json", view),
        Route("/users/{id:int}", user),
        Route("/echo", echo, methods=["POST"]),
        Route("/page", page),
        *(Route(f"/r{number}/items/{{id:int}}", item(number)) for number in range(ROUTES)),
    ]
    return Starlette(routes=routes)


FRAMEWORKS: dict[str, Callable[[], App]] = {"bare": bare, "samovar": samovar, "starlette": starlette}


def make_scope(workload: Workload) -> dict[str, Any]:
    """The scope a server would make."""
    headers = [(b"host", b"127.0.0.1:8000"), (b"user-agent", b"wrk/4.1"), (b"accept", b"*/*")]
    if workload.body:
        headers += [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(workload.body)).encode()),
        ]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": workload.method,
        "root_path": "",
        "path": workload.path,
        "raw_path": workload.path.encode(),
        "query_string": b"",
        "headers": headers,
    }


async def drive(app: App, workload: Workload, requests: int) -> float:
    """Microseconds of CPU for each of *requests* requests."""
    sent: list[Any] = []
    base = make_scope(workload)
    message = {"type": "http.request", "body": workload.body, "more_body": False}

    async def send(part: Any) -> None:
        sent.append(part)

    async def receive() -> Any:
        return message

    gc.collect()
    begin = time.process_time()
    for _ in range(requests):
        sent.clear()
        await app({**base, "headers": list(base["headers"]), "state": {}}, receive, send)
    spent = (time.process_time() - begin) / requests * 1e6
    if sent[0]["status"] != 200:
        raise RuntimeError(f"{workload.name}: status {sent[0]['status']}")
    return spent


async def measure(names: list[str], requests: int, runs: int) -> dict[str, dict[str, float]]:
    """The least of *runs* runs for each framework and workload."""
    apps: dict[str, App] = {}
    for name, build in FRAMEWORKS.items():
        try:
            apps[name] = build()
        except ImportError as error:
            print(f"{name}: skipped, {error}")
    figures: dict[str, dict[str, float]] = {}
    for workload in WORKLOADS:
        if names and workload.name not in names:
            continue
        row = figures[workload.name] = dict.fromkeys(apps, float("inf"))
        for app in apps.values():
            await drive(app, workload, 200)
        for _ in range(runs):
            for name, app in apps.items():
                row[name] = min(row[name], await drive(app, workload, requests))
    return figures


def show(figures: dict[str, dict[str, float]]) -> None:
    """Print µs and ratios."""
    for workload, row in figures.items():
        base = "starlette" if "starlette" in row else "bare"
        cells = "   ".join(f"{name} {cost:7.2f} µs ({cost / row[base]:.2f})" for name, cost in row.items())
        print(f"{workload:8} {cells}   [ratio to {base}]")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("workloads", nargs="*", help=", ".join(workload.name for workload in WORKLOADS))
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    try:
        from uvloop import run
    except ImportError:
        run = asyncio.run
    show(run(measure(options.workloads, options.requests, options.runs)))


if __name__ == "__main__":
    main()
