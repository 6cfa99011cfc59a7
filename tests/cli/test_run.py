"""``samovar run`` as a process: what it says, what it refuses, what it serves."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import websockets

from samovar.core.cli.hypercorn_server import make_config
from samovar.core.cli.options import ServeOptions

from ..support.until import PATIENCE
from .helpers import QUIET, Served, samovar

APP = """
import asyncio, os
from samovar import Samovar, request, websocket

app = Samovar("shop")
app.config.from_prefixed_env()

@app.get("/")
async def index():
    loop = type(asyncio.get_running_loop()).__module__
    return {"debug": app.debug, "loop": loop, "word": os.environ.get("WORD"),
            "client": (request.scope["client"] or [None])[0], "scheme": request.scheme}

@app.websocket("/ws")
async def ws():
    while True:
        await websocket.send(str(len(await websocket.receive())))

@app.cli.command("greet")
async def greet():
    print("hello from", app.name)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Served]]:
    running: list[Served] = []

    def start(*arguments: str, env: dict[str, str | None] | None = None) -> Served:
        running.append(Served(*arguments, folder=folder, env=env))
        running[-1].wait()
        return running[-1]

    yield start
    for one in running:
        one.process.stop()


def get(url: str, context: ssl.SSLContext | None = None) -> dict[str, object]:
    with urllib.request.urlopen(url, timeout=PATIENCE, context=context) as answer:
        return dict(json.loads(answer.read()))


@pytest.mark.parametrize(("server", "name"), [("hypercorn", "Hypercorn"), ("uvicorn", "uvicorn")])
def test_it_says_one_line_with_the_port_it_chose(
    serve: Callable[..., Served], server: str, name: str
) -> None:
    served = serve("run", "--port", "0", "--server", server)
    said = served.said()[0]
    assert (said["name"], said["server"]) == ("shop", name)
    assert said["url"].startswith("http://127.0.0.1:")
    assert served.port != 0
    assert get(said["url"])["client"] == "127.0.0.1"
    assert served.process.output().count("\n") == 1, "no access log, and nothing of the server's own"


def test_a_busy_port_is_one_line_that_names_the_option(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        failed = samovar("run", "--port", str(port), folder=folder)
    assert failed.returncode == 1
    assert failed.stderr.strip() == (
        f"Error: port {port} on 127.0.0.1 is in use by another program: choose another with --port, "
        "or --port 0 for any"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--app", "nowhere", "run"], 2, "no module 'nowhere'"),
        (["run", "--port", "70000"], 1, "--port is 0 to 65535, not 70000"),
        (["run", "--port", "x"], 2, "not a valid integer"),
        (["run", "--host", "192.0.2.1", "--port", "0"], 1, "192.0.2.1 is no address of this machine"),
        (["run", "--workers", "0"], 2, "0 is not in the range"),
        (["run", "--certfile", "app.py"], 1, "TLS takes both --certfile and --keyfile"),
        (
            ["run", "--certfile", "app.py", "--keyfile", "app.py"],
            1,
            "TLS cannot be set up from app.py, app.py",
        ),
        (["run", "--server", "other"], 2, "'other' is not one of"),
    ],
)
def test_what_cannot_work_is_one_line(folder: Path, arguments: list[str], code: int, said: str) -> None:
    failed = samovar(*arguments, folder=folder)
    assert failed.returncode == code
    assert said in failed.stderr
    assert "Traceback" not in failed.stderr


def test_an_explicit_memory_url_refuses_workers_by_name(folder: Path) -> None:
    failed = samovar("run", "--workers", "2", folder=folder, env={"SAMOVAR_BROADCAST_URL": "memory://x"})
    assert "BROADCAST_URL is memory://x, which reaches one process only" in failed.stderr


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kafka://host", "no backend is registered for 'kafka': the URL must start with one of amqp://"),
        ("redis://host?durabel=1", "durabel"),
    ],
)
def test_a_broadcast_url_that_cannot_work_is_one_line(folder: Path, url: str, said: str) -> None:
    failed = samovar("run", "--port", "0", folder=folder, env={"SAMOVAR_BROADCAST_URL": url})
    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    assert line.startswith("Error: ") and said in line


def test_an_app_that_does_not_import_is_shown_whole(folder: Path) -> None:
    (folder / "app.py").write_text("def f():\n    return 1 / 0\nf()\n")
    failed = samovar("run", folder=folder)
    assert failed.returncode == 1
    assert "line 2, in f" in failed.stderr
    assert "ZeroDivisionError" in failed.stderr
    assert "discovery.py" not in failed.stderr


def test_an_app_that_does_not_start_is_shown_with_its_cause(folder: Path) -> None:
    (folder / "app.py").write_text(
        APP + "\n@app.before_serving\nasync def water():\n    raise LookupError('no tea')\n"
    )
    failed = samovar("run", "--port", "0", folder=folder)
    assert failed.returncode == 1
    assert "LookupError: no tea" in failed.stderr
    assert "Error: start-up of the app failed" in failed.stderr


