"""``python -m tests.models``: look through the models at length; ``python -m tests.models batch`` through one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.models import batch, near_tags, put, stale, tagged_batch, tagged_put, tags
from tests.models.checker import Found, explore, sample

MOST = 400_000
"""States of one scene, at most."""

RUNS = 20_000
"""Random ways through the large scene."""


def _parts_of(model: Any) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Return the scenes of a model that hold, its large scene, and the scenes that lack one of the rules."""
    return model.SCENES, model.LARGE, {rule: model.without(rule) for rule in model.BROKEN}


MODELS: Final[dict[str, tuple[dict[str, Any], Any, dict[str, Any]]]] = {
    **{name: _parts_of(model) for name, model in {"stale": stale, "batch": batch, "put": put, "tags": tags}.items()},
    "tagged-batch": _parts_of(tagged_batch),
    "tagged-put": _parts_of(tagged_put),
    "near-tags": (
        near_tags.NEAR_SCENES,
        None,
        {rule: near_tags.near_without(rule) for rule in near_tags.NEAR_BROKEN},
    ),
    "clear": ({"two passes": near_tags.CLEAR}, None, {"two passes": near_tags.CLEAR_ONCE}),
}


def main(names: list[str]) -> int:
    """Look through every scene and every broken variant; return 0 if all is as it should be."""
    good = True
    for name in names or MODELS:
        good &= _look_through(name, *MODELS[name])
    return 0 if good else 1


def _look_through(name: str, scenes: dict[str, Any], large: Any, broken: dict[str, Any]) -> bool:
    table, good = Table("scene", "states", "seconds", "result", title=name), True
    for title, scene in scenes.items():
        good &= _show(table, title, partial(explore, scene, most=MOST), wanted=False)
    if large is not None:
        good &= _show(table, "all at once, at random", partial(sample, large, runs=RUNS, seed=1), wanted=False)
    for rule, scene in broken.items():
        good &= _show(table, f"broken: {rule}", partial(explore, scene, most=MOST), wanted=True)
    Console().print(table)
    return good


def _show(table: Table, name: str, search: Callable[[], Found], *, wanted: bool) -> bool:
    began = time.monotonic()
    found = search()
    how = "all states" if found.complete else "the first states"
    table.add_row(name, f"{found.states:,}", f"{time.monotonic() - began:.1f}", found.wrong or f"holds in {how}")
    for step in found.way if bool(found.wrong) != wanted else ():
        table.add_row(f"  {step}", "", "", "")
    return bool(found.wrong) == wanted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
