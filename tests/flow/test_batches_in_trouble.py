"""Batches that meet what a single call meets as well: a store that fails, foreign bytes, pauses, and hanging loads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import pytest

from cachekit import Cache, CachedManyFunction
from cachekit.errors import DecorationError
from cachekit.events import Hit, NotStored
from cachekit.testing import FailingStore
from tests.kit.servers import RedisServer
from tests.kit.stale import DOWN, PATIENCE, WINDOWS, Source, put, raw_at, turns, watch
from tests.kit.waiting import until


class Numbers:
    """A batch function that notes the ids of each of its loads, and doubles numbers once it may."""

    def __init__(self, cache: Cache, **options: Any) -> None:
        self.loads: list[list[Any]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.unknown: set[Any] = set()

        async def doubled(xs: Sequence[Any]) -> dict[Any, int]:
            self.loads.append([*xs])
            await self.open.wait()
            return {x: 2 * x if isinstance(x, int) else 0 for x in xs if x not in self.unknown}

        decorate = cache.cached_many(key="n:<x>", each="xs", **{"ttl": 60, **options})
        self.many: CachedManyFunction[[Sequence[Any]], Any, int] = decorate(doubled)


# --- ids that are left out ----------------------------------------------------------------------------


async def test_an_id_without_a_key_that_the_function_leaves_out_is_absent(cache: Cache) -> None:
    numbers, odd, unknown = Numbers(cache), object(), object()
    numbers.unknown = {unknown}
    assert await numbers.many([1, odd, unknown]) == {1: 2, odd: 0}


async def test_an_id_that_is_left_out_while_the_store_is_down_is_absent() -> None:
    store = FailingStore()
    async with Cache(store) as cache:
        numbers = Numbers(cache, absent_ttl=60)
        numbers.unknown = {2}
        store.fail()
        assert await numbers.many([1, 2]) == {1: 2}
        store.recover()
        numbers.unknown = set()
        assert await numbers.many([2]) == {2: 4}, "no absence was remembered"


async def test_no_ids_with_tags_are_no_load(cache: Cache) -> None:
    numbers = Numbers(cache, tags=["numbers"])
    assert await numbers.many([]) == {}
    assert numbers.loads == []


# --- what stands at the key, or at its lease ----------------------------------------------------------


async def test_bytes_that_do_not_decode_are_loaded_anew_and_replaced(cache: Cache) -> None:
    numbers = Numbers(cache)
    await cache._store.set("n:1", PATIENCE, b"garbage", ttl_ms=60_000)
    assert await numbers.many([1, 2]) == {1: 2, 2: 4}
    assert [(await raw_at(cache, f"n:{x}"))[0] for x in (1, 2)] == [b"2", b"4"]
    assert numbers.loads == [[1, 2]]


async def test_a_batch_without_stale_values_does_not_wait_for_the_pause_of_another_function(
    cache: Cache, source: Source
) -> None:
    failing = cache.cached(key="n:1", ttl=60, **WINDOWS)(source.load)
    await put(cache, "n:1", 0, left=-100)
    source.error = DOWN
    await failing()
    numbers, events = Numbers(cache), watch(cache)
    async with asyncio.timeout(PATIENCE):
        assert await numbers.many([1, 2]) == {1: 2, 2: 4}
    assert [(event.key, event.reason) for event in events if isinstance(event, NotStored)] == [("n:1", "lease")]


async def test_after_a_lost_invalidation_a_batch_loads_its_id_and_replaces_the_value() -> None:
    async with Cache("memory://") as cache:
        numbers = Numbers(cache)
        await numbers.many([1, 2])
        journal = cache.runtime.coherence.journal
        journal._limit = 0
        journal.add(["n:1"])
        assert await numbers.many([1, 2]) == {1: 2, 2: 4}
        assert await numbers.many([1, 2]) == {1: 2, 2: 4}
        assert numbers.loads == [[1, 2], [1]], "what was stored since is trusted"


async def test_a_near_value_of_a_batch_is_a_miss_while_its_invalidation_is_in_the_journal(
    redis_server: RedisServer,
) -> None:
    async with Cache(redis_server.url, near=100, timeout=5) as cache:
        numbers, events = Numbers(cache), watch(cache)

        async def look() -> None:
            del events[:]
            await numbers.many([1, 2])

        await until(lambda: {event.key for event in events if isinstance(event, Hit) and event.near} != set(), look)
        await until(lambda: len([event for event in events if isinstance(event, Hit) and event.near]) == 2, look)
        loads = len(numbers.loads)
        cache.runtime.coherence.journal.add(["n:1"])
        assert await numbers.many([1, 2]) == {1: 2, 2: 4}
        assert numbers.loads[loads:] == [[1]]


# --- loads that hang ----------------------------------------------------------------------------------


async def test_a_time_out_of_the_function_itself_passes_through_its_load_timeout(cache: Cache) -> None:
    @cache.cached_many(key="n:<x>", each="xs", ttl=60, load_timeout=PATIENCE)
    async def numbers(xs: list[int]) -> dict[int, int]:
        message = "of the database"
        raise TimeoutError(message)

    with pytest.raises(TimeoutError, match=r"^of the database$"):
        await numbers([1, 2])


async def test_a_batch_function_that_swallows_its_cancellation_stores_nothing_of_what_it_returns_too_late(
    cache: Cache,
) -> None:
    over, began = asyncio.Event(), asyncio.Event()

    @cache.cached_many(key="n:<x>", each="xs", ttl=60, load_timeout=0.05, absent_ttl=60)
    async def numbers(xs: list[int]) -> dict[int, str]:
        if began.is_set():
            return dict.fromkeys(xs, "in time")
        began.set()
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await over.wait()
        return {1: "too late"}

    events = watch(cache)
    late = asyncio.create_task(numbers([1, 2]))
    await began.wait()
    with pytest.raises(TimeoutError, match="load_timeout"):
        await numbers([1])
    assert await numbers([1, 2]) == {1: "in time", 2: "in time"}
    over.set()
    await asyncio.wait([late])
    assert await numbers([1, 2]) == {1: "in time", 2: "in time"}
    assert not [event for event in events if isinstance(event, NotStored)], "it is no failure of the store"


# --- loads that a batch follows, since the store is down ------------------------------------------------


async def test_each_id_is_loaded_as_soon_as_the_load_that_it_follows_has_ended() -> None:
    store = FailingStore()
    cache = Cache(store, timeout=PATIENCE)
    store.fail()
    ended = {x: asyncio.Event() for x in (1, 2)}
    loads: list[list[int]] = []

    @cache.cached_many(key="n:<x>", each="xs", ttl=60)
    async def numbers(xs: list[int]) -> dict[int, int]:
        loads.append(xs)
        if len(loads) < 3:
            await ended[xs[0]].wait()
        return {x: x + len(loads) for x in xs}

    earlier = [asyncio.create_task(numbers([x])) for x in (1, 2)]
    await until(lambda: len(loads) == 2)
    later = asyncio.create_task(numbers([1, 2]))
    await turns()
    ended[1].set()
    await until(lambda: len(loads) == 3)
    assert loads[2] == [1]
    assert not earlier[1].done()
    ended[2].set()
    assert await later == {1: 4, 2: 6}
    await asyncio.gather(*earlier)
    store.recover()
    await cache.aclose()


async def test_a_batch_does_not_wait_for_an_earlier_one_whose_load_of_the_id_has_ended() -> None:
    store = FailingStore()
    cache = Cache(store, timeout=PATIENCE)
    store.fail()
    hangs, began = asyncio.Event(), asyncio.Event()

    @cache.cached_many(key="n:<x>", each="xs", ttl=60, max_batch=1)
    async def numbers(xs: list[int]) -> dict[int, int]:
        if xs == [2]:
            began.set()
            await hangs.wait()
        return {x: x for x in xs}

    earlier = asyncio.create_task(numbers([1, 2]))
    await began.wait()
    async with asyncio.timeout(PATIENCE / 2):
        assert await numbers([1]) == {1: 1}
    assert not earlier.done()
    hangs.set()
    assert await earlier == {1: 1, 2: 2}
    store.recover()
    await cache.aclose()


async def test_a_cancelled_batch_that_follows_a_load_leaves_its_ids_to_the_batch_that_waits_for_it() -> None:
    store = FailingStore()
    cache = Cache(store, timeout=PATIENCE)
    numbers = Numbers(cache)
    store.fail()
    numbers.open.clear()
    first = asyncio.create_task(numbers.many([1]))
    await until(lambda: len(numbers.loads) == 1)
    earlier = cache.runtime.flights.find("n:1")
    assert earlier is not None
    second = asyncio.create_task(numbers.many([1]))
    await until(lambda: earlier._followers)
    third = asyncio.create_task(numbers.many([1]))
    await turns()
    second.cancel()
    await asyncio.wait([second])
    assert not earlier._followers, "the one that was cancelled waits no more"
    numbers.open.set()
    assert await asyncio.gather(first, third) == [{1: 2}, {1: 2}]
    assert numbers.loads == [[1], [1]]
    store.recover()
    await cache.aclose()


# --- decoration ---------------------------------------------------------------------------------------


async def test_a_batch_function_without_an_annotation_caches_plain_json(cache: Cache) -> None:
    @cache.cached_many(key="n:<x>", each="xs", ttl=60)
    async def numbers(xs):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return {x: [x, "json"] for x in xs}

    assert await numbers([1, 2]) == await numbers([1, 2]) == {1: [1, "json"], 2: [2, "json"]}


def test_a_batch_for_an_id_that_cannot_be_given_by_position_is_refused() -> None:
    cache = Cache("memory://")

    @cache.cached(key="n:<x>", ttl=60)
    async def one(*, x: int) -> int: ...

    with pytest.raises(DecorationError, match=r"x of .*one cannot be given by position.*in front of|to the front"):

        @one.many(each="xs")
        async def many(xs: list[int]) -> dict[int, int]: ...
