"""The cookie jar by RFC 6265, and the client that uses it."""

from datetime import timedelta
from typing import Any

import pytest

from samovar.core.testing import CookieJar, TestClient

from .apps import answer


def jar_after(*headers: str, host: str = "example.org", path: str = "/a/b") -> CookieJar:
    jar = CookieJar(clock=lambda: 1000.0)
    jar.read(headers, host=host, path=path)
    return jar


@pytest.mark.parametrize(
    ("header", "scheme", "host", "path", "sent"),
    [
        ("k=v", "http", "example.org", "/a/x", "k=v"),
        ("k=v", "http", "example.org", "/ab", ""),
        ("k=v; Path=/", "http", "example.org", "/", "k=v"),
        ("k=v; Path=/a", "http", "example.org", "/a", "k=v"),
        ("k=v; Path=relative", "http", "example.org", "/a/x", "k=v"),
        ("k=v; Path=/", "http", "www.example.org", "/", ""),
        ("k=v; Path=/; Domain=example.org", "http", "www.example.org", "/", "k=v"),
        ("k=v; Path=/; Domain=.example.org", "http", "www.example.org", "/", "k=v"),
        ("k=v; Path=/; Domain=other.org", "http", "other.org", "/", ""),
        ("k=v; Path=/; Secure", "http", "example.org", "/", ""),
        ("k=v; Path=/; Secure", "wss", "example.org", "/", "k=v"),
        ("k=v; Path=/; Max-Age=10", "http", "example.org", "/", "k=v"),
        ("k=v; Path=/; Max-Age=0", "http", "example.org", "/", ""),
        ("k=v; Path=/; Expires=Thu, 01 Jan 1970 00:00:01 GMT", "http", "example.org", "/", ""),
        ("k=v; Path=/; Max-Age=10; Expires=Thu, 01 Jan 1970 00:00:01 GMT", "http", "example.org", "/", "k=v"),
        ("k=; Path=/", "http", "example.org", "/", "k="),
        ("", "http", "example.org", "/", ""),
    ],
)
def test_a_cookie_goes_where_it_belongs(header: str, scheme: str, host: str, path: str, sent: str) -> None:
    assert jar_after(header).header(scheme=scheme, host=host, path=path) == sent


def test_an_address_has_no_subdomains() -> None:
    assert len(jar_after("k=v; Domain=0.0.1", host="127.0.0.1")) == 0


def test_a_cookie_replaces_its_namesake_and_longer_paths_come_first() -> None:
    jar = jar_after("k=1; Path=/", "k=2; Path=/", "k=3; Path=/a")
    assert jar.header(scheme="http", host="example.org", path="/a") == "k=3; k=2"


def test_a_cookie_expires_while_it_is_kept() -> None:
    now = [1000.0]
    jar = CookieJar(clock=lambda: now[0])
    jar.read(["k=v; Max-Age=5"], host="h", path="/")
    now[0] = 1006.0
    assert jar.header(scheme="http", host="h", path="/") == ""


async def counting(scope: Any, receive: Any, send: Any) -> None:
    sent = dict(scope["headers"]).get(b"cookie", b"")
    await answer(send, sent, headers=[(b"set-cookie", b"seen=1; Path=/"), (b"set-cookie", b"also=2; Path=/")])


async def test_the_client_keeps_cookies_between_requests() -> None:
    client = TestClient(counting)
    assert await (await client.get("/")).get_data() == b""
    assert await (await client.get("/")).get_data() == b"seen=1; also=2"


async def test_a_client_without_cookies_keeps_none() -> None:
    client = TestClient(counting, use_cookies=False)
    await client.get("/")
    assert await (await client.get("/")).get_data() == b""
    with pytest.raises(RuntimeError, match="use_cookies=True"):
        client.set_cookie("localhost", "a", "1")


async def test_cookies_can_be_set_and_deleted_by_hand() -> None:
    client = TestClient(counting)
    client.set_cookie("localhost", "a", "with space")
    assert await (await client.get("/")).get_data() == b'a="with space"'
    client.delete_cookie("localhost", "a")
    client.delete_cookie("localhost", "never")
    assert await (await client.get("/")).get_data() == b"seen=1; also=2"


async def test_cookies_of_the_test_s_own_come_first_and_win() -> None:
    client = TestClient(counting)
    client.set_cookie("localhost", "a", "1")
    client.set_cookie("localhost", "b", "1")
    assert await (await client.get("/", headers={"Cookie": "b=2"})).get_data() == b"b=2; a=1"


@pytest.mark.parametrize("host", ["localhost", "shop.localhost", "127.0.0.1", "[::1]"])
def test_a_secure_cookie_goes_to_this_machine_without_tls(host: str) -> None:
    jar = jar_after("k=v; Secure", host=host)
    assert jar.header(scheme="http", host=host, path="/a/x") == "k=v"


async def test_a_cookie_set_by_hand_has_what_a_header_has() -> None:
    client = TestClient(counting)
    client.set_cookie("localhost:5000", "a", "1", timedelta(minutes=1), httponly=True, samesite="Lax")
    client.set_cookie("localhost", "gone", "1", max_age=0)
    client.set_cookie("localhost", "below", "1", path="/only here")
    client.set_cookie("localhost", "other", "1", domain=".example.org", secure=True)
    kept = client.get_cookie("a")
    assert kept is not None and kept.expires is not None and kept.host_only
    assert "httponly" in kept.attributes and kept.attributes["samesite"] == "Lax"
    assert client.get_cookie("gone") is None and client.get_cookie("below", path="/only here")
    other = client.get_cookie("other", domain="example.org")
    assert other is not None and other.secure and not other.host_only


async def test_cookies_may_be_set_and_deleted_as_in_flask() -> None:
    client = TestClient(counting)
    client.set_cookie("a", "1")
    assert await (await client.get("/")).get_data() == b"a=1"
    client.delete_cookie("a")
    assert b"a=1" not in await (await client.get("/")).get_data()
