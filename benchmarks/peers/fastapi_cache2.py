"""fastapi-cache2, as it is called outside of a route.

Its `redis` extra demands a redis-py below 5. Without the extra it installs beside any, and its backend works.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.coder import JsonCoder
from fastapi_cache.decorator import cache

from benchmarks.peers import Load, Setup
from benchmarks.work import TTL, by_hand

NAME = "fastapi-cache2"
PACKAGE = "fastapi-cache2"
OPTIONS = "JsonCoder; without its redis extra, which demands redis-py < 5; max_connections as by hand"
PROTECTS = False


@asynccontextmanager
async def opened(url: str, load: Load, setup: Setup) -> AsyncGenerator[Load, None]:
    """Give ``load`` decorated; there can be one at a time, since its backend is global."""
    async with by_hand(url, callers=setup.callers) as client:
        FastAPICache.init(RedisBackend(client), prefix="fastapi")
        try:
            # Its type speaks of responses, too.
            yield cast("Load", cache(expire=TTL, coder=JsonCoder)(load))
        finally:
            FastAPICache.reset()
