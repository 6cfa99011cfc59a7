"""The fast road gives what Werkzeug's own map gives, for every path, method and kind of rule."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import RequestRedirect, Rule, ValidationError
from werkzeug.routing.converters import BaseConverter

from samovar import Samovar, url_for
from samovar.core.routing import Route, Router, SamovarMap, SamovarRule

RULES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/", {}),
    ("/users", {}),
    ("/users", {"methods": ["POST"]}),
    ("/users/me", {}),
    ("/users/<int:id>", {}),
    ("/users/<name>", {"methods": ["PUT"]}),
    ("/users/<int:id>/posts/", {}),
    ("/users/<int:id>/posts/<slug>", {}),
    ("/users/<int:id>/posts/new", {"methods": ["POST"]}),
    ("/items/<int(min=5, max=50):id>", {}),
    ("/items/<int(fixed_digits=3):code>/x", {}),
    ("/signed/<int(signed=True):n>", {}),
    ("/float/<float:f>", {}),
    ("/uuid/<uuid:u>", {}),
    ("/any/<any(a, b, 'c d'):which>", {}),
    ("/files/<path:p>", {}),
    ("/files/<path:p>/edit", {}),
    ("/wiki/<path:p>/", {}),
    ("/img-<int:id>.png", {}),
    ("/<lang>/about", {}),
    ("/<string(length=2):lang>/<page>", {}),
    ("/lenient/", {"strict_slashes": False}),
    ("/lenient2", {"strict_slashes": False}),
    ("/lenient/<int:x>/", {"strict_slashes": False}),
    ("/branch/", {}),
    ("/<name>", {}),
    ("/pages/", {"defaults": {"page": 1}, "endpoint": "pages"}),
    ("/pages/<int:page>", {"endpoint": "pages"}),
    ("/default", {"defaults": {"a": 1}}),
    ("/old", {"redirect_to": "new"}),
    ("/alias", {"alias": True, "endpoint": "canonical"}),
    ("/canonical", {"endpoint": "canonical"}),
    ("/both", {}),
    ("/both", {"websocket": True, "methods": None}),
    ("/ws", {"websocket": True, "methods": ["GET"]}),
    ("/ws/<room>", {"websocket": True, "methods": ["GET"]}),
    ("/every", {"methods": None}),
    ("/every/<x>", {"methods": None}),
)

PARTS = (
    "", "users", "me", "7", "007", "-7", "٣", "1.5", "posts", "new", "x", "items", "6", "60", "123", "signed", "float",
    "uuid", "0e3d5a86-2f0f-4d4c-9a0b-0123456789ab", "any", "a", "c d", "files", "edit", "wiki", "img-12.png",
    "img-x.png", "en", "about", "lenient", "lenient2", "branch", "pages", "default", "old", "alias", "both", "ws",
    "every", "ü", "a\nb", "9" * 5000,
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "OPTIONS", "WHAT")


class Router2:
    """A router over its own copy of the rules, and Werkzeug's map over another."""

    def __init__(self, rules: tuple[tuple[str, dict[str, Any]], ...]) -> None:
        self.map = SamovarMap()
        self.reference = SamovarMap()
        for number, (rule, options) in enumerate(rules):
            options = {"methods": ["GET"], "endpoint": f"e{number}", **options}
            self.map.add(SamovarRule(rule, **options))
            self.reference.add(Rule(rule, **options))
        self.router = Router(self.map, True, lambda rule: Route(rule, None, ()))

    def ours(self, path: str, method: str, websocket: bool) -> Any:
        matcher = self.router.websocket if websocket else self.router.http
        assert matcher is not None
        found = matcher.match(path, method)
        if found is None:
            return self.outcome(self.map, path, method, websocket)
        route, values = found
        return str(route.rule), route.endpoint, dict(values or {})

    @staticmethod
    def outcome(url_map: SamovarMap, path: str, method: str, websocket: bool) -> Any:
        adapter = url_map.bind("example.com", default_method=method, path_info=path)
        try:
            rule, values = adapter.match(return_rule=True, websocket=websocket)
        except RequestRedirect as redirect:
            return "redirect", redirect.new_url
        except MethodNotAllowed as error:
            return 405, sorted(error.valid_methods or ())
        except HTTPException as error:
            return error.code
        return str(rule), rule.endpoint, dict(values)


