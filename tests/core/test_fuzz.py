"""Whatever comes in: a right answer or a 4xx that says why, never a 500, never what a request kept secret in the log.

The cases are made by Hypothesis, the same ones in each run. Each is one call of the app in a loop that all share.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samovar import (
    Samovar,
    flash,
    get_flashed_messages,
    make_response,
    redirect,
    request,
    send_file,
    send_from_directory,
    session,
)
from samovar.core.wrappers import Request

from .wire import Wire

T = TypeVar("T")
Headers = list[tuple[bytes, bytes]]

SECRET = "s3cret-key-of-the-app"
TOKEN = b"t0ken-of-the-client"
BOUNDARY = b"b0undary"


def cases(number: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """So many cases, the same each time, however slow the machine is."""
    return settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def grouped(pairs: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    """The values of each name, in their order."""
    result: dict[str, list[T]] = {}
    for name, value in pairs:
        result.setdefault(name, []).append(value)
    return result


# --- the app ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An app's folder with a static folder in it, and a file beside it that nobody may have."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "static" / "sub").mkdir(parents=True)
    (folder / "static" / "a.txt").write_text("public a")
    (folder / "static" / "sub" / "b.txt").write_text("public b")
    (folder / "private.txt").write_text("private")
    (folder / "static-private").mkdir()
    (folder / "static-private" / "a.txt").write_text("private")
    return folder


UNREADABLE = {"stream", "data", "json", "form", "files", "values", "body", "send_push_promise", "close"}
READABLE = [name for name in dir(Request) if not name.startswith("_") and name not in UNREADABLE]


@pytest.fixture(scope="module")
def app(folder: Path) -> Samovar:
    app = Samovar("fuzzed", root_path=str(folder))
    app.config.update(
        SECRET_KEY=SECRET, MAX_CONTENT_LENGTH=2000, MAX_FORM_MEMORY_SIZE=1000, MAX_FORM_PARTS=20
    )

    @app.route("/head", methods=["GET", "POST"])
    async def head() -> str:
        return ",".join(str(type(getattr(request, name))) for name in READABLE)

    @app.get("/query")
    async def query() -> Any:
        numbers = [request.args.get("n", type=int), request.args.get("f", type=float)]
        return {"args": dict(request.args.lists()), "numbers": [str(number) for number in numbers]}

    @app.post("/json")
    async def read_json() -> Any:
        return {"got": await request.get_json()}

    @app.post("/form")
    async def read_form() -> Any:
        form, files = await request.form, await request.files
        await request.values
        return {
            "form": dict(form.lists()),
            "files": {
                name: [[file.filename, file.read().decode("latin-1")] for file in several]
                for name, several in files.lists()
            },
        }

    @app.route("/body", methods=["POST", "PUT", "PATCH", "DELETE"])
    async def body() -> bytes:
        return await request.get_data()

    @app.get("/session")
    async def read_session() -> Any:
        messages = get_flashed_messages(with_categories=True)
        await flash(request.args.get("say", ""), "warning")
        session["last"] = request.args.get("say", "")
        return {"user": session.get("user"), "permanent": session.permanent, "messages": messages}

    @app.get("/back")
    async def back() -> Any:
        """Headers made of what the client said."""
        said = request.args.get("say", "")
        response = await make_response(redirect(said))
        response.set_cookie("said", said[:500])
        response.headers.set("X-Said", "x", said=quote(said))
        return response

    @app.get("/named")
    async def named() -> Any:
        return await send_file(
            "static/a.txt", as_attachment=True, download_name=request.args.get("say") or "x"
        )

    @app.get("/from/<path:name>")
    async def from_directory(name: str) -> Any:
        return await send_from_directory("static", name)

    @app.get("/int/<int:number>/<float:other>")
    async def numbers(number: int, other: float) -> Any:
        return [str(number), other]

    @app.get("/id/<uuid:number>/<any(a, b):letter>/<path:rest>")
    async def converted(number: Any, letter: str, rest: str) -> Any:
        return [str(number), letter, rest]

    return app


class Fuzzed:
    """Calls the app and looks at every answer: no 5xx, sound headers, no secret in the log."""

    def __init__(self, app: Samovar, runner: asyncio.Runner, log: pytest.LogCaptureFixture) -> None:
        self.app, self.runner, self.log = app, runner, log

    def __call__(
        self,
        method: str,
        path: str,
        query: bytes = b"",
        headers: Sequence[tuple[bytes, bytes]] = (),
        *pieces: bytes,
    ) -> Wire:
        wire = Wire(
            self.app,
            method,
            path,
            query_string=query,
            headers=[(b"host", b"example.com"), *headers],
            raw_path=quote(path, errors="surrogatepass").encode(),
        )
        for piece in pieces:
            wire.feed(piece, True)
        wire.feed()
        self.log.clear()
        self.runner.run(self._answered(wire))
        assert wire.sent, "no answer"
        assert wire.status < 500, f"{wire.status}: {self.log.text}"
        assert wire.complete
        self._check_headers(wire)
        assert SECRET not in self.log.text and TOKEN.decode() not in self.log.text
        return wire

    async def _answered(self, wire: Wire) -> None:
        async with asyncio.timeout(60):
            await self.app(wire.scope, wire.inbox.get, wire.send)

    def _check_headers(self, wire: Wire) -> None:
        for name, value in wire.sent[0]["headers"]:
            assert re.fullmatch(rb"[!#$%&'*+.^_`|~0-9a-z-]+", name), name  # RFC 9110, 5.1
            assert not re.search(rb"[\r\n\0]", value), value
        length = wire.headers.get(b"content-length")
        if length is not None and wire.scope["method"] != "HEAD":
            assert int(length) == len(wire.body)


@pytest.fixture
def fuzzed(app: Samovar, caplog: pytest.LogCaptureFixture) -> Iterator[Fuzzed]:
    caplog.set_level(logging.DEBUG)
    with asyncio.Runner() as runner:
        yield Fuzzed(app, runner, caplog)


# --- what comes in ---------------------------------------------------------------------------------------------------


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """*whole* with some of it left out, repeated, or replaced."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 4))
        data[at : at + size] = draw(
            st.sampled_from([b"", b"\0", b"\xff", b"\r\n", b'"', b";", b"%", b"=", b"-", b"9" * 30])
        )
    return bytes(data)


