"""What a request costs in process: CPU per request, without a server, beside other frameworks.

    python benchmarks/bench_http.py                    # what is installed of those in benchmarks/peers
    ./dev bench http                                   # with all of them
    python benchmarks/bench_http.py --runs 15 json typed

One ASGI callable is driven in one loop (uvloop where installed); the time is ``time.process_time``, taken in
alternating rounds so that a noisy minute hits all alike; the figure is the median of the rounds' ratios to Starlette
(or to the bare function where Starlette is missing), and the least time. After that, what Samovar's own features cost:
hooks and proxies, two hundred routes instead of ten, a signed session.
"""

from __future__ import annotations

# ruff: noqa: T201  # it prints its figures
import argparse
import asyncio
import gc
import importlib
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from peers import ASGI, ROUTES, WORKLOADS, Workload

App = Callable[..., Awaitable[None]]
Times = dict[str, dict[str, list[float]]]
"""Microseconds of each round, by workload and framework."""


def make_scope(workload: Workload) -> dict[str, Any]:
    """The scope a server would make."""
    headers = [(b"host", b"127.0.0.1:8000"), (b"user-agent", b"wrk/4.1"), (b"accept", b"*/*")]
    if workload.body:
        headers += [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(workload.body)).encode()),
        ]
    if workload.cookie:
        headers.append((b"cookie", workload.cookie.encode()))
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

    given = False

    async def receive() -> Any:
        nonlocal given
        if given:  # the client stays and says no more
            await asyncio.Event().wait()
        given = True
        return message

    gc.collect()
    begin = time.process_time()
    for _ in range(requests):
        sent.clear()
        given = False
        await app({**base, "headers": list(base["headers"]), "state": {}}, receive, send)
    spent = (time.process_time() - begin) / requests * 1e6
    if sent[0]["status"] != 200:
        raise RuntimeError(f"{workload.name}: status {sent[0]['status']}")
    return spent


async def begin(app: App) -> None:
    """Have *app* start, as servers do; frameworks that need no start do not mind."""
    started = asyncio.Event()
    messages = iter([{"type": "lifespan.startup"}])

    async def receive() -> Any:
        for message in messages:
            return message
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        started.set()

    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.3"}, "state": {}}
    _running.append(asyncio.ensure_future(app(scope, receive, send)))
    async with asyncio.timeout(10):
        await started.wait()


_running: list[Any] = []


async def installed(names: tuple[str, ...]) -> dict[str, App]:
    """The applications of those frameworks that are installed, started."""
    apps: dict[str, App] = {}
    for name in names:
        try:
            apps[name] = importlib.import_module(f"peers.{name}").app
        except ImportError as error:
            print(f"{name}: skipped, {error}")
            continue
        await begin(apps[name])
    return apps


async def measure(apps: dict[str, App], workloads: list[Workload], requests: int, runs: int) -> Times:
    """So many rounds of each workload on each framework."""
    times: Times = {}
    for workload in workloads:
        rows = times[workload.name] = {name: [] for name in apps}
        for app in apps.values():
            await drive(app, workload, 200)
        for _ in range(runs):
            for name, app in apps.items():
                rows[name].append(await drive(app, workload, requests))
    return times


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of what each round's times are to each other."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def show(times: Times) -> None:
    """Print least times and ratios."""
    for workload, rows in times.items():
        base = "starlette" if "starlette" in rows else "bare"
        print(f"{workload}  [least µs (ratio to {base})]")
        for name, costs in sorted(rows.items(), key=lambda row: min(row[1])):
            print(f"  {name:11} {min(costs):8.2f} ({ratio(costs, rows[base]):.2f})")


async def show_features(runs: int, requests: int) -> None:
    """Print what Samovar's own features cost."""
    from peers import samovar

    app, hooked = samovar.build(), samovar.build(hooks=True)
    cookie = f"session={add_signing(app)}"
    starlette = (await installed(("starlette",))).get("starlette", app)
    drives: dict[str, tuple[App, Workload]] = {
        "json": (app, Workload("json", "/json")),
        "routes": (app, Workload("routes", f"/r{ROUTES - 1}/items/42")),
        "ten": (samovar.build(routes=10), Workload("ten", "/r9/items/42")),
        "hooks": (hooked, Workload("hooks", "/touch")),
        "proxies": (app, Workload("proxies", "/touch")),
        "session": (app, Workload("session", "/session", cookie=cookie)),
        "signing": (app, Workload("signing", "/signing", cookie=cookie)),
        "starlette": (starlette, Workload("json", "/json")),
    }
    rows: dict[str, list[float]] = {name: [] for name in drives}
    for _ in range(runs):
        for name, (driven, load) in drives.items():
            rows[name].append(await drive(driven, load, requests))
    added = [cost - plain for cost, plain in zip(rows["session"], rows["json"], strict=True)]
    signing = [cost - plain for cost, plain in zip(rows["signing"], rows["json"], strict=True)]
    print("Samovar's features  [least µs (ratio)]")
    for name, costs, base, of in (
        ("200 routes", rows["routes"], rows["ten"], "10 routes"),
        ("hooks", rows["hooks"], rows["starlette"], "Starlette's JSON"),
        ("proxies", rows["proxies"], rows["starlette"], "Starlette's JSON"),
        ("a session adds", added, signing, "what ItsDangerous adds to a view that reads and signs"),
    ):
        print(f"  {name:14} {min(costs):8.2f} ({ratio(costs, base):.2f} of {of})")


def add_signing(app: Any) -> str:
    """Add a view that reads and signs a session's content by ItsDangerous alone; returns a cookie's value."""
    from itsdangerous import URLSafeTimedSerializer

    from samovar.core.sessions import SecureCookieSessionInterface

    interface = SecureCookieSessionInterface
    serializer: Any = URLSafeTimedSerializer(
        app.secret_key,
        salt=interface.salt,
        serializer=interface.serializer,
        signer_kwargs={"key_derivation": interface.key_derivation, "digest_method": interface.digest_method},
    )
    cookie = serializer.dumps({"n": 1})

    @app.get("/signing")  # type: ignore[untyped-decorator]  # an app of any kind
    async def signing() -> Any:
        content = serializer.loads(cookie, max_age=31 * 86400)
        return {"n": content["n"], "cookie": serializer.dumps({"n": 2})[:0]}

    return str(cookie)


async def run(options: argparse.Namespace) -> None:
    """Measure, print, and keep."""
    chosen = [load for load in WORKLOADS if not options.workloads or load.name in options.workloads]
    times = await measure(await installed(ASGI), chosen, options.requests, options.runs)
    show(times)
    if not options.workloads:
        await show_features(options.runs, options.requests)
    if options.out:
        options.out.write_text(json.dumps(times, indent=1))
    for task in _running:
        task.cancel()
    await asyncio.gather(*_running, return_exceptions=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("workloads", nargs="*", help=", ".join(workload.name for workload in WORKLOADS))
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--out", type=Path, help="a file for all times, as JSON")
    options = parser.parse_args()
    try:
        from uvloop import run as run_loop
    except ImportError:
        run_loop = asyncio.run
    run_loop(run(options))


if __name__ == "__main__":
    main()
