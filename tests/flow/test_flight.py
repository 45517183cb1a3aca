"""Callers of one cold key share one load in a process, under every cancellation and every nesting of calls."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import random
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from cachekit import MISS, Cache
from cachekit._flow.nesting import inside
from cachekit.errors import ConfigurationError
from cachekit.stores.memory import MemoryStore
from cachekit.stores.scripts import AcquireLease, Script
from cachekit.testing import FailingStore, FakeClock
from tests.kit.sizes import sized

PATIENCE = 30.0


@pytest_asyncio.fixture
async def cache(store_url: str) -> AsyncIterator[Cache]:
    async with Cache(store_url, timeout=5) as cache:
        yield cache
        assert not cache.runtime.flights.open_loops, "a flight was left open"


class Slow:
    """A cached function whose loads wait until the test lets them go on."""

    def __init__(self, cache: Cache, **settings: Any) -> None:
        self.runs = 0
        self.going_on = 0
        self.most_at_once = 0
        self.began = asyncio.Event()
        self.let_go = asyncio.Event()
        self.result: Callable[[int], Any] = lambda run: {"run": run}

        @cache.cached(key="slow:<x>", ttl=60, **settings)
        async def slow(x: int = 0) -> Any:
            self.runs += 1
            run = self.runs
            self.going_on += 1
            self.most_at_once = max(self.most_at_once, self.going_on)
            self.began.set()
            try:
                await self.let_go.wait()
                return self.result(run)
            finally:
                self.going_on -= 1

        self.call = slow


@contextlib.asynccontextmanager
async def two_caches(store_url: str) -> AsyncIterator[tuple[Cache, Cache]]:
    """Two caches over one store stand for two processes: they share only the store."""
    store: Any = MemoryStore() if store_url == "memory://" else store_url
    async with Cache(store, timeout=5) as here, Cache(store, timeout=5) as elsewhere:
        yield here, elsewhere


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def start(count: int, call: Callable[[], Coroutine[Any, Any, Any]]) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(call()) for _ in range(count)]


async def test_two_hundred_callers_of_a_cold_key_share_one_load(cache: Cache) -> None:
    slow = Slow(cache)
    callers = start(200, slow.call)
    await slow.began.wait()
    callers += start(50, slow.call)
    await turns()
    slow.let_go.set()
    assert await asyncio.gather(*callers) == [{"run": 1}] * 250
    assert slow.runs == 1
    assert await slow.call() == {"run": 1}


async def test_a_caller_that_changes_its_result_changes_no_other_result(cache: Cache) -> None:
    slow = Slow(cache)
    callers = start(10, slow.call)
    await slow.began.wait()
    await turns()
    slow.let_go.set()
    results = await asyncio.gather(*callers)
    results[0]["run"] = "changed"
    assert results[1:] == [{"run": 1}] * 9


async def test_a_failed_load_is_one_exception_for_all_callers_that_waited_and_is_not_cached(cache: Cache) -> None:
    slow = Slow(cache)
    failure = LookupError("no such user")

    def fail(run: int) -> None:
        raise failure

    slow.result = fail
    callers = start(10, slow.call)
    await slow.began.wait()
    await turns()
    slow.let_go.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert results[0] is failure
    assert [(type(error), error.args) for error in results] == [(LookupError, failure.args)] * 10
    assert slow.runs == 1
    slow.result = lambda run: {"run": run}
    assert await slow.call() == {"run": 2}, "the lease was given back, so nobody waits for it"


@pytest.mark.parametrize("cancelled", range(10))
async def test_cancelling_any_one_of_ten_callers_disturbs_no_other(cache: Cache, cancelled: int) -> None:
    slow = Slow(cache)
    callers = start(10, slow.call)
    await slow.began.wait()
    await turns()
    callers[cancelled].cancel()
    await turns()
    slow.let_go.set()
    async with asyncio.timeout(PATIENCE):
        results = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(results.pop(cancelled), asyncio.CancelledError)
    assert len({str(result) for result in results}) == 1
    assert slow.most_at_once == 1
    assert slow.runs == (2 if cancelled == 0 else 1), "a second load only when the loading caller was cancelled"


@pytest.mark.parametrize("cancelled", [0, 5, 9])
async def test_a_caller_cancelled_at_any_turn_disturbs_no_other(cache: Cache, cancelled: int) -> None:
    for turn in range(40):
        slow = Slow(cache)
        slow.let_go.set()
        await slow.call.invalidate(turn)
        callers = start(10, lambda: slow.call(turn))  # noqa: B023
        await turns(turn)
        callers[cancelled].cancel()
        async with asyncio.timeout(PATIENCE):
            results = await asyncio.gather(*callers, return_exceptions=True)
        results.pop(cancelled)
        assert len({str(result) for result in results}) == 1, results
        assert isinstance(results[0], dict)
        assert slow.most_at_once == 1
        assert slow.runs <= 2


async def test_all_callers_cancelled_leave_nothing_behind(cache: Cache) -> None:
    slow = Slow(cache)
    callers = start(10, slow.call)
    await slow.began.wait()
    await turns()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    slow.let_go.set()
    async with asyncio.timeout(PATIENCE):
        assert await slow.call() == {"run": slow.runs}


async def test_a_promoted_caller_cancelled_in_the_same_turn_promotes_the_next_one(cache: Cache) -> None:
    slow = Slow(cache)
    callers = start(4, slow.call)
    await slow.began.wait()
    await turns()
    # The second caller is promoted when the first is cancelled, and is cancelled itself before it can begin.
    callers[0].cancel()
    callers[1].cancel()
    await turns()
    slow.let_go.set()
    async with asyncio.timeout(PATIENCE):
        results = await asyncio.gather(*callers[2:])
    assert results[0] == results[1]
    assert slow.most_at_once == 1


async def test_the_load_runs_in_its_callers_own_task_and_context(cache: Cache) -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request")
    seen: list[object] = []

    @cache.cached(key="k", ttl=60)
    async def function() -> int:
        seen.extend([asyncio.current_task(), request.get()])
        request.set("changed inside")
        return 1

    request.set("outside")
    await function()
    assert seen == [asyncio.current_task(), "outside"]
    assert request.get() == "changed inside", "as if undecorated"


async def test_a_timeout_of_the_loading_caller_fails_no_other_caller(cache: Cache) -> None:
    slow = Slow(cache)

    limits: list[asyncio.Timeout] = []

    async def hurried() -> str:
        try:
            async with asyncio.timeout(None) as limit:
                limits.append(limit)
                await slow.call()
        except TimeoutError:
            return "gave up"
        return "got it"

    first = asyncio.create_task(hurried())
    await slow.began.wait()
    others = start(3, slow.call)
    await turns()
    # The timeout must end after the load has begun, even on a slow machine.
    limits[0].reschedule(asyncio.get_running_loop().time())
    assert await first == "gave up"
    slow.let_go.set()
    assert await asyncio.gather(*others) == [{"run": 2}] * 3


async def test_a_type_that_refuses_its_own_bytes_a_moment_later_fails_no_caller(cache: Cache) -> None:
    decoded = 0

    @dataclasses.dataclass
    class Once:
        x: int

        def __post_init__(self) -> None:
            nonlocal decoded
            decoded += 1
            if decoded > 2:
                raise ValueError

    slow = Slow(cache)
    slow.result = lambda _: Once(1)
    slow.call.__wrapped__.__annotations__["return"] = Once
    callers = start(5, slow.call)
    await slow.began.wait()
    await turns()
    slow.let_go.set()
    assert [once.x for once in await asyncio.gather(*callers)] == [1] * 5


# --- nested ---------------------------------------------------------------------------------------------


async def test_a_function_that_calls_itself_with_the_same_arguments_does_not_wait_for_itself(cache: Cache) -> None:
    depth = 0

    @cache.cached(key="k", ttl=60)
    async def function() -> int:
        nonlocal depth
        depth += 1
        return await function() + 1 if depth < 3 else 0

    async with asyncio.timeout(PATIENCE):
        assert await function() == 2


async def test_recursion_with_other_arguments_fills_every_step(cache: Cache) -> None:
    runs = 0

    @cache.cached(key="fibonacci:<n>", ttl=60)
    async def fibonacci(n: int) -> int:
        nonlocal runs
        runs += 1
        return n if n < 2 else sum(await asyncio.gather(fibonacci(n - 1), fibonacci(n - 2)))

    async with asyncio.timeout(PATIENCE):
        assert await fibonacci(30) == 832040
    assert runs == 31


async def test_two_loads_that_need_each_other_do_not_wait_for_ever(cache: Cache) -> None:
    """Undecorated they end, since each asks the other only once. If each waited for the other's load, none would."""
    asked: set[str] = set()
    both = asyncio.Barrier(2)

    @cache.cached(key="a", ttl=60)
    async def a() -> str:
        if "a" in asked:
            return "a"
        asked.add("a")
        await both.wait()
        return "a" + await b()

    @cache.cached(key="b", ttl=60)
    async def b() -> str:
        if "b" in asked:
            return "b"
        asked.add("b")
        await both.wait()
        return "b" + await a()

    async with asyncio.timeout(PATIENCE):
        results = await asyncio.gather(a(), b())
    assert all(result.startswith(name) for result, name in zip(results, "ab", strict=True))


