"""Siblings on ``memory://``: processes of one parent with one app; nobody else is taken for one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samovar.core.siblings import Siblings

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import sys
from samovar.core.siblings import Siblings
siblings = Siblings(sys.argv[1], sys.argv[2])
print(siblings.found(), flush=True)
sys.stdin.readline()
siblings.release()
"""
Ask = Callable[..., bool]


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def found(processes: list[subprocess.Popen[str]]) -> Ask:
    """Starts a process of an app that goes on living, and returns whether it found a sibling."""

    def ask(name: str, folder: Path, *, before: tuple[str, ...] = ()) -> bool:
        command = [*before, sys.executable, "-c", CHILD, name, str(folder)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, text=True)
        processes.append(process)
        assert process.stdout is not None
        return {"True\n": True, "False\n": False}[process.stdout.readline()]

    return ask


def test_a_second_process_of_the_same_app_finds_the_first(found: Ask, tmp_path: Path) -> None:
    assert [found("shop", tmp_path) for _ in range(3)] == [False, True, True]


def test_other_apps_are_no_siblings(found: Ask, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert [found("shop", tmp_path), found("bar", tmp_path), found("shop", other)] == [False, False, False]


@pytest.mark.parametrize("how", ["ends", "is killed"])
def test_a_successor_is_no_sibling(
    found: Ask, processes: list[subprocess.Popen[str]], tmp_path: Path, how: str
) -> None:
    assert not found("shop", tmp_path)
    if how == "ends":
        processes[0].communicate("\n", timeout=60)
    else:
        processes[0].kill()
        processes[0].wait()
    assert not found("shop", tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_children_of_a_shell_are_no_siblings(found: Ask, tmp_path: Path) -> None:
    shell = ("sh", "-c", '"$@"; exit', "sh")
    assert not found("shop", tmp_path, before=shell)
    assert not found("shop", tmp_path, before=shell)


def test_tests_are_left_alone(tmp_path: Path) -> None:
    one, two = Siblings("shop", str(tmp_path)), Siblings("shop", str(tmp_path))
    assert (one.found(), two.found()) == (False, False)
    one.release()
    two.release()


def test_who_lost_to_an_old_process_is_only_warned(
    found: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """gunicorn starts the next worker before the old one ends."""
    from samovar.core import siblings

    monkeypatch.setattr(siblings, "_path", lambda name, folder: str(tmp_path / "lock"))
    child = CHILD.replace(
        "siblings = ",
        f"import samovar.core.siblings as m; m._path = lambda *_: {str(tmp_path / 'lock')!r}\nsiblings = ",
    )
    monkeypatch.setitem(globals(), "CHILD", child)
    assert not found("shop", tmp_path)
    mine = Siblings("shop", str(tmp_path))
    assert mine.found(), "it started just now"
    assert mine.found(), "and one was refused just now"
    monkeypatch.setattr(siblings, "WINDOW", 0.0)
    assert not mine.found()
    assert "runs shop on memory:// as well" in caplog.text
    mine.release()
