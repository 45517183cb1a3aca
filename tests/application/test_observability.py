"""The dashboard and the alert rules: their queries are run on what a Prometheus would scrape."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from cachekit import Cache
from cachekit.instrumentation.prometheus import instrument, scrape
from examples.observability import __main__ as command
from examples.observability import shop
from examples.observability.hour import STEP, Hour
from examples.observability.page import HERE, fired, lines, page, panels, queries, rules
from examples.observability.promql import Database, QueryError
from tests import ROOT
from tests.kit.ports import free_port
from tests.kit.servers import RedisServer
from tests.kit.waiting import until

pytestmark = pytest.mark.xdist_group("the hour of the shop")  # It passes once for all tests.

ALERTS = ["CachekitStoreAway", "CachekitBreakerFlapping", "CachekitInvalidationsLost", "CachekitHitRatioFallen"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hour() -> Hour:
    """A whole hour of the shop."""
    logging.getLogger("cachekit").setLevel(logging.CRITICAL)
    try:
        hour = Hour()
        await hour.run()
    finally:
        logging.getLogger("cachekit").setLevel(logging.NOTSET)
    return hour


def times(hour: Hour) -> list[float]:
    return [STEP * step for step in range(1, int(hour.now / STEP) + 1)]


# --- the dashboard ------------------------------------------------------------------------------------


def test_every_panel_of_the_dashboard_shows_something_of_the_hour(hour: Hour) -> None:
    for panel in panels():
        found = lines(panel, hour.scrapes, times(hour)[::4], "1m")
        assert found, panel["title"]
        assert any(value > 0 for line in found.values() for _, value in line), panel["title"]


def test_every_query_names_metrics_that_are_scraped() -> None:
    registry = CollectorRegistry()
    instrument(Cache("memory://"), registry=registry)
    families = {family.name for family in text_string_to_metric_families(scrape(registry).decode())}
    asked = [query for panel in panels() for query, _ in queries(panel, "1m")] + [rule.query for rule in rules()]
    named = {name for query in asked for name in re.findall(r"cachekit_\w+", query)}
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in named} <= families


def test_the_hit_ratio_of_the_dashboard_is_that_of_the_calls(hour: Hour) -> None:
    [panel] = [panel for panel in panels() if panel["title"] == "Hit ratio by function"]
    found = lines(panel, hour.scrapes, times(hour), "1m")
    assert {*found} == {"price", "basket", "search"}
    while_released = [value for minute, value in found["search"] if 14 <= minute < 18]
    assert max(while_released) == 0, "each call has a key of its own"
    while_away = [value for minute, value in found["price"] if 38 <= minute < 42]
    assert max(while_away) == 0
    assert max(value for line in found.values() for _, value in line) <= 1


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    dashboard = json.loads((HERE / "dashboard.json").read_text())
    assert dashboard["schemaVersion"] >= 36
    assert len({panel["id"] for panel in panels()}) == len(panels())
    [source] = dashboard["templating"]["list"]
    assert all(panel["datasource"]["uid"] == f"${{{source['name']}}}" for panel in panels())
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()]
    assert len({*places}) == len(places)


# --- the alerts ---------------------------------------------------------------------------------------


def test_each_alert_fires_for_what_it_is_about_and_is_over_when_that_is(hour: Hour) -> None:
    found = fired(hour.scrapes, times(hour))
    assert sorted({one.rule.name for one in found}) == sorted(ALERTS) == sorted(rule.name for rule in rules())

    def minutes(name: str, function: str = "") -> list[tuple[float, float]]:
        about = f"{shop.__name__}.{function}"
        return [
            (one.minutes[0], one.minutes[-1])
            for one in found
            if one.rule.name == name and (not function or ("function", about) in one.labels)
        ]

    [(begin, end)] = minutes("CachekitStoreAway")
    assert 36 < begin < 42 <= end < 47
    [(begin, end)] = minutes("CachekitInvalidationsLost")
    assert 40 <= begin <= 41 < end <= 52
    [(begin, _)] = minutes("CachekitBreakerFlapping")
    assert 47 < begin < 55
    (begin, end), *_ = minutes("CachekitHitRatioFallen", "search")
    assert 12 < begin < 18 < end < 24, "the release with the session in the key"


def test_no_alert_fires_while_all_is_well(hour: Hour) -> None:
    quiet = [at for at in times(hour) if at < 12 * 60]
    assert fired(hour.scrapes, quiet) == []


# --- the page -----------------------------------------------------------------------------------------


def test_the_page_shows_every_panel_and_every_alert(hour: Hour) -> None:
    drawn = page(hour.scrapes, times(hour))
    for panel in panels():
        assert panel["title"] in drawn
    assert drawn.count("<svg") == len(panels())
    assert all(name in drawn for name in ALERTS)
    assert not re.search(r'(src|href)="?https?:', drawn), "it fetches nothing"


def test_one_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--page", str(tmp_path / "page.html"), "--minutes", "2"])
    assert "<svg" in (tmp_path / "page.html").read_text()
    assert "page.html" in capsys.readouterr().out.replace("\n", "")


@pytest.fixture
def served(own_server: RedisServer) -> Iterator[str]:
    """The address of the shop, served by one worker."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    environment["CACHEKIT_URL"] = own_server.url
    words = [sys.executable, "-m", "uvicorn", "examples.observability.app:app", "--port", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet) as server:
        yield f"http://127.0.0.1:{port}"
        server.terminate()


