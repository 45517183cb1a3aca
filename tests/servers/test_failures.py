"""The caller gets the function's own result under every fault: against real servers, really hurt."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from cachekit import MISS, Cache, SnapshotStore, cache_delete, cache_get, cache_set, using
from cachekit.entry import lease_key
from cachekit.errors import ConfigurationError
from cachekit.events import Event, Invalidated, StoreFailed, StoreRecovered
from cachekit.stores import RedisStore
from cachekit.testing import FailingStore
from tests.kit.proxy import Fault, FaultProxy
from tests.kit.servers import RedisServer
from tests.kit.telling import bare
from tests.kit.waiting import until

# A test waits so long for a server that hangs. A busy machine may miss it when all is well.
TIMEOUT = 0.2
# No test waits longer than this for an event that is sure to come.
PATIENCE = 30.0


class Counted:
    """A cached function that counts its runs and returns a value that no other key has."""

    def __init__(self, cache: Cache) -> None:
        self.runs = 0

        @cache.cached(key="value:<x>", ttl=60)
        async def value(x: int) -> list[int]:
            self.runs += 1
            return [x, x * x]

        self.call = value


async def everything_works_without(cache: Cache) -> None:
    """Check that every operation of the toolkit has the result of a miss, and none raises."""
    counted = Counted(cache)

    @cache.invalidates("value:<x>")
    async def write(x: int) -> str:
        return "written"

    async with asyncio.timeout(PATIENCE):
        assert await counted.call(3) == [3, 9]
        assert await counted.call.refresh(3) == [3, 9]
        assert counted.runs == 2
        assert await counted.call.peek(3) is MISS
        assert await counted.call.take(3) is MISS
        assert await counted.call.invalidate(3) is False
        assert await write(3) == "written"
        assert await cache.get("k", "default") == "default"
        assert await cache.set("k", 1, ttl=60) is False
        assert await cache.delete("k") is False
        assert await cache.take("k") is None
        with using(cache):
            assert await cache_get("k") is None
            assert await cache_set("k", 1, 60) is False
            assert await cache_delete("k") is False
        snapshots = SnapshotStore(cache)
        assert await snapshots.save_snapshot("42", "text", 1) is False
        assert await snapshots.get_recent_snapshots("42") == []
        assert await snapshots.get_snapshot_pair("42") is None
        assert await snapshots.forget("42") is False


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings about incidents. A warning about keys that are left in a closed journal is none of them."""
    messages = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    return [message for message in messages if "has not acknowledged" not in message]


async def test_every_operation_works_when_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{unused.getsockname()[1]}"
        async with Cache(url, timeout=PATIENCE) as cache:
            await everything_works_without(cache)
    assert len(warnings(caplog)) == 1


async def test_every_operation_works_when_the_host_has_no_address(caplog: pytest.LogCaptureFixture) -> None:
    async with Cache("redis://no-such-host.invalid", timeout=TIMEOUT) as cache:
        await everything_works_without(cache)
    assert 1 <= len(warnings(caplog)) <= 2, "one for each cause: unresolved, or not resolved in time"


