"""``routes``, ``shell``, the app's own commands, and the whole group."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import pytest

from samovar import Samovar, current_app, g
from samovar.core.cli import AppGroup, ScriptInfo, cli, with_appcontext
from samovar.core.testing import CliRunner

from .helpers import samovar


@pytest.fixture
def app() -> Samovar:
    app = Samovar("shop")

    @app.route("/items/<int:number>", methods=["GET", "POST"])
    async def item(number: int) -> str:
        return str(number)

    @app.websocket("/live")
    async def live() -> None: ...

    return app


@pytest.fixture
def runner(app: Samovar) -> CliRunner:
    return app.test_cli_runner()


def test_routes_lists_endpoints_methods_and_rules(runner: CliRunner) -> None:
    result = runner.invoke(args=["routes"])
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[0] == ["Endpoint", "Methods", "Rule"]
    assert ["item", "GET,", "POST", "/items/<int:number>"] in lines
    assert ["live", "WEBSOCKET", "/live"] in lines


@pytest.mark.parametrize(
    ("sort", "first"), [("endpoint", "item"), ("methods", "static"), ("rule", "item"), ("match", "static")]
)
def test_routes_can_be_sorted(runner: CliRunner, sort: str, first: str) -> None:
    result = runner.invoke(args=["routes", "--sort", sort])
    assert result.output.splitlines()[2].split()[0] == first


def test_routes_can_show_implied_methods(runner: CliRunner) -> None:
    assert "HEAD" not in runner.invoke(args=["routes"]).output
    assert "GET, HEAD, OPTIONS, POST" in runner.invoke(args=["routes", "--all-methods"]).output


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_command_of_the_app_runs_inside_its_context(app: Samovar, runner: CliRunner, kind: str) -> None:
    def report(name: str) -> None:
        g.name = name
        click.echo(f"{current_app.name} {g.name}")

    async def report_async(name: str) -> None:
        report(name)

    function: Callable[[str], Awaitable[None] | None] = report if kind == "sync" else report_async
    app.cli.command("report")(click.argument("name")(function))
    result = runner.invoke(args=["report", "tea"])
    assert (result.output, result.exit_code) == ("shop tea\n", 0)


def test_an_error_of_a_command_ends_its_context_and_is_seen(app: Samovar, runner: CliRunner) -> None:
    ended: list[BaseException | None] = []

    @app.teardown_appcontext
    async def note(error: BaseException | None) -> None:
        ended.append(error)

    @app.cli.command("fail")
    async def fail() -> None:
        raise LookupError("no tea")

    result = runner.invoke(args=["fail"])
    assert isinstance(result.exception, LookupError)
    assert len(ended) == 1


def test_a_command_may_do_without_the_context(app: Samovar, runner: CliRunner) -> None:
    group = AppGroup("tools")

    @group.command(with_appcontext=False)
    async def bare() -> None:
        click.echo("context" if current_app else "none")

    app.cli.add_command(group)
    assert runner.invoke(args=["tools", "bare"]).output == "none\n"


def test_a_command_alone_gets_the_app_of_the_command_line(app: Samovar, runner: CliRunner) -> None:
    @click.command()
    @with_appcontext
    def alone() -> None:
        click.echo(current_app.name)

    assert runner.invoke(alone).output == "shop\n"


def test_the_help_lists_the_app_s_commands_and_survives_a_broken_app(runner: CliRunner, app: Samovar) -> None:
    app.cli.command("greet")(lambda: None)
    assert "greet" in runner.invoke(args=["--help"]).output

    def broken() -> Samovar:
        raise click.UsageError("no app here")

    result = runner.invoke(args=["--help"], obj=ScriptInfo(create_app=broken))
    assert result.exit_code == 0
    assert "Note: no app here" in result.output
    assert "run" in result.output


def test_an_unknown_command_is_a_usage_error(runner: CliRunner) -> None:
    result = runner.invoke(args=["no-such-thing"])
    assert result.exit_code == 2
    assert "No such command 'no-such-thing'" in result.output


def test_the_debug_flag_reaches_the_app(app: Samovar, runner: CliRunner) -> None:
    runner.invoke(args=["--debug", "routes"])
    assert app.debug is True
    runner.invoke(args=["--no-debug", "routes"])
    assert app.debug is False


def test_the_version_names_what_matters() -> None:
    result = CliRunner(Samovar("any")).invoke(cli, ["--version"])
    assert [line.split()[0] for line in result.output.splitlines()] == [
        "Python", "Samovar", "Werkzeug", "Hypercorn",
    ]  # fmt: skip


SHELL_APP = """
from samovar import Samovar, g
app = Samovar("shop")

async def answer():
    g.seen = True
    return 42

@app.shell_context_processor
def names():
    return {"answer": answer, "g": g}
"""


def test_the_shell_awaits_keeps_names_and_is_inside_the_context(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SHELL_APP)
    typed = "x = await answer()\nprint('got', x)\nprint('seen', g.seen)\n1/0\nprint(app.name)\n"
    result = samovar("shell", folder=tmp_path, stdin=typed, env={"PYTHONSTARTUP": None})
    assert result.returncode == 0
    assert "got 42" in result.stdout
    assert "seen True" in result.stdout
    assert "shop" in result.stdout
    assert "ZeroDivisionError" in result.stderr
    assert "App: shop (await works)" in result.stderr


def test_the_shell_can_be_left(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SHELL_APP)
    result = samovar("shell", folder=tmp_path, stdin="raise SystemExit(3)\nprint('not reached')\n")
    assert result.returncode == 3
    assert "not reached" not in result.stdout
