"""Stampede: callers in several processes ask for one cold key at the same moment; how often is it loaded?

    python -m benchmarks.parts.stampede MODULE URL PROTECTED CALLERS LOOP

is one of the processes: it reads a number a line, makes its calls, and prints what happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks import peers
from benchmarks.charts import Bars
from benchmarks.load import loop_factory
from benchmarks.report import Section, Sheet
from benchmarks.suite import Bench
from benchmarks.work import DOCUMENT

ROOT: Final = Path(__file__).parent.parent.parent
PROCESSES: Final = 4
CALLERS: Final = 200
LOAD: Final = 0.05
"""Seconds that the load takes."""

PATIENCE: Final = 30.0
"""Seconds within which all callers must have an answer."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one process saw: how often it loaded, the seconds until its last caller had it, and what was raised."""

    loads: int = 0
    seconds: float = 0.0
    raised: int = 0


@dataclass(frozen=True, slots=True)
class Stampede:
    """What all processes saw together, in the medians of several stampedes."""

    name: str
    loads: float
    seconds: float
    raised: float


async def measure(bench: Bench) -> Section:
    """Let each peer meet a few stampedes, with its protection and, where that can be off, without."""
    fresh = itertools.count(1)
    found: list[Stampede] = []
    rows: list[tuple[str, ...]] = []
    for name, module, protected in _variants():
        bench.step(f"stampede: {name}")
        try:
            result = await _stampedes(bench, name, module, fresh, protected=protected)
        except Exception as why:
            rows.append((name, repr(why), "", ""))
        else:
            found.append(result)
            rows.append((name, f"{result.loads:g}", f"{result.seconds * 1e3:.0f} ms", f"{result.raised:g}"))
    title = "Stampede: 200 callers in 4 processes on one cold key"
    sheet = Sheet(title, ("", "loads", "until all have it", "calls that raised"), rows, "medians of several stampedes")
    about = f"50 callers a process, released at the same moment; the load takes {LOAD * 1e3:.0f} ms."
    return Section(
        "stampede", title, about, [sheet], [msgspec.to_builtins(result) for result in found], [_chart(found)]
    )


def _variants() -> list[tuple[str, str, bool]]:
    variants: list[tuple[str, str, bool]] = []
    for module in peers.MODULES:
        try:
            peer = peers.peer(module)
        except Exception:
            variants.append((module, module, False))
            continue
        always = peer.PACKAGE in {"cachekit-redis", "async-lru"}
        variants.append((peer.NAME, module, always))
        if peer.PROTECTS and not always:
            variants.append((f"{peer.NAME}, protected", module, True))
    return variants


@asynccontextmanager
async def _callers(bench: Bench, module: str, *, protected: bool) -> AsyncGenerator[Process]:
    arguments = (module, bench.url, str(int(protected)), str(CALLERS // PROCESSES), bench.loop)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, *arguments, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _told(process: Process) -> Told:
    assert process.stdout is not None  # noqa: S101 - it is piped
    line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
    if not line:
        message = "a process of callers ended by itself"
        raise RuntimeError(message)
    return msgspec.json.decode(line, type=Told)


async def _stampedes(bench: Bench, name: str, module: str, fresh: itertools.count[int], *, protected: bool) -> Stampede:
    rounds = 1 if bench.quick else 5
    seen: list[list[Told]] = []
    async with contextlib.AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(_callers(bench, module, protected=protected)) for _ in range(PROCESSES)
        ]
        # Each tells when it is ready; from then on all are released by a line.
        await asyncio.gather(*map(_told, processes))
        for _ in range(rounds):
            number = next(fresh)
            for process in processes:
                assert process.stdin is not None  # noqa: S101 - it is piped
                process.stdin.write(b"%d\n" % number)
            seen.append(await asyncio.gather(*map(_told, processes)))
            bench.step(f"stampede: {name}")
    return Stampede(
        name,
        statistics.median(sum(told.loads for told in once) for once in seen),
        statistics.median(max(told.seconds for told in once) for once in seen),
        statistics.median(sum(told.raised for told in once) for once in seen),
    )


def _chart(found: list[Stampede]) -> Bars:
    ours = next((stampede.loads for stampede in found if stampede.name == "cachekit"), 0)
    most = max(found, key=lambda stampede: stampede.loads)
    return Bars(
        name="stampede",
        title=f"Loads for {CALLERS} callers of one cold key: cachekit {ours:g}, {most.name} {most.loads:g}",
        about=f"loads of {LOAD * 1e3:.0f} ms by 4 processes of 50 callers; less is better",
        bars=[(stampede.name, stampede.loads, f"{stampede.loads:g}") for stampede in found],
    )


# --- one of the processes -------------------------------------------------------------------------


class _Loads:
    """The function that is decorated, and how often it ran."""

    def __init__(self) -> None:
        self.count = 0

    def function(self) -> peers.Load:
        """Return the function."""

        async def slow(number: int) -> dict[str, Any]:
            # The call that warms up is none that counts.
            self.count += number > 0
            await asyncio.sleep(LOAD)
            return DOCUMENT

        return slow


async def _call(module: str, url: str, callers: int, *, protected: bool) -> None:
    loads = _Loads()
    peer = peers.peer(module)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with peer.opened(url, loads.function(), callers=callers, protected=protected) as document:
        # Connected, and everything has happened that happens once.
        await asyncio.gather(*[document(-number) for number in range(callers)])
        _tell(Told())
        async for line in reader:
            number, before, began = int(line), loads.count, time.perf_counter()
            results = await asyncio.gather(*[document(number) for _ in range(callers)], return_exceptions=True)
            took = time.perf_counter() - began
            raised = sum(isinstance(result, BaseException) for result in results)
            _tell(Told(loads.count - before, took, raised))


def _tell(told: Told) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Be one of the processes."""
    module, url, protected, callers, loop = sys.argv[1:]
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        runner.run(_call(module, url, int(callers), protected=protected == "1"))


if __name__ == "__main__":
    main()
