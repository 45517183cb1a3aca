"""Short runs of the consistency harness: cachekit holds, and the violations of a naive cache-aside are found.

`tests.consistency` describes the checks and their reasons; ``python -m tests.consistency --minutes N`` runs longer.
"""

from __future__ import annotations

import random

import pytest

from tests.consistency.harness import Report, run
from tests.kit.sizes import sized

pytestmark = pytest.mark.server


def test_nothing_invalidated_is_read_again_in_any_process_under_any_fault() -> None:
    wanted = {"checked": 500, "loads": 1, "failed loads": 1, "unacknowledged": 1}
    report = run(seed=random.randrange(1_000_000), seconds=sized(4, 12), at_least=wanted)
    assert not report.violations, report
    assert report.reached(wanted), report
    assert report.counts["loads"] > report.counts["failed loads"], report
    assert report.faults, report


def test_a_near_hit_is_never_behind_by_more_than_the_limit_under_any_fault() -> None:
    # A near hit of a known fill can be judged by its time to live.
    wanted = {"checked": 500, "near hits": 1, "near hits of a known fill": 1}
    report = run(seed=random.randrange(1_000_000), seconds=sized(4, 10), near=True, at_least=wanted)
    assert not report.violations, report
    assert report.reached(wanted), report
    assert report.faults, report


@pytest.mark.parametrize("near", [False, True], ids=["on Redis", "near"])
def test_a_stale_value_is_never_older_than_an_invalidation_under_any_fault(*, near: bool) -> None:
    wanted = {"checked": 500, "failed loads": 10, "expired": 1, "stale: revalidate": 1, "stale: error": 1}
    report = run(seed=random.randrange(1_000_000), seconds=sized(4, 12), stale=True, near=near, at_least=wanted)
    assert not report.violations, report
    assert report.reached(wanted), report
    assert report.faults, report


@pytest.mark.parametrize(
    ("near", "stale"), [(False, False), (True, False), (False, True)], ids=["on Redis", "near", "stale"]
)
def test_nothing_invalidated_is_read_again_with_tags_batches_and_puts_under_any_fault(
    *, near: bool, stale: bool
) -> None:
    wanted = {
        "checked": 500,
        "hits": 100,
        "batch": 10,
        "put stored": 1,
        "everything": 1,
        "cleared": 1,
        "unacknowledged": 1,
    }
    report = run(
        seed=random.randrange(1_000_000), seconds=sized(4, 12), tags=True, near=near, stale=stale, at_least=wanted
    )
    assert not report.violations, report
    assert report.reached(wanted), report
    assert report.faults, report


def test_the_harness_finds_the_violations_of_a_naive_cache_aside() -> None:
    """Otherwise the harness would prove nothing. A run takes a second or two; another seed helps a busy machine."""
    report = next((report for report in map(_naive, range(5)) if _stale(report)), None)
    assert report is not None, "five runs of a cache-aside without guards have read nothing stale"
    assert {violation.kind for violation in report.violations} <= {"stale", "left"}, report


def _stale(report: Report) -> bool:
    return any(violation.kind == "stale" and violation.trace for violation in report.violations)


def _naive(seed: int) -> Report:
    return run(seed=seed, seconds=10, faults=False, naive=True, until_violation=True, at_least={"checked": 500})
