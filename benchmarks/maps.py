"""Bounded maps in a process, compared as a near cache would use them: each entry with an expiry of its own.

What has no expiry for each entry is given one here: it holds pairs of a value and its expiry, and the reader looks.
"""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from benchmarks.traces import scanned, zipf
from benchmarks.work import resident
from cachekit._tiers.s3fifo import S3Fifo

ROOT: Final = Path(__file__).parent.parent
TTL: Final = 600.0


class Map(Protocol):
    """What a near cache needs."""

    def get(self, key: str) -> Any:
        """Return the value, or None."""

    def put(self, key: str, value: Any) -> object:
        """Hold ``value`` for `TTL`."""


class Fifo:
    """A plain dict, the first in is the first out."""

    def __init__(self, entries: int) -> None:
        self.held: dict[str, tuple[Any, float]] = {}
        self.entries = entries

    def get(self, key: str) -> Any:
        found = self.held.get(key)
        return found[0] if found is not None and found[1] > time.monotonic() else None

    def put(self, key: str, value: Any) -> None:
        held = self.held
        if len(held) >= self.entries and key not in held:
            del held[next(iter(held))]
        held[key] = (value, time.monotonic() + TTL)


class Lru:
    """An OrderedDict, the least recently used goes first."""

    def __init__(self, entries: int) -> None:
        self.held: OrderedDict[str, tuple[Any, float]] = OrderedDict()
        self.entries = entries

    def get(self, key: str) -> Any:
        found = self.held.get(key)
        if found is None or found[1] <= time.monotonic():
            return None
        self.held.move_to_end(key)
        return found[0]

    def put(self, key: str, value: Any) -> None:
        held = self.held
        if len(held) >= self.entries and key not in held:
            held.popitem(last=False)
        held[key] = (value, time.monotonic() + TTL)


class S3:
    """S3-FIFO of `cachekit._tiers.s3fifo`."""

    def __init__(self, entries: int) -> None:
        self.held: S3Fifo[str, Any] = S3Fifo(entries=entries, weight=1 << 40)

    def get(self, key: str) -> Any:
        found = self.held.get(key)
        return None if found is None or found[1] <= time.monotonic() else found[0]

    def put(self, key: str, value: Any) -> None:
        self.held.put(key, (value, time.monotonic() + TTL), weight=1024)


class Cachebox:
    """cachebox: the expiry is its own in VTTLCache and TTLCache, ours in LRUCache."""

    def __init__(self, entries: int, kind: str) -> None:
        make = getattr(import_module("cachebox"), kind)
        self.held = make(entries, TTL) if kind == "TTLCache" else make(entries)
        self.get: Callable[[str], Any] = self.held.get if "TTL" in kind else self._get
        self.put: Callable[[str, Any], object] = {
            "TTLCache": self.held.insert,
            "VTTLCache": lambda key, value: self.held.insert(key, value, TTL),
            "LRUCache": lambda key, value: self.held.insert(key, (value, time.monotonic() + TTL)),
        }[kind]

    def _get(self, key: str) -> Any:
        found = self.held.get(key)
        return found[0] if found is not None and found[1] > time.monotonic() else None


class Cachetools:
    """cachetools: the expiry is its own in TLRUCache and TTLCache, ours in LRUCache."""

    def __init__(self, entries: int, kind: str) -> None:
        make = getattr(import_module("cachetools"), kind)
        given: dict[str, tuple[Any, ...]] = {"TTLCache": (TTL,), "TLRUCache": (lambda _key, _value, now: now + TTL,)}
        self.held = make(entries, *given.get(kind, ()))
        self.get: Callable[[str], Any] = self._get if kind == "LRUCache" else self.held.get
        self.put: Callable[[str, Any], object] = self._put if kind == "LRUCache" else self.held.__setitem__

    def _get(self, key: str) -> Any:
        found = self.held.get(key)
        return found[0] if found is not None and found[1] > time.monotonic() else None

    def _put(self, key: str, value: Any) -> None:
        self.held[key] = (value, time.monotonic() + TTL)


class Theine:
    """theine, W-TinyLFU, without its locks; it starts a thread with an event loop when it is imported."""

    def __init__(self, entries: int) -> None:
        self.held = import_module("theine").Cache(entries, nolock=True)
        self.ttl = timedelta(seconds=TTL)

    def get(self, key: str) -> Any:
        return self.held.get(key)[0]

    def put(self, key: str, value: Any) -> None:
        self.held.set(key, value, self.ttl)


