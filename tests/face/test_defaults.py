"""The cache of the module-level functions: looked up at the call, never at decoration."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from cachekit import (
    MISS,
    Cache,
    cache_delete,
    cache_get,
    cache_set,
    cached,
    configure,
    default_cache,
    functions,
    invalidates,
    using,
)
from cachekit._tiers.background import end
from cachekit.errors import ConfigurationError
from cachekit.stores import MemoryStore
from cachekit.testing import FakeClock, memory_cache

T = TypeVar("T")


@pytest.fixture(autouse=True)
def nothing_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CACHEKIT_URL", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)


@cached(key="who", ttl=60)
async def who() -> str:
    return "loaded"


@invalidates("who")
async def write() -> None: ...


def test_the_default_cache_is_the_local_redis_without_configuration() -> None:
    assert repr(default_cache()) == "Cache(RedisStore(redis://localhost:6379/0), prefix='')"
    assert default_cache() is default_cache()


@pytest.mark.parametrize(
    ("cachekit_url", "redis_url", "shown"),
    [
        ("memory://", "redis://other", "MemoryStore(maxsize=10000)"),
        ("", "redis://other:7/1", "RedisStore(redis://other:7/1)"),
    ],
)
def test_the_environment_names_the_store(
    monkeypatch: pytest.MonkeyPatch, cachekit_url: str, redis_url: str, shown: str
) -> None:
    monkeypatch.setenv("CACHEKIT_URL", cachekit_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    assert shown in repr(default_cache())


BAD_URLS = [
    ("CACHEKIT_URL", "redis://app:hunter2@localhost?tls=1", "unknown option 'tls'"),
    ("REDIS_URL", "valkey://app:hunter2@localhost", "unknown URL scheme 'valkey'"),
    ("REDIS_URL", "redis://app:hunter2@localhost?db=first", "db is 'first'"),
]


@pytest.mark.parametrize(("name", "url", "says"), BAD_URLS)
def test_a_url_of_the_environment_that_makes_no_sense_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str, says: str
) -> None:
    monkeypatch.setenv(name, url)
    for make in (configure, Cache, default_cache):
        with pytest.raises(ConfigurationError, match=f"{name}: {says}") as refusal:
            make()
        assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(("name", "url", "says"), BAD_URLS)
async def test_a_bad_url_of_the_environment_is_one_warning_at_the_first_call_and_no_error_of_a_call(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, url: str, says: str
) -> None:
    monkeypatch.setenv(name, url)
    caplog.set_level(logging.INFO)
    for _ in range(3):
        assert await who() == "loaded"
        await write()
        assert await who.refresh() == "loaded"
        assert await who.peek() is MISS
        assert await who.take() is MISS
        assert await cache_get("k") is None
        assert not await cache_set("k", 1, 60)
        assert not await cache_delete("k")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"{name}: {says}" in caplog.text
    assert "uncached until configure()" in caplog.text
    assert "hunter2" not in caplog.text
    with pytest.raises(ConfigurationError, match=name):
        default_cache()
    background = functions._default().runtime.background
    await end(*background._ending, *background._daemons)
    cache = configure("memory://")
    assert await who() == "loaded"
    assert await cache.get("who") == "loaded"


def test_configure_takes_a_url_a_store_or_a_cache() -> None:
    assert configure("memory://", prefix="a:") is default_cache()
    store = MemoryStore()
    assert repr(store) in repr(configure(store))
    cache = memory_cache()
    assert configure(cache) is cache is default_cache()


@pytest.mark.parametrize("settings", [{"prefix": "a:"}, {"timeout": 1.0}])
def test_settings_beside_a_cache_that_has_its_own_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="give them to the Cache"):
        configure(memory_cache(), **settings)


@pytest.mark.parametrize("url", ["postgres://localhost", "localhost", "redis://h/x", "redis://h?tls=1", 5, object()])
def test_a_url_that_makes_no_sense_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError):
        configure(url)
    with pytest.raises(ConfigurationError):
        Cache(url)


@pytest.mark.parametrize(
    "settings", [{"prefix": "a b"}, {"prefix": "{a}"}, {"prefix": 5}, {"timeout": 0}, {"timeout": "soon"}]
)
def test_settings_that_make_no_sense_are_refused_at_once(settings: dict[str, object]) -> None:
    (name,) = settings
    with pytest.raises(ConfigurationError, match=f"{name}="):
        Cache("memory://", **settings)  # type: ignore[arg-type]


async def test_a_decorated_function_follows_the_configuration_of_the_moment() -> None:
    first = configure("memory://")
    await who()
    assert await first.get("who") == "loaded"
    second = configure("memory://")
    assert await who.peek() is MISS
    await who()
    assert await second.get("who") == "loaded"


async def test_using_holds_inside_its_block_and_in_tasks_started_in_it() -> None:
    configure("memory://")
    inner = memory_cache()
    with using(inner) as cache:
        assert cache is inner is default_cache()
        await asyncio.create_task(cache_set("k", "inner", 60))
    assert await cache_get("k") is None
    assert await inner.get("k") == "inner"


@pytest.mark.parametrize("given", ["memory://", None, Cache], ids=["a URL", "None", "a class"])
def test_using_refuses_what_is_no_cache_at_once(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"using\(\) takes a Cache"):
        using(given).__enter__()


async def in_a_task(step: Callable[[], T]) -> T:
    """Do ``step`` in a context of its own, as frameworks do with the two halves of a fixture or a dependency."""

    async def do() -> T:
        return step()

    return await asyncio.create_task(do())


async def test_using_may_end_in_another_context_than_it_began_in(caplog: pytest.LogCaptureFixture) -> None:
    outer = configure("memory://")
    functions._warn_of_contexts.cache_clear()
    for _ in range(2):
        block = using(memory_cache())
        await in_a_task(block.__enter__)
        assert default_cache() is outer, "what a task sets is set in its context alone"
        await in_a_task(lambda block=block: block.__exit__(None, None, None))
        assert default_cache() is outer
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "async def" in caplog.text


async def test_using_that_ends_in_a_copy_of_its_context_ends_there(caplog: pytest.LogCaptureFixture) -> None:
    outer, middle = configure("memory://"), memory_cache()
    for around in (outer, middle):
        with using(middle) if around is middle else contextlib.nullcontext():
            context = contextvars.copy_context()
            block = using(memory_cache())
            inner = context.run(block.__enter__)
            elsewhere = context.copy()
            assert elsewhere.run(default_cache) is inner
            elsewhere.run(block.__exit__, None, None, None)
            assert elsewhere.run(default_cache) is around
            assert default_cache() is around
    assert not caplog.records


async def test_an_exception_passes_through_using_in_another_context() -> None:
    block = using(memory_cache())
    await in_a_task(block.__enter__)
    error = LookupError("of the block")
    assert not await in_a_task(lambda: block.__exit__(LookupError, error, None))


async def test_concurrent_contexts_each_see_their_own() -> None:
    async def request(number: int) -> object:
        with using(memory_cache()):
            await cache_set("k", number, 60)
            await asyncio.sleep(0)
            return await cache_get("k")

    assert await asyncio.gather(*[request(number) for number in range(10)]) == list(range(10))


async def test_the_helpers_and_invalidates_use_the_default_cache() -> None:
    configure("memory://")
    await who()
    await write()
    assert await who.peek() is MISS
    assert await cache_set("k", [1, {"a": None}], "10m")
    assert await cache_get("k") == [1, {"a": None}]
    assert await cache_delete("k")
    assert await cache_get("k") is None


async def test_a_helper_keeps_a_value_as_long_as_its_ttl() -> None:
    clock = FakeClock()
    with using(memory_cache(clock=clock)):
        await cache_set("k", 1, 60)
        clock.advance(59.9)
        assert await cache_get("k") == 1
        clock.advance(0.2)
        assert await cache_get("k") is None


async def test_take_by_hand_gives_the_value_once() -> None:
    cache = memory_cache()
    await cache.set("k", 1, ttl=60)
    assert [await cache.take("k"), await cache.take("k"), await cache.take("k", "gone")] == [1, None, "gone"]
    assert await cache.get("k", "default") == "default"


def test_one_decorated_function_serves_several_event_loops_and_threads(store_url: str) -> None:
    configure(store_url, timeout=5)
    results: list[str] = []

    def run() -> None:
        for _ in range(3):
            results.append(asyncio.run(who()))  # noqa: PERF401 - a loop of loops

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["loaded"] * 12
