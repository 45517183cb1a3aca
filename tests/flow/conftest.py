"""What tests of stale values share, and a counter of writes. Other tests have a cache of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cachekit import Cache
from cachekit.stores.lane import Lane
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


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the writes to servers: the address of each, in order."""
    sent: list[str] = []
    send = Lane._send

    def counted(lane: Lane) -> None:
        before = len(lane._unanswered)
        send(lane)
        if len(lane._unanswered) > before:
            sent.append(str(id(lane)))

    monkeypatch.setattr(Lane, "_send", counted)
    return sent
