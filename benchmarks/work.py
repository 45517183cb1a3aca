"""The work that the questions share: a document of 1 KB, and the ways of caching it by hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
from redis.asyncio import Redis

DOCUMENT: Final[dict[str, Any]] = {
    "user_id": "42",
    "errors": [{"word": f"word{n}", "kind": "double consonant", "count": n, "seen": True} for n in range(14)],
    "score": 0.75,
}
JSON: Final = orjson.dumps(DOCUMENT)
TTL: Final = 600

assert 900 < len(JSON) < 1150, len(JSON)  # noqa: S101 - what "1 KB" in the table means


@asynccontextmanager
async def by_hand(url: str) -> AsyncGenerator[Redis, None]:
    """A client as its documentation makes one, default options."""
    host, _, port = url.removeprefix("redis://").partition("/")[0].partition(":")
    async with Redis(host=host, port=int(port)) as client:
        yield client
