"""Caches that are off: calls run undecorated, nothing is logged, and nothing of it is left afterwards."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from cachekit import (
    MISS,
    Cache,
    ConfigurationError,
    SnapshotStore,
    Warmed,
    cached,
    configure,
    default_cache,
    invalidates,
    new_key,
    using,
)
from cachekit._flow.caches import VARIABLE
from cachekit.events import Event
from cachekit.testing import FailingStore, disabled, memory_cache

Runs = list[object]
Decorate = Callable[[Cache, Runs], Callable[[int], Awaitable[object]]]


class Unequal:
    """A value that does not come back from JSON."""


def plain(cache: Cache, runs: Runs) -> Callable[[int], Awaitable[object]]:
    @cache.cached(key="plain:<x>", ttl=60)
    async def function(x: int) -> int:
        runs.append(x)
        await asyncio.sleep(0)
        return x

    return function


def by_name(cache: Cache, runs: Runs) -> Callable[[int], Awaitable[object]]:
    @cache.cached(key="name:<x>", ttl=60)
    async def function(*, x: int) -> int:
        runs.append(x)
        await asyncio.sleep(0)
        return x

    return lambda x: function(x=x)


def without_key(cache: Cache, runs: Runs) -> Callable[[int], Awaitable[object]]:
    @cache.cached(key="object:<request>", ttl=60)
    async def function(request: object, x: int) -> int:
        runs.append(x)
        await asyncio.sleep(0)
        return x

    return lambda x: function(object(), x)


def strict(cache: Cache, runs: Runs) -> Callable[[int], Awaitable[object]]:
    @cache.cached(key="strict:<x>", ttl=60, strict=True)
    async def function(x: int) -> Any:
        runs.append(x)
        await asyncio.sleep(0)
        return Unequal()

    return function


def tagged(cache: Cache, runs: Runs) -> Callable[[int], Awaitable[object]]:
    @cache.cached(key="tagged:<x>", ttl=60, tags=["all"])
    async def function(x: int) -> int:
        runs.append(x)
        await asyncio.sleep(0)
        return x

    return function


def strict_with_tags(cache: Cache, runs: Runs) -> Callable[[int], Awaitable[object]]:
    @cache.cached(key="tagged:<x>", ttl=60, tags=["all"], strict=True)
    async def function(x: int) -> Any:
        runs.append(x)
        await asyncio.sleep(0)
        return Unequal()

    return function


def strict_many(cache: Cache, runs: Runs) -> Callable[[int], Awaitable[object]]:
    @cache.cached_many(key="many:<x>", each="xs", ttl=60, strict=True)
    async def function(xs: Sequence[int]) -> Mapping[int, Any]:
        runs.extend(xs)
        await asyncio.sleep(0)
        return {x: Unequal() for x in xs}

    return lambda x: function([x])


def stale(cache: Cache, runs: Runs) -> Callable[[int], Awaitable[object]]:
    @cache.cached(key="stale:<x>", ttl=60, stale_if_error="1h", refresh_ahead="auto", near=True)
    async def function(x: int) -> int:
        runs.append(x)
        await asyncio.sleep(0)
        return x

    return function


def refreshed(cache: Cache, runs: Runs) -> Callable[[int], Awaitable[object]]:
    @cache.cached(key="refreshed:<x>", ttl=60, strict=True)
    async def function(x: int) -> Any:
        runs.append(x)
        await asyncio.sleep(0)
        return Unequal()

    return function.refresh


def refreshed_with_tags(cache: Cache, runs: Runs) -> Callable[[int], Awaitable[object]]:
    @cache.cached(key="tagged:<x>", ttl=60, tags=["all"], strict=True)
    async def function(x: int) -> Any:
        runs.append(x)
        await asyncio.sleep(0)
        return Unequal()

    return function.refresh


def many(cache: Cache, runs: Runs) -> Callable[[int], Awaitable[object]]:
    @cache.cached_many(key="many:<x>", each="xs", ttl=60)
    async def function(xs: Sequence[int]) -> Mapping[int, int]:
        runs.extend(xs)
        await asyncio.sleep(0)
        return {x: x for x in xs}

    return lambda x: function([x])


def many_with_tags(cache: Cache, runs: Runs) -> Callable[[int], Awaitable[object]]:
    @cache.cached_many(key="many:<x>", each="xs", ttl=60, tags=["all", "one:<x>"], strict=True)
    async def function(xs: Sequence[int]) -> Mapping[int, Any]:
        runs.extend(xs)
        await asyncio.sleep(0)
        return {x: Unequal() for x in xs}

    return lambda x: function([x])


def invalidating(cache: Cache, runs: Runs) -> Callable[[int], Awaitable[object]]:
    @cache.invalidates("plain:<x>", tags=["all"], around=True)
    async def function(x: int) -> int:
        runs.append(x)
        await asyncio.sleep(0)
        return x

    return function


def putting(cache: Cache, runs: Runs) -> Callable[[int], Awaitable[object]]:
    @cache.cached(key="put:<x>", ttl=60, strict=True)
    async def one(x: int) -> Any: ...

    @one.puts
    async def function(x: int) -> Any:
        runs.append(x)
        await asyncio.sleep(0)
        return Unequal()

    return function


def putting_with_tags(cache: Cache, runs: Runs) -> Callable[[int], Awaitable[object]]:
    @cache.cached(key="put:<x>", ttl=60, tags=["all"], strict=True)
    async def one(x: int) -> Any: ...

    @one.puts
    async def function(x: int) -> Any:
        runs.append(x)
        await asyncio.sleep(0)
        return Unequal()

    return function


KINDS: list[Decorate] = [
    plain,
    by_name,
    without_key,
    strict,
    strict_with_tags,
    strict_many,
    tagged,
    stale,
    refreshed,
    refreshed_with_tags,
    many,
    many_with_tags,
    invalidating,
    putting,
    putting_with_tags,
]
each_kind = pytest.mark.parametrize("decorate", KINDS, ids=lambda kind: kind.__name__)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Records of cachekit at any level, as the test goes on."""
    caplog.set_level(logging.DEBUG, "cachekit")
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("cachekit").addHandler(handler)
    yield messages
    logging.getLogger("cachekit").removeHandler(handler)


