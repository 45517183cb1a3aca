"""Write a page with the panels of the dashboard, of an hour of traffic in which things go wrong.

    python -m examples.observability [--page observability.html]

It needs no server: the cache is in memory, and its clock is moved. The page is one file; open it in a browser. The
metrics are real, and so are their counts: the queries of dashboard.json and alerts.yml are evaluated on the text that a
Prometheus would have scraped. For a Prometheus and a Grafana of your own see app.py and docs/observe.md.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from examples.observability.hour import STEP, Hour
from examples.observability.page import fired, page


def main(argv: Sequence[str] | None = None) -> None:
    """Run the example with ``argv``, or with the arguments of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m examples.observability", description=__doc__, formatter_class=raw)
    parser.add_argument("--page", type=Path, default=Path("observability.html"), help="(default: %(default)s)")
    parser.add_argument("--minutes", type=int, default=60, help="of the hour (default: %(default)s)")
    options = parser.parse_args(argv)
    if not 1 <= options.minutes <= 60:
        parser.error("--minutes: from 1 to 60")
    # The records of the incidents, which are made here on purpose, are in the metrics as well.
    logging.getLogger("cachekit").setLevel(logging.CRITICAL)
    console, hour = Console(highlight=False), Hour(options.minutes)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("an hour of the shop", total=options.minutes)
        scrapes = asyncio.run(hour.run(lambda minute: progress.update(task, completed=minute)))
    times = [STEP * step for step in range(1, int(hour.now / STEP) + 1)]
    options.page.write_text(page(scrapes, times), encoding="utf-8")
    table = Table("alert", "fired", "for", title="Alerts of the hour")
    for one in fired(scrapes, times):
        about = ", ".join(value for _, value in sorted(one.labels) if value)
        table.add_row(one.rule.name, f"minute {one.minutes[0]:.0f} to {one.minutes[-1]:.0f}", escape(about))
    console.print(table)
    console.print(f"the panels: {escape(str(options.page))}")


if __name__ == "__main__":
    main()
