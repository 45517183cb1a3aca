"""aiocache: `cached`; against stampedes `cached_stampede`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from aiocache import RedisCache, cached, cached_stampede
from aiocache.serializers import JsonSerializer

from benchmarks.peers import Load, Setup
from benchmarks.work import TTL

NAME = "aiocache"
PACKAGE = "aiocache"
OPTIONS = "JsonSerializer; pool_max_size raised to the number of callers; against stampedes cached_stampede(lease=2)"
PROTECTS = True


@asynccontextmanager
async def opened(url: str, load: Load, setup: Setup) -> AsyncGenerator[Load, None]:
    """Give ``load`` decorated."""
    place = urlsplit(url)
    options: dict[str, Any] = {
        "cache": RedisCache,
        "endpoint": place.hostname,
        "port": place.port,
        "serializer": JsonSerializer(),
        "key_builder": lambda _function, number: f"aiocache:{number}",
        "ttl": TTL,
        # A stampede needs connections for its lock, too.
        "pool_max_size": max(100, 2 * setup.callers),
    }
    document = (cached_stampede(lease=2, **options) if setup.protected else cached(**options))(load)
    try:
        yield document
    finally:
        await document.cache.close()
