"""The feed: Redis reports each change, and a listener without reports knows it. The servers are real, and hurt."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
import redis
from redis.asyncio.connection import AbstractConnection

from cachekit.clock import SystemClock
from cachekit.entry import lease_key
from cachekit.errors import KeyRefusedError, StoreError
from cachekit.stores import MemoryStore, RedisStore, Tracking, TrackingStore, cluster, sentinel, tracking
from cachekit.stores.connect import connector, open_store
from cachekit.stores.lane import CONNECT_PATIENCE
from cachekit.stores.tracking import LIMIT, Feeds
from cachekit.urls import parse
from tests.kit.binaries import ServerBinary, first_server, group_servers, label, server_or_failure
from tests.kit.cluster import RedisCluster, slot_of
from tests.kit.ports import free_port
from tests.kit.proxy import Fault, FaultProxy
from tests.kit.scripted import ScriptedServer
from tests.kit.sentinel import SentinelSetup
from tests.kit.servers import RedisServer
from tests.kit.waiting import until

PATIENCE = 30.0
T = 5.0
PREFIX = "p:"
PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3], ids=lambda protocol: f"resp{protocol}")


class Listener:
    """Tracks a prefix, and keeps the reports: lists of keys, None, errors, and "live"; each with its `until`."""

    def __init__(self, store: RedisStore, prefix: str = PREFIX) -> None:
        self.reports: list[tuple[Any, float]] = []
        self.tracking: Tracking | None = None
        self.tracking = store.track(prefix, self._changed, self._state)

    def _changed(self, keys: Sequence[str] | None) -> None:
        self.reports.append((keys, self.until))

    def _state(self, error: StoreError | None) -> None:
        self.reports.append((error or "live", self.until))

    @property
    def until(self) -> float:
        return self.tracking.until if self.tracking else 0.0

    @property
    def live(self) -> bool:
        """Whether a near hit would be served now."""
        return tracking.time.monotonic() < self.until

    @property
    def reported(self) -> list[Any]:
        return [report for report, _ in self.reports]

    @property
    def keys(self) -> set[str]:
        return {key for report in self.reported if isinstance(report, list) for key in report}

    @property
    def causes(self) -> list[str]:
        return [report.cause for report in self.reported if isinstance(report, StoreError)]

    async def confirmed(self) -> None:
        """Wait until tracking is confirmed, and forget the reports so far."""
        await until(lambda: self.live)
        self.reports.clear()


def connections(server: RedisServer) -> list[bytes]:
    """Return the connections of ``server`` through TCP. The connection of the test is not among them."""
    lines: list[bytes] = server.cli("CLIENT", "LIST").splitlines()
    return [line for line in lines if b" addr=127.0.0.1:" in line]


def feeds_at(server: RedisServer) -> int:
    """Return how many clients get reports from ``server``: they have the flag t."""
    return sum(b"t" in line.partition(b" flags=")[2].partition(b" ")[0] for line in connections(server))


@pytest_asyncio.fixture
async def store_at() -> AsyncIterator[Callable[..., RedisStore]]:
    """A function that opens a store at a URL, by a protocol."""
    stores: list[RedisStore] = []

    def at(url: str, protocol: int = 2) -> RedisStore:
        store = open_store(f"{url}?protocol={protocol}", clock=SystemClock())
        assert isinstance(store, RedisStore)
        stores.append(store)
        return store

    yield at
    for store in stores:
        await store.aclose()


StoreAt = Callable[..., RedisStore]


def test_redis_reports_changes_and_memory_need_not() -> None:
    assert isinstance(open_store("redis://localhost:1", clock=SystemClock()), TrackingStore)
    assert not isinstance(MemoryStore(), TrackingStore)


# --- reports --------------------------------------------------------------------------------------------


@PROTOCOLS
async def test_a_change_by_another_client_is_reported(
    redis_server: RedisServer, store_at: StoreAt, protocol: int
) -> None:
    listener = Listener(store_at(redis_server.url, protocol))
    await listener.confirmed()
    redis_server.cli("SET", "p:set", 1)
    redis_server.cli("MSET", "p:é", 1, "p:a b", 2)
    redis_server.cli("LPUSH", "p:pushed", 1)
    await until(lambda: listener.keys == {"p:set", "p:é", "p:a b", "p:pushed"})
    listener.reports.clear()
    redis_server.cli("UNLINK", "p:set")
    redis_server.cli("GETDEL", "p:é")
    await until(lambda: listener.keys == {"p:set", "p:é"})


@PROTOCOLS
async def test_keys_outside_the_prefix_are_not_reported(
    redis_server: RedisServer, store_at: StoreAt, protocol: int
) -> None:
    listener = Listener(store_at(redis_server.url, protocol))
    await listener.confirmed()
    for key in ("q:1", "P:1", "p", lease_key("p:1"), "p:1"):
        redis_server.cli("SET", key, 1)
    await until(lambda: listener.keys)
    assert listener.reported == [["p:1"]]


async def test_every_key_is_reported_without_a_prefix(redis_server: RedisServer, store_at: StoreAt) -> None:
    listener = Listener(store_at(redis_server.url), prefix="")
    await listener.confirmed()
    redis_server.cli("SET", "anything", 1)
    await until(lambda: listener.keys == {"anything"})


@PROTOCOLS
@pytest.mark.parametrize("prefix", ["p*[a-z]?:", "é:", "p%\\:", "$3:", "p" * 600], ids=lambda prefix: prefix[:8])
async def test_a_prefix_is_taken_literally(
    redis_server: RedisServer, store_at: StoreAt, protocol: int, prefix: str
) -> None:
    listener = Listener(store_at(redis_server.url, protocol), prefix)
    await listener.confirmed()
    redis_server.cli("SET", "pxb:1", 1)
    redis_server.cli("SET", f"{prefix}1", 1)
    await until(lambda: listener.keys)
    assert listener.keys == {f"{prefix}1"}


def test_a_prefix_without_utf8_is_refused() -> None:
    async def refused() -> None:
        store = open_store("redis://localhost:1", clock=SystemClock())
        assert isinstance(store, RedisStore)
        with pytest.raises(KeyRefusedError):
            Listener(store, "\ud800")

    asyncio.run(refused())


async def test_a_key_that_is_no_utf8_disturbs_nobody(redis_server: RedisServer, store_at: StoreAt) -> None:
    listener = Listener(store_at(redis_server.url))
    await listener.confirmed()
    redis_server.cli("MSET", b"p:\xff\n", 1, "p:1", 1)
    await until(lambda: listener.keys)
    assert listener.keys == {"p:\udcff\n", "p:1"}


@PROTOCOLS
async def test_a_key_that_expired_is_reported_when_redis_removes_it(
    redis_server: RedisServer, store_at: StoreAt, protocol: int
) -> None:
    listener = Listener(store_at(redis_server.url, protocol))
    await listener.confirmed()
    redis_server.cli("SET", "p:1", 1, "PX", 30)
    await until(lambda: listener.reported == [["p:1"]] * 2)


@PROTOCOLS
@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB"])
async def test_any_key_may_have_changed_when_all_are_removed_at_once(
    redis_server: RedisServer, store_at: StoreAt, protocol: int, command: str
) -> None:
    listener = Listener(store_at(redis_server.url, protocol))
    await listener.confirmed()
    redis_server.cli(command)
    await until(lambda: listener.reports)
    assert listener.reported == [None]
    assert listener.until, "tracking goes on"


@PROTOCOLS
async def test_thousands_of_changes_that_wait_are_all_reported(
    redis_server: RedisServer, store_at: StoreAt, protocol: int
) -> None:
    listener = Listener(store_at(redis_server.url, protocol))
    await listener.confirmed()
    # The event loop stands still meanwhile. Each command is reported in a message of its own.
    with redis.Redis(unix_socket_path=str(redis_server.socket_path)) as client:
        for n in range(5000):
            client.set(f"p:{n}", 1)
    await until(lambda: len(listener.keys) == 5000)
    assert None not in listener.reported, "by one connection"


async def test_two_listeners_may_track_through_one_store(redis_server: RedisServer, store_at: StoreAt) -> None:
    store = store_at(redis_server.url)
    one, other = Listener(store, "p:"), Listener(store, "p:q:")
    await one.confirmed()
    await other.confirmed()
    redis_server.cli("SET", "p:q:1", 1)
    await until(lambda: one.keys == other.keys == {"p:q:1"})
    ending = one.tracking.close() if one.tracking else []
    redis_server.cli("SET", "p:q:2", 1)
    await until(lambda: "p:q:2" in other.keys)
    assert "p:q:2" not in one.keys
    assert one.until == 0.0
    await asyncio.wait(ending)


@PROTOCOLS
async def test_a_server_reports_through_a_unix_socket(
    redis_server: RedisServer, store_at: StoreAt, protocol: int
) -> None:
    store = store_at(redis_server.unix_url, protocol)
    listener = Listener(store)
    await listener.confirmed()
    await store.set("p:1", T, b"1", ttl_ms=60_000)
    await until(lambda: listener.keys == {"p:1"})


# --- until when -----------------------------------------------------------------------------------------


async def test_nothing_is_confirmed_at_first_and_earlier_changes_are_reported_as_unknown(
    redis_server: RedisServer, store_at: StoreAt
) -> None:
    listener = Listener(store_at(redis_server.url))
    assert listener.until == 0.0
    assert not listener.reports
    await until(lambda: listener.live)
    assert listener.reported[-2:] == [None, "live"]
    assert listener.reports[-2][1] == 0.0, "reported before anything is confirmed"


async def test_a_pong_confirms_the_moment_at_which_its_ping_was_sent(
    own_server: RedisServer, store_at: StoreAt
) -> None:
    delay = 0.15
    async with FaultProxy(own_server.port) as proxy:
        await proxy.set(Fault.DELAY, seconds=delay)
        listener = Listener(store_at(proxy.url))
        for _ in range(3):
            before = listener.until
            await until(lambda before=before: listener.until != before)
            # This holds on a slow machine, too: the answer was on its way for so long.
            assert listener.until <= time.monotonic() + LIMIT - delay


async def test_changes_that_came_with_the_answer_are_reported_before_it_counts(
    own_server: RedisServer, store_at: StoreAt
) -> None:
    message = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$3\r\np:1\r\n"
    async with ScriptedServer(own_server.port, {b"PING": b"*2\r\n$4\r\npong\r\n$0\r\n\r\n" + message}) as scripted:
        listener = Listener(store_at(scripted.url))
        await until(lambda: listener.live)
        assert listener.reports[:2] == [(["p:1"], 0.0), (None, 0.0)]


async def test_a_process_that_was_stopped_relies_on_nothing_and_gives_nothing_up(
    redis_server: RedisServer, store_at: StoreAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Time:
        passed = 0.0

        def monotonic(self) -> float:
            return time.monotonic() + self.passed

    clock = Time()
    monkeypatch.setattr(tracking, "time", clock)
    async with FaultProxy(redis_server.port) as proxy:
        # The process stops for longer than the time between two looks.
        await proxy.set(Fault.DELAY, seconds=0.3)
        listener = Listener(store_at(proxy.url))
        await listener.confirmed()
        assert isinstance(listener.tracking, tracking.Feeds)
        (feed,) = listener.tracking._feeds.values()
        # It is stopped while an answer is on its way, and while none is.
        for under_way in (True, False):
            await until(lambda under_way=under_way: listener.live and bool(feed._ping_sent_at) == under_way)
            clock.passed += 3600
            assert not listener.live
            await until(lambda: listener.live)
        assert not listener.reports


# --- faults ---------------------------------------------------------------------------------------------


def lost_first(listener: Listener) -> None:
    """Check that a loss was reported in order: nothing is confirmed any more, then None, then the cause."""
    about_all = [(what, until) for what, until in listener.reports if not isinstance(what, list)]
    (first, until_first), (second, until_second), *_ = about_all
    assert (first, until_first, until_second) == (None, 0.0, 0.0)
    assert isinstance(second, StoreError)


@PROTOCOLS
async def test_a_connection_that_is_killed_is_reported_as_a_loss_and_replaced(
    redis_server: RedisServer, store_at: StoreAt, protocol: int
) -> None:
    listener = Listener(store_at(redis_server.url, protocol))
    await listener.confirmed()
    (victim,) = connections(redis_server)
    redis_server.cli("CLIENT", "KILL", "ID", victim.split()[0].partition(b"=")[2])
    redis_server.cli("SET", "p:1", 1)
    await until(lambda: listener.live and listener.reports)
    lost_first(listener)
    assert listener.causes[0] == "unavailable"
    assert listener.reported[-2:] == [None, "live"]
    assert listener.reports[-2][1] == 0.0, "changes in between were not reported"
    assert not listener.keys
    redis_server.cli("SET", "p:2", 1)
    await until(lambda: listener.keys == {"p:2"})


@PROTOCOLS
@pytest.mark.parametrize("ending", ["kill", "stop"])
async def test_a_server_that_is_restarted_reports_again(
    own_server: RedisServer, store_at: StoreAt, protocol: int, ending: str
) -> None:
    listener = Listener(store_at(own_server.url, protocol))
    await listener.confirmed()
    getattr(own_server, ending)()
    await until(lambda: len(listener.causes) >= 3)
    lost_first(listener)
    assert listener.reported.count(None) == 1, "a loss that goes on is reported once"
    assert set(listener.causes) == {"unavailable"}
    await asyncio.to_thread(own_server.restart)
    await until(lambda: listener.live)
    assert listener.reported[-2:] == [None, "live"]
    own_server.cli("SET", "p:1", 1)
    await until(lambda: listener.keys == {"p:1"})


@PROTOCOLS
@pytest.mark.parametrize("fault", [Fault.HALF_OPEN, Fault.BLACK_HOLE], ids=lambda fault: fault.name)
async def test_a_peer_that_vanished_is_relied_on_no_longer_and_given_up(
    own_server: RedisServer, store_at: StoreAt, protocol: int, fault: Fault
) -> None:
    async with FaultProxy(own_server.port) as proxy:
        listener = Listener(store_at(proxy.url, protocol))
        await listener.confirmed()
        await proxy.set(fault)
        own_server.cli("SET", "p:1", 1)
        await until(lambda: not listener.live)
        await until(lambda: listener.reports)
        lost_first(listener)
        assert listener.causes[0] == "timeout"
        await proxy.heal()
        await until(lambda: listener.live)
        assert listener.reported[-2:] == [None, "live"]


@PROTOCOLS
async def test_a_server_that_hangs_is_relied_on_no_longer(
    own_server: RedisServer, store_at: StoreAt, protocol: int
) -> None:
    listener = Listener(store_at(own_server.url, protocol))
    await listener.confirmed()
    own_server.pause()
    await until(lambda: not listener.live)
    await until(lambda: "timeout" in listener.causes)
    lost_first(listener)
    await asyncio.to_thread(own_server.resume)
    await until(lambda: listener.live)
    assert listener.reported[-2:] == [None, "live"]


@PROTOCOLS
async def test_a_connection_has_its_time_though_the_loop_is_blocked_while_it_is_made(
    redis_server: RedisServer, store_at: StoreAt, protocol: int
) -> None:
    listener = Listener(store_at(redis_server.url, protocol))
    # Two turns are too few for connecting and logging in.
    for _ in range(2):
        await asyncio.sleep(0)
        time.sleep(CONNECT_PATIENCE)  # noqa: ASYNC251 - it blocks on purpose
    await until(lambda: listener.live)
    assert not listener.causes


@PROTOCOLS
async def test_a_peer_that_never_answers_is_given_up_while_the_connection_is_made(
    own_server: RedisServer, store_at: StoreAt, protocol: int
) -> None:
    async with FaultProxy(own_server.port) as proxy:
        await proxy.set(Fault.HALF_OPEN)
        listener = Listener(store_at(proxy.url, protocol))
        await until(lambda: len(listener.causes) >= 2)
        assert set(listener.causes) == {"timeout"}
        await proxy.heal()
        await until(lambda: listener.live)


# Redis 6.2 knows no rule that denies one subcommand; every version can allow one.
NOT_TOLD = "user app on >hunter2 ~* &* +@all -client +client|id"


@PROTOCOLS
async def test_a_server_that_refuses_tracking_is_used_for_everything_else(
    start_server: Callable[..., RedisServer], store_at: StoreAt, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_PAUSE_WHEN_REFUSED", 0.05)
    server = start_server(NOT_TOLD)
    store = store_at(server.url.replace("://", "://app:hunter2@"), protocol)
    listener = Listener(store)
    await until(lambda: len(listener.causes) >= 2)
    assert set(listener.causes) == {"NOPERM"}
    assert None not in listener.reported
    assert "live" not in listener.reported
    assert listener.until == 0.0
    await store.set("p:1", T, b"1", ttl_ms=1000)
    assert await store.get("p:1", T) == b"1"
    assert connections(server)
    server.cli("ACL", "SETUSER", "app", "+client|tracking")
    await until(lambda: listener.live)
    assert listener.reported[-1] == "live"


async def test_tracking_that_is_refused_is_asked_for_seldom(
    start_server: Callable[..., RedisServer], store_at: StoreAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tracking._PAUSE_WHEN_REFUSED > 4 * tracking._LONGEST_PAUSE
    monkeypatch.setattr(tracking, "_PAUSE_WHEN_REFUSED", 3600.0)
    monkeypatch.setattr(tracking, "_LONGEST_PAUSE", 0.0)
    server = start_server(NOT_TOLD)
    store = store_at(server.url.replace("://", "://app:hunter2@"))
    listener = Listener(store)
    await until(lambda: listener.causes)
    for _ in range(500):
        await store.get("k", T)
    assert listener.causes == ["NOPERM"]


@pytest.mark.parametrize(
    ("protocol", "command"),
    [(2, b"CLIENT"), (2, b"SUBSCRIBE"), (2, b"PING"), (3, b"CLIENT"), (3, b"PING")],
    ids=lambda value: value.decode() if isinstance(value, bytes) else f"resp{value}",
)
@pytest.mark.parametrize(
    "lie", [b"+QUEUED\r\n", b"*0\r\n", b"*2\r\n$4\r\npong\r\n:1\r\n", b"$-1\r\n", b"HTTP/1.1 400\r\n\r\n"], ids=ascii
)
async def test_a_malformed_answer_confirms_nothing(
    own_server: RedisServer, store_at: StoreAt, protocol: int, command: bytes, lie: bytes
) -> None:
    async with ScriptedServer(own_server.port, {command: lie}) as scripted:
        listener = Listener(store_at(scripted.url, protocol))
        await until(lambda: len(listener.causes) >= 2)
        assert set(listener.causes) == {"garbage"}
        assert listener.until == 0.0
        del scripted.always[command]
        await until(lambda: listener.live)


async def test_an_answer_that_nobody_asked_for_is_garbage(own_server: RedisServer, store_at: StoreAt) -> None:
    pong = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
    async with ScriptedServer(own_server.port, {b"PING": pong * 2}) as scripted:
        listener = Listener(store_at(scripted.url))
        await until(lambda: "garbage" in listener.causes)


@pytest.mark.parametrize("names", [b"*1\r\n:1\r\n", b"*1\r\n*0\r\n", b"$3\r\np:1\r\n", b":1\r\n"], ids=ascii)
async def test_malformed_names_of_keys_are_garbage(own_server: RedisServer, store_at: StoreAt, names: bytes) -> None:
    pong = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
    message = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n" + names
    async with ScriptedServer(own_server.port, {b"PING": pong + message}) as scripted:
        listener = Listener(store_at(scripted.url))
        await until(lambda: listener.causes)
        assert listener.reported[0].cause == "garbage"


async def test_messages_of_a_stranger_on_the_channel_of_redis_confirm_nothing(
    redis_server: RedisServer, store_at: StoreAt
) -> None:
    listener = Listener(store_at(redis_server.url))
    await listener.confirmed()
    redis_server.cli("PUBLISH", "__redis__:invalidate", "p:1")
    await until(lambda: listener.reports)
    lost_first(listener)
    assert listener.causes == ["garbage"]
    await until(lambda: listener.live)


@PROTOCOLS
async def test_foreign_bytes_end_the_connection(own_server: RedisServer, store_at: StoreAt, protocol: int) -> None:
    async with FaultProxy(own_server.port) as proxy:
        listener = Listener(store_at(proxy.url, protocol))
        await listener.confirmed()
        await proxy.set(Fault.GARBAGE, new=False)
        await until(lambda: listener.reports)
        lost_first(listener)
        assert listener.causes[0] == "garbage"
        await until(lambda: listener.live)


async def test_a_master_that_has_become_a_replica_is_not_listened_to(
    own_server: RedisServer, store_at: StoreAt
) -> None:
    store = store_at(own_server.url)
    listener = Listener(store)
    await listener.confirmed()
    own_server.cli("REPLICAOF", "127.0.0.1", free_port())
    with pytest.raises(StoreError):
        await store.set("p:1", T, b"1", ttl_ms=1000)
    lost_first(listener)
    assert listener.causes == ["READONLY"]


# --- its end --------------------------------------------------------------------------------------------


@PROTOCOLS
async def test_nothing_is_left_when_it_is_closed(redis_server: RedisServer, store_at: StoreAt, protocol: int) -> None:
    listener = Listener(store_at(redis_server.url, protocol))
    await listener.confirmed()
    assert feeds_at(redis_server) == 1
    assert listener.tracking
    ending = listener.tracking.close()
    assert listener.until == 0.0
    await asyncio.wait(ending)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await until(lambda: feeds_at(redis_server) == 0)
    assert not listener.reports


async def test_nothing_is_left_when_it_is_closed_while_it_connects(own_server: RedisServer, store_at: StoreAt) -> None:
    own_server.pause()
    for turns in range(12):
        listener = Listener(store_at(own_server.url))
        for _ in range(turns):
            await asyncio.sleep(0)
        assert listener.tracking
        await asyncio.wait(listener.tracking.close())
        assert asyncio.all_tasks() == {asyncio.current_task()}
    await asyncio.to_thread(own_server.resume)
    await until(lambda: feeds_at(own_server) == 0)


async def test_a_cancellation_that_is_swallowed_while_it_connects_ends_it_all_the_same(
    redis_server: RedisServer,
) -> None:
    """redis-py swallows it on Python 3.11."""
    connecting = asyncio.Event()

    async def connect() -> AbstractConnection:
        with contextlib.suppress(asyncio.CancelledError):
            connecting.set()
            await asyncio.get_running_loop().create_future()
        return await connector(parse(redis_server.url))()

    feeds = Feeds(b"", lambda keys: None, lambda error: None)
    feeds.follow({"here": connect})
    await connecting.wait()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait(feeds.close())
    await until(lambda: not connections(redis_server))


async def test_the_end_of_a_feed_that_was_replaced_is_waited_for_too() -> None:
    release = asyncio.Event()

    async def connect() -> AbstractConnection:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        await release.wait()
        raise ConnectionRefusedError

    feeds = Feeds(b"", lambda keys: None, lambda error: None)
    feeds.follow({"here": connect})
    await asyncio.sleep(0)
    feeds.follow({})
    await asyncio.sleep(0)
    ending = feeds.close()
    assert len(ending) == 1
    release.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait(ending)


async def test_a_listener_may_close_the_feeds_when_a_server_was_replaced() -> None:
    async def connect() -> AbstractConnection:
        raise ConnectionRefusedError

    feeds = Feeds(b"", lambda keys: ending.extend(feeds.close()), lambda error: None)
    ending: list[asyncio.Task[None]] = []
    feeds.follow({"here": connect})
    feeds.follow({"there": connect})
    await asyncio.wait(ending)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_listener_that_closes_it_gets_no_report_that_came_with_the_last_one(
    own_server: RedisServer, store_at: StoreAt
) -> None:
    class Closing(Listener):
        def _changed(self, keys: Sequence[str] | None) -> None:
            super()._changed(keys)
            assert self.tracking
            self.tracking.close()

    message = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$3\r\np:1\r\n"
    async with ScriptedServer(own_server.port, {b"PING": b"*2\r\n$4\r\npong\r\n$0\r\n\r\n" + 2 * message}) as scripted:
        listener = Closing(store_at(scripted.url))
        await until(lambda: listener.reports)
        await until(lambda: feeds_at(own_server) == 0)
        assert listener.reported == [["p:1"]]


async def test_a_listener_may_close_it(redis_server: RedisServer, store_at: StoreAt) -> None:
    class Closing(Listener):
        def _changed(self, keys: Sequence[str] | None) -> None:
            super()._changed(keys)
            if self.tracking:
                self.tracking.close()

    listener = Closing(store_at(redis_server.url))
    await until(lambda: listener.reports)
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    assert listener.reported == [None]


async def test_a_store_that_is_closed_reports_nothing_and_can_be_used_again(
    redis_server: RedisServer, store_at: StoreAt
) -> None:
    store = store_at(redis_server.url)
    listener = Listener(store)
    await listener.confirmed()
    await store.aclose()
    assert listener.until == 0.0
    assert not listener.reports
    assert asyncio.all_tasks() == {asyncio.current_task()}
    again = Listener(store)
    await again.confirmed()


async def test_a_listener_that_is_dropped_gets_no_report_and_keeps_no_store_alive(redis_server: RedisServer) -> None:
    store = open_store(redis_server.url, clock=SystemClock())
    assert isinstance(store, RedisStore)
    listener = Listener(store)
    listener.store = store  # type: ignore[attr-defined] # as a near cache may hold it
    await listener.confirmed()
    dropped = weakref.ref(store)
    del store, listener
    gc.collect()
    assert dropped() is None
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    await until(lambda: feeds_at(redis_server) == 0)


@PROTOCOLS
def test_an_event_loop_that_ends_leaves_nothing_behind(redis_server: RedisServer, protocol: int) -> None:
    kept: list[tuple[RedisStore, Listener]] = []

    async def use() -> None:
        store = open_store(f"{redis_server.url}?protocol={protocol}", clock=SystemClock())
        assert isinstance(store, RedisStore)
        kept.append((store, Listener(store)))
        await kept[-1][1].confirmed()

    for _ in range(2):
        asyncio.run(use(), debug=True)
    assert [listener.until for _, listener in kept] == [0.0, 0.0]
    dropped = weakref.ref(kept[0][1].tracking)
    kept.clear()
    gc.collect()
    assert dropped() is None
    assert feeds_at(redis_server) == 0


# --- Sentinel -------------------------------------------------------------------------------------------


@pytest.fixture(params=group_servers(), ids=label)
def binary(request: pytest.FixtureRequest) -> ServerBinary:
    return server_or_failure(request.param)


@pytest.fixture
def sentinel_setup(binary: ServerBinary) -> Iterator[SentinelSetup]:
    with SentinelSetup(binary) as sentinel_setup:
        yield sentinel_setup


@PROTOCOLS
async def test_the_new_master_reports_after_an_orderly_failover_and_the_old_one_is_ignored(
    sentinel_setup: SentinelSetup, store_at: StoreAt, protocol: int
) -> None:
    """The old one goes on as a master, and would confirm that nothing changes. No operation finds that out."""
    listener = Listener(store_at(sentinel_setup.url, protocol))
    await listener.confirmed()
    old = sentinel_setup.master
    assert feeds_at(old) == 1
    heir = await asyncio.to_thread(sentinel_setup.failover)
    await until(lambda: feeds_at(old) == 0)
    lost_first(listener)
    await until(lambda: listener.live and feeds_at(heir) == 1)
    heir.cli("SET", "p:1", 1)
    await until(lambda: listener.keys == {"p:1"})
    assert old.cli("ROLE")[0] == b"master", "or there was nothing to see here"


async def test_a_feed_is_not_left_behind_at_an_old_master_when_the_lane_has_gone_ahead(
    sentinel_setup: SentinelSetup, store_at: StoreAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentinel, "PERIOD", 3600.0)
    store = store_at(sentinel_setup.url)
    listener = Listener(store)
    await listener.confirmed()
    await store.set("p:0", T, b"1", ttl_ms=60_000)
    network = store._loops.get().network
    assert isinstance(network, sentinel.SentinelMaster)
    assert network._lane
    assert network._watching
    old, heir = sentinel_setup.master, await asyncio.to_thread(sentinel_setup.failover)
    network._lane.close()
    await store.set("p:1", T, b"1", ttl_ms=60_000)
    assert heir.cli("EXISTS", "p:1") == 1
    assert feeds_at(old) == 1
    network._watching.cancel()
    await asyncio.wait([network._watching])
    monkeypatch.setattr(sentinel, "PERIOD", 0.01)
    network._watch_masters()
    await until(lambda: listener.live and feeds_at(old) == 0 and feeds_at(heir) == 1)


async def test_a_master_that_is_killed_is_replaced_by_the_one_that_was_promoted(
    sentinel_setup: SentinelSetup, store_at: StoreAt
) -> None:
    store = store_at(sentinel_setup.url)
    listener = Listener(store)
    await listener.confirmed()
    await store.set("p:0", T, b"1", ttl_ms=60_000)
    old = sentinel_setup.master
    old.kill()
    heir = await asyncio.to_thread(sentinel_setup.wait_for_promotion, old)
    await until(lambda: listener.live and feeds_at(heir) == 1)
    lost_first(listener)
    heir.cli("SET", "p:1", 1)
    await until(lambda: "p:1" in listener.keys)


# --- Cluster --------------------------------------------------------------------------------------------


def feeds_of(nodes: Sequence[RedisServer]) -> list[int]:
    return [feeds_at(node) for node in nodes]


@PROTOCOLS
async def test_every_master_of_a_cluster_reports(binary: ServerBinary, store_at: StoreAt, protocol: int) -> None:
    with RedisCluster(binary, replicas=0) as nodes:
        store = store_at(nodes.url, protocol)
        listener = Listener(store)
        assert listener.until == 0.0
        await listener.confirmed()
        assert feeds_of(nodes.nodes) == [1, 1, 1]
        keys = {f"p:{n}" for n in range(20)}
        for key in keys:
            nodes.cli("SET", key, 1, key=key)
        await until(lambda: listener.keys == keys)
        # If one master hangs, no near hit is served.
        nodes.nodes[0].pause()
        await until(lambda: not listener.live)
        await until(lambda: listener.causes)
        lost_first(listener)
        while len(listener.causes) < 3:
            assert listener.until == 0.0, "though the others confirm"
            await asyncio.sleep(0.005)
        await asyncio.to_thread(nodes.nodes[0].resume)
        await until(lambda: listener.live)
        assert listener.reported[-1] == "live"
        await store.aclose()
        await until(lambda: feeds_of(nodes.nodes) == [0, 0, 0])


async def test_a_slot_that_has_moved_is_noticed_though_nothing_is_asked(
    binary: ServerBinary, store_at: StoreAt
) -> None:
    with RedisCluster(binary, replicas=0) as nodes:
        listener = Listener(store_at(nodes.url))
        await listener.confirmed()
        migration = await asyncio.to_thread(nodes.move_slot, "p:1")
        await until(lambda: None in listener.reported)
        assert not listener.causes
        await until(lambda: listener.live)
        migration.target.cli("SET", "p:1", 2)
        await until(lambda: "p:1" in listener.keys)


async def test_a_node_that_an_operation_is_sent_on_to_has_a_feed(
    binary: ServerBinary, store_at: StoreAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node gets its first slot: keys are read and changed at it before the slot is its own."""
    # The owners of slots are not asked for meanwhile.
    monkeypatch.setattr(cluster, "_PERIOD", 3600.0)
    with RedisCluster(binary, replicas=0) as nodes:
        stranger = RedisServer(binary, *nodes.nodes[0]._config, port=free_port())
        nodes.nodes.append(stranger)
        stranger.start()
        for node in nodes.nodes[:3]:
            node.cli("CLUSTER", "MEET", "127.0.0.1", stranger.port)
        await until(lambda: all(node.cli("CLUSTER INFO")["cluster_known_nodes"] == "4" for node in nodes.nodes))
        await until(lambda: all(node.cli("CLUSTER INFO")["cluster_state"] == "ok" for node in nodes.nodes))
        store = store_at(nodes.url)
        listener = Listener(store)
        await listener.confirmed()
        nodes.cli("SET", "p:1", 1, key="p:1")
        migration = nodes.migrate("p:1", stranger)
        migration.move_keys()
        await until(lambda: listener.keys == {"p:1"})
        listener.reports.clear()
        assert await store.get("p:1", T) == b"1", "behind ASK"
        assert listener.reports[0] == (None, 0.0)
        await until(lambda: listener.live)
        assert feeds_at(stranger) == 1
        listener.reports.clear()
        migration.finish()
        assert await store.get("p:1", T) == b"1", "behind MOVED"
        assert listener.reported[0] is None
        await until(lambda: listener.live)
        stranger.cli("SET", "p:1", 2)
        await until(lambda: listener.keys == {"p:1"})
        assert slot_of("p:1") == migration.slot


