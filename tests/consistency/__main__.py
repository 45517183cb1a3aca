"""``python -m tests.consistency --minutes N``: a long run, with a progress bar and a table of counts."""

from __future__ import annotations

import argparse
import random
import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.consistency.board import Board
from tests.consistency.harness import Report, run

SHOWN = 10


def main() -> int:
    """Run, report, and return 0 if the result is as expected: violations in the naive cache alone."""
    parser = argparse.ArgumentParser(prog="python -m tests.consistency", description="Look for stale reads.")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long the workers work")
    parser.add_argument("--seed", type=int, help="of all random choices; without one a new one is drawn")
    parser.add_argument("--workers", type=int, default=4, help="processes")
    parser.add_argument("--keys", type=int, default=8, help="hot keys")
    parser.add_argument("--no-faults", action="store_true", help="hurt nothing")
    parser.add_argument("--near", action="store_true", help="with a near cache in each process, and its faults")
    parser.add_argument("--stale", action="store_true", help="with stale windows, and loads that fail and hang")
    parser.add_argument("--tags", action="store_true", help="with a function with tags besides, and clears")
    parser.add_argument("--naive", action="store_true", help="test a naive cache-aside, which must be found out")
    parser.add_argument("--until-violation", action="store_true", help="end at the first violation")
    parser.add_argument("--trace", action="store_true", help="print what led to the first violations")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    seconds = 60.0 * options.minutes
    console = Console()
    forms = [name for name in ("near", "stale", "tags") if getattr(options, name)]
    subject = "naive cache-aside" if options.naive else ", ".join(["cachekit", *forms])
    console.print(f"{subject}, seed {seed}: {options.workers} processes, {options.keys} keys, {seconds:g} s")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=seconds)

        def tick(board: Board, passed: float) -> None:
            counts = f"{board.total('checked')} reads checked, {board.total('violations')} violations"
            progress.update(task, completed=passed, description=counts)

        report = run(
            seed=seed,
            seconds=seconds,
            workers=options.workers,
            keys=options.keys,
            faults=not options.no_faults,
            naive=options.naive,
            near=options.near,
            stale=options.stale,
            tags=options.tags,
            until_violation=options.until_violation,
            tick=tick,
        )
    show(console, report, trace=options.trace)
    return 0 if bool(report.violations) == options.naive else 1


def show(console: Console, report: Report, *, trace: bool) -> None:
    """Print the summary."""
    table = Table(title=f"seed {report.seed}, {report.seconds:.0f} s", show_header=False)
    for name, count in report.counts.items():
        table.add_row(name, f"{count}", style="bold" if name == "checked" else "")
    if report.behind:
        table.add_section()
    for name, lag in report.lags.items():
        table.add_row(f"behind, {name}", f"{1000 * lag:.3f} ms")
    table.add_section()
    for name, count in sorted(report.faults.items()):
        table.add_row(name, f"{count}")
    table.add_section()
    style = "bold red" if report.violations else "bold green"
    table.add_row("violations", f"{len(report.violations)}", style=style)
    console.print(table)
    for violation in report.violations[:SHOWN]:
        console.print(f"{violation}", style="red", markup=False, highlight=False)
        for line in violation.trace if trace else ():
            console.print(f"    {line}", markup=False, highlight=False, soft_wrap=True)
    if len(report.violations) > SHOWN:
        console.print(f"and {len(report.violations) - SHOWN} more")


if __name__ == "__main__":
    sys.exit(main())
