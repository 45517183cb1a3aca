"""Calls of a cache that is instrumented, against calls of one without observers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry

from benchmarks.questions import Question
from benchmarks.suite import Run, one_caller
from benchmarks.work import TTL, load, near_cache, until_near
from cachekit import Cache
from cachekit.instrumentation import opentelemetry, prometheus

Watch = Callable[[Cache], object]

# Numbers that no question has used before.
_fresh = count()


def by_prometheus(cache: Cache) -> None:
    """Count in a registry of its own."""
    prometheus.instrument(cache, registry=CollectorRegistry())


def by_opentelemetry(cache: Cache) -> None:
    """Count by the SDK, in memory. Spans are not recorded: no tracer provider is set."""
    opentelemetry.instrument(cache, meter_provider=MeterProvider([InMemoryMetricReader()]))


def by_nobody(_cache: Cache) -> None:
    """Count nothing."""


@asynccontextmanager
async def hits(url: str, watch: Watch) -> AsyncGenerator[Run, None]:
    """Hits on Redis."""
    async with Cache(url, timeout=5, prefix=f"{watch.__name__}:") as cache:
        call = partial(cache.cached(key="bench:<number>", ttl=TTL)(load), 0)
        await call()
        watch(cache)
        yield one_caller(call)


@asynccontextmanager
async def misses(url: str, watch: Watch) -> AsyncGenerator[Run, None]:
    """Misses on Redis; the load takes no time."""
    async with Cache(url, timeout=5, prefix=f"{watch.__name__}:") as cache:
        document = cache.cached(key="bench:<number>", ttl=TTL)(load)
        watch(cache)
        yield one_caller(lambda: document(next(_fresh)))


@asynccontextmanager
async def near_hits(url: str, watch: Watch) -> AsyncGenerator[Run, None]:
    """Near hits."""
    async with near_cache(url) as cache:
        call = partial(cache.cached(key=f"{watch.__name__}:<number>", ttl=TTL)(load), 0)
        await until_near(cache, call)
        watch(cache)
        yield one_caller(call)


WORK: Final = {"hit": (hits, 200), "miss": (misses, 200), "near hit": (near_hits, 2000)}
WATCHES: Final = {"prometheus": by_prometheus, "opentelemetry": by_opentelemetry}

QUESTIONS = [
    Question(
        f"{system}-{work.replace(' ', '-')}",
        f"{work}, instrumented for {system}, one caller",
        partial(variant, watch=watch),
        ("the same, not observed", partial(variant, watch=by_nobody)),
        calls,
    )
    for system, watch in WATCHES.items()
    for work, (variant, calls) in WORK.items()
]
