"""The program: its commands, and what becomes of an error."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final

from cachekit import __version__
from cachekit._cli import check, clear, doctor, erase, explain, get, invalidate, keys, ttl
from cachekit._cli.output import Output
from cachekit._flow.caches import VARIABLE
from cachekit.errors import CachekitError, StoreError

COMMANDS: Final[tuple[ModuleType, ...]] = (doctor, check, explain, keys, get, ttl, invalidate, erase, clear)
"""A module for each command, with ``HELP``, ``arguments`` and ``run``, which may be an ``async def``."""

_USAGE: Final = 2
_INTERRUPTED: Final = 130


def run(argv: Sequence[str] | None) -> int:
    """Run the command that the arguments name, and return its exit status."""
    options = parser().parse_args(argv)
    # A cache that is off acknowledges removals that nobody has made, and every function seems to have the same store.
    os.environ.pop(VARIABLE, None)
    try:
        done = options.run(options, Output(as_json=options.as_json))
        # Modules of an application are imported where no event loop runs, as they are elsewhere.
        status: int = asyncio.run(done) if inspect.iscoroutine(done) else done
    except CachekitError as error:
        # No message of these has a password, a value or a text.
        if options.as_json:
            sys.stdout.write(json.dumps({"error": str(error)}) + "\n")
        sys.stderr.write(f"cachekit {options.command}: {error}\n")
        return 1 if isinstance(error, StoreError) else _USAGE
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    whole = argparse.ArgumentParser(prog="cachekit", description="Look into a cache, and act on it.")
    whole.add_argument("--version", action="version", version=f"cachekit {__version__}", help="print the version")
    commands: Any = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.arguments(command)
        command.add_argument("--json", dest="as_json", action="store_true", help="print one JSON document")
        command.set_defaults(run=module.run)
    return whole
