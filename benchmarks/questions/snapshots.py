"""Snapshots: save and pair against the same commands by hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import orjson

from benchmarks.questions import Question, ratio
from benchmarks.suite import Run, one_caller
from benchmarks.work import by_hand
from cachekit import Cache, SnapshotStore, new_key

TEXT: Final = "I definately recieve seperate letters. " * 25
LIMIT: Final = 50
DAY: Final = 86_400


@asynccontextmanager
async def save(url: str) -> AsyncGenerator[Run, None]:
    """`SnapshotStore.save_snapshot`."""
    async with Cache(url, timeout=5) as cache:
        store = SnapshotStore(cache, limit=LIMIT)
        yield one_caller(lambda: store.save_snapshot("42", TEXT, 125))


@asynccontextmanager
async def save_bare(url: str) -> AsyncGenerator[Run, None]:
    """LPUSH, LTRIM and EXPIRE in one MULTI, by hand: the age of an entry is not looked at."""
    async with by_hand(url) as client:

        async def run() -> object:
            item = {"text": TEXT, "word_count": 125, "timestamp": datetime.now(UTC)}
            async with client.pipeline(transaction=True) as pipeline:
                pipeline.lpush("bare", orjson.dumps(item))
                pipeline.ltrim("bare", 0, LIMIT - 1)
                pipeline.expire("bare", DAY)
                return await pipeline.execute()

        yield one_caller(run)


@asynccontextmanager
async def pair(url: str) -> AsyncGenerator[Run, None]:
    """`SnapshotStore.get_snapshot_pair`."""
    async with Cache(url, timeout=5) as cache:
        store = SnapshotStore(cache, limit=LIMIT)
        for _ in range(LIMIT):
            await store.save_snapshot("42", TEXT, 125)
        yield one_caller(lambda: store.get_snapshot_pair("42"))


@asynccontextmanager
async def pair_bare(url: str) -> AsyncGenerator[Run, None]:
    """LRANGE of two and loads, by hand."""
    async with by_hand(url) as client:
        item = {"text": TEXT, "word_count": 125, "timestamp": datetime.now(UTC)}
        for _ in range(LIMIT):
            await client.lpush("bare", orjson.dumps(item))

        async def run() -> object:
            return [orjson.loads(found) for found in await client.lrange("bare", 0, 1)]

        yield one_caller(run)


@asynccontextmanager
async def save_sealed(url: str) -> AsyncGenerator[Run, None]:
    """`SnapshotStore.save_snapshot`, encrypted."""
    async with Cache(url, prefix="sealed:", timeout=5, keys=[new_key()]) as cache:
        store = SnapshotStore(cache, limit=LIMIT)
        yield one_caller(lambda: store.save_snapshot("42", TEXT, 125))


@asynccontextmanager
async def pair_sealed(url: str) -> AsyncGenerator[Run, None]:
    """`SnapshotStore.get_snapshot_pair`, encrypted."""
    async with Cache(url, prefix="sealed:", timeout=5, keys=[new_key()]) as cache:
        store = SnapshotStore(cache, limit=LIMIT)
        for _ in range(LIMIT):
            await store.save_snapshot("42", TEXT, 125)
        yield one_caller(lambda: store.get_snapshot_pair("42"))


MULTI = "redis.asyncio MULTI of LPUSH, LTRIM, EXPIRE"

QUESTIONS = [
    Question("save", "snapshot save", save, (MULTI, save_bare), 100, ratio(1.1)),
    Question("pair", "snapshot pair", pair, ("redis.asyncio LRANGE + orjson.loads", pair_bare), 100),
    Question("save-sealed", "encrypted snapshot save", save_sealed, ("the same in plain text", save), 100, ratio(1.3)),
    Question("pair-sealed", "encrypted snapshot pair", pair_sealed, ("the same in plain text", pair), 100, ratio(1.3)),
]
