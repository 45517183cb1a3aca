"""Near hits: an immutable result that callers share, and a dict that each caller gets for itself."""

from __future__ import annotations

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
async def loads(url: str) -> AsyncGenerator[Run, None]:  # noqa: ARG001 - no server
    """Decode the dict, and nothing else."""

    async def once(calls: int) -> None:
        for _ in range(calls):
            orjson.loads(JSON)

    yield sliced(once)


shared = partial(near, key="pair:<number>", load=pair)
document = partial(near, key="bench:<number>", load=load)

QUESTIONS = [
    Question("near-shared", "near hit, immutable result", shared, ("async-lru hit", lru), 2000, ratio(2)),
    Question("near-dict", "near hit, 1 KB dict", document, ("orjson.loads of it", loads), 2000, added(1.5)),
]
