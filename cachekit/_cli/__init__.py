"""The command ``cachekit``: look into a store and an application, and act on keys. Extra ``cli``.

::

    program.py     which commands there are, and what happens to an error
    doctor.py      examines a store, in lines: server, rights, certificates, topology, tracking
    check.py       lists what an application has decorated, and its mistakes: modules, reach, findings, overlap
    explain.py     says how one call would go: invocation, which reads its arguments
    keys.py get.py ttl.py                  look at keys: existing, which keys there are
    invalidate.py erase.py clear.py        remove keys: removal
    places.py      the store of a command
    output.py      the only module that knows rich
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Final

MISSING: Final = 'the command cachekit needs the package rich; write pip install "cachekit-redis[cli]"'


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status: 0 all is well, 1 it is not, 2 the command makes no sense.

    Args:
        argv: The arguments; None for those of the process.
    """
    try:
        program = importlib.import_module("cachekit._cli.program")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        sys.stderr.write(f"{MISSING}\n")
        return 2
    status: int = program.run(argv)
    return status
