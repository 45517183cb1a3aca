"""The circuit breaker: it rejects calls, and a probe finds out that the store answers."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Sequence

import pytest

from cachekit import Cache
from cachekit._tiers.outcome import Down
from cachekit.errors import (
    CommandRefusedError,
    KeyRefusedError,
    QueueFullError,
    StoreError,
    StoreGarbageError,
    StoreRefusedError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from cachekit.events import BreakerClosed, BreakerOpened, Event, StoreFailed
from cachekit.stores.memory import MemoryStore
from cachekit.testing import FakeClock

PATIENCE = 30.0
REFUSED = StoreUnavailableError("unavailable", "refused on cue")


class Shards(MemoryStore):
    """A store in memory that counts its operations, and fails on cue, each shard by itself.

    The shard of a key is the text before its first colon.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.places: dict[str, str] = {}
        self.hangs = False

    def shard(self, key: str) -> str:  # type: ignore[override]
        place = key.partition(":")[0]
        return self.places.get(place, place)

    async def get(self, key: str, timeout: float) -> bytes | None:
        self.asked.append(key)
        if self.hangs:
            await asyncio.sleep(PATIENCE)
        if error := self.errors.get(self.shard(key)):
            raise error
        return await super().get(key, timeout)

    async def delete(self, keys: Sequence[str], timeout: float) -> None:
        assert len({self.shard(key) for key in keys}) == 1, "a multi-key operation stays in one shard"
        if error := self.errors.get(self.shard(keys[0])):
            raise error
        await super().delete(keys, timeout)

    def fail(self, error: Exception, shard: str = "a") -> None:
        self.errors[shard] = error

    def recover(self) -> None:
        self.errors.clear()


async def closed(events: list[Event]) -> BreakerClosed:
    async with asyncio.timeout(PATIENCE):
        while True:
            for event in events:
                if isinstance(event, BreakerClosed):
                    return event
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("error", "calls_let_through"),
    [
        (StoreTimeoutError("timeout", ""), 1),
        (REFUSED, 3),
        (StoreGarbageError("garbage", ""), 3),
        (StoreRefusedError("LOADING", ""), 3),
        (ZeroDivisionError(), 3),
        (CommandRefusedError("OOM", ""), 20),
        (KeyRefusedError("WRONGTYPE", ""), 20),
        (QueueFullError("queue full", ""), 20),
    ],
    ids=repr,
)
async def test_it_opens_after_its_number_of_failures_in_a_row(error: Exception, calls_let_through: int) -> None:
    store = Shards()
    store.fail(error)
    async with Cache(store) as cache:
        events: list[Event] = []
        cache.observe(events.append)
        # The calls follow without a pause, so that no probe comes in between.
        for _ in range(20):
            assert await cache.get("a:1") is None
        assert len(store.asked) == calls_let_through
        cause = error.cause if isinstance(error, StoreError) else "ZeroDivisionError"
        assert events.count(StoreFailed("get", cause)) == 20, "an event each time, rejected or not"
        assert (BreakerOpened("a", cause) in events) == (calls_let_through < 20)


@pytest.mark.parametrize(
    "sign_of_life", [None, KeyRefusedError("WRONGTYPE", ""), CommandRefusedError("OOM", "")], ids=repr
)
async def test_failures_that_are_not_in_a_row_do_not_open_it(sign_of_life: Exception | None) -> None:
    store = Shards()
    async with Cache(store) as cache:
        for _ in range(5):
            store.fail(REFUSED)
            await cache.get("a:1")
            await cache.get("a:1")
            store.recover()
            if sign_of_life is not None:
                store.fail(sign_of_life)
            await cache.get("a:1")
        assert len(store.asked) == 15


async def test_the_timeout_of_an_operation_with_a_rest_of_the_deadline_counts_as_any_failure() -> None:
    store = Shards()
    async with Cache(store) as cache:
        guard = cache.runtime._guard
        store.fail(StoreTimeoutError("timeout", ""))
        for _ in range(5):
            budget = guard.budget()
            budget.left /= 3
            await guard.get("a:1", budget)
        assert len(store.asked) == 3


