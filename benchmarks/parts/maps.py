"""Maps that a near cache could use: each entry has an expiry of its own.

A map that has no expiry for each entry gets one here: it holds pairs of a value and its expiry, and the reader looks.

    python -m benchmarks.parts.maps NAME ENTRIES

tells by how many bytes a process grows for each entry.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
import timeit
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib import import_module
from typing import Any, Final

import psutil

from benchmarks.charts import Chart, Curves
from benchmarks.children import child, tell, told
from benchmarks.report import Section, Sheet
from benchmarks.suite import Bench
from benchmarks.work import scanned, zipf
from cachekit._tiers.s3fifo import S3Fifo

TTL: Final = 600.0
COLUMNS: Final = (
    *("", "expiry of each entry", "bound in bytes", "ns a hit", "ns a put"),
    *("hits by Zipf 0.9", "hits with scans", "bytes an entry"),
)

# --- the maps -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Map:
    """The two verbs of a near cache: ``get`` returns the value or None, ``put`` holds it for `TTL`."""

    get: Callable[[str], Any]
    put: Callable[[str, Any], object]


def _by_reader(get: Callable[[str], Any], put: Callable[[str, Any], object]) -> Map:
    """Return a map of pairs, whose expiry the reader looks at."""

    def found(key: str) -> Any:
        pair = get(key)
        return pair[0] if pair is not None and pair[1] > time.monotonic() else None

    return Map(found, lambda key, value: put(key, (value, time.monotonic() + TTL)))


def _s3fifo(entries: int) -> Map:
    held: S3Fifo[str, Any] = S3Fifo(entries=entries, weight=1 << 40)
    return _by_reader(held.get, partial(held.put, weight=1024))


def _fifo(entries: int) -> Map:
    held: dict[str, tuple[Any, float]] = {}

    def put(key: str, value: Any) -> None:
        if len(held) >= entries and key not in held:
            del held[next(iter(held))]
        held[key] = (value, time.monotonic() + TTL)

    return Map(_by_reader(held.get, put).get, put)


def _lru(entries: int) -> Map:
    held: OrderedDict[str, tuple[Any, float]] = OrderedDict()

    def get(key: str) -> Any:
        found = held.get(key)
        if found is None or found[1] <= time.monotonic():
            return None
        held.move_to_end(key)
        return found[0]

    def put(key: str, value: Any) -> None:
        if len(held) >= entries and key not in held:
            held.popitem(last=False)
        held[key] = (value, time.monotonic() + TTL)

    return Map(get, put)


def _cachebox(kind: str, entries: int) -> Map:
    make = getattr(import_module("cachebox"), kind)
    held = make(entries, TTL) if kind == "TTLCache" else make(entries)
    if kind == "LRUCache":
        return _by_reader(held.get, held.insert)
    return Map(held.get, held.insert if kind == "TTLCache" else lambda key, value: held.insert(key, value, TTL))


def _cachetools(kind: str, entries: int) -> Map:
    given: dict[str, tuple[Any, ...]] = {"TTLCache": (TTL,), "TLRUCache": (lambda _key, _value, now: now + TTL,)}
    held = getattr(import_module("cachetools"), kind)(entries, *given.get(kind, ()))
    return (_by_reader if kind == "LRUCache" else Map)(held.get, held.__setitem__)


def _theine(entries: int) -> Map:
    """W-TinyLFU, without its locks; it starts a thread with an event loop when it is imported."""
    held, ttl = import_module("theine").Cache(entries, nolock=True), timedelta(seconds=TTL)
    return Map(lambda key: held.get(key)[0], lambda key, value: held.set(key, value, ttl))


@dataclass(frozen=True, slots=True)
class Kind:
    """A map: its name, how one is made, and whether it has an expiry for each entry and a bound in bytes."""

    name: str
    make: Callable[[int], Map]
    expiry: str
    weighs: str


KINDS: Final = (
    Kind("S3-FIFO, Python", _s3fifo, "by the reader", "yes"),
    Kind("FIFO, dict", _fifo, "by the reader", "no"),
    Kind("LRU, OrderedDict", _lru, "by the reader", "no"),
    Kind("cachebox VTTLCache", partial(_cachebox, "VTTLCache"), "yes", "getsizeof"),
    Kind("cachebox TTLCache", partial(_cachebox, "TTLCache"), "one for all", "getsizeof"),
    Kind("cachebox LRUCache", partial(_cachebox, "LRUCache"), "by the reader", "getsizeof"),
    Kind("cachetools LRUCache", partial(_cachetools, "LRUCache"), "by the reader", "getsizeof"),
    Kind("cachetools TTLCache", partial(_cachetools, "TTLCache"), "one for all", "getsizeof"),
    Kind("cachetools TLRUCache", partial(_cachetools, "TLRUCache"), "yes", "getsizeof"),
    Kind("theine, W-TinyLFU", _theine, "yes", "no"),
)


# --- the measuring --------------------------------------------------------------------------------


async def measure(bench: Bench) -> Section:
    """Measure all of them."""
    scale = 20 if bench.quick else 1
    bench.step("maps: times")
    took = _times(entries=10_000 // scale, rounds=min(bench.rounds, 7))
    rows: list[Sequence[str]] = []
    data: list[dict[str, Any]] = []
    for kind in KINDS:
        bench.step(f"maps: {kind.name}")
        if isinstance(both := took[kind.name], Exception):
            rows.append((kind.name, repr(both), *[""] * 6))
            continue
        hit, put = both
        popular, scans = _ratios(kind, keys=100_000 // scale, requests=300_000 // scale)
        # In a process of its own, since some of the maps allocate where `tracemalloc` does not see it.
        async with child("-m", __name__, kind.name, str(100_000 // scale)) as process:
            size = await told(process, float)
        figures = (f"{hit:.0f}", f"{put:.0f}", f"{popular:.2f}", f"{scans:.2f}", f"{size:.0f}")
        rows.append((kind.name, kind.expiry, kind.weighs, *figures))
        data.append({"name": kind.name, "hit_ns": hit, "put_ns": put, "zipf": popular, "scanned": scans, "bytes": size})
    note = (
        "A put displaces an entry of a full map. Hit ratios are at a capacity of 1 % of the keys, the second with a "
        "third of the requests in scans. Bytes are by the growth of a process, key and value not counted."
    )
    title = "Maps in a process"
    about = "candidates for the near cache, each with an expiry for each entry, its own or one that the reader checks."
    return Section("maps", title, about, [Sheet(title, COLUMNS, rows, note)], data, [_chart(data)])


def _chart(data: list[dict[str, Any]]) -> Chart:
    own, quick = data[0], min(data, key=lambda row: float(row["hit_ns"]))
    said = [f"{row['name']} hits {row['zipf']:.0%} in {row['hit_ns']:.0f} ns" for row in (own, quick)]
    dots = {row["name"]: ([row["hit_ns"]], [100 * row["zipf"]]) for row in data}
    return Chart(
        name="benchmarks-maps",
        title="; ".join(said),
        about="keys by Zipf 0.9, capacity 1 % of them; to the left and above is better",
        panels=[Curves(curves=dots, x="ns a hit", y="hits, %", log="x")],
    )


def _times(*, entries: int, rounds: int) -> dict[str, tuple[float, float] | Exception]:
    """Return the medians in ns of a hit, and of a put that displaces another entry, of each kind; they take turns.

    A map that cannot be imported, or fails, has its error instead.
    """
    hot = [f"hot:{n}" for n in zipf(entries, entries)]
    found: dict[str, list[tuple[float, float]] | Exception] = {kind.name: [] for kind in KINDS}
    for round_ in range(rounds):
        new = [f"new:{round_}:{n}" for n in range(entries)]
        for kind in KINDS:
            if isinstance(both := found[kind.name], Exception):
                continue
            try:
                both.append(_hit_and_put(kind, entries, hot, new))
            except Exception as error:
                found[kind.name] = error
    return {
        name: both if isinstance(both, Exception) else tuple(map(statistics.median, zip(*both, strict=True)))
        for name, both in found.items()
    }


def _hit_and_put(kind: Kind, entries: int, hot: list[str], new: list[str]) -> tuple[float, float]:
    held = kind.make(entries)
    for n in range(entries):
        held.put(f"hot:{n}", n)
    here = [key for key in hot if held.get(key) is not None]
    return _ns(held.get, here), _ns(lambda key: held.put(key, key), new)


def _ns(work: Callable[[str], object], keys: list[str]) -> float:
    def each() -> None:
        for key in keys:
            work(key)

    gc.collect()
    return timeit.timeit(each, number=1) / len(keys) * 1e9


def _ratios(kind: Kind, *, keys: int, requests: int) -> tuple[float, float]:
    """Return the hit ratio at 1 % capacity, for popular keys alone and with scans in between."""
    trace = zipf(keys, requests)
    popular, scans = (_ratio(kind.make(keys // 100), map(str, each)) for each in (trace, scanned(trace)))
    return popular, scans


def _ratio(held: Map, trace: Iterable[str]) -> float:
    """Return the share of hits; a missing key is put."""
    hits = requests = 0
    for key in trace:
        requests += 1
        if held.get(key) is None:
            held.put(key, key)
        else:
            hits += 1
    return hits / requests


def _bytes_each(kind: Kind, entries: int) -> float:
    """Return by how many bytes this process grows for each entry, its key and value not counted."""
    keys = [f"profile:{n}" for n in range(entries)]
    memory = psutil.Process().memory_info
    # The import of the map, and what it allocates once, are not counted.
    kind.make(10).put("warm", 0)
    held = kind.make(entries)
    gc.collect()
    before = memory().rss
    for key in keys:
        held.put(key, 0)
    gc.collect()
    return float(memory().rss - before) / entries


if __name__ == "__main__":
    tell(_bytes_each(next(kind for kind in KINDS if kind.name == sys.argv[1]), int(sys.argv[2])))
