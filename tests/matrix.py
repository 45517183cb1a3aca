"""``python -m tests.matrix``: the tests of servers, on each server of the matrix; writes `docs/servers.md`.

Each server has a run of pytest of its own, so that one server leaves nothing for the next. A missing server is an error
before the first run; the message says how to bring it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests import ROOT
from tests.kit.binaries import MATRIX, ServerBinary, available_servers
from tests.kit.tls import has_tls

PAGE: Final = ROOT / "docs" / "servers.md"

AREAS: Final[Mapping[str, tuple[str, ...]]] = {
    "contract of a store": ("tests/stores/test_contract.py", "tests/stores/test_model.py"),
    "lanes": ("tests/stores/test_lane.py",),
    "calls and flights": ("tests/face", "tests/flow"),
    "journal": ("tests/tiers/test_journal.py",),
    "near cache": ("tests/tiers/test_near.py",),
    "tracking": ("tests/stores/test_tracking.py",),
    "failures": ("tests/servers/test_failures.py",),
    "cluster": ("tests/servers/test_cluster.py", "tests/kit/test_cluster.py"),
    "Sentinel": ("tests/servers/test_sentinel.py", "tests/kit/test_sentinel.py"),
    "TLS and permissions": (
        "tests/servers/test_security.py",
        "tests/servers/test_credentials.py",
        "tests/kit/test_tls.py",
    ),
}
"""The areas that depend on a server, and the files and folders of their tests."""

BEGIN: Final = "<!-- the table: python -m tests.matrix -->"
END: Final = "<!-- the end of the table -->"


WIDTH: Final = 140


class MissingError(Exception):
    """A server of the matrix is not on this machine."""


@dataclass(slots=True)
class Result:
    """The results of the tests on one server.

    Attributes:
        binary: The server.
        passed: Tests that passed, by area.
        failed: The names of tests that failed, by area.
        output: The output of pytest.
    """

    binary: ServerBinary
    passed: Counter[str] = field(default_factory=Counter)
    failed: dict[str, list[str]] = field(default_factory=dict)
    output: str = ""

    @property
    def ok(self) -> bool:
        """Whether every area has tests, and all of them passed."""
        return not self.failed and all(self.passed[area] for area in AREAS)


def matrix(labels: Sequence[str]) -> list[ServerBinary]:
    """Return the servers with these labels.

    Raises:
        MissingError: One is not on this machine; the message says how to bring it.
    """
    found = {binary.label: binary for binary in available_servers()}
    missing = [f"{label}: {MATRIX[label]}" for label in labels if label not in found]
    if missing:
        raise MissingError("\n".join(["These servers are missing; pip install '.[servers]' brings most.", *missing]))
    return [found[label] for label in labels]


def area_of(classname: str) -> str:
    """Return the area of a test, by the name of its module as junit has it, such as ``tests.flow.test_flight``."""
    module = classname.replace(".", "/")
    for area, places in AREAS.items():
        if any(f"{module}/".startswith(f"{place.removesuffix('.py')}/") for place in places):
            return area
    message = f"{classname} is in none of the areas"
    raise ValueError(message)


def read_report(report: Path, result: Result) -> None:
    """Count the results that pytest wrote into ``report``."""
    for case in ET.parse(report).getroot().iter("testcase"):
        area = area_of(case.attrib["classname"])
        if all(case.find(bad) is None for bad in ("failure", "error", "skipped")):
            result.passed[area] += 1
        else:
            result.failed.setdefault(area, []).append(case.attrib["name"])


def run(binary: ServerBinary, options: Sequence[str]) -> Result:
    """Run the tests on one server."""
    result = Result(binary)
    places = [place for places in AREAS.values() for place in places]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-m", "server", f"--junitxml={report}", *options, *places],
            cwd=ROOT,
            env={**os.environ, "CACHEKIT_SERVERS": binary.label},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        result.output = done.stdout
        if report.exists():
            read_report(report, result)
    if done.returncode and not result.failed:
        result.failed["pytest"] = [f"ended with {done.returncode}"]
    return result


def rows(results: Sequence[Result]) -> list[list[str]]:
    """Return the table: a heading, then a row for each area. A number counts the tests that passed."""

    def cell(result: Result, area: str) -> str:
        failed = len(result.failed.get(area, ()))
        return f"{failed} of {failed + result.passed[area]} failed" if failed else str(result.passed[area])

    def tls(binary: ServerBinary) -> str:
        return "its own, and a terminator" if has_tls(binary) else "a terminator"

    heading = ["", *(f"{result.binary.product.capitalize()} {result.binary.version}" for result in results)]
    by_area = [[area, *(cell(result, area) for result in results)] for area in AREAS]
    return [heading, *by_area, ["TLS by", *(tls(result.binary) for result in results)]]


def page(before: str, table: Sequence[Sequence[str]]) -> str:
    """Return the page ``before`` with ``table`` in place of its own table."""
    head, _, rest = before.partition(BEGIN)
    _, _, tail = rest.partition(END)
    lines = [f"| {' | '.join(row)} |" for row in table]
    lines.insert(1, f"|---{'|--:' * (len(table[0]) - 1)}|")
    return f"{head}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{tail}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run, show the table, write the page, and return 0 if everything passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="LABEL", action="append", choices=MATRIX, help="one of them; writes no page")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page that has the table")
    parser.add_argument("--long", action="store_true", help="the tests in their full size")
    options = parser.parse_args(argv)
    # A pipe has no width, and a table that is folded to 80 columns cannot be read.
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    try:
        servers = matrix(options.only or [*MATRIX])
    except MissingError as missing:
        console.print(str(missing), markup=False, highlight=False, soft_wrap=True)
        return 1
    results: list[Result] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(servers))
        for binary in servers:
            progress.update(bar, description=binary.label)
            results.append(run(binary, ["--long"] if options.long else []))
            progress.advance(bar)
    table = rows(results)
    shown = Table(*table[0])
    for row in table[1:]:
        shown.add_row(*row)
    console.print(shown)
    for result in results:
        if not result.ok:
            console.print(f"{result.binary!r}\n{result.output[-8000:]}", markup=False, highlight=False, soft_wrap=True)
    if not options.only:
        options.page.write_text(page(options.page.read_text(encoding="utf-8"), table), encoding="utf-8")
        console.print(f"{options.page} is written", highlight=False, soft_wrap=True)
    return 0 if all(result.ok for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