async def test_a_circle_through_tasks_started_inside_is_seen_too(cache: Cache) -> None:
    depth = 0

    @cache.cached(key="outer", ttl=60)
    async def outer() -> int:
        nonlocal depth
        depth += 1
        if depth > 2:
            return 0
        return sum(await asyncio.gather(inner(), inner())) + 1

    @cache.cached(key="inner", ttl=60)
    async def inner() -> int:
        return await asyncio.create_task(outer())

    async with asyncio.timeout(PATIENCE):
        assert await outer() >= 1


async def test_a_circle_is_seen_after_one_of_two_waiters_has_left(cache: Cache) -> None:
    """The second waiter still waits, so the other load must not wait for this one."""

    @cache.cached(key="a:<deep>", ttl=60)
    async def a(deep: bool) -> str:
        if not deep:
            return "a"

        async def hurried() -> str:
            try:
                async with asyncio.timeout(0.02):
                    return await b()
            except TimeoutError:
                left.set()
                return "gave up"

        return f"a{await asyncio.gather(hurried(), b())}"

    @cache.cached(key="b", ttl=60)
    async def b() -> str:
        began.set()
        await left.wait()
        if asked:
            return "b"
        asked.append(True)
        return "b" + await a(True)

    asked: list[bool] = []
    began, left = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(PATIENCE):
        first = asyncio.create_task(b())
        await began.wait()
        await asyncio.gather(first, a(True))
    assert asked


