"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import outage
from benchmarks.charts import draw
from benchmarks.load import loop_factory
from benchmarks.parts import app, growth, hotpath, maps, peers, stampede, targets, zipf
from benchmarks.report import Section, Where, described, environment, page, table
from benchmarks.suite import Bench, Question, all_questions
from tests.kit.binaries import first_server
from tests.kit.servers import RedisServer

RESULTS: Final = Path(__file__).parent / "results"
DOCS: Final = Path(__file__).parent.parent / "docs"

PARTS: Final[dict[str, Callable[[Bench], Awaitable[Section]]]] = {
    "targets": lambda bench: targets.measure(bench, all_questions()),
    "peers": peers.measure,
    "growth": growth.measure,
    "stampede": stampede.measure,
    "zipf": zipf.measure,
    "maps": maps.measure,
    "hotpath": hotpath.measure,
    "app": app.measure,
}
OUTAGE: Final = "outage"
WIDTH: Final = 150
ALLOWED: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
"""The cores that this process may use."""


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What cachekit costs.")
    names = [*PARTS, OUTAGE]
    # Not by `choices`: before Python 3.12 they refuse that there is none.
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(names)}; all without one")
    parser.add_argument("--only", metavar="NAME", action="append", help="one question of the targets; may be repeated")
    parser.add_argument("--list", action="store_true", help="name the parts and the questions, and end")
    parser.add_argument("--rounds", type=int, default=40, help="rounds that count, of each variant (default 40)")
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement: 3 short rounds")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="which event loop")
    parser.add_argument("--cores", choices=["any", "same", "apart"], default="any", help="where client and server run")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there as well")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="where figures and charts go")
    parser.add_argument("--docs", action="store_true", help="write docs/benchmarks.md and its charts")
    outage.add_options(parser)
    options = parser.parse_args(argv)
    if unknown := set(options.parts) - set(names):
        parser.error(f"there is no part called {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if options.cores != "any" and not hasattr(os, "sched_setaffinity"):
        parser.error("--cores needs a system on which a process can choose its cores")
    options.parts = [name for name in names if name in (options.parts or (["targets"] if options.only else names))]
    if options.docs and (options.only or not set(PARTS) <= set(options.parts)):
        parser.error(f"--docs writes one page about all parts, so that all of them are measured: {', '.join(PARTS)}")
    return options


def _chosen(only: list[str] | None) -> list[Question]:
    questions = all_questions()
    unknown = {*(only or ())} - {question.name for question in questions}
    if unknown:
        names = ", ".join(question.name for question in questions)
        sys.exit(f"there is no question called {', '.join(sorted(unknown))}; there are {names}")
    return [question for question in questions if not only or question.name in only]


def _list(console: Console) -> None:
    console.print(f"parts: {', '.join([*PARTS, OUTAGE])}\n\nquestions of the targets:")
    for question in all_questions():
        console.print(f"{question.name:12} {question.work}, against {question.against}")


def _pin(cores: str, *, server: bool) -> None:
    """Choose the cores of this process, or of a server that it starts next: children inherit them."""
    if cores != "any":
        os.sched_setaffinity(0, {ALLOWED[0] if server or cores == "same" else ALLOWED[-1]})


def _measured(name: str, options: argparse.Namespace, console: Console) -> tuple[Section, Where]:
    """Measure one part, on a server of its own."""
    measure = partial(targets.measure, questions=_chosen(options.only)) if name == "targets" else PARTS[name]
    columns = (SpinnerColumn(), TextColumn("[bold]{task.description}"), TimeElapsedColumn())
    _pin(options.cores, server=True)
    with (
        RedisServer(first_server()) as server,
        asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner,
        Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress,
    ):
        _pin(options.cores, server=False)
        bar = progress.add_task(name, total=None)
        bench = Bench(
            url=server.url,
            rounds=3 if options.quick else options.rounds,
            quick=options.quick,
            loop=options.loop,
            step=lambda what: progress.update(bar, description=f"{name}: {what}", refresh=False),
        )
        section = runner.run(_awaited(measure(bench)))
        return section, {
            **environment(server.cli("INFO", "server")["redis_version"]),
            "loop": options.loop,
            "pinned": options.cores,
        }


async def _awaited(measuring: Awaitable[Section]) -> Section:
    return await measuring


def _write(path: Path, figures: Any) -> None:
    path.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))


def _outage(options: argparse.Namespace, console: Console) -> None:
    alone = options.parts == [OUTAGE]
    given = argparse.Namespace(**vars(options))
    given.json = options.json if alone and options.json else options.results / "outage.json"
    given.svg = options.svg or options.results / "outage.svg"
    outage.main(given, console)


def main(argv: list[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = _arguments(argv)
    console = Console()
    if not console.is_terminal:
        # A pipe has no width, and tables folded to 80 columns cannot be read.
        console = Console(width=WIDTH)
    if options.list:
        _list(console)
        return
    _chosen(options.only)
    options.results.mkdir(parents=True, exist_ok=True)
    sections: list[Section] = []
    where: Where = {}
    began = time.monotonic()
    for name in options.parts:
        if name == OUTAGE:
            _outage(options, console)
            continue
        section, where = _measured(name, options, console)
        sections.append(section)
        for sheet in section.sheets:
            console.print(table(sheet))
        for chart in section.charts:
            draw(chart, options.results / f"benchmarks-{chart.name}.svg")
        _write(options.results / f"{name}.json", {"where": where, name: section.data})
    if sections:
        console.print(
            f"{described(where)}; {time.monotonic() - began:.0f} s; figures and charts are in {options.results}"
        )
    if sections and options.json:
        _write(options.json, {"where": where, **{section.name: section.data for section in sections}})
    if sections and options.docs:
        _write_docs(sections, where)


def _write_docs(sections: list[Section], where: Where) -> None:
    (DOCS / "benchmarks.md").write_text(page(sections, where), encoding="utf-8")
    for section in sections:
        for chart in section.charts:
            draw(chart, DOCS / f"benchmarks-{chart.name}.svg")


if __name__ == "__main__":
    main()
