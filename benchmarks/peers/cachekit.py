"""cachekit on Redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from benchmarks.peers import Load, Setup
from benchmarks.work import TTL
from cachekit import Cache

NAME = "cachekit"
PACKAGE = "cachekit-redis"
OPTIONS = "timeout=5, so that a busy machine decides nothing"
PROTECTS = True


@asynccontextmanager
async def opened(url: str, load: Load, _setup: Setup) -> AsyncGenerator[Load, None]:
    """Give ``load`` decorated."""
    async with Cache(url, prefix="kit:", timeout=5) as cache:
        yield cache.cached(key="document:<number>", ttl=TTL)(load)
