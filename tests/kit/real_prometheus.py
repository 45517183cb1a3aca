"""``python -m tests.kit.real_prometheus``: the queries of the dashboard and the alerts, here and by a real Prometheus.

It needs ``prometheus`` and ``promtool`` on PATH, or in the folder that ``--programs`` names. No wheel has them, so no
test needs them. The hour of `examples.observability` is put into a database of Prometheus, and each query is asked at
several times. Answers that differ are printed. promtool checks the rules and the configuration as well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from examples.observability.hour import Hour
from examples.observability.page import HERE, panels, queries, rules
from examples.observability.promql import Database, Labels, Vector
from tests.kit.ports import free_port

TIMES: Final = [310.5 + 151 * step for step in range(22)]
"""Seconds from the beginning. No sample is at the end of a range: versions differ about whether it is inside."""

PATIENCE: Final = 30.0


def openmetrics(scrapes: Database, base: float) -> str:
    """Return all samples as promtool reads them; the hour begins at ``base``."""
    lines: dict[str, list[str]] = defaultdict(list)
    for labels, samples in scrapes.series.items():
        named = dict(labels)
        name = named.pop("__name__")
        text = ",".join(f'{key}="{value}"' for key, value in sorted(named.items()))
        lines[name] += [f"{name}{{{text}}} {value!r} {base + at:.3f}" for at, value in samples]
    return "\n".join([*(line for name in sorted(lines) for line in lines[name]), "# EOF\n"])


@contextmanager
def served(programs: Path | None, scrapes: Database, base: float) -> Iterator[str]:
    """Serve the samples by a Prometheus. Give its address."""

    def program(name: str) -> str:
        return name if programs is None else str(programs / name)

    def promtool(*words: str) -> None:
        subprocess.run([program("promtool"), *words], check=True, stdout=subprocess.DEVNULL)

    promtool("check", "rules", str(HERE / "alerts.yml"))
    promtool("check", "config", str(HERE / "prometheus.yml"))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "samples").write_text(openmetrics(scrapes, base), encoding="utf-8")
        (place / "prometheus.yml").write_text("global: {}\n", encoding="utf-8")
        promtool("tsdb", "create-blocks-from", "openmetrics", str(place / "samples"), str(place / "tsdb"))
        address = f"127.0.0.1:{free_port()}"
        options = {
            "config.file": str(place / "prometheus.yml"),
            "storage.tsdb.path": str(place / "tsdb"),
            "storage.tsdb.retention.time": "10y",
            "web.listen-address": address,
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        with subprocess.Popen([program("prometheus"), *words], stderr=subprocess.DEVNULL) as server:
            try:
                wait_for(f"http://{address}/-/ready")
                yield f"http://{address}"
            finally:
                server.terminate()


def wait_for(url: str) -> None:
    """Wait until a GET of ``url`` is answered well."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        try:
            urllib.request.urlopen(url).read()
        except (OSError, urllib.error.HTTPError):
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(url)


def asked(address: str, query: str, at: float) -> Vector:
    """Return the answer of a Prometheus to a query at a time."""
    words = urllib.parse.urlencode({"query": query, "time": f"{at:.3f}"})
    with urllib.request.urlopen(f"{address}/api/v1/query?{words}") as answer:
        found = json.load(answer)["data"]["result"]
    return {without_empty(frozenset(one["metric"].items())): float(one["value"][1]) for one in found}


def without_empty(labels: Labels) -> Labels:
    """Return ``labels`` without the name of the metric and those that are empty: to Prometheus they are not there."""
    return frozenset((name, value) for name, value in labels if name != "__name__" and value)


def same(ours: Vector, theirs: Vector) -> bool:
    """Tell whether two answers are equal, but for rounding."""
    return ours.keys() == theirs.keys() and all(
        (math.isnan(ours[key]) and math.isnan(theirs[key])) or math.isclose(ours[key], theirs[key], rel_tol=1e-6)
        for key in ours
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Compare. Returns 1 if an answer differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.kit.real_prometheus", description=__doc__)
    parser.add_argument("--programs", type=Path, help="the folder of prometheus and promtool (default: PATH)")
    options = parser.parse_args(argv)
    logging.getLogger("cachekit").setLevel(logging.CRITICAL)
    scrapes = asyncio.run(Hour().run())
    # Long ago, and at the beginning of a block of two hours, as Prometheus has them.
    base = math.floor(time.time() / 7200 - 2) * 7200.0 + 7
    every = [query for panel in panels() for query, _ in queries(panel, "1m")] + [rule.query for rule in rules()]
    values = differ = 0
    with served(options.programs, scrapes, base) as address:
        for query in every:
            for at in TIMES:
                ours = {without_empty(labels): value for labels, value in scrapes.query(query, at).items()}
                theirs = asked(address, query, base + at)
                values += len(theirs)
                if not same(ours, theirs):
                    differ += 1
                    sys.stdout.write(f"{query} at {at}:\n  here {ours}\n  there {theirs}\n")
    sys.stdout.write(f"{len(every)} queries at {len(TIMES)} times, {values} values; {differ} answers differ\n")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