async def test_loads_in_two_processes_that_need_each_other_wait_no_longer_than_a_lease(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):

        def decorate(cache: Cache) -> tuple[Any, Any]:
            @cache.cached(key="a", ttl=60, lease=0.3)
            async def a(deep: bool = True) -> str:
                await asyncio.sleep(0.1)
                return "a" + await b(False) if deep else "a"

            @cache.cached(key="b", ttl=60, lease=0.3)
            async def b(deep: bool = True) -> str:
                await asyncio.sleep(0.1)
                return "b" + await a(False) if deep else "b"

            return a, b

        (a1, b1), (a2, b2) = decorate(here), decorate(elsewhere)
        loads = [asyncio.create_task(a1()), asyncio.create_task(b2())]
        await asyncio.sleep(0.05)
        loads += [asyncio.create_task(b1()), asyncio.create_task(a2())]
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*loads)


async def test_functions_that_share_a_key_by_mistake_do_not_share_a_load(cache: Cache) -> None:
    @cache.cached(key="k", ttl=60)
    async def number() -> int:
        await asyncio.sleep(0.01)
        return 1

    @cache.cached(key="k", ttl=60)
    async def text() -> str:
        await asyncio.sleep(0.01)
        return "one"

    async with asyncio.timeout(PATIENCE):
        assert await asyncio.gather(number(), text(), number()) == [1, "one", 1]


async def test_the_nesting_of_a_load_is_forgotten_when_it_has_landed(cache: Cache) -> None:
    depths: list[int] = []
    done = asyncio.Event()
    tasks: set[asyncio.Task[int]] = set()

    @cache.cached(key="k", ttl=60)
    async def function() -> int:
        depths.append(len(inside()))
        if len(depths) < 20:

            async def again() -> int:
                await asyncio.sleep(0)
                return await function.refresh()

            tasks.add(asyncio.create_task(again()))
        else:
            done.set()
        return 1

    await function()
    async with asyncio.timeout(PATIENCE):
        await done.wait()
        await asyncio.gather(*tasks)
    assert max(depths) <= 2


async def test_a_failed_load_shared_by_many_keeps_a_short_traceback(cache: Cache) -> None:
    slow = Slow(cache)

    def fail(run: int) -> None:
        raise LookupError

    slow.result = fail
    callers = start(200, slow.call)
    await slow.began.wait()
    await turns()
    slow.let_go.set()
    (error, *_) = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(error, LookupError)
    assert len(list(traceback.walk_tb(error.__traceback__))) < 20


# --- an invalidation wins -------------------------------------------------------------------------------


