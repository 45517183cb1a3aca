"""The near cache: a hit asks nobody, and is never out of date for longer than the promise allows."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest
import pytest_asyncio

from cachekit import MISS, Cache, CachedFunction
from cachekit._tiers.near import NEAR_TIERS, NearTier
from cachekit.clock import SystemClock
from cachekit.errors import ConfigurationError, StoreError, StoreUnavailableError
from cachekit.events import Event, Hit, NearPaused, NearResumed
from cachekit.stores import Store
from cachekit.stores.connect import open_store
from cachekit.stores.memory import MemoryStore
from cachekit.stores.redis import RedisStore
from cachekit.stores.scripts import Script
from cachekit.stores.tracking import LIMIT, Feeds
from tests.kit.binaries import first_server
from tests.kit.cluster import RedisCluster
from tests.kit.proxy import Fault, FaultProxy
from tests.kit.servers import RedisServer
from tests.kit.telling import bare
from tests.kit.waiting import PATIENCE, until

PREFIX = "near:"


class Source:
    """The source behind the cache: a version for each number, which each writer raises."""

    def __init__(self) -> None:
        self.version = 0
        self.loads = 0

    def load(self) -> int:
        self.loads += 1
        return self.version


class Bench:
    """A cache with a near tier, a function on it, and the events of its calls."""

    def __init__(self, where: str | Store, **options: Any) -> None:
        self.cache = Cache(where, prefix=PREFIX, timeout=5.0, **{"near": 1000, **options})
        self.source = Source()
        self.events: list[Event] = []
        self.cache.observe(self.events.append)
        self.f = self.decorate()

    def decorate(self, **options: Any) -> CachedFunction[[int], int]:
        @self.cache.cached(key="n:<n>", ttl=600, **options)
        async def f(n: int) -> int:
            return self.source.load()

        return f

    @property
    def near(self) -> bool:
        """Whether the last hit was a near one."""
        hits = [event for event in self.events if isinstance(event, Hit)]
        return bool(hits) and hits[-1].near

    async def warm(self, n: int = 1, f: Callable[[int], Awaitable[object]] | None = None) -> None:
        """Call until a call is a near hit."""

        async def call() -> None:
            self.events.clear()
            await (f or self.f)(n)

        await until(lambda: self.near, call)


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def url(request: pytest.FixtureRequest, redis_server: RedisServer) -> str:
    return f"{redis_server.url}?protocol={request.param}"


@pytest_asyncio.fixture
async def bench(url: str) -> AsyncIterator[Bench]:
    bench = Bench(url)
    yield bench
    await bench.cache.aclose()


def commands(server: RedisServer) -> int:
    """Return how many commands about keys ``server`` has had."""
    stats = server.cli("INFO", "commandstats")
    return sum(stat["calls"] for name, stat in stats.items() if name in {"cmdstat_get", "cmdstat_mget", "cmdstat_pttl"})


# --- what a near hit is -----------------------------------------------------------------------------------


async def test_a_near_hit_asks_nobody(redis_server: RedisServer, bench: Bench) -> None:
    await bench.warm()
    before = commands(redis_server)
    assert [await bench.f(1) for _ in range(50)] == [0] * 50
    assert commands(redis_server) == before


async def test_an_immutable_value_is_shared_and_any_other_is_built_anew(bench: Bench) -> None:
    @bench.cache.cached(key="shared:<n>", ttl=600)
    async def shared(n: int) -> tuple[str, tuple[int, ...]]:
        return ("a" * n, (n,))

    @bench.cache.cached(key="own:<n>", ttl=600)
    async def own(n: int) -> dict[str, list[int]]:
        return {"numbers": [n]}

    await bench.warm(7, shared)
    assert await shared(7) is await shared(7)
    await bench.warm(7, own)
    first = await own(7)
    first["numbers"].append(8)
    first["more"] = []
    assert await own(7) == {"numbers": [7]}
    assert bench.near


async def test_functions_say_for_themselves_whether_their_results_are_kept_near(redis_server: RedisServer) -> None:
    far = Bench(redis_server.url, near=None)
    wants, leaves_it = far.decorate(near=True), far.decorate()
    await far.warm(1, wants)
    await leaves_it(1)
    assert not far.near, "a cache without near keeps what is asked for alone"
    refuses = Bench(redis_server.url)
    f = refuses.decorate(near=False)
    await refuses.warm(1)
    await f(1)
    assert not refuses.near
    await far.cache.aclose()
    await refuses.cache.aclose()


async def test_a_memory_store_gets_no_near_tier() -> None:
    bench = Bench("memory://")
    await bench.f(1)
    await bench.f(1)
    assert bench.events
    assert not bench.near
    await bench.cache.aclose()


async def test_the_near_tier_keeps_no_more_entries_than_its_bound(redis_server: RedisServer) -> None:
    bench = Bench(redis_server.url, near=10)
    await bench.warm()
    for n in range(100):
        await bench.f(n)
        await bench.f(n)
    before = commands(redis_server)
    for n in range(100):
        await bench.f(n)
    assert commands(redis_server) - before >= 2 * 90, "each that is not near asks for its value and its time to live"
    await bench.cache.aclose()


@pytest.mark.parametrize("options", [{"near": 0}, {"near": True}, {"near": "many"}, {"near_bytes": 0}])
def test_bounds_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="near"):
        Cache("redis://localhost", **options)


def test_a_choice_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="near=True or near=False"):

        @Cache("memory://").cached(key="k", ttl=1, near="yes")  # type: ignore[arg-type] # what is refused
        async def f() -> int:
            return 1


# --- what this process changes ------------------------------------------------------------------------------


async def test_a_value_that_this_process_changed_is_never_served_again(bench: Bench) -> None:
    await bench.warm()
    f, source = bench.f, bench.source

    async def invalidate() -> None:
        assert await f.invalidate(1)

    async def refresh() -> None:
        await f.refresh(1)

    async def put() -> None:
        assert await bench.cache.set("n:1", source.version, ttl=600)

    async def take() -> None:
        await f.take(1)

    for change in [invalidate, refresh, put, take] * 25:
        # Other tasks read all the time, so that a read is under way when the change lands.
        readers = [asyncio.ensure_future(f(1)) for _ in range(5)]
        source.version += 1
        changing = asyncio.ensure_future(change())
        readers += [asyncio.ensure_future(f(1)) for _ in range(5)]
        await changing
        assert await f(1) == source.version, change.__name__
        await asyncio.gather(*readers)
        assert await f(1) == source.version, change.__name__


async def test_an_invalidation_that_the_store_does_not_acknowledge_holds_in_this_process_at_once(
    redis_server: RedisServer, url: str
) -> None:
    store = open_store(url, clock=SystemClock())
    assert isinstance(store, RedisStore)
    bench = Bench(store)
    await bench.warm()

    async def fails(*_: object, **__: object) -> None:
        raise StoreUnavailableError("unavailable", "on cue")

    delete, store.delete = store.delete, fails  # type: ignore[method-assign]
    bench.source.version = 1
    assert not await bench.f.invalidate(1)
    bench.events.clear()
    assert await bench.f(1) == 1
    assert not bench.near
    store.delete = delete  # type: ignore[method-assign]
    await until(lambda: not bench.cache.runtime.coherence.journal)
    await bench.warm()
    assert await bench.f(1) == 1
    await bench.cache.aclose()


async def test_a_change_in_one_thread_is_strict_in_all_others(redis_server: RedisServer) -> None:
    bench = Bench(redis_server.url)
    await bench.warm()
    warm, changed, done = threading.Event(), threading.Event(), threading.Event()
    seen: list[int] = []

    async def elsewhere() -> None:
        await bench.warm()
        warm.set()
        while not changed.is_set():
            await bench.f(1)
        seen.extend([await bench.f(1) for _ in range(20)])
        await bench.cache.aclose()
        done.set()

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    await asyncio.to_thread(warm.wait, PATIENCE)
    bench.source.version = 1
    assert await bench.f.invalidate(1)
    changed.set()
    await asyncio.to_thread(done.wait, PATIENCE)
    thread.join()
    assert seen == [1] * 20
    await bench.cache.aclose()


@pytest_asyncio.fixture
async def silent(bench: Bench) -> Bench:
    """A cache with a near value, to which Redis reports changes too late for any test."""
    await bench.warm()
    tier = bench.cache.runtime.coherence.near
    assert tier is not None
    tracking = tier._loops.get().tracking
    assert isinstance(tracking, Feeds)
    tracking.changed = lambda _: None
    return bench


CHANGES = {
    "delete": lambda other, key: other.delete(key),
    "set": lambda other, key: other.set(key, 1, ttl=600),
    "take": lambda other, key: other.take(key),
    "invalidate": lambda other, key: by_function(other, key).invalidate(),
    "refresh": lambda other, key: by_function(other, key).refresh(),
    "clear": lambda other, key: other.clear(),
}


def by_function(cache: Cache, key: str) -> CachedFunction[[], int]:
    @cache.cached(key=key, ttl=600)
    async def f() -> int:
        return 1

    return f


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_change_through_another_cache_of_this_process_is_strict(
    redis_server: RedisServer, silent: Bench, change: Callable[[Cache, str], Awaitable[object]]
) -> None:
    silent.source.version = 1
    async with Cache(redis_server.url, prefix=PREFIX, timeout=5.0) as other:
        await change(other, "n:1")
        assert await silent.f(1) == 1


async def test_a_clear_is_strict_though_redis_reports_its_removals_late(silent: Bench) -> None:
    silent.source.version = 1
    assert await silent.cache.clear()
    assert await silent.f(1) == 1


async def test_a_change_through_another_cache_is_strict_wherever_prefix_and_key_part(
    redis_server: RedisServer, silent: Bench
) -> None:
    silent.source.version = 1
    async with Cache(redis_server.url, timeout=5.0) as whole:
        assert await whole.delete(f"{PREFIX}n:1")
        assert await silent.f(1) == 1


async def test_a_change_through_another_cache_is_strict_in_another_thread(
    redis_server: RedisServer, silent: Bench
) -> None:
    async def change() -> None:
        async with Cache(redis_server.url, prefix=PREFIX, timeout=5.0) as other:
            assert await other.delete("n:1")

    silent.source.version = 1
    await asyncio.to_thread(asyncio.run, change())
    assert await silent.f(1) == 1


async def test_a_read_under_way_keeps_nothing_near_that_another_cache_of_this_process_has_changed(
    redis_server: RedisServer, silent: Bench
) -> None:
    store, tier = silent.cache._store, silent.cache.runtime.coherence.near
    assert isinstance(store, RedisStore)
    assert tier is not None
    get_with_ttl = store.get_with_ttl
    async with Cache(redis_server.url, prefix=PREFIX, timeout=5.0) as other:

        async def overtaken(key: str, timeout: float) -> tuple[bytes | None, float]:
            reply = await get_with_ttl(key, timeout=timeout)
            assert await other.delete("n:1")
            return reply

        store.get_with_ttl = overtaken  # type: ignore[method-assign]
        tier.forget(["n:1"])
        assert await silent.f(1) == 0, "it began before the change"
        store.get_with_ttl = get_with_ttl  # type: ignore[method-assign]
        silent.source.version = 1
        assert await silent.f(1) == 1


async def test_a_change_of_other_keys_lets_a_near_value_be(redis_server: RedisServer, silent: Bench) -> None:
    silent.source.version = 1
    async with Cache(redis_server.url, prefix="other:", timeout=5.0) as other:
        assert await other.delete("n:1")
        assert await other.delete("near:n:1")
    assert await silent.f(1) == 0
    assert silent.near


async def test_a_cache_that_is_dropped_is_not_kept_for_the_changes_of_others(redis_server: RedisServer) -> None:
    bench = Bench(redis_server.url)
    await bench.warm()
    tier = bench.cache.runtime.coherence.near
    assert tier is not None
    assert tier in [ref() for ref in NEAR_TIERS.used]
    await bench.cache.aclose()
    assert tier not in [ref() for ref in NEAR_TIERS.used]
    await bench.f(1)
    dropped = weakref.ref(tier)
    feeds = [state.tracking for state in tier._states.values()]
    await asyncio.wait([task for tracking in feeds if tracking is not None for task in tracking.close()])
    del tier, bench, feeds
    gc.collect()
    assert dropped() is None


# --- what others change -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [("UNLINK", "near:n:1"), ("SET", "near:n:1", "1"), ("FLUSHALL",), ("FLUSHDB",), ("PEXPIRE", "near:n:1", "1")],
)
async def test_a_change_by_another_process_is_reported(
    redis_server: RedisServer, bench: Bench, change: tuple[str, ...]
) -> None:
    await bench.warm()
    bench.source.version = 1
    redis_server.cli(*change)
    seen: list[int] = []

    async def look() -> None:
        seen.append(await bench.f(1))

    await until(lambda: seen[-1] == 1, look)
    await bench.warm()
    assert await bench.f(1) == 1


async def test_an_entry_ends_no_later_than_its_key_in_redis(redis_server: RedisServer, bench: Bench) -> None:
    """Redis reports an expiry when it deletes the key, up to a second late."""
    await bench.warm(2)
    tier = bench.cache.runtime.coherence.near
    assert tier is not None
    ends = -math.inf

    async def keep() -> None:
        nonlocal ends
        redis_server.cli("SET", "near:n:1", "0", "PX", "500")
        ends = time.monotonic() + 0.5
        await bench.warm()

    def ends_in_time() -> bool:
        kept = tier._loops.get().entries.get("n:1")
        return kept is not None and kept.expires <= ends

    # A pause of this process can outlast the key: then a load stored a value of its own.
    await until(ends_in_time, keep)
    bench.source.version = 1
    # Redis counts whole milliseconds, and serves a key in the last of them.
    await until(lambda: time.monotonic() >= ends + 0.002)
    assert await bench.f(1) == 1


async def test_a_key_without_ttl_stays_near_until_redis_reports_a_change(
    redis_server: RedisServer, bench: Bench
) -> None:
    redis_server.cli("SET", "near:n:1", "5")
    await bench.warm()
    assert await bench.f(1) == 5
    redis_server.cli("SET", "near:n:1", "6")
    seen: list[int] = []

    async def look() -> None:
        seen.append(await bench.f(1))

    await until(lambda: seen[-1] == 6, look)


async def test_a_reply_that_its_invalidation_overtook_is_not_kept(redis_server: RedisServer, url: str) -> None:
    store = open_store(url, clock=SystemClock())
    assert isinstance(store, RedisStore)
    bench = Bench(store)
    await bench.warm()
    tier = bench.cache.runtime.coherence.near
    assert tier is not None
    here = tier._loops.get()
    get_with_ttl = store.get_with_ttl
    overtakes = False

    async def overtaken(key: str, timeout: float) -> tuple[bytes | None, float]:
        reply = await get_with_ttl(key, timeout=timeout)
        if overtakes:
            redis_server.cli("SET", key, bench.source.version)
            await until(lambda: "n:1" not in here.marks)
        return reply

    store.get_with_ttl = overtaken  # type: ignore[method-assign]
    for version in range(1, 30):
        tier.forget(["n:1"])
        bench.source.version, overtakes = version, True
        assert await bench.f(1) == version - 1, "that read began before the change"
        overtakes = False
        assert await bench.f(1) == version
    await bench.cache.aclose()


async def test_an_invalidation_that_is_parsed_together_with_the_reply_keeps_it_out(bench: Bench) -> None:
    """Both come in one read of the sockets, before the coroutine that awaits the reply has run."""
    await bench.warm()
    tier, store = bench.cache.runtime.coherence.near, bench.cache._store
    assert tier is not None
    assert isinstance(store, RedisStore)
    here = tier._loops.get()
    get_with_ttl = store.get_with_ttl

    async def parsed_together(key: str, timeout: float) -> tuple[bytes | None, float]:
        reply = asyncio.ensure_future(get_with_ttl(key, timeout=timeout))
        # It is called in the place of replies, before the task that awaits this reply goes on.
        reply.add_done_callback(lambda _: tier._forget(here, ["n:1"]))
        return await reply

    store.get_with_ttl = parsed_together  # type: ignore[method-assign]
    tier.forget(["n:1"])
    assert await bench.f(1) == 0
    assert here.entries.get("n:1") is None
    store.get_with_ttl = get_with_ttl  # type: ignore[method-assign]
    await bench.warm()


async def test_one_of_two_caches_on_one_store_goes_on_when_the_other_is_closed(redis_server: RedisServer) -> None:
    store = open_store(redis_server.url, clock=SystemClock())
    bench = Bench(store)
    await bench.warm()
    await Cache(store, prefix="other:").aclose()
    await bench.warm()
    await bench.cache.aclose()


# --- when nobody tells --------------------------------------------------------------------------------------


async def test_a_lost_connection_empties_it_until_redis_reports_again(
    redis_server: RedisServer, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "cachekit")
    await bench.warm()
    bench.source.version = 1
    # With RESP2 the feed is a subscriber. With RESP3 it looks like any other connection.
    redis_server.cli(
        "CLIENT", "KILL", "TYPE", "pubsub" if "sub=1" in str(redis_server.cli("CLIENT", "LIST")) else "normal"
    )
    redis_server.cli("SET", "near:n:1", "1")
    seen: list[int] = []

    async def look() -> None:
        seen.append(await bench.f(1))

    await until(lambda: any(isinstance(event, NearPaused) for event in bench.events), look)
    assert await bench.f(1) == 1
    await until(lambda: any(isinstance(event, NearResumed) for event in bench.events), look)
    await until(lambda: bench.near, look)
    assert await bench.f(1) == 1


async def test_the_near_tier_is_emptied_when_its_server_is_restarted(own_server: RedisServer) -> None:
    bench = Bench(own_server.url)
    await bench.warm()
    bench.source.version = 1
    await asyncio.to_thread(own_server.restart)
    # A busy machine may be late to see that the connection has ended.
    await until(lambda: any(isinstance(event, NearPaused) for event in bench.events))
    # The server is restarted empty: every key is a miss, and every near entry is out of date.
    assert await bench.f(1) == 1
    await bench.warm()
    assert await bench.f(1) == 1
    await bench.cache.aclose()


async def test_a_half_open_connection_is_believed_for_a_second_at_most(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy:
        bench = Bench(proxy.url)
        await bench.warm()
        await proxy.set(Fault.HALF_OPEN)
        redis_server.cli("SET", "near:n:1", "1")
        bench.source.version = 1
        since = time.monotonic()
        served = since
        async with asyncio.timeout(PATIENCE):
            while True:
                began = time.monotonic()
                if await bench.f(1) != 0:
                    break
                served = began
                await asyncio.sleep(0.01)
        # This asserts an order, not a time: the last PING that was answered was sent before ``since``.
        assert served - since <= LIMIT
        await proxy.set(Fault.NONE)
        await bench.cache.aclose()


async def test_every_master_of_a_cluster_reports_to_the_near_cache(shared_cluster: RedisCluster) -> None:
    shared_cluster.reset()
    bench = Bench(shared_cluster.url)
    for n in range(20):
        await bench.warm(n)
    bench.source.version = 1
    other = Cache(shared_cluster.url, prefix=PREFIX, timeout=5.0)
    for n in range(20):
        assert await other.delete(f"n:{n}")
    for n in range(20):
        seen: list[int] = []

        async def look(n: int = n, seen: list[int] = seen) -> None:
            seen.append(await bench.f(n))

        await until(lambda seen=seen: seen[-1] == 1, look)  # type: ignore[misc]
    await other.aclose()
    await bench.cache.aclose()


@pytest.mark.server
async def test_a_read_for_the_near_cache_finds_its_key_in_a_slot_that_moves() -> None:
    with RedisCluster(first_server(), replicas=0) as cluster:
        store = open_store(cluster.url, clock=SystemClock())
        assert isinstance(store, RedisStore)
        await store.set("near:n:1", PATIENCE, b"0", ttl_ms=60_000)
        migration = cluster.migrate("near:n:1")
        migration.move_keys()
        value, seconds = await store.get_with_ttl("near:n:1", PATIENCE)
        assert value == b"0"
        assert 0 < seconds <= 60
        migration.finish()
        await store.aclose()


# --- a store that tells on cue ------------------------------------------------------------------------------


class OnCue(MemoryStore):
    """A store that reports changes when the test does, and fails on cue."""

    def __init__(self) -> None:
        super().__init__()
        self.until, self.closed = math.inf, False
        self.changed: Callable[[Sequence[str] | None], None] = print
        self.state: Callable[[StoreError | None], None] = print
        self.while_read: Callable[[], object] = dict
        self.asked = 0

    async def get_with_ttl(self, key: str, timeout: float) -> tuple[bytes | None, float]:
        self.asked += 1
        self.while_read()
        return await self.get(key, timeout), 600.0

    def track(
        self,
        prefix: str,
        changed: Callable[[Sequence[str] | None], None],
        state: Callable[[StoreError | None], None],
    ) -> OnCue:
        self.changed, self.state = changed, state
        return self

    def close(self) -> list[asyncio.Task[None]]:
        return []


@pytest.fixture
def cue() -> OnCue:
    return OnCue()


@pytest_asyncio.fixture
async def on_cue(cue: OnCue) -> AsyncIterator[CachedFunction[[int], int]]:
    cache, source = Cache(cue, near=10), Source()

    @cache.cached(key="n:<n>", ttl=600)
    async def f(n: int) -> int:
        return source.load()

    await f(1)
    yield f
    await cache.aclose()


def near_of(f: CachedFunction[[int], int]) -> NearTier:
    near: NearTier = f._self_runtime().coherence.near
    return near


async def test_a_value_read_while_tracking_is_lost_is_not_kept(cue: OnCue, on_cue: CachedFunction[[int], int]) -> None:
    cue.while_read = lambda: setattr(cue, "until", 0.0)
    assert await on_cue(1) == 0
    cue.until, cue.while_read = math.inf, dict
    asked = cue.asked
    assert await on_cue(1) == 0
    assert cue.asked == asked + 1, "it was read again"
    assert await on_cue(1) == 0
    assert cue.asked == asked + 1, "and kept now"


async def test_a_read_that_a_gap_in_the_reports_falls_into_keeps_nothing_near(
    cue: OnCue, on_cue: CachedFunction[[int], int]
) -> None:
    # Tracking is lost, and confirmed again, before the answer is heard.
    cue.while_read = lambda: cue.changed(None)
    assert await on_cue(1) == 0
    asked, cue.while_read = cue.asked, dict
    assert await on_cue(1) == 0
    assert cue.asked == asked + 1, "it was read again"


async def test_a_read_that_a_clear_overtakes_keeps_nothing_near(
    cue: OnCue, on_cue: CachedFunction[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, read = on_cue._self_runtime(), cue.get_with_ttl

    async def overtaken(key: str, timeout: float) -> tuple[bytes | None, float]:
        reply = await read(key, timeout)
        assert await runtime.sweeper.clear(PATIENCE, None)
        return reply

    monkeypatch.setattr(cue, "get_with_ttl", overtaken)
    assert await on_cue(1) == 0, "it began before the end of the clear"
    monkeypatch.undo()
    assert near_of(on_cue).find("n:1", on_cue._self_plan.built_codec) is MISS


async def test_after_a_clear_no_near_value_stands_in_for_an_outage(cue: OnCue) -> None:
    cache, source = Cache(cue, near=10), Source()

    @cache.cached(key="k", ttl=600, offline=60)
    async def f() -> int:
        if source.version:
            raise LookupError
        return source.load()

    await f()
    await f()
    near, codec = near_of(f), f._self_plan.built_codec
    assert near.last_known("k", codec, 60) is not None
    assert await cache.clear()
    assert near.last_known("k", codec, 60) is None
    source.version = 1

    def fails() -> None:
        raise StoreUnavailableError("unavailable", "on cue")

    cue.while_read = fails
    with pytest.raises(LookupError):
        await f()
    await cache.aclose()


async def test_a_value_stays_near_until_the_store_has_the_one_that_replaces_it(
    cue: OnCue, on_cue: CachedFunction[[int], int]
) -> None:
    await on_cue(1)
    filling, in_the_store, events = asyncio.Event(), asyncio.Event(), list[Event]()
    on_cue._self_runtime().reporter.observe(events.append)

    async def run(key: str, timeout: float, script: Script[Any]) -> Any:
        filling.set()
        await in_the_store.wait()
        return await MemoryStore.run(cue, key, timeout, script)

    cue.run = run  # type: ignore[method-assign]
    refreshing = asyncio.ensure_future(on_cue.refresh(1))
    await filling.wait()
    await on_cue(1)
    assert bare(events)[-1] == Hit("n:1", "", near=True)
    in_the_store.set()
    await refreshing
    await on_cue(1)
    assert bare(events)[-1] == Hit("n:1", ""), "the new value was read"


async def test_a_near_read_that_fails_loads(cue: OnCue, on_cue: CachedFunction[[int], int]) -> None:
    def fails() -> None:
        raise StoreUnavailableError("unavailable", "on cue")

    cue.while_read = fails
    assert await on_cue(1) == 0
    assert await on_cue(2) == 0


async def test_a_read_of_a_key_that_entered_the_journal_meanwhile_is_a_miss(
    cue: OnCue, on_cue: CachedFunction[[int], int]
) -> None:
    journal = on_cue._self_runtime().coherence.journal
    cue.while_read = lambda: journal.add(["n:1"])
    assert await on_cue(1) == 0
    assert near_of(on_cue).find("n:1", on_cue._self_plan.built_codec) is MISS


@pytest.mark.usefixtures("usual_quiet")
async def test_the_log_has_one_record_when_reports_end_and_one_when_they_resume(
    cue: OnCue, on_cue: CachedFunction[[int], int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "cachekit")
    await on_cue(1)
    error = StoreUnavailableError("unavailable", "on cue")
    for _ in range(5):
        cue.state(error)
        cue.state(error)
        cue.state(None)
        cue.state(None)
    near = near_of(on_cue)
    here = near._loops.get()
    cue.state(error)
    near._settle(here)
    assert near._incidents.current, "it is going on"
    cue.state(None)
    await until(lambda: not near._incidents.current)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize(
    ("verb", "remove"),
    [("delete", lambda f: f.invalidate(1)), ("get_and_delete", lambda f: f.take(1))],
    ids=["invalidate", "take"],
)
async def test_from_the_beginning_of_a_removal_on_its_value_is_not_found_near(
    cue: OnCue,
    on_cue: CachedFunction[[int], int],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    remove: Callable[[CachedFunction[[int], int]], Coroutine[Any, Any, object]],
) -> None:
    begun, may_end, done = asyncio.Event(), asyncio.Event(), getattr(cue, verb)

    async def slow(*args: Any, **options: Any) -> Any:
        begun.set()
        await may_end.wait()
        return await done(*args, **options)

    await on_cue(1)
    near, codec = near_of(on_cue), on_cue._self_plan.built_codec
    assert near.find("n:1", codec) == 0
    monkeypatch.setattr(cue, verb, slow)
    removing = asyncio.create_task(remove(on_cue))
    await begun.wait()
    assert near.find("n:1", codec) is MISS
    asked = cue.asked
    assert await on_cue(1) == 0
    assert cue.asked == asked + 1, "the store knows whether it is still there"
    may_end.set()
    await removing


async def test_a_value_read_during_an_invalidation_is_forgotten_at_its_acknowledgement(
    cue: OnCue, on_cue: CachedFunction[[int], int]
) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()
    delete = cue.delete

    async def slow(keys: Sequence[str], timeout: float) -> None:
        begun.set()
        await may_end.wait()
        await delete(keys, timeout=timeout)

    cue.delete = slow  # type: ignore[method-assign]
    invalidating = asyncio.ensure_future(on_cue.invalidate(1))
    await begun.wait()
    assert await on_cue(1) == 0
    near, codec = near_of(on_cue), on_cue._self_plan.built_codec
    assert near.find("n:1", codec) == 0, "it was read after the invalidation had begun, and kept"
    may_end.set()
    assert await invalidating
    assert near.find("n:1", codec) is MISS
