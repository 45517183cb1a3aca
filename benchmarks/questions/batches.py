"""Batches: 100 ids, 90 of them hits, against calls for one id, and against MGET, one query and a pipeline of SET."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import orjson

from benchmarks.questions import Question, ratio
from benchmarks.suite import Run, one_caller
from benchmarks.work import DOCUMENT, TTL, by_hand
from cachekit import Cache

IDS: Final = 100
HITS: Final = 90

# Numbers that no question has used before.
_fresh = itertools.count(2_000_000)


def ids(hits: int) -> list[int]:
    """Return the ids of one batch: so many that are there, and for the rest new ones."""
    return [*range(hits), *[next(_fresh) for _ in range(IDS - hits)]]


TAGS: Final = ["number:<number>", "numbers"]
"""One of each id's own, and one that all share."""


@asynccontextmanager
async def batch(url: str, hits: int = HITS, tags: Sequence[str] = ()) -> AsyncGenerator[Run, None]:
    """Ask for 100 ids in one call of a batch function."""
    async with Cache(url, timeout=5) as cache:

        @cache.cached_many(key=f"bench:{'tagged:' if tags else ''}<number>", each="numbers", ttl=TTL, tags=tags)
        async def documents(numbers: list[int]) -> dict[int, dict[str, Any]]:
            return dict.fromkeys(numbers, DOCUMENT)

        await documents([*range(hits)])
        yield one_caller(lambda: documents(ids(hits)))


@asynccontextmanager
async def singles(url: str, *, gathered: bool) -> AsyncGenerator[Run, None]:
    """Ask for 100 ids in as many calls, one after the other or gathered."""
    async with Cache(url, timeout=5) as cache:

        @cache.cached(key="bench:<number>", ttl=TTL)
        async def document(number: int) -> dict[str, Any]:  # noqa: ARG001 - it is part of the key
            return DOCUMENT

        for number in range(HITS):
            await document(number)

        async def one_by_one() -> object:
            return {number: await document(number) for number in ids(HITS)}

        async def all_at_once() -> object:
            numbers = ids(HITS)
            return dict(zip(numbers, await asyncio.gather(*map(document, numbers)), strict=True))

        call: Callable[[], Awaitable[object]] = all_at_once if gathered else one_by_one
        yield one_caller(call)


@asynccontextmanager
async def bare(url: str, hits: int = HITS) -> AsyncGenerator[Run, None]:
    """MGET, one query, and a pipeline of SET, by hand: no protection against anything."""
    async with by_hand(url) as client:
        for number in range(hits):
            await client.set(f"bare:{number}", orjson.dumps(DOCUMENT), ex=TTL)

        async def many() -> object:
            numbers = ids(hits)
            raw = await client.mget([f"bare:{number}" for number in numbers])
            found = {number: orjson.loads(one) for number, one in zip(numbers, raw, strict=True) if one is not None}
            missing = [number for number in numbers if number not in found]
            if missing:
                loaded = dict.fromkeys(missing, DOCUMENT)
                async with client.pipeline(transaction=False) as pipeline:
                    for number, document in loaded.items():
                        pipeline.set(f"bare:{number}", orjson.dumps(document), ex=TTL)
                    await pipeline.execute()
                found.update(loaded)
            return found

        yield one_caller(many)


WORK = "100 ids, 90 of them hits"
ALONE = ("100 calls for one id, one after the other", partial(singles, gathered=False))
GATHERED = ("100 calls for one id, gathered", partial(singles, gathered=True))
HAND = ("MGET, one query, pipeline of SET", bare)
ALL_HITS = ("MGET and orjson.loads", partial(bare, hits=IDS))

QUESTIONS = [
    Question("batch", WORK, batch, ALONE, 10, ratio(0.25)),
    Question("batch-gathered", WORK, batch, GATHERED, 20),
    Question("batch-by-hand", WORK, batch, HAND, 30, ratio(1.5)),
    Question("batch-hits", "100 ids, all of them hits", partial(batch, hits=IDS), ALL_HITS, 30),
    Question(
        "batch-tags", f"{WORK}, with tags", partial(batch, tags=TAGS), ("the same without tags", batch), 30, ratio(2.5)
    ),
    Question(
        "batch-tags-hits",
        "100 ids with tags, all of them hits",
        partial(batch, hits=IDS, tags=TAGS),
        ("the same without tags", partial(batch, hits=IDS)),
        30,
        ratio(2),
    ),
]
