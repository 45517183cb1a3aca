"""``python -m tests.models``: look through all models; ``python -m tests.models batch`` through one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.models.checker import Found, explore, sample
from tests.models.protocols import PROTOCOLS, Protocol

MOST: Final = 1_500_000
"""States of one scene, at most: few scenes have more."""

LEAST: Final = 1_000_000
"""States that the scenes of one model have together, at least."""

RUNS: Final = 300
"""Random ways through the large scene."""


class Report:
    """The table of one model.

    Args:
        name: The model.
    """

    def __init__(self, name: str) -> None:
        self.good = True
        self._table = Table("scene", "states", "seconds", "result", title=name)

    def add(self, name: str, search: Callable[[], Found], *, wanted: bool = False) -> int:
        """Search, add a row, and return how many states there were."""
        began = time.process_time()
        found = search()
        how = "all states" if found.complete else "the first states"
        took = f"{time.process_time() - began:.1f}"
        self._table.add_row(name, f"{found.states:,}", took, found.wrong or f"holds in {how}")
        if bool(found.wrong) != wanted:
            self.good = False
            for step in found.way:
                self._table.add_row(f"  {step}", "", "", "")
        return found.states

    def end(self, states: int) -> None:
        """Add up, and print the table."""
        self.good &= states >= LEAST
        result = "" if states >= LEAST else f"fewer than {LEAST:,}"
        self._table.add_row("states of all scenes that must hold", f"{states:,}", "", result, style="bold")
        Console().print(self._table)


def look_through(name: str, protocol: Protocol) -> bool:
    """Look through every scene and every variant of a model. Returns whether all is as it should be."""
    report = Report(name)
    states = sum(report.add(title, partial(explore, scene, most=MOST)) for title, scene in protocol.scenes.items())
    report.add("all at once, steps at random", partial(sample, protocol.large, runs=RUNS, seed=1))
    for rule, scene in protocol.broken.items():
        report.add(f"broken: {rule}", partial(explore, scene, most=MOST), wanted=True)
    for extra, scene in protocol.extras.items():
        report.add(f"without: {extra}", partial(explore, scene, most=MOST))
    report.end(states)
    return report.good


def main(names: list[str]) -> int:
    """Look through the models of these names, or all; return 0 if all is as it should be."""
    good = True
    for name in names or PROTOCOLS:
        good &= look_through(name, PROTOCOLS[name])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
