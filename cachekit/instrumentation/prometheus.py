"""Metrics for Prometheus, of one process or of all workers together. It needs the extra ``prometheus``.

``instrument(cache)`` once, where the cache is made, and an endpoint that answers with `scrape`. With several workers
(gunicorn, or ``uvicorn --workers``) set ``PROMETHEUS_MULTIPROC_DIR`` to an empty folder before they start, as
``prometheus_client`` wants it: then a scrape of any worker has the sums of all. Every metric is a counter or a
histogram. A gauge of a worker that was killed would stay as it was; a count stays true.

docs/observe.md has a table of the metrics.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

from cachekit.cache import Cache
from cachekit.events import (
    BreakerClosed,
    BreakerOpened,
    Event,
    Filled,
    Hit,
    Invalidated,
    InvalidationsLost,
    InvalidationsReplayed,
    LoadCancelled,
    Loaded,
    LoadFailed,
    Missed,
    NearPaused,
    NearResumed,
    NotStored,
    ServedStale,
    Shared,
    StoreFailed,
    StoreRecovered,
    Uncached,
)
from cachekit.instrumentation.facts import LOAD_BUCKETS, OUTCOMES, STORE_BUCKETS, check_cache, outcome_of

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector
except ImportError as _error:
    _LACKING: Final = (
        'cachekit.instrumentation.prometheus needs prometheus-client; write pip install "cachekit-redis[prometheus]"'
    )
    raise ImportError(_LACKING, name=_error.name) from None

__all__ = ["instrument", "scrape"]

M = TypeVar("M", Counter, Histogram)


def instrument(cache: Cache, *, registry: CollectorRegistry = REGISTRY) -> Callable[[], None]:
    """Count the events of ``cache`` in metrics of ``registry``. Returns a function that ends it.

    Several caches share the metrics: their functions have names of their own.

    Args:
        cache: That of `configure` is ``default_cache()``. One that is instrumented already stays as it is.
        registry: Has the metrics. In multiprocess mode it has no effect on `scrape`.

    Raises:
        ConfigurationError: ``cache`` is no cache.

    Example:
        >>> import asyncio
        >>> from prometheus_client import CollectorRegistry
        >>> cache, registry = Cache("memory://"), CollectorRegistry()
        >>> stop = instrument(cache, registry=registry)
        >>> @cache.cached(key="square:<x>", ttl=60)
        ... async def square(x: int) -> int:
        ...     return x * x
        >>> async def main() -> list[int]:
        ...     return [await square(2), await square(2)]
        >>> asyncio.run(main())
        [4, 4]
        >>> labels = {"function": f"{__name__}.square", "outcome": "hit"}
        >>> registry.get_sample_value("cachekit_calls_total", labels)
        1.0
        >>> stop()
    """
    check_cache(cache)
    stops = _INSTRUMENTED.setdefault(cache, {})
    if registry in stops:
        return stops[registry]
    metrics = _METRICS.get(registry)
    if metrics is None:
        metrics = _METRICS[registry] = _Metrics(registry)
    end = cache.observe(metrics.count)

    def stop() -> None:
        end()
        stops.pop(registry, None)

    stops[registry] = stop
    return stop


def scrape(registry: CollectorRegistry | None = None) -> bytes:
    """Return the metrics as Prometheus reads them: the answer of an endpoint ``/metrics``.

    Without a ``registry`` they come from all workers, if ``PROMETHEUS_MULTIPROC_DIR`` is set, else from the default
    registry of this process. The media type is ``prometheus_client.CONTENT_TYPE_LATEST``.

    Example:
        >>> b"python_info" in scrape()
        True
    """
    if registry is None and os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(REGISTRY if registry is None else registry)


class _Family(Generic[M]):
    """A metric by its labels. `prometheus_client` takes a lock to look one up; each is looked up once."""

    __slots__ = ("_known", "metric")

    def __init__(self, metric: M) -> None:
        self.metric: M = metric
        self._known: dict[tuple[str, ...], M] = {}

    def __call__(self, *labels: str) -> M:
        one = self._known.get(labels)
        if one is None:
            one = self._known[labels] = self.metric.labels(*labels)
        return one


class _Metrics:
    """The metrics of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> _Family[Counter]:
            return _Family(Counter(f"cachekit_{name}", text, labels, registry=registry))

        def seconds(name: str, text: str, label: str, buckets: tuple[float, ...]) -> _Family[Histogram]:
            return _Family(Histogram(f"cachekit_{name}_seconds", text, [label], registry=registry, buckets=buckets))

        self._calls = counter("calls", "Calls of decorated functions, by outcome", "function", "outcome")
        self._loads = counter("loads", "Loads that have ended", "function", "by", "outcome")
        self._fills = counter("fills", "Values that were stored", "function")
        self._not_stored = counter("not_stored", "Values that were not stored, by reason", "function", "reason")
        self._stale = counter("stale_served", "Stale values that were handed out", "function", "why")
        self._uncached = counter("uncached", "Steps of caching that were skipped", "function", "reason")
        self._load_seconds = seconds("load_duration", "Time of a load", "function", LOAD_BUCKETS)
        self._shared_seconds = seconds("shared_wait", "Wait for a load of another call", "function", LOAD_BUCKETS)
        self._store_seconds = seconds("store_duration", "Time of the store for a call", "operation", STORE_BUCKETS)
        self._invalidations = counter("invalidations", "Keys and tags invalidated", "function", "outcome")
        self._replayed = counter("invalidations_replayed", "Invalidations that reached the store late")
        self._lost = counter("invalidations_lost", "Invalidations that may never reach the store")
        self._failures = counter("store_failures", "Operations that failed or were rejected", "operation", "cause")
        self._incidents = counter("store_incidents", "Incidents of the store that have ended", "cause")
        self._away = counter("store_incident_seconds", "Time of incidents that have ended", "cause")
        self._opened = counter("breaker_opened", "Times that a circuit breaker has opened", "shard", "cause")
        self._open = counter("breaker_open_seconds", "Time for which circuit breakers were open", "shard")
        self._paused = counter("near_paused", "Times that the near cache was bypassed", "cause")
        self._pause = counter("near_paused_seconds", "Time for which the near cache was bypassed")
        self._functions: set[str] = set()
        self._handlers = self._by_event()

    def _by_event(self) -> Mapping[type, Callable[[Any], None]]:
        return {
            Hit: self._hit,
            Missed: self._missed,
            ServedStale: self._served_stale,
            Shared: lambda event: self._shared_seconds(event.function).observe(event.seconds),
            Loaded: lambda event: self._loaded(event, "returned"),
            LoadFailed: lambda event: self._loaded(event, "failed"),
            LoadCancelled: lambda event: self._loads(event.function, event.by, "cancelled").inc(),
            Filled: self._filled,
            NotStored: lambda event: self._not_stored(event.function, event.reason).inc(),
            Uncached: lambda event: self._uncached(event.function, event.reason).inc(),
            Invalidated: self._invalidated,
            InvalidationsReplayed: lambda event: self._replayed.metric.inc(event.count),
            InvalidationsLost: lambda event: self._lost.metric.inc(event.count),
            StoreFailed: lambda event: self._failures(event.operation, event.cause).inc(),
            StoreRecovered: self._recovered,
            BreakerOpened: lambda event: self._opened(event.shard, event.cause).inc(),
            BreakerClosed: lambda event: self._open(event.shard).inc(event.seconds),
            NearPaused: lambda event: self._paused(event.cause).inc(),
            NearResumed: lambda event: self._pause.metric.inc(event.seconds),
        }

    def count(self, event: Event) -> None:
        """Observe a cache."""
        ended = outcome_of(event)
        if ended is not None:
            if ended[0] not in self._functions:
                self._begin(ended[0])
            self._calls(*ended).inc()
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _begin(self, function: str) -> None:
        # From 0 on: a series that begins with 1 has not increased, to Prometheus.
        for outcome in OUTCOMES:
            self._calls(function, outcome)
        self._functions.add(function)

    def _hit(self, event: Hit) -> None:
        if not event.near:
            self._store_seconds("read").observe(event.seconds)

    def _missed(self, event: Missed) -> None:
        self._store_seconds("read").observe(event.seconds)

    def _served_stale(self, event: ServedStale) -> None:
        self._stale(event.function, event.why).inc()
        if event.seconds:
            self._store_seconds("read").observe(event.seconds)

    def _loaded(self, event: Loaded | LoadFailed, outcome: str) -> None:
        self._loads(event.function, event.by, outcome).inc()
        self._load_seconds(event.function).observe(event.seconds)

    def _filled(self, event: Filled) -> None:
        self._fills(event.function).inc()
        self._store_seconds("fill").observe(event.seconds)

    def _invalidated(self, event: Invalidated) -> None:
        outcome = "acknowledged" if event.acknowledged else "pending"
        self._invalidations(event.function, outcome).inc(len(event.keys) + len(event.tags))
        self._store_seconds("invalidate").observe(event.seconds)

    def _recovered(self, event: StoreRecovered) -> None:
        self._incidents(event.cause).inc()
        self._away(event.cause).inc(event.seconds)


_METRICS: Final[WeakKeyDictionary[CollectorRegistry, _Metrics]] = WeakKeyDictionary()

_INSTRUMENTED: Final[WeakKeyDictionary[Cache, dict[CollectorRegistry, Callable[[], None]]]] = WeakKeyDictionary()