async def test_a_name_server_that_hangs_holds_up_no_thread_of_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    asked: list[str] = []

    def hang(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        answered.wait(PATIENCE)
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    async with Cache("redis://slow.invalid", timeout=0.01) as cache:
        for _ in range(50):
            assert await cache.get("k") is None
            await asyncio.sleep(0.02)
        # If each probe made an attempt, all threads of the default executor would wait by now.
        async with asyncio.timeout(PATIENCE / 2):
            assert await asyncio.to_thread(int, "7") == 7
        assert asked == ["slow.invalid"]
        answered.set()


async def test_every_operation_works_when_the_socket_file_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    async with Cache("unix:///nowhere/redis.sock", timeout=PATIENCE) as cache:
        await everything_works_without(cache)
    assert len(warnings(caplog)) == 1


async def test_every_operation_works_while_the_server_hangs(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with Cache(own_server.url, timeout=TIMEOUT) as cache:
        await used_again(cache)
        own_server.pause()
        await everything_works_without(cache)
        own_server.resume()
    assert len(warnings(caplog)) == 1


async def test_every_operation_works_when_the_server_hangs_before_the_first_connection(own_server: RedisServer) -> None:
    own_server.pause()
    async with Cache(own_server.url, timeout=TIMEOUT) as cache:
        await everything_works_without(cache)
    own_server.resume()


@pytest.mark.parametrize(
    ("configuration", "cause"),
    [
        (("maxmemory 100kb", "maxmemory-policy noeviction"), "OOM"),
        (("min-replicas-to-write 1",), "NOREPLICAS"),
    ],
)
async def test_a_server_that_refuses_writes_still_answers_reads(
    start_server: Callable[..., RedisServer], configuration: tuple[str, ...], cause: str
) -> None:
    server = start_server(*configuration)
    events: list[Event] = []
    async with Cache(server.url, timeout=5) as cache:
        cache.observe(events.append)
        counted = Counted(cache)
        assert [await counted.call(3) for _ in range(3)] == [[3, 9]] * 3
        assert counted.runs == 3
        assert await counted.call.peek(3) is MISS
    assert StoreFailed("acquire_lease", cause) in events, "the lease could not be taken, so nothing was filled"
    assert not [event for event in events if isinstance(event, StoreFailed) and event.operation == "get"]


async def test_a_server_that_has_become_a_replica_is_connected_to_anew(
    own_server: RedisServer, start_server: Callable[..., RedisServer]
) -> None:
    """Its address may lead to the new master by now."""

    def clients() -> set[bytes]:
        lines = own_server.cli("CLIENT", "LIST").splitlines()
        commands = (b" cmd=set ", b" cmd=evalsha ", b" cmd=eval ", b" cmd=get ")
        return {line.split()[0] for line in lines if any(command in line for command in commands)}

    master = start_server()
    events: list[Event] = []
    async with Cache(own_server.url, timeout=5) as cache:
        cache.observe(events.append)
        assert await cache.set("k", 1, ttl=60)
        (before,) = clients()
        own_server.cli("REPLICAOF", "127.0.0.1", master.port)
        assert not await cache.set("k", 2, ttl=60)
        assert StoreFailed("set", "READONLY") in events
        await cache.get("k")
        (after,) = clients()
    assert after != before


async def test_a_wrong_password_is_a_failure_like_any_other_and_is_never_shown(
    start_server: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = start_server(password="the-right-one")
    events: list[Event] = []
    for login in ("", "app:hunter2@", ":hunter2@"):
        async with Cache(f"redis://{login}127.0.0.1:{server.port}", timeout=5) as cache:
            cache.observe(events.append)
            await everything_works_without(cache)
            assert "hunter2" not in repr(cache)
    assert len(warnings(caplog)) == 3
    assert "hunter2" not in caplog.text
    assert "hunter2" not in repr(events)


async def test_the_right_password_opens_the_server(start_server: Callable[..., RedisServer]) -> None:
    server = start_server(password="p@ss:/word")
    async with Cache(f"redis://:p%40ss%3A%2Fword@127.0.0.1:{server.port}/3", timeout=5) as cache:
        assert await cache.set("k", 1, ttl=60)
    async with Cache(server.unix_url.replace("unix://", "unix://:p%40ss%3A%2Fword@"), timeout=5) as cache:
        assert await cache.get("k") is None, "another database"


async def test_a_key_of_another_kind_is_left_alone(own_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    own_server.cli("LPUSH", "value:3", "theirs")
    async with Cache(own_server.url, timeout=5) as cache:
        counted = Counted(cache)
        assert [await counted.call(3), await counted.call(3)] == [[3, 9]] * 2
        assert await counted.call(4) == [4, 16]
    assert own_server.cli("LRANGE", "value:3", 0, -1) == [b"theirs"]
    assert "WRONGTYPE" in caplog.text


async def test_a_key_that_is_no_text_or_no_utf8_is_a_miss() -> None:
    async with Cache("redis://127.0.0.1:1", timeout=TIMEOUT) as cache:
        assert await cache.get("\ud800") is None
        assert await cache.get(5) is None  # type: ignore[arg-type]
        assert await cache.set(None, 1, ttl=1) is False  # type: ignore[arg-type]


async def test_a_value_or_a_ttl_that_cannot_be_stored_is_refused_silently_by_the_helpers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Cache("memory://") as cache:
        with using(cache):
            assert await cache_set("k", object(), 60) is False
            assert await cache_set("k", (1, 2), 60) is False
            # The arguments are mixed up: the ttl is a value, so the log must not show it.
            assert await cache_set("k", 600, "a secret text") is False
            assert await cache_get("k") is None
    assert "secret" not in caplog.text
    assert len(warnings(caplog)) == 2, "one for the value, one for the ttl"


async def test_a_store_whose_repr_raises_is_contained(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(FailingStore):
        def __repr__(self) -> str:
            raise ZeroDivisionError

    odd = Odd()
    odd.error = ZeroDivisionError()  # type: ignore[assignment]
    odd.get = functools.partial(odd.get)  # type: ignore[method-assign]
    cache = Cache(odd)
    assert await cache.get("k") is None
    assert "Odd raised ZeroDivisionError" in caplog.text


async def test_an_observer_that_cannot_be_hashed_breaks_nothing() -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, event: Event) -> None:
            raise ValueError

    store = FailingStore()
    store.fail()
    cache = Cache(store)
    observer = Unhashable()
    stop = cache.observe(observer)
    cache.observe(observer)
    assert await cache.get("k") is None
    stop()
    assert len(cache.runtime.reporter.observers) == 1


# --- one pair of records ------------------------------------------------------------------------------


@pytest.mark.usefixtures("usual_quiet")
async def test_an_incident_is_one_record_when_it_begins_and_one_when_it_ends(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    events: list[Event] = []
    async with Cache(own_server.url, timeout=5) as cache:
        cache.observe(events.append)
        counted = Counted(cache)
        assert await counted.call(3) == [3, 9]
        own_server.kill()
        for _ in range(200):
            assert await counted.call(3) == [3, 9]
        assert counted.runs == 201
        failures = [event for event in events if isinstance(event, StoreFailed)]
        assert len(failures) == 200
        own_server.restart()
        async with asyncio.timeout(PATIENCE):
            while not any(isinstance(event, StoreRecovered) for event in events):
                assert await counted.call(3) == [3, 9]
                await asyncio.sleep(0.01)
        # A probe may have found it first. Then no call has stored the value yet.
        assert await counted.call(3) == [3, 9]
        runs = counted.runs
        assert await counted.call(3) == [3, 9]
        assert counted.runs == runs, "the cache is used again"
    began, ended = [record for record in caplog.records if record.name == "cachekit"]
    assert (began.levelno, ended.levelno) == (logging.WARNING, logging.INFO)
    assert "cannot be reached" in began.message
    assert "3 occurrences" in ended.message, "then the circuit breaker was open"


async def test_a_store_of_another_author_may_raise_any_exception(caplog: pytest.LogCaptureFixture) -> None:
    wild = FailingStore()
    wild.error = ZeroDivisionError("a secret value")  # type: ignore[assignment]
    async with Cache(wild) as cache:
        await everything_works_without(cache)
    assert len(warnings(caplog)) == 1
    assert "ZeroDivisionError" in caplog.text
    assert "secret" not in caplog.text


# --- in the middle of a loop of calls -----------------------------------------------------------------


async def call_until(done: asyncio.Event, counted: Counted, x: int) -> int:
    calls = 0
    while not done.is_set():
        assert await counted.call(x) == [x, x * x]
        calls += 1
        await asyncio.sleep(0)
    return calls


@contextlib.asynccontextmanager
async def calls_going_on(counted: Counted) -> AsyncIterator[None]:
    done = asyncio.Event()
    callers = [asyncio.create_task(call_until(done, counted, x)) for x in range(8)]
    try:
        yield
    finally:
        done.set()
        calls = await asyncio.gather(*callers)
    assert all(calls)


@pytest.mark.usefixtures("usual_quiet")
@pytest.mark.parametrize("fault", ["kill", "pause", "stop"])
async def test_a_server_hurt_in_the_middle_of_calls_raises_nothing_and_gives_no_wrong_value(
    own_server: RedisServer, fault: str
) -> None:
    events: list[Event] = []
    async with Cache(own_server.url, timeout=TIMEOUT) as cache:
        cache.observe(events.append)
        counted = Counted(cache)
        async with calls_going_on(counted):
            for _ in range(3):
                failures = sum(isinstance(event, StoreFailed) for event in events)
                getattr(own_server, fault)()
                await until(lambda: sum(isinstance(event, StoreFailed) for event in events) > failures)  # noqa: B023
                if fault == "pause":
                    own_server.resume()
                else:
                    own_server.restart()
                recovered = sum(isinstance(event, StoreRecovered) for event in events)
                await until(lambda: sum(isinstance(event, StoreRecovered) for event in events) > recovered)  # noqa: B023
        # The cache is used again: a key that is filled now is a hit.
        async with asyncio.timeout(PATIENCE):
            while await counted.call.peek(100) != [100, 10_000]:
                await counted.call(100)


async def test_an_idle_connection_that_the_server_closed_costs_no_miss(own_server: RedisServer) -> None:
    events: list[Event] = []
    async with Cache(own_server.url, timeout=5) as cache:
        cache.observe(events.append)
        counted = Counted(cache)
        await counted.call(3)
        for _ in range(5):
            own_server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await counted.call(3)
        assert counted.runs == 1
    assert not [event for event in events if isinstance(event, StoreFailed)]


async def test_an_invalidation_that_is_not_acknowledged_is_reported(own_server: RedisServer) -> None:
    events: list[Event] = []
    async with Cache(own_server.url, timeout=TIMEOUT) as cache:
        cache.observe(events.append)
        counted = Counted(cache)
        await until(lambda: own_server.cli("EXISTS", "value:3"), lambda: counted.call(3))
        own_server.pause()
        assert await counted.call.invalidate(3) is False
        own_server.resume()
        assert Invalidated(("value:3",), acknowledged=False) in bare(events)
        # The invalidation was sent all the same, and the server carries it out when it wakes.
        await until(lambda: own_server.cli("EXISTS", "value:3") == 0)


async def used_again(cache: Cache) -> None:
    """Wait until the circuit breaker has found out that the server answers."""
    async with asyncio.timeout(PATIENCE):
        while not await cache.set("sign of life", 1, ttl=60):
            await asyncio.sleep(0.005)


# --- cancellation -------------------------------------------------------------------------------------


async def test_cancellation_passes_through_at_once_though_the_server_hangs(own_server: RedisServer) -> None:
    async with Cache(own_server.url, timeout=PATIENCE) as cache:
        counted = Counted(cache)
        await counted.call(3)
        own_server.pause()
        caller = asyncio.create_task(counted.call(3))
        await asyncio.sleep(0.01)
        caller.cancel()
        # If the cache delayed the cancellation, this would wait for the deadline.
        async with asyncio.timeout(PATIENCE / 2):
            with pytest.raises(asyncio.CancelledError):
                await caller
        own_server.resume()
        assert await counted.call(3) == [3, 9]
        assert counted.runs == 1


async def test_a_caller_cancelled_at_any_await_poisons_no_later_answer(own_server: RedisServer) -> None:
    async with Cache(own_server.url, timeout=5) as cache:
        counted = Counted(cache)
        for x in range(20):
            await counted.call(x)
        for turns in range(60):
            caller = asyncio.create_task(counted.call(turns % 20))
            for _ in range(turns % 12):
                await asyncio.sleep(0)
            caller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert await caller == [turns % 20, (turns % 20) ** 2]
            other = (turns + 7) % 20
            assert await counted.call(other) == [other, other * other]
        assert counted.runs == 20


async def test_a_timeout_of_the_caller_reaches_the_caller(own_server: RedisServer) -> None:
    async with Cache(own_server.url, timeout=PATIENCE) as cache:
        counted = Counted(cache)
        own_server.pause()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await counted.call(3)
        own_server.resume()
        assert await counted.call(3) == [3, 9]


async def test_a_fill_that_ran_out_of_time_before_it_was_sent_is_never_sent(own_server: RedisServer) -> None:
    async with Cache(own_server.url, timeout=TIMEOUT) as cache:
        await used_again(cache)
        own_server.pause()
        reads = asyncio.create_task(cache.get("keeps the connection busy"))
        await asyncio.sleep(0.01)
        assert await cache.set("late", 1, ttl=60) is False
        await reads
        own_server.resume()
        await used_again(cache)
        assert await cache.get("late") is None


# --- TLS ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_missing_certificate_file_is_refused_at_once(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}='/nowhere.pem' is not a file"):
        Cache(f"rediss://localhost?{name}=/nowhere.pem")


async def test_every_operation_works_when_the_server_speaks_no_tls(own_server: RedisServer) -> None:
    async with Cache(own_server.url.replace("redis://", "rediss://"), timeout=TIMEOUT) as cache:
        await everything_works_without(cache)


# --- strangers on the line ----------------------------------------------------------------------------


@pytest_asyncio.fixture
async def stranger() -> AsyncIterator[Callable[[bytes], AsyncIterator[str]]]:
    """A server that is no Redis: it answers every command with the same bytes."""
    servers: list[asyncio.Server] = []

    async def start(answer: bytes) -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while await reader.read(4096):
                    writer.write(answer)
                    await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        return f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield start  # type: ignore[misc]
    for server in servers:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\xff\xfe garbage\r\n",
        b":1\r\n",
        b"*2\r\n:1\r\n:2\r\n",
        b"$-5\r\n",
        b"$10\r\nshort",
        b"+QUEUED\r\n",
        b"-ERR unknown command, with args beginning with: a secret\r\n",
        b"-MOVED 1 127.0.0.1\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
    ],
)
async def test_every_operation_works_when_a_foreign_server_answers_nonsense(
    stranger: Callable[[bytes], object], answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    url = await stranger(answer)  # type: ignore[misc]
    async with Cache(url, timeout=TIMEOUT) as cache:
        counted = Counted(cache)
        async with asyncio.timeout(PATIENCE):
            assert [await counted.call(x) for x in (3, 3, 4)] == [[3, 9], [3, 9], [4, 16]]
            assert await counted.call.refresh(5) == [5, 25]
            assert await cache.take("k") is None
            assert await cache.take(5, "no key") == "no key"  # type: ignore[arg-type]
            assert await cache.get("k") is None
            # An answer that happens to fit is believed. Nothing else is promised.
            for answered in (
                cache.set("k", 1, ttl=60),
                cache.delete("k"),
                SnapshotStore(cache).save_snapshot("42", "x", 1),
            ):
                assert await answered in (True, False)
            assert await SnapshotStore(cache).get_recent_snapshots("42") == []
    assert "secret" not in caplog.text
    assert caplog.records


async def test_a_stray_reply_is_never_taken_for_the_next_answer(
    stranger: Callable[[bytes], object],
) -> None:
    """After one reply too many every later caller would get the value of another."""
    url = await stranger(b"$3\r\n[1]\r\n$3\r\n[2]\r\n")  # type: ignore[misc]
    async with Cache(url, timeout=5) as cache:
        answers = [await cache.get("k") for _ in range(6)]
    assert [2] not in answers


# --- bounds -------------------------------------------------------------------------------------------


async def test_an_operation_that_does_not_fit_the_queue_is_a_miss_and_not_a_wait(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachekit.stores.lane.QUEUE", 1000)
    events: list[Event] = []
    async with Cache(own_server.url, timeout=TIMEOUT) as cache:
        await cache.get("connected")
        own_server.pause()
        cache.observe(events.append)
        answers = await asyncio.gather(*[cache.get("k") for _ in range(1500)])
        own_server.resume()
    assert set(answers) == {None}
    assert sum(event == StoreFailed("get", "queue full") for event in events) >= 400


def test_a_cache_that_was_dropped_without_being_closed_logs_nothing(own_server: RedisServer) -> None:
    async def use() -> None:
        cache = Cache(own_server.url, timeout=5)
        await cache.set("k", 1, ttl=60)

    asyncio.run(use())
    asyncio.run(use())


async def test_a_cache_dropped_in_a_running_loop_closes_its_connection(own_server: RedisServer) -> None:
    def connections() -> int:
        return int(own_server.cli("INFO", "clients")["connected_clients"])

    before = connections()
    cache = Cache(own_server.url, timeout=5)
    await cache.set("k", 1, ttl=60)
    assert connections() == before + 1
    del cache
    # The parts of a cache refer to each other.
    gc.collect()
    await until(lambda: connections() == before)


def test_the_repr_of_a_store_masks_the_password() -> None:
    cache = Cache("redis://app:hunter2@localhost")
    assert repr(cache) == "Cache(RedisStore(redis://app:***@localhost:6379/0), prefix='')"
    assert isinstance(cache._store, RedisStore)


# --- leases -------------------------------------------------------------------------------------------


async def test_a_lease_held_when_the_store_went_down_is_given_back_when_it_is_up_again(own_server: RedisServer) -> None:
    """Otherwise the first callers would wait for a load that nobody runs."""
    loading, may_end = asyncio.Event(), asyncio.Event()
    async with FaultProxy(own_server.port) as proxy, Cache(proxy.url, timeout=PATIENCE) as cache:

        @cache.cached(key="value:<x>", ttl=60, lease=3600)
        async def value(x: int) -> int:
            loading.set()
            await may_end.wait()
            return x

        caller = asyncio.create_task(value(3))
        await loading.wait()
        assert own_server.cli("EXISTS", lease_key("value:3")) == 1
        await proxy.set(Fault.REFUSE)
        # The circuit breaker is open by now.
        for _ in range(3):
            await cache.get("k")
        may_end.set()
        assert await caller == 3
        await proxy.heal()
        await until(lambda: own_server.cli("EXISTS", lease_key("value:3")) == 0)


async def test_closing_a_cache_waits_for_no_lease(own_server: RedisServer) -> None:
    cache = Cache(own_server.url, timeout=PATIENCE)

    @cache.cached(key="value:<x>", ttl=60, lease=3600)
    async def value(x: int) -> int:
        own_server.kill()
        return x

    assert await value(3) == 3
    async with asyncio.timeout(PATIENCE):
        await cache.aclose()
