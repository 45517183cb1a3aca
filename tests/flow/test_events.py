"""Events tell what happened to a call, to a load and to a value: each fact once, with the function that it is about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest

from cachekit import MISS, Cache, new_key
from cachekit.errors import RoundTripError
from cachekit.events import (
    Bypassed,
    Event,
    Filled,
    Hit,
    Invalidated,
    LoadBegan,
    LoadCancelled,
    Loaded,
    LoadFailed,
    Missed,
    NotStored,
    ServedStale,
    Shared,
    StoreFailed,
    Uncached,
)
from cachekit.instrumentation.facts import outcome_of
from cachekit.testing import FailingStore, memory_cache
from tests.kit.stale import DOWN, HOUR, PATIENCE, Source, put, turns, two_caches, watch
from tests.kit.telling import bare
from tests.kit.waiting import until


def of(kind: type[Event], events: Sequence[Event]) -> list[Any]:
    """Return the events of a kind, without names and durations."""
    return [event for event in bare(events) if isinstance(event, kind)]


def why_not_stored(events: Sequence[Event]) -> list[str]:
    return [event.reason for event in of(NotStored, events)]


def outcomes(events: Sequence[Event]) -> list[str]:
    """Return the outcomes of the calls, in order."""
    return [ended[1] for event in events if (ended := outcome_of(event)) is not None]


async def together(cache: Cache, source: Source, call: Callable[[], Any], count: int) -> list[object]:
    """Let so many calls meet in one load of ``source``. Return what each returned or raised."""
    events = watch(cache)
    source.began.clear()
    source.open.clear()
    calls = [asyncio.create_task(call()) for _ in range(count)]
    await source.began.wait()
    # While the store is down, none has missed, and none is on its way to it.
    await until(lambda: len(of(Missed, events)) + len(of(StoreFailed, events)) >= count)
    await turns()
    source.open.set()
    return await asyncio.gather(*calls, return_exceptions=True)


# --- who, and how long --------------------------------------------------------------------------------


async def test_every_event_of_a_call_names_its_function(cache: Cache) -> None:
    events = watch(cache)

    class Shop:
        @cache.cached(key="price:<sku>", ttl=60)
        async def price(self, sku: str) -> int:
            return len(sku)

        @cache.invalidates("price:<sku>")
        async def change(self, sku: str) -> None: ...

    shop = Shop()
    await shop.price("tea")
    await asyncio.gather(shop.price("coffee"), shop.price("coffee"))
    await shop.price("tea")
    await shop.price.refresh("tea")
    await shop.price.peek("cake")
    await shop.price.take("tea")
    await shop.price.set(3, "tea")
    await shop.price.invalidate("tea")
    read = f"{__name__}.{Shop.price.__qualname__}"
    assert {getattr(event, "function", None) for event in events} == {read}
    del events[:]
    await shop.change("tea")
    assert [event.function for event in events if isinstance(event, Invalidated)] == [
        f"{__name__}.{Shop.change.__qualname__}"
    ]


async def test_what_took_time_says_how_long(cache: Cache, source: Source) -> None:
    call, events = cache.cached(key="k", ttl=60)(source.load), watch(cache)
    await together(cache, source, call, 2)
    await call()
    await call.invalidate()
    kinds = (Missed, Loaded, Shared, Filled, Hit, Invalidated)
    took = {kind: [event.seconds for event in events if isinstance(event, kind)] for kind in kinds}
    assert all(seconds > 0 for found in took.values() for seconds in found), took
    assert all(took.values())


# --- calls --------------------------------------------------------------------------------------------


async def test_a_call_that_joins_a_load_is_told_as_shared(cache: Cache, source: Source) -> None:
    call, events = cache.cached(key="k", ttl=60)(source.load), watch(cache)
    assert await together(cache, source, call, 5) == ["new"] * 5
    assert len(of(LoadBegan, events)) == len(of(Loaded, events)) == 1
    assert of(Shared, events) == [Shared("k", "", 0.0)] * 4
    assert sorted(outcomes(events)) == ["miss", *["shared"] * 4]


async def test_a_call_that_gets_the_load_of_another_process_is_told_as_shared(store_url: str) -> None:
    source = Source()
    async with two_caches(store_url) as (here, elsewhere):
        events = watch(elsewhere)
        source.open.clear()
        first = asyncio.create_task(here.cached(key="k", ttl=60)(source.load)())
        await source.began.wait()
        second = asyncio.create_task(elsewhere.cached(key="k", ttl=60)(source.load)())
        await until(lambda: of(Missed, events))
        await turns()
        source.open.set()
        assert [await first, await second] == ["new"] * 2
    assert source.asked == 1
    assert of(Shared, events) == [Shared("k", "", 0.0)]
    assert outcomes(events) == ["shared"]


async def test_a_failed_load_is_told_once_and_each_call_that_joined_it_says_so(cache: Cache, source: Source) -> None:
    call, events = cache.cached(key="k", ttl=60)(source.load), watch(cache)
    source.error = DOWN
    raised = await together(cache, source, call, 3)
    assert [type(error) for error in raised] == [ConnectionError] * 3
    assert of(LoadFailed, events) == [LoadFailed("k", "", "ConnectionError", raised=True)]
    assert of(Shared, events) == [Shared("k", "", 0.0, "ConnectionError")] * 2
    assert outcomes(events) == ["failed"] * 3
    assert not of(NotStored, events)


async def test_a_refresh_that_fails_is_told_once(cache: Cache, source: Source) -> None:
    call = cache.cached(key="k", ttl=60, stale_if_error=HOUR)(source.load)
    await put(cache, "k", "old", left=50)
    source.error, events = DOWN, watch(cache)
    with pytest.raises(ConnectionError):
        await call.refresh()
    assert of(LoadFailed, events) == [LoadFailed("k", "", "ConnectionError", by="refresh", raised=True)]
    assert outcomes(events) == []


@pytest.mark.parametrize(
    ("error", "raised"), [(DOWN, False), (KeyError("no such price"), True)], ids=["stands in", "does not"]
)
async def test_a_failed_load_says_whether_its_caller_sees_it(cache: Cache, error: Exception, raised: bool) -> None:
    source = Source()
    call = cache.cached(key="k", ttl=60, stale_if_error=HOUR, stale_on=ConnectionError)(source.load)
    await put(cache, "k", "old", left=-1)
    source.error, events = error, watch(cache)
    if raised:
        with pytest.raises(type(error)):
            await call()
    else:
        assert await call() == "old"
    assert of(LoadFailed, events) == [LoadFailed("k", "", type(error).__name__, raised=raised)]
    assert len(of(ServedStale, events)) == (not raised)
    assert outcomes(events) == ["failed" if raised else "stale"]


async def test_a_cancelled_load_is_told_and_another_caller_loads(cache: Cache, source: Source) -> None:
    call, events = cache.cached(key="k", ttl=60)(source.load), watch(cache)
    source.open.clear()
    first = asyncio.create_task(call())
    await source.began.wait()
    second = asyncio.create_task(call())
    await until(lambda: len(of(Missed, events)) == 2)
    await turns()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.open.set()
    assert await second == "new"
    assert of(LoadCancelled, events) == [LoadCancelled("k", "", 0.0)]
    assert outcomes(events) == ["cancelled", "miss"]


async def test_a_read_inside_a_block_that_changes_the_key_is_told_as_bypassed(cache: Cache, source: Source) -> None:
    call, events = cache.cached(key="k", ttl=60)(source.load), watch(cache)
    async with cache.after_commit():
        await cache.delete("k")
        assert await call() == "new"
        assert await call.peek() is MISS
        assert await call.take() is MISS
        assert bare(events) == [Bypassed("k", "")] * 3
    async with call.writing() as write:
        del events[:]
        assert write(await call()) == "new"
        assert bare(events) == [Bypassed("k", "")]


async def test_a_call_with_tags_inside_a_block_that_removes_one_is_told_as_bypassed(
    cache: Cache, source: Source
) -> None:
    call, events = cache.cached(key="k", ttl=60, tags=["t"])(source.load), watch(cache)
    async with cache.after_commit():
        await cache.invalidate_tags("t")
        assert [await call(), await call.peek(), await call.take()] == ["new", MISS, MISS]
    assert of(Bypassed, events) == [Bypassed("k", "")] * 3


async def test_a_look_that_finds_nothing_is_a_miss_that_no_load_follows(cache: Cache, source: Source) -> None:
    for tags in ([], ["t"]):
        call, events = cache.cached(key=f"k:{len(tags)}", ttl=60, tags=tags)(source.load), watch(cache)
        assert [await call.peek(), await call.take()] == [MISS, MISS]
        assert bare(events) == [Missed(f"k:{len(tags)}", "", looked=True)] * 2
        assert outcomes(events) == ["miss"] * 2


async def test_every_call_has_exactly_one_outcome(cache: Cache, source: Source) -> None:
    """Whatever happens: hits, misses, shared and failed loads, stale values, with and without tags."""
    calls = [
        cache.cached(key="plain:<x>", ttl=60)(_loading(source)),
        cache.cached(key="tagged:<x>", ttl=60, tags=["t"])(_loading(source)),
        cache.cached(key="stale:<x>", ttl=60, stale_while_revalidate=60, stale_if_error=HOUR)(_loading(source)),
        cache.cached(key="soft:<x>", ttl=60, stale_if_error=HOUR, soft_timeout=PATIENCE)(_loading(source)),
    ]
    events, made = watch(cache), 0
    for error in (None, DOWN, None):
        source.error = error
        for left in (50, -1, -100):
            await put(cache, "stale:1", "old", left=left)
            await put(cache, "soft:1", "old", left=left)
            await asyncio.gather(*[call(x) for call in calls for x in (1, 2, 2)], return_exceptions=True)
            made += 3 * len(calls)
        await cache.invalidate_tags("t")
        await cache.delete_many(["plain:1", "plain:2"])
        await until(lambda: not cache.loading_in_background)
    assert len(outcomes(events)) == made
    assert {*outcomes(events)} >= {"hit", "miss", "shared", "failed", "stale"}


def _loading(source: Source) -> Callable[[int], Any]:
    async def load(x: int) -> Any:
        return await source.load()

    return load


# --- values that are not stored -----------------------------------------------------------------------


async def test_a_result_that_when_refuses_is_not_stored(cache: Cache, source: Source) -> None:
    call, events = cache.cached(key="k", ttl=60, when=lambda result: result != "new")(source.load), watch(cache)
    await call()
    assert why_not_stored(events) == ["when"]
    assert not of(Filled, events)


def _raises(result: object) -> Any:
    raise ValueError(result)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"ttl": 60, "when": _raises}, "when"),
        ({"ttl": _raises}, "ttl"),
        ({"ttl": _raises, "when": lambda _: True}, "ttl"),
        ({"ttl": lambda _: "no duration"}, "ttl"),
    ],
)
async def test_an_option_that_raises_is_the_reason(
    cache: Cache, source: Source, options: dict[str, Any], reason: str
) -> None:
    call, events = cache.cached(key="k", **options)(source.load), watch(cache)
    assert await together(cache, source, call, 2) == ["new", "new"]
    assert why_not_stored(events) == [reason]
    assert not of(Uncached, events), "it is told once"


async def test_a_result_without_a_round_trip_is_not_stored(cache: Cache) -> None:
    source = Source(datetime(2030, 1, 1))  # noqa: DTZ001 - plain JSON gives it back as text
    call, events = cache.cached(key="k", ttl=60)(source.load), watch(cache)
    await together(cache, source, call, 2)
    assert why_not_stored(events) == ["round trip"]
    assert not of(Uncached, events), "it is told once"


async def test_a_result_that_a_strict_function_refuses_is_told_once() -> None:
    cache = Cache("memory://")
    events = watch(cache)

    @cache.cached(key="k", ttl=60, strict=True)
    async def one() -> list[int]:
        return (1,)  # type: ignore[return-value]

    with pytest.raises(RoundTripError):
        await one()
    assert why_not_stored(events) == ["round trip"]
    assert not of(LoadFailed, events), "the function has returned"
    assert outcomes(events) == ["miss"]


async def test_a_result_that_is_too_large_is_not_stored(cache: Cache) -> None:
    call, events = cache.cached(key="k", ttl=60, max_bytes=10)(Source("x" * 20).load), watch(cache)
    await call()
    assert why_not_stored(events) == ["size"]


@pytest.mark.parametrize("tags", [[], ["t"]], ids=["plain", "tags"])
@pytest.mark.parametrize("of_this_process", [True, False], ids=["here", "elsewhere"])
async def test_a_load_that_was_voided_is_not_stored(store_url: str, of_this_process: bool, tags: list[str]) -> None:
    source = Source()
    async with two_caches(store_url) as (here, elsewhere):
        call, events = here.cached(key="k", ttl=60, tags=tags)(source.load), watch(here)
        source.open.clear()
        loading = asyncio.create_task(call())
        await source.began.wait()
        await (here if of_this_process else elsewhere).delete("k")
        source.open.set()
        await loading
        assert why_not_stored(events) == ["void"]
        assert not of(Filled, events)


async def test_a_result_is_not_stored_when_the_store_fails() -> None:
    store, source = FailingStore(), Source()
    async with Cache(store) as cache:
        call, events = cache.cached(key="k", ttl=60)(source.load), watch(cache)
        store.fail()
        await call()
        assert why_not_stored(events) == ["store"], "no lease"
        store.recover()
        await until(lambda: cache.healthy, call)
        await call.invalidate()
        del events[:]
        source.open.clear()
        source.began.clear()
        loading = asyncio.create_task(call())
        await source.began.wait()
        store.fail()
        source.open.set()
        await loading
        assert why_not_stored(events) == ["store"], "no fill"
        store.recover()


async def test_a_load_inside_a_load_of_its_own_key_is_not_stored() -> None:
    cache = Cache("memory://")
    events = watch(cache)

    @cache.cached(key="k", ttl=60)
    async def deep(left: int) -> int:
        return await deep(left - 1) if left else 0

    await deep(1)
    assert why_not_stored(events) == ["lease"]
    assert len(of(Filled, events)) == 1


async def test_a_result_whose_tags_were_not_known_is_not_stored(cache: Cache) -> None:
    events = watch(cache)

    @cache.cached(key="k", ttl=60, tags=["author:<return>"])
    async def author() -> int:
        return 7

    await author()
    assert why_not_stored(events) == ["tags"]
    await author()
    assert why_not_stored(events) == ["tags"]
    assert len(of(Filled, events)) == 1


async def test_a_private_result_that_cannot_be_sealed_is_not_stored() -> None:
    keys = [new_key()]
    cache = memory_cache(keys=lambda: keys)
    events = watch(cache)

    @cache.cached(key="k", ttl=60, private=True)
    async def secret() -> str:
        return "secret"

    keys[0] = "no key any more"
    await secret()
    assert why_not_stored(events) == ["seal"]


# --- batches, puts, and loads in the background -------------------------------------------------------

with_and_without_tags = pytest.mark.parametrize("tags", [(), ("all", "of:<user_id>")], ids=["", "tags"])


@with_and_without_tags
async def test_a_batch_tells_of_each_key_what_a_single_call_tells(cache: Cache, tags: Sequence[str]) -> None:
    events, error = watch(cache), list[Exception]()

    @cache.cached_many(key="user:<user_id>", each="user_ids", ttl=60, tags=tags, when=lambda name: name != "b")
    async def users(user_ids: Sequence[str]) -> Mapping[str, str]:
        if error:
            raise error[0]
        return {user_id: user_id for user_id in user_ids}

    name = f"{__name__}.{users.__qualname__}"
    await users(["a", "b"])
    assert of(LoadBegan, events) == [LoadBegan(("user:a", "user:b"), "")], "the function runs once"
    assert of(NotStored, events) == [NotStored("user:b", "", "when")]
    assert outcomes(events) == ["miss", "miss"]
    del events[:]
    error.append(DOWN)
    with pytest.raises(ConnectionError):
        await users(["a", "b", "c"])
    assert of(LoadFailed, events) == [LoadFailed(f"user:{x}", "", "ConnectionError", raised=True) for x in "bc"]
    assert sorted(outcomes(events)) == ["failed", "failed", "hit"]
    error.clear()
    async with cache.after_commit():
        await cache.delete("user:a")
        await users(["a"])
    assert of(Bypassed, events) == [Bypassed("user:a", "")]
    assert {event.function for event in events if not isinstance(event, Invalidated)} == {name}


@with_and_without_tags
async def test_calls_of_a_batch_that_share_a_load_are_told(cache: Cache, tags: Sequence[str]) -> None:
    events, go_on, entered = watch(cache), asyncio.Event(), asyncio.Event()

    @cache.cached_many(key="user:<user_id>", each="user_ids", ttl=60, tags=tags)
    async def users(user_ids: Sequence[str]) -> Mapping[str, str]:
        entered.set()
        await go_on.wait()
        return {user_id: user_id for user_id in user_ids}

    first = asyncio.create_task(users(["a", "b"]))
    await entered.wait()
    second = asyncio.create_task(users(["a", "b", "c"]))
    await until(lambda: len(of(LoadBegan, events)) == 2)
    go_on.set()
    await asyncio.gather(first, second)
    assert of(Shared, events) == [Shared("user:a", "", 0.0), Shared("user:b", "", 0.0)]
    assert sorted(outcomes(events)) == ["miss"] * 3 + ["shared"] * 2


@with_and_without_tags
async def test_a_batch_that_is_cancelled_tells_of_each_key(cache: Cache, tags: Sequence[str]) -> None:
    events, entered = watch(cache), asyncio.Event()

    @cache.cached_many(key="user:<user_id>", each="user_ids", ttl=60, tags=tags)
    async def users(user_ids: Sequence[str]) -> Mapping[str, str]:
        entered.set()
        await asyncio.Event().wait()
        return {}

    loading = asyncio.create_task(users(["a", "b"]))
    await entered.wait()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert of(LoadCancelled, events) == [LoadCancelled("user:a", "", 0.0), LoadCancelled("user:b", "", 0.0)]


@pytest.mark.parametrize("tags", [(), ("all",)], ids=["", "tags"])
async def test_values_in_hand_are_told_as_loaded_ones(cache: Cache, source: Source, tags: Sequence[str]) -> None:
    call = cache.cached(key="k", ttl=60, when=lambda value: value != "no", tags=tags)(source.load)
    events = watch(cache)
    await call.set("value")
    await call.set("no")
    async with call.writing() as write:
        write("value")
    async with call.writing() as write:
        write("no")
    async with call.writing() as write:
        write("value")
        await cache.delete("k")
    async with cache.after_commit():
        await cache.delete("k")
        await call.set("value")
    assert of(Filled, events) == [Filled("k", "", 60)] * 3
    assert why_not_stored(events) == ["when", "when", "void"]


async def test_an_invalidation_of_everything_names_the_function_of_the_values(cache: Cache) -> None:
    @cache.cached(key="user:<user_id>", ttl=60, tags=True)
    async def user(user_id: str) -> str:
        return user_id

    @user.many()
    async def users(user_ids: Sequence[str]) -> Mapping[str, str]:
        return {user_id: user_id for user_id in user_ids}

    events = watch(cache)
    assert await user.invalidate_all()
    assert await users.invalidate_all()
    name = f"{__name__}.{user.__qualname__}"
    assert [event.function for event in events if isinstance(event, Invalidated)] == [name, name]


async def test_a_value_by_hand_that_is_not_stored_says_why(cache: Cache) -> None:
    events = watch(cache)
    assert not await cache.set("k", {1: 2}, ttl=60)
    assert [event for event in events if isinstance(event, NotStored)] == [NotStored("k", "cache.set", "round trip")]


async def test_a_load_in_the_background_is_told_as_one(cache: Cache, source: Source) -> None:
    call = cache.cached(key="k", ttl=60, stale_while_revalidate=60, retry_after=0.001)(source.load)
    await put(cache, "k", "old", left=-1, stale=60)
    events = watch(cache)
    assert await call() == "old"
    await until(lambda: of(Filled, events))
    assert [event.by for event in events if isinstance(event, LoadBegan | Loaded)] == ["background"] * 2
    assert outcomes(events) == ["stale"], "nobody called for it"
    await put(cache, "k", "old", left=-1, stale=60)
    source.error = DOWN
    await until(lambda: of(LoadFailed, events), call)
    assert of(LoadFailed, events)[0] == LoadFailed("k", "", "ConnectionError", by="background")


async def test_a_refresh_inside_a_block_tells_its_load_and_what_became_of_it(cache: Cache, source: Source) -> None:
    call, events = cache.cached(key="k", ttl=60)(source.load), watch(cache)
    async with cache.after_commit():
        await cache.delete("k")
        await call.refresh()
    assert of(LoadBegan, events) == [LoadBegan(("k",), "", "refresh")]
    assert of(Filled, events) == [Filled("k", "", 60)]
    del events[:]
    source.error = DOWN
    async with cache.after_commit():
        await cache.delete("k")
        with pytest.raises(ConnectionError):
            await call.refresh()
    assert of(LoadFailed, events) == [LoadFailed("k", "", "ConnectionError", by="refresh", raised=True)]


# --- observers ----------------------------------------------------------------------------------------


async def test_an_observer_hears_of_a_load_in_the_context_in_which_the_function_runs() -> None:
    """So that it can set a context variable for it, such as the span that is current."""
    from contextvars import ContextVar

    var, seen = ContextVar("var", default=""), list[str]()
    cache = Cache("memory://")

    def observe(event: Event) -> None:
        if isinstance(event, LoadBegan):
            var.set("inside")
        if isinstance(event, Loaded):
            seen.append(var.get())
            var.set("after")

    cache.observe(observe)

    @cache.cached(key="k", ttl=60)
    async def load() -> str:
        return var.get()

    async def call(function: Callable[[], Awaitable[str]]) -> tuple[str, str]:
        return await function(), var.get()

    assert await call(load) == ("inside", "after")
    assert seen == ["inside"]
