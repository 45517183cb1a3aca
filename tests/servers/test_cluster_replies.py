"""A server that says nonsense about the slots of a cluster, or says it late.

No call fails by nonsense, and nothing grows. A late answer is waited for, as long as the call has time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS

from cachekit import Cache
from cachekit.clock import SystemClock
from cachekit.errors import QueueFullError, StoreRefusedError, StoreTimeoutError, StoreUnavailableError
from cachekit.events import Event, StoreFailed
from cachekit.stores.base import Sweep
from cachekit.stores.cluster import Cluster
from cachekit.stores.connect import open_store
from cachekit.stores.redis import RedisStore
from tests.kit.cluster import slot_of
from tests.kit.proxy import Fault, FaultProxy
from tests.kit.scripted import ScriptedServer
from tests.kit.servers import RedisServer
from tests.kit.waiting import PATIENCE, until


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def row(first: int, last: int, host: bytes = bulk(b"127.0.0.1"), port: bytes = b":7\r\n") -> bytes:
    return b"*1\r\n*3\r\n:%d\r\n:%d\r\n*3\r\n%b%b%b" % (first, last, host, port, bulk(b"id"))


def network_of(cache: Cache) -> Cluster:
    store = cache._store
    assert isinstance(store, RedisStore)
    network = store._loops.get().network
    assert isinstance(network, Cluster)
    return network


@pytest.mark.parametrize(
    "slots",
    [
        row(0, SLOTS),
        row(0, 2**62),
        row(-5, 10),
        row(100, 50),
        row(SLOTS, SLOTS + 5),
        row(0, SLOTS - 1, port=b":65536\r\n"),
        row(0, SLOTS - 1, port=b":-1\r\n"),
        row(0, SLOTS - 1, port=bulk(b"7000")),
        row(0, SLOTS - 1, host=bulk(b"\xff\xfe")),
        row(0, SLOTS - 1, host=b":5\r\n"),
        b"*1\r\n*3\r\n:0\r\n:5\r\n:7\r\n",
        b"*1\r\n*2\r\n:0\r\n:5\r\n",
        b"*1\r\n:0\r\n",
        b":5\r\n",
    ],
)
async def test_an_answer_about_the_slots_that_is_none_is_garbage(redis_server: RedisServer, slots: bytes) -> None:
    async with (
        ScriptedServer(redis_server.port, {b"CLUSTER": slots}) as scripted,
        Cache(scripted.url.replace("redis:", "redis+cluster:"), timeout=PATIENCE) as cache,
    ):
        failures: list[Event] = []
        cache.observe(lambda event: failures.append(event) if isinstance(event, StoreFailed) else None)

        @cache.cached(key="k", ttl=60)
        async def f() -> int:
            return 1

        # If the deadline were what ended the wait, the cause would be a timeout.
        assert await f() == 1
        assert {event.cause for event in failures if isinstance(event, StoreFailed)} == {"garbage"}
        network = network_of(cache)
        assert len(network._masters) == SLOTS
        assert not network._nodes


async def test_a_replica_that_is_no_node_is_left_out(redis_server: RedisServer) -> None:
    async with ScriptedServer(redis_server.port) as scripted:
        master = b"*2\r\n" + bulk(b"") + b":%d\r\n" % scripted.port
        replicas = b"*2\r\n" + bulk(b"\xff") + b":7\r\n" + b":5\r\n"
        scripted.always[b"CLUSTER"] = b"*1\r\n*5\r\n:0\r\n:16383\r\n" + master + replicas
        async with Cache(scripted.url.replace("redis:", "redis+cluster:"), timeout=PATIENCE) as cache:
            assert await cache.set("k", 1, ttl=60)
            assert [str(node) for node in network_of(cache)._nodes] == [f"127.0.0.1:{scripted.port}"]


@pytest.mark.parametrize("slot", [SLOTS, 2**62, -1, -SLOTS - 1])
async def test_a_redirection_for_a_slot_that_does_not_exist_is_garbage(redis_server: RedisServer, slot: int) -> None:
    async with ScriptedServer(redis_server.port) as scripted:
        scripted.always[b"CLUSTER"] = row(0, SLOTS - 1, bulk(b""), b":%d\r\n" % scripted.port)
        async with Cache(scripted.url.replace("redis:", "redis+cluster:"), timeout=PATIENCE) as cache:
            failures: list[Event] = []
            cache.observe(lambda event: failures.append(event) if isinstance(event, StoreFailed) else None)
            assert await cache.set("k", 1, ttl=60)
            scripted.answer = b"-MOVED %d 127.0.0.1:%d\r\n" % (slot, scripted.port)
            assert await cache.get("k") is None
            assert not await cache.set("k", 2, ttl=60)
            scripted.answer = None
            assert [event.cause for event in failures if isinstance(event, StoreFailed)] == ["garbage"] * 2
            assert await cache.get("k") == 1
            assert len(network_of(cache)._masters) == SLOTS


@pytest.mark.parametrize("silent_first", [False, True], ids=["far away", "behind a silent seed"])
async def test_a_cluster_that_is_far_away_is_used_if_the_timeout_allows_it(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, silent_first: bool
) -> None:
    # Nothing answers within these any more, so that only the timeout of the cache is left.
    monkeypatch.setattr("cachekit.stores.cluster._PATIENCE", 0.001)
    monkeypatch.setattr("cachekit.stores.lane.CONNECT_PATIENCE", 0.001)
    async with (
        ScriptedServer(redis_server.port) as scripted,
        FaultProxy(scripted.port) as far,
        FaultProxy(scripted.port) as silent,
    ):
        scripted.always[b"CLUSTER"] = row(0, SLOTS - 1, bulk(b""), b":%d\r\n" % far.port)
        await far.set(Fault.DELAY, seconds=0.05)
        await silent.set(Fault.HALF_OPEN)
        seeds = [*([silent] if silent_first else []), far]
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{seed.port}" for seed in seeds)
        async with Cache(url, timeout=PATIENCE) as cache:
            assert await cache.set("k", 1, ttl=60)
            assert await cache.get("k") == 1


@pytest_asyncio.fixture
async def partial(redis_server: RedisServer) -> AsyncIterator[ScriptedServer]:
    """A cluster of one node, in which the slot of ``k`` has no master."""
    async with ScriptedServer(redis_server.port) as scripted:
        lost = slot_of("k")
        node = b"*2\r\n" + bulk(b"") + b":%d\r\n" % scripted.port
        rows = [b"*3\r\n:%d\r\n:%d\r\n" % ends + node for ends in ((0, lost - 1), (lost + 1, SLOTS - 1))]
        scripted.always[b"CLUSTER"] = b"*2\r\n" + b"".join(rows)
        yield scripted


@pytest_asyncio.fixture
async def store(partial: ScriptedServer) -> AsyncIterator[RedisStore]:
    store = open_store(partial.url.replace("redis:", "redis+cluster:"), clock=SystemClock())
    assert isinstance(store, RedisStore)
    yield store
    await store.aclose()


async def test_a_key_whose_slot_has_no_master_is_refused_until_it_has_one(
    partial: ScriptedServer, store: RedisStore
) -> None:
    assert await store.get("other", PATIENCE) is None
    for key in ("k", "{k}:2"):
        with pytest.raises(StoreRefusedError) as refused:
            await store.get(key, PATIENCE)
        assert refused.value.cause == "CLUSTERDOWN"
    partial.always[b"CLUSTER"] = row(0, SLOTS - 1, bulk(b""), b":%d\r\n" % partial.port)

    async def ask() -> None:
        answers.append(*await asyncio.gather(store.get("k", PATIENCE), return_exceptions=True))

    answers: list[object] = []
    await until(lambda: answers and answers[-1] is None, ask)


async def test_nothing_is_swept_while_a_slot_has_no_master(store: RedisStore) -> None:
    """What it would have is not looked through."""
    with pytest.raises(StoreRefusedError):
        await store.servers_of("other", PATIENCE)


async def test_a_server_that_is_no_master_any_more_is_not_swept(store: RedisStore) -> None:
    await store.get("other", PATIENCE)
    with pytest.raises(StoreUnavailableError):
        await store.sweep("", PATIENCE, Sweep("127.0.0.1:1"))


# --- operations that wait for the slots ---------------------------------------------------------------------


@pytest_asyncio.fixture
async def silent(redis_server: RedisServer) -> AsyncIterator[FaultProxy]:
    """A node that has all slots, and that does not answer before it is healed."""
    async with ScriptedServer(redis_server.port) as scripted, FaultProxy(scripted.port) as proxy:
        scripted.always[b"CLUSTER"] = row(0, SLOTS - 1, bulk(b""), b":%d\r\n" % proxy.port)
        await proxy.set(Fault.HOLD)
        yield proxy


@pytest_asyncio.fixture
async def waiting(silent: FaultProxy) -> AsyncIterator[RedisStore]:
    store = open_store(silent.url.replace("redis:", "redis+cluster:"), clock=SystemClock())
    assert isinstance(store, RedisStore)
    yield store
    await store.aclose()


async def test_operations_that_wait_for_the_slots_are_bounded(
    silent: FaultProxy, waiting: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachekit.stores.cluster.QUEUE", 3)
    asked = [asyncio.ensure_future(waiting.get(f"k{n}", PATIENCE)) for n in range(3)]
    with pytest.raises(QueueFullError):
        await waiting.get("full", PATIENCE)
    # An operation whose caller is gone makes room.
    asked[1].cancel()
    await asyncio.sleep(0)
    room = asyncio.ensure_future(waiting.get("room", PATIENCE))
    await silent.heal()
    assert await asyncio.gather(asked[0], asked[2], room) == [None] * 3


async def test_nothing_is_connected_for_an_operation_whose_caller_is_gone_when_the_slots_are_known(
    redis_server: RedisServer,
) -> None:
    async with (
        ScriptedServer(redis_server.port) as scripted,
        FaultProxy(scripted.port) as asked,
        FaultProxy(scripted.port) as other,
    ):
        half = min(slot_of("gone"), slot_of("stays"))
        ports = [other.port, asked.port] if slot_of("gone") == half else [asked.port, other.port]
        ends = ((0, half), (half + 1, SLOTS - 1))
        rows = [row(*both, bulk(b""), b":%d\r\n" % port)[4:] for both, port in zip(ends, ports, strict=True)]
        scripted.always[b"CLUSTER"] = b"*2\r\n" + b"".join(rows)
        store = open_store(asked.url.replace("redis:", "redis+cluster:"), clock=SystemClock())
        gone = asyncio.ensure_future(store.seize_lease("gone", PATIENCE, b"t" * 24, lease_ms=60_000))
        stays = asyncio.ensure_future(store.get("stays", PATIENCE))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays is None
        assert other.accepted == 0
        await store.aclose()


async def test_an_operation_that_waits_for_the_slots_has_no_more_time_than_its_deadline(waiting: RedisStore) -> None:
    with pytest.raises(StoreTimeoutError):
        await waiting.get("k", 0.1)


async def test_an_operation_waits_on_though_the_nodes_have_not_answered_the_first_question(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachekit.stores.cluster._PATIENCE", 0.05)
    async with ScriptedServer(redis_server.port) as scripted, FaultProxy(scripted.port) as proxy:
        scripted.always[b"CLUSTER"] = row(0, SLOTS - 1, bulk(b""), b":%d\r\n" % proxy.port)
        store = open_store(proxy.url.replace("redis:", "redis+cluster:"), clock=SystemClock())
        await proxy.set(Fault.HALF_OPEN)
        short = asyncio.ensure_future(store.get("k", 0.1))
        await until(lambda: proxy.accepted)
        patient = asyncio.ensure_future(store.get("k", PATIENCE))
        with pytest.raises(StoreTimeoutError):
            await short
        # The question had as long as the operation that it was for. What it was asked on stays dead.
        await proxy.heal()
        assert await patient is None
        await store.aclose()
