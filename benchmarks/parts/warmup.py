"""Warm-up: a burst on an empty, healthy server. Is all of it stored, and do other callers keep their hits meanwhile?

    python -m benchmarks.parts.warmup URL LOOP KIND SIZE

is the process of one burst: its own, so that its memory is that of this burst. It tells the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import psutil

from benchmarks.charts import Chart, Curves
from benchmarks.children import child, loop_factory, tell, told
from benchmarks.report import Section, Sheet, duration
from benchmarks.suite import Bench
from benchmarks.work import DOCUMENT, TTL, load
from cachekit import Cache, CachedFunction
from cachekit.events import BreakerOpened, Event, Filled, StoreFailed

SIZES: Final = (100, 300, 1_000, 3_000, 10_000, 20_000, 50_000)
ROUNDS: Final = 3
"""Bursts of each kind and size."""

AT_A_TIME: Final = 100
"""How many calls `warm` makes at the same time."""

OTHERS: Final = 10
"""Other callers, each with a key of its own that is cached."""

PAUSE: Final = 0.01
"""Seconds between two calls of each of them."""

QUIET: Final = 2.0
"""Seconds without a fill, after which there will be none."""

X: Final = "calls or sets in the burst"

PATIENCE: Final = 300.0
"""Seconds within which a process must tell its figures."""

COLUMNS: Final = (
    *("calls", "all returned after", "all stored after", "stored", "failed operations", "breaker opened"),
    *("memory, MB", "calls of others", "of these hits", "slowest of these"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The figures of a burst.

    Attributes:
        returned: Seconds until its last call had returned.
        ended: Seconds until, besides, the last fill was confirmed.
        stored: How many values stand in the server afterwards.
        failed: Operations that failed.
        opened: How often the circuit breaker opened.
        memory: Bytes by which the process grew at most.
        calls: Calls of others from the beginning until `ended`.
        hits: Those of them that were hits.
        slowest: Seconds that the slowest of them took.
    """

    returned: float
    ended: float
    stored: int
    failed: int
    opened: int
    memory: int
    calls: int
    hits: int
    slowest: float


Document: TypeAlias = CachedFunction[[int], dict[str, Any]]
Burst: TypeAlias = Callable[[Cache, Document, int], Awaitable[object]]

# --- the bursts -----------------------------------------------------------------------------------


async def _cold(_: Cache, document: Document, size: int) -> None:
    await asyncio.gather(*map(document, range(size)))


async def _sets(cache: Cache, _: Document, size: int) -> None:
    await asyncio.gather(*[cache.set(f"burst:{number}", DOCUMENT, TTL) for number in range(size)])


async def _warm(_: Cache, document: Document, size: int) -> None:
    await document.warm(((number,) for number in range(size)), concurrency=AT_A_TIME)


KINDS: Final[Mapping[str, tuple[str, Burst]]] = {
    "cold calls": ("Cold calls of a decorated function, all at once", _cold),
    "sets": ("`cache.set`, all at once", _sets),
    "warm": (f"`.warm(…, concurrency={AT_A_TIME})`", _warm),
}
"""Each kind of a burst: its title, and what it does."""


async def measure(bench: Bench) -> Section:
    """Let each kind and size of a burst meet an empty server."""
    sizes = SIZES[:2] if bench.quick else SIZES
    rounds = 1 if bench.quick else min(ROUNDS, bench.rounds)
    found: dict[str, dict[int, Told]] = {}
    for kind in KINDS:
        found[kind] = {}
        for size in sizes:
            bench.step(f"warm-up: {size:,} {kind}")
            found[kind][size] = worst([await _burst(bench, kind, size) for _ in range(rounds)])
    title = "Warm-up: bursts on an empty server"
    about = "results of 1 KB, loads that take no time, default options (`timeout=0.25`). Each burst has a process of"
    about += f" its own, in which {OTHERS} other callers ask each {PAUSE * 1e3:.0f} ms for keys that are cached."
    sheets = [_sheet(KINDS[kind][0], told) for kind, told in found.items()]
    bursts = "one burst each" if rounds == 1 else f"{rounds} bursts each: medians of the times, else the worst"
    note = f"{bursts}; stored: counted in the server; memory: the most above that at the start"
    sheets[-1] = replace(sheets[-1], note=note)
    data = {kind: {size: asdict(told) for size, told in sizes.items()} for kind, sizes in found.items()}
    return Section("warmup", title, about, sheets, data, [_chart(found)])


def worst(seen: Sequence[Told]) -> Told:
    """Return one for several: medians of the times, and the worst of everything else."""
    share = min(seen, key=lambda told: told.hits / max(1, told.calls))
    return Told(
        returned=statistics.median(told.returned for told in seen),
        ended=statistics.median(told.ended for told in seen),
        stored=min(told.stored for told in seen),
        failed=max(told.failed for told in seen),
        opened=max(told.opened for told in seen),
        memory=max(told.memory for told in seen),
        calls=share.calls,
        hits=share.hits,
        slowest=max(told.slowest for told in seen),
    )


async def _burst(bench: Bench, kind: str, size: int) -> Told:
    bench.server.reset()
    async with child("-m", __name__, bench.url, bench.loop, kind, str(size)) as process:
        figures = await told(process, Told, within=PATIENCE)
    # Values alone: a lease has another name.
    return replace(figures, stored=bench.server.cli("EXISTS", *[f"burst:{number}" for number in range(size)]))


