"""Misses: a decorated call whose load costs nothing, against GET and then SET."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import orjson

from benchmarks.questions import Question, ratio, throughput
from benchmarks.questions.hits import MANY, bare_protocol, decorate, packed
from benchmarks.suite import Run, many_callers, one_caller
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


@asynccontextmanager
async def protocol_alone(url: str) -> AsyncGenerator[Run, None]:
    """Send GET, SET NX for a lease, and SET on a bare protocol, each after the reply to the one before."""
    async with bare_protocol(url) as ask:

        async def miss() -> object:
            key = f"bare:{next(_fresh)}"
            await ask(packed("GET", key))
            await ask(packed("SET", f"{key}:lease", "token", "NX", "PX", 5000))
            await ask(packed("SET", key, orjson.dumps(DOCUMENT), "EX", TTL))
            return DOCUMENT

        yield one_caller(miss)


@asynccontextmanager
async def futures_alone(url: str) -> AsyncGenerator[Run, None]:  # noqa: ARG001 - no server
    """Await three futures each, as if the answers were there, and encode."""
    loop = asyncio.get_running_loop()

    async def miss(_: int) -> object:
        for _ in range(3):
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future
        return orjson.dumps(DOCUMENT)

    yield many_callers(MANY, miss)


decorated_100 = partial(decorated, callers=MANY)
BARE = ("redis.asyncio GET then SET", bare)
BARE_100 = (f"{BARE[0]}, 100 at a time", partial(bare, callers=MANY))
ALONE = "miss and fill, one caller"
DISTINCT = "misses, 100 callers, distinct keys"
FLOOR = "a bare protocol, GET, SET NX and SET: no miss with a lease can be faster, one caller, on one core"
FLOOR_100 = "three futures and orjson.dumps, no server: no miss with a lease can be faster, 100 callers"

QUESTIONS = [
    Question("miss", ALONE, decorated, BARE, 100, ratio(1.5)),
    Question("miss-one-core", f"{ALONE}, on one core", decorated, BARE, 100, ratio(1.1), one_core=True),
    Question("miss-floor", FLOOR, protocol_alone, BARE, 100, one_core=True),
    Question("miss-100", DISTINCT, decorated_100, BARE_100, 500, throughput(2.5)),
    Question("miss-100-floor", FLOOR_100, futures_alone, BARE_100, 500, throughput()),
]
