"""An outage of Redis under load: what the cache adds to each call while the server hangs, dies and comes back.

    python -m benchmarks outage                         1000 callers, 2000 calls a second, six phases of 5 s
    python -m benchmarks outage --callers 1             what a single caller meets
    python -m benchmarks outage --svg PATH --json PATH  the plot and all figures

The callers are a process of their own (`benchmarks.load`); this one hurts the server, and shows what happens.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.findings import Moment, Report, report
from benchmarks.load import Settings
from benchmarks.plots import draw, duration, process_table, sparklines, table, verdicts
from benchmarks.report import environment
from benchmarks.tape import Recording, Second
from tests.kit.binaries import first_server
from tests.kit.servers import RedisServer

ROOT: Final = Path(__file__).parent.parent

HEADING: Final = " time phase         hits  median     p99     max breaker memory tasks files"

PATIENCE: Final = 30.0
"""Seconds for what takes a moment: the start of the callers, their end, the first hit after an outage."""


@dataclass(frozen=True, slots=True)
class Step:
    """A phase of the script: its name, what is done to the server, and whether Redis is to be used again in it."""

    name: str
    act: Callable[[RedisServer], object] | None = None
    back: bool = False


STEPS: Final = (
    Step("healthy"),
    Step("paused", RedisServer.pause),
    Step("resumed", RedisServer.resume, back=True),
    Step("killed", RedisServer.kill),
    Step("restarted", RedisServer.restart, back=True),
    Step("healthy again"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `main` reads, but for ``--quick``, ``--loop`` and ``--json``."""
    group = parser.add_argument_group("outage")
    group.add_argument("--callers", type=int, default=None, help="how many call at the same time (default 1000)")
    group.add_argument("--rate", type=float, help="calls per second in all (default 2000, at most 100 a caller)")
    group.add_argument("--seconds", type=float, default=None, help="how long each phase lasts (default 5)")
    group.add_argument("--svg", type=Path, metavar="PATH", help="draw a plot there (needs matplotlib)")


def main(options: argparse.Namespace, console: Console) -> None:
    """Run the script under load, and show what happened; end with an error if anything raised."""
    callers, rate, seconds = _load(options)
    with RedisServer(first_server()) as server, tempfile.TemporaryDirectory() as folder:
        where = {**environment(server.cli("INFO", "server")["redis_version"]), "loop": options.loop}
        settings = Settings(
            url=server.url,
            callers=callers,
            rate=rate,
            # With what it may take until hits come back.
            most=int(rate * (seconds * len(STEPS) + 2 * PATIENCE)),
            path=str(Path(folder) / "recording.json"),
            loop=options.loop,
        )
        moments = asyncio.run(_outage(server, settings, seconds, console))
        recording = msgspec.json.decode(Path(settings.path).read_bytes(), type=Recording)
    found = report(recording, moments, callers=callers, rate=rate, where=where)
    _show(found, console)
    if options.json:
        options.json.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    if options.svg:
        draw(found, options.svg)
    if found.raised:
        sys.exit(f"{found.raised} exceptions, of which none may be: {found.exceptions[0].text}")


def _load(options: argparse.Namespace) -> tuple[int, float, float]:
    """Return how many call, how often in all, and for how long in each phase."""
    callers = options.callers or (50 if options.quick else 1000)
    rate = options.rate or min(200.0 if options.quick else 2000.0, 100.0 * callers)
    seconds = options.seconds or (1.5 if options.quick else 5.0)
    limits = (("callers", callers, 10_000), ("rate", rate, 20_000), ("seconds", seconds, 60))
    for name, value, most in limits:
        if not 1 <= value <= most:
            sys.exit(f"--{name} is from 1 to {most}, not {value:g}")
    return callers, rate, seconds


def _show(found: Report, console: Console) -> None:
    console.print(table(found))
    console.print(process_table(found))
    console.print(sparklines(found))
    for verdict in verdicts(found):
        console.print(verdict)


@dataclass(slots=True)
class Watch:
    """What the callers have told so far."""

    show: Callable[[Second], None]
    seconds: list[Second] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False

    async def follow(self, process: Process) -> None:
        """Read what ``process`` tells each second, until it ends."""
        assert process.stdout is not None  # noqa: S101 - it is piped
        async for line in process.stdout:
            self.seconds.append(msgspec.json.decode(line, type=Second))
            self.show(self.seconds[-1])
            self.told.set()
        self.over = True
        self.told.set()

    async def until(self, done: Callable[[Second], bool]) -> None:
        """Wait until something of that kind is told from now on; no longer than `PATIENCE`, nor than they call."""
        began = time.monotonic()
        while not self.over and (left := began + PATIENCE - time.monotonic()) > 0:
            self.told.clear()
            try:
                await asyncio.wait_for(self.told.wait(), left)
            except TimeoutError:
                return
            if self.over or done(self.seconds[-1]):
                return


@asynccontextmanager
async def _callers(settings: Settings) -> AsyncGenerator[Process, None]:
    command = (sys.executable, "-m", "benchmarks.load", msgspec.json.encode(settings).decode())
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _outage(server: RedisServer, settings: Settings, seconds: float, console: Console) -> list[Moment]:
    columns = (TextColumn("[bold]{task.description:13}"), BarColumn(), TimeRemainingColumn())
    moments: list[Moment] = []

    def show(second: Second) -> None:
        # Told at its end, when the next phase may have begun.
        names = [moment.name for moment in moments if moment.began < time.monotonic() - 0.5]
        console.print(_line(second, names[-1] if names else STEPS[0].name), highlight=False)

    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("starting", total=seconds * len(STEPS))
        watch = Watch(show)
        console.print(HEADING, style="bold")
        async with _callers(settings) as process:
            following = asyncio.create_task(watch.follow(process))
            await watch.until(lambda _: True)
            # The callers tell at the end of a second; the phases begin with one.
            due = time.monotonic() - 1.0
            for number, step in enumerate(STEPS):
                if watch.over:
                    sys.exit("the callers ended before the script did")
                progress.update(bar, description=step.name)
                moments.append(await _done(server, step))
                due += seconds
                while (left := due - time.monotonic()) > 0:
                    await asyncio.sleep(min(0.1, left))
                    progress.update(bar, completed=seconds * (number + 1) - max(0.0, due - time.monotonic()))
                if step.back and not any(second.hits for second in watch.seconds[-int(seconds) :]):
                    await watch.until(lambda second: second.hits > 0)
                    due = max(due, time.monotonic())
            await _ended(process)
            await following
    return moments


async def _done(server: RedisServer, step: Step) -> Moment:
    began = time.monotonic()
    if step.act is not None:
        await asyncio.to_thread(step.act, server)
    return Moment(step.name, began, time.monotonic(), step.back)


async def _ended(process: Process) -> None:
    assert process.stdin is not None  # noqa: S101 - it is piped
    process.stdin.close()
    await asyncio.wait_for(process.wait(), PATIENCE)
    if process.returncode:
        sys.exit(f"the callers ended with {process.returncode}")


def _line(second: Second, phase: str) -> str:
    times = " ".join(f"{duration(seconds):>7}" for seconds in (second.median, second.p99, second.longest))
    held = second.figures
    return (
        f"{second.at:3.0f} s {phase:13} {second.hits / max(1, second.calls):4.0%} {times} {second.breaker:7} "
        f"{held.memory / 1e6:3.0f} MB {held.tasks:5} {held.files:5}"
    )
