"""The contract of a store, run unchanged on memory and on each server of the run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import orjson
import pytest
import pytest_asyncio

from cachekit import RollingWindow
from cachekit._tiers.leases import Seen
from cachekit.cache import Cache
from cachekit.clock import SystemClock
from cachekit.entry import lease_key, stamped, timestamp
from cachekit.errors import ConfigurationError, KeyRefusedError, StoreError
from cachekit.stores import MemoryStore, RedisStore, Store
from cachekit.stores.base import ManyStore, TimedStore
from cachekit.stores.connect import open_store
from cachekit.stores.scripts import (
    GONE,
    NO_VALUE,
    AcquireLease,
    AcquireStaleLease,
    Copy,
    Expire,
    Fill,
    Lease,
    Paused,
    PauseLease,
    Push,
    RenewLease,
    Touch,
)
from cachekit.stores.single import OneByOne
from cachekit.testing import FailingStore, FakeClock
from tests.kit.servers import RedisServer
from tests.kit.waiting import until
from tests.kit.windows import generation, lay, push, texts, time_of, until_empty

MINUTE = 60_000
T = 5.0  # seconds that a verb may take: a noisy machine is no failure


@pytest_asyncio.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    store = open_store(store_url, clock=SystemClock())
    yield store
    await store.aclose()


def test_every_store_keeps_the_protocol() -> None:
    assert isinstance(MemoryStore(), Store)
    assert isinstance(FailingStore(), Store)
    assert isinstance(open_store("redis://localhost:1", clock=SystemClock()), RedisStore)


async def test_a_key_that_was_never_set_has_no_value(store: Store) -> None:
    assert await store.get("k", T) is None
    assert await store.get_and_delete("k", T) is None
    window = await store.window("k", T, 10)
    assert (window.items, window.generation) == ([], None)


@pytest.mark.parametrize("value", [b"", b"null", b'"\xc3\xa9"', b"\r\n+OK\r\n", bytes(range(256)), b"x" * 1_000_000])
async def test_bytes_come_back_as_they_were(store: Store, value: bytes) -> None:
    await store.set("k", T, value, ttl_ms=MINUTE)
    assert await store.get("k", T) == value


async def test_a_later_value_takes_the_place_of_an_earlier_one(store: Store) -> None:
    await store.set("k", T, b"1", ttl_ms=MINUTE)
    await store.set("k", T, b"2", ttl_ms=MINUTE)
    assert await store.get("k", T) == b"2"


async def test_a_value_is_gone_after_its_ttl(store: Store) -> None:
    await store.set("k", T, b"1", ttl_ms=20)
    async with asyncio.timeout(T):
        while await store.get("k", T) is not None:
            await asyncio.sleep(0.005)


async def test_deleted_keys_are_gone_and_others_stay(store: Store) -> None:
    for key in "abc":
        await store.set(key, T, b"1", ttl_ms=MINUTE)
    await store.delete(["a", "b", "never set"], T)
    assert [await store.get(key, T) for key in "abc"] == [None, None, b"1"]


async def test_exactly_one_of_many_takers_gets_the_value(store: Store) -> None:
    await store.set("k", T, b"1", ttl_ms=MINUTE)
    taken = await asyncio.gather(*[store.get_and_delete("k", T) for _ in range(50)])
    assert sorted(taken, key=bool) == [None] * 49 + [b"1"]
    assert await store.get("k", T) is None


async def test_a_window_returns_the_newest_first_and_no_more_than_asked_for(store: Store) -> None:
    for text in "abc":
        await push(store, "w", text)
    assert await texts(store, "w") == ["c", "b", "a"]
    assert await texts(store, "w", 2) == ["c", "b"]


async def test_a_window_never_exceeds_its_limit(store: Store) -> None:
    await asyncio.gather(*[push(store, "w", str(n), limit=3) for n in range(30)])
    assert len(await texts(store, "w")) == 3


def item(text: str, moment: float) -> bytes:
    return stamped(orjson.dumps({"text": text}), timestamp(moment))


async def test_a_push_stamps_its_item_by_the_clock_of_the_store(store: Store) -> None:
    before = timestamp(await time_of(store))
    await push(store, "w", "a")
    window = await store.window("w", T, 10)
    assert before <= orjson.loads(window.items[0])["timestamp"] <= timestamp(window.now)


async def test_a_push_drops_items_older_than_the_horizon(store: Store) -> None:
    now = await time_of(store)
    await lay(store, "w", item("old", now - 50), item("older still", now - 55), item("young", now - 1))
    await push(store, "w", "new", ttl_ms=10_000)
    assert await texts(store, "w") == ["new", "young"]


@pytest.mark.parametrize("days", [2, 20_000, 400 * 365])
async def test_items_ahead_of_the_clock_have_an_age_from_the_next_push_on(store: Store, days: int) -> None:
    now = await time_of(store)
    ahead = [item(text, now + days * 86_400) for text in ("b", "c")]
    await lay(store, "w", item("a", now - 50), *ahead)
    await push(store, "w", "new", ttl_ms=10_000)
    assert await texts(store, "w") == ["new", "c", "b"], "nothing behind them is kept too long"
    window = await store.window("w", T, 10)
    assert all(orjson.loads(found)["timestamp"] <= timestamp(window.now) for found in window.items)


@pytest.mark.parametrize("foreign", [b"garbage", b"[]", b'{"text":"x"}', b'{"timestamp":5}', b"\xff"])
async def test_an_item_without_a_timestamp_counts_as_older_than_all(store: Store, foreign: bytes) -> None:
    await lay(store, "w", foreign)
    await push(store, "w", "new")
    assert await texts(store, "w") == ["new"]


async def test_a_timestamp_inside_the_text_does_not_count(store: Store) -> None:
    young = '"timestamp":"2999-01-01T00:00:00.000000Z"}'
    await lay(store, "w", item(young, await time_of(store) - 100))
    await push(store, "w", "new", ttl_ms=10_000)
    assert await texts(store, "w") == ["new"]


async def test_an_item_that_another_writer_laid_out_differently_is_understood(store: Store) -> None:
    now = await time_of(store)
    for moment in (now - 100, now - 1):
        await lay(
            store, "w", orjson.dumps({"timestamp": timestamp(moment), "text": "theirs"}, option=orjson.OPT_INDENT_2)
        )
    # The older item is at the tail and is dropped. The younger one stays.
    await push(store, "w", "new", ttl_ms=10_000)
    assert await texts(store, "w") == ["new", "theirs"]


async def test_an_empty_object_gets_a_timestamp_as_well(store: Store) -> None:
    assert await store.run("w", T, Push(await generation(store, "w"), b"{}", 10, MINUTE))
    [found] = (await store.window("w", T, 1)).items
    assert [*orjson.loads(found)] == ["timestamp"]


async def test_a_window_as_a_whole_is_gone_after_its_ttl(store: Store) -> None:
    await push(store, "w", "a", ttl_ms=20)
    await until_empty(store, "w")
    assert (await store.window("w", T, 1)).generation is None


async def test_a_push_of_another_generation_is_not_carried_out(store: Store) -> None:
    earlier = await generation(store, "w")
    await push(store, "w", "a")
    assert await generation(store, "w") == earlier == (await store.window("w", T, 1)).generation
    await store.delete(["w"], T)
    late = Push(earlier, b'{"text":"late"}', 10, MINUTE)
    assert not await store.run("w", T, late)
    await push(store, "w", "b")
    assert not await store.run("w", T, late)
    assert await texts(store, "w") == ["b"]


async def test_opening_a_window_twice_by_the_same_command_gives_no_generation_twice(store: Store) -> None:
    """A packet that the network sends again, when the window was forgotten in between."""
    first = await generation(store, "w")
    await store.delete(["w"], T)
    assert await generation(store, "w") != first


@pytest.mark.parametrize("limit", [1, 10, 2**70])
async def test_a_limit_of_any_size_is_a_limit(store: Store, limit: int) -> None:
    for text in "abc":
        await push(store, "w", text, limit=limit)
    assert await texts(store, "w") == ["c", "b", "a"][:limit]


async def test_a_refused_push_changes_nothing(redis_server: RedisServer) -> None:
    """A value at the key keeps its TTL, a window that it cannot shorten or time keeps its items and its TTL."""
    store = open_store(redis_server.url, clock=SystemClock())
    await store.set("k", T, b"1", ttl_ms=MINUTE)
    redis_server.cli("PERSIST", "k")
    with pytest.raises(KeyRefusedError):
        await generation(store, "k")
    redis_server.cli("SET", lease_key("k"), "g")
    with pytest.raises(KeyRefusedError):
        await store.run("k", T, Push(b"g", b"{}", 10, MINUTE))
    assert redis_server.cli("TTL", "k") == redis_server.cli("TTL", lease_key("k")) == -1
    await push(store, "w", "a", ttl_ms=MINUTE)
    redis_server.cli("PERSIST", "w")
    with pytest.raises(StoreError):
        await store.run("w", T, Push(await generation(store, "w"), b"{}", 10, 2**70))
    assert await texts(store, "w") == ["a"]
    assert redis_server.cli("TTL", "w") == -1
    await store.aclose()


@pytest.mark.parametrize("forbidden", ["lpush", "ltrim", "pexpire", "llen", "lindex", "time", "set"])
async def test_a_push_of_which_the_acl_forbids_a_part_changes_nothing(
    redis_server: RedisServer, forbidden: str
) -> None:
    store = open_store(redis_server.url, clock=SystemClock())
    await push(store, "w", "a")
    again = Push(await generation(store, "w"), b"{}", 10, MINUTE)
    redis_server.cli("PERSIST", "w")
    await store.aclose()
    redis_server.cli("ACL", "SETUSER", "some", "on", ">secret", "~*", "+@all", f"-{forbidden}")
    url = redis_server.url.replace("redis://", "redis://some:secret@")
    theirs = open_store(url, clock=SystemClock())
    with pytest.raises(StoreError):
        await theirs.run("w", T, again)
    await theirs.aclose()
    store = open_store(redis_server.url, clock=SystemClock())
    assert await texts(store, "w") == ["a"]
    assert redis_server.cli("TTL", "w") == -1
    await store.aclose()
    redis_server.cli("ACL", "DELUSER", "some")


async def test_a_key_of_another_kind_is_refused_by_name(store: Store) -> None:
    await push(store, "w", "a")
    with pytest.raises(KeyRefusedError) as refusal:
        await store.get("w", T)
    assert refusal.value.cause == "WRONGTYPE"
    await store.set("k", T, b"1", ttl_ms=MINUTE)
    with pytest.raises(KeyRefusedError):
        await store.window("k", T, 1)
    with pytest.raises(KeyRefusedError):
        await push(store, "k", "a")


async def test_one_refused_key_fails_its_caller_alone(store: Store) -> None:
    await push(store, "w", "a")
    await store.set("k", T, b"1", ttl_ms=MINUTE)
    answers = await asyncio.gather(*[store.get(key, T) for key in ["k", "w", "k", "w", "k"]], return_exceptions=True)
    assert answers[::2] == [b"1"] * 3
    # Among reads that travelled together the key looks empty.
    assert all(answer is None or isinstance(answer, KeyRefusedError) for answer in answers[1::2])


async def test_a_thousand_concurrent_callers_each_get_their_own_answer(store: Store) -> None:
    await asyncio.gather(*[store.set(f"k{n}", T, b"%d" % n, ttl_ms=MINUTE) for n in range(1000)])
    answers = await asyncio.gather(*[store.get(f"k{n}", T) for n in range(1000)])
    assert answers == [b"%d" % n for n in range(1000)]


async def test_cancelled_callers_disturb_no_other(store: Store) -> None:
    for n in range(100):
        await store.set(f"k{n}", T, b"%d" % n, ttl_ms=MINUTE)
    callers = [asyncio.ensure_future(store.get(f"k{n}", T)) for n in range(100)]
    for turns, caller in enumerate(callers[::3]):
        await asyncio.sleep(0)
        if turns % 2:
            caller.cancel()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert all(answer == b"%d" % n or isinstance(answer, asyncio.CancelledError) for n, answer in enumerate(answers))
    # An answer for which nobody waits any more must not reach the next caller.
    assert [await store.get(f"k{n}", T) for n in range(100)] == [b"%d" % n for n in range(100)]


async def test_a_delete_is_carried_out_though_its_caller_was_cancelled(store: Store) -> None:
    await store.set("k", T, b"1", ttl_ms=MINUTE)
    caller = asyncio.ensure_future(store.delete(["k"], T))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    assert await store.get("k", T) is None


async def test_a_store_can_be_used_again_after_it_was_closed(store: Store) -> None:
    await store.set("k", T, b"1", ttl_ms=MINUTE)
    await store.aclose()
    await store.aclose()
    assert await store.get("k", T) == b"1"


def test_one_store_serves_one_event_loop_after_another(store_url: str) -> None:
    store = open_store(store_url, clock=SystemClock())

    async def use() -> bytes | None:
        await store.set("k", T, b"1", ttl_ms=MINUTE)
        return await store.get("k", T)

    assert [asyncio.run(use()) for _ in range(3)] == [b"1"] * 3


async def test_a_value_set_in_memory_expires_on_the_clock_and_not_before() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    await store.set("k", T, b"1", ttl_ms=10_000)
    clock.advance(9.999)
    assert await store.get("k", T) == b"1"
    clock.advance(0.001)
    assert await store.get("k", T) is None


async def test_memory_is_bounded_and_evicts_the_least_recently_used_key() -> None:
    store = MemoryStore(maxsize=2)
    for key in "ab":
        await store.set(key, T, b"1", ttl_ms=MINUTE)
    await store.get("a", T)
    await store.set("c", T, b"1", ttl_ms=MINUTE)
    assert len(store) == 2
    assert [await store.get(key, T) for key in "abc"] == [b"1", None, b"1"]


@pytest.mark.parametrize("maxsize", [0, -1, True, 1.5, "many"])
def test_a_memory_store_of_no_size_is_refused(maxsize: int) -> None:
    with pytest.raises(ConfigurationError, match="maxsize"):
        MemoryStore(maxsize=maxsize)


async def test_nothing_older_than_the_ttl_survives_in_redis_while_the_writer_keeps_writing(
    redis_server: RedisServer,
) -> None:
    """The list's own EXPIRE slides with each save; the age of each entry keeps the promise."""
    ttl = 0.3
    clock = SystemClock()
    numbers = count()
    before: list[int] = []
    kept: list[int] = []
    async with Cache(redis_server.url, timeout=T) as cache:
        window = RollingWindow(cache, "w", limit=1000, ttl=ttl)

        async def save() -> None:
            nonlocal kept, before
            oldest = timestamp(clock.time() - ttl)
            assert await window.push({"n": next(numbers)})
            items = [orjson.loads(item) for item in redis_server.cli("LRANGE", "w", 0, -1)]
            assert all(item["timestamp"] >= oldest for item in items)
            before, kept = kept, [item["n"] for item in items]

        def oldest_went_and_newest_stayed() -> bool:
            # The newest is there, so the list had lived on. The limit is far, so the oldest went by its age.
            return bool(before) and before[0] in kept and before[-1] not in kept

        # A pause of this process can outlast the whole list, which begins anew then.
        await until(oldest_went_and_newest_stayed, save)


