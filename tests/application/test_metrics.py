"""What Prometheus scrapes and what OpenTelemetry exports is what has happened, to the last call."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from cachekit.instrumentation.facts import OUTCOMES
from cachekit.instrumentation.opentelemetry import instrument
from tests import ROOT
from tests.kit.metered import CALLS, LOADS, NOT_STORED, Metered, minute, over_http
from tests.kit.ports import free_port
from tests.kit.servers import RedisServer
from tests.kit.waiting import until

Counts = Mapping[str, Mapping[str, float]]
"""By the name of a function, and a label."""

PREFIX = "tests.kit.metered.Metered.load_"


def without_zeros(counts: Counts) -> dict[str, dict[str, float]]:
    return {name: {label: count for label, count in found.items() if count} for name, found in counts.items()}


# --- Prometheus ---------------------------------------------------------------------------------------


class Scrape:
    """One scrape, parsed as Prometheus does."""

    def __init__(self, text: str) -> None:
        self.samples = [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    def by(self, metric: str, label: str) -> Counts:
        """Return the counts of ``metric`` by function and ``label``."""
        counts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for name, labels, value in self.samples:
            if name == metric:
                counts[labels["function"].removeprefix(PREFIX)][labels[label]] += value
        return counts

    def value(self, metric: str, **labels: str) -> float:
        return sum(value for name, found, value in self.samples if name == metric and labels.items() <= found.items())


@pytest.fixture
def two_workers(own_server: RedisServer, tmp_path: Path) -> Iterator[str]:
    """The address of an application with two workers of uvicorn, whose metrics are in one folder."""
    (tmp_path / "metrics").mkdir()
    port = free_port()
    environment = os.environ | {
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        "METERED_URL": own_server.url,
        "METERED_FOLDER": str(tmp_path),
    }
    command = ["-m", "uvicorn", "tests.kit.metered:app", "--factory", "--workers", "2", "--port", str(port)]
    log = (tmp_path / "uvicorn.log").open("wb")
    with log, subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=log) as served:
        yield f"http://127.0.0.1:{port}"
        served.terminate()
        served.wait(30)


@pytest_asyncio.fixture
async def session(two_workers: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Asks the application; each request is a connection of its own, which either worker may take."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(two_workers, connector=connector) as session:
        await until_both_are_well(session)
        yield session


async def until_both_are_well(session: aiohttp.ClientSession) -> None:
    """Wait until each worker has answered, and says that its store answers."""
    well: set[int] = set()

    async def ask() -> None:
        try:
            async with session.get("/healthy") as response:
                answer = await response.json()
        except aiohttp.ClientConnectionError:
            return
        (well.add if answer["healthy"] else well.discard)(answer["worker"])

    async def ask_both() -> None:
        await asyncio.gather(*[ask() for _ in range(8)])

    await until(lambda: len(well) == 2, ask_both)


async def scrape(session: aiohttp.ClientSession) -> Scrape:
    async with session.get("/metrics") as response:
        assert response.content_type == "text/plain"
        return Scrape(await response.text())


async def test_a_scrape_of_two_workers_has_the_counts_of_both(
    session: aiohttp.ClientSession, own_server: RedisServer, tmp_path: Path
) -> None:
    async def reads() -> float:
        return (await scrape(session)).value("cachekit_store_duration_seconds_count", operation="read")

    before = await scrape(session)
    await minute(over_http(session), reads, tmp_path, own_server)
    found = await scrape(session)
    calls = found.by("cachekit_calls_total", "outcome")
    assert {*calls["profile"]} == {*OUTCOMES}, "each outcome is there from 0 on"
    earlier = before.by("cachekit_calls_total", "outcome")
    grown = {
        name: {outcome: count - earlier[name][outcome] for outcome, count in counts.items()}
        for name, counts in calls.items()
    }
    assert without_zeros(grown) == CALLS
    loads = without_zeros(found.by("cachekit_loads_total", "outcome"))
    loads["profile"]["returned"] -= before.value("cachekit_loads_total", outcome="returned")
    assert loads == LOADS
    assert found.by("cachekit_not_stored_total", "reason")["profile"] == NOT_STORED["profile"]
    assert found.by("cachekit_stale_served_total", "why")["price"] == {"error": 1, "paused": 1}
    assert found.value("cachekit_invalidations_total", outcome="acknowledged") == 2
    assert found.value("cachekit_store_failures_total", operation="get") == 4
    assert not [labels for _, labels, _ in found.samples if "ann" in labels.values() or "pid" in labels]
    assert len({path.stem.rpartition("_")[2] for path in (tmp_path / "metrics").glob("counter_*.db")}) == 2
    # And back.
    await asyncio.to_thread(own_server.start)
    await until_both_are_well(session)
    ask, before = over_http(session), await scrape(session)
    for _ in range(6):
        assert await ask("profile/eve") == 200
    after = await scrape(session)
    outcomes = {
        outcome: after.value("cachekit_calls_total", outcome=outcome)
        - before.value("cachekit_calls_total", outcome=outcome)
        for outcome in OUTCOMES
    }
    assert without_zeros({"profile": outcomes}) == {"profile": {"hit": 5, "miss": 1}}
    assert after.value("cachekit_store_incidents_total") >= 1


# --- OpenTelemetry ------------------------------------------------------------------------------------


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """Return the points of each metric."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: [*metric.data.data_points]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def counts_of(found: Mapping[str, list[Any]], metric: str, label: str) -> dict[str, dict[str, float]]:
    counts: dict[str, dict[str, float]] = defaultdict(dict)
    for point in found.get(metric, ()):
        name = point.attributes["code.function.name"].removeprefix(PREFIX)
        counts[name][point.attributes[f"cachekit.{label}"]] = point.value
    return counts


