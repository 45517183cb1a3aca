"""Batches whose function may hand stale values out: which ids are loaded, in whose task, and how their loads end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from cachekit import Cache, CachedManyFunction
from cachekit._flow.background import MOST
from cachekit.events import LoadFailed
from tests.kit.stale import DOWN, HOUR, PATIENCE, WINDOWS, Source, put, reasons, watch
from tests.kit.waiting import until

SOFT: dict[str, Any] = {"soft_timeout": 0.02}


class Items:
    """A batch function over a source, which notes the ids of each of its loads."""

    def __init__(self, cache: Cache, source: Source, **options: Any) -> None:
        self.loads: list[str] = []

        async def items(ids: Sequence[str]) -> dict[str, Any]:
            self.loads.append("".join(ids))
            version = await source.load()
            return dict.fromkeys(ids, version)

        every: dict[str, Any] = {"ttl": 600, **WINDOWS, "background": True, **options}
        decorate = cache.cached_many(key="k:<one>", each="ids", **every)
        self.many: CachedManyFunction[[Sequence[str]], str, Any] = decorate(items)


async def put_old(cache: Cache, ids: str, *, left: float) -> None:
    """Store an old value for each of ``ids``; after 60 s beyond its TTL it stands in for failing loads alone."""
    for one in ids:
        await put(cache, f"k:{one}", "old", left=left)


async def fill_background(cache: Cache, source: Source) -> None:
    """Let as many loads go on in the background as may, until ``source`` is open."""

    @cache.cached(key="other:<n>", ttl=600, **WINDOWS)
    async def other(n: int) -> Any:
        return await source.load()

    source.open.clear()
    for n in range(MOST):
        await put(cache, f"other:{n}", "old", left=-5)
        assert await other(n) == "old"
    await until(lambda: source.asked == MOST)


def waiters(cache: Cache, key: str) -> int:
    flight = cache.runtime.flights.find(key)
    return 0 if flight is None or flight._waiters is None else len(flight._waiters)


# --- loads in the background --------------------------------------------------------------------------


async def test_an_id_that_is_loaded_in_the_background_already_is_loaded_by_no_second_batch(
    cache: Cache, source: Source
) -> None:
    items = Items(cache, source)
    await put_old(cache, "ab", left=-5)
    source.open.clear()
    assert await items.many(["a"]) == {"a": "old"}
    await source.began.wait()
    assert await items.many(["a", "b"]) == {"a": "old", "b": "old"}
    await until(lambda: len(items.loads) == 2)
    assert await items.many(["b", "a"]) == {"b": "old", "a": "old"}
    assert cache.loading_in_background == 2, "not even a question for the leases goes on"
    source.open.set()
    await until(lambda: not cache.loading_in_background)
    assert items.loads == ["a", "b"]


async def test_a_batch_that_finds_too_many_loads_begins_none_and_the_next_batch_does(
    cache: Cache, source: Source
) -> None:
    items = Items(cache, source)
    await put_old(cache, "ab", left=-5)
    await fill_background(cache, source)
    assert await items.many(["a", "b"]) == {"a": "old", "b": "old"}
    assert cache.loading_in_background == MOST
    source.open.set()
    await until(lambda: not cache.loading_in_background)
    assert await items.many(["a", "b"]) == {"a": "old", "b": "old"}
    await until(lambda: not cache.loading_in_background)
    assert items.loads == ["ab"]
    assert await items.many(["a", "b"]) == {"a": "new", "b": "new"}


async def test_a_failure_of_a_batch_in_the_background_is_told_for_each_of_its_ids(cache: Cache, source: Source) -> None:
    items, events = Items(cache, source), watch(cache)
    await put_old(cache, "ab", left=-5)
    source.error = DOWN
    assert await items.many(["a", "b"]) == {"a": "old", "b": "old"}
    await until(lambda: not cache.loading_in_background)
    failed = [event for event in events if isinstance(event, LoadFailed)]
    assert [(event.key, event.error, event.by, event.raised) for event in failed] == [
        ("k:a", "ConnectionError", "background", False),
        ("k:b", "ConnectionError", "background", False),
    ]


async def test_of_several_loads_of_a_batch_in_the_background_only_the_one_that_fails_is_told(
    cache: Cache, source: Source
) -> None:
    items, events = Items(cache, source, max_batch=1), watch(cache)
    await put_old(cache, "abc", left=-5)
    load = source.load

    async def fail_second() -> Any:
        source.error = DOWN if source.asked == 1 else None
        return await load()

    source.load = fail_second  # type: ignore[method-assign]
    assert await items.many(["a", "b", "c"]) == dict.fromkeys("abc", "old")
    await until(lambda: not cache.loading_in_background)
    assert [event.key for event in events if isinstance(event, LoadFailed)] == ["k:b"]
    assert items.loads == ["a", "b"], "c has not begun"
    assert await items.many(["a", "c"]) == {"a": "new", "c": "old"}
    await until(lambda: not cache.loading_in_background)
    assert items.loads == ["a", "b", "c"], "nothing held c up"


# --- soft_timeout -------------------------------------------------------------------------------------


async def test_two_batches_with_stale_values_share_the_load_that_both_wait_for(cache: Cache, source: Source) -> None:
    items = Items(cache, source, soft_timeout=PATIENCE)
    await put_old(cache, "ab", left=-100)
    source.open.clear()
    calls = [asyncio.create_task(items.many(ids)) for ids in (["a", "b"], ["b", "a"])]
    await source.began.wait()
    await until(lambda: waiters(cache, "k:a") == waiters(cache, "k:b") == 2)
    source.open.set()
    assert await asyncio.gather(*calls) == [dict.fromkeys("ab", "new")] * 2
    assert items.loads == ["ab"]


async def test_a_batch_that_finds_too_many_loads_hands_its_stale_values_out_at_once(
    cache: Cache, source: Source
) -> None:
    items = Items(cache, source, soft_timeout=PATIENCE)
    await put_old(cache, "ab", left=-100)
    await fill_background(cache, source)
    events = watch(cache)
    assert await items.many(["a", "b"]) == {"a": "old", "b": "old"}
    assert reasons(events) == ["busy", "busy"]
    source.open.set()
    await until(lambda: not cache.loading_in_background)
    assert await items.many(["a", "b"]) == {"a": "new", "b": "new"}


async def test_a_batch_function_that_asks_for_its_own_stale_ids_does_not_wait_for_itself(cache: Cache) -> None:
    depth: list[int] = []

    @cache.cached_many(key="k:<one>", each="ids", **{"ttl": 600, **WINDOWS, "soft_timeout": PATIENCE, "lease": HOUR})
    async def items(ids: list[str]) -> dict[str, str]:
        depth.append(len(depth))
        return await items(ids) if len(depth) < 3 else dict.fromkeys(ids, "new")

    await put_old(cache, "ab", left=-100)
    async with asyncio.timeout(PATIENCE / 2):
        assert await items(["a", "b"]) == {"a": "new", "b": "new"}
    assert depth == [0, 1, 2]
