"""A private RabbitMQ leaves nothing behind, however its tests end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..services import ROOT, Found
from .rabbitmq import sweep
from .test_process import wait_until_dead

CRASH = """
import os, sys
from pathlib import Path
from tests.services import Found
from tests.support.rabbitmq import RabbitServer

server = RabbitServer(Found(Path(sys.argv[1]), "", eval(sys.argv[2])), Path(sys.argv[3]))
server.launch()
print(server.process.pid, server._epmd.pid, server.data, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing dies with its parent's SIGKILL")
def test_nothing_is_left_of_it_when_the_tests_are_killed(rabbitmq_program: Found, tmp_path: Path) -> None:
    arguments = [str(rabbitmq_program.path), repr(dict(rabbitmq_program.env)), str(tmp_path)]
    crashed = subprocess.run(
        [sys.executable, "-c", CRASH, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert crashed.returncode == -signal.SIGKILL, crashed.stderr
    server, epmd, data = crashed.stdout.split()
    wait_until_dead(int(server))
    wait_until_dead(int(epmd))
    assert Path(data).exists()
    sweep()
    assert not Path(data).exists()
