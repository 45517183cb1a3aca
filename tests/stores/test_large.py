"""Large replies: no other key waits behind them, and what does not arrive in time is not asked for again at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio.connection import AbstractConnection

from cachekit import Cache
from cachekit.clock import SystemClock
from cachekit.errors import CongestedError, StoreTimeoutError
from cachekit.events import BreakerOpened, Event
from cachekit.stores.connect import open_store
from cachekit.stores.deadlines import Deadlines
from cachekit.stores.large import LargeReplies
from cachekit.stores.redis import RedisStore
from tests.kit.cluster import RedisCluster
from tests.kit.proxy import Fault, FaultProxy
from tests.kit.servers import RedisServer
from tests.kit.waiting import until

# Long enough for a healthy answer on a noisy machine.
PATIENCE = 30.0
MINUTE = 60_000
LARGE = b"x" * 1_000_000
SMALL = b"small"


@pytest_asyncio.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_server.port) as proxy:
        yield proxy


@pytest_asyncio.fixture(params=[2, 3])
async def store(request: pytest.FixtureRequest, proxy: FaultProxy) -> AsyncIterator[RedisStore]:
    """A store behind the proxy, connected, which speaks RESP2 or RESP3."""
    store = open_store(f"{proxy.url}?protocol={request.param}", clock=SystemClock())
    assert isinstance(store, RedisStore)
    await store.get("connected", PATIENCE)
    yield store
    await store.aclose()


async def arriving(
    server: RedisServer, store: RedisStore, proxy: FaultProxy, key: str = "large"
) -> asyncio.Future[object]:
    """Begin to read a large value through a narrow network, until another connection is open for the others."""
    server.cli("SET", key, LARGE)
    await proxy.set(Fault.DELAY, seconds=0.05, new=False)
    reading = asyncio.ensure_future(store.get(key, PATIENCE))
    lane = store._loops.get().network.connection(key)
    await until(lambda: store._loops.get().network.connection(key) is not lane)
    return reading


async def test_no_other_key_waits_behind_a_reply_that_is_large_and_slow(
    redis_server: RedisServer, proxy: FaultProxy, store: RedisStore
) -> None:
    redis_server.cli("SET", "small", SMALL)
    reading = await arriving(redis_server, store, proxy)
    for _ in range(3):
        assert await store.get("small", PATIENCE) == SMALL
    assert not reading.done()
    assert await reading == LARGE
    assert proxy.accepted == 2


async def test_what_waited_behind_it_goes_on_at_once(
    redis_server: RedisServer, proxy: FaultProxy, store: RedisStore
) -> None:
    redis_server.cli("SET", "large", LARGE)
    redis_server.cli("SET", "small", SMALL)
    await proxy.set(Fault.DELAY, seconds=0.05, new=False)
    reading = asyncio.ensure_future(store.get("large", PATIENCE))
    await asyncio.sleep(0)
    assert await store.get("small", PATIENCE) == SMALL
    assert not reading.done()
    assert await reading == LARGE


async def test_a_key_that_was_large_once_is_read_on_the_second_connection(
    redis_server: RedisServer, proxy: FaultProxy, store: RedisStore
) -> None:
    redis_server.cli("SET", "small", SMALL)
    assert await (await arriving(redis_server, store, proxy)) == LARGE
    first = asyncio.ensure_future(store.get("large", PATIENCE))
    for _ in range(3):
        assert await store.get("small", PATIENCE) == SMALL
    assert not first.done()
    assert await first == LARGE
    assert proxy.accepted == 2


async def too_late(server: RedisServer, store: RedisStore, proxy: FaultProxy) -> None:
    """Read a large value that does not arrive in time."""
    server.cli("SET", "large", LARGE)
    await proxy.set(Fault.DELAY, seconds=0.03, new=False)
    seen: list[object] = []

    async def read() -> None:
        seen.extend(await asyncio.gather(store.get("large", 0.3), return_exceptions=True))

    # A pause of this process can look like silence, or be long enough for all of it.
    await until(lambda: any(isinstance(found, CongestedError) for found in seen), read)
    # The reply goes on to arrive until the connection is closed.
    await until(lambda: store._loops.get().network._large.keys.get("large"))  # type: ignore[attr-defined]
    await proxy.heal()


def reads(server: RedisServer) -> int:
    return int(server.cli("INFO", "commandstats")["cmdstat_get"]["calls"])


async def test_a_value_that_is_too_large_to_arrive_in_time_is_not_asked_for_in_the_next_minute(
    redis_server: RedisServer, proxy: FaultProxy, store: RedisStore
) -> None:
    await too_late(redis_server, store, proxy)
    sent = reads(redis_server)
    with pytest.raises(CongestedError):
        await store.get("large", PATIENCE)
    assert reads(redis_server) == sent


async def test_it_is_asked_for_after_that_minute(
    redis_server: RedisServer, proxy: FaultProxy, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachekit.stores.large.UNASKED", 0.0)
    await too_late(redis_server, store, proxy)
    assert await store.get("large", PATIENCE) == LARGE


async def test_it_is_asked_for_when_this_process_has_replaced_it(
    redis_server: RedisServer, proxy: FaultProxy, store: RedisStore
) -> None:
    await too_late(redis_server, store, proxy)
    await store.set("large", PATIENCE, SMALL, ttl_ms=MINUTE)
    assert await store.get("large", PATIENCE) == SMALL


async def test_no_read_overtakes_the_invalidation_of_several_keys_when_the_connection_changes(
    redis_server: RedisServer, proxy: FaultProxy, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = store._loops.get().network
    connect = network._connect  # type: ignore[attr-defined]

    async def connect_slowly() -> AbstractConnection:
        await asyncio.sleep(2)
        return await connect()

    monkeypatch.setattr(network, "_connect", connect_slowly)
    redis_server.cli("SET", "large", LARGE)
    redis_server.cli("SET", "other", SMALL)
    await proxy.set(Fault.DELAY, seconds=0.03, new=False)
    first = asyncio.ensure_future(store.get("large", PATIENCE))
    await asyncio.sleep(0)
    deleting = asyncio.ensure_future(store.delete(["other", "large"], PATIENCE))
    await asyncio.sleep(0)
    assert await store.get("large", PATIENCE) is None
    assert await store.get("other", PATIENCE) is None
    assert await first == LARGE
    await deleting


async def test_operations_of_a_large_value_keep_their_order(
    redis_server: RedisServer, proxy: FaultProxy, store: RedisStore
) -> None:
    reading = await arriving(redis_server, store, proxy)
    setting = asyncio.ensure_future(store.set("large", PATIENCE, SMALL, ttl_ms=MINUTE))
    await asyncio.sleep(0)
    deleting = asyncio.ensure_future(store.delete(["other", "large"], PATIENCE))
    await asyncio.sleep(0)
    assert await store.get("large", PATIENCE) is None
    await asyncio.gather(reading, setting, deleting)


async def test_a_key_whose_value_is_small_again_is_one_like_others(
    redis_server: RedisServer, proxy: FaultProxy, store: RedisStore
) -> None:
    assert await (await arriving(redis_server, store, proxy)) == LARGE
    network = store._loops.get().network
    await store.set("large", PATIENCE, SMALL, ttl_ms=MINUTE)
    assert await store.get("large", PATIENCE) == SMALL
    assert not network._large.keys  # type: ignore[attr-defined]
    assert await store.get("large", PATIENCE) == SMALL


async def test_large_values_are_read_each_by_itself(
    redis_server: RedisServer, proxy: FaultProxy, store: RedisStore
) -> None:
    """In one MGET none of them would be there before all are."""
    await (await arriving(redis_server, store, proxy, "one"))
    # It opens the connection in place of the one that is for large values now.
    assert await store.get("small", PATIENCE) is None
    await (await arriving(redis_server, store, proxy, "two"))
    await proxy.heal()
    redis_server.cli("CONFIG", "RESETSTAT")
    # The first question is sent at once, so the others wait.
    await asyncio.gather(*[store.get(key, PATIENCE) for key in ("one", "one", "two")])
    assert "cmdstat_mget" not in redis_server.cli("INFO", "commandstats")


async def test_a_silent_server_is_not_taken_for_a_value_that_is_too_large(
    redis_server: RedisServer, proxy: FaultProxy, store: RedisStore
) -> None:
    assert await (await arriving(redis_server, store, proxy)) == LARGE
    await proxy.set(Fault.HALF_OPEN)
    with pytest.raises(StoreTimeoutError):
        await store.get("large", 0.2)
    # It is asked for again.
    assert store._loops.get().network._large.keys == {"large": 0.0}  # type: ignore[attr-defined]


async def test_the_keys_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cachekit.stores.large.MOST_KEYS", 10)
    deadlines = Deadlines("here")
    large = LargeReplies(deadlines)
    for n in range(25):
        large.note_late(f"k{n}")
    assert [*large.keys] == [f"k{n}" for n in range(15, 25)]
    deadlines.close()


async def test_a_master_of_a_cluster_has_a_second_connection_of_its_own(
    shared_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On loopback no reply is slow.
    monkeypatch.setattr("cachekit.stores.lane.SLOW_REPLY", -1.0)
    store = open_store(shared_cluster.url, clock=SystemClock())
    assert isinstance(store, RedisStore)
    keys = ["large", "a", "b", "c", "d"]
    for key in keys:
        await store.set(key, PATIENCE, LARGE if key == "large" else SMALL, ttl_ms=MINUTE)
    for _ in range(3):
        assert await asyncio.gather(*[store.get(key, PATIENCE) for key in keys]) == [LARGE, *[SMALL] * 4]
    network = store._loops.get().network
    assert [*network._large.keys] == ["large"]  # type: ignore[attr-defined]
    assert await store.get("small", PATIENCE) is None
    await store.delete(keys, PATIENCE)
    assert await asyncio.gather(*[store.get(key, PATIENCE) for key in keys]) == [None] * 5
    await store.aclose()


async def test_calls_are_hits_while_a_large_value_arrives_and_its_own_caller_waits_for_its_deadline(
    redis_server: RedisServer, proxy: FaultProxy
) -> None:
    redis_server.cli("SET", "large", b'"' + LARGE + b'"')
    events: list[Event] = []
    loads: list[str] = []
    async with Cache(proxy.url, timeout=0.5) as cache:

        @cache.cached(key="<key>", ttl=60, max_bytes=10_000_000)
        async def value(key: str) -> str:
            loads.append(key)
            return "loaded"

        await until(lambda: redis_server.cli("EXISTS", "small"), lambda: value("small"))
        cache.observe(events.append)
        await proxy.set(Fault.DELAY, seconds=0.05, new=False)
        loads.clear()
        large = asyncio.ensure_future(value("large"))
        while not large.done():
            await value("small")
        assert await large == "loaded"
        assert loads.count("small") <= 1
        assert not [event for event in events if isinstance(event, BreakerOpened)]
        await proxy.heal()


async def test_a_large_value_is_known_by_its_size_also_when_it_is_read_with_its_time(
    redis_server: RedisServer, proxy: FaultProxy, store: RedisStore
) -> None:
    assert await (await arriving(redis_server, store, proxy)) == LARGE
    await proxy.heal()
    network = store._loops.get().network
    value, _ = await store.get_with_ttl("large", PATIENCE)
    assert value == LARGE
    assert [*network._large.keys] == ["large"]  # type: ignore[attr-defined]
    redis_server.cli("SET", "large", SMALL)
    assert (await store.get_with_ttl("large", PATIENCE))[0] == SMALL
    assert not network._large.keys  # type: ignore[attr-defined]


async def test_of_many_keys_the_large_ones_are_read_on_the_second_connection(
    redis_server: RedisServer, proxy: FaultProxy, store: RedisStore
) -> None:
    assert await (await arriving(redis_server, store, proxy)) == LARGE
    # It opens the connection in place of the one that is for large values now.
    assert await store.get("small", PATIENCE) is None
    redis_server.cli("SET", "small", SMALL)
    lane = store.connection("small")
    await proxy.set(Fault.DELAY, seconds=0.05)
    both = asyncio.ensure_future(store.get_many_with_ttl(["large", "small"], PATIENCE))
    assert await store.get("small", PATIENCE) == SMALL
    assert not both.done()
    large, small = await both
    assert (large[0], small[0]) == (LARGE, SMALL)  # type: ignore[index]
    assert store.connection("small") is lane
    assert (await store.get_many_with_ttl(["large"], PATIENCE))[0][0] == LARGE  # type: ignore[index]
    # Keys of which none is large may stand in one command, as always.
    assert await store.get_many(["small"] * 6, PATIENCE) == [SMALL] * 6


async def test_reads_that_travel_with_a_large_one_are_read_each_by_itself_from_then_on(
    redis_server: RedisServer, proxy: FaultProxy, store: RedisStore
) -> None:
    redis_server.cli("SET", "large", LARGE)
    redis_server.cli("SET", "small", SMALL)
    await proxy.set(Fault.DELAY, seconds=0.05, new=False)
    lane = store.connection("k")
    # The first one is sent at once, and the others as one.
    reading = asyncio.gather(*[store.get(key, PATIENCE) for key in ("first", "small", "large")])
    await until(lambda: store.connection("k") is not lane)
    network = store._loops.get().network
    assert {*network._large.keys} == {"small", "large"}  # type: ignore[attr-defined]
    assert await reading == [None, SMALL, LARGE]


async def test_a_large_value_keeps_its_connection_while_another_one_is_arriving_on_the_second(
    redis_server: RedisServer, proxy: FaultProxy, store: RedisStore
) -> None:
    """There is no third connection."""
    redis_server.cli("SET", "two", LARGE)
    first = await arriving(redis_server, store, proxy, "one")
    # The rest of it is held back for as long as the other one takes.
    await proxy.set(Fault.DELAY, seconds=3600, new=False)
    await proxy.set(Fault.DELAY, seconds=0.02, existing=False)
    assert await store.get("small", PATIENCE) is None
    lane = store.connection("two")
    assert await store.get("two", PATIENCE) == LARGE
    assert store.connection("two") is lane
    assert not first.done()
    await proxy.heal()
    assert await first == LARGE
    assert proxy.accepted == 2
