"""What tests of stale values share. Other tests have a cache of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cachekit import Cache
from tests.kit.stale import Source
from tests.kit.waiting import until


@pytest_asyncio.fixture
async def cache(store_url: str) -> AsyncIterator[Cache]:
    async with Cache(store_url, timeout=5) as cache:
        yield cache
        await until(lambda: not cache.loading_in_background)
        assert not cache.runtime.flights.open_loops, "a flight was left open"


@pytest.fixture
def source() -> Source:
    return Source()
