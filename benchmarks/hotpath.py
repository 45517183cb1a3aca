"""Where the microseconds of a hit go, step by step, each timed on its own in a loop.

A step alone is cheaper than the same step inside a call, where the processor's caches are colder; what is left
between the sum and the whole is the event loop and the socket.
"""

from __future__ import annotations

import asyncio
import inspect
import statistics
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast

import orjson
from hiredis import Reader, pack_command
from rich.console import Console
from rich.table import Table

from benchmarks.questions.hits import decorate
from benchmarks.work import JSON
from cachekit import Cache
from cachekit._tiers.outcome import Found
from cachekit.codecs import Codec
from cachekit.keys import compile_key
from cachekit.stores.memory import MemoryStore

LOOPS = 2000
ROUNDS = 15


def _median_us(work: Callable[[], object]) -> float:
    times: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(LOOPS):
            work()
        times.append((time.perf_counter() - began) / LOOPS * 1e6)
    return statistics.median(times)


def _drive(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine that never has to wait, without the event loop having a turn."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    message = "this coroutine waits; it cannot be timed on its own"
    raise RuntimeError(message)


def main(console: Console, *, calls: int, hit_us: float) -> None:
    """Print the table; ``hit_us`` is the whole hit on Redis, measured by the suite."""
    asyncio.run(_main(console, calls, hit_us))


async def _main(console: Console, calls: int, hit_us: float) -> None:
    key = compile_key("bench:<number>", inspect.signature(lambda number: number))
    codec = Codec(dict[str, Any])
    store = MemoryStore()
    cache = Cache(store)
    document = decorate(cache)
    _drive(document(0))
    reader = Reader()
    reply = b"$%d\r\n%s\r\n" % (len(JSON), JSON)
    tier = cache.runtime.tier

    def pack(*command: str) -> bytes:
        # Its stub knows tuples of one item only.
        packed: bytes = cast("Any", pack_command)(command)
        return packed

    def parse() -> None:
        reader.feed(reply)
        reader.gets()

    async def nothing() -> None: ...

    steps = [
        ("the whole call on memory://", lambda: _drive(document(0))),
        ("of it: creating and running a coroutine", lambda: _drive(nothing())),
        ("of it: the key", lambda: key(0)),
        ("of it: the store's own get", lambda: _drive(store.get("bench:0", timeout=1))),
        ("of it: guard, tier and codec", lambda: _drive(tier.read("bench:0", codec, "bench", tier.budget()))),
        ("of that: the codec", lambda: codec.decode(JSON)),
        ("of that: the outcome", lambda: Found(None, JSON)),
        ("packing GET", lambda: pack("GET", "bench:0")),
        ("parsing the reply", parse),
        ("for comparison: orjson.loads", lambda: orjson.loads(JSON)),
    ]
    table = Table(
        title="Where a hit goes", caption=f"medians of {ROUNDS} rounds of {LOOPS}; {calls} calls for the whole"
    )
    table.add_column("step")
    table.add_column("us", justify="right")
    for name, work in steps:
        table.add_row(name, f"{_median_us(work):.2f}")
    table.add_row("the whole hit on Redis, one caller", f"{hit_us:.1f}")
    console.print(table)