def test_a_start_up_that_hangs_can_be_interrupted(folder: Path) -> None:
    (folder / "app.py").write_text(
        APP
        + "\n@app.before_serving\nasync def hang():\n    print('hangs', flush=True)\n    await asyncio.sleep(60)\n"
    )
    served = Served("run", "--port", "0", folder=folder)
    served.process.wait_until(lambda: "hangs" in served.process.output(), what="hook that hangs")
    served.process.signal(signal.SIGINT)
    assert served.process.wait(PATIENCE) == 0
    assert served.process.output() == "hangs\n"


def test_settings_come_from_the_environment(serve: Callable[..., Served]) -> None:
    served = serve(
        "run", env={"SAMOVAR_RUN_PORT": "0", "SAMOVAR_RUN_SERVER": "uvicorn", "SAMOVAR_APP": "app:app"}
    )
    assert served.said()[0]["server"] == "uvicorn"


def test_environment_files_are_read_and_what_is_set_already_stays(
    serve: Callable[..., Served], folder: Path
) -> None:
    (folder / ".env").write_text("WORD=default\nSAMOVAR_RUN_PORT=0\n")
    (folder / "own.env").write_text("WORD=own\n")
    assert get(serve("--env-file", "own.env", "run").wait())["word"] == "own"
    assert get(serve("run").wait())["word"] == "default"
    assert get(serve("run", env={"WORD": "set"}).wait())["word"] == "set"
    skipped = serve("run", "--port", "0", env={"SAMOVAR_SKIP_DOTENV": "1"})
    assert get(skipped.wait())["word"] is None


@pytest.mark.parametrize(("loop", "module"), [("asyncio", "asyncio.unix_events"), ("uvloop", "uvloop")])
def test_the_loop_can_be_chosen(serve: Callable[..., Served], loop: str, module: str) -> None:
    assert get(serve("run", "--port", "0", "--loop", loop).wait())["loop"] == module


def test_debug_mode_logs_requests_and_reaches_the_app(serve: Callable[..., Served]) -> None:
    served = serve("--debug", "run", "--no-reload", "--port", "0")
    assert get(served.wait())["debug"] is True
    served.process.wait_until(lambda: '"GET / ' in served.process.output(), what="access log")
    assert get(serve("run", "--debug", "--no-reload", "--port", "0").wait())["debug"] is True


def test_the_app_may_be_named_behind_the_command_too(serve: Callable[..., Served], folder: Path) -> None:
    (folder / "app.py").rename(folder / "shop.py")
    assert serve("run", "--port", "0", "--app", "shop").said()[0]["name"] == "shop"


def test_a_slow_start_in_debug_mode_is_no_warning(serve: Callable[..., Served], folder: Path) -> None:
    slow = "\n@app.before_serving\nasync def slow():\n    import time\n    time.sleep(0.3)\n"
    (folder / "app.py").write_text(APP + slow)
    served = serve("run", "--debug", "--no-reload", "--port", "0")
    get(served.wait())
    assert "asyncio" not in served.process.output()


def test_a_syntax_error_of_the_app_is_shown_once(folder: Path) -> None:
    (folder / "app.py").write_text("def broken(:\n")
    failed = samovar("run", "--port", "0", folder=folder)
    assert failed.returncode == 1
    assert failed.stderr.count("SyntaxError") == failed.stderr.count("def broken(:") == 1
    assert failed.stderr.endswith("Error: importing 'app' failed\n")


