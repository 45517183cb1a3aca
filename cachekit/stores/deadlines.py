"""One timer for all operations of an event loop: one for each would cost a hit 2 us, to be cancelled unheard."""

from __future__ import annotations

import asyncio
import math
from typing import Final, Protocol

from msgspec import Struct

GRAIN: Final = 0.001
"""Seconds between two looks at what is overdue, at least: asyncio rounds what it waits for up to as much."""


class HasDeadline(Protocol):
    """Something with a deadline."""

    deadline: float
    """By the clock of the event loop."""

    def expire(self) -> None:
        """Fail, since the deadline is over."""
        ...


class Deadline(Struct, frozen=True):
    """The moment at which one operation fails, and the timer that looks after it."""

    at: float
    """By the clock of the event loop."""

    deadlines: Deadlines


class Deadlines:
    """The operations that are not over yet. Belongs to the event loop it was made in.

    Args:
        address: What they are sent to, for messages, the password masked.
    """

    def __init__(self, address: str) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.address = address
        self.pending: set[HasDeadline] = set()
        """What is over is discarded. The timer stays: it finds nothing, once, rather than being set anew each time."""
        self._next = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def after(self, seconds: float) -> Deadline:
        """Return the deadline that is over in ``seconds``."""
        return Deadline(self.loop.time() + seconds, self)

    def add(self, operation: HasDeadline) -> None:
        """Have ``operation`` told when its deadline is over, unless it is by then."""
        self.pending.add(operation)
        if operation.deadline < self._next:
            self._schedule(operation.deadline)

    def close(self) -> None:
        """Forget everything."""
        self.pending.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = due
        self._timer = self.loop.call_at(due, self._expire)

    def _expire(self) -> None:
        self._next = math.inf
        now = self.loop.time()
        # The event loop calls up to one tick of its clock early.
        for operation in [operation for operation in self.pending if operation.deadline <= now + GRAIN]:
            self.pending.discard(operation)
            operation.expire()
        if self.pending:
            self._schedule(max(now + GRAIN, min(operation.deadline for operation in self.pending)))
