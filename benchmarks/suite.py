"""How work is measured: variants interleaved round by round in one process, medians of many rounds.

On a noisy machine one round may be off by half, and the whole of a minute by a third. Since the variants take
turns, all meet the same noise, and the median of their ratios, round by round, stays put.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import pkgutil
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from benchmarks import questions
from benchmarks.targets import Measure, Ratio

Run: TypeAlias = Callable[[int], Awaitable[float | None]]
"""Does the work so many times; gives the seconds if it measures them itself."""

Variant: TypeAlias = Callable[[str], AbstractAsyncContextManager[Run]]
"""Gets the URL of a server; sets up, gives the run, cleans up."""

SLICE: Final = 20
"""How many calls of one caller are timed together."""

Rounds: TypeAlias = list[float]
"""Microseconds a call, one figure a round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One row of the table of targets.

    ``calls`` is how many calls one round makes; ``most`` bounds the rounds of what takes long.
    """

    name: str
    work: str
    ours: Variant
    against: str
    theirs: Variant
    calls: int
    measure: Measure = field(default_factory=Ratio)
    most: int = 1000


@dataclass(frozen=True, slots=True)
class Answer:
    """What was measured: medians in microseconds a call, and the figure that the question is about."""

    question: Question
    ours_us: float
    theirs_us: float
    figure: float


@dataclass(slots=True)
class Bench:
    """What a part of the benchmarks is given.

    Attributes:
        url: Of an empty server.
        rounds: Rounds that count, of each variant.
        quick: Whether it is a look, not a measurement.
        loop: Which event loop, for processes that a part starts.
        step: Called with what is going on, time and again.
    """

    url: str
    rounds: int
    quick: bool
    loop: str
    step: Callable[[str], None]

    def scaled(self, calls: int) -> int:
        """Return how many calls a round makes."""
        return max(1, calls // 10) if self.quick else calls


def all_questions() -> list[Question]:
    """Return the questions of every file in `benchmarks/questions/`, in the order of their files."""
    found: list[Question] = []
    for module in sorted(pkgutil.iter_modules(questions.__path__), key=lambda module: module.name):
        found.extend(importlib.import_module(f"{questions.__name__}.{module.name}").QUESTIONS)
    return found


async def interleaved(
    runs: Mapping[str, Run], *, rounds: int, calls: int, step: Callable[[], None]
) -> dict[str, Rounds | Exception]:
    """Run each ``rounds`` times in turn, after one round that does not count; what raises is out, with its error."""
    found: dict[str, Rounds | Exception] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        # Whoever goes first may find the caches of the processor cold: they take turns at that as well.
        order = list(runs.items())
        shift = round_ % len(order)
        for name, run in order[shift:] + order[:shift]:
            times = found[name]
            if isinstance(times, Exception):
                continue
            try:
                seconds = await _timed(run, calls)
            except Exception as error:
                found[name] = error
                continue
            if round_:
                times.append(seconds / calls * 1e6)
        step()
    return found


async def answer(question: Question, bench: Bench) -> Answer:
    """Measure ``question``."""
    async with AsyncExitStack() as stack:
        runs = {
            "ours": await stack.enter_async_context(question.ours(bench.url)),
            "theirs": await stack.enter_async_context(question.theirs(bench.url)),
        }
        found = await interleaved(
            runs,
            rounds=min(bench.rounds, question.most),
            calls=bench.scaled(question.calls),
            step=lambda: bench.step(question.work),
        )
    ours, theirs = measured(found["ours"]), measured(found["theirs"])
    figure = statistics.median(question.measure.of(a, b) for a, b in zip(ours, theirs, strict=True))
    return Answer(question, statistics.median(ours), statistics.median(theirs), figure)


def measured(found: Rounds | Exception) -> Rounds:
    """Return the figures; raise what stands in their place."""
    if isinstance(found, Exception):
        raise found
    return found


def ratio(ours: Rounds, theirs: Rounds) -> float:
    """Return the median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


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
    cost as much as what is measured.
    """

    async def run(calls: int) -> float:
        turns = max(1, calls // callers)

        async def caller(number: int) -> None:
            for _ in range(turns):
                await call(number)

        began = time.perf_counter()
        await asyncio.gather(*[caller(number) for number in range(callers)])
        return (time.perf_counter() - began) * calls / (turns * callers)

    return run
