"""A load that hangs holds up neither its key nor its callers for ever, and a cancelled caller costs others little."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from cachekit import MISS, Cache
from cachekit._flow import lease
from cachekit.errors import ConfigurationError
from cachekit.stores.base import Store
from cachekit.stores.memory import MemoryStore
from cachekit.testing import FailingStore
from tests.kit.waiting import until

PATIENCE = 30.0


@pytest_asyncio.fixture
async def cache(store_url: str) -> AsyncIterator[Cache]:
    async with Cache(store_url, timeout=5) as cache:
        yield cache
        assert not cache.runtime.flights.open_loops, "a flight was left open"


class Source:
    """A function whose first load hangs; the ones after it return how many there were."""

    def __init__(self, *, hanging: int = 1) -> None:
        self.runs = 0
        self.cancelled = 0
        self.hanging = hanging
        self.began = asyncio.Event()

    async def load(self) -> int:
        self.runs += 1
        run = self.runs
        self.began.set()
        if run <= self.hanging:
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        return run


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def two_caches(store_url: str) -> AsyncIterator[tuple[Cache, Cache]]:
    """Two caches over one store stand for two processes: they share only the store."""
    store: Store | str = MemoryStore() if store_url == "memory://" else store_url
    async with Cache(store, timeout=5) as here, Cache(store, timeout=5) as elsewhere:
        yield here, elsewhere


async def ended(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


# --- load_timeout ---------------------------------------------------------------------------------------


async def test_a_load_over_its_timeout_fails_for_all_its_callers_and_the_next_call_loads(cache: Cache) -> None:
    source = Source()
    call = cache.cached(key="k", ttl=60, load_timeout=0.05)(source.load)
    async with asyncio.timeout(PATIENCE):
        results = await asyncio.gather(*[call() for _ in range(5)], return_exceptions=True)
        assert [type(result) for result in results] == [TimeoutError] * 5
        assert "load_timeout of 0.05 s" in str(results[0])
        assert (source.runs, source.cancelled) == (1, 1)
        assert await call() == 2, "nobody waits for the lease"
    assert await call.peek() == 2


async def test_callers_that_share_a_load_do_not_wait_for_its_clean_up(cache: Cache) -> None:
    cleaned_up = asyncio.Event()
    runs = 0

    @cache.cached(key="k", ttl=60, load_timeout=0.05)
    async def stubborn() -> int:
        nonlocal runs
        runs += 1
        if runs > 1:
            return runs
        try:
            await asyncio.Event().wait()
        finally:
            await cleaned_up.wait()
        return 0

    leader = asyncio.create_task(stubborn())
    await turns()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(TimeoutError):
            await stubborn()
        assert await stubborn() == 2
        cleaned_up.set()
        with pytest.raises(TimeoutError):
            await leader
    assert await stubborn() == 2, "the late end of the first load changed nothing"


async def test_a_result_that_comes_after_the_timeout_is_not_stored(cache: Cache) -> None:
    @cache.cached(key="k", ttl=60, load_timeout=0.05)
    async def deaf() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "late"

    async with asyncio.timeout(PATIENCE):
        assert await deaf() == "late"
    assert await deaf.peek() is MISS


async def test_a_timeout_of_the_functions_own_passes_through_unchanged(cache: Cache) -> None:
    failure = TimeoutError("of the database")

    @cache.cached(key="k", ttl=60, load_timeout=PATIENCE)
    async def broken() -> int:
        raise failure

    with pytest.raises(TimeoutError, match="of the database") as raised:
        await broken()
    assert raised.value is failure


async def test_a_caller_that_is_cancelled_within_the_load_timeout_is_cancelled(cache: Cache) -> None:
    source = Source()
    call = cache.cached(key="k", ttl=60, load_timeout=PATIENCE)(source.load)
    leader = asyncio.create_task(call())
    await source.began.wait()
    await ended(leader)
    assert leader.cancelled()
    assert await call() == 2


async def test_a_refresh_is_bounded_by_the_load_timeout_as_well(cache: Cache) -> None:
    call = cache.cached(key="k", ttl=60, load_timeout=0.05)(Source().load)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(TimeoutError):
            await call.refresh()
        async with cache.after_commit():
            await call.invalidate()
            assert await call.refresh() == 2


@pytest.mark.parametrize("wrong", [0, -1, "soon", True], ids=repr)
def test_a_load_timeout_that_makes_no_sense_is_refused_at_decoration(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="load_timeout="):
        Cache("memory://").cached(ttl=60, load_timeout=wrong)


# --- without it -----------------------------------------------------------------------------------------


async def test_a_load_that_hangs_is_not_waited_for_in_other_processes_for_ever(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "MOST_RENEWED", 2)
    async with two_caches(store_url) as (here, elsewhere):
        source = Source()
        hung = asyncio.create_task(here.cached(key="k", ttl=60, lease=0.2)(source.load)())
        await source.began.wait()
        async with asyncio.timeout(PATIENCE):
            assert await elsewhere.cached(key="k", ttl=60, lease=0.2)(source.load)() == 2
        await ended(hung)


async def test_a_load_that_hangs_is_not_joined_in_its_own_process_for_ever(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "MOST_RENEWED", 2)
    source = Source()
    call = cache.cached(key="k", ttl=60, lease=0.1)(source.load)
    hung = asyncio.create_task(call())
    await source.began.wait()

    async def answered() -> int:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    return await call()

    async with asyncio.timeout(PATIENCE):
        assert await answered() == 2
    await ended(hung)


@pytest.mark.parametrize("outage", ["at once", "breaker open"])
async def test_a_call_during_an_outage_waits_for_an_earlier_load_of_its_key_no_longer_than_the_timeout(
    outage: str,
) -> None:
    store = FailingStore()
    store.fail()
    async with Cache(store if outage == "at once" else "redis://127.0.0.1:1", timeout=0.1) as cache:
        for _ in range(5):
            await cache.get("opens the breaker")
        source = Source(hanging=2)
        call = cache.cached(key="k", ttl=60)(source.load)
        hung = [asyncio.create_task(call())]
        await source.began.wait()
        source.began.clear()
        hung.append(asyncio.create_task(call()))
        async with asyncio.timeout(PATIENCE):
            await source.began.wait()
            assert await call() == 3
        await ended(*hung)


# --- cancelled callers ----------------------------------------------------------------------------------


async def test_the_newest_caller_is_promoted_first_and_then_the_oldest() -> None:
    # In memory a read takes no turn, so callers begin to wait in the order in which they are started.
    cache = Cache("memory://")
    loading: list[str] = []

    @cache.cached(key="k", ttl=60)
    async def load() -> None:
        loading.append(asyncio.current_task().get_name())  # type: ignore[union-attr]
        await asyncio.Event().wait()

    callers = {}
    for name in ("leader", "oldest", "middle", "newest"):
        callers[name] = asyncio.create_task(load(), name=name)
        await until(lambda: loading)
        await turns()
    for count, name in enumerate(("leader", "newest", "oldest"), start=2):
        await ended(callers[name])
        await until(lambda count=count: len(loading) == count)  # type: ignore[misc]
    await ended(callers["middle"])
    assert loading == ["leader", "newest", "oldest", "middle"]
