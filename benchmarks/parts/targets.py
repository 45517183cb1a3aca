"""The table of targets: cachekit against the same work by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.plots import duration
from benchmarks.report import Section, Sheet
from benchmarks.suite import Answer, Bench, Question, answer

TITLE = "Targets: cachekit against the same by hand"


async def measure(bench: Bench, questions: Sequence[Question]) -> Section:
    """Answer ``questions``."""
    rows: list[tuple[str, ...]] = []
    data: list[dict[str, Any]] = []
    for question in questions:
        found = await answer(question, bench)
        rows.append(_row(found))
        data.append(_data(found))
    columns = ("work", "against", "cachekit", "the other", "found", "target", "met")
    about = "1 KB of JSON, loopback; by hand is `redis.asyncio.Redis(host=..., port=...)` with its default options."
    note = f"the time of a call; at most {bench.rounds} rounds of each"
    return Section("targets", TITLE, about, [Sheet(TITLE, columns, rows, note)], data)


def _row(found: Answer) -> tuple[str, ...]:
    question = found.question
    met = question.measure.met(found.figure)
    return (
        question.work,
        question.against,
        duration(found.ours_us / 1e6),
        duration(found.theirs_us / 1e6),
        question.measure.shown(found.figure),
        question.measure.target,
        "" if met is None else "yes" if met else "no",
    )


def _data(found: Answer) -> dict[str, Any]:
    question = found.question
    return {
        "name": question.name,
        "work": question.work,
        "against": question.against,
        "cachekit_us": round(found.ours_us, 3),
        "by_hand_us": round(found.theirs_us, 3),
        "ratio": round(found.ours_us / found.theirs_us, 4),
        "found": question.measure.shown(found.figure),
        "target": question.measure.target,
        "met": question.measure.met(found.figure),
    }
