"""Stale values in tests: a value is put into a store as old as a test needs it, and nobody waits for its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson

from cachekit import Cache
from cachekit.entry import Entry
from cachekit.events import Event, ServedStale
from cachekit.stores.base import Store
from cachekit.stores.memory import MemoryStore

PATIENCE = 30.0
HOUR = 3600.0
DOWN = ConnectionError("the database is down")

WINDOWS: dict[str, Any] = {"stale_while_revalidate": 60, "stale_if_error": HOUR, "retry_after": 60}
"""A value is handed out at once for a minute, and stands in for an hour."""


async def put(cache: Cache, key: str, value: object, *, left: float, stale: float = HOUR, **metadata: Any) -> None:
    """Store ``value`` at ``key``, the TTL of which ends in ``left`` seconds; negative: it has ended.

    Args:
        cache: In whose store.
        key: Without the prefix of the cache.
        value: Plain JSON.
        left: Seconds.
        stale: The stale window in seconds; more of it than has passed.
        metadata: Other fields of `Entry`.
    """
    raw = Entry(orjson.dumps(value), stale, **metadata).raw()
    store: Store = cache._store
    await store.set(key, PATIENCE, raw, ttl_ms=round((stale + left) * 1000))


async def raw_at(cache: Cache, key: str) -> tuple[bytes | None, bytes | None]:
    """Return the bytes at ``key``, and what stands at its lease."""
    store: Store = cache._store
    return await store.get_with_lease(key, PATIENCE)


def watch(cache: Cache) -> list[Event]:
    """Return the list that all events of ``cache`` go into from now on."""
    events: list[Event] = []
    cache.observe(events.append)
    return events


def reasons(events: list[Event]) -> list[str]:
    """Return why each stale value was handed out."""
    return [event.why for event in events if isinstance(event, ServedStale)]


class Source:
    """A source that is asked by a cached function, counts the questions, and can be down or slow."""

    def __init__(self, version: object = "new") -> None:
        self.version = version
        self.error: BaseException | None = None
        self.asked = 0
        self.began = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def load(self) -> Any:
        """Return the version, once the source is ``open``; or raise the error."""
        self.asked += 1
        self.began.set()
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return self.version


@contextlib.asynccontextmanager
async def two_caches(store_url: str, **options: Any) -> AsyncIterator[tuple[Cache, Cache]]:
    """Two caches over one store stand for two processes: they share only the store."""
    store: Store | str = MemoryStore() if store_url == "memory://" else store_url
    async with Cache(store, timeout=5, **options) as here, Cache(store, timeout=5, **options) as elsewhere:
        yield here, elsewhere


async def turns(count: int = 20) -> None:
    """Let others go on for a few turns of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)
