"""The entry at a key, the name of its lease, and the timestamps of a window's items."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cachekit.entry import (
    EXPIRED,
    Entry,
    is_pause,
    is_token,
    lease_key,
    metadata_of,
    parse,
    set_back,
    stamped,
    timestamp,
    timestamp_of,
)
from tests.kit.cluster import slot_of

relaxed = settings(max_examples=200)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["timestamp", "a\n"]), inner),
    max_leaves=5,
)
keys = st.text(st.sampled_from("{}a:é") | st.characters(exclude_categories=["Cs"]))
seconds = st.floats(0, 250_000_000_000)  # to the year 9892


@relaxed
@given(json_values)
def test_an_entry_without_metadata_is_its_json(value: object) -> None:
    raw = orjson.dumps(value)
    assert parse(raw) == Entry(raw)


# Whole milliseconds, since the second line has no others.
some_seconds = st.integers(0, 10**9).map(lambda ms: ms / 1000)


@relaxed
@given(json_values, some_seconds, some_seconds, some_seconds, st.booleans())
def test_an_entry_comes_back_as_it_was(value: object, stale: float, load: float, ttl: float, expired: bool) -> None:
    entry = Entry(orjson.dumps(value), stale, load, ttl, expired)
    assert parse(entry.raw()) == entry


@relaxed
@given(json_values)
def test_an_entry_that_asks_for_nothing_is_plain_json(value: object) -> None:
    assert Entry(orjson.dumps(value)).raw() == orjson.dumps(value)


def test_the_marked_form_of_a_value_has_metadata_too() -> None:
    entry = Entry(b'{"a":1} ', stale=1.0)
    assert entry.raw() == b'{"a":1} \n{"s":1000}'
    assert parse(entry.raw()) == entry


@relaxed
@given(json_values, st.dictionaries(st.from_regex(r"[a-z_~0-9]*", fullmatch=True), json_values), st.integers(0, 3))
def test_members_in_lower_case_that_are_unknown_are_ignored(
    value: object, members: dict[str, object], expiries: int
) -> None:
    known = {"s": 60_000, "d": 20, "t": 5}
    raw = orjson.dumps(value) + b"\n" + orjson.dumps({**members, **known}) + EXPIRED * expiries
    assert parse(raw) == Entry(orjson.dumps(value), 60.0, 0.02, 0.005, expiries > 0)


def test_a_text_that_looks_like_the_name_of_a_member_is_none() -> None:
    assert parse(b'1\n{"new":"T","s":60000}') == Entry(b"1", 60.0)
    assert parse(b'1\n{"T":null}') is None


@pytest.mark.parametrize("name", ["T", "A", "Stale", "É"])
def test_a_member_that_begins_with_a_capital_letter_makes_an_entry_a_miss(name: str) -> None:
    assert parse(b"1\n" + orjson.dumps({name: None, "s": 1})) is None


@pytest.mark.parametrize("line", [b"", b"!", b"[]", b"1", b"{", b'{"s":1}x', b'{"s":1}!x', b"\xff"])
def test_a_second_line_that_is_no_object_makes_an_entry_a_miss(line: bytes) -> None:
    assert parse(b"1\n" + line) is None


@relaxed
@given(st.sampled_from("sdt"), json_values)
@example("s", True)
@example("s", -1)
@example("s", 2**53 + 1)
@example("s", 1.5)
def test_a_time_that_is_none_makes_an_entry_a_miss(name: str, value: object) -> None:
    is_time = type(value) is int and 0 <= value <= 2**53
    assert (parse(b"1\n" + orjson.dumps({name: value})) is not None) == is_time


@relaxed
@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_an_entry_or_a_miss(line: bytes, sealed: bool) -> None:
    entry = parse(b"1\n" + line, sealed=sealed)
    assert entry is None or entry.data == b"1"


@relaxed
@given(json_values, st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), st.booleans(), st.integers(0, 3))
def test_the_metadata_of_an_entry_is_found_in_its_bytes_as_it_was_written(
    value: object, stale: float, load: float, ttl: float, sealed: bool, expiries: int
) -> None:
    entry = Entry(orjson.dumps(value), stale, load, ttl, sealed=sealed)
    raw = entry.raw()
    assert metadata_of(raw) == (entry.metadata() if raw != entry.data else b"")
    if raw != entry.data:
        assert metadata_of(raw + EXPIRED * expiries) == entry.metadata()


@pytest.mark.parametrize("stale", [0.0, 60.0])
def test_a_sealed_entry_is_an_entry_to_those_who_ask_for_one_and_a_miss_to_others(stale: float) -> None:
    entry = Entry(b'"AQ=="', stale, sealed=True)
    assert parse(entry.raw(), sealed=True) == entry
    assert parse(entry.raw() + EXPIRED, sealed=True) == Entry(b'"AQ=="', stale, expired=True, sealed=True)
    assert parse(entry.raw()) is parse(entry.raw() + EXPIRED) is None
    assert parse(b"1", sealed=True) == Entry(b"1"), "whether it is sealed, it says"


@pytest.mark.parametrize("form", [b"0", b"2", b"true", b"1.0", b"null", b'"1"'])
def test_an_entry_that_is_sealed_in_another_way_is_a_miss(form: bytes) -> None:
    assert parse(b'"AQ=="\n{"E":%b}' % form, sealed=True) is None


@relaxed
@given(seconds, seconds)
@example(0.0, 1e-6)
@example(9.999999, 10.0)
@example(9_999_999_999.0, 10_000_000_000.0)
def test_the_order_of_timestamps_is_the_order_of_time(a: float, b: float) -> None:
    earlier, later = sorted([a, b])
    assert timestamp(earlier) <= timestamp(later)
    if later - earlier > 1e-4:  # the smallest difference between floats of that size
        assert timestamp(earlier) < timestamp(later)


@relaxed
@given(seconds)
def test_a_timestamp_has_one_width_and_is_utc(moment: float) -> None:
    text = timestamp(moment)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    assert datetime.fromisoformat(text) == datetime.fromtimestamp(moment, UTC)


@relaxed
@given(st.dictionaries(st.sampled_from(["text", "word_count"]), st.text("ab")), seconds)
def test_a_stamped_item_keeps_its_fields_and_has_its_timestamp_last(item: dict[str, object], moment: float) -> None:
    data = stamped(orjson.dumps(item), timestamp(moment))
    assert [*orjson.loads(data)] == [*item, "timestamp"]
    assert orjson.loads(data) == {**item, "timestamp": timestamp(moment)}
    assert timestamp_of(data) == timestamp(moment)


@relaxed
@given(st.dictionaries(st.sampled_from(["text", "word_count"]), st.text()), seconds, seconds)
def test_an_item_ahead_of_the_clock_is_set_back_and_no_other(
    item: dict[str, object], moment: float, now: float
) -> None:
    data = orjson.dumps(item)
    expected = stamped(data, timestamp(now)) if timestamp(moment) > timestamp(now) else None
    assert set_back(stamped(data, timestamp(moment)), timestamp(now)) == expected


@pytest.mark.parametrize(
    "item", [b"", b"null", b'{"timestamp":"z"}', b'{"timestamp":"2999-01-01T00:00:00.000000Z","text":""}']
)
def test_an_item_that_another_program_stamped_is_not_set_back(item: bytes) -> None:
    assert set_back(item, timestamp(0)) is None


@pytest.mark.parametrize(
    "item",
    [
        *(b"", b"garbage", b"\xff", b"null", b"1", b'"2026"', b"[]", b"{}", b"[" * 100_000),
        *(b'{"timestamp":1}', b'{"timestamp":null}', b'{"timestamp":["2026"]}', b'{"nested":{"timestamp":"2026"}}'),
    ],
    ids=lambda item: repr(item[:30]),
)
def test_an_item_without_a_timestamp_is_older_than_all(item: bytes) -> None:
    assert timestamp_of(item) == ""
    assert timestamp_of(item) < timestamp(0)


@relaxed
@given(st.binary(max_size=40) | json_values.map(orjson.dumps))
def test_reading_a_timestamp_never_raises(item: bytes) -> None:
    assert isinstance(timestamp_of(item), str)


@relaxed
@given(keys)
@example("")
@example("a}b")
@example("{}a")
@example("a{}{b}")
def test_a_lease_has_the_slot_of_its_key(key: str) -> None:
    assert slot_of(lease_key(key)) == slot_of(key)


def test_every_slot_has_a_lease_for_a_key_whose_braces_are_no_hash_tag() -> None:
    odd = [f"}}{number}" for number in range(100_000)]
    assert len({slot_of(key) for key in odd}) > 16_000
    assert [slot_of(lease_key(key)) for key in odd] == [slot_of(key) for key in odd]


@relaxed
@given(keys, keys)
@example("{car:7}", "car:7")
@example("{car:7}", "{{car:7}")
@example("{}a", "a")
def test_no_two_keys_share_a_lease(one: str, other: str) -> None:
    assert (lease_key(one) == lease_key(other)) == (one == other)
    for disguised in (f"{{{one}}}", f"{one}:lease", f"{{{one}}}:lease"):
        assert lease_key(disguised) != lease_key(one)


def key_of(lease: bytes) -> str:
    """Return the key whose lease it is: there is one at most, so no two keys share a lease."""
    name, kind = lease.removesuffix(lease[-1:]).removesuffix(b":lease"), lease[-1]
    if kind == 0xFF:
        name = name[1:-1]
    elif kind == 0xFD:
        head, _, rest = name.partition(b"{")
        name = head + rest[3:]
    return name.decode()


@relaxed
@given(keys)
@example("")
@example("a}b")
@example("{}a")
def test_a_lease_leads_back_to_its_key(key: str) -> None:
    assert key_of(lease_key(key)) == key


@relaxed
@given(keys)
def test_no_key_is_a_lease_since_a_key_is_utf_8(key: str) -> None:
    with pytest.raises(UnicodeDecodeError):
        lease_key(key).decode()


@relaxed
@given(keys)
def test_a_lease_begins_with_the_prefix_of_the_cache_or_with_a_brace_before_it(key: str) -> None:
    assert lease_key(f"myapp:{key}").startswith((b"myapp:", b"{myapp:"))


@pytest.mark.parametrize("holder", [b"", b"1", b"true", b"~0123456789abcdef01234567", b"0123456789ABCDEF01234567"])
def test_only_the_form_of_a_token_is_one(holder: bytes) -> None:
    assert not is_token(holder)


def test_a_pause_is_no_token() -> None:
    token = b"0123456789abcdef01234567"
    assert is_pause(b"~" + token)
    assert not is_token(b"~" + token)
    assert not is_pause(token)
