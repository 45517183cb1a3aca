"""Metrics and traces for OpenTelemetry, by its API alone. It needs the extra ``opentelemetry``.

``instrument(cache)`` once, where the cache is made. The application chooses an SDK and exporters. Without an SDK
nothing is recorded. Each load has a span around it, in whose context the function runs: the spans of a database that it
asks are its children. A hit has no span: the span around the call counts it, in attributes. Names follow the semantic
conventions: ``code.function.name`` is the function, ``error.type`` an exception, and units are in the metadata.

docs/observe.md has a table of the metrics and attributes.
"""

from __future__ import annotations

import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

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
    LoadBegan,
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
from cachekit.instrumentation.facts import HITS, LOAD_BUCKETS, STORE_BUCKETS, check_cache, outcome_of

try:
    from opentelemetry import context, metrics, trace
except ImportError as _error:
    _LACKING: Final = (
        "cachekit.instrumentation.opentelemetry needs opentelemetry-api; "
        'write pip install "cachekit-redis[opentelemetry]"'
    )
    raise ImportError(_LACKING, name=_error.name) from None

__all__ = ["instrument"]

_NAME: Final = "cachekit"
FUNCTION: Final = "code.function.name"
ERROR: Final = "error.type"


def instrument(
    cache: Cache,
    *,
    meter_provider: metrics.MeterProvider | None = None,
    tracer_provider: trace.TracerProvider | None = None,
) -> Callable[[], None]:
    """Count the events of ``cache`` in metrics, and put a span around each load. Returns a function that ends it.

    Args:
        cache: That of `configure` is ``default_cache()``. One that is instrumented already stays as it is.
        meter_provider: Makes the metrics; without one that of the process, as `opentelemetry` has it.
        tracer_provider: Makes the spans; without one that of the process.

    Raises:
        ConfigurationError: ``cache`` is no cache.

    Example:
        >>> cache = Cache("memory://")
        >>> stop = instrument(cache)
        >>> stop()
    """
    check_cache(cache)
    if cache in _INSTRUMENTED:
        return _INSTRUMENTED[cache]
    counting = _Counting(metrics.get_meter(_NAME, meter_provider=meter_provider))
    tracing = _Tracing(trace.get_tracer(_NAME, tracer_provider=tracer_provider))

    def observe(event: Event) -> None:
        # The span of a load ends first: its outcome is one of the call around it.
        tracing.note(event)
        counting.count(event)

    end = cache.observe(observe)

    # Weak: nobody here keeps a cache alive.
    watched = weakref.ref(cache)

    def stop() -> None:
        end()
        if (left := watched()) is not None:
            _INSTRUMENTED.pop(left, None)

    _INSTRUMENTED[cache] = stop
    return stop


_INSTRUMENTED: Final[weakref.WeakKeyDictionary[Cache, Callable[[], None]]] = weakref.WeakKeyDictionary()


# --- metrics --------------------------------------------------------------------------------------


# A dictionary for each combination of labels, made once.
@lru_cache(maxsize=4096)
def _labels(**labels: str) -> Mapping[str, str]:
    names = {"function": FUNCTION, "error": ERROR}
    return {names.get(name, f"cachekit.{name}"): value for name, value in labels.items()}


