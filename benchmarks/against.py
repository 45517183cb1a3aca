"""This checkout against another one: the same calls in two processes that take turns, in one run.

    python -m benchmarks.against ../before

A change that must cost nothing is measured so: the median of the ratios, round by round, of the time and of the
processor's time. ``taskset -c 0`` in front of it puts client and server on one core, where the ratios vary least.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import statistics
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

# Nothing of `benchmarks` here: the worker runs with the cachekit of the other checkout.
import msgspec
from rich.console import Console
from rich.table import Table

from cachekit import Cache, SnapshotStore

CALLS: Final = {
    "hit, one caller": 600,
    "hit, 100 callers": 3000,
    "miss, one caller": 300,
    "miss, 100 callers": 1500,
    "near hit": 6000,
    "breaker open": 3000,
    "hit on memory://": 4000,
    "miss on memory://": 1500,
    "set by hand, one caller": 300,
    "set by hand, 100 callers": 1500,
    "snapshot save": 300,
    "snapshot pair": 300,
}
"""How many calls a round has, of each kind."""

PROCESSES: Final = 8
"""Pairs of processes, one after the other."""

DOCUMENT: Final = {"user": "42", "errors": [{"word": "recieve", "count": n} for n in range(12)]}

TEXT: Final = "I definately recieve seperate letters. " * 25


def decorated(cache: Cache) -> Callable[[int], Awaitable[object]]:
    """Return the function that is called."""

    @cache.cached(key="document:<number>", ttl=600)
    async def document(number: int) -> dict[str, Any]:  # noqa: ARG001 - it is part of the key
        return DOCUMENT

    return document


async def works(url: str, prefix: str) -> dict[str, Callable[[int], Awaitable[None]]]:
    """Return the work of each kind, which does so many calls."""
    cache = Cache(url, prefix=prefix, timeout=5)
    redis, memory, snapshots = decorated(cache), decorated(Cache("memory://")), SnapshotStore(cache)
    near = decorated(Cache(url, prefix=f"{prefix}near:", timeout=5, near=1000))
    nobody = decorated(Cache("redis://127.0.0.1:1"))
    fresh = count(1000)
    for number in range(100):
        await redis(number)
        await memory(number)
        await near(0)
        await nobody(0)
        # Until tracking is confirmed, and the breaker is open.
        await asyncio.sleep(0.01)

    async def alone(call: Callable[[int], Awaitable[object]], calls: int, *, new: bool = False) -> None:
        for _ in range(calls):
            await call(next(fresh) if new else 0)

    async def together(calls: int, *, new: bool = False) -> None:
        for _ in range(calls // 100):
            await asyncio.gather(*[redis(next(fresh) if new else number) for number in range(100)])

    async def set_together(calls: int) -> None:
        for _ in range(calls // 100):
            await asyncio.gather(*[cache.set(f"by hand:{number}", DOCUMENT, ttl=600) for number in range(100)])

    return {
        "set by hand, one caller": lambda calls: alone(lambda _: cache.set("by hand", DOCUMENT, ttl=600), calls),
        "set by hand, 100 callers": set_together,
        "snapshot save": lambda calls: alone(lambda _: snapshots.save_snapshot("42", TEXT, 125), calls),
        "snapshot pair": lambda calls: alone(lambda _: snapshots.get_snapshot_pair("42"), calls),
        "hit, one caller": lambda calls: alone(redis, calls),
        "hit, 100 callers": together,
        "miss, one caller": lambda calls: alone(redis, calls, new=True),
        "miss, 100 callers": lambda calls: together(calls, new=True),
        "near hit": lambda calls: alone(near, calls),
        "breaker open": lambda calls: alone(nobody, calls),
        "hit on memory://": lambda calls: alone(memory, calls),
        "miss on memory://": lambda calls: alone(memory, calls, new=True),
    }


async def answer(url: str) -> None:
    """Do the work that each line asks for, and answer with its microseconds a call: of time, and of the processor."""
    logging.disable()
    # Keys that no other process has filled.
    work = await works(url, f"{os.getpid()}:")
    while line := await asyncio.to_thread(sys.stdin.readline):
        kind, calls = msgspec.json.decode(line, type=tuple[str, int])
        gc.collect()
        gc.disable()
        began = time.perf_counter(), time.process_time()
        await work[kind](calls)
        took = time.perf_counter() - began[0], time.process_time() - began[1]
        gc.enable()
        print(msgspec.json.encode([seconds / calls * 1e6 for seconds in took]).decode(), flush=True)


async def measure(other: Path, *, rounds: int, processes: int, share: float) -> Table:
    """Return the table of both."""
    from tests.kit.binaries import first_server  # noqa: PLC0415 - the worker has none of it
    from tests.kit.servers import RedisServer  # noqa: PLC0415 - as above

    pairs: dict[str, list[tuple[list[float], list[float]]]] = {kind: [] for kind in CALLS}
    with RedisServer(first_server()) as server:
        # A process may be slow for as long as it lives, by the places of its objects in memory: there are several.
        for _ in range(processes):
            await _turns(other, server.url, -(-rounds // processes), share, pairs)
    table = Table("calls", "before, us", "after, us", "ratio", "ratio, processor", title=f"against {other.name}")
    for kind, found in pairs.items():
        medians = [statistics.median(pair[side][0] for pair in found) for side in (0, 1)]
        ratios = [statistics.median(new[clock] / old[clock] for old, new in found) for clock in (0, 1)]
        table.add_row(kind, *[f"{us:.2f}" for us in medians], *[f"{ratio:.3f}" for ratio in ratios])
    return table


async def _turns(
    other: Path, url: str, rounds: int, share: float, pairs: dict[str, list[tuple[list[float], list[float]]]]
) -> None:
    """Let two processes take turns; the first round of each kind does not count."""
    from benchmarks.children import ROOT, child, told  # noqa: PLC0415 - as in `measure`

    async def asked(process: Process, kind: str) -> list[float]:
        assert process.stdin is not None  # noqa: S101 - it is piped
        process.stdin.write(msgspec.json.encode((kind, max(100, int(CALLS[kind] * share)))) + b"\n")
        return await told(process, list[float])

    # -P: the folder of this file is none of the worker's path.
    command = ("-P", __file__, "--url", url)
    before = child(*command, str(other), environment={"PYTHONPATH": str(other)})
    after = child(*command, str(ROOT), environment={"PYTHONPATH": str(ROOT)})
    async with before as old, after as new:
        for kind in CALLS:
            for turn in range(rounds + 1):
                figures = {process: await asked(process, kind) for process in ((old, new) if turn % 2 else (new, old))}
                if turn:
                    pairs[kind].append((figures[old], figures[new]))


def main(argv: list[str] | None = None) -> None:
    """Compare, or be one of the two that are compared."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description="This checkout against another.")
    parser.add_argument("other", type=Path, help="the folder of the other checkout")
    parser.add_argument("--rounds", type=int, default=40, help="rounds that count, of each kind (default 40)")
    parser.add_argument(
        "--quick", action="store_true", help="a look, not a measurement: one short round of each process"
    )
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.url:
        asyncio.run(answer(options.url))
        return
    if not (options.other / "cachekit").is_dir():
        parser.error(f"{options.other} has no folder cachekit: name another checkout, such as a git worktree")
    rounds, processes, share = (1, 1, 0.02) if options.quick else (options.rounds, PROCESSES, 1.0)
    Console(width=None if sys.stdout.isatty() else 120).print(
        asyncio.run(measure(options.other.resolve(), rounds=rounds, processes=processes, share=share))
    )


if __name__ == "__main__":
    main()
