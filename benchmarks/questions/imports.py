"""Importing the toolkit, against importing its dependencies."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from tempfile import TemporaryDirectory

from benchmarks.children import child
from benchmarks.questions import Question, ratio
from benchmarks.suite import Run

TIMED = "import time; began = time.perf_counter(); {work}; print(time.perf_counter() - began)"
"""The interpreter's own start is not part of the time."""


async def _python(code: str, bytecode: str) -> bytes:
    # The imports are compiled already, as where a wheel is installed.
    environment = {"PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
    async with child("-c", code, environment=environment) as process:
        printed, _ = await process.communicate()
    if process.returncode:
        message = f"a process ended with {process.returncode}: {code}"
        raise RuntimeError(message)
    return printed


@asynccontextmanager
async def importing(url: str, what: str) -> AsyncGenerator[Run, None]:  # noqa: ARG001 - no server
    """Import ``what`` in new processes, which measure it themselves."""
    with TemporaryDirectory(prefix="cachekit-") as bytecode:
        code = TIMED.format(work=f"import {what}")
        await _python(code, bytecode)

        async def run(calls: int) -> float:
            return sum([float(await _python(code, bytecode)) for _ in range(calls)])

        yield run


@asynccontextmanager
async def starting(url: str, code: str) -> AsyncGenerator[Run, None]:  # noqa: ARG001 - no server
    """Start a process that runs ``code``, and wait for its end."""
    with TemporaryDirectory(prefix="cachekit-") as bytecode:

        async def run(calls: int) -> None:
            for _ in range(calls):
                await _python(code, bytecode)

        yield run


REQUIRED = "redis.asyncio, orjson, wrapt, msgspec"
imported, required = partial(importing, what="cachekit"), partial(importing, what=REQUIRED)
started, empty = partial(starting, code="import cachekit"), partial(starting, code="pass")
STARTED = "a process that imports cachekit and ends"

QUESTIONS = [
    Question("import", "import cachekit", imported, (f"importing {REQUIRED}", required), 1, ratio(1.15), most=20),
    Question("process", STARTED, started, ("a process that does nothing", empty), 1, most=10),
]