async def test_only_the_shard_that_fails_rejects_calls_and_a_deletion_reaches_the_others() -> None:
    store = Shards()
    async with Cache(store) as cache:
        await cache.set("a:1", 1, ttl=60)
        await cache.set("b:1", 1, ttl=60)
        store.fail(StoreTimeoutError("timeout", ""))
        assert await cache.get("a:1") is None
        assert await cache.get("b:1") == 1

        @cache.invalidates("a:<x>", "b:<x>")
        async def write(x: int) -> None: ...

        await write(1)
        assert await MemoryStore.get(store, "b:1", 1) is None
        assert await MemoryStore.get(store, "a:1", 1) == b"1"
        assert cache.runtime.coherence.journal.holds("a:1")
        assert not cache.runtime.coherence.journal.holds("b:1")
        store.recover()
        async with asyncio.timeout(PATIENCE):
            while await MemoryStore.get(store, "a:1", 1) is not None:
                await asyncio.sleep(0.005)


@pytest.mark.usefixtures("usual_quiet")
async def test_the_incident_of_a_shard_ends_when_that_shard_or_its_replacement_answers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = FakeClock()
    store = Shards()
    async with Cache(store, clock=clock) as cache:
        for heir in ("a", "c"):
            caplog.clear()
            store.fail(REFUSED)
            await cache.get("a:1")
            clock.advance(100)
            store.recover()
            await cache.get("b:1")
            assert [record.levelno for record in caplog.records] == [logging.WARNING]
            assert "the cache at a is left out" in caplog.text
            # From this line on another server may have the keys of this one.
            store.places["a"] = heir
            await cache.get("a:2")
            assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO]
            store.places.clear()


async def test_it_closes_when_a_probe_is_answered_and_not_before() -> None:
    store = Shards()
    async with Cache(store) as cache:
        events: list[Event] = []
        cache.observe(events.append)
        await cache.set("a:1", 1, ttl=60)
        store.fail(StoreTimeoutError("timeout", ""))
        await cache.get("a:1")
        probes = len(store.asked)
        async with asyncio.timeout(PATIENCE):
            while len(store.asked) < probes + 3:
                assert await cache.get("a:1") is None
                await asyncio.sleep(0.005)
        store.recover()
        assert await cache.get("a:1") is None, "no caller is the probe"
        assert (await closed(events)).shard == "a"
        assert await cache.get("a:1") == 1
        assert [type(event) for event in events if isinstance(event, BreakerOpened | BreakerClosed)] == [
            BreakerOpened,
            BreakerClosed,
        ]


async def test_a_probe_that_finds_one_key_refused_has_found_the_server() -> None:
    store = Shards()
    async with Cache(store) as cache:
        events: list[Event] = []
        cache.observe(events.append)
        store.fail(StoreTimeoutError("timeout", ""))
        await cache.get("a:1")
        store.fail(KeyRefusedError("NOPERM", ""))
        assert await closed(events)


async def test_a_late_answer_does_not_close_it() -> None:
    store = Shards()
    async with Cache(store) as cache:
        guard = cache.runtime._guard
        for _ in range(3):
            store.fail(REFUSED)
            await cache.get("a:1")
        guard._breaker.answered("a")
        assert guard._breaker.rejects("a") == Down("unavailable")


async def test_its_probe_ends_with_the_cache() -> None:
    store = Shards()
    cache = Cache(store)
    store.fail(StoreTimeoutError("timeout", ""))
    await cache.get("a:1")
    store.hangs = True
    while len(store.asked) < 2:
        await asyncio.sleep(0.005)
    await cache.aclose()
    assert not [task for task in asyncio.all_tasks() if "probe" in task.get_name()]
    store.hangs = False
    store.recover()
    assert await cache.set("a:1", 1, ttl=60), "a closed cache can be used again"


async def test_a_probe_that_somebody_cancelled_is_started_again() -> None:
    store = Shards()
    async with Cache(store) as cache:
        events: list[Event] = []
        cache.observe(events.append)
        store.fail(StoreTimeoutError("timeout", ""))
        await cache.get("a:1")
        probes = [task for task in asyncio.all_tasks() if "_until_answered" in task.get_name()]
        assert probes
        for task in probes:
            task.cancel()
        await asyncio.wait(probes)
        store.recover()
        await cache.get("a:1")
        assert await closed(events)


def test_each_event_loop_has_circuits_of_its_own_and_a_closed_one_leaves_nothing_behind() -> None:
    store = Shards()
    cache = Cache(store)

    async def fail() -> None:
        store.asked.clear()
        store.fail(REFUSED)
        for _ in range(5):
            await cache.get("a:1")
        assert len(store.asked) == 3
        assert len(cache.runtime._guard._breaker.circuits) == 1

    asyncio.run(fail())
    asyncio.run(fail())
    gc.collect()


async def test_a_memory_store_needs_no_breaker() -> None:
    assert MemoryStore().shard("a:1") is None
