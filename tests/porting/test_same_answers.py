"""The same few lines on Quart and on Samovar give the same: each case is run on both, and what it returns compared.

What differs on purpose is left out of the cases; ``docs/how-to/from-quart.md`` has it.
"""

from __future__ import annotations

import datetime
import decimal
import importlib
import re
import uuid
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup
from werkzeug.datastructures import Authorization
from werkzeug.exceptions import NotFound
from werkzeug.http import COOP
from werkzeug.wrappers import Response as WSGIResponse

FOLDER = Path(__file__).parent
DAY = datetime.datetime(2020, 1, 2, 3, 4, 5)
HEADERS = (
    "content-type", "location", "set-cookie", "etag", "content-range", "vary", "allow", "last-modified", "retry-after",
    "x-one",
)  # fmt: skip


class Framework:
    """One of the two: its names as attributes, its modules by :meth:`core`."""

    def __init__(self, name: str) -> None:
        self.package = importlib.import_module(name)
        self.core_name = "quart" if name == "quart" else "samovar.core"
        self.App: Any = getattr(self.package, name.capitalize())
        self.Client: Any = getattr(self.core("testing"), f"{name.capitalize()}Client")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.package, name)

    def core(self, name: str) -> Any:
        """One of its modules."""
        return importlib.import_module(f"{self.core_name}.{name}")

    def app(self, **views: Any) -> Any:
        """An app with a view for each name, at ``/name``."""
        app = self.App("same", root_path=str(FOLDER))
        app.secret_key = "k"
        for name, view in views.items():
            app.add_url_rule(f"/{name}", name, view, methods=["GET", "POST", "PUT", "PATCH"])
        return app

    async def said(self, view: Any, app: Any = None, **request: Any) -> list[Any]:
        """What *view* answers."""
        app = app or self.app()
        app.add_url_rule("/x/<name>", "view", view, methods=["GET", "POST", "PUT", "PATCH"])
        return await told(await app.test_client().open("/x/y?a=1&a=2&b=%C3%BC", **request))


async def told(response: Any) -> list[Any]:
    """Status, the headers that are compared, and the body unless it is an error's page."""
    headers = {name: response.headers.getlist(name) for name in HEADERS if name in response.headers}
    headers["set-cookie"] = [re.sub(r"(?i)expires=[^;]*", "", one) for one in headers.get("set-cookie", [])]
    page = response.status_code >= 300
    return [response.status_code, headers, "" if page else (await response.get_data()).decode()]


Case = Callable[[Framework], Awaitable[Any]]
CASES: list[Case] = []


def case(function: Case) -> Case:
    CASES.append(function)
    return function


# --- requests -----------------------------------------------------------------------------------------------------

SAYS = """
    method path full_path url base_url root_url url_root root_path script_root host host_url scheme is_secure args
    query_string access_route authorization accept_charsets accept_encodings accept_languages accept_mimetypes
    cache_control if_match if_none_match if_modified_since if_unmodified_since if_range range date referrer origin
    pragma max_forwards mimetype mimetype_params content_type content_encoding content_md5
    access_control_request_headers access_control_request_method is_json http_version endpoint view_args blueprint
    blueprints routing_exception
    trusted_hosts cookies user_agent max_content_length max_form_memory_size max_form_parts
"""
SENT = {
    "Accept": "text/html;q=0.5, */*", "Accept-Charset": "utf-8", "Accept-Encoding": "gzip",
    "Accept-Language": "de, en;q=0.3",
    "Access-Control-Request-Headers": "x-a", "Access-Control-Request-Method": "PUT", "Authorization": "Bearer tea",
    "Cache-Control": "max-age=3, no-cache", "Content-Type": "application/json; charset=utf-8", "Cookie": "a=b; c=d e",
    "Date": "Wed, 21 Oct 2015 07:28:00 GMT", "If-Match": '"x"', "If-Modified-Since": "Wed, 21 Oct 2015 07:28:00 GMT",
    "If-None-Match": 'W/"y", "z"', "If-Range": '"t"', "If-Unmodified-Since": "Wed, 21 Oct 2015 07:28:00 GMT",
    "Max-Forwards": "5", "Origin": "http://o", "Pragma": "no-cache", "Range": "bytes=0-3", "Referer": "http://r/",
    "User-Agent": "kettle/1", "X-Forwarded-For": "1.1.1.1, 2.2.2.2",
}  # fmt: skip


