"""``python -m tests.models``: look through the models at length; ``python -m tests.models batch`` through one."""

from __future__ import annotations

import sys
import time
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.models import batch, put, stale
from tests.models.checker import Found, explore, sample

MOST = 400_000
"""States of one scene, at most."""

RUNS = 20_000
"""Random ways through the large scene."""

MODELS: Final[dict[str, Any]] = {"stale": stale, "batch": batch, "put": put}


def main(names: list[str]) -> int:
    """Look through every scene and every broken variant; return 0 if all is as it should be."""
    good = True
    for name in names or MODELS:
        good &= _look_through(name, MODELS[name])
    return 0 if good else 1


def _look_through(name: str, model: Any) -> bool:
    table, good = Table("scene", "states", "seconds", "result", title=name), True
    for scene in model.SCENES:
        good &= _show(table, scene, lambda scene=scene: explore(model.SCENES[scene], most=MOST), wanted=False)
    good &= _show(table, "all at once, at random", lambda: sample(model.LARGE, runs=RUNS, seed=1), wanted=False)
    for rule in model.BROKEN:
        good &= _show(table, f"broken: {rule}", lambda rule=rule: explore(model.without(rule), most=MOST), wanted=True)
    Console().print(table)
    return good


def _show(table: Table, name: str, search: object, *, wanted: bool) -> bool:
    began = time.monotonic()
    found: Found = search()  # type: ignore[operator]
    how = "all states" if found.complete else "the first states"
    table.add_row(name, f"{found.states:,}", f"{time.monotonic() - began:.1f}", found.wrong or f"holds in {how}")
    for step in found.way if bool(found.wrong) != wanted else ():
        table.add_row(f"  {step}", "", "", "")
    return bool(found.wrong) == wanted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
