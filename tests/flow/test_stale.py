"""Stale values: one that is known already stands in while its source is slow or down, never against an invalidation."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from cachekit import MISS, Cache, CachedFunction
from cachekit.events import BreakerOpened, Filled, Hit, LoadBegan, Loaded, LoadFailed, Missed, ServedStale
from cachekit.stores.memory import MemoryStore
from cachekit.stores.scripts import AcquireStaleLease, PauseLease, ReleaseLease, Script, SeizeLease
from cachekit.testing import FailingStore, FakeClock
from tests.kit.servers import RedisServer
from tests.kit.stale import DOWN, HOUR, PATIENCE, WINDOWS, Source, put, raw_at, reasons, turns, two_caches, watch
from tests.kit.telling import bare
from tests.kit.waiting import until


def decorated(cache: Cache, source: Source, **options: Any) -> CachedFunction[[], Any]:
    return cache.cached(key="k", **{"ttl": 600, **WINDOWS, **options})(source.load)


# --- stale_while_revalidate ---------------------------------------------------------------------------


async def test_a_fresh_value_is_a_hit_and_nothing_is_loaded(cache: Cache, source: Source) -> None:
    call, events = decorated(cache, source), watch(cache)
    await put(cache, "k", "old", left=1)
    assert await call() == "old"
    assert bare(events) == [Hit("k", "")]
    assert source.asked == 0


async def test_a_stale_value_is_handed_out_at_once_and_replaced_in_the_background(cache: Cache, source: Source) -> None:
    call, events = decorated(cache, source), watch(cache)
    await put(cache, "k", "old", left=-5)
    source.open.clear()
    assert await call() == "old"
    assert reasons(events) == ["revalidate"]
    source.open.set()
    await until(lambda: any(isinstance(event, Filled) for event in events))
    assert await call() == "new"
    assert isinstance(events[-1], Hit)


async def test_the_event_of_a_stale_value_says_which_why_and_since_when(cache: Cache, source: Source) -> None:
    call, events = decorated(cache, source), watch(cache)
    await put(cache, "k", "old", left=-5)
    await call()
    (event,) = [event for event in events if isinstance(event, ServedStale)]
    assert (event.key, event.function) == ("k", f"{Source.__module__}.Source.load")
    assert 4.9 < event.age < 5 + PATIENCE


async def test_many_callers_of_a_stale_value_in_two_processes_begin_one_load(store_url: str, source: Source) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        calls = [decorated(here, source), decorated(elsewhere, source)]
        await put(here, "k", "old", left=-5)
        source.open.clear()
        results = await asyncio.gather(*[call() for call in calls * 20])
        assert results == ["old"] * 40
        await source.began.wait()
        await until(lambda: here.loading_in_background + elsewhere.loading_in_background == 1)
        assert [await call() for call in calls] == ["old"] * 2
        source.open.set()
        await until(lambda: here.loading_in_background + elsewhere.loading_in_background == 0)
        assert source.asked == 1
        assert [await call() for call in calls] == ["new"] * 2


async def test_an_invalidation_keeps_the_result_of_a_load_in_the_background_out(cache: Cache, source: Source) -> None:
    """BROKEN without its lease: a load from before the invalidation would be stored behind it."""
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-5)
    source.open.clear()
    await call()
    await source.began.wait()
    async with Cache(cache._store) as elsewhere:
        await elsewhere.delete("k")
    source.open.set()
    await until(lambda: not cache.loading_in_background)
    assert await raw_at(cache, "k") == (None, None)


async def test_nothing_is_loaded_in_the_background_for_a_value_that_was_invalidated(
    cache: Cache, source: Source
) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-5)
    serving = asyncio.create_task(call())
    await until(serving.done)
    # Before the load has asked for its lease.
    await cache._store.delete(["k"], PATIENCE)
    await until(lambda: not cache.loading_in_background)
    assert await raw_at(cache, "k") in [(None, None), (b'"new"', None)]


async def test_a_value_whose_windows_are_over_is_a_miss(cache: Cache, source: Source) -> None:
    call, events = decorated(cache, source, stale_if_error=None), watch(cache)
    await put(cache, "k", "old", left=-61)
    assert await call() == "new"
    assert isinstance(events[0], Missed)
    assert source.asked == 1


@pytest.mark.usefixtures("usual_quiet")
async def test_a_failure_in_the_background_is_an_event_and_two_log_records(
    cache: Cache, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cachekit")
    call, events = decorated(cache, source, retry_after=0.001), watch(cache)
    await put(cache, "k", "old", left=-5)
    source.error = ValueError("SECRET")
    failures: list[LoadFailed] = []

    async def fail() -> None:
        assert await call() == "old"
        await until(lambda: not cache.loading_in_background)
        failures[:] = [event for event in events if isinstance(event, LoadFailed)]

    await until(lambda: len(failures) >= 3, fail)
    assert failures[0].function == f"{Source.__module__}.Source.load"
    assert bare(failures)[0] == LoadFailed("k", "", "ValueError", by="background")
    warnings = [text for text in caplog.messages if "ValueError" in text]
    name = failures[0].function
    why = "and no caller sees that: a stale value stands in, or no caller waits"
    assert warnings == [f"loads of {name} raise ValueError, {why}"]
    source.error = None

    async def load() -> None:
        await call.refresh()
        await put(cache, "k", "old", left=-5)
        await call()

    await until(lambda: any("back to normal" in text for text in caplog.messages), load)
    assert "SECRET" not in caplog.text + repr(events)


@pytest.mark.parametrize("why", ["when", "round trip"])
async def test_a_result_in_the_background_that_is_not_stored_pauses_others(
    cache: Cache, source: Source, why: str
) -> None:
    call = decorated(cache, source, when=None if why == "round trip" else lambda result: result == "stored")
    # A set comes back as a list: the function has no annotation.
    source.version = {"new"} if why == "round trip" else "new"
    await put(cache, "k", "old", left=-5)
    assert await call() == "old"
    await until(lambda: source.asked == 1 and not cache.loading_in_background)
    holder = b""

    async def look() -> None:
        nonlocal holder
        holder = (await raw_at(cache, "k"))[1] or b""

    await until(lambda: holder.startswith(b"~"), look)
    assert [await call() for _ in range(5)] == ["old"] * 5
    await until(lambda: not cache.loading_in_background)
    assert source.asked == 1


# --- stale_if_error -----------------------------------------------------------------------------------


async def test_a_stale_value_stands_in_for_a_load_that_fails(cache: Cache, source: Source) -> None:
    call, events = decorated(cache, source), watch(cache)
    await put(cache, "k", "old", left=-100)
    source.error = DOWN
    assert await call() == "old"
    kinds = [type(event) for event in events]
    assert kinds == [Missed, LoadBegan, LoadFailed, ServedStale]
    assert LoadFailed("k", "", "ConnectionError", raised=False) in bare(events)
    assert reasons(events) == ["error"]


async def test_after_a_failure_no_process_asks_the_source_for_the_key_until_the_pause_is_over(
    store_url: str, source: Source
) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        calls = [decorated(here, source), decorated(elsewhere, source)]
        await put(here, "k", "old", left=-100)
        source.error = DOWN
        events = watch(elsewhere)
        assert await calls[0]() == "old"
        assert await asyncio.gather(*[call() for call in calls * 20]) == ["old"] * 40
        assert source.asked == 1
        assert {*reasons(events)} == {"paused"}


async def test_after_the_pause_the_source_is_asked_again(cache: Cache, source: Source) -> None:
    call = decorated(cache, source, retry_after=0.02)
    await put(cache, "k", "old", left=-100)
    source.error = DOWN
    results: list[Any] = []

    async def ask() -> None:
        results.append(await call())

    await until(lambda: source.asked >= 3, ask)
    assert {*results} == {"old"}
    source.error = None
    await until(lambda: results[-1] == "new", ask)


async def test_while_the_source_is_down_a_stale_value_within_its_first_window_is_paused_for_too(
    cache: Cache, source: Source
) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-5)
    source.error = DOWN
    await call()
    await until(lambda: source.asked == 1 and not cache.loading_in_background and not cache.runtime.background)
    assert [await call() for _ in range(10)] == ["old"] * 10
    await until(lambda: not cache.loading_in_background)
    assert source.asked == 1


async def test_a_key_that_was_never_cached_gets_the_functions_own_exception(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    source.error = DOWN
    with pytest.raises(ConnectionError) as raised:
        await call()
    assert raised.value is DOWN
    await until(lambda: not cache.runtime.background)
    assert await raw_at(cache, "k") == (None, None)


async def test_beyond_its_windows_the_functions_own_exception_is_raised(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    # Another version of the function had a longer window.
    await put(cache, "k", "old", left=-HOUR - 1, stale=3 * HOUR)
    source.error = DOWN
    with pytest.raises(ConnectionError):
        await call()


async def test_a_call_that_has_no_value_that_may_stand_in_loads_in_spite_of_the_pause(
    store_url: str, source: Source
) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        call, strict = decorated(here, source), decorated(elsewhere, source, stale_if_error=60)
        await put(here, "k", "old", left=-100)
        source.error = DOWN
        assert await call() == "old"
        with pytest.raises(ConnectionError):
            await strict()
        source.error = None
        assert await strict() == "new"
        assert await call() == "new"


async def test_an_exception_for_which_nothing_stands_in_is_raised_untouched_and_nobody_pauses(
    cache: Cache, source: Source
) -> None:
    call = decorated(cache, source, stale_on=(ConnectionError, TimeoutError))
    await put(cache, "k", "old", left=-100)
    source.error = LookupError("no such user")
    for asked in (1, 2):
        with pytest.raises(LookupError) as raised:
            await call()
        assert raised.value is source.error
        assert source.asked == asked


@pytest.mark.parametrize("joins", [False, True], ids=["leads", "joins"])
async def test_a_cancellation_is_never_taken_for_a_failure(cache: Cache, source: Source, *, joins: bool) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-100)
    source.open.clear()
    tasks = [asyncio.create_task(call()) for _ in range(2)]
    await source.began.wait()
    tasks[joins].cancel()
    await asyncio.wait([tasks[joins]])
    assert tasks[joins].cancelled()
    source.open.set()
    assert await tasks[not joins] == "new"


async def test_a_function_that_ends_by_a_cancellation_of_its_own_is_cancelled(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-100)
    source.error = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await call()


async def test_a_load_over_its_timeout_is_a_failure_whatever_the_exceptions_are(cache: Cache, source: Source) -> None:
    call = decorated(cache, source, load_timeout=0.05, stale_on=KeyError)
    await put(cache, "k", "old", left=-100)
    source.open.clear()
    assert await asyncio.gather(*[call() for _ in range(5)]) == ["old"] * 5
    assert source.asked == 1
    assert await call() == "old"
    assert source.asked == 1, "the pause holds after a timeout, too"
    source.open.set()


async def test_all_callers_of_a_load_that_fails_get_each_a_value_of_its_own(cache: Cache) -> None:
    source = Source()
    call = decorated(cache, source)
    await put(cache, "k", ["old"], left=-100)
    source.open.clear()
    callers = [asyncio.create_task(call()) for _ in range(10)]
    await source.began.wait()
    await turns()
    source.error = DOWN
    source.open.set()
    results = await asyncio.gather(*callers)
    assert results == [["old"]] * 10
    assert len({id(result) for result in results}) == 10
    assert source.asked == 1


async def test_a_failure_of_the_round_trip_is_loud_in_a_strict_function(cache: Cache) -> None:
    from cachekit.errors import RoundTripError

    async def load() -> list[int]:
        return (1,)  # type: ignore[return-value]

    call = cache.cached(key="k", ttl=60, stale_if_error=HOUR, strict=True)(load)
    await put(cache, "k", [0], left=-100)
    with pytest.raises(RoundTripError):
        await call()


# --- never against an invalidation ----------------------------------------------------------------------


async def test_a_caller_that_joins_after_an_invalidation_gets_the_error_and_not_the_copy_of_the_leader(
    cache: Cache, source: Source
) -> None:
    """BROKEN if the flight had the value: the leader read it before the invalidation, the second begins after it."""
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-100)
    source.open.clear()
    leader = asyncio.create_task(call())
    await source.began.wait()
    async with Cache(cache._store) as elsewhere:
        assert await elsewhere.delete("k")
    second = asyncio.create_task(call())
    await until(lambda: source.asked == 2)
    third = asyncio.create_task(call())
    await turns()
    source.error = DOWN
    source.open.set()
    results = await asyncio.gather(leader, second, third, return_exceptions=True)
    assert [type(result) for result in results[1:]] == [ConnectionError] * 2


async def test_a_caller_that_joins_before_the_load_begins_gets_the_error_and_not_the_copy_of_the_leader(
    cache: Cache, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BROKEN as above: the leader has read its value, and between that and its lease the key is invalidated."""
    call = decorated(cache, source)
    store = cache._store
    run, joined = store.run, list[asyncio.Task[Any]]()

    async def run_later(key: str, timeout: float, script: Script[Any]) -> Any:
        if isinstance(script, AcquireStaleLease) and not joined:
            await store.delete([key], PATIENCE)
            joined.append(asyncio.create_task(call()))
            await until(lambda: any(flight.awaited for flight in cache.runtime.flights.open_loops[here].values()))
        return await run(key, timeout, script)

    here = asyncio.get_running_loop()
    monkeypatch.setattr(store, "run", run_later)
    await put(cache, "k", "old", left=-100)
    source.error = DOWN
    leader = asyncio.create_task(call())
    results = await asyncio.gather(leader, return_exceptions=True)
    assert [type(result) for result in results + await asyncio.gather(*joined, return_exceptions=True)] == [
        ConnectionError,
        ConnectionError,
    ]
    assert source.asked == 1, "they shared one load"