async def test_a_load_that_began_before_an_invalidation_is_never_stored(cache: Cache) -> None:
    slow = Slow(cache)
    caller = asyncio.create_task(slow.call())
    await slow.began.wait()
    assert await slow.call.invalidate()
    slow.let_go.set()
    assert await caller == {"run": 1}, "it began before, so it may have it"
    assert await slow.call.peek() is MISS
    assert await slow.call() == {"run": 2}


async def test_a_caller_that_starts_after_an_invalidation_never_receives_an_earlier_load(cache: Cache) -> None:
    slow = Slow(cache)
    before = start(5, slow.call)
    await slow.began.wait()
    await turns()
    assert await slow.call.invalidate()
    slow.began.clear()
    after = start(5, slow.call)
    await slow.began.wait()
    await turns()
    slow.let_go.set()
    assert await asyncio.gather(*before) == [{"run": 1}] * 5
    assert await asyncio.gather(*after) == [{"run": 2}] * 5
    assert await slow.call() == {"run": 2}


async def test_a_refresh_overtakes_a_load_and_its_value_stays(cache: Cache) -> None:
    slow = Slow(cache)
    older = asyncio.create_task(slow.call())
    await slow.began.wait()
    slow.began.clear()
    newer = asyncio.create_task(slow.call.refresh())
    await slow.began.wait()
    slow.let_go.set()
    assert [await older, await newer] == [{"run": 1}, {"run": 2}]
    assert await slow.call() == {"run": 2}


async def test_a_refresh_that_began_before_an_invalidation_is_never_stored(cache: Cache) -> None:
    slow = Slow(cache)
    refreshed = asyncio.create_task(slow.call.refresh())
    await slow.began.wait()
    assert await slow.call.invalidate()
    slow.let_go.set()
    assert await refreshed == {"run": 1}
    assert await slow.call.peek() is MISS


async def test_a_value_set_by_hand_during_a_load_stays(cache: Cache) -> None:
    slow = Slow(cache)
    caller = asyncio.create_task(slow.call())
    await slow.began.wait()
    assert await cache.set("slow:0", "by hand", ttl=60)
    slow.let_go.set()
    await caller
    assert await cache.get("slow:0") == "by hand"


