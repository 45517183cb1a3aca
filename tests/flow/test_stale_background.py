"""Loads in the background: who loads, with which arguments, how many at a time, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Self

import pytest

from cachekit import Cache, CachedFunction
from cachekit._flow.background import MOST
from cachekit._flow.commit import open_block
from cachekit._flow.nesting import inside
from cachekit.events import LoadFailed
from tests.kit.servers import RedisServer
from tests.kit.stale import PATIENCE, WINDOWS, Source, put, raw_at, reasons, turns, two_caches, watch
from tests.kit.waiting import until

SOFT: dict[str, Any] = {"ttl": 600, **WINDOWS, "soft_timeout": 0.02}

REQUEST: ContextVar[str] = ContextVar("request", default="none")


def decorated(cache: Cache, source: Source, **options: Any) -> CachedFunction[[], Any]:
    return cache.cached(key="k", **{**SOFT, **options})(source.load)


# --- soft_timeout ---------------------------------------------------------------------------------------


async def test_a_caller_with_a_stale_value_does_not_wait_for_a_slow_load_which_goes_on(
    cache: Cache, source: Source
) -> None:
    call, events = decorated(cache, source), watch(cache)
    await put(cache, "k", "old", left=-100)
    source.open.clear()
    assert await asyncio.gather(*[call() for _ in range(10)]) == ["old"] * 10
    assert reasons(events) == ["slow"] * 10
    assert source.asked == 1
    source.open.set()
    await until(lambda: not cache.loading_in_background)
    assert await call() == "new"


async def test_a_load_that_is_quick_enough_brings_its_value_to_its_caller(cache: Cache, source: Source) -> None:
    call, events = decorated(cache, source, soft_timeout=PATIENCE), watch(cache)
    await put(cache, "k", "old", left=-100)
    assert await call() == "new"
    assert reasons(events) == []


async def test_a_load_that_fails_before_the_soft_timeout_gives_way_to_the_stale_value(
    cache: Cache, source: Source
) -> None:
    call, events = decorated(cache, source, soft_timeout=PATIENCE), watch(cache)
    await put(cache, "k", "old", left=-100)
    source.error = ConnectionError()
    assert await call() == "old"
    assert reasons(events) == ["error"]
    assert len([event for event in events if isinstance(event, LoadFailed)]) == 1
    await until(lambda: not cache.loading_in_background)
    await until(lambda: not cache.runtime.background)
    assert await call() == "old"
    assert reasons(events)[1:] == ["paused"]


async def test_a_caller_without_a_stale_value_waits_as_long_as_the_load_takes(cache: Cache, source: Source) -> None:
    call = decorated(cache, source, soft_timeout=0.001)
    source.open.clear()
    cold = asyncio.create_task(call())
    await source.began.wait()
    await asyncio.sleep(0.01)
    assert not cold.done()
    source.open.set()
    assert await cold == "new"


async def test_the_load_of_a_cold_key_stays_in_the_task_of_its_caller(cache: Cache) -> None:
    tasks: list[Any] = []

    async def load() -> int:
        tasks.append(asyncio.current_task())
        return 1

    call = cache.cached(key="k", **SOFT)(load)
    await call()
    await call.invalidate()
    await put(cache, "k", 0, left=-100)
    await call()
    # After a pause of this process the call may have had the value at hand, before the load began.
    await until(lambda: len(tasks) == 2 and not cache.loading_in_background)
    assert tasks[0] is asyncio.current_task()
    assert tasks[1] is not asyncio.current_task()


async def test_cancelling_a_caller_does_not_end_the_load_that_it_has_begun(cache: Cache, source: Source) -> None:
    call = decorated(cache, source, soft_timeout=PATIENCE)
    await put(cache, "k", "old", left=-100)
    source.open.clear()
    caller = asyncio.create_task(call())
    await source.began.wait()
    caller.cancel()
    await asyncio.wait([caller])
    source.open.set()
    await until(lambda: not cache.loading_in_background)
    assert await call() == "new"


async def test_a_caller_looks_for_the_lease_of_another_process_no_longer_than_its_soft_timeout(
    store_url: str, source: Source
) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        call, theirs = decorated(here, source), decorated(elsewhere, source)
        events = watch(elsewhere)
        await put(here, "k", "old", left=-100)
        source.open.clear()
        assert await call() == "old"
        assert await theirs() == "old"
        assert reasons(events) == ["slow"]
        assert source.asked == 1
        source.open.set()
        await until(lambda: not here.loading_in_background and not elsewhere.loading_in_background)
        assert [await call(), await theirs()] == ["new"] * 2
        assert source.asked == 1


async def test_when_the_cold_caller_that_loads_is_cancelled_a_caller_with_a_stale_value_goes_on(
    cache: Cache, source: Source
) -> None:
    call = decorated(cache, source, soft_timeout=PATIENCE)
    source.open.clear()
    cold = asyncio.create_task(call())
    await source.began.wait()
    await put(cache, "k", "old", left=-100)
    # The lease went with the value that was set, so this call opens a flight of its own.
    stale = asyncio.create_task(call())
    await until(lambda: source.asked == 2)
    cold.cancel()
    await asyncio.wait([cold])
    source.open.set()
    assert await stale == "new"


async def test_a_function_that_calls_itself_is_not_waited_for_by_itself(cache: Cache) -> None:
    depth = 0

    async def load() -> int:
        nonlocal depth
        depth += 1
        return await call() if depth < 3 else 1

    call = cache.cached(key="k", **{**SOFT, "soft_timeout": PATIENCE})(load)
    await put(cache, "k", 0, left=-100)
    async with asyncio.timeout(PATIENCE):
        assert await call() in {0, 1}


# --- how many, and how they end -------------------------------------------------------------------------


async def test_so_many_loads_go_on_in_the_background_and_not_one_more(cache: Cache) -> None:
    source = Source()

    @cache.cached(key="k:<n>", ttl=600, **WINDOWS)
    async def call(n: int) -> Any:
        return await source.load()

    source.open.clear()
    for n in range(MOST + 5):
        await put(cache, f"k:{n}", "old", left=-5)
    assert [await call(n) for n in range(MOST + 5)] == ["old"] * (MOST + 5)
    await until(lambda: source.asked == MOST)
    await turns()
    assert (cache.loading_in_background, source.asked) == (MOST, MOST)
    source.open.set()
    await until(lambda: not cache.loading_in_background)
    assert await call(MOST) == "old"
    await until(lambda: not cache.loading_in_background)
    assert await call(MOST) == "new"


async def test_a_caller_that_finds_too_many_loads_gets_its_stale_value_at_once(cache: Cache) -> None:
    source = Source()
    events = watch(cache)

    @cache.cached(key="k:<n>", **SOFT)
    async def call(n: int) -> Any:
        return await source.load()

    source.open.clear()
    for n in range(MOST + 1):
        await put(cache, f"k:{n}", "old", left=-100)
    await asyncio.gather(*[call(n) for n in range(MOST)])
    assert await call(MOST) == "old"
    assert reasons(events)[-1] == "busy"
    source.open.set()


async def test_a_load_that_never_ends_is_cancelled_and_leaves_flight_and_lease_free(
    cache: Cache, source: Source
) -> None:
    call, events = decorated(cache, source, load_timeout=0.05, retry_after=0.01), watch(cache)
    await put(cache, "k", "old", left=-5)
    source.open.clear()
    assert await call() == "old"
    await until(lambda: not cache.loading_in_background)
    assert [event.error for event in events if isinstance(event, LoadFailed)] == ["TimeoutError"]
    source.open.set()
    results: list[Any] = []

    async def ask() -> None:
        results.append(await call())

    await until(lambda: results and results[-1] == "new", ask)


async def test_a_load_that_swallows_its_cancellation_holds_nobody_up(cache: Cache) -> None:
    source = Source()
    over = asyncio.Event()

    async def load() -> Any:
        if source.asked:
            return await source.load()
        source.asked += 1
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await over.wait()
        return "too late"

    call = cache.cached(key="k", **{"ttl": 600, **WINDOWS, "load_timeout": 0.05, "retry_after": 0.01})(load)
    await put(cache, "k", "old", left=-5)
    assert await call() == "old"
    results: list[Any] = []

    async def ask() -> None:
        results.append(await call())

    await until(lambda: results and results[-1] == "new", ask)
    over.set()
    await until(lambda: not cache.loading_in_background)
    assert await call() == "new"


async def test_closing_the_cache_waits_for_a_load_that_ends(store_url: str, source: Source) -> None:
    async with two_caches(store_url) as (cache, elsewhere):
        call = decorated(cache, source)
        await put(cache, "k", "old", left=-5)
        source.open.clear()
        await call()
        await source.began.wait()
        closing = asyncio.create_task(cache.aclose())
        await turns()
        source.open.set()
        await closing
        assert await decorated(elsewhere, source)() == "new"
        assert source.asked == 1


async def test_closing_the_cache_cancels_a_load_that_does_not_end_and_gives_its_lease_back(
    store_url: str, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachekit._flow.runtime.DRAIN", 0.05)
    async with two_caches(store_url) as (cache, elsewhere):
        call = decorated(cache, source, soft_timeout=PATIENCE)
        await put(cache, "k", "old", left=-100)
        source.open.clear()
        waiting = asyncio.create_task(call())
        await source.began.wait()
        await cache.aclose()
        assert cache.loading_in_background == 0
        assert await waiting == "old", "who waits for it gets the stale value"
        assert (await raw_at(elsewhere, "k"))[1] is None
        source.open.set()
        assert await call() == "new"


CHANGES: dict[str, Callable[[Cache, CachedFunction[[], Any]], Awaitable[bool]]] = {
    "invalidate": lambda cache, call: call.invalidate(),
    "set": lambda cache, call: call.set("set"),
    "clear": lambda cache, call: cache.clear(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_load_that_hangs_since_before_a_change_by_its_process_keeps_no_later_value_stale(
    store_url: str, source: Source, change: Callable[[Cache, CachedFunction[[], Any]], Awaitable[bool]]
) -> None:
    async with two_caches(store_url, prefix="mine:") as (here, elsewhere):
        call, hangs = here.cached(key="k", ttl=600, **WINDOWS)(source.load), source.open
        hangs.clear()
        before = asyncio.create_task(call())
        await source.began.wait()
        assert await change(here, call)
        # Another process has stored it since, and its TTL is over.
        await put(elsewhere, "mine:k", "stale", left=-10)
        source.open = asyncio.Event()
        source.open.set()
        assert await call() == "stale"
        assert here.loading_in_background == 1
        await until(lambda: not here.loading_in_background)
        assert await call() == "new"
        hangs.set()
        assert await before == "new"


# --- contexts -------------------------------------------------------------------------------------------


async def test_a_load_in_the_background_sees_the_contextvars_of_its_caller_without_those_of_cachekit(
    cache: Cache,
) -> None:
    seen: list[object] = []

    async def load() -> int:
        seen.append((REQUEST.get(), open_block(cache.runtime), len(inside())))
        return 1

    call = cache.cached(key="k", ttl=600, **WINDOWS)(load)

    @cache.cached(key="around", ttl=60)
    async def around() -> int:
        async with cache.after_commit():
            REQUEST.set("mine")
            found = await call()
            await until(lambda: seen)
        return found

    await put(cache, "k", 0, left=-5)
    assert await around() == 0
    assert seen == [("mine", None, 1)], "it is inside of its own load alone"


async def test_a_load_that_begins_inside_a_block_is_no_part_of_the_block(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    await put(cache, "k", "old", left=-5)
    with contextlib.suppress(LookupError):
        async with cache.after_commit():
            await call()
            await cache.delete("another")
            raise LookupError
    await until(lambda: not cache.loading_in_background)
    assert await call() == "new"


# --- arguments ------------------------------------------------------------------------------------------


class Session:
    """A database session that may be used only while it is open."""

    opened = 0

    def __init__(self) -> None:
        self.open = True
        Session.opened += 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        self.open = False


async def _opened() -> Session:
    return Session()


@contextlib.asynccontextmanager
async def _as_manager() -> AsyncIterator[Session]:
    async with Session() as session:
        yield session


@contextlib.contextmanager
def _as_plain_manager() -> Any:
    session = Session()
    yield session
    session.open = False


PROVIDERS: list[Any] = [Session, _opened, _as_manager, _as_plain_manager]


@pytest.mark.parametrize("provider", PROVIDERS, ids=["class", "async def", "async manager", "manager"])
async def test_a_load_in_the_background_gets_an_argument_of_its_own(cache: Cache, provider: Any) -> None:
    used: list[tuple[Session, bool]] = []

    @cache.cached(key="k:<n>:<more>", ttl=600, **WINDOWS, background={"session": provider})
    async def call(session: Session, n: int, *, more: int = 1) -> int:
        used.append((session, session.open))
        return n + more

    await put(cache, "k:1:1", 0, left=-5)
    mine = Session()
    assert await call(mine, n=1) == 0
    await until(lambda: used and not cache.loading_in_background)
    ((theirs, was_open),) = used
    assert theirs is not mine
    assert was_open
    assert not theirs.open, "it ends with the load"
    assert await call(mine, 1) == 2
    await call.invalidate(mine, 1)
    assert await call(mine, 1) == 2
    assert used[1][0] is mine, "a load that has a caller gets the caller's"


async def test_a_manager_that_is_no_callable_is_entered_for_each_load(cache: Cache) -> None:
    entered: list[str] = []

    class Pool:
        async def __aenter__(self) -> str:
            entered.append("in")
            return "a connection"

        async def __aexit__(self, *raised: object) -> None:
            entered.append("out")

    @cache.cached(key="k", ttl=600, **WINDOWS, background={"pool": Pool()})
    async def call(pool: object) -> str:
        return str(pool)

    await put(cache, "k", "old", left=-5)
    await call("mine")
    await until(lambda: entered == ["in", "out"] and not cache.loading_in_background)
    assert await call("mine") == "a connection"


async def test_nothing_is_provided_for_a_load_that_does_not_begin(store_url: str) -> None:
    source = Source()
    provided: list[int] = []

    async with two_caches(store_url) as (here, elsewhere):

        async def load(session: object) -> Any:
            return await source.load()

        options: dict[str, Any] = {"ttl": 600, **WINDOWS, "background": {"session": lambda: provided.append(1)}}
        call, theirs = [cache.cached(key="k", **options)(load) for cache in (here, elsewhere)]
        await put(here, "k", "old", left=-5)
        source.open.clear()
        await call(None)
        await source.began.wait()
        await theirs(None)
        await until(lambda: not elsewhere.loading_in_background)
        source.open.set()
        await until(lambda: not here.loading_in_background)
        assert provided == [1]


async def test_a_provider_that_fails_is_a_failed_load(cache: Cache) -> None:
    events = watch(cache)

    def refuse() -> None:
        raise PermissionError

    @cache.cached(key="k", ttl=600, **WINDOWS, background={"session": refuse})
    async def call(session: object) -> int:
        return 1

    await put(cache, "k", 0, left=-5)
    assert await call(None) == 0
    await until(lambda: not cache.loading_in_background)
    assert [event.error for event in events if isinstance(event, LoadFailed)] == ["PermissionError"]


async def test_a_method_may_provide_its_instance(cache: Cache) -> None:
    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        @cache.cached(key="price:<sku>", ttl=600, **WINDOWS, background={"self": lambda: Shop("theirs")})
        async def price(self, sku: str) -> str:
            return f"{sku} of {self.name}"

    await put(cache, "price:tea", "old", left=-5)
    await Shop("mine").price("tea")
    await until(lambda: not cache.loading_in_background)
    assert await Shop("mine").price("tea") == "tea of theirs"


# --- the store is lost meanwhile ------------------------------------------------------------------------


@pytest.mark.parametrize("lose", [RedisServer.kill, RedisServer.pause], ids=["killed", "hung"])
async def test_a_redis_that_is_lost_during_a_load_in_the_background_reaches_nobody(
    own_server: RedisServer, source: Source, lose: Callable[[RedisServer], None]
) -> None:
    async with Cache(own_server.url, timeout=0.5) as cache:
        call, events = decorated(cache, source), watch(cache)
        await put(cache, "k", "old", left=-5)
        source.open.clear()
        assert await call() == "old"
        await source.began.wait()
        lose(own_server)
        source.open.set()
        await until(lambda: not cache.loading_in_background)
        assert not [event for event in events if isinstance(event, LoadFailed)]
        assert await call() == "new", "as undecorated"
        if own_server.running:
            own_server.resume()
