"""Values in hand of functions with tags: an invalidation of a tag during the write wins, whoever makes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from cachekit import MISS, Cache, CachedFunction
from cachekit.entry import parse
from cachekit.errors import DecorationError, StoreUnavailableError
from cachekit.events import Filled, Invalidated, NotStored, Uncached
from cachekit.stores.memory import MemoryStore
from cachekit.stores.scripts import Fill, Script
from cachekit.tags import tag_key
from cachekit.testing import FailingStore, FakeClock, memory_cache
from tests.kit.bare import Bare
from tests.kit.servers import RedisServer
from tests.kit.stale import PATIENCE, raw_at, turns, two_caches, watch
from tests.kit.telling import bare
from tests.kit.waiting import until

DAY = 86_400.0


@pytest_asyncio.fixture
async def cache(store_url: str) -> AsyncIterator[Cache]:
    async with Cache(store_url, timeout=5) as cache:
        yield cache
        assert not cache.runtime.flights.open_loops, "a flight was left open"


class Source:
    """A source of members of a team, a function that reads one of them, and one that writes one."""

    def __init__(self, cache: Cache, **options: Any) -> None:
        self.cache = cache
        self.text = "old"
        self.loads = 0

        async def member(number: int, team: int) -> list[Any]:
            self.loads += 1
            return [number, team, self.text]

        usual: dict[str, Any] = {"ttl": 60, "tags": ["team:<team>", "members"]}
        self.member: CachedFunction[[int, int], list[Any]] = cache.cached(
            key="member:<number>", **{**usual, **options}
        )(member)

    async def write(self, text: str, number: int = 7, team: int = 1) -> list[Any]:
        self.text = text
        await asyncio.sleep(0)
        return [number, team, text]

    async def put(self, text: str) -> None:
        async with self.member.writing(7, 1) as put:
            put(await self.write(text))


async def generation(cache: Cache, name: str) -> str | None:
    raw, _ = await raw_at(cache, tag_key(name))
    return None if raw is None else raw.decode()


# --- stored, as long as the tags stand ----------------------------------------------------------------


async def test_a_written_value_is_a_hit_until_one_of_its_tags_is_invalidated(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        source, reader, events = Source(here), Source(elsewhere), watch(here)
        await source.put("new")
        assert Filled("member:7", "", 60) in bare(events)
        assert await reader.member(7, 1) == await source.member(7, 1) == [7, 1, "new"]
        assert source.loads == reader.loads == 0
        assert await elsewhere.invalidate_tags("team:1")
        assert await source.member.peek(7, 1) is MISS
        await source.put("newer")
        assert await reader.member.peek(7, 1) == [7, 1, "newer"]
        assert await here.invalidate_tags("members")
        assert await reader.member.peek(7, 1) is MISS


async def test_a_written_value_records_the_generations_from_before_the_write(cache: Cache) -> None:
    source = Source(cache)
    async with source.member.writing(7, 1) as put:
        before = {name: await generation(cache, name) for name in ("team:1", "members")}
        put(await source.write("new"))
    raw, holder = await raw_at(cache, "member:7")
    entry = parse(raw or b"", tagged=True)
    assert entry is not None
    assert (entry.tags, holder) == (before, None)
    assert None not in before.values()


async def test_a_set_value_has_the_tags_that_stood_then(cache: Cache) -> None:
    source, events = Source(cache), watch(cache)
    assert await source.member.set([7, 1, "set"], 7, 1)
    assert [event for event in bare(events) if isinstance(event, Filled)] == [Filled("member:7", "", 60)]
    assert await source.member(7, 1) == [7, 1, "set"]
    assert source.loads == 0
    await cache.invalidate_tags("team:1")
    assert await source.member(7, 1) == [7, 1, "old"]


async def test_a_load_that_began_before_a_set_is_neither_stored_nor_joined(cache: Cache) -> None:
    open_, began = asyncio.Event(), asyncio.Event()

    @cache.cached(key="slow", ttl=60, tags=["t"])
    async def slow() -> str:
        began.set()
        await open_.wait()
        return "old"

    load = asyncio.create_task(slow())
    await began.wait()
    assert await slow.set("set")
    assert await slow() == "set"
    open_.set()
    assert await load == "old"
    assert await slow.peek() == "set"


async def test_a_call_elsewhere_that_misses_during_a_write_gets_what_was_written(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        source, reader = Source(here), Source(elsewhere)
        async with source.member.writing(7, 1) as put:
            call = asyncio.create_task(reader.member(7, 1))
            await turns(50)
            put(await source.write("new"))
        async with asyncio.timeout(PATIENCE):
            assert await call == [7, 1, "new"]
        assert reader.loads == 0


async def test_a_call_inside_a_write_of_its_key_runs_uncached(cache: Cache) -> None:
    source = Source(cache)
    await source.member(7, 1)
    async with source.member.writing(7, 1) as put:
        put(await source.write("new"))
        assert await source.member(7, 1) == [7, 1, "new"]
        assert await source.member.peek(7, 1) is MISS


# --- what overtakes a write ---------------------------------------------------------------------------


@pytest.mark.parametrize("elsewhere_too", [False, True], ids=["here", "elsewhere"])
async def test_a_tag_that_is_invalidated_during_the_write_makes_the_value_a_miss(
    store_url: str, *, elsewhere_too: bool
) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        source, reader = Source(here), Source(elsewhere)
        async with source.member.writing(7, 1) as put:
            put(await source.write("new"))
            source.text = reader.text = "newest"
            assert await (elsewhere if elsewhere_too else here).invalidate_tags("team:1")
        assert await source.member.peek(7, 1) is await reader.member.peek(7, 1) is MISS
        assert await reader.member(7, 1) == await source.member(7, 1) == [7, 1, "newest"]


async def test_a_waiting_call_takes_no_written_value_whose_tag_was_invalidated(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        source, reader = Source(here), Source(elsewhere)
        async with source.member.writing(7, 1) as put:
            put(await source.write("new"))
            await here.invalidate_tags("team:1")
            reader.text = "newest"
            # Its generations are those of after the invalidation.
            call = asyncio.create_task(reader.member(7, 1))
            await turns(50)
        async with asyncio.timeout(PATIENCE):
            assert await call == [7, 1, "newest"]


async def test_an_invalidation_of_the_key_during_the_write_keeps_the_value_out(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        source = Source(here)
        async with source.member.writing(7, 1) as put:
            put(await source.write("new"))
            await elsewhere.delete("member:7")
        assert (await raw_at(here, "member:7"))[0] is None


async def test_two_writes_that_overlap_leave_no_value(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        one, other = Source(here), Source(elsewhere)
        async with one.member.writing(7, 1) as put_one:
            put_one(await one.write("first"))
            async with other.member.writing(7, 1) as put_other:
                put_other(await other.write("second"))
        assert await raw_at(here, "member:7") == (None, None)


async def test_a_block_that_raises_or_puts_nothing_invalidates(cache: Cache) -> None:
    source = Source(cache)
    await source.put("new")
    async with source.member.writing(7, 1):
        pass
    assert await raw_at(cache, "member:7") == (None, None)
    await source.put("new")

    async def write_and_fail() -> None:
        async with source.member.writing(7, 1):
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await write_and_fail()
    assert (await raw_at(cache, "member:7"))[0] is None


# --- what is not stored -------------------------------------------------------------------------------


async def test_a_fill_that_was_not_heard_of_is_followed_by_an_invalidation() -> None:
    class Deaf(MemoryStore):
        async def run(self, key: str, timeout: float, script: Script[Any]) -> Any:
            answer = await super().run(key, timeout, script)
            if isinstance(script, Fill):
                raise ConnectionError
            return answer

    cache = Cache(Deaf())
    source, events = Source(cache), watch(cache)
    await source.put("new")
    assert not await source.member.set([7, 1, "set"], 7, 1)
    assert await raw_at(cache, "member:7") == (None, None)
    assert bare(events).count(Invalidated(("member:7",), acknowledged=True)) == 2


async def test_while_the_store_is_down_a_write_is_kept_in_the_journal() -> None:
    store = FailingStore()
    cache = Cache(store)
    source = Source(cache)
    await source.member(7, 1)
    store.fail()
    await source.put("new")
    assert not await source.member.set([7, 1, "set"], 7, 1)
    assert cache.runtime.coherence.journal.holds("member:7")
    store.recover()
    assert await source.member(7, 1) == [7, 1, "new"], "never the old one"
    await cache.aclose()


async def test_a_set_that_is_cancelled_leaves_the_key_to_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FailingStore()
    cache = Cache(store)
    source, asked = Source(cache), asyncio.Event()
    await source.member(7, 1)

    async def hang(*_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(store, "run_tagged", hang)
    task = asyncio.create_task(source.member.set([7, 1, "set"], 7, 1))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    monkeypatch.undo()
    source.text = "new"
    assert await source.member(7, 1) == [7, 1, "new"]
    await cache.aclose()


async def test_a_tag_that_cannot_be_opened_leaves_no_value_and_no_lease(cache: Cache) -> None:
    source = Source(cache)
    events = watch(cache)
    # A foreign value, which is no generation.
    await cache._store.set(tag_key("team:1"), PATIENCE, b"12", ttl_ms=60_000)
    await source.put("new")
    assert await raw_at(cache, "member:7") == (None, None)
    assert not await source.member.set([7, 1, "set"], 7, 1)
    assert await raw_at(cache, "member:7") == (None, None)
    assert [event for event in bare(events) if isinstance(event, NotStored)] == [NotStored("member:7", "", "tags")] * 2


async def test_an_argument_that_names_no_tag_leaves_no_value(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    source, events = Source(cache), watch(cache)
    await source.put("new")
    wrong: Any = object()
    async with source.member.writing(7, wrong) as put:
        put(await source.write("newer"))
    assert (await raw_at(cache, "member:7"))[0] is None
    assert not await source.member.set([7, 1, "set"], 7, wrong)
    assert caplog.text.count("member stores no value in hand") == 1
    told = [event for event in bare(events) if isinstance(event, (Filled, NotStored, Uncached))]
    assert told == [Filled("member:7", "", 60), *[NotStored("member:7", "", "tags")] * 2]


async def test_a_value_of_another_type_is_refused_and_the_key_is_invalidated(cache: Cache) -> None:
    source = Source(cache)
    await source.put("new")
    wrong: Any = "text"
    assert not await source.member.set(wrong, 7, 1)
    assert await raw_at(cache, "member:7") == (None, None)


async def test_a_store_without_tags_takes_no_value_in_hand(caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(Bare())  # type: ignore[arg-type]
    source = Source(cache)
    await source.put("new")
    assert not await source.member.set([7, 1, "set"], 7, 1)
    assert (await raw_at(cache, "member:7"))[0] is None
    assert "its store has none" in caplog.text
    await cache.aclose()


# --- inside a block -----------------------------------------------------------------------------------


async def test_a_write_inside_a_transaction_is_stored_when_that_has_committed(cache: Cache) -> None:
    source = Source(cache)
    async with cache.after_commit():
        await source.put("new")
        assert (await raw_at(cache, "member:7"))[0] is None
    assert await source.member.peek(7, 1) == [7, 1, "new"]


async def test_a_write_inside_a_transaction_that_invalidates_its_tag_is_no_hit(cache: Cache) -> None:
    source = Source(cache)
    async with cache.after_commit():
        await source.put("new")
        await cache.invalidate_tags("team:1")
        assert not await source.member.set([7, 1, "set"], 7, 1)
    assert await source.member.peek(7, 1) is MISS


async def test_a_set_inside_a_block_that_invalidates_the_key_waits_for_its_end(cache: Cache) -> None:
    source = Source(cache)
    async with cache.after_commit():
        await source.member.invalidate(7, 1)
        assert not await source.member.set([7, 1, "set"], 7, 1)
        assert (await raw_at(cache, "member:7"))[0] is None
    assert await source.member.peek(7, 1) == [7, 1, "set"]


# --- functions that put -------------------------------------------------------------------------------


async def test_a_function_that_puts_names_the_tags_by_its_own_arguments(cache: Cache) -> None:
    source = Source(cache, tags=["team:<team>", True])

    @source.member.puts
    async def rename(team: int, text: str, number: int) -> list[Any]:
        return await source.write(text, number, team)

    assert await rename(1, "new", number=7) == [7, 1, "new"]
    assert await source.member(7, 1) == [7, 1, "new"]
    assert source.loads == 0
    await cache.invalidate_tags("team:1")
    assert await source.member.peek(7, 1) is MISS
    await rename(1, "newer", 7)
    assert await source.member.peek(7, 1) == [7, 1, "newer"]
    await source.member.invalidate_all()
    assert await source.member.peek(7, 1) is MISS


def test_a_function_that_puts_has_the_parameters_of_the_tags() -> None:
    source = Source(Cache("memory://"))

    with pytest.raises(DecorationError, match="team"):

        @source.member.puts
        async def rename(number: int, text: str) -> list[Any]: ...


# --- tags of the result -------------------------------------------------------------------------------


def posts(cache: Cache, tag: str = "author:<return[0]>") -> CachedFunction[[int], list[str]]:
    @cache.cached(key="post:<number>", ttl=60, tags=[tag])
    async def post(number: int) -> list[str]:
        return ["ann", "loaded"]

    return post


async def test_a_value_whose_tags_nobody_knew_before_is_not_stored_and_teaches_them(cache: Cache) -> None:
    post = posts(cache)
    assert not await post.set(["ann", "first"], 1)
    assert await post.peek(1) is MISS
    assert await post.set(["ann", "second"], 1)
    assert await post.peek(1) == ["ann", "second"]
    await cache.invalidate_tags("author:ann")
    assert await post.peek(1) is MISS


async def test_a_value_with_other_tags_than_those_that_were_opened_is_not_stored(cache: Cache) -> None:
    post = posts(cache)
    await post(1)
    await post(1)
    async with post.writing(1) as put:
        put(["bob", "written"])
    assert await raw_at(cache, "post:1") == (None, None), "the generation of bob would come from after the write"
    async with post.writing(1) as put:
        put(["bob", "written"])
    assert await post.peek(1) == ["bob", "written"]


async def test_a_value_may_have_fewer_tags_than_were_opened(cache: Cache) -> None:
    post = posts(cache, "author:<*return>")
    for _ in range(2):
        await post.set(["ann", "bob"], 1)
    assert await post.set(["bob"], 1)
    assert await post.peek(1) == ["bob"]
    await cache.invalidate_tags("author:ann")
    assert await post.peek(1) == ["bob"]
    await cache.invalidate_tags("author:bob")
    assert await post.peek(1) is MISS


# --- ttl, touch, and many by hand -----------------------------------------------------------------------


async def test_a_value_has_a_ttl_as_long_as_its_tags_stand(cache: Cache) -> None:
    source = Source(cache)
    assert await source.member.ttl(7, 1) is None
    await source.member(7, 1)
    left = await source.member.ttl(7, 1)
    assert left is not None
    assert 0 < left <= 60
    await cache.invalidate_tags("members")
    assert await source.member.ttl(7, 1) is None


async def test_touch_tells_whether_there_is_a_value_whose_tags_stand(cache: Cache) -> None:
    source = Source(cache)
    assert not await source.member.touch(7, 1, "1h")
    await source.member(7, 1)
    assert await source.member.touch(7, 1, "1h")
    assert 3_500 < (await source.member.ttl(7, 1) or 0) <= 3_600
    assert await cache.touch("member:7", "2h")
    assert 7_100 < (await source.member.ttl(7, 1) or 0) <= 7_200
    assert await source.member(7, 1) == [7, 1, "old"]
    assert source.loads == 1
    await cache.invalidate_tags("members")
    assert not await source.member.touch(7, 1, "1h")
    assert not await cache.touch("member:7", "1h")
    assert await source.member.peek(7, 1) is MISS


@pytest.mark.parametrize("by_hand", [False, True])
async def test_a_tag_outlives_a_value_that_is_touched(*, by_hand: bool) -> None:
    clock = FakeClock()
    cache = memory_cache(clock=clock)
    source = Source(cache)
    await source.member(7, 1)

    async def touch(ttl: float) -> bool:
        return await (cache.touch("member:7", ttl) if by_hand else source.member.touch(7, 1, ttl))

    # Longer than the tag was to live.
    assert await touch(30 * DAY)
    clock.advance(29 * DAY)
    assert await source.member.peek(7, 1) == [7, 1, "old"]
    # Again and again, each time for a little.
    for _ in range(80):
        assert await touch(1.5 * DAY)
        clock.advance(DAY)
    assert await source.member(7, 1) == [7, 1, "old"]
    assert source.loads == 1


async def test_touch_of_a_stale_function_keeps_the_tags_for_its_window_too() -> None:
    clock = FakeClock()
    cache = memory_cache(clock=clock)
    source = Source(cache, stale_if_error=20 * DAY)
    await source.member(7, 1)
    clock.advance(DAY / 2000)
    assert await source.member.touch(7, 1, 30 * DAY)
    assert (await cache._store.get_tagged(tag_key("team:1"), 1.0, [], 1)).left > 50 * DAY  # type: ignore[attr-defined]


async def test_touch_of_a_value_whose_tag_is_in_the_journal_or_is_to_be_invalidated_finds_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FailingStore()
    cache = Cache(store)
    source = Source(cache)
    await source.member(7, 1)
    async with cache.after_commit():
        await cache.invalidate_tags("members")
        assert not await source.member.touch(7, 1, 60)
    await source.member(7, 1)

    async def fail(*_: object) -> None:
        raise StoreUnavailableError("unavailable", "removals fail on cue")

    monkeypatch.setattr(store, "delete", fail)
    assert not await cache.invalidate_tags("members")
    assert not await source.member.touch(7, 1, 60)
    monkeypatch.undo()
    await cache.aclose()


async def test_a_value_whose_tag_is_to_be_invalidated_has_no_ttl(cache: Cache) -> None:
    source = Source(cache)
    await source.member(7, 1)
    async with cache.after_commit():
        await cache.invalidate_tags("members")
        assert await source.member.ttl(7, 1) is None
    await source.member(7, 1)
    assert 55 < (await source.member.ttl(7, 1) or 0) <= 60


async def test_a_value_with_metadata_that_this_version_cannot_read_is_touched(cache: Cache) -> None:
    await cache._store.set("k", PATIENCE, b'1\n{"T":{"team:7":"later"},"New":1}', ttl_ms=60_000)
    assert await cache.touch("k", "1h")
    *_, left = await cache._store.get_with_lease_and_ttl("k", PATIENCE)  # type: ignore[attr-defined]
    assert left > 3_500


async def test_a_result_whose_tag_cannot_be_rendered_is_returned_and_not_stored(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    @cache.cached(key="k", ttl=60, tags=["author:<return[author]>"])
    async def post() -> dict[str, int]:
        return {"id": 7}

    events = watch(cache)
    assert await post() == await post() == {"id": 7}
    assert [event.reason for event in events if isinstance(event, NotStored)] == ["tags", "tags"]
    assert len([text for text in caplog.messages if "stores no result" in text]) == 1
    await until(lambda: not cache.runtime.giving_back)
    assert await raw_at(cache, "k") == (None, None)


async def test_many_values_are_read_by_hand_as_long_as_their_tags_stand(cache: Cache) -> None:
    source = Source(cache)
    await cache.set_many({"plain": 1, "other": 2}, ttl=60)
    for number in range(6):
        await source.member(number, number % 3)
    keys = ["plain", *[f"member:{number}" for number in range(7)], "other"]
    everything = {"plain": 1, **{f"member:{n}": [n, n % 3, "old"] for n in range(6)}, "other": 2}
    assert await cache.get_many(keys) == everything
    await cache.invalidate_tags("team:1")
    assert await cache.get_many(keys) == {k: v for k, v in everything.items() if k not in {"member:1", "member:4"}}
    await cache.invalidate_tags("members")
    assert await cache.get_many(keys) == {"plain": 1, "other": 2}


# --- round trips --------------------------------------------------------------------------------------


async def test_a_write_takes_two_round_trips_and_so_does_a_refresh(
    redis_server: RedisServer, writes: list[str]
) -> None:
    async with Cache(redis_server.url, timeout=5) as cache:
        source = Source(cache)
        await source.member(7, 1)
        # From now on the server has the scripts.
        await source.put("new")
        await cache.touch("member:7", 60)
        del writes[:]
        await source.put("new")
        assert len(writes) == 2, "lease and tags, fill"
        del writes[:]
        assert await source.member.set([7, 1, "set"], 7, 1)
        assert len(writes) == 2
        del writes[:]
        assert await source.member.refresh(7, 1) == [7, 1, "new"]
        assert len(writes) == 2
        for number in range(20):
            await source.member(number, number % 3)
        await cache.set("plain", 1, ttl=60)
        del writes[:]
        assert len(await cache.get_many(["plain", *[f"member:{number}" for number in range(20)]])) == 21
        assert len(writes) == 2
        del writes[:]
        assert await source.member.touch(7, 1, 60)
        assert len(writes) == 2
        del writes[:]
        assert await cache.touch("plain", 60)
        assert len(writes) == 1
