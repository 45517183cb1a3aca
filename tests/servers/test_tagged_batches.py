"""Batches and values in hand with tags on several servers: a shard that is down, slots that move, a failover."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from cachekit import MISS, Cache
from cachekit.tags import tag_key
from tests.kit.binaries import first_server
from tests.kit.cluster import RedisCluster
from tests.kit.sentinel import SentinelSetup
from tests.kit.waiting import PATIENCE, until


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster(first_server(), replicas=0, full_coverage=False) as cluster:
        yield cluster


class Counted:
    """A cached function for one number and one for many, which note what they load: a tag for each, and one for all."""

    def __init__(self, cache: Cache) -> None:
        self.loads: list[list[int]] = []

        @cache.cached(key="value:<x>", ttl=60, tags=["row:<x>", "all"])
        async def value(x: int) -> int:
            self.loads.append([x])
            return x

        @value.many()
        async def values(xs: Sequence[int]) -> dict[int, int]:
            self.loads.append([*xs])
            return {x: x for x in xs}

        self.one, self.many = value, values


def of(xs: Sequence[int]) -> dict[int, int]:
    return {x: x for x in xs}


@pytest.mark.server
async def test_ids_with_a_tag_at_a_shard_that_is_down_are_loaded_and_the_others_are_hits(cluster: RedisCluster) -> None:
    # A node that was killed refuses at once, so no call waits for the deadline.
    async with Cache(cluster.url, timeout=PATIENCE) as cache:
        counted = Counted(cache)
        home = cluster.master_of(tag_key("all"))
        victim = next(node for node in cluster.nodes if node.port != home.port)
        values = [x for x in range(200) if cluster.master_of(f"value:{x}").port != victim.port]
        lost = [x for x in values if cluster.master_of(tag_key(f"row:{x}")).port == victim.port]
        kept = [x for x in values if x not in lost]
        assert len(lost) > 10
        assert len(kept) > 10
        await counted.many(values)
        victim.kill()
        counted.loads.clear()
        for _ in range(3):
            assert await counted.many(values) == of(values)
        assert counted.loads == [lost] * 3
        # A write cannot have its tags: what stood there is invalidated.
        async with counted.one.writing(lost[0]) as put:
            put(lost[0])
        async with counted.one.writing(kept[0]) as put:
            put(kept[0])
        assert await cache.get_many([f"value:{x}" for x in (lost[0], lost[1], *kept[:2])]) == {
            f"value:{x}": x for x in kept[:2]
        }
        await asyncio.to_thread(victim.restart)

        async def call() -> None:
            counted.loads.clear()
            assert await counted.many(values) == of(values)

        await until(lambda: counted.loads == [], call)


@pytest.mark.server
async def test_a_batch_with_tags_goes_on_while_a_slot_moves(cluster: RedisCluster) -> None:
    async with Cache(cluster.url, timeout=PATIENCE) as cache:
        counted, xs = Counted(cache), range(60)
        await counted.many(xs)
        await asyncio.to_thread(cluster.move_slot, tag_key("all"))
        counted.loads.clear()
        assert await counted.many(xs) == of(xs)
        assert await cache.invalidate_tags("row:7", "row:8")
        counted.loads.clear()
        assert await counted.many(xs) == of(xs)
        assert {7, 8} <= {x for load in counted.loads for x in load}
        async with asyncio.timeout(PATIENCE):
            while await counted.one.peek(7) is MISS:
                await counted.many(xs)
        assert await cache.invalidate_tags("all")
        counted.loads.clear()
        await counted.many(xs)
        assert counted.loads == [[*xs]]


@pytest.mark.server
async def test_behind_sentinels_a_batch_and_a_write_with_tags_outlive_a_failover() -> None:
    with SentinelSetup(first_server()) as setup:
        async with Cache(setup.url, timeout=PATIENCE) as cache:
            counted, xs = Counted(cache), range(20)
            for _ in range(2):
                assert await counted.many(xs) == of(xs)
            assert counted.loads == [[*xs]]
            await asyncio.to_thread(setup.failover)

            async def write() -> None:
                async with counted.one.writing(3) as put:
                    put(3)
                assert await counted.many(xs) == of(xs)
                counted.loads.clear()
                assert await counted.many(xs) == of(xs)

            await until(lambda: counted.loads == [], write)
            assert await cache.invalidate_tags("row:3")
            counted.loads.clear()
            assert await counted.many(xs) == of(xs)
            assert counted.loads == [[3]]