def like(*seeds: bytes) -> st.SearchStrategy[bytes]:
    """Anything, or something like one of *seeds*."""
    return st.one_of(st.sampled_from(seeds).flatmap(damaged), st.sampled_from(seeds), st.binary(max_size=40))


def cut(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """*data* in pieces."""
    points = st.lists(st.integers(0, len(data)), max_size=4).map(sorted)
    return points.map(lambda at: [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)])


HEADERS: dict[bytes, tuple[bytes, ...]] = {
    b"accept": (b"text/html, application/json;q=0.9, */*;q=0.1", b"text/event-stream"),
    b"accept-charset": (b"utf-8, iso-8859-1;q=0.5",),
    b"accept-encoding": (b"gzip, br;q=1.0, *;q=0",),
    b"accept-language": (b"de-AT, de;q=0.8, en-US;q=0.5",),
    b"access-control-request-headers": (b"x-one, x-two",),
    b"access-control-request-method": (b"PUT",),
    b"authorization": (
        b"Basic " + TOKEN,
        b"Bearer " + TOKEN,
        b'Digest username="Mufasa", realm="a", nonce="b", uri="/", response="' + TOKEN + b'"',
    ),
    b"cache-control": (b"max-age=0, no-cache", b'private="a, b"'),
    b"content-encoding": (b"gzip",),
    b"content-length": (b"5", b"-1", b"99999999999999999999"),
    b"content-type": (
        b"application/json; charset=utf-8",
        b"multipart/form-data; boundary=" + BOUNDARY,
        b"application/x-www-form-urlencoded",
        b"text/plain; charset*=utf-8''x; a*0=1; a*1=2",
    ),
    b"cookie": (
        b"session=" + TOKEN + b"; a=b",
        b'a="\\303\\274"; $Version=1; b',
        b"session=" + TOKEN + b".a.b",
    ),
    b"date": (b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT"),
    b"expect": (b"100-continue",),
    b"forwarded": (b'for="[2001:db8::1]:80";proto=https;host=a, for=b',),
    b"host": (b"example.com", b"example.com:8080", b"[::1]:80", b"xn--mnchen-3ya.de", b"a.b.c"),
    b"if-match": (b'"x", W/"y"', b"*"),
    b"if-modified-since": (b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 2094 08:49:37 GMT"),
    b"if-none-match": (b'"x", W/"y"', b"*"),
    b"if-range": (b'"x"', b"Sun, 06 Nov 1994 08:49:37 GMT"),
    b"if-unmodified-since": (b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 2094 08:49:37 GMT"),
    b"max-forwards": (b"3",),
    b"origin": (b"https://example.com", b"null"),
    b"pragma": (b"no-cache",),
    b"range": (b"bytes=0-3", b"bytes=-2", b"bytes=5-", b"bytes=0-1,3-4", b"bytes=99-", b"lines=1-2"),
    b"referer": (b"https://example.com/a?b",),
    b"transfer-encoding": (b"chunked", b"gzip, chunked"),
    b"user-agent": (b"Mozilla/5.0 (X11; Linux x86_64)",),
    b"x-forwarded-for": (b"1.2.3.4, ::1",),
    b"x-http-method-override": (b"DELETE",),
}


@st.composite
def header(draw: st.DrawFn, *names: bytes) -> tuple[bytes, bytes]:
    """One header, of *names* or of any; a value as a server passes it on, so without line breaks and NUL."""
    name = draw(st.sampled_from(sorted(names or HEADERS)))
    value = draw(like(*HEADERS[name]))
    return draw(st.sampled_from([name, name.title()])), re.sub(rb"[\r\n\0]", b" ", value).strip(b" \t")


def headers(*names: bytes, most: int = 5) -> st.SearchStrategy[Headers]:
    return st.lists(header(*names), max_size=most)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WORDS = st.one_of(
    TEXT,
    st.sampled_from(
        [
            "http://[", "//evil.com\r\nSet-Cookie: a=b", "javascript:alert(1)", "\r\n\r\n<script>", "ü\0", "%0d%0a",
            "\\\\host\\x",
            "http://a:port/", "?", "#", "\u2028", "http://\u2100.com", "a" * 5000, "http://[::1", "///", "mailto:x",
            "http://@:0/",
            "//[v1.x]/", "https://münchen.de/ü?ü#ü", '"; filename="evil', "..",
            "\udc80".encode("utf-8", "replace").decode(),
        ]
    ),
)  # fmt: skip


# --- the tests -------------------------------------------------------------------------------------------------------


@cases(300)
@given(st.sampled_from(["GET", "POST"]), headers(most=8))
def test_headers(fuzzed: Fuzzed, method: str, sent: Headers) -> None:
    wire = fuzzed(method, "/head", b"", sent)
    assert wire.status in (200, 400), wire.body


@cases(150)
@given(
    headers(
        b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"
    )
)
def test_conditions_and_ranges_of_a_file(fuzzed: Fuzzed, sent: Headers) -> None:
    wire = fuzzed("GET", "/static/a.txt", b"", sent)
    assert wire.status in (200, 206, 304, 412, 416)
    if wire.status in (200, 206):
        assert wire.body in b"public a"


@cases(250)
@given(like(b"a=1&b=2&n=3&f=1e5", b"n=" + b"9" * 5000, b"a=%ff&%zz&=;=&&", b"n=\xff&f=nan", b"a=%C3%BC&a=+"))
def test_queries(fuzzed: Fuzzed, query: bytes) -> None:
    wire = fuzzed("GET", "/query", query)
    assert wire.status == 200
    if query.isascii() and b"\0" not in query:
        expected = parse_qsl(query.decode(), keep_blank_values=True, errors="werkzeug.url_quote")
        assert json.loads(wire.body)["args"] == grouped(expected)


@cases(200)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=5))
def test_a_query_comes_as_it_was_sent(fuzzed: Fuzzed, pairs: list[tuple[str, str]]) -> None:
    wire = fuzzed("GET", "/query", urlencode(pairs).encode())
    assert json.loads(wire.body)["args"] == grouped(pairs)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
JSON_SEEDS = [
    b'{"a": [1, 2.5e3, "\\u00fc", null, true], "b": {}}',
    b"NaN", b"-Infinity", b"1e999", b'"\\ud800"', b'"\\ud83d\\ude00"', b"[" * 500, b"1" * 500, b'{"a":1,"a":2}',
    b"\xef\xbb\xbf[]",
]  # fmt: skip


@cases(250)
@given(VALUES, st.sampled_from(["utf-8", "utf-16", "utf-32", "utf-8-sig"]), st.booleans(), st.data())
def test_json_comes_back(
    fuzzed: Fuzzed, value: Any, encoding: str, ascii_only: bool, data: st.DataObject
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode(encoding)[:1990]
    wire = fuzzed("POST", "/json", b"", [(b"content-type", b"application/json")], *data.draw(cut(text)))
    if len(text) < 1990:
        assert wire.status == 200 and json.loads(wire.body)["got"] == value
    else:
        assert wire.status in (200, 400)


@cases(400)
@given(like(*JSON_SEEDS), headers(b"content-type", b"content-length", b"content-encoding", most=2))
def test_bodies_that_may_be_json(fuzzed: Fuzzed, body: bytes, sent: Headers) -> None:
    wire = fuzzed("POST", "/json", b"", [*sent, (b"content-type", b"application/json")], body)
    assert wire.status in (200, 400, 413, 415)
    if wire.status == 200:
        json.loads(wire.body, parse_constant=pytest.fail)


MULTIPART = b"\r\n".join(
    [
        b"--" + BOUNDARY,
        b'Content-Disposition: form-data; name="a"',
        b"Content-Type: text/plain; charset=utf-8",
        b"",
        "ü".encode(),
        b"--" + BOUNDARY,
        b"Content-Disposition: form-data; name=f; filename=\"x.txt\"; filename*=UTF-8''%C3%BC.txt",
        b"Content-Type: application/octet-stream",
        b"Content-Transfer-Encoding: binary",
        b"",
        b"\0\1\2\r\n--",
        b"--" + BOUNDARY + b"--",
        b"",
    ]
)
FORM_TYPES = [
    b"multipart/form-data; boundary=" + BOUNDARY,
    b'multipart/form-data; boundary="' + BOUNDARY + b'"; charset=x',
    b"application/x-www-form-urlencoded",
    b"multipart/form-data",
    b"multipart/form-data; boundary=\xff",
]


@cases(350)
@given(like(MULTIPART, b"a=1&b=%ff&c&=&" + b"x=" * 30), st.sampled_from(FORM_TYPES), st.data())
def test_bodies_that_may_be_forms(fuzzed: Fuzzed, body: bytes, kind: bytes, data: st.DataObject) -> None:
    wire = fuzzed("POST", "/form", b"", [(b"content-type", kind)], *data.draw(cut(body)))
    assert wire.status in (200, 400, 413)


@st.composite
def multipart(draw: st.DrawFn) -> tuple[bytes, dict[str, list[Any]], dict[str, list[Any]]]:
    """A body, and the fields and files in it."""
    name = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=5)
    content = st.one_of(
        st.binary(max_size=30),
        st.sampled_from([b"\r", b"\r\n", b"\n--", b"--" + BOUNDARY[:-1], b"\r\n--" + BOUNDARY[:-1]]),
    )
    body = b""
    fields: list[tuple[str, Any]] = []
    files: list[tuple[str, Any]] = []
    for part in draw(st.lists(st.tuples(name, st.none() | name, content), min_size=1, max_size=4)):
        field, filename, data = part
        body += b"--" + BOUNDARY + f'\r\nContent-Disposition: form-data; name="{field}"'.encode()
        if filename is None:
            fields.append((field, data.decode("utf-8", "replace")))
        else:
            files.append((field, [filename, data.decode("latin-1")]))
            body += f'; filename="{filename}"'.encode()
        body += b"\r\n\r\n" + data + b"\r\n"
    return body + b"--" + BOUNDARY + b"--\r\n", grouped(fields), grouped(files)


@cases(200)
@given(multipart(), st.data())
def test_a_form_comes_as_it_was_sent(
    fuzzed: Fuzzed, form: tuple[bytes, Any, Any], data: st.DataObject
) -> None:
    body, fields, files = form
    wire = fuzzed("POST", "/form", b"", [(b"content-type", FORM_TYPES[0])], *data.draw(cut(body)))
    assert json.loads(wire.body) == {"form": fields, "files": files}


@cases(120)
@given(
    st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]),
    st.lists(st.binary(max_size=900), max_size=4),
    headers(b"content-length", b"transfer-encoding", b"content-type", most=2),
)
def test_bodies_within_and_over_the_limit(
    fuzzed: Fuzzed, method: str, pieces: list[bytes], sent: Headers
) -> None:
    wire = fuzzed(method, "/body", b"", sent, *pieces)
    if sum(map(len, pieces)) > 2000:
        assert wire.status == 413
    elif wire.status == 200:
        assert wire.body == b"".join(pieces)
    else:
        assert wire.status == 413 and any(name.lower() == b"content-length" for name, _ in sent)