# --- stale values -----------------------------------------------------------------------------------


@pytest.fixture
def timed(store: Store) -> TimedStore:
    assert isinstance(store, TimedStore)
    return store


STALE = b'1\n{"s":60000}'
TOKEN = b"0123456789abcdef01234567"
OTHER = b"abcdef0123456789abcdef01"


def asks(floor_ms: int = NO_VALUE, suffix: bytes = b"", copy: Copy = Copy.NONE) -> AcquireStaleLease:
    return AcquireStaleLease(TOKEN, MINUTE, floor_ms, suffix, copy)


async def test_a_value_comes_with_the_seconds_that_are_left_of_it(store: Store, timed: TimedStore) -> None:
    await store.set("k", T, b"1", ttl_ms=MINUTE)
    value, left = await timed.get_with_ttl("k", T)
    assert value == b"1"
    assert 50 < left <= 60


async def test_a_key_without_value_has_no_seconds_left(timed: TimedStore) -> None:
    value, left = await timed.get_with_ttl("k", T)
    assert value is None
    assert left <= 0


async def test_timed_reads_that_travel_together_have_each_their_own_answer(store: Store, timed: TimedStore) -> None:
    keys = [f"k{n}" for n in range(20)]
    for n, key in enumerate(keys[:-1]):
        await store.set(key, T, key.encode(), ttl_ms=MINUTE * (n + 1))
    # Each twice, and other operations among them.
    asked = [*map(timed.get_with_ttl, keys * 2, [T] * 40), *map(store.get, keys, [T] * 20)]
    answers: list[Any] = await asyncio.gather(*asked)
    for n, (value, left) in enumerate(answers[:20]):
        assert value == (keys[n].encode() if n < 19 else None)
        assert n == 19 or 60 * n + 50 < left <= 60 * (n + 1)
    assert [value for value, _ in answers[20:40]] == [value for value, _ in answers[:20]] == answers[40:]


