"""JSON as the app writes and reads it."""

from __future__ import annotations

import dataclasses
import io
import json as standard
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from markupsafe import Markup

from samovar import Samovar, jsonify, request
from samovar.core import json
from samovar.core.json import DefaultJSONProvider


@pytest.fixture
def app() -> Samovar:
    return Samovar(__name__, static_folder=None)


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None, 1.5]}, '{"a":[true,null,1.5],"b":1}'),
        ("ü", '"\\u00fc"'),
        (Point(1), '{"x":1}'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Decimal("1.10"), '"1.10"'),
        (date(2026, 1, 2), '"Fri, 02 Jan 2026 00:00:00 GMT"'),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), '"Fri, 02 Jan 2026 03:04:05 GMT"'),
        (Markup("<b>"), '"<b>"'),
        ({1: "a"}, '{"1":"a"}'),
    ],
)
def test_what_is_written(app: Samovar, value: Any, text: str) -> None:
    provider = app.json
    assert isinstance(provider, DefaultJSONProvider)
    assert provider.encode(value) == text == provider.dumps(value, separators=(",", ":"))


def test_what_cannot_be_written(app: Samovar) -> None:
    provider = app.json
    assert isinstance(provider, DefaultJSONProvider)
    circle: list[Any] = []
    circle.append(circle)
    for value, error in ((circle, ValueError), (object(), TypeError)):
        with pytest.raises(error):
            provider.encode(value)


@pytest.mark.parametrize("value", [float("nan"), {"a": [float("inf")]}])
@pytest.mark.parametrize("debug", [False, True])
async def test_numbers_that_no_browser_reads_are_refused(app: Samovar, value: Any, debug: bool) -> None:
    app.debug = debug
    app.add_url_rule("/", "index", lambda: {"value": value})
    assert (await app.test_client().get("/")).status_code == 500
    provider = app.json
    assert isinstance(provider, DefaultJSONProvider)
    for write in (provider.dumps, provider.encode):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write(value)
    provider.allow_nan = True
    assert provider.encode(float("nan")) == provider.dumps(float("nan")) == "NaN"


async def test_a_forgotten_await_is_named(app: Samovar, caplog: pytest.LogCaptureFixture) -> None:
    @app.post("/")
    async def index() -> Any:
        return {"x": request.get_json()}

    assert (await app.test_client().post("/", json=1)).status_code == 500
    assert "an await is missing before get_json()" in caplog.text


def test_options_take_effect_at_once(app: Samovar) -> None:
    provider = app.json
    assert isinstance(provider, DefaultJSONProvider)
    assert provider.encode({"b": "ü", "a": 1}) == '{"a":1,"b":"\\u00fc"}'
    provider.sort_keys = False
    provider.ensure_ascii = False
    provider.default = lambda obj: "odd"
    assert provider.encode({"b": "ü", "a": object()}) == '{"b":"ü","a":"odd"}'


async def test_responses_are_compact_unless_debugging(app: Samovar) -> None:
    async with app.app_context():
        assert await jsonify(a=1).get_data() == b'{"a":1}\n'
        assert await jsonify(1, 2).get_data() == b"[1,2]\n"
        assert await jsonify().get_data() == b"null\n"
        with pytest.raises(TypeError, match="not both"):
            jsonify(1, a=1)
        app.debug = True
        assert await jsonify(a=1).get_data() == b'{\n  "a": 1\n}\n'
        assert isinstance(app.json, DefaultJSONProvider)
        app.json.compact = True
        assert jsonify(a=1).mimetype == "application/json"
        assert await jsonify(a=1).get_data() == b'{"a":1}\n'


async def test_module_functions_use_the_current_app(app: Samovar) -> None:
    class Loud(DefaultJSONProvider):
        def dumps(self, obj: Any, **kwargs: Any) -> str:
            return standard.dumps(obj).upper()

    app.json = Loud(app)
    file = io.StringIO()
    async with app.app_context():
        assert json.dumps("a") == '"A"'
        json.dump("a", file)
    assert json.dumps("a") == '"a"' and file.getvalue() == '"A"'
    assert json.loads(b"[1]") == [1] and json.load(io.BytesIO(b"[1]")) == [1]


async def test_answers_are_written_by_an_overridden_dumps(app: Samovar) -> None:
    class Loud(DefaultJSONProvider):
        def dumps(self, obj: Any, **kwargs: Any) -> str:
            return super().dumps(obj, **kwargs).upper()

    app.json = Loud(app)
    async with app.app_context():
        assert await app.json.response({"a": ["b", 1]}).get_data() == b'{"A":["B",1]}\n'


@pytest.mark.parametrize(
    "data", [b'"\xc3\xbc"', '"ü"'.encode("utf-16"), '"ü"'.encode("utf-32"), '\ufeff"ü"'.encode()]
)
def test_bytes_are_read_in_any_unicode(app: Samovar, data: bytes) -> None:
    assert app.json.loads(data) == "ü"


@pytest.mark.parametrize(
    "text",
    [
        "[NaN]",
        "-Infinity",
        "[1e999]",
        "1" * 400 + ".0",
        r'"\ud800"',
        r'{"a": ["\uD83D-\uDE00"]}',
        r'{"\udfff":1}',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "str"])
def test_what_could_not_be_sent_back_is_not_read(app: Samovar, text: str, encoding: str) -> None:
    with pytest.raises(ValueError):
        app.json.loads(text if encoding == "str" else text.encode(encoding))


def test_allowing_nan_reads_as_flask_does(app: Samovar) -> None:
    assert isinstance(app.json, DefaultJSONProvider)
    app.json.allow_nan = True
    assert str(app.json.loads(b'[NaN, 1e999, "\\ud800"]')) == r"[nan, inf, '\ud800']"
    app.json.allow_nan = False
    assert str(app.json.loads("NaN", parse_constant=float)) == "nan"


@pytest.mark.parametrize("text", ["\ud800", "\udc00", "\udc00\ud800", "\U0001f600\udfff", "\\ud83d\ude00"])
def test_half_a_surrogate_pair_is_not_written(app: Samovar, text: str) -> None:
    for write in (app.json.encode, app.json.dumps):  # type: ignore[attr-defined]  # the default provider's
        with pytest.raises(ValueError, match="surrogates not allowed"):
            write({"a": [text]})
    app.json.allow_nan = True  # type: ignore[attr-defined]
    assert app.json.loads(app.json.dumps(text)) == text


@pytest.mark.parametrize("text", ["\U0001f600" * 2, r"\ud800", "\\\U0001f600", r"\\udc00"])
def test_whole_pairs_and_backslashes_are_written(app: Samovar, text: str) -> None:
    for write in (app.json.encode, app.json.dumps):  # type: ignore[attr-defined]
        assert standard.loads(write([text])) == [text]


def test_surrogate_pairs_and_long_numbers_are_read(app: Samovar) -> None:
    assert app.json.loads(rb'["\ud83d\ude00", "\u0041", "\\ud800", 1e308, 1.5]') == [
        "😀",
        "A",
        r"\ud800",
        1e308,
        1.5,
    ]


def test_the_fallback_without_the_c_encoder(app: Samovar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard.encoder, "c_make_encoder", None)
    assert DefaultJSONProvider(app).encode({"b": 1, "a": Point(2)}) == '{"a":{"x":2},"b":1}'
