"""cachekit with a near cache in front of Redis, which keeps it coherent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from benchmarks.peers import Load, Setup
from benchmarks.work import TTL, near_cache, until_near

NAME = "cachekit, near"
PACKAGE = "cachekit-redis"
OPTIONS = "near=10,000 entries unless told otherwise; coherent"
PROTECTS = True


@asynccontextmanager
async def opened(url: str, load: Load, setup: Setup) -> AsyncGenerator[Load, None]:
    """Give ``load`` decorated, once a call is a near hit."""
    async with near_cache(url, entries=setup.entries) as cache:
        document = cache.cached(key="near:<number>", ttl=TTL)(load)
        await until_near(cache, partial(document, -1))
        yield document
