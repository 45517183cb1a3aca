"""Sentinel: the sentinels name the master, and callers notice no failover. The sentinels are real, and hurt."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator

import pytest

from cachekit import Cache
from cachekit.clock import SystemClock
from cachekit.stores import sentinel
from cachekit.stores.connect import open_store, sentinels_of
from cachekit.stores.sentinel import Master, Sentinels
from cachekit.urls import parse
from tests.kit.binaries import ServerBinary, first_server, group_servers, label, server_or_failure
from tests.kit.scripted import ScriptedServer
from tests.kit.sentinel import SentinelSetup
from tests.kit.servers import RedisServer
from tests.kit.stale import Source, put
from tests.kit.waiting import PATIENCE, until

T = PATIENCE


@pytest.fixture(params=group_servers(), ids=label)
def sentinel_setup(request: pytest.FixtureRequest) -> Iterator[SentinelSetup]:
    """A master, a replica and three sentinels, all to be hurt: once for each server that `group_servers` gives."""
    binary: ServerBinary | None = request.param
    with SentinelSetup(server_or_failure(binary)) as sentinel_setup:
        yield sentinel_setup


def clients_of(server: RedisServer) -> int:
    """Return how many clients have asked ``server`` for values."""
    return sum(b" cmd=get " in line or b" cmd=evalsha " in line for line in server.cli("CLIENT", "LIST").splitlines())


async def test_a_master_killed_under_load_is_replaced_and_no_call_raises(
    sentinel_setup: SentinelSetup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    over = asyncio.Event()
    runs = 0
    # An operation that fails in this test fails at once. A slow machine must not count as another incident.
    async with Cache(sentinel_setup.url, timeout=T) as cache:

        @cache.cached(key="value:<x>", ttl=60)
        async def value(x: int) -> list[int]:
            nonlocal runs
            runs += 1
            return [x, x * x]

        async def caller(x: int) -> None:
            while not over.is_set():
                assert await value(x) == [x, x * x]
                await asyncio.sleep(0.005)

        callers = [asyncio.create_task(caller(x)) for x in range(20)]
        try:
            await until(lambda: runs >= 20)
            old = sentinel_setup.master
            old.kill()
            heir = await asyncio.to_thread(sentinel_setup.wait_for_promotion, old)
            await until(lambda: clients_of(heir) == 1)
            async with asyncio.timeout(PATIENCE):
                while await value.peek(3) != [3, 9]:
                    await asyncio.sleep(0.01)
        finally:
            over.set()
            await asyncio.gather(*callers)
    began = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(began) <= 2, "refused at first; perhaps a replica that is no master yet"


async def test_a_stale_value_stands_in_behind_sentinels(sentinel_setup: SentinelSetup) -> None:
    async with Cache(sentinel_setup.url, timeout=T) as cache:
        source = Source()
        call = cache.cached(key="k", ttl=60, stale_while_revalidate=60, stale_if_error=3600)(source.load)
        await put(cache, "k", "old", left=-100)
        source.error = ConnectionError()
        assert [await call(), await call()] == ["old", "old"]
        assert source.asked == 1
        source.error = None
        await put(cache, "k", "old", left=-5)
        assert await call() == "old"
        await until(lambda: not cache.loading_in_background)
        assert await call() == "new"
        assert await call.expire()
        source.error = ConnectionError()
        assert await call() == "new"


async def test_nobody_stays_with_the_old_master_after_an_orderly_failover(sentinel_setup: SentinelSetup) -> None:
    """The old master goes on for seconds: half of the processes would invalidate at one master, half at the other."""
    async with Cache(sentinel_setup.url, timeout=T) as cache:
        assert await cache.set("k", 1, ttl=60)
        old = sentinel_setup.master
        assert clients_of(old) == 0
        await cache.get("k")
        assert clients_of(old) == 1
        heir = await asyncio.to_thread(sentinel_setup.failover)
        await until(lambda: clients_of(old) == 0)
        async with asyncio.timeout(PATIENCE):
            while not await cache.set("where", 1, ttl=60):
                await asyncio.sleep(0.01)
        assert heir.cli("EXISTS", "where") == 1
        assert old.cli("ROLE")[0] == b"master", "or there was nothing to see here"


async def test_the_master_is_known_when_most_sentinels_have_answered(
    sentinel_setup: SentinelSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentinel, "_PATIENCE", PATIENCE)
    sentinels = sentinels_of(parse(sentinel_setup.url))
    sentinel_setup.sentinels[1].pause()
    async with asyncio.timeout(PATIENCE / 2):
        named = await sentinels.master()
    assert named.port == sentinel_setup.master.port
    sentinel_setup.sentinels[1].resume()


async def test_sentinels_that_are_far_away_are_asked_if_the_timeout_allows_it(
    sentinel_setup: SentinelSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing answers within these any more, so that only the timeout of the cache is left.
    monkeypatch.setattr(sentinel, "_PATIENCE", 0.001)
    monkeypatch.setattr("cachekit.stores.lane.CONNECT_PATIENCE", 0.001)
    async with Cache(sentinel_setup.url, timeout=PATIENCE) as cache:
        assert await cache.set("k", 1, ttl=60)


async def test_sentinels_that_are_dead_or_hang_keep_nobody_from_the_master(sentinel_setup: SentinelSetup) -> None:
    dead, hanging, _ = sentinel_setup.sentinels
    dead.kill()
    async with Cache(sentinel_setup.url, timeout=T) as cache:
        assert await cache.set("k", 1, ttl=60)
    hanging.pause()
    async with Cache(sentinel_setup.url, timeout=T) as cache:
        assert await cache.get("k") == 1, "one of three is enough to find the master"


async def test_a_replica_that_is_named_too_early_is_not_used(sentinel_setup: SentinelSetup) -> None:
    replica = sentinel_setup.replicas[0]

    class Hasty(Sentinels):
        async def master(self) -> Master:
            return Master(1, "127.0.0.1", replica.port)

    async with Cache(sentinel_setup.url, timeout=T) as cache:
        await cache.set("k", 1, ttl=60)
        network = cache._store._loops.get().network  # type: ignore[attr-defined]
        network._sentinels = Hasty("mymaster", [], "nowhere")
        network._lane.close()
        assert await cache.get("k") is None
    assert clients_of(replica) == 0


async def test_a_sentinel_that_is_behind_the_others_is_not_believed(sentinel_setup: SentinelSetup) -> None:
    async with Cache(sentinel_setup.url, timeout=T) as cache:
        await cache.set("k", 1, ttl=60)
        network = cache._store._loops.get().network  # type: ignore[attr-defined]
        network._master = network._master._replace(epoch=10**6)

        class Behind(Sentinels):
            async def master(self) -> Master:
                return Master(1, "127.0.0.1", 1)

        network._sentinels = Behind("mymaster", [], "nowhere")
        network._lane.close()
        async with asyncio.timeout(PATIENCE):
            while await cache.get("k") != 1:
                await asyncio.sleep(0.01)


async def test_a_service_that_no_sentinel_knows_is_named_in_the_log(
    sentinel_setup: SentinelSetup, caplog: pytest.LogCaptureFixture
) -> None:
    async with Cache(sentinel_setup.url.replace("mymaster", "yourmaster"), timeout=T) as cache:
        assert await cache.get("k") is None
    assert "names a master called 'yourmaster'" in caplog.text


async def test_no_sentinel_at_all_is_a_failure_like_any_other(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with Cache(f"redis+sentinel://127.0.0.1:{port},127.0.0.1:{port}/mymaster", timeout=T) as cache:
            assert await cache.get("k") is None
            assert not await cache.delete("k")
    assert "no sentinel of" in caplog.text


@pytest.mark.server
async def test_the_sentinels_and_the_master_have_logins_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with SentinelSetup(first_server(), password="hunter2", replicas=0) as sentinel_setup:
        for watcher in sentinel_setup.sentinels:
            watcher.cli("ACL", "SETUSER", "watcher", "on", ">hunter3", "+sentinel", "+auth", "-@all", "+sentinel")
        url = sentinel_setup.url.replace("://", "://:hunter2@")
        for login in ("", "?sentinel_username=watcher&sentinel_password=hunter3"):
            store = open_store(url + login, clock=SystemClock())
            await store.set("k", T, b"1", ttl_ms=60_000)
            assert await store.get("k", T) == b"1"
            assert "hunter" not in repr(store)
            await store.aclose()
        async with Cache(url + "?sentinel_username=watcher&sentinel_password=hunter4", timeout=T) as cache:
            assert await cache.get("k") is None
    assert "hunter" not in caplog.text


async def test_a_sentinel_that_names_no_server_is_no_help(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        ScriptedServer(redis_server.port, {b"SENTINEL": b"*-1\r\n"}) as scripted,
        Cache(f"redis+sentinel://127.0.0.1:{scripted.port}/mymaster", timeout=T) as cache,
    ):
        assert await cache.get("k") is None
    assert "names a master called 'mymaster'" in caplog.text


async def test_a_store_behind_sentinels_that_was_never_asked_is_closed() -> None:
    store = open_store("redis+sentinel://127.0.0.1:1/mymaster", clock=SystemClock())
    assert store.shard("k") == ""
    await store.aclose()
