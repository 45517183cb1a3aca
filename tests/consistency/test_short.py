"""Short runs of the consistency harness: cachekit holds, and a naive cache-aside is found out.

What is checked and why is in `tests.consistency`; ``python -m tests.consistency --minutes N`` runs longer.
"""

from __future__ import annotations

import random

from tests.consistency.harness import Report, run


def test_nothing_invalidated_is_read_again_in_any_process_whatever_fails() -> None:
    report = run(seed=random.randrange(1_000_000), seconds=12)
    assert not report.violations, report
    assert report.counts["checked"] >= 500, report
    assert report.counts["unacknowledged"], f"no invalidation was hit by a fault: {report}"
    assert report.counts["loads"] > report.counts["failed loads"] > 0, report
    assert report.faults, report


def test_what_is_near_is_never_behind_by_more_than_the_limit_whatever_fails() -> None:
    report = run(seed=random.randrange(1_000_000), seconds=10, near=True)
    assert not report.violations, report
    assert report.counts["checked"] >= 500, report
    assert report.counts["near hits"], report
    assert report.counts["near hits of a known fill"], f"none of them could be judged by its time to live: {report}"
    assert report.faults, report


def test_the_harness_finds_a_naive_cache_aside_out() -> None:
    """Or it would prove nothing. It takes a second or two; three seeds make sure."""
    seeds = iter(range(3))
    report = _naive(next(seeds))
    while not report.violations and (seed := next(seeds, None)) is not None:
        report = _naive(seed)
    assert any(violation.kind == "stale" and violation.trace for violation in report.violations), report
    assert {violation.kind for violation in report.violations} <= {"stale", "left"}, report


def _naive(seed: int) -> Report:
    return run(seed=seed, seconds=10, faults=False, naive=True, until_violation=True)