async def test_the_access_log_has_one_safe_line_for_each_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "samovar.access")
    log = make_config(ServeOptions(debug=True)).log
    request: Any = {
        "type": "http", "method": "GET", "path": "/a\nb", "raw_path": b"/a%0Ab", "query_string": b"secret",
        "http_version": "1.1", "scheme": "http", "headers": [], "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await log.access(request, cast(Any, None), 0.1)  # the client left
    await log.access(request, {"status": 200, "headers": []}, 0.2)
    assert [record.getMessage().count('"GET /a%0Ab HTTP/1.1" -') for record in caplog.records] == [1]


@pytest.mark.parametrize("server", ["hypercorn", "uvicorn"])
async def test_a_websocket_message_over_the_limit_closes_with_1009(
    serve: Callable[..., Served], server: str
) -> None:
    served = serve("run", "--port", "0", "--server", server)
    async with websockets.connect(f"ws://127.0.0.1:{served.port}/ws", max_size=None) as ws:
        await ws.send("x" * 1024 * 1024)
        assert await ws.recv() == str(1024 * 1024)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await ws.send("x" * (1024 * 1024 + 1))
            await asyncio.wait_for(ws.recv(), 60)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_a_foreign_origin_is_no_error_in_the_log_of_uvicorn(serve: Callable[..., Served]) -> None:
    served = serve("run", "--port", "0", "--server", "uvicorn")
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(
            f"ws://127.0.0.1:{served.port}/ws", origin=websockets.Origin("http://evil.example")
        )
    assert refused.value.response.status_code == 403
    served.process.stop()
    assert "ERROR" not in served.process.output()


def test_without_a_screen_open_only_says_where_to_go(serve: Callable[..., Served]) -> None:
    served = serve("run", "--port", "0", "--open", env={"WAYLAND_DISPLAY": None})
    served.process.wait_until(
        lambda: f"visit {served.said()[0]['url']}" in served.process.output(),
        what="line in place of a browser",
    )
    assert get(served.wait())["debug"] is False


def test_open_calls_the_browser_with_the_address(serve: Callable[..., Served], folder: Path) -> None:
    browser = folder / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {folder}/opened\n')
    browser.chmod(0o755)
    served = serve("run", "--port", "0", "--open", "--host", "0.0.0.0", env={"BROWSER": f"{browser} %s"})
    opened = folder / "opened"
    served.process.wait_until(lambda: opened.exists() and opened.read_text() != "", what="browser")
    assert opened.read_text() == f"http://127.0.0.1:{served.port}\n"


def test_a_unix_socket_is_served(serve: Callable[..., Served], folder: Path) -> None:
    served = serve("run", "--host", "unix:shop.sock")
    assert served.said()[0]["url"] == "unix:shop.sock"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(folder / "shop.sock"))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {cert}".split(),
        check=True,
        capture_output=True,
    )
    return cert, key


@pytest.mark.parametrize("server", ["hypercorn", "uvicorn"])
def test_tls(serve: Callable[..., Served], certificate: tuple[Path, Path], server: str) -> None:
    cert, key = map(str, certificate)
    served = serve("run", "--port", "0", "--server", server, "--cert", cert, "--key", key)
    assert served.said()[0]["url"].startswith("https://127.0.0.1:")
    assert get(served.wait(), ssl.create_default_context(cafile=cert))["scheme"] == "https"
    assert served.process.stop() == 0
    assert "Traceback" not in served.process.output()


def test_a_broken_uvicorn_is_one_line_that_names_what_repairs_it(folder: Path) -> None:
    (folder / "uvicorn.py").write_text("raise ImportError('not here')\n")
    failed = samovar("run", "--server", "uvicorn", folder=folder)
    assert failed.returncode == 1
    said = failed.stderr.strip()
    assert said.startswith("Error: the uvicorn server needs uvicorn 0.34 or later, and ")
    assert said.endswith('cannot be imported (not here): pip install --force-reinstall "uvicorn>=0.34"')


SCRIPT = """
import asyncio, sys
from samovar import Samovar

app = Samovar("script")

@app.get("/")
async def index():
    return {"debug": app.debug}

async def main():
    stop = asyncio.Event()
    @app.get("/stop")
    async def end():
        stop.set()
        return {}
    @app.after_serving
    async def after():
        print("after_serving ran", flush=True)
    serving = app.run_task(port=0, shutdown_trigger=stop.wait)
    if sys.argv[1] == "task":
        await serving
    else:
        task = asyncio.create_task(serving)
        await stop.wait()
        task.cancel()
        await asyncio.wait({task})
        print("cancelled:", task.cancelled())
    print("went on")

if sys.argv[1] == "run":
    app.run(port=0, debug=False)
else:
    asyncio.run(main())
"""


@pytest.fixture
def script(folder: Path) -> Path:
    (folder / "script.py").write_text(SCRIPT)
    return folder / "script.py"


def run_script(script: Path, how: str) -> Served:
    served = Served.__new__(Served)
    from tests.support.process import Process

    served.process = Process(
        [sys.executable, str(script), how], log=script.with_suffix(".log"), cwd=script.parent, env=QUIET
    )
    served.wait()
    return served


def test_app_run_serves_until_a_signal(script: Path) -> None:
    served = run_script(script, "run")
    assert get(served.wait()) == {"debug": False}
    assert served.process.stop() == 0


@pytest.mark.parametrize("how", ["task", "cancel"])
def test_run_task_ends_by_its_trigger_or_a_cancellation_and_the_caller_goes_on(
    script: Path, how: str
) -> None:
    served = run_script(script, how)
    get(f"{served.wait()}/stop")
    assert served.process.wait(PATIENCE) == 0
    ending = {
        "task": "after_serving ran\nwent on\n",
        "cancel": "after_serving ran\ncancelled: True\nwent on\n",
    }
    assert served.process.output().endswith(ending[how])


def test_app_run_does_nothing_while_the_command_imports_the_app(folder: Path) -> None:
    (folder / "app.py").write_text(APP + "\napp.run()\n")
    result = samovar("routes", folder=folder)
    assert result.returncode == 0
    assert "app.run() does nothing" in result.stderr
