"""`Cache.erase` leaves nothing at a key: no value, window or lease, no copy near, and nothing that was on its way."""

from __future__ import annotations

import asyncio
import logging

import pytest

from cachekit import MISS, Cache, SnapshotStore
from cachekit.events import Event, Invalidated
from cachekit.stores.memory import MemoryStore
from cachekit.testing import FailingStore
from tests.kit.cluster import RedisCluster
from tests.kit.servers import RedisServer
from tests.kit.telling import bare


async def fill_in(cache: Cache) -> None:
    assert await SnapshotStore(cache).save_snapshot("42", "a text", 2)
    assert await cache.set("profile:42", {"typos": 3}, ttl=600)
    assert await cache.set("profile:43", {"typos": 5}, ttl=600)


async def test_values_and_windows_of_these_keys_are_gone_and_no_others(store_url: str) -> None:
    async with Cache(store_url, prefix="app:", timeout=5) as cache:
        await fill_in(cache)
        assert await cache.erase("snapshots:42", "profile:42", "never:set")
        assert await SnapshotStore(cache).get_recent_snapshots("42") == []
        assert await cache.get("profile:42") is None
        assert await cache.get("profile:43") == {"typos": 5}


async def test_nothing_is_left_in_the_server(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, timeout=5) as cache:
        await fill_in(cache)
        await SnapshotStore(cache).get_snapshot_pair("42")
        assert await cache.erase("snapshots:42", "profile:42", "profile:43")
    assert redis_server.cli("KEYS", "*") == []


async def test_keys_of_several_masters_are_erased_and_each_has_acknowledged_it(shared_cluster: RedisCluster) -> None:
    async with Cache(shared_cluster.url, timeout=5) as cache:
        keys = [f"k:{number}" for number in range(30)]
        for key in keys:
            assert await cache.set(key, 1, ttl=60)
        assert await cache.erase(*keys)
        assert [await cache.get(key) for key in keys] == [None] * 30


async def test_a_load_that_is_under_way_brings_nothing_back() -> None:
    began, may_end = asyncio.Event(), asyncio.Event()
    async with Cache(MemoryStore()) as cache:

        @cache.cached(key="profile:<user_id>", ttl=600)
        async def profile(user_id: str) -> int:
            began.set()
            await may_end.wait()
            return 3

        loading = asyncio.create_task(profile("42"))
        await began.wait()
        assert await cache.erase("profile:42")
        may_end.set()
        assert await loading == 3
        assert await profile.peek("42") is MISS


async def test_a_near_copy_is_gone_at_once(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, timeout=5, near=10) as cache:

        @cache.cached(key="profile:<user_id>", ttl=600)
        async def profile(user_id: str) -> int:
            return 3

        for _ in range(50):
            await profile("42")
        assert await cache.erase("profile:42")
        assert await profile.peek("42") is MISS


async def test_an_erasure_that_the_store_did_not_acknowledge_holds_here_and_is_said_to_have_failed() -> None:
    failing = FailingStore()
    async with Cache(failing) as cache:
        await fill_in(cache)
        failing.fail()
        assert await cache.erase("snapshots:42", "profile:42") is False
        failing.recover()
        assert await SnapshotStore(cache).get_recent_snapshots("42") == []
        assert await cache.get("profile:42") is None


async def test_a_key_that_is_none_is_refused_and_the_others_are_erased(caplog: pytest.LogCaptureFixture) -> None:
    events: list[Event] = []
    async with Cache(MemoryStore()) as cache:
        await fill_in(cache)
        cache.observe(events.append)
        assert await cache.erase("profile:*", "profile:42", 7) is False  # type: ignore[arg-type]
        assert await cache.get("profile:42") is None
        assert await cache.get("profile:43") == {"typos": 5}
    assert [event for event in bare(events) if isinstance(event, Invalidated)] == [Invalidated(("profile:42",), True)]
    assert "cache.erase did nothing" in caplog.text


async def test_erasing_no_key_is_no_failure_and_asks_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with Cache("redis://127.0.0.1:1") as cache:
        assert await cache.erase()
    assert not caplog.records


async def test_inside_a_block_it_waits_for_the_commit() -> None:
    async with Cache(MemoryStore()) as cache:
        await fill_in(cache)
        async with cache.after_commit():
            assert await cache.erase("profile:42", "snapshots:42") is False
            assert await cache.get("profile:42") == {"typos": 3}
        assert await cache.get("profile:42") is None
        assert await SnapshotStore(cache).get_recent_snapshots("42") == []
