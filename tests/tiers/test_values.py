"""Values in the store: which bytes are a hit for which function, one by one and in a batch."""

from __future__ import annotations

import pytest

from cachekit import MISS, Cache
from cachekit.events import Event, Hit, Uncached
from cachekit.stores.memory import MemoryStore
from tests.kit.servers import RedisServer
from tests.kit.stale import put
from tests.kit.waiting import PATIENCE, until


class Squares:
    """A cached function without stale windows, which another deployment gave some, and its batch."""

    def __init__(self, cache: Cache, **options: bool) -> None:
        self.loaded: list[int] = []
        self.events: list[Event] = []
        cache.observe(self.events.append)

        @cache.cached(key="square:<x>", ttl=60, **options)
        async def square(x: int) -> int:
            self.loaded.append(x)
            return x * x

        @square.many(each="xs")
        async def squares(xs: list[int]) -> dict[int, int]:
            self.loaded += xs
            return {x: x * x for x in xs}

        self.one, self.many = square, squares

    @property
    def hits(self) -> set[str]:
        return {event.key for event in self.events if isinstance(event, Hit)}


async def test_of_values_that_may_be_stale_those_are_hits_of_a_batch_whose_ttl_is_not_over(store_url: str) -> None:
    async with Cache(store_url, prefix="app:", timeout=PATIENCE) as cache:
        functions = Squares(cache)
        await put(cache, "app:square:1", 1, left=30)
        await put(cache, "app:square:2", 7, left=-30)
        assert await functions.many([1, 2, 3]) == {1: 1, 2: 4, 3: 9}
        assert (functions.loaded, functions.hits) == ([2, 3], {"square:1"})


async def test_a_value_whose_ttl_is_over_is_not_kept_near_by_a_batch(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, prefix="app:", near=10, timeout=PATIENCE) as cache:
        functions = Squares(cache, near=True)
        # Until changes are reported, nothing is near.
        await until(
            lambda: any(isinstance(event, Hit) and event.near for event in functions.events), lambda: functions.one(9)
        )
        await put(cache, "app:square:1", 1, left=30)
        await put(cache, "app:square:2", 7, left=-30)
        functions.loaded.clear()
        assert await functions.many([1, 2]) == {1: 1, 2: 4}
        assert functions.loaded == [2]


async def test_bytes_in_a_batch_that_do_not_decode_are_misses_and_are_told(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    async with Cache(store) as cache:
        functions = Squares(cache)
        for x in (1, 3):
            await store.set(f"square:{x}", 5.0, b'"text"', ttl_ms=60_000)
        await functions.one(2)
        assert await functions.many([1, 2, 3]) == {1: 1, 2: 4, 3: 9}
        assert functions.hits == {"square:2"}
        assert {event.key for event in functions.events if isinstance(event, Uncached)} == {"square:1", "square:3"}
        assert len([text for text in caplog.messages if "do not decode" in text]) == 1
        # Now they do.
        assert await functions.many([1, 2, 3]) == {1: 1, 2: 4, 3: 9}
        assert functions.loaded == [2, 1, 3]


async def test_the_lines_of_tags_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: dict[bytes, object] = {}
    monkeypatch.setattr("cachekit._tiers.tags._MOST_LINES", 2)
    monkeypatch.setattr("cachekit._tiers.tags._LINES", lines)
    async with Cache("memory://") as cache:

        @cache.cached(key="k:<x>", ttl=60, tags=["of:<x>"])
        async def f(x: int) -> int:
            loads.append(x)
            return x

        loads: list[int] = []
        for _ in range(2):
            assert [await f(x) for x in range(5)] == [*range(5)]
            assert len(lines) <= 2
        assert loads == [*range(5)]
        assert await cache.invalidate_tags("of:3")
        assert await f.peek(3) is MISS


async def test_an_observer_that_is_ended_twice_takes_no_other_with_it() -> None:
    async with Cache("memory://") as cache:
        first: list[Event] = []
        second: list[Event] = []
        stop = cache.observe(first.append)
        cache.observe(second.append)
        stop()
        stop()
        await Squares(cache).one(1)
        assert second
        assert not first
