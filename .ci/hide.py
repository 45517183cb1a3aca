"""Make a folder that is a PATH from which some programs are missing, and print it.

``.ci/run`` runs the README's commands on it, so that a server or a browser of the machine itself cannot replace
one that the commands must bring.

Usage: ``PATH=$(python hide.py EMPTY_FOLDER PATTERN...)``, with patterns such as ``redis-*``.
"""

import os
import sys
from fnmatch import fnmatch
from pathlib import Path


def main(folder: Path, patterns: list[str]) -> None:
    """Link every program of PATH into ``folder`` unless a pattern matches it. The first program of a name wins."""
    folder.mkdir(parents=True, exist_ok=True)
    for place in os.get_exec_path():
        # A place that may not be read, or is no folder, is ignored, as a shell does.
        if not (Path(place).is_dir() and os.access(place, os.R_OK | os.X_OK)):
            continue
        for program in Path(place).iterdir():
            link = folder / program.name
            if not any(fnmatch(program.name, pattern) for pattern in patterns) and not link.is_symlink():
                link.symlink_to(program.absolute())
    sys.stdout.write(f"{folder.absolute()}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
