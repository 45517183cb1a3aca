"""``python -m tests.models``: look through the models at length."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.table import Table

from tests.models.checker import Found, explore, sample
from tests.models.stale import BROKEN, LARGE, SCENES, without

MOST = 400_000
"""States of one scene, at most."""

RUNS = 20_000
"""Random ways through the large scene."""


def main() -> int:
    """Look through every scene and every broken variant; return 0 if all is as it should be."""
    table = Table("scene", "states", "seconds", "result", title="stale values")
    console, good = Console(), True
    for name, scene in SCENES.items():
        good &= _show(table, name, lambda scene=scene: explore(scene, most=MOST), wanted=False)  # type: ignore[misc]
    good &= _show(table, "all at once, at random", lambda: sample(LARGE, runs=RUNS, seed=1), wanted=False)
    for rule in BROKEN:
        good &= _show(
            table,
            f"broken: {rule}",
            lambda rule=rule: explore(without(rule), most=MOST),
            wanted=True,  # type: ignore[misc]
        )
    console.print(table)
    return 0 if good else 1


def _show(table: Table, name: str, search: object, *, wanted: bool) -> bool:
    began = time.monotonic()
    found: Found = search()  # type: ignore[operator]
    how = "all states" if found.complete else "the first states"
    table.add_row(name, f"{found.states:,}", f"{time.monotonic() - began:.1f}", found.wrong or f"holds in {how}")
    for step in found.way if bool(found.wrong) != wanted else ():
        table.add_row(f"  {step}", "", "", "")
    return bool(found.wrong) == wanted


if __name__ == "__main__":
    sys.exit(main())
