"""Near hits: an immutable result that callers share, and a dict that each caller gets for itself."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import orjson
from async_lru import alru_cache

from benchmarks.questions import Question, added, ratio
from benchmarks.suite import Run, one_caller, sliced
from benchmarks.work import JSON, TTL, load, near_cache, until_near

ENTRIES = 10_000


async def pair(number: int) -> tuple[str, int]:
    """Return a value that is immutable."""
    return "shared", number


@asynccontextmanager
async def near(url: str, key: str, load: Callable[[int], Coroutine[Any, Any, object]]) -> AsyncGenerator[Run, None]:
    """Near hits of the result of ``load``."""
    async with near_cache(url, entries=ENTRIES) as cache:
        call = partial(cache.cached(key=key, ttl=TTL)(load), 0)
        await until_near(cache, call)
        yield one_caller(call)


@asynccontextmanager
async def lru(url: str) -> AsyncGenerator[Run, None]:  # noqa: ARG001 - no server
    """Hits of async-lru, which hands out the same object each time."""
    call = partial(alru_cache(maxsize=ENTRIES)(pair), 0)
    await call()
    yield one_caller(call)


@asynccontextmanager
async def held(url: str) -> AsyncGenerator[Run, None]:  # noqa: ARG001 - no server
    """Render the key, look in a dict, and compare the expiry with the clock."""
    entries = {"pair:0": (await pair(0), time.monotonic() + TTL)}

    async def hit(number: int) -> tuple[str, int] | None:
        value, expires = entries[f"pair:{number}"]
        return value if time.monotonic() < expires else None

    yield one_caller(partial(hit, 0))


@asynccontextmanager
async def loads(url: str) -> AsyncGenerator[Run, None]:  # noqa: ARG001 - no server
    """Decode the dict, and nothing else."""

    async def once(calls: int) -> None:
        for _ in range(calls):
            orjson.loads(JSON)

    yield sliced(once)


shared = partial(near, key="pair:<number>", load=pair)
document = partial(near, key="bench:<number>", load=load)

LRU = ("async-lru hit", lru)
FLOOR = "a coroutine with a key, a dict and the clock: no near hit can be faster"

QUESTIONS = [
    Question("near-shared", "near hit, immutable result", shared, LRU, 2000, ratio(2)),
    Question("near-floor", FLOOR, held, LRU, 2000),
    Question("near-dict", "near hit, 1 KB dict", document, ("orjson.loads of it", loads), 2000, added(1.5)),
]
