"""Maps: what a near cache could hold its entries in."""

from __future__ import annotations

from benchmarks.charts import Dots
from benchmarks.maps import KINDS, bytes_each, ratios, times
from benchmarks.report import Section, Sheet
from benchmarks.suite import Bench


async def measure(bench: Bench) -> Section:
    """Measure all of them."""
    scale = 20 if bench.quick else 1
    bench.step("maps: times")
    took = times(KINDS, entries=10_000 // scale, rounds=min(bench.rounds, 7))
    rows: list[tuple[str, ...]] = []
    data: list[dict[str, str | float]] = []
    for kind in KINDS:
        bench.step(f"maps: {kind.name}")
        if isinstance(both := took[kind.name], Exception):
            rows.append((kind.name, repr(both), *("" for _ in range(6))))
            continue
        hit, put = both
        popular, scanned = ratios(kind, keys=100_000 // scale, requests=300_000 // scale)
        size = bytes_each(kind, 100_000 // scale)
        rows.append(
            (
                kind.name,
                kind.expiry,
                kind.weighs,
                f"{hit:.0f}",
                f"{put:.0f}",
                f"{popular:.2f}",
                f"{scanned:.2f}",
                f"{size:.0f}",
            )
        )
        data.append(
            {"name": kind.name, "hit_ns": hit, "put_ns": put, "zipf": popular, "scanned": scanned, "bytes": size}
        )
    columns = (
        "",
        "expiry of each entry",
        "bound in bytes",
        "ns a hit",
        "ns a put",
        "hits by Zipf 0.9",
        "hits with scans",
        "bytes an entry",
    )
    note = (
        "a put displaces an entry of a full map; hit ratios at a capacity of 1 % of the keys, the second with a third "
        "of the requests in scans; bytes by the growth of a process, key and value not counted"
    )
    title = "Maps in a process"
    about = "candidates for the near cache, each with an expiry for each entry, its own or one that the reader checks."
    return Section("maps", title, about, [Sheet(title, columns, rows, note)], data, [_chart(data)])


def _chart(data: list[dict[str, str | float]]) -> Dots:
    dots = [(str(row["name"]), float(row["hit_ns"]), 100 * float(row["zipf"])) for row in data]
    own = dots[0]
    quick = min(dots, key=lambda dot: dot[1])
    return Dots(
        name="maps",
        title=f"{own[0]} hits {own[2]:.0f} % in {own[1]:.0f} ns; {quick[0]} {quick[2]:.0f} % in {quick[1]:.0f} ns",
        about="keys by Zipf 0.9, capacity 1 % of them; to the left and above is better",
        x="ns a hit",
        y="hits, %",
        dots=dots,
    )
