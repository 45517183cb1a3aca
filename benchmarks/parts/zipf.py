"""Zipf: 100 callers ask for hot keys, as in front of a database; near caches hold the hottest."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Final

from benchmarks.charts import Bars, Chart
from benchmarks.parts.peers import all_opened, figures, shown
from benchmarks.peers import BY_HAND, Load, Setup
from benchmarks.report import Section, Sheet
from benchmarks.suite import Bench, Found, Run, medians
from benchmarks.work import zipf

CALLERS: Final = 100
KEYS: Final = 10_000
ENTRIES: Final = 1_000
"""How many entries are held in a process, where some are: a tenth of the keys."""


async def measure(bench: Bench) -> Section:
    """Measure every peer on the same trace."""
    keys, entries = (300, 30) if bench.quick else (KEYS, ENTRIES)
    trace = zipf(keys, 20_000)
    async with all_opened(bench.url, Setup(callers=CALLERS, entries=entries)) as (calls, missing):
        for who, call in list(calls.items()):
            bench.step(f"Zipf: {who} fills")
            try:
                await _fill(call, keys)
            except Exception as error:
                missing[who] = repr(error)
                del calls[who]
        runs = {who: _asking(call, trace) for who, call in calls.items()}
        found = await bench.interleaved("Zipf", runs, calls=4000, most=10)
    title = f"Zipf: {CALLERS} callers, {keys:,} keys, the popular ones more often"
    rows = [*((who, shown(times, found[BY_HAND])) for who, times in found.items()), *missing.items()]
    note = f"microseconds a call; in brackets: the time by hand; {entries:,} entries where some are held in the process"
    about = "every key is in Redis. A map in the process lacks some: they are read, or loaded by async-lru in no time."
    sheet = Sheet(title, ("", "a call"), rows, note)
    data = {"us": figures(found), "missing": missing}
    return Section("zipf", "Hot keys by Zipf's law", about, [sheet], data, [_chart(found)])


async def _fill(call: Load, keys: int) -> None:
    for begin in range(0, keys, CALLERS):
        await asyncio.gather(*[call(number) for number in range(begin, begin + CALLERS)])


def _asking(call: Load, trace: list[int]) -> Run:
    """Return a run in which callers work off the trace together."""
    numbers = itertools.cycle(trace)

    async def run(calls: int) -> float:
        mine = iter(list(itertools.islice(numbers, calls)))

        async def caller() -> None:
            for number in mine:
                await call(number)

        began = time.perf_counter()
        await asyncio.gather(*[caller() for _ in range(min(CALLERS, calls))])
        return time.perf_counter() - began

    return run


def _chart(found: Found) -> Chart:
    times = medians(found)
    best = min((who for who in times if who.startswith("cachekit")), key=times.__getitem__, default=BY_HAND)
    return Chart(
        name="benchmarks-zipf",
        title=f"Hot keys: {best} takes {times[best] / times[BY_HAND]:.2f} x the time by hand",
        about=f"time of a call, keys by Zipf 0.9, {CALLERS} callers; less is better",
        panels=[Bars(bars=times, label="{:.1f} us", log=True)],
    )
