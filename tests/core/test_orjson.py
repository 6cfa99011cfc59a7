"""JSON by orjson says what the standard library's says, and refuses what that refuses."""

from __future__ import annotations

import dataclasses
import enum
import json as standard
import math
import random
import sys
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest
from markupsafe import Markup
from werkzeug.datastructures import MultiDict

from samovar import Hub, Message, Samovar, jsonify, request
from samovar.core.asgi.express import raw_answer
from samovar.core.json import DefaultJSONProvider, JSONProvider, OrjsonProvider
from samovar.errors import InvalidPayload, MissingDependency


class App(Samovar):
    """An app that asks for it."""

    json_provider_class: type[JSONProvider] = OrjsonProvider


@pytest.fixture
def ours() -> OrjsonProvider:
    return OrjsonProvider(None)


@pytest.fixture
def usual() -> DefaultJSONProvider:
    return DefaultJSONProvider(None)


@dataclasses.dataclass
class Point:
    x: Any
    _y: int = 2


class Text(str):
    """Text by inheritance."""


class Number(int):
    """An integer by inheritance."""


class Real(float):
    """A float by inheritance."""


class Tea(enum.StrEnum):
    BLACK = "black"


class Cups(enum.IntEnum):
    TWO = 2


Pair = namedtuple("Pair", "a b")


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


WRITTEN: list[Any] = [
    {"b": 1, "a": [True, None, 1.5], "ü": "ü\u2028\x00\x7f/"},
    [Point(1), Point([Point(None)]), {"none": None, "when": date(2026, 1, 2)}],
    [uuid.UUID(int=1), None, Decimal("1.10"), Decimal("NaN"), Markup("<b>")],
    [date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2026, 1, 2, 3, 4, 5)],
    {2: "a", 10: None, 1: "c"},
    {None: 1},
    {True: 1, 1.5: 2},
    {Text("k"): Text("v")},
    {Tea.BLACK: Cups.TWO},
    [Number(3), Real(1.5), Pair(1, None), (1, (2,)), OrderedDict(b=1, a=2)],
    MultiDict([("a", "1"), ("a", "2")]),
    2**63, 2**64 - 1, -(2**63), {"a": [2**64, -(2**63) - 1, None]}, 10**30,
    "null", None, ["null", None], "", 1e16, 1e-7, 5e-324, -0.0,
    nested(300), nested(250),
    ["\ud83d\ude00", "😀"],
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WRITTEN)))
def test_it_says_what_the_usual_one_says(
    number: int, ours: OrjsonProvider, usual: DefaultJSONProvider
) -> None:
    value = WRITTEN[number]
    for options in ({}, {"indent": 2}, {"indent": "\t"}, {"separators": (", ", ": ")}):
        said = standard.loads(usual.dumps(value, **options), object_pairs_hook=list)
        assert standard.loads(ours.dumps(value, **options), object_pairs_hook=list) == said
    assert ours.encode(value) == ours.dumps(value) == ours.dumps(value, separators=(",", ":"))


