"""An outage of Redis under load: the time that the cache adds to each call while the server hangs, dies and returns.

    python -m benchmarks outage                         1000 callers, 2000 calls a second, six phases of 5 s
    python -m benchmarks outage --callers 1             a single caller
    python -m benchmarks outage --svg PATH --json PATH  the plot and all figures

The callers are a process of their own (`benchmarks.load`); this one hurts the server.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.charts import Chart, Curves
from benchmarks.children import PATIENCE, child, told
from benchmarks.findings import DELAYED, Figures, Moment, report
from benchmarks.load import Script
from benchmarks.recording import Held, Recording, Tick
from benchmarks.report import Section, Sheet, duration
from benchmarks.suite import Bench
from tests.kit.servers import RedisServer

LONGEST: Final = 0.30
PROMISES: Final = (
    ("the most that any call took", "longest", LONGEST),
    ("the median while the breaker is open", "median_open", 20e-6),
    ("from the first answer until the first hit, at most", "used_after", 1.0),
)
"""Each promise, its figure, and the seconds that are aimed at."""

DOWN: Final = ("paused", "killed")
"""The phases in which there is no Redis."""

ROWS: Final = {
    "calls": "calls",
    "hits": "hits",
    "loads": "loads",
    "median added": "median",
    "99th percentile": "p99",
    "largest": "longest",
    f"calls over {duration(DELAYED)}": "delayed",
    "event loop late by": "lag",
    "breaker opened after": "opened_after",
    "median while open": "median_open",
    "hit again after": "used_after",
    "records of WARNING": "warnings",
    "records of INFO": "infos",
    "exceptions": "exceptions",
}
"""The figures of a phase that are shown: counts, and times."""

MOMENTS: Final = {
    "at the beginning": "before",
    "at most": "largest",
    "in the last second": "last",
    "after the end": "after",
}
HELD: Final[dict[str, Callable[[Held], float]]] = {
    "memory, MB": lambda held: held.memory / 1e6,
    "tasks": lambda held: held.tasks,
    "open files, sockets included": lambda held: held.files,
    "sockets": lambda held: held.sockets,
}


# --- the script -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """A phase of the script: its name, the act on the server, and whether Redis is to be used again in it."""

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
    """Add the options that `script` reads, except for ``--quick``, and ``--svg``."""
    group = parser.add_argument_group("outage")
    group.add_argument("--callers", type=int, help="how many call at the same time (default 1000)")
    group.add_argument("--rate", type=float, help="calls per second in all (default 2000, at most 100 a caller)")
    group.add_argument("--seconds", type=int, help="how long each phase lasts (default 5)")
    group.add_argument("--svg", type=Path, metavar="PATH", help="draw the plot there as well")


def script(options: argparse.Namespace) -> Script:
    """Return the script that the command line describes."""
    callers = options.callers or (50 if options.quick else 1000)
    rate = options.rate or min(200.0 if options.quick else 2000.0, 100.0 * callers)
    seconds = options.seconds or (2 if options.quick else 5)
    for name, value, most in (("callers", callers, 10_000), ("rate", rate, 20_000), ("seconds", seconds, 60)):
        if not 1 <= value <= most:
            sys.exit(f"--{name} is from 1 to {most}, not {value:g}")
    # With the calls until hits come back.
    most = int(rate * (seconds * len(STEPS) + 2 * PATIENCE))
    return Script(callers, rate, seconds, most)


async def measure(bench: Bench, script: Script) -> Section:
    """Run the script under load."""
    arguments = (bench.url, bench.loop, msgspec.json.encode(script).decode())
    async with child("-m", "benchmarks.load", *arguments) as callers:
        moments = [moment async for moment in _moments(bench, callers, script.seconds)]
        # They end when their input does; the last line is the recording.
        printed, _ = await asyncio.wait_for(callers.communicate(b""), PATIENCE)
    recording = msgspec.json.decode(printed.splitlines()[-1], type=Recording)
    return _section(script, report(recording, moments))


async def _moments(bench: Bench, callers: Process, seconds: int) -> AsyncGenerator[Moment, None]:
    """Follow the script, each step for so many seconds of the callers, or until there are hits again."""
    for step in STEPS:
        began = time.monotonic()
        if step.act is not None:
            await asyncio.to_thread(step.act, bench.server)
        yield Moment(step.name, began, time.monotonic(), step.back)
        passed, hits = 0, 0
        while passed < seconds or (step.back and not hits and passed < seconds + PATIENCE):
            tick = await told(callers, Tick)
            passed, hits = passed + 1, hits + tick.hits
            bench.step(f"{step.name}, {tick.at:.0f} s: {tick.hits} hits of {tick.calls} calls, breaker {tick.breaker}")


# --- the tables and the chart ---------------------------------------------------------------------


def _section(script: Script, found: Figures) -> Section:
    callers = "1 caller" if script.callers == 1 else f"{script.callers} callers"
    load = f"{callers}, {script.rate:g} calls a second in all"
    phases = Sheet(
        f"What the cache adds to a call: {load}",
        ("", *(phase["name"] for phase in found["phases"])),
        [(name, *(_shown(phase[key]) for phase in found["phases"])) for name, key in ROWS.items()],
        f"nothing is subtracted; the undecorated call takes {duration(found['undecorated'])}",
    )
    process = Sheet(
        "What the process of the callers held",
        ("", *MOMENTS),
        [(name, *(f"{figure(found[key]):,.4g}" for key in MOMENTS.values())) for name, figure in HELD.items()],
    )
    note = f"{found['store_failed']} operations failed or were left out; {found['skipped']} calls were not made, since "
    note += "their caller still waited for the one before"
    kept = Sheet("Promises", ("", "found", "target", "kept"), list(promises(found)), note)
    raised = found["raised"]
    failure = f"{raised} exceptions, of which none may be: {found['exceptions'][0].text}" if raised else ""
    title = "An outage of Redis"
    about = f"a server is stopped, resumed, killed and restarted under load: {load}."
    data = {"callers": script.callers, "rate": script.rate, **found}
    return Section("outage", title, about, [phases, process, kept], data, [_chart(found, load)], failure)


def _shown(figure: float | None) -> str:
    return str(figure) if isinstance(figure, int) else duration(figure)


def promises(found: Figures) -> Iterator[tuple[str, str, str, str]]:
    """Yield each promise, its figure, its target, and whether it is kept."""
    for promise, name, target in PROMISES:
        figure = found[name]
        if figure is not None:
            yield promise, duration(figure), duration(target), "yes" if figure <= target else "no"
    if found["used_after"] is None:
        yield "after an outage there is a hit again", "none", "", "no"
    yield "exceptions", f"{found['raised']}", "0", "no" if found["raised"] else "yes"


def _chart(found: Figures, load: str) -> Chart:
    # Upwards: "no more than" must be true.
    longest = math.ceil(found["longest"] * 100) / 100
    finding = f"Redis hangs, dies and comes back: no call is delayed by more than {longest:.2f} s"
    seconds = [second["at"] for second in found["seconds"]]
    curves = {"max": "longest", "p99": "p99", "median": "median", "event loop's lag": "lag"}
    added = {name: (seconds, [second[key] * 1e3 for second in found["seconds"]]) for name, key in curves.items()}
    added[f"target {duration(LONGEST)}"] = (seconds, [LONGEST * 1e3] * len(seconds))
    panels = [Curves(curves=added, y="ms added", log="y", tall=4)]
    for name, figure in HELD.items():
        held = [figure(second["figures"]) for second in found["seconds"]]
        panels.append(Curves(curves={name: (seconds, held)}, y=name, x="seconds", tall=1))
    return Chart(
        name="outage",
        title=f"While Redis hangs and dies, {found['raised']} calls raise" if found["raised"] else finding,
        about=f"latency added to a call, by second: {load}",
        panels=panels,
        spans=[
            (phase["name"], phase["began"], phase["began"] + phase["seconds"], phase["name"] in DOWN)
            for phase in found["phases"]
        ],
    )