async def test_an_exporter_of_opentelemetry_has_the_same_counts_and_a_span_for_each_load(
    own_server: RedisServer, tmp_path: Path
) -> None:
    reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    metered = Metered(own_server.url, tmp_path)

    async def reads() -> float:
        found = points(reader).get("cachekit.store.operation.duration", ())
        return sum(point.count for point in found if point.attributes["cachekit.operation"] == "read")

    meters = MeterProvider([reader])
    async with metered.cache:
        instrument(metered.cache, meter_provider=meters, tracer_provider=tracers)
        await metered.ask("profile/first")
        before = counts_of(points(reader), "cachekit.calls", "outcome")
        assert before == {"profile": {"miss": 1}}
        exporter.clear()
        await minute(metered.ask, reads, tmp_path, own_server)
        found = points(reader)
        calls = counts_of(found, "cachekit.calls", "outcome")
        calls["profile"]["miss"] -= 1
        assert calls == CALLS
        loads = counts_of(found, "cachekit.loads", "outcome")
        loads["profile"]["returned"] -= 1
        assert loads == LOADS
        assert counts_of(found, "cachekit.not_stored", "reason")["profile"] == NOT_STORED["profile"]
        spans = exporter.get_finished_spans()
        named = [(span.name.removeprefix(f"load {PREFIX}"), span.status.is_ok) for span in spans]
        for name, outcomes in LOADS.items():
            assert named.count((name, True)) == outcomes["returned"]
            assert named.count((name, False)) == outcomes["failed"]
        assert len(named) == sum(sum(outcomes.values()) for outcomes in LOADS.values())
        await asyncio.to_thread(own_server.start)
        await until(lambda: metered.cache.healthy, lambda: metered.ask("profile/dan"))
        await metered.ask("profile/eve")
        before = counts_of(points(reader), "cachekit.calls", "outcome")
        await metered.ask("profile/eve")
        after = counts_of(points(reader), "cachekit.calls", "outcome")
        assert after["profile"]["hit"] == before["profile"]["hit"] + 1
    tracers.shutdown()
    meters.shutdown()
