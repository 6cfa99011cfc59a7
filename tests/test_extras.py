"""An optional library that is missing, too old or broken: one line says so, with the command that puts it right."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from click.testing import CliRunner

from samovar.core.cli import cli, load_dotenv
from samovar.core.cli.options import ServeOptions
from samovar.core.cli.reloader import StatPoller, watch
from samovar.core.cli.servers import loop_factory, make_server
from samovar.errors import MissingDependency
from samovar.extras import LIBRARIES, Needed

from .services import ROOT

NOT_IMPORTED = {"httptools", "pytest-asyncio"}
"""What extras bring for others to import: the user, pytest, uvicorn."""

Install = Callable[..., None]


def write_library(folder: Path, name: str, version: str, text: str = "") -> None:
    """A library as pip leaves it on the path."""
    (folder / f"{name}.py").write_text(text)
    distribution = LIBRARIES[name].distribution
    about = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a library before the one of the environment."""

    def put(name: str, version: str, text: str = "") -> None:
        write_library(tmp_path, name, version, text)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(sys.modules, name, None)  # noted, so that what is imported now is gone afterwards
        del sys.modules[name]

    return put


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Takes a library away."""

    def hide(name: str) -> None:
        def nothing(distribution: str) -> str:
            raise PackageNotFoundError(distribution)

        monkeypatch.setattr("importlib.metadata.version", nothing)
        monkeypatch.setitem(sys.modules, name, None)

    return hide


def test_the_versions_are_those_of_the_packaging() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        (extra, *re.split(r">=|;", requirement)[:2])
        for extra, requirements in project["optional-dependencies"].items()
        for requirement in requirements
    }
    ours = {(extra, distribution, oldest) for distribution, oldest, extra in LIBRARIES.values()}
    assert ours == {one for one in wanted if one[1] not in NOT_IMPORTED}


@pytest.mark.parametrize("name", LIBRARIES)
def test_one_that_is_not_installed_is_named_with_what_installs_it(
    name: str, lacking: Callable[[str], None]
) -> None:
    lacking(name)
    distribution, oldest, extra = LIBRARIES[name]
    with pytest.raises(MissingDependency) as caught, Needed(name, by="tea"):
        __import__(name)
    words = f'needs {distribution} {oldest} or later, which is not installed: pip install "samovar[{extra}]"'
    assert str(caught.value) == f"tea {words}"
    assert caught.value.name == distribution


@pytest.mark.parametrize("found", ["0.0.9", "0", "0.20rc1"])
@pytest.mark.parametrize("text", ["", "__version__ = '0.0.1'", "raise AttributeError('it has less in it')"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_one_that_is_too_old_is_named_with_both_versions(
    name: str, text: str, found: str, install: Install
) -> None:
    install(name, found, text)
    distribution, oldest, extra = LIBRARIES[name]
    with pytest.raises(MissingDependency) as caught, Needed(name, by="tea"):
        __import__(name)
    words = f"needs {distribution} {oldest} or later, and {found} is installed"
    assert str(caught.value) == f'tea {words}: pip install "samovar[{extra}]"'


def test_one_that_is_broken_is_named_with_its_error_and_what_repairs_it(install: Install) -> None:
    install("hiredis", "9.1", "from nowhere_at_all import reader")
    with pytest.raises(MissingDependency) as caught, Needed("hiredis", by="tea"):
        __import__("hiredis")
    assert str(caught.value) == (
        "tea needs hiredis 3 or later, and 9.1 is installed, but cannot be imported "
        "(No module named 'nowhere_at_all'): pip install --force-reinstall \"hiredis>=3\""
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize("version", ["3", "3.0.0", "3.1", "10.0", "4.0.0.dev1", "unknown"])
@pytest.mark.parametrize("text", ["", "__version__ = '2.9'", "__version__ = (4, 0)"])
def test_one_that_is_new_enough_or_does_not_say_is_taken(version: str, text: str, install: Install) -> None:
    install("hiredis", version, text)
    with Needed("hiredis", by="tea") as needed:
        __import__("hiredis")
    assert needed.found == version


def test_one_that_says_its_version_itself_is_asked_only(install: Install) -> None:
    install("hiredis", "2.0", "__version__ = '3.1'")
    with Needed("hiredis", by="tea") as needed:
        __import__("hiredis")
    assert needed.found == "3.1"


def test_an_error_of_another_kind_stays_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError), Needed("hiredis", by="tea"):
        _ = 1 / 0


# --- who uses it ----------------------------------------------------------------------------------------------------

OPEN = """
import sys
sys.path.insert(0, sys.argv[1])
from samovar.broadcast import open_backend
from samovar.errors import MissingDependency
for scheme in ("redis", "amqp"):
    try:
        open_backend(f"{scheme}://host")
    except MissingDependency as error:
        print([str(error)])
"""


def opened(folder: Path) -> list[str]:
    """What opening the backends of Redis and RabbitMQ says in a fresh interpreter that has *folder* on its path."""
    command = [sys.executable, "-c", OPEN, str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [word for line in ran.stdout.splitlines() for word in ast.literal_eval(line)]


def test_the_backends_say_which_client_is_too_old(tmp_path: Path) -> None:
    write_library(tmp_path, "hiredis", "2.4.0")
    write_library(tmp_path, "pamqp", "3.2.1")
    assert opened(tmp_path) == [
        'the Redis backend needs hiredis 3 or later, and 2.4.0 is installed: pip install "samovar[redis]"',
        'the RabbitMQ backend needs pamqp 3.3 or later, and 3.2.1 is installed: pip install "samovar[rabbitmq]"',
    ]


def test_uvloop_too_old_is_refused_by_name_and_noted_otherwise(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("uvloop", "0.14.0")
    with pytest.raises(
        MissingDependency, match=r"event loop of uvloop needs uvloop 0.21 or later, and 0.14.0"
    ):
        loop_factory(ServeOptions(loop="uvloop"))
    assert loop_factory(ServeOptions(loop="auto")) is None
    assert "Note: asyncio's own event loop is used: " in capsys.readouterr().err


def test_without_uvloop_nothing_is_said_unless_it_is_asked_for(
    lacking: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    lacking("uvloop")
    assert loop_factory(ServeOptions(loop="auto")) is None
    assert capsys.readouterr().err == ""
    with pytest.raises(MissingDependency, match=r"not installed: pip install \"samovar\[fast\]\""):
        loop_factory(ServeOptions(loop="uvloop"))


def test_uvicorn_too_old_is_refused(install: Install) -> None:
    install("uvicorn", "0.20.0")
    with pytest.raises(
        MissingDependency, match=r"the uvicorn server needs uvicorn 0.34 or later, and 0.20.0"
    ):
        make_server(None, ServeOptions(server="uvicorn"), {})


def test_watchfiles_too_old_is_left_alone(install: Install, tmp_path: Path) -> None:
    install("watchfiles", "0.9")
    assert isinstance(watch(tmp_path)._look, StatPoller)


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with an environment file."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SAMOVAR_SKIP_DOTENV", raising=False)
    path = folder / ".env"
    path.write_text("TEA=black\n")
    return path


def test_python_dotenv_too_old_is_noted_or_refused_where_a_file_is_named(
    env_file: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("dotenv", "0.21")
    assert load_dotenv() is False
    words = f"reading {env_file} needs python-dotenv 1.0 or later, and 0.21 is installed"
    assert capsys.readouterr().err == f'Note: {words}: pip install "samovar[dev]"\n'
    refused = CliRunner().invoke(cli, ["--env-file", ".env", "routes"])
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: reading .env") and refused.output.count("\n") == 1