@dataclass(frozen=True, slots=True)
class Kind:
    """A map: its name, how one is made, and whether it has an expiry for each entry and a bound in bytes."""

    name: str
    make: Callable[[int], Map]
    expiry: str
    weighs: str


KINDS: Final = (
    Kind("S3-FIFO, Python", S3, "by the reader", "yes"),
    Kind("FIFO, dict", Fifo, "by the reader", "no"),
    Kind("LRU, OrderedDict", Lru, "by the reader", "no"),
    Kind("cachebox VTTLCache", lambda entries: Cachebox(entries, "VTTLCache"), "yes", "getsizeof"),
    Kind("cachebox TTLCache", lambda entries: Cachebox(entries, "TTLCache"), "one for all", "getsizeof"),
    Kind("cachebox LRUCache", lambda entries: Cachebox(entries, "LRUCache"), "by the reader", "getsizeof"),
    Kind("cachetools LRUCache", lambda entries: Cachetools(entries, "LRUCache"), "by the reader", "getsizeof"),
    Kind("cachetools TTLCache", lambda entries: Cachetools(entries, "TTLCache"), "one for all", "getsizeof"),
    Kind("cachetools TLRUCache", lambda entries: Cachetools(entries, "TLRUCache"), "yes", "getsizeof"),
    Kind("theine, W-TinyLFU", Theine, "yes", "no"),
)


def ratio(held: Map, trace: Iterable[str]) -> float:
    """Return the share of hits when what is missing is put."""
    hits = requests = 0
    for key in trace:
        requests += 1
        if held.get(key) is None:
            held.put(key, key)
        else:
            hits += 1
    return hits / requests


def _ns(work: Callable[[str], object], keys: list[str]) -> float:
    gc.collect()
    gc.disable()
    began = time.perf_counter()
    for key in keys:
        work(key)
    took = time.perf_counter() - began
    gc.enable()
    return took / len(keys) * 1e9


def times(kinds: Iterable[Kind], *, entries: int, rounds: int) -> dict[str, tuple[float, float] | Exception]:
    """Return the medians in ns of a hit, and of a put that displaces another entry, of each kind; they take turns.

    What cannot be imported, or fails, has its error instead.
    """
    kinds = list(kinds)
    hot = [f"hot:{n}" for n in zipf(entries, entries)]
    found: dict[str, list[tuple[float, float]] | Exception] = {kind.name: [] for kind in kinds}
    for round_ in range(rounds):
        new = [f"new:{round_}:{n}" for n in range(entries)]
        for kind in kinds:
            both = found[kind.name]
            if isinstance(both, Exception):
                continue
            try:
                both.append(_times(kind, entries, hot, new))
            except Exception as error:
                found[kind.name] = error
    return {
        name: both if isinstance(both, Exception) else tuple(map(statistics.median, zip(*both, strict=True)))
        for name, both in found.items()
    }


def _times(kind: Kind, entries: int, hot: list[str], new: list[str]) -> tuple[float, float]:
    held = kind.make(entries)
    for n in range(entries):
        held.put(f"hot:{n}", n)
    here = [key for key in hot if held.get(key) is not None]
    return _ns(held.get, here), _ns(lambda key: held.put(key, key), new)


def ratios(kind: Kind, *, keys: int, requests: int) -> tuple[float, float]:
    """Return the hit ratio at 1 % capacity, for popular keys alone and with scans in between."""
    trace = zipf(keys, requests)
    return (
        ratio(kind.make(keys // 100), map(str, trace)),
        ratio(kind.make(keys // 100), map(str, scanned(trace))),
    )


def bytes_each(kind: Kind, entries: int) -> float:
    """Return by how many bytes a process grows for each entry, its key and value not counted.

    In a process of its own, since some of the maps allocate where `tracemalloc` does not see it.
    """
    done = subprocess.run(  # noqa: S603 - a command of our own
        [sys.executable, "-m", "benchmarks.maps", kind.name, str(entries)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    return float(done.stdout)


def _print_bytes(name: str, entries: int) -> None:
    kind = next(kind for kind in KINDS if kind.name == name)
    keys = [f"profile:{n}" for n in range(entries)]
    # What is allocated once, and by whom whatever is imported.
    kind.make(10).put("warm", 0)
    held = kind.make(entries)
    gc.collect()
    before = resident()
    for key in keys:
        held.put(key, 0)
    gc.collect()
    print((resident() - before) / entries)


if __name__ == "__main__":
    _print_bytes(sys.argv[1], int(sys.argv[2]))
