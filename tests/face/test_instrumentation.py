"""``instrument(cache)``: what is counted, and the spans around loads."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

import cachekit.instrumentation.opentelemetry as by_opentelemetry
import cachekit.instrumentation.prometheus as by_prometheus
from cachekit import Cache, configure, default_cache
from cachekit.testing import FailingStore
from tests.kit.servers import RedisServer
from tests.kit.stale import DOWN, HOUR, Source, put
from tests.kit.waiting import PATIENCE, until


def value(registry: CollectorRegistry, metric: str, **labels: str) -> float | None:
    return registry.get_sample_value(metric, labels)


# --- Prometheus ---------------------------------------------------------------------------------------


async def test_a_cache_is_counted_once_however_often_it_is_instrumented_until_that_is_ended() -> None:
    cache, source, registry = Cache("memory://"), Source(), CollectorRegistry()
    call = cache.cached(key="k", ttl=60)(source.load)
    name = f"{Source.__module__}.Source.load"
    stop = by_prometheus.instrument(cache, registry=registry)
    assert by_prometheus.instrument(cache, registry=registry) is stop
    await call()
    assert value(registry, "cachekit_calls_total", function=name, outcome="miss") == 1
    stop()
    await call()
    assert value(registry, "cachekit_calls_total", function=name, outcome="hit") == 0
    by_prometheus.instrument(cache, registry=registry)
    await call()
    assert value(registry, "cachekit_calls_total", function=name, outcome="hit") == 1


async def test_two_caches_share_the_metrics_of_a_registry() -> None:
    registry = CollectorRegistry()
    for _ in range(2):
        cache = Cache("memory://")
        by_prometheus.instrument(cache, registry=registry)
        await cache.cached(key="k", ttl=60)(Source().load)()
    labels = {"function": f"{Source.__module__}.Source.load", "outcome": "miss"}
    assert registry.get_sample_value("cachekit_calls_total", labels) == 2


async def test_the_default_cache_is_instrumented_as_any_other() -> None:
    registry = CollectorRegistry()
    async with configure("memory://"):
        by_prometheus.instrument(default_cache(), registry=registry)
        await default_cache().cached(key="k", ttl=60)(Source().load)()
    assert b"cachekit_calls_total" in generate_latest(registry)


async def test_no_key_and_no_value_is_in_a_scrape() -> None:
    registry, store = CollectorRegistry(), FailingStore()
    async with Cache(store, prefix="SECRET:") as cache:
        by_prometheus.instrument(cache, registry=registry)
        call = cache.cached(key="SECRET:<x>", ttl=60, tags=["SECRET"])(_secret)
        for x in ("SECRET", object()):
            await call(x)
        await call.invalidate("SECRET")
        store.fail()
        await call("SECRET")
        store.recover()
        await until(lambda: cache.healthy, lambda: call("SECRET"))
    assert b"SECRET" not in generate_latest(registry)


async def _secret(x: object) -> str:
    return "SECRET"


@pytest.mark.usefixtures("usual_quiet")
async def test_what_happens_to_the_store_is_counted() -> None:
    registry, store = CollectorRegistry(), FailingStore()
    cache = Cache(store)
    by_prometheus.instrument(cache, registry=registry)
    assert value(registry, "cachekit_invalidations_lost_total") == 0, "from 0 on: an alert looks at its increase"
    call = cache.cached(key="k", ttl=60)(Source().load)
    store.fail()
    await call()
    assert value(registry, "cachekit_store_failures_total", operation="get", cause="unavailable") == 1
    assert not await call.invalidate()
    name = f"{Source.__module__}.Source.load"
    assert value(registry, "cachekit_invalidations_total", function=name, outcome="pending") == 1
    await cache.aclose()
    assert value(registry, "cachekit_invalidations_lost_total") == 1
    store.recover()
    await until(lambda: value(registry, "cachekit_store_incidents_total", cause="unavailable"), call)
    assert (value(registry, "cachekit_store_incident_seconds_total", cause="unavailable") or 0) > 0


@pytest.mark.parametrize("system", [by_prometheus, by_opentelemetry], ids=["prometheus", "opentelemetry"])
async def test_an_instrumented_cache_is_kept_alive_by_nobody(system: Any) -> None:
    cache = Cache("memory://")
    system.instrument(cache)
    gone = weakref.ref(cache)
    del cache
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("prometheus", "prometheus_client", "prometheus"), ("opentelemetry", "opentelemetry", "opentelemetry")],
)
def test_a_missing_extra_names_itself(module: str, package: str, extra: str) -> None:
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"try: import cachekit.instrumentation.{module}\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert f'pip install "cachekit-redis[{extra}]"' in done.stdout


def test_nothing_of_the_extras_is_imported_before_it_is_used() -> None:
    script = "import cachekit, cachekit.instrumentation, cachekit.testing, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    ours = [name for name in done.stdout.split() if name.startswith(("prometheus_client", "cachekit.instrumentation."))]
    # redis-py imports opentelemetry by itself, where it is installed.
    assert ours == []


# --- OpenTelemetry ------------------------------------------------------------------------------------


class Tracing:
    """Spans, and what was exported of them."""

    def __init__(self, cache: Cache) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([InMemoryMetricReader()])
        self.tracer = self.provider.get_tracer("test")
        by_opentelemetry.instrument(cache, tracer_provider=self.provider, meter_provider=self.meters)

    def close(self) -> None:
        self.provider.shutdown()
        self.meters.shutdown()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name.endswith(name)]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.named(name)
        return span


@pytest.fixture
def cache() -> Cache:
    return Cache("memory://")


@pytest.fixture
def tracing(cache: Cache) -> Iterator[Tracing]:
    tracing = Tracing(cache)
    yield tracing
    tracing.close()


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


async def test_the_spans_of_a_database_are_children_of_the_load(cache: Cache, tracing: Tracing) -> None:
    async def query() -> None:
        with tracing.tracer.start_as_current_span("SELECT"):
            await asyncio.sleep(0)

    @cache.cached(key="k", ttl=60)
    async def profile() -> int:
        await asyncio.gather(query(), query())
        return 1

    with tracing.tracer.start_as_current_span("GET /profile") as request:
        await profile()
        assert trace.get_current_span() is request, "after the load the span of the caller is current again"
        await profile()
    load = tracing.one(f".{profile.__qualname__}")
    assert [parent_of(span) for span in tracing.named("SELECT")] == [id_of(load)] * 2
    assert parent_of(load) == id_of(tracing.one("GET /profile"))
    assert load.attributes is not None
    assert load.attributes["code.function.name"] == f"{__name__}.{profile.__qualname__}"
    assert load.attributes["cache.hit"] is False
    assert load.attributes["cachekit.by"] == "call"


async def test_the_span_around_calls_counts_their_outcomes(cache: Cache, tracing: Tracing, source: Source) -> None:
    call = cache.cached(key="k", ttl=60)(source.load)
    with tracing.tracer.start_as_current_span("cold"):
        await call()
        await call()
    with tracing.tracer.start_as_current_span("warm"):
        await call()
    cold, warm = tracing.one("cold").attributes, tracing.one("warm").attributes
    assert cold == {"cachekit.calls.miss": 1, "cachekit.calls.hit": 1, "cache.hit": False}
    assert warm == {"cachekit.calls.hit": 1, "cache.hit": True}


@pytest.fixture
def source() -> Source:
    return Source()


async def test_a_load_that_fails_has_a_span_with_its_error_whoever_sees_it(
    cache: Cache, tracing: Tracing, source: Source
) -> None:
    call = cache.cached(key="k", ttl=60, stale_if_error=HOUR)(source.load)
    other = cache.cached(key="other", ttl=60)(source.load)
    await put(cache, "k", "old", left=-1)
    source.error = DOWN
    with tracing.tracer.start_as_current_span("request") as request:
        assert await call() == "old"
        with pytest.raises(ConnectionError):
            await other()
        assert trace.get_current_span() is request
    spans = tracing.named("Source.load")
    assert [span.status.is_ok for span in spans] == [False, False]
    assert [(span.attributes or {})["error.type"] for span in spans] == ["ConnectionError"] * 2


async def test_a_cancelled_load_ends_its_span(cache: Cache, tracing: Tracing, source: Source) -> None:
    call = cache.cached(key="k", ttl=60)(source.load)
    source.open.clear()
    with tracing.tracer.start_as_current_span("request") as request:
        loading = asyncio.create_task(call())
        await source.began.wait()
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await call()
        assert trace.get_current_span() is request
    assert len(tracing.named("Source.load")) == 2


async def test_a_load_in_the_background_has_a_span_of_the_trace_that_began_it(
    cache: Cache, tracing: Tracing, source: Source
) -> None:
    call = cache.cached(key="k", ttl=60, stale_while_revalidate=60)(source.load)
    await put(cache, "k", "old", left=-1, stale=60)
    with tracing.tracer.start_as_current_span("request"):
        assert await call() == "old"
    await until(lambda: tracing.named("Source.load"))
    load, request = tracing.one("Source.load"), tracing.one("request")
    assert parent_of(load) == id_of(request)
    assert (load.attributes or {})["cachekit.by"] == "background"
    assert (request.attributes or {})["cachekit.calls.stale"] == 1


async def test_a_batch_has_one_span_for_one_run_of_its_function(cache: Cache, tracing: Tracing) -> None:
    @cache.cached_many(key="user:<user_id>", each="user_ids", ttl=60)
    async def users(user_ids: Sequence[str]) -> Mapping[str, str]:
        return {user_id: user_id for user_id in user_ids}

    with tracing.tracer.start_as_current_span("request") as request:
        await users(["a", "b", "c"])
        assert trace.get_current_span() is request
        await users(["a", "d"])
    assert [(span.attributes or {})["cachekit.keys"] for span in tracing.named("users")] == [3, 1]


async def test_a_load_inside_a_load_has_a_span_inside_its_span(cache: Cache, tracing: Tracing) -> None:
    @cache.cached(key="inner:<x>", ttl=60)
    async def inner(x: int) -> int:
        return x

    @cache.cached(key="outer:<x>", ttl=60)
    async def outer(x: int) -> int:
        await asyncio.gather(inner(1), inner(2))
        return await inner(3)

    await outer(1)
    around = tracing.one(".outer")
    assert [parent_of(span) for span in tracing.named(".inner")] == [id_of(around)] * 3
    assert (around.attributes or {})["cachekit.calls.miss"] == 3, "calls inside it"


def test_without_an_sdk_nothing_is_recorded_and_calls_go_on() -> None:
    """In a process of its own: a provider is set once for all."""
    script = (
        "import asyncio\nfrom cachekit import Cache\n"
        "from cachekit.instrumentation.opentelemetry import instrument\n"
        "cache = Cache('memory://'); instrument(cache)\n"
        "@cache.cached(key='k', ttl=60)\nasync def one() -> int: return 1\n"
        "async def main(): print(await one(), await one())\nasyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1 1\n", "")


# --- both ---------------------------------------------------------------------------------------------


class Counts:
    """How often the store was read for calls, and how the calls ended, by either system."""

    def __init__(self, system: Any, cache: Cache) -> None:
        self._registry, self._reader = CollectorRegistry(), InMemoryMetricReader()
        if system is by_prometheus:
            self.stop = by_prometheus.instrument(cache, registry=self._registry)
        else:
            provider = MeterProvider([self._reader], shutdown_on_exit=False)
            self.stop = by_opentelemetry.instrument(cache, meter_provider=provider)

    def reads(self) -> float:
        told = value(self._registry, "cachekit_store_duration_seconds_count", operation="read") or 0
        points = self._points("cachekit.store.operation.duration")
        return told + sum(point.count for point in points if point.attributes["cachekit.operation"] == "read")

    def calls(self, outcome: str) -> float:
        families = [family for family in self._registry.collect() if family.name == "cachekit_calls"]
        told = [one.value for one in families[0].samples if one.labels["outcome"] == outcome] if families else []
        counted = [
            point.value for point in self._points("cachekit.calls") if point.attributes["cachekit.outcome"] == outcome
        ]
        return sum(told[:1]) + sum(counted)

    def _points(self, name: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        return [
            point for scope in scopes for one in scope.metrics if one.name == name for point in one.data.data_points
        ]


@pytest.mark.parametrize("system", [by_prometheus, by_opentelemetry], ids=["prometheus", "opentelemetry"])
async def test_a_near_hit_is_no_read_of_the_store(redis_server: RedisServer, system: Any) -> None:
    async with Cache(redis_server.url, near=10, timeout=PATIENCE) as cache:
        call, counts = cache.cached(key="k", ttl=600)(Source().load), Counts(system, cache)
        await until(lambda: counts.calls("near_hit"), call)
        before = counts.reads(), counts.calls("near_hit")
        assert before[0] == counts.calls("hit") + counts.calls("miss")
        await call()
        assert (counts.reads(), counts.calls("near_hit")) == (before[0], before[1] + 1)


@pytest.mark.parametrize("system", [by_prometheus, by_opentelemetry], ids=["prometheus", "opentelemetry"])
async def test_a_call_that_code_around_it_keeps_from_the_cache_is_bypassed(system: Any) -> None:
    async with Cache("memory://") as cache:
        call, counts = cache.cached(key="k", ttl=600)(Source().load), Counts(system, cache)
        async with cache.after_commit():
            await call.invalidate()
            await call()
        assert (counts.calls("bypassed"), counts.reads()) == (1, 0)


@pytest.mark.parametrize("system", [by_prometheus, by_opentelemetry], ids=["prometheus", "opentelemetry"])
async def test_a_stale_value_that_the_store_gave_is_a_read_of_it(system: Any) -> None:
    async with Cache("memory://") as cache:
        source = Source()
        call = cache.cached(key="k", ttl=60, stale_while_revalidate=60)(source.load)
        await put(cache, "k", 7, left=-10, stale=60)
        counts = Counts(system, cache)
        assert await call() == 7
        assert (counts.calls("stale"), counts.reads()) == (1, 1)


async def test_a_cache_is_measured_once_however_often_opentelemetry_is_told() -> None:
    cache, reader = Cache("memory://"), InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    stop = by_opentelemetry.instrument(cache, meter_provider=provider)
    assert by_opentelemetry.instrument(cache, meter_provider=provider) is stop
    stop()
    again = by_opentelemetry.instrument(cache, meter_provider=provider)
    assert again is not stop
    # A cache that is gone has nothing to end.
    del cache
    gc.collect()
    again()
