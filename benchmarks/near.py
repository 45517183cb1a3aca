"""A cache with a near tier, and waiting until it answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from cachekit import Cache
from cachekit.events import Event, Hit

PATIENCE: Final = 5.0
"""Seconds within which calls must become near hits."""


@asynccontextmanager
async def near_cache(url: str, *, entries: int = 10_000) -> AsyncGenerator[Cache, None]:
    """Open a cache with a near tier of so many entries."""
    async with Cache(url, prefix="bench:", near=entries, timeout=5) as cache:
        yield cache


async def until_near(cache: Cache, call: Callable[[], Awaitable[object]]) -> None:
    """Call until a call is a near hit.

    Raises:
        TimeoutError: None was, within `PATIENCE`.
    """
    hits: list[Event] = []
    stop = cache.observe(hits.append)
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            hits.clear()
            await call()
            if any(isinstance(event, Hit) and event.near for event in hits):
                return
            await asyncio.sleep(0.01)
    finally:
        stop()
    message = f"no call was a near hit within {PATIENCE:g} s"
    raise TimeoutError(message)