@case
async def what_a_request_says(f: Framework) -> Any:
    seen: dict[str, str] = {}

    async def view(name: str) -> str:
        seen.update({one: repr(getattr(f.request, one)) for one in SAYS.split()})
        return ""

    await f.said(view, method="POST", headers=SENT, data=b"{}")
    return seen


@case
async def bodies(f: Framework) -> Any:
    async def again(name: str) -> str:
        return repr(
            [await f.request.get_data(), await f.request.data, await f.request.get_data(as_text=True)]
        )

    async def uncached(name: str) -> str:
        return repr([await f.request.get_data(cache=False), await f.request.get_data()])

    async def awaited(name: str) -> str:
        return repr([await f.request.body, [piece async for piece in f.request.body]])

    async def form_first(name: str) -> str:
        return repr([dict(await f.request.form), await f.request.get_data(), await f.request.data])

    async def data_first(name: str) -> str:
        return repr([await f.request.get_data(parse_form_data=True), dict(await f.request.form)])

    async def values(name: str) -> str:
        return repr(sorted((await f.request.values).items(multi=True)))

    views = (again, uncached, awaited, form_first, data_first, values)
    return [
        await f.said(view, method=method, form={"a": "3"})
        for view in views
        for method in ("POST", "PUT", "GET")
    ]


@case
async def json_bodies(f: Framework) -> Any:
    options: dict[str, bool] = {}

    async def view(name: str) -> Any:
        return repr([await f.request.get_json(**options), await f.request.get_data()])

    told = []
    for body in (b'{"a": [1]}', b"null", b"{", b"", b'"\\ud83d\\ude00"'):
        for kind in ("application/json", "application/vnd.tea+json"):
            for given in ({}, {"force": True}, {"silent": True}, {"force": True, "silent": True}):
                options.clear()
                options.update(given)
                told.append(await f.said(view, method="POST", data=body, headers={"Content-Type": kind}))
    return told


@case
async def uploads(f: Framework) -> Any:
    FileStorage = f.core("datastructures").FileStorage

    async def view(name: str) -> Any:
        file = (await f.request.files)["f"]
        about = [
            file.filename,
            file.name,
            file.content_type,
            file.mimetype,
            file.mimetype_params,
            file.read().decode(),
        ]
        return [*about, dict(await f.request.form)]

    file = FileStorage(BytesIO(b"leaf"), filename="a.txt", content_type="text/plain; charset=x")
    return await f.said(view, method="POST", form={"a": "1"}, files={"f": file})


@case
async def limits(f: Framework) -> Any:
    app = f.app()
    app.config["MAX_CONTENT_LENGTH"] = 4

    async def view(name: str) -> Any:
        return await f.request.get_data()

    async def missing(name: str) -> str:
        return str((await f.request.form)["nowhere"])

    return [
        await f.said(view, app, method="POST", data=b"12345"),
        await f.said(missing, method="POST", form={"a": "1"}),
    ]


# --- responses ----------------------------------------------------------------------------------------------------


