"""A setting is checked at once, and the message says how to write it instead."""

from __future__ import annotations

import dataclasses
import logging
import math
import re
import traceback
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cachekit import urls as urls_module
from cachekit.config import (
    DEFAULT_MAXSIZE,
    DEFAULT_URL,
    LONGEST_TTL,
    SHORTEST_TTL,
    check_prefix,
    parse_count,
    parse_duration,
    parse_fraction,
)
from cachekit.errors import CachekitError, ConfigurationError
from cachekit.urls import (
    TLS,
    ClusterURL,
    Endpoint,
    Login,
    MemoryURL,
    SentinelURL,
    ServerURL,
    StoreURL,
    UnixURL,
    parse,
    url_from_environment,
)

relaxed = settings(max_examples=300)
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

# --- durations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "seconds"),
    [
        *[(600, 600), (0.5, 0.5), (1, 1), (0.001, 0.001), (LONGEST_TTL, LONGEST_TTL)],
        *[("10m", 600), ("1h30m", 5400), ("250ms", 0.25), ("1.5h", 5400), ("2w", 1_209_600), ("1d", 86_400)],
        *[("30s", 30), ("1s500ms", 1.5), ("1m1ms", 60.001), ("0d1s", 1), ("010s", 10)],
        *[(timedelta(minutes=10), 600), (timedelta(milliseconds=1), 0.001)],
    ],
    ids=repr,
)
def test_a_duration_may_be_written_in_these_forms(form: object, seconds: float) -> None:
    parsed = parse_duration(form)
    assert type(parsed) is float
    assert parsed == pytest.approx(seconds)


NO_DURATIONS = [
    *("", " ", "10", "m", "10 m", " 10m", "10m ", "10m\n", "10x", "10M", "-10m", "+10m", "1e3s", ".5s", "1.s", "1,5s"),
    *("10m5", "ten", "inf", "nan", "\u0663s", "1_0s", "1h:30m", "P1D", "{x}"),
    *(True, False, None, [], {}, b"10m", 1j, Decimal(10), object, "10m".join),
]
OUT_OF_RANGE = [
    *(0, -1, 0.0, -0.0, 0.0001, 1e30, -1e30, math.nan, math.inf, -math.inf, LONGEST_TTL + 1, 10**400, -(10**400)),
    *("0s", "0ms", "0.5ms", "101000w", "9" * 400 + "s"),
    *(timedelta(0), timedelta(seconds=-1), timedelta(microseconds=1), timedelta.max, timedelta.min),
]


def name_of(value: object) -> str:
    return repr(value)[:40]


