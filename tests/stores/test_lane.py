"""A lane: operations that are asked at the same time travel together, and a lone operation pays nothing for it."""

from __future__ import annotations

import asyncio
import select
import weakref
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio.connection import AbstractConnection

from cachekit import Cache
from cachekit.clock import SystemClock
from cachekit.errors import KeyRefusedError, QueueFullError, StoreError, StoreGarbageError, StoreRefusedError
from cachekit.stores import RedisStore, Store, TimedStore
from cachekit.stores.connect import connector, open_store
from cachekit.stores.deadlines import Deadlines
from cachekit.stores.lane import Lane
from cachekit.stores.network import SingleServer
from cachekit.stores.operations import Read, TimedMultiGet, TimedRead
from cachekit.stores.scripts import Put
from cachekit.urls import parse
from tests.kit.cluster import RedisCluster
from tests.kit.proxy import Fault, FaultProxy
from tests.kit.scripted import ScriptedServer
from tests.kit.servers import RedisServer
from tests.kit.waiting import until

T = 5.0
MINUTE = 60_000


@pytest_asyncio.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    store = open_store(redis_server.url, clock=SystemClock())
    # The store is connected first. Otherwise the first operations would travel together, since all wait for that.
    await store.get("connected", T)
    redis_server.cli("CONFIG", "RESETSTAT")
    yield store
    await store.aclose()


def calls(server: RedisServer) -> dict[str, int]:
    """Return how often the store has asked each command of ``server``."""
    stats = server.cli("INFO", "commandstats")
    return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}


async def test_reads_of_one_turn_travel_as_one_but_for_the_first(redis_server: RedisServer, store: Store) -> None:
    for n in range(0, 100, 2):
        redis_server.cli("SET", f"k{n}", n)
    redis_server.cli("CONFIG", "RESETSTAT")
    found = await asyncio.gather(*[store.get(f"k{n}", T) for n in range(100)])
    assert found == [None if n % 2 else str(n).encode() for n in range(100)]
    counts = calls(redis_server)
    assert (counts["get"], counts["mget"]) == (1, 1)


async def test_timed_reads_of_one_turn_travel_as_one_but_for_the_first(redis_server: RedisServer, store: Store) -> None:
    assert isinstance(store, TimedStore)
    for n in range(100):
        redis_server.cli("SET", f"k{n}", n, "EX", 60)
    redis_server.cli("CONFIG", "RESETSTAT")
    found = await asyncio.gather(*[store.get_with_ttl(f"k{n}", T) for n in range(100)])
    assert [value for value, _ in found] == [str(n).encode() for n in range(100)]
    assert all(0 < left <= 60 for _, left in found)
    counts = calls(redis_server)
    assert (counts["get"], counts["mget"], counts["pttl"]) == (1, 1, 100)


async def test_the_time_that_is_left_is_asked_for_before_the_value() -> None:
    """BROKEN in the other order: a value that is replaced in between would be taken for as fresh as the new one."""
    deadlines = Deadlines("here")
    reads = [TimedRead(f"k{n}", T, deadlines) for n in range(3)]
    reads[0].pack()
    for packed, command in ((reads[0].packed, b"GET"), (TimedMultiGet(reads).packed, b"MGET")):
        assert packed.rindex(b"PTTL") < packed.index(command)
    deadlines.close()


async def test_a_timed_read_asks_for_each_of_its_commands_where_a_slot_is_moving() -> None:
    deadlines = Deadlines("here")
    read = TimedRead("k", T, deadlines)
    read.pack()
    plain = read.packed
    read.add_asking(b"ASKING")
    assert read.packed.count(b"ASKING") == 2
    assert (read.replies, read.result_of([b"OK", 5, b"OK", b"v"])) == (4, [5, b"v"])
    read.remove_asking()
    assert (read.packed, read.replies) == (plain, 2)
    deadlines.close()


@pytest.mark.parametrize("reply", [b"x", None, [], [1], [b"1", b"v"], [1, 2], [1, b"v", 3], [[], b"v"]], ids=repr)
async def test_a_reply_that_is_no_answer_to_a_timed_read_fails_it(reply: object) -> None:
    deadlines = Deadlines("here")
    reads = [TimedRead(key, T, deadlines) for key in ("a", "b")]
    reads[0].succeed(reply)
    with pytest.raises(StoreGarbageError):
        await reads[0].future
    together = TimedMultiGet(reads)
    together.succeed(reply)
    with pytest.raises(StoreGarbageError):
        await reads[1].future
    deadlines.close()