async def test_a_window_among_timed_reads_fails_nobody_else(store: Store, timed: TimedStore) -> None:
    await push(store, "w", "a")
    await store.set("k", T, b"1", ttl_ms=MINUTE)
    answers = await asyncio.gather(*map(timed.get_with_ttl, ["w", "k"] * 3, [T] * 6), return_exceptions=True)
    assert {isinstance(answer, KeyRefusedError) or answer[0] for answer in answers[::2] if answer} <= {True, None}
    assert {value for value, _ in answers[1::2]} == {b"1"}  # type: ignore[misc]
    with pytest.raises(KeyRefusedError):
        await timed.get_with_ttl("w", T)


async def test_a_value_with_its_lease_and_its_seconds_is_of_one_moment(store: Store, timed: TimedStore) -> None:
    await store.set("k", T, b"1", ttl_ms=MINUTE)
    await store.seize_lease("k", T, TOKEN, lease_ms=MINUTE)
    value, holder, left = await timed.get_with_lease_and_ttl("k", T)
    assert (value, holder) == (b"1", TOKEN)
    assert 50 < left <= 60
    value, holder, left = await timed.get_with_lease_and_ttl("none", T)
    assert (value, holder) == (None, None)
    assert left <= 0


async def test_of_many_takers_who_ask_for_the_seconds_one_gets_the_value(store: Store, timed: TimedStore) -> None:
    await store.set("k", T, b"1", ttl_ms=MINUTE)
    taken = await asyncio.gather(*[timed.get_and_delete_with_ttl("k", T) for _ in range(20)])
    assert sorted([value for value, _ in taken], key=bool) == [None] * 19 + [b"1"]
    assert [50 < left <= 60 for value, left in taken if value] == [True]
    assert await store.get("k", T) is None


