"""Changes held back until a block has ended normally: so that a database commits first.

Invalidations are held back, and so is every later change of a key that is to be invalidated. The last one wins.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final, TypeAlias

from msgspec import Struct

from cachekit._flow.runtime import Runtime
from cachekit._tiers.guard import Budget


class Write(Struct, eq=False):
    """A write to a key that is held back."""

    perform: Callable[[Budget], Awaitable[bool]]
    """Writes. Returns whether the store confirmed it."""
    drop: Callable[[], None] | None = None
    """Frees the things that it needed, when it is not performed."""
    whole: bool = True
    """Whether it replaces the value, and so the writes before it."""
    fenced: bool = False
    """Whether it is performed in place of the invalidation, which follows only when it is refused."""


class Changes(Struct):
    """Changes that are held back. A key stands in both when it was written after its invalidation."""

    invalidated: dict[str, bool] = {}
    """The keys to invalidate, in order, and whether each is only to be expired."""
    writes: dict[str, list[Write]] = {}
    """By key, the writes after its invalidation, in order."""

    def drop(self) -> None:
        """Drop all writes."""
        for writes in self.writes.values():
            _drop(writes)


def _drop(writes: Sequence[Write]) -> None:
    for write in writes:
        if write.drop is not None:
            write.drop()


Perform: TypeAlias = Callable[[Runtime, Changes], Awaitable[None]]
"""Performs the changes that a block held back."""


class Block:
    """The changes made inside an `after_commit` block."""

    __slots__ = ("around", "held", "open", "writes_now")

    def __init__(self, around: Block | None) -> None:
        self.around = around
        self.held = Changes()
        self.open = True
        self.writes_now = False
        """Whether it holds nothing back: the code inside is writing its key."""

    def holds(self, key: str) -> bool:
        """Tell whether a change of ``key`` is held back."""
        return key in self.held.invalidated or key in self.held.writes

    def invalidate(self, keys: Iterable[str], *, soft: bool = False) -> None:
        """Hold back the invalidation of ``keys``, or their expiry. Earlier writes to them are dropped."""
        for key in keys:
            # What was to be removed stays so.
            self.held.invalidated[key] = soft and self.held.invalidated.get(key, True)
            _drop(self.held.writes.pop(key, ()))

    def write(self, key: str, write: Write) -> None:
        """Hold back ``write``."""
        dropped = self.held.writes.pop(key, []) if write.whole else []
        self.held.writes.setdefault(key, []).append(write)
        _drop(dropped)


BLOCKS: Final[ContextVar[Mapping[Runtime, Block]]] = ContextVar("cachekit after_commit", default=MappingProxyType({}))
"""The blocks that the running code is inside of: empty without any, so a call outside tests only its truth."""


def leave_blocks() -> None:
    """Be inside of no block, in this context: what begins here is no part of them."""
    BLOCKS.set(MappingProxyType({}))


def open_block(runtime: Runtime) -> Block | None:
    """Return the block that the running code is inside of, if there is one."""
    block = BLOCKS.get().get(runtime)
    # A task may outlive the block it was started in; what it does then belongs to the block around that.
    while block is not None and not block.open:
        block = block.around
    return block


def block_for(runtime: Runtime, key: str) -> Block | None:
    """Return the innermost block if an invalidation of ``key`` waits for the running code to commit.

    For that code the value of the key is out of date, and a value that it would load is not for others yet.
    """
    innermost = block = open_block(runtime)
    while block is not None:
        if block.holds(key):
            return innermost
        block = block.around
    return None


def runs_uncached(runtime: Runtime, key: str) -> bool:
    """Tell whether calls of ``key`` run uncached here: it is to be invalidated, or this code is writing it."""
    block = BLOCKS.get().get(runtime)
    while block is not None:
        if (block.open or block.writes_now) and block.holds(key):
            return True
        block = block.around
    return False


def block_for_any(runtime: Runtime, keys: Iterable[str]) -> Block | None:
    """Return as `block_for` if an invalidation of one of ``keys`` waits."""
    blocks = [block_for(runtime, key) for key in keys] if BLOCKS.get() else []
    return next((block for block in blocks if block is not None), None)


def any_runs_uncached(runtime: Runtime, keys: Iterable[str]) -> bool:
    """Tell as `runs_uncached` whether that is so for one of ``keys``."""
    return bool(BLOCKS.get()) and any(runs_uncached(runtime, key) for key in keys)


@asynccontextmanager
async def after_commit(runtime: Runtime, perform: Perform) -> AsyncGenerator[None, None]:
    """Collect changes inside; ``perform`` them when the block ends normally, and none when it raises."""
    around = BLOCKS.get()
    block = Block(around.get(runtime))
    BLOCKS.set({**around, runtime: block})
    committed = False
    try:
        yield
        committed = True
    finally:
        block.open = False
        # A coroutine that is closed from outside runs this in another context, which is left as it is.
        if BLOCKS.get().get(runtime) is block:
            BLOCKS.set(around)
        # Tasks that were started inside keep the block, but not what it held.
        held, block.held = block.held, Changes()
        if not committed:
            held.drop()
    outer = open_block(runtime)
    if outer is not None:
        _hand_over(held, outer)
    elif held.invalidated or held.writes:
        await perform(runtime, held)


def _hand_over(held: Changes, outer: Block) -> None:
    """Let the block around perform the changes, when it ends."""
    for key, soft in held.invalidated.items():
        outer.invalidate([key], soft=soft)
    for key, writes in held.writes.items():
        for write in writes:
            outer.write(key, write)
