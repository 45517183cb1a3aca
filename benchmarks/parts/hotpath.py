"""Where the microseconds of a hit go, step by step, each timed on its own in a loop.

A step alone is cheaper than the same step inside a call, where the processor's caches are colder; the rest
between the sum and the whole is the event loop and the socket.
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final, cast

import orjson
from hiredis import Reader, pack_command

from benchmarks.questions import hits
from benchmarks.report import Section, Sheet
from benchmarks.suite import Bench, measured
from benchmarks.work import JSON
from cachekit import Cache
from cachekit.codecs import Codec
from cachekit.stores.memory import MemoryStore

LOOPS: Final = 2000
ROUNDS: Final = 15
WHOLE: Final = "the whole hit on Redis, one caller"

Step = tuple[str, Callable[[], object]]


async def measure(bench: Bench) -> Section:
    """Time each step, and the whole hit on Redis."""
    bench.step("hot path")
    loops = LOOPS // 10 if bench.quick else LOOPS
    async with AsyncExitStack() as stack:
        run = await stack.enter_async_context(hits.decorated(bench.url))
        whole = await bench.interleaved("hot path: on Redis", {WHOLE: run}, calls=200)
        steps = await _steps(await stack.enter_async_context(Cache(MemoryStore())))
        took: dict[str, float | str] = {name: _median_us(work, loops) for name, work in steps}
    took[WHOLE] = statistics.median(measured(whole[WHOLE]))
    rows = [(name, us if isinstance(us, str) else f"{us:.2f}") for name, us in took.items()]
    note = f"medians of {ROUNDS} rounds of {loops}; the rest is the event loop, the socket and the server"
    about = "each step of a hit alone in a loop, with warm caches; on `memory://`, so that there is no socket."
    title = "Where a hit goes"
    return Section("hotpath", title, about, [Sheet(title, ("step", "us"), rows, note)], took)


async def _steps(cache: Cache) -> list[Step]:
    document = hits.decorate(cache)
    await document(0)
    runtime = cache.runtime
    codec = Codec(dict[str, Any])
    reader = Reader()
    reply = b"$%d\r\n%s\r\n" % (len(JSON), JSON)

    def pack(*command: str) -> bytes:
        # Its stub knows tuples of one item only.
        packed: bytes = cast("Any", pack_command)(command)
        return packed

    def parse() -> None:
        reader.feed(reply)
        reader.gets()

    async def nothing() -> None: ...

    store = MemoryStore()
    return [
        ("the whole call on memory://", lambda: _drive(document(0))),
        ("of it: the wrapper, until there is a coroutine", lambda: document(0).close()),
        ("of it: the key", lambda: document.key(0)),
        ("of it: the flight, whether one is under way", lambda: runtime.flights.find("bench:0")),
        (
            "of it: the tier, with guard, store and codec",
            lambda: _drive(runtime.values.read("bench:0", codec, runtime.budget())),
        ),
        ("of the tier: the codec", lambda: codec.decode(JSON)),
        ("of the tier: the store's own get", lambda: _drive(store.get("bench:0", 1))),
        ("for comparison: a coroutine that does nothing", lambda: _drive(nothing())),
        ("for comparison: orjson.loads", lambda: orjson.loads(JSON)),
        ("on Redis also: packing GET", lambda: pack("GET", "bench:0")),
        ("on Redis also: parsing the reply", parse),
    ]


def _median_us(work: Callable[[], object], loops: int) -> float | str:
    """Return microseconds, or the error: the steps are not public, and change."""
    try:
        return statistics.median(timeit.repeat(work, number=loops, repeat=ROUNDS)) / loops * 1e6
    except Exception as error:
        return repr(error)


def _drive(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine that never has to wait, without the event loop having a turn."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    message = "this coroutine waits; it cannot be timed on its own"
    raise RuntimeError(message)