def signed(app: Samovar, **content: Any) -> bytes:
    signer: Any = app.session_interface.get_signing_serializer(app)  # type: ignore[attr-defined]
    return b"session=" + str(signer.dumps(content)).encode()


@cases(250)
@given(st.data(), WORDS)
def test_cookies(fuzzed: Fuzzed, app: Samovar, data: st.DataObject, said: str) -> None:
    good = signed(app, user="ada", _flashes=[("a", "b")], _permanent=True)
    cookie = re.sub(
        rb"[\r\n\0]", b"", data.draw(like(good, b"session=; session=a.b.c", good + b"; session="))
    )
    wire = fuzzed("GET", "/session", urlencode({"say": said}).encode(), [(b"cookie", cookie)])
    assert wire.status == 200
    answer = json.loads(wire.body)
    assert answer["user"] in (None, "ada")
    if answer["user"] == "ada":
        assert good.partition(b"=")[2] in cookie, "a cookie was believed that is not as it was signed"


@cases(200)
@given(WORDS)
def test_what_a_client_says_goes_into_headers(fuzzed: Fuzzed, said: str) -> None:
    query = urlencode({"say": said}).encode()
    wire = fuzzed("GET", "/back", query)
    assert wire.status in (302, 400)
    assert all(name in (b"set-cookie", b"location", b"x-said", b"content-type", b"content-length", b"vary")
               for name in wire.headers)  # fmt: skip
    assert fuzzed("GET", "/named", query).status == 200