def paths() -> list[str]:
    every = [f"/{part}" for part in PARTS]
    every += [f"/{first}/{second}" for first, second in itertools.product(PARTS, PARTS)]
    random.seed(7)
    every += ["/" + "/".join(random.choices(PARTS, k=random.randint(3, 6))) for _ in range(1200)]
    every += ["/users/5/posts/", "/users/5/posts", "/users//5", "/files/a/b/edit/", "/wiki/a/b", "/wiki/a/b/"]
    return every


def test_matches_as_werkzeug_does() -> None:
    two = Router2(RULES)
    different = [
        (path, method, websocket)
        for path in paths()
        for method in METHODS
        for websocket in (False, True)
        if two.ours(path, method, websocket) != two.outcome(two.reference, path, method, websocket)
    ]
    assert different == []


def test_the_order_of_rules_does_not_matter_more_than_it_does_for_werkzeug() -> None:
    shuffled = list(RULES)
    for seed in range(5):
        random.seed(seed)
        random.shuffle(shuffled)
        two = Router2(tuple(shuffled))
        for path in paths()[:1500:3]:
            assert two.ours(path, "GET", False) == two.outcome(two.reference, path, "GET", False), path


def test_most_hits_do_not_need_werkzeug() -> None:
    matcher = Router2(RULES).router.http
    assert matcher is not None
    for path in (
        "/",
        "/users",
        "/users/me",
        "/users/7",
        "/users/7/posts/",
        "/files/a/b",
        "/float/1.5",
        "/en/about",
    ):
        assert matcher.match(path, "GET") is not None, path


async def test_custom_converters_and_their_refusals() -> None:
    app = Samovar(__name__, static_folder=None)

    class Even(BaseConverter):
        regex = r"\d+"

        def to_python(self, value: str) -> int:
            if int(value) % 2:
                raise ValidationError
            return int(value)

    app.url_map.converters["even"] = Even

    @app.get("/even/<even:number>")
    async def even(number: int) -> str:
        return str(number)

    client = app.test_client()
    assert await (await client.get("/even/4")).get_data() == b"4"
    assert (await client.get("/even/5")).status_code == 404


@pytest.mark.parametrize(
    ("endpoint", "values", "url"),
    [
        ("user", {"id": 5}, "/users/5"),
        ("user", {"id": 5, "q": "a b"}, "/users/5?q=a+b"),
        ("user", {"id": 5, "_anchor": "top"}, "/users/5#top"),
        ("user", {"id": 5, "_external": True}, "http://localhost/users/5"),
        ("user", {"id": 5, "_scheme": "https"}, "https://localhost/users/5"),
        ("file", {"p": "a/ü b"}, "/files/a/%C3%BC%20b"),
        ("sock", {}, "ws://localhost/sock"),
        ("static", {"filename": "a.js"}, "/static/a.js"),
    ],
)
async def test_builds_urls(endpoint: str, values: dict[str, Any], url: str) -> None:
    app = Samovar(__name__)
    app.add_url_rule("/users/<int:id>", "user", lambda id: "")
    app.add_url_rule("/files/<path:p>", "file", lambda p: "")
    app.add_websocket("/sock", "sock", lambda: None)
    async with app.test_request_context("/"):
        assert url_for(endpoint, **values) == url


async def test_a_url_that_cannot_be_built_asks_the_handlers() -> None:
    app = Samovar(__name__)
    app.url_build_error_handlers.append(lambda error, endpoint, values: f"/other/{endpoint}")
    async with app.test_request_context("/"):
        assert url_for("nowhere") == "/other/nowhere"


def test_urls_outside_a_request_need_a_server_name() -> None:
    app = Samovar(__name__)
    with pytest.raises(RuntimeError, match="SERVER_NAME"):
        app.url_for("static", filename="x")
    app.config["SERVER_NAME"] = "example.com"
    assert app.url_for("static", filename="x") == "http://example.com/static/x"