async def test_operations_of_one_caller_travel_with_others_of_their_turn_and_no_later_one_waits(store: Store) -> None:
    assert isinstance(store, RedisStore)
    lane: Any = store.connection("k")
    for _ in range(2):
        many = store.get_many_with_ttl([f"k{n}" for n in range(10)], T)
        last = store.get("k", T)
        assert not lane.activity.sent_at
        await asyncio.gather(many, last)
        await store.get_many_with_ttl([f"k{n}" for n in range(10)], T)
        # Several operations were under way, and none of them came from another caller.
        one = store.get("k", T)
        assert lane.activity.sent_at
        await one


async def test_operations_of_one_caller_wait_for_others_of_their_turn_where_there_are_several_callers(
    redis_server: RedisServer, store: Store
) -> None:
    assert isinstance(store, RedisStore)
    await asyncio.gather(*[store.get(f"k{n}", T) for n in range(10)])
    redis_server.cli("CONFIG", "RESETSTAT")
    await asyncio.gather(*[store.get_many_with_ttl([f"k{n}" for n in range(10)], T) for _ in range(5)])
    assert calls(redis_server)["mget"] == 1


async def test_one_key_asked_for_many_times_travels_once(redis_server: RedisServer, store: Store) -> None:
    redis_server.cli("SET", "k", "v")
    found = await asyncio.gather(*[store.get("k", T) for _ in range(100)])
    assert found == [b"v"] * 100
    stats = redis_server.cli("INFO", "stats")
    assert int(stats["keyspace_hits"]) == 2, "once at once, and once for all who came meanwhile"


async def test_a_lone_read_is_a_plain_get(redis_server: RedisServer, store: Store) -> None:
    for _ in range(5):
        await store.get("k", T)
    counts = calls(redis_server)
    assert counts["get"] == 5
    assert "mget" not in counts


async def test_a_key_of_another_kind_among_others_fails_only_its_caller(
    redis_server: RedisServer, store: Store
) -> None:
    redis_server.cli("LPUSH", "list", "x")
    redis_server.cli("SET", "k", "v")
    answers = await asyncio.gather(*[store.get(key, T) for key in ("k", "list", "k", "none")], return_exceptions=True)
    assert [answers[0], answers[2], answers[3]] == [b"v", b"v", None]
    assert answers[1] is None or isinstance(answers[1], KeyRefusedError)


async def test_a_key_that_may_not_be_read_fails_only_its_caller(start_server: Callable[..., RedisServer]) -> None:
    server = start_server("user app on >secret ~mine:* +get +mget")
    server.cli("SET", "mine:1", "v")
    store = open_store(server.url.replace("://", "://app:secret@"), clock=SystemClock())
    await store.get("mine:0", T)
    keys = ("mine:0", "mine:1", "theirs", "mine:1", "mine:2")
    answers = await asyncio.gather(*[store.get(key, T) for key in keys], return_exceptions=True)
    assert isinstance(answers[2], KeyRefusedError)
    assert [answers[n] for n in (0, 1, 3, 4)] == [None, b"v", b"v", None]
    await store.aclose()


async def test_a_read_is_never_answered_from_before_an_invalidation_that_was_asked_first(store: Store) -> None:
    for _ in range(20):
        await store.set("k", T, b"old", ttl_ms=MINUTE)
        # All are asked in one turn: the first makes the lane busy, the others gather behind it.
        _, before, _, after, _ = await asyncio.gather(
            store.get("other", T),
            store.get("k", T),
            store.delete(["k"], T),
            store.get("k", T),
            store.get("other", T),
        )
        assert after is None
        assert before in (b"old", None)


@pytest.mark.parametrize("size", [0, 16_000, 5_000_000])
async def test_values_of_all_sizes_arrive_as_they_were_sent(store: Store, size: int) -> None:
    for n in range(3):
        value = bytes([65 + n]) * size
        await store.set("k", T, value, ttl_ms=MINUTE)
        assert await store.get("k", T) == value


async def test_a_cancelled_reader_disturbs_no_reader_of_the_same_command(
    redis_server: RedisServer, store: Store
) -> None:
    redis_server.cli("SET", "k1", "1")
    redis_server.cli("SET", "k2", "2")
    for turns in range(8):
        readers = [asyncio.ensure_future(store.get(f"k{n}", T)) for n in (1, 2, 1, 2)]
        for _ in range(turns):
            await asyncio.sleep(0)
        readers[1].cancel()
        readers[2].cancel()
        answers = await asyncio.gather(*readers, return_exceptions=True)
        assert answers[0] == b"1"
        assert answers[3] == b"2"


