"""Hits of a function with stale windows, against hits of one without."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from benchmarks.questions import Question, ratio
from benchmarks.questions.hits import MANY, decorated, decorated_100, in_memory
from benchmarks.suite import Run, many_callers
from benchmarks.work import DOCUMENT, TTL
from cachekit import Cache


@asynccontextmanager
async def with_windows(url: str, callers: int = 1) -> AsyncGenerator[Run, None]:
    """Call a function with all options that a hit could pay for; every call is a hit."""
    async with Cache(url, timeout=5, prefix="windows:") as cache:

        @cache.cached(
            key="bench:<number>", ttl=TTL, stale_while_revalidate="1m", stale_if_error="1h", refresh_ahead="auto"
        )
        async def document(number: int) -> dict[str, Any]:  # noqa: ARG001 - it is part of the key
            return DOCUMENT

        for number in range(callers):
            await document(number)
        yield many_callers(callers, document)


def in_memory_with_windows(_url: str) -> AbstractAsyncContextManager[Run]:
    """Call it on ``memory://``."""
    return with_windows("memory://")


WITHOUT = "the same without windows"

QUESTIONS = [
    Question("windows", "hit with windows on Redis, one caller", with_windows, (WITHOUT, decorated), 200, ratio(1.1)),
    Question(
        "windows-100",
        "hits with windows on Redis, 100 callers, distinct keys",
        partial(with_windows, callers=MANY),
        (WITHOUT, decorated_100),
        1000,
        ratio(1.1),
    ),
    Question(
        "windows-memory",
        "hit with windows on memory://",
        in_memory_with_windows,
        (WITHOUT, in_memory),
        1000,
        ratio(1.1),
    ),
]
