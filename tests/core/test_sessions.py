"""Sessions: opened when touched, signed, with old keys, and with the headers caches need."""

from __future__ import annotations

import hashlib
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from itsdangerous import TimedSerializer, URLSafeTimedSerializer
from markupsafe import Markup
from werkzeug.http import dump_cookie

from samovar import Samovar, flash, get_flashed_messages, session
from samovar.core.json.tag import JSONTag, TaggedJSONSerializer
from samovar.core.sessions import (
    NullSession,
    SecureCookieSession,
    SecureCookieSessionInterface,
    SessionInterface,
)


@pytest.fixture
def app() -> Samovar:
    app = Samovar(__name__, static_folder=None)
    app.secret_key = "key"

    @app.get("/set/<value>")
    async def put(value: str) -> str:
        session["value"] = value
        return ""

    @app.get("/get")
    async def get() -> str:
        return str(session.get("value"))

    @app.get("/clear")
    async def clear() -> str:
        session.clear()
        return ""

    app.add_url_rule("/none", "none", lambda: "")
    app.add_url_rule("/in", "in", lambda: str("value" in session))
    app.add_url_rule("/len", "len", lambda: str(len(session)))
    return app


async def test_a_session_comes_back(app: Samovar) -> None:
    client = app.test_client()
    response = await client.get("/set/x")
    assert response.headers["vary"] == "Cookie"
    assert "HttpOnly; Path=/" in response.headers["set-cookie"]
    assert await (await client.get("/get")).get_data() == b"x"


async def test_untouched_sessions_cost_nothing(app: Samovar, monkeypatch: pytest.MonkeyPatch) -> None:
    client = app.test_client()
    await client.get("/set/x")

    def fail(*args: Any) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(SecureCookieSessionInterface, "open_session_nowait", fail)
    headers = (await client.get("/none")).headers
    assert "vary" not in headers and "set-cookie" not in headers


@pytest.mark.parametrize("path", ["/get", "/in", "/len"])
async def test_looking_into_a_session_varies_by_cookie(app: Samovar, path: str) -> None:
    headers = (await app.test_client().get(path)).headers
    assert headers["vary"] == "Cookie" and "set-cookie" not in headers


async def test_an_emptied_session_deletes_the_cookie(app: Samovar) -> None:
    client = app.test_client()
    await client.get("/set/x")
    response = await client.get("/clear")
    assert "session=;" in response.headers["set-cookie"] and response.headers["vary"] == "Cookie"


@pytest.mark.parametrize("cookie", ["", "garbage", "a.b.c", "eyJ2YWx1ZSI6IngifQ.x.y", "\\", "\u00ff" * 10])
async def test_a_forged_cookie_is_an_empty_session(app: Samovar, cookie: str) -> None:
    response = await app.test_client().get("/get", headers={"cookie": f"session={cookie}"})
    assert await response.get_data() == b"None"


async def test_old_keys_are_read_and_the_new_one_signs(app: Samovar) -> None:
    client = app.test_client()
    await client.get("/set/x")
    app.secret_key = "new"
    assert await (await client.get("/get")).get_data() == b"None"
    app.config["SECRET_KEY_FALLBACKS"] = ["older", "key"]
    assert await (await client.get("/get")).get_data() == b"x"
    await client.get("/set/y")
    app.config["SECRET_KEY_FALLBACKS"] = None
    assert await (await client.get("/get")).get_data() == b"y"


async def test_without_a_key_it_reads_as_empty_and_refuses_to_be_written(app: Samovar) -> None:
    app.secret_key = None
    app.testing = True
    client = app.test_client()
    assert await (await client.get("/get")).get_data() == b"None"
    with pytest.raises(RuntimeError, match="secret key"):
        await client.get("/set/x")


async def test_a_permanent_session_is_renewed_when_used(app: Samovar) -> None:
    @app.get("/permanent")
    async def permanent() -> str:
        session.permanent = True
        return ""

    client = app.test_client()
    assert "Expires=" in (await client.get("/permanent")).headers["set-cookie"]
    assert "Expires=" in (await client.get("/get")).headers["set-cookie"]
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    assert "set-cookie" not in (await client.get("/get")).headers


async def test_an_expired_session_is_empty(app: Samovar) -> None:
    client = app.test_client()
    await client.get("/set/x")
    app.config["PERMANENT_SESSION_LIFETIME"] = timedelta(seconds=-1)
    assert await (await client.get("/get")).get_data() == b"None"


async def test_cookie_settings(app: Samovar) -> None:
    app.config.update(
        SESSION_COOKIE_NAME="s", SESSION_COOKIE_DOMAIN="example.com", SESSION_COOKIE_PATH="/p",
        SESSION_COOKIE_SECURE=True, SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_PARTITIONED=True,
    )  # fmt: skip
    cookie = (await app.test_client(use_cookies=False).get("/set/x")).headers["set-cookie"]
    assert cookie.startswith("s=")
    for part in ("Domain=example.com", "Path=/p", "Secure", "SameSite=Lax", "Partitioned", "HttpOnly"):
        assert part in cookie


