"""Batches on a cluster whose slots move and whose nodes die, behind Sentinel, and on a server that hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cachekit import Cache
from cachekit.events import Event, StoreFailed
from tests.kit.binaries import first_server, group_servers, label, server_or_failure
from tests.kit.cluster import RedisCluster
from tests.kit.proxy import Fault, FaultProxy
from tests.kit.sentinel import SentinelSetup
from tests.kit.servers import RedisServer
from tests.kit.waiting import PATIENCE

T = 5.0


class Counted:
    """A batch function that notes the ids that it loads."""

    def __init__(self, cache: Cache, **options: Any) -> None:
        self.loads: list[list[int]] = []
        self.failures: list[str] = []

        @cache.cached_many(key="value:<x>", each="xs", ttl=60, **options)
        async def values(xs: list[int]) -> dict[int, int]:
            self.loads.append([*xs])
            return {x: x * x for x in xs}

        def note(event: Event) -> None:
            if isinstance(event, StoreFailed):
                self.failures.append(event.cause)

        cache.observe(note)
        self.call = values


def squares(xs: range) -> dict[int, int]:
    return {x: x * x for x in xs}


@pytest.fixture
def cluster(shared_cluster: RedisCluster) -> RedisCluster:
    shared_cluster.reset()
    return shared_cluster


async def test_a_batch_finds_keys_of_slots_that_move_and_that_have_moved(cluster: RedisCluster) -> None:
    async with Cache(cluster.url, timeout=T) as cache:
        counted = Counted(cache)
        await counted.call(range(20))
        await asyncio.to_thread(cluster.move_slot, "value:3")
        moving = cluster.migrate("value:5")
        moving.move_keys("value:5")
        assert await counted.call(range(20)) == squares(range(20))
        assert len(counted.loads) == 1, "hits, behind a MOVED and an ASK"
        moving.finish()
        assert await counted.call(range(40)) == squares(range(40))
        assert await counted.call(range(40)) == squares(range(40))
        assert counted.loads[1:] == [[*range(20, 40)]]
        assert await counted.call.invalidate(range(40))
        assert not counted.failures


@pytest.mark.server
async def test_the_ids_of_a_lost_master_are_loaded_together_and_all_others_are_hits() -> None:
    with RedisCluster(first_server(), replicas=0, full_coverage=False) as cluster:
        # A node that was killed refuses at once, so no call waits for the deadline.
        async with Cache(cluster.url, timeout=PATIENCE) as cache:
            counted = Counted(cache)
            await counted.call(range(30))
            victim = cluster.master_of("value:3")
            lost = [x for x in range(30) if cluster.master_of(f"value:{x}") is victim]
            victim.kill()
            for _ in range(5):
                assert await counted.call(range(30)) == squares(range(30))
            assert counted.loads[1:] == [lost] * 5


@pytest.fixture(params=group_servers(), ids=label)
def sentinel_setup(request: pytest.FixtureRequest) -> Iterator[SentinelSetup]:
    """A master and its sentinels, once for each server that `group_servers` gives."""
    with SentinelSetup(server_or_failure(request.param)) as setup:
        yield setup


async def test_batches_and_puts_work_behind_sentinels(sentinel_setup: SentinelSetup) -> None:
    async with Cache(sentinel_setup.url, timeout=T) as cache:
        counted = Counted(cache)

        @cache.cached(key="value:<x>", ttl=60)
        async def value(x: int) -> int: ...

        assert await counted.call(range(10)) == squares(range(10))
        async with value.writing(3) as put:
            put(33)
        assert await value.touch(4, "1h")
        assert await counted.call(range(5)) == {**squares(range(5)), 3: 33}
        assert await value.invalidate_many(range(10))
        assert await counted.call(range(3)) == squares(range(3))
        assert len(counted.loads) == 2
        assert not counted.failures


@pytest.mark.usefixtures("usual_timeout")
async def test_while_a_server_hangs_the_function_is_called_once_with_all_ids(own_server: RedisServer) -> None:
    async with Cache(own_server.url) as cache:
        counted = Counted(cache)
        await counted.call(range(3))
        own_server.pause()
        assert await counted.call(range(20)) == squares(range(20))
        assert counted.loads[1:] == [[*range(20)]]
        assert await counted.call(range(20)) == squares(range(20))
        assert counted.failures[0] == "timeout"
        own_server.resume()


async def test_one_key_that_an_acl_refuses_keeps_no_other_from_being_a_hit(own_server: RedisServer) -> None:
    rules = ("~value:1*", "~{value:1*", "+@all")
    own_server.cli("ACL", "SETUSER", "app", "on", ">secret", *rules)
    url = own_server.url.replace("redis://", "redis://app:secret@")
    async with Cache(url, timeout=T) as cache:
        counted = Counted(cache)
        xs = range(10, 16)
        await counted.call([*xs, 2])
        assert await counted.call([*xs, 2]) == {**squares(xs), 2: 4}
        assert counted.loads == [[*xs, 2], [2]]
        assert {*counted.failures} == {"NOPERM"}


async def test_a_server_that_is_gone_from_the_beginning_is_one_failure_of_a_batch(
    start_server: Callable[..., RedisServer],
) -> None:
    server = start_server()
    server.kill()
    async with Cache(server.url) as cache:
        counted = Counted(cache)
        assert await counted.call(range(200)) == squares(range(200))
        assert counted.loads == [[*range(200)]]
        assert len(counted.failures) <= 2, "one of the read, and none or one of what follows"


async def test_a_connection_that_breaks_in_the_middle_of_a_batch_costs_nobody_a_result(
    redis_server: RedisServer,
) -> None:
    async with FaultProxy(redis_server.port) as proxy, Cache(proxy.url, timeout=T) as cache:
        counted = Counted(cache)
        await counted.call(range(50))
        for _ in range(10):
            call = asyncio.create_task(counted.call(range(100)))
            await asyncio.sleep(0)
            await proxy.set(Fault.RESET)
            await proxy.heal()
            assert await call == squares(range(100))
