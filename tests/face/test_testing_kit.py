"""The tools for users' tests: events and loads of a block, a fresh default cache, a store that fails, frozen time."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import time_machine
from freezegun import freeze_time
from sybil import Document
from sybil.parsers.markdown import PythonCodeBlockParser

from cachekit import Cache, RollingWindow, cached, configure, default_cache, using
from cachekit.errors import CommandRefusedError
from cachekit.events import Event, Filled, Hit, Loaded, Missed, StoreFailed
from cachekit.testing import FailingStore, FakeClock, assert_loads, capture_events, disabled, memory_cache, reset
from tests import ROOT
from tests.kit.servers import RedisServer
from tests.kit.waiting import PATIENCE


@cached(key="square:<x>", ttl=60)
async def square(x: int) -> int:
    return x * x


def kinds(events: Sequence[Event]) -> list[type[Event]]:
    """Return what the events of calls are, in order."""
    return [type(event) for event in events if isinstance(event, (Missed, Loaded, Filled, Hit))]


# --- events and loads ---------------------------------------------------------------------------------


async def test_the_events_of_a_block_come_as_a_list_of_all_caches_also_of_those_made_inside() -> None:
    before = memory_cache()
    with capture_events() as events:
        for cache in (before, memory_cache(), before.scoped("tenant:")):
            with using(cache):
                await square(2)
    with using(memory_cache()):
        await square(3)
    assert kinds(events) == [Missed, Loaded, Filled] * 3
    with using(before):
        await square(4)
    assert kinds(events) == [Missed, Loaded, Filled] * 3


async def test_the_events_of_a_block_come_from_every_thread() -> None:
    cache = memory_cache()

    async def call() -> None:
        with using(cache):
            await square(2)

    with capture_events() as events:
        thread = threading.Thread(target=lambda: asyncio.run(call()))
        thread.start()
        await asyncio.to_thread(thread.join)
    assert Loaded in map(type, events)


async def test_blocks_of_events_nest_and_each_has_its_own() -> None:
    with using(memory_cache()), capture_events() as outer:
        with capture_events() as inner:
            await square(2)
        await square(2)
    assert kinds(inner) == [Missed, Loaded, Filled]
    assert kinds(outer) == [Missed, Loaded, Filled, Hit]


async def test_so_many_loads_have_to_happen_in_a_block() -> None:
    with using(memory_cache()):
        with assert_loads(1) as events:
            await square(2)
            await square(2)
        assert kinds(events) == [Missed, Loaded, Filled, Hit]
        with assert_loads(0):
            await square(2)


async def test_loads_too_few_and_too_many_fail_with_their_keys() -> None:
    with using(memory_cache()):
        with (
            pytest.raises(AssertionError, match=r"^1 load was to happen, and 2 did: square:2, square:3$"),
            assert_loads(1),
        ):
            await asyncio.gather(square(2), square(3))
        with pytest.raises(AssertionError, match=r"^2 loads were to happen, and 0 did$"), assert_loads(2):
            await square(2)
        with pytest.raises(AssertionError, match=r"and 0 did; caches are off$"), disabled(), assert_loads(1):
            await square(5)


async def test_a_load_that_fails_behind_a_stale_value_counts() -> None:
    cache, sound = memory_cache(), True

    @cache.cached(key="price", ttl=60, stale_if_error="1h")
    async def price() -> int:
        if sound:
            return 10
        raise LookupError

    await price()
    await price.expire()
    sound = False
    with assert_loads(1):
        assert await price() == 10


async def test_the_error_of_a_block_is_shown_and_not_the_number_of_its_loads() -> None:
    with pytest.raises(LookupError), assert_loads(3):
        raise LookupError


async def test_a_cache_that_was_observed_by_a_block_is_not_kept_alive() -> None:
    cache = memory_cache()
    with capture_events():
        await cache.get("key")
    alive = weakref.ref(cache)
    del cache
    gc.collect()
    assert alive() is None


# --- the default cache, and a store that fails -----------------------------------------------------------


def test_after_a_reset_the_default_cache_is_looked_up_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_URL", "memory://?maxsize=7")
    one = configure("memory://")
    reset()
    other = default_cache()
    assert (repr(other), default_cache() is other, other is one) == (
        "Cache(MemoryStore(maxsize=7), prefix='')",
        True,
        False,
    )


def test_a_reset_lets_an_enclosing_block_go_on() -> None:
    with using(memory_cache()) as cache:
        reset()
        assert default_cache() is cache


async def test_a_store_fails_inside_a_block_with_the_error_that_is_named() -> None:
    store = FailingStore()
    cache = Cache(store)
    with capture_events() as events:
        with store.failing(CommandRefusedError("OOM", "no room")):
            assert not await cache.set("key", 1, ttl=60)
        assert await cache.set("key", 1, ttl=60)
    assert [event.cause for event in events if isinstance(event, StoreFailed)] == ["OOM"]


async def test_a_store_works_again_behind_a_block_that_raised() -> None:
    store = FailingStore()
    with pytest.raises(LookupError), store.failing():
        raise LookupError
    assert await Cache(store).set("key", 1, ttl=60)


# --- time ---------------------------------------------------------------------------------------------


async def lives(cache: Cache) -> bool:
    """Tell whether values, windows and the results of functions are there."""
    with using(cache):
        found = [
            await cache.get("key") is not None,
            await square.peek(2) == 4,
            await RollingWindow(cache, "window", limit=5, ttl=60).recent(1) != [],
        ]
    assert len({*found}) == 1, found
    return found[0]


async def fill(cache: Cache) -> None:
    with using(cache):
        await cache.set("key", 1, ttl=60)
        await square(2)
        await RollingWindow(cache, "window", limit=5, ttl=60).push({"n": 1})


async def test_values_in_memory_end_by_the_time_of_freezegun() -> None:
    cache = Cache("memory://")
    with freeze_time("2026-01-01", real_asyncio=True) as frozen:
        await fill(cache)
        frozen.tick(dt.timedelta(seconds=59))
        assert await lives(cache)
        frozen.tick(dt.timedelta(seconds=2))
        assert not await lives(cache)


async def test_values_in_memory_end_by_the_time_of_time_machine() -> None:
    cache = Cache("memory://")
    with time_machine.travel(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), tick=False) as traveller:
        await fill(cache)
        traveller.shift(59)
        assert await lives(cache)
        traveller.shift(2)
        assert not await lives(cache)


async def test_values_in_memory_end_by_a_clock_that_is_moved_by_hand() -> None:
    clock = FakeClock()
    cache = memory_cache(clock=clock)
    await fill(cache)
    clock.advance(59)
    assert await lives(cache)
    clock.advance(2)
    assert not await lives(cache)


# Both ways to let the event loop have its own time.
each_way = pytest.mark.parametrize(
    "way", [{"real_asyncio": True}, {"ignore": ["asyncio"]}], ids=lambda way: next(iter(way))
)


@each_way
async def test_calls_on_a_real_server_go_on_while_time_is_frozen(
    redis_server: RedisServer, way: dict[str, Any]
) -> None:
    with freeze_time("2026-01-01", **way) as frozen:
        async with Cache(redis_server.url, prefix="frozen:", timeout=30) as cache:
            with using(cache), capture_events() as events:
                await square(2)
                frozen.tick(dt.timedelta(days=1))
                await square(2)
    # The server has a clock of its own.
    assert kinds(events) == [Missed, Loaded, Filled, Hit]


@each_way
async def test_a_server_that_hangs_costs_its_deadline_while_time_is_frozen(
    own_server: RedisServer, way: dict[str, Any]
) -> None:
    with freeze_time("2026-01-01", **way), capture_events() as events:
        async with Cache(own_server.url, timeout=0.05) as cache:
            with using(cache):
                await square(1)
                own_server.pause()
                async with asyncio.timeout(PATIENCE):
                    assert await square(2) == 4
                own_server.resume()
    assert StoreFailed in map(type, events)


# --- the page, with every framework ----------------------------------------------------------------------


def test_the_page_about_testing_passes_with_pytest_asyncio_anyio_and_unittest(tmp_path: Path) -> None:
    """All its blocks are one module, which runs in a process without the settings of this project."""
    page = ROOT / "docs" / "testing.md"
    module = tmp_path / "test_page.py"
    blocks = PythonCodeBlockParser()(Document.parse(str(page)))
    module.write_text("\n\n".join(str(block.parsed) for block in blocks))
    options = ["-q", "-p", "no:cacheprovider", "-W", "error", "-o", "asyncio_default_fixture_loop_scope=function"]
    command = [sys.executable, "-m", "pytest", *options, "-c", os.devnull, "--rootdir", str(tmp_path), str(module)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{module.read_text().count('def test_')} passed" in done.stdout