def _sheet(title: str, found: Mapping[int, Told]) -> Sheet:
    rows = [
        (
            f"{size:,}",
            duration(told.returned),
            duration(told.ended) if told.stored == size else "never",
            f"{told.stored:,}",
            f"{told.failed:,}",
            f"{told.opened}",
            f"{told.memory / 1e6:.1f}",
            f"{told.calls:,}",
            f"{100 * told.hits / max(1, told.calls):.1f} %",
            duration(told.slowest),
        )
        for size, told in found.items()
    ]
    return Sheet(title, COLUMNS, rows)


def finding(found: Mapping[str, Mapping[int, Told]]) -> str:
    """Say how long the cold calls took; if not all of a burst were stored, say how many of the worst one were."""
    shares = {(kind, size): told.stored / size for kind, each in found.items() for size, told in each.items()}
    kind, size = min(shares, key=shares.__getitem__)
    if shares[kind, size] < 1:
        return f"A burst is lost: of {size:,} {kind} at once {found[kind][size].stored:,} are stored"
    cold = found["cold calls"]
    ends = [f"{size:,} cold calls at once in {duration(cold[size].ended)}" for size in (min(cold), max(cold))]
    return f"Every burst is stored: {ends[0]}, {ends[1].replace(' cold calls at once', '')}"


def _chart(found: Mapping[str, Mapping[int, Told]]) -> Chart:
    figures: Mapping[str, Callable[[Told], float]] = {
        "stored": lambda told: told.stored,
        "seconds until all is stored": lambda told: told.ended,
        "memory, MB": lambda told: told.memory / 1e6,
        "hits of other callers, %": lambda told: 100 * told.hits / max(1, told.calls),
    }
    curves = {
        y: {kind: ([*each], [figure(told) for told in each.values()]) for kind, each in found.items()}
        for y, figure in figures.items()
    }
    # A share has no slope: the others are straight lines where twice the burst takes twice as much.
    panels = [Curves(curves=each, y=y, x=X, log="x" if "%" in y else "xy", tall=2) for y, each in curves.items()]
    about = f"by size of the burst; warm makes {AT_A_TIME} calls at a time, the others make all of them at once"
    return Chart(name="benchmarks-warmup", title=finding(found), about=about, panels=panels)


# --- the process of one burst ---------------------------------------------------------------------


@dataclass(slots=True)
class Tape:
    """What happens during a burst that makes `expected` fills."""

    expected: int
    filled: int = 0
    last: float = 0.0  # when the last fill was confirmed
    failed: int = 0
    opened: int = 0
    others: list[tuple[float, float, bool]] = field(default_factory=list)  # begin, end, and whether it was a hit
    over: bool = False
    all_filled: asyncio.Event = field(default_factory=asyncio.Event)

    def observe(self, event: Event) -> None:
        """Take note of an event of the cache."""
        if isinstance(event, Filled):
            self.filled += 1
            self.last = time.monotonic()
            if self.filled == self.expected:
                self.all_filled.set()
        elif isinstance(event, StoreFailed):
            self.failed += 1
        elif isinstance(event, BreakerOpened):
            self.opened += 1

    async def settled(self) -> None:
        """Wait until all is filled, or no fill has been confirmed for `QUIET`."""
        before = -1
        while before < self.filled < self.expected:
            before = self.filled
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.all_filled.wait(), QUIET)

    async def other(self, call: Callable[[int], Awaitable[object]], number: int) -> None:
        """Call for a key that is cached, again and again, until it is over."""
        while not self.over:
            began = time.monotonic()
            # A hit is decoded from the store; a load is handed out as it is.
            hit = await call(number) is not DOCUMENT
            self.others.append((began, time.monotonic(), hit))
            await asyncio.sleep(PAUSE)


def _peak() -> int:
    """Return the most bytes of memory that this process has had.

    Not by getrusage where there is /proc: on Linux that begins with the size of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text(encoding="ascii").partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def _record(url: str, kind: str, size: int) -> Told:
    # With a handler of its own no warning is printed into the progress.
    logging.getLogger("cachekit").addHandler(logging.NullHandler())
    async with Cache(url) as cache:
        document, cached = (cache.cached(key=f"{name}:<number>", ttl=TTL)(load) for name in ("burst", "other"))
        for number in range(OTHERS):
            await cached(number)
        tape = Tape(0 if kind == "sets" else size)
        cache.observe(tape.observe)
        gc.collect()
        gc.freeze()
        others = [asyncio.create_task(tape.other(cached, number)) for number in range(OTHERS)]
        await asyncio.sleep(10 * PAUSE)
        memory, began = psutil.Process().memory_info().rss, time.monotonic()
        await KINDS[kind][1](cache, document, size)
        returned = time.monotonic()
        await tape.settled()
        memory = max(0, _peak() - memory)
        tape.over = True
        await asyncio.gather(*others)
    return _figures(tape, began, returned, memory)


def _figures(tape: Tape, began: float, returned: float, memory: int) -> Told:
    ended = max(returned, tape.last)
    calls = [(end - begin, hit) for begin, end, hit in tape.others if end > began and begin < ended]
    return Told(
        returned=returned - began,
        ended=ended - began,
        stored=tape.filled,
        failed=tape.failed,
        opened=tape.opened,
        memory=memory,
        calls=len(calls),
        hits=sum(hit for _, hit in calls),
        slowest=max((took for took, _ in calls), default=0.0),
    )


def main() -> None:
    """Be the process of one burst."""
    url, loop, kind, size = sys.argv[1:]
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        tell(runner.run(_record(url, kind, int(size))))


if __name__ == "__main__":
    main()
