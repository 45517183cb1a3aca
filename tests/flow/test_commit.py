"""Inside an `after_commit` block the last change of a key wins, as it does outside."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import copy_context
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import pytest_asyncio

from cachekit import MISS, Cache, RollingWindow, SnapshotStore, _flow
from cachekit.events import NotStored
from cachekit.stores.base import Store
from cachekit.stores.memory import MemoryStore
from cachekit.testing import FailingStore
from tests.kit.stale import raw_at, watch


@pytest_asyncio.fixture
async def cache(store_url: str) -> AsyncIterator[Cache]:
    async with Cache(store_url, timeout=5) as cache:
        yield cache


def counting(cache: Cache, **options: Any) -> Any:
    runs = 0

    @cache.cached(key="n", ttl=60, **options)
    async def count() -> int:
        nonlocal runs
        runs += 1
        return runs

    return count


async def texts(store: SnapshotStore) -> list[str]:
    return [snapshot.text for snapshot in await store.get_recent_snapshots("42")]


async def test_snapshots_that_are_saved_after_a_forget_are_the_ones_that_are_left(cache: Cache) -> None:
    store = SnapshotStore(cache)
    await store.save_snapshot("42", "old", 1)
    async with cache.after_commit():
        await store.forget("42")
        assert await store.save_snapshot("42", "new", 1) is False, "it waits"
        assert await store.save_snapshot("42", "newer", 1) is False
        assert await texts(store) == ["old"], "others still see it"
    assert await texts(store) == ["newer", "new"]


async def test_a_forget_after_a_save_leaves_nothing(cache: Cache) -> None:
    store = SnapshotStore(cache)
    async with cache.after_commit():
        await store.forget("42")
        await store.save_snapshot("42", "secret", 1)
        await store.forget("42")
    assert await texts(store) == []


async def test_a_value_that_is_no_json_is_not_stored_at_the_end_of_the_block_either(cache: Cache) -> None:
    words = RollingWindow(cache, "words:7", limit=5, ttl=60)
    await cache.set("k", "old", ttl=60)
    await words.push({"text": "old"})
    async with cache.after_commit():
        await cache.delete("k")
        await words.forget()
        assert not await cache.set("k", object(), ttl=60)
        assert not await words.push({"text": object()})
    assert await cache.get("k", MISS) is MISS
    assert await words.recent(5) == []


async def test_of_many_values_those_that_are_to_be_invalidated_wait_for_the_end_of_the_block(cache: Cache) -> None:
    async with cache.after_commit():
        await cache.delete("a")
        assert not await cache.set_many({"a": 1, "b": 2}, ttl=60)
        assert await raw_at(cache, "a") == (None, None)
        assert (await raw_at(cache, "b"))[0] == b"2"
    assert await cache.get_many(["a", "b"]) == {"a": 1, "b": 2}


async def test_a_block_that_is_closed_from_elsewhere_leaves_the_block_there_open() -> None:
    cache = Cache("memory://")
    await cache.set("k", "stays", ttl=60)

    async def strays() -> None:
        async with cache.after_commit():
            await asyncio.Event().wait()

    stray = strays()
    copy_context().run(stray.send, None)
    async with cache.after_commit():
        stray.close()
        assert not await cache.delete("k"), "it waits for the commit"
        assert (await raw_at(cache, "k"))[0] == b'"stays"'
    assert await cache.get("k") is None


DELETED, FIRST, SECOND = None, "first", "second"


@pytest.mark.parametrize(
    "changes",
    [
        [DELETED, FIRST],
        [DELETED, FIRST, SECOND],
        [FIRST, DELETED],
        [DELETED, FIRST, DELETED],
        [FIRST, DELETED, SECOND],
    ],
    ids=str,
)
async def test_the_last_of_several_changes_by_hand_wins(cache: Cache, changes: list[str | None]) -> None:
    await cache.set("k", "old", ttl=60)
    async with cache.after_commit():
        for value in changes:
            await (cache.delete("k") if value is None else cache.set("k", value, ttl=60))
    assert await cache.get("k") == changes[-1]


async def test_a_value_that_waits_is_the_value_of_the_moment_it_was_set(cache: Cache) -> None:
    value = ["as it was"]
    async with cache.after_commit():
        await cache.delete("k")
        await cache.set("k", value, ttl=60)
        value.append("changed later")
    assert await cache.get("k") == ["as it was"]


async def test_nothing_that_waits_is_written_when_the_block_raises(cache: Cache) -> None:
    count, store = counting(cache), SnapshotStore(cache)
    await count()
    await cache.set("k", "old", ttl=60)
    await store.save_snapshot("42", "old", 1)

    async def transaction() -> None:
        async with cache.after_commit():
            await cache.delete("k")
            await cache.set("k", "new", ttl=60)
            await store.forget("42")
            await store.save_snapshot("42", "new", 1)
            await count.invalidate()
            await count.refresh()
            raise LookupError

    with pytest.raises(LookupError):
        await transaction()
    assert (await cache.get("k"), await texts(store), await count.peek()) == ("old", ["old"], 1)


async def test_an_inner_block_hands_its_changes_to_the_outer_one_in_order(cache: Cache) -> None:
    await cache.set("a", "old", ttl=60)
    await cache.set("b", "old", ttl=60)
    async with cache.after_commit():
        await cache.delete("a")
        async with cache.after_commit():
            await cache.set("a", "inner", ttl=60)
            await cache.delete("b")
        await cache.set("b", "outer", ttl=60)
        assert await cache.get("a") == "old"
    assert (await cache.get("a"), await cache.get("b")) == ("inner", "outer")


async def test_an_inner_block_that_raises_takes_its_changes_with_it(cache: Cache) -> None:
    async def failing() -> None:
        async with cache.after_commit():
            await cache.set("k", "inner", ttl=60)
            raise LookupError

    async with cache.after_commit():
        await cache.delete("k")
        await cache.set("k", "outer", ttl=60)
        with pytest.raises(LookupError):
            await failing()
    assert await cache.get("k") == "outer"


# --- a refresh ------------------------------------------------------------------------------------------


async def test_a_refresh_after_an_invalidation_stores_its_result_at_the_end_of_the_block(cache: Cache) -> None:
    count = counting(cache)
    assert await count() == 1
    async with cache.after_commit():
        await count.invalidate()
        assert await count.refresh() == 2
        assert await cache.get("n") == 1, "others see it when it is committed"
    assert await count.peek() == 2


async def test_an_invalidation_after_a_refresh_wins(cache: Cache) -> None:
    count = counting(cache)
    async with cache.after_commit():
        await count.invalidate()
        await count.refresh()
        await count.invalidate()
    assert await count.peek() is MISS
    assert await count() == 2, "nobody waits for the lease of the refresh"


async def test_a_value_set_after_a_refresh_wins(cache: Cache) -> None:
    count = counting(cache)
    async with cache.after_commit():
        await count.invalidate()
        await count.refresh()
        await cache.set("n", 7, ttl=60)
    assert await count.peek() == 7


async def test_an_invalidation_by_another_process_wins_over_a_refresh_that_waits(store_url: str) -> None:
    store: Store | str = MemoryStore() if store_url == "memory://" else store_url
    async with Cache(store, timeout=5) as here, Cache(store, timeout=5) as elsewhere:
        count = counting(here)
        async with here.after_commit():
            await count.invalidate()
            await count.refresh()
            assert await elsewhere.delete("n")
        assert await count.peek() is MISS


async def test_a_refresh_whose_result_is_not_to_be_stored_leaves_the_key_invalidated(cache: Cache) -> None:
    count = counting(cache, when=lambda result: result != 2)
    await count()
    async with cache.after_commit():
        await count.invalidate()
        await cache.set("n", 7, ttl=60)
        assert await count.refresh() == 2
    assert await count.peek() is MISS


async def test_a_refresh_while_the_store_is_down_leaves_the_key_invalidated() -> None:
    store = FailingStore()
    async with Cache(store) as cache:
        count, events = counting(cache), watch(cache)
        await count()
        async with cache.after_commit():
            await count.invalidate()
            await cache.set("n", 7, ttl=60)
            with store.failing():
                assert await count.refresh() == 2
        assert [event.reason for event in events if isinstance(event, NotStored)] == ["store"]
        assert await count.peek() is MISS


async def test_a_refresh_that_outlives_its_block_stores_nothing(cache: Cache) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    @cache.cached(key="n", ttl=60)
    async def count() -> str:
        began.set()
        await go_on.wait()
        return "of the block"

    events = watch(cache)
    async with cache.after_commit():
        await count.invalidate()
        refresh = asyncio.create_task(count.refresh())
        await began.wait()
    go_on.set()
    assert await refresh == "of the block"
    assert [event.reason for event in events if isinstance(event, NotStored)] == ["void"]
    assert await count.peek() is MISS


async def test_a_refresh_that_raises_leaves_the_changes_before_it(cache: Cache) -> None:
    @cache.cached(key="n", ttl=60)
    async def broken() -> int:
        raise LookupError

    async with cache.after_commit():
        await cache.delete("n")
        await cache.set("n", 7, ttl=60)
        with pytest.raises(LookupError):
            await broken.refresh()
    assert await cache.get("n") == 7


@pytest.mark.parametrize("last", ["set", "refresh", "save"])
async def test_a_store_that_is_down_when_the_block_ends_leaves_nothing_from_before(last: str) -> None:
    store = FailingStore()
    async with Cache(store) as cache:
        count, snapshots = counting(cache), SnapshotStore(cache)
        await count()
        await snapshots.save_snapshot("42", "old", 1)
        change: dict[str, Callable[[], Awaitable[object]]] = {
            "set": lambda: cache.set("n", 7, ttl=60),
            "refresh": count.refresh,
            "save": lambda: snapshots.save_snapshot("42", "new", 1),
        }
        async with cache.after_commit():
            await count.invalidate()
            await snapshots.forget("42")
            await change[last]()
            store.fail()
        store.recover()
        assert await count.peek() in {MISS, 7, 2}
        assert "old" not in await texts(snapshots)


async def test_the_steps_of_the_end_of_a_block_do_not_grow_with_its_keys() -> None:
    """100,000 keys, looked at one by one before the first batch is sent, once stopped the event loop for 25 ms."""
    cache = Cache(MemoryStore())
    room = str(Path(_flow.__file__).parent)

    async def steps(keys: int) -> int:
        lines = 0

        def count(frame: FrameType, event: str, _: object) -> Any:
            nonlocal lines
            lines += event == "line"
            return count if frame.f_code.co_filename.startswith(room) else None

        before = sys.gettrace()
        try:
            async with cache.after_commit():
                for number in range(keys):
                    await cache.delete(f"k:{number}")
                sys.settrace(count)
        finally:
            sys.settrace(before)
        return lines

    assert 0 < await steps(10) == await steps(400)
