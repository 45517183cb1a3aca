"""The promises across processes: real processes, over a real server."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

from cachekit import Cache
from cachekit.entry import lease_key
from tests.kit.crowd import loads_per_round
from tests.kit.servers import RedisServer

PATIENCE = 60.0


def test_two_hundred_callers_in_each_of_four_processes_share_one_load_of_a_cold_key(redis_server: RedisServer) -> None:
    assert loads_per_round(redis_server.url, rounds=3) == [1, 1, 1]


def _hold_the_lease_for_ever(url: str, lease: float, loading: Any) -> None:
    async def main() -> None:
        async with Cache(url, timeout=5) as cache:

            @cache.cached(key="k", ttl=60, lease=lease)
            async def load() -> str:
                loading.set()
                await asyncio.sleep(PATIENCE)
                return "never"

            await load()

    asyncio.run(main())


async def test_a_process_killed_while_it_loads_delays_others_by_its_lease_and_not_by_the_ttl(
    redis_server: RedisServer,
) -> None:
    context = multiprocessing.get_context("spawn")
    loading = context.Event()
    holder = context.Process(target=_hold_the_lease_for_ever, args=(redis_server.url, 1.0, loading), daemon=True)
    holder.start()
    assert await asyncio.to_thread(loading.wait, PATIENCE)
    async with Cache(redis_server.url, timeout=5) as cache:

        @cache.cached(key="k", ttl=60, lease=1.0)
        async def load() -> str:
            return "loaded"

        waiting = [asyncio.create_task(load()) for _ in range(20)]
        await asyncio.sleep(0.1)
        assert not any(caller.done() for caller in waiting), "the load is alive"
        assert holder.pid
        os.kill(holder.pid, signal.SIGKILL)
        await asyncio.to_thread(holder.join, PATIENCE)
        left_ms = redis_server.cli("PTTL", lease_key("k"))
        assert 0 < left_ms <= 1000, "nobody renews it any more"
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.gather(*waiting) == ["loaded"] * 20
        assert await load.peek() == "loaded"


async def test_round_trips_are_one_for_a_hit_three_for_a_miss_and_one_for_an_invalidation(
    redis_server: RedisServer,
) -> None:
    def commands() -> dict[str, int]:
        stats = redis_server.cli("INFO", "commandstats")
        return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items() if "info" not in name}

    async def counted(call: Callable[[], Any]) -> dict[str, int]:
        redis_server.cli("CONFIG", "RESETSTAT")
        await call()
        # The server also counts the commands inside a script, which cost no round trip.
        return {name: n for name, n in commands().items() if name in ("get", "evalsha", "unlink", "mget", "eval")}

    async with Cache(redis_server.url, timeout=5) as cache:

        @cache.cached(key="k:<x>", ttl=60)
        async def load(x: int) -> int:
            return x

        await load(0)
        miss = await counted(lambda: load(1))
        assert miss["evalsha"] == 2, "take the lease, fill"
        assert await counted(lambda: load(1)) == {"get": 1}
        assert await counted(lambda: load.invalidate(1)) == {"unlink": 1}