async def test_an_invalidation_by_another_cache_wins_over_loads_of_this_one(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        slow = Slow(here)
        before = start(3, slow.call)
        await slow.began.wait()
        await turns()
        assert await elsewhere.delete("slow:0")
        slow.began.clear()
        after = start(3, slow.call)
        async with asyncio.timeout(PATIENCE):
            await slow.began.wait()
        slow.let_go.set()
        assert await asyncio.gather(*before) == [{"run": 1}] * 3
        assert await asyncio.gather(*after) == [{"run": 2}] * 3
        assert await elsewhere.get("slow:0") == {"run": 2}


async def test_a_load_that_another_cache_invalidated_is_never_stored(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        slow = Slow(here)
        caller = asyncio.create_task(slow.call())
        await slow.began.wait()
        assert await elsewhere.delete("slow:0")
        slow.let_go.set()
        assert await caller == {"run": 1}, "it began before, so it may have it"
        assert await elsewhere.get("slow:0") is None
        assert await slow.call() == {"run": 2}


async def test_random_interleavings_serve_and_store_nothing_invalidated(cache: Cache) -> None:
    """Eight readers, two writers; the source of truth is outside the cache. The long run has 400 of them."""

    async def interleave(seed: int) -> None:
        chance = random.Random(seed)
        truth, invalidated = 0, 0
        key = f"k{seed}"

        async def pause() -> None:
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)

        @cache.cached(key=key, ttl=60)
        async def read() -> int:
            await pause()
            found = truth
            await pause()
            return found

        async def reader() -> None:
            for _ in range(3):
                await pause()
                due = invalidated
                got = await (read() if chance.random() < 0.8 else read.refresh())
                assert got >= due, f"seed {seed}: served {got} after {due} was invalidated"

        async def writer() -> None:
            nonlocal truth, invalidated
            for _ in range(2):
                await pause()
                truth += 1
                wrote = truth
                await pause()
                assert await read.invalidate()
                invalidated = max(invalidated, wrote)

        await asyncio.gather(*[reader() for _ in range(8)], writer(), writer())
        assert await read() == truth == 4
        assert (left := await read.peek()) is MISS or left == truth

    for first in range(0, sized(80, 200), 20):
        await asyncio.gather(*[interleave(seed) for seed in range(first, first + 20)])


# --- the store fails ------------------------------------------------------------------------------------


async def test_callers_share_one_load_while_the_store_is_down() -> None:
    async with Cache("redis://127.0.0.1:1", timeout=0.2) as cache:
        slow = Slow(cache)
        callers = start(20, slow.call)
        await slow.began.wait()
        await turns()
        slow.let_go.set()
        assert await asyncio.gather(*callers) == [{"run": 1}] * 20


async def test_a_caller_during_a_load_while_the_store_is_down_shares_the_next_load() -> None:
    """A process that is not cut off may have invalidated the load. No two loads run at the same time."""
    store = FailingStore()
    store.fail()
    async with Cache(store, timeout=PATIENCE) as cache:
        slow = Slow(cache)
        first = asyncio.create_task(slow.call())
        await slow.began.wait()
        second = start(5, slow.call)
        await turns()
        second += start(5, slow.call)
        await turns()
        assert slow.runs == 1
        slow.let_go.set()
        assert await first == {"run": 1}
        assert await asyncio.gather(*second) == [{"run": 2}] * 10
        assert slow.most_at_once == 1


@pytest.mark.parametrize("cancelled", ["the first", "the one that would load next"])
async def test_a_load_that_follows_another_begins_however_the_other_ended(cancelled: str) -> None:
    store = FailingStore()
    store.fail()
    async with Cache(store, timeout=PATIENCE) as cache:
        slow = Slow(cache)
        first = asyncio.create_task(slow.call())
        await slow.began.wait()
        second = start(3, slow.call)
        await turns()
        (first if cancelled == "the first" else second.pop(0)).cancel()
        await turns()
        slow.let_go.set()
        async with asyncio.timeout(PATIENCE):
            results = await asyncio.gather(*second)
        assert results == [{"run": 2}] * len(second)
        assert slow.most_at_once == 1
        await asyncio.wait([first])


async def test_a_store_that_fails_between_load_and_fill_costs_the_fill_alone() -> None:
    store = FailingStore()
    async with Cache(store) as cache:
        slow = Slow(cache)
        caller = asyncio.create_task(slow.call())
        await slow.began.wait()
        store.fail()
        slow.let_go.set()
        assert await caller == {"run": 1}
        store.recover()
        assert await slow.call.peek() is MISS


# --- leases ---------------------------------------------------------------------------------------------


LEASES = (0.4, 1.6, 6.4, 25.6)
"""Seconds. A pause of the machine that outlasts a lease ends it, as it should. Such an attempt says nothing about
renewals, and the next one has a longer lease."""


async def longest_pause(elsewhere: Cache, seconds: float, look: float) -> float:
    """Let ``seconds`` pass. Return the longest time between two looks, in which this process or the server stood."""
    clock = asyncio.get_running_loop().time
    longest, seen = 0.0, clock()
    end = seen + seconds
    while seen < end:
        await asyncio.sleep(look)
        await elsewhere.get("another key")
        longest, seen = max(longest, clock() - seen), clock()
    return longest


async def test_a_load_of_ten_leases_is_still_one_load(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        for x, lease in enumerate(LEASES):
            ours, theirs = Slow(here, lease=lease), Slow(elsewhere, lease=lease)
            caller = asyncio.create_task(ours.call(x))
            await ours.began.wait()
            waiting = asyncio.create_task(theirs.call(x))
            paused = await longest_pause(elsewhere, 10 * lease, lease / 20)
            ours.let_go.set()
            theirs.let_go.set()
            results = [await caller, await waiting]
            if not theirs.runs:
                assert results == [{"run": 1}] * 2
                return
            assert paused > lease / 5
    pytest.fail("the machine stood still in each attempt")


async def test_a_lease_that_nobody_renews_ends_and_the_next_caller_loads() -> None:
    """A killed process leaves a lease, and nobody renews it."""
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    await store.run("slow:0", 1, AcquireLease(b"0123456789ab" * 2, 5000))
    async with Cache(store, clock=clock) as cache:
        slow = Slow(cache)
        slow.let_go.set()
        caller = asyncio.create_task(slow.call())
        for _ in range(5):
            await asyncio.sleep(0.02)
            assert not slow.runs
        clock.advance(5.0)
        async with asyncio.timeout(PATIENCE):
            assert await caller == {"run": 1}
        assert await slow.call.peek() == {"run": 1}


async def test_waiting_for_a_lease_costs_the_store_at_most_twenty_commands_a_second() -> None:
    asked = 0

    class Counting(MemoryStore):
        async def run(self, key: str, timeout: float, script: Script[Any]) -> Any:
            nonlocal asked
            asked += isinstance(script, AcquireLease)
            return await super().run(key, timeout, script)

    store = Counting()
    await store.run("slow:0", 1, AcquireLease(b"0123456789ab" * 2, 60_000))
    async with Cache(store) as cache:
        slow = Slow(cache)
        callers = start(100, slow.call)
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(0.6)
        seconds = asyncio.get_running_loop().time() - began
        # The first looks come faster. From then on all callers of this process together look once in 50 to 100 ms.
        assert asked <= 10 + 20 * seconds
        await store.set("slow:0", 1, b'{"run":0}', ttl_ms=60_000)
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.gather(*callers) == [{"run": 0}] * 100


async def test_callers_in_other_caches_do_not_load_one_after_the_other_when_results_are_not_stored() -> None:
    store = MemoryStore()
    caches = [Cache(store) for _ in range(6)]
    going_on = most = 0

    def decorate(cache: Cache) -> Any:
        @cache.cached(key="k", ttl=60, when=lambda _: False)
        async def function() -> int:
            nonlocal going_on, most
            going_on += 1
            most = max(most, going_on)
            await asyncio.sleep(0.05)
            going_on -= 1
            return 1

        return function

    assert await asyncio.gather(*[decorate(cache)() for cache in caches]) == [1] * 6
    assert most > 1
    for cache in caches:
        await cache.aclose()


async def test_a_lease_is_renewed_though_every_loader_is_cancelled_early(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        for x, lease in enumerate(LEASES):
            ours, theirs = Slow(here, lease=lease), Slow(elsewhere, lease=lease)
            callers = start(8, partial(ours.call, x))
            await ours.began.wait()
            await turns()
            other = asyncio.create_task(theirs.call(x))
            paused = 0.0
            for caller in callers[:-1]:
                paused = max(paused, await longest_pause(elsewhere, lease / 4, lease / 20))
                caller.cancel()
            alone = not theirs.runs
            ours.let_go.set()
            theirs.let_go.set()
            async with asyncio.timeout(PATIENCE):
                results = [await callers[-1], await other]
            if alone:
                assert results[0] == results[1]
                return
            assert paused > lease / 5
    pytest.fail("the machine stood still in each attempt")


async def test_bytes_that_do_not_decode_are_replaced_by_one_load_in_all_processes(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        await here.set("slow:0", "what no dict decodes from", ttl=60)
        runs = 0

        def decorate(cache: Cache) -> Any:
            @cache.cached(key="slow:0", ttl=60)
            async def function() -> dict[str, int]:
                nonlocal runs
                runs += 1
                await asyncio.sleep(0.05)
                return {"run": runs}

            return function

        ours, theirs = decorate(here), decorate(elsewhere)
        results = await asyncio.gather(*[call() for call in (ours, theirs) for _ in range(5)])
        assert results == [{"run": 1}] * 10


async def test_bytes_that_do_not_decode_are_replaced_by_one_load(cache: Cache) -> None:
    await cache.set("slow:0", "what no dict decodes from", ttl=60)
    runs = 0

    @cache.cached(key="slow:0", ttl=60)
    async def function() -> dict[str, int]:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.01)
        return {"run": runs}

    assert await asyncio.gather(*[function() for _ in range(20)]) == [{"run": 1}] * 20
    assert await function() == {"run": 1}


@pytest.mark.parametrize("lease", [0, -1, "soon", True])
def test_a_lease_that_makes_no_sense_is_refused_at_decoration(lease: Any) -> None:
    async def function() -> int:
        return 1

    with pytest.raises(ConfigurationError, match="lease="):
        Cache("memory://").cached(ttl=1, lease=lease)(function)


# --- the end of a loop ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_a_loop_that_ends_while_callers_wait_logs_nothing(store_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        cache = Cache(store_url, timeout=5)
        slow = Slow(cache)
        start(10, slow.call)
        await slow.began.wait()
        await turns()

    asyncio.run(main(), debug=True)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]


async def test_a_cache_closed_while_callers_wait_lets_them_finish(cache: Cache) -> None:
    slow = Slow(cache)
    callers = start(5, slow.call)
    await slow.began.wait()
    await turns()
    await cache.aclose()
    slow.let_go.set()
    with contextlib.suppress(asyncio.CancelledError):
        assert await asyncio.gather(*callers) == [{"run": 1}] * 5
