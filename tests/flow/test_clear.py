"""`Cache.clear` and the loads that go on meanwhile: a call that comes afterwards has nothing to do with them."""

from __future__ import annotations

import asyncio

import pytest

from cachekit import MISS, Cache
from cachekit.events import Missed
from cachekit.testing import FailingStore
from tests.kit.stale import HOUR, PATIENCE, two_caches, watch
from tests.kit.waiting import until

PREFIX = "mine:"


class Source:
    """A source whose first load waits for a word, and a function that asks it."""

    def __init__(self, cache: Cache) -> None:
        self.version, self.loads = "old", 0
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

        @cache.cached(key="k", ttl=600)
        async def value() -> str:
            self.loads += 1
            found = self.version
            if self.loads == 1:
                self.begun.set()
                await self.go_on.wait()
            return found

        self.value = value

    async def begin(self) -> asyncio.Task[str]:
        """Begin the first load."""
        call = asyncio.create_task(self.value())
        await self.begun.wait()
        return call


@pytest.mark.parametrize("elsewhere_too", [False, True], ids=["here", "elsewhere"])
async def test_a_call_after_a_clear_shares_no_load_that_had_begun_before_it(
    store_url: str, *, elsewhere_too: bool
) -> None:
    async with two_caches(store_url, prefix=PREFIX) as (here, elsewhere):
        source, events = Source(here), watch(here)
        before = await source.begin()
        source.version = "new"
        assert await (elsewhere if elsewhere_too else here).clear()
        after = asyncio.create_task(source.value())
        await until(lambda: sum(isinstance(event, Missed) for event in events) == 2)
        source.go_on.set()
        assert await after == "new"
        assert await before == "old"
        assert await source.value.peek() in {"new", MISS}, "never the old one"


async def test_when_the_store_cannot_tell_a_call_after_a_clear_waits_for_no_load_from_before() -> None:
    store = FailingStore()
    # As long as a call would wait for the earlier load.
    async with Cache(store, prefix=PREFIX, timeout=HOUR) as cache:
        source = Source(cache)
        before = await source.begin()
        source.version = "new"
        assert await cache.clear()
        store.fail()
        async with asyncio.timeout(PATIENCE):
            assert await source.value() == "new"
        store.recover()
        source.go_on.set()
        assert await before == "old"
