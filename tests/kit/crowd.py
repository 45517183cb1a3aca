"""A crowd of callers in several processes on one cold key, and its number of loads: for tests, and by hand.

    python -m tests.kit.crowd --rounds 50

starts a redis-server of its own and prints the loads of every round.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
from multiprocessing.synchronize import Barrier
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from cachekit import Cache
from tests.kit.binaries import first_server
from tests.kit.servers import RedisServer

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

PROCESSES = 4
CALLERS = 200
LOAD_SECONDS = 0.2
# A process that does not come to a barrier within this many seconds ends the whole crowd.
PATIENCE = 60.0


def _member(url: str, rounds: int, loads: Synchronized[int], barrier: Barrier) -> None:
    async def main() -> None:
        async with Cache(url, timeout=5) as cache:

            @cache.cached(key="crowd:<round_>", ttl=60)
            async def load(round_: int) -> dict[str, int]:
                with loads.get_lock():
                    loads.value += 1
                await asyncio.sleep(LOAD_SECONDS)
                return {"round": round_}

            for round_ in range(rounds):
                await asyncio.to_thread(barrier.wait, PATIENCE)
                results = await asyncio.gather(*[load(round_) for _ in range(CALLERS)])
                assert results == [{"round": round_}] * CALLERS
                await asyncio.to_thread(barrier.wait, PATIENCE)

    asyncio.run(main())


def loads_per_round(url: str, rounds: int) -> list[int]:
    """Return how many loads each of ``rounds`` rounds took, all processes together."""
    context = multiprocessing.get_context("spawn")
    loads = context.Value("i", 0)
    barrier = context.Barrier(PROCESSES + 1)
    members = [
        context.Process(target=_member, args=(url, rounds, loads, barrier), daemon=True) for _ in range(PROCESSES)
    ]
    for member in members:
        member.start()
    counts = []
    try:
        for _ in track(range(rounds), description=f"{PROCESSES} x {CALLERS} callers", transient=True):
            loads.value = 0
            barrier.wait(PATIENCE)
            barrier.wait(PATIENCE)
            counts.append(loads.value)
        for member in members:
            member.join(PATIENCE)
    finally:
        for member in members:
            member.kill()
            member.join()
    return counts


def main() -> None:
    """Run the crowd from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    with RedisServer(first_server()) as server:
        counts = loads_per_round(server.url, rounds)
    ones = counts.count(1)
    Console().print(f"{ones} of {rounds} rounds took one load; loads per round: {counts}")


if __name__ == "__main__":
    main()
