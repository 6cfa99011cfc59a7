"""The command line and ``app.run`` as people know them from Flask and Quart."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from samovar import Blueprint, Samovar, current_app
from samovar.core.cli import SamovarGroup, ScriptInfo, load_dotenv, servers, with_appcontext
from samovar.errors import ConfigError

PATIENCE = 20.0  # seconds


@pytest.fixture
def app() -> Samovar:
    app = Samovar("shop", static_folder=None)
    app.add_url_rule("/", "index", lambda: "tea")
    return app


@click.command("brew")
def brew() -> None:
    click.echo("brewed")


def test_packages_bring_commands(monkeypatch: pytest.MonkeyPatch, app: Samovar) -> None:
    point = EntryPoint("brew", f"{__name__}:brew", "samovar.commands")
    monkeypatch.setattr(
        "samovar.core.cli.groups.entry_points", lambda group: [point] if group == point.group else []
    )
    group = SamovarGroup(create_app=lambda: app)
    assert CliRunner().invoke(group, ["brew"]).output == "brewed\n"
    assert "brew" in CliRunner().invoke(group, ["--help"]).output


def test_a_script_of_one_s_own_names_its_factory(app: Samovar) -> None:
    made: list[Samovar] = []

    def create_app() -> Samovar:
        made.append(app)
        return app

    group = SamovarGroup(create_app=create_app, add_version_option=False, load_dotenv=False)
    result = CliRunner().invoke(group, ["routes"])
    assert "index" in result.output and made == [app]
    assert CliRunner().invoke(group, ["--version"]).exit_code == 2
    assert CliRunner().invoke(SamovarGroup(add_default_commands=False), ["run"]).exit_code == 2


@pytest.mark.parametrize("flag", [True, False, None])
def test_code_sees_the_debug_flag_while_it_is_imported(
    monkeypatch: pytest.MonkeyPatch, flag: bool | None
) -> None:
    monkeypatch.delenv("SAMOVAR_DEBUG", raising=False)
    seen: list[bool] = []

    def create_app() -> Samovar:
        app = Samovar("shop", static_folder=None)
        seen.append(app.debug)
        return app

    info = ScriptInfo(create_app=create_app)
    info.debug = flag
    assert info.load_app().debug is bool(flag) and seen == [bool(flag)]
    assert "SAMOVAR_DEBUG" not in os.environ
    assert info.load_app() is info.load_app()


def test_the_context_of_a_command_comes_with_parentheses_too(app: Samovar) -> None:
    @app.cli.command("where")
    @with_appcontext()
    def where() -> None:
        click.echo(current_app.name)

    assert app.test_cli_runner().invoke(args=["where"]).output == "shop\n"


def test_a_command_may_run_a_loop_of_its_own(app: Samovar) -> None:
    async def name() -> str:
        async with app.app_context():
            return current_app.name

    app.cli.command("name")(lambda: click.echo(asyncio.run(name())))
    assert app.test_cli_runner().invoke(args=["name"]).output == "shop\n"


@pytest.mark.parametrize(("group", "line"), [("", ["bp", "hi"]), ("tea", ["tea", "hi"]), (None, ["hi"])])
def test_commands_of_blueprints_have_their_group(app: Samovar, group: str | None, line: list[str]) -> None:
    blueprint = Blueprint("bp", __name__, cli_group=group)
    blueprint.cli.command("hi")(lambda: click.echo("hi"))
    app.register_blueprint(blueprint)
    assert app.test_cli_runner().invoke(args=line).output == "hi\n"


def test_routes_of_several_hosts_and_subdomains_say_which() -> None:
    matching = Samovar("shop", host_matching=True, static_folder=None)
    matching.add_url_rule("/b", "b", lambda: "", host="a.example")
    matching.add_url_rule("/a", "a", lambda: "", host="b.example")
    lines = matching.test_cli_runner().invoke(args=["routes", "--sort", "domain"]).output.splitlines()
    assert lines[0].split() == ["Endpoint", "Methods", "Rule", "Host"]
    assert [line.split()[-1] for line in lines[2:]] == ["a.example", "b.example"]
    divided = Samovar("shop", subdomain_matching=True, static_folder=None)
    divided.add_url_rule("/", "api", lambda: "", subdomain="api")
    assert "Subdomain" in divided.test_cli_runner().invoke(args=["routes"]).output


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TEA", "MILK", "SUGAR", "SAMOVAR_SKIP_DOTENV"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    folder = tmp_path / "inner"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (tmp_path / ".env").write_text("TEA=env\nMILK=env\n")
    (tmp_path / ".samovarenv").write_text("TEA=samovarenv\nMILK=samovarenv\nSUGAR=samovarenv\n")
    (folder / "own").write_text("TEA=own\n")
    return folder


def read() -> list[str | None]:
    return [os.environ.get(name) for name in ("TEA", "MILK", "SUGAR")]


def test_one_s_own_file_comes_before_the_usual_ones_which_are_read_too(environment: Path) -> None:
    assert load_dotenv("own")
    assert read() == ["own", "env", "samovarenv"]


def test_the_usual_files_may_be_left_out(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_dotenv("own", load_defaults=False)
    assert read() == ["own", None, None]
    monkeypatch.setenv("SAMOVAR_SKIP_DOTENV", "1")
    assert not load_dotenv() and read() == ["own", None, None]
    assert not load_dotenv("missing", load_defaults=False)


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("form", ["fd:{}", "fd://{}"])
async def test_an_inherited_socket_is_served_until_the_trigger(app: Samovar, form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        answers: list[bytes] = []

        async def trigger() -> None:
            answers.append(await ask(port))

        host = form.format(os.dup(listening.fileno()))
        async with asyncio.timeout(PATIENCE):
            await app.run_task(host, shutdown_trigger=trigger)
    assert answers[0].startswith(b"HTTP/1.1 200") and answers[0].endswith(b"tea")


async def test_what_is_no_option_here_is_warned_of(app: Samovar) -> None:
    async def trigger() -> None: ...

    with pytest.warns(UserWarning, match="not an option of Samovar's servers: processes, threaded"):
        await app.run_task(port=0, shutdown_trigger=trigger, threaded=True, processes=2)


async def test_half_of_tls_is_an_error(app: Samovar) -> None:
    with pytest.raises(ConfigError, match="--keyfile"):
        await app.run_task(port=0, certfile="cert.pem")


def test_an_app_runs_in_the_loop_it_is_given(app: Samovar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "configure_logging", lambda debug: None)
    seen: list[Any] = []

    @app.before_serving
    async def stop() -> None:
        running = asyncio.get_running_loop()
        seen.append(running)
        running.call_soon(os.kill, os.getpid(), signal.SIGTERM)

    loop = asyncio.new_event_loop()
    app.run(port=0, use_reloader=False, loop=loop)
    assert seen == [loop] and loop.is_closed()
