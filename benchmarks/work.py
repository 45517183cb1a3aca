"""The work that questions and parts share: a document of 1 KB, the keys that are asked for, and ways of caching it."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from redis.asyncio import Redis

from cachekit import Cache
from cachekit.events import Event, Hit


def document_of(size: int) -> dict[str, Any]:
    """Return a profile of about ``size`` bytes of JSON, from 100 up."""
    document: dict[str, Any] = {"user_id": "42", "errors": [], "score": 0.75}
    each = len(orjson.dumps(error(10)))
    document["errors"] = [error(n) for n in range(max(1, (size - len(orjson.dumps(document))) // (each + 1)))]
    return document


def error(number: int) -> dict[str, Any]:
    """Return one error of a profile."""
    return {"word": f"word{number}", "kind": "double consonant", "count": number, "seen": True}


DOCUMENT: Final = document_of(1000)
JSON: Final = orjson.dumps(DOCUMENT)
TTL: Final = 600
SKEW: Final = 0.9
"""The n-th popular key is asked for n ** -0.9 as often as the first: what caches in front of databases see."""

PATIENCE: Final = 5.0
"""Seconds within which calls must become near hits."""

assert 900 < len(JSON) < 1150, len(JSON)  # noqa: S101 - what "1 KB" in the table means


async def load(number: int) -> dict[str, Any]:  # noqa: ARG001 - it is part of the key
    """Return the document: a load of 0."""
    return DOCUMENT


def zipf(keys: int, requests: int, *, seed: int = 7) -> list[int]:
    """Return ``requests`` numbers below ``keys``; which of them are popular is random, too."""
    dice = random.Random(seed)
    names = list(range(keys))
    dice.shuffle(names)
    weights = list(itertools.accumulate(n**-SKEW for n in range(1, keys + 1)))
    return dice.choices(names, cum_weights=weights, k=requests)


def scanned(trace: list[int], *, every: int = 2000, scan: int = 1000) -> list[int]:
    """Return ``trace`` with a scan after ``every`` requests: ``scan`` numbers that are never asked for again."""
    fresh = itertools.count(max(trace) + 1)
    mixed: list[int] = []
    for begin in range(0, len(trace), every):
        mixed += trace[begin : begin + every]
        mixed += itertools.islice(fresh, scan)
    return mixed


@asynccontextmanager
async def by_hand(url: str, *, callers: int = 1) -> AsyncGenerator[Redis, None]:
    """A client as its documentation makes one, default options; with more connections for over 100 callers.

    The pool of redis-py 8 has 100 by default, and raises for the next caller.
    """
    place = urlsplit(url)
    more: dict[str, Any] = {"max_connections": callers} if callers > 100 else {}
    async with Redis(host=place.hostname or "", port=place.port or 0, **more) as client:
        yield client


def near_cache(url: str, *, entries: int = 10_000) -> Cache:
    """Return a cache with a near tier of so many entries."""
    return Cache(url, prefix="bench:", near=entries, timeout=5)


async def until_near(cache: Cache, call: Callable[[], Awaitable[object]]) -> None:
    """Call until a call is a near hit.

    Raises:
        TimeoutError: None was, within `PATIENCE`.
    """
    hits: list[Event] = []
    stop = cache.observe(hits.append)
    try:
        async with asyncio.timeout(PATIENCE):
            while not any(isinstance(event, Hit) and event.near for event in hits):
                await call()
                await asyncio.sleep(0.01)
    finally:
        stop()
