"""The table of targets: cachekit against the same work by hand."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.questions import Question
from benchmarks.report import Section, Sheet, duration
from benchmarks.suite import Bench, measured, on_one_core

TITLE = "Targets: cachekit against the same by hand"
COLUMNS = ("work", "against", "cachekit", "the other", "found", "target", "met")


async def measure(bench: Bench, questions: Sequence[Question]) -> Section:
    """Answer ``questions``."""
    data = [await _answer(question, bench) for question in questions]
    rows = [
        (
            found["work"],
            found["against"],
            duration(found["cachekit_us"] / 1e6),
            duration(found["by_hand_us"] / 1e6),
            found["found"],
            found["target"],
            {True: "yes", False: "no", None: ""}[found["met"]],
        )
        for found in data
    ]
    about = "1 KB of JSON, loopback; by hand is `redis.asyncio.Redis(host=..., port=...)` with its default options."
    note = f"the time of a call; at most {bench.rounds} rounds of each"
    return Section("targets", TITLE, about, [Sheet(TITLE, COLUMNS, rows, note)], data)


async def _answer(question: Question, bench: Bench) -> dict[str, Any]:
    """Return medians in microseconds a call, and the figure that the question is about."""
    against, theirs = question.against
    async with AsyncExitStack() as stack:
        url = stack.enter_context(on_one_core(bench)) if question.one_core else bench.url
        runs = {
            "ours": await stack.enter_async_context(question.ours(url)),
            "theirs": await stack.enter_async_context(theirs(url)),
        }
        found = await bench.interleaved(question.work, runs, calls=question.calls, most=question.most)
    us, by_hand_us = (statistics.median(measured(found[who])) for who in ("ours", "theirs"))
    pairs = zip(measured(found["ours"]), measured(found["theirs"]), strict=True)
    figure = statistics.median(question.measure.of(a, b) for a, b in pairs)
    return {
        "name": question.name,
        "work": question.work,
        "against": against,
        "cachekit_us": round(us, 3),
        "by_hand_us": round(by_hand_us, 3),
        "ratio": round(us / by_hand_us, 4),
        "found": question.measure.unit.format(figure),
        "target": question.measure.target,
        "met": question.measure.met(figure),
    }
