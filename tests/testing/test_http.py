"""HTTP requests of the test client against hand-written ASGI apps."""

import asyncio
import importlib
from io import BytesIO
from typing import Any

import pytest
from werkzeug.datastructures import Authorization, FileStorage

from samovar import Samovar, make_push_promise, request
from samovar.core import testing
from samovar.core.testing import HTTPDisconnectError, TestClient

from .apps import Recorder, answer, echo, read_body, ticker


async def seen(client: TestClient, path: str, **kwargs: Any) -> Any:
    return await (await client.open(path, **kwargs)).get_json()


async def test_a_request_reaches_the_app_as_a_server_would_send_it() -> None:
    got = await seen(TestClient(echo), "/a b/ü?x=1&y=%20", headers={"X-One": "1"})
    assert (got["method"], got["path"], got["raw_path"]) == ("GET", "/a b/ü", "/a%20b/%C3%BC")
    assert got["query"] == "x=1&y=%20"
    assert got["headers"] == {"x-one": "1", "host": "localhost", "user-agent": "samovar-test-client"}


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options", "trace"])
async def test_every_verb_is_a_method(method: str) -> None:
    response = await getattr(TestClient(echo), method)("/")
    assert (await response.get_json())["method"] == method.upper()


async def test_the_query_comes_from_a_mapping_with_lists() -> None:
    got = await seen(TestClient(echo), "/", query_string={"a": [1, 2], "b": "ä&"})
    assert got["query"] == "a=1&a=2&b=%C3%A4%26"


async def test_a_query_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        await TestClient(echo).get("/?a=1", query_string={"b": 2})


@pytest.mark.parametrize(
    ("given", "body", "kind"),
    [
        ({"data": b"\x00raw"}, "\x00raw", None),
        ({"data": "text"}, "text", None),
        ({"json": None}, "null", "application/json"),
        ({"json": {"a": 1}}, '{"a": 1}', "application/json"),
        ({"form": {"a": ["1", "2"], "b": "c d"}}, "a=1&a=2&b=c+d", "application/x-www-form-urlencoded"),
        ({"data": {"a": "1"}}, "a=1", "application/x-www-form-urlencoded"),
    ],
)
async def test_a_body_is_encoded_and_declared(given: dict[str, Any], body: str, kind: str | None) -> None:
    got = await seen(TestClient(echo), "/", method="POST", **given)
    assert got["body"] == body
    assert got["headers"].get("content-type") == kind
    assert got["headers"]["content-length"] == str(len(body))


async def test_two_bodies_are_refused() -> None:
    with pytest.raises(ValueError, match="one of data, json"):
        await TestClient(echo).post("/", data=b"x", json=1)


async def test_files_are_sent_as_multipart_with_the_form() -> None:
    upload = FileStorage(BytesIO(b"content"), filename="notes.txt", content_type="text/plain")
    got = await seen(TestClient(echo), "/", method="POST", form={"a": "1"}, files={"f": upload})
    assert got["headers"]["content-type"].startswith("multipart/form-data; boundary=")
    assert 'name="a"' in got["body"]
    assert 'name="f"; filename="notes.txt"' in got["body"]
    assert "Content-Type: text/plain\r\n\r\ncontent\r\n" in got["body"]


async def test_auth_root_path_scheme_and_subdomain_are_in_the_scope() -> None:
    got = await seen(
        TestClient(echo), "/x", auth=("u", "p"), root_path="/app", scheme="https", subdomain="www"
    )
    assert (got["path"], got["root_path"], got["scheme"]) == ("/app/x", "/app", "https")
    assert got["headers"]["host"] == "www.localhost"
    assert got["headers"]["authorization"] == "Basic dTpw"


async def test_an_absolute_url_sets_host_and_scheme() -> None:
    got = await seen(TestClient(echo), "https://example.org:8443/x")
    assert (got["scheme"], got["headers"]["host"], got["path"]) == ("https", "example.org:8443", "/x")


async def test_scope_base_wins() -> None:
    app = Recorder(echo)
    await TestClient(app).get("/", scope_base={"client": ("10.0.0.9", 1), "extra": True})
    assert app.scopes[0]["client"] == ("10.0.0.9", 1)
    assert app.scopes[0]["extra"] is True


