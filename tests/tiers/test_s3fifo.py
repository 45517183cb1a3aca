"""The map of the near cache: bounded by entries and by weight after any sequence of operations."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekit._tiers.s3fifo import S3Fifo

KEYS = st.integers(0, 30)
ACTIONS = st.one_of(
    st.tuples(st.just("put"), KEYS, st.integers(0, 12)),
    st.tuples(st.just("get"), KEYS, st.just(0)),
    st.tuples(st.just("remove"), KEYS, st.just(0)),
    st.tuples(st.just("clear"), st.just(0), st.just(0)),
)


@given(st.lists(ACTIONS, max_size=200), st.integers(1, 12), st.integers(1, 40))
def test_it_is_never_above_its_bounds_and_returns_only_the_last_value(
    actions: list[tuple[str, int, int]], entries: int, weight: int
) -> None:
    held: S3Fifo[int, int] = S3Fifo(entries=entries, weight=weight)
    last: dict[int, tuple[int, int]] = {}
    for number, (action, key, grams) in enumerate(actions, 1):
        if action == "put":
            assert held.put(key, number, weight=grams) == (grams <= weight)
            last[key] = (number, grams)
            # A value that was just put is found, unless it is too heavy. Then the value that it replaces is gone, too.
            assert held.get(key) == (number if grams <= weight else None)
        elif action == "get":
            assert held.get(key) in {None, last.get(key, (None, 0))[0]}
        elif action == "remove":
            there = held.get(key) is not None
            assert held.remove(key) == there
            assert held.get(key) is None
        else:
            held.clear()
        assert len(held) <= entries
        assert held.held <= weight
        there = [key for key in range(31) if key in held._small or key in held._main]
        assert len(there) == len(held)
        assert held.held == sum(last[key][1] for key in there)
        assert len(held._ghost) <= entries + 1


def test_entries_in_use_survive_a_scan() -> None:
    held: S3Fifo[str, int] = S3Fifo(entries=100)
    for n in range(20):
        held.put(f"hot:{n}", n)
    for n in range(1000):
        for _ in range(2):
            held.get(f"hot:{n % 20}")
        held.put(f"scan:{n}", n)
    assert all(held.get(f"hot:{n}") == n for n in range(20))
    assert len(held) == 100


def test_an_entry_that_comes_back_soon_after_it_left_stays() -> None:
    held: S3Fifo[str, int] = S3Fifo(entries=10)
    for n in range(11):
        held.put(f"new:{n}", n)
    assert held.get("new:0") is None
    held.put("new:0", 0)
    for n in range(50):
        held.put(f"scan:{n}", n)
    assert held.get("new:0") == 0


@pytest.mark.parametrize(("entries", "weight"), [(0, inf), (-1, inf), (1, 0), (1, -1.0)])
def test_bounds_without_room_are_refused(entries: int, weight: float) -> None:
    with pytest.raises(ValueError, match="no room for anything"):
        S3Fifo(entries=entries, weight=weight)


def test_an_entry_in_use_goes_round_in_the_main_queue_and_an_unused_one_leaves_it() -> None:
    held: S3Fifo[str, int] = S3Fifo(entries=4)
    for name in "abcd":
        held.put(name, 0)
        held.get(name)
        held.get(name)
    # The first names were asked for twice, so they move on to the main queue, and the new ones wait in their place.
    for name in "efgh":
        held.put(name, 0)
    assert len(held) == 4
    for name in [name for name in "abcdefgh" if held.get(name) is not None]:
        assert held.remove(name)
        assert not held.remove(name)
    assert (len(held), held.held) == (0, 0)
    for round_ in range(3):
        for n in range(8):
            held.put(f"k{n}", round_, weight=1)
            if n % 2:
                held.get(f"k{n}")
        assert len(held) <= 4


def test_an_entry_in_use_goes_round_when_there_are_no_new_ones() -> None:
    held = S3Fifo[str, int](entries=2)
    # A key that comes back soon after it left is in the main queue.
    for key in ("a", "b", "c", "a", "b"):
        held.put(key, 1)
    held.get("a")
    held.put("d", 1)
    assert "a" in held
    assert "b" not in held
