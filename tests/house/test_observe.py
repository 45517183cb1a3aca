"""docs/observe.md has every event, reason and metric, and none that does not exist."""

from __future__ import annotations

import re
import typing
from typing import Any

from opentelemetry.metrics import Counter, Histogram, Meter, NoOpMeter, NoOpMeterProvider
from prometheus_client import CollectorRegistry

from cachekit import Cache, events
from cachekit.instrumentation import opentelemetry, prometheus
from cachekit.instrumentation.facts import OUTCOMES
from tests import ROOT

PAGE = (ROOT / "docs" / "observe.md").read_text(encoding="utf-8")


def table(heading: str) -> dict[str, list[str]]:
    """Return the rows of the table whose first heading this is: the other cells by the first one."""
    lines = PAGE[PAGE.index(f"\n| {heading} |") + 1 :].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in rows}


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_page_has_every_event_with_its_fields() -> None:
    classes = {kind.__name__: [*kind.__struct_fields__] for kind in typing.get_args(events.Event)}
    assert {name: names(row[0]) for name, row in table("event").items()} == classes


def test_every_event_class_is_an_event() -> None:
    classes = {
        name for name, found in vars(events).items() if isinstance(found, type) and found.__module__ == events.__name__
    }
    assert classes == {kind.__name__ for kind in typing.get_args(events.Event)}


def test_the_page_has_every_reason_for_a_value_that_is_not_stored() -> None:
    told = re.findall(r'``"([a-z ]+)"``', events.NotStored.__doc__ or "")
    assert [*table("reason")] == told


def test_the_page_has_every_outcome_of_a_call() -> None:
    assert [*table("outcome")] == [*OUTCOMES]


def test_the_page_has_every_metric_of_prometheus_with_its_labels() -> None:
    registry = CollectorRegistry()
    prometheus.instrument(Cache("memory://"), registry=registry)
    found = {}
    for collector in registry._collector_to_names:
        described = collector.describe()[0]
        suffix = "_total" if described.type == "counter" else ""
        found[described.name + suffix] = [*collector._labelnames]
    rows = {name: names(row[0]) for name, row in table("metric").items()}
    assert rows == found


class Meters(NoOpMeterProvider):
    """Notes the units of all instruments."""

    def __init__(self) -> None:
        self.units: dict[str, str] = {}

    def get_meter(self, name: str, *args: Any, **kwargs: Any) -> Meter:
        units, meter = self.units, NoOpMeter(name)

        class Noting(NoOpMeter):
            def create_counter(self, name: str, unit: str = "", description: str = "") -> Counter:
                units[name] = unit
                return meter.create_counter(name, unit, description)

            def create_histogram(self, name: str, unit: str = "", description: str = "", **more: Any) -> Histogram:
                units[name] = unit
                return meter.create_histogram(name, unit, description, **more)

        return Noting(name)


def test_the_page_has_every_metric_of_opentelemetry_with_its_unit() -> None:
    meters = Meters()
    opentelemetry.instrument(Cache("memory://"), meter_provider=meters)
    second = PAGE[PAGE.index("**Metrics.** Names and units") :]
    assert dict(re.findall(r"^\| `(cachekit\.[\w.]+)` \| `([^`]+)` \|", second, re.MULTILINE)) == meters.units
