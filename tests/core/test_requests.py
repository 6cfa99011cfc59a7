"""What a request says, whatever is in it, and its body within its limits."""

from __future__ import annotations

import asyncio
import random
import zlib
from typing import Any

import pytest
from werkzeug.exceptions import RequestEntityTooLarge

from samovar import Samovar, request
from samovar.core.wrappers import Request

from .wire import Wire


@pytest.fixture
def app() -> Samovar:
    app = Samovar(__name__, static_folder=None)

    @app.post("/json")
    async def json() -> Any:
        return {"got": await request.get_json()}

    @app.post("/data")
    async def data() -> bytes:
        return await request.get_data()

    @app.post("/pieces")
    async def pieces() -> str:
        return ",".join([piece.decode() async for piece in request.body])

    return app


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"a": 1}', JSON, 200),
        (b'{"a": 1}', {"content-type": "application/json; charset=utf-8"}, 200),
        (b'{"a": 1}', {"content-type": "Application/JSON"}, 200),
        (b'{"a": 1}', {"content-type": "application/vnd.api+json"}, 200),
        ('{"a": "ü"}'.encode("utf-16"), JSON, 200),
        (b'\xef\xbb\xbf{"a": 1}', JSON, 200),
        (b"", JSON, 400),
        (b'{"a": 1', JSON, 400),
        (b"\xff\xfe\xfd", JSON, 400),
        (b"[" * 100_000, JSON, 400),
        (b"1" * 5000, JSON, 400),
        (b'{"a": 1}', {}, 415),
        (b'{"a": 1}', {"content-type": "text/plain"}, 415),
        (b'{"a": 1}', {"content-type": ";;;"}, 415),
    ],
)
async def test_json_bodies(app: Samovar, body: bytes, headers: dict[str, str], status: int) -> None:
    response = await app.test_client().post("/json", data=body, headers=headers)
    assert response.status_code == status


async def test_json_may_be_forced_silenced_and_is_kept(app: Samovar) -> None:
    async with app.test_request_context("/", method="POST", data='{"a": 1}'):
        assert await request.get_json(silent=True) is None
        assert await request.get_json(force=True) == {"a": 1}
        assert await request.get_json() == {"a": 1}  # kept
    async with app.test_request_context("/", method="POST", data="nope", headers=JSON):
        assert await request.get_json(silent=True) is None
        assert await request.get_data() == b"nope"


async def test_a_body_is_read_again_and_iterated(app: Samovar) -> None:
    async with app.test_request_context("/", method="POST", data="abc"):
        assert await request.get_data() == b"abc"
        assert await request.get_data(as_text=True) == "abc"
        assert await request.data == b"abc"
        assert [piece async for piece in request.body] == [b"abc"]


async def test_a_body_comes_in_pieces(app: Samovar) -> None:
    wire = Wire(app, "POST", "/pieces")
    wire.feed(b"ab", True)
    wire.feed(b"", True)
    wire.feed(b"cd")
    await wire.run()
    assert wire.body == b"ab,cd"


async def test_an_iterated_body_is_not_there_again(app: Samovar) -> None:
    async with app.test_request_context("/", method="POST", data="abc"):
        async for _ in request.body:
            pass
        with pytest.raises(RuntimeError, match="already iterated"):
            await request.get_data()


async def test_a_body_may_be_asked_for_by_several_at_once(app: Samovar) -> None:
    @app.post("/all")
    async def all_at_once() -> Any:
        async def pieces() -> bytes:
            return b"".join([piece async for piece in request.body])

        got = await asyncio.gather(request.get_json(), request.get_data(), request.body, pieces())
        return [got[0], *[part.decode() for part in got[1:]]]

    wire = Wire(app, "POST", "/all", headers=[(b"content-type", b"application/json")])
    running = asyncio.ensure_future(wire.run())
    for byte in b'{"a":1}':
        wire.feed(bytes([byte]), True)
        await asyncio.sleep(0)
    wire.feed()
    await running
    assert wire.body == b'[{"a":1},"{\\"a\\":1}","{\\"a\\":1}","{\\"a\\":1}"]\n'


async def test_who_stops_reading_loses_nothing_for_the_next(app: Samovar) -> None:
    @app.post("/again")
    async def again() -> bytes:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await request.get_data()
        wire.feed(b"cd")
        return await request.get_data()

    wire = Wire(app, "POST", "/again")
    wire.feed(b"ab", True)
    await wire.run()
    assert wire.body == b"abcd"


async def test_a_hook_may_replace_the_body(app: Samovar) -> None:
    @app.before_request
    async def unpack() -> None:
        if request.headers.get("content-encoding") == "deflate":
            request.body.set_result(zlib.decompress(await request.get_data()))

    headers = {**JSON, "content-encoding": "deflate"}
    response = await app.test_client().post("/json", data=zlib.compress(b'{"a": 1}'), headers=headers)
    assert await response.get_json() == {"got": {"a": 1}}


