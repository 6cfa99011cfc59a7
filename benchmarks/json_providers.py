"""What orjson saves: the CPU of JSON by ``OrjsonProvider``, and of whole requests, beside that of the default provider.

    python benchmarks/json_providers.py
    python benchmarks/json_providers.py --runs 15

The time is ``time.process_time`` in alternating rounds, so that a noisy minute hits both alike; the figure is the
median of the rounds' ratios, less than 1 where orjson is faster, and the least time of each in microseconds.
"""

from __future__ import annotations

# ruff: noqa: T201  # it prints its figures
import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from samovar import Samovar
from samovar.core.json import DefaultJSONProvider, OrjsonProvider

ROW = {"id": 7, "name": "Assam", "grams": 4.5, "tags": ["black", "strong"], "open": True}
VALUES: dict[str, Any] = {
    "small": {"message": "Hello, World!"},
    "a row": ROW,
    "100 rows": [{**ROW, "id": number} for number in range(100)],
    "100 rows with None": [{**ROW, "sold": None} for _ in range(100)],
    "100 rows with a date": [{**ROW, "sold": datetime(2026, 1, 2, tzinfo=UTC)} for _ in range(100)],
    "100 rows with both": [{**ROW, "a": None, "b": datetime(2026, 1, 2, tzinfo=UTC)} for _ in range(100)],
}


def spend(act: Callable[[], Any], seconds: float) -> float:
    """Microseconds of CPU for each call of *act*, called for about so many seconds."""
    calls, spent = 1, 0.0
    while spent < seconds:
        calls *= 2
        begin = time.process_time()
        for _ in range(calls):
            act()
        spent = time.process_time() - begin
    return spent / calls * 1e6


def compare(name: str, usual: Callable[[], Any], faster: Callable[[], Any], runs: int) -> None:
    """Print what *faster* takes of the time of *usual*."""
    rounds = [(spend(usual, 0.05), spend(faster, 0.05)) for _ in range(runs)]
    ratio = statistics.median(b / a for a, b in rounds)
    print(f"  {name:28} {ratio:5.2f}   {min(a for a, _ in rounds):8.2f} {min(b for _, b in rounds):8.2f}")


def requester(provider: type[DefaultJSONProvider], value: Any) -> Callable[[], Any]:
    """One GET of *value*, in process."""
    app = Samovar("teas", static_folder=None)
    app.json = provider(app)

    @app.get("/")
    async def index() -> Any:
        return value

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "method": "GET",
        "path": "/", "raw_path": b"/", "root_path": "", "query_string": b"", "headers": [(b"host", b"h")],
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 5),
    }  # fmt: skip

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    runner = asyncio.Runner()

    async def many() -> None:
        for _ in range(100):
            await app({**scope, "state": {}}, receive, send)

    return lambda: runner.run(many())


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    app = Samovar("teas", static_folder=None)
    usual, faster = DefaultJSONProvider(app), OrjsonProvider(app)
    print("                               ratio   default   orjson  [µs]")
    print("written")
    for name, value in VALUES.items():
        compare(name, lambda v=value: usual.body(v), lambda v=value: faster.body(v), runs)  # type: ignore[misc]
    print("read")
    for name, value in VALUES.items():
        data = usual.dumps(value).encode()
        compare(name, lambda d=data: usual.loads(d), lambda d=data: faster.loads(d), runs)  # type: ignore[misc]
    print("100 requests answered with")
    for name, value in VALUES.items():
        compare(name, requester(DefaultJSONProvider, value), requester(OrjsonProvider, value), runs)


if __name__ == "__main__":
    main()