async def test_a_stale_value_is_loaded_anew_by_who_saw_it(store: Store, timed: TimedStore) -> None:
    await store.set("k", T, STALE, ttl_ms=MINUTE)
    _, left = await timed.get_with_ttl("k", T)
    floor = Seen(left).floor_ms
    assert await store.run("k", T, asks(floor, copy=Copy.HELD)) == Lease(TOKEN, mine=True)
    held = AcquireStaleLease(OTHER, MINUTE, floor, b"", Copy.HELD)
    assert await store.run("k", T, held) == Lease(TOKEN, mine=False)


async def test_a_value_that_is_newer_than_the_one_that_was_seen_is_returned(store: Store, timed: TimedStore) -> None:
    await store.set("k", T, STALE, ttl_ms=MINUTE)
    _, left = await timed.get_with_ttl("k", T)
    await store.set("k", T, b"2", ttl_ms=2 * MINUTE)
    for copy in Copy:
        assert await store.run("k", T, asks(Seen(left).floor_ms, copy=copy)) == b"2"
    assert await store.run("k", T, asks()) == b"2"


async def test_a_value_with_the_end_that_was_seen_counts_as_that_one(store: Store) -> None:
    await store.set("k", T, STALE + b"!", ttl_ms=MINUTE)
    assert await store.run("k", T, asks(suffix=b"!")) == Lease(TOKEN, mine=True)
    await store.set("k", T, b'"!"', ttl_ms=MINUTE)
    assert await store.run("k", T, asks(suffix=b"!")) == b'"!"'