@pytest.mark.parametrize("known", ["loaded", "hit", "stale"])
async def test_a_value_that_was_known_here_does_not_stand_in_after_an_invalidation(
    cache: Cache, source: Source, known: str
) -> None:
    """BROKEN if the last value that this process had were remembered."""
    call = decorated(cache, source)
    if known != "loaded":
        await put(cache, "k", "new", left=60 if known == "hit" else -100)
        source.error = DOWN
    assert await call() == "new"
    async with Cache(cache._store) as elsewhere:
        assert await elsewhere.delete("k")
    source.error = DOWN
    with pytest.raises(ConnectionError):
        await call()


async def test_a_leader_whose_value_was_invalidated_meanwhile_gets_the_error(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-100)
    source.open.clear()
    leader = asyncio.create_task(call())
    await source.began.wait()
    await call.invalidate()
    source.error = DOWN
    source.open.set()
    with pytest.raises(ConnectionError):
        await leader


async def test_a_leader_whose_value_was_replaced_meanwhile_gets_the_new_one(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-100)
    source.open.clear()
    leader = asyncio.create_task(call())
    await source.began.wait()
    await put(cache, "k", "set by hand", left=60)
    source.error = DOWN
    source.open.set()
    assert await leader == "set by hand"


async def test_a_value_that_was_replaced_during_a_load_that_fails_is_a_hit_to_observers(
    cache: Cache, source: Source
) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-100)
    source.open.clear()
    leader = asyncio.create_task(call())
    await source.began.wait()
    await put(cache, "k", "set by hand", left=60)
    events = watch(cache)
    source.error = DOWN
    source.open.set()
    assert await leader == "set by hand"
    assert [event.key for event in events if isinstance(event, Hit)] == ["k"]
    assert reasons(events) == []


