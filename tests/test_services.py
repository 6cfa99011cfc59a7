"""The services of this machine really run, and what is missing fails in words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import SESSION_LOOP
from .services import NGINX, SERVICES, Found, Missing, Service, main
from .support.nginx import bare_config
from .support.ports import free_port
from .support.process import accepts

if TYPE_CHECKING:
    from playwright.async_api import Page

    from .conftest import NginxStarter


def service(**changes: object) -> Service:
    """A service that is nowhere and cannot be brought, but for the changes."""
    fields: dict[str, object] = {
        "name": "teapot",
        "variable": "SAMOVAR_TEST_TEAPOT",
        "programs": (),
        "probe": ("-c", ""),
        "finders": (),
        "installers": (),
        "remedy": "brew tea",
    }
    return Service(**{**fields, **changes})  # type: ignore[arg-type]  # tests give what fits


PYTHON = Found(Path(sys.executable), "here")


def test_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMOVAR_TEST_TEAPOT", sys.executable)
    found = service(finders=(lambda: pytest.fail("looked further"),)).need()
    assert (found.path, found.origin) == (Path(sys.executable), "SAMOVAR_TEST_TEAPOT")


def test_a_wrong_wish_in_the_environment_is_not_second_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMOVAR_TEST_TEAPOT", "/nowhere/teapot")
    with pytest.raises(Missing, match="SAMOVAR_TEST_TEAPOT=/nowhere/teapot"):
        service(finders=(lambda: PYTHON,)).need()


def test_path_comes_before_the_finders_and_what_does_not_work_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "teapot"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert service(programs=("teapot",), finders=(lambda: PYTHON,)).need() == PYTHON
    broken.write_text("#!/bin/sh\nexit 0\n")
    assert service(programs=("teapot",), finders=(lambda: PYTHON,)).need().path == broken


def test_what_is_missing_fails_naming_the_command_that_helps() -> None:
    with pytest.raises(Missing, match=r"no teapot on this machine; run: \./dev prepare .* brew tea"):
        service().need()
    with pytest.raises(Missing, match=r"cannot bring teapot .* run: brew tea"):
        service().prepare()


def test_prepare_tries_the_installers_in_order_until_one_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    tried = []
    there: list[Found] = []

    def fails() -> None:
        tried.append("fails")
        raise OSError("no network")

    def does_nothing() -> None:
        tried.append("does nothing")

    def brings() -> None:
        tried.append("brings")
        there.append(PYTHON)

    brought = service(
        finders=(lambda: there[0] if there else None,),
        installers=(fails, does_nothing, brings, lambda: pytest.fail("went on")),
    ).prepare()
    assert brought == PYTHON
    assert tried == ["fails", "does nothing", "brings"]
    assert "teapot: no network" in capsys.readouterr().err


def test_the_command_line_shows_what_is_used(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    out = [f"--no-{each.name}" for each in SERVICES if request.config.getoption(f"--no-{each.name}")]
    assert main(["show", *out]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(SERVICES) - len(out)


def test_the_command_line_fails_with_the_way_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMOVAR_TEST_NGINX", "/nowhere/nginx")
    others = [f"--no-{each.name}" for each in SERVICES if each is not NGINX]
    assert main(["prepare", *others]) == 1
    assert "--no-nginx" in capsys.readouterr().err
    assert main(["prepare", *others, "--no-nginx"]) == 0


def test_nginx_starts_answers_and_ends(nginx: NginxStarter) -> None:
    port = free_port()
    server = nginx(bare_config(port, free_port(), server="location = /tea { return 200 earl-grey; }"), port)
    assert "syntax is ok" in server.check()
    assert accepts("127.0.0.1", port)
    server.stop()
    assert not accepts("127.0.0.1", port)


@SESSION_LOOP
async def test_the_browser_runs_scripts(page: Page) -> None:
    await page.set_content("<h1>tea</h1>")
    assert (
        await page.evaluate("document.querySelector('h1').textContent + EventSource.name") == "teaEventSource"
    )