async def test_empty_bytes_are_no_value_for_a_lease(store: Store) -> None:
    await store.set("k", T, b"", ttl_ms=MINUTE)
    assert await store.run("k", T, asks()) == Lease(TOKEN, mine=True)


async def test_nothing_is_loaded_in_the_background_for_a_key_without_value(store: Store) -> None:
    assert await store.run("k", T, asks(MINUTE, copy=Copy.BACKGROUND)) == GONE
    assert await store.get_with_lease("k", T) == (None, None)


async def test_a_pause_stands_in_the_place_of_the_lease(store: Store) -> None:
    await store.set("k", T, STALE, ttl_ms=MINUTE)
    await store.run("k", T, asks(MINUTE, copy=Copy.HELD))
    assert await store.run("k", T, PauseLease(TOKEN, MINUTE)) is Paused.SET
    assert await store.get_with_lease("k", T) == (STALE, b"~" + TOKEN)
    for copy in (Copy.HELD, Copy.BACKGROUND):
        assert await store.run("k", T, asks(MINUTE, copy=copy)) == Lease(b"~" + TOKEN, mine=False)


async def test_nothing_is_filled_under_a_pause(store: Store) -> None:
    await store.set("k", T, STALE, ttl_ms=MINUTE)
    await store.run("k", T, asks(MINUTE, copy=Copy.HELD))
    await store.run("k", T, PauseLease(TOKEN, MINUTE))
    assert await store.run("k", T, Fill(TOKEN, b"2", MINUTE)) is False
    assert await store.run("k", T, RenewLease(TOKEN, MINUTE)) is False
    assert await store.get("k", T) == STALE