@each_kind
async def test_each_call_runs_the_function_and_asks_observes_and_logs_nothing(
    decorate: Decorate, log: list[str]
) -> None:
    store, runs, events = FailingStore(), Runs(), list[Event]()
    cache = Cache(store)
    cache.observe(events.append)
    call = decorate(cache, runs)
    store.fail()
    with disabled():
        for _ in range(3):
            await call(7)
        await asyncio.gather(call(7), call(7))
        assert cache.healthy
    assert runs == [7] * 5
    assert (log, events, cache.healthy, len(store)) == ([], [], True, 0)


@each_kind
async def test_the_cache_is_as_it_was_when_the_block_ends(decorate: Decorate) -> None:
    cache, runs, others = memory_cache(), Runs(), Runs()
    call, value = decorate(cache, runs), plain(cache, others)
    await value(1)
    with disabled():
        await call(7)
    await value(1)
    assert others == [1]
    runs.clear()
    if decorate in {plain, by_name, tagged, stale, many}:
        await call(7)
        await call(7)
        assert runs == [7]


async def test_an_exception_of_the_function_passes_as_it_is() -> None:
    cache = memory_cache()
    error = LookupError("of the function")

    @cache.cached(key="k", ttl=60, stale_if_error="1h")
    async def failing() -> int:
        raise error

    with disabled(), pytest.raises(LookupError) as raised:
        await failing()
    assert raised.value is error


async def test_helpers_find_and_store_nothing_and_removals_are_acknowledged(log: list[str]) -> None:
    cache = memory_cache(prefix="app:")

    @cache.cached(key="k:<x>", ttl=60, tags=True)
    async def function(x: int) -> int:
        return x

    @cache.cached(key="one:<x>", ttl=60, strict=True)
    async def untagged(x: int) -> int:
        return x

    @cache.cached(key="warmed:<x>", ttl=60)
    async def warmed(x: int) -> int:
        raise AssertionError

    await function(1)
    await untagged(1)
    with disabled():
        assert function.key(1) == "k:1"
        assert [await function.peek(1), await function.take(1), await function.ttl(1)] == [MISS, MISS, None]
        assert [await untagged.peek(1), await untagged.take(1), await untagged.ttl(1)] == [MISS, MISS, None]
        assert [await untagged.set(2, 1), await untagged.touch(1, 60), await untagged.expire(1)] == [False, False, True]
        assert [await function.invalidate(1), await function.invalidate_all()] == [True, True]
        async with untagged.writing(1) as put, function.writing(1) as put_with_tags:
            assert [put(3), put_with_tags(3), await function.set(2, 3)] == [3, 3, False]
        assert await warmed.warm([(1,), (2,)]) == Warmed(0, 0, 0, 0)
        assert [await cache.get("k:1", "none"), await cache.take("k:1", "none")] == ["none", "none"]
        assert [await cache.set("k", object(), 60), await cache.set("k", 1, 60)] == [False, False]
        assert [await cache.get_many(["k:1"]), await cache.set_many({"k": 1}, 60)] == [{}, False]
        assert [await cache.delete("k"), await cache.erase("k"), await cache.delete_many(["k"])] == [True, True, True]
        assert [await cache.invalidate_tags("a"), await cache.clear(), await cache.touch("k", 60)] == [
            True,
            True,
            False,
        ]
        async with cache.after_commit():
            assert await function(1) == 1
    assert log == []
    assert await function.peek(1) == await untagged.peek(1) == 1


