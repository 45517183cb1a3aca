"""Misses: a decorated call whose load costs nothing, against GET and then SET."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import orjson

from benchmarks.questions import Question, Ratio, Throughput
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


QUESTIONS = [
    Question(
        name="miss",
        work="miss and fill, one caller",
        ours=decorated,
        against="redis.asyncio GET then SET",
        theirs=bare,
        calls=100,
        measure=Ratio(1.5),
    ),
    Question(
        name="miss-100",
        work="misses, 100 callers, distinct keys",
        ours=partial(decorated, callers=MANY),
        against="the same, 100 at a time",
        theirs=partial(bare, callers=MANY),
        calls=500,
        measure=Throughput(4),
    ),
]
