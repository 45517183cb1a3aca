"""This checkout against another one by instructions: what a busy machine cannot change.

    python -m benchmarks.instructions ../before

It needs valgrind. Each kind of call runs under ``cachegrind`` twice, with few calls and with many; the difference,
by the calls, is the figure. It varies by some tens of instructions from run to run.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

# Nothing of `benchmarks` here: the worker runs with the cachekit of the other checkout.
from rich.console import Console
from rich.table import Table

from cachekit import Cache

KINDS: Final = ("hit on memory://", "miss on memory://", "near hit")
CALLS: Final = (500, 2500)
"""Few, and many."""

DOCUMENT: Final = {"user": "42", "errors": [{"word": "recieve", "count": n} for n in range(3)]}


async def work(kind: str, calls: int, url: str) -> None:
    """Make so many calls of a kind, after some that warm up."""
    near = kind == "near hit"
    cache, fresh = Cache(url if near else "memory://", timeout=60, near=1000 if near else None), count(1000)

    @cache.cached(key="document:<number>", ttl=600)
    async def document(number: int) -> dict[str, Any]:  # noqa: ARG001 - it is part of the key
        return DOCUMENT

    call: Callable[[], Awaitable[object]] = lambda: document(next(fresh) if kind.startswith("miss") else 0)  # noqa: E731
    # The run before has left its value on the server: a first call that finds it is not the one of a new server.
    await document.invalidate(0)
    for _ in range(50):
        await call()
        # Until tracking is confirmed.
        await asyncio.sleep(0.02 if near else 0)
    gc.collect()
    gc.disable()
    for _ in range(calls):
        await call()
    await cache.aclose()


def instructions(checkout: Path, kind: str, url: str) -> float:
    """Return the instructions of a call, with the cachekit of ``checkout``."""
    few, many = [_refs(checkout, kind, calls, url) for calls in CALLS]
    return (many - few) / (CALLS[1] - CALLS[0])


def _refs(checkout: Path, kind: str, calls: int, url: str) -> int:
    valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    # -P: the folder of this file is none of the worker's path.
    worker = [sys.executable, "-P", __file__, str(checkout), "--url", url, "--kind", kind, "--calls", str(calls)]
    environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONHASHSEED": "0"}
    # This program, with words of its own.
    done = subprocess.run([*valgrind, *worker], env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    [refs] = re.findall(r"I\s+refs:\s+([\d,]+)", done.stderr)
    return int(refs.replace(",", ""))


def measure(other: Path) -> Table:
    """Return the table of both."""
    from benchmarks.children import ROOT  # noqa: PLC0415 - the worker has none of it
    from tests.kit.binaries import first_server  # noqa: PLC0415 - as above
    from tests.kit.servers import RedisServer  # noqa: PLC0415 - as above

    table = Table("calls", "before", "after", "ratio", title=f"instructions of a call, against {other.name}")
    with RedisServer(first_server()) as server:
        for kind in KINDS:
            before, after = (instructions(checkout, kind, server.url) for checkout in (other, ROOT))
            table.add_row(kind, f"{before:,.0f}", f"{after:,.0f}", f"{after / before:.4f}")
    return table


def main(argv: list[str] | None = None) -> None:
    """Compare, or be one of the two that are compared."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description="This checkout by another.")
    parser.add_argument("other", type=Path, help="the folder of the other checkout")
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--calls", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.kind:
        logging.disable()
        asyncio.run(work(options.kind, options.calls, options.url))
        return
    if not (options.other / "cachekit").is_dir():
        parser.error(f"{options.other} has no folder cachekit: name another checkout, such as a git worktree")
    if shutil.which("valgrind") is None:
        parser.error("valgrind is not on PATH; Debian has it in a package of that name")
    Console(width=None if sys.stdout.isatty() else 120).print(measure(options.other.resolve()))


if __name__ == "__main__":
    main()
