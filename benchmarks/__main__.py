"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.charts import draw
from benchmarks.children import loop_factory
from benchmarks.parts import app, growth, hotpath, maps, outage, peers, source, stampede, targets, warmup, zipf
from benchmarks.questions import Question, all_questions
from benchmarks.report import Section, Where, described, environment, page, table
from benchmarks.suite import CAN_PIN, Bench
from tests.kit.binaries import first_server
from tests.kit.servers import RedisServer

Measure: TypeAlias = Callable[[Bench], Coroutine[Any, Any, Section]]

RESULTS: Final = Path(__file__).parent / "results"
DOCS: Final = Path(__file__).parent.parent / "docs"
ON_THE_PAGE: Final = ("targets", "peers", "growth", "stampede", "warmup", "zipf", "maps", "hotpath", "app", "source")
PARTS: Final = (*ON_THE_PAGE, "outage")
WIDTH: Final = 150
ALLOWED: Final = sorted(os.sched_getaffinity(0)) if CAN_PIN else [0]
"""The cores that this process may use."""


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What cachekit costs.")
    # Not by `choices`: before Python 3.12 they refuse that there is none.
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all without one")
    parser.add_argument("--only", metavar="NAME", action="append", help="one question of the targets; may be repeated")
    parser.add_argument("--list", action="store_true", help="name the parts and the questions, and end")
    parser.add_argument("--rounds", type=int, default=40, help="rounds that count, of each variant (default 40)")
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement: 3 short rounds at most")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="which event loop")
    parser.add_argument("--cores", choices=["any", "same", "apart"], default="any", help="where client and server run")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there as well")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="where figures and charts go")
    parser.add_argument("--docs", action="store_true", help="write these parts of docs/benchmarks.md and their charts")
    outage.add_options(parser)
    options = parser.parse_args(argv)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if options.cores != "any" and not CAN_PIN:
        parser.error("--cores needs a system on which a process can choose its cores")
    options.parts = [name for name in PARTS if name in (options.parts or (["targets"] if options.only else PARTS))]
    if options.docs and (options.only or not set(ON_THE_PAGE) & set(options.parts)):
        parser.error(f"--docs writes whole parts of the page, not single questions: {', '.join(ON_THE_PAGE)}")
    return options


def _chosen(only: list[str] | None) -> list[Question]:
    questions = all_questions()
    unknown = {*(only or ())} - {question.name for question in questions}
    if unknown:
        names = ", ".join(question.name for question in questions)
        sys.exit(f"there is no question called {', '.join(sorted(unknown))}; there are {names}")
    return [question for question in questions if not only or question.name in only]


def _measures(options: argparse.Namespace) -> dict[str, Measure]:
    """Return the function that measures each part."""
    return {
        "targets": partial(targets.measure, questions=_chosen(options.only)),
        "peers": peers.measure,
        "growth": growth.measure,
        "stampede": stampede.measure,
        "warmup": warmup.measure,
        "zipf": zipf.measure,
        "maps": maps.measure,
        "hotpath": hotpath.measure,
        "app": app.measure,
        "source": source.measure,
        "outage": partial(outage.measure, script=outage.script(options)),
    }


def _list(console: Console) -> None:
    console.print(f"parts: {', '.join(PARTS)}\n\nquestions of the targets:")
    for question in all_questions():
        console.print(f"{question.name:18} {question.work}, against {question.against[0]}")


def _pin(cores: str, *, server: bool) -> None:
    """Choose the cores of this process, or of a server that it starts next: children inherit them."""
    if cores != "any":
        os.sched_setaffinity(0, {ALLOWED[0] if server or cores == "same" else ALLOWED[-1]})


def _measured(name: str, measure: Measure, options: argparse.Namespace, console: Console) -> tuple[Section, Where]:
    """Measure one part, on a server of its own."""
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
            server=server,
            rounds=min(options.rounds, 3) if options.quick else options.rounds,
            quick=options.quick,
            loop=options.loop,
            step=lambda what: progress.update(bar, description=f"{name}: {what}", refresh=False),
        )
        redis = server.cli("INFO", "server")["redis_version"]
        section = runner.run(measure(bench))
    return section, environment(redis=redis, loop=options.loop, pinned=options.cores)


def _write(path: Path, where: Where, sections: Sequence[Section]) -> None:
    figures: dict[str, Any] = {"where": where, **{section.name: section.data for section in sections}}
    path.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))


def _draw(sections: Sequence[Section], folder: Path) -> None:
    for section in sections:
        for chart in section.charts:
            draw(chart, folder / f"{chart.name}.svg")


def main(argv: list[str] | None = None) -> None:
    """Measure the parts of the command line; end with an error if a part failed."""
    options = _arguments(argv)
    # A pipe has no width, and tables folded to 80 columns cannot be read.
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    if options.list:
        _list(console)
        return
    measures = _measures(options)
    options.results.mkdir(parents=True, exist_ok=True)
    sections: list[Section] = []
    where: Where = {}
    began = time.monotonic()
    for name in options.parts:
        section, where = _measured(name, measures[name], options, console)
        sections.append(section)
        for sheet in section.sheets:
            console.print(table(sheet))
        _draw([section], options.results)
        _write(options.results / f"{name}.json", where, [section])
    console.print(f"{described(where)}; {time.monotonic() - began:.0f} s; figures and charts are in {options.results}")
    if options.json:
        _write(options.json, where, sections)
    for section in sections:
        if options.svg and section.name == "outage":
            draw(section.charts[0], options.svg)
    if options.docs:
        shown = [section for section in sections if section.name in ON_THE_PAGE]
        path = DOCS / "benchmarks.md"
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(page(shown, where, order=ON_THE_PAGE, before=before), encoding="utf-8")
        _draw(shown, DOCS)
    if failures := [section.failure for section in sections if section.failure]:
        sys.exit("; ".join(failures))


if __name__ == "__main__":
    main()