async def test_who_has_no_stale_value_takes_a_pause_over(store: Store) -> None:
    await store.set("k", T, STALE, ttl_ms=MINUTE)
    await store.run("k", T, asks(MINUTE, copy=Copy.HELD))
    await store.run("k", T, PauseLease(TOKEN, MINUTE))
    assert await store.run("k", T, asks(MINUTE)) == Lease(TOKEN, mine=True)


async def test_a_pause_without_a_value_holds_nobody_up(store: Store, timed: TimedStore) -> None:
    await store.set("k", T, STALE, ttl_ms=MINUTE)
    await store.run("k", T, asks(MINUTE, copy=Copy.HELD))
    await store.run("k", T, PauseLease(TOKEN, MINUTE))
    await timed.get_and_delete_with_ttl("k", T)
    assert await store.run("k", T, asks(MINUTE, copy=Copy.HELD)) == Lease(TOKEN, mine=True)


async def test_a_pause_ends(store: Store) -> None:
    await store.set("k", T, STALE, ttl_ms=MINUTE)
    await store.run("k", T, asks(MINUTE, copy=Copy.HELD))
    await store.run("k", T, PauseLease(TOKEN, 20))
    async with asyncio.timeout(T):
        while await store.run("k", T, asks(MINUTE, copy=Copy.HELD)) != Lease(TOKEN, mine=True):
            await asyncio.sleep(0.005)