async def redirecting(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/end":
        await echo(scope, receive, send)
        return
    code = int(scope["path"].strip("/"))
    await read_body(receive)
    await answer(send, b"", code, [(b"location", b"/end?from=there")])


@pytest.mark.parametrize(("code", "method", "body"), [(302, "GET", ""), (303, "GET", ""), (307, "POST", "x")])
async def test_redirects_are_followed_when_asked(code: int, method: str, body: str) -> None:
    client = TestClient(redirecting)
    got = await seen(client, f"/{code}", method="POST", data=b"x", follow_redirects=True)
    assert (got["method"], got["query"], got["body"]) == (method, "from=there", body)
    assert (await client.post(f"/{code}", data=b"x")).status_code == code


async def test_a_circle_of_redirects_ends() -> None:
    async def circle(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"", 302, [(b"location", b"/")])

    with pytest.raises(RuntimeError, match="20 redirects"):
        await TestClient(circle).get("/", follow_redirects=True)


async def test_what_the_app_raises_is_raised_to_the_test() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("its own")

    with pytest.raises(LookupError, match="its own"):
        await TestClient(failing).get("/")


async def test_an_error_after_the_response_is_raised_too() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"fine")
        raise LookupError("late")

    with pytest.raises(LookupError, match="late"):
        await TestClient(failing).get("/")


async def test_an_app_that_never_answers_costs_the_time_limit_and_leaves_no_task() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    app = Recorder(silent)
    with pytest.raises(
        TimeoutError, match=r"GET /x: waited 0\.05 s for the start of the response; .*nothing"
    ):
        await TestClient(app, timeout=0.05).get("/x")
    assert app.ended == ["cancelled"]
    assert asyncio.all_tasks() == before


async def test_a_response_without_end_costs_the_time_limit_once() -> None:
    with pytest.raises(TimeoutError, match=r"the response did not end in time \(\d+ bytes read\)"):
        await TestClient(ticker, timeout=0.1).get("/")


async def test_an_app_that_returns_without_an_answer_is_told_apart() -> None:
    async def mute(scope: Any, receive: Any, send: Any) -> None:
        pass

    with pytest.raises(HTTPDisconnectError, match="has returned"):
        await TestClient(mute).get("/")


async def test_a_response_cut_in_the_middle_is_an_error() -> None:
    async def cut(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    with pytest.raises(HTTPDisconnectError, match="cut"):
        await TestClient(cut).get("/")


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.response.body"}],
        [{"type": "http.response.start", "status": 200}] * 2,
        [{"type": "http.response.start", "status": 200}, *[{"type": "http.response.body"}] * 2],
        [
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]},
            {"type": "http.response.body", "body": b"12"},
        ],
        [
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]},
            {"type": "http.response.body", "body": b"12"},
        ],
        [{"type": "http.response.wrong"}],
    ],
)
async def test_what_a_server_refuses_is_refused(messages: list[Any]) -> None:
    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    with pytest.raises(RuntimeError, match=r"unexpected ASGI message|Content-Length"):
        await TestClient(wrong).get("/")


async def test_a_body_for_head_is_dropped_as_on_the_wire() -> None:
    async def page(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"12345", headers=[(b"content-length", b"5")])

    response = await TestClient(page).head("/")
    assert await response.get_data() == b""
    assert response.headers["content-length"] == "5"


@pytest.mark.parametrize("headers", [[], [(b"x-one", b"1")], [(b"content-type", b"text/plain")]])
async def test_the_headers_are_those_that_came(headers: list[Any]) -> None:
    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"123", "more_body": True})
        await send({"type": "http.response.body", "body": b"45"})

    response = await TestClient(streaming).get("/")
    assert await response.get_data() == b"12345"
    assert [(k.lower().encode(), v.encode()) for k, v in response.headers] == headers
    assert response.content_type == dict(response.headers).get("content-type")


async def test_a_streamed_answer_has_no_length_in_tests_either() -> None:
    app = Samovar(__name__, static_folder=None)

    @app.get("/")
    async def index() -> Any:
        async def pieces() -> Any:
            yield "123"

        return pieces()

    async with app.test_client().request("/") as connection:
        await connection.send_complete()
    response = await connection.as_response()
    assert await response.get_data() == b"123" and "Content-Length" not in response.headers


