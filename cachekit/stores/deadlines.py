"""One timer for all operations of an event loop. A timer for each would cost a hit 2 us, only to be cancelled.

The timer is also the pulse of the event loop: while operations are pending it is due every `PULSE`. If it is late, the
loop stood still, since a callback computed for too long. The clock of every pending operation stands still as well.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final, Protocol

from msgspec import Struct

from cachekit.loops import clock_of, detached, future_factory

GRAIN: Final = 0.001
"""The least seconds between two searches for overdue operations: asyncio rounds its waits up to as much."""

PULSE: Final = 0.05
"""Seconds between two looks at whether the event loop stands still, while operations are pending."""

STALL: Final = 0.02
"""Seconds by which the timer must be late, so that they count as a stall."""

_MOST_STALLS: Final = 512
"""Stalls that are remembered: those of ten seconds and more."""

_SHARE: Final = 10
"""A search for overdue operations is followed by so many times its own seconds without one: it looks at all of them."""


class Judge(Protocol):
    """The lane that operations are in, seen from their timer."""

    def judge(self, overdue: list[Any], now: float) -> None:
        """Fail each operation, or give it a later deadline."""
        ...

    def stand_still(self, began: float, ended: float) -> None:
        """Take the time between the two moments, in which nothing was read, out of every duration."""
        ...


class HasDeadline(Protocol):
    """An operation, seen from its timer."""

    deadline: float
    """When it is looked at, by the clock of the event loop."""

    @property
    def lane(self) -> Judge | None:
        """The lane that it is in."""
        ...

    @property
    def due(self) -> float:
        """When it has had its time."""
        ...

    def expire(self) -> None:
        """Fail, because the server has not answered."""
        ...


class Deadline(Struct, frozen=True):
    """The moment at which one operation fails, and the timer that makes it fail."""

    at: float
    """By the clock of the event loop."""
    began: float
    """By the same clock."""
    patience: float
    """Seconds of silence that are held against the server."""
    deadlines: Deadlines


class Deadlines:
    """The timer of one event loop, and the operations that are pending there. Belongs to the loop it was made in.

    Args:
        address: Of the server or servers, for messages, the password masked.
    """

    def __init__(self, address: str) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.time: Callable[[], float] = clock_of(self.loop)
        """The clock of the event loop."""
        self.address: str = address
        self.create_future: Callable[[], asyncio.Future[Any]] = future_factory(self.loop)
        """Makes the future of an operation."""
        self.pending: set[HasDeadline] = set()
        """An operation that ends is discarded here. The timer stays set: to find nothing once is cheaper than to set it
        anew for each operation."""
        # The first deadline that the timer knows of, and the moment at which the timer is due.
        self._earliest = math.inf
        self._due = math.inf
        self.stalls_at: float = math.inf
        """From that moment on the timer is so late that `note_stall` is to be called."""
        self.lanes: set[Judge] = set()
        """The lanes of the operations, whose durations leave out a stall."""
        # When each of the last stalls began and ended, and the seconds of all until then.
        self._stall_begins: list[float] = []
        self._stall_ends: list[float] = []
        self._stall_sums: list[float] = []
        self._timer: asyncio.TimerHandle | None = None
        # Until then nothing is searched.
        self._rests_until = 0.0

    def after(self, seconds: float, patience: float | None = None) -> Deadline:
        """Return the deadline that passes in ``seconds``; ``patience`` is that of its operation, if it differs."""
        began = self.time()
        return Deadline(began + seconds, began, seconds if patience is None else patience, self)

    def add(self, operation: HasDeadline) -> None:
        """Expire ``operation`` when its deadline passes, unless it has been discarded from `pending` by then."""
        self.pending.add(operation)
        if operation.deadline < self._earliest:
            self._earliest = operation.deadline
            self._schedule(operation.deadline)

    def note_stall(self, now: float) -> None:
        """Stop the clocks for the time by which the timer is late. A lane calls it before it reads what has come."""
        began = self._due
        self._due, self.stalls_at = now, now + STALL
        if len(self._stall_ends) >= _MOST_STALLS:
            # The sum of those that are forgotten stays in the others.
            for stalls in (self._stall_begins, self._stall_ends, self._stall_sums):
                del stalls[: _MOST_STALLS // 2]
        self._stall_sums.append((self._stall_sums[-1] if self._stall_sums else 0.0) + now - began)
        self._stall_begins.append(began)
        self._stall_ends.append(now)
        for lane in self.lanes:
            lane.stand_still(began, now)

    def stalled(self, since: float) -> float:
        """Return for how many seconds since then the event loop has stood still."""
        first = bisect_right(self._stall_ends, since)
        if first == len(self._stall_ends):
            return 0.0
        before = self._stall_sums[first - 1] if first else 0.0
        return self._stall_sums[-1] - before - max(0.0, since - self._stall_begins[first])

    def close(self) -> None:
        """Discard all operations, and stop the timer."""
        self.pending.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._rest()

    def _rest(self) -> None:
        self._earliest = self._due = self.stalls_at = math.inf

    def _schedule(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        now = self.time()
        if now > self.stalls_at:
            # The loop has not come to the timer that is replaced.
            self.note_stall(now)
        self._due = min(max(due, self._rests_until, now), now + PULSE)
        self.stalls_at = self._due + STALL
        self._timer = detached(self.loop.call_at, self._due, self._on_time)

    def _on_time(self) -> None:
        now = self.time()
        if now > self.stalls_at:
            self.note_stall(now)
            # The bytes that have come meanwhile are read first. asyncio reads before it calls timers, uvloop reads
            # afterwards: from the second turn on both have read.
            detached(self.loop.call_soon, self.loop.call_soon, self._expire)
        else:
            self._expire()

    def _expire(self) -> None:
        began = self.time()
        if began > self.stalls_at:
            self.note_stall(began)
        if max(self._earliest, self._rests_until) > began + GRAIN:
            self._beat()
            return
        lanes: dict[Judge, list[HasDeadline]] = {}
        in_no_lane_yet: list[HasDeadline] = []
        # The event loop calls up to one tick of its clock early.
        for operation in self.pending:
            if operation.deadline <= began + GRAIN:
                others = in_no_lane_yet if operation.lane is None else lanes.setdefault(operation.lane, [])
                others.append(operation)
        for operation in in_no_lane_yet:
            operation.deadline = operation.due
            if operation.deadline <= began + GRAIN:
                operation.expire()
        for lane, overdue in lanes.items():
            # As of when the search began: it may take long itself.
            lane.judge(overdue, began)
        now = self.time()
        self._rests_until = now + max(GRAIN, _SHARE * (now - began))
        self._earliest = min([operation.deadline for operation in self.pending], default=math.inf)
        self._beat()

    def _beat(self) -> None:
        """Set the timer again, while there is something to wait for."""
        if self.pending:
            self._schedule(self._earliest)
        else:
            self._rest()
