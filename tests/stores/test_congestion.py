"""Congestion: what waits in this process, or is still arriving, is not held against the server. Silence is."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
import uvloop

from cachekit import Cache
from cachekit.clock import SystemClock
from cachekit.config import DEFAULT_TIMEOUT
from cachekit.entry import lease_key
from cachekit.errors import CongestedError, QueueFullError, StoreError, StoreTimeoutError, UnconfirmedError
from cachekit.events import BreakerClosed, BreakerOpened, Event, Filled, StoreFailed
from cachekit.stores import Store
from cachekit.stores.activity import Activity, unwritten
from cachekit.stores.base import ManyStore, TimingStore
from cachekit.stores.connect import open_store
from cachekit.stores.deadlines import Deadlines
from cachekit.stores.lane import BATCH, CONNECT_PATIENCE
from cachekit.stores.scripts import AcquireLease, Fill, Put
from tests.kit.proxy import Fault, FaultProxy
from tests.kit.servers import RedisServer
from tests.kit.telling import bare
from tests.kit.waiting import until
from tests.kit.witness import Witness

# Long enough for a healthy answer on a noisy machine, and short enough for a test to wait.
TIMEOUT = 0.3
T = 5.0
MINUTE = 60_000
TOKEN = b"0123456789abcdef01234567"
BIG = "x" * 100_000
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[object, object, None]], None]:
    """Runs a coroutine in an event loop of each kind."""

    def run(main: Coroutine[object, object, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main)

    return run


@pytest_asyncio.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_server.port) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def slow(proxy: FaultProxy) -> AsyncIterator[Store]:
    """A store behind the proxy, connected."""
    store = open_store(proxy.url, clock=SystemClock())
    await store.get("connected", T)
    yield store
    await store.aclose()


# --- evidence -----------------------------------------------------------------------------------------------


async def test_a_reply_that_is_still_arriving_is_congested_and_its_connection_is_kept(
    redis_server: RedisServer, proxy: FaultProxy, slow: Store
) -> None:
    redis_server.cli("SET", "big", BIG)
    await proxy.set(Fault.DRIP, seconds=0.02)
    with pytest.raises(CongestedError):
        await slow.get("big", TIMEOUT)
    with pytest.raises(CongestedError):
        await slow.get("behind", TIMEOUT)
    await proxy.heal()
    assert await slow.get("behind", T) is None
    assert proxy.accepted == 1


async def test_a_reply_that_trickles_is_given_up(redis_server: RedisServer, proxy: FaultProxy, slow: Store) -> None:
    redis_server.cli("SET", "big", BIG)
    await proxy.set(Fault.DRIP, seconds=0.02)
    errors: list[object] = [*await asyncio.gather(slow.get("big", TIMEOUT / 3), return_exceptions=True)]

    async def ask() -> None:
        errors.extend(await asyncio.gather(slow.get("k", TIMEOUT / 3), return_exceptions=True))

    # A pause of this process makes a reply that trickles look like silence.
    await until(lambda: any(isinstance(error, CongestedError) for error in errors) and proxy.accepted > 1, ask)
    assert {type(error) for error in errors if error is not None} <= {CongestedError, StoreTimeoutError}


async def test_silence_fails_everything_in_the_lane_at_once(proxy: FaultProxy, slow: Store) -> None:
    await proxy.set(Fault.HALF_OPEN)
    under_way = asyncio.ensure_future(slow.get("k", TIMEOUT))
    await asyncio.sleep(TIMEOUT / 6)
    queued = asyncio.ensure_future(slow.get("k", TIMEOUT))
    patient = asyncio.ensure_future(slow.get("k", T))
    await asyncio.wait([under_way])
    await asyncio.sleep(0)
    assert queued.done()
    assert [type(future.exception()) for future in (under_way, queued)] == [StoreTimeoutError] * 2
    assert not patient.done()
    await asyncio.wait([patient])


async def test_a_byte_now_and_then_is_silence(redis_server: RedisServer, proxy: FaultProxy, slow: Store) -> None:
    redis_server.cli("SET", "big", BIG)
    await proxy.set(Fault.DRIP, seconds=T)
    with pytest.raises(StoreTimeoutError):
        await slow.get("big", TIMEOUT)


async def test_the_log_says_that_this_process_is_to_blame_and_the_breaker_stays_shut(
    redis_server: RedisServer, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.cli("SET", "big", f'"{BIG}"')
    events: list[Event] = []
    async with Cache(proxy.url, timeout=TIMEOUT) as cache:
        cache.observe(events.append)
        await cache.get("connected")
        await proxy.set(Fault.DRIP, seconds=0.02)
        assert await cache.get("big") is None
        for _ in range(3):
            assert await cache.get("k") is None
        assert cache.healthy
        await proxy.heal()
    assert {event.cause for event in events if isinstance(event, StoreFailed)} == {"congested"}
    assert not [event for event in events if isinstance(event, BreakerOpened)]
    [record] = caplog.records
    assert "this process" in record.getMessage()


# --- a blocked event loop -----------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3])
def test_hits_that_were_under_way_when_the_loop_was_blocked_are_hits(
    redis_server: RedisServer, run: Callable[[Coroutine[object, object, None]], None], protocol: int
) -> None:
    async def main() -> None:
        events: list[Event] = []
        loads = 0
        async with Cache(f"{redis_server.url}?protocol={protocol}", timeout=TIMEOUT / 2) as cache:
            cache.observe(events.append)

            @cache.cached(key="f:<x>", ttl=60)
            async def f(x: int) -> int:
                nonlocal loads
                loads += 1
                return x

            for x in range(20):
                await f(x)
            calls = [asyncio.ensure_future(f(x)) for x in range(20)]
            await asyncio.sleep(0)
            time.sleep(2 * TIMEOUT)  # noqa: ASYNC251 - it blocks on purpose
            await asyncio.gather(*calls)
        assert loads == 20
        assert not [event for event in events if isinstance(event, StoreFailed | BreakerOpened)]

    run(main())


async def test_what_was_in_the_queue_when_the_loop_was_blocked_has_its_time_all_the_same(
    redis_server: RedisServer, proxy: FaultProxy, slow: Store
) -> None:
    redis_server.cli("SET", "k", "value")
    # So what is sent after the stall is not answered in the same turn.
    await proxy.set(Fault.DELAY, seconds=0.03)
    reading = [asyncio.ensure_future(slow.get("k", TIMEOUT)) for _ in range(20)]
    await asyncio.sleep(0)
    time.sleep(2 * TIMEOUT)  # noqa: ASYNC251 - it blocks on purpose
    assert await asyncio.gather(*reading) == [b"value"] * 20


def test_a_connection_has_its_time_though_the_loop_is_blocked_while_it_is_made(
    redis_server: RedisServer, run: Callable[[Coroutine[object, object, None]], None]
) -> None:
    async def main() -> None:
        store = open_store(redis_server.url, clock=SystemClock())
        reading = asyncio.ensure_future(store.get("k", TIMEOUT))
        # Two turns are too few for connecting and logging in.
        for _ in range(2):
            await asyncio.sleep(0)
            time.sleep(CONNECT_PATIENCE)  # noqa: ASYNC251 - it blocks on purpose
        assert await reading is None
        await store.aclose()

    run(main())


async def test_a_value_by_hand_is_stored_though_the_loop_is_blocked_between_its_two_steps(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(redis_server.url, clock=SystemClock())
    await store.get("connected", T)
    seize = store.seize_lease

    async def seize_and_block(*args: Any, **options: Any) -> None:
        await seize(*args, **options)
        time.sleep(5 * TIMEOUT)  # noqa: ASYNC251 - it blocks on purpose

    monkeypatch.setattr(store, "seize_lease", seize_and_block)
    assert await store.set("k", TIMEOUT / 2, b"value", ttl_ms=MINUTE)
    assert await store.get_with_lease("k", T) == (b"value", None)
    await store.aclose()


# --- what leaves slowly -------------------------------------------------------------------------------------


async def test_a_value_that_is_still_leaving_is_congested_and_not_held_against_the_server() -> None:
    read: list[int] = []
    readers: list[asyncio.Task[None] | None] = []
    over = asyncio.Event()

    async def read_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        readers.append(asyncio.current_task())
        while not over.is_set() and (data := await reader.read(65_536)):
            read.append(len(data))
            await asyncio.sleep(TIMEOUT / 10)
        writer.close()

    async with await asyncio.start_server(read_slowly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = open_store(f"redis://127.0.0.1:{port}", clock=SystemClock())
        errors: list[object] = []

        async def write() -> None:
            put = Put(b"0" * 24, b"x" * 30_000_000, MINUTE)
            errors.extend(await asyncio.gather(store.run("k", 6 * TIMEOUT, put), return_exceptions=True))

        # A pause of this process, which is the server as well, looks like silence.
        await until(lambda: any(isinstance(error, CongestedError) for error in errors), write)
        assert read
        over.set()
        await store.aclose()
        await asyncio.gather(*[task for task in readers if task is not None])


async def test_bytes_that_wait_in_the_system_have_not_left() -> None:
    over = asyncio.Event()

    async def read_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    async with await asyncio.start_server(read_nothing, "127.0.0.1", 0) as server:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        transport.write(b"x" * 30_000_000)
        assert unwritten(transport) > transport.get_write_buffer_size() > 0
        transport.abort()
        over.set()


def test_a_connection_that_is_closed_meanwhile_has_nothing_left_to_write(
    run: Callable[[Coroutine[object, object, None]], None],
) -> None:
    async def main() -> None:
        async def read_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(read_nothing, "127.0.0.1", 0) as server:
            loop = asyncio.get_running_loop()
            gone = asyncio.Event()

            class Watched(asyncio.Protocol):
                def connection_lost(self, exc: Exception | None) -> None:
                    gone.set()

            transport, _ = await loop.create_connection(Watched, *server.sockets[0].getsockname())
            transport.write(b"x" * 30_000_000)
            transport.abort()
            await gone.wait()
            assert unwritten(transport) == 0

    run(main())


async def test_time_in_which_the_thread_computes_for_other_connections_is_no_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, computed = 1.0, 5.0
    monkeypatch.setattr("cachekit.stores.activity.thread_time", lambda: computed)
    activity = Activity(asyncio.get_running_loop(), lambda: now)
    activity.sent_at = activity.asked_at = now
    activity.note_idle()
    now, computed = 2.0, 5.75
    assert activity.waited(now) == pytest.approx(0.25)
    activity.heard_at = now
    activity.note_wait()
    # The next batch was sent after that. What has been computed before it does not count twice.
    now = activity.sent_at = 3.0
    assert activity.waited(4.0) == pytest.approx(1.25)


async def test_bytes_that_came_before_the_loop_stood_still_are_of_the_batch_that_is_under_way() -> None:
    activity = Activity(asyncio.get_running_loop(), lambda: 1.0)
    activity.sent_at = 1.0
    activity.note_part(300_000)
    activity.stand_still(1.5, 2.0)
    assert activity.under_way(3.0) == 1.5
    assert activity.arriving == 300_000
    activity.note_part(10)
    assert activity.arriving == 300_010
    # Those of an earlier batch are not.
    activity.sent_at = 4.0
    activity.stand_still(4.5, 5.0)
    assert activity.arriving == 0


# --- bounds -------------------------------------------------------------------------------------------------


async def test_the_bytes_that_wait_are_bounded(own_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cachekit.stores.lane.QUEUE_BYTES", 1_000_000)
    store = open_store(own_server.url, clock=SystemClock())
    # The server knows the script from now on.
    await store.set("connected", T, b"1", ttl_ms=MINUTE)
    own_server.pause()
    put = Put(b"0" * 24, BIG.encode(), MINUTE)
    setting = [asyncio.ensure_future(store.run("k", T, put)) for _ in range(20)]
    done, waiting = await asyncio.wait(setting, timeout=TIMEOUT)
    assert {type(future.exception()) for future in done} == {QueueFullError}
    # The first one is on its way.
    assert len(waiting) == 10
    own_server.resume()
    await asyncio.gather(*waiting)
    await store.aclose()


async def test_a_burst_on_a_slow_network_costs_each_caller_its_deadline(proxy: FaultProxy, slow: Store) -> None:
    # The last ones would wait for several times as long as they may, even where this process stands still for a while.
    await proxy.set(Fault.DELAY, seconds=0.9 * TIMEOUT)
    answers: list[object] = []

    async def read() -> None:
        reading = [asyncio.ensure_future(slow.get(f"k{n}", TIMEOUT)) for n in range(8 * BATCH)]
        answers.extend(await asyncio.gather(*reading, return_exceptions=True))

    # On a busy machine it may even be a timeout, and all that comes during a long pause is in time.
    await until(lambda: any(isinstance(answer, StoreError) for answer in answers), read)


# --- bursts -------------------------------------------------------------------------------------------------


def test_a_burst_of_cold_calls_and_of_values_by_hand_is_stored(
    store_url: str, run: Callable[[Coroutine[object, object, None]], None]
) -> None:
    # Far less time than the burst takes in debug mode, and far more than a busy machine keeps a server waiting.
    many, timeout, events, stored = 3_000, 4 * DEFAULT_TIMEOUT, list[Event](), list[bool]()

    def of(*kinds: type[Event]) -> int:
        return sum(isinstance(event, kinds) for event in events)

    async def main() -> None:
        async with Cache(store_url, timeout=timeout) as cache:

            @cache.cached(key="cold:<x>", ttl=60)
            async def f(x: int) -> int:
                return x

            await f(-1)
            cache.observe(events.append)
            assert await asyncio.gather(*map(f, range(many))) == [*range(many)]
            await until(lambda: of(Filled) == many or of(StoreFailed))
            stored.extend(await asyncio.gather(*[cache.set(f"set:{x}", x, ttl=60) for x in range(many)]))

    with Witness(store_url) as witness:
        run(main())
    whole = of(Filled) == many and not of(StoreFailed, BreakerOpened) and all(stored)
    # A server that does not get the processor is silent in earnest, and this process gets as little of it.
    counts = Counter(event.cause if isinstance(event, StoreFailed) else type(event).__name__ for event in events)
    assert whole or witness.silence > timeout / 4, f"{counts}, {sum(stored)} stored by hand"


async def test_a_burst_moves_in_steps(redis_server: RedisServer) -> None:
    store = open_store(redis_server.url, clock=SystemClock())
    await store.get("connected", T)
    redis_server.cli("CONFIG", "RESETSTAT")
    await asyncio.gather(*[store.get(f"k{n}", T) for n in range(4 * BATCH)])
    stats = redis_server.cli("INFO", "commandstats")
    assert stats["cmdstat_mget"]["calls"] >= 4
    await store.aclose()


async def test_the_newest_read_overtakes_a_long_queue(redis_server: RedisServer) -> None:
    store = open_store(redis_server.url, clock=SystemClock())
    await store.get("connected", T)
    # The server knows the script from now on.
    await store.run("first", T, AcquireLease(b"0" * 24, MINUTE))
    scripts = [asyncio.ensure_future(store.run(f"k{n}", T, AcquireLease(b"0" * 24, MINUTE))) for n in range(8 * BATCH)]
    await asyncio.sleep(0)
    await store.get("k", T)
    assert sum(script.done() for script in scripts) < 4 * BATCH
    await asyncio.gather(*scripts)
    await store.aclose()


async def test_a_fill_overtakes_a_long_queue_since_its_lease_may_end(redis_server: RedisServer) -> None:
    store = open_store(redis_server.url, clock=SystemClock())
    token = b"t" * 24
    # The server knows both scripts from now on.
    await store.run("filled", T, AcquireLease(token, MINUTE))
    await store.run("other", T, Fill(token, b"v", MINUTE, T))
    scripts = [asyncio.ensure_future(store.run(f"k{n}", T, AcquireLease(token, MINUTE))) for n in range(8 * BATCH)]
    await asyncio.sleep(0)
    assert await store.run("filled", T, Fill(token, b"v", MINUTE, T))
    assert sum(script.done() for script in scripts) < 4 * BATCH
    await asyncio.gather(*scripts)
    await store.aclose()


async def test_no_read_overtakes_an_invalidation_in_a_long_queue(redis_server: RedisServer) -> None:
    store = open_store(redis_server.url, clock=SystemClock())
    await store.set("k", T, b"old", ttl_ms=MINUTE)
    others = [store.get(f"k{n}", T) for n in range(4 * BATCH)]
    deleting = asyncio.ensure_future(store.delete(["k"], T))
    await asyncio.sleep(0)
    assert await store.get("k", T) is None
    await asyncio.gather(deleting, *others)
    await store.aclose()


# --- fills and probes ---------------------------------------------------------------------------------------


async def test_no_caller_waits_for_a_fill_behind_a_large_reply_and_it_is_stored_all_the_same(
    redis_server: RedisServer, proxy: FaultProxy
) -> None:
    redis_server.cli("SET", "big", f'"{BIG}"')
    events: list[Event] = []
    async with Cache(proxy.url, timeout=TIMEOUT) as cache:
        cache.observe(events.append)

        @cache.cached(key="k", ttl=60)
        async def f() -> str:
            await proxy.set(Fault.DRIP, seconds=0.02)
            reading.append(asyncio.ensure_future(cache.get("big")))
            await asyncio.sleep(0)
            return "loaded"

        reading: list[asyncio.Future[object]] = []
        assert await f() == "loaded"
        assert not [event for event in events if isinstance(event, Filled)]
        await proxy.heal()
        await until(lambda: Filled("k", "", 60.0) in bare(events))
        assert redis_server.cli("GET", "k") == b'"loaded"'
        await asyncio.gather(*reading)


async def test_a_probe_reads_the_lease_and_not_the_value(own_server: RedisServer) -> None:
    own_server.cli("SET", "k", "x" * 5_000_000)
    events: list[Event] = []
    async with Cache(own_server.url, timeout=TIMEOUT) as cache:
        cache.observe(events.append)
        assert await cache.get("connected") is None
        breaker = cache.runtime._guard._breaker  # pyright: ignore[reportPrivateUsage]
        breaker.failed("", "k", StoreTimeoutError("timeout", ""), in_full=True)
        await until(lambda: any(isinstance(event, BreakerClosed) for event in events))
    assert int(own_server.cli("INFO", "stats")["total_net_output_bytes"]) < 1_000_000


async def test_a_store_whose_server_is_slow_counts_all_of_its_time(proxy: FaultProxy, slow: Store) -> None:
    """So a call of three round trips costs a caller its deadline, and not three times the time of one."""
    await proxy.set(Fault.DELAY, seconds=TIMEOUT / 2)
    assert isinstance(slow, TimingStore)
    lost = math.inf

    async def ask() -> None:
        nonlocal lost
        started = time.monotonic()
        await slow.get("k", T)
        lost = slow.time_lost("k", time.monotonic() - started)

    # Time that this process lost in a pause is not the server's.
    await until(lambda: lost < TIMEOUT / 3, ask)


# --- fills that are left behind -----------------------------------------------------------------------------


async def behind_a_large_reply(server: RedisServer, proxy: FaultProxy, store: Store) -> asyncio.Future[object]:
    """Begin to read a value that arrives slowly, so that what is asked next waits behind it."""
    server.cli("SET", "big", BIG)
    await proxy.set(Fault.DRIP, seconds=0.02)
    reading = asyncio.ensure_future(store.get("big", T))
    await asyncio.sleep(0)
    return reading


async def test_a_fill_that_is_left_behind_tells_its_result_when_it_comes(
    redis_server: RedisServer, proxy: FaultProxy, slow: Store
) -> None:
    assert isinstance(slow, ManyStore)
    await slow.seize_lease("k", T, TOKEN, lease_ms=MINUTE)
    reading = await behind_a_large_reply(redis_server, proxy, slow)
    steps = [("k", Fill(TOKEN, b"v", MINUTE, TIMEOUT)), ("other", Fill(TOKEN, b"v", MINUTE, TIMEOUT))]
    mine, others = await slow.run_many(steps, TIMEOUT)
    assert isinstance(mine, UnconfirmedError)
    assert isinstance(others, UnconfirmedError)
    await proxy.heal()
    # It held the lease of one of them.
    results = [await one.result() for one in (mine, others)]
    assert results[0] is True
    assert results[1] is False
    assert redis_server.cli("GET", "k") == b"v"
    await reading


async def test_a_fill_that_is_left_behind_is_given_up_in_the_end(
    redis_server: RedisServer, proxy: FaultProxy, slow: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The default lease, without which a fill means nothing.
    monkeypatch.setattr("cachekit.stores.operations.FILL", 2 * TIMEOUT)
    reading = await behind_a_large_reply(redis_server, proxy, slow)
    with pytest.raises(UnconfirmedError) as left:
        await slow.run("k", TIMEOUT, Fill(TOKEN, b"v", MINUTE, TIMEOUT))
    with pytest.raises(CongestedError):
        await left.value.result()
    await proxy.heal()
    await reading


async def until_given_back(server: RedisServer) -> None:
    # So that it does not end by itself.
    server.cli("PERSIST", lease_key("k"))
    await until(lambda: server.cli("EXISTS", lease_key("k")) == 0)


@pytest.mark.parametrize("many", [False, True], ids=["set", "set_many"])
async def test_a_value_by_hand_whose_time_is_over_after_its_first_step_is_not_sent(
    redis_server: RedisServer, proxy: FaultProxy, slow: Store, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    """A value that was sent behind its deadline could land behind an invalidation that was acknowledged later."""
    assert isinstance(slow, ManyStore)
    redis_server.cli("CONFIG", "RESETSTAT")
    # By each look at the clock the server has taken more than the whole timeout.
    moved = iter(range(100))
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 2 * T * next(moved))
    monkeypatch.setattr("cachekit.stores.redis.time", clock)
    monkeypatch.setattr(slow, "time_lost", lambda _key, _seconds: 0.0)
    if many:
        assert [type(one) for one in await slow.set_many([("k", b"v")], T, ttl_ms=MINUTE)] == [StoreTimeoutError]
    else:
        with pytest.raises(StoreTimeoutError):
            await slow.set("k", T, b"v", ttl_ms=MINUTE)
    # It comes behind all that was sent but the script that gives the lease back.
    assert await slow.get("k", T) is None
    assert redis_server.cli("INFO", "commandstats")["cmdstat_set"]["calls"] == 1
    await until_given_back(redis_server)


@pytest.mark.parametrize("many", [False, True], ids=["set", "set_many"])
async def test_a_value_by_hand_that_is_refused_gives_its_lease_back(
    start_server: Callable[..., RedisServer], many: bool
) -> None:
    """Otherwise each load of the key would wait for the lease, though no load goes on."""
    # The second step does not fit, and the first one does.
    server = start_server("maxmemory 6mb")
    store = open_store(server.url, clock=SystemClock())
    assert isinstance(store, ManyStore)
    large = b"x" * 20_000_000
    if many:
        (refused,) = await store.set_many([("k", large)], 60.0, ttl_ms=MINUTE)
        assert isinstance(refused, StoreError)
    else:
        with pytest.raises(StoreError):
            await store.set("k", 60.0, large, ttl_ms=MINUTE)
    assert server.cli("INFO", "commandstats")["cmdstat_set"]["calls"] == 1
    await until_given_back(server)
    await store.aclose()


def test_stalls_that_are_forgotten_are_still_counted_for_those_that_began_before_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        monkeypatch.setattr("cachekit.stores.deadlines._MOST_STALLS", 4)
        deadlines = Deadlines("here")
        deadlines._due = 0.0
        # The loop does nothing but stand still, for a second each time.
        for second in range(1, 11):
            deadlines.note_stall(float(second))
        assert deadlines.stalled(9.5) == 0.5
        assert deadlines.stalled(8.0) == 2.0
        assert deadlines.stalled(10.0) == 0.0
        assert deadlines.stalled(0.0) == 10.0
        assert len(deadlines._stall_ends) <= 4
        deadlines.close()

    asyncio.run(main())
