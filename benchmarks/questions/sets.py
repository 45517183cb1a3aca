"""A value set by hand, against the same commands without a fence."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from benchmarks.questions import Question, ratio
from benchmarks.suite import Run, one_caller
from benchmarks.work import DOCUMENT, JSON, TTL, by_hand
from cachekit import Cache
from cachekit.entry import lease_key


@asynccontextmanager
async def ours(url: str) -> AsyncGenerator[Run, None]:
    """`Cache.set`: take the lease over, and fill when that is acknowledged."""
    async with Cache(url, timeout=5) as cache:
        yield one_caller(lambda: cache.set("k", DOCUMENT, ttl=TTL))


@asynccontextmanager
async def in_one_write(url: str) -> AsyncGenerator[Run, None]:
    """SET and UNLINK of the lease in one MULTI, by hand: given up on its way, it may land behind an invalidation."""
    async with by_hand(url) as client:

        async def run() -> object:
            async with client.pipeline(transaction=True) as pipeline:
                pipeline.set("k", JSON, ex=TTL)
                pipeline.unlink(lease_key("k"))
                return await pipeline.execute()

        yield one_caller(run)


QUESTIONS = [Question("set", "set by hand", ours, ("redis.asyncio MULTI of SET, UNLINK", in_one_write), 100, ratio())]
