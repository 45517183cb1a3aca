"""Windows of a store, by its verbs alone, and items in them that no push has stamped."""

from __future__ import annotations

import asyncio

import orjson

from cachekit.stores import MemoryStore, RedisStore, Store
from cachekit.stores.scripts import OpenWindow, Push

PATIENCE = 5.0  # seconds that a verb may take: a noisy machine is no failure
MINUTE = 60_000


async def generation(store: Store, key: str) -> bytes:
    """Return the generation of a window, which is made if there is none."""
    return await store.run(key, PATIENCE, OpenWindow(b"0123456789abcdef01234567", MINUTE))


async def push(store: Store, key: str, text: str, *, limit: int = 10, ttl_ms: int = MINUTE) -> None:
    """Push an item with ``text``."""
    item = orjson.dumps({"text": text})
    assert await store.run(key, PATIENCE, Push(await generation(store, key), item, limit, ttl_ms))


async def texts(store: Store, key: str, count: int = 100) -> list[str]:
    """Return the texts of a window, the newest first."""
    return [orjson.loads(item)["text"] for item in (await store.window(key, PATIENCE, count)).items]


async def lay(store: Store, key: str, *items: bytes) -> None:
    """Put ``items`` at the head of a window, the last one foremost, as another program would: nothing stamps them."""
    if isinstance(store, MemoryStore):
        keyspace = store._keyspace
        keyspace.put(key, [*reversed(items), *(keyspace.find(key, list) or [])], MINUTE)
        return
    assert isinstance(store, RedisStore)
    await store._send(key, ("LPUSH", key, *items), PATIENCE)


async def time_of(store: Store) -> float:
    """Return the time of the store's clock."""
    return (await store.window("a key that is not there", PATIENCE, 1)).now


async def until_empty(store: Store, key: str) -> None:
    """Wait until a window has expired."""
    async with asyncio.timeout(PATIENCE):
        while (await store.window(key, PATIENCE, 1)).items:
            await asyncio.sleep(0.005)