@pytest.mark.parametrize("nonsense", NO_DURATIONS, ids=name_of)
def test_a_value_that_is_no_duration_is_refused_with_its_text_and_the_valid_forms(nonsense: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_duration(nonsense, "lease")
    assert str(caught.value).startswith(f"lease={nonsense!r} is not a duration; write ")
    assert '"1h30m"' in str(caught.value)


@pytest.mark.parametrize("nonsense", OUT_OF_RANGE, ids=name_of)
def test_a_duration_out_of_range_is_refused_with_its_text_and_the_range(nonsense: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_duration(nonsense)
    assert str(caught.value).startswith(f"ttl={nonsense!r} is out of range: it must be from 1 ms to 100 years")


@pytest.mark.parametrize("parse", [parse_duration, parse_count, parse_fraction])
def test_a_number_that_python_refuses_to_write_is_refused_as_any_other(parse: Any) -> None:
    for digits in (10**5000, -(10**5000)):
        if parse is parse_count and digits > 0:
            continue
        with pytest.raises(ConfigurationError, match="x=a int of too many digits is"):
            parse(digits, "x")


@relaxed
@given(st.lists(st.tuples(st.integers(0, 99) | st.decimals(0, 99, places=2), st.sampled_from([*UNITS])), min_size=1))
def test_text_is_the_sum_of_its_parts(parts: list[tuple[Any, str]]) -> None:
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    assume(SHORTEST_TTL <= seconds <= LONGEST_TTL)
    assert parse_duration("".join(f"{number}{unit}" for number, unit in parts)) == pytest.approx(seconds)


@relaxed
@given(st.integers() | st.floats() | st.text(max_size=6) | st.timedeltas() | st.none() | st.booleans() | st.binary())
@example(SHORTEST_TTL)
@example(LONGEST_TTL)
def test_a_duration_is_in_range_or_refused(value: object) -> None:
    try:
        seconds = parse_duration(value)
    except ConfigurationError:
        return
    assert type(seconds) is float
    assert SHORTEST_TTL <= seconds <= LONGEST_TTL
    if isinstance(value, timedelta):
        assert seconds == value.total_seconds()
    elif not isinstance(value, str):
        assert seconds == value


def test_a_configuration_error_is_a_value_error_too() -> None:
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(ConfigurationError, CachekitError)


# --- fractions, counts, prefixes ------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0, 0.0, 0.1, 0.999])
def test_a_fraction_is_from_0_to_below_1(fraction: float) -> None:
    assert parse_fraction(fraction, "jitter") == fraction


@pytest.mark.parametrize("nonsense", [-0.1, 1, 1.0, 2, math.nan, math.inf, "0.1", None, True, False, 1j], ids=repr)
def test_a_value_that_is_no_fraction_is_refused(nonsense: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_fraction(nonsense, "jitter")
    assert str(caught.value).startswith(f"jitter={nonsense!r} is not a fraction; write ")


@pytest.mark.parametrize("nonsense", [0, -1, 1.0, 1.5, "1", None, True, math.nan], ids=repr)
def test_a_value_that_is_no_count_is_refused(nonsense: object) -> None:
    assert parse_count(1, "limit") == 1
    with pytest.raises(ConfigurationError) as caught:
        parse_count(nonsense, "limit")
    assert str(caught.value).startswith(f"limit={nonsense!r} is not a count; write ")


@pytest.mark.parametrize("prefix", ["", "myapp:", "a/b|", "größe:", "*"])
def test_a_prefix_is_text(prefix: str) -> None:
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize(
    "nonsense",
    ["a b", " ", "a\n", "\t", "\x00", "\x7f", "\u00a0", "{a}", "{", "}", "\ud800", None, 1, b"a", ["a"]],
    ids=ascii,
)
def test_a_prefix_with_blanks_or_braces_or_without_utf8_is_refused(nonsense: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_prefix(nonsense)
    assert str(caught.value).startswith(f"prefix={nonsense!r} cannot stand before a key; write ")


# --- URLs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected", "shown"),
    [
        ("redis://", ServerURL(), "redis://localhost:6379/0"),
        ("redis://localhost", ServerURL(), "redis://localhost:6379/0"),
        ("redis://localhost/", ServerURL(), "redis://localhost:6379/0"),
        ("redis://localhost:", ServerURL(), "redis://localhost:6379/0"),
        ("REDIS://LocalHost", ServerURL(), "redis://localhost:6379/0"),
        ("redis://cache:7000/3", ServerURL(host="cache", port=7000, db=3), "redis://cache:7000/3"),
        ("redis://cache?db=4", ServerURL(host="cache", db=4), "redis://cache:6379/4"),
        ("redis://[::1]:7000/2", ServerURL(host="::1", port=7000, db=2), "redis://[::1]:7000/2"),
        ("redis://[fe80::1]", ServerURL(host="fe80::1"), "redis://[fe80::1]:6379/0"),
        ("redis://:secret@h", ServerURL(host="h", login=Login(password="secret")), "redis://:***@h:6379/0"),
        (
            "redis://app:secret@h",
            ServerURL(host="h", login=Login(username="app", password="secret")),
            "redis://app:***@h:6379/0",
        ),
        ("redis://app@h", ServerURL(host="h", login=Login(username="app")), "redis://app@h:6379/0"),
        (
            "redis://:p%40s%2Fs%3Aw%20%25@h",
            ServerURL(host="h", login=Login(password="p@s/s:w %")),
            "redis://:***@h:6379/0",
        ),
        (
            "redis://a%3Ab:c@h",
            ServerURL(host="h", login=Login(username="a:b", password="c")),
            "redis://a:b:***@h:6379/0",
        ),
        (
            "redis://u:p@ss@h",
            ServerURL(host="h", login=Login(username="u", password="p@ss")),
            "redis://u:***@h:6379/0",
        ),
        ("rediss://h", ServerURL(host="h", tls=TLS()), "rediss://h:6379/0"),
        ("redis://h?protocol=2", ServerURL(host="h"), "redis://h:6379/0"),
        ("redis://h?protocol=3", ServerURL(host="h", protocol=3), "redis://h:6379/0"),
        ("rediss://h?protocol=3", ServerURL(host="h", tls=TLS(), protocol=3), "rediss://h:6379/0"),
        ("unix:///s?protocol=3&db=1", UnixURL(path="/s", db=1, protocol=3), "unix:///s?db=1"),
        (
            "redis+sentinel://h/m?protocol=3",
            SentinelURL(sentinels=(Endpoint("h", 26_379),), service="m", protocol=3),
            "redis+sentinel://h:26379/m/0",
        ),
        (
            "redis+cluster://a?protocol=3",
            ClusterURL(nodes=(Endpoint("a", 6379),), protocol=3),
            "redis+cluster://a:6379",
        ),
        (
            "rediss://h/1?ssl_ca_certs=/ca.pem&ssl_certfile=c&ssl_keyfile=k",
            ServerURL(host="h", db=1, tls=TLS(ssl_ca_certs="/ca.pem", ssl_certfile="c", ssl_keyfile="k")),
            "rediss://h:6379/1",
        ),
        ("unix:///run/r.sock", UnixURL(path="/run/r.sock"), "unix:///run/r.sock?db=0"),
        ("unix:///run/@r%20.sock?db=2", UnixURL(path="/run/@r .sock", db=2), None),
        (
            "unix://app:secret@/run/r.sock",
            UnixURL(path="/run/r.sock", login=Login(username="app", password="secret")),
            "unix://app:***@/run/r.sock?db=0",
        ),
        (
            "redis+sentinel://app:secret@a:1,b,[::1]:3/main%20one/2?sentinel_username=u&sentinel_password=p%40ss",
            SentinelURL(
                sentinels=(Endpoint("a", 1), Endpoint("b", 26_379), Endpoint("::1", 3)),
                service="main one",
                db=2,
                login=Login(username="app", password="secret"),
                sentinel_login=Login(username="u", password="p@ss"),
            ),
            "redis+sentinel://app:***@a:1,b:26379,[::1]:3/main one/2",
        ),
        (
            "rediss+sentinel://h/mymaster?db=1&ssl_ca_certs=/ca.pem",
            SentinelURL(sentinels=(Endpoint("h", 26_379),), service="mymaster", db=1, tls=TLS(ssl_ca_certs="/ca.pem")),
            "rediss+sentinel://h:26379/mymaster/1",
        ),
        (
            "redis+cluster://:secret@a:1,b",
            ClusterURL(nodes=(Endpoint("a", 1), Endpoint("b", 6379)), login=Login(password="secret")),
            "redis+cluster://:***@a:1,b:6379",
        ),
        (
            "rediss+cluster://a/0?ssl_certfile=c",
            ClusterURL(nodes=(Endpoint("a", 6379),), tls=TLS(ssl_certfile="c")),
            "rediss+cluster://a:6379",
        ),
        ("memory://", MemoryURL(maxsize=DEFAULT_MAXSIZE), "memory://"),
        ("memory://?maxsize=5", MemoryURL(maxsize=5), "memory://"),
    ],
)
def test_a_url_is_parsed(url: str, expected: StoreURL, shown: str | None) -> None:
    parsed = parse(url)
    assert parsed == expected
    if shown:
        assert str(parsed) == shown


def test_a_parsed_url_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse("memory://").maxsize = 1  # type: ignore[misc, union-attr]
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse("redis://").login.password = "secret"  # type: ignore[misc, union-attr]


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        (MemoryURL, {"maxsize": 0}, "maxsize=0 is not a count"),
        (ServerURL, {"host": ""}, "the redis:// URL has a host without a name"),
        (ServerURL, {"port": 0}, "the port of the redis:// URL is not a number from 1 to 65535"),
        (ServerURL, {"port": 65_536, "tls": TLS()}, "the port of the rediss:// URL is not"),
        (ServerURL, {"db": -1}, "db is -1; write a whole number such as 0"),
        (ServerURL, {"protocol": 4}, "protocol is 4; write 2 or 3"),
        (UnixURL, {"path": ""}, "unix:// needs the path of a socket"),
        (UnixURL, {"path": "/s", "db": -1}, "db is -1"),
        (SentinelURL, {"sentinels": (), "service": "m"}, "the redis+sentinel:// URL has a host without a name"),
        (SentinelURL, {"sentinels": (Endpoint("h", 1),), "service": ""}, "needs the name of the master's service"),
        (ClusterURL, {"nodes": ()}, "the redis+cluster:// URL has a host without a name"),
        (ClusterURL, {"nodes": (Endpoint("h", 0),), "tls": TLS()}, "the port of the rediss+cluster:// URL is not"),
    ],
)
def test_a_kind_of_url_that_is_made_by_hand_is_checked_as_a_text_is(
    kind: type[StoreURL], values: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind(**values)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("url", "quoted"),
    [
        ("http://h", "'http'"),
        ("rediscluster://h", "'rediscluster'"),
        ("redis+unknown://h", "'redis+unknown'"),
        ("", "''"),
        ("localhost:6379", "'localhost:6379'"),
        ("app:secret@h:6379", "'h:6379'"),
        ("app:secret@secret@h:6379", "'h:6379'"),
        ("://h", "''"),
        (" http://h", "'http'"),
    ],
)
def test_an_unknown_scheme_is_refused_with_its_text_and_the_valid_forms(url: str, quoted: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(url)
    message = str(caught.value)
    assert message.startswith(f"unknown URL scheme {quoted}; write redis://host:6379/0, ")
    assert all(f"{scheme}://" in message for scheme in ("rediss", "unix", "redis+sentinel", "redis+cluster", "memory"))
    assert "secret" not in message


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://h?timeout=3", "unknown option 'timeout' for redis://; it takes db"),
        ("redis://h?ssl_ca_certs=x", "unknown option 'ssl_ca_certs' for redis://; it takes db"),
        ("rediss://h?DB=1", "unknown option 'DB' for rediss://; it takes db, protocol, ssl_ca_certs, ssl_"),
        ("memory://?db=1", "unknown option 'db' for memory://; it takes maxsize"),
        ("redis://h?maxsize=1", "unknown option 'maxsize'"),
        ("redis://h?protocol=4", "protocol is '4'; write 2 or 3, the version of RESP to speak"),
        ("redis+cluster://h?protocol=", "protocol is ''; write 2 or 3"),
        ("redis+sentinel://h/m?protocol=03", "protocol is '03'; write 2 or 3"),
        ("memory://?protocol=3", "unknown option 'protocol' for memory://; it takes maxsize"),
        ("unix:///s?path=1", "unknown option 'path' for unix://; it takes db"),
        ("redis://h/x", "the database in the URL's path is 'x'; write a whole number such as 0"),
        ("redis:/h", "the redis:// URL has no // before its host; write redis://host:6379/0"),
        ("redis+sentinel:h/mymaster", "the redis+sentinel:// URL has no // before its host"),
        ("redis://h/0/1", "the database in the URL's path is '0/1'"),
        ("redis://h/-1", "the database in the URL's path is '-1'"),
        ("redis://h/\u0663", "the database in the URL's path is '\u0663'"),
        ("redis://h?db=x", "db is 'x'; write a whole number"),
        ("redis://h?db=", "db is ''"),
        ("redis://h?db=" + "9" * 5000, "write a whole number"),
        ("redis://h:0", "the port of the redis:// URL is not a number from 1 to 65535"),
        ("redis://h:65536", "the port of the redis:// URL"),
        ("redis://h:port", "the port of the redis:// URL"),
        ("redis://h:-1", "the port of the redis:// URL"),
        ("redis://[::1", "the URL cannot be read"),
        ("redis://h#x", "has a # in it"),
        ("memory://?maxsize=0", "maxsize=0 is not a count"),
        ("memory://?maxsize=many", "maxsize is 'many'; write a whole number"),
        ("memory://?maxsize=-1", "maxsize is '-1'"),
        ("memory://?maxsize=" + "9" * 5000, "write a whole number"),
        ("memory://host", "memory:// takes no host and no path; write memory://"),
        ("memory:///path", "memory:// takes no host and no path"),
        ("unix://", "unix:// needs the path of a socket; write unix:///run/redis/redis.sock?db=0"),
        ("unix:///", "unix:// needs the path of a socket"),
        (
            "redis://a,b/0",
            "redis:// takes one host; for several write redis+sentinel://host:26379,host:26379/mymaster/0",
        ),
        ("redis+sentinel://a,b", "redis+sentinel:// needs the name of the master's service; write redis+sentinel://"),
        ("redis+sentinel://a/mymaster/x", "the database in the URL's path is 'x'"),
        ("redis+sentinel://a,,b/mymaster", "the redis+sentinel:// URL has a host without a name"),
        ("redis+sentinel:///mymaster", "the redis+sentinel:// URL has a host without a name"),
        ("redis+sentinel://a:0/mymaster", "the port of the redis+sentinel:// URL is not a number from 1 to 65535"),
        ("redis+cluster://a,b/1", "a cluster has the database 0 alone; write redis+cluster://host:6379,host:6379"),
        ("redis+cluster://a?db=0", "unknown option 'db' for redis+cluster://; it takes protocol"),
        ("redis+cluster://a:port", "the port of the redis+cluster:// URL"),
    ],
    ids=lambda text: text[:40],
)
def test_a_bad_url_is_refused_with_its_bad_part_and_the_text_to_write(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(url)
    assert says in str(caught.value)


@pytest.mark.parametrize("url", [None, 1, b"redis://h", ["redis://h"]], ids=repr)
def test_a_url_that_is_no_text_is_refused_by_its_type(url: object) -> None:
    with pytest.raises(ConfigurationError, match=f"not {type(url).__name__}; write redis://"):
        parse(url)


# No letter is of the host, the schemes or the messages, so that any letter that is found is the password's.
secrets = st.text("XYZ7890:/?#[]@!$&'()*+,;=% <>{}|\\^`\"~\u00e4", min_size=1, max_size=12)
urls = st.sampled_from(
    [
        *("redis://{}@h:1/0", "redis://{}@h/0?db=1", "redis://{}@h/bad", "rediss://{}@h?no=1", "unix://{}@/s?no=1"),
        *("http://{}@h", "{}@h", "redis:{}@h", "memory://{}@h", "redis://{}@h:0", "redis://{}@[h", "redis://{}@h?db=z"),
    ]
)


@relaxed
@given(secrets.filter(str.strip))
@example("%")
@example("%41")
def test_a_password_in_percent_form_comes_back_as_it_was(secret: str) -> None:
    for form in ("redis://:{}@h:7/2", "rediss://app:{}@h", "unix://:{}@/run/s"):
        parsed = parse(form.format(quote(secret, safe="")))
        assert isinstance(parsed, (ServerURL, UnixURL))
        assert parsed.login.password == secret
        assert isinstance(parsed, UnixURL) or parsed.port in {7, 6379}


@relaxed
@given(urls, secrets, st.sampled_from([":", "app:"]), st.booleans())
@example("redis://{}@h:1/0", "X?Y", ":", True)
@example("redis://{}@h:1/0", "7/Y", ":", True)
@example("redis://{}@h:1/0", "7#Y", ":", True)
@example("{}@h", "X@Y", ":", True)
@example("redis://{}@[h", "[X", ":", True)
def test_no_part_of_a_password_is_ever_shown(form: str, secret: str, user: str, as_it_is: bool) -> None:
    marked = f"XY{secret}ZX"
    url = form.format(user + (marked if as_it_is else quote(marked, safe="")))
    try:
        parsed = parse(url)
    except ConfigurationError as error:
        # The names of files depend on the machine, and one of them may contain any two letters.
        shown = re.sub(r'File "[^"]*"', "File", "".join(traceback.format_exception(error)))
    else:
        shown = f"{parsed} {parsed!r}"
        assert not isinstance(parsed, MemoryURL)
        assert parsed.login.password
    assert "XY" not in shown
    assert "ZX" not in shown


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log of a process that has noted nothing about its environment yet."""
    monkeypatch.setattr(urls_module, "_noted", set())
    monkeypatch.delenv("CACHEKIT_URL", raising=False)
    caplog.set_level(logging.INFO, "cachekit")
    return caplog


@pytest.mark.parametrize(
    ("url", "used", "level", "names"),
    [
        ("redis://h?socket_timeout=5&health_check_interval=30", "redis://h", "INFO", "health_check_interval, socket_"),
        (
            "redis://h/2?db=3&decode_responses=true&protocol=3",
            "redis://h/2?db=3&protocol=3",
            "INFO",
            "decode_responses",
        ),
        ("redis://h?max_connections=9&max_connections=8", "redis://h", "INFO", "over: max_connections"),
        ("rediss://h?ssl_cert_reqs=required", "rediss://h", "INFO", "ssl_cert_reqs"),
        ("rediss://h?ssl_cert_reqs=CERT_REQUIRED&ssl_check_hostname=true", "rediss://h", "INFO", "ssl_check_hostname"),
        ("rediss://h?ssl_ca_certs=%2Fca%20.pem&timeout=1", "rediss://h?ssl_ca_certs=%2Fca+.pem", "INFO", "timeout"),
        ("unix:///s?db=1&encoding=utf-8", "unix:///s?db=1", "INFO", "encoding"),
        ("redis+sentinel://a,b/m?socket_timeout=1", "redis+sentinel://a,b/m", "INFO", "socket_timeout"),
        ("redis+cluster://a,b?db=0", "redis+cluster://a,b", "WARNING", "db"),
        ("redis://h?protocl=3", "redis://h", "WARNING", "protocl"),
        ("redis://h?ssl_cert_reqs=none", "redis://h", "WARNING", "ssl_cert_reqs"),
    ],
)
def test_options_of_other_libraries_in_redis_url_are_noted_once_by_name_and_passed_over(
    monkeypatch: pytest.MonkeyPatch, noted: pytest.LogCaptureFixture, url: str, used: str, level: str, names: str
) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert [url_from_environment(), url_from_environment()] == [used, used]
    assert parse(used)
    assert [record.levelname for record in noted.records] == [level]
    assert names in noted.text


def test_no_value_of_an_option_that_is_passed_over_reaches_the_log(
    monkeypatch: pytest.MonkeyPatch, noted: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REDIS_URL", "rediss://app:hunter2@h?client_name=hunter2&secret=hunter2&ssl_cert_reqs=hunter2")
    assert url_from_environment() == "rediss://app:hunter2@h"
    assert "client_name, secret" in noted.text
    assert "hunter2" not in noted.text


@pytest.mark.parametrize(
    "option", ["ssl_cert_reqs=none", "ssl_cert_reqs=CERT_NONE", "ssl_cert_reqs=optional", "ssl_check_hostname=False"]
)
def test_an_option_that_would_turn_the_verification_of_tls_off_is_a_warning_that_it_stays_on(
    monkeypatch: pytest.MonkeyPatch, noted: pytest.LogCaptureFixture, option: str
) -> None:
    monkeypatch.setenv("REDIS_URL", f"rediss://h?{option}&ssl_ca_certs=ca.pem")
    assert parse(url_from_environment()) == ServerURL(host="h", tls=TLS(ssl_ca_certs="ca.pem"))
    assert [record.levelname for record in noted.records] == ["WARNING"]
    assert f"{option.partition('=')[0]} would turn the verification of TLS off, and it stays on" in noted.text


@pytest.mark.parametrize(
    "url", ["redis://h?timeout=3", "rediss://h?ssl_cert_reqs=none", "memory://?decode_responses=1"]
)
def test_an_unknown_option_in_cachekit_url_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CACHEKIT_URL", url)
    with pytest.raises(ConfigurationError, match=r"environment's CACHEKIT_URL: unknown option .*; leave it out: "):
        url_from_environment()


@pytest.mark.parametrize("secret", ["hun?ter=2", "hun#ter", "hun?x&ter2"])
def test_a_password_with_a_bare_question_mark_in_redis_url_is_not_taken_for_an_option(
    monkeypatch: pytest.MonkeyPatch, noted: pytest.LogCaptureFixture, secret: str
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://:{secret}@h/0?decode_responses=1")
    with pytest.raises(ConfigurationError, match=r"environment's REDIS_URL: .* percent form") as refusal:
        url_from_environment()
    assert not noted.records
    assert "ter" not in str(refusal.value).replace("write these in percent form", "")


def test_the_environment_is_asked_for_cachekit_url_then_redis_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CACHEKIT_URL", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)
    assert url_from_environment() == DEFAULT_URL == "redis://localhost:6379/0"
    monkeypatch.setenv("REDIS_URL", "redis://b")
    assert url_from_environment() == "redis://b"
    monkeypatch.setenv("CACHEKIT_URL", "redis://a")
    assert url_from_environment() == "redis://a"
    monkeypatch.setenv("CACHEKIT_URL", "")
    assert url_from_environment() == "redis://b"