@case
async def what_views_return(f: Framework) -> Any:
    async def pieces() -> Any:
        yield b"a"
        yield "b"

    returned: list[Callable[[], Any]] = [
        lambda: "text", lambda: b"bytes", lambda: {"b": 1, "a": 2}, lambda: [1], lambda: ("a", 201),
        lambda: ("a", {"X-One": "1"}), lambda: ("a", 201, {"X-One": "1"}),
        lambda: ("a", [("Allow", "1"), ("Allow", "2")]),
        lambda: ("a", HTTPStatus.CREATED), lambda: None, lambda: 3, lambda: {1}, lambda: (), lambda: ("a", 1, {}, 2),
        lambda: (None, 200), lambda: f.Response("r", 202), lambda: WSGIResponse("w", 203, {"Allow": "q"}),
        lambda: NotFound(),
        lambda: (WSGIResponse("w"), 201), lambda: ({"a": 1}, 201), lambda: Markup("<b>"),
        lambda: ("a", {"Content-Type": "text/plain"}),
        lambda: ({"a": 1}, {"Content-Type": "x/y"}), lambda: ("", 204), lambda: ("", 304), lambda: pieces(),
        lambda: (pieces(), 201, {"Content-Type": "text/plain"}), lambda: (piece for piece in ("x", b"y")),
    ]  # fmt: skip

    told = []
    for make in returned:

        async def view(name: str, make: Any = make) -> Any:
            return make()

        told.append(await f.said(view))
    return told


@case
async def generators_as_views(f: Framework) -> Any:
    async def view(name: str) -> Any:
        yield name
        yield b"!"

    def plain(name: str) -> Any:
        yield name
        yield b"!"

    return [await f.said(view), await f.said(plain)]


@case
async def made_responses(f: Framework) -> Any:
    told: list[Any] = []

    async def view(name: str) -> str:
        for made in (
            await f.make_response(), await f.make_response("a"), await f.make_response("a", 201, {"X-One": "1"}),
            await f.make_response(("a", 202)), await f.make_response(f.jsonify(a=1)), f.Response("a", "404 Nope"),
            f.Response("a", mimetype="text/plain"), f.Response("a", content_type="x/y; a=b"), f.Response(b"a", 999),
            f.Response("a", 200, {"Content-Type": "q/w"}), f.Response("a", mimetype="application/xml"),
            f.Response(["a", b"b"]), f.Response("a", 200, [("A", "1"), ("A", "2")]),
        ):  # fmt: skip
            told.append([made.status, made.mimetype, made.content_type, made.mimetype_params, made.is_json])
            told.append(await made.get_data(as_text=True))
        return ""

    await f.said(view)
    return told


@case
async def headers_by_name(f: Framework) -> Any:
    async def view(name: str) -> Any:
        made = f.Response("a")
        for header, value in {
            "last_modified": DAY, "expires": DAY, "age": 5, "date": DAY, "location": "/é", "retry_after": 5,
            "accept_ranges": "bytes",
            "content_range": "bytes 0-1/2", "content_location": "/x", "access_control_allow_origin": "*",
            "access_control_allow_credentials": True, "access_control_allow_methods": ["GET"],
            "access_control_expose_headers": ["Y"], "access_control_max_age": 4, "content_encoding": "gzip",
            "content_md5": "x",
            "cross_origin_opener_policy": COOP.SAME_ORIGIN, "mimetype": "text/css",
        }.items():  # fmt: skip
            setattr(made, header, value)
        made.allow.add("GET")
        made.vary.add("A")
        made.content_language.add("de")
        made.cache_control.max_age = 3
        made.content_security_policy.default_src = "'self'"
        made.set_etag("q", weak=True)
        said = sorted((name.lower(), value) for name, value in made.headers if name != "Content-Length")
        made.status_code = 201
        made.status = "418 Tea"
        return [said, made.get_etag(), made.status, made.status_code, made.max_cookie_size]

    return await f.said(view)


@case
async def cookies(f: Framework) -> Any:
    async def view(name: str) -> Any:
        made = await f.make_response("x")
        made.set_cookie("k", "v")
        made.set_cookie(
            "l", "v;x é", max_age=5, path="/p", domain="e.com", secure=True, httponly=True, samesite="Lax",
            partitioned=True
        )  # fmt: skip
        made.set_cookie("m", expires=DAY)
        made.set_cookie("n", max_age=datetime.timedelta(hours=1))
        made.delete_cookie("o", path="/q", domain="d.com", secure=True, httponly=True, samesite="Strict")
        return made

    return await f.said(view)


