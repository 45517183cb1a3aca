"""How work is measured: variants interleaved round by round in one process, medians of many rounds.

On a noisy machine one round may be off by half, and the whole of a minute by a third. Since the variants take
turns, all meet the same noise, and the median of their ratios, round by round, stays put.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from tests.kit.servers import RedisServer

Run: TypeAlias = Callable[[int], Awaitable[float | None]]
"""Does the work so many times; gives the seconds if it measures them itself."""

Rounds: TypeAlias = list[float]
"""Microseconds a call, one figure a round."""

Found: TypeAlias = dict[str, Rounds | Exception]
"""The times of each run, or the error with which it ended."""

SLICE: Final = 20
"""How many calls of one caller are timed together."""


@dataclass(slots=True)
class Bench:
    """The server and the settings that a part is given.

    Attributes:
        server: An empty one, for this part alone.
        rounds: Rounds that count, of each variant.
        quick: Whether it is a look, not a measurement.
        loop: Which event loop, for processes that a part starts.
        step: Shows a few words about the work under way.
    """

    server: RedisServer
    rounds: int
    quick: bool
    loop: str
    step: Callable[[str], None]

    @property
    def url(self) -> str:
        """That of the server."""
        return self.server.url

    async def interleaved(self, what: str, runs: Mapping[str, Run], *, calls: int, most: int = 1000) -> Found:
        """Run each in turn, ``calls`` times a round, after one round that does not count.

        There are as many rounds as the command line says, ``most`` at most. A run that raises is out, with its error.
        """
        calls = max(1, calls // 10) if self.quick else calls
        found: Found = {name: [] for name in runs}
        for number in range(min(self.rounds, most) + 1):
            # The first may find the caches of the processor cold: they take turns at that as well.
            order = list(runs.items())
            shift = number % max(1, len(order))
            for name, run in order[shift:] + order[:shift]:
                if isinstance(times := found[name], Exception):
                    continue
                try:
                    seconds = await _timed(run, calls)
                except Exception as error:
                    found[name] = error
                    continue
                if number:
                    times.append(seconds / calls * 1e6)
            self.step(what)
        return found


def measured(found: Rounds | Exception) -> Rounds:
    """Return the figures; raise the error that stands in their place."""
    if isinstance(found, Exception):
        raise found
    return found


def medians(found: Found) -> dict[str, float]:
    """Return the median of each run that did not end with an error."""
    return {name: statistics.median(times) for name, times in found.items() if not isinstance(times, Exception)}


def ratio(ours: Rounds, theirs: Rounds) -> float:
    """Return the median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def spread(times: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the 99th percentile and the largest of ``times``; zeros if there are none."""
    # The quantiles of one figure alone are not defined.
    several = times if len(times) > 1 else [*(times or [0.0])] * 2
    hundredths = statistics.quantiles(several, n=100, method="inclusive")
    return hundredths[49], hundredths[98], max(several)


CAN_PIN: Final = hasattr(os, "sched_setaffinity")
"""Whether a process can choose its cores here."""


@contextmanager
def on_one_core(bench: Bench) -> Generator[str, None, None]:
    """Pin this process to one core, and a new server as well; give the URL of that server.

    It is what ``taskset -c`` does to both: the server inherits the core from the process that starts it.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with RedisServer(bench.server.binary) as server:
            yield server.url
    finally:
        os.sched_setaffinity(0, before)


async def _timed(run: Run, calls: int) -> float:
    gc.collect()
    gc.disable()
    try:
        began = time.perf_counter()
        own = await run(calls)
        took = time.perf_counter() - began
    finally:
        gc.enable()
    return took if own is None else own


def one_caller(call: Callable[[], Awaitable[object]]) -> Run:
    """Return a run of one call after the other."""

    async def once(calls: int) -> None:
        for _ in range(calls):
            await call()

    return sliced(once)


def sliced(once: Callable[[int], Awaitable[None]]) -> Run:
    """Return a run of ``once`` in slices, whose time is that of as many median slices.

    When the system takes the processor away, a single slice is hit by it, and not the figure of the round.
    """

    async def run(calls: int) -> float:
        size = min(calls, SLICE)
        times: list[float] = []
        for _ in range(calls // size):
            began = time.perf_counter()
            await once(size)
            times.append(time.perf_counter() - began)
        return statistics.median(times) / size * calls

    return run


def many_callers(callers: int, call: Callable[[int], Awaitable[object]]) -> Run:
    """Return a run of ``callers`` callers at a time, each with a number of its own, who call again and again.

    Each makes at least one call; the time is that of as many calls as were asked for. A task for each call would
    cost as much as the call.
    """
    if callers == 1:
        return one_caller(partial(call, 0))

    async def run(calls: int) -> float:
        turns = max(1, calls // callers)

        async def caller(number: int) -> None:
            for _ in range(turns):
                await call(number)

        began = time.perf_counter()
        await asyncio.gather(*[caller(number) for number in range(callers)])
        return (time.perf_counter() - began) * calls / (turns * callers)

    return run
