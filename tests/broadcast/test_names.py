"""Names of channels, and the one matcher of patterns."""

from __future__ import annotations

from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from samovar.broadcast import ChannelRule, Rules, check_channel, presence_channel
from samovar.errors import InvalidChannel, InvalidRule

SOME_UUID = "0b6e1a2c-33f4-4b6e-9f7a-000102030405"


@pytest.mark.parametrize("name", ["a", "chat/1", "A-Z_a.z:0/9@x~y", "x" * 200, "/", "//", "1", "~", "-"])
def test_a_good_name_passes(name: str) -> None:
    check_channel(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("x" * 201, "200"),
        ("a b", "made of"),
        ("a\n", "made of"),
        ("a\x00", "made of"),
        ("a=b", "made of"),
        ("a,b", "made of"),
        ("!chat", "made of"),
        ("café", "made of"),
        ("٣", "made of"),
        ("a%20", "made of"),
        ("<x>", "made of"),
        (None, "str"),
        (b"chat", "str"),
        (7, "str"),
    ],
)
def test_a_bad_name_says_why(name: Any, why: str) -> None:
    with pytest.raises(InvalidChannel, match=why):
        check_channel(name)


def test_a_presence_channel_is_only_made_not_written() -> None:
    made = presence_channel("chat/1")
    check_channel(made)
    with pytest.raises(InvalidChannel):
        check_channel(str.__str__(made))
    with pytest.raises(InvalidChannel):
        presence_channel(made)
    with pytest.raises(InvalidChannel):
        presence_channel("no name")


def table(*patterns: str) -> Rules:
    rules = Rules()
    for pattern in patterns:
        rules.add(ChannelRule(pattern))
    return rules


@pytest.mark.parametrize(
    ("pattern", "name", "values"),
    [
        ("prices", "prices", {}),
        ("prices", "prices/eur", None),
        ("prices", "Prices", None),
        ("chat/<room>", "chat/lobby", {"room": "lobby"}),
        ("chat/<room>", "chat/a/b", None),
        ("chat/<room>", "chat/", None),
        ("chat/<room>", "xchat/lobby", None),
        ("chat/<string:room>", "chat/lobby", {"room": "lobby"}),
        ("order/<int:n>", "order/7", {"n": 7}),
        ("order/<int:n>", "order/0", {"n": 0}),
        ("order/<int:n>", "order/07", None),
        ("order/<int:n>", "order/-7", None),
        ("order/<int:n>", "order/7x", None),
        ("doc/<uuid:id>", f"doc/{SOME_UUID}", {"id": UUID(SOME_UUID)}),
        ("doc/<uuid:id>", f"doc/{SOME_UUID.upper()}", None),
        ("doc/<uuid:id>", "doc/1", None),
        ("files/<path:name>", "files/a/b//c", {"name": "a/b//c"}),
        ("files/<path:name>", "files//a", None),
        ("files/<path:name>", "files/", None),
        ("<path:all>", "any/thing", {"all": "any/thing"}),
        ("<a>.<b>", "x.y", {"a": "x", "b": "y"}),
        ("u:<int:id>/m", "u:12/m", {"id": 12}),
        ("a.c", "abc", None),
        ("a/<path:p>/z", "a/b/c/z", {"p": "b/c"}),
    ],
)
def test_a_pattern_matches(pattern: str, name: str, values: dict[str, Any] | None) -> None:
    match = table(pattern).match(name)
    assert (None if match is None else dict(match.values)) == values


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("chat/lobby", ["chat/lobby", "chat/<room>", "chat/<path:rest>", "<kind>/lobby", "<path:all>"]),
        ("n/7", ["n/7", "n/<int:n>", "n/<n>", "n/<path:n>"]),
        (f"d/{SOME_UUID}", ["d/<uuid:id>", "d/<id>", "d/<path:id>"]),
        ("a/b", ["a/<x>", "<x>/b"]),
        ("abc", ["ab<x>", "a<x>c", "a<x>", "<x>bc", "<x>c"]),
    ],
)
def test_the_more_specific_rule_wins_in_whatever_order_they_came(name: str, order: list[str]) -> None:
    for patterns in permutations(order):
        rules = table(*patterns)
        assert [rule.pattern for rule in rules] == order
        match = rules.match(name)
        assert match is not None and match.rule.pattern == order[0]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("prices", "prices"),
        ("chat/<room>", "chat/<name>"),
        ("chat/<room>", "chat/<string:room>"),
        ("<path:a>", "<path:b>"),
        ("<a>x<b>", "<a>y<b>"),
        ("n/<int:a>", "n/<int:b>"),
        ("d/<uuid:a>", "d/<uuid:b>"),
    ],
)
def test_rules_that_tie_are_refused(one: str, two: str) -> None:
    rules = table(one)
    with pytest.raises(InvalidRule, match="tie"):
        rules.add(ChannelRule(two))
    assert len(rules) == 1


@pytest.mark.parametrize(
    ("one", "two"),
    [("a/x", "a/y"), ("<a>/x", "<a>/y"), ("<a>-1", "<a>-2"), ("a<x>", "b<x>"), ("<a>/x<b>", "<a>/y<b>")],
)
def test_rules_that_share_no_name_do_not_tie(one: str, two: str) -> None:
    assert len(table(one, two)) == 2


@pytest.mark.parametrize(
    "pattern",
    ["", "chat/<room", "chat/room>", "chat/<>", "chat/<1>", "chat/<a b>", "<x>/<x>", "<int:a><b>", "<float:x>",
     "<int:>", "<:x>", "a b", "café", "!chat", "a\n", None, 7, "<a:b:c>"],
)  # fmt: skip
def test_a_pattern_that_cannot_work_is_refused(pattern: Any) -> None:
    with pytest.raises(InvalidRule):
        ChannelRule(pattern)


@pytest.mark.parametrize(
    "options",
    [
        {"history": -1}, {"history": 1.5}, {"max_bytes": 0}, {"replay": -1}, {"ttl": 0}, {"ttl": float("nan")},
        {"ttl": float("inf")}, {"recheck": 0}, {"ttl": "5"}, {"ttl": None},
    ],
)  # fmt: skip
def test_an_option_that_cannot_work_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRule, match=next(iter(options))):
        ChannelRule("chat", **options)


def test_a_value_comes_back_with_its_rule() -> None:
    rules, rule = Rules(), ChannelRule("chat/<room>")
    rules.add(rule, value=test_a_value_comes_back_with_its_rule)
    match = rules.match("chat/1")
    assert match is not None and rules.value(match.rule) is test_a_value_comes_back_with_its_rule
    assert rules.match("news") is None


def test_a_rule_added_later_is_seen_by_names_matched_before() -> None:
    rules = table("<path:all>")
    before, rule = rules.match("chat/1"), ChannelRule("chat/<room>")
    rules.add(rule)
    after = rules.match("chat/1")
    assert before is not None and after is not None
    assert (before.rule.pattern, after.rule) == ("<path:all>", rule)


def test_hostile_names_do_not_fill_the_memory_of_matches() -> None:
    rules = table("chat/<room>")
    for n in range(10_000):
        rules.match(f"chat/{n}")
    assert len(rules._matches) <= 4096
