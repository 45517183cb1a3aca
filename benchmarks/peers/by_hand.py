"""redis-py alone: GET and loads, or GET and then SET. No protection against anything."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from benchmarks.peers import BY_HAND, Load, Setup
from benchmarks.work import TTL
from benchmarks.work import by_hand as connected

NAME = BY_HAND
PACKAGE = "redis"
OPTIONS = "redis.asyncio, orjson; max_connections raised to the number of callers above its 100"
PROTECTS = False


@asynccontextmanager
async def opened(url: str, load: Load, setup: Setup) -> AsyncGenerator[Load, None]:
    """Give ``load`` behind a GET."""
    async with connected(url, callers=setup.callers) as client:

        async def document(number: int) -> dict[str, Any]:
            key = f"hand:{number}"
            found = await client.get(key)
            if found is not None:
                value: dict[str, Any] = orjson.loads(found)
                return value
            value = await load(number)
            await client.set(key, orjson.dumps(value), ex=TTL)
            return value

        yield document
