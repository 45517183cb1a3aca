"""Batches: many ids, one read, one load of those that miss, shared with calls for one id, and no circle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
import pytest_asyncio

from cachekit import MISS, Cache, CachedFunction, CachedManyFunction, new_key
from cachekit.errors import ConfigurationError, DecorationError, RoundTripError
from cachekit.events import (
    Filled,
    Hit,
    Invalidated,
    LoadBegan,
    Loaded,
    Missed,
    ServedStale,
    StoreFailed,
    Uncached,
)
from cachekit.stores.memory import MemoryStore
from cachekit.testing import FailingStore, FakeClock
from tests.kit.cluster import RedisCluster
from tests.kit.servers import RedisServer
from tests.kit.sizes import sized
from tests.kit.stale import PATIENCE, raw_at, turns, two_caches, watch
from tests.kit.telling import bare
from tests.kit.waiting import until


@pytest_asyncio.fixture
async def cache(store_url: str) -> AsyncIterator[Cache]:
    async with Cache(store_url, timeout=5) as cache:
        yield cache
        await until(lambda: not cache.loading_in_background)
        assert not cache.runtime.flights.open_loops, "a flight was left open"


class Users:
    """A cached function for one user and one for many, which note the ids that they load, and can be slow or down."""

    def __init__(self, cache: Cache, *, max_batch: int = 500, absent_ttl: str | None = None, **options: Any) -> None:
        self.loads: list[Any] = []
        self.open = asyncio.Event()
        self.open.set()
        self.began = asyncio.Event()
        self.error: Exception | None = None
        self.version = 0
        self.unknown: set[str] = set()

        async def user(user_id: str) -> list[Any]:
            await self._load(user_id)
            return [user_id, self.version]

        async def users(user_ids: Sequence[str]) -> dict[str, list[Any]]:
            version = self.version
            await self._load([*user_ids])
            return {user_id: [user_id, version] for user_id in user_ids if user_id not in self.unknown}

        decorate = cache.cached(key="user:<user_id>", **{"ttl": 60, **options})
        self.one: CachedFunction[[str], list[Any]] = decorate(user)
        self.many: CachedManyFunction[[Sequence[str]], str, list[Any]] = self.one.many(
            max_batch=max_batch, absent_ttl=absent_ttl
        )(users)

    async def _load(self, what: object) -> None:
        self.loads.append(what)
        self.began.set()
        await self.open.wait()
        if self.error is not None:
            raise self.error


async def until_given_back(cache: Cache, key: str) -> None:
    """Wait until the lease of ``key`` is given back, which nobody else waits for."""
    held: list[bytes | None] = [b"unknown"]

    async def look() -> None:
        held[0] = (await raw_at(cache, key))[1]

    await until(lambda: held[0] is None, look)


def of(ids: str, version: int = 0) -> dict[str, list[Any]]:
    return {one: [one, version] for one in ids}


# --- what a user expects ------------------------------------------------------------------------------


async def test_the_ids_that_miss_are_loaded_in_one_call_and_the_others_are_hits(cache: Cache) -> None:
    users = Users(cache)
    assert await users.many(["a", "b"]) == of("ab")
    assert await users.many(["b", "c", "d"]) == of("bcd")
    assert await users.many(["d", "a"]) == of("da")
    assert users.loads == [["a", "b"], ["c", "d"]]


async def test_a_batch_and_calls_for_one_id_share_results(cache: Cache) -> None:
    users = Users(cache)
    await users.one("a")
    assert await users.many(["a", "b"]) == of("ab")
    assert await users.one("b") == ["b", 0]
    assert users.loads == ["a", ["b"]]


async def test_the_result_has_the_order_of_the_ids_that_were_asked_for_each_once(cache: Cache) -> None:
    users = Users(cache)
    await users.many(["b"])
    assert [*await users.many(["c", "b", "a", "b", "c"])] == ["c", "b", "a"]
    assert users.loads[1] == ["c", "a"]


@pytest.mark.parametrize("make", [iter, tuple, set, lambda ids: (one for one in ids), dict.fromkeys])
async def test_the_ids_may_be_anything_to_iterate_over(cache: Cache, make: Callable[[list[str]], Any]) -> None:
    users = Users(cache)
    assert await users.many(make(["a", "b"])) == of("ab")
    assert sorted(users.loads[0]) == ["a", "b"]


async def test_no_ids_are_no_load_and_no_question_to_the_store(cache: Cache) -> None:
    users, events = Users(cache), watch(cache)
    assert await users.many([]) == {}
    assert (users.loads, events) == ([], [])


async def test_more_ids_than_max_batch_are_loaded_in_several_calls(cache: Cache) -> None:
    users = Users(cache, max_batch=3)
    await users.many(["c"])
    assert await users.many("abcdefgh".replace("", " ").split()) == of("abcdefgh")
    assert users.loads[1:] == [["a", "b", "d"], ["e", "f", "g"], ["h"]]


async def test_ids_that_the_function_leaves_out_are_absent_and_asked_for_again(cache: Cache) -> None:
    users = Users(cache)
    users.unknown = {"x"}
    assert await users.many(["a", "x"]) == of("a")
    users.unknown = set()
    assert await users.many(["a", "x"]) == of("ax")
    assert users.loads == [["a", "x"], ["x"]]
    await until_given_back(cache, "user:x")


async def test_an_absence_is_remembered_for_absent_ttl_by_batches_alone(cache: Cache) -> None:
    users = Users(cache, absent_ttl="1m")
    users.unknown = {"x"}
    assert await users.many(["a", "x"]) == of("a")
    assert await raw_at(cache, "user:x") == (b'null\n{"A":1}', None)
    assert await users.many(["x", "a"]) == of("a")
    assert users.loads == [["a", "x"]]
    assert await users.one.peek("x") is MISS
    assert await users.one("x") == ["x", 0], "a function for one id says for itself that there is none"
    assert await users.many(["x"]) == of("x")


async def test_a_remembered_absence_ends_with_its_ttl_and_with_an_invalidation() -> None:
    clock = FakeClock()
    cache = Cache(MemoryStore(clock=clock), clock=clock)
    users = Users(cache, absent_ttl="1m")
    users.unknown = {"x", "y"}
    assert await users.many(["x", "y"]) == {}
    users.unknown = set()
    assert await users.many.invalidate(["y"])
    assert await users.many(["x", "y"]) == of("y")
    clock.advance(61)
    assert await users.many(["x", "y"]) == of("xy")


async def test_ids_that_nobody_has_asked_for_are_dropped_with_one_warning(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    events = watch(cache)

    @cache.cached_many(key="k:<x>", each="xs", ttl=60)
    async def load(xs: list[int]) -> dict[int, int]:
        return {x: x for x in [*xs, 100, 101]}

    assert await load([1]) == {1: 1}
    assert await load([2]) == {2: 2}
    assert await raw_at(cache, "k:100") == (None, None)
    [record] = [one for one in caplog.records if "not asked for" in one.getMessage()]
    assert record.levelname == "WARNING"
    assert [event.reason for event in events if isinstance(event, Uncached)] == ["ids", "ids"]


async def test_an_id_that_has_no_key_is_loaded_with_the_others_and_not_stored(cache: Cache) -> None:
    loads: list[list[object]] = []
    odd = object()

    @cache.cached_many(key="k:<x>", each="xs", ttl=60)
    async def load(xs: list[object]) -> dict[object, int]:
        loads.append([*xs])
        return dict.fromkeys(xs, 1)

    assert await load(["a", odd]) == {"a": 1, odd: 1}
    assert await load(["a", odd]) == {"a": 1, odd: 1}
    assert loads == [["a", odd], [odd]]


async def test_other_parameters_are_part_of_the_key_and_have_their_defaults(cache: Cache) -> None:
    loads: list[Any] = []

    @cache.cached(key="price:<shop>:<sku>:<currency>", ttl=60)
    async def price(sku: str, shop: int, *, currency: str = "EUR", session: object = None) -> str:
        raise AssertionError(session)

    @price.many()
    async def prices(session: object, skus: list[str], shop: int, currency: str = "EUR") -> dict[str, str]:
        loads.append((session, skus, shop, currency))
        return {sku: f"{sku} {shop} {currency}" for sku in skus}

    assert prices.keys("session", ["tea"], 7) == ["price:7:tea:EUR"] == [price.key("tea", 7)]
    assert await prices("session", ["tea"], shop=7) == {"tea": "tea 7 EUR"}
    assert await prices("session", ["tea", "cake"], 7, "USD") == {"tea": "tea 7 USD", "cake": "cake 7 USD"}
    assert await price("tea", 7) == "tea 7 EUR"
    assert [one[1:] for one in loads] == [(["tea"], 7, "EUR"), (["tea", "cake"], 7, "USD")]


async def test_ids_with_one_key_are_one_load_and_each_has_its_result(cache: Cache) -> None:
    loads: list[list[Any]] = []

    @cache.cached_many(key="k:<x>", each="xs", ttl=60)
    async def load(xs: list[Any]) -> dict[Any, str]:
        loads.append(xs)
        return {x: f"<{x}>" for x in xs}

    assert await load([1, "1"]) == {1: "<1>", "1": "<1>"}
    assert loads == [[1]]


async def test_methods_and_classmethods_load_many(cache: Cache) -> None:
    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        @cache.cached(key="price:<self.name>:<sku>", ttl=60)
        async def price(self, sku: str) -> str:
            return f"{self.name} {sku}"

        @price.many()
        async def prices(self, skus: list[str]) -> dict[str, str]:
            return {sku: f"{self.name} {sku} of many" for sku in skus}

        @cache.cached_many(key="tax:<sku>", each="skus", ttl=60)
        @classmethod
        async def taxes(cls, skus: list[str]) -> dict[str, str]:
            return dict.fromkeys(skus, cls.__name__)

    shop = Shop("A")
    assert await shop.price("tea") == "A tea"
    assert await shop.prices(["tea", "cake"]) == {"tea": "A tea", "cake": "A cake of many"}
    assert await Shop("B").prices(["tea"]) == {"tea": "B tea of many"}
    assert await Shop.taxes(["tea"]) == await shop.taxes(["tea"]) == {"tea": "Shop"}


async def test_a_batch_of_a_class_is_called_by_its_class_too(cache: Cache) -> None:
    class Shop:
        @cache.cached_many(key="price:<sku>", each="skus", ttl=60)
        async def prices(self, skus: list[str]) -> dict[str, str]:
            return dict.fromkeys(skus, type(self).__name__)

        @cache.cached_many(key="tax:<sku>", each="skus", ttl=60)
        @staticmethod
        async def taxes(skus: list[str]) -> dict[str, str]:
            return dict.fromkeys(skus, "static")

    assert await Shop.prices(Shop(), ["tea"]) == await Shop().prices(["tea"]) == {"tea": "Shop"}
    assert await Shop.taxes(["tea"]) == await Shop().taxes(["tea"]) == {"tea": "static"}


async def test_ids_after_a_star_are_given_so(cache: Cache) -> None:
    @cache.cached_many(key="k:<x>", each="xs", ttl=60)
    async def load(*xs: int) -> dict[int, int]:
        return {x: x for x in xs}

    assert await load(1, 2) == {1: 1, 2: 2}


async def test_each_caller_may_change_what_it_got(cache: Cache) -> None:
    users = Users(cache)
    first = await users.many(["a"])
    first["a"].append("changed")
    assert await users.many(["a"]) == of("a")


@pytest.mark.parametrize("ids", ["abc", b"abc"])
async def test_one_text_is_no_list_of_ids(cache: Cache, ids: Any) -> None:
    with pytest.raises(TypeError, match="many ids"):
        await Users(cache).many(ids)


async def test_arguments_that_do_not_fit_are_an_error_of_the_function(cache: Cache) -> None:
    users: Any = Users(cache).many
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        users(["a"], wrong=1)


async def test_a_result_that_is_no_mapping_is_an_error(cache: Cache) -> None:
    @cache.cached_many(key="k:<x>", each="xs", ttl=60)
    async def load(xs: list[int]) -> dict[int, int]:
        return xs  # type: ignore[return-value]

    with pytest.raises(TypeError, match="returns a mapping"):
        await load([1])
    await until_given_back(cache, "k:1")


async def test_observers_hear_of_each_key(cache: Cache) -> None:
    users = Users(cache)
    await users.many(["a"])
    events = watch(cache)
    await users.many(["a", "b"])
    await users.many.invalidate(["a", "b"])
    a, b = "user:a", "user:b"
    assert bare(events) == [
        Hit(a, ""),
        Missed(b, ""),
        LoadBegan((b,), ""),
        Loaded(b, "", 0.0),
        Filled(b, "", 60),
        Invalidated((a, b), acknowledged=True),
    ]


async def test_many_calls_are_invalidated_by_their_ids_or_by_tuples(cache: Cache) -> None:
    users = Users(cache)
    await users.many(["a", "b", "c"])
    assert await users.one.invalidate_many(["a", ("b",)])
    assert [await users.one.peek(one) for one in "abc"] == [MISS, MISS, ["c", 0]]
    with pytest.raises(TypeError):
        await users.one.invalidate_many([("a", "b")])


async def test_a_result_that_when_refuses_is_returned_and_not_stored(cache: Cache) -> None:
    users = Users(cache, when=lambda result: result[0] != "x")
    assert await users.many(["a", "x"]) == of("ax")
    await until_given_back(cache, "user:x")
    assert await raw_at(cache, "user:x") == (None, None)
    assert await users.one.peek("a") == ["a", 0]


async def test_a_result_without_round_trip_fails_alone_where_that_is_an_error(cache: Cache) -> None:
    @cache.cached_many(key="k:<x>", each="xs", ttl=60, strict=True)
    async def load(xs: list[int]) -> dict[int, list[int]]:
        return {x: [x] if x else (0,) for x in xs}  # type: ignore[misc]

    with pytest.raises(RoundTripError):
        await load([0, 1])
    await until_given_back(cache, "k:0")
    assert await raw_at(cache, "k:0") == (None, None)
    assert (await raw_at(cache, "k:1"))[0] == b"[1]"


# --- sharing loads ------------------------------------------------------------------------------------


async def test_a_batch_joins_the_load_of_a_single_call(cache: Cache) -> None:
    users = Users(cache)
    users.open.clear()
    single = asyncio.create_task(users.one("a"))
    await users.began.wait()
    batch = asyncio.create_task(users.many(["a", "b"]))
    await until(lambda: len(users.loads) == 2)
    users.open.set()
    assert await asyncio.gather(single, batch) == [["a", 0], of("ab")]
    assert users.loads == ["a", ["b"]]


async def test_a_single_call_joins_the_load_of_a_batch(cache: Cache) -> None:
    users = Users(cache)
    users.open.clear()
    batch = asyncio.create_task(users.many(["a", "b"]))
    await users.began.wait()
    singles = [asyncio.create_task(users.one(one)) for one in "ab"]
    await turns()
    users.open.set()
    assert await asyncio.gather(batch, *singles) == [of("ab"), ["a", 0], ["b", 0]]
    assert users.loads == [["a", "b"]]


@pytest.mark.parametrize("absent_ttl", [None, "1m"])
async def test_a_single_call_that_shared_a_load_of_a_batch_loads_what_that_leaves_out(
    cache: Cache, absent_ttl: str | None
) -> None:
    users = Users(cache, absent_ttl=absent_ttl)
    users.unknown = {"x"}
    users.open.clear()
    batch = asyncio.create_task(users.many(["x"]))
    await users.began.wait()
    single, other = asyncio.create_task(users.one("x")), asyncio.create_task(users.many(["x"]))
    await until(lambda: _waiters(cache, "user:x") == 2)
    users.open.set()
    assert await asyncio.gather(batch, single, other) == [{}, ["x", 0], {}]
    assert users.loads == [["x"], "x"], "another batch takes the absence for its answer"


def _waiters(cache: Cache, key: str) -> int:
    flight = cache.runtime.flights.find(key)
    return 0 if flight is None or flight._waiters is None else len(flight._waiters)


async def test_two_batches_that_overlap_in_any_order_share_their_loads(cache: Cache) -> None:
    users = Users(cache)
    users.open.clear()
    first = asyncio.create_task(users.many(["a", "b"]))
    await users.began.wait()
    second = asyncio.create_task(users.many(["c", "b", "a"]))
    await until(lambda: len(users.loads) == 2)
    users.open.set()
    assert await asyncio.gather(first, second) == [of("ab"), of("cba")]
    assert users.loads == [["a", "b"], ["c"]]


async def test_batches_of_two_processes_load_each_id_once(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        one, other = Users(here), Users(elsewhere)
        one.open.clear()
        first = asyncio.create_task(one.many(["a", "b"]))
        await one.began.wait()
        second = asyncio.create_task(other.many(["b", "a", "c"]))
        await other.began.wait()
        assert other.loads == [["c"]], "its own load does not wait for those of others"
        one.open.set()
        assert await asyncio.gather(first, second) == [of("ab"), of("bac")]
        assert other.loads == [["c"]]


async def test_a_batch_loads_what_another_process_has_given_up(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        one, other = Users(here), Users(elsewhere)
        one.open.clear()
        one.error = ConnectionError("down")
        first = asyncio.create_task(one.many(["a", "b"]))
        await one.began.wait()
        second = asyncio.create_task(other.many(["b", "a"]))
        await turns()
        one.open.set()
        with pytest.raises(ConnectionError):
            await first
        async with asyncio.timeout(PATIENCE):
            assert await second == of("ba")


async def test_random_batches_of_two_processes_never_wait_in_a_circle() -> None:
    """Each load ends after a few turns; overlapping batches of two processes in random order all return."""
    chance = random.Random(16)
    for round_ in range(sized(150, 4_000)):
        async with two_caches("memory://") as (here, elsewhere):
            every = [Users(here), Users(elsewhere)]
            calls = []
            for _ in range(chance.randint(2, 4)):
                users = chance.choice(every)
                ids = chance.sample("abcd", chance.randint(1, 4))
                calls.append(users.one(ids[0]) if chance.random() < 0.2 else users.many(ids))
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*calls)
            loads = sum(len(one) for users in every for one in users.loads)
            assert loads <= 4, f"round {round_}: an id was loaded twice"


async def test_a_batch_inside_the_load_of_another_does_not_wait_for_it(cache: Cache) -> None:
    @cache.cached_many(key="k:<x>", each="xs", ttl=60)
    async def load(xs: list[int]) -> dict[int, int]:
        # The function asks for its own ids, and for those of a batch that asks for these.
        inner = await load(xs) if len(depth) < 2 and not depth.append(1) else {}  # type: ignore[func-returns-value]
        return {x: inner.get(x, x) for x in xs}

    depth: list[int] = []
    async with asyncio.timeout(PATIENCE):
        assert await load([1, 2]) == {1: 1, 2: 2}


async def test_batches_whose_loads_need_each_other_do_not_wait_for_ever(cache: Cache) -> None:
    both = asyncio.Barrier(2)
    started: set[str] = set()

    @cache.cached_many(key="a:<x>", each="xs", ttl=60)
    async def a(xs: list[int]) -> dict[int, int]:
        if "a" not in started:
            started.add("a")
            await both.wait()
            await b(xs)
        return {x: x for x in xs}

    @cache.cached_many(key="b:<x>", each="xs", ttl=60)
    async def b(xs: list[int]) -> dict[int, int]:
        if "b" not in started:
            started.add("b")
            await both.wait()
            await a(xs)
        return {x: -x for x in xs}

    async with asyncio.timeout(PATIENCE):
        assert await asyncio.gather(a([1, 2]), b([2, 1])) == [{1: 1, 2: 2}, {2: -2, 1: -1}]


# --- invalidations ------------------------------------------------------------------------------------


async def test_an_invalidation_that_lands_during_a_load_wins_for_its_id_alone(cache: Cache) -> None:
    users = Users(cache)
    users.open.clear()
    batch = asyncio.create_task(users.many(["a", "b"]))
    await users.began.wait()
    users.version = 1
    await users.one.invalidate("a")
    late = asyncio.create_task(users.many(["a", "b"]))
    await until(lambda: len(users.loads) == 2)
    users.open.set()
    assert await batch == of("ab")
    assert await late == {"a": ["a", 1], "b": ["b", 0]}
    assert await users.one.peek("a") == ["a", 1]
    assert await users.one.peek("b") == ["b", 0]


async def test_an_invalidation_by_another_process_wins(store_url: str) -> None:
    async with two_caches(store_url) as (here, elsewhere):
        users, others = Users(here), Users(elsewhere)
        users.open.clear()
        batch = asyncio.create_task(users.many(["a", "b"]))
        await users.began.wait()
        users.version = 1
        assert await others.one.invalidate("b")
        late = asyncio.create_task(users.many(["b", "a"]))
        await until(lambda: len(users.loads) == 2)
        users.open.set()
        await batch
        assert await late == {"b": ["b", 1], "a": ["a", 0]}
        assert await users.one.peek("b") == ["b", 1]


async def test_inside_a_block_ids_that_are_to_be_invalidated_run_uncached(cache: Cache) -> None:
    users = Users(cache)
    await users.many(["a", "b"])
    users.version = 1
    async with cache.after_commit():
        await users.one.invalidate("a")
        assert await users.many(["b", "a"]) == {"b": ["b", 0], "a": ["a", 1]}
    assert users.loads == [["a", "b"], ["a"]]
    assert await users.one.peek("a") is MISS


# --- failures -----------------------------------------------------------------------------------------


async def test_a_load_that_fails_fails_for_those_who_needed_it(cache: Cache) -> None:
    users = Users(cache)
    await users.many(["a"])
    users.open.clear()
    users.error = ConnectionError("down")
    failing = asyncio.create_task(users.many(["a", "b"]))
    await users.began.wait()
    sharing = asyncio.create_task(users.one("b"))
    await until(lambda: _waiters(cache, "user:b") == 1)
    assert await users.many(["a"]) == of("a")
    users.open.set()
    for call in (failing, sharing):
        with pytest.raises(ConnectionError, match="down"):
            await call
    users.error = None
    assert await users.many(["a", "b"]) == of("ab"), "the lease was given back"


async def test_while_the_store_is_down_the_function_is_called_once_with_all_ids() -> None:
    store = FailingStore()
    cache = Cache(store)
    users = Users(cache)
    await users.many(["a"])
    store.fail()
    events = watch(cache)
    assert await users.many(["a", "b", "c"]) == of("abc")
    assert users.loads == [["a"], ["a", "b", "c"]]
    assert [event.operation for event in events if isinstance(event, StoreFailed)] == ["get"], "one failure, one event"
    store.recover()
    await cache.aclose()


async def test_callers_share_the_load_of_a_batch_while_the_store_is_down() -> None:
    store = FailingStore()
    cache = Cache(store)
    users = Users(cache)
    store.fail()
    users.open.clear()
    calls = [asyncio.create_task(users.many(ids)) for ids in (["a", "b"], ["b", "a"])]
    await users.began.wait()
    await turns()
    users.open.set()
    assert await asyncio.gather(*calls) == [of("ab"), of("ba")]
    assert users.loads[0] == ["a", "b"]
    store.recover()
    await cache.aclose()


async def test_a_batch_follows_a_load_of_which_the_store_cannot_tell_whether_it_was_invalidated() -> None:
    store = FailingStore()
    cache = Cache(store, timeout=PATIENCE)
    users = Users(cache)
    store.fail()
    users.open.clear()
    first = asyncio.create_task(users.many(["a", "b"]))
    await users.began.wait()
    second = asyncio.create_task(users.many(["b", "c"]))
    third = asyncio.create_task(users.many(["b"]))
    await until(lambda: len(users.loads) == 2)
    assert users.loads[1] == ["c"], "what nobody loads does not wait"
    users.version = 1
    users.open.set()
    assert await first == of("ab")
    assert (await second)["b"] == (await third)["b"] == ["b", 1], "the next load, which both share"
    assert users.loads[2:] == [["b"]]
    store.recover()
    await cache.aclose()


async def test_a_load_that_takes_too_long_ends_for_all_callers(cache: Cache) -> None:
    users = Users(cache, load_timeout=0.05)
    users.open.clear()
    batch = asyncio.create_task(users.many(["a", "b"]))
    await users.began.wait()
    single = asyncio.create_task(users.one("b"))
    for call in (batch, single):
        with pytest.raises(TimeoutError, match="load_timeout"):
            await call
    users.open.set()
    assert await users.many(["a", "b"]) == of("ab")


async def test_a_stale_value_stands_in_for_its_own_id(cache: Cache) -> None:
    users = Users(cache, ttl=0.02, stale_if_error=60)
    await users.many(["a", "b"])
    await asyncio.sleep(0.03)
    users.error = ConnectionError("down")
    assert await users.many(["b", "a"]) == of("ba")
    with pytest.raises(ConnectionError):
        await users.many(["a", "new"])
    users.error = None


async def test_stale_values_are_handed_out_and_replaced_by_one_load_in_the_background(cache: Cache) -> None:
    users = Users(cache, ttl=0.02, stale_while_revalidate=60, background=True)
    await users.many(["a", "b"])
    await asyncio.sleep(0.03)
    users.version = 1
    assert await users.many(["b", "a"]) == of("ba")
    await until(lambda: not cache.loading_in_background)
    assert users.loads == [["a", "b"], ["b", "a"]]
    await until(lambda: not cache.loading_in_background)
    assert (await raw_at(cache, "user:a"))[0].startswith(b'["a",1]')  # type: ignore[union-attr]


async def test_a_slow_load_of_a_batch_is_not_waited_for_longer_than_its_soft_timeout(cache: Cache) -> None:
    users = Users(cache, ttl=0.02, stale_if_error=60, soft_timeout=0.05, background=True)
    await users.many(["a"])
    await asyncio.sleep(0.03)
    users.open.clear()
    users.version = 1
    events = watch(cache)
    assert await users.many(["a"]) == of("a")
    assert [event.why for event in events if isinstance(event, ServedStale)] == ["slow"]
    assert cache.loading_in_background == 1
    users.open.set()
    await until(lambda: not cache.loading_in_background)
    assert users.loads == [["a"], ["a"]]


# --- cancellation -------------------------------------------------------------------------------------


async def test_when_a_batch_is_cancelled_each_waiting_call_goes_on_with_its_own_load(cache: Cache) -> None:
    users = Users(cache)
    users.open.clear()
    batch = asyncio.create_task(users.many(["a", "b", "c"]))
    await users.began.wait()
    single, other = asyncio.create_task(users.one("a")), asyncio.create_task(users.many(["b", "a"]))
    await until(lambda: _waiters(cache, "user:a") == 2 and _waiters(cache, "user:b") == 1)
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    users.open.set()
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.gather(single, other) == [["a", 0], of("ba")]
    assert await users.many(["c"]) == of("c"), "the lease of an id that nobody waited for was given back"


async def test_when_a_single_call_is_cancelled_the_batch_that_shared_its_load_goes_on(cache: Cache) -> None:
    users = Users(cache)
    users.open.clear()
    single = asyncio.create_task(users.one("a"))
    await users.began.wait()
    batch = asyncio.create_task(users.many(["a", "b"]))
    await until(lambda: _waiters(cache, "user:a") == 1 and len(users.loads) == 2)
    single.cancel()
    with pytest.raises(asyncio.CancelledError):
        await single
    users.open.set()
    async with asyncio.timeout(PATIENCE):
        assert await batch == of("ab")
    assert users.loads == ["a", ["b"], ["a"]]


async def test_random_cancellations_leave_every_other_caller_its_result(cache: Cache) -> None:
    chance = random.Random(7)
    for _ in range(sized(20, 400)):
        users = Users(cache)
        await users.many.invalidate([*"abcd"])
        users.open.clear()
        calls = [asyncio.create_task(users.many(chance.sample("abcd", chance.randint(1, 4)))) for _ in range(5)]
        calls += [asyncio.create_task(users.one(chance.choice("abcd"))) for _ in range(2)]
        for _ in range(chance.randint(0, 12)):
            await asyncio.sleep(0)
        cancelled = chance.sample(calls, 3)
        for call in cancelled:
            call.cancel()
        users.open.set()
        async with asyncio.timeout(PATIENCE):
            results = await asyncio.gather(*calls, return_exceptions=True)
        for call, result in zip(calls, results, strict=True):
            assert call in cancelled or not isinstance(result, BaseException), result


# --- decoration ---------------------------------------------------------------------------------------


def test_a_batch_that_cannot_be_told_from_its_parameters_is_refused() -> None:
    cache = Cache("memory://")

    @cache.cached(key="k:<x>", ttl=60)
    async def one(x: int) -> int: ...

    @cache.cached(key="k:<x>:<y>", ttl=60)
    async def two(x: int, y: int) -> int: ...

    with pytest.raises(DecorationError, match=r"write \.many\(each="):

        @one.many()
        async def two_lists(xs: list[int], ys: list[int]) -> dict[int, int]: ...

    with pytest.raises(DecorationError, match="names no parameter"):

        @one.many(each="ids")
        async def many(xs: list[int]) -> dict[int, int]: ...

    with pytest.raises(DecorationError, match=r"lacks x and y of the key of .*two, and may lack the id alone"):

        @two.many()
        async def without_y(xs: list[int]) -> dict[int, int]: ...

    with pytest.raises(DecorationError, match="so it is for one id; leave the parameter of the id out: xs has many"):

        @one.many()
        async def with_the_id_too(x: int, xs: list[int]) -> dict[int, int]: ...

    with pytest.raises(DecorationError, match=r"not an `async def`.* write @profile\.many\(\) with its parentheses"):
        one.many()(lambda xs: xs)  # type: ignore[call-overload]


async def test_one_text_in_place_of_many_is_refused_and_not_taken_for_its_letters(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    @cache.cached(key="<x>", ttl=60)
    async def one(x: str) -> str:
        return x

    await one("a")
    with pytest.raises(TypeError, match=r"one\.invalidate_many takes many ids, and one text is none"):
        await one.invalidate_many("abc")
    assert await cache.delete_many("abc") is False
    assert await cache.get_many("abc") == {}
    assert await one.peek("a") == "a"
    for name in ("delete_many", "get_many"):
        assert f"cache.{name} did nothing: it takes many keys, and one text is none; write [key]" in caplog.messages


@pytest.mark.parametrize("key", ["", "k:<xs>", "k", "k:<a>:<b>"])
def test_a_template_that_does_not_name_the_id_is_refused(key: str) -> None:
    with pytest.raises(DecorationError):

        @Cache("memory://").cached_many(key=key, each="xs", ttl=60)
        async def load(xs: list[int]) -> dict[int, int]: ...


def test_a_batch_function_returns_a_mapping() -> None:
    with pytest.raises(DecorationError, match="mapping"):

        @Cache("memory://").cached_many(key="k:<x>", each="xs", ttl=60)  # type: ignore[arg-type]
        async def load(xs: list[int]) -> list[int]: ...


@pytest.mark.parametrize("options", [{"max_batch": 0}, {"max_batch": "9"}, {"absent_ttl": "soon"}])
def test_options_that_make_no_sense_are_refused(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        Cache("memory://").cached_many(key="k:<x>", each="xs", ttl=60, **options)


def test_a_batch_in_the_background_needs_arguments_that_outlive_the_call() -> None:
    cache = Cache("memory://")

    @cache.cached(key="k:<x>", ttl=60, stale_while_revalidate=60)
    async def one(x: int) -> int: ...

    with pytest.raises(DecorationError, match="session"):

        @one.many(each="xs")
        async def many(xs: list[int], session: object) -> dict[int, int]: ...

    @one.many()
    async def plain(xs: list[int]) -> dict[int, int]: ...


# --- near, and private ----------------------------------------------------------------------------------


async def test_a_batch_finds_near_what_a_batch_or_a_call_has_brought_there(redis_server: RedisServer) -> None:
    async with Cache(redis_server.url, near=100, timeout=5) as cache:
        users = Users(cache, absent_ttl="1m")
        users.unknown = {"x"}
        events = watch(cache)

        async def near_hits() -> set[str]:
            del events[:]
            assert await users.many([*"abx"]) == of("ab")
            return {event.key for event in events if isinstance(event, Hit) and event.near}

        hits: set[str] = set()

        async def look() -> None:
            hits.clear()
            hits.update(await near_hits())

        await until(lambda: hits == {"user:a", "user:b"}, look)
        assert await users.one("a") == ["a", 0]
        users.version = 1
        await users.one.invalidate("a")
        assert await users.many(["a", "b"]) == {"a": ["a", 1], "b": ["b", 0]}


async def test_the_values_of_a_private_batch_and_its_absences_stand_sealed(store_url: str) -> None:
    loads: list[list[int]] = []
    async with Cache(store_url, timeout=5, keys=[new_key()]) as cache:

        @cache.cached_many(key="k:<x>", each="xs", ttl=60, absent_ttl=60, private=True)
        async def secret(xs: list[int]) -> dict[int, str]:
            loads.append([*xs])
            return {x: "a secret" for x in xs if x}

        for _ in range(2):
            assert await secret([0, 1]) == {1: "a secret"}
        assert loads == [[0, 1]]
        for key in ("k:0", "k:1"):
            raw, _ = await raw_at(cache, key)
            assert raw is not None
            assert b"secret" not in raw
            assert b"null" not in raw


# --- round trips --------------------------------------------------------------------------------------


async def test_a_batch_takes_one_round_trip_for_hits_and_three_for_misses(
    redis_server: RedisServer, writes: list[str]
) -> None:
    async with Cache(redis_server.url, timeout=5) as cache:
        users = Users(cache)
        await users.many(["a"])
        ids = [f"u{n}" for n in range(100)]
        del writes[:]
        await users.many(ids)
        assert len(writes) == 3, "read, leases, fills"
        del writes[:]
        redis_server.cli("CONFIG", "RESETSTAT")
        await users.many(ids)
        assert len(writes) == 1
        stats = redis_server.cli("INFO", "commandstats")
        assert stats["cmdstat_mget"]["calls"] == 1
        del writes[:]
        await users.many([*ids[:95], "new", "newer"])
        assert len(writes) == 3
        del writes[:]
        assert await users.many.invalidate(ids)
        assert len(writes) == 1
        del writes[:]
        assert await cache.set_many({f"k{n}": n for n in range(50)}, ttl=60)
        assert len(writes) == 2
        del writes[:]
        assert len(await cache.get_many(f"k{n}" for n in range(50))) == 50
        assert len(writes) == 1
    assert users.loads[1:] == [ids, ["new", "newer"]]


async def test_a_batch_in_a_cluster_is_one_write_to_each_node_at_each_step(
    shared_cluster: RedisCluster, writes: list[str]
) -> None:
    shared_cluster.reset()
    async with Cache(shared_cluster.url, timeout=5) as cache:
        users = Users(cache)
        ids = [f"u{n}" for n in range(60)]
        # The slots are known, and every node has a connection.
        await users.many([f"first {n}" for n in range(60)])
        del writes[:]
        await users.many(ids)
        nodes = {*writes}
        assert len(nodes) == 3
        assert sorted(writes) == sorted([*nodes] * 3)
        # A call for one id leaves its lane idle: the next operation there is not sent before the others of its batch.
        for one in ids:
            await users.one(one)
        del writes[:]
        await users.many(ids)
        assert sorted(writes) == sorted(nodes)
