"""Stampede: callers in several processes ask for one cold key at the same moment; how often is it loaded?

    python -m benchmarks.parts.stampede PEER URL PROTECTED CALLERS LOOP

is one of the processes: it reads a number a line, makes its calls, and tells the figures.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.charts import Bars, Chart
from benchmarks.children import child, loop_factory, tell, told
from benchmarks.peers import PEERS, Peer, Setup
from benchmarks.report import Section, Sheet
from benchmarks.suite import Bench
from benchmarks.work import DOCUMENT

PROCESSES: Final = 4
CALLERS: Final = 200
LOAD: Final = 0.05
"""Seconds that the load takes."""


@dataclass(frozen=True, slots=True)
class Told:
    """The view of one process: its loads, the seconds until its last caller had the value, the calls that raised."""

    loads: int = 0
    seconds: float = 0.0
    raised: int = 0


async def measure(bench: Bench) -> Section:
    """Let each peer meet a few stampedes, with its protection and, where that can be off, without."""
    fresh = itertools.count(1)
    data: list[dict[str, Any]] = []
    rows: list[tuple[str, ...]] = []
    for name, peer, protected in _variants():
        bench.step(f"stampede: {name}")
        try:
            found = await _stampedes(bench, peer, fresh, protected=protected)
        except Exception as why:
            rows.append((name, repr(why), "", ""))
        else:
            data.append({"name": name, **found})
            rows.append((name, f"{found['loads']:g}", f"{found['seconds'] * 1e3:.0f} ms", f"{found['raised']:g}"))
    title = "Stampede: 200 callers in 4 processes on one cold key"
    sheet = Sheet(title, ("", "loads", "until all have it", "calls that raised"), rows, "medians of several stampedes")
    about = f"50 callers a process, released at the same moment; the load takes {LOAD * 1e3:.0f} ms."
    return Section("stampede", title, about, [sheet], data, [_chart({each["name"]: each["loads"] for each in data})])


def _variants() -> Iterator[tuple[str, Peer, bool]]:
    """Yield each peer by name, without its protection and with it, where it can be off."""
    for peer in PEERS:
        yield peer.name, peer, peer.protects == "always"
        if peer.protects == "set":
            yield f"{peer.name}, protected", peer, True


async def _stampedes(bench: Bench, peer: Peer, fresh: Iterator[int], *, protected: bool) -> dict[str, float]:
    """Return the figures of all processes together, in the medians of several stampedes."""
    arguments = ("-m", __name__, peer.name, bench.url, str(int(protected)), str(CALLERS // PROCESSES), bench.loop)
    seen: list[list[Told]] = []
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(child(*arguments)) for _ in range(PROCESSES)]
        # Each tells when it is ready; from then on all are released by a line.
        await asyncio.gather(*[told(process, Told) for process in processes])
        for _ in range(1 if bench.quick else 5):
            number = next(fresh)
            for process in processes:
                assert process.stdin is not None  # noqa: S101 - it is piped
                process.stdin.write(b"%d\n" % number)
            seen.append(await asyncio.gather(*[told(process, Told) for process in processes]))
    return {
        "loads": statistics.median(sum(told.loads for told in once) for once in seen),
        "seconds": statistics.median(max(told.seconds for told in once) for once in seen),
        "raised": statistics.median(sum(told.raised for told in once) for once in seen),
    }


def _chart(loads: dict[str, float]) -> Chart:
    most = max(loads, key=loads.__getitem__)
    return Chart(
        name="benchmarks-stampede",
        title=f"Loads for {CALLERS} callers of one cold key: cachekit {loads.get('cachekit', 0):g}, "
        f"{most} {loads[most]:g}",
        about=f"loads of {LOAD * 1e3:.0f} ms by 4 processes of 50 callers; less is better",
        panels=[Bars(bars=loads, label="{:g}")],
    )


# --- one of the processes -------------------------------------------------------------------------


async def _call(peer: Peer, url: str, callers: int, *, protected: bool) -> None:
    loads = 0

    async def slow(number: int) -> dict[str, Any]:
        nonlocal loads
        # The call that warms up is none that counts.
        loads += number > 0
        await asyncio.sleep(LOAD)
        return DOCUMENT

    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with peer.opened(url, slow, Setup(callers=callers, protected=protected)) as document:
        # Connected, and everything has happened that happens once.
        await asyncio.gather(*[document(-number) for number in range(callers)])
        tell(Told())
        async for line in reader:
            number, before, began = int(line), loads, time.perf_counter()
            results = await asyncio.gather(*[document(number) for _ in range(callers)], return_exceptions=True)
            took = time.perf_counter() - began
            tell(Told(loads - before, took, sum(isinstance(result, BaseException) for result in results)))


def main() -> None:
    """Be one of the processes."""
    name, url, protected, callers, loop = sys.argv[1:]
    peer = next(peer for peer in PEERS if peer.name == name)
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        runner.run(_call(peer, url, int(callers), protected=protected == "1"))


if __name__ == "__main__":
    main()