async def test_the_shop_is_served_with_its_metrics(served: str) -> None:
    scraped: list[str] = []
    async with aiohttp.ClientSession(served) as session:

        async def ask() -> None:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                for path in ("/price/tea", "/basket/1", "/search/tea", "/metrics"):
                    async with session.get(path) as response:
                        scraped.append(await response.text())

        await until(lambda: scraped and "cachekit" in scraped[-1], ask)
    labels = f'function="{shop.__name__}.price",outcome="miss"'
    assert f"cachekit_calls_total{{{labels}}} 1.0" in scraped[-1]


# --- the queries --------------------------------------------------------------------------------------


def database(*scrapes: tuple[float, str]) -> Database:
    found = Database()
    for at, text in scrapes:
        found.add(text, at)
    return found


COUNTER = '# TYPE calls counter\ncalls_total{{f="a"}} {0}\ncalls_total{{f="b"}} {1}\n'


@pytest.fixture
def counted() -> Database:
    """Two counters over a minute and a half; the second one begins anew in between."""
    values = [(0, 0), (15, 100), (30, 200), (45, 10), (60, 20), (75, 30), (90, 40)]
    return database(*[(15.0 * step + 1, COUNTER.format(*pair)) for step, pair in enumerate(values)])


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ('rate(calls_total{f="a"}[1m])', {"a": 1.0}),
        ('increase(calls_total{f="a"}[30s] offset 1m)', {"a": 30.0}),
        ('calls_total{f=~"b|c"}', {"b": 40.0}),
        ('calls_total{f!="b"} > 50', {"a": 90.0}),
        ("sum(calls_total) / 2", {"": 65.0}),
        ("max by (f) (calls_total) - min by (f) (calls_total)", {"a": 0.0, "b": 0.0}),
        ("count without (f) (calls_total)", {"": 2.0}),
        ("clamp_max(calls_total, 50) and calls_total > 50", {"a": 50.0}),
        ("calls_total unless calls_total > 50", {"b": 40.0}),
        ("2 * (1 + 2)", {"": 6.0}),
    ],
)
def test_a_query_means_what_it_means_to_prometheus(counted: Database, query: str, answer: dict[str, float]) -> None:
    found = {dict(labels).get("f", ""): value for labels, value in counted.query(query, 92).items()}
    assert found == {name: pytest.approx(value) for name, value in answer.items()}


def test_a_counter_that_begins_anew_goes_on_growing(counted: Database) -> None:
    [(_, value)] = counted.query('increase(calls_total{f="b"}[2m])', 92).items()
    assert 240 <= value < 260, "200 before, 40 since"


def test_a_quantile_is_interpolated_within_its_bucket() -> None:
    text = 's_bucket{le="0.1"} 50\ns_bucket{le="0.2"} 100\ns_bucket{le="+Inf"} 100\n'
    found = database((1.0, f"# TYPE s histogram\n{text}"))
    assert found.query("histogram_quantile(0.75, s_bucket)", 2) == {frozenset(): pytest.approx(0.15)}
    assert math.isnan(
        database((1.0, text.replace("50", "0").replace("100", "0"))).query("histogram_quantile(0.5, s_bucket)", 2)[
            frozenset()
        ]
    )


@pytest.mark.parametrize(
    "query", ["sum(", "topk(3, a)", "deriv(a[5m])", "a / on(f) b", "a > bool 1", "-a", "1 ^ 2", "sum(1)"]
)
def test_a_query_that_needs_more_is_an_error(query: str) -> None:
    with pytest.raises(QueryError):
        Database().query(query, 0)