async def test_hosts_and_subdomains_go_to_werkzeug() -> None:
    app = Samovar(__name__, host_matching=True, static_folder=None)

    @app.get("/", host="a.example")
    async def a() -> str:
        return "a"

    @app.get("/", host="b.example")
    async def b() -> str:
        return "b"

    client = app.test_client()
    assert await (await client.get("/", headers={"host": "b.example"})).get_data() == b"b"
    assert (await client.get("/", headers={"host": "c.example"})).status_code == 404


async def test_subdomains() -> None:
    app = Samovar(__name__, subdomain_matching=True, static_folder=None)
    app.config["SERVER_NAME"] = "example.com"

    @app.get("/", subdomain="<who>")
    async def index(who: str) -> str:
        return who

    client = app.test_client()
    assert await (await client.get("/", headers={"host": "ann.example.com"})).get_data() == b"ann"
    assert (await client.get("/", headers={"host": "other.net"})).status_code == 404


HOSTS = ("example.com", "foo.example.com", "other.net", "example.com:8000")


@pytest.mark.parametrize("host", HOSTS)
async def test_a_server_name_is_for_urls_and_keeps_no_host_out(host: str) -> None:
    """As Flask 3.1: SERVER_NAME alone restricts nothing, and is what external URLs have."""
    app = Samovar(__name__, static_folder=None)
    app.config["SERVER_NAME"] = "example.com"
    app.add_url_rule("/sub", "sub", lambda: "sub", subdomain="foo")

    @app.get("/")
    async def index() -> str:
        return f"{url_for('index', _external=True)} {url_for('sub', _external=True)}"

    answer = await app.test_client().get("/", headers={"host": host})
    assert await answer.get_data() == b"http://example.com/ http://foo.example.com/sub"


async def test_a_server_name_does_not_disturb_host_matching() -> None:
    app = Samovar(__name__, host_matching=True, static_folder=None)
    app.config["SERVER_NAME"] = "example.com"
    app.add_url_rule("/", "index", lambda who: f"{who} {url_for('index', who='b.org')}", host="<who>")
    answer = await app.test_client().get("/", headers={"host": "a.org"})
    assert await answer.get_data() == b"a.org http://b.org/"


async def test_a_map_of_one_s_own_binds_requests() -> None:
    class Mine(SamovarMap):
        def bind_to_request(self, request: Any, subdomain: Any, server_name: Any) -> Any:
            return super().bind_to_request(request, subdomain, "mine.example")

    class App(Samovar):
        url_map_class = Mine

    app = App(__name__, static_folder=None)
    app.add_url_rule("/", "index", lambda: url_for("index", _external=True))
    assert await (await app.test_client().get("/")).get_data() == b"http://mine.example/"


async def test_untrusted_hosts_are_refused() -> None:
    app = Samovar(__name__)
    app.config["TRUSTED_HOSTS"] = ["example.com", ".example.org"]
    app.add_url_rule("/", "index", lambda: "yes")
    client = app.test_client()
    assert (await client.get("/", headers={"host": "a.example.org"})).status_code == 200
    assert (await client.get("/", headers={"host": "evil.com"})).status_code == 400


async def test_a_path_for_the_other_kind_is_400() -> None:
    app = Samovar(__name__)
    app.add_websocket("/ws", "ws", lambda: None)
    assert (await app.test_client().get("/ws")).status_code == 400


async def test_mounted_apps_route_below_their_root_path() -> None:
    app = Samovar(__name__)

    @app.get("/here")
    async def here() -> str:
        return url_for("here")

    client = app.test_client()
    assert await (await client.get("/here", root_path="/mount")).get_data() == b"/mount/here"


def test_websocket_rules_take_no_other_methods() -> None:
    with pytest.raises(ValueError, match="takes no methods"):
        SamovarRule("/ws", websocket=True, methods=["POST"])
    app = Samovar(__name__, static_folder=None)
    with pytest.raises(ValueError, match="takes no methods"):
        app.add_url_rule("/ws", "ws", lambda: None, websocket=True, methods=["post"])


def test_rules_take_their_usual_options_by_place() -> None:
    rule = SamovarRule("/<x>", {"x": 1}, "sub", ["GET"], "endpoint", False)
    assert (rule.defaults, rule.subdomain, rule.endpoint, rule.strict_slashes) == (
        {"x": 1},
        "sub",
        "endpoint",
        False,
    )
