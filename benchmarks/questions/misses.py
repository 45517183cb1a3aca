"""Misses: a decorated call whose load costs nothing, against GET and then SET."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import orjson

from benchmarks.questions import Question, ratio, throughput
from benchmarks.questions.hits import MANY, decorate
from benchmarks.suite import Run, many_callers
from benchmarks.work import DOCUMENT, TTL, by_hand
from cachekit import Cache

# Numbers that no question has used before.
_fresh = itertools.count(1_000_000)


@asynccontextmanager
async def decorated(url: str, callers: int = 1) -> AsyncGenerator[Run, None]:
    """Call the decorated function with a number that was never used: every call is a miss."""
    async with Cache(url, timeout=5) as cache:
        document = decorate(cache)

        async def miss(_: int) -> object:
            return await document(next(_fresh))

        yield many_callers(callers, miss)


@asynccontextmanager
async def bare(url: str, callers: int = 1) -> AsyncGenerator[Run, None]:
    """GET and SET, by hand: no protection against anything."""
    async with by_hand(url) as client:

        async def miss(_: int) -> object:
            key = f"bare:{next(_fresh)}"
            assert await client.get(key) is None  # noqa: S101 - or it would measure something else
            await client.set(key, orjson.dumps(DOCUMENT), ex=TTL)
            return DOCUMENT

        yield many_callers(callers, miss)


decorated_100 = partial(decorated, callers=MANY)
bare_100 = partial(bare, callers=MANY)
DISTINCT = "misses, 100 callers, distinct keys"

QUESTIONS = [
    Question("miss", "miss and fill, one caller", decorated, ("redis.asyncio GET then SET", bare), 100, ratio(1.5)),
    Question("miss-100", DISTINCT, decorated_100, ("the same, 100 at a time", bare_100), 500, throughput(4)),
]