PATHS = st.one_of(
    st.lists(
        st.sampled_from(
            [
                "..", ".", "", "/", "a.txt", "sub", "b.txt", "private.txt", "static-private", "%2e%2e", "..%2f",
                "\\", "..\\",
                "\0", "~", "etc", "passwd", "C:", "C:\\", "//", "....//", "\udcff", "a.txt/", "a.txt\0.png", "..;",
                "\u2025", "NUL",
            ]
        ),
        max_size=6,
    ).map("/".join),
    st.text(max_size=20),
)  # fmt: skip


@cases(300)
@given(st.sampled_from(["/static/", "/from/", "/static/sub/", "/static", "/"]), PATHS)
def test_no_path_leaves_the_static_folder(fuzzed: Fuzzed, folder: Path, start: str, path: str) -> None:
    for given_path in (path, str(folder / path) if path else path):
        wire = fuzzed("GET", start + given_path)
        assert wire.status in (200, 301, 308, 404, 405)
        if wire.status == 200:
            assert wire.body in (b"public a", b"public b")
        assert wire.body != b"private"


@cases(200)
@given(like(b"/int/1/2.5", b"/int/" + b"9" * 5000 + b"/1.0", b"/int/-1/1e5", b"/int/1/" + b"9" * 400 + b".0",
            b"/id/12345678-1234-5678-1234-567812345678/a/x/y", b"/head", b"//head", b"/HEAD/"),
       st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "\u00fc"]))  # fmt: skip
def test_paths_and_methods(fuzzed: Fuzzed, path: bytes, method: str) -> None:
    wire = fuzzed(method, path.decode("utf-8", "replace"))
    assert wire.status in (200, 308, 404, 405)
