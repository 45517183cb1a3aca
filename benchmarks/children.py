"""Processes that a part starts: they get arguments, and tell their figures as lines of JSON."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

ROOT: Final = Path(__file__).parent.parent
PATIENCE: Final = 30.0
"""Seconds within which a process must answer."""

T = TypeVar("T")


@asynccontextmanager
async def child(*arguments: str, environment: Mapping[str, str] | None = None) -> AsyncGenerator[Process, None]:
    """Run Python with ``arguments``, as a process that ends when this is left."""
    environment = {**os.environ, **(environment or {})}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=ROOT, stdin=PIPE, stdout=PIPE, env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def told(process: Process, kind: type[T], *, within: float = PATIENCE) -> T:
    """Return the value that ``process`` tells in its next line.

    Raises:
        TimeoutError: There was none within so many seconds.
        RuntimeError: The process has ended.
    """
    assert process.stdout is not None  # noqa: S101 - it is piped
    line = await asyncio.wait_for(process.stdout.readline(), within)
    if not line:
        message = f"a process ended with {await process.wait()}, before it told its figures"
        raise RuntimeError(message)
    return msgspec.json.decode(line, type=kind)


def tell(value: object) -> None:
    """Print a line for the process that started this one."""
    # A recording is kept in arrays.
    sys.stdout.buffer.write(msgspec.json.encode(value, enc_hook=list) + b"\n")
    sys.stdout.buffer.flush()


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the factory of event loops of that name; None stands for asyncio's own."""
    if name == "asyncio":
        return None
    import uvloop  # noqa: PLC0415 - optional

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