async def test_what_the_journal_holds_has_no_value_that_stands_in() -> None:
    store = FailingStore()
    async with Cache(store) as cache:
        source = Source()
        call = decorated(cache, source)
        await put(cache, "k", "old", left=-100)
        store.fail()
        assert not await call.invalidate()
        source.error = DOWN
        with pytest.raises(ConnectionError):
            await call()
        store.recover()


async def test_what_this_process_invalidates_during_a_load_does_not_stand_in() -> None:
    store = FailingStore()
    async with Cache(store) as cache:
        source = Source()
        call = decorated(cache, source)
        await put(cache, "k", "old", left=-100)
        source.open.clear()
        leader = asyncio.create_task(call())
        await source.began.wait()
        store.fail()
        await call.invalidate()
        source.error = DOWN
        source.open.set()
        with pytest.raises(ConnectionError):
            await leader
        store.recover()


async def test_a_lost_invalidation_is_obeyed_by_stale_values(source: Source) -> None:
    async with Cache("memory://") as cache:
        call = decorated(cache, source)
        await put(cache, "k", "old", left=-5)
        cache.runtime.coherence.journal._limit = 0
        cache.runtime.coherence.journal.add(["k"])
        assert await call() == "new"


# --- expired by hand ------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [60, -5, -100], ids=["fresh", "stale", "spare"])
async def test_a_value_that_was_expired_is_handed_out_for_a_failure_and_for_nothing_else(
    cache: Cache, source: Source, left: float
) -> None:
    """BROKEN if it were handed out at once: the caller of ``expire`` has changed its source."""
    call, events = decorated(cache, source), watch(cache)
    await put(cache, "k", "old", left=left)
    assert await call.expire()
    source.error = DOWN
    assert await call() == "old"
    assert reasons(events) == ["error"]
    assert [event.age == 0 for event in events if isinstance(event, ServedStale)] == [left > 0]
    assert await call() == "old"
    assert source.asked == 1, "the pause holds"
    source.error = None
    assert await call.expire()
    assert await call() == "new"


