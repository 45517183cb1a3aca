"""``python -m tests.faults``: the whole table, measured, with a progress bar; writes `docs/faults.md`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.faults.measure import Cell, Sizes, run
from tests.faults.operations import OPERATIONS
from tests.faults.page import PAGE, page
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.kit.binaries import first_server

# The targets, in seconds: the most that a call may take, with one caller or with any number of them; the median of
# calls that the open circuit breaker rejects; and the time until the cache is used again.
WAIT: Final = 0.30
REJECTED: Final = 20e-6
BACK: Final = 1.0

SHOWN: Final = 5


def main() -> int:
    """Measure, write the page, and return 0 if every call had its right result."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Every fault against every operation.")
    parser.add_argument("--only", metavar="TEXT", action="append", help="faults whose name has it; writes no page")
    parser.add_argument("--calls", type=int, default=200, help="of one caller, while the fault is in force")
    parser.add_argument("--crowds", type=int, nargs="+", default=[200, 1000], help="callers at the same moment")
    parser.add_argument("--output", type=Path, default=PAGE, help="where the page is written")
    options = parser.parse_args()
    chosen = [scenario for scenario in SCENARIOS if _is_chosen(scenario, options.only)]
    sizes = Sizes(calls=options.calls, seconds=1.0, timed=100, crowds=tuple(options.crowds))
    console = Console()
    cells = measure(chosen, sizes, console)
    show(console, cells)
    if not options.only:
        server = first_server()
        text = page(
            cells, server=f"{server.product.capitalize()} {server.version}", calls=1 + sizes.calls, timed=sizes.timed
        )
        options.output.write_text(text, encoding="utf-8")
        console.print(f"{options.output} is written")
    return 1 if any(cell.wrong for cell in cells) else 0


def _is_chosen(scenario: Scenario, only: Sequence[str] | None) -> bool:
    return only is None or any(text in scenario.name for text in only)


def measure(scenarios: Sequence[Scenario], sizes: Sizes, console: Console) -> list[Cell]:
    """Run each operation alone under each fault."""
    cells: list[Cell] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(scenarios) * len(OPERATIONS))
        for scenario in scenarios:
            for operation in OPERATIONS:
                progress.update(bar, description=f"{scenario.name}: {operation.name}")
                # The garbage of earlier cells must not be collected on a caller's time.
                gc.collect()
                cells += asyncio.run(run(scenario, [operation], sizes, first_server()))
                progress.advance(bar)
    return cells


def shortfalls(cell: Cell) -> Iterator[str]:
    """Yield the targets that a cell has missed."""
    for what, seconds in (
        ("a call of one caller", cell.slowest),
        *((f"one of {callers:,} callers", seconds) for callers, seconds in cell.crowds.items()),
        ("a call afterwards", cell.afterwards),
    ):
        if seconds > WAIT:
            yield f"{what} took {seconds:.3f} s"
    if cell.opened is not None and cell.opened > REJECTED:
        yield f"with the breaker open a call takes {1e6 * cell.opened:.1f} µs"
    if cell.back > BACK:
        yield f"used again after {cell.back:.2f} s"


def show(console: Console, cells: Sequence[Cell]) -> None:
    """Print the wrong results, and the missed targets."""
    complaints = 0
    for cell in cells:
        for style, lines in (("bold red", cell.wrong[:SHOWN]), ("yellow", [*shortfalls(cell)])):
            for what in lines:
                complaints += 1
                line = f"{cell.scenario.name}, {cell.operation.name}: {what}"
                console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
    if not complaints:
        console.print(f"{len(cells)} cells, and all is well")


if __name__ == "__main__":
    sys.exit(main())
