"""Hits: the decorated call against GET and orjson.loads."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import orjson

from benchmarks.suite import Question, Run, many_callers, one_caller
from benchmarks.targets import Ratio, Throughput
from benchmarks.work import DOCUMENT, JSON, TTL, by_hand
from cachekit import Cache, CachedFunction

MANY = 100


def decorate(cache: Cache) -> CachedFunction[[int], dict[str, Any]]:
    """Return the function that all variants of ours call."""

    @cache.cached(key="bench:<number>", ttl=TTL)
    async def document(number: int) -> dict[str, Any]:  # noqa: ARG001 - it is part of the key
        return DOCUMENT

    return document


@asynccontextmanager
async def decorated(url: str, callers: int = 1) -> AsyncGenerator[Run, None]:
    """Call the decorated function; every call is a hit."""
    async with Cache(url, timeout=5) as cache:
        document = decorate(cache)
        for number in range(callers):
            await document(number)
        yield one_caller(partial(document, 0)) if callers == 1 else many_callers(callers, document)


@asynccontextmanager
async def bare(url: str, callers: int = 1) -> AsyncGenerator[Run, None]:
    """GET and loads, by hand."""
    async with by_hand(url) as client:
        for number in range(callers):
            await client.set(f"bare:{number}", JSON, ex=TTL)

        async def get(number: int) -> Any:
            found = await client.get(f"bare:{number}")
            return found and orjson.loads(found)

        yield one_caller(partial(get, 0)) if callers == 1 else many_callers(callers, get)


@asynccontextmanager
async def in_memory(url: str) -> AsyncGenerator[Run, None]:  # noqa: ARG001 - no server
    """Call the decorated function on ``memory://``."""
    async with Cache("memory://") as cache:
        document = decorate(cache)
        await document(0)
        yield one_caller(partial(document, 0))


@asynccontextmanager
async def loads_alone(url: str) -> AsyncGenerator[Run, None]:  # noqa: ARG001 - no server
    """What no hit can be faster than: decoding the document, in a coroutine."""

    async def loads() -> Any:
        return orjson.loads(JSON)

    yield one_caller(loads)


QUESTIONS = [
    Question(
        name="hit",
        work="hit on Redis, one caller",
        ours=decorated,
        against="redis.asyncio GET + orjson.loads",
        theirs=bare,
        calls=200,
        measure=Ratio(at_most=0.75),
    ),
    Question(
        name="hit-100",
        work="hits on Redis, 100 callers, distinct keys",
        ours=partial(decorated, callers=MANY),
        against="the same, 100 at a time",
        theirs=partial(bare, callers=MANY),
        calls=1000,
        measure=Throughput(at_least=12),
    ),
    Question(
        name="hit-memory",
        work="hit on memory://",
        ours=in_memory,
        against="orjson.loads alone",
        theirs=loads_alone,
        calls=1000,
    ),
]
