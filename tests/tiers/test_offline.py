"""Near values and stale ones: a near hit is never stale, and a near value may stand in while Redis is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from cachekit import Cache, CachedFunction
from cachekit._tiers import near
from cachekit._tiers.near import NearTier
from cachekit.events import Hit, LoadFailed, ServedStale
from cachekit.testing import FailingStore
from tests.kit.servers import RedisServer
from tests.kit.stale import DOWN, HOUR, Source, put, watch
from tests.kit.telling import bare
from tests.kit.waiting import until


class Clock:
    """The monotonic clock of the near tier, which a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        real = near.monotonic
        monkeypatch.setattr(near, "monotonic", lambda: real() + self.ahead)


@pytest_asyncio.fixture
async def cache(own_server: RedisServer) -> AsyncIterator[Cache]:
    async with Cache(own_server.url, timeout=0.5, near=100) as cache:
        yield cache
        if own_server.running and not own_server.awake:
            own_server.resume()


@pytest.fixture
def source() -> Source:
    return Source()


def decorated(cache: Cache, source: Source, **options: Any) -> CachedFunction[[], Any]:
    return cache.cached(key="k", **{"ttl": 600, "offline": 60, **options})(source.load)


async def kept_near(cache: Cache, call: CachedFunction[[], Any]) -> None:
    """Call until the result is found near."""
    events = watch(cache)
    await until(lambda: Hit("k", "", near=True) in bare(events), call)


def expiry(cache: Cache) -> float:
    tier = cache.runtime.coherence.near
    assert isinstance(tier, NearTier)
    (state,) = tier._loops.all()
    entry = state.entries.get("k")
    assert entry is not None
    return entry.expires - near.monotonic()


# --- near and stale -------------------------------------------------------------------------------------


async def test_a_near_value_ends_with_its_ttl_and_not_with_its_stale_window(cache: Cache, source: Source) -> None:
    call = decorated(cache, source, stale_if_error=HOUR, offline=None)
    await put(cache, "k", "old", left=30)
    await kept_near(cache, call)
    assert 0 < expiry(cache) <= 30


async def test_a_near_value_ends_before_a_load_ahead_is_due(cache: Cache, source: Source) -> None:
    call = decorated(cache, source, refresh_ahead=0.1, offline=None)
    await put(cache, "k", "old", left=90, stale=0.0)
    await kept_near(cache, call)
    assert 0 < expiry(cache) <= 30


async def test_a_stale_value_is_not_kept_near(cache: Cache, source: Source) -> None:
    call = decorated(cache, source, stale_while_revalidate=60, stale_if_error=HOUR, offline=None, retry_after=60)
    plain = cache.cached(key="k", ttl=600)(source.load)
    await call()
    await kept_near(cache, call)
    await put(cache, "k", "old", left=-5)
    source.error = DOWN
    events = watch(cache)
    for _ in range(5):
        assert await call() == "old"
    assert Hit("k", "", near=True) not in bare(events)
    await until(lambda: not cache.loading_in_background)
    with pytest.raises(ConnectionError):
        await plain()


# --- offline --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lose", [RedisServer.kill, RedisServer.pause], ids=["killed", "hung"])
async def test_a_near_value_stands_in_when_the_function_raises_and_redis_does_not_answer(
    cache: Cache, own_server: RedisServer, source: Source, lose: Callable[[RedisServer], None]
) -> None:
    call, events = decorated(cache, source), watch(cache)
    await call()
    await kept_near(cache, call)
    lose(own_server)
    source.error = DOWN
    await until(lambda: any(isinstance(event, ServedStale) for event in events), call)
    (event, *_) = [event for event in events if isinstance(event, ServedStale)]
    assert (event.why, event.key) == ("offline", "k")
    assert 0 <= event.age < 60
    assert any(isinstance(event, LoadFailed) for event in events)


async def test_while_redis_is_away_a_function_that_works_is_asked(
    cache: Cache, own_server: RedisServer, source: Source
) -> None:
    call = decorated(cache, source)
    await call()
    await kept_near(cache, call)
    own_server.kill()
    source.version = "newer"
    results: list[Any] = []

    async def ask() -> None:
        results.append(await call())

    await until(lambda: results and results[-1] == "newer", ask)
    assert {*results} <= {"new", "newer"}


