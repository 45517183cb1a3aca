"""Near values hang on their tags: whatever removes a tag, or reports it, takes them along. `clear` takes everything."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from cachekit import MISS, Cache, ConfigurationError
from cachekit._tiers import near
from cachekit._tiers.near import NEAR_TIERS
from cachekit.events import Event, Hit, NearPaused
from cachekit.stores.base import Sweep, Want
from cachekit.stores.redis import RedisStore
from cachekit.tags import tag_key
from cachekit.testing import FailingStore
from tests.kit.servers import RedisServer
from tests.kit.waiting import until

T = 5.0


class Bench:
    """A cache with a near tier, and a function with tags on it."""

    def __init__(self, url: str, **options: Any) -> None:
        self.cache = Cache(url, prefix="near:", timeout=T, near=1000, **options)
        self.version = 0
        self.loads = 0
        self.events: list[Event] = []
        self.cache.observe(self.events.append)

        @self.cache.cached(key="n:<n>", ttl=600, tags=["all", "row:<n>"])
        async def f(n: int) -> int:
            self.loads += 1
            return self.version

        self.f = f

    @property
    def near(self) -> bool:
        hits = [event for event in self.events if isinstance(event, Hit)]
        return bool(hits) and hits[-1].near

    @property
    def state(self) -> Any:
        tier: Any = self.cache.runtime.coherence.near
        return tier._loops.get()

    async def warm(self, *numbers: int) -> None:
        """Call until the calls are near hits."""
        for n in numbers or (1,):

            async def call(n: int = n) -> None:
                self.events.clear()
                await self.f(n)

            await until(lambda: self.near, call)


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def url(request: pytest.FixtureRequest, redis_server: RedisServer) -> str:
    return f"{redis_server.url}?protocol={request.param}"


@pytest_asyncio.fixture
async def bench(url: str) -> AsyncIterator[Bench]:
    bench = Bench(url)
    yield bench
    await bench.cache.aclose()


async def test_a_near_hit_asks_for_no_tag(redis_server: RedisServer, bench: Bench) -> None:
    await bench.warm()
    redis_server.cli("CONFIG", "RESETSTAT")
    assert [await bench.f(1) for _ in range(50)] == [0] * 50
    assert {"cmdstat_get", "cmdstat_mget"}.isdisjoint(redis_server.cli("INFO", "commandstats"))


async def test_an_invalidation_by_this_process_holds_at_once_and_leaves_other_tags(bench: Bench) -> None:
    await bench.warm(1, 2)
    bench.version = 1
    assert await bench.cache.invalidate_tags("row:1")
    assert [await bench.f(1), await bench.f(2)] == [1, 0]
    assert await bench.cache.invalidate_tags("all")
    assert [await bench.f(1), await bench.f(2)] == [1, 1]


async def test_an_invalidation_by_another_process_is_reported(redis_server: RedisServer, bench: Bench) -> None:
    await bench.warm(1, 2)
    bench.version = 1
    # By nobody's cache: the server alone tells.
    redis_server.cli("UNLINK", f"near:{tag_key('all')}")
    await until(lambda: "n:1" not in bench.state.entries and "n:2" not in bench.state.entries)
    assert [await bench.f(1), await bench.f(2)] == [1, 1]


async def test_an_invalidation_by_another_loop_of_the_process_holds_when_it_returns(url: str, bench: Bench) -> None:
    await bench.warm()
    bench.version = 1

    def elsewhere() -> None:
        async def main() -> None:
            async with Cache(url, prefix="near:", timeout=T) as cache:
                assert await cache.invalidate_tags("all")

        asyncio.run(main())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    # Its event loop stands still, so no report is read before the next call.
    thread.join()
    assert await bench.f(1) == 1


async def test_an_invalidation_that_the_store_did_not_acknowledge_empties_the_near_tier_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.warm()
    bench.version = 1

    async def refuse(self: object, keys: object, timeout: float) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(RedisStore, "delete", refuse)
        assert not await bench.cache.invalidate_tags("all")
        assert await bench.f(1) == 1
    await until(lambda: not len(bench.cache.runtime.coherence.journal))
    assert await bench.f(1) == 1


async def test_a_read_that_an_invalidation_of_a_tag_overtakes_keeps_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.warm()
    NEAR_TIERS.forget_all()
    store: Any = bench.cache._store
    read, came, go_on = store.get_tagged, asyncio.Event(), asyncio.Event()

    async def slow(key: str, timeout: float, tags: Any, want: int) -> Any:
        found = await read(key, timeout, tags, want)
        came.set()
        await go_on.wait()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(store, "get_tagged", slow)
        call = asyncio.create_task(bench.f(1))
        await came.wait()
        bench.version = 1
        await bench.cache.invalidate_tags("row:1")
        go_on.set()
        assert await call == 0
    assert "n:1" not in bench.state.entries
    assert await bench.f(1) == 1


async def test_pairs_of_entries_that_have_left_are_looked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "_PAIRS", 20)
    await bench.warm()
    bench.state._most_pairs = 20
    for n in range(2, 60):
        await bench.warm(n)
        await bench.f.invalidate(n)
    assert bench.state._pairs <= 21
    assert sum(map(len, bench.state.dependants.values())) == bench.state._pairs
    await bench.cache.invalidate_tags("all")
    assert await bench.f.peek(1) is MISS


async def test_a_value_with_a_tag_of_its_result_is_not_kept_near(bench: Bench) -> None:
    await bench.warm()

    @bench.cache.cached(key="post:<n>", ttl=600, tags=["author:<return>"])
    async def post(n: int) -> int:
        return 7

    bench.events.clear()
    for _ in range(5):
        assert await post(1) == 7
    hits = [event.near for event in bench.events if isinstance(event, Hit)]
    assert hits
    assert not any(hits)
    assert not any(isinstance(event, NearPaused) for event in bench.events)


# --- clear -----------------------------------------------------------------------------------------


async def test_clear_removes_everything_of_a_prefix_and_nothing_else(store_url: str) -> None:
    async with Cache(store_url, prefix="mine:", timeout=T) as mine, Cache(mine._store, prefix="other:") as other:
        runs = 0

        @mine.cached(key="n:<n>", ttl=60, tags=["all"])
        async def f(n: int) -> int:
            nonlocal runs
            runs += 1
            return runs

        for n in range(50):
            await f(n)
        await mine.set("k", 1, ttl=60)
        await other.set("k", 2, ttl=60)
        told: list[int] = []
        assert await mine.clear(progress=told.append)
        assert told[-1] >= 51
        assert told == sorted(told)
        assert await mine.get("k") is None
        assert await other.get("k") == 2
        assert [await f.peek(n) for n in range(50)] == [MISS] * 50
        found = await mine._store.get_tagged("mine:~{all}", T, [], Want.NOTHING)  # type: ignore[attr-defined]
        assert found.value is None
        assert await f(1) == await f(1) == 51


async def test_a_load_that_had_begun_before_a_clear_is_not_stored(store_url: str) -> None:
    async with Cache(store_url, prefix="mine:", timeout=T) as cache:
        begun, go_on, runs = asyncio.Event(), asyncio.Event(), 0

        @cache.cached(key="cold", ttl=60)
        async def f() -> int:
            nonlocal runs
            runs += 1
            own = runs
            begun.set()
            await go_on.wait()
            return own

        first = asyncio.create_task(f())
        await begun.wait()
        async with Cache(cache._store, prefix="mine:", timeout=T) as elsewhere:
            # By another cache: nothing but the lease tells the load.
            assert await elsewhere.clear()
        go_on.set()
        assert await first == 1
        assert await f() == 2


async def test_a_load_that_had_begun_before_a_clear_that_fails_is_not_stored_either() -> None:
    store = FailingStore()
    async with Cache(store, prefix="mine:", timeout=T) as cache:
        begun, go_on, runs = asyncio.Event(), asyncio.Event(), 0

        @cache.cached(key="cold", ttl=60)
        async def f() -> int:
            nonlocal runs
            runs += 1
            own = runs
            begun.set()
            await go_on.wait()
            return own

        first = asyncio.create_task(f())
        await begun.wait()
        with store.failing():
            assert not await cache.clear()
        go_on.set()
        assert await first == 1
        assert await f() == 2


async def test_clear_empties_the_near_tier_whether_redis_has_reported_its_removals_or_not(bench: Bench) -> None:
    await bench.warm(1, 2)
    bench.state.tracking.changed = lambda _: None
    bench.version = 1
    assert await bench.cache.clear()
    assert [await bench.f(1), await bench.f(2)] == [1, 1]


async def test_every_server_is_looked_through_twice() -> None:
    store = FailingStore()
    looked: list[Sweep] = []
    sweep = store.sweep

    async def counted(prefix: str, timeout: float, at: Sweep) -> Sweep:
        looked.append(at)
        return await sweep(prefix, timeout, at)

    store.sweep = counted  # type: ignore[method-assign]
    async with Cache(store, prefix="mine:") as cache:
        assert await cache.clear()
    assert looked == [Sweep(), Sweep()]


async def test_a_clear_that_fails_or_takes_too_long_says_so() -> None:
    store = FailingStore()
    async with Cache(store, prefix="mine:") as cache:
        store.fail()
        assert not await cache.clear()
        store.recover()
        await cache.set("k", 1, ttl=60)
        assert not await cache.clear(within=0.001, progress=lambda _: threading.Event().wait(0.01) and None)
        assert await cache.clear(within="1m")


async def test_a_database_is_not_cleared_without_a_prefix(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url) as cache:
        with pytest.raises(ConfigurationError, match="give the cache a prefix"):
            await cache.clear()
    async with Cache("memory://") as cache:
        await cache.set("k", 1, ttl=60)
        assert await cache.clear()
        assert await cache.get("k") is None
