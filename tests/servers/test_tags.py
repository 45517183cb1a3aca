"""Tags on several servers and in several processes: a shard that is down, a failover, and 10,000 values of one tag."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from cachekit import MISS, Cache
from cachekit.tags import tag_key
from tests.kit.binaries import first_server
from tests.kit.cluster import RedisCluster
from tests.kit.sentinel import SentinelSetup
from tests.kit.servers import RedisServer
from tests.kit.sizes import sized
from tests.kit.waiting import PATIENCE, until

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

PROCESSES = 4
VALUES = sized(2_000, 10_000)
GATHERED = 500


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster(first_server(), replicas=0, full_coverage=False) as cluster:
        yield cluster


class Counted:
    """A cached function that counts its runs, with a tag for each of three groups."""

    def __init__(self, cache: Cache) -> None:
        self.runs = 0

        @cache.cached(key="value:<x>", ttl=60, tags=["group:<group>", "all"])
        async def value(x: int, group: int) -> int:
            self.runs += 1
            return x

        self.call = value


def place_of(cluster: RedisCluster, name: str) -> RedisServer:
    return cluster.master_of(tag_key(name))


@pytest.mark.server
async def test_tags_of_all_masters_are_read_opened_and_invalidated(cluster: RedisCluster) -> None:
    async with Cache(cluster.url, timeout=PATIENCE) as cache:
        counted = Counted(cache)
        groups = range(30)
        assert len({place_of(cluster, f"group:{group}").port for group in groups}) == 3
        for _ in range(2):
            assert await asyncio.gather(*[counted.call(group, group) for group in groups]) == [*groups]
        assert counted.runs == 30
        assert await cache.invalidate_tags("group:3", "group:4", "group:5")
        assert [await counted.call.peek(group, group) for group in range(2, 7)] == [2, MISS, MISS, MISS, 6]
        assert await cache.invalidate_tags("all")
        assert [await counted.call.peek(group, group) for group in groups] == [MISS] * 30


@pytest.mark.server
async def test_keys_and_their_tag_may_share_a_slot(cluster: RedisCluster) -> None:
    async with Cache(cluster.url, timeout=PATIENCE) as cache:

        @cache.cached(key="{team:<team_id>}:member:<number>", ttl=60, tags=["team:<team_id>"])
        async def member(team_id: int, number: int) -> int:
            return number

        assert await member(7, 1) == await member(7, 1) == 1
        place = place_of(cluster, "team:7")
        assert cluster.master_of("{team:7}:member:1") is place
        place.cli("CONFIG", "RESETSTAT")
        assert await member(7, 1) == 1
        assert place.cli("INFO", "commandstats")["cmdstat_mget"]["calls"] == 1
        assert await cache.invalidate_tags("team:7")
        assert await member.peek(7, 1) is MISS


@pytest.mark.server
async def test_the_shard_of_a_tag_that_is_down_costs_its_values_alone(cluster: RedisCluster) -> None:
    # A node that was killed refuses at once, so no call waits for the deadline.
    async with Cache(cluster.url, timeout=PATIENCE) as cache:
        counted = Counted(cache)
        home = place_of(cluster, "all")
        group = next(g for g in range(100) if place_of(cluster, f"group:{g}") is not home)
        victim = place_of(cluster, f"group:{group}")
        other = next(g for g in range(100) if place_of(cluster, f"group:{g}") is not victim)
        x = next(x for x in range(100) if cluster.master_of(f"value:{x}") is not victim)
        y = next(y for y in range(x + 1, 200) if cluster.master_of(f"value:{y}") is not victim)
        await counted.call(x, group)
        await counted.call(y, other)
        victim.kill()
        runs = counted.runs
        for _ in range(5):
            assert await counted.call(x, group) == x
            assert await counted.call(y, other) == y
        assert counted.runs == runs + 5
        assert not await cache.invalidate_tags(f"group:{group}", f"group:{other}")
        journal = cache.runtime.coherence.journal
        assert journal.holds(tag_key(f"group:{group}"))
        assert not journal.holds(tag_key(f"group:{other}"))
        await asyncio.to_thread(victim.restart)

        async def call() -> None:
            await counted.call(x, group)

        await until(lambda: not journal, call)
        async with asyncio.timeout(PATIENCE):
            while await counted.call.peek(x, group) is MISS:
                await call()


@pytest.mark.server
async def test_a_tag_is_invalidated_while_its_slot_moves(cluster: RedisCluster) -> None:
    async with Cache(cluster.url, timeout=PATIENCE) as cache:
        counted = Counted(cache)
        await counted.call(1, 7)
        await asyncio.to_thread(cluster.move_slot, tag_key("group:7"))
        assert await counted.call(1, 7) == 1
        assert await cache.invalidate_tags("group:7")
        assert await counted.call.peek(1, 7) is MISS
        runs = counted.runs
        async with asyncio.timeout(PATIENCE):
            while await counted.call.peek(1, 7) is MISS:
                await counted.call(1, 7)
        assert counted.runs > runs


@pytest.mark.server
async def test_clear_goes_over_all_masters(cluster: RedisCluster) -> None:
    async with Cache(cluster.url, prefix="mine:", timeout=PATIENCE) as cache:
        counted = Counted(cache)
        for x in range(60):
            await counted.call(x, x)
        assert await cache.clear()
        keys: list[Any] = [key for node in cluster.nodes for key in node.cli("KEYS", "*")]
        assert keys == []


@pytest.mark.server
async def test_behind_sentinels_tags_outlive_a_failover_or_make_misses() -> None:
    with SentinelSetup(first_server()) as setup:
        async with Cache(setup.url, timeout=PATIENCE) as cache:
            counted = Counted(cache)
            assert await counted.call(1, 7) == await counted.call(1, 7) == 1
            assert counted.runs == 1
            assert await cache.invalidate_tags("group:7")
            await asyncio.to_thread(setup.failover)
            async with asyncio.timeout(PATIENCE):
                while await counted.call.peek(1, 7) is MISS:
                    await counted.call(1, 7)
            assert counted.runs >= 2
            assert await cache.invalidate_tags("group:7")
            assert await counted.call.peek(1, 7) is MISS


# --- 10,000 values of one tag, in four processes, near ones among them -------------------------------------


def _member(url: str, number: int, version: Synchronized[int], stale: Synchronized[int], barrier: Barrier) -> None:
    async def main() -> None:
        async with Cache(url, timeout=PATIENCE, near=VALUES) as cache:

            @cache.cached(key="value:<x>", ttl=600, tags=["all"])
            async def value(x: int) -> int:
                return version.value

            async def read() -> list[int]:
                found: list[int] = []
                for first in range(0, VALUES, GATHERED):
                    found += await asyncio.gather(*map(value, range(first, first + GATHERED)))
                return found

            for _ in range(3):
                await read()
            await asyncio.to_thread(barrier.wait, PATIENCE)
            if number == 0:
                version.value = 1
                assert await cache.invalidate_tags("all")
                # At once in this process.
                assert await read() == [1] * VALUES
            await asyncio.to_thread(barrier.wait, PATIENCE)
            # The bound of docs/near.md has passed by then.
            await asyncio.sleep(1.0)
            found = await read()
            with stale.get_lock():
                stale.value += sum(one != 1 for one in found)

    asyncio.run(main())


@pytest.mark.server
def test_all_values_of_a_tag_are_invalidated_in_one_round_trip_for_all_processes(own_server: RedisServer) -> None:
    context = multiprocessing.get_context("spawn")
    version, stale = context.Value("i", 0), context.Value("i", 0)
    barrier = context.Barrier(PROCESSES + 1)
    members = [
        context.Process(target=_member, args=(own_server.url, n, version, stale, barrier), daemon=True)
        for n in range(PROCESSES)
    ]
    for member in members:
        member.start()
    barrier.wait(PATIENCE * 3)
    barrier.wait(PATIENCE * 3)
    for member in members:
        member.join(PATIENCE * 3)
    assert [member.exitcode for member in members] == [0] * PROCESSES
    assert own_server.cli("DBSIZE") == VALUES + 1
    assert own_server.cli("INFO", "commandstats")["cmdstat_unlink"]["calls"] == 1
    assert stale.value == 0