async def test_stream_points_at_body(app: Samovar) -> None:
    async with app.test_request_context("/"):
        with pytest.raises(NotImplementedError, match="request.body"):
            _ = request.stream


async def test_an_announced_body_over_the_limit_is_413(app: Samovar) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 10
    assert (await app.test_client().post("/data", data="x" * 10)).status_code == 200
    assert (await app.test_client().post("/data", data="x" * 11)).status_code == 413


async def test_a_chunked_body_over_the_limit_is_413(app: Samovar) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 10
    wire = Wire(app, "POST", "/data", headers=[(b"transfer-encoding", b"chunked")])
    wire.feed(b"x" * 6, True)
    wire.feed(b"x" * 6, True)
    await wire.run()
    assert wire.status == 413


async def test_a_lying_content_length_does_not_pass_the_limit(app: Samovar) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 10
    wire = Wire(app, "POST", "/data", headers=[(b"content-length", b"1")])
    wire.feed(b"x" * 11)
    await wire.run()
    assert wire.status == 413


LIMITS = ["max_content_length", "max_form_memory_size", "max_form_parts", "body_timeout"]


@pytest.mark.parametrize("name", LIMITS)
async def test_a_limit_is_the_apps_the_class_or_the_requests_own(app: Samovar, name: str) -> None:
    class Strict(Request):
        pass

    setattr(Strict, name, 5)
    async with app.test_request_context("/"):
        assert getattr(request, name) == app.config[name.upper()]
        setattr(request, name, 7)
        assert getattr(request, name) == 7
    app.request_class = Strict
    async with app.test_request_context("/"):
        assert getattr(request, name) == 5


async def test_a_class_may_have_its_own_limit(app: Samovar) -> None:
    class Strict(Request):
        max_content_length = 2

    app.request_class = Strict
    assert (await app.test_client().post("/data", data="abc")).status_code == 413


async def test_one_request_may_have_its_own_limit(app: Samovar) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 1
    async with app.test_request_context("/", method="POST", data="abc"):
        request.max_content_length = 3
        assert await request.get_data() == b"abc"
    async with app.test_request_context("/", method="POST", data="abc"):
        with pytest.raises(RequestEntityTooLarge):
            await request.get_data()


@pytest.mark.parametrize("path", ["/data", "/pieces", "/json"])
async def test_a_slow_body_is_408(app: Samovar, path: str) -> None:
    app.config["BODY_TIMEOUT"] = 0.02
    wire = Wire(app, "POST", path, headers=[(b"content-type", b"application/json")])
    wire.feed(b"never ", True)
    await wire.run()
    assert wire.status == 408


async def test_the_time_limit_is_for_the_whole_body(app: Samovar) -> None:
    app.config["BODY_TIMEOUT"] = 0.05
    wire = Wire(app, "POST", "/data")

    async def drip() -> Any:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async with asyncio.timeout(60):
        await app(wire.scope, drip, wire.send)
    assert wire.status == 408


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=B"])
async def test_the_time_limit_is_for_the_whole_form(app: Samovar, kind: str) -> None:
    @app.post("/form")
    async def form() -> Any:
        return dict(await request.form)

    app.config["BODY_TIMEOUT"] = 0.05
    wire = Wire(app, "POST", "/form", headers=[(b"content-type", kind.encode())])
    pieces = iter([b"--B\r\nContent-Disposition: form-data; name=a\r\n\r\n"])

    async def drip() -> Any:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": next(pieces, b"x"), "more_body": True}

    async with asyncio.timeout(60):
        await app(wire.scope, drip, wire.send)
    assert wire.status == 408


async def test_a_cancelled_body_is_not_a_timeout(app: Samovar) -> None:
    app.config["BODY_TIMEOUT"] = 30
    wire = Wire(app, "POST", "/data")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await app(wire.scope, wire.inbox.get, wire.send)
    assert wire.sent == []


async def test_a_client_that_goes_in_mid_body_ends_the_view(app: Samovar) -> None:
    seen: list[BaseException | None] = []

    @app.teardown_request
    async def teardown(error: BaseException | None) -> None:
        seen.append(error)

    wire = Wire(app, "POST", "/data")
    wire.feed(b"x", True)
    wire.disconnect()
    await wire.run()
    assert seen == [None] and wire.sent == []


HOSTILE = bytes(range(0x80, 0x100))


