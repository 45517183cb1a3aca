"""cashews: its plain decorator; against stampedes the one with a lock."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from cashews import Cache

from benchmarks.peers import Load, Setup
from benchmarks.work import TTL

NAME = "cashews"
PACKAGE = "cashews"
OPTIONS = "pickle_type=json; at most 10 connections, its default; against stampedes lock=True"
PROTECTS = True


@asynccontextmanager
async def opened(url: str, load: Load, setup: Setup) -> AsyncGenerator[Load, None]:
    """Give ``load`` decorated."""
    cache = Cache()
    cache.setup(url, pickle_type="json")
    try:
        yield cache(ttl=TTL, key="cashews:{number}", lock=setup.protected)(load)
    finally:
        await cache.close()
