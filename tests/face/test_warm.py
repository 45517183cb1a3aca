"""Warming: the results of many calls are in the store before the first user asks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from cachekit import Cache, CachedFunction, Warmed, cached, using
from cachekit._flow.warm import MOST_ERRORS
from cachekit.errors import ConfigurationError
from cachekit.testing import FailingStore, memory_cache


class Counting:
    """A decorated function, the number of its runs, and the most that went on at the same time."""

    def __init__(self, cache: Cache) -> None:
        self.runs = self.now = self.most = 0

        @cache.cached(key="n:<n>", ttl=60, when=lambda n: n != 13)
        async def f(n: int) -> int:
            self.runs += 1
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            self.now -= 1
            if n < 0:
                raise ValueError(n)
            return n

        self.f: CachedFunction[[int], int] = f


async def test_every_call_is_counted_as_there_or_loaded_or_failed_and_later_calls_are_hits(store_url: str) -> None:
    async with Cache(store_url, prefix="warm:") as cache:
        counting = Counting(cache)
        await counting.f(1)
        warmed = await counting.f.warm([(n,) for n in (-2, -1, 1, 2, 3, 13)])
        assert (warmed.there, warmed.loaded, warmed.stored, warmed.failed) == (1, 3, 2, 2)
        assert sorted(map(str, warmed.errors)) == ["-1", "-2"]
        runs = counting.runs
        assert [await counting.f(n) for n in (1, 2, 3)] == [1, 2, 3]
        assert counting.runs == runs


async def test_a_key_of_several_calls_is_loaded_once() -> None:
    counting = Counting(memory_cache())
    assert await counting.f.warm([(1,)] * 5) == Warmed(there=4, loaded=1, stored=1)
    assert counting.runs == 1


async def test_a_call_that_runs_uncached_inside_a_transaction_is_loaded_and_not_stored() -> None:
    cache = memory_cache()
    counting = Counting(cache)
    await counting.f.warm([(1,), (2,)])
    async with cache.after_commit():
        await counting.f.invalidate(1)
        assert await counting.f.warm([(1,), (2,), (3,)]) == Warmed(there=1, loaded=2, stored=1)
    assert await counting.f.warm([(1,)]) == Warmed(loaded=1, stored=1)


async def test_a_call_with_a_tag_that_waits_for_the_commit_is_loaded_and_not_stored() -> None:
    cache = memory_cache()

    @cache.cached(key="n:<n>", ttl=60, tags=["all"])
    async def f(n: int) -> int:
        return n

    await f.warm([(1,)])
    async with cache.after_commit():
        await cache.invalidate_tags("all")
        assert await f.warm([(1,)]) == Warmed(loaded=1)


@pytest.mark.parametrize("tags", [["of:<x>"], ["t:<*many>"]], ids=["no text", "too many"])
async def test_a_call_whose_tags_cannot_be_had_is_loaded_and_not_stored(tags: list[str]) -> None:
    @memory_cache().cached(key="n:<n>", ttl=60, tags=tags)
    async def f(n: int, x: object, many: Sequence[int]) -> int:
        return n

    assert await f.warm([(1, object(), range(9))]) == Warmed(loaded=1)


async def test_the_load_of_another_call_is_none_of_the_warm_up() -> None:
    counting = Counting(memory_cache())
    warming = asyncio.create_task(counting.f.warm([(1,), (2,)], concurrency=1))
    await asyncio.sleep(0)
    assert [await counting.f(n) for n in (2, 1)] == [2, 1]
    assert await warming == Warmed(there=1, loaded=1, stored=1)
    assert counting.runs == 2


async def test_warm_ups_of_two_scopes_do_not_count_for_each_other() -> None:
    cache = memory_cache()

    @cached(key="n:<n>", ttl=60)
    async def f(n: int) -> int:
        return n

    async def warm(tenant: str) -> Warmed:
        with using(cache.scoped(tenant)):
            async with cache.scoped("a:").after_commit():
                await cache.scoped("a:").delete("n:1")
                return await f.warm([(1,), (2,)])

    assert await asyncio.gather(warm("a:"), warm("b:")) == [Warmed(loaded=2, stored=1), Warmed(loaded=2, stored=2)]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_no_more_calls_go_on_at_the_same_time_than_asked_for(concurrency: int) -> None:
    counting = Counting(memory_cache())
    await counting.f.warm(((n,) for n in range(20)), concurrency=concurrency)
    assert (counting.runs, counting.most) == (20, concurrency)


async def test_progress_is_told_after_each_call() -> None:
    told: list[int] = []
    await Counting(memory_cache()).f.warm([(1,), (-1,), (1,)], progress=told.append)
    assert told == [1, 2, 3]


async def test_calls_are_read_as_they_are_needed() -> None:
    counting = Counting(memory_cache())
    read = 0

    def calls() -> Iterator[tuple[int]]:
        nonlocal read
        for n in range(50):
            assert read - counting.runs <= 3
            read += 1
            yield (n,)

    assert (await counting.f.warm(calls(), concurrency=3)).loaded == 50


async def test_values_that_were_stored_before_a_warm_up_is_cancelled_stay() -> None:
    counting = Counting(memory_cache())
    third = asyncio.Event()

    def calls() -> Iterator[tuple[int]]:
        yield from [(1,), (2,)]
        third.set()
        yield (3,)

    task = asyncio.create_task(counting.f.warm(calls(), concurrency=1))
    await third.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert [await counting.f.peek(n) for n in (1, 2)] == [1, 2]


async def test_a_store_that_fails_is_no_error_and_nothing_counts_as_stored() -> None:
    store = FailingStore()
    store.fail()
    warmed = await Counting(Cache(store)).f.warm([(1,), (2,)])
    assert warmed == Warmed(loaded=2)


async def test_a_call_without_a_key_fails_and_does_not_run() -> None:
    runs = 0

    @memory_cache().cached(key="n:<n>", ttl=60)
    async def f(n: object) -> int:
        nonlocal runs
        runs += 1
        return 1

    assert (await f.warm([(object(),)])).failed == 1
    assert runs == 0


async def test_all_calls_that_fail_are_counted_and_the_first_errors_are_kept() -> None:
    @memory_cache().cached(key="n:<n>", ttl=60)
    async def f(n: int) -> int:
        raise LookupError(n)

    warmed = await f.warm([(n,) for n in range(2 * MOST_ERRORS)], concurrency=1)
    assert warmed.failed == 2 * MOST_ERRORS
    assert [error.args for error in warmed.errors] == [(n,) for n in range(MOST_ERRORS)]


async def test_arguments_that_do_not_fit_are_the_callers_error() -> None:
    counting = Counting(memory_cache())
    with pytest.raises(TypeError, match="positional argument"):
        await counting.f.warm([(1, 2)])
    with pytest.raises(
        TypeError, match=r"a call is a tuple of arguments, not a int; write \.warm\(\[\(1,\), \(2,\)\]\)"
    ):
        await counting.f.warm([1, 2])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="concurrency=0 is not a count"):
        await counting.f.warm([], concurrency=0)


async def test_an_exception_of_progress_ends_the_warming() -> None:
    counting = Counting(memory_cache())

    def progress(done: int) -> None:
        raise LookupError(done)

    with pytest.raises(LookupError, match="1"):
        await counting.f.warm([(n,) for n in range(100)], concurrency=1, progress=progress)
    assert counting.runs == 1


async def test_a_method_is_warmed_for_its_instance() -> None:
    cache = memory_cache()

    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        @cache.cached(key="price:<self.name>:<sku>", ttl=60)
        async def price(self, sku: str) -> str:
            return self.name + sku

    assert (await Shop("a").price.warm([("tea",)])).stored == 1
    assert await Shop("a").price.peek("tea") == "atea"
    assert not await Shop("b").price.peek("tea")


async def test_a_cancelled_warming_leaves_nothing_running() -> None:
    began = asyncio.Event()

    @memory_cache().cached(key="n:<n>", ttl=60)
    async def hangs(n: int) -> int:
        began.set()
        await asyncio.Event().wait()
        return n

    warming = asyncio.ensure_future(hangs.warm([(n,) for n in range(10)]))
    await began.wait()
    warming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await warming
