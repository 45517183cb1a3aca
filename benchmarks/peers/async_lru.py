"""async-lru: in the process alone, nothing is shared with other processes, and callers share the object."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from async_lru import alru_cache

from benchmarks.peers import Load
from benchmarks.work import TTL

NAME = "async-lru"
PACKAGE = "async-lru"
OPTIONS = "maxsize=10,000 entries unless told otherwise; no Redis, the same object for all callers"
PROTECTS = True


@asynccontextmanager
async def opened(
    url: str,  # noqa: ARG001 - no server
    load: Load,
    *,
    callers: int,  # noqa: ARG001 - no connections
    protected: bool = False,  # noqa: ARG001 - it always is
    entries: int = 10_000,
) -> AsyncGenerator[Load, None]:
    """Give ``load`` decorated."""

    @alru_cache(maxsize=entries, ttl=TTL)
    async def document(number: int) -> dict[str, Any]:
        return await load(number)

    yield document
    await document.cache_close()