async def test_the_cookie_is_safe_by_default(app: Samovar) -> None:
    cookie = (await app.test_client(use_cookies=False).get("/set/x")).headers["set-cookie"]
    assert cookie.split("; ")[1:] == ["HttpOnly", "Path=/", "SameSite=Lax"]


VALUES = {
    "tuple": (1, (2,)),
    "bytes": b"\x00\xff",
    "markup": Markup("<b>"),
    "uuid": uuid.UUID(int=5),
    "date": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "nested": {"a": [{"b": (None, True, 1.5)}]},
    "looks like a tag": {" t": [1]},
    "looks like the tag of tags": {" di": {" t": (1,)}},
    "text": "ü",
}


@pytest.mark.parametrize("name", VALUES)
def test_types_survive_the_cookie(name: str) -> None:
    serializer = TaggedJSONSerializer()
    value = serializer.loads(serializer.dumps({"x": VALUES[name]}))["x"]
    assert value == VALUES[name] and type(value) is type(VALUES[name])


class Point:
    def __init__(self, x: int, y: Any) -> None:
        self.x, self.y = x, y


class TagPoint(JSONTag):
    key = " p"

    def check(self, value: Any) -> bool:
        return isinstance(value, Point)

    def to_json(self, value: Any) -> Any:
        return self.serializer.tag([value.x, value.y])

    def to_python(self, value: Any) -> Any:
        return Point(*value)


class TagText(JSONTag):
    key = " s"

    def check(self, value: Any) -> bool:
        return isinstance(value, str)

    def to_json(self, value: Any) -> Any:
        return value[::-1]

    def to_python(self, value: Any) -> Any:
        return value[::-1]


def test_a_type_of_ones_own_gets_a_tag() -> None:
    serializer = TaggedJSONSerializer()
    serializer.register(TagPoint)
    text = serializer.dumps({"at": Point(1, (2, b"x")), "like": {" p": 1}})
    value = serializer.loads(text)
    assert (value["at"].x, value["at"].y, value["like"]) == (1, (2, b"x"), {" p": 1})


def test_a_tag_is_taken_once_and_has_its_place() -> None:
    serializer = TaggedJSONSerializer()
    serializer.register(TagPoint)
    with pytest.raises(KeyError, match="TagPoint"):
        serializer.register(TagPoint)
    serializer.register(TagText, index=0)
    assert isinstance(serializer.order[0], TagText)
    assert serializer.dumps(["ab", Markup("cd")]) == '[{" s":"ba"},{" s":"dc"}]'
    serializer.register(TagText, force=True)
    assert isinstance(serializer.order[-1], TagText) and serializer.tags[" s"] is serializer.order[-1]


def test_an_app_registers_a_tag_with_its_interface() -> None:
    class Interface(SecureCookieSessionInterface):
        serializer = TaggedJSONSerializer()

    app = Samovar(__name__)
    app.secret_key = "k"
    interface = app.session_interface = Interface()
    interface.serializer.register(TagPoint)
    signer = interface.get_signing_serializer(app)
    assert signer is not None
    assert signer.loads(signer.dumps({"at": Point(1, 2)}))["at"].y == 2


class Nobody(NullSession):
    pass


async def nobody_yet(interface: SessionInterface, app: Samovar) -> NullSession:
    return Nobody(await SessionInterface.make_null_session(interface, app))


def nobody_at_once(interface: SessionInterface, app: Samovar) -> NullSession:
    return Nobody()


@pytest.mark.parametrize("make", [nobody_yet, nobody_at_once])
async def test_who_stands_in_for_no_session_may_be_anything(make: Any) -> None:
    Interface = type("Interface", (SecureCookieSessionInterface,), {"make_null_session": make})
    app = Samovar(__name__)
    app.session_interface = Interface()

    @app.get("/")
    async def index() -> Any:
        return [session.get("a"), isinstance(session, Nobody)]

    assert await (await app.test_client().get("/")).get_json() == [None, True]


