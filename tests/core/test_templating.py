"""Templates: found, escaped, with their standard names, whole or piece by piece."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateNotFound

from samovar import (
    Samovar,
    before_render_template,
    flash,
    g,
    get_template_attribute,
    render_template,
    render_template_string,
    session,
    stream_template_string,
    template_rendered,
)

from .wire import Wire


@pytest.fixture
def app(tmp_path: Path) -> Samovar:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "a.html").write_text("{{ x }}{% macro hi(n) %}hi {{ n }}{% endmacro %}")
    (tmp_path / "templates" / "a.txt").write_text("{{ x }}")
    app = Samovar(__name__, root_path=tmp_path)
    app.secret_key = "k"
    return app


async def test_files_are_escaped_by_their_names(app: Samovar) -> None:
    async with app.test_request_context("/"):
        assert await render_template("a.html", x="<") == "&lt;"
        assert await render_template("a.txt", x="<") == "<"
        assert await render_template(["none.html", "a.html"], x=1) == "1"
        with pytest.raises(TemplateNotFound):
            await render_template("none.html")


async def test_the_standard_names_are_there(app: Samovar) -> None:
    source = "{{ request.path }} {{ g.a }} {{ session.b }} {{ config.TESTING }} {{ url_for('static', filename='x') }} "
    async with app.test_request_context("/p"):
        g.a, session["b"] = "A", "B"
        await flash("F")
        text = await render_template_string(source + "{{ get_flashed_messages()[0] }}")
    assert text == "/p A B False /static/x F"


async def test_templates_call_async_functions(app: Samovar) -> None:
    @app.template_global
    async def load(name: str) -> str:
        return name.upper()

    async with app.app_context():
        assert (
            await render_template_string("{{ load('a') }}{% for x in [1, 2] %}{{ x }}{% endfor %}") == "A12"
        )


async def test_context_processors_may_be_async_and_give_way(app: Samovar) -> None:
    @app.context_processor
    async def names() -> dict[str, Any]:
        return {"a": "processor", "b": "processor"}

    async with app.app_context():
        assert await render_template_string("{{ a }} {{ b }}", a="given") == "given processor"


async def test_filters_and_tests(app: Samovar) -> None:
    @app.template_filter()
    def shout(text: str) -> str:
        return text.upper()

    @app.template_test("even")
    def is_even(number: int) -> bool:
        return number % 2 == 0

    async with app.app_context():
        assert await render_template_string("{{ 'a'|shout }} {{ 2 is even }}") == "A True"


async def test_signals_come_before_and_after(app: Samovar) -> None:
    seen: list[str] = []

    async def before(sender: Any, **extra: Any) -> None:
        seen.append(f"before {extra['context']['x']}")

    def after(sender: Any, **extra: Any) -> None:
        seen.append(f"after {extra['template'].name}")

    with before_render_template.connected_to(before), template_rendered.connected_to(after):
        async with app.app_context():
            await render_template("a.html", x=1)
    assert seen == ["before 1", "after a.html"]


async def test_streamed_templates(app: Samovar) -> None:
    @app.get("/")
    async def index() -> Any:
        g.a = "A"
        return await stream_template_string("{% for x in [1, 2] %}{{ x }}{{ g.a }}{% endfor %}")

    wire = await Wire(app).run()
    assert wire.body == b"1A2A" and wire.complete and b"content-length" not in wire.headers


async def test_macros_are_usable_in_code(app: Samovar) -> None:
    async with app.app_context():
        hi = await get_template_attribute("a.html", "hi")
        assert await hi("x") == "hi x"
        with pytest.raises(AttributeError):
            await get_template_attribute("a.html", "nothing")


async def test_loading_is_explained(app: Samovar, caplog: pytest.LogCaptureFixture) -> None:
    app.config["EXPLAIN_TEMPLATE_LOADING"] = True
    caplog.set_level(logging.INFO, "samovar.templating")
    async with app.app_context():
        await render_template("a.txt")
    assert "'a.txt' is in" in caplog.text


async def test_templates_reload_in_debug(app: Samovar) -> None:
    assert app.jinja_env.auto_reload is False
    other = Samovar(__name__)
    other.debug = True
    assert other.jinja_env.auto_reload is True


async def test_names_added_later_are_seen_by_templates_loaded_before(app: Samovar) -> None:
    template = app.jinja_env.from_string("{{ tea }} {{ pot }} {{ cup }}", globals={"tea": "Keemun"})
    assert await template.render_async(cup=1) == "Keemun  1"
    app.jinja_env.globals.update(tea="Assam", pot="clay")
    assert await template.render_async(cup=2) == "Keemun clay 2"
    assert await template.render_async(tea="Oolong") == "Oolong clay "
