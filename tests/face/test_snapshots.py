"""Snapshots are private: bounded in number and age, forgotten on request, and never shown in a log or an event."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
import pytest_asyncio

from cachekit import Cache, RollingWindow, Snapshot, SnapshotStore
from cachekit.clock import SystemClock
from cachekit.errors import ConfigurationError
from cachekit.events import Event
from cachekit.stores import Store
from cachekit.stores.connect import open_store
from cachekit.stores.memory import MemoryStore
from cachekit.testing import FailingStore, FakeClock, memory_cache
from tests.kit.servers import RedisServer
from tests.kit.waiting import until

SECRET = "a text that nobody else may read"


@pytest_asyncio.fixture
async def cache(store_url: str) -> AsyncIterator[Cache]:
    async with Cache(store_url, timeout=5) as cache:
        yield cache


async def test_the_newest_snapshot_comes_first(cache: Cache) -> None:
    store = SnapshotStore(cache)
    for n in range(3):
        assert await store.save_snapshot("42", f"text {n}", n)
    recent = await store.get_recent_snapshots("42")
    assert [(snapshot.text, snapshot.word_count) for snapshot in recent] == [
        ("text 2", 2),
        ("text 1", 1),
        ("text 0", 0),
    ]
    assert all(snapshot.timestamp.tzinfo == UTC for snapshot in recent)
    assert abs((datetime.now(UTC) - recent[0].timestamp).total_seconds()) < 60


async def test_a_pair_is_previous_and_latest_or_none_with_fewer_than_two(cache: Cache) -> None:
    store = SnapshotStore(cache)
    assert await store.get_snapshot_pair("42") is None
    await store.save_snapshot("42", "one", 1)
    assert await store.get_snapshot_pair("42") is None
    await store.save_snapshot("42", "two", 1)
    await store.save_snapshot("42", "three", 1)
    pair = await store.get_snapshot_pair("42")
    assert pair is not None
    assert [snapshot.text for snapshot in pair] == ["two", "three"]


async def test_a_window_keeps_no_more_than_its_limit(cache: Cache) -> None:
    store = SnapshotStore(cache, limit=3)
    for n in range(10):
        await store.save_snapshot("42", str(n), 1)
    assert [snapshot.text for snapshot in await store.get_recent_snapshots("42", 100)] == ["9", "8", "7"]


@pytest.mark.parametrize("count", [0, -1])
async def test_asking_for_none_gives_none(cache: Cache, count: int) -> None:
    store = SnapshotStore(cache)
    await store.save_snapshot("42", "text", 1)
    assert await store.get_recent_snapshots("42", count) == []


async def test_forget_leaves_nothing_and_touches_no_other_user(cache: Cache) -> None:
    store = SnapshotStore(cache)
    await store.save_snapshot("42", "text", 1)
    await store.save_snapshot("43", "theirs", 1)
    assert await store.forget("42")
    assert await store.get_recent_snapshots("42") == []
    assert len(await store.get_recent_snapshots("43")) == 1


@pytest.mark.parametrize("user_id", ["*", "a:b", "", "{x}", "a b\n", "é", 42, None])
async def test_users_of_strange_names_have_windows_of_their_own(cache: Cache, user_id: object) -> None:
    store = SnapshotStore(cache)
    await store.save_snapshot("bystander", "theirs", 1)
    await store.save_snapshot(user_id, "text", 1)
    assert [snapshot.text for snapshot in await store.get_recent_snapshots(user_id)] == ["text"]
    await store.forget(user_id)
    assert await store.get_recent_snapshots(user_id) == []
    assert len(await store.get_recent_snapshots("bystander")) == 1


async def test_the_list_in_redis_is_the_documented_json_with_a_ttl(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, prefix="app:", timeout=5) as cache:
        await SnapshotStore(cache).save_snapshot("42", "I recieve", 2)
    (item,) = redis_server.cli("LRANGE", "app:snapshots:42", 0, -1)
    assert list(orjson.loads(item)) == ["text", "word_count", "timestamp"]
    assert b"\n" not in item
    assert 0 < redis_server.cli("TTL", "app:snapshots:42") <= 86_400


async def test_a_save_is_lpush_ltrim_and_expire_in_one_round_trip_and_so_is_a_read(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, timeout=5) as cache:
        store = SnapshotStore(cache)
        await store.save_snapshot("42", "first", 1)
        redis_server.cli("CONFIG", "RESETSTAT")
        await store.save_snapshot("42", "second", 1)
        saved = calls(redis_server)
        redis_server.cli("CONFIG", "RESETSTAT")
        await store.get_snapshot_pair("42")
        read = calls(redis_server)
    assert saved["evalsha"] == saved["lpush"] == 1
    assert {*saved} == {*["evalsha", "get", "llen", "time", "lindex", "set", "lpush", "ltrim", "pexpire"]}
    assert read == {"get": 1, "lrange": 1, "time": 1}


def calls(server: RedisServer) -> dict[str, int]:
    """Return how often the server has carried out each command since its figures were reset."""
    stats = server.cli("INFO", "commandstats")
    found = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    return {name: count for name, count in found.items() if name not in {"config|resetstat", "config", "hello", "info"}}


async def test_nothing_older_than_the_ttl_is_ever_returned() -> None:
    clock = FakeClock()
    store = SnapshotStore(memory_cache(clock=clock))
    await store.save_snapshot("42", "old", 1)
    clock.advance(86_000)
    await store.save_snapshot("42", "young", 1)
    clock.advance(401)
    assert [snapshot.text for snapshot in await store.get_recent_snapshots("42")] == ["young"]
    assert await store.get_snapshot_pair("42") is None


async def test_a_save_drops_old_snapshots_from_the_store() -> None:
    clock = FakeClock()
    memory = MemoryStore(clock=clock)
    store = SnapshotStore(Cache(memory, clock=clock), ttl="1h")
    await store.save_snapshot("42", SECRET, 1)
    for _ in range(4):
        clock.advance(1000)
        await store.save_snapshot("42", "new", 1)
    assert SECRET.encode() not in b"".join((await memory.window("snapshots:42", 1, 100)).items)


DAYS = (-2, 0, 2)


def hosts_of(store: Store, seconds: float) -> list[Cache]:
    """Return caches on one store, as of hosts whose clocks are days behind and ahead of ``seconds``."""
    return [Cache(store, timeout=5, clock=FakeClock(epoch=seconds + days * 86_400)) for days in DAYS]


async def test_no_clock_of_a_host_keeps_a_text_for_longer_or_loses_it_early() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    hosts = [SnapshotStore(host) for host in hosts_of(store, clock.time())]
    for number, host in enumerate(hosts):
        assert await host.save_snapshot("42", f"hour 0 {number}", 1)
    clock.advance(86_399)
    for host in hosts:
        assert [found.text for found in await host.get_recent_snapshots("42")] == ["hour 0 2", "hour 0 1", "hour 0 0"]
    clock.advance(2)
    for host in hosts:
        assert await host.get_recent_snapshots("42") == []
    await hosts[0].save_snapshot("42", "hour 24", 1)
    for _ in range(3):
        clock.advance(40_000)
        assert await hosts[2].save_snapshot("42", "tick", 1)
    held = b"".join((await store.window("snapshots:42", 1, 100)).items)
    assert b"hour" not in held, "it is not kept either, while the writer keeps writing"


async def test_the_clock_of_the_server_judges_though_every_host_is_wrong(store_url: str) -> None:
    store = open_store(store_url, clock=SystemClock())
    hosts = [SnapshotStore(host) for host in hosts_of(store, SystemClock().time())]
    kept = SnapshotStore(Cache(store, timeout=5))
    for number, host in enumerate(hosts):
        assert await host.save_snapshot("42", f"{SECRET} {number}", 1)
        assert await kept.save_snapshot("42", SECRET, 1)
    for host in hosts:
        newest, *others = await host.get_recent_snapshots("42")
        assert (newest.text, len(others)) == (SECRET, 5), "no host finds them too old"
        assert abs((datetime.now(UTC) - newest.timestamp).total_seconds()) < 60

    brief = [SnapshotStore(host, ttl=0.5) for host in hosts_of(store, SystemClock().time())]

    async def write() -> None:
        for host in brief:
            assert await host.save_snapshot("42", "tick", 1)
        nonlocal held
        held = b"".join((await store.window("snapshots:42", 5, 100)).items)

    held = b""
    await until(lambda: held and SECRET.encode() not in held, write)
    await store.aclose()


async def test_items_of_another_program_in_the_list_are_ignored(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, timeout=5) as cache:
        store = SnapshotStore(cache)
        await store.save_snapshot("42", "ours", 1)
        far = '"timestamp":"2999-01-01T00:00:00.000000Z"'
        for foreign in (
            "garbage",
            "[1]",
            f"{{{far}}}",
            f'{{"text":1,"word_count":1,{far}}}',
            '{"text":"x","word_count":1,"timestamp":"z"}',
        ):
            redis_server.cli("LPUSH", "snapshots:42", foreign)
        assert [snapshot.text for snapshot in await store.get_recent_snapshots("42", 50)] == ["ours"]


@pytest.mark.parametrize(("text", "words"), [(b"bytes", 1), ("text", 1.0), ("text", True), (None, 1)])
async def test_a_text_or_word_count_of_a_wrong_type_is_refused(
    text: str, words: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = SnapshotStore(memory_cache())
    assert await store.save_snapshot("42", text, words) is False
    assert "text has to be a str" in caplog.text


async def test_a_failing_store_is_no_error_for_the_writer() -> None:
    failing = FailingStore()
    async with Cache(failing) as cache:
        store = SnapshotStore(cache)
        await store.save_snapshot("42", "text", 1)
        failing.fail()
        assert await store.save_snapshot("42", "text", 1) is False
        assert await store.get_recent_snapshots("42") == []
        assert await store.get_snapshot_pair("42") is None
        assert await store.forget("42") is False
        failing.recover()


async def test_snapshots_forgotten_while_the_store_failed_are_gone_at_once_and_for_good() -> None:
    failing = FailingStore()
    async with Cache(failing) as cache:
        store = SnapshotStore(cache)
        await store.save_snapshot("42", SECRET, 1)
        failing.fail()
        assert await store.forget("42") is False
        failing.recover()
        assert await store.get_recent_snapshots("42") == []
        assert await store.save_snapshot("42", "new", 1) is False, "not before the old ones are gone"
    assert (await failing.window("snapshots:42", 1, 10)).items == []


async def test_no_text_reaches_a_log_an_event_a_repr_or_an_error(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    async with Cache(store_url, timeout=5) as cache:
        cache.observe(events.append)
        store = SnapshotStore(cache)
        await store.save_snapshot("42", SECRET, 7)
        await store.save_snapshot("42", f"{SECRET}\ud800", 7)  # cannot be written as UTF-8
        await store.save_snapshot("42", (SECRET, object()), 7)  # type: ignore[arg-type]
        await store.save_snapshot(object(), SECRET, 7)
        # The key holds another kind of value: the server refuses the command that carries the text.
        await cache.set("snapshots:43", 1, ttl=60)
        assert await store.save_snapshot("43", SECRET, 7) is False
        (snapshot,) = await store.get_recent_snapshots("42")
    assert snapshot.text == SECRET
    assert caplog.records, "the refusals are logged, without the text"
    assert events
    for shown in (repr(snapshot), repr(events), caplog.text):
        assert SECRET not in shown


def test_a_snapshot_does_not_show_its_text() -> None:
    assert SECRET not in repr(Snapshot(SECRET, 7, datetime.now(UTC)))


@pytest.mark.parametrize(
    ("settings", "named"), [({"limit": 0}, "limit=0"), ({"ttl": "soon"}, "ttl='soon'"), ({"limit": True}, "limit=True")]
)
def test_settings_that_make_no_sense_are_refused_at_once(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        SnapshotStore(memory_cache(), **settings)  # type: ignore[arg-type]


def test_a_window_on_something_that_is_no_cache_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs a Cache"):
        RollingWindow("redis://localhost", "k", 1, 1)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="key=42"):
        RollingWindow(memory_cache(), 42, 1, 1)  # type: ignore[arg-type]


def test_a_window_for_a_pattern_is_refused_since_forgetting_it_would_forget_nothing() -> None:
    with pytest.raises(ConfigurationError, match=r"key='clicks:\*' is no key of a window: .* is no pattern"):
        RollingWindow(memory_cache(), "clicks:*", 1, 1)


async def test_an_item_brings_no_timestamp_of_its_own() -> None:
    clock = FakeClock()
    window = RollingWindow(memory_cache(clock=clock), "w", limit=5, ttl=60)
    await window.push({"timestamp": "2999-01-01T00:00:00.000000Z", "n": 1})
    assert [item["timestamp"][:4] for item in await window.recent(5)] == ["2027"]


@pytest.mark.parametrize("count", [math.nan, 2.5, "3", None])
async def test_a_count_that_is_no_whole_number_is_an_error_of_the_caller_and_not_of_the_store(
    store_url: str, count: Any
) -> None:
    async with Cache(store_url, timeout=5) as cache:
        window, store = RollingWindow(cache, "w", limit=5, ttl=60), SnapshotStore(cache)
        with pytest.raises(TypeError):
            await window.recent(count)
        with pytest.raises(TypeError):
            await store.get_recent_snapshots("42", count)
        assert cache.healthy
        await window.push({"n": 1})
        assert [item["n"] for item in await window.recent(10**30)] == [1]