@case
async def aborts_and_redirects(f: Framework) -> Any:
    ends: list[Callable[[], Any]] = [
        lambda: f.abort(404), lambda: f.abort(400, "why"), lambda: f.abort(f.Response("own", 409)),
        lambda: f.redirect("/a?b=c"),
        lambda: f.abort(404, response=f.Response("own", 409)), lambda: f.redirect("http://e.com/", 301),
        lambda: f.redirect("/", code=307),
    ]  # fmt: skip
    told = []
    for end in ends:

        async def view(name: str, end: Any = end) -> Any:
            return end()

        told.append(await f.said(view))
    return told


@case
async def jsonified(f: Framework) -> Any:
    rich = {
        "t": DAY,
        "d": DAY.date(),
        "u": uuid.UUID(int=1),
        "n": decimal.Decimal("1.50"),
        "m": Markup("<b>"),
        "ü": "ü",
    }
    made: list[Callable[[], Any]] = [
        lambda: f.jsonify(a=1, b=2), lambda: f.jsonify([1]), lambda: f.jsonify(1, 2), lambda: f.jsonify(),
        lambda: f.jsonify(None),
        lambda: f.jsonify(rich), lambda: f.jsonify({1: 2}), lambda: f.jsonify({1}), lambda: f.jsonify(1, a=2),
    ]  # fmt: skip
    told = []
    for make in made:

        async def view(name: str, make: Any = make) -> Any:
            return make()

        told.append(await f.said(view))
    return told


@case
async def conditions_and_ranges(f: Framework) -> Any:
    async def view(name: str) -> Any:
        made = await f.make_response("0123456789")
        made.set_etag("e")
        made.last_modified = DAY
        return await made.make_conditional(f.request, accept_ranges=True, complete_length=10)

    asked = [
        {}, {"If-None-Match": '"e"'}, {"If-None-Match": 'W/"e"'}, {"If-Match": '"e"'}, {"Range": "bytes=1-2"},
        {"Range": "bytes=2-"},
        {"Range": "bytes=0-99"}, {"If-Modified-Since": "Thu, 02 Jan 2020 03:04:05 GMT"},
    ]  # fmt: skip
    return [await f.said(view, headers=headers) for headers in asked]


@case
async def after_this_request_and_flashes(f: Framework) -> Any:
    async def say(name: str = "") -> str:
        async def mark(response: Any) -> Any:
            response.headers["X-One"] = "after"
            return response

        f.after_this_request(mark)
        await f.flash("one")
        await f.flash("two", "bad")
        return ""

    async def read() -> str:
        get = f.get_flashed_messages
        return repr([get(), get(with_categories=True), get(category_filter=["bad"]), get(True, ("bad",))])

    client = f.app(say=say, read=read).test_client()
    return [(await client.get(path)).status_code for path in ("/say",)] + [
        await (await client.get("/read")).get_data() for _ in range(2)
    ]


# --- templates, JSON, sessions ----------------------------------------------------------------------------------------


@case
async def templates(f: Framework) -> Any:
    app = f.app(home=lambda: "")
    app.context_processor(lambda: {"x": "from the processor"})
    app.template_filter("loud")(str.upper)
    app.template_test("odd2")(lambda n: n % 2 == 1)
    app.template_global("made")(lambda: "made")

    async def before() -> None:
        f.g.x = 5

    app.before_request(before)
    sources = [
        "{{ x }}", "{{ 'a'|loud }}{{ 3 is odd2 }}{{ made() }}", "{{ '<b>' }}{{ nowhere }}", "{{ d|tojson }}",
        "{{ name }}",
        "{{ request.path }}{{ g.x }}{{ config.DEBUG }}{{ url_for('home') }}{{ get_flashed_messages() }}",
        "{% for n in range(3) %}{{ n }}{% endfor %}",
    ]  # fmt: skip

    async def view(name: str) -> str:
        texts = [
            await f.render_template_string(source, name="<Ada>", d={"a": "<>", "t": DAY})
            for source in sources
        ]
        return "|".join(texts)

    async def streamed() -> Any:
        return await f.stream_template_string("{% for n in ns %}{{ n }}{% endfor %}{{ g.x }}", ns=[1, 2])

    app.add_url_rule("/streamed", "streamed", streamed)
    shown = [app.select_jinja_autoescape(name) for name in (None, "a.html", "a.txt", "a.svg", "a.xml")]
    client = app.test_client()
    return [(await f.said(view, app))[2], await told(await client.get("/streamed")), shown]


