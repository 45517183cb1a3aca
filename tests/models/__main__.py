"""``python -m tests.models``: look through the models at length."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.models import near_tags, stale, tags
from tests.models.checker import Found, explore, sample

MOST = 400_000
"""States of one scene, at most."""

RUNS = 20_000
"""Random ways through the large scene."""


def main() -> int:
    """Look through every scene and every broken variant; return 0 if all is as it should be."""
    # All of them have the same form: scenes that hold, a large one, and those without one of the rules.
    models: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
        "stale values": (stale.SCENES, stale.LARGE, {rule: stale.without(rule) for rule in stale.BROKEN}),
        "tags": (tags.SCENES, tags.LARGE, {rule: tags.without(rule) for rule in tags.BROKEN}),
        "near values with tags": (
            near_tags.NEAR_SCENES,
            None,
            {rule: near_tags.near_without(rule) for rule in near_tags.NEAR_BROKEN},
        ),
        "clear": ({"two passes": near_tags.CLEAR}, None, {"two passes": near_tags.CLEAR_ONCE}),
    }
    console, good = Console(), True
    for title, (scenes, large, broken) in models.items():
        table = Table("scene", "states", "seconds", "result", title=title)
        for name, scene in scenes.items():
            good &= _show(table, name, partial(explore, scene, most=MOST), wanted=False)
        if large is not None:
            good &= _show(table, "all at once, at random", partial(sample, large, runs=RUNS, seed=1), wanted=False)
        for rule, scene in broken.items():
            good &= _show(table, f"broken: {rule}", partial(explore, scene, most=MOST), wanted=True)
        console.print(table)
    return 0 if good else 1


def _show(table: Table, name: str, search: Callable[[], Found], *, wanted: bool) -> bool:
    began = time.monotonic()
    found = search()
    how = "all states" if found.complete else "the first states"
    table.add_row(name, f"{found.states:,}", f"{time.monotonic() - began:.1f}", found.wrong or f"holds in {how}")
    for step in found.way if bool(found.wrong) != wanted else ():
        table.add_row(f"  {step}", "", "", "")
    return bool(found.wrong) == wanted


if __name__ == "__main__":
    sys.exit(main())