class _Counting:
    """The instruments of one meter."""

    def __init__(self, meter: metrics.Meter) -> None:
        def counter(name: str, unit: str, text: str) -> metrics.Counter:
            return meter.create_counter(f"cachekit.{name}", f"{{{unit}}}", text)

        def seconds(name: str, text: str, buckets: Sequence[float] | None = None) -> metrics.Histogram:
            name = f"cachekit.{name}"
            return meter.create_histogram(name, "s", text, explicit_bucket_boundaries_advisory=buckets)

        self._calls = counter("calls", "call", "Calls of decorated functions, by outcome")
        self._loads = counter("loads", "load", "Loads that have ended")
        self._fills = counter("fills", "value", "Values that were stored")
        self._not_stored = counter("not_stored", "value", "Values that were not stored, by reason")
        self._stale = counter("stale_served", "value", "Stale values that were handed out")
        self._uncached = counter("uncached", "step", "Steps of caching that were skipped")
        self._load_seconds = seconds("load.duration", "Time of a load", LOAD_BUCKETS)
        self._shared_seconds = seconds("load.wait.duration", "Wait for a load of another call", LOAD_BUCKETS)
        self._store_seconds = seconds("store.operation.duration", "Time of the store for a call", STORE_BUCKETS)
        self._invalidations = counter("invalidation.keys", "key", "Keys and tags invalidated")
        self._replayed = counter("invalidation.replayed", "invalidation", "Invalidations that reached the store late")
        self._lost = counter("invalidation.lost", "invalidation", "Invalidations that may never reach the store")
        self._failures = counter("store.failures", "operation", "Operations that failed or were rejected")
        self._incidents = seconds("store.incident.duration", "Time of incidents of the store that have ended")
        self._opened = counter("breaker.opened", "opening", "Times that a circuit breaker has opened")
        self._open = seconds("breaker.open.duration", "Time for which a circuit breaker was open")
        self._paused = counter("near.paused", "pause", "Times that the near cache was bypassed")
        self._pause = seconds("near.pause.duration", "Time for which the near cache was bypassed")
        self._handlers = self._by_event()

    def _by_event(self) -> Mapping[type, Callable[[Any], None]]:
        return {
            Hit: self._hit,
            Missed: lambda event: self._store_seconds.record(event.seconds, _labels(operation="read")),
            ServedStale: self._served_stale,
            Shared: lambda event: self._shared_seconds.record(event.seconds, _labels(function=event.function)),
            Loaded: self._loaded,
            LoadFailed: self._load_failed,
            LoadCancelled: self._load_cancelled,
            Filled: self._filled,
            NotStored: lambda event: self._not_stored.add(1, _labels(function=event.function, reason=event.reason)),
            Uncached: lambda event: self._uncached.add(1, _labels(function=event.function, reason=event.reason)),
            Invalidated: self._invalidated,
            InvalidationsReplayed: lambda event: self._replayed.add(event.count),
            InvalidationsLost: lambda event: self._lost.add(event.count),
            StoreFailed: lambda event: self._failures.add(1, _labels(operation=event.operation, error=event.cause)),
            StoreRecovered: lambda event: self._incidents.record(event.seconds, _labels(error=event.cause)),
            BreakerOpened: lambda event: self._opened.add(1, _labels(shard=event.shard, error=event.cause)),
            BreakerClosed: lambda event: self._open.record(event.seconds, _labels(shard=event.shard)),
            NearPaused: lambda event: self._paused.add(1, _labels(error=event.cause)),
            NearResumed: lambda event: self._pause.record(event.seconds),
        }

    def count(self, event: Event) -> None:
        """Count ``event``."""
        ended = outcome_of(event)
        if ended is not None:
            self._calls.add(1, _labels(function=ended[0], outcome=ended[1]))
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _hit(self, event: Hit) -> None:
        if not event.near:
            self._store_seconds.record(event.seconds, _labels(operation="read"))

    def _served_stale(self, event: ServedStale) -> None:
        self._stale.add(1, _labels(function=event.function, why=event.why))
        if event.seconds:
            self._store_seconds.record(event.seconds, _labels(operation="read"))

    def _loaded(self, event: Loaded) -> None:
        self._loads.add(1, _labels(function=event.function, by=event.by, outcome="returned"))
        self._load_seconds.record(event.seconds, _labels(function=event.function))

    def _load_failed(self, event: LoadFailed) -> None:
        self._loads.add(1, _labels(function=event.function, by=event.by, outcome="failed", error=event.error))
        self._load_seconds.record(event.seconds, _labels(function=event.function, error=event.error))

    def _load_cancelled(self, event: LoadCancelled) -> None:
        self._loads.add(1, _labels(function=event.function, by=event.by, outcome="cancelled"))

    def _filled(self, event: Filled) -> None:
        self._fills.add(1, _labels(function=event.function))
        self._store_seconds.record(event.seconds, _labels(operation="fill"))

    def _invalidated(self, event: Invalidated) -> None:
        outcome = "acknowledged" if event.acknowledged else "pending"
        labels = _labels(function=event.function, outcome=outcome)
        self._invalidations.add(len(event.keys) + len(event.tags), labels)
        self._store_seconds.record(event.seconds, _labels(operation="invalidate"))


# --- traces ---------------------------------------------------------------------------------------


class _Load(Struct, eq=False):
    """A load that goes on in the running context, and its span."""

    span: trace.Span
    token: Token[context.Context]
    began: LoadBegan
    at: int
    """Nanoseconds since 1970."""
    around: _Load | None
    """The load that it is inside of."""


class _Tracing:
    """Puts a span around each load, and counts the outcomes of calls in the span around them."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        # Events of a load are told in its own context, one after the other.
        self._inside: ContextVar[_Load | None] = ContextVar("cachekit spans", default=None)
        self._counts: weakref.WeakKeyDictionary[trace.Span, Counter[str]] = weakref.WeakKeyDictionary()

    def note(self, event: Event) -> None:
        """Note ``event``."""
        if isinstance(event, LoadBegan):
            self._begin(event)
        elif isinstance(event, (Loaded, LoadFailed, LoadCancelled)):
            self._end(event)
        ended = outcome_of(event)
        if ended is not None:
            self._note_outcome(ended[1])

    def _begin(self, event: LoadBegan) -> None:
        at = time.time_ns()
        attributes: dict[str, str | int | bool] = {
            FUNCTION: event.function,
            "cachekit.by": event.by,
            "cachekit.keys": len(event.keys),
            "cache.hit": False,
        }
        span = self._tracer.start_span(f"load {event.function}", attributes=attributes, start_time=at)
        token = context.attach(trace.set_span_in_context(span))
        self._inside.set(_Load(span, token, event, at, self._inside.get()))

    def _end(self, event: Loaded | LoadFailed | LoadCancelled) -> None:
        load = self._inside.get()
        # A batch tells each of its keys, and the first one ends the span.
        if load is None or event.key not in load.began.keys or event.function != load.began.function:
            return
        self._inside.set(load.around)
        context.detach(load.token)
        if isinstance(event, LoadFailed):
            load.span.set_attribute(ERROR, event.error)
            load.span.set_status(trace.Status(trace.StatusCode.ERROR))
        # A failure is told when it is known whether a stale value stands in for it, a little later.
        load.span.end(load.at + round(event.seconds * 1e9))

    def _note_outcome(self, outcome: str) -> None:
        span = trace.get_current_span()
        if not span.is_recording():
            return
        counts = self._counts.setdefault(span, Counter())
        counts[outcome] += 1
        span.set_attribute(f"cachekit.calls.{outcome}", counts[outcome])
        span.set_attribute("cache.hit", HITS.issuperset(counts))