async def test_only_the_load_that_holds_the_lease_pauses_others(store: Store) -> None:
    """BROKEN without its token: the pause would take the lease of a later load away."""
    await store.set("k", T, STALE, ttl_ms=MINUTE)
    await store.seize_lease("k", T, OTHER, lease_ms=MINUTE)
    assert await store.run("k", T, PauseLease(TOKEN, MINUTE)) is Paused.LOST
    assert await store.get_with_lease("k", T) == (STALE, OTHER)


async def test_a_failed_load_of_a_key_without_value_gives_its_lease_back(store: Store) -> None:
    await store.run("k", T, asks())
    assert await store.run("k", T, PauseLease(TOKEN, MINUTE)) is Paused.NO_VALUE
    assert await store.get_with_lease("k", T) == (None, None)


@pytest.mark.parametrize("change", ["delete", "set", "seize", "expire"])
async def test_a_change_lifts_a_pause(store: Store, change: str) -> None:
    await store.set("k", T, STALE, ttl_ms=MINUTE)
    await store.run("k", T, asks(MINUTE, copy=Copy.HELD))
    await store.run("k", T, PauseLease(TOKEN, MINUTE))
    if change == "delete":
        await store.delete(["k"], T)
    elif change == "set":
        await store.set("k", T, b"2", ttl_ms=MINUTE)
    elif change == "seize":
        await store.seize_lease("k", T, OTHER, lease_ms=MINUTE)
    else:
        await store.run("k", T, Expire())
    assert (await store.get_with_lease("k", T))[1] in (None, OTHER)


async def test_an_expired_value_keeps_the_rest_of_its_time(store: Store, timed: TimedStore) -> None:
    await store.set("k", T, STALE, ttl_ms=MINUTE)
    await store.seize_lease("k", T, OTHER, lease_ms=MINUTE)
    assert await store.run("k", T, Expire()) is True
    value, holder, left = await timed.get_with_lease_and_ttl("k", T)
    assert (value, holder) == (STALE + b"!", None)
    assert 50 < left <= 60
    assert await store.run("k", T, Expire()) is True
    assert await store.get("k", T) == STALE + b"!"


@pytest.mark.parametrize("value", [b"1", b'1\n{"d":20}', b'"AQ=="\n{"E":1}'], ids=["plain", "timed", "sealed"])
async def test_a_value_without_a_stale_window_is_removed_when_it_is_expired(store: Store, value: bytes) -> None:
    assert await store.run("k", T, Expire()) is False
    await store.set("k", T, value, ttl_ms=MINUTE)
    await push(store, "w", "a")
    assert await store.run("k", T, Expire()) is True
    assert await store.run("w", T, Expire()) is True
    assert await store.get("k", T) is None
    assert await texts(store, "w") == []


# --- many keys ----------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def many(store: Store) -> ManyStore:
    assert isinstance(store, ManyStore)
    return store


async def test_many_keys_are_read_in_the_order_of_the_question(store: Store, many: ManyStore) -> None:
    for key in "abc":
        await store.set(key, T, key.encode(), ttl_ms=MINUTE)
    assert await many.get_many(["c", "nothing", "a", "c"], T) == [b"c", None, b"a", b"c"]
    assert await many.get_many([*"abc"] * 300, T) == [b"a", b"b", b"c"] * 300


async def test_many_keys_are_read_with_the_seconds_that_are_left_of_each(store: Store, many: ManyStore) -> None:
    await store.set("a", T, b"a", ttl_ms=MINUTE)
    await store.set("b", T, b"b", ttl_ms=10 * MINUTE)
    found: Any = await many.get_many_with_ttl(["b", "nothing", "a"], T)
    assert [one[0] for one in found] == [b"b", None, b"a"]
    assert 500 < found[0][1] <= 600
    assert found[1][1] <= 0
    assert 50 < found[2][1] <= 60


