"""One timer for all operations of an event loop. A timer for each would cost a hit 2 us, only to be cancelled."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final, Protocol

from msgspec import Struct

from cachekit.loops import detached, future_factory

GRAIN: Final = 0.001
"""The least seconds between two searches for overdue operations: asyncio rounds its waits up to as much."""


class HasDeadline(Protocol):
    """An operation, seen from its timer."""

    deadline: float
    """By the clock of the event loop."""

    def expire(self) -> None:
        """Fail, because the deadline has passed."""
        ...


class Deadline(Struct, frozen=True):
    """The moment at which one operation fails, and the timer that makes it fail."""

    at: float
    """By the clock of the event loop."""

    deadlines: Deadlines


class Deadlines:
    """The timer of one event loop, and the operations that are pending there. Belongs to the loop it was made in.

    Args:
        address: Of the server or servers, for messages, the password masked.
    """

    def __init__(self, address: str) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.address: str = address
        self.create_future: Callable[[], asyncio.Future[Any]] = future_factory(self.loop)
        """Makes the future of an operation."""
        self.pending: set[HasDeadline] = set()
        """An operation that ends is discarded here. The timer stays set: to find nothing once is cheaper than to set it
        anew for each operation."""
        self._next = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def after(self, seconds: float) -> Deadline:
        """Return the deadline that passes in ``seconds``."""
        return Deadline(self.loop.time() + seconds, self)

    def add(self, operation: HasDeadline) -> None:
        """Expire ``operation`` when its deadline passes, unless it has been discarded from `pending` by then."""
        self.pending.add(operation)
        if operation.deadline < self._next:
            self._schedule(operation.deadline)

    def close(self) -> None:
        """Discard all operations, and stop the timer."""
        self.pending.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = due
        self._timer = detached(self.loop.call_at, due, self._expire)

    def _expire(self) -> None:
        self._next = math.inf
        now = self.loop.time()
        # The event loop calls up to one tick of its clock early.
        for operation in [operation for operation in self.pending if operation.deadline <= now + GRAIN]:
            self.pending.discard(operation)
            operation.expire()
        if self.pending:
            self._schedule(max(now + GRAIN, min(operation.deadline for operation in self.pending)))
