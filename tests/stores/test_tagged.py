"""The contract of a store with tags, run unchanged on memory and on each server of the run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from cachekit.clock import SystemClock
from cachekit.entry import lease_key
from cachekit.errors import KeyRefusedError
from cachekit.stores import Store
from cachekit.stores.base import Sweep, SweepingStore, TaggedStore, Want
from cachekit.stores.connect import open_store
from cachekit.stores.scripts import NO_VALUE, AcquireStaleLease, Copy, Lease, OpenTags, SeizeLease, Touch
from cachekit.tags import new_generation, tag_keys
from cachekit.testing import FailingStore, FakeClock
from tests.kit.servers import RedisServer
from tests.kit.windows import lay

MINUTE = 60_000
T = 5.0  # seconds that a verb may take: a noisy machine is no failure
TOKEN = b"0123456789abcdef01234567"
TAGS = tag_keys(["one", "two", "three"])
OPENING = OpenTags(MINUTE, new_generation)


class Tagged(TaggedStore, SweepingStore, Store): ...  # type: ignore[misc]


@pytest_asyncio.fixture
async def store(store_url: str) -> AsyncIterator[Tagged]:
    store = open_store(store_url, clock=SystemClock())
    assert isinstance(store, TaggedStore)
    yield store  # type: ignore[misc]
    await store.aclose()


@asynccontextmanager
async def closing(store: Any) -> AsyncIterator[Tagged]:
    try:
        yield store
    finally:
        await store.aclose()


async def test_a_value_and_its_tags_are_read_together(store: Tagged) -> None:
    await store.set("k", T, b"1", ttl_ms=MINUTE)
    first, second, third = await store.open_tags(TAGS[0], T, TAGS[1:], OPENING)
    found = await store.get_tagged("k", T, TAGS, Want.NOTHING)
    assert found.value == b"1"
    assert [*found.tags] == [first, second, third]
    assert len({first, second, third}) == 3


async def test_what_is_not_there_is_none(store: Tagged) -> None:
    found = await store.get_tagged("k", T, TAGS, Want.TTL | Want.HOLDER)
    assert (found.value, [*found.tags], found.holder) == (None, [None] * 3, None)
    assert found.left <= 0.0


async def test_a_read_tells_what_is_left_and_who_holds_the_lease_if_that_is_wanted(store: Tagged) -> None:
    await store.set("k", T, b"1", ttl_ms=MINUTE)
    await store.seize_lease("k", T, TOKEN, lease_ms=MINUTE)
    found = await store.get_tagged("k", T, TAGS, Want.TTL | Want.HOLDER)
    assert found.value == b"1"
    assert found.holder == TOKEN
    assert 0 < found.left <= 60


async def test_many_reads_at_once_get_their_own_values_and_the_same_tags(store: Tagged) -> None:
    opened = await store.open_tags(TAGS[0], T, TAGS[1:], OPENING)
    for x in range(20):
        await store.set(f"k:{x}", T, b"%d" % x, ttl_ms=MINUTE)
    wants = [Want.NOTHING, Want.TTL, Want.HOLDER, Want.TTL | Want.HOLDER]
    reads = [store.get_tagged(f"k:{x % 20}", T, TAGS[: 1 + x % 3], wants[x % 4]) for x in range(60)]
    plain = [store.get(f"k:{x}", T) for x in range(20)]
    found = await asyncio.gather(*reads)
    assert [one.value for one in found] == [b"%d" % (x % 20) for x in range(60)]
    assert [[*one.tags] for one in found] == [opened[: 1 + x % 3] for x in range(60)]
    assert await asyncio.gather(*plain) == [b"%d" % x for x in range(20)]


async def test_a_tag_that_stands_is_not_replaced(store: Tagged) -> None:
    first = await store.open_tags(TAGS[0], T, [], OPENING)
    assert await store.open_tags(TAGS[0], T, [], OPENING) == first
    await store.delete(TAGS[:1], T)
    assert await store.open_tags(TAGS[0], T, [], OPENING) != first


async def test_callers_that_open_a_tag_at_once_get_one_generation(store: Tagged) -> None:
    opened = await asyncio.gather(*[store.open_tags(TAGS[0], T, TAGS[1:], OPENING) for _ in range(20)])
    assert len({tuple(one) for one in opened}) == 1


async def test_a_tag_with_less_than_half_of_its_time_left_gets_all_of_it_again(store: Tagged) -> None:
    short = OpenTags(MINUTE // 3, new_generation)
    [first] = await store.open_tags(TAGS[0], T, [], short)
    [again] = await store.open_tags(TAGS[0], T, [], OPENING)
    found = await store.get_tagged(TAGS[0], T, [], Want.TTL)
    assert first == again == found.value
    assert found.left > 40
    # One that has more keeps it.
    await store.open_tags(TAGS[0], T, [], short)
    assert (await store.get_tagged(TAGS[0], T, [], Want.TTL)).left > 40


async def test_a_lease_and_its_tags_are_taken_in_one_question(store: Tagged) -> None:
    script = AcquireStaleLease(TOKEN, MINUTE, NO_VALUE, b"", Copy.NONE)
    lease, opened = await store.run_tagged("k", T, script, TAGS, OPENING)
    assert lease == Lease(TOKEN, mine=True)
    assert [*(await store.get_tagged("k", T, TAGS, Want.NOTHING)).tags] == opened
    assert None not in opened


async def test_a_value_that_ends_as_the_one_that_was_seen_counts_as_none(store: Tagged) -> None:
    await store.set("k", T, b'1\n{"T":{"one":"g0"}}', ttl_ms=MINUTE)
    script = AcquireStaleLease(TOKEN, MINUTE, NO_VALUE, b'\n{"T":{"one":"g0"}}', Copy.NONE)
    lease, _ = await store.run_tagged("k", T, script, TAGS, OPENING)
    assert lease == Lease(TOKEN, mine=True)
    other = AcquireStaleLease(b"f" * 24, MINUTE, NO_VALUE, b'\n{"T":{"one":"g1"}}', Copy.NONE)
    found, _ = await store.run_tagged("k", T, other, TAGS, OPENING)
    assert found == b'1\n{"T":{"one":"g0"}}'


async def test_a_tag_that_is_a_window_is_none_and_the_lease_is_taken_all_the_same(store: Tagged) -> None:
    await lay(store, TAGS[0], b'{"n":1}')
    script = AcquireStaleLease(TOKEN, MINUTE, NO_VALUE, b"", Copy.NONE)
    lease, opened = await store.run_tagged("k", T, script, TAGS, OPENING)
    assert lease == Lease(TOKEN, mine=True)
    assert opened[0] is None
    assert (await store.get_tagged("k", T, TAGS, Want.NOTHING)).tags[0] is None


async def test_a_key_without_utf8_is_refused_alone(store_url: str, store: Tagged) -> None:
    if store_url.startswith("memory"):
        return
    others = store.get_tagged("k", T, TAGS, Want.NOTHING)
    with pytest.raises(KeyRefusedError):
        await store.get_tagged("k", T, ["\ud800"], Want.NOTHING)
    with pytest.raises(KeyRefusedError):
        await store.open_tags("\ud800", T, [], OPENING)
    assert (await others).value is None


async def sweep(store: Tagged, prefix: str) -> int:
    """Remove everything, once, and return how many keys there were."""
    removed = 0
    for server in await store.servers_of(prefix, T):
        at = Sweep(server)
        while True:
            at = await store.sweep(prefix, T, at)
            removed += at.removed
            if not at.cursor:
                break
    return removed


async def test_a_sweep_removes_all_keys_with_the_prefix_and_their_leases(store: Tagged) -> None:
    names = [*[f"app:{x}" for x in range(300)], "app:{a}:b", "app:}{", "app:*", "app:é"]
    for name in names:
        await store.set(name, T, b"1", ttl_ms=MINUTE)
    for other in ("ap", "other:app:1", "{app:1}"):
        await store.set(other, T, b"1", ttl_ms=MINUTE)
    cold = ["app:cold", "app:{a}:cold", "app:}cold{"]
    for name in cold:
        await store.seize_lease(name, T, TOKEN, lease_ms=MINUTE)
    await store.seize_lease("other", T, TOKEN, lease_ms=MINUTE)
    assert await sweep(store, "app:") >= len(names)
    assert [await store.get(name, T) for name in names] == [None] * len(names)
    assert [(await store.get_with_lease(name, T))[1] for name in cold] == [None] * 3
    assert [await store.get(other, T) for other in ("ap", "other:app:1", "{app:1}")] == [b"1"] * 3
    assert (await store.get_with_lease("other", T))[1] == TOKEN


async def test_a_prefix_is_no_pattern(store: Tagged) -> None:
    for name in ("a[b]*?\\:1", "ab:1", "a:1"):
        await store.set(name, T, b"1", ttl_ms=MINUTE)
    assert await sweep(store, "a[b]*?\\:") >= 1
    assert await store.get("a[b]*?\\:1", T) is None
    assert await store.get("ab:1", T) == await store.get("a:1", T) == b"1"


async def test_a_read_with_tags_costs_one_command(redis_server: RedisServer) -> None:
    async with closing(open_store(redis_server.url, clock=SystemClock())) as store:
        await store.get_tagged("k", T, TAGS, Want.NOTHING)
        redis_server.cli("CONFIG", "RESETSTAT")
        await store.get_tagged("k", T, TAGS, Want.NOTHING)
        commands = redis_server.cli("INFO", "commandstats")
        assert commands["cmdstat_mget"]["calls"] == 1
        assert {"cmdstat_get", "cmdstat_pttl", "cmdstat_set", "cmdstat_evalsha"}.isdisjoint(commands)


def test_a_memory_store_has_tags_that_end() -> None:
    clock = FakeClock()
    store = FailingStore(clock=clock)

    async def main() -> None:
        opened = await store.open_tags(TAGS[0], T, [], OPENING)
        clock.advance(61)
        assert await store.open_tags(TAGS[0], T, [], OPENING) != opened
        assert lease_key(TAGS[0]).startswith(b"~{one}")

    asyncio.run(main())


async def test_a_lease_is_taken_over_and_its_tags_are_opened_in_one_question(store: Tagged) -> None:
    await store.seize_lease("k", T, b"f" * 24, lease_ms=MINUTE)
    answer, opened = await store.run_tagged("k", T, SeizeLease(TOKEN, MINUTE), TAGS, OPENING)
    assert answer is True
    found = await store.get_tagged("k", T, TAGS, Want.HOLDER)
    assert (found.holder, [*found.tags]) == (TOKEN, opened)
    assert None not in opened


async def test_a_touch_tells_the_second_line_of_a_value_with_tags_alone(store: Tagged) -> None:
    lines = {
        "none": (b"1", True),
        "plain": (b'1\n{"s":1000}', True),
        "tagged": (b'1\n{"T":{"one":"g0"},"s":1000}', b'{"T":{"one":"g0"},"s":1000}'),
        "expired": (b'1\n{"T":{"one":"g0"},"s":1000}!', False),
        "in the value": (b'{"T":1}', True),
    }
    assert await store.run("nothing", T, Touch(MINUTE)) is False
    for key, (value, answer) in lines.items():
        await store.set(key, T, value, ttl_ms=MINUTE)
        assert await store.run(key, T, Touch(2 * MINUTE)) == answer, key
        left = (await store.get_tagged(key, T, [], Want.TTL)).left
        assert (left > 60) == bool(answer), key
