"""The log discipline, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from cachekit import Cache
from cachekit._tiers.incidents import LONGEST_QUIET, QUIET, Incidents
from cachekit.errors import (
    FAILURES,
    UNSENDABLE,
    CommandRefusedError,
    KeyRefusedError,
    StoreError,
    StoreRefusedError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from cachekit.events import BreakerOpened, Event, StoreFailed, StoreRecovered
from cachekit.testing import FailingStore, FakeClock
from tests.kit.servers import RedisServer
from tests.kit.waiting import PATIENCE


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records]


def test_ten_thousand_occurrences_are_one_record_and_the_end_is_another(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    incidents = Incidents(clock)
    for _ in range(10_000):
        incidents.begin("timeout", "no answer in time")
        clock.advance(0.001)
    clock.advance(QUIET)
    assert incidents.end("timeout") == pytest.approx(10.0 + QUIET)
    assert not incidents.current
    assert levels(caplog) == ["WARNING", "INFO"]
    assert "10000 occurrences" in caplog.text


def test_a_success_that_was_under_way_does_not_end_an_incident(clock: FakeClock) -> None:
    incidents = Incidents(clock)
    incidents.begin("timeout", "no answer in time")
    clock.advance(QUIET / 2)
    assert incidents.end("timeout") is None
    assert incidents.going_on() == ["timeout"]


def test_each_cause_has_records_of_its_own(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    incidents = Incidents(clock)
    incidents.begin("timeout", "no answer in time")
    incidents.begin("OOM", "out of memory")
    clock.advance(QUIET)
    incidents.end("OOM")
    assert incidents.going_on() == ["timeout"]
    assert levels(caplog) == ["WARNING", "WARNING", "INFO"]


def test_an_incident_that_comes_and_goes_all_the_time_does_not_flood_the_log(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    incidents = Incidents(clock)
    for _ in range(3600):
        incidents.begin("timeout", "no answer in time")
        clock.advance(1.0)
        incidents.end("timeout")
    assert len(caplog.records) <= 6


def test_an_incident_after_a_long_quiet_time_ends_as_fast_as_the_first_one(clock: FakeClock) -> None:
    incidents = Incidents(clock)
    for _ in range(3):
        incidents.begin("timeout", "no answer in time")
        clock.advance(QUIET)
        assert incidents.end("timeout") is not None
        clock.advance(LONGEST_QUIET)


@pytest.mark.usefixtures("usual_quiet")
async def test_an_event_reports_every_occurrence_and_the_end(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = FailingStore()
    cache = Cache(store, clock=clock)
    events: list[Event] = []
    cache.observe(events.append)
    store.fail(StoreTimeoutError("timeout", "no answer in time"))
    for _ in range(3):
        assert await cache.get("k") is None
    store.recover()
    clock.advance(7.0)
    assert await cache.get("k") is None
    assert events == [StoreFailed("get", "timeout")] * 3 + [StoreRecovered("timeout", 7.0)]
    assert levels(caplog) == ["WARNING", "INFO"]


async def test_a_failure_of_one_key_is_logged_as_such(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    store = FailingStore()
    store.fail(KeyRefusedError("WRONGTYPE", "it holds a list"))
    await Cache(store, clock=clock).get("k")
    assert caplog.messages == ["a key is left out for now: it holds a list"]


async def test_a_call_without_time_left_for_the_store_asks_it_no_more() -> None:
    store = FailingStore()
    cache = Cache(store)
    budget = cache.runtime.budget()
    budget.left = 0.0
    assert await cache.runtime.coherence.invalidate(["k"], budget) is False


async def test_a_cache_is_healthy_until_the_store_fails_and_again_after_half_a_second(clock: FakeClock) -> None:
    store = FailingStore()
    cache = Cache(store, clock=clock)
    assert cache.healthy
    store.fail(StoreTimeoutError("timeout", "no answer in time"))
    assert cache.healthy  # the property asks nobody
    assert await cache.take("ticket") is None
    assert not cache.healthy
    store.recover()
    assert await cache.take("ticket") is None
    assert not cache.healthy
    clock.advance(QUIET)
    assert await cache.take("ticket") is None
    assert cache.healthy


async def test_health_comes_back_as_fast_after_many_failures_as_after_one(clock: FakeClock) -> None:
    """The log takes an incident that comes and goes for one incident, which takes longer to end each time."""
    store = FailingStore()
    cache = Cache(store, clock=clock)
    for _ in range(9):
        store.fail()
        await cache.get("k")
        assert not cache.healthy
        store.recover()
        clock.advance(QUIET)
        await cache.get("k")
        assert cache.healthy
        clock.advance(5)


@pytest.mark.parametrize(
    "refusal",
    [KeyRefusedError("WRONGTYPE", "it holds a list"), KeyRefusedError(UNSENDABLE, "no UTF-8")],
    ids=lambda error: error.cause,
)
async def test_a_refusal_of_one_key_leaves_a_cache_healthy(clock: FakeClock, refusal: KeyRefusedError) -> None:
    store = FailingStore()
    cache = Cache(store, clock=clock)
    store.fail(refusal)
    assert await cache.get("k") is None
    assert cache.healthy
    store.recover()
    await cache.get("k")
    assert cache.healthy


@pytest.mark.parametrize("error", [CommandRefusedError("OOM", "no writes"), StoreRefusedError("LOADING", "it loads")])
async def test_a_refusal_of_all_keys_leaves_no_cache_healthy(clock: FakeClock, error: StoreError) -> None:
    store = FailingStore()
    cache = Cache(store, clock=clock)
    store.fail(error)
    await cache.set("k", 1, ttl=60)
    assert not cache.healthy


async def test_a_server_that_answers_is_healthy_whatever_becomes_of_one_key(redis_server: RedisServer) -> None:
    redis_server.cli("LPUSH", "list", "x")
    async with Cache(redis_server.url, timeout=5) as cache:
        assert await cache.get("list") is None
        assert await cache.get("\ud800") is None
        assert await cache.delete("\ud800") is False
        assert cache.healthy


async def test_a_key_that_cannot_be_sent_is_no_answer_of_the_server(clock: FakeClock) -> None:
    class OfServer(FailingStore):
        def shard(self, key: str) -> str:  # type: ignore[override] # a store in memory has none
            return "server"

    store = OfServer()
    cache = Cache(store, clock=clock)
    opened: list[Event] = []
    cache.observe(lambda event: opened.append(event) if isinstance(event, BreakerOpened) else None)
    for _ in range(FAILURES):
        store.fail(StoreUnavailableError("unavailable", "refused"))
        await cache.get("k")
        store.fail(KeyRefusedError(UNSENDABLE, "no UTF-8"))
        await cache.get("\ud800")
    assert opened == [BreakerOpened("server", "unavailable")]
    await cache.runtime.background.aclose()


class SlowToDelete(FailingStore):
    """A store that deletes when the test allows it, and answers everything else at once."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    async def delete(self, keys: Sequence[str], timeout: float) -> None:
        if self.error is None:
            await self.let.wait()
        await super().delete(keys, timeout)


async def test_a_cache_is_not_healthy_while_an_invalidation_waits_for_the_store(clock: FakeClock) -> None:
    store = SlowToDelete()
    async with Cache(store, clock=clock) as cache:
        store.fail(StoreTimeoutError("timeout", "no answer in time"))
        assert await cache.delete("ticket") is False
        store.recover()
        clock.advance(QUIET)
        assert await cache.set("another", 1, ttl=60)
        assert not cache.runtime._guard._incidents.current
        assert not cache.healthy
        store.let.set()
        async with asyncio.timeout(PATIENCE):
            while not cache.healthy:
                await asyncio.sleep(0.01)
