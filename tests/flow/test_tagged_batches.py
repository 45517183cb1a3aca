"""Batches of functions with tags: each id is a hit as long as its own tags stand, and follows the rules of a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from cachekit import MISS, Cache, CachedFunction, CachedManyFunction, ConfigurationError, DecorationError, new_key
from cachekit.entry import EXPIRED, parse
from cachekit.errors import StoreUnavailableError
from cachekit.events import Event, Hit, Missed
from cachekit.keys import escape
from cachekit.stores.base import Want
from cachekit.tags import tag_key
from cachekit.testing import FailingStore, FakeClock, memory_cache
from tests.kit.bare import Bare
from tests.kit.cluster import RedisCluster
from tests.kit.servers import RedisServer
from tests.kit.stale import PATIENCE, put, raw_at, turns, two_caches, watch
from tests.kit.telling import bare
from tests.kit.waiting import until

DAY = 86_400.0


@pytest_asyncio.fixture
async def cache(store_url: str) -> AsyncIterator[Cache]:
    async with Cache(store_url, timeout=5) as cache:
        yield cache
        await until(lambda: not cache.loading_in_background)
        assert not cache.runtime.flights.open_loops, "a flight was left open"


class Users:
    """A cached function for one user and one for many, with a tag for each user and one for all of them."""

    def __init__(self, cache: Cache, *, absent_ttl: float | None = None, max_batch: int = 500, **options: Any) -> None:
        self.loads: list[Any] = []
        self.open = asyncio.Event()
        self.open.set()
        self.began = asyncio.Event()
        self.error: Exception | None = None
        self.version = 0
        self.unknown: set[str] = set()

        async def user(user_id: str) -> list[Any]:
            version = self.version
            await self._load(user_id)
            return [user_id, version]

        async def users(user_ids: Sequence[str]) -> dict[str, list[Any]]:
            version = self.version
            await self._load([*user_ids])
            return {user_id: [user_id, version] for user_id in user_ids if user_id not in self.unknown}

        usual: dict[str, Any] = {"ttl": 60, "tags": ["user:<user_id>", "users"]}
        self.one: CachedFunction[[str], list[Any]] = cache.cached(key="u:<user_id>", **{**usual, **options})(user)
        self.many: CachedManyFunction[[Sequence[str]], str, list[Any]] = self.one.many(
            absent_ttl=absent_ttl, max_batch=max_batch
        )(users)

    async def _load(self, what: object) -> None:
        self.loads.append(what)
        self.began.set()
        await self.open.wait()
        if self.error is not None:
            raise self.error


def of(ids: str, version: int = 0) -> dict[str, list[Any]]:
    return {one: [one, version] for one in ids}


def hits(events: list[Event]) -> set[str]:
    return {event.key for event in events if isinstance(event, Hit)}


# --- what a user expects ------------------------------------------------------------------------------


async def test_a_batch_and_calls_for_one_id_share_results_as_long_as_the_tags_of_an_id_stand(cache: Cache) -> None:
    users = Users(cache)
    assert await users.one("a") == ["a", 0]
    assert await users.many([*"cab"]) == of("cab")
    assert await users.many([*"abc"]) == of("abc")
    assert [await users.one(one) for one in "abc"] == [*of("abc").values()]
    assert users.loads == ["a", [*"cb"]]
    users.version = 1
    await cache.invalidate_tags("user:b")
    assert await users.many([*"abc"]) == of("a") | of("b", 1) | of("c")
    assert users.loads[2:] == [["b"]]
    await cache.invalidate_tags("users")
    assert await users.many([*"ab"]) == of("ab", 1)
    assert users.loads[3:] == [[*"ab"]]


async def test_a_value_of_a_batch_records_the_tags_that_stood_before_its_load(cache: Cache) -> None:
    users = Users(cache)
    await users.many([*"ab"])
    for one in "ab":
        raw, _ = await raw_at(cache, f"u:{one}")
        entry = parse(raw or b"", tagged=True)
        assert entry is not None
        stand = {name: (await raw_at(cache, tag_key(name)))[0] for name in (f"user:{one}", "users")}
        assert entry.tags == {name: (generation or b"").decode() for name, generation in stand.items()}


async def test_tags_may_name_the_common_parameters_of_a_batch_alone(cache: Cache) -> None:
    loads: list[list[int]] = []

    @cache.cached_many(key="price:<shop>:<sku>", each="skus", ttl=60, tags=["shop:<shop>", True])
    async def prices(shop: str, skus: list[int]) -> dict[int, str]:
        loads.append(skus)
        return {sku: f"{shop} {sku}" for sku in skus}

    assert await prices("a:b", [1, 2]) == await prices("a:b", [1, 2]) == {1: "a:b 1", 2: "a:b 2"}
    await prices("c", [1])
    assert loads == [[1, 2], [1]]
    await cache.invalidate_tags(f"shop:{escape('a:b')}")
    await prices("a:b", [1, 2])
    await prices("c", [1])
    assert loads[2:] == [[1, 2]]
    assert await prices.invalidate_all()
    await prices("c", [1])
    assert loads[3:] == [[1]]


async def test_two_templates_of_a_batch_may_give_one_tag(cache: Cache) -> None:
    loads: list[list[str]] = []

    @cache.cached_many(key="row:<row_id>", each="row_ids", ttl=60, tags=["row:<row_id>", "row:<first>"])
    async def rows(row_ids: Sequence[str], first: str) -> dict[str, int]:
        loads.append([*row_ids])
        return {row_id: len(loads) for row_id in row_ids}

    for _ in range(2):
        assert await rows([*"ab"], "a") == {"a": 1, "b": 1}
    await cache.invalidate_tags("row:b")
    assert await rows([*"ab"], "a") == {"a": 1, "b": 2}


async def test_a_value_with_other_tags_of_the_same_generation_is_no_hit_of_a_batch(cache: Cache) -> None:
    users = Users(cache, tags=["old:<user_id>"])
    await users.many(["a"])
    generation = await cache._store.get(tag_key("old:a"), PATIENCE)
    assert generation is not None
    # By hand: a generation is random, so that two tags never have one.
    await cache._store.set(tag_key("new:a"), PATIENCE, generation, ttl_ms=60_000)
    others = Users(cache, tags=["new:<user_id>"])
    others.version = 1
    assert await others.many(["a"]) == of("a", 1)


async def test_what_is_no_generation_validates_nothing_in_a_batch(cache: Cache) -> None:
    users = Users(cache, tags=["first:<user_id>", "second"])
    await users.many(["a"])
    first, second = [await cache._store.get(tag_key(name), PATIENCE) for name in ("first:a", "second")]
    assert first is not None
    assert second is not None
    # By hand: with it, the tags of the other function would read as those of the value.
    await cache._store.set(tag_key("first:a"), PATIENCE, first + b'","second":"' + second, ttl_ms=60_000)
    others = Users(cache, tags=["first:<user_id>"])
    others.version = 1
    assert await others.many(["a"]) == of("a", 1)


async def test_of_ids_with_one_key_the_first_gives_the_tags(cache: Cache) -> None:
    loads = 0

    @cache.cached_many(key="row:<row[0]>", each="rows", ttl=60, tags=["team:<row[1]>"])
    async def named(rows: Sequence[tuple[int, str]]) -> dict[tuple[int, str], int]:
        nonlocal loads
        loads += 1
        return dict.fromkeys(rows, loads)

    rows = [(1, "x"), (2, "x"), (1, "y")]
    assert await named(rows) == dict.fromkeys(rows, 1)
    await cache.invalidate_tags("team:y")
    assert await named(rows) == dict.fromkeys(rows, 1)
    await cache.invalidate_tags("team:x")
    assert await named(rows) == dict.fromkeys(rows, 2)


@pytest.mark.usefixtures("usual_quiet")
async def test_an_id_whose_bytes_do_not_decode_is_loaded_alone_and_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    cache = memory_cache(clock=clock)
    users = Users(cache)
    await users.many([*"abc"])
    raw, _ = await raw_at(cache, "u:b")
    assert raw is not None
    await cache._store.set("u:b", PATIENCE, b"{" + raw, ttl_ms=60_000)
    users.version = 1
    assert await users.many([*"abc"]) == of("ac") | of("b", 1)
    assert users.loads[1:] == [["b"]]
    assert cache.runtime.reporter.incidents, "reported"
    # A value that decodes later ends it.
    clock.advance(10)
    assert await users.many([*"abc"]) == of("ac") | of("b", 1)
    assert not cache.runtime.reporter.incidents
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    await cache.aclose()


async def test_a_batch_tells_of_hits_with_tags(cache: Cache) -> None:
    users = Users(cache)
    await users.many([*"ab"])
    events = watch(cache)
    await users.many([*"abc"])
    assert hits(events) == {"u:a", "u:b"}
    assert {event.key for event in events if isinstance(event, Missed)} == {"u:c"}


async def test_a_method_has_tags_of_its_instance(cache: Cache) -> None:
    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name
            self.loads = 0

        @cache.cached_many(key="price:<self.name>:<sku>", each="skus", ttl=60, tags=["shop:<self.name>"])
        async def prices(self, skus: list[int]) -> dict[int, int]:
            self.loads += 1
            return dict.fromkeys(skus, self.loads)

    one, other = Shop("one"), Shop("other")
    for shop in (one, other, one):
        await shop.prices([1, 2])
    await cache.invalidate_tags("shop:one")
    assert await one.prices([1]) == {1: 2}
    assert await other.prices([1]) == {1: 1}


async def test_an_absence_is_forgotten_with_one_of_its_tags(cache: Cache) -> None:
    users = Users(cache, absent_ttl=60)
    users.unknown = {"x"}
    for _ in range(2):
        assert await users.many([*"ax"]) == of("a")
    assert users.loads == [[*"ax"]]
    raw, _ = await raw_at(cache, "u:x")
    entry = parse(raw or b"", tagged=True, absent=True)
    assert entry is not None
    assert (entry.absent, {*(entry.tags or ())}) == (True, {"user:x", "users"})
    assert await users.one.peek("x") is MISS
    assert await cache.get_many(["u:a", "u:x"]) == {"u:a": ["a", 0]}
    users.unknown = set()
    await cache.invalidate_tags("user:x")
    assert await users.many([*"ax"]) == of("ax")
    assert users.loads[1:] == [["x"]]


async def test_a_call_for_one_id_loads_what_a_batch_remembers_as_absent(cache: Cache) -> None:
    users = Users(cache, absent_ttl=60)
    users.unknown = {"x"}
    assert await users.many(["x"]) == {}
    assert await users.one("x") == ["x", 0]
    assert await users.many(["x"]) == of("x")


async def test_a_tag_outlives_the_absences_that_name_it() -> None:
    clock = FakeClock()
    users = Users(memory_cache(clock=clock), absent_ttl=30 * DAY)
    users.unknown = {"x"}
    assert await users.many(["x"]) == {}
    clock.advance(29 * DAY)
    assert await users.many(["x"]) == {}
    assert users.loads == [["x"]]


async def test_an_id_with_more_than_eight_tags_is_loaded_with_the_others_and_not_stored(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    loads: list[list[tuple[int, ...]]] = []

    @cache.cached_many(key="k:<parts>", each="many", ttl=60, tags=["t", "part:<*parts>"])
    async def lists(many: list[tuple[int, ...]]) -> dict[tuple[int, ...], int]:
        loads.append(many)
        return {parts: len(parts) for parts in many}

    few, most = (1, 2), tuple(range(8))
    for _ in range(2):
        assert await lists([few, most]) == {few: 2, most: 8}
    assert loads == [[few, most], [most]]
    assert caplog.text.count("8 are the most") == 1


async def test_more_ids_than_one_step_opens_tags_for_are_loaded_and_stored(cache: Cache) -> None:
    loads: list[int] = []

    @cache.cached_many(key="k:<x>", each="xs", ttl=60, tags=["x:<x>", "row:<x>"])
    async def squares(xs: list[int]) -> dict[int, int]:
        loads.append(len(xs))
        return {x: x * x for x in xs}

    for _ in range(2):
        assert await squares(range(300)) == {x: x * x for x in range(300)}
    assert loads == [300]


async def test_ids_inside_a_block_that_invalidates_one_of_their_tags_run_uncached(cache: Cache) -> None:
    users = Users(cache)
    await users.many([*"ab"])
    async with cache.after_commit():
        await cache.invalidate_tags("user:a")
        users.version = 1
        assert await users.many([*"ab"]) == of("a", 1) | of("b")
    assert users.loads == [[*"ab"], ["a"]]
    assert await users.many([*"ab"]) == of("a", 1) | of("b")


async def test_a_written_value_is_a_hit_of_a_batch(cache: Cache) -> None:
    users = Users(cache)
    async with users.one.writing("a") as put_one:
        put_one(["a", 7])
    assert await users.many(["a"]) == of("a", 7)
    await cache.invalidate_tags("user:a")
    assert await users.many(["a"]) == of("a")


async def test_a_store_without_tags_loads_all_ids_and_stores_none(caplog: pytest.LogCaptureFixture) -> None:
    async with Cache(Bare()) as cache:  # type: ignore[arg-type]
        users = Users(cache)
        for _ in range(2):
            assert await users.many([*"ab"]) == of("ab")
        assert users.loads == [[*"ab"]] * 2
        assert "its store has none" in caplog.text


# --- an invalidation wins -----------------------------------------------------------------------------


@pytest.mark.parametrize("here_too", [True, False], ids=["here", "elsewhere"])
async def test_a_tag_that_is_invalidated_during_the_load_of_a_batch_wins_for_its_id_alone(
    store_url: str, *, here_too: bool
) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        users, others = Users(here), Users(elsewhere)
        users.open.clear()
        batch = asyncio.create_task(users.many([*"ab"]))
        await users.began.wait()
        users.version = others.version = 1
        assert await (here if here_too else elsewhere).invalidate_tags("user:a")
        users.open.set()
        assert await batch == of("ab")
        assert await others.many([*"ab"]) == of("a", 1) | of("b")
        assert await users.many([*"ab"]) == of("a", 1) | of("b")
        assert others.loads == [["a"]]


async def test_a_tag_that_is_invalidated_between_the_read_and_the_load_makes_no_wrong_hit(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        users, others = Users(here), Users(elsewhere)
        await users.many([*"ab"])
        await elsewhere.delete("u:a")
        read = here.runtime.tagged_many.read_plain

        async def bumped(*args: Any) -> Any:
            found = await read(*args)
            users.version = others.version = 1
            await elsewhere.invalidate_tags("users")
            return found

        monkeypatch.setattr(here.runtime.tagged_many, "read_plain", bumped)
        # b was a hit before the invalidation; a is loaded behind it, and stored with the new generation.
        assert await users.many([*"ab"]) == of("a", 1) | of("b")
        monkeypatch.undo()
        assert await others.many([*"ab"]) == of("ab", 1)
        assert others.loads == [["b"]]


@pytest.mark.parametrize("batch_first", [False, True], ids=["call first", "batch first"])
async def test_nobody_behind_an_invalidation_joins_the_load_of_a_batch(store_url: str, *, batch_first: bool) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        users = Users(here)
        users.open.clear()
        before = asyncio.create_task(users.many([*"ab"]))
        await users.began.wait()
        # The leases stay: an invalidation of a tag does not void them.
        users.version = 1
        assert await elsewhere.invalidate_tags("user:a")
        events = watch(here)
        # The second one shares the load that the first one begins.
        early = asyncio.create_task(users.many([*"ab"])) if batch_first else None
        one = asyncio.create_task(users.one("a"))
        many = early or asyncio.create_task(users.many([*"ab"]))
        await until(lambda: sum(isinstance(event, Missed) for event in events) == 3)
        users.open.set()
        assert await before == of("ab")
        assert await one == ["a", 1]
        assert await many == of("a", 1) | of("b")


async def test_a_batch_and_calls_share_a_load_while_its_tags_stand(cache: Cache) -> None:
    users = Users(cache)
    users.open.clear()
    first = asyncio.create_task(users.one("a"))
    await users.began.wait()
    users.began.clear()
    second = asyncio.create_task(users.many([*"ab"]))
    await users.began.wait()
    third = asyncio.create_task(users.one("b"))
    fourth = asyncio.create_task(users.many([*"ba"]))
    events = watch(cache)
    await until(lambda: sum(isinstance(event, Missed) for event in events) >= 3)
    await turns()
    users.open.set()
    assert await asyncio.gather(first, second, third, fourth) == [["a", 0], of("ab"), ["b", 0], of("ba")]
    assert users.loads == ["a", ["b"]]


async def test_batches_of_two_processes_in_another_order_load_each_id_once(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        users, others = Users(here), Users(elsewhere)
        users.open.clear()
        first = asyncio.create_task(users.many([*"ab"]))
        await users.began.wait()
        second = asyncio.create_task(others.many([*"cba"]))
        await others.began.wait()
        users.open.set()
        async with asyncio.timeout(PATIENCE):
            assert await first == of("ab")
            assert await second == of("cba")
        assert (users.loads, others.loads) == ([[*"ab"]], [["c"]])


async def test_a_batch_that_waits_takes_no_value_whose_tag_was_invalidated_meanwhile(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        users, others = Users(here), Users(elsewhere)
        others.open.clear()
        theirs = asyncio.create_task(others.many([*"ab"]))
        await others.began.wait()
        users.version = 1
        assert await elsewhere.invalidate_tags("user:a")
        ours = asyncio.create_task(users.many([*"ab"]))
        await turns(50)
        others.open.set()
        async with asyncio.timeout(PATIENCE):
            assert await theirs == of("ab")
            assert await ours == of("a", 1) | of("b")
        assert users.loads == [["a"]]


@pytest.mark.parametrize("absent", [False, True])
async def test_what_a_batch_has_found_is_not_for_calls_that_began_after_it_asked(
    monkeypatch: pytest.MonkeyPatch, *, absent: bool
) -> None:
    store = FailingStore()
    here, elsewhere = Cache(store, timeout=PATIENCE), Cache(store, timeout=PATIENCE)
    users, others = Users(here, absent_ttl=60), Users(elsewhere, absent_ttl=60)
    others.unknown = {"a"} if absent else set()
    run, asked, go_on = store.run_many, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any) -> Any:
        if not asked.is_set():
            # The other process has filled since this one has missed.
            asked.set()
            await others.many(["a"])
            answer = await run(*args)
            await go_on.wait()
            return answer
        return await run(*args)

    monkeypatch.setattr(store, "run_many", slow)
    early = asyncio.create_task(users.many(["a"]))
    await asked.wait()
    await until(lambda: store._keyspace.value("u:a") is not None)
    events = watch(here)
    users.version = 1
    assert await elsewhere.invalidate_tags("user:a")
    # Their reads are answered before the question of the flight that they join.
    one, many = asyncio.create_task(users.one("a")), asyncio.create_task(users.many(["a"]))
    await until(lambda: sum(isinstance(event, Missed) for event in events) == 2)
    await turns()
    go_on.set()
    async with asyncio.timeout(PATIENCE):
        assert await one == ["a", 1]
        assert await many == of("a", 1)
        assert await early == ({} if absent else of("a"))


async def test_a_tag_in_the_journal_makes_its_ids_misses_and_no_others() -> None:
    store = FailingStore()
    cache = Cache(store)
    users = Users(cache)
    await users.many([*"ab"])
    users.version = 1
    cache.runtime.coherence.journal.deny([tag_key("user:a")], None)
    assert await users.many([*"ab"]) == of("a", 1) | of("b")
    # Nobody shares it, and it is not stored.
    assert await users.many([*"ab"]) == of("a", 1) | of("b")
    await cache.aclose()


async def test_a_tag_that_comes_into_the_journal_during_the_read_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FailingStore()
    cache = Cache(store)
    users = Users(cache)
    await users.many([*"ab"])
    users.version = 1
    get = store.get_many

    async def slow(*args: Any) -> Any:
        found = await get(*args)
        cache.runtime.coherence.journal.deny([tag_key("user:a")], None)
        return found

    monkeypatch.setattr(store, "get_many", slow)
    assert await users.many([*"ab"]) == of("a", 1) | of("b")
    await cache.aclose()


async def test_a_tag_that_leaves_the_journal_during_the_read_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FailingStore()
    cache = Cache(store)
    users, journal = Users(cache), cache.runtime.coherence.journal
    await users.many([*"ab"])
    users.version = 1
    journal.deny([tag_key("user:a")], None)
    get = store.get_many

    async def slow(*args: Any) -> Any:
        found = await get(*args)
        # Replayed, behind what this read has found.
        journal.remove([tag_key("user:a")], journal.mark())
        return found

    monkeypatch.setattr(store, "get_many", slow)
    assert await users.many([*"ab"]) == of("a", 1) | of("b")
    await cache.aclose()


@pytest.mark.parametrize("options", [{}, {"stale_if_error": 60}], ids=["plain", "with windows"])
async def test_a_tag_that_cannot_be_read_makes_its_ids_misses_and_no_others(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FailingStore()
    cache = Cache(store)
    users = Users(cache, **options)
    await users.many([*"ab"])
    users.version = 1
    get = store.get_many

    async def failing(keys: Sequence[str], *args: Any) -> Any:
        return [
            StoreUnavailableError("unavailable", "its shard is down") if key == tag_key("user:a") else one
            for key, one in zip(keys, await get(keys, *args), strict=True)
        ]

    monkeypatch.setattr(store, "get_many", failing)
    assert await users.many([*"ab"]) == of("a", 1) | of("b")
    assert users.loads == [[*"ab"], ["a"]]
    await cache.aclose()


async def test_while_the_store_is_down_the_function_is_called_once_with_all_ids() -> None:
    store = FailingStore()
    cache = Cache(store)
    users = Users(cache)
    await users.many([*"ab"])
    store.fail()
    users.version = 1
    assert await users.many([*"abc"]) == of("abc", 1)
    assert users.loads[1:] == [[*"abc"]]
    store.recover()
    await cache.aclose()


async def test_a_tag_that_cannot_be_opened_costs_its_ids_alone(cache: Cache) -> None:
    users = Users(cache)
    # A foreign value, which is no generation.
    await cache._store.set(tag_key("user:a"), PATIENCE, b"12", ttl_ms=60_000)
    for _ in range(2):
        assert await users.many([*"abc"]) == of("abc")
    assert users.loads == [[*"abc"], ["a"]]


async def test_a_tag_of_another_type_costs_its_ids_alone(redis_server: RedisServer) -> None:
    redis_server.cli("RPUSH", tag_key("user:a"), "x")
    async with Cache(redis_server.url, timeout=5) as cache:
        users = Users(cache)
        for _ in range(2):
            assert await users.many([*"abc"]) == of("abc")
        assert users.loads == [[*"abc"], ["a"]]


async def test_a_load_that_fails_fails_for_those_who_needed_it(cache: Cache) -> None:
    users = Users(cache)
    await users.many(["a"])
    users.error = ConnectionError("down")
    with pytest.raises(ConnectionError):
        await users.many([*"ab"])
    assert await users.many(["a"]) == of("a")
    users.error = None
    assert await users.many([*"ab"]) == of("ab")


async def test_a_batch_that_is_cancelled_leaves_its_ids_to_those_who_wait(cache: Cache) -> None:
    users = Users(cache)
    users.open.clear()
    batch = asyncio.create_task(users.many([*"ab"]))
    await users.began.wait()
    one, many = asyncio.create_task(users.one("a")), asyncio.create_task(users.many([*"ba"]))
    events = watch(cache)
    await until(lambda: sum(isinstance(event, Missed) for event in events) == 3)
    await turns()
    batch.cancel()
    users.open.set()
    assert await one == ["a", 0]
    assert await many == of("ba")
    assert await users.many([*"ab"]) == of("ab")
    with pytest.raises(asyncio.CancelledError):
        await batch


# --- stale values, near, private ------------------------------------------------------------------------


async def test_a_stale_value_of_a_batch_is_handed_out_only_while_its_tags_stand(cache: Cache) -> None:
    users = Users(cache, stale_while_revalidate=60, stale_if_error=3600)
    await users.many([*"ab"])
    tags = {}
    for one in "ab":
        raw, _ = await raw_at(cache, f"u:{one}")
        entry = parse(raw or b"", tagged=True)
        assert entry is not None
        tags[one] = entry.tags
    for one in "ab":
        await put(cache, f"u:{one}", [one, 0], left=-1, tags=tags[one])
    users.version = 1
    await cache.invalidate_tags("user:a")
    assert await users.many([*"ab"]) == of("a", 1) | of("b")
    await until(lambda: not cache.loading_in_background)
    assert await users.many([*"ab"]) == of("ab", 1)
    assert users.loads[1:] in ([["a"], ["b"]], [["b"], ["a"]])


async def test_a_stale_value_whose_tag_is_gone_stands_in_for_no_load_that_fails(cache: Cache) -> None:
    users = Users(cache, stale_if_error=3600)
    await users.many([*"a"])
    raw, _ = await raw_at(cache, "u:a")
    entry = parse(raw or b"", tagged=True)
    assert entry is not None
    await put(cache, "u:a", ["a", 0], left=-1, tags=entry.tags)
    users.error = ConnectionError("down")
    assert await users.many(["a"]) == of("a")
    await cache.invalidate_tags("user:a")
    with pytest.raises(ConnectionError):
        await users.many(["a"])


async def test_a_value_that_was_expired_by_hand_is_stale_for_a_batch_with_tags(cache: Cache) -> None:
    users = Users(cache, stale_if_error=3600)
    await users.many([*"ab"])
    raw, _ = await raw_at(cache, "u:a")
    assert raw is not None
    await cache._store.set("u:a", PATIENCE, raw + EXPIRED, ttl_ms=3_660_000)
    users.version = 1
    assert await users.many([*"ab"]) == of("a", 1) | of("b")


async def test_near_values_of_a_batch_hang_on_their_tags(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, near=100, timeout=5) as cache, Cache(redis_server.url, timeout=5) as elsewhere:
        users = Users(cache, absent_ttl=60)
        users.unknown = {"x"}
        events = watch(cache)
        near: set[str] = set()

        async def look() -> None:
            del events[:]
            assert {*await users.many([*"abx"])} == {*"ab"}
            near.clear()
            near.update(event.key for event in events if isinstance(event, Hit) and event.near)

        await until(lambda: near == {"u:a", "u:b"}, look)
        users.version = 1
        await cache.invalidate_tags("user:a")
        assert await users.many([*"ab"]) == of("a", 1) | of("b")
        await until(lambda: near == {"u:a", "u:b"}, look)
        users.version = 2
        await elsewhere.invalidate_tags("users")
        found: dict[str, Any] = {}

        async def read() -> None:
            found.update(await users.many([*"ab"]))

        await until(lambda: found == of("ab", 2), read)


async def test_hits_of_a_batch_are_kept_near(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, near=100, timeout=5) as cache, Cache(redis_server.url, timeout=5) as elsewhere:
        await Users(elsewhere).many([*"ab"])
        users = Users(cache)
        events = watch(cache)

        async def look() -> None:
            assert await users.many([*"ab"]) == of("ab")

        await until(
            lambda: {event.key for event in events if isinstance(event, Hit) and event.near} == {"u:a", "u:b"}, look
        )
        assert users.loads == []


async def test_a_written_value_that_is_near_hangs_on_its_tags(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, near=100, timeout=5) as cache, Cache(redis_server.url, timeout=5) as elsewhere:
        users = Users(cache)
        async with users.one.writing("a") as put_one:
            put_one(["a", 7])
        events = watch(cache)

        async def look() -> None:
            del events[:]
            assert await users.one("a") == ["a", 7]

        await until(lambda: Hit("u:a", "", near=True) in bare(events), look)
        await elsewhere.invalidate_tags("user:a")
        found: list[Any] = []

        async def read() -> None:
            found[:] = await users.one("a")

        await until(lambda: found == ["a", 0], read)


async def test_a_private_batch_has_tags_and_absences_as_any_other(store_url: str) -> None:
    async with Cache(store_url, timeout=5, keys=[new_key()]) as cache:
        users = Users(cache, private=True, absent_ttl=60)
        users.unknown = {"x"}
        for _ in range(2):
            assert await users.many([*"ax"]) == of("a")
        assert users.loads == [[*"ax"]]
        users.unknown = set()
        await cache.invalidate_tags("users")
        assert await users.many([*"ax"]) == of("ax")


# --- tags of the result -------------------------------------------------------------------------------


async def test_tags_of_the_result_are_taught_by_the_first_load_of_each_id(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        first, second = (Users(cache, tags=["version:<return[1]>"], absent_ttl=60) for cache in (here, elsewhere))
        first.unknown = {"x"}
        for _ in range(3):
            assert await first.many([*"abx"]) == of("ab")
        assert first.loads == [[*"abx"], [*"abx"], ["x"]], "no absence is remembered: nobody knows its tags"
        assert await second.many([*"ab"]) == of("ab")
        assert second.loads == [], "another process learns the names from the values"
        events = watch(elsewhere)
        assert await second.many([*"ab"]) == of("ab")
        assert hits(events) == {"u:a", "u:b"}
        first.version = second.version = 1
        await here.invalidate_tags("version:0")
        assert await second.many(["a"]) == of("a", 1)
        assert await first.many([*"ab"]) == of("ab", 1)


async def test_the_names_of_tags_are_learned_once(redis_server: RedisServer, writes: list[str]) -> None:
    async with Cache(redis_server.url, timeout=5) as here, Cache(redis_server.url, timeout=5) as elsewhere:
        first, second = (Users(cache, tags=["version:<return[1]>"]) for cache in (here, elsewhere))
        for _ in range(2):
            await first.many([*"abcd"])
        trips = []
        for _ in range(2):
            del writes[:]
            assert await second.many([*"abcd"]) == of("abcd")
            trips.append(len(writes))
        assert trips == [2, 1]


@pytest.mark.parametrize("many", [False, True])
async def test_a_load_that_had_begun_is_not_joined_whose_result_may_have_other_tags(
    cache: Cache, *, many: bool
) -> None:
    users = Users(cache, tags=["version:<return[1]>"])

    async def call() -> Any:
        return await (users.many(["a"]) if many else users.one("a"))

    for _ in range(2):
        await users.many(["a"])
    await users.one.invalidate("a")
    users.version = 8
    users.open.clear()
    users.began.clear()
    # The tag that it opens is that of the last result, and the result will have another.
    before = asyncio.create_task(call())
    await users.began.wait()
    await cache.invalidate_tags("version:8")
    users.version = 9
    events = watch(cache)
    behind = asyncio.create_task(call())
    await until(lambda: any(isinstance(event, Missed) for event in events))
    await turns()
    users.open.set()
    assert await before == (of("a", 8) if many else ["a", 8])
    assert await behind == (of("a", 9) if many else ["a", 9])


async def test_a_value_with_a_tag_of_its_result_is_not_kept_near(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, near=100, timeout=5) as cache:
        users, other = Users(cache, tags=["version:<return[1]>"]), cache.cached(key="other", ttl=60)(_nothing)
        events = watch(cache)
        await until(lambda: Hit("other", "", near=True) in bare(events), other)
        for _ in range(4):
            assert await users.many(["a"]) == of("a")
        assert Hit("u:a", "") in bare(events)
        assert Hit("u:a", "", near=True) not in bare(events)


async def _nothing() -> int:
    return 0


# --- decoration ---------------------------------------------------------------------------------------


def test_a_batch_that_lacks_a_parameter_of_a_tag_is_refused() -> None:
    cache = Cache("memory://")

    @cache.cached(key="k:<x>", ttl=60, tags=["team:<team>"])
    async def one(x: int, team: int) -> int: ...

    with pytest.raises(DecorationError, match="but team; give it parameters"):

        @one.many(each="xs")
        async def some(xs: list[int]) -> dict[int, int]: ...

    with pytest.raises(DecorationError, match="xs"):

        @cache.cached_many(key="k:<x>", each="xs", ttl=60, tags=["t:<xs>"])
        async def alone(xs: list[int]) -> dict[int, int]: ...


async def test_invalidate_all_of_a_batch_needs_a_tag_of_the_function() -> None:
    cache = Cache("memory://")

    @cache.cached_many(key="k:<x>", each="xs", ttl=60, tags=["t"])
    async def some(xs: list[int]) -> dict[int, int]: ...

    with pytest.raises(ConfigurationError, match=r"@cached_many\(…, tags=True\)"):
        await some.invalidate_all()


# --- round trips --------------------------------------------------------------------------------------


async def test_a_batch_takes_one_round_trip_for_hits_and_three_for_misses_and_reads_each_tag_once(
    redis_server: RedisServer, writes: list[str]
) -> None:
    async with Cache(redis_server.url, timeout=5) as cache:
        users = Users(cache)
        await users.many(["a"])
        ids = [f"u{n}" for n in range(100)]
        del writes[:]
        await users.many(ids)
        assert len(writes) == 3, "read, leases and tags, fills"
        del writes[:]
        redis_server.cli("CONFIG", "RESETSTAT")
        await users.many(ids)
        assert len(writes) == 1
        info = redis_server.cli("INFO", "all")
        assert info["cmdstat_mget"]["calls"] == 1
        assert info["keyspace_hits"] == 201, "100 values, 100 tags of their own, and one that all share"
        del writes[:]
        await users.many([*ids[:95], "new", "newer"])
        assert len(writes) == 3
    assert users.loads[1:] == [ids, ["new", "newer"]]


async def test_a_batch_in_a_cluster_is_one_write_to_each_node_at_each_step(
    shared_cluster: RedisCluster, writes: list[str]
) -> None:
    shared_cluster.reset()
    async with Cache(shared_cluster.url, timeout=5) as cache:
        users = Users(cache)
        ids = [f"u{n}" for n in range(60)]
        # The slots are known, every node has a connection, and the scripts.
        await users.many([f"first {n}" for n in range(60)])
        del writes[:]
        await users.many(ids)
        nodes = {*writes}
        assert len(nodes) == 3
        assert sorted(writes) == sorted([*nodes] * 3)
        del writes[:]
        await users.many(ids)
        assert sorted(writes) == sorted(nodes)


async def test_what_is_read_with_the_lease_of_a_load_that_had_begun_is_the_value_and_its_tags(cache: Cache) -> None:
    users = Users(cache)
    users.open.clear()
    first = asyncio.create_task(users.many(["a"]))
    await users.began.wait()
    found = await cache._store.get_tagged("u:a", PATIENCE, [tag_key("users")], Want.HOLDER)  # type: ignore[attr-defined]
    assert found.value is None
    assert found.holder is not None
    users.open.set()
    await first


async def test_a_function_without_stale_windows_takes_no_stale_value_of_one_that_has_them() -> None:
    clock = FakeClock()
    cache = memory_cache(clock=clock)
    stale, plain = Users(cache, stale_if_error=3600), Users(cache)
    await stale.many(["a"])
    clock.advance(61)
    assert await cache.get_many(["u:a"]) == {}
    plain.version = 1
    assert await plain.many(["a"]) == of("a", 1)
    await cache.aclose()


async def test_a_function_without_stale_windows_takes_a_fresh_value_of_one_that_has_them() -> None:
    cache = memory_cache()
    stale, plain = Users(cache, stale_if_error=3600), Users(cache)
    await stale.many(["a"])
    plain.version = 1
    assert await plain.many([*"ab"]) == of("a") | of("b", 1)
    assert plain.loads == [["b"]]
    await cache.aclose()