async def test_reads_that_travelled_together_are_asked_again_when_their_connection_breaks(
    redis_server: RedisServer,
) -> None:
    redis_server.cli("SET", "k1", "1")
    async with FaultProxy(redis_server.port) as proxy:
        store = open_store(proxy.url, clock=SystemClock())
        await store.get("connected", T)
        await proxy.set(Fault.DELAY, seconds=3600, new=False)
        first = asyncio.ensure_future(store.get("k0", T))
        await asyncio.sleep(0)
        reads = [asyncio.ensure_future(store.get(key, T)) for key in ("k1", "k2", "k1")]
        await asyncio.sleep(0.02)
        await proxy.set(Fault.RESET, new=False)
        assert await asyncio.gather(first, *reads) == [None, b"1", None, b"1"]
        assert proxy.accepted == 2
        await store.aclose()


async def test_only_reads_of_one_slot_of_a_cluster_travel_as_one(shared_cluster: RedisCluster) -> None:
    shared_cluster.reset()
    async with Cache(shared_cluster.url, timeout=T) as cache:
        keys = [f"{{{tag}}}:{n}" for tag in "abcdef" for n in range(5)]
        for key in keys:
            await cache.set(key, key, ttl=60)
        for node in shared_cluster.nodes:
            node.cli("CONFIG", "RESETSTAT")
        assert await asyncio.gather(*[cache.get(key) for key in keys]) == keys
    counts = [calls(node) for node in shared_cluster.nodes]
    assert sum(count.get("mget", 0) for count in counts) <= 6
    assert sum(count.get("get", 0) for count in counts) <= 6


async def test_nothing_that_follows_a_reply_of_the_wrong_kind_is_handed_out(own_server: RedisServer) -> None:
    """A stream of replies that is shifted by one would give each caller the value of another."""
    async with ScriptedServer(own_server.port) as scripted:
        scripted.answer = b":1\r\n$5\r\nwrong\r\n"
        connect, deadlines = connector(parse(scripted.url)), Deadlines("here")
        owner = SingleServer(connect, deadlines)
        # Each key has a command of its own, and all commands are in one batch.
        lane = Lane(connect, deadlines, weakref.ref(owner), str)
        reads = [Read(f"k{n}", T, deadlines) for n in range(3)]
        for read in reads:
            lane.put(read)
        answers = await asyncio.gather(*[read.future for read in reads], return_exceptions=True)
        assert all(isinstance(answer, StoreError) for answer in answers), answers
        await asyncio.wait([lane.task, *owner.close()])
        deadlines.close()


async def test_a_value_is_stored_though_the_server_has_just_closed_the_idle_connection(own_server: RedisServer) -> None:
    """It must not be sent twice, so it is not sent on a connection that has ended."""
    store = open_store(own_server.url, clock=SystemClock())
    assert isinstance(store, RedisStore)
    await ended(own_server, store)
    await store.set("k", T, b"v", ttl_ms=MINUTE)
    assert own_server.cli("GET", "k") == b"v"
    await store.aclose()


async def test_an_operation_that_was_sent_on_has_no_more_time_than_its_deadline(own_server: RedisServer) -> None:
    """Others in a burst have theirs from the time at which they are sent."""
    deadlines = Deadlines("here")
    network = SingleServer(connector(parse(own_server.url)), deadlines)
    first = Read("connected", T, deadlines)
    network.submit(first)
    await first.future
    own_server.pause()
    read = Read("k", T, deadlines)
    network.submit(read)
    lane = network.connection("k")
    assert lane is not None
    read.queued = True
    whole = read.began + read.patience
    assert lane._due(read, whole, unsent=False) > whole
    read.redirections = 1
    assert lane._due(read, whole, unsent=False) == whole
    own_server.resume()
    await read.future
    deadlines.close()
    await asyncio.wait(network.close())


async def test_an_operation_ends_though_its_lane_is_closed_before_it_began(redis_server: RedisServer) -> None:
    store = open_store(redis_server.url, clock=SystemClock())
    asked = store.get("k", T)
    await store.aclose()
    with pytest.raises(StoreError):
        await asked


async def test_a_reply_that_is_no_value_gives_no_caller_the_value_of_another(own_server: RedisServer) -> None:
    async with ScriptedServer(own_server.port) as scripted:
        store = open_store(scripted.url, clock=SystemClock())
        await store.get("connected", T)
        scripted.answer = b":1\r\n$5\r\nwrong\r\n"
        takers = [asyncio.ensure_future(store.get_and_delete(f"k{n}", T)) for n in range(3)]
        answers = await asyncio.gather(*takers, return_exceptions=True)
        assert all(isinstance(answer, StoreError) for answer in answers), answers
        await store.aclose()