@pytest.mark.parametrize(
    "headers",
    [
        [(b"host", HOSTILE)],
        [(b"host", b"")],
        [(b"host", b"a b")],
        [(b"host", b"[::1")],
        [],
        [(b"cookie", HOSTILE), (b"cookie", b"=;=;;a=\\"), (b"cookie", b'a="\\777"')],
        [(b"authorization", b"Basic \xff"), (b"x", b"")],
        [(b"authorization", b"Basic !!!")],
        [(b"authorization", b"Digest ===")],
        [(b"range", b"bytes=-"), (b"if-range", b'"')],
        [(b"range", b"bytes=9-1,a")],
        [(b"content-length", b"-1"), (b"content-type", b"multipart/form-data; boundary=")],
        [(b"content-length", b"1" * 500)],
        [(b"content-type", b"text/plain; charset=\xff"), (b"accept", b";q=x,,*/*;q=9")],
        [(b"accept-language", b"en;q=,--"), (b"if-modified-since", b"nope"), (b"date", b"99")],
        [
            (b"if-modified-since", b"Sun, 9999999999999999999 Nov 1994 08:49:37 GMT"),
            (b"date", b"1" * 30 + b" Nov 1"),
        ],
        [
            (b"if-unmodified-since", b"1 Nov 1 1:1:" + b"1" * 30),
            (b"if-range", b"Sun, 1 Nov " + b"9" * 30 + b" 1:1:1 GMT"),
        ],
        [(b"max-forwards", b"many"), (b"cache-control", b"max-age=soon, =,"), (b"if-none-match", b'W/",')],
        [(b"x-forwarded-for", b'"'), (b"forwarded", b"\x80"), (b"user-agent", HOSTILE)],
    ],
)
async def test_hostile_headers_are_never_a_500(headers: list[tuple[bytes, bytes]]) -> None:
    app = Samovar(__name__, static_folder=None)
    app.secret_key = "k"

    @app.get("/")
    async def everything() -> str:
        names = [name for name in dir(Request) if not name.startswith("_")]
        skipped = {"stream", "data", "json", "form", "files", "values", "body", "send_push_promise", "close"}
        return ",".join(str(type(getattr(request, name))) for name in names if name not in skipped)

    wire = Wire(app, headers=headers, query_string=b"a=%ff&\xff=\xfe&b&=&%zz;" + HOSTILE)
    await wire.run()
    assert wire.status == 200, wire.body


@pytest.mark.parametrize(
    "path", ["/\udcff", "/" + "a" * 100_000, "//evil.com//", "/\x00", "/%ff", "/\n", "", "x", "/ü"]
)
async def test_hostile_paths_are_404(path: str) -> None:
    app = Samovar(__name__)
    wire = Wire(app, path=path)
    await wire.run()
    assert wire.status in (404, 308), wire.sent


async def test_a_redirect_for_a_slash_stays_on_the_host() -> None:
    app = Samovar(__name__, static_folder=None)
    app.add_url_rule("/evil.com/", "evil", lambda: "")
    wire = Wire(app, path="//evil.com", query_string=b"a=\xff")
    await wire.run()
    assert wire.status == 308
    assert wire.headers[b"location"] == b"http://example.com/evil.com/?a=%FF"


async def test_what_a_request_says() -> None:
    app = Samovar(__name__)
    async with app.test_request_context(
        "/a/b?x=1&x=2&y=%C3%BC", headers={"X-One": "1", "Cookie": "c=d", "User-Agent": "curl"}, scheme="https"
    ):
        assert request.args.getlist("x") == ["1", "2"] and request.args["y"] == "ü"
        assert request.headers["x-one"] == "1" and request.cookies["c"] == "d"
        assert request.url == "https://localhost/a/b?x=1&x=2&y=ü"
        assert (request.path, request.full_path[:5], request.host) == ("/a/b", "/a/b?", "localhost")
        assert request.is_secure and request.method == "GET" and not request.is_json
        assert request.routing_exception is not None and request.endpoint is None and request.blueprints == []


async def test_repeated_headers_are_all_there() -> None:
    app = Samovar(__name__)

    @app.get("/")
    async def index() -> Any:
        return request.headers.getlist("X")

    wire = Wire(app, headers=[(b"x", b"1"), (b"X", b"2")])
    await wire.run()
    assert wire.body == b'["1","2"]\n'


def test_one_cookie_is_what_all_cookies_have_of_it() -> None:
    choice = random.Random(7)
    pieces = ("s", "s=", "=", ";", " ", "\t", '"', "a", ",", "\\", "é", "s=x", "\x01", "\x0b", 's="')
    for _ in range(4000):
        text = "".join(choice.choice(pieces) for _ in range(choice.randint(1, 9))).encode("latin-1")
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"cookie", text)]}
        assert Request(scope).cookie("s") == Request(scope).cookies.get("s"), text
