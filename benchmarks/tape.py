"""What is recorded of a load: each call, each second, what the process holds, and what happens rarely.

The recording does not grow while it is made: its arrays are as large as they get before the first call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import stat
import time
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from cachekit.events import BreakerClosed, BreakerOpened, Event, Filled, Hit, Loaded, Missed, StoreFailed

MOST_NOTES: Final = 1000
"""The most events, log records and exceptions that are kept, of each."""

LOADED, HIT, SHARED = 0, 1, 2
"""What a call was: it ran the function, or found the value, or got that of another call's load."""

# One of them for each call or more: they are counted, not kept.
_COMMON: Final = (Hit, Missed, Loaded, Filled, StoreFailed)


@dataclass(frozen=True, slots=True)
class Figures:
    """What the process holds: bytes of memory, tasks, open files, and how many of these are sockets."""

    memory: int
    tasks: int
    files: int
    sockets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """One second of the load, by the calls that returned in it. Times are seconds since the first call was due.

    ``exceptions`` counts from the beginning; ``breaker`` and ``figures`` are as of the end.
    """

    at: float
    calls: int
    hits: int
    loads: int
    exceptions: int
    median: float
    p99: float
    longest: float
    lag: float
    breaker: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happens rarely: an event, a log record, an exception."""

    at: float
    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """All that was measured. Every moment is one of the monotonic clock, which all processes share.

    Attributes:
        began: When the first call was due.
        ended: When each call returned, in this order.
        took: What it took.
        kinds: Whether it was `LOADED`, `HIT` or `SHARED`.
        undecorated: What calls of the undecorated function took.
        beats: When the heartbeat ran.
        lags: By how much that was late.
        seconds: One by one.
        before: What the process held when every caller waited for its first call.
        after: What it holds when the callers have ended and the cache is closed.
        skipped: Calls that were not made, since their caller was still waiting for the one before.
        store_failed: How many operations failed or were left out.
        events: Other than those that come with every call.
        records: What was logged.
        exceptions: What calls raised, or tasks in the background.
        raised: How many of these there were.
    """

    began: float
    ended: list[float]
    took: list[float]
    kinds: list[int]
    undecorated: list[float]
    beats: list[float]
    lags: list[float]
    seconds: list[Second]
    before: Figures
    after: Figures
    skipped: int
    store_failed: int
    events: list[Note]
    records: list[Note]
    exceptions: list[Note]
    raised: int


def spread(times: list[float]) -> tuple[float, float, float]:
    """Return the median, the 99th percentile and the largest of ``times``; zeros if there are none."""
    if not times:
        return 0.0, 0.0, 0.0
    ordered = sorted(times)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], ordered[-1]


def figures() -> Figures:
    """Return what this process holds now."""
    kinds: list[bool] = []
    folder = Path("/proc/self/fd")
    for path in list((folder if folder.exists() else Path("/dev/fd")).iterdir()):
        # The listing itself was one of them.
        with contextlib.suppress(OSError):
            kinds.append(stat.S_ISSOCK(os.fstat(int(path.name)).st_mode))
    return Figures(_memory(), len(asyncio.all_tasks()), len(kinds), sum(kinds))


def _memory() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    # Without /proc the peak is all there is; macOS has it in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Tape:
    """Where calls, beats and events are recorded. Nothing here allocates for a call."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.calls = 0
        self.ended = array("d", bytes(8 * most))
        self.took = array("d", bytes(8 * most))
        self.kinds = array("b", bytes(most))
        self.undecorated = array("d")
        self.beats = array("d")
        self.lags = array("d")
        self.skipped = 0
        self.raised = 0
        self.hit = False
        """Whether the last event was a hit: it is told in the step in which its caller gets the value."""
        self.counts: dict[type[Event], int] = dict.fromkeys(get_args(Event), 0)
        self.breaker = "closed"
        self.seconds: list[Second] = []
        self.events: list[Note] = []
        self.records: list[Note] = []
        self.exceptions: list[Note] = []

    def observe(self, event: Event) -> None:
        """Count an event of the cache, and keep it if it is rare."""
        kind = type(event)
        self.counts[kind] += 1
        if kind is Hit:
            self.hit = True
        elif kind not in _COMMON:
            _keep(self.events, kind.__name__, str(event))
            if kind is BreakerOpened or kind is BreakerClosed:
                self.breaker = "open" if kind is BreakerOpened else "closed"

    def note(self, ended: float, took: float, kind: int) -> None:
        """Note that a call returned."""
        call = self.calls
        self.ended[call] = ended
        self.took[call] = took
        self.kinds[call] = kind
        self.calls = call + 1
        self.hit = False

    def failed(self, error: BaseException | None, text: str) -> None:
        """Note an exception: none may reach a caller, and none may be lost in the background."""
        self.raised += 1
        _keep(self.exceptions, type(error).__name__, text)

    def second(self, at: float, first_call: int, first_beat: int) -> Second:
        """Return what has happened since that call and that beat."""
        took = self.took[first_call : self.calls].tolist()
        kinds = self.kinds[first_call : self.calls].tolist()
        median, p99, longest = spread(took)
        return Second(
            at=at,
            calls=len(took),
            hits=kinds.count(HIT),
            loads=kinds.count(LOADED),
            exceptions=self.raised,
            median=median,
            p99=p99,
            longest=longest,
            lag=max(self.lags[first_beat:], default=0.0),
            breaker=self.breaker,
            figures=figures(),
        )

    def recording(self, began: float, before: Figures) -> Recording:
        """Return everything, and what the process holds now."""
        after = figures()
        return Recording(
            began=began,
            ended=self.ended[: self.calls].tolist(),
            took=self.took[: self.calls].tolist(),
            kinds=self.kinds[: self.calls].tolist(),
            undecorated=self.undecorated.tolist(),
            beats=self.beats.tolist(),
            lags=self.lags.tolist(),
            seconds=self.seconds,
            before=before,
            after=after,
            skipped=self.skipped,
            store_failed=self.counts[StoreFailed],
            events=self.events,
            records=self.records,
            exceptions=self.exceptions,
            raised=self.raised,
        )


def _keep(notes: list[Note], name: str, text: str) -> None:
    if len(notes) < MOST_NOTES:
        notes.append(Note(time.monotonic(), name, text))


class Records(logging.Handler):
    """Keeps what the cache logs."""

    def __init__(self, notes: list[Note]) -> None:
        super().__init__()
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        """Keep ``record``."""
        _keep(self._notes, record.levelname, record.getMessage())
