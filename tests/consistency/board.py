"""The memory that the processes share: the source of truth, the floors, counters, and traces of what happened.

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
from pathlib import Path
from typing import Final

COUNTERS: Final = (
    "read",
    "burst",
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
    "near hits",
    "behind",
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
"""What each worker counts."""

_COUNTER: Final = {name: position for position, name in enumerate(COUNTERS)}
_PER_KEY: Final = 3
_PER_LOAD: Final = 2
_RAISES: Final = 64
"""How many raises of a floor are remembered with their times: several seconds' worth."""
_PER_HISTORY: Final = 1 + 2 * _RAISES


class Board:
    """The cells of one run, in a file that every process maps.

    Args:
        folder: Of the run.
        workers: How many slots there are; a worker that is started anew takes the slot of the one before it.
        keys: How many keys there are.
    """

    def __init__(self, folder: Path, workers: int, keys: int) -> None:
        self.workers = workers
        self.keys = keys
        self._loads_at = 1 + _PER_KEY * keys
        self._counters_at = self._loads_at + _PER_LOAD * keys * workers
        self._history_at = self._counters_at + len(COUNTERS) * workers
        size = 8 * (self._history_at + _PER_HISTORY * keys)
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
        """Whether the workers are to end."""
        return bool(self._cells[0])

    def stop(self) -> None:
        self._cells[0] = 1

    # --- the truth ------------------------------------------------------------------------------

    def version(self, key: int) -> int:
        """Return the version of ``key``: what a load finds in the source."""
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
        """Note that an invalidation that covers ``version`` was acknowledged."""
        with self._locked() as cells:
            at = 2 + _PER_KEY * key
            if version > cells[at]:
                cells[at] = version
                history = self._history_at + _PER_HISTORY * key
                place = history + 1 + 2 * (cells[history] % _RAISES)
                cells[place], cells[place + 1] = version, time.monotonic_ns()
                cells[history] += 1

    def behind_since(self, key: int, version: int) -> float | None:
        """Return since when ``version`` of ``key`` is out of date: when the first floor above it was raised.

        By `time.monotonic`, which is one clock for all processes. None when it is not. Of more raises than are
        remembered it is the oldest of those: never too early.
        """
        with self._locked() as cells:
            history = self._history_at + _PER_HISTORY * key
            raises = range(history + 1, history + 1 + 2 * min(cells[history], _RAISES), 2)
            later = [cells[place + 1] for place in raises if cells[place] > version]
            return min(later) / 1e9 if later else None

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
        """Tell whether ``worker`` is loading anything just now."""
        return any(self._cells[self._load(worker, key)] > 0 for key in range(self.keys))

    def forget_loads(self, worker: int) -> None:
        """Note that the loads of ``worker`` died with it."""
        for key in range(self.keys):
            self._cells[self._load(worker, key)] = 0

    def _load(self, worker: int, key: int) -> int:
        return self._loads_at + _PER_LOAD * (worker * self.keys + key)

    # --- counters: written by their worker alone -------------------------------------------------

    def count(self, worker: int, name: str, more: int = 1) -> None:
        self._cells[self._counters_at + worker * len(COUNTERS) + _COUNTER[name]] += more

    def total(self, name: str) -> int:
        """Return what all workers counted under ``name``."""
        at = self._counters_at + _COUNTER[name]
        return sum(self._cells[at + worker * len(COUNTERS)] for worker in range(self.workers))


RECORD: Final = 160
RECORDS: Final = 8192
_HEAD: Final = struct.Struct("=dhH")
_ROOM: Final = RECORD - _HEAD.size


class Trace:
    """The last 8192 things that one worker did, readable by all: the interleaving behind a violation.

    Args:
        folder: Of the run.
        worker: Whose trace it is.
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
        """Note what happened to ``key``; -1 stands for all keys."""
        at = RECORD * (self._next % RECORDS)
        self._next += 1
        data = text.encode()[:_ROOM]
        self._map[at : at + _HEAD.size + len(data)] = _HEAD.pack(time.monotonic(), key, len(data)) + data

    def read(self, key: int, since: float) -> list[tuple[float, str]]:
        """Return what happened to ``key`` from the time ``since`` on, in no order."""
        found = []
        for at in range(0, RECORD * RECORDS, RECORD):
            when, what, size = _HEAD.unpack_from(self._map, at)
            if when >= since and what in {key, -1}:
                text = self._map[at + _HEAD.size : at + _HEAD.size + size].decode(errors="replace")
                found.append((when, f"worker {self._worker} {text}"))
        return found
