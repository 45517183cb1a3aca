"""Replies that are no answers: each verb of a store says so, and the connection that brought one is used no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from cachekit.clock import SystemClock
from cachekit.entry import lease_key
from cachekit.errors import KeyRefusedError, StoreGarbageError, StoreRefusedError
from cachekit.stores.base import Sweep, Want
from cachekit.stores.connect import open_store
from cachekit.stores.redis import RedisStore
from cachekit.stores.scripts import AcquireLease, OpenTags, Paused, PauseLease, ReleaseLease
from cachekit.tags import new_generation
from tests.kit.scripted import ScriptedServer
from tests.kit.servers import RedisServer
from tests.kit.waiting import PATIENCE as T

MINUTE = 60_000
TOKEN = b"0123456789abcdef01234567"
LEASE = AcquireLease(TOKEN, MINUTE)
OPENING = OpenTags(MINUTE, new_generation)
NONSENSE = b"*1\r\n:7\r\n"
SOME = [f"{{k}}:{n}" for n in range(6)]
"""Keys of one slot, so many that they stand in one command."""

VERBS: dict[str, Callable[[RedisStore, str], Awaitable[object]]] = {
    "probe": lambda store, _: store.probe("k", T),
    "get": lambda store, _: store.get("k", T),
    "get_with_ttl": lambda store, _: store.get_with_ttl("k", T),
    "get_with_lease": lambda store, _: store.get_with_lease("k", T),
    "get_with_lease_and_ttl": lambda store, _: store.get_with_lease_and_ttl("k", T),
    "set": lambda store, _: store.set("k", T, b"v", ttl_ms=MINUTE),
    "run": lambda store, _: store.run("k", T, LEASE),
    "seize_lease": lambda store, _: store.seize_lease("k", T, TOKEN, lease_ms=MINUTE),
    "delete": lambda store, _: store.delete(["k"], T),
    "get_and_delete": lambda store, _: store.get_and_delete("k", T),
    "get_and_delete_with_ttl": lambda store, _: store.get_and_delete_with_ttl("k", T),
    "window": lambda store, _: store.window("k", T, 5),
    "get_tagged": lambda store, _: store.get_tagged("k", T, ["tag"], Want.NOTHING),
    "get_tagged with its time": lambda store, _: store.get_tagged("k", T, ["tag"], Want.TTL),
    "open_tags": lambda store, _: store.open_tags("k", T, ["{k}:2"], OPENING),
    "run_tagged": lambda store, _: store.run_tagged("k", T, LEASE, ["k", "{k}:2"], OPENING),
    "sweep": lambda store, server: store.sweep("k", T, Sweep(server)),
}

MANY: dict[str, Callable[[RedisStore], Awaitable[list[Any]]]] = {
    "get_many": lambda store: store.get_many(SOME, T),
    "get_many_with_ttl": lambda store: store.get_many_with_ttl(SOME, T),
    "run_many": lambda store: store.run_many([(key, LEASE) for key in SOME], T),
    "set_many": lambda store: store.set_many([(key, b"v") for key in SOME], T, ttl_ms=MINUTE),
}


@pytest_asyncio.fixture
async def scripted(redis_server: RedisServer) -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer(redis_server.port) as scripted:
        yield scripted


@pytest_asyncio.fixture(params=["alone", "in a cluster"])
async def store(request: pytest.FixtureRequest, scripted: ScriptedServer) -> AsyncIterator[RedisStore]:
    """A store at the server, connected. The server is alone, or says that it has all slots of a cluster."""
    url = scripted.url
    if request.param == "in a cluster":
        node = b"*2\r\n$0\r\n\r\n:%d\r\n" % scripted.port
        scripted.always[b"CLUSTER"] = b"*1\r\n*3\r\n:0\r\n:16383\r\n" + node
        url = url.replace("redis:", "redis+cluster:")
    store = open_store(url, clock=SystemClock())
    assert isinstance(store, RedisStore)
    await store.get("connected", T)
    yield store
    await store.aclose()


@pytest.mark.parametrize("verb", VERBS)
async def test_a_reply_that_is_no_answer_fails_its_caller_and_ends_its_connection(
    scripted: ScriptedServer, store: RedisStore, verb: str
) -> None:
    [server] = await store.servers_of("", T)
    connection = store.connection("k")
    assert connection is not None
    scripted.answer = NONSENSE
    with pytest.raises(StoreGarbageError):
        await VERBS[verb](store, server)
    scripted.answer = None
    assert store.connection("k") is not connection
    assert await store.get("k", T) is None


@pytest.mark.parametrize("verb", MANY)
async def test_a_reply_that_is_no_answer_is_the_error_of_each_of_many_keys(
    scripted: ScriptedServer, store: RedisStore, verb: str
) -> None:
    connection = store.connection("k")
    scripted.answer = NONSENSE
    found = await MANY[verb](store)
    assert [type(one) for one in found] == [StoreGarbageError] * len(SOME)
    scripted.answer = None
    assert store.connection("k") is not connection
    assert await store.get_many(SOME, T) == [None] * len(SOME)


@pytest.mark.parametrize("verb", MANY)
async def test_a_refusal_of_the_server_is_the_error_of_each_of_many_keys(
    scripted: ScriptedServer, store: RedisStore, verb: str
) -> None:
    connection = store.connection("k")
    scripted.answer = b"-BUSY a script is running\r\n"
    found = await MANY[verb](store)
    assert [(type(one), one.cause) for one in found] == [(StoreRefusedError, "BUSY")] * len(SOME)
    scripted.answer = None
    # It was an answer.
    assert store.connection("k") is connection


async def test_a_time_that_is_no_number_gives_no_value_away(scripted: ScriptedServer, store: RedisStore) -> None:
    scripted.always |= {b"MULTI": b"+OK\r\n", b"PTTL": b"+QUEUED\r\n", b"GETDEL": b"+QUEUED\r\n"}
    scripted.always[b"EXEC"] = b"*2\r\n$1\r\nx\r\n$1\r\nv\r\n"
    with pytest.raises(StoreGarbageError):
        await store.get_and_delete_with_ttl("k", T)
    # The commands were not taken for a transaction at all.
    scripted.always[b"MULTI"] = b"+NO\r\n"
    with pytest.raises(StoreGarbageError):
        await store.get_and_delete_with_ttl("k", T)


async def test_a_key_that_is_no_ascii_is_a_key_like_others(store: RedisStore) -> None:
    await store.set("ключ", T, b"v", ttl_ms=MINUTE)
    assert await store.get("ключ", T) == b"v"
    value, left = await store.get_with_ttl("ключ", T)
    assert value == b"v"
    assert 50 < left <= 60
    assert await store.get_many(["ключ"] * 6, T) == [b"v"] * 6


async def test_a_script_at_a_key_that_cannot_be_sent_fails_alone(store: RedisStore) -> None:
    with pytest.raises(KeyRefusedError):
        await store.run("\ud800", T, LEASE)
    with pytest.raises(KeyRefusedError):
        await store.get_with_ttl("\ud800", T)
    refused, taken = await store.run_many([("\ud800", LEASE), ("k", LEASE)], T)
    assert isinstance(refused, KeyRefusedError)
    assert getattr(taken, "mine", None)


# --- reads that travel together -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "kind"), [(NONSENSE, StoreGarbageError), (b"-BUSY a script is running\r\n", StoreRefusedError)]
)
@pytest.mark.parametrize("want", [Want.NOTHING, Want.TTL, Want.HOLDER])
async def test_each_of_several_reads_with_tags_has_the_error_of_all(
    scripted: ScriptedServer, store: RedisStore, reply: bytes, kind: type[Exception], want: int
) -> None:
    scripted.answer = reply
    # The first one is sent at once and alone, the others together.
    reads = [store.get_tagged(f"{{k}}:{n}", T, ["{k}"], want) for n in range(4)]
    answers = await asyncio.gather(*reads, return_exceptions=True)
    assert [type(answer) for answer in answers] == [kind] * 4
    scripted.answer = None
    assert (await store.get_tagged("k", T, ["{k}:1"], want)).value is None


@pytest.mark.parametrize("gone", range(3))
async def test_a_caller_of_a_timed_read_that_is_gone_disturbs_no_other(store: RedisStore, gone: int) -> None:
    await store.set("k", T, b"v", ttl_ms=MINUTE)
    connection = store.connection("k")
    reads = [asyncio.ensure_future(store.get_with_ttl("k", T)) for _ in range(3)]
    reads[gone].cancel()
    answers = await asyncio.gather(*reads, return_exceptions=True)
    assert [answer for n, answer in enumerate(answers) if n != gone] == [(b"v", pytest.approx(60, abs=10))] * 2
    assert store.connection("k") is connection


# --- the end of an event loop -------------------------------------------------------------------------------


async def test_leases_are_left_to_their_end_while_the_event_loop_ends(
    redis_server: RedisServer, store: RedisStore
) -> None:
    """A loop that ends cancels every task. To give leases back would need new connections, and keep it from ending."""
    await store.seize_lease("k", T, TOKEN, lease_ms=MINUTE)
    lanes = [task for task in asyncio.all_tasks() if task.get_name().startswith("cachekit lane")]
    for lane in lanes:
        lane.cancel()
    await asyncio.wait(lanes)
    assert await store.run("k", T, ReleaseLease(TOKEN)) is False
    steps: Any = [("k", ReleaseLease(TOKEN)), ("k", PauseLease(TOKEN, MINUTE))]
    assert await store.run_many(steps, T) == [False, Paused.LOST]
    assert redis_server.cli("GET", lease_key("k")) == TOKEN
    assert store.connection("k") is None
