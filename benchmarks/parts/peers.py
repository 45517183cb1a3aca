"""Peers: the same function decorated by each, a 1 KB dict, against doing it by hand."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

from benchmarks import peers
from benchmarks.charts import Line, Lines
from benchmarks.peers import BY_HAND, Load
from benchmarks.report import Section, Sheet
from benchmarks.suite import Bench, Rounds, Run, interleaved, many_callers, one_caller, ratio
from benchmarks.work import DOCUMENT

CALLERS: Final = (1, 10, 100, 1000)
TITLE: Final = "Peers: the same function decorated by each"


async def document(number: int) -> dict[str, Any]:  # noqa: ARG001 - it is part of the key
    """Return the document: a load of 0."""
    return DOCUMENT


@asynccontextmanager
async def all_opened(url: str, *, callers: int, entries: int) -> AsyncGenerator[tuple[dict[str, Load], dict[str, str]]]:
    """Open every peer; give what they made of `document`, and why some are missing."""
    calls: dict[str, Load] = {}
    missing: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for module in peers.MODULES:
            name = module
            try:
                peer = peers.peer(module)
                name = peer.NAME
                opened = peer.opened(url, document, callers=callers, entries=entries)
                calls[name] = await stack.enter_async_context(opened)
            except Exception as error:
                missing[name] = repr(error)
        yield calls, missing


async def measure(bench: Bench) -> Section:
    """Measure every peer."""
    work: dict[str, dict[str, Rounds | Exception]] = {}
    async with all_opened(bench.url, callers=CALLERS[-1], entries=10_000) as (calls, missing):
        for callers in CALLERS:
            name = "hit" if callers == 1 else f"hits, {callers:,} callers"
            bench.step(f"peers: {name}")
            runs = {who: _hits(call, callers) for who, call in calls.items()}
            # Each run begins with a round that does not count: it fills what is missing.
            work[name] = await _measured(bench, runs, name, 200 if callers == 1 else 2000)
        fresh = itertools.count(10_000_000)
        misses = {who: _misses(call, fresh) for who, call in calls.items()}
        work["miss"] = await _measured(bench, misses, "miss", 100)
    sheet = Sheet(TITLE, ("", *work), _rows(work, calls, missing), "microseconds a call; in brackets: the time by hand")
    options = Sheet("Versions and options", ("", "version", "options"), list(peers.described()))
    about = "the result is a dict of 1 KB, the load takes no time, callers ask for distinct keys."
    return Section("peers", TITLE, about, [sheet, options], _data(work, missing), [_chart(work)])


async def _measured(bench: Bench, runs: Mapping[str, Run], name: str, calls: int) -> dict[str, Rounds | Exception]:
    rounds = min(bench.rounds, 12)
    return await interleaved(runs, rounds=rounds, calls=bench.scaled(calls), step=lambda: bench.step(f"peers: {name}"))


def _hits(call: Load, callers: int) -> Run:
    return one_caller(partial(call, 0)) if callers == 1 else many_callers(callers, call)


def _misses(call: Load, fresh: itertools.count[int]) -> Run:
    return one_caller(lambda: call(next(fresh)))


def shown(found: Rounds | Exception, by_hand: Rounds | Exception) -> str:
    """Return a time, and in brackets its ratio to the time by hand; or the error."""
    if isinstance(found, Exception):
        return f"{type(found).__name__}: {found}"[:80]
    median = f"{statistics.median(found):.3g} us"
    return median if isinstance(by_hand, Exception) else f"{median} ({ratio(found, by_hand):.2f} x)"


def _rows(
    work: dict[str, dict[str, Rounds | Exception]], calls: Mapping[str, Load], missing: Mapping[str, str]
) -> list[tuple[str, ...]]:
    rows = [(who, *(shown(found[who], found[BY_HAND]) for found in work.values())) for who in calls]
    return rows + [(who, why, *("" for _ in range(len(work) - 1))) for who, why in missing.items()]


def figures(found: Mapping[str, Rounds | Exception]) -> dict[str, float | str]:
    """Return the median of each, or its error, for programs."""
    return {
        who: repr(times) if isinstance(times, Exception) else round(statistics.median(times), 3)
        for who, times in found.items()
    }


def _data(work: dict[str, dict[str, Rounds | Exception]], missing: Mapping[str, str]) -> dict[str, Any]:
    return {"us": {name: figures(found) for name, found in work.items()}, "missing": dict(missing)}


def _chart(work: dict[str, dict[str, Rounds | Exception]]) -> Lines:
    found = [times for name, times in work.items() if name != "miss"]
    lines: list[Line] = []
    for who in found[0]:
        points: list[tuple[int, float]] = []
        for callers, each in zip(CALLERS, found, strict=True):
            times = each[who]
            if not isinstance(times, Exception):
                points.append((callers, statistics.median(times)))
        if points:
            lines.append(Line(who, [x for x, _ in points], [y for _, y in points]))
    return Lines(
        name="peers",
        title=_finding(work),
        about="time of a hit on a 1 KB dict, loopback; less is better",
        x="concurrent callers, distinct keys",
        y="us a hit",
        lines=lines,
    )


def _finding(work: dict[str, dict[str, Rounds | Exception]]) -> str:
    found = work["hits, 100 callers"]
    ours, by_hand = found.get("cachekit"), found[BY_HAND]
    if not isinstance(ours, list) or not isinstance(by_hand, list):
        return "Hits, by concurrent callers"
    return f"With 100 callers a hit costs {ratio(ours, by_hand):.2f} x what it costs by hand"
