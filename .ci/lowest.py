"""Print the run-time dependencies, each at the lowest version that pyproject.toml allows, as requirements for pip.

The floors stand in ``[project] dependencies`` and nowhere else. A dependency without a floor is an error.

Usage: ``python lowest.py PYPROJECT [REQUIREMENTS]``. The requirements are also written to the second file, if one is
named.
"""

import re
import sys
import tomllib
from pathlib import Path

# The name with its extras, then the floor at any place among the bounds; a marker comes behind a semicolon.
FLOOR = re.compile(r"(?P<name>[\w.-]+(\[[^]]*\])?)[^;]*?>=\s*(?P<version>[\w.]+)")


def lowest(requirement: str) -> str:
    """Return ``requirement`` with its floor for the one version that is allowed."""
    found = FLOOR.match(requirement)
    if found is None:
        sys.exit(f"{requirement} has no floor; write the lowest version that passes the tests, such as orjson>=3.10")
    return f"{found['name']}=={found['version']}"


def main(pyproject: Path, target: Path | None = None) -> None:
    """Read the floors in ``pyproject``, print them, and write them to ``target``."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    text = "".join(f"{lowest(requirement)}\n" for requirement in project["dependencies"])
    sys.stdout.write(text)
    if target is not None:
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
