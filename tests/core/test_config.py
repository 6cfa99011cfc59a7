"""Settings: from objects, files and the environment; and the page that lists them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from samovar import Config, Samovar
from samovar.core.config import DEFAULTS, SETTINGS, page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "config.md"


class Settings:
    SECRET_KEY = "object"
    lower = "ignored"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(tmp_path, {"DEBUG": False})


def test_from_object_takes_upper_case(config: Config) -> None:
    config.from_object(Settings)
    assert config["SECRET_KEY"] == "object" and "lower" not in config
    config.from_object(f"{__name__}.Settings")
    config.from_object(f"{__name__}:Settings")
    with pytest.raises(ImportError):
        config.from_object(f"{__name__}.Nothing")
    with pytest.raises(ImportError):
        config.from_object("no_such_module.Settings")


def test_from_pyfile_and_envvar(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.cfg").write_text("A = 1 + 1\nb = 2\n")
    assert config.from_pyfile("c.cfg") and config["A"] == 2 and "b" not in config
    assert not config.from_pyfile("none.cfg", silent=True)
    with pytest.raises(FileNotFoundError, match="configuration file"):
        config.from_pyfile("none.cfg")
    with pytest.raises(RuntimeError, match="'CONF' is not set"):
        config.from_envvar("CONF")
    assert not config.from_envvar("CONF", silent=True)
    monkeypatch.setenv("CONF", str(tmp_path / "c.cfg"))
    assert config.from_envvar("CONF")


def test_from_file(config: Config, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"A": 1, "b": 2}')
    (tmp_path / "c.toml").write_text("T = 3")
    assert config.from_file("c.json", json.load) and config["A"] == 1 and "b" not in config
    assert config.from_file("c.toml", tomllib.load, text=False) and config["T"] == 3
    assert not config.from_file("none", json.load, silent=True)
    with pytest.raises(FileNotFoundError):
        config.from_file("none", json.load)


def test_from_mapping(config: Config) -> None:
    config.from_mapping({"A": 1, "b": 2}, C=3)
    assert (config["A"], config["C"], "b" in config) == (1, 3, False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("true", True),
        ("text", "text"),
        ('{"a": 1}', {"a": 1}),
        ("redis://x", "redis://x"),
        ("", ""),
    ],
)
def test_from_prefixed_env(config: Config, monkeypatch: pytest.MonkeyPatch, text: str, value: Any) -> None:
    monkeypatch.setenv("SAMOVAR_ONE", text)
    monkeypatch.setenv("SAMOVAR_DEEP__IN__IT", text)
    monkeypatch.setenv("OTHER_X", text)
    config.from_prefixed_env()
    assert config["ONE"] == value and config["DEEP"]["IN"]["IT"] == value and "X" not in config


def test_get_namespace(config: Config) -> None:
    config.from_mapping(DB_HOST="h", DB_PORT=1)
    assert config.get_namespace("DB_") == {"host": "h", "port": 1}
    assert config.get_namespace("DB_", lowercase=False, trim_namespace=False) == {
        "DB_HOST": "h",
        "DB_PORT": 1,
    }


def test_secrets_are_not_in_its_repr(config: Config) -> None:
    config["SECRET_KEY"] = "very secret"
    assert "very secret" not in repr(config)


def test_an_app_starts_with_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAMOVAR_DEBUG", raising=False)
    assert dict(Samovar(__name__).config) == {**DEFAULTS, "DEBUG": False}
    monkeypatch.setenv("SAMOVAR_DEBUG", "1")
    assert Samovar(__name__).debug is True


@pytest.mark.parametrize(
    ("flag", "on"),
    [(flag, False) for flag in ("", "0", "false", "False", "no", "NO", "off", " off ", "null")]
    + [(flag, True) for flag in ("1", "true", "yes", "on", "please")],
)
def test_debug_is_one_flag_wherever_it_is_read(monkeypatch: pytest.MonkeyPatch, flag: str, on: bool) -> None:
    monkeypatch.setenv("SAMOVAR_DEBUG", flag)
    app = Samovar(__name__)
    assert app.debug is on and app.config["DEBUG"] is on
    app.config.from_prefixed_env()
    assert app.debug is on and app.config["DEBUG"] is on
    app.config["DEBUG"] = flag
    assert app.debug is on


def test_switches_are_read_like_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMOVAR_TESTING", "no")
    monkeypatch.setenv("SAMOVAR_SESSION_COOKIE_SECURE", "on")
    monkeypatch.setenv("SAMOVAR_SESSION_COOKIE_SAMESITE", "no")
    app = Samovar(__name__)
    app.config.from_prefixed_env()
    assert app.testing is False and app.config["SESSION_COOKIE_SECURE"] is True
    assert app.config["SESSION_COOKIE_SAMESITE"] == "no"


def test_pairs_will_do_for_a_mapping(config: Config) -> None:
    assert config.from_mapping([("A", 1), ("b", 2)], C=3)
    assert (config["A"], config["C"], "b" in config) == (1, 3, False)


def test_an_app_s_config_may_be_of_another_class_with_other_defaults(tmp_path: Path) -> None:
    class Mine(Config):
        pass

    class App(Samovar):
        config_class = Mine
        default_config: ClassVar[Mapping[str, Any]] = {
            **Samovar.default_config,
            "TEA": "assam",
            "DEBUG": True,
        }
        asked: ClassVar[list[bool]] = []

        def make_config(self, instance_relative: bool = False) -> Config:
            self.asked.append(instance_relative)
            return super().make_config(instance_relative)

    app = App(__name__, instance_path=tmp_path, instance_relative_config=True, root_path="/")
    assert type(app.config) is Mine and app.config.root_path == str(tmp_path) and App.asked == [True]
    assert app.config["TEA"] == "assam" and app.config["DEBUG"] is False  # the environment says so


def test_names_are_there_once() -> None:
    assert len(DEFAULTS) == len(SETTINGS)


def test_every_setting_has_a_meaning_and_numbers_a_unit() -> None:
    for setting in SETTINGS:
        assert setting.meaning.endswith(".") and setting.name.isupper(), setting
        is_number = isinstance(setting.default, int | float) and not isinstance(setting.default, bool)
        assert not is_number or setting.unit, setting


def test_the_page_of_settings_is_this_table() -> None:
    write = "from samovar.core.config import page; print(page(), end='')"
    assert PAGE.read_text() == page(), f'run: python -c "{write}" > docs/reference/config.md'
