"""Fail when fewer branches than the floor were taken.

coverage's own ``fail_under`` counts lines and branches together, so many plain lines can hide branches
that were not taken.

Usage: ``python branch_floor.py COVERAGE_JSON PERCENT``.
"""

import json
import sys
from pathlib import Path


def main(report: Path, floor: float) -> None:
    """Read coverage's JSON report and compare its branches with ``floor``, in percent."""
    totals = json.loads(report.read_text(encoding="utf-8"))["totals"]
    taken, all_of_them = totals["covered_branches"], totals["num_branches"]
    percent = 100.0 * taken / all_of_them if all_of_them else 100.0
    sentence = f"{taken} of {all_of_them} branches taken: {percent:.1f} %, the floor is {floor:g} %"
    if percent < floor:
        sys.exit(sentence)
    sys.stdout.write(f"{sentence}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
