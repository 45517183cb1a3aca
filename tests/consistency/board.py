"""The memory that the processes share: the source of truth, the floors, counters, and traces of events.

All of it survives the SIGKILL of any worker at any instruction: cells are single aligned words, and the one lock is
released by the kernel when its holder dies.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COUNTERS: Final = (
    "read",
    "burst",
    "batch",
    "put",
    "put stored",
    "read inside",
    "peek",
    "get",
    "take",
    "refresh",
    "write",
    "invalidate",
    "after_commit",
    "rolled back",
    "cancelled",
    "checked",
    "hits",
    "misses of peek",
    "loads",
    "failed loads",
    "duplicate loads",
    "fills",
    "acknowledged",
    "unacknowledged",
    "replayed",
    "store failures",
    "violations",
)
"""The counters of each worker."""

NEAR_COUNTERS: Final = (
    "set",
    "set confirmed",
    "near hits",
    "behind",
    "near hits of a known fill",
    "near paused",
    "near resumed",
)
"""Further counters of each worker with a near cache."""

STALE_COUNTERS: Final = (
    "expire",
    "expired",
    "hung loads",
    "hits of a known fill",
    "failed unseen",
    "stale: revalidate",
    "stale: error",
    "stale: paused",
    "stale: slow",
    "stale: busy",
)
"""Further counters of each worker with stale windows."""

TAG_COUNTERS: Final = ("everything", "clear", "cleared", "by hand")
"""Further counters of each worker with tags."""

_ALL_COUNTERS: Final = (*COUNTERS, *NEAR_COUNTERS, *STALE_COUNTERS, *TAG_COUNTERS)
_COUNTER: Final = {name: position for position, name in enumerate(_ALL_COUNTERS)}
_PER_KEY: Final = 5
_PER_LOAD: Final = 2

_RAISES: Final = 64
"""So many raises of each floor are kept with their times: for the hottest key they cover some seconds."""

_FILLS: Final = 64
_EMPTYINGS: Final = 8


@dataclass(frozen=True, slots=True)
class Fill:
    """The acknowledged events of one load in the store. Times are in ns; 0 stands for an event that has not happened.

    Attributes:
        filled: When its fill was acknowledged, by `time.monotonic_ns`.
        filled_wall: The same moment by `time.time_ns`, the clock of Redis.
        ttl: The time to live of the fill.
        taken: When a take had returned it, by `time.monotonic_ns`.
    """

    filled: int
    filled_wall: int
    ttl: int
    taken: int


class _Ring:
    """The last few records of one kind, in cells: the number of the next one, then the records, all zero at first.

    A record begins with its name, which is never 0 and is written last. So a process that is killed in the middle
    leaves no record.
    """

    def __init__(self, at: int, records: int, width: int) -> None:
        self._at = at
        self._records = records
        self._width = width
        self.size = 1 + records * width

    def add(self, cells: memoryview[int], name: int, *fields: int) -> None:
        at = self._at + 1 + cells[self._at] % self._records * self._width
        cells[at] = 0
        for place, field in enumerate(fields, at + 1):
            cells[place] = field
        cells[at] = name
        cells[self._at] += 1

    def places(self, cells: memoryview[int]) -> Iterator[int]:
        """Yield the places of the records, in no order."""
        for at in range(self._at + 1, self._at + self.size, self._width):
            if cells[at]:
                yield at


class Board:
    """The cells of one run, in a file that every process maps.

    Args:
        folder: The folder of the run.
        workers: The number of slots. A worker that is started anew takes the slot of the one before it.
        keys: The number of keys.
    """

    def __init__(self, folder: Path, workers: int, keys: int) -> None:
        self.workers = workers
        self.keys = keys
        self._loads_at = 1 + _PER_KEY * keys
        self._counters_at = self._loads_at + _PER_LOAD * keys * workers
        end = self._counters_at + len(_COUNTER) * workers
        self._emptyings = _Ring(end, _EMPTYINGS, 2)
        end += self._emptyings.size
        self._raises: list[_Ring] = []
        self._fills: list[_Ring] = []
        for _ in range(keys):
            self._raises.append(_Ring(end, _RAISES, 2))
            end += self._raises[-1].size
            self._fills.append(_Ring(end, _FILLS, 5))
            end += self._fills[-1].size
        size = 8 * end
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        with (folder / "board").open("a+b") as file:
            if os.fstat(file.fileno()).st_size == 0:
                file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        self._cells = memoryview(self._map).cast("q")

    def close(self) -> None:
        self._cells.release()
        self._map.close()
        os.close(self._lock)

    @contextmanager
    def _locked(self) -> Iterator[memoryview[int]]:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield self._cells
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    # --- the run --------------------------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """Whether the workers must end."""
        return bool(self._cells[0])

    def stop(self) -> None:
        self._cells[0] = 1

    # --- the truth ------------------------------------------------------------------------------

    def version(self, key: int) -> int:
        """Return the version of ``key`` that a load finds in the source."""
        with self._locked() as cells:
            return cells[1 + _PER_KEY * key]

    def bump(self, key: int) -> int:
        """Write to the source: raise the version of ``key``, and return it."""
        with self._locked() as cells:
            cells[1 + _PER_KEY * key] += 1
            return cells[1 + _PER_KEY * key]

    def floor(self, key: int) -> int:
        """Return the highest version of ``key`` that an acknowledged invalidation covers."""
        with self._locked() as cells:
            return cells[2 + _PER_KEY * key]

    def raise_floor(self, key: int, version: int) -> None:
        """Note that an invalidation that covers ``version`` was acknowledged, and when that was noted."""
        with self._locked() as cells:
            at = 2 + _PER_KEY * key
            if version > cells[at]:
                # The order matters: a reader would miss a floor without its time.
                self._raises[key].add(cells, version, time.monotonic_ns())
                cells[at] = version

    def soft_floor(self, key: int) -> int:
        """Return the highest version of ``key`` that an acknowledged invalidation or expiry covers."""
        with self._locked() as cells:
            return max(cells[2 + _PER_KEY * key], cells[4 + _PER_KEY * key])

    def raise_soft_floor(self, key: int, version: int) -> None:
        """Note that an expiry that covers ``version`` was acknowledged."""
        with self._locked() as cells:
            at = 4 + _PER_KEY * key
            cells[at] = max(cells[at], version)

    def failed(self, key: int) -> int:
        """Return the highest version of ``key`` at the beginning of a load that failed."""
        with self._locked() as cells:
            return cells[5 + _PER_KEY * key]

    def note_failed(self, key: int, version: int) -> None:
        """Note that a load failed at whose beginning ``version`` was that of ``key``."""
        with self._locked() as cells:
            at = 5 + _PER_KEY * key
            cells[at] = max(cells[at], version)

    def raised_above(self, key: int, version: int) -> int:
        """Return when the floor of ``key`` was first raised above ``version``, by `time.monotonic_ns`.

        The answer is as old as the kept raises allow: a raise that is no longer kept leaves the answer to a later
        one. The read that is judged by it then looks younger, never older.
        """
        with self._locked() as cells:
            places = self._raises[key].places(cells)
            return min((cells[at + 1] for at in places if cells[at] > version), default=time.monotonic_ns())

    # --- what the store holds, for the near caches ------------------------------------------------

    def filled(self, key: int, load: int, ttl: float) -> None:
        """Note that it was acknowledged that ``load`` was stored for ``ttl`` seconds."""
        with self._locked() as cells:
            self._fills[key].add(cells, load, time.monotonic_ns(), time.time_ns(), round(1e9 * ttl), 0)

    def taken(self, key: int, load: int) -> None:
        """Note that a take has returned ``load``, if its fill was noted."""
        with self._locked() as cells:
            for at in self._fills[key].places(cells):
                if cells[at] == load:
                    cells[at + 4] = time.monotonic_ns()

    def fill(self, key: int, load: int) -> Fill | None:
        """Return the record of ``load``, if it is still kept."""
        with self._locked() as cells:
            for at in self._fills[key].places(cells):
                if cells[at] == load:
                    return Fill(*cells[at + 1 : at + 5].tolist())
        return None

    def emptied(self, since: int) -> None:
        """Note that the store has lost everything that it held at ``since``, by `time.monotonic_ns`."""
        with self._locked() as cells:
            self._emptyings.add(cells, since, time.monotonic_ns())

    def emptied_after(self, when: int) -> int | None:
        """Return when the store had first lost everything that it held at ``when``, or None if it has not."""
        with self._locked() as cells:
            places = self._emptyings.places(cells)
            return min((cells[at + 1] for at in places if cells[at] > when), default=None)

    # --- loads ----------------------------------------------------------------------------------

    def new_epoch(self, key: int) -> None:
        """Note that an invalidation of ``key`` begins or ends: loads on the two sides of it are no duplicates."""
        with self._locked() as cells:
            cells[3 + _PER_KEY * key] += 1

    def load_begins(self, worker: int, key: int) -> bool:
        """Note a load. Returns whether another one is going on that no invalidation separates from it."""
        with self._locked() as cells:
            epoch = cells[3 + _PER_KEY * key]
            duplicate = False
            for other in range(self.workers):
                at = self._load(other, key)
                duplicate = duplicate or (cells[at] > 0 and cells[at + 1] == epoch)
            at = self._load(worker, key)
            cells[at] += 1
            cells[at + 1] = epoch
            return duplicate

    def load_ends(self, worker: int, key: int) -> None:
        with self._locked() as cells:
            cells[self._load(worker, key)] -= 1

    def is_loading(self, worker: int) -> bool:
        """Tell whether ``worker`` is loading any key now."""
        return any(self._cells[self._load(worker, key)] > 0 for key in range(self.keys))

    def forget_loads(self, worker: int) -> None:
        """Note that the loads of ``worker`` died with it."""
        for key in range(self.keys):
            self._cells[self._load(worker, key)] = 0

    def _load(self, worker: int, key: int) -> int:
        return self._loads_at + _PER_LOAD * (worker * self.keys + key)

    # --- counters: written by their worker alone -------------------------------------------------

    def count(self, worker: int, name: str, more: int = 1) -> None:
        self._cells[self._counters_at + worker * len(_COUNTER) + _COUNTER[name]] += more

    def total(self, name: str) -> int:
        """Return the sum of the counters ``name`` of all workers."""
        at = self._counters_at + _COUNTER[name]
        return sum(self._cells[at + worker * len(_COUNTER)] for worker in range(self.workers))


RECORD: Final = 160
RECORDS: Final = 8192
_HEAD: Final = struct.Struct("=dhH")
_ROOM: Final = RECORD - _HEAD.size


class Trace:
    """The last 8192 events of one worker, readable by all: the interleaving behind a violation.

    Args:
        folder: The folder of the run.
        worker: The worker of the trace.
    """

    def __init__(self, folder: Path, worker: int) -> None:
        self._worker = worker
        self._next = 0
        with (folder / f"trace-{worker}").open("a+b") as file:
            if os.fstat(file.fileno()).st_size == 0:
                file.truncate(RECORD * RECORDS)
            self._map = mmap.mmap(file.fileno(), RECORD * RECORDS)

    def close(self) -> None:
        self._map.close()

    def note(self, key: int, text: str) -> None:
        """Note an event of ``key``; -1 stands for all keys."""
        at = RECORD * (self._next % RECORDS)
        self._next += 1
        data = text.encode()[:_ROOM]
        self._map[at : at + _HEAD.size + len(data)] = _HEAD.pack(time.monotonic(), key, len(data)) + data

    def read(self, key: int, since: float) -> list[tuple[float, str]]:
        """Return the events of ``key`` from the time ``since`` on, in no order."""
        found = []
        for at in range(0, RECORD * RECORDS, RECORD):
            when, what, size = _HEAD.unpack_from(self._map, at)
            if when >= since and what in {key, -1}:
                text = self._map[at + _HEAD.size : at + _HEAD.size + size].decode(errors="replace")
                found.append((when, f"worker {self._worker} {text}"))
        return found
