"""How a question is measured: variants interleaved round by round in one process, medians of many rounds.

On a noisy machine one round may be off by half, and the whole of a minute by a third. Since the variants take
turns, both meet the same noise, and the median of their ratios, pair by pair, stays put.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import pkgutil
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks import questions

Run: TypeAlias = Callable[[int], Awaitable[object]]
"""Does the work so many times."""

Variant: TypeAlias = Callable[[str], AbstractAsyncContextManager[Run]]
"""Gets the URL of an empty server; sets up, gives the run, cleans up."""

Steps: TypeAlias = AsyncGenerator[Run, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One row of the table.

    ``calls`` is how many calls one round makes; ``target`` the ratio that is aimed at, if there is one.
    """

    name: str
    work: str
    ours: Variant
    against: str
    theirs: Variant
    calls: int
    target: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What was measured: medians in microseconds a call, and the median ratio of the paired rounds."""

    question: Question
    ours_us: float
    theirs_us: float
    ratio: float


def all_questions() -> list[Question]:
    """Return the questions of every file in `benchmarks/questions/`, in the order of their files."""
    found: list[Question] = []
    for module in sorted(pkgutil.iter_modules(questions.__path__), key=lambda module: module.name):
        found.extend(importlib.import_module(f"{questions.__name__}.{module.name}").QUESTIONS)
    return found


async def answer(question: Question, url: str, *, rounds: int, calls: int, step: Callable[[], None]) -> Answer:
    """Measure ``question``: ``rounds`` rounds of ``calls`` calls each, after one that does not count."""
    ours: list[float] = []
    theirs: list[float] = []
    async with AsyncExitStack() as stack:
        run_ours = await stack.enter_async_context(question.ours(url))
        run_theirs = await stack.enter_async_context(question.theirs(url))
        for round_ in range(rounds + 1):
            # Whoever goes first may find the caches of the processor cold: they take turns at that as well.
            order = [(run_ours, ours), (run_theirs, theirs)]
            for run, times in order if round_ % 2 else reversed(order):
                seconds = await _timed(run, calls)
                if round_:
                    times.append(seconds / calls * 1e6)
            step()
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return Answer(question, statistics.median(ours), statistics.median(theirs), ratio)


async def _timed(run: Run, calls: int) -> float:
    gc.collect()
    gc.disable()
    try:
        began = time.perf_counter()
        await run(calls)
        return time.perf_counter() - began
    finally:
        gc.enable()


def one_caller(call: Callable[[], Awaitable[object]]) -> Run:
    """Return a run of one call after the other."""

    async def run(calls: int) -> None:
        for _ in range(calls):
            await call()

    return run


def many_callers(callers: int, call: Callable[[int], Awaitable[object]]) -> Run:
    """Return a run of ``callers`` calls at a time, each with a number of its own."""

    async def run(calls: int) -> None:
        for _ in range(max(1, calls // callers)):
            await asyncio.gather(*[call(caller) for caller in range(callers)])

    return run
