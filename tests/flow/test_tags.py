"""Tags: one invalidation for all that depends on them, on memory, on each server, by RESP3 and on a cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from cachekit import MISS, Cache, ConfigurationError, DecorationError
from cachekit._flow import tagging
from cachekit.cache import open_sealer
from cachekit.entry import parse
from cachekit.events import Event, Filled, Hit, Invalidated, LoadBegan, Loaded, Missed, StoreFailed
from cachekit.sealing import new_key
from cachekit.tags import tag_key
from cachekit.testing import FailingStore, FakeClock, memory_cache
from tests.kit.bare import Bare
from tests.kit.servers import RedisServer
from tests.kit.stale import two_caches
from tests.kit.telling import bare
from tests.kit.waiting import until

T = 5.0  # seconds that a verb may take: a noisy machine is no failure


@dataclass
class Post:
    id: int
    author_id: int
    run: int


@dataclass
class Functions:
    """Cached functions that count their runs."""

    cache: Cache
    runs: int = 0
    author: int = 7
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        cache = self.cache
        cache.observe(self.events.append)

        @cache.cached(key="member:<member>", ttl=60, tags=["team:<team>", "members"])
        async def member(member: str, team: object) -> list[Any]:
            self.runs += 1
            return [member, self.runs]

        @cache.cached(key="post:<post_id>", ttl=60, tags=["posts", "author:<return.author_id>"])
        async def post(post_id: int) -> Post:
            self.runs += 1
            return Post(post_id, self.author, self.runs)

        @cache.cached(key="page:<number>", ttl=60, tags=True)
        async def page(number: int) -> int:
            self.runs += 1
            return self.runs

        self.member = member
        self.post = post
        self.page = page

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)


@pytest_asyncio.fixture
async def functions(store_url: str) -> AsyncIterator[Functions]:
    async with Cache(store_url, prefix="app:", timeout=T) as cache:
        yield Functions(cache)


async def raw(cache: Cache, key: str) -> bytes:
    found = await cache._store.get(f"app:{key}", T)
    assert found is not None
    return found


# --- hits and invalidations -----------------------------------------------------------------------


async def test_a_second_call_is_a_hit_until_a_tag_is_invalidated(functions: Functions) -> None:
    member, cache = functions.member, functions.cache
    assert await member("ann", 7) == await member("ann", 7) == ["ann", 1]
    assert await member("bob", 8) == ["bob", 2]
    assert await cache.invalidate_tags("team:7")
    assert await member("ann", 7) == await member("ann", 7) == ["ann", 3]
    assert await member("bob", 8) == ["bob", 2]
    assert await cache.invalidate_tags("members")
    assert [await member("ann", 7), await member("bob", 8)] == [["ann", 4], ["bob", 5]]


async def test_the_value_records_the_tags_that_stood_before_its_load(functions: Functions) -> None:
    await functions.member("ann", "a:b")
    entry = parse(await raw(functions.cache, "member:ann"), tagged=True)
    assert entry is not None
    assert entry.tags is not None
    assert [*entry.tags] == ["team:a%3Ab", "members"]
    for name, generation in entry.tags.items():
        assert await raw(functions.cache, tag_key(name)) == str(generation).encode()


async def test_a_function_that_names_tags_invalidates_them_in_one_step(functions: Functions) -> None:
    @functions.cache.invalidates("page:<number>", tags=["team:<*teams>", "author:<return>"])
    async def write(number: int, teams: list[int]) -> int:
        return functions.author

    await functions.member("ann", 7)
    await functions.member("bob", 8)
    await write(1, [7, 8])
    assert functions.events[-1].function == f"{__name__}.{write.__qualname__}"
    assert bare(functions.events)[-1] == Invalidated(("page:1",), True, False, ("team:7", "team:8", "author:7"))
    assert [await functions.member("ann", 7), await functions.member("bob", 8)] == [["ann", 3], ["bob", 4]]


async def test_each_element_of_a_collection_is_a_key_of_its_own(functions: Functions) -> None:
    @functions.cache.invalidates("page:<*numbers>")
    async def ban(numbers: set[int]) -> None: ...

    for number in range(5):
        await functions.page(number)
    await ban({0, 1, 2, 3})
    assert [await functions.page.peek(number) for number in range(5)] == [MISS, MISS, MISS, MISS, 5]


async def test_a_removed_tag_makes_misses_and_so_does_an_evicted_one(functions: Functions) -> None:
    await functions.member("ann", 7)
    # As an eviction does: nobody is told.
    await functions.cache._store.delete(["app:~{team:7}"], T)
    assert await functions.member.peek("ann", 7) is MISS
    assert await functions.cache.get("member:ann") is None
    assert await functions.member("ann", 7) == ["ann", 2]


async def test_a_value_of_a_generation_that_is_gone_never_comes_back(functions: Functions) -> None:
    store = functions.cache._store
    await functions.member("ann", 7)
    old = await raw(functions.cache, "member:ann")
    await functions.cache.invalidate_tags("team:7")
    await functions.member("bob", 7)
    await store.set("app:member:ann", T, old, ttl_ms=60_000)
    assert await functions.member("ann", 7) == ["ann", 3]


async def test_other_tags_than_those_of_the_call_are_a_miss(functions: Functions) -> None:
    await functions.member("ann", 7)
    assert await functions.member.peek("ann", 8) is MISS
    assert await functions.member("ann", 8) == ["ann", 2]
    assert await functions.member.peek("ann", 7) is MISS


async def test_a_function_without_tags_takes_no_value_with_tags_and_the_other_way_round(functions: Functions) -> None:
    @functions.cache.cached(key="member:<member>", ttl=60)
    async def untagged(member: str) -> list[Any]:
        return ["untagged"]

    await functions.member("ann", 7)
    assert await untagged.peek("ann") is MISS
    assert await untagged("ann") == await untagged("ann") == ["untagged"]
    assert await functions.member.peek("ann", 7) is MISS
    assert await functions.member("ann", 7) == await functions.member("ann", 7) == ["ann", 2]


async def test_a_value_with_tags_is_read_by_hand_as_long_as_they_stand(functions: Functions) -> None:
    await functions.member("ann", 7)
    assert await functions.cache.get("member:ann") == ["ann", 1]
    await functions.cache.invalidate_tags("team:7")
    assert await functions.cache.get("member:ann") is None


async def test_two_templates_that_give_one_name_are_one_tag(functions: Functions) -> None:
    runs = 0

    @functions.cache.cached(key="match:<home>:<guest>", ttl=60, tags=["team:<home>", "team:<guest>"])
    async def match(home: int, guest: int) -> int:
        nonlocal runs
        runs += 1
        return runs

    assert [await match(7, 7), await match(7, 7)] == [1, 1]
    await functions.cache.invalidate_tags("team:7")
    assert [await match(7, 7), await match(7, 7)] == [2, 2]


async def test_tags_of_results_that_were_forgotten_here_are_learned_from_the_values(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagging, "MOST_HINTS", 1)
    for post_id in (1, 2):
        # The first load teaches its tags, the second one is stored with them.
        await functions.post(post_id)
        await functions.post(post_id)
    assert functions.runs == 4
    plan = functions.post._self_plan.tags
    assert [post_id for post_id in (1, 2) if plan.hint(f"post:{post_id}") is not None] == [2]
    assert (await functions.post(1)).run == 2
    await functions.cache.invalidate_tags("author:7")
    assert (await functions.post(1)).run == 5


async def test_everything_of_a_function_is_invalidated_at_once(functions: Functions) -> None:
    for number in range(3):
        await functions.page(number)
    assert await functions.page.invalidate_all()
    assert [await functions.page.peek(number) for number in range(3)] == [MISS] * 3
    assert [await functions.page(number) for number in range(3)] == [4, 5, 6]


async def test_methods_of_a_tagged_function_do_as_others_do(functions: Functions) -> None:
    member = functions.member
    assert await member.peek("ann", 7) is MISS
    assert await member.refresh("ann", 7) == ["ann", 1]
    assert await member.peek("ann", team=7) == ["ann", 1]
    assert await member.refresh("ann", 7) == await member("ann", 7) == ["ann", 2]
    assert await member.take("ann", 7) == ["ann", 2]
    assert await member.take("ann", 7) is MISS
    assert (await member.warm([("ann", 7), ("bob", 7)])).stored == 2
    assert (await member.warm([("ann", 7), ("bob", 7)])).there == 2
    assert await member.invalidate("ann", 7)
    assert await member.peek("ann", 7) is MISS


async def test_a_value_whose_tag_is_gone_is_not_taken(functions: Functions) -> None:
    await functions.member("ann", 7)
    await functions.cache.invalidate_tags("team:7")
    assert await functions.member.take("ann", 7) is MISS
    assert await functions.cache._store.get("app:member:ann", T) is None


async def test_a_tag_outlives_the_values_that_name_it(functions: Functions) -> None:
    @functions.cache.cached(key="long:<x>", ttl="30d", tags=["long"])
    async def long(x: int) -> int:
        return x

    await functions.member("ann", 7)
    await long(1)
    store: Any = functions.cache._store
    day = 86_400
    assert 9.9 * day < (await store.get_with_ttl("app:~{members}", T))[1] <= 10 * day
    assert 59.9 * day < (await store.get_with_ttl("app:~{long}", T))[1] <= 60 * day


async def test_a_list_without_elements_has_no_tag_of_them(functions: Functions) -> None:
    @functions.cache.cached(key="many:<ids>", ttl=60, tags=["item:<*ids>"])
    async def many(ids: list[int]) -> int:
        functions.runs += 1
        return functions.runs

    assert await many([]) == await many([]) == 1
    assert await many([1, 2]) == await many([1, 2]) == 2
    await functions.cache.invalidate_tags("item:2")
    assert [await many([]), await many([1, 2])] == [1, 3]


async def test_more_than_eight_tags_leave_a_call_uncached(
    functions: Functions, caplog: pytest.LogCaptureFixture
) -> None:
    @functions.cache.cached(key="many", ttl=60, tags=["item:<*ids>"])
    async def many(ids: list[int]) -> int:
        functions.runs += 1
        return functions.runs

    assert [await many([*range(9)]), await many([*range(9)])] == [1, 2]
    assert "9 tags, and 8 are the most" in caplog.text
    assert [await many([*range(8)]), await many([*range(8)])] == [3, 3]


# --- one load at a time ---------------------------------------------------------------------------


async def test_callers_of_one_cold_key_share_one_load(functions: Functions) -> None:
    assert await asyncio.gather(*[functions.member("ann", 7) for _ in range(20)]) == [["ann", 1]] * 20


async def test_a_call_behind_an_invalidation_does_not_join_the_load_that_had_begun(store_url: str) -> None:
    if store_url == "memory://":
        store_url = FailingStore()  # type: ignore[assignment]
    async with Cache(store_url, timeout=T) as cache, Cache(store_url, timeout=T) as other:
        begun, go_on, version = asyncio.Event(), asyncio.Event(), 1

        @cache.cached(key="value", ttl=60, tags=["tag"])
        async def value() -> int:
            found = version
            begun.set()
            await go_on.wait()
            return found

        first = asyncio.create_task(value())
        await begun.wait()
        version = 2
        # By another process, as it were: nothing in this one tells of it.
        assert await other.invalidate_tags("tag")
        second = asyncio.create_task(value())
        while len(cache.runtime.flights.open_loops) and cache.runtime.flights.find("value") is not None:
            await asyncio.sleep(0)
            if getattr(cache.runtime.flights.find("value"), "begun", None) is False:
                break
        go_on.set()
        assert [await first, await second] == [1, 2]
        assert await value() == 2


async def test_a_call_joins_the_load_that_had_begun_while_its_tags_stand(functions: Functions) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @functions.cache.cached(key="value", ttl=60, tags=["tag"])
    async def value() -> int:
        functions.runs += 1
        begun.set()
        await go_on.wait()
        return functions.runs

    first = asyncio.create_task(value())
    await begun.wait()
    others = [asyncio.create_task(value()) for _ in range(5)]
    while functions.count(Missed) < 6:
        await asyncio.sleep(0)
    go_on.set()
    assert await asyncio.gather(first, *others) == [1] * 6


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
async def test_a_load_that_was_overtaken_by_an_invalidation_is_no_hit(functions: Functions, *, elsewhere: bool) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @functions.cache.cached(key="value", ttl=60, tags=["tag"])
    async def value() -> int:
        functions.runs += 1
        begun.set()
        await go_on.wait()
        return functions.runs

    @functions.cache.cached(key="beside", ttl=60, tags=["tag"])
    async def beside() -> None: ...

    first = asyncio.create_task(value())
    await begun.wait()
    if elsewhere:
        # As another process does: nothing in this one tells of it. The next load gives the tag another generation.
        await functions.cache._store.delete(["app:~{tag}"], T)
        await beside()
    else:
        await functions.cache.invalidate_tags("tag")
    go_on.set()
    assert await first == 1
    assert await value.peek() is MISS
    assert await value() == await value() == 2


# --- tags of the result ---------------------------------------------------------------------------


async def test_the_first_load_teaches_the_tags_of_the_result_and_is_not_stored(functions: Functions) -> None:
    assert [(await functions.post(1)).run for _ in range(4)] == [1, 2, 2, 2]
    assert functions.count(Filled) == 1
    assert await functions.cache.invalidate_tags("author:7")
    assert [(await functions.post(1)).run for _ in range(2)] == [3, 3]
    assert await functions.cache.invalidate_tags("posts")
    assert [(await functions.post(1)).run for _ in range(2)] == [4, 4]


async def test_another_process_learns_the_tags_from_the_value(functions: Functions, store_url: str) -> None:
    if store_url == "memory://":
        return
    for _ in range(2):
        await functions.post(1)
    async with Cache(store_url, prefix="app:", timeout=T) as cache:
        other = Functions(cache, runs=10)
        assert (await other.post(1)).run == 2
        await functions.cache.invalidate_tags("author:7")
        assert (await other.post.peek(1)) is MISS
        # The names stand in the value that is a miss.
        assert [(await other.post(1)).run for _ in range(2)] == [11, 11]


async def test_a_result_with_other_tags_than_the_last_one_is_loaded_twice(functions: Functions) -> None:
    assert [(await functions.post(1)).run for _ in range(3)] == [1, 2, 2]
    functions.author = 8
    await functions.cache.invalidate_tags("author:7")
    assert [(await functions.post(1)).run for _ in range(3)] == [3, 4, 4]
    await functions.cache.invalidate_tags("author:7")
    assert (await functions.post(1)).run == 4
    await functions.cache.invalidate_tags("author:8")
    assert (await functions.post(1)).run == 5


async def test_a_list_is_forgotten_with_each_row_that_is_in_it(functions: Functions) -> None:
    rows = {"p1": "house", "p2": "flat"}

    @functions.cache.cached(key="account:<account>:properties", ttl=60, tags=["property:<*return>"])
    async def properties(account: str) -> dict[str, str]:
        return dict(rows)

    @functions.cache.invalidates(tags=["property:<property_id>"])
    async def remove(property_id: str) -> None:
        rows.pop(property_id, None)

    for _ in range(2):
        assert await properties("a1") == rows
    await remove("p1")
    assert await properties("a1") == {"p2": "flat"}
    await remove("p2")
    assert [await properties("a1"), await properties("a1"), await properties("a1")] == [{}, {}, {}]


async def test_a_value_with_tags_of_its_result_is_taken(functions: Functions) -> None:
    for _ in range(2):
        await functions.post(1)
    functions.post._self_plan.tags._hints.clear()  # type: ignore[attr-defined]
    found = await functions.post.take(1)
    assert found is not MISS
    assert found.run == 2
    assert await functions.post.take(1) is MISS


# --- after_commit ----------------------------------------------------------------------------------


async def test_an_invalidation_of_tags_waits_for_the_commit(functions: Functions) -> None:
    member, cache = functions.member, functions.cache
    await member("ann", 7)
    async with cache.after_commit():
        assert not await cache.invalidate_tags("team:7")
        # It sees the data of the transaction, and stores nothing.
        assert await member("ann", 7) == ["ann", 2]
        assert await member.peek("ann", 7) is MISS
        assert await member.refresh("ann", 7) == ["ann", 3]
        async with Cache(cache._store, prefix="app:") as other:
            assert await Functions(other).member.peek("ann", 7) == ["ann", 1]
    assert await member.peek("ann", 7) is MISS
    assert await member("ann", 7) == ["ann", 4]


async def test_a_rollback_invalidates_no_tag(functions: Functions) -> None:
    await functions.member("ann", 7)

    async def roll_back() -> None:
        async with functions.cache.after_commit():
            await functions.cache.invalidate_tags("team:7")
            raise KeyError

    with pytest.raises(KeyError):
        await roll_back()
    assert await functions.member("ann", 7) == ["ann", 1]


# --- stale values and sealed ones -----------------------------------------------------------------


async def test_a_stale_value_is_handed_out_only_while_its_tags_stand() -> None:
    clock = FakeClock()
    async with memory_cache(clock=clock) as cache:
        fails, runs = False, 0

        @cache.cached(key="value", ttl=10, stale_if_error=60, retry_after=1, tags=["tag"])
        async def value() -> int:
            nonlocal runs
            runs += 1
            if fails:
                raise ConnectionError
            return runs

        assert await value() == await value() == 1
        fails = True
        clock.advance(11)
        assert await value() == 1
        await cache.invalidate_tags("tag")
        with pytest.raises(ConnectionError):
            await value()


async def test_a_value_whose_tag_is_removed_while_its_load_fails_does_not_stand_in() -> None:
    clock = FakeClock()
    async with memory_cache(clock=clock) as cache:
        runs = 0

        @cache.cached(key="value", ttl=10, stale_if_error=60, tags=["tag"])
        async def value() -> int:
            nonlocal runs
            runs += 1
            if runs > 1:
                await cache.invalidate_tags("tag")
                raise ConnectionError
            return runs

        assert await value() == 1
        clock.advance(11)
        with pytest.raises(ConnectionError):
            await value()


async def test_a_function_without_stale_windows_takes_no_stale_value_of_one_that_has_them() -> None:
    clock = FakeClock()
    async with memory_cache(clock=clock) as cache:

        @cache.cached(key="value", ttl=10, stale_if_error=60, tags=["tag"])
        async def before() -> int:
            return 1

        @cache.cached(key="value", ttl=10, tags=["tag"])
        async def after() -> int:
            return 2

        assert await before() == await after() == 1
        clock.advance(11)
        assert await after.peek() is MISS
        assert await after() == await after() == 2


async def test_a_value_with_a_stale_window_that_is_stored_while_a_call_waits_is_what_it_gets(store_url: str) -> None:
    async with two_caches(store_url, prefix="app:") as (here, elsewhere):
        runs, begun, go_on = 0, asyncio.Event(), asyncio.Event()

        async def page(number: int) -> int:
            nonlocal runs
            runs += 1
            begun.set()
            await go_on.wait()
            return runs

        options: dict[str, Any] = {"key": "page:<number>", "ttl": 60, "tags": ["pages"]}
        first = asyncio.create_task(here.cached(**options, stale_if_error=60)(page)(1))
        await begun.wait()
        waiting = asyncio.create_task(elsewhere.cached(**options)(page)(1))
        await until(lambda: elsewhere.runtime.flights.open_loops)
        go_on.set()
        assert [await first, await waiting] == [1, 1]
        assert runs == 1


async def test_observers_hear_of_a_near_hit_of_a_function_with_tags_and_stale_values(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, near=100, timeout=T) as cache:
        events: list[Event] = []
        cache.observe(events.append)

        @cache.cached(key="page:<number>", ttl=60, tags=["pages"], stale_if_error=60)
        async def page(number: int) -> int:
            return number

        async def look() -> None:
            assert await page(7) == 7

        await until(lambda: Hit("page:7", "", near=True) in bare(events), look)


async def test_a_value_is_replaced_in_the_background_with_its_tags() -> None:
    clock = FakeClock()
    async with memory_cache(clock=clock) as cache:
        runs = 0

        @cache.cached(key="value", ttl=10, stale_while_revalidate=60, tags=["tag"])
        async def value() -> int:
            nonlocal runs
            runs += 1
            return runs

        assert await value() == 1
        clock.advance(11)
        assert await value() == 1
        async with asyncio.timeout(T):
            while cache.loading_in_background:
                await asyncio.sleep(0)
        assert await value() == 2
        await cache.invalidate_tags("tag")
        assert await value() == 3


async def test_a_sealed_value_has_tags_as_any_other() -> None:
    pytest.importorskip("cryptography")
    key = new_key()
    async with Cache("memory://", keys=[key]) as cache:
        runs = 0

        @cache.cached(key="value", ttl=60, private=True, tags=["tag"])
        async def value() -> list[int]:
            nonlocal runs
            runs += 1
            return [runs]

        assert open_sealer([key]) is not None
        assert await value() == await value() == [1]
        found = await cache._store.get("value", T)
        assert found is not None
        assert b"[1]" not in found
        await cache.invalidate_tags("tag")
        assert await value() == await value() == [2]


# --- an outage ------------------------------------------------------------------------------------


async def test_an_invalidation_that_did_not_reach_the_store_holds_here_at_once_and_is_replayed() -> None:
    store = FailingStore()
    async with Cache(store) as cache:
        functions = Functions(cache)
        await functions.member("ann", 7)
        store.fail()
        assert not await cache.invalidate_tags("team:7")
        store.recover()
        # The journal holds the tag, or it was replayed: never the old value.
        assert (await functions.member("ann", 7))[1] > 1
        async with asyncio.timeout(T):
            while len(cache.runtime.coherence.journal):
                await asyncio.sleep(0.001)
        assert await store.get("~{team:7}", T) is None or (await functions.member("ann", 7))[1] > 1


async def test_a_tag_in_the_journal_makes_its_values_misses_and_no_others() -> None:
    async with Cache("memory://") as cache:
        functions = Functions(cache)
        await functions.member("ann", 7)
        await functions.member("bob", 8)
        cache.runtime.coherence.journal.deny([tag_key("team:7")], None)
        assert await functions.member("ann", 7) == ["ann", 3]
        assert await functions.member.peek("ann", 7) is MISS
        assert await functions.member.take("ann", 7) is MISS
        assert await functions.member("bob", 8) == ["bob", 2]


async def test_a_lost_invalidation_of_a_tag_distrusts_every_key() -> None:
    async with Cache("memory://") as cache:
        functions = Functions(cache)
        journal = cache.runtime.coherence.journal
        await functions.member("ann", 7)
        await functions.page(1)
        journal._limit = 0
        journal.add([tag_key("team:7")])
        assert await functions.member("ann", 7) == ["ann", 3]
        # Stored by this process since, so it is trusted.
        assert await functions.member("ann", 7) == ["ann", 3]
        assert await functions.page(1) == 4


async def test_an_outage_costs_a_tagged_call_its_load_and_no_more() -> None:
    store = FailingStore()
    async with Cache(store) as cache:
        functions = Functions(cache)
        store.fail()
        assert [await functions.member("ann", 7), await functions.member("ann", 7)] == [["ann", 1], ["ann", 2]]
        assert functions.count(StoreFailed)
        store.recover()
        async with asyncio.timeout(T):
            while await functions.member.peek("ann", 7) is MISS:
                await functions.member("ann", 7)


async def test_a_tag_that_cannot_be_opened_leaves_the_result_unstored_and_the_lease_free(store_url: str) -> None:
    async with Cache(store_url, prefix="app:", timeout=T) as cache:
        functions = Functions(cache)
        # A foreign value, which is no generation.
        await cache._store.set("app:~{team:7}", T, b"12", ttl_ms=60_000)
        assert [await functions.member("ann", 7), await functions.member("ann", 7)] == [["ann", 1], ["ann", 2]]
        async with asyncio.timeout(T):
            while (await cache._store.get_with_lease("app:member:ann", T))[1] is not None:
                await asyncio.sleep(0.005)


async def test_a_store_without_tags_leaves_the_calls_uncached(caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(Bare(), prefix="app:")  # type: ignore[arg-type]
    functions = Functions(cache)
    assert [await functions.member("ann", 7), await functions.member("ann", 7)] == [["ann", 1], ["ann", 2]]
    assert await functions.member.peek("ann", 7) is MISS
    assert "has tags, and its store has none" in caplog.text
    assert not await cache.clear()
    await cache.aclose()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"tags": "team"}, ConfigurationError, r'write tags=\["team:<team_id>"\]'),
        ({"tags": [7]}, ConfigurationError, "no templates of tags"),
        ({"tags": ["team:<nobody>"]}, DecorationError, "names no parameter"),
        ({"tags": ["{team}"]}, DecorationError, "has braces"),
        ({"tags": [""]}, DecorationError, "not the template of a tag"),
        ({"tags": ["a*"]}, DecorationError, "no pattern"),
        ({"tags": [f"t{x}" for x in range(9)]}, DecorationError, "8 at most"),
        ({"tags": ["<*x>:<*y>"]}, DecorationError, r"two placeholders with a \*"),
    ],
)
def test_a_tag_that_makes_no_sense_is_refused_at_decoration(options: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):

        @Cache("memory://").cached(key="key", ttl=60, **options)
        async def function(x: object, y: object) -> int: ...


def test_a_key_that_reads_as_that_of_a_tag_is_refused() -> None:
    with pytest.raises(DecorationError, match="begins as the key of a tag"):
        Cache("memory://").cached(key="~{team:<x>}", ttl=60)(_function)
    with pytest.raises(DecorationError, match="would give several keys"):
        Cache("memory://").cached(key="team:<*x>", ttl=60)(_function)


async def _function(x: object) -> int:
    return 1


async def test_no_caller_can_name_the_key_of_a_tag(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with Cache("memory://") as cache:
        functions = Functions(cache)
        await functions.member("ann", 7)
        assert await cache.get("~{team:7}") is None
        assert not await cache.set("~{team:7}", 1, ttl=60)
        assert not await cache.delete("~{team:7}")
        assert await cache.take("~{team:7}") is None
        assert await functions.member("ann", 7) == ["ann", 1]
    assert "is that of a tag" in caplog.text


@pytest.mark.parametrize("name", ["a b", "a*", "{a}", "", "<a>", 7, ["team:8"]])
async def test_a_text_that_no_template_gives_is_no_tag(name: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with Cache("memory://") as cache:
        functions = Functions(cache)
        await functions.member("ann", 7)
        assert not await cache.invalidate_tags(name, "team:7")
        assert await functions.member.peek("ann", 7) is MISS
    assert "cachekit.keys.escape" in caplog.text
    assert "invalidate_tags(*names)" in caplog.text


async def test_invalidate_all_needs_a_tag_of_the_function() -> None:
    functions = Functions(Cache("memory://"))
    with pytest.raises(ConfigurationError, match="tags=True"):
        await functions.member.invalidate_all()


async def test_events_of_a_tagged_function_are_those_of_any_other() -> None:
    functions = Functions(Cache("memory://"))
    for _ in range(2):
        await functions.member("ann", 7)
    kinds = [type(event) for event in functions.events]
    assert kinds == [Missed, LoadBegan, Loaded, Filled, Hit]
    assert {event.function for event in functions.events} == {functions.member._self_plan.name}


async def test_a_method_with_tags_binds_its_instance() -> None:
    cache = Cache("memory://")

    class Shop:
        runs = 0

        @cache.cached(key="price:<sku>", ttl=60, tags=[True, "prices"])
        async def price(self, sku: str) -> int:
            self.runs += 1
            return self.runs

    shop = Shop()
    assert await shop.price("tea") == await shop.price(sku="tea") == await shop.price.peek("tea") == 1
    assert await Shop.price(shop, "tea") == 1
    assert await shop.price.invalidate_all()
    assert await shop.price("tea") == 2
    await cache.invalidate_tags("prices")
    assert await shop.price.refresh("tea") == 3
    with pytest.raises(TypeError):
        shop.price()  # type: ignore[call-arg]
