"""Hits with tags against hits without: the tags are shared by all callers, or of each caller's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from benchmarks.questions import Question, ratio
from benchmarks.questions.hits import MANY, decorated
from benchmarks.suite import Run, many_callers
from benchmarks.work import DOCUMENT, TTL
from cachekit import Cache

TARGETS: Final = {1: 1.15, 3: 1.3, 8: 1.6}


@asynccontextmanager
async def tagged(url: str, callers: int, tags: list[str]) -> AsyncGenerator[Run, None]:
    """Call a decorated function with ``tags``; every call is a hit."""
    async with Cache(url, timeout=5) as cache:

        @cache.cached(key=f"bench:{len(tags)}:{tags[0][:3]}:<number>", ttl=TTL, tags=tags)
        async def document(number: int) -> dict[str, Any]:  # noqa: ARG001 - it is part of the key
            return DOCUMENT

        for number in range(callers):
            await document(number)
        yield many_callers(callers, document)


QUESTIONS = [
    Question(
        f"tags-{count}-{callers}",
        f"hit with {count} tag{'s' * (count > 1)}, {callers} caller{'s' * (callers > 1)}",
        partial(tagged, callers=callers, tags=[f"tag:{n}" for n in range(count)]),
        ("a hit without tags", partial(decorated, callers=callers)),
        300 if callers == 1 else 3000,
        ratio(bound),
    )
    for callers in (1, MANY)
    for count, bound in TARGETS.items()
] + [
    Question(
        f"tags-{count}-own",
        f"hit with {count} tag{'s' * (count > 1)} of its own, {MANY} callers",
        partial(tagged, callers=MANY, tags=[f"own:{n}:<number>" for n in range(count)]),
        ("a hit without tags", partial(decorated, callers=MANY)),
        3000,
        ratio(bound),
    )
    for count, bound in TARGETS.items()
]