async def test_the_replica_promoted_for_a_lost_master_reports(binary: ServerBinary, store_at: StoreAt) -> None:
    with RedisCluster(binary) as nodes:
        listener = Listener(store_at(nodes.url))
        await listener.confirmed()
        victim = nodes.master_of("p:1")
        victim.kill()
        heir = await asyncio.to_thread(nodes.wait_for_promotion, victim)
        await until(lambda: listener.live and feeds_at(heir) == 1)
        lost_first(listener)
        heir.cli("SET", "p:1", 1)
        await until(lambda: "p:1" in listener.keys)
        assert listener.reported[-1] != "live"


async def test_a_cluster_that_nobody_answers_for_is_reported_as_a_failure(store_at: StoreAt) -> None:
    listener = Listener(store_at(f"redis+cluster://127.0.0.1:{free_port()}"))
    await until(lambda: len(listener.causes) >= 2)
    assert set(listener.causes) == {"unavailable"}
    assert listener.until == 0.0


@pytest.mark.server
async def test_a_cluster_is_asked_again_and_again_until_it_answers(store_at: StoreAt) -> None:
    with RedisCluster(first_server(), replicas=0) as nodes:
        for node in nodes.nodes:
            node.kill()
        listener = Listener(store_at(nodes.url))
        await until(lambda: listener.causes)
        for node in nodes.nodes:
            await asyncio.to_thread(node.restart)
        await until(lambda: listener.live)
        assert listener.reported[-1] == "live"
