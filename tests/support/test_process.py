"""Child processes of the tests end when told, with everything they started, and never outlive the tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from ..services import ROOT
from .ports import free_port, release_port
from .process import NotReady, Process, accepts
from .until import PATIENCE

LISTENER = """
import signal, socket, sys, time
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    print("listening", flush=True)
    time.sleep(600)
"""


def alive(pid: int) -> bool:
    """True while the process runs; a zombie does not."""
    result = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(result.stdout.strip()) and not result.stdout.strip().startswith("Z")


def wait_until_dead(pid: int) -> None:
    end = time.monotonic() + PATIENCE
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not alive(pid)


def test_a_server_is_waited_for_and_stopped(tmp_path: Path) -> None:
    port = free_port()
    with Process([sys.executable, "-c", LISTENER, str(port)], log=tmp_path / "log") as process:
        process.wait_for_port(port)
        assert process.running
    assert process.stop() == -signal.SIGTERM
    assert not accepts("127.0.0.1", port)
    assert process.output() == "listening\n"


def test_one_that_ends_before_it_is_ready_says_what_it_printed(tmp_path: Path) -> None:
    with (
        Process([sys.executable, "-c", "print('no such setting')"], log=tmp_path / "log") as process,
        pytest.raises(NotReady, match=r"ended with 0.*\n?.*no such setting"),
    ):
        process.wait_for_port(free_port())


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    script = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    process = Process([sys.executable, "-c", script], log=tmp_path / "log")
    process.wait_until(lambda: "deaf" in process.output(), what="word")
    assert process.stop(timeout=0.1) == -signal.SIGKILL


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    script = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    with Process([sys.executable, "-c", script], log=tmp_path / "log") as process:
        process.wait_until(lambda: process.output().endswith("\n"), what="pid")
        grandchild = int(process.output())
        assert alive(grandchild)
    wait_until_dead(grandchild)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
def test_it_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = f"""
    import sys, time
    from pathlib import Path
    from tests.support.process import Process
    print(Process(["sleep", "600"], log=Path({str(tmp_path / "child.log")!r})).pid, flush=True)
    time.sleep(600)
    """
    with Process([sys.executable, "-c", textwrap.dedent(script)], log=tmp_path / "log", cwd=ROOT) as parent:
        parent.wait_until(lambda: parent.output().endswith("\n"), what="pid")
        child = int(parent.output())
        assert alive(child)
        os.kill(parent.pid, signal.SIGKILL)
        wait_until_dead(child)


def test_it_is_not_started_from_a_thread_that_may_end_before_it(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def start() -> None:
        try:
            Process(["sleep", "600"], log=tmp_path / "log")
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


def test_free_ports_are_distinct_can_be_bound_and_stay_claimed() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    script = "import sys; from tests.support import ports; print(*(ports._claim(int(p)) is None for p in sys.argv[1:]))"
    command = [sys.executable, "-c", script, *map(str, ports[:3])]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.split() == ["True"] * 3
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()
        release_port(port)
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.split() == ["False"] * 3