async def test_a_near_value_stands_in_for_so_long_and_no_longer(
    cache: Cache, own_server: RedisServer, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    call, events = decorated(cache, source), watch(cache)
    await call()
    await kept_near(cache, call)
    own_server.kill()
    source.error = DOWN
    await until(lambda: any(isinstance(event, ServedStale) for event in events), call)
    clock.ahead = 61.0
    with pytest.raises(ConnectionError):
        await call()


async def test_when_redis_answers_no_near_value_stands_in(cache: Cache, source: Source) -> None:
    call = decorated(cache, source)
    await call()
    await kept_near(cache, call)
    async with Cache(cache._store) as elsewhere:
        await elsewhere.delete("k")
    source.error = DOWN

    async def ask() -> None:
        nonlocal failed
        try:
            await call()
        except ConnectionError:
            failed = True

    failed = False
    await until(lambda: failed, ask)


async def test_when_redis_is_back_without_the_value_no_near_value_stands_in(
    cache: Cache, own_server: RedisServer, source: Source
) -> None:
    call, events = decorated(cache, source), watch(cache)
    await call()
    await kept_near(cache, call)
    own_server.kill()
    source.error = DOWN
    await until(lambda: any(isinstance(event, ServedStale) for event in events), call)
    # It has lost its data, and what has changed meanwhile nobody was told.
    own_server.restart()
    await until(lambda: cache.healthy, lambda: cache.get("another"))
    with pytest.raises(ConnectionError):
        await call()


async def test_what_this_process_has_invalidated_does_not_stand_in(
    cache: Cache, own_server: RedisServer, source: Source
) -> None:
    call = decorated(cache, source)
    await call()
    await kept_near(cache, call)
    own_server.kill()
    assert not await call.invalidate()
    source.error = DOWN
    for _ in range(5):
        with pytest.raises(ConnectionError):
            await call()


async def test_a_change_that_redis_has_reported_before_it_was_lost_is_obeyed(
    cache: Cache, own_server: RedisServer, source: Source
) -> None:
    call = decorated(cache, source)
    await call()
    await kept_near(cache, call)
    own_server.cli("DEL", "k")
    tier = cache.runtime.coherence.near
    assert tier is not None
    (state,) = tier._loops.all()
    await until(lambda: state.kept.get("k") is None)
    own_server.kill()
    source.error = DOWN
    with pytest.raises(ConnectionError):
        await call()


async def test_a_value_is_known_to_be_true_until_redis_was_heard_of_for_the_last_time(
    cache: Cache, own_server: RedisServer, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not until its read, which may be long ago, and not until now: since then nobody has told of changes."""
    clock = Clock(monkeypatch)
    call, events = decorated(cache, source), watch(cache)
    await call()
    await kept_near(cache, call)
    tier = cache.runtime.coherence.near
    assert tier is not None
    (state,) = tier._loops.all()
    read = near.monotonic()
    # Changes are reported for two seconds more.
    await until(lambda: near._heard_of(state) > read + 0.5)
    own_server.kill()
    await until(lambda: state.tracking is not None and not state.tracking.until)
    clock.ahead = 30.0
    source.error = DOWN
    assert await call() == "new"
    (event,) = [event for event in events if isinstance(event, ServedStale)]
    assert event.age >= 30
    assert event.age < near.monotonic() - read, "it was known for longer than since its read"


async def test_no_near_value_stands_in_for_a_function_without_the_option(
    cache: Cache, own_server: RedisServer, source: Source
) -> None:
    call = decorated(cache, source, offline=None, stale_if_error=HOUR)
    await call()
    await kept_near(cache, call)
    own_server.kill()
    tier = cache.runtime.coherence.near
    assert tier is not None
    (state,) = tier._loops.all()
    await until(lambda: state.tracking is not None and not state.tracking.until)
    source.error = DOWN
    with pytest.raises(ConnectionError):
        await call()


async def test_where_the_store_lets_nothing_be_kept_near_nothing_stands_in(source: Source) -> None:
    store = FailingStore()
    async with Cache(store) as memory:
        call = decorated(memory, source)
        assert await call() == "new"
        source.error = DOWN
        with store.failing(), pytest.raises(ConnectionError):
            await call()


async def test_all_callers_of_a_load_that_fails_offline_get_the_near_value(
    cache: Cache, own_server: RedisServer, source: Source
) -> None:
    call = decorated(cache, source)
    await call()
    await kept_near(cache, call)
    own_server.kill()
    tier = cache.runtime.coherence.near
    assert tier is not None
    (state,) = tier._loops.all()
    await until(lambda: state.tracking is not None and not state.tracking.until)
    source.error = DOWN
    source.open.clear()
    source.began.clear()
    callers = [asyncio.create_task(call()) for _ in range(5)]
    await source.began.wait()
    source.open.set()
    assert await asyncio.gather(*callers) == ["new"] * 5
