"""The work that the questions share: a document of 1 KB, and the ways of caching it by hand."""

from __future__ import annotations

import resource
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from redis.asyncio import Redis


def document_of(size: int) -> dict[str, Any]:
    """Return a profile of about ``size`` bytes of JSON, from 100 up."""
    document: dict[str, Any] = {"user_id": "42", "errors": [], "score": 0.75}
    each = len(orjson.dumps(error(10)))
    document["errors"] = [error(n) for n in range(max(1, (size - len(orjson.dumps(document))) // (each + 1)))]
    return document


def error(number: int) -> dict[str, Any]:
    """Return one error of a profile."""
    return {"word": f"word{number}", "kind": "double consonant", "count": number, "seen": True}


DOCUMENT: Final = document_of(1000)
JSON: Final = orjson.dumps(DOCUMENT)
TTL: Final = 600

assert 900 < len(JSON) < 1150, len(JSON)  # noqa: S101 - what "1 KB" in the table means


@asynccontextmanager
async def by_hand(url: str, *, callers: int = 1) -> AsyncGenerator[Redis, None]:
    """A client as its documentation makes one, default options; with more connections for over 100 callers.

    The pool of redis-py 8 has 100 by default, and raises for the next caller.
    """
    place = urlsplit(url)
    more: dict[str, Any] = {"max_connections": callers} if callers > 100 else {}
    async with Redis(host=place.hostname or "", port=place.port or 0, **more) as client:
        yield client


def resident() -> int:
    """Return the bytes of memory that this process holds; without /proc the most that it ever held."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