@case
async def json_providers(f: Framework) -> Any:
    provider = f.core("json.provider")

    class Own(provider.JSONProvider):  # type: ignore[name-defined,misc]  # found at run time
        def dumps(self, obj: Any, **kwargs: Any) -> str:
            return f"written {obj}"

        def loads(self, s: Any, **kwargs: Any) -> Any:
            return f"read {s if isinstance(s, str) else s.decode()}"

    class Other(provider.DefaultJSONProvider):  # type: ignore[name-defined,misc]
        sort_keys = ensure_ascii = compact = False
        mimetype = "application/x-json"

        @staticmethod
        def default(obj: Any) -> Any:
            return sorted(obj) if isinstance(obj, set) else provider.DefaultJSONProvider.default(obj)

    async def view(name: str) -> Any:
        return {"b": {3, 1}, "a": "é", "u": uuid.UUID(int=1)}

    async def read(name: str) -> Any:
        return await f.request.get_json(force=True)

    told = []
    for kind, one in ((Own, view), (Own, read), (Other, view)):
        app = f.app()
        app.json = kind(app)
        told.append(await f.said(one, app, method="POST", data=b"{}"))
    return told


@case
async def sessions(f: Framework) -> Any:
    async def put() -> str:
        f.session["a"] = (1, b"x", Markup("<"), uuid.UUID(int=3))
        return ""

    async def keep() -> str:
        f.session.permanent = True
        f.session.setdefault("l", []).append(1)
        return ""

    async def change() -> str:
        f.session["l"].append(2)
        f.session.modified = True
        return ""

    async def look() -> str:
        return repr(sorted(f.session.items()))

    async def drop() -> str:
        f.session.clear()
        return ""

    app = f.app(put=put, keep=keep, change=change, look=look, drop=drop)
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    client, seen = app.test_client(), []
    for path in ("/look", "/put", "/look", "/keep", "/change", "/look", "/drop", "/look"):
        response = await client.get(path)
        sets = [re.sub(r"=[^;]+", "=x", one, count=1) for one in response.headers.getlist("set-cookie")]
        sets = [re.sub(r"(?i)expires=[^;]*", "", one) for one in sets]
        seen.append([path, await response.get_data(), sets])
    async with client.session_transaction() as session:
        session["b"] = 1
    return [*seen, await (await client.get("/look")).get_data(), (await client.get("/put")).status_code]


@case
async def cookies_of_sessions_are_read_by_both(f: Framework) -> Any:
    """Signed by either, with the same key."""

    async def look() -> str:
        return repr(dict(f.session))

    told = []
    for name in ("quart", "samovar"):
        other = Framework(name)
        signer = other.core("sessions").SecureCookieSessionInterface().get_signing_serializer(other.app())
        cookie = signer.dumps({"a": (1, DAY.replace(tzinfo=datetime.UTC)), " t": b"x"})
        response = await f.app(look=look).test_client().get("/look", headers={"Cookie": f"session={cookie}"})
        told.append(await response.get_data())
    return told


# --- signals and tests ------------------------------------------------------------------------------------------------

SIGNALS = """
    appcontext_pushed request_started before_render_template template_rendered message_flashed got_request_exception
    request_finished request_tearing_down appcontext_tearing_down appcontext_popped
    websocket_started websocket_received websocket_sent websocket_finished websocket_tearing_down
    got_websocket_exception
"""