async def test_an_expired_value_voids_the_loads_that_are_going_on(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-100)
    source.open.clear()
    source.version = "read before the change"
    loading = asyncio.create_task(call())
    await source.began.wait()
    assert await call.expire()
    source.open.set()
    assert await loading == "read before the change"
    source.version = "new"
    assert await call() == "new"


async def test_expiring_a_key_without_value_is_acknowledged(cache: Cache, source: Source) -> None:
    assert await decorated(cache, source).expire()


async def test_a_function_without_stale_if_error_removes_what_it_expires(cache: Cache, source: Source) -> None:
    call = decorated(cache, source, stale_if_error=None)
    await put(cache, "k", "old", left=60)
    assert await call.expire()
    assert await raw_at(cache, "k") == (None, None)


async def test_invalidating_removes_a_value_that_was_expired(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=60)
    await call.expire()
    await call.invalidate()
    source.error = DOWN
    with pytest.raises(ConnectionError):
        await call()


async def test_a_writing_function_may_expire_its_keys(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    plain = cache.cached(key="plain", ttl=60)(source.load)

    @cache.invalidates("k", "plain", "none", soft=True)
    async def change() -> None: ...

    await put(cache, "k", "old", left=60)
    assert await plain() == "new"
    await change()
    assert (await raw_at(cache, "plain"))[0] is None
    source.error = DOWN
    assert await call() == "old"


async def test_a_block_holds_an_expiry_back_until_it_has_committed(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=60)
    async with cache.after_commit():
        assert not await call.expire()
        assert (await raw_at(cache, "k"))[0] == b'"old"\n{"s":3600000}'
    assert (await raw_at(cache, "k"))[0] == b'"old"\n{"s":3600000}!'
    source.error = DOWN
    assert await call() == "old"


@pytest.mark.parametrize("order", [("expire", "invalidate"), ("invalidate", "expire")], ids=str)
async def test_in_a_block_an_invalidation_outweighs_an_expiry_of_the_same_key(
    cache: Cache, source: Source, order: tuple[str, str]
) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=60)
    async with cache.after_commit(), cache.after_commit():
        for name in order:
            await getattr(call, name)()
    assert (await raw_at(cache, "k"))[0] is None