async def test_many_scripts_are_run_at_their_keys(store: Store, many: ManyStore) -> None:
    await store.set("b", T, b"b", ttl_ms=MINUTE)
    tokens = {key: f"{key * 24}".encode() for key in "abc"}
    steps: Any = [(key, AcquireLease(tokens[key], 1000)) for key in "abc"]
    assert await many.run_many(steps, T) == [Lease(tokens["a"], mine=True), b"b", Lease(tokens["c"], mine=True)]
    fills: Any = [("a", Fill(tokens["a"], b"1", MINUTE)), ("c", Fill(b"another", b"2", MINUTE))]
    assert await many.run_many(fills, T) == [True, False]
    assert await many.get_many([*"abc"], T) == [b"1", b"b", None]


async def test_many_values_are_set_and_void_their_leases(store: Store, many: ManyStore) -> None:
    token = b"a" * 24
    await store.seize_lease("a", T, token, lease_ms=MINUTE)
    assert await many.set_many([("a", b"1"), ("b", b"2")], T, ttl_ms=MINUTE) == [True, True]
    assert await store.run("a", T, Fill(token, b"old", MINUTE)) is False
    assert await many.get_many(["a", "b"], T) == [b"1", b"2"]
    assert (await store.get_with_lease("a", T))[1] is None


async def test_a_key_that_is_refused_or_cannot_be_sent_fails_alone(store: Store, many: ManyStore) -> None:
    await push(store, "w", "window")
    await store.set("a", T, b"a", ttl_ms=MINUTE)
    script = AcquireLease(b"a" * 24, 1000)
    steps: Any = [("w", script), ("a", script)]
    refused, found = await many.run_many(steps, T)
    assert isinstance(refused, KeyRefusedError)
    assert found == b"a"
    if not isinstance(store, MemoryStore):
        unsendable, value = await many.get_many(["\ud800", "a"], T)
        assert isinstance(unsendable, StoreError)
        assert value == b"a"
        stored = await many.set_many([("\ud800", b"1"), ("b", b"1")], T, ttl_ms=MINUTE)
        assert isinstance(stored[0], StoreError)
        assert stored[1] is True


async def test_nothing_is_asked_of_many_when_there_are_none(many: ManyStore) -> None:
    assert await many.get_many([], T) == []
    assert await many.run_many([], T) == []
    assert await many.set_many([], T, ttl_ms=MINUTE) == []


async def test_a_caller_of_many_that_is_cancelled_disturbs_no_other(store: Store, many: ManyStore) -> None:
    await store.set("a", T, b"a", ttl_ms=MINUTE)

    async def read() -> list[object]:
        return [*await many.get_many(["a"] * 50, T)]

    calls = [asyncio.create_task(read()) for _ in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results[1::2] == [[b"a"] * 50] * 10


async def test_touch_changes_the_time_of_a_value_and_makes_none(store: Store, many: ManyStore) -> None:
    assert await store.run("a", T, Touch(10 * MINUTE)) is False
    await store.set("a", T, b"a", ttl_ms=MINUTE)
    assert await store.run("a", T, Touch(10 * MINUTE)) is True
    found: Any = await many.get_many_with_ttl(["a"], T)
    assert found[0][0] == b"a"
    assert 500 < found[0][1] <= 600


async def test_a_store_without_verbs_for_many_keys_is_asked_for_each(store: Store) -> None:
    many = OneByOne(store)
    await push(store, "w", "window")
    assert await many.set_many([("a", b"1"), ("b", b"2")], T, ttl_ms=MINUTE) == [True, True]
    assert await many.get_many(["b", "a", "c"], T) == [b"2", b"1", None]
    script = AcquireLease(b"a" * 24, 1000)
    refused, found = await many.run_many([("w", script), ("a", script)], T)
    assert isinstance(refused, KeyRefusedError)
    assert found == b"1"
    timed: Any = await many.get_many_with_ttl(["a"], T)
    assert timed[0][0] == b"1"
