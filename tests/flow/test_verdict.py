"""The table that decides: the same rows as in the code and in the docs."""

from __future__ import annotations

import pytest

from cachekit import MISS
from cachekit._flow import verdict
from cachekit._flow.verdict import OF_FRESH, TABLE, Verdict, verdict_on
from cachekit._tiers.outcome import Distrusted, Down, Found, Outcome
from cachekit.entry import Entry
from cachekit.freshness import FRESH, Freshness
from tests import ROOT


def found(freshness: Freshness) -> Found:
    return Found(None, Entry(b"null"), freshness)


ROWS: list[tuple[Outcome, Verdict]] = [
    (found(Freshness.FRESH), Verdict.SERVE),
    (found(Freshness.DUE), Verdict.SERVE_LOAD),
    (found(Freshness.STALE), Verdict.SERVE_LOAD),
    (found(Freshness.SPARE), Verdict.LOAD_SPARE),
    (found(Freshness.OVER), Verdict.LOAD_FILL),
    (MISS, Verdict.LOAD_FILL),
    (Down("timeout"), Verdict.LOAD),
    (Distrusted(), Verdict.REFRESH),
]


def freshness_of(outcome: Outcome) -> Freshness | None:
    return outcome.freshness if isinstance(outcome, Found) else None


@pytest.mark.parametrize(
    ("outcome", "decided"), ROWS, ids=[decided.name + str(n) for n, (_, decided) in enumerate(ROWS)]
)
def test_every_outcome_has_its_verdict(outcome: Outcome, decided: Verdict) -> None:
    assert verdict_on(outcome) is decided


def test_a_function_without_stale_windows_has_the_rows_of_fresh_values() -> None:
    plain = {type(outcome): decided for outcome, decided in ROWS if freshness_of(outcome) in (None, FRESH)}
    assert plain == OF_FRESH


def test_the_tests_and_the_docs_have_every_outcome() -> None:
    assert set(TABLE) == {(type(outcome), freshness_of(outcome)) for outcome, _ in ROWS}
    page = (ROOT / "docs" / "architecture.md").read_text()
    for outcome, decided in ROWS:
        freshness = freshness_of(outcome)
        shown = "none" if freshness is None else f"`{freshness.name}`"
        assert f"| `{type(outcome).__name__}` | {shown} | `{decided.name}` |" in page
        cell = "none" if freshness is None else f"``{freshness.name}``"
        row = [f"`{type(outcome).__name__}`", cell, f"``{decided.name}``"]
        assert any(line.split()[:3] == row for line in (verdict.__doc__ or "").splitlines())