@case
async def signals(f: Framework) -> Any:
    async def fine() -> Any:
        await f.flash("m", "c")
        return await f.render_template_string("x")

    async def broken() -> str:
        raise LookupError

    async def echo() -> None:
        await f.websocket.send(await f.websocket.receive())

    app = f.app(fine=fine, broken=broken)
    app.add_websocket("/echo", "echo", echo)
    heard: list[Any] = []
    receivers = []
    for name in SIGNALS.split():

        async def receiver(sender: Any, name: str = name, **about: Any) -> None:
            heard.append([name, sender is app, sorted(one for one in about if not one.startswith("_"))])

        receivers.append(receiver)
        getattr(f.core("signals"), name).connect(receiver, app)
    client = app.test_client()
    for path in ("/fine", "/broken", "/nowhere"):
        await client.get(path)
    async with client.websocket("/echo") as ws:
        await ws.send("x")
        await ws.receive()
        with pytest.raises(f.core("testing.connections").WebsocketDisconnectError):
            await ws.receive()
    return heard


@case
async def the_client(f: Framework) -> Any:
    async def echo() -> Any:
        r = f.request
        return [r.method, r.url, r.scheme, r.http_version, r.headers.get("x-one"), repr(r.authorization),
                (await r.get_data()).decode(), r.content_type]  # fmt: skip

    async def there() -> Any:
        f.session["seen"] = 1
        return f.redirect("/back")

    async def back() -> Any:
        return dict(f.session)

    app = f.app(echo=echo, there=there, back=back)
    client = app.test_client()
    asked: list[dict[str, Any]] = [
        {}, {"query_string": {"a": [1, 2], "b": "é"}}, {"method": "POST", "json": {"a": 1}},
        {"method": "POST", "json": None},
        {"method": "POST", "form": {"a": "1"}}, {"method": "PUT", "data": "é"}, {"headers": {"X-One": "1"}},
        {"scheme": "https"},
        {"http_version": "2"}, {"auth": ("u", "p")}, {"auth": Authorization("bearer", token="t")}, {"subdomain": "s"},
        {"headers": [("X-One", "1")]},
    ]  # fmt: skip
    told = [await (await client.open("/echo", **one)).get_json() for one in asked]
    told.append([(await client.get("/there")).status_code])
    told.append(await (await client.get("/there", follow_redirects=True)).get_json())
    async with client:
        await client.get("/there", follow_redirects=True)
        told.append([f.request.path, dict(f.session)])
    client.set_cookie("localhost", "z", "9")
    client.delete_cookie("localhost", "z")
    for wrong in ({"json": 1, "data": b"x"}, {"query_string": {"a": "1"}}):
        with pytest.raises(ValueError):
            await client.post("/echo?b=1", **wrong)
    return told


@case
async def connections(f: Framework) -> Any:
    testing = f.core("testing")

    async def count() -> Any:
        async def pieces() -> Any:
            for n in range(3):
                yield str(n)

        return pieces(), 201, {"X-One": "1"}

    async def echo() -> None:
        await f.websocket.accept(subprotocol="b")
        while True:
            await f.websocket.send(await f.websocket.receive())

    async def refuse() -> Any:
        return "no", 401

    async def leave() -> None:
        await f.websocket.accept()
        await f.websocket.close(4001, "bye")

    app = f.app(count=count)
    for view in (echo, refuse, leave):
        app.add_websocket(f"/{view.__name__}", view.__name__, view)
    client, told = app.test_client(), []
    async with client.request("/count") as connection:
        await connection.send_complete()
        first = await connection.receive()
        told.append([first, connection.status_code, connection.headers["x-one"]])
    response = await connection.as_response()
    told.append([response.status_code, await response.get_data()])
    async with client.websocket("/echo", subprotocols=["a", "b"]) as ws:
        await ws.send("t")
        await ws.send(b"b")
        await ws.send_json([1])
        told.append([await ws.receive(), await ws.receive(), await ws.receive_json()])
        await ws.close(1000)
    with pytest.raises(testing.WebsocketResponseError) as refused:
        async with client.websocket("/refuse") as ws:
            await ws.receive()
    told.append([refused.value.response.status_code, await refused.value.response.get_data()])
    with pytest.raises(f.core("testing.connections").WebsocketDisconnectError):
        async with client.websocket("/leave") as ws:
            await ws.receive()
    return told


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_both_say_the_same(case: Case) -> None:
    said = await case(Framework("samovar"))
    assert said == await case(Framework("quart"))
