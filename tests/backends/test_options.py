"""What the URLs of Redis and RabbitMQ have in common: read alike, refused in the same words, no password ever shown."""

from __future__ import annotations

import ssl
from dataclasses import fields
from typing import TypeAlias, cast

import pytest

from samovar.backends import rabbitmq, redis
from samovar.backends.options import BrokerOptions, read_query, whole
from samovar.broadcast import Hub, open_backend
from samovar.broadcast.backend import redact_url
from samovar.errors import ConfigError, UnknownBackend

OptionsType: TypeAlias = type[redis.Options] | type[rabbitmq.Options]
BROKERS: tuple[OptionsType, ...] = (redis.Options, rabbitmq.Options)


@pytest.fixture(params=BROKERS, ids=lambda options: options.form.plain)
def options(request: pytest.FixtureRequest) -> OptionsType:
    """The options of a broker."""
    return cast(OptionsType, request.param)


def written(url: str, options: type[BrokerOptions]) -> str:
    """*url* with the scheme of a broker for PLAIN, or that with TLS for SECURE."""
    return url.replace("PLAIN", options.form.plain).replace("SECURE", options.form.secure)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("PLAIN://", {"host": "localhost", "tls": False}),
        ("PLAIN://[::1]:7000", {"host": "::1", "port": 7000, "where": "[::1]:7000"}),
        ("PLAIN://ann:p%40s%23:s@h:1", {"user": "ann", "password": "p@s#:s", "where": "h:1"}),
        (
            "PLAIN://h?connect_timeout=0.5&heartbeat=1&probe=5&name=w1",
            {"connect_timeout": 0.5, "heartbeat": 1.0, "probe": 5.0, "name": "w1"},
        ),
        ("SECURE://h?tls_verify=0", {"tls": True, "tls_verify": False}),
        (
            f"SECURE://h?tls_ca={__file__}&tls_cert={__file__}&tls_key={__file__}",
            {"tls_verify": True, "tls_ca": __file__, "tls_cert": __file__, "tls_key": __file__},
        ),
    ],
)
def test_a_url_says_where_and_how(options: OptionsType, url: str, expected: dict[str, object]) -> None:
    read = options.from_url(written(url, options))
    assert {name: getattr(read, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("PLAIN://h?heartbaet=1", "connect_timeout, heartbeat, probe, "),
        ("PLAIN://h?heartbaet=1", "each once, not 'heartbaet'"),
        ("PLAIN://h?password=x", "each once, not 'password'"),
        ("PLAIN://h?probe=1&probe=1", "each once, not 'probe'"),
        ("PLAIN://h?heartbeat=0", "heartbeat is a number of seconds above 0, such as 2 or 0.5, not '0'"),
        ("PLAIN://h?heartbeat=-1", "heartbeat is a number of seconds above 0"),
        ("PLAIN://h?heartbeat=1e3", "heartbeat is a number of seconds above 0"),
        ("PLAIN://h?heartbeat=inf", "heartbeat is a number of seconds above 0"),
        ("PLAIN://h?heartbeat=٣", "heartbeat is a number of seconds above 0"),
        ("PLAIN://h?probe=", "probe is a number of seconds above 0"),
        ("PLAIN://h?name=", "name is 1 to "),
        ("PLAIN://h?name=a{b}", "name is 1 to "),
        ("PLAIN://h:port", "host and port do not read"),
        ("PLAIN://h:99999", "host and port do not read"),
        ("PLAIN://ann@h", "a user comes with a password: user:password@"),
        ("PLAIN://h#1", "has no '#'; in a password it is written %23"),
        ("PLAIN://h?tls_ca=/ca.pem", "tls_ca needs SECURE://, which encrypts"),
        ("SECURE://h?tls_ca=", "tls_ca is the path of a file"),
        ("SECURE://h?tls_ca=/nowhere/a@b.pem", "tls_ca=/nowhere/a@b.pem is no file"),
        (f"SECURE://h?tls_cert={__file__}", "tls_cert and tls_key are given together"),
        (f"SECURE://h?tls_key={__file__}", "tls_cert and tls_key are given together"),
        ("SECURE://h?tls_verify=no", "tls_verify is 0 or 1, not 'no'"),
    ],
)
def test_a_bad_url_names_what_is_wrong(options: OptionsType, url: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_backend(written(url, options))
    assert written(words, options) in str(caught.value)
    assert str(caught.value).startswith(f"'{options.form.plain}")


@pytest.mark.parametrize(
    "url",
    [
        "PLAIN://u:12/ecret@h",
        "PLAIN://u:12?ecret@h",
        "PLAIN://u:12#ecret@h",
        "PLAIN://u:12?ec=ret@h",
        "PLAIN:u:ecret@h",
        "PLAIN:/u:ecret@h",
    ],
)
def test_what_may_be_the_end_of_a_password_is_told_by_how_a_url_begins(
    options: OptionsType, url: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        options.from_url(written(url, options))
    said = str(caught.value)
    assert f"a URL of {options.form.broker} does not read: it begins {options.form.begins}, and in" in said
    assert "ecret" not in said and "ret@" not in said


@pytest.mark.parametrize(
    "url",
    [
        "PLAIN://:s3cret@h?x=1",
        "PLAIN://ann:s3cret@h?x=1",
        "PLAIN://ann:s3cret@h?heartbeat=x",
        "PLAIN://ann:s3cret@h?tls_ca=/x",
        "PLAIN://ann:s3cret@h/a/b#c",
        "PLAIN://:s3c#ret@h",
        "PLAIN://:s3c?ret@h",
        "PLAIN://:s3c/ret@h",
        "PLAIN://:s3c@ret@h?x=1",
        "PLAIN://:s3cret@h:port",
        "PLAIN://s3cret@h",
        "PLAIN//:s3cret@h",
        "xPLAIN://:s3cret@h",
    ],
)
def test_a_password_is_never_shown(options: OptionsType, url: str) -> None:
    with pytest.raises((ConfigError, UnknownBackend)) as caught:
        open_backend(written(url, options))
    assert "s3c" not in str(caught.value) and "ret@" not in str(caught.value)


async def test_a_hub_and_a_backend_do_not_show_their_password_either(options: OptionsType) -> None:
    hub = Hub(written("PLAIN://ann:s3cret@localhost:1/2", options))
    with pytest.raises(Exception, match="not started") as caught:
        await hub.publish("c", "x")
    assert isinstance(hub.backend, redis.RedisBackend | rabbitmq.RabbitBackend)
    shown = f"{caught.value} {hub!r} {hub.url} {hub.backend!r} {hub.backend.options!r}"
    assert "s3cret" not in shown and "ann" in shown
    assert hub.backend.options.where in repr(hub.backend)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://me:secret@host/x", "amqp://me:***@host/x"),
        ("amqp://me:sec@ret@host", "amqp://me:***@host"),
        ("amqp://me:12/secret@host", "amqp://me:***@host"),
        ("amqp:me:secret@host", "amqp:***@host"),
        ("me:secret@host", "me:***@host"),
        ("secret@host", "***@host"),
        ("localhost:5672", "localhost:5672"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_every_option_of_a_url_is_a_field(options: OptionsType) -> None:
    assert set(options.form.readers) <= {field.name for field in fields(options)}


def test_the_certificate_is_checked_unless_told_otherwise(options: OptionsType) -> None:
    plain, secure, trusting = (
        options.from_url(written(url, options)).context()
        for url in ("PLAIN://h", "SECURE://h", "SECURE://h?tls_verify=0")
    )
    assert plain is None and secure is not None and trusting is not None
    assert secure.verify_mode is ssl.CERT_REQUIRED and secure.check_hostname
    assert trusting.verify_mode is ssl.CERT_NONE and not trusting.check_hostname


def test_files_that_are_no_certificates_are_found_when_it_is_connected(options: OptionsType) -> None:
    own = f"tls_cert={__file__}&tls_key={__file__}"
    for query in (f"tls_ca={__file__}", own):
        with pytest.raises(OSError, match=r"(?i)ssl|x509|pem"):
            options.from_url(written(f"SECURE://h?{query}", options)).context()


def test_what_the_rest_of_a_url_gives_is_not_given_again() -> None:
    readers = {"cups": whole, "pots": whole}
    assert read_query("tea:", "cups=2&pots=99999999999", readers, known="") == {
        "cups": 2,
        "pots": 99_999_999_999,
    }
    with pytest.raises(ConfigError, match="'tea:': the options are cups and pots, each once, not 'cups'"):
        read_query("tea:", "cups=2", readers, known="the options are cups and pots", given={"cups": 1})


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "٣", "100000000000", "x"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is a whole number above 0"):
        whole(text)