async def test_an_expiry_that_the_store_did_not_acknowledge_becomes_an_invalidation() -> None:
    store = FailingStore()
    async with Cache(store) as cache:
        source = Source()
        call = decorated(cache, source)
        await put(cache, "k", "old", left=60)
        store.fail()
        assert not await call.expire()
        store.recover()
        source.error = DOWN
        with pytest.raises(ConnectionError):
            await call()
        await until(lambda: not cache.runtime.coherence.journal)
        assert await raw_at(cache, "k") == (None, None)


# --- beside ---------------------------------------------------------------------------------------------


async def test_a_peek_sees_fresh_values_alone(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=60)
    assert await call.peek() == "old"
    assert await cache.get("k") == "old"
    await put(cache, "k", "old", left=-5)
    assert await call.peek() is MISS
    assert await cache.get("k") is None
    assert source.asked == 0


async def test_a_stale_ticket_is_no_ticket_and_is_gone(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-5)
    assert await call.take() is MISS
    assert (await raw_at(cache, "k"))[0] is None


async def test_a_fresh_ticket_is_taken_once(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=60)
    assert [await call.take(), await call.take()] == ["old", MISS]


async def test_taking_by_hand_what_may_be_stale_is_a_miss(cache: Cache) -> None:
    await put(cache, "k", "old", left=60)
    assert await cache.take("k") is None
    assert (await raw_at(cache, "k"))[0] is None


