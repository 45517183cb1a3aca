"""Peers: the same function decorated by each, a 1 KB dict, against doing it by hand."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from benchmarks.charts import Chart, Curve, Curves
from benchmarks.peers import BY_HAND, PEERS, Load, Setup
from benchmarks.report import Section, Sheet
from benchmarks.suite import Bench, Found, Rounds, Run, many_callers, medians, one_caller, ratio
from benchmarks.work import load

CALLERS: Final = (1, 10, 100, 1000)
TITLE: Final = "Peers: the same function decorated by each"


@asynccontextmanager
async def all_opened(url: str, setup: Setup) -> AsyncGenerator[tuple[dict[str, Load], dict[str, str]]]:
    """Open every peer; give the decorated `load` of each, and why some are missing."""
    calls: dict[str, Load] = {}
    missing: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for peer in PEERS:
            try:
                calls[peer.name] = await stack.enter_async_context(peer.opened(url, load, setup))
            except Exception as error:
                missing[peer.name] = repr(error)
        yield calls, missing


async def measure(bench: Bench) -> Section:
    """Measure every peer."""
    work: dict[str, Found] = {}
    async with all_opened(bench.url, Setup(callers=CALLERS[-1])) as (calls, missing):
        for callers in CALLERS:
            name = "hit" if callers == 1 else f"hits, {callers:,} callers"
            # Each run begins with a round that does not count: it fills the keys.
            runs = {who: many_callers(callers, call) for who, call in calls.items()}
            work[name] = await bench.interleaved(f"peers: {name}", runs, calls=200 if callers == 1 else 2000, most=12)
        fresh = itertools.count(10_000_000)
        misses = {who: _misses(call, fresh) for who, call in calls.items()}
        work["miss"] = await bench.interleaved("peers: miss", misses, calls=100, most=12)
    rows = [(who, *(shown(found[who], found[BY_HAND]) for found in work.values())) for who in calls]
    rows += [(who, why, *[""] * (len(work) - 1)) for who, why in missing.items()]
    sheet = Sheet(TITLE, ("", *work), rows, "microseconds a call; in brackets: the time by hand")
    packages = [(peer.name, peer.version, peer.options) for peer in PEERS]
    options = Sheet("Versions and options", ("", "version", "options"), packages)
    about = "the result is a dict of 1 KB, the load takes no time, callers ask for distinct keys."
    data = {"us": {name: figures(found) for name, found in work.items()}, "missing": missing}
    return Section("peers", TITLE, about, [sheet, options], data, [_chart(work)])


def _misses(call: Load, fresh: itertools.count[int]) -> Run:
    return one_caller(lambda: call(next(fresh)))


def shown(found: Rounds | Exception, by_hand: Rounds | Exception) -> str:
    """Return a time, and in brackets its ratio to the time by hand; or the error."""
    if isinstance(found, Exception):
        return f"{type(found).__name__}: {found}"[:80]
    median = f"{statistics.median(found):.3g} us"
    return median if isinstance(by_hand, Exception) else f"{median} ({ratio(found, by_hand):.2f} x)"


def figures(found: Found) -> dict[str, float | str]:
    """Return the median of each, or its error, for programs."""
    errors = {who: repr(times) for who, times in found.items() if isinstance(times, Exception)}
    return {**{who: round(median, 3) for who, median in medians(found).items()}, **errors}


def _chart(work: Mapping[str, Found]) -> Chart:
    found = {callers: medians(each) for callers, each in zip(CALLERS, work.values(), strict=False)}
    curves: dict[str, Curve] = {}
    for who in found[1]:
        xs = [callers for callers in CALLERS if who in found[callers]]
        curves[who] = (xs, [found[callers][who] for callers in xs])
    return Chart(
        name="benchmarks-peers",
        title=_finding(work["hits, 100 callers"]),
        about="time of a hit on a 1 KB dict, loopback; less is better",
        panels=[Curves(curves=curves, x="concurrent callers, distinct keys", y="us a hit", log="xy")],
    )


def _finding(found: Found) -> str:
    ours, by_hand = found.get("cachekit"), found[BY_HAND]
    if not isinstance(ours, list) or not isinstance(by_hand, list):
        return "Hits, by concurrent callers"
    return f"With 100 callers a hit costs {ratio(ours, by_hand):.2f} x what it costs by hand"