async def test_connecting_may_take_as_long_as_the_operation_that_waits_for_it(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The store is far away, or on a busy machine.
    monkeypatch.setattr("cachekit.stores.lane.CONNECT_PATIENCE", 0.001)
    connect = connector(parse(redis_server.url))

    async def connect_slowly() -> AbstractConnection:
        await asyncio.sleep(0.02)
        return await connect()

    deadlines = Deadlines("here")
    network = SingleServer(connect_slowly, deadlines)
    patient = Read("k", T, deadlines)
    network.submit(patient)
    try:
        assert await patient.future is None
    finally:
        deadlines.close()
        await asyncio.wait(network.close())


async def test_values_of_many_are_stored_though_the_server_has_just_closed_the_idle_connection(
    own_server: RedisServer,
) -> None:
    store = open_store(own_server.url, clock=SystemClock())
    assert isinstance(store, RedisStore)
    await ended(own_server, store)
    assert await store.set_many([("a", b"1"), ("b", b"2")], T, ttl_ms=MINUTE) == [True, True]
    assert own_server.cli("MGET", "a", "b") == [b"1", b"2"]
    await store.aclose()


async def test_a_system_that_tells_no_end_of_a_connection_at_once_stores_it_all_the_same(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows is such a system. The event loop finds the end in its next turn."""
    monkeypatch.setattr("cachekit.stores.lane.select", SimpleNamespace())
    store = open_store(own_server.url, clock=SystemClock())
    assert isinstance(store, RedisStore)
    await ended(own_server, store)
    await store.set("k", T, b"v", ttl_ms=MINUTE)
    assert own_server.cli("GET", "k") == b"v"
    await store.aclose()


async def ended(server: RedisServer, store: RedisStore) -> None:
    """Connect ``store``, and have the server end its connection. The event loop gets no turn in which it sees that."""
    await store.get("connected", T)
    lane = store.connection("k")
    assert isinstance(lane, Lane)
    assert lane._transport is not None
    server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    select.select([lane._transport.get_extra_info("socket")], [], [], T)


@pytest.mark.parametrize(
    ("said", "kind", "cause"),
    [
        (b"-ERR max number of clients reached\r\n", StoreRefusedError, "MAXCLIENTS"),
        (b"+HELLO\r\n", StoreGarbageError, "garbage"),
    ],
)
async def test_the_last_words_of_a_server_are_the_error_of_those_that_wait(
    said: bytes, kind: type[StoreError], cause: str
) -> None:
    def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        connect = connector(parse(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"))

        async def connect_until_it_has_spoken() -> AbstractConnection:
            connection: Any = await connect()
            await until(lambda: connection._reader._buffer)
            return connection

        deadlines = Deadlines("here")
        network = SingleServer(connect_until_it_has_spoken, deadlines)
        read = Read("k", T, deadlines)
        network.submit(read)
        with pytest.raises(kind) as raised:
            await read.future
        assert raised.value.cause == cause
        deadlines.close()
        await asyncio.wait(network.close() or [asyncio.ensure_future(asyncio.sleep(0))])


async def test_a_connection_whose_only_operation_found_no_room_serves_the_next(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachekit.stores.lane.QUEUE_BYTES", 100_000)
    store = open_store(redis_server.url, clock=SystemClock())
    assert isinstance(store, RedisStore)
    with pytest.raises(QueueFullError):
        await store.run("k", T, Put(b"0" * 24, b"x" * 200_000, MINUTE))
    lane = store.connection("k")
    assert isinstance(lane, Lane)
    await until(lambda: lane._transport)
    assert await store.get("k", T) is None
    assert store.connection("k") is lane
    await store.aclose()


async def test_an_answer_that_comes_after_the_deadline_changes_nothing_that_a_caller_has(
    redis_server: RedisServer,
) -> None:
    keys = [f"k{n}" for n in range(8)]
    for key in keys:
        redis_server.cli("SET", key, "late")
    async with FaultProxy(redis_server.port) as proxy:
        store = open_store(proxy.url, clock=SystemClock())
        assert isinstance(store, RedisStore)
        await store.get("connected", T)
        await proxy.set(Fault.DELAY, seconds=3600, new=False)
        found = await store.get_many_with_ttl(keys, 0.05)
        before = [*found]
        assert all(isinstance(one, StoreError) for one in before)
        await proxy.heal()
        # Its answer comes behind theirs.
        assert await store.get("k0", T) == b"late"
        assert found == before
        await store.aclose()
