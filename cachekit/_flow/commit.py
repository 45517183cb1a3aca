"""Invalidations held back until a block has ended normally: so that a database commits first."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

from cachekit._flow.runtime import Runtime


class Block:
    """The invalidations made inside an `after_commit` block, in order, each key once."""

    __slots__ = ("around", "keys", "open")

    def __init__(self, around: Block | None) -> None:
        self.around = around
        self.keys: dict[str, None] = {}
        self.open = True


BLOCKS: Final[ContextVar[Mapping[Runtime, Block]]] = ContextVar("cachekit after_commit", default=MappingProxyType({}))
"""The blocks that the running code is inside of: empty without any, so a call outside tests only its truth."""


def open_block(runtime: Runtime) -> Block | None:
    """Return the block that the running code is inside of, if there is one."""
    block = BLOCKS.get().get(runtime)
    # A task may outlive the block it was started in; what it does then belongs to the block around that.
    while block is not None and not block.open:
        block = block.around
    return block


def held_back(runtime: Runtime, key: str) -> bool:
    """Tell whether an invalidation of ``key`` waits for the running code to commit.

    For that code the value of the key is out of date, and a value that it would load is not for others yet.
    """
    block = open_block(runtime)
    while block is not None:
        if key in block.keys:
            return True
        block = block.around
    return False


@asynccontextmanager
async def after_commit(
    runtime: Runtime, perform: Callable[[Runtime, Sequence[str]], Awaitable[bool]]
) -> AsyncGenerator[None, None]:
    """Collect invalidations inside; ``perform`` them when the block ends normally, and none when it raises."""
    around = BLOCKS.get()
    block = Block(around.get(runtime))
    BLOCKS.set({**around, runtime: block})
    try:
        yield
    finally:
        block.open = False
        BLOCKS.set(around)
    if block.keys:
        await perform(runtime, [*block.keys])
