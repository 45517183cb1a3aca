"""Loads that begin before the end: a hot key has no caller that waits."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekit import Cache
from cachekit.entry import Entry
from cachekit.events import Event, Filled, Hit, LoadBegan
from cachekit.freshness import LARGEST_PART, LEAST_LOAD, Freshness, Windows, draw, judge
from tests.kit.stale import HOUR, PATIENCE, Source, put, raw_at, turns, two_caches, watch
from tests.kit.telling import bare
from tests.kit.waiting import until

AUTO = Windows(ahead=0.0, ttl=600.0)
spans = st.floats(0.001, 10_000)


# --- the draw -------------------------------------------------------------------------------------------


@given(spans, spans)
def test_a_load_begins_its_own_time_before_the_end_and_no_earlier_than_a_quarter_of_the_ttl(
    load: float, ttl: float
) -> None:
    early = draw(Entry(b"1", load=load, ttl=ttl), Windows(ahead=0.0))
    assert min(max(load, LEAST_LOAD), ttl * LARGEST_PART) <= early <= ttl * LARGEST_PART


def test_each_read_draws_for_itself() -> None:
    entry = Entry(b"1", load=1.0)
    drawn = {draw(entry, AUTO) for _ in range(100)}
    assert len(drawn) > 50
    assert min(drawn) < 1.5
    assert max(drawn) > 2.5


@given(st.floats(0.01, 0.99), spans)
def test_a_part_of_the_ttl_is_that_part(part: float, ttl: float) -> None:
    assert draw(Entry(b"1", load=5.0), Windows(ahead=part, ttl=ttl)) == part * ttl
    assert draw(Entry(b"1", ttl=ttl), Windows(ahead=part)) == part * ttl


@given(spans, spans, st.sampled_from([0.0, 0.1, 0.9]), st.none() | spans)
def test_no_draw_is_earlier_than_what_a_hit_compares(load: float, own: float, ahead: float, ttl: float | None) -> None:
    """A value with more of its TTL left is a hit, and nothing is drawn."""
    windows = Windows(ahead=ahead, ttl=ttl)
    assert draw(Entry(b"1", load=load, ttl=own), windows) <= windows.earliest
    assert Windows(revalidate=60.0).earliest == 0.0


def test_nothing_is_drawn_without_the_option() -> None:
    assert draw(Entry(b"1", load=5.0, ttl=9.0), Windows(revalidate=5.0)) == 0.0


@pytest.mark.parametrize(
    ("left", "fresh"),
    [(70.001, Freshness.FRESH), (70.0, Freshness.DUE), (60.001, Freshness.DUE), (60.0, Freshness.STALE)],
)
def test_a_value_is_due_before_its_end_and_stale_after_it(left: float, fresh: Freshness) -> None:
    windows = Windows(revalidate=60.0, ahead=0.0, ttl=600.0)
    assert judge(Entry(b"1", stale=60.0), left, windows, early=10.0) is fresh


def test_what_was_expired_by_hand_is_never_due() -> None:
    windows = Windows(revalidate=60.0, if_error=60.0, ahead=0.0, ttl=600.0)
    assert judge(Entry(b"1", stale=60.0, expired=True), 61.0, windows, early=10.0) is Freshness.SPARE


# --- calls ----------------------------------------------------------------------------------------------


async def test_a_value_that_is_due_is_a_hit_and_one_load_begins(cache: Cache) -> None:
    source, events = Source(), watch(cache)
    call = cache.cached(key="k", ttl=600, refresh_ahead=0.1)(source.load)
    await put(cache, "k", "old", left=50, stale=0.0)
    source.open.clear()
    assert await asyncio.gather(*[call() for _ in range(20)]) == ["old"] * 20
    assert {type(event) for event in events} - {LoadBegan} == {Hit}
    source.open.set()
    await until(lambda: any(isinstance(event, Filled) for event in events))
    assert source.asked == 1
    assert await call() == "new"


async def test_a_value_that_is_not_due_yet_begins_no_load(cache: Cache) -> None:
    source = Source()
    call = cache.cached(key="k", ttl=600, refresh_ahead=0.1)(source.load)
    await put(cache, "k", "old", left=70, stale=0.0)
    assert await call() == "old"
    assert not cache.loading_in_background
    assert source.asked == 0


async def test_the_time_of_a_load_stands_in_the_entry(cache: Cache) -> None:
    source = Source()
    call = cache.cached(key="k", ttl=lambda _: 600, refresh_ahead="auto", stale_if_error=HOUR)(source.load)
    source.open.clear()
    caller = asyncio.create_task(call())
    await source.began.wait()
    await asyncio.sleep(0.05)
    source.open.set()
    await caller
    raw, _ = await raw_at(cache, "k")
    data, _, line = (raw or b"").partition(b"\n")
    assert data == b'"new"'
    assert line.startswith(b'{"s":3600000,"d":')
    assert line.endswith(b',"t":600000}')


async def test_a_failure_ahead_of_the_end_pauses_and_the_value_stays_a_hit(cache: Cache) -> None:
    source, events = Source(), watch(cache)
    call = cache.cached(key="k", ttl=600, refresh_ahead=0.5, retry_after=60)(source.load)
    await put(cache, "k", "old", left=50, stale=0.0)
    source.error = ConnectionError()
    for _ in range(10):
        assert await call() == "old"
        await until(lambda: not cache.loading_in_background and not cache.runtime.background)
    assert source.asked == 1
    assert len([event for event in events if isinstance(event, Hit)]) == 10


async def test_the_auto_of_a_hot_key_leaves_no_caller_waiting(cache: Cache) -> None:
    """Over several expiries: the loads that callers waited for, and all loads, are counted."""
    random.seed(1)
    slow, waited, loads = 0.02, 0, 0
    tasks: dict[asyncio.Task[Any], bool] = {}

    async def load() -> int:
        nonlocal waited, loads
        loads += 1
        waited += tasks.get(asyncio.current_task(), False)  # type: ignore[arg-type]
        await asyncio.sleep(slow)
        return loads

    call = cache.cached(key="k", ttl=0.4, refresh_ahead="auto", stale_while_revalidate=PATIENCE)(load)
    await call()
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while loads < 5 and asyncio.get_running_loop().time() < deadline:
        caller = asyncio.create_task(call())
        tasks[caller] = True
        await caller
        del tasks[caller]
        await asyncio.sleep(0.001)
    assert waited == 0
    assert loads >= 5
    await until(lambda: not cache.loading_in_background)


async def test_a_load_ahead_is_one_in_all_processes(store_url: str) -> None:

    async with two_caches(store_url) as caches:
        source = Source()
        calls = [cache.cached(key="k", ttl=600, refresh_ahead=0.1)(source.load) for cache in caches]
        await put(caches[0], "k", "old", left=50, stale=0.0)
        source.open.clear()
        for call in calls:
            await call()
        await source.began.wait()
        await until(lambda: sum(cache.loading_in_background for cache in caches) == 1)
        source.open.set()
        await until(lambda: not any(cache.loading_in_background for cache in caches))
        assert source.asked == 1


async def test_events_tell_nothing_more_of_a_hit_that_is_due(cache: Cache) -> None:
    source = Source()
    events: list[Event] = watch(cache)
    call = cache.cached(key="k", ttl=600, refresh_ahead=0.1)(source.load)
    await put(cache, "k", "old", left=5, stale=0.0)
    await call()
    assert bare(events) == [Hit("k", "")]
    await turns()
    await until(lambda: not cache.loading_in_background)
