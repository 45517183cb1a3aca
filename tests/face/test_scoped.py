"""Scopes: another prefix on the connections of a cache, for the tenants of an application."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Mapping, Sequence
from contextvars import ContextVar

import pytest

from cachekit import MISS, Cache, ConfigurationError, RollingWindow, SnapshotStore, cached, invalidates, using
from cachekit._flow import runtime, scopes
from cachekit.events import Event, Filled, Hit, InvalidationsLost, Loaded, Missed
from cachekit.stores import open_store
from cachekit.testing import FailingStore, FakeClock, memory_cache
from tests.kit.servers import RedisServer
from tests.kit.waiting import PATIENCE, until

T = PATIENCE
TENANTS = [f"tenant-{number}:" for number in range(20)]


@cached(key="color:<name>", ttl=60)
async def color(name: str) -> list[str]:
    return [name, CURRENT[-1]]


@invalidates("color:<name>")
async def paint(name: str) -> None: ...


CURRENT = ["nobody"]


async def test_tenants_have_values_of_their_own_at_their_prefixes(store_url: str) -> None:
    async with Cache(store_url, prefix="app:", timeout=T) as cache:
        for tenant in TENANTS:
            CURRENT.append(tenant)
            with using(cache.scoped(tenant)):
                await color("wall")
        CURRENT.append("nobody")
        for tenant in TENANTS:
            with using(cache.scoped(tenant)):
                assert await color("wall") == ["wall", tenant]
        assert await cache.get(f"{TENANTS[3]}color:wall") == ["wall", TENANTS[3]]
        with using(cache.scoped(TENANTS[3])):
            await paint("wall")
            assert await color("wall") == ["wall", "nobody"]
        with using(cache.scoped(TENANTS[4])):
            assert await color("wall") == ["wall", TENANTS[4]]


async def test_all_tenants_share_one_connection_and_one_feed(redis_server: RedisServer) -> None:
    before = redis_server.cli("INFO", "clients")["connected_clients"]
    async with Cache(redis_server.url, prefix="app:", near=1000, timeout=T) as cache:
        for tenant in TENANTS:
            with using(cache.scoped(tenant)):
                await color("wall")
        await until(lambda: redis_server.cli("INFO", "clients")["connected_clients"] - before == 2)


async def test_near_values_of_tenants_are_apart_and_follow_changes_from_outside(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, prefix="app:", near=1000, timeout=T) as cache:
        one, other = cache.scoped("one:"), cache.scoped("other:")
        events: list[Event] = []
        cache.observe(events.append)

        async def near_hit(scope: Cache) -> bool:
            events.clear()
            with using(scope):
                await color("wall")
            return any(isinstance(event, Hit) and event.near for event in events)

        for scope, name in ((one, "one"), (other, "other")):
            CURRENT.append(name)
            hits: list[bool] = []

            async def look(scope: Cache = scope, hits: list[bool] = hits) -> None:
                hits.append(await near_hit(scope))

            await until(lambda hits=hits: hits[-1], look)
        with using(one):
            assert await color("wall") == ["wall", "one"]
        with using(other):
            assert await color("wall") == ["wall", "other"]
        redis_server.cli("SET", "app:one:color:wall", '["from","outside"]')
        seen: list[list[str]] = []

        async def read() -> None:
            with using(one):
                seen.append(await color("wall"))

        await until(lambda: seen[-1] == ["from", "outside"], read)
        await other.delete("color:wall")
        assert await other.get("color:wall") is None
        assert not await near_hit(other)


async def test_near_values_of_tenants_share_one_bound(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, near=5, timeout=T) as cache:
        events: list[Event] = []
        cache.observe(events.append)
        hits = 0

        async def round_of_all() -> None:
            nonlocal hits
            events.clear()
            for tenant in TENANTS:
                with using(cache.scoped(tenant)):
                    await color("wall")
                    await color("wall")
            hits = sum(isinstance(event, Hit) and event.near for event in events)

        await until(lambda: hits, round_of_all)
        near = cache.runtime.coherence.near
        assert near is not None
        [state] = near._loops.all()
        assert sum(f"{tenant}color:wall" in state.entries for tenant in TENANTS) <= 5


async def test_windows_and_snapshots_of_a_scope_are_its_own() -> None:
    cache = memory_cache(prefix="app:")
    one, other = SnapshotStore(cache.scoped("one:")), SnapshotStore(cache.scoped("other:"))
    await one.save_snapshot(7, "a text", 2)
    assert [len(await store.get_recent_snapshots(7)) for store in (one, other)] == [1, 0]
    assert len(await RollingWindow(cache, "one:snapshots:7", limit=5, ttl=60).recent(5)) == 1


async def test_clearing_a_scope_leaves_the_others(store_url: str) -> None:
    # Without a prefix the cache itself must not be cleared.
    async with Cache(store_url, timeout=T) as cache:
        one, other = cache.scoped("one:"), cache.scoped("other:")
        for part in (cache, one, other):
            await part.set("key", 1, ttl=60)
        assert await one.clear()
        assert [await part.get("key") for part in (cache, one, other)] == [1, None, 1]


async def test_tags_of_a_scope_are_its_own(store_url: str) -> None:
    async with Cache(store_url, timeout=T) as cache:
        runs = 0
        parts = [cache, cache.scoped("one:"), cache.scoped("other:")]

        @cached(key="key", ttl=60, tags=["all"], near=True)
        async def function() -> int:
            nonlocal runs
            runs += 1
            return runs

        async def each() -> list[int]:
            found = []
            for part in parts:
                with using(part):
                    found.append(await function())
            return found

        assert await each() == await each() == [1, 2, 3]
        assert await parts[1].invalidate_tags("all")
        assert await each() == [1, 4, 3]


async def test_batches_and_values_in_hand_with_tags_belong_to_their_scope(store_url: str) -> None:
    loads: list[list[int]] = []

    @cached(key="user:<x>", ttl=60, tags=["of:<x>", True], near=True)
    async def user(x: int) -> str:
        raise AssertionError

    @user.many()
    async def users(xs: Sequence[int]) -> Mapping[int, str]:
        loads.append([*xs])
        return dict.fromkeys(xs, "loaded")

    async with Cache(store_url, prefix="app:", timeout=T) as cache:
        one, other = cache.scoped("one:"), cache.scoped("other:")
        for part in (one, one, other, other):
            with using(part):
                assert await users([1, 2]) == {1: "loaded", 2: "loaded"}
        assert loads == [[1, 2], [1, 2]]
        with using(one):
            assert await one.invalidate_tags("of:1")
            await users([1, 2])
            assert loads == [[1, 2], [1, 2], [1]]
            assert await user.set("set", 1)
            assert await users([1, 2]) == {1: "set", 2: "loaded"}
        with using(other):
            assert await users([1, 2]) == {1: "loaded", 2: "loaded"}
            assert await user.invalidate_all()
            assert await user.peek(1) is MISS
        with using(one):
            assert await users([1, 2]) == {1: "set", 2: "loaded"}


async def test_a_load_in_the_background_belongs_to_the_scope_and_the_context_of_its_call() -> None:
    clock = FakeClock()
    tenant: ContextVar[str] = ContextVar("tenant")

    @cached(key="inner", ttl=60)
    async def inner() -> str:
        return tenant.get()

    @cached(key="outer", ttl=1, stale_while_revalidate=60)
    async def outer() -> str:
        return f"{await inner()} for {tenant.get()}"

    async with memory_cache(clock=clock) as cache:
        for name in ("one", "other"):
            tenant.set(name)
            with using(cache.scoped(f"{name}:")):
                await outer()
                await inner.invalidate()
        clock.advance(2)
        for name in ("one", "other"):
            tenant.set(name)
            with using(cache.scoped(f"{name}:")):
                await outer()
        tenant.set("nobody")
        await until(lambda: not cache.loading_in_background)
        for name in ("one", "other"):
            with using(cache.scoped(f"{name}:")):
                assert [await inner.peek(), await outer.peek()] == [name, f"{name} for {name}"]


async def test_a_function_on_an_explicit_cache_has_one_value_for_all_scopes() -> None:
    cache = memory_cache()

    @cache.cached(key="rate", ttl=60)
    async def rate() -> str:
        return CURRENT[-1]

    CURRENT.append("one")
    with using(cache.scoped("one:")):
        assert await rate() == "one"
    CURRENT.append("nobody")
    with using(cache.scoped("other:")):
        assert await rate() == "one"


async def test_the_same_prefix_gives_the_same_object_and_scopes_have_scopes() -> None:
    cache = memory_cache(prefix="app:")
    team = cache.scoped("tenant:").scoped("team:")
    assert team is cache.scoped("tenant:team:")
    assert repr(team) == "Cache(MemoryStore(maxsize=10000), prefix='app:tenant:team:')"
    await team.set("key", 1, ttl=60)
    assert await cache.get("tenant:team:key") == 1


async def test_a_load_of_one_request_is_shared_by_another_of_the_same_tenant() -> None:
    cache, go_on, runs = memory_cache(), asyncio.Event(), 0

    @cached(key="slow", ttl=60)
    async def slow() -> int:
        nonlocal runs
        runs += 1
        await go_on.wait()
        return runs

    async def request(tenant: str) -> int:
        with using(cache.scoped(tenant)):
            return await slow()

    calls = [asyncio.create_task(request(tenant)) for tenant in ("one:", "one:", "other:")]
    while runs < 2:
        await asyncio.sleep(0)
    go_on.set()
    assert len(await asyncio.gather(*calls)) == 3
    assert runs == 2


async def test_an_invalidation_that_did_not_reach_the_store_holds_for_the_next_request_of_the_tenant() -> None:
    store = FailingStore()
    cache = Cache(store)
    CURRENT.append("before")
    with using(cache.scoped("one:")):
        await color("wall")
        with store.failing():
            assert not await color.invalidate("wall")
            CURRENT.append("after")
            # As many tenants as are kept come in between.
            for number in range(scopes.MOST + 10):
                cache.scoped(f"passing-{number}:")
    gc.collect()
    with using(cache.scoped("one:")):
        assert await color("wall") == ["wall", "after"]
    await cache.aclose()


async def test_closing_the_cache_sends_the_invalidations_of_its_scopes() -> None:
    store = FailingStore()
    cache, reader = Cache(store), Cache(store)
    await cache.scoped("one:").set("key", 1, ttl=60)
    with store.failing():
        assert not await cache.scoped("one:").delete("key")
    await cache.aclose()
    assert await reader.get("one:key") is None


async def test_invalidations_of_scopes_that_do_not_reach_the_store_are_told_when_the_cache_is_closed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "DRAIN", 0.01)
    store = FailingStore()
    cache = Cache(store)
    store.fail()
    lost: list[Event] = []
    cache.observe(lost.append)
    for scope in ("one:", "other:"):
        await cache.scoped(scope).delete("key")
    await cache.aclose()
    assert caplog.text.count("the cache is closed with") == 1
    assert "the cache is closed with 2 invalidations" in caplog.text
    assert [event.count for event in lost if isinstance(event, InvalidationsLost)] == [2]


def test_scopes_that_nobody_needs_leave() -> None:
    cache = memory_cache()
    first = weakref.ref(cache.scoped("first:"))
    held = cache.scoped("held:")
    assert first() is not None
    for number in range(scopes.MOST):
        cache.scoped(f"passing-{number}:")
    gc.collect()
    assert first() is None
    assert cache.scoped("held:") is held


async def test_a_scope_whose_invalidations_wait_is_kept_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scopes, "MOST", 2)
    store = FailingStore()
    async with Cache(store) as cache:
        for number in range(4):
            await cache.scoped(f"{number}:").set("key", "old", ttl=60)
        store.fail()
        for number in range(4):
            assert not await cache.scoped(f"{number}:").delete("key")
        gc.collect()
        store.recover()
        assert [await cache.scoped(f"{number}:").get("key") for number in range(4)] == [None] * 4


@pytest.mark.usefixtures("usual_quiet")
async def test_an_outage_is_one_incident_for_all_tenants(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cachekit")
    store = FailingStore(clock=(clock := FakeClock()))
    cache = Cache(store, clock=clock)
    store.fail()
    for tenant in TENANTS:
        with using(cache.scoped(tenant)):
            await color("wall")
        assert not cache.scoped(tenant).healthy
    assert not cache.healthy
    store.recover()
    clock.advance(1)
    with using(cache.scoped(TENANTS[0])):
        await color("wall")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert cache.healthy
    assert cache.scoped(TENANTS[1]).healthy


async def test_events_of_a_scope_go_to_the_observers_of_its_cache() -> None:
    cache = memory_cache()
    events: list[Event] = []
    stop = cache.scoped("one:").observe(events.append)
    with using(cache.scoped("other:")):
        await color("wall")
    assert {*map(type, events)} >= {Missed, Loaded, Filled}
    stop()


async def test_a_scope_is_closed_with_its_cache(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, timeout=T) as cache:
        async with cache.scoped("one:") as scope:
            await scope.set("key", 1, ttl=60)
        assert await scope.get("key") == 1
        lane = cache._store.connection("key")  # type: ignore[attr-defined]
        await scope.aclose()
        assert cache._store.connection("key") is lane  # type: ignore[attr-defined]


def test_a_cache_that_nobody_holds_goes_at_once_and_no_collection_is_needed() -> None:
    gc.disable()
    try:
        cache = Cache("redis://localhost:1")
        alive = weakref.ref(cache)
        del cache
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("tenant-7", r'does not tell where the prefix ends; write scoped\("tenant-7:"\)'),
        ("", r'write scoped\("tenant-7:"\)'),
        (7, r'write scoped\("tenant-7:"\)'),
        ("tenant 7:", "cannot stand before a key"),
        ("{tenant}:", "cannot stand before a key"),
    ],
)
def test_a_prefix_that_could_be_taken_for_another_is_refused(prefix: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        memory_cache().scoped(prefix)


async def test_caches_on_one_open_store_share_its_connection(redis_server: RedisServer) -> None:
    before = redis_server.cli("INFO", "clients")["connected_clients"]
    store = open_store(redis_server.url)
    users, orders = Cache(store, prefix="users:", timeout=T), Cache(store, prefix="orders:", timeout=T)
    assert await users.set("1", "Ada", ttl=60)
    assert await orders.set("1", "tea", ttl=60)
    assert (redis_server.cli("GET", "users:1"), redis_server.cli("GET", "orders:1")) == (b'"Ada"', b'"tea"')
    assert redis_server.cli("INFO", "clients")["connected_clients"] - before == 1
    await users.aclose()


def test_a_store_is_opened_at_the_url_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_URL", "redis://elsewhere:7/1")
    assert repr(open_store()) == "RedisStore(redis://elsewhere:7/1)"
