"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import hotpath, outage
from benchmarks.load import loop_factory
from benchmarks.report import as_json, environment, table
from benchmarks.suite import Answer, Question, all_questions, answer
from tests.kit.servers import RedisServer, first_server


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What cachekit costs.")
    parser.add_argument("what", nargs="?", choices=["table", "hotpath", "outage"], default="table")
    parser.add_argument("--only", metavar="NAME", action="append", help="one question; may be given more than once")
    parser.add_argument("--list", action="store_true", help="name the questions and end")
    parser.add_argument("--rounds", type=int, default=40, help="rounds that count, of each variant (default 40)")
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement: 3 short rounds")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="which event loop")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there as well")
    outage.add_options(parser)
    return parser.parse_args(argv)


def _chosen(only: list[str] | None) -> list[Question]:
    questions = all_questions()
    unknown = {*(only or ())} - {question.name for question in questions}
    if unknown:
        names = ", ".join(question.name for question in questions)
        sys.exit(f"there is no question called {', '.join(sorted(unknown))}; there are {names}")
    return [question for question in questions if not only or question.name in only]


async def _measure(questions: list[Question], url: str, rounds: int, console: Console, *, quick: bool) -> list[Answer]:
    answers: list[Answer] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("warming up", total=len(questions) * (rounds + 1))
        for question in questions:
            progress.update(bar, description=question.work)
            calls = max(1, question.calls // 10) if quick else question.calls
            answers.append(
                await answer(question, url, rounds=rounds, calls=calls, step=lambda: progress.advance(bar)),
            )
    return answers


def main(argv: list[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = _arguments(argv)
    console = Console()
    if options.list:
        for question in all_questions():
            console.print(f"{question.name:12} {question.work}, against {question.against}")
        return
    if options.what == "outage":
        outage.main(options, console)
        return
    rounds = 3 if options.quick else options.rounds
    questions = _chosen(["hit"] if options.what == "hotpath" else options.only)
    with RedisServer(first_server()) as server, asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
        answers = runner.run(_measure(questions, server.url, rounds, console, quick=options.quick))
        where = {**environment(server.cli("INFO", "server")["redis_version"]), "loop": options.loop}
    if options.what == "hotpath":
        hotpath.main(console, calls=rounds * questions[0].calls, hit_us=answers[0].ours_us)
    else:
        console.print(table(answers, where))
    if options.json:
        options.json.write_bytes(orjson.dumps(as_json(answers, where), option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
