"""Leases are no keys: no argument and no key by hand names the lease of another key, in any store."""

from __future__ import annotations

import asyncio

import pytest

from cachekit import MISS, Cache, RollingWindow
from cachekit.entry import lease_key
from tests.kit.servers import RedisServer

PATIENCE = 30.0
HOUR = 3600.0

ODD_KEYS = [
    "",
    "a}b",
    "{}a",
    "}{",
    "a{}{b}",
    "{a}b}",
    "{",
    "é}",
    "line\n}",
    "{k}:lease",
    "k:lease",
    "%FF:lease",
    "\xff:lease",
]


async def test_an_argument_that_looks_like_a_lease_delays_no_load_of_another_key(store_url: str) -> None:
    async with Cache(store_url, prefix="app:", timeout=PATIENCE) as cache:

        @cache.cached(key="{user:<uid>}:<section>", ttl=HOUR)
        async def section(uid: str, section: str) -> str:
            return "section"

        @cache.cached(key="{user:<uid>}:<section>:<field>", ttl=HOUR)
        async def field(uid: str, section: str, field: str) -> str:
            return "field"

        assert await field("42", "cv", "lease") == "field"
        async with asyncio.timeout(PATIENCE):
            assert await section("42", "cv") == "section"
        assert await section.peek("42", "cv") == "section"
        assert await section.invalidate("42", "cv")
        assert await field.peek("42", "cv", "lease") == "field", "its neighbour alone was invalidated"


async def test_a_key_with_braces_shares_no_lease_with_the_same_key_without_them(store_url: str) -> None:
    async with Cache(store_url, timeout=PATIENCE) as cache:

        @cache.cached(key="{car:<car_id>}", ttl=HOUR, lease=HOUR)
        async def parts(car_id: int) -> list[str]:
            return ["wheel"]

        @cache.cached(key="car:<car_id>", ttl=HOUR, lease=HOUR)
        async def car(car_id: int) -> int:
            return len(await parts(car_id))

        async with asyncio.timeout(PATIENCE):
            assert await car(7) == 1, "a load that calls the other waits for no lease of its own"
        assert await parts.peek(7) == ["wheel"]
        assert await car.peek(7) == 1


@pytest.mark.parametrize("key", ODD_KEYS, ids=ascii)
async def test_a_key_by_hand_may_be_any_text(store_url: str, key: str) -> None:
    async with Cache(store_url, timeout=PATIENCE) as cache:
        assert await cache.set(key, 1, ttl=HOUR)
        assert await cache.get(key) == 1
        assert await cache.delete(key)
        assert await cache.get(key, default=MISS) is MISS
        assert await cache.set(key, 2, ttl=HOUR)
        assert await cache.take(key) == 2
        window = RollingWindow(cache, key, limit=2, ttl=HOUR)
        assert await window.push({"n": 1})
        assert [item["n"] for item in await window.recent(2)] == [1]
        assert await window.forget()
        assert cache.healthy
        assert not len(cache.runtime.coherence.journal)


@pytest.mark.parametrize("disguise", ["k:lease", "{k}:lease", "{k}", "%FF", "\xff"], ids=ascii)
async def test_a_value_at_a_key_that_looks_like_a_lease_stays(store_url: str, disguise: str) -> None:
    async with Cache(store_url, timeout=PATIENCE) as cache:

        @cache.cached(key="<name>", ttl=HOUR)
        async def load(name: str) -> str:
            return name

        assert await cache.set(disguise, "mine", ttl=HOUR)
        async with asyncio.timeout(PATIENCE):
            assert await load("k") == "k"
        assert await load.peek("k") == "k", "stored, under a lease of its own"
        assert await load.invalidate("k")
        assert await cache.get(disguise) == "mine"


@pytest.mark.parametrize("kind", ["text", "list"])
async def test_what_somebody_else_wrote_at_a_lease_is_not_waited_for(redis_server: RedisServer, kind: str) -> None:
    async with Cache(redis_server.url, timeout=PATIENCE) as cache:

        @cache.cached(key="k", ttl=HOUR)
        async def load() -> str:
            return "loaded"

        redis_server.cli(*(("SET", lease_key("k"), "true") if kind == "text" else ("LPUSH", lease_key("k"), "x")))
        async with asyncio.timeout(PATIENCE):
            assert await load() == "loaded"
        assert await load.peek() is MISS, "loaded without storing: nothing fences this load"
        assert await load.invalidate()
        assert await load() == await load.peek() == "loaded", "an invalidation removes it as any lease"
