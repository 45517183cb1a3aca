"""The entry at a key, and the timestamps of a window's items."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cachekit.entry import Entry, parse, stamp, timestamp, timestamp_of

relaxed = settings(max_examples=200, deadline=None)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["timestamp", "a\n"]), inner),
    max_leaves=5,
)
seconds = st.floats(0, 250_000_000_000)  # to the year 9892


@relaxed
@given(json_values)
def test_an_entry_without_metadata_is_its_json(value: object) -> None:
    raw = orjson.dumps(value)
    assert parse(raw) == Entry(raw)


@relaxed
@given(json_values, json_values)
def test_an_entry_with_a_second_line_was_written_by_a_later_version(value: object, metadata: object) -> None:
    assert parse(orjson.dumps(value) + b"\n" + orjson.dumps(metadata)) is None
    assert parse(orjson.dumps(value) + b"\n") is None


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
@given(st.dictionaries(st.sampled_from(["text", "timestamp", "word_count"]), st.text("ab")), seconds)
def test_a_stamped_item_keeps_all_but_its_own_timestamp_which_is_last(item: dict[str, object], moment: float) -> None:
    before = dict(item)
    stamped = stamp(item, moment)
    assert item == before
    assert [*stamped][-1] == "timestamp"
    assert stamped == {**item, "timestamp": timestamp(moment)}
    assert timestamp_of(orjson.dumps(stamped)) == timestamp(moment)


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
