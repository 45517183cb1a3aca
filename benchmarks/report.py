"""The answers as a table for people and as JSON for programs."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

from rich.table import Table

from benchmarks.suite import Answer


def table(answers: list[Answer], where: dict[str, Any]) -> Table:
    """Return the one table."""
    machine = f"Python {where['python']}, redis-py {where['redis-py']}, Redis {where['redis']}, {where['cores']} cores"
    result = Table(title="cachekit against the same by hand", caption=f"microseconds a call, medians; {machine}")
    result.add_column("work")
    result.add_column("cachekit", justify="right")
    result.add_column("by hand", justify="right")
    result.add_column("ratio", justify="right")
    result.add_column("target", justify="right")
    result.add_column("against")
    for answer in answers:
        target = answer.question.target
        met = target is None or answer.ratio <= target
        result.add_row(
            answer.question.work,
            f"{answer.ours_us:.1f}",
            f"{answer.theirs_us:.1f}",
            f"[{'green' if met else 'yellow'}]{answer.ratio:.2f}[/]",
            "" if target is None else f"{target:.2f}",
            answer.question.against,
        )
    return result


def environment(redis_version: str) -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "python": platform.python_version(),
        "redis-py": version("redis"),
        "hiredis": version("hiredis"),
        "redis": redis_version,
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }


def as_json(answers: list[Answer], where: dict[str, Any]) -> dict[str, Any]:
    """Return everything that was measured, and where."""
    return {
        "where": where,
        "answers": [
            {
                "name": answer.question.name,
                "work": answer.question.work,
                "against": answer.question.against,
                "cachekit_us": round(answer.ours_us, 2),
                "by_hand_us": round(answer.theirs_us, 2),
                "ratio": round(answer.ratio, 4),
                "target": answer.question.target,
            }
            for answer in answers
        ],
    }