async def test_a_function_without_windows_takes_no_stale_value_for_a_fresh_one(cache: Cache, source: Source) -> None:
    """As it finds them while a new version of an application is brought out, process by process."""
    plain = cache.cached(key="k", ttl=60)(source.load)
    await put(cache, "k", "old", left=60)
    assert await plain() == "old"
    await put(cache, "k", "old", left=-5)
    assert await plain() == "new"
    assert (await raw_at(cache, "k"))[0] == b'"new"'
    assert await plain() == "new"
    await put(cache, "k", "old", left=60, expired=True)
    assert await plain() == "new"
    assert source.asked == 2


async def test_a_function_with_windows_takes_a_plain_entry_for_fresh(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    await cache.set("k", "set by hand", ttl=60)
    assert await call() == "set by hand"


async def test_a_function_without_windows_does_not_wait_for_a_pause(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    plain = cache.cached(key="k", ttl=60)(source.load)
    await put(cache, "k", "old", left=-100)
    source.error = DOWN
    await call()
    source.error = None
    async with asyncio.timeout(PATIENCE):
        assert await plain() == "new"


async def test_a_refresh_raises_its_own_error_and_the_value_stays(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-5)
    source.error = DOWN
    with pytest.raises(ConnectionError):
        await call.refresh()
    await until(lambda: not cache.runtime.left_behind)
    assert await raw_at(cache, "k") == (b'"old"\n{"s":3600000}', None)


@pytest.mark.parametrize("change", ["set", "refresh", "invalidate", "expire"])
async def test_a_change_by_hand_lifts_the_pause(cache: Cache, source: Source, change: str) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-100)
    source.error = DOWN
    await call()
    source.error = None
    if change == "set":
        await cache.set("k", "by hand", ttl=60)
    else:
        await getattr(call, change)()
    assert await call() == ("by hand" if change == "set" else "new")


async def test_a_block_that_waits_with_an_invalidation_sees_no_stale_value(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-5)
    async with cache.after_commit():
        await call.invalidate()
        assert await call() == "new"
        assert (await raw_at(cache, "k"))[0] == b'"old"\n{"s":3600000}'


async def test_a_ttl_that_depends_on_the_result_has_the_window_behind_it(cache: Cache, source: Source) -> None:
    call, events = decorated(cache, source, ttl=lambda _: 30), watch(cache)
    await call()
    assert [event.ttl for event in events if isinstance(event, Filled)] == [30]
    raw, left = await cache._store.get_with_ttl("k", PATIENCE)  # type: ignore[union-attr]
    assert raw == b'"new"\n{"s":3600000}'
    assert HOUR < left <= HOUR + 30


# --- clocks, faults, old versions -----------------------------------------------------------------------


@pytest.mark.parametrize("minutes", [-15, 15])
async def test_clocks_of_hosts_that_are_minutes_apart_change_nothing(
    store_url: str, source: Source, minutes: int
) -> None:
    clock = FakeClock(epoch=1_800_000_000.0 + 60 * minutes)
    clock.advance(HOUR + 60 * minutes)
    store = MemoryStore() if store_url == "memory://" else store_url
    async with Cache(store, timeout=5) as here, Cache(here._store, timeout=5, clock=clock) as apart:
        call, theirs = decorated(here, source), decorated(apart, source)
        await put(here, "k", "old", left=2)
        assert [await call(), await theirs()] == ["old", "old"]
        await put(here, "k", "old", left=-100)
        source.error = DOWN
        assert [await call(), await theirs()] == ["old", "old"]
        assert source.asked == 1


async def test_a_value_that_no_longer_decodes_is_loaded_anew(cache: Cache) -> None:
    source = Source(version=2)

    async def load() -> int:
        return int(await source.load())

    call = cache.cached(key="k", ttl=60, **WINDOWS)(load)
    for left in (60, -5, -100):
        await put(cache, "k", "text", left=left)
        assert await call() == 2
    await put(cache, "k", "text", left=-100)
    source.error = DOWN
    with pytest.raises(ConnectionError):
        await call()


async def test_an_entry_of_a_later_version_is_a_miss_and_is_replaced(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    for raw in (b'"old"\n{"New":1}', b'"old"\n{"s":"soon"}', b'"old"\n'):
        await cache._store.set("k", PATIENCE, raw, ttl_ms=60_000)
        assert await call() == "new"
        assert (await raw_at(cache, "k"))[0] == b'"new"\n{"s":3600000}'


async def test_the_holder_of_a_lease_that_was_killed_delays_a_stale_caller_by_its_lease_at_most(
    cache: Cache, source: Source
) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-100)
    await cache._store.seize_lease("k", PATIENCE, b"0123456789abcdef01234567", lease_ms=50)
    async with asyncio.timeout(PATIENCE):
        assert await call() == "new"


class Meanwhile(MemoryStore):
    """A store that does something else before it runs a script of one kind."""

    def __init__(self, kind: type[Script[Any]], act: Any) -> None:
        super().__init__()
        self.kind = kind
        self.act = act

    async def run(self, key: str, timeout: float, script: Script[Any]) -> Any:
        if isinstance(script, self.kind):
            await self.act(self, key)
        return await super().run(key, timeout, script)


async def test_a_value_that_is_stored_while_a_call_asks_for_the_lease_is_handed_out(source: Source) -> None:
    async def store_newer(store: MemoryStore, key: str) -> None:
        await store.set(key, PATIENCE, b'"newer"\n{"s":3600000}', ttl_ms=4_000_000)

    async with Cache(Meanwhile(AcquireStaleLease, store_newer)) as cache:
        call = decorated(cache, source)
        await put(cache, "k", "old", left=-100)
        assert await call() == "newer"
        await put(cache, "k", "old", left=-5)
        assert await call() == "old"
        await until(lambda: not cache.loading_in_background)
        assert source.asked == 0


async def test_after_an_expiry_any_other_value_is_newer_however_short_its_ttl(source: Source) -> None:
    async def store_newer(store: MemoryStore, key: str) -> None:
        await store.set(key, PATIENCE, b'"newer"\n{"s":1000}', ttl_ms=2000)

    async with Cache(Meanwhile(AcquireStaleLease, store_newer)) as cache:
        call = decorated(cache, source)
        await put(cache, "k", "old", left=60)
        await call.expire()
        assert await call() == "newer"
        assert source.asked == 0


async def test_a_newer_value_that_was_expired_at_once_is_not_handed_out(source: Source) -> None:
    async def store_expired(store: MemoryStore, key: str) -> None:
        await store.set(key, PATIENCE, b'"newer"\n{"s":3600000}!', ttl_ms=4_000_000)

    async with Cache(Meanwhile(AcquireStaleLease, store_expired)) as cache:
        call = decorated(cache, source)
        await put(cache, "k", "old", left=-100)
        assert await call() == "new"
        assert source.asked == 1


async def test_a_store_that_is_lost_when_the_pause_is_set_costs_no_caller_its_value(source: Source) -> None:
    async def fail(store: MemoryStore, _key: str) -> None:
        raise OSError

    async with Cache(Meanwhile(PauseLease, fail)) as cache:
        call = decorated(cache, source)
        await put(cache, "k", "old", left=-100)
        source.error = DOWN
        assert await call() == "old"


async def test_a_stale_value_stands_in_for_a_load_that_got_no_lease_from_a_store_that_failed(source: Source) -> None:
    async def fail(store: MemoryStore, _key: str) -> None:
        raise OSError

    async with Cache(Meanwhile(AcquireStaleLease, fail)) as cache:
        call = decorated(cache, source)
        await put(cache, "k", "old", left=-100)
        source.error = DOWN
        assert await call() == "old"
        assert source.asked == 1


async def test_a_caller_whose_shared_load_did_not_begin_waits_for_another_one(source: Source) -> None:
    """A load in the background finds its lease held, by a load of another process, and gives up."""
    joined: list[asyncio.Task[Any]] = []
    here, theirs = asyncio.get_running_loop(), b"0" * 24

    async def act(store: MemoryStore, key: str) -> None:
        if joined:
            await store.run(key, PATIENCE, ReleaseLease(theirs))
            return
        await put(cache, "k", "older", left=-100)
        joined.append(asyncio.create_task(call()))
        await until(lambda: any(flight.awaited for flight in cache.runtime.flights.open_loops[here].values()))
        await store.run(key, PATIENCE, SeizeLease(theirs, 60_000))

    async with Cache(Meanwhile(AcquireStaleLease, act), timeout=PATIENCE) as cache:
        call = decorated(cache, source, soft_timeout=PATIENCE)
        await put(cache, "k", "old", left=-5)
        assert await call() == "old"
        await until(lambda: joined)
        assert await joined[0] == "new"
        assert source.asked == 1


async def test_a_store_that_fails_is_asked_once_and_the_function_runs_as_undecorated(source: Source) -> None:
    store = FailingStore()
    async with Cache(store) as cache:
        call = decorated(cache, source)
        await put(cache, "k", "old", left=-5)
        store.fail()
        assert await call() == "new"
        source.error = DOWN
        with pytest.raises(ConnectionError):
            await call()
        store.recover()
        assert await call() == "old"


async def test_while_the_breaker_is_open_nothing_stands_in_and_the_function_runs_as_undecorated(
    own_server: RedisServer, source: Source
) -> None:
    async with Cache(own_server.url, timeout=0.5) as cache:
        call, events = decorated(cache, source), watch(cache)
        await put(cache, "k", "old", left=-100)
        own_server.kill()
        await until(lambda: any(isinstance(event, BreakerOpened) for event in events), call)
        source.error = DOWN
        with pytest.raises(ConnectionError):
            await call()
        assert reasons(events) == []
        assert not cache.loading_in_background


class Counting(MemoryStore):
    """A store that counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def run(self, key: str, timeout: float, script: Script[Any]) -> Any:
        self.asked.append(script.name)
        return await super().run(key, timeout, script)

    async def get(self, key: str, timeout: float) -> bytes | None:
        self.asked.append("get")
        return await super().get(key, timeout)

    async def get_with_ttl(self, key: str, timeout: float) -> tuple[bytes | None, float]:
        self.asked.append("get_with_ttl")
        return await super().get_with_ttl(key, timeout)


async def test_the_round_trips_are_those_of_the_docs(source: Source) -> None:
    store = Counting()
    async with Cache(store) as cache:
        call = decorated(cache, source)
        plain = cache.cached(key="plain", ttl=60)(source.load)
        await plain()
        assert store.asked == ["get", "acquire_lease", "fill"], "a function without windows sends what it always sent"
        await put(cache, "k", "old", left=-5)
        store.asked.clear()
        await call()
        assert store.asked == ["get_with_ttl"]
        await until(lambda: not cache.loading_in_background)
        assert store.asked[1:] == ["acquire_stale_lease", "fill"]
        await put(cache, "k", "old", left=-100)
        source.error = DOWN
        store.asked.clear()
        await call()
        assert store.asked == ["get_with_ttl", "acquire_stale_lease", "pause_lease"]
        store.asked.clear()
        await call()
        assert store.asked == ["get_with_ttl", "acquire_stale_lease"]


async def test_a_hit_emits_one_event_and_loads_emit_their_own(cache: Cache, source: Source) -> None:
    call, events = decorated(cache, source), watch(cache)
    await call()
    assert [type(event) for event in events] == [Missed, LoadBegan, Loaded, Filled]
