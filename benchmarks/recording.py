"""A recording of a load: each call, each second, the memory and files of the process, and rare events.

Every moment is one of the monotonic clock, which all processes share; all times are seconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from array import array
from collections.abc import MutableSequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import psutil

from cachekit.events import (
    BreakerClosed,
    BreakerOpened,
    Event,
    Filled,
    Hit,
    LoadBegan,
    Loaded,
    Missed,
    NotStored,
    Shared,
    StoreFailed,
)

MOST_NOTES: Final = 1000
"""The most notes of each kind that are kept."""

LOADED, HIT, SHARED = 0, 1, 2
"""A call ran the function, or found the value, or got that of another call's load."""

# One of them for each call or more: they are not kept.
_COMMON: Final = (Hit, Missed, LoadBegan, Loaded, Shared, Filled, NotStored, StoreFailed)

Floats: TypeAlias = MutableSequence[float]


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes of memory, tasks, open files, and how many of these are sockets."""

    memory: int
    tasks: int
    files: int
    sockets: int


def held() -> Held:
    """Look at this process; on Linux the listing of its files is one of them."""
    process = psutil.Process()
    sockets = len(process.net_connections("all"))
    return Held(process.memory_info().rss, len(asyncio.all_tasks()), process.num_fds(), sockets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """The end of a second of the load: ``at`` since the first call was due, with the calls and hits of that second."""

    at: float
    calls: int
    hits: int
    breaker: str
    held: Held


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happens rarely: an event, a log record, an exception."""

    at: float
    name: str
    text: str


def _floats() -> Floats:
    return array("d")


@dataclass(slots=True, kw_only=True)
class Recording:
    """All that is measured. Nothing here allocates for a call: `reserve` makes the arrays as large as they get."""

    before: Held = Held(0, 0, 0, 0)  # when every caller waited for its first call
    after: Held = Held(0, 0, 0, 0)  # when the callers have ended and the cache is closed
    began: float = 0.0  # when the first call was due
    calls: int = 0  # how many have returned
    ended: Floats = field(default_factory=_floats)  # when each call returned, in this order
    took: Floats = field(default_factory=_floats)  # its seconds
    kinds: MutableSequence[int] = field(default_factory=lambda: array("b"))  # which of the three it was
    undecorated: Floats = field(default_factory=_floats)  # the seconds of calls of the undecorated function
    beats: Floats = field(default_factory=_floats)  # when the heartbeat ran
    lags: Floats = field(default_factory=_floats)  # by how much that was late
    ticks: list[Tick] = field(default_factory=list)
    skipped: int = 0  # calls that were not made, since their caller was still waiting for the one before
    store_failed: int = 0  # operations that failed or were left out
    raised: int = 0  # by calls, or by tasks in the background
    events: list[Note] = field(default_factory=list)  # the rare ones
    records: list[Note] = field(default_factory=list)  # of the log
    exceptions: list[Note] = field(default_factory=list)  # the first ones
    breaker: str = "closed"
    hit: bool = False  # whether the last event was one: it is told in the step in which its caller gets the value

    def reserve(self, most: int) -> None:
        """Make room for so many calls."""
        for calls in (self.ended, self.took, self.kinds):
            calls.extend([0] * most)

    def observe(self, event: Event) -> None:
        """Take note of an event of the cache, and keep it if it is rare."""
        kind = type(event)
        if kind is Hit:
            self.hit = True
        elif kind is StoreFailed:
            self.store_failed += 1
        elif kind not in _COMMON:
            keep(self.events, kind.__name__, str(event))
            if kind is BreakerOpened or kind is BreakerClosed:
                self.breaker = "open" if kind is BreakerOpened else "closed"

    def returned(self, ended: float, took: float, kind: int) -> None:
        """Note that a call returned."""
        call = self.calls
        self.ended[call] = ended
        self.took[call] = took
        self.kinds[call] = HIT if self.hit else kind
        self.calls = call + 1
        self.hit = False

    def failed(self, error: BaseException | None, text: str) -> None:
        """Note an exception: none may reach a caller, and none may be lost in the background."""
        self.raised += 1
        keep(self.exceptions, type(error).__name__, text)

    def tick(self, since: int) -> Tick:
        """Note that a second is over, in which the call ``since`` was the first to return."""
        hits = sum(kind == HIT for kind in self.kinds[since : self.calls])
        at = len(self.ticks) + 1.0
        self.ticks.append(Tick(at=at, calls=self.calls - since, hits=hits, breaker=self.breaker, held=held()))
        return self.ticks[-1]

    def close(self) -> None:
        """Give back the room that no call has taken, and look at the process once more."""
        self.after = held()
        for calls in (self.ended, self.took, self.kinds):
            del calls[self.calls :]


def keep(notes: list[Note], name: str, text: str) -> None:
    """Keep a note, unless there are many."""
    if len(notes) < MOST_NOTES:
        notes.append(Note(time.monotonic(), name, text))


class Records(logging.Handler):
    """Keeps the log records of the cache."""

    def __init__(self, notes: list[Note]) -> None:
        super().__init__()
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        """Keep ``record``."""
        keep(self._notes, record.levelname, record.getMessage())
