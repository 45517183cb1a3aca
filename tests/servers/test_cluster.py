"""A Redis Cluster: the owner of a slot changes, and no caller notices. The cluster is real, resharded and hurt."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from cachekit import Cache, SnapshotStore
from cachekit.entry import lease_key
from cachekit.events import BreakerClosed, BreakerOpened, Event, StoreFailed
from cachekit.stores.redis import RedisStore
from tests.kit.binaries import ServerBinary, first_server, group_servers, label, server_or_failure
from tests.kit.cluster import RedisCluster, slot_of
from tests.kit.servers import RedisServer
from tests.kit.waiting import PATIENCE, until


@pytest.fixture(scope="module", params=group_servers(), ids=label)
def whole_cluster(request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    with RedisCluster(server_or_failure(request.param), replicas=0) as cluster:
        yield cluster


@pytest.fixture
def cluster(whole_cluster: RedisCluster) -> RedisCluster:
    """A cluster that the test may reshard, but not hurt: once for each server that `group_servers` gives."""
    whole_cluster.reset()
    return whole_cluster


@pytest_asyncio.fixture
async def cache(cluster: RedisCluster) -> AsyncIterator[Cache]:
    async with Cache(cluster.url, timeout=5) as cache:
        yield cache


class Counted:
    """A cached function that counts its runs, and its writer."""

    def __init__(self, cache: Cache) -> None:
        self.runs = 0

        @cache.cached(key="value:<x>", ttl=60)
        async def value(x: int) -> list[int]:
            self.runs += 1
            return [x, x * x]

        @cache.invalidates("value:<x>", "value:<y>", "value:<z>")
        async def write(x: int, y: int, z: int) -> None: ...

        self.call = value
        self.write = write


async def failures_of(cache: Cache) -> list[StoreFailed]:
    failures: list[StoreFailed] = []
    cache.observe(lambda event: failures.append(event) if isinstance(event, StoreFailed) else None)
    return failures


async def test_keys_of_all_masters_are_cached_and_invalidated(cluster: RedisCluster, cache: Cache) -> None:
    failures = await failures_of(cache)
    counted = Counted(cache)
    masters = {cluster.master_of(f"value:{x}").port for x in range(30)}
    assert len(masters) == 3
    for _ in range(2):
        assert [await counted.call(x) for x in range(30)] == [[x, x * x] for x in range(30)]
    assert counted.runs == 30
    await counted.write(1, 2, 3)
    assert [await counted.call.peek(x) for x in (1, 2, 3, 4)][3] == [4, 16]
    assert not any([await counted.call.peek(x) for x in (1, 2, 3)])
    assert not failures


async def test_the_value_stands_at_its_key_with_its_lease_beside_it(cluster: RedisCluster, cache: Cache) -> None:
    await cache.set("value:{7}:x", 1, ttl=60)
    assert cluster.cli("GET", "value:{7}:x", key="value:{7}:x") == b"1"
    for key in ("value:7", "value:{7}:x"):
        assert slot_of(key) == slot_of(lease_key(key))


async def test_a_slot_that_has_moved_is_found_at_its_new_master(cluster: RedisCluster, cache: Cache) -> None:
    failures = await failures_of(cache)
    counted = Counted(cache)
    await counted.call(3)
    migration = await asyncio.to_thread(cluster.move_slot, "value:3")
    assert await counted.call(3) == [3, 9]
    assert counted.runs == 1, "a hit, behind a MOVED"
    assert cluster.master_of("value:3") is migration.target
    assert cache._store.shard("value:3") == f"127.0.0.1:{migration.target.port}", "the next call goes there at once"
    assert await counted.call.invalidate(3)
    assert cluster.cli("EXISTS", "value:3", key="value:3") == 0
    assert not failures


async def test_a_key_that_moved_before_its_slot_is_a_hit(cluster: RedisCluster, cache: Cache) -> None:
    failures = await failures_of(cache)
    counted = Counted(cache)
    snapshots = SnapshotStore(cache)
    await counted.call(3)
    await snapshots.save_snapshot("7", "first", 1)
    here = cluster.migrate("value:3")
    there = cluster.migrate("snapshots:7")
    here.move_keys("value:3")
    there.move_keys("snapshots:7", lease_key("snapshots:7"))
    # One command behind ASKING, a script, and several commands.
    assert await counted.call.peek(3) == [3, 9]
    assert await snapshots.save_snapshot("7", "second", 1)
    assert [snapshot.text for snapshot in await snapshots.get_recent_snapshots("7")] == ["second", "first"]
    # The process has learnt nothing from ASK: the slot still has its old owner.
    assert cluster.master_of("value:3") is here.source
    here.finish()
    there.finish()
    assert await counted.call.peek(3) == [3, 9]
    assert not failures


@pytest.mark.parametrize("ahead", ["window", "lease"])
async def test_a_window_that_moves_apart_from_its_lease_can_be_forgotten_and_does_not_grow(
    cluster: RedisCluster, cache: Cache, ahead: str
) -> None:
    snapshots = SnapshotStore(cache)
    await snapshots.save_snapshot("7", "first", 1)
    migration = cluster.migrate("snapshots:7")
    migration.move_keys("snapshots:7" if ahead == "window" else lease_key("snapshots:7"))
    assert not await snapshots.save_snapshot("7", "second", 1), "no node has both keys"
    assert [snapshot.text for snapshot in await snapshots.get_recent_snapshots("7")] == ["first"]
    assert await snapshots.forget("7")
    migration.move_keys()
    migration.finish()
    assert await snapshots.get_recent_snapshots("7") == []
    assert await snapshots.save_snapshot("7", "third", 1)


@pytest.mark.parametrize("ahead", [(), ("value",), ("lease",), ("value", "lease")], ids=str)
async def test_an_invalidation_while_the_slot_moves_reaches_key_and_lease_on_either_node(
    cluster: RedisCluster, cache: Cache, ahead: tuple[str, ...]
) -> None:
    names = {"value": "value:3", "lease": lease_key("value:3")}
    for name in names.values():
        cluster.cli("SET", name, "1", key="value:3")
    migration = cluster.migrate("value:3")
    for which in ahead:
        migration.move_keys(names[which])
    assert await cache.delete("value:3"), "acknowledged"
    migration.move_keys()
    migration.finish()
    assert cluster.cli("EXISTS", *names.values(), key="value:3") == 0


async def test_many_keys_of_a_slot_that_moves_are_invalidated_together(cluster: RedisCluster, cache: Cache) -> None:
    keys = [f"{{value:3}}:{number}" for number in range(300)]
    for key in keys:
        for name in (key, lease_key(key)):
            cluster.cli("SET", name, "1", key="value:3")
    migration = cluster.migrate("value:3")
    migration.move_keys(*keys[::2], *map(lease_key, keys[::3]))
    async with cache.after_commit():
        for key in keys:
            await cache.delete(key)
    assert cache.healthy, "acknowledged, all on the budget of one call"
    migration.move_keys()
    migration.finish()
    assert cluster.cli("EXISTS", *keys, *map(lease_key, keys), key="value:3") == 0


async def test_a_cold_key_of_a_slot_that_moves_is_loaded_and_not_stored(cluster: RedisCluster, cache: Cache) -> None:
    failures = await failures_of(cache)
    counted = Counted(cache)
    migration = cluster.migrate("value:3")
    assert [await counted.call(3) for _ in range(2)] == [[3, 9]] * 2
    # A lease takes two keys in one step, which no node has while the slot moves.
    assert counted.runs == 2
    assert {failure.cause for failure in failures} == {"TRYAGAIN"}
    migration.move_keys()
    migration.finish()
    assert [await counted.call(3) for _ in range(2)] == [[3, 9]] * 2
    assert counted.runs == 3


async def test_no_invalidated_value_is_served_while_slots_move_under_load(cluster: RedisCluster, cache: Cache) -> None:
    database = dict.fromkeys(range(12), 0)
    over = asyncio.Event()
    reads = 0

    @cache.cached(key="row:<x>", ttl=60)
    async def row(x: int) -> int:
        version = database[x]
        await asyncio.sleep(0)
        return version

    @cache.invalidates("row:<x>")
    async def write(x: int) -> None:
        database[x] += 1

    async def reader() -> None:
        nonlocal reads
        while not over.is_set():
            x = random.randrange(12)
            before = written[x]
            assert await row(x) >= before, "an invalidated value"
            reads += 1

    async def writer() -> None:
        while not over.is_set():
            x = random.randrange(12)
            await write(x)
            # A reader that starts from now on must not see the earlier value.
            written[x] = max(written[x], database[x])
            await asyncio.sleep(0.002)

    written = dict.fromkeys(database, 0)
    tasks = [asyncio.create_task(work()) for work in (reader,) * 8 + (writer,) * 1]
    try:
        for x in itertools.islice(itertools.cycle(database), 12):
            await asyncio.to_thread(cluster.move_slot, f"row:{x}")
    finally:
        over.set()
        await asyncio.gather(*tasks)
    assert reads > 100


async def test_a_seed_that_is_dead_does_no_harm(cluster: RedisCluster) -> None:
    url = cluster.url.replace("redis+cluster://", "redis+cluster://127.0.0.1:1,")
    async with Cache(url, timeout=5) as cache:
        assert await cache.set("k", 1, ttl=60)
        assert await cache.get("k") == 1


async def test_a_server_that_is_in_no_cluster_is_named_with_the_url_to_write(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with Cache(f"redis+cluster://127.0.0.1:{own_server.port}", timeout=5) as cache:
        assert await cache.get("k") is None
    assert f"is in no cluster; write redis://127.0.0.1:{own_server.port}" in caplog.text


async def test_a_cluster_behind_the_url_of_one_server_is_recognised(
    cluster: RedisCluster, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = next(f"k{n}" for n in range(99) if cluster.master_of(f"k{n}") is not cluster.nodes[0])
    async with Cache(cluster.nodes[0].url, timeout=5) as cache:
        assert await cache.get(stranger) is None
    assert "the URL of a cluster begins with redis+cluster://" in caplog.text


async def test_an_operation_that_nodes_send_on_to_one_another_is_given_up(cluster: RedisCluster, cache: Cache) -> None:
    failures = await failures_of(cache)
    await cache.get("k")
    owner = cluster.master_of("k")
    others = [node for node in cluster.nodes if node is not owner]
    network = _network(cache)
    # It is as if every node named another: this process never learns the slot's master.
    network._lane = lambda node, real=network._lane: real(type(node)(node.host, others[0].port))  # type: ignore[attr-defined]
    assert await cache.get("k") is None
    assert failures[0].cause == "MOVED"
    del network._lane  # type: ignore[attr-defined]


def _network(cache: Cache) -> object:
    store = cache._store
    assert isinstance(store, RedisStore)
    return store._loops.get().network


# --- really hurt ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["kill", "pause"])
@pytest.mark.parametrize("binary", group_servers(), ids=label)
async def test_a_master_lost_under_load_is_replaced_and_no_call_raises(
    binary: ServerBinary | None, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    events: list[Event] = []
    with RedisCluster(server_or_failure(binary)) as cluster:
        # Less than the time after which a silent master is replaced, and more than a busy machine takes for a call.
        async with Cache(cluster.url, timeout=0.8) as cache:
            cache.observe(events.append)
            counted = Counted(cache)
            over = asyncio.Event()
            victim = cluster.master_of("value:3")
            shard = f"127.0.0.1:{victim.port}"

            called: set[int] = set()

            async def caller(x: int) -> None:
                while not over.is_set():
                    assert await counted.call(x) == [x, x * x]
                    called.add(x)
                    await asyncio.sleep(0.005)

            # Loads alone do not tell that the cache is used: they go on without it as well.
            async with asyncio.timeout(PATIENCE):
                for x in range(50):
                    while await counted.call.peek(x) != [x, x * x]:
                        await counted.call(x)
            callers = [asyncio.create_task(caller(x)) for x in range(50)]
            try:
                await until(lambda: len(called) == 50)
                caplog.clear()
                getattr(victim, fault)()
                heir = await asyncio.to_thread(cluster.wait_for_promotion, victim)
                async with asyncio.timeout(PATIENCE):
                    # The keys of the killed master are hits at the new one.
                    while await counted.call.peek(3) != [3, 9]:
                        await asyncio.sleep(0.005)
                assert cluster.master_of("value:3") is heir
            finally:
                over.set()
                await asyncio.gather(*callers)
            assert shard in {event.shard for event in events if isinstance(event, BreakerOpened)}
            async with asyncio.timeout(PATIENCE):
                while shard not in {event.shard for event in events if isinstance(event, BreakerClosed)}:
                    await asyncio.sleep(0.005)
    records = [record for record in caplog.records if record.levelno == logging.WARNING]
    began = [record for record in records if f"the cache at {shard} is left out" in record.message]
    assert len(began) <= 2, "one for each cause that the lost master showed"


@pytest.mark.server
async def test_other_slots_are_used_while_a_slot_has_no_master(caplog: pytest.LogCaptureFixture) -> None:
    with RedisCluster(first_server(), replicas=0, full_coverage=False) as cluster:
        # A node that was killed refuses at once, so no call waits for the deadline.
        async with Cache(cluster.url, timeout=PATIENCE) as cache:
            counted = Counted(cache)
            for x in range(30):
                await counted.call(x)
            victim = cluster.master_of("value:3")
            lost = {x for x in range(30) if cluster.master_of(f"value:{x}") is victim}
            victim.kill()
            for _ in range(20):
                assert [await counted.call(x) for x in range(30)] == [[x, x * x] for x in range(30)]
            assert counted.runs == 30 + 20 * len(lost)
            # One invalidation has keys of both masters: the keys of the live one are removed.
            kept = next(x for x in range(30) if x not in lost)
            await counted.write(3, kept, kept)
            assert not await counted.call.peek(kept)
            assert cache.runtime.coherence.journal.holds("value:3")
            assert not cache.runtime.coherence.journal.holds(f"value:{kept}")
            victim.restart()
            async with asyncio.timeout(PATIENCE):
                while cache.runtime.coherence.journal or await counted.call.peek(3) != [3, 9]:
                    await counted.call(3)
                    await asyncio.sleep(0.005)


@pytest.mark.server
async def test_each_call_is_as_if_undecorated_when_every_node_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    with RedisCluster(first_server(), replicas=0) as cluster:
        # A node that was killed refuses at once, so no call waits for the deadline.
        async with Cache(cluster.url, timeout=PATIENCE) as cache:
            counted = Counted(cache)
            await counted.call(3)
            for node in cluster.nodes:
                node.kill()
            for x in range(30):
                assert await counted.call(x) == [x, x * x]
            for node in cluster.nodes:
                await asyncio.to_thread(node.restart)
            async with asyncio.timeout(PATIENCE):
                while await counted.call.peek(3) != [3, 9]:
                    await counted.call(3)
                    await asyncio.sleep(0.005)