async def test_disconnect_follows_the_response() -> None:
    got: list[str] = []

    async def watching(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"")
        for _ in range(3):
            got.append((await receive())["type"])

    await TestClient(watching).get("/")
    assert got == ["http.request", "http.disconnect", "http.disconnect"]


async def streaming(scope: Any, receive: Any, send: Any) -> None:
    """Answers each piece of the body with the same in capitals."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-first", b"1")]})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"].upper(), "more_body": more})


async def test_request_and_response_stream_both_ways() -> None:
    app = Recorder(streaming)
    async with TestClient(app).request("/", method="POST") as connection:
        await connection.send(b"one")
        assert await connection.receive() == b"ONE"
        assert connection.status_code == 200
        assert connection.headers is not None
        assert connection.headers["x-first"] == "1"
        assert await connection.receive_nothing(0.01)
        await connection.send(b"two")
        await connection.send_complete()
    response = await connection.as_response()
    assert await response.get_data() == b"TWO"
    assert app.ended == ["returned"]


async def test_leaving_early_is_a_client_that_goes() -> None:
    app = Recorder(streaming)
    async with TestClient(app).request("/") as connection:
        assert await connection.start() == 200
    assert app.ended == ["returned"]


async def test_an_app_that_ignores_the_disconnect_is_named_and_cancelled() -> None:
    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    app = Recorder(stubborn)
    with pytest.raises(TimeoutError, match=r"to return after http\.disconnect"):
        async with TestClient(app, timeout=0.05).request("/") as connection:
            await connection.start()
    assert app.ended == ["cancelled"]


async def test_the_error_of_the_test_is_not_hidden_by_the_one_of_leaving() -> None:
    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="the test's own") as caught:
        async with TestClient(stubborn, timeout=0.02).request("/"):
            raise AssertionError("the test's own")
    assert "to return after http.disconnect" in caught.value.__notes__[0]


async def test_a_client_that_does_not_read_holds_the_app_back() -> None:
    sent: list[int] = []

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(100):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            sent.append(number)
        await send({"type": "http.response.body"})

    async with TestClient(flood).request("/", window=4) as connection:
        await connection.start()
        assert await connection.receive() == b"x"
        await asyncio.sleep(0)
        assert len(sent) <= 5
        await connection.send_complete()
    assert len(sent) == 100


async def test_state_is_copied_into_each_scope() -> None:
    app = Recorder(echo)
    client = TestClient(app)
    client.state["db"] = shared = object()
    await client.get("/")
    assert app.scopes[0]["state"]["db"] is shared
    assert app.scopes[0]["state"] is not client.state


async def test_promises_are_kept_by_the_client() -> None:
    app = Samovar(__name__)

    @app.get("/")
    async def index() -> str:
        await make_push_promise("/style.css")
        return "x"

    client = app.test_client()
    await client.get("/", headers={"Accept": "text/html", "X-Own": "1"})
    path, headers = client.push_promises[0]
    assert path == "/style.css" and headers["accept"] == "text/html" and "x-own" not in headers
    assert not client.preserve_context
    async with client:
        assert client.preserve_context


@pytest.mark.parametrize("module", ["app", "client", "connections", "utils"])
def test_the_names_stand_where_quart_has_them_too(module: str) -> None:
    places = {
        "app": ["LifespanError", "TestApp"],
        "client": ["SamovarClient"],
        "connections": ["HTTPDisconnectError", "TestHTTPConnection", "WebsocketResponseError"],
        "utils": ["make_test_body_with_headers", "make_test_scope", "no_op_push", "sentinel"],
    }
    found = importlib.import_module(f"samovar.core.testing.{module}")
    assert all(getattr(found, name) is getattr(testing, name) for name in places[module])


async def test_a_client_class_of_ones_own_gets_its_arguments() -> None:
    class Client(TestClient):
        def __init__(self, *args: Any, token: str, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.token = token

        async def open(self, path: str, **kwargs: Any) -> Any:
            kwargs.setdefault("auth", Authorization("bearer", token=self.token))
            return await super().open(path, **kwargs)

    app = Samovar(__name__)
    app.test_client_class = Client

    @app.get("/")
    async def index() -> str:
        return str(request.authorization and request.authorization.token)

    assert await (await app.test_client(token="tea").get("/")).get_data() == b"tea"