def test_it_is_orjson_that_writes(ours: OrjsonProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the standard library was asked")

    monkeypatch.setattr("json.dumps", never)
    monkeypatch.setattr("json.loads", never)
    value = {"b": [1.5, None, "ü"], "a": [2**63, True, {}]}
    text = '{"a":[9223372036854775808,true,{}],"b":[1.5,null,"ü"]}'
    assert ours.dumps(value) == ours.dumps(value, allow_nan=False, sort_keys=True) == text
    assert ours.dumps({"a": [1]}, indent=2) == '{\n  "a": [\n    1\n  ]\n}'
    assert ours.dumps([date(2026, 1, 2), Point(1)]) == '["Fri, 02 Jan 2026 00:00:00 GMT",{"_y":2,"x":1}]'
    assert ours.loads('{"a":[1.5,null,"ü"]}') == ours.loads('{"a":[1.5,null,"ü"]}'.encode())


@pytest.mark.parametrize(
    "value",
    [
        math.nan, {"a": [None, math.inf]}, [date(2026, 1, 2), {"a": (1.5, -math.inf)}], MultiDict([("a", math.nan)]),
        [Real("nan")], Point(-math.inf), {math.nan: 1}, {"a": {1, 2}}, object(),
        time(1), b"b", {(1, 2): 3}, {date(2026, 1, 2): 1}, {1: 2, "a": 3}, "\ud800", {"\udfff": 1}, ["\ud800", 2**70],
        {Text("\ud800"): 1},
    ],
)  # fmt: skip
def test_it_refuses_what_the_usual_one_refuses(
    value: Any, ours: OrjsonProvider, usual: DefaultJSONProvider
) -> None:
    with pytest.raises((ValueError, TypeError)) as theirs:
        usual.encode(value)
    for write in (ours.encode, ours.dumps, lambda value: ours.dumps(value, indent=2)):
        with pytest.raises(ValueError if isinstance(theirs.value, ValueError) else TypeError) as caught:
            write(value)
        said, expected = (
            str(caught.value),
            str(theirs.value),
        )  # each of its encoders words it a little otherwise
        assert said[:25] == expected[:25] or "surrogates not allowed" in said


def test_what_holds_itself_is_refused(ours: OrjsonProvider) -> None:
    ring: list[Any] = [MultiDict([("a", 1)])]
    ring.append({"ring": ring})
    deep: Any = nested(200_000)
    for value in (ring, deep):
        with pytest.raises(ValueError, match=r"[Cc]ircular"):
            ours.encode(value)
    while deep:  # let go level by level: the interpreter may not do so many at once
        deep = deep.pop()


def test_nan_is_allowed_where_it_is_asked_for(ours: OrjsonProvider) -> None:
    assert ours.dumps([math.nan, None, -math.inf], allow_nan=True) == "[NaN,null,-Infinity]"
    ours.allow_nan = True
    assert ours.encode([math.nan, "ü"]) == '[NaN,"ü"]'
    assert str(ours.loads(b'[NaN, 1e999, "\\ud800"]')) == r"[nan, inf, '\ud800']"
    assert ours.loads(ours.dumps("\ud800")) == "\ud800"
    with pytest.raises(ValueError, match="not JSON compliant"):
        ours.dumps([math.nan], allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def test_options_take_effect_at_once(ours: OrjsonProvider) -> None:
    value = {"b": "ü", "a": 1}
    assert ours.encode(value) == ours.dumps(value) == '{"a":1,"b":"ü"}'
    ours.sort_keys = False
    ours.ensure_ascii = True
    assert ours.dumps(value) == ours.encode(value) == '{"b":"\\u00fc","a":1}'
    assert ours.dumps(value, ensure_ascii=False, sort_keys=True) == '{"a":1,"b":"ü"}'
    ours.default = lambda obj: "odd"
    assert ours.encode([object(), None]) == ours.dumps([object(), None]) == '["odd",null]'
    assert ours.dumps([object()], default=lambda obj: "even") == '["even"]'


def test_enumerations_and_uuids_are_written_by_orjson(ours: OrjsonProvider) -> None:
    class Color(enum.Enum):
        RED = 1

    ours.default = lambda obj: "asked"
    text = '[1,"00000000-0000-0000-0000-000000000001"'
    for more, end in ((), "]"), ((2**70,), f",{2**70}]"), ((None,), ",null]"):  # by either library
        assert ours.encode([Color.RED, uuid.UUID(int=1), *more]) == text + end


def test_default_is_asked_once_though_the_value_is_written_twice(ours: OrjsonProvider) -> None:
    asked = []

    def default(obj: Any) -> Any:
        asked.append(obj)
        return list(obj)

    ours.default = default
    for more in (2**70, None, "\ud83d\ude00"):
        numbers: Iterator[int] = iter((1, 2))
        assert standard.loads(ours.encode([numbers, more]))[0] == [1, 2]
        assert asked.pop() is numbers and not asked


def test_what_default_raises_is_raised(ours: OrjsonProvider) -> None:
    asked = []

    def default(obj: Any) -> Any:
        asked.append(obj)
        raise KeyError("mine") from ZeroDivisionError()

    ours.default = default
    with pytest.raises(KeyError, match="mine") as caught:
        ours.encode([object()])
    assert isinstance(caught.value.__cause__, ZeroDivisionError) and len(asked) == 1


def test_nan_is_found_wherever_it_hides(ours: OrjsonProvider) -> None:
    class Odd(enum.Enum):
        NAN = math.nan

    ours.default = lambda obj: [1.5, math.nan]
    for value in (object(), Odd.NAN, {"a": object()}):
        with pytest.raises(ValueError, match="not JSON compliant"):
            ours.encode([None, value])


def test_an_overridden_dumps_is_used() -> None:
    class Loud(OrjsonProvider):
        def dumps(self, obj: Any, **kwargs: Any) -> str:
            return super().dumps(obj).upper()

    assert Loud(None).encode({"a": ["b", 1]}) == '{"A":["B",1]}'


# --- reading --------------------------------------------------------------------------------------------------------

READ = [
    b'"\xc3\xbc"', '"ü"'.encode("utf-16"), '"ü"'.encode("utf-32"), '\ufeff"ü"'.encode(), '\ufeff"ü"', "", b"", " ",
    b"{", b"[NaN]", "-Infinity", b"[1e999]", "1" * 400 + ".0", "1" * 5000, '"\ud800"', r'"\ud800"', rb'{"\udfff":1}',
    rb'["\ud83d\ude00", "\u0041", "\\ud800", 1e308, 1.5]', b"1 2", b" [1] \n", b"\x0b1", b"[1,]", b"01", b"-", b"-0",
    b"1.", b".5", b"+1", b"1e5", b"-1e-999", b"tru", b"'a'", b'"\x01"', b'"\xff"', b'"\xed\xa0\x80"', b"\x00", b"\xff",
    b'{"a":1,"a":2}', b"{1:2}", b"[1]x", b"18446744073709551615", "18446744073709551616", b"-9223372036854775809",
    b'{"id": 123456789012345678901234567890, "t": "12345678901234567890"}', b"0.1234567890123456789012345",
    b"[" * 200 + b"]" * 200, bytearray(b"[1]"), '"' + "é" * 30 + '"',
]  # fmt: skip


def told(read: Callable[..., Any], text: Any) -> str:
    """What was read, or how it failed."""
    try:
        return repr(read(text))
    except ValueError as error:
        return f"{type(error)} {error}"


@pytest.mark.parametrize("text", READ, ids=lambda text: repr(text)[:20])
def test_it_reads_what_the_usual_one_reads(
    text: Any, ours: OrjsonProvider, usual: DefaultJSONProvider
) -> None:
    assert told(ours.loads, text) == told(usual.loads, text)


def test_keywords_are_heeded(ours: OrjsonProvider) -> None:
    assert ours.loads("1.10", parse_float=Decimal) == Decimal("1.10")


ALPHABET = ["{", "}", "[", "]", ",", ":", '"', "\\", "u", "d83d", "ü", "null", "true", " ", "1", "-", ".", "e", '"a"',
            "99999999999999999999", "\n", "0", "/", "\x7f", "NaN", "😀"]  # fmt: skip


def test_generated_text_is_read_or_refused_alike(ours: OrjsonProvider, usual: DefaultJSONProvider) -> None:
    choice = random.Random(7)
    read = 0
    for _ in range(3000):
        text = "".join(choice.choices(ALPHABET, k=choice.randint(1, 6)))
        for text_of in (text, f"[{text}]", f'"{text}"'):
            expected = told(usual.loads, text_of)
            assert told(ours.loads, text_of) == expected, text_of
            read += not expected.startswith("<")
    assert read > 100


# --- in an app ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True])
async def test_an_app_answers_and_reads_by_it(debug: bool) -> None:
    app = App("teas", static_folder=None)
    app.debug = debug

    @app.post("/")
    async def index() -> Any:
        return jsonify(got=await request.get_json())

    client = app.test_client()
    answer = await client.post("/", json={"b": "ü", "a": []})
    text = '{\n  "got": {\n    "a": [],\n    "b": "ü"\n  }\n}\n' if debug else '{"got":{"a":[],"b":"ü"}}\n'
    assert (await answer.get_data(), answer.mimetype) == (text.encode(), "application/json")
    for body in (b"[NaN]", b"{", rb'"\ud800"', b"[" * 100_000):
        answer = await client.post("/", data=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, body[:9]


def test_its_answers_take_the_fast_road() -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"11")]
    assert raw_answer(App("teas"), {"a": "ü"}) == (200, headers, '{"a":"ü"}\n'.encode())


async def test_a_forgotten_await_is_named(caplog: pytest.LogCaptureFixture) -> None:
    app = App("teas", static_folder=None)

    @app.post("/")
    async def index() -> Any:
        return {"x": request.get_json()}

    assert (await app.test_client().post("/", json=1)).status_code == 500
    assert "an await is missing before get_json()" in caplog.text


async def test_a_hub_publishes_by_it(ours: OrjsonProvider) -> None:
    async with Hub(json=ours) as hub:
        async with hub.subscribe("teas") as teas:
            await hub.publish("teas", {"when": date(2026, 1, 2), "ü": [None, 2**64]})
            message = await anext(aiter(teas))
            assert isinstance(message, Message)
        assert (
            message.body
            == '{"when":"Fri, 02 Jan 2026 00:00:00 GMT","ü":[null,18446744073709551616]}'.encode()
        )
        assert message.data == {"when": "Fri, 02 Jan 2026 00:00:00 GMT", "ü": [None, 2**64]}
        with pytest.raises(InvalidPayload, match="not JSON compliant"):
            await hub.publish("teas", [math.nan])


def test_without_orjson_one_line_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(distribution: str) -> str:
        raise PackageNotFoundError(distribution)

    monkeypatch.setattr("importlib.metadata.version", nothing)
    monkeypatch.setitem(sys.modules, "orjson", None)
    with pytest.raises(
        MissingDependency, match=r'^OrjsonProvider needs orjson 3.10 or later.*"samovar\[fast\]"$'
    ):
        App("teas")
    Samovar("teas")
