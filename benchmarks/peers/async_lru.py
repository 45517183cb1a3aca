"""async-lru: in the process alone, nothing is shared with other processes, and callers share the object."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from async_lru import alru_cache

from benchmarks.peers import Load, Setup
from benchmarks.work import TTL

NAME = "async-lru"
PACKAGE = "async-lru"
OPTIONS = "maxsize=10,000 entries unless told otherwise; no Redis, the same object for all callers"
PROTECTS = True


@asynccontextmanager
async def opened(_url: str, load: Load, setup: Setup) -> AsyncGenerator[Load, None]:
    """Give ``load`` decorated."""

    @alru_cache(maxsize=setup.entries, ttl=TTL)
    async def document(number: int) -> dict[str, Any]:
        return await load(number)

    yield document
    await document.cache_close()
