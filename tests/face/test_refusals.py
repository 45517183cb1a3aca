"""A setting that makes no sense is refused where it is written, and the message says what to write."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from cachekit import MISS, Cache, RollingWindow, SnapshotStore, cached, cached_many, configure
from cachekit.errors import ConfigurationError, DecorationError
from cachekit.events import Event
from cachekit.instrumentation import opentelemetry, prometheus
from cachekit.stores import MemoryStore, Store, open_store
from cachekit.testing import FailingStore, FakeClock, assert_loads, memory_cache
from tests.kit.servers import RedisServer


async def square(x: int) -> int:
    return x * x


async def squares(xs: list[int]) -> dict[int, int]:
    return {x: x * x for x in xs}


async def observer(event: Event) -> None: ...


def without_run() -> Any:
    """Return a store of an earlier version, which lacks one verb."""
    return SimpleNamespace(**{name: print for name in vars(Store) if not name.startswith("_") and name != "run"})


class Told:
    async def __call__(self, event: object) -> None: ...


def decorated(**options: Any) -> Any:
    return cached(key="square:<x>", **{"ttl": 60} | options)(square)


def batch(each: Any) -> Any:
    return cached_many(key="square:<x>", each=each, ttl=60)(squares)


ASYNC = "is an `async def`, and nothing awaits it; write a plain function: "


# A type checker refuses a part of these lines as well: its errors are ignored here, for users who have no checker.
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: decorated(near=1), r"near=1 is no choice; write near=True or near=False"),
        (lambda: decorated(near=0), r"near=0 is no choice"),
        (lambda: batch("ids"), r"each='ids' names no parameter of .*squares; write each=\"xs\""),
        (lambda: decorated().many(each="ids")(squares), r"each='ids' names no .*; write each=\"xs\""),
        (lambda: Cache(5), r'type int is neither; write Cache\("redis://localhost:6379/0"\)'),  # type: ignore[arg-type]
        (lambda: configure(b"redis://"), r"type bytes is neither; write Cache\("),  # type: ignore[arg-type]
        (lambda: Cache(without_run()), r"lacks run; write all verbs of cachekit.stores.Store"),
        (lambda: Cache("memory://", clock=5), r"clock=5 has no .*; write clock=cachekit"),  # type: ignore[arg-type]
        (lambda: MemoryStore(clock=False), r"clock=False has no .*; write clock="),  # type: ignore[arg-type]
        (lambda: open_store(clock=FakeClock), r"is a class; write clock=FakeClock\(\)"),  # type: ignore[arg-type]
        (lambda: memory_cache(clock=5), r"clock=5 has no .*; write clock="),  # type: ignore[arg-type]
        (lambda: Cache("memory://").observe(5), r"is not callable; write cache.observe\(print\)"),  # type: ignore[arg-type]
        (lambda: Cache("memory://").observe(observer), rf"observer {ASYNC}"),
        (lambda: Cache("memory://").observe(functools.partial(Told())), rf"observer {ASYNC}"),
        (lambda: Cache("memory://", keys=Told()), rf"keys= {ASYNC}"),  # type: ignore[arg-type]
        (lambda: prometheus.instrument(5), r"type int is none; write instrument\("),  # type: ignore[arg-type]
        (lambda: opentelemetry.instrument(5), r"type int is none; write instrument\("),  # type: ignore[arg-type]
        (lambda: RollingWindow(memory_cache(), "~{team:7}", 3, 60), r"is the key of a tag.*; write another first"),
        (lambda: assert_loads(-1), r"is no number of loads; write a whole number of at least 0"),
        (lambda: assert_loads("1"), r"is no number of loads"),  # type: ignore[arg-type]
        (lambda: assert_loads(True), r"is no number of loads"),
        (lambda: FakeClock().advance(-1), r"moves no clock forward; write seconds from 0 on"),
        (lambda: FakeClock().advance(float("nan")), r"moves no clock forward"),
        (lambda: FakeClock().advance("10m"), r"moves no clock forward"),  # type: ignore[arg-type]
        (lambda: FakeClock(epoch=float("inf")), r"is no moment; write seconds since 1970"),
        (lambda: FailingStore().fail(ValueError()), r"is no error of a store; write fail\("),  # type: ignore[arg-type]
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_at_once(make: Callable[[], object], said: str) -> None:
    with pytest.raises((ConfigurationError, DecorationError), match=said):
        make()


@pytest.mark.parametrize(
    ("progress", "said"),
    [(5, r"progress=5 is not callable; write progress=print"), (Told(), rf"progress {ASYNC}progress=print")],
    ids=["no function", "async"],
)
async def test_a_progress_that_cannot_be_told_is_refused_before_the_work_begins(progress: Any, said: str) -> None:
    cache = memory_cache()
    function = cache.cached(key="square:<x>", ttl=60)(square)
    await function(1)
    with pytest.raises(ConfigurationError, match=said):
        await cache.clear(progress=progress)
    with pytest.raises(ConfigurationError, match=said):
        await function.warm([(2,)], progress=progress)
    assert [await function.peek(x) for x in (1, 2)] == [1, MISS]


async def test_a_warm_up_begins_no_more_tasks_than_there_are_calls() -> None:
    @memory_cache().cached(key="tasks:<x>", ttl=60)
    async def tasks(x: int) -> int:
        return len(asyncio.all_tasks())

    before = len(asyncio.all_tasks())
    assert (await tasks.warm([(1,), (2,)], concurrency=1_000)).loaded == 2
    assert await tasks(1) <= before + 2


@pytest.mark.parametrize("item", [[], "", ["page"], 5, None])
async def test_an_item_of_a_window_that_is_no_dict_is_refused_with_one_warning(
    item: Any, caplog: pytest.LogCaptureFixture
) -> None:
    window = RollingWindow(memory_cache(), "clicks:42", limit=2, ttl="1h")
    assert await window.push(item) is False
    assert await window.recent(2) == []
    assert "an item is a dict, not a" in caplog.text


async def test_arguments_of_verbs_for_many_keys_that_make_no_sense_raise_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nothing: Any = 5
    cache = memory_cache()
    assert await cache.get_many(nothing) == {}
    assert await cache.delete_many(nothing) is False
    assert await cache.set_many(nothing, ttl=60) is False
    assert "a value of type int is none; write [key]" in caplog.text
    assert "write {key: value}" in caplog.text


@pytest.mark.parametrize("key", ["page:/?at_most=3", "page:*"])
async def test_no_value_can_be_set_at_a_key_that_cannot_be_deleted(key: str, caplog: pytest.LogCaptureFixture) -> None:
    cache = memory_cache()
    assert await cache.delete(key) is False
    assert await cache.set(key, 1, ttl=60) is False
    assert await cache.set_many({key: 1, "page:": 2}, ttl=60) is False
    assert await cache.get_many([key, "page:"]) == {"page:": 2}
    assert "cache.set did nothing: a * or ? in a key is no pattern" in caplog.text


async def test_a_ttl_that_makes_no_sense_is_told_by_the_name_of_its_verb(caplog: pytest.LogCaptureFixture) -> None:
    assert await memory_cache().touch("k", 0) is False
    assert "cache.touch is not cached: its ttl, a int, is no duration" in caplog.text


async def test_a_count_that_no_server_can_read_is_no_failure_of_the_server(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url) as cache:
        snapshots = SnapshotStore(cache, limit=10**100)
        assert await snapshots.save_snapshot("42", "text", 1)
        assert len(await snapshots.get_recent_snapshots("42", 10**100)) == 1
        assert cache.healthy