async def test_snapshots_are_neither_kept_nor_found() -> None:
    store = SnapshotStore(memory_cache())
    assert await store.save_snapshot(1, "before", 1)
    with disabled():
        assert not await store.save_snapshot(1, "inside", 1)
        assert await store.get_recent_snapshots(1) == []
        assert await store.forget(1)
    assert [snapshot.text for snapshot in await store.get_recent_snapshots(1)] == ["before"]


async def test_snapshots_of_a_store_that_is_made_inside_are_sealed_afterwards() -> None:
    cache = memory_cache(keys=[new_key()])
    with disabled():
        store = SnapshotStore(cache)
    await store.save_snapshot(1, "zebras", 1)
    window = await cache.runtime.coherence.window("snapshots:1", 1, cache.runtime.budget())
    assert b"zebras" not in window.items[0]  # type: ignore[union-attr]


async def test_private_functions_need_no_keys() -> None:
    cache = memory_cache(keys=None)
    with disabled():

        @cache.cached(key="private", ttl=60, private=True)
        async def private() -> int:
            return 1

        assert await private() == 1
    with pytest.raises(ConfigurationError, match="needs a cache with keys"):
        await private()


@cached(key="default:<x>", ttl=60)
async def of_the_default(x: int) -> int:
    RUNS.append(x)
    return x


@invalidates("default:<x>")
async def change(x: int) -> None: ...


RUNS: Runs = []


async def test_the_default_cache_is_off_too_and_so_are_caches_that_are_made_inside() -> None:
    RUNS.clear()
    with disabled():
        configure("redis://localhost:1")
        for cache in (default_cache(), memory_cache(), memory_cache().scoped("tenant:")):
            with using(cache):
                await of_the_default(1)
                await of_the_default(1)
                await change(1)
        assert default_cache().healthy
    assert len(RUNS) == 6


async def test_blocks_nest() -> None:
    cache, runs = memory_cache(), Runs()
    call = plain(cache, runs)
    with disabled():
        with disabled():
            await call(1)
        await call(1)
    await call(1)
    await call(1)
    assert len(runs) == 3


async def test_a_block_holds_in_every_thread() -> None:
    cache, runs = memory_cache(), Runs()
    call = plain(cache, runs)

    async def twice() -> None:
        await call(1)
        await call(1)

    thread = threading.Thread(target=lambda: asyncio.run(twice()))
    with disabled():
        thread.start()
        await asyncio.to_thread(thread.join)
    assert runs == [1, 1]


async def test_a_scope_is_off_and_on_with_the_others() -> None:
    scope, runs = memory_cache().scoped("tenant:"), Runs()
    call = plain(scope, runs)
    with disabled():
        await call(1)
    await call(1)
    await call(1)
    assert len(runs) == 2


def test_a_block_is_no_decorator_since_it_would_end_before_an_async_function_begins() -> None:
    with pytest.raises(TypeError, match=r"write it as `with` inside .*test_something"):

        @disabled()
        async def test_something() -> None: ...


@pytest.mark.parametrize("text", ["1", "true", "yes", "ON", "anything"])
async def test_the_environment_turns_caches_off_when_they_are_made(
    text: str, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    before, runs = memory_cache(), Runs()
    monkeypatch.setenv(VARIABLE, text)
    cache = Cache("redis://localhost:1")
    call = plain(cache, runs)
    await call(1)
    with disabled():
        await call(1)
    await call(1)
    assert runs == [1, 1, 1]
    assert (cache.healthy, log) == (True, [])
    assert await before.set("key", 1, ttl=60), "a cache that was made before goes on"


@pytest.mark.parametrize("text", ["", "0", "false", "No", "off", " "])
async def test_the_environment_may_say_that_caches_are_on(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert await memory_cache().set("key", 1, ttl=60)


def test_no_cache_is_kept_alive_to_be_turned_off() -> None:
    cache = memory_cache()
    alive = weakref.ref(cache)
    del cache
    assert alive() is None
