"""The table that decides: the same rows as in the code and in the docs."""

from __future__ import annotations

import pytest

from cachekit import MISS
from cachekit._flow.verdict import TABLE, Verdict
from cachekit._tiers.outcome import Distrusted, Down, Found, Outcome
from cachekit.entry import Entry
from tests import ROOT

ROWS: list[tuple[Outcome, Verdict]] = [
    (Found(None, Entry(b"null")), Verdict.SERVE),
    (MISS, Verdict.LOAD_FILL),
    (Down("timeout"), Verdict.LOAD),
    (Distrusted(), Verdict.REFRESH),
]


@pytest.mark.parametrize(("outcome", "decided"), ROWS, ids=str)
def test_every_outcome_has_its_verdict(outcome: Outcome, decided: Verdict) -> None:
    assert TABLE[type(outcome)] is decided


def test_the_tests_and_the_docs_have_every_outcome() -> None:
    assert set(TABLE) == {type(outcome) for outcome, _ in ROWS}
    page = (ROOT / "docs" / "architecture.md").read_text()
    for outcome, decided in ROWS:
        assert f"| `{type(outcome).__name__}` | `{decided.name}` |" in page
