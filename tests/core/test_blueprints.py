"""Blueprints: prefixes, names, hooks of their own and of the app, nesting, files and templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from samovar import Blueprint, Response, Samovar, long_poll, render_template, request, url_for
from samovar.core.blueprints import BlueprintSetupState
from samovar.errors import InvalidRule


@pytest.fixture
def app() -> Samovar:
    return Samovar(__name__, static_folder=None)


async def get(app: Samovar, path: str) -> str:
    return await (await app.test_client().get(path)).get_data(as_text=True)


async def test_prefix_name_and_relative_urls(app: Samovar) -> None:
    blueprint = Blueprint("bp", __name__, url_prefix="/bp/")

    @blueprint.get("/one")
    async def one() -> Any:
        return [request.endpoint, request.blueprint, url_for(".two"), url_for("bp.one")]

    blueprint.add_url_rule("/two", "two", lambda: "two")
    app.register_blueprint(blueprint)
    response = await app.test_client().get("/bp/one")
    assert await response.get_json() == ["bp.one", "bp", "/bp/two", "/bp/one"]


async def test_hooks_are_the_blueprints_own_and_app_hooks_everybodys(app: Samovar) -> None:
    log: list[str] = []
    blueprint = Blueprint("bp", __name__, url_prefix="/bp")
    blueprint.before_request(lambda: log.append("own before"))
    blueprint.before_app_request(lambda: log.append("app before"))

    @blueprint.after_request
    async def after(response: Response) -> Response:
        log.append("own after")
        return response

    @blueprint.after_app_request
    async def after_app(response: Response) -> Response:
        log.append("app after")
        return response

    @blueprint.teardown_request
    async def teardown(error: Any) -> None:
        log.append("own teardown")

    blueprint.add_url_rule("/", "index", lambda: "")
    app.add_url_rule("/", "index", lambda: "")
    app.register_blueprint(blueprint)
    await get(app, "/bp/")
    assert log == ["app before", "own before", "own after", "app after", "own teardown"]
    log.clear()
    await get(app, "/")
    assert log == ["app before", "app after"]


async def test_nested_blueprints_join_prefixes_names_and_hooks(app: Samovar) -> None:
    log: list[str] = []
    outer = Blueprint("outer", __name__, url_prefix="/outer")
    inner = Blueprint("inner", __name__, url_prefix="/inner")
    outer.before_request(lambda: log.append("outer"))
    inner.before_request(lambda: log.append("inner"))
    outer.errorhandler(404)(lambda error: ("outer 404", 404))

    @inner.get("/<what>")
    async def view(what: str) -> Any:
        if what == "x":
            from samovar import abort

            abort(404)
        return request.blueprints

    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    assert await get(app, "/outer/inner/a") == '["outer.inner","outer"]\n'
    assert log == ["outer", "inner"]
    assert await get(app, "/outer/inner/x") == "outer 404"


async def test_registered_twice_under_two_names(app: Samovar) -> None:
    blueprint = Blueprint("bp", __name__)
    blueprint.add_url_rule("/", "index", lambda: request.endpoint)
    app.register_blueprint(blueprint, url_prefix="/a")
    with pytest.raises(ValueError, match="taken by this one already"):
        app.register_blueprint(blueprint, url_prefix="/b")
    app.register_blueprint(blueprint, url_prefix="/b", name="again")
    assert (await get(app, "/a/"), await get(app, "/b/")) == ("bp.index", "again.index")


async def test_url_defaults_and_record_once(app: Samovar) -> None:
    seen: list[str] = []
    blueprint = Blueprint("bp", __name__, url_defaults={"lang": "en"})
    blueprint.record_once(lambda state: seen.append(state.full_name))

    @blueprint.get("/hello")
    async def hello(lang: str) -> str:
        return lang

    app.register_blueprint(blueprint)
    app.register_blueprint(blueprint, name="de", url_prefix="/de", url_defaults={"lang": "de"})
    assert (await get(app, "/hello"), await get(app, "/de/hello")) == ("en", "de")
    assert seen == ["bp"]


async def test_every_app_gets_what_a_blueprint_says_once() -> None:
    """As where tests build the app anew by its factory, and the blueprint lives in a module."""
    blueprint = Blueprint("bp", __name__)
    seen: list[Any] = []
    blueprint.record_once(lambda state: seen.append(state.first_registration))
    blueprint.before_app_request(lambda: seen.append("before"))
    blueprint.app_errorhandler(404)(lambda error: ("mine", 404))
    blueprint.app_template_filter()(str.upper)
    blueprint.add_url_rule("/", "index", lambda: "x")
    for _ in range(2):
        app = Samovar(__name__, static_folder=None)
        app.register_blueprint(blueprint)
        app.register_blueprint(blueprint, name="again", url_prefix="/again")
        assert await get(app, "/nowhere") == "mine"
        assert "upper" in app.jinja_env.filters
    assert seen == [True, "before"] * 2


def test_template_tools_of_a_blueprint_need_no_parentheses(app: Samovar) -> None:
    blueprint = Blueprint("bp", __name__)

    @blueprint.app_template_filter
    def shout(text: str) -> str:
        return text.upper()

    @blueprint.app_template_test("loud")
    def is_loud(text: str) -> bool:
        return text.isupper()

    @blueprint.app_template_global
    def greeting() -> str:
        return shout("hi")

    app.register_blueprint(blueprint)
    environment = app.jinja_env
    assert environment.filters["shout"] is shout and environment.tests["loud"] is is_loud
    assert environment.globals["greeting"] is greeting


def test_the_state_of_a_registration_may_be_replaced(app: Samovar) -> None:
    added: list[tuple[str, str]] = []

    class State(BlueprintSetupState):
        def add_url_rule(
            self, rule: str, endpoint: Any = None, view_func: Any = None, **options: Any
        ) -> None:
            added.append((rule, self.full_name))
            super().add_url_rule(rule, endpoint, view_func, **options)

    class Mine(Blueprint):
        def make_setup_state(
            self, app: Samovar, options: dict[str, Any], first_registration: bool = False
        ) -> BlueprintSetupState:
            return State(self, app, options, first_registration)

    outer, inner = Mine("outer", __name__, url_prefix="/o"), Mine("inner", __name__)
    inner.add_url_rule("/in", "index", lambda: "x")
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    assert added == [("/in", "outer.inner")]


async def test_an_option_that_is_none_is_the_blueprint_s_own() -> None:
    app = Samovar(__name__, static_folder=None)
    blueprint = Blueprint("bp", __name__, url_prefix="/own", url_defaults={"tea": "assam"})
    blueprint.add_url_rule("/", "index", lambda tea: tea)
    app.register_blueprint(blueprint, url_prefix=None, subdomain=None, url_defaults=None)
    assert await get(app, "/own/") == "assam"


async def test_a_blueprint_may_have_the_view_of_an_endpoint(app: Samovar) -> None:
    blueprint = Blueprint("bp", __name__, url_prefix="/bp")
    blueprint.endpoint("tea")(lambda: request.endpoint or "")
    blueprint.add_url_rule("/tea", "tea")
    app.add_url_rule("/tea", "tea")
    app.register_blueprint(blueprint)
    assert (await get(app, "/tea"), await get(app, "/bp/tea")) == ("tea", "bp.tea")


async def test_subdomains_of_nested_blueprints_are_joined() -> None:
    app = Samovar(__name__, subdomain_matching=True, static_folder=None)
    app.config["SERVER_NAME"] = "example.com"
    outer, inner = Blueprint("api", __name__, subdomain="api"), Blueprint("v1", __name__, subdomain="v1")
    for blueprint in (outer, inner):
        blueprint.add_url_rule("/", "index", lambda: request.blueprint or "")
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    client = app.test_client()
    for host, name in (("api.example.com", b"api"), ("v1.api.example.com", b"api.v1")):
        assert await (await client.get("/", headers={"host": host})).get_data() == name


async def test_files_and_templates(tmp_path: Path, app: Samovar) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "a.txt").write_text("asset")
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "page.html").write_text("page {{ extra }}")
    blueprint = Blueprint(
        "bp", __name__, static_folder="assets", template_folder="pages", url_prefix="/bp", root_path=tmp_path
    )
    blueprint.context_processor(lambda: {"extra": "bp"})
    blueprint.app_context_processor(lambda: {"extra": "app"})

    @blueprint.get("/")
    @app.get("/")
    async def index() -> str:
        return await render_template("page.html")

    app.register_blueprint(blueprint)
    assert await get(app, "/bp/assets/a.txt") == "asset"
    assert (await get(app, "/bp/"), await get(app, "/")) == ("page bp", "page app")


@pytest.mark.parametrize("name", ["", "a.b"])
def test_names_have_no_dot_and_are_not_empty(name: str) -> None:
    with pytest.raises(ValueError, match="blueprint's name"):
        Blueprint(name, __name__)


def test_an_endpoint_has_no_dot() -> None:
    def view() -> str:
        return ""

    view.__name__ = "a.b"
    with pytest.raises(ValueError, match=r"'a\.b'"):
        Blueprint("bp", __name__).add_url_rule("/", view_func=view)
    with pytest.raises(ValueError, match=r"'c\.d'"):
        Blueprint("bp", __name__).add_url_rule("/", "c.d", view)


def test_registering_on_a_registered_blueprint_is_an_error(app: Samovar) -> None:
    blueprint = Blueprint("bp", __name__)
    app.register_blueprint(blueprint)
    with pytest.raises(AssertionError, match="after it was registered"):
        blueprint.get("/")(lambda: "")
    with pytest.raises(ValueError, match="on itself"):
        other = Blueprint("o", __name__)
        other.register_blueprint(other)


async def test_serving_hooks_and_template_tools_of_a_blueprint(app: Samovar) -> None:
    log: list[str] = []
    blueprint = Blueprint("bp", __name__)
    blueprint.before_app_serving(lambda: log.append("before"))
    blueprint.after_app_serving(lambda: log.append("after"))
    blueprint.app_template_filter("shout")(lambda text: text.upper())
    blueprint.app_template_global()(lambda: "unused")
    blueprint.app_errorhandler(404)(lambda error: ("mine", 404))
    app.register_blueprint(blueprint)
    async with app.test_app():
        pass
    assert log == ["before", "after"]
    assert app.jinja_env.filters["shout"]("a") == "A"
    assert await get(app, "/nowhere") == "mine"


async def test_channels_of_a_blueprint_have_their_own_names_on_every_app() -> None:
    blueprint = Blueprint("bp", __name__, url_prefix="/bp")

    @blueprint.channel("room/<name>", history=5)
    def may_join(name: str) -> bool:
        return name == "open"

    blueprint.add_channel("news", public=True)
    with pytest.raises(InvalidRule, match="no option histroy="):
        blueprint.channel("x", histroy=1)

    @blueprint.get("/<name>")
    async def poll(name: str) -> Response:
        return await long_poll(f"room/{name}", timeout=0)

    for _ in range(2):
        app = Samovar(__name__, static_folder=None)
        app.register_blueprint(blueprint)
        app.register_blueprint(blueprint, name="again", url_prefix="/again")
        assert [rule.pattern for rule in app.channels.declared] == ["room/<name>", "news"]
        assert app.channels.declared[0].history == 5 and app.channels.declared[1].public
        client = app.test_client()
        assert (await client.get("/bp/open")).status_code == 200
        assert (await client.get("/again/closed")).status_code == 403
