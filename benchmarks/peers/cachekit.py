"""cachekit on Redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from benchmarks.peers import Load
from benchmarks.work import TTL
from cachekit import Cache

NAME = "cachekit"
PACKAGE = "cachekit-redis"
OPTIONS = "timeout=5, so that a busy machine decides nothing"
PROTECTS = True


@asynccontextmanager
async def opened(
    url: str,
    load: Load,
    *,
    callers: int,  # noqa: ARG001 - it needs no connection for each
    protected: bool = False,  # noqa: ARG001 - it always is
    entries: int = 0,  # noqa: ARG001 - it holds nothing
) -> AsyncGenerator[Load, None]:
    """Give ``load`` decorated."""
    async with Cache(url, prefix="kit:", timeout=5) as cache:
        yield cache.cached(key="document:<number>", ttl=TTL)(load)
