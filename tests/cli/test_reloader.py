"""Restarting when files change."""

from __future__ import annotations

import os
import signal
import socket
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from samovar.core.cli import reloader
from samovar.core.cli.reloader import StatPoller, Supervisor, is_watched

from ..support.until import PATIENCE
from .helpers import Served, samovar

APP = """
from samovar import Samovar
app = Samovar("shop")

@app.get("/")
async def index():
    return "WORD"
"""


@pytest.mark.parametrize(
    ("path", "watched"),
    [
        ("app.py", True),
        ("pkg/views.py", True),
        (".env", True),
        ("settings.toml", True),
        ("app.pyc", False),
        ("data.json", False),
        ("__pycache__/app.py", False),
        (".venv/lib/x.py", False),
        ("node_modules/x/setup.py", False),
    ],
)
def test_what_is_watched(path: str, watched: bool) -> None:
    assert is_watched(Path(path)) is watched


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloader, "INTERVAL", 0)


def touch(path: Path, times: list[int] = [0]) -> None:  # noqa: B006  (a counter, so that each change is later)
    times[0] += 1
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.utime(path, ns=(times[0], times[0]))


@pytest.mark.usefixtures("no_pause")
def test_the_poller_sees_new_changed_and_deleted_files(tmp_path: Path) -> None:
    first, second, ignored = tmp_path / "a.py", tmp_path / "pkg" / "b.py", tmp_path / ".git" / "c.py"
    touch(first)
    poller = StatPoller(tmp_path)
    assert poller() == set()
    for path in (first, second, ignored):
        touch(path)
    assert poller() == {str(first), str(second)}
    first.unlink()
    assert poller() == {str(first)}
    assert poller() == set()


@pytest.mark.usefixtures("no_pause")
def test_the_poller_leaves_virtual_environments_out(tmp_path: Path) -> None:
    touch(tmp_path / "env" / "pyvenv.cfg")
    poller = StatPoller(tmp_path)
    touch(tmp_path / "env" / "x.py")
    assert poller() == set()


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def write(folder: Path, text: str) -> None:
    """Replace app.py in one step, so that no half of it is ever read."""
    new = folder / "app.py.new"
    new.write_text(text)
    new.rename(folder / "app.py")


@pytest.mark.parametrize("watcher", ["watchfiles", "polling"])
def test_a_change_restarts_the_app_at_the_same_address(tmp_path: Path, watcher: str) -> None:
    if watcher == "polling":
        (tmp_path / "watchfiles.py").write_text("raise ImportError('not here')")
    write(tmp_path, APP)
    served = Served("run", "--reload", "--port", "0", folder=tmp_path)
    try:
        url = served.wait()
        assert read(url) == "WORD"
        write(tmp_path, APP.replace("WORD", "ANOTHER"))
        assert served.wait(2) == url
        assert read(url) == "ANOTHER"
        served.process.signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE) == 0
    finally:
        served.process.stop()
    assert "Traceback" not in served.process.output()


def test_an_app_that_breaks_waits_for_the_next_change(tmp_path: Path) -> None:
    write(tmp_path, APP)
    served = Served("run", "--reload", "--port", "0", folder=tmp_path)
    said: Callable[[str], Callable[[], bool]] = lambda text: lambda: text in served.process.output()  # noqa: E731
    try:
        url = served.wait()
        write(tmp_path, "this is no python")
        served.process.wait_until(
            said("started again after the next change"), what="word about the broken app"
        )
        assert "SyntaxError" in served.process.output()
        write(tmp_path, APP.replace("WORD", "AGAIN"))
        assert served.wait(2) == url
        assert read(url) == "AGAIN"
    finally:
        served.process.stop()


def test_a_wrong_command_line_is_not_tried_again(tmp_path: Path) -> None:
    failed = samovar("--app", "nowhere", "run", "--reload", "--port", "0", folder=tmp_path)
    assert failed.returncode == 2
    assert failed.stderr.count("no module 'nowhere'") == 1


def test_a_ctrl_c_of_the_terminal_ends_both_processes(tmp_path: Path) -> None:
    write(tmp_path, APP)
    served = Served("run", "--reload", "--port", "0", folder=tmp_path)
    try:
        url = served.wait()
        os.killpg(served.process.pid, signal.SIGINT)  # as a terminal does: to the supervisor and to its child
        assert served.process.wait(PATIENCE) == 0
        with pytest.raises(OSError):
            read(url)
    finally:
        served.process.stop()
    assert "Traceback" not in served.process.output()


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
from samovar.core.cli.reloader import inherited_listener
inherited_listener().tell_limit(0.1)
print("ready", flush=True)
time.sleep(60)
"""


def test_a_child_that_does_not_stop_is_killed_and_that_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "child.py").write_text(STUBBORN)
    with socket.socket() as sock:
        supervisor = Supervisor([sys.executable, str(tmp_path / "child.py")], sock.fileno(), tmp_path)
        said = ""

        def look() -> set[str]:
            nonlocal said
            said += capfd.readouterr().out
            if "ready" in said:
                supervisor._on_signal(signal.SIGTERM, None)
            return set()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reloader, "watch", lambda root: reloader.Changes(look))
            assert supervisor.run() == 128 + signal.SIGKILL
    assert "did not stop within 0.1 s and was killed" in capfd.readouterr().err


def test_an_app_has_the_time_that_its_settings_give_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        APP
        + """
import asyncio, pathlib
app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = 3.5

@app.before_serving
async def start():
    app.add_background_task(loop)

async def loop():
    try:
        await asyncio.Event().wait()
    finally:
        print("finally")

@app.after_serving
async def end():
    print("after_serving")
""",
    )
    served = Served("run", "--reload", "--port", "0", folder=tmp_path)
    try:
        served.wait()
        served.process.signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE) == 0
    finally:
        served.process.stop()
    assert "finally\nafter_serving" in served.process.output()
