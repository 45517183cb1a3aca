"""Snapshots keep their promises wherever they are: in memory, on one server, in a cluster and behind Sentinels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import pytest
import pytest_asyncio

from cachekit import Cache, SnapshotStore
from cachekit.clock import SystemClock
from cachekit.config import DAY
from cachekit.stores import Store
from cachekit.stores.base import TimedStore
from cachekit.stores.connect import open_store
from cachekit.testing import FakeClock
from tests.kit.binaries import first_server
from tests.kit.cluster import RedisCluster
from tests.kit.sentinel import SentinelSetup
from tests.kit.servers import RedisServer
from tests.kit.waiting import until

PATIENCE: Final = 30.0

# In one worker, which starts each of them once.
pytestmark = [pytest.mark.server, pytest.mark.xdist_group("servers-test_windows")]


@pytest.fixture(scope="module", params=["memory", "one server", "cluster", "sentinel"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "memory":
        yield "memory://"
        return
    setups: dict[str, Any] = {
        "one server": RedisServer,
        "cluster": partial(RedisCluster, replicas=0),
        "sentinel": SentinelSetup,
    }
    with setups[request.param](first_server()) as made:
        yield made.url


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """Return a store. Several caches on it are several hosts."""
    store = open_store(url, clock=SystemClock())
    yield store
    await store.delete(["snapshots:42"], PATIENCE)
    await store.aclose()


async def test_a_host_whose_clock_is_wrong_keeps_no_text_for_longer_and_loses_none_early(store: Store) -> None:
    now = SystemClock().time()
    clocks = [FakeClock(epoch=now + days * DAY) for days in (-2, 0, 2)]
    hosts = [Cache(store, timeout=PATIENCE, clock=clock) for clock in clocks]
    for number, host in enumerate(hosts):
        assert await SnapshotStore(host).save_snapshot("42", f"hour 0 {number}", 1)
    for host in hosts:
        found = await SnapshotStore(host).get_recent_snapshots("42")
        assert [snapshot.text for snapshot in found] == ["hour 0 2", "hour 0 1", "hour 0 0"]
        assert all(abs((datetime.now(UTC) - snapshot.timestamp).total_seconds()) < 3600 for snapshot in found)
    # A day is half a second now, which the clocks of the hosts do not have to see.
    brief = [SnapshotStore(host, ttl=0.5) for host in hosts]
    held = read = b"hour 0"

    async def write() -> None:
        nonlocal held, read
        for host in brief:
            assert await host.save_snapshot("42", "tick", 1)
            read = b"".join([snapshot.text.encode() for snapshot in await host.get_recent_snapshots("42", 50)])
        held = b"".join((await store.window("snapshots:42", PATIENCE, 100)).items)

    await until(lambda: b"hour 0" not in held + read, write)


async def test_a_save_that_is_refused_changes_nothing(store: Store) -> None:
    cache = Cache(store, timeout=PATIENCE)
    assert isinstance(store, TimedStore)
    assert await cache.set("snapshots:42", "no window", ttl=600)
    for known in (False, True):
        if known:
            # As of a process that has pushed before another program put a value there.
            await store.seize_lease("snapshots:42", PATIENCE, b"0" * 24, lease_ms=60_000)
            cache.runtime.coherence.generations.note("snapshots:42", b"0" * 24)
        assert not await SnapshotStore(cache).save_snapshot("42", "a text", 2)
        value, holder, left = await store.get_with_lease_and_ttl("snapshots:42", PATIENCE)
        assert (value, holder) == (b'"no window"', b"0" * 24 if known else None)
        assert left <= 600, "a save would let it live for a day"


async def test_a_forget_and_the_save_behind_it_keep_their_order_in_a_block(store: Store) -> None:
    cache = Cache(store, timeout=PATIENCE)
    snapshots = SnapshotStore(cache)
    await snapshots.save_snapshot("42", "old", 1)
    async with cache.after_commit():
        await snapshots.forget("42")
        await snapshots.save_snapshot("42", "new", 1)
    assert [found.text for found in await snapshots.get_recent_snapshots("42")] == ["new"]
    async with cache.after_commit():
        await snapshots.save_snapshot("42", "newer", 1)
        await snapshots.forget("42")
    assert await snapshots.get_recent_snapshots("42") == []
