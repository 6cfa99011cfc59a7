"""What a request costs over the wire: CPU of the server per request, on one core, beside other frameworks.

    ./dev bench wire                                   # all frameworks of benchmarks/peers
    python benchmarks/wire.py --rounds 5 --plot docs/_static/http.svg json

ASGI applications are served by uvicorn (uvloop and httptools where installed), Sanic and aiohttp by their own servers,
Flask by Gunicorn. The server is pinned to the first core, ``wrk -t1 -c64`` to the second; a figure is user and system
time of all the server's processes over the requests it answered. All servers are up from the beginning, and take turns
second by second, so that a noisy minute hits all alike; shown are medians, and medians of ratios to the bare
ASGI function.
"""

from __future__ import annotations

# ruff: noqa: T201  # it prints its figures
import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from peers import ASGI, OTHERS, WORKLOADS, Workload

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
POST_SCRIPT = 'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = [[%s]]\n'


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def command(name: str, port: int) -> list[str]:
    """What serves framework *name*."""
    python = sys.executable
    if name in ASGI:
        options = ["--no-access-log", "--log-level", "error", "--port", str(port)]
        return [python, "-m", "uvicorn", f"peers.{name}:app", *options]
    if name == "flask":
        return [
            python,
            "-m",
            "gunicorn",
            "-w1",
            "--threads",
            "4",
            "-b",
            f"127.0.0.1:{port}",
            "peers.flask:app",
        ]
    return [python, "-m", f"peers.{name}", str(port)]


@contextmanager
def server(name: str) -> Iterator[tuple[int, int]]:
    """Framework *name* on the first core: its port and process group.

    Raises:
        RuntimeError: it does not listen within half a minute.
    """
    port = free_port()
    pin = ["taskset", "-c", "0"] if shutil.which("taskset") else []
    process = subprocess.Popen(
        [*pin, *command(name, port)],
        cwd=HERE,
        start_new_session=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(port, process)
        yield port, process.pid
    finally:
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens on *port*."""
    limit = time.monotonic() + 30
    while time.monotonic() < limit and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    words = b"it does not listen" if process.poll() is None else process.communicate()[1]
    raise RuntimeError(f"{process.args!r}: {words.decode()[-600:]}")


def cpu_seconds(group: int) -> float:
    """User and system time of all processes of a group, their ended children included."""
    spent = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[2]) == group:
            spent += sum(map(int, fields[11:15]))
    return spent / TICKS


def load(port: int, workload: Workload, seconds: int) -> int:
    """Requests that were answered in so many seconds.

    Raises:
        RuntimeError: some were answered with an error.
    """
    pin = ["taskset", "-c", "1"] if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else []
    script = HERE / ".wrk.lua"
    extra = []
    if workload.body:
        script.write_text(POST_SCRIPT % workload.body.decode())
        extra = ["-s", str(script)]
    target = f"http://127.0.0.1:{port}{workload.path}"
    try:
        out = subprocess.run(
            [*pin, "wrk", "-t1", "-c64", f"-d{seconds}s", *extra, target],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    finally:
        script.unlink(missing_ok=True)
    if "Non-2xx" in out:
        raise RuntimeError(out)
    found = re.search(r"(\d+) requests in", out)
    return int(found[1]) if found else 0


def measure(
    names: list[str], workloads: list[Workload], rounds: int, seconds: int
) -> dict[str, dict[str, list[float]]]:
    """Microseconds of CPU for each request, by workload and framework, one for each round."""
    costs: dict[str, dict[str, list[float]]] = {load.name: {name: [] for name in names} for load in workloads}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(server(name)) for name in names}
        for round in range(rounds):
            for workload in workloads:
                for name, (port, group) in servers.items():
                    if round == 0:
                        load(
                            port, workload, 1
                        )  # what is built at the first request, and found in caches later
                    before = cpu_seconds(group)
                    answered = load(port, workload, seconds)
                    costs[workload.name][name].append((cpu_seconds(group) - before) / max(answered, 1) * 1e6)
    return costs


def show(costs: dict[str, dict[str, list[float]]]) -> None:
    """Print medians and ratios."""
    for workload, rows in costs.items():
        print(f"{workload}  [median µs of CPU (median ratio to bare)]")
        for name, values in sorted(rows.items(), key=lambda row: ratio(row[1], rows["bare"])):
            print(f"  {name:11} {statistics.median(values):8.1f} ({ratio(values, rows['bare']):.2f})")


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def plot(costs: dict[str, dict[str, list[float]]], file: Path) -> None:
    """Bars of every framework's ratio to the bare function, workload by workload, as an SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {
        "svg.fonttype": "none",
        "svg.hashsalt": "samovar",
    }
    from matplotlib import pyplot

    across = min(3, len(costs))
    down = -(-len(costs) // across)
    figure, axes = pyplot.subplots(down, across, figsize=(3.4 * across, 3.4 * down), squeeze=False)
    for axis in axes.flat[len(costs) :]:
        axis.set_visible(False)
    for axis, (workload, rows) in zip(axes.flat, costs.items(), strict=False):
        ratios = sorted(((ratio(values, rows["bare"]), name) for name, values in rows.items()), reverse=True)
        colours = ["#b5482a" if name == "samovar" else "#9aa5b1" for _, name in ratios]
        bars = axis.barh([name for _, name in ratios], [cost for cost, _ in ratios], color=colours)
        axis.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
        axis.margins(x=0.2)
        axis.set_title(workload)
        axis.set_xlabel("CPU per request, bare function = 1")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("workloads", nargs="*", help=", ".join(workload.name for workload in WORKLOADS))
    parser.add_argument("--only", help="frameworks, with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1, help="of load in each round")
    parser.add_argument("--plot", type=Path, help="a file for the bars, as SVG")
    parser.add_argument("--out", type=Path, help="a file for all figures, as JSON")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed; on Debian and Ubuntu: apt-get install wrk")
    names = options.only.split(",") if options.only else [*ASGI, *OTHERS]
    names = list(dict.fromkeys(["bare", *names]))
    workloads = [load for load in WORKLOADS if not options.workloads or load.name in options.workloads]
    costs = measure(names, workloads, options.rounds, options.seconds)
    show(costs)
    if options.out:
        options.out.write_text(json.dumps(costs, indent=1))
    if options.plot:
        plot(costs, options.plot)


if __name__ == "__main__":
    main()