@pytest.mark.parametrize(("value", "what"), [({1}, "set"), ({"deep": [object()]}, "dict .*object")])
async def test_a_value_that_no_cookie_holds_is_named_once(
    app: Samovar, value: Any, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/")
    async def index() -> str:
        session["fine"] = 1
        session["s"] = value
        return "x"

    assert (await app.test_client().get("/")).status_code == 500
    (record,) = (record for record in caplog.records if record.name != "asyncio")  # which tells of slow turns
    assert record.exc_info is not None
    assert re.search(rf"session\['s'\] cannot be stored: {what}", str(record.exc_info[1]))


async def test_another_interface_is_opened_before_the_hooks_and_saved_after() -> None:
    log: list[str] = []

    class Stored(SessionInterface):
        kept: dict[str, Any] = {}

        async def open_session(self, app: Samovar, request: Any) -> Any:
            log.append("open")
            return SecureCookieSession(self.kept)

        async def save_session(self, app: Samovar, session: Any, response: Any) -> None:
            log.append("save")
            self.kept = dict(session)

    app = Samovar(__name__, static_folder=None)
    app.session_interface = Stored()

    @app.before_request
    async def hook() -> None:
        log.append("hook")

    @app.get("/")
    async def index() -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    client = app.test_client()
    await client.get("/")
    assert await (await client.get("/")).get_data() == b"2"
    assert log == ["open", "hook", "save"] * 2


def keyed_from(serializer: Any) -> SecureCookieSessionInterface:
    class Keyed(SecureCookieSessionInterface):
        def get_signing_serializer(self, app: Samovar) -> URLSafeTimedSerializer | None:
            signer = super().get_signing_serializer(app)
            assert signer is not None
            serializer(signer)
            return signer

    return Keyed()


class Sealed(SecureCookieSessionInterface):
    salt = "sealed"
    digest_method = staticmethod(hashlib.sha512)
    key_derivation = "django-concat"
    serializer = TaggedJSONSerializer()


def colon(signer: URLSafeTimedSerializer) -> None:
    signer.signer_kwargs["sep"] = ";"


@pytest.mark.parametrize(
    ("interface", "options"),
    [
        (Sealed(), {"salt": "sealed", "digest_method": hashlib.sha512, "key_derivation": "django-concat"}),
        (keyed_from(colon), {"sep": ";"}),
    ],
    ids=["attributes", "serializer"],
)
async def test_what_an_interface_sets_for_its_signature_is_what_signs(
    app: Samovar, interface: SecureCookieSessionInterface, options: dict[str, Any]
) -> None:
    app.session_interface = interface
    client = app.test_client()
    await client.get("/set/x")
    assert await (await client.get("/get")).get_data() == b"x"
    options = {"digest_method": hashlib.sha1, "key_derivation": "hmac", **options}
    salt = options.pop("salt", "cookie-session")
    theirs = URLSafeTimedSerializer(
        "key", salt=salt, serializer=TaggedJSONSerializer(), signer_kwargs=options
    )
    cookie = dump_cookie("session", theirs.dumps({"value": "y"}))
    response = await app.test_client().get("/get", headers={"Cookie": cookie.rpartition("; ")[0]})
    assert await response.get_data() == b"y"


async def test_what_an_interface_gets_later_is_what_signs(app: Samovar) -> None:
    app.session_interface = interface = SecureCookieSessionInterface()
    signed = []
    for name, value in (("salt", "new"), ("key_derivation", "concat"), ("digest_method", hashlib.sha256)):
        signer = interface.get_signing_serializer(app)
        assert signer is not None and signer is interface.get_signing_serializer(app)
        signed.append(signer.dumps({}).rpartition(".")[2])
        setattr(interface, name, value)
    signed.append(interface.get_signing_serializer(app).dumps({}).rpartition(".")[2])  # type: ignore[union-attr]
    assert len(set(signed)) == 4


async def test_what_another_signer_writes_is_quoted(app: Samovar) -> None:
    class Readable(SecureCookieSessionInterface):
        def get_signing_serializer(self, app: Samovar) -> Any:
            return TimedSerializer(app.secret_key, salt="readable")

    app.session_interface = Readable()
    client = app.test_client()
    cookie = (await client.get("/set/x;%20Domain=other.example")).headers["set-cookie"]
    assert "; Domain" not in cookie
    assert await (await client.get("/get")).get_data() == b"x; Domain=other.example"


async def test_an_interface_may_have_no_session() -> None:
    class Nothing(SecureCookieSessionInterface):
        async def open_session(self, app: Samovar, request: Any) -> None:
            return None

    app = Samovar(__name__, static_folder=None)
    app.session_interface = Nothing()
    app.add_url_rule("/", "index", lambda: str(session.get("a")))
    assert await (await app.test_client().get("/")).get_data() == b"None"


async def test_flashed_messages_come_once(app: Samovar) -> None:
    @app.get("/flash")
    async def two() -> str:
        await flash("one")
        await flash("two", "error")
        return ""

    @app.get("/show")
    async def show() -> Any:
        get_flashed_messages()
        return [
            get_flashed_messages(),
            get_flashed_messages(with_categories=True),
            get_flashed_messages(category_filter=["error"]),
        ]

    client = app.test_client()
    await client.get("/flash")
    assert await (await client.get("/show")).get_json() == [
        ["one", "two"], [["message", "one"], ["error", "two"]], ["two"],
    ]  # fmt: skip
    assert await (await client.get("/show")).get_json() == [[], [], []]
