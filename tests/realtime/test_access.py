"""Rules asked, and the origin of websockets."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from samovar.broadcast import ChannelRule
from samovar.core.realtime.access import Access, ChannelAccess, check_origins, origin_allowed
from samovar.errors import ConfigError, InvalidRule


def awaitable(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def call(**values: Any) -> Any:
        answer = function(**values)
        return await answer if hasattr(answer, "__await__") else answer

    return call


def access() -> ChannelAccess:
    return ChannelAccess(awaitable)


async def test_a_rules_function_gets_the_patterns_values_and_its_answer_counts() -> None:
    rules = access()
    asked: list[object] = []

    def may_join(room: int) -> bool:
        asked.append(room)
        return room == 1

    rules.add(ChannelRule("chat/<int:room>"), may_join)
    assert await rules.ask("chat/1") == Access()
    assert await rules.ask("chat/2") is None
    assert asked == [1, 2]


async def test_an_access_is_passed_on_and_an_async_function_awaited() -> None:
    rules = access()

    async def guard() -> Access:
        return Access(user="ann", info={"name": "Ann"})

    rules.add(ChannelRule("news"), guard)
    granted = await rules.ask("news")
    assert granted is not None and granted.user == "ann"


async def test_a_channel_without_a_rule_is_open_to_route_code() -> None:
    assert await access().ask("anything") == Access()


async def test_a_name_that_goes_past_a_guard_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    rules = access()
    rules.add(ChannelRule("desk/<int:number>"), lambda number: False)
    rules.add(ChannelRule("open/<name>"))
    rules.add(ChannelRule("whole"), lambda: False)
    assert rules.guards("desk/1") and not rules.guards("open/1/2") and not rules.guards("whole/1")
    assert caplog.messages == []
    assert not rules.guards("desk/-1")
    assert await rules.ask("desk/-2") == Access()
    (told,) = caplog.messages
    assert "'desk/-1'" in told and "'desk/<int:number>'" in told


async def test_an_answer_of_another_type_is_an_error_that_names_the_function() -> None:
    rules = access()
    rules.add(ChannelRule("x"), lambda: "yes")  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="must return a bool or an Access"):
        await rules.ask("x")


def test_two_rules_that_tie_are_refused() -> None:
    rules = access()
    rules.add(ChannelRule("chat/<room>"))
    with pytest.raises(InvalidRule):
        rules.add(ChannelRule("chat/<other>"))


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "example.com", True),
        ("https://example.com", "example.com", True),
        ("http://example.com", "example.com", True),
        ("http://example.com:80", "example.com", True),
        ("https://example.com:443", "example.com", True),
        ("https://example.com", "example.com:443", True),
        ("http://localhost:5000", "localhost:5000", True),
        ("https://EXAMPLE.com", "example.COM", True),
        ("http://[::1]:5000", "[::1]:5000", True),
        ("http://example.com:8080", "example.com", False),
        ("https://evil.com", "example.com", False),
        ("https://example.com.evil.com", "example.com", False),
        ("https://example.com@evil.com", "example.com", False),
        ("https://evil.com/example.com", "example.com", False),
        ("null", "example.com", False),
        ("", "example.com", False),
        ("https://", "example.com", False),
        ("https://example.com:x", "example.com", False),
        ("https://example.com", None, False),
        ("https://example.com", "", False),
    ],
)
def test_a_websocket_comes_from_its_own_origin_or_from_no_page(
    origin: str | None, host: str | None, allowed: bool
) -> None:
    assert origin_allowed(origin, host) is allowed


def test_listed_origins_pass_and_a_star_lets_all_in() -> None:
    assert origin_allowed("https://app.example.org", "example.com", ["https://app.example.org/"])
    assert not origin_allowed("https://app.example.org:8443", "example.com", ["https://app.example.org"])
    assert origin_allowed("https://evil.com", "example.com", ["*"])
    assert not origin_allowed("null", "example.com", ["https://app.example.org"])


@pytest.mark.parametrize("value", [5, ["example.com"], ["https://"], [None], ""])
def test_a_bad_list_of_origins_names_the_setting(value: object) -> None:
    with pytest.raises(ConfigError, match="WEBSOCKET_ALLOWED_ORIGINS"):
        check_origins(value)


def test_a_good_list_of_origins() -> None:
    assert check_origins(None) == ()
    assert check_origins("https://a.example") == ("https://a.example",)
    assert check_origins(["*"]) == ("*",)
